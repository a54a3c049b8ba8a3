# Kernel: family and hyperparameters. Values are computed in C (src/model/kernel.h).

# The families, as C has them.
kernel_families <- function() .Call(C_kernel_names)

#' Stationary kernels
#'
#' Describes the covariance function `variance * kappa(r)` of a Gaussian process, where
#' \eqn{r = ||(x - y) / lengthscale||} is the scaled distance of two inputs.
#'
#' | family | `kappa(r)` |
#' |---|---|
#' | `"matern12"` | `exp(-r)` |
#' | `"matern32"` | `(1 + sqrt(3) r) exp(-sqrt(3) r)` |
#' | `"matern52"` | `(1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)` |
#' | `"rbf"` | `exp(-r^2 / 2)` |
#' | `"matern"` | Matern of any `smoothness` nu from 0.001 to 10,000, by Bessel functions of `sqrt(2 nu) r`; slower |
#'
#' With `anisotropy` correlations in the plane of the first two columns of the inputs reach furthest in one direction:
#' `lengthscale` is that along the angle, and `ratio * lengthscale` that across it (geometric anisotropy). Angles are
#' those of a compass where the second column is north: 0 is along the second column, 90 along the first. Package gstat
#' has the same angle and ratio, geoR the angle in radians and the ratio's inverse.
#'
#' Other packages scale the distance in other ways. The range of GpGp is `lengthscale / sqrt(2 nu)`;
#' the range of gpboost is `lengthscale` for Matern kernels and `sqrt(2) * lengthscale` for its
#' Gaussian kernel.
#'
#' @param family Name of the correlation function; `"exponential"` stands for `"matern12"`, and `"gaussian"` and
#'   `"squared_exponential"` for `"rbf"`.
#' @param variance Variance of the process, a positive number, in the square of the unit of the
#'   observations.
#' @param lengthscale Positive, in the units of the inputs: one number, or one for each column of the
#'   inputs (automatic relevance determination).
#' @param smoothness The smoothness nu of family `"matern"`, a number from 0.001 to 10,000, within which correlations
#'   are right to 1e-12; `NULL` for all others. A large one is close to `"rbf"`.
#' @param anisotropy `NULL` for none, or `c(angle = , ratio = )`: the direction of largest correlation in degrees,
#'   clockwise from the second column of the inputs, and the lengthscale across it as a share, above 0 and up to 1, of
#'   that along it. The first two columns then have one lengthscale, and other columns those that `lengthscale` says.
#' @return A list of class `"gp_kernel"` with the five arguments as elements.
#' @references Rasmussen, C. E. and Williams, C. K. I. (2006). *Gaussian Processes for Machine
#'   Learning*, chapter 4. MIT Press.
#' @examples
#' gp_kernel("matern32", variance = 2, lengthscale = 0.1)
#' gp_kernel("rbf", lengthscale = c(1, 5))
#' gp_kernel("matern", smoothness = 0.8)
#' # correlations reach furthest from south-west to north-east
#' gp_kernel("matern32", lengthscale = 300, anisotropy = c(angle = 45, ratio = 0.3))
#' @export
gp_kernel <- function(family = c("matern32", "rbf", "matern12", "matern52", "matern"),
                      variance = 1, lengthscale = 1, smoothness = NULL, anisotropy = NULL) {
  family <- check_family_name(family, "family")
  variance <- check_positive(variance, "variance")
  lengthscale <- check_lengthscale(lengthscale)
  if (family == "matern") {
    smoothness <- check_smoothness(smoothness)
  } else if (!is.null(smoothness)) {
    refuse("smoothness", sprintf('NULL for family "%s"', family), describe(smoothness))
  }
  anisotropy <- check_anisotropy(anisotropy)
  check_plane(structure(list(family = family, variance = variance, lengthscale = lengthscale, smoothness = smoothness,
                             anisotropy = anisotropy), class = "gp_kernel"), arg = "lengthscale")
}

# The name of a family, also one that other packages use.
check_family_name <- function(family, arg) {
  alias <- c(exponential = "matern12", gaussian = "rbf", squared_exponential = "rbf")
  if (is.character(family) && length(family) == 1 && family %in% names(alias)) return(alias[[family]])
  check_choice(family, kernel_families(), arg)
}

check_lengthscale <- function(lengthscale, arg = "lengthscale") {
  if (!is.numeric(lengthscale) || is.object(lengthscale) || !length(lengthscale) ||
      !all(is.finite(lengthscale) & lengthscale > 0)) {
    refuse(arg, "positive and finite", describe(lengthscale))
  }
  as.double(lengthscale)
}

check_smoothness <- function(smoothness, arg = "smoothness") {
  check_number(smoothness, arg, "a number from 0.001 to 10000", function(nu) nu >= 0.001 && nu <= 10000)
}

# A kernel as gp_kernel() makes it, whoever made it; with the columns of the inputs, one that fits them.
check_kernel <- function(kernel, columns = NULL) {
  check_class(kernel, "gp_kernel", "kernel")
  if (!is.list(kernel)) refuse("kernel", "a list, as gp_kernel() makes it", typeof(kernel))
  if (!is.character(kernel$family) || length(kernel$family) != 1 || !kernel$family %in% kernel_families()) {
    refuse("kernel$family", "a family of gp_kernel()", describe(kernel$family))
  }
  kernel$variance <- check_positive(kernel$variance, "kernel$variance")
  kernel$lengthscale <- check_lengthscale(kernel$lengthscale, "kernel$lengthscale")
  if (kernel$family == "matern") kernel$smoothness <- check_smoothness(kernel$smoothness, "kernel$smoothness")
  # kernels that were saved before there was anisotropy have no such element
  if (!is.null(kernel$anisotropy)) kernel$anisotropy <- check_anisotropy(kernel$anisotropy, "kernel$anisotropy")
  check_plane(kernel, columns)
  given <- length(kernel$lengthscale)
  if (!is.null(columns) && given != 1 && given != columns) {
    refuse("lengthscale", paste("of length 1 or", columns, "(the columns of `x`)"),
           paste("of length", given))
  }
  kernel
}

#' @export
format.gp_kernel <- function(x, ...) {
  lengthscale <- format(unname(x$lengthscale), digits = 4, trim = TRUE)
  if (!is.null(names(x$lengthscale))) {
    # columns of different units are not rounded alike
    lengthscale <- paste(names(x$lengthscale), "=", vapply(x$lengthscale, format, "", digits = 4))
  }
  if (length(lengthscale) > 1) lengthscale <- paste0("(", paste(lengthscale, collapse = ", "), ")")
  smoothness <- if (!is.null(x$smoothness)) paste(", smoothness", format(x$smoothness, digits = 4))
  plane <- if (!is.null(x$anisotropy)) {
    shown <- vapply(x$anisotropy, format, "", digits = 3)
    paste0(", angle ", shown[["angle"]], ", ratio ", shown[["ratio"]])
  }
  paste0(x$family, smoothness, ", variance ", format(x$variance, digits = 4), ", lengthscale ",
         lengthscale, plane)
}

#' @export
print.gp_kernel <- function(x, ...) {
  cat("<gp_kernel> ", format(x), "\n", sep = "")
  invisible(x)
}
