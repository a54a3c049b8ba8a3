# Advice: what vif_fit() tells users of arguments that it has not, of units, and of fits that say little.

argument_hints <- c(
  coords = "it belongs to a fit by formula, as in vif_fit(y ~ 1, coords = ~ x + y, data = d)",
  data = "it belongs to a fit by formula, as in vif_fit(y ~ 1, coords = ~ x + y, data = d)",
  formula = "put the formula first, as in vif_fit(y ~ 1, coords = ~ x + y, data = d)",
  REML = "fits are by maximum likelihood",
  method = "fits are by maximum likelihood",
  m = "the number of neighbours is `k`, and of inducing inputs `inducing`",
  nu = 'the smoothness is that of the kernel, as in kernel = gp_kernel("matern", smoothness = 1.5), or "matern32"',
  range = "starting values are in `kernel`, as in kernel = gp_kernel(lengthscale = 100), start = \"kernel\"",
  cores = "the number of threads is `threads`", verbose = "it is `progress`",
  locs = "inputs are `x`, or with a formula `coords`", gp_coords = "inputs are `x`, or with a formula `coords`",
  xcoord = "coordinates are `coords`, as in coords = ~ x + y",
  ycoord = "coordinates are `coords`, as in coords = ~ x + y",
  exposure = "the log of an exposure is an `offset`", na.rm = "rows with missing values are left out by `na.action`"
)
argument_hints[c("model", "cov.model", "cov_function", "covfun_name", "covariance", "spcov_type")] <-
  'the covariance function is `kernel`, as in kernel = "matern32"'
argument_hints[c("num_neighbors", "n.neighbors", "nn")] <- "the number of neighbours is `k`"

# A name that is the beginning of an argument's would be taken for it: `nu` for `nugget`.
refuse_partial <- function(names, known) {
  names <- names[!is.na(names)]
  odd <- names[nzchar(names) & !names %in% known & vapply(names, function(name) any(startsWith(known, name)), NA)]
  if (!length(odd)) return(invisible())
  hint <- argument_hints
  if (!odd[1] %in% names(hint)) {
    meant <- unique(known[startsWith(known, odd[1])])
    hint[odd[1]] <- paste0("did you mean ", paste0("`", meant, "`", collapse = " or "), "?")
  }
  do.call(check_dots, c(stats::setNames(list(NULL), odd[1]), list(hint = hint)))
}

# For dots of which one argument has been read.
check_dots_but <- function(read, ...) {
  rest <- list(...)
  rest[[read]] <- NULL
  do.call(check_dots, c(rest, list(hint = argument_hints)))
}

# A message of class "vif_<topic>", so that it can be muffled by itself.
tell <- function(topic, ...) {
  message(structure(class = c(paste0("vif_", topic), "message", "condition"),
                    list(message = paste0(user_call(), ..., "\n"), call = NULL)))
}

# One lengthscale is a statement about units.
tell_units <- function(x, kernel) {
  if (ncol(x) == 1 || length(kernel$lengthscale) > 1) return(invisible())
  spread <- apply(x, 2, function(column) diff(range(column)))
  wide <- spread[spread > 0]
  if (length(wide) < 2 || max(wide) <= 20 * min(wide)) return(invisible())
  names <- input_names(x)
  small <- names[spread == min(wide)][1]
  large <- names[spread == max(wide)][1]
  tell("units", sprintf(paste0(
    "one lengthscale serves all %d columns, though the range of %s is %s times that of %s, so that %s hardly counts. ",
    "Give each group of columns its own, for example lengthscale = list(%s); coordinates in one unit may stay as they ",
    "are."),
    ncol(x), large, format(signif(max(wide) / min(wide), 2), big.mark = ","), small, small,
    propose_groups(names, spread)))
}

# Degrees of longitude and latitude are no distances.
tell_degrees <- function(x) {
  lon <- grep("^(lon|long|longitude|lng)$", colnames(x), ignore.case = TRUE)
  lat <- grep("^(lat|latitude)$", colnames(x), ignore.case = TRUE)
  if (length(lon) != 1 || length(lat) != 1) return(invisible())
  if (!all(is.finite(x[, c(lon, lat)]))) return(invisible()) # which is an error elsewhere
  if (any(abs(x[, lat]) > 90) || any(x[, lon] < -180 | x[, lon] > 360)) return(invisible())
  if (diff(range(x[, lat])) < 2) return(invisible()) # a small region, or other units
  names <- colnames(x)[c(lon, lat)]
  tell("degrees", sprintf(paste(
    "%s and %s are taken for coordinates of a plane, in degrees, which distorts distances and does not know the date",
    "line: coords = ~ sphere_points(%s, %s) has distances in kilometres."), names[1], names[2], names[1], names[2]))
}

# Groups of columns whose ranges are within a factor 20, as vif_fit() takes them.
propose_groups <- function(names, spread) {
  size <- ifelse(spread > 0, spread, min(spread[spread > 0]))
  by_size <- order(size)
  group <- integer(length(size))
  group[by_size] <- cumsum(c(TRUE, size[by_size][-1] > 20 * size[by_size][-length(size)]))
  paste0(letters[group[!duplicated(group)]], " = ", vapply(unique(group), function(g) {
    own <- paste0('"', names[group == g], '"')
    if (length(own) == 1) own else paste0("c(", paste(own, collapse = ", "), ")")
  }, ""), collapse = ", ")
}

warn_unsettled <- function(why) {
  warning(warningCondition(paste0("vif_fit() has not converged (", why, "): the parameters reached so far are kept"),
                           class = "vif_convergence", call = NULL))
}

# A Gaussian process whose neighbours are not correlated is noise: there is no correlation, or the nugget is held too low.
tell_noise <- function(fit) {
  correlation <- nearest_correlation(fit$kernel, fit$id, fit$gp$x)
  if (correlation > 0.05 || fit$n < 4) return(invisible())
  tell("white", "the process has become noise between the places (correlation of nearest neighbours ",
       format(correlation, digits = 1), "): ", if (fit$nugget_fixed) {
         paste("with a nugget of", format(fit$nugget), "it stands for the noise, or there is no correlation in space.")
       } else {
         paste("the data show no correlation in space, and the variance of the process cannot be told from the nugget.")
       })
}
