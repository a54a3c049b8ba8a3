# Parameters of a fit: theta = log(variance, lengthscales, nugget unless fixed), its scale and its bounds.

# Spread of the inputs along each lengthscale.
input_scale <- function(x, kernel) {
  spread <- apply(x, 2, function(column) diff(range(column)))
  spread[spread == 0] <- 1
  if (length(kernel$lengthscale) == 1) max(spread) else spread
}

to_kernel <- function(theta, settings) {
  kernel <- settings$kernel
  kernel$variance <- exp(theta[[1]])
  kernel$lengthscale <- exp(unname(theta[1 + seq_along(kernel$lengthscale)]))
  kernel
}

to_nugget <- function(theta, settings) {
  if (is.null(settings$fixed)) exp(theta[[length(theta)]]) else settings$fixed
}

to_theta <- function(kernel, nugget, settings) {
  nugget <- max(nugget, 1e-8 * settings$spread)
  c(variance = log(kernel$variance), lengthscale = log(kernel$lengthscale),
    nugget = if (is.null(settings$fixed)) log(nugget))
}

# Wide enough never to matter where the data say anything.
theta_bounds <- function(settings) {
  limits <- function(low, high) {
    to_theta(list(variance = low[[1]], lengthscale = low[[2]]), low[[3]], settings)
  }
  list(lower = limits(list(1e-6 * settings$spread, 1e-5 * settings$scale, 1e-8 * settings$spread)),
       upper = limits(list(1e6 * settings$spread, 1e3 * settings$scale, 1e2 * settings$spread)))
}
