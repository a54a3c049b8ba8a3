# Parameters of a fit: theta = log(variance, lengthscales, nugget unless fixed, smoothness if estimated), its scale
# and its bounds.

# Names of the lengthscale parameters, and for each column of the inputs the number of its own: one for all columns,
# one for each, or one for each of the named groups of columns in `groups`.
lengthscale_groups <- function(groups, x, kernel) {
  columns <- ncol(x)
  if (is.null(groups)) {
    each <- length(kernel$lengthscale) > 1
    return(list(of = if (each) seq_len(columns), names = if (each) column_labels(x) else "lengthscale"))
  }
  wanted <- "a named list of groups of columns of the inputs, each column in one of them"
  known <- if (is.null(colnames(x))) as.character(seq_len(columns)) else colnames(x)
  if (!is.list(groups) || is.null(names(groups)) || !all(nzchar(names(groups))) || anyDuplicated(names(groups))) {
    refuse("lengthscale", wanted, describe(groups))
  }
  of <- rep(NA_integer_, columns)
  for (g in seq_along(groups)) {
    at <- if (is.numeric(groups[[g]])) match(groups[[g]], seq_len(columns)) else match(groups[[g]], known)
    if (!length(at) || anyNA(at)) {
      refuse("lengthscale", paste("made of", paste(known, collapse = ", ")), describe(groups[[g]]))
    }
    if (!all(is.na(of[at]))) refuse("lengthscale", wanted, paste("one with", known[at[!is.na(of[at])][1]], "in two"))
    of[at] <- g
  }
  if (anyNA(of)) refuse("lengthscale", wanted, paste("one without", known[is.na(of)][1]))
  list(of = of, names = paste0("lengthscale.", names(groups)))
}

column_labels <- function(x) {
  if (is.null(colnames(x))) paste0("lengthscale", seq_len(ncol(x))) else paste0("lengthscale.", colnames(x))
}

# Spread of the inputs along each lengthscale: the side of a cube over which uniform inputs vary as much, which does not change
# when the columns of a group are turned into each other.
input_scale <- function(x, groups) {
  variance <- apply(x, 2, stats::var)
  variance[!(variance > 0)] <- 0
  of <- if (is.null(groups$of)) rep(1, ncol(x)) else groups$of
  spread <- sqrt(12 * as.vector(tapply(variance, of, mean)))
  ifelse(spread > 0, spread, 1)
}

to_kernel <- function(theta, settings) {
  kernel <- settings$kernel
  kernel$variance <- exp(theta[["variance"]])
  own <- exp(unname(theta[settings$groups$names]))
  kernel$lengthscale <- if (is.null(settings$groups$of)) own else own[settings$groups$of]
  if (estimates_smoothness(settings)) kernel$smoothness <- exp(theta[["smoothness"]])
  kernel
}

to_nugget <- function(theta, settings) {
  if (is.null(settings$fixed)) exp(theta[["nugget"]]) else settings$fixed
}

# Lengthscales of the kernel: one for each parameter, or for each column.
to_theta <- function(kernel, nugget, settings) {
  groups <- settings$groups
  own <- kernel$lengthscale
  if (length(own) != length(groups$names)) {
    own <- if (length(own) == 1) rep(own, length(groups$names)) else own[match(seq_along(groups$names), groups$of)]
  }
  nugget <- max(nugget, 1e-8 * settings$spread)
  c(variance = log(kernel$variance), stats::setNames(log(own), groups$names),
    nugget = if (is.null(settings$fixed)) log(nugget),
    smoothness = if (estimates_smoothness(settings)) log(kernel$smoothness))
}

# Derivatives to the logarithms of variance, lengthscales of all columns, nugget and smoothness, in theta.
to_theta_slope <- function(slope, theta, settings) {
  drop(parameter_map(names(slope), theta, settings) %*% slope)
}

to_theta_information <- function(fisher, theta, settings) {
  map <- parameter_map(colnames(fisher), theta, settings)
  map %*% fisher %*% t(map)
}

# One row a parameter of theta, ones where a parameter of the likelihood goes into it.
parameter_map <- function(names, theta, settings) {
  own <- names
  columns <- grep("^lengthscale", names)
  own[columns] <- if (is.null(settings$groups$of)) "lengthscale" else settings$groups$names[settings$groups$of]
  map <- outer(names(theta), own, `==`) + 0
  dimnames(map) <- list(names(theta), names)
  map
}

estimates_smoothness <- function(settings) identical(settings$smoothness, "estimate")

# Wide enough never to matter where the data say anything.
theta_bounds <- function(settings) {
  limits <- function(variance, lengthscale, nugget, smoothness) {
    to_theta(list(variance = variance * settings$spread, lengthscale = lengthscale * settings$scale,
                  smoothness = smoothness), nugget * settings$spread, settings)
  }
  list(lower = limits(1e-6, 1e-5, 1e-8, 0.1), upper = limits(1e6, 1e3, 1e2, 5))
}

inside <- function(theta, bounds) pmin(pmax(theta, bounds$lower), bounds$upper)

# Conditioning sets, order and inducing inputs are those of parameters on a coarse grid: lengthscales by factors of
# sqrt(2), the share of the noise by factors of sqrt(10). They cost hardly any accuracy by it, and models of the same
# inputs whose parameters differ a little share them, so that their log-likelihoods can be compared.
grid_steps <- c(lengthscale = log(2) / 2, noise = log(10) / 2, smoothness = log(2) / 2)

on_grid <- function(theta, settings) {
  nearest <- function(value, step) round(value / grid_steps[[step]]) * grid_steps[[step]]
  own <- settings$groups$names
  out <- theta
  out[own] <- log(settings$scale) + nearest(theta[own] - log(settings$scale), "lengthscale")
  out[["variance"]] <- nearest(theta[["variance"]], "noise")
  if (is.null(settings$fixed)) {
    out[["nugget"]] <- out[["variance"]] + nearest(theta[["nugget"]] - theta[["variance"]], "noise")
  }
  if (estimates_smoothness(settings)) out[["smoothness"]] <- nearest(theta[["smoothness"]], "smoothness")
  out
}

# Whether parameters have left the neighbourhood of the grid point whose sets are in use, by one and a half steps.
off_grid <- function(theta, at, settings) {
  moved <- abs(theta - at)
  moved[["variance"]] <- 0 # sets depend on it through the share of the noise only
  if (is.null(settings$fixed)) {
    moved[["nugget"]] <- abs(theta[["nugget"]] - theta[["variance"]] - at[["nugget"]] + at[["variance"]])
  }
  step <- grid_steps[ifelse(names(theta) %in% c("nugget", "variance"), "noise",
                            ifelse(names(theta) == "smoothness", "smoothness", "lengthscale"))]
  # beyond the domain the lengthscale of a column hardly matters
  far <- grepl("^lengthscale", names(theta)) & pmin(theta, at) > log(10 * max(settings$scale))
  any((moved > 1.5 * step)[!far])
}
