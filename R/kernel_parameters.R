# Kernel parameters in the units of other packages, and inputs on the sphere.

#' Kernels in the parametrisations of GpGp and gpboost
#'
#' Every package scales distances in its own way: GpGp divides by a range without `sqrt(2 nu)`, gpboost's
#' Gaussian kernel has no 1/2. These functions translate both ways, so that the covariances agree.
#'
#' | package | Matern | Gaussian |
#' |---|---|---|
#' | vecchiann | `M_nu(sqrt(2 nu) d / lengthscale)` | `exp(-d^2 / (2 lengthscale^2))` |
#' | GpGp | `M_nu(d / range)`, noise variance = variance * nugget | none |
#' | gpboost | `M_nu(sqrt(2 nu) d / range)` | `exp(-d^2 / range^2)` |
#'
#' @param kernel A [gp_kernel()].
#' @param nugget Noise variance, not negative.
#' @return `as_gpgp()`: a list of `covfun_name` and `covparms`, as GpGp's functions take them: variance,
#'   range(s), the smoothness for family `"matern"`, and the nugget in units of the variance.
#'
#'   `as_gpboost()`: a list of `cov_function`, `cov_fct_shape` and `cov_pars`: `Error_term`, `GP_var` and
#'   one `GP_range` or several.
#'
#'   `from_gpgp()` and `from_gpboost()`: a list of `kernel`, a [gp_kernel()], and `nugget`, the noise
#'   variance.
#' @section Errors:
#' An `"rbf"` kernel for GpGp, which has none, and names of covariance functions that have no
#' counterpart here.
#' @references Guinness, J. (2021). Gaussian process learning via Fisher scoring of Vecchia's
#'   approximation, section 2. *Statistics and Computing* 31 (GpGp).
#'
#'   Sigrist, F. (2022). Gaussian process boosting. *Journal of Machine Learning Research* 23 (gpboost).
#' @examples
#' kernel <- gp_kernel("matern32", variance = 2, lengthscale = 0.3)
#' as_gpgp(kernel, nugget = 0.1)
#' from_gpgp("matern15_isotropic", c(2, 0.3 / sqrt(3), 0.05))
#' as_gpboost(gp_kernel("rbf", lengthscale = c(0.1, 0.4)), nugget = 0.1)
#' @export
as_gpgp <- function(kernel, nugget = 0) {
  kernel <- check_kernel(kernel)
  nugget <- check_nonnegative(nugget, "nugget")
  if (kernel$family == "rbf") refuse("kernel", "of a Matern family, as GpGp knows no Gaussian one", '"rbf"')
  stem <- switch(kernel$family, matern12 = "exponential", matern32 = "matern15", matern52 = "matern25",
                 matern = "matern")
  shape <- if (length(kernel$lengthscale) > 1) "scaledim" else "isotropic"
  list(covfun_name = paste(stem, shape, sep = "_"),
       covparms = c(kernel$variance, kernel$lengthscale / sqrt(2 * kernel_smoothness(kernel)),
                    kernel$smoothness, nugget / kernel$variance))
}

#' @rdname as_gpgp
#' @param covfun_name One of GpGp's `exponential_`, `matern15_`, `matern25_` and `matern_isotropic` or
#'   `_scaledim`.
#' @param covparms GpGp's parameter vector.
#' @export
from_gpgp <- function(covfun_name, covparms) {
  stems <- c(exponential = "matern12", matern15 = "matern32", matern25 = "matern52", matern = "matern")
  known <- c(outer(names(stems), c("isotropic", "scaledim"), paste, sep = "_"))
  covfun_name <- check_choice(covfun_name, known, "covfun_name")
  family <- stems[[sub("_.*", "", covfun_name)]]
  fixed <- 2 + (family == "matern")
  count <- length(covparms) - fixed
  isotropic <- grepl("isotropic", covfun_name)
  if (!is.numeric(covparms) || count < 1 || (isotropic && count != 1)) {
    refuse("covparms", paste("numeric of length", fixed + 1, if (!isotropic) "or more"), describe(covparms))
  }
  smoothness <- if (family == "matern") covparms[count + 2]
  kernel <- gp_kernel(family, covparms[1], 1, smoothness)
  kernel$lengthscale <- check_lengthscale(covparms[1 + seq_len(count)] * sqrt(2 * kernel_smoothness(kernel)))
  list(kernel = kernel, nugget = covparms[1] * covparms[length(covparms)])
}

#' @rdname as_gpgp
#' @export
as_gpboost <- function(kernel, nugget = 0) {
  kernel <- check_kernel(kernel)
  nugget <- check_nonnegative(nugget, "nugget")
  gaussian <- kernel$family == "rbf"
  many <- length(kernel$lengthscale) > 1
  range <- kernel$lengthscale * if (gaussian) sqrt(2) else 1
  names(range) <- if (many) paste0("GP_range_", seq_along(range)) else "GP_range"
  list(cov_function = paste0(if (gaussian) "gaussian" else "matern", if (many) "_ard"),
       cov_fct_shape = if (gaussian) 0 else kernel_smoothness(kernel),
       cov_pars = c(Error_term = nugget, GP_var = kernel$variance, range))
}

#' @rdname as_gpgp
#' @param cov_function One of gpboost's `"exponential"`, `"matern"` and `"gaussian"`, or these with `_ard`.
#' @param cov_pars gpboost's parameter vector: error variance, variance, range(s).
#' @param cov_fct_shape Smoothness of `"matern"`.
#' @export
from_gpboost <- function(cov_function, cov_pars, cov_fct_shape = 1.5) {
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
#' @param lon Longitudes in degrees, of any range; or a matrix or data frame of two columns, longitude and latitude.
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
