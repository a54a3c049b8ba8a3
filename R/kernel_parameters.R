# Kernel parameters in the units of other packages, and inputs on the sphere.

#' Kernels in the parametrisations of GpGp and gpboost
#'
#' Every package scales distances in its own way: GpGp divides by a range without `sqrt(2 nu)`, gpboost's
#' Gaussian kernel has no 1/2. These functions translate both ways, so that the covariances agree; all of them take
#' fitted models as well as parameters.
#'
#' | package | Matern | Gaussian |
#' |---|---|---|
#' | vecchiann | `M_nu(sqrt(2 nu) d / lengthscale)` | `exp(-d^2 / (2 lengthscale^2))` |
#' | GpGp | `M_nu(d / range)`, noise variance = variance * nugget | none |
#' | gpboost | `M_nu(sqrt(2 nu) d / range)` | `exp(-d^2 / range^2)` |
#'
#' GpGp's covariance functions on the sphere take longitude and latitude, and ranges in radii of the
#' sphere; here the inputs are [sphere_points()] of a `radius`, and with time a last column of times. Those in space
#' and time have one range for all columns of space and one for time, the last. GpGp's `_anisotropic2D` functions hold
#' three numbers of a triangular matrix for a kernel with `anisotropy` and inputs of two columns. Of these
#' `exponential_anisotropic2D()`, for family `"matern12"`, holds every anisotropy. `matern_anisotropic2D()` (GpGp 0.5)
#' does not compute the distances of its help, which are those of `L'L`: it takes
#' `L11^2 h1^2 + (L21^2 + L22^2) h2^2 + 2 L21 L22 h1 h2`. It therefore serves only kernels whose squared distance
#' `h'A h` has `A22 >= 2 |A12|`; others, many of those that fits with `anisotropy = TRUE` find, are refused.
#'
#' @param kernel A [gp_kernel()], or a [vif_fit()], whose nugget is taken too.
#' @param nugget Noise variance, not negative.
#' @param shape Which of GpGp's forms: `"auto"` is `"isotropic"` for one lengthscale, `"scaledim"` for several and
#'   `"anisotropic2D"` for a kernel with anisotropy;
#'   `"sphere"` is for [sphere_points()], with equal lengthscales; `"spheretime"` and `"spacetime"` for kernels whose
#'   lengthscales are equal but for the last, that of time.
#' @param radius Radius of the sphere that inputs are on, see [sphere_points()].
#' @return `as_gpgp()`: a list of `covfun_name` and `covparms`, as GpGp's functions take them: variance,
#'   range(s), the smoothness for family `"matern"`, and the nugget in units of the variance.
#'
#'   `as_gpboost()`: a list of `cov_function`, `cov_fct_shape` and `cov_pars`: `Error_var`, `GP_var` and
#'   one `GP_range` or several.
#'
#'   `from_gpgp()` and `from_gpboost()`: a list of `kernel`, a [gp_kernel()], and `nugget`, the noise
#'   variance: what `start` of [vif_fit()] takes.
#' @section Errors:
#' An `"rbf"` kernel for GpGp, which has none, and one with anisotropy for gpboost, which has none; one of another
#' family than `"matern12"` with an anisotropy that GpGp's `matern_anisotropic2D()` cannot hold (see above);
#' lengthscales that a `shape` does not allow, and names of covariance functions that have no counterpart here.
#' @references Guinness, J. (2021). Gaussian process learning via Fisher scoring of Vecchia's
#'   approximation, section 2. *Statistics and Computing* 31 (GpGp).
#'
#'   Sigrist, F. (2022). Gaussian process boosting. *Journal of Machine Learning Research* 23 (gpboost).
#' @examples
#' kernel <- gp_kernel("matern32", variance = 2, lengthscale = 0.3)
#' as_gpgp(kernel, nugget = 0.1)
#' from_gpgp("matern15_isotropic", c(2, 0.3 / sqrt(3), 0.05))
#' as_gpboost(gp_kernel("rbf", lengthscale = c(0.1, 0.4)), nugget = 0.1)
#' from_gpgp("exponential_spheretime", c(1, 0.1, 30, 0.2))
#' @export
as_gpgp <- function(kernel, nugget = 0,
                    shape = c("auto", "isotropic", "scaledim", "sphere", "spheretime", "spacetime", "anisotropic2D"),
                    radius = 6371) {
  own <- kernel_and_nugget(kernel, nugget, !missing(nugget))
  kernel <- own$kernel
  nugget <- own$nugget
  shape <- check_choice(shape, eval(formals()$shape), "shape")
  radius <- check_positive(radius, "radius")
  if (is.null(kernel_smoothness(kernel))) {
    refuse("kernel", "of a Matern family, as GpGp knows no other", dQuote(kernel$family, FALSE))
  }
  scales <- unname(kernel$lengthscale)
  turned <- !is.null(kernel$anisotropy)
  if (shape == "auto") shape <- if (turned) "anisotropic2D" else if (length(scales) > 1) "scaledim" else "isotropic"
  if (turned != (shape == "anisotropic2D")) {
    wanted <- if (turned) '"anisotropic2D" for a kernel with anisotropy' else "one for a kernel without anisotropy"
    refuse("shape", wanted, dQuote(shape, FALSE))
  }
  if (turned && length(scales) > 2) refuse("kernel", "for inputs of two columns", describe(scales))
  if (!turned) scales <- gpgp_scales(scales, shape)
  if (grepl("sphere", shape)) scales[1] <- scales[1] / radius
  # GpGp fixes smoothness 3/2 and 5/2 in these two forms alone
  fixed <- shape %in% c("isotropic", "scaledim") || kernel$family == "matern12"
  stem <- if (!fixed) "matern" else switch(kernel$family, matern12 = "exponential", matern32 = "matern15",
                                           matern52 = "matern25", matern = "matern")
  nu <- kernel_smoothness(kernel)
  scales <- if (turned) gpgp_triangle(2 * nu * plane_form(kernel), stem == "exponential") else scales / sqrt(2 * nu)
  list(covfun_name = paste(stem, shape, sep = "_"),
       covparms = c(kernel$variance, scales, if (stem == "matern") nu, nugget / kernel$variance))
}

# Those of a fit, which has a nugget of its own, or as they are given.
kernel_and_nugget <- function(kernel, nugget, given) {
  if (inherits(kernel, "vif")) {
    if (given) refuse("nugget", "left out with a fit, which has one", describe(nugget))
    nugget <- kernel$nugget
    kernel <- kernel$kernel
  }
  list(kernel = check_kernel(kernel), nugget = check_nonnegative(nugget, "nugget"))
}

# The triangular matrix L = (L11, 0; L21, L22) of GpGp's `_anisotropic2D` functions, from the form of squared distances
# h'A h. The exponential one has A = L'L. The other takes L11^2 h1^2 + (L21^2 + L22^2) h2^2 + 2 L21 L22 h1 h2 (GpGp 0.5,
# whose help says L'L), which is no positive form for some L, and serves some forms only.
gpgp_triangle <- function(form, exponential) {
  if (exponential) {
    l21 <- form[1, 2] / sqrt(form[2, 2])
    return(c(sqrt(max(form[1, 1] - l21^2, 0)), l21, sqrt(form[2, 2])))
  }
  if (form[2, 2] < 2 * abs(form[1, 2])) {
    refuse("kernel", paste("of family \"matern12\" for this angle and ratio: GpGp's matern_anisotropic2D() computes",
                           "other distances than its help says, and none of its parameters gives those of this kernel"),
           "of another family")
  }
  sums <- sqrt(form[2, 2] + c(2, -2) * form[1, 2]) # L22 + L21 and L22 - L21
  c(sqrt(form[1, 1]), (sums[1] - sums[2]) / 2, (sums[1] + sums[2]) / 2)
}

# and back.
from_triangle <- function(l, exponential) {
  if (exponential) return(crossprod(rbind(c(l[1], 0), l[2:3])))
  rbind(c(l[1]^2, l[2] * l[3]), c(l[2] * l[3], l[2]^2 + l[3]^2))
}

# Squared distances in lengthscales as h'A h, and lengthscale, angle and ratio of such a form.
plane_form <- function(kernel) crossprod(plane_map(kernel$anisotropy) / kernel$lengthscale[1])

from_form <- function(form) {
  parts <- eigen(form, symmetric = TRUE)
  if (parts$values[2] <= 0) refuse("covparms", "those of a positive definite form", "of another")
  along <- parts$vectors[, 2]
  list(lengthscale = 1 / sqrt(parts$values[2]),
       anisotropy = c(angle = atan2(along[1], along[2]) * 180 / pi, ratio = sqrt(parts$values[2] / parts$values[1])))
}

# The lengthscales that a form of GpGp has a range for.
gpgp_scales <- function(scales, shape) {
  equal <- function(x) all(abs(x - x[1]) <= 1e-8 * x[1])
  last <- scales[length(scales)]
  switch(shape,
    scaledim = scales,
    isotropic = , sphere = {
      if (!equal(scales)) refuse("shape", "one with a range for each lengthscale", dQuote(shape, FALSE))
      scales[1]
    },
    {
      columns <- length(scales)
      if (columns < 2 || (shape == "spheretime" && columns != 4) || !equal(scales[-columns])) {
        equals <- if (shape == "spheretime") "three" else "some"
        refuse("kernel", paste("of", equals, "equal lengthscales and one for time"), describe(scales))
      }
      c(scales[1], last)
    })
}

#' @rdname as_gpgp
#' @param covfun_name A fit of GpGp's `fit_model()`, or the name of a covariance function: GpGp's `exponential_`,
#'   `matern15_`, `matern25_` and `matern_isotropic` or `_scaledim`, `exponential_` and `matern_sphere`, `_spheretime`,
#'   `_spacetime` or `_anisotropic2D`.
#' @param covparms GpGp's parameter vector; missing with a fit.
#' @param columns Number of columns of space of a `_spacetime` function.
#' @export
from_gpgp <- function(covfun_name, covparms, radius = 6371, columns = 2) {
  if (is.list(covfun_name) && !is.null(covfun_name$covparms)) {
    covparms <- covfun_name$covparms
    if (!is.null(covfun_name$locs)) columns <- NCOL(covfun_name$locs) - 1
    covfun_name <- covfun_name$covfun_name
  }
  radius <- check_positive(radius, "radius")
  stems <- c(exponential = "matern12", matern15 = "matern32", matern25 = "matern52", matern = "matern")
  known <- c(outer(names(stems), c("isotropic", "scaledim"), paste, sep = "_"),
             outer(c("exponential", "matern"), c("sphere", "spheretime", "spacetime", "anisotropic2D"), paste,
                   sep = "_"))
  covfun_name <- check_choice(covfun_name, known, "covfun_name")
  family <- stems[[sub("_.*", "", covfun_name)]]
  shape <- sub(".*_", "", covfun_name)
  ranges <- c(isotropic = 1, sphere = 1, spheretime = 2, spacetime = 2, scaledim = NA, anisotropic2D = 3)[[shape]]
  fixed <- 2 + (family == "matern")
  count <- length(covparms) - fixed
  if (!is.numeric(covparms) || count < 1 || (!is.na(ranges) && count != ranges)) {
    refuse("covparms", paste("numeric of length", fixed + max(1, ranges, na.rm = TRUE), if (is.na(ranges)) "or more"),
           describe(covparms))
  }
  range <- covparms[1 + seq_len(count)]
  if (grepl("sphere", shape)) range[1] <- range[1] * radius
  if (shape == "spheretime") range <- range[c(1, 1, 1, 2)]
  if (shape == "spacetime") range <- range[rep(1:2, c(check_whole(columns, "columns", 1), 1))]
  smoothness <- if (family == "matern") covparms[count + 2]
  kernel <- gp_kernel(family, covparms[1], 1, smoothness)
  if (shape == "anisotropic2D") {
    plane <- from_form(from_triangle(range, family == "matern12") / (2 * kernel_smoothness(kernel)))
    kernel <- gp_kernel(family, covparms[1], plane$lengthscale, smoothness, plane$anisotropy)
    return(list(kernel = kernel, nugget = covparms[1] * covparms[length(covparms)]))
  }
  kernel$lengthscale <- check_lengthscale(range * sqrt(2 * kernel_smoothness(kernel)))
  list(kernel = kernel, nugget = covparms[1] * covparms[length(covparms)])
}

#' @rdname as_gpgp
#' @export
as_gpboost <- function(kernel, nugget = 0) {
  own <- kernel_and_nugget(kernel, nugget, !missing(nugget))
  kernel <- own$kernel
  nugget <- own$nugget
  if (!is.null(kernel$anisotropy)) refuse("kernel", "without anisotropy, which gpboost does not know", "with it")
  gaussian <- kernel$family == "rbf"
  if (!gaussian && is.null(kernel_smoothness(kernel))) {
    refuse("kernel", "of a Matern family or \"rbf\"", dQuote(kernel$family, FALSE))
  }
  many <- length(kernel$lengthscale) > 1
  range <- unname(kernel$lengthscale) * if (gaussian) sqrt(2) else 1
  names(range) <- if (many) paste0("GP_range_", seq_along(range)) else "GP_range"
  list(cov_function = paste0(if (gaussian) "gaussian" else "matern", if (many) "_ard"),
       cov_fct_shape = if (gaussian) 0 else kernel_smoothness(kernel),
       cov_pars = c(Error_var = nugget, GP_var = kernel$variance, range))
}

#' @rdname as_gpgp
#' @param cov_function A fitted `GPModel` of gpboost, or one of its `"exponential"`, `"matern"` and `"gaussian"`, or
#'   these with `_ard`.
#' @param cov_pars gpboost's parameter vector: error variance, variance, range(s); missing with a model.
#' @param cov_fct_shape Smoothness of `"matern"`.
#' @export
from_gpboost <- function(cov_function, cov_pars, cov_fct_shape = 1.5) {
  if (inherits(cov_function, c("GPModel", "GPBooster", "R6"))) {
    model <- cov_function$model_to_list(include_response_data = FALSE)
    cov_pars <- as.numeric(unlist(model$cov_pars))
    if (length(cov_pars) < 3) refuse("cov_function", "a fitted model of one Gaussian process", "one without estimates")
    cov_fct_shape <- as.numeric(model$cov_fct_shape)
    cov_function <- model$cov_function
  }
  known <- c("exponential", "matern", "gaussian")
  cov_function <- check_choice(cov_function, c(known, paste0(known, "_ard")), "cov_function")
  if (!is.numeric(cov_pars) || length(cov_pars) < 3) {
    refuse("cov_pars", "numeric of length 3 or more", describe(cov_pars))
  }
  cov_pars <- unname(cov_pars)
  range <- cov_pars[-(1:2)]
  stem <- sub("_ard", "", cov_function)
  kernel <- if (stem == "gaussian") {
    gp_kernel("rbf", cov_pars[2], range / sqrt(2))
  } else {
    nu <- if (stem == "exponential") 0.5 else check_positive(cov_fct_shape, "cov_fct_shape")
    family <- c("matern12", "matern32", "matern52")[match(nu, c(0.5, 1.5, 2.5))]
    if (is.na(family)) gp_kernel("matern", cov_pars[2], range, nu) else gp_kernel(family, cov_pars[2], range)
  }
  list(kernel = kernel, nugget = cov_pars[1])
}

kernel_smoothness <- function(kernel) {
  switch(kernel$family, matern12 = 0.5, matern32 = 1.5, matern52 = 2.5, matern = kernel$smoothness)
}

#' Longitude and latitude as points in space
#'
#' Kernels of this package are functions of Euclidean distance. On the sphere they stay valid for the
#' straight-line (chordal) distance of points in space, which is what this function gives; degrees of
#' longitude and latitude taken as plane coordinates distort distances and tear the date line apart.
#'
#' @param lon Longitudes in degrees, of any range; or a matrix or data frame of two columns, longitude and latitude: in
#'   this order, or by their names (`lon`, `long` or `longitude`, and `lat` or `latitude`, in upper or lower case) where
#'   both have one of these.
#' @param lat Latitudes in degrees, from -90 to 90.
#' @param radius Radius of the sphere, in the unit that lengthscales shall have; the default is the
#'   Earth's in kilometres.
#' @return A matrix of three columns `x`, `y` and `z`. For space-time inputs bind a column of times to it
#'   and give the kernel one lengthscale for each column.
#' @section Errors:
#' Latitudes beyond -90 to 90, missing values, and vectors of different lengths.
#' @examples
#' places <- cbind(lon = c(-179, 179, 0), lat = c(0, 0, 90))
#' sphere_points(places)
#' dist(sphere_points(places))
#' @export
sphere_points <- function(lon, lat = NULL, radius = 6371) {
  if (is.null(lat)) {
    both <- check_points(lon, "lon", 2)
    named <- tolower(colnames(both))
    if (setequal(sub("^long?(itude)?$", "lon", sub("^lat(itude)?$", "lat", named)), c("lon", "lat"))) {
      both <- both[, order(startsWith(named, "lat")), drop = FALSE]
    }
    lon <- both[, 1]
    lat <- both[, 2]
  }
  radius <- check_positive(radius, "radius")
  check_degrees(lon, "lon")
  check_degrees(lat, "lat")
  beyond <- which(abs(lat) > 90)
  if (length(beyond)) {
    refuse("lat", "between -90 and 90 degrees", paste0(lat[beyond[1]], " (position ", beyond[1], ")"))
  }
  if (length(lon) != length(lat)) {
    refuse("lat", paste("of length", length(lon), "as `lon` is"), paste("of length", length(lat)))
  }
  lambda <- unname(lon) * pi / 180
  phi <- unname(lat) * pi / 180
  radius * cbind(x = cos(phi) * cos(lambda), y = cos(phi) * sin(lambda), z = sin(phi))
}

check_degrees <- function(x, arg) {
  if (!is.numeric(x) || !is.null(dim(x))) refuse(arg, "a numeric vector", describe(x))
  check_finite(x, arg)
}
