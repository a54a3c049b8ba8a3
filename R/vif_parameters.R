# Parameters of a fit: theta = log(variance, lengthscales, nugget unless fixed, smoothness if estimated), its scale
# and its bounds. Where anisotropy is estimated, the lengthscale of the plane is the geometric mean of those along the
# angle and across, and two further parameters are stretch1 = s cos(2 angle), stretch2 = s sin(2 angle), s =
# -log(ratio): the elements of the logarithm of the metric. The likelihood is smooth in them at ratio 1 too, where there
# is no angle.

# Names of the lengthscale parameters, and for each column of the inputs the number of its own: one for all columns,
# one for each, or one for each of the named groups of columns in `groups`.
lengthscale_groups <- function(groups, x, kernel, plane = FALSE) {
  columns <- ncol(x)
  turned <- plane || !is.null(kernel$anisotropy)
  if (turned && is.null(groups)) groups <- plane_groups(x, kernel, plane)
  if (is.null(groups)) {
    each <- length(kernel$lengthscale) > 1
    return(list(of = if (each) seq_len(columns), names = if (each) column_labels(x) else "lengthscale"))
  }
  known <- if (is.null(colnames(x))) as.character(seq_len(columns)) else colnames(x)
  wanted <- paste0("a named list of groups of columns of the inputs (", paste(known, collapse = ", "),
                   "), each column in one of them, such as list(space = c(\"x\", \"y\"), time = \"day\")")
  if (is.numeric(groups)) wanted <- paste0(wanted, " (values to start from go into gp_kernel(), with start = \"kernel\")")
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
  if (turned && (of[1] != of[2] || plane && any(of[-(1:2)] == of[1]))) refuse_plane(known)
  if (turned) { # that of the plane is the first
    groups <- groups[unique(of)]
    of <- match(of, unique(of))
  }
  list(of = of, names = paste0("lengthscale.", names(groups)))
}

# With an anisotropy the plane has one lengthscale, and one of its own where angle and ratio are estimated.
plane_groups <- function(x, kernel, plane) {
  columns <- ncol(x)
  if (length(kernel$lengthscale) == 1) {
    if (plane && columns > 2) refuse_plane(input_names(x))
    return(NULL)
  }
  known <- if (is.null(colnames(x))) as.character(seq_len(columns)) else colnames(x)
  c(list(plane = 1:2), stats::setNames(as.list(seq_len(columns)[-(1:2)]), known[-(1:2)]))
}

refuse_plane <- function(known) {
  quoted <- paste0('"', known, '"')
  groups <- c(sprintf("plane = c(%s, %s)", quoted[1], quoted[2]),
              sprintf("%s = %s", make.names(known[-(1:2)]), quoted[-(1:2)]))
  wanted <- "one with a group for %s and %s alone, which have an anisotropy, as in lengthscale = list(%s)"
  refuse("lengthscale", sprintf(wanted, known[1], known[2], paste(groups, collapse = ", ")), "one with other groups")
}

# A kernel from a kernel or the name of a family, with the smoothness that vif_fit() is given as a number.
kernel_of <- function(kernel, smoothness) {
  if (is.character(kernel)) {
    family <- check_family_name(kernel, "kernel")
    if (family != "matern") {
      kernel <- gp_kernel(family)
    } else {
      if (!is.numeric(smoothness) && !identical(smoothness, "estimate")) {
        refuse("smoothness", 'a number, or "estimate", for kernel "matern"', describe(smoothness))
      }
      kernel <- gp_kernel("matern", smoothness = if (is.numeric(smoothness)) smoothness else 1.5)
    }
  }
  check_class(kernel, "gp_kernel", "kernel")
  if (!is.numeric(smoothness)) return(kernel)
  if (!identical(kernel$family, "matern")) {
    refuse("smoothness", sprintf('"fixed" for family "%s", which has its own', kernel$family), describe(smoothness))
  }
  kernel$smoothness <- check_smoothness(smoothness)
  kernel
}

# The kernel with the anisotropy that vif_fit() is asked for. One that is estimated is a parameter; the kernel's is then
# a start.
kernel_in_plane <- function(kernel, anisotropy, x) {
  estimate <- isTRUE(anisotropy)
  if (isFALSE(anisotropy)) {
    kernel["anisotropy"] <- list(NULL)
  } else if (is.logical(anisotropy) && !estimate) {
    refuse("anisotropy", "TRUE, FALSE, NULL or c(angle = , ratio = )", describe(anisotropy))
  } else if (!is.null(anisotropy) && !estimate) {
    kernel$anisotropy <- check_anisotropy(anisotropy)
  }
  if (!estimate && is.null(kernel$anisotropy)) return(kernel)
  if (ncol(x) < 2) refuse("anisotropy", "FALSE for inputs of one column", describe(anisotropy))
  if (ncol(x) == 2) kernel$lengthscale <- exp(mean(log(kernel$lengthscale)))
  check_plane(kernel, ncol(x))
}

column_labels <- function(x) {
  if (is.null(colnames(x))) paste0("lengthscale", seq_len(ncol(x))) else paste0("lengthscale.", colnames(x))
}

# Spread of the inputs along each lengthscale: the side of a cube over which uniform inputs vary as much, which does not
# change when the columns of a group are turned into each other.
input_scale <- function(x, groups) {
  variance <- apply(x, 2, stats::var)
  variance[!(variance > 0)] <- 0
  of <- if (is.null(groups$of)) rep(1, ncol(x)) else groups$of
  spread <- sqrt(12 * as.vector(tapply(variance, of, mean)))
  ifelse(spread > 0, spread, 1)
}

# How far neighbours are apart in the columns of each group, as shares of `scale`: a tenth of those that are apart by
# less (`least`), and the half (`typical`). In places far from each other, or bursts of readings, they say at which
# lengthscales to look, which the extent of all does not.
close_shares <- function(x, groups, scale, threads) {
  of <- if (is.null(groups$of)) rep(1, ncol(x)) else groups$of
  unit <- sweep(unname(x), 2, scale[of], `/`)
  pairs <- nearest_of_some(unit, gp_kernel(), max(200, ceiling(4e6 / nrow(unit))), threads) # a few milliseconds
  if (is.null(pairs)) return(list(least = rep(1, length(scale)), typical = rep(1, length(scale))))
  gaps <- (unit[pairs$from, , drop = FALSE] - unit[pairs$to, , drop = FALSE])^2
  shares <- vapply(seq_along(scale), function(g) {
    apart <- sqrt(rowSums(gaps[, of == g, drop = FALSE]))
    if (all(apart == 0)) c(1, 1) else stats::quantile(apart[apart > 0], c(0.1, 0.5), names = FALSE)
  }, numeric(2))
  list(least = shares[1, ], typical = shares[2, ])
}

estimates_plane <- function(settings) isTRUE(settings$plane)

# The angle in degrees and the ratio that two parameters stand for, and back.
from_stretch <- function(stretch) {
  angle <- atan2(stretch[[2]], stretch[[1]]) * 90 / pi
  c(angle = angle %% 180, ratio = exp(-sqrt(sum(stretch^2))))
}

to_stretch <- function(anisotropy) {
  if (is.null(anisotropy)) return(c(stretch1 = 0, stretch2 = 0))
  double <- anisotropy[["angle"]] * pi / 90
  -log(anisotropy[["ratio"]]) * c(stretch1 = cos(double), stretch2 = sin(double))
}

is_stretch <- function(names) names %in% c("stretch1", "stretch2")

# Parameters as users see them.
natural_parameters <- function(theta, settings) {
  own <- exp(theta)
  stretch <- is_stretch(names(theta))
  if (!any(stretch)) return(own)
  own[stretch] <- from_stretch(theta[stretch])
  names(own)[stretch] <- c("angle", "ratio")
  plane <- plane_name(settings)
  own[[plane]] <- own[[plane]] / sqrt(own[["ratio"]])
  own
}

plane_name <- function(settings) settings$groups$names[[1]]

# Derivatives of the logarithms of the natural parameters (of the angle itself, in degrees) to theta. At ratio 1 there
# is no angle.
natural_slopes <- function(theta, settings) {
  slopes <- diag(length(theta))
  names <- names(natural_parameters(theta, settings))
  dimnames(slopes) <- list(names, names(theta))
  if (!estimates_plane(settings)) return(slopes)
  at <- which(is_stretch(names(theta)))
  stretch <- theta[at]
  s <- sqrt(sum(stretch^2))
  outward <- if (s > 0) stretch / s else c(1, 0)
  slopes["angle", at] <- c(-outward[[2]], outward[[1]]) / s * 90 / pi
  if (s == 0) slopes["angle", at] <- NA
  slopes["ratio", at] <- -outward
  slopes[plane_name(settings), at] <- outward / 2
  slopes
}

# Rows of parameter_map() for the plane.
theta_plane_slopes <- function(stretch) {
  s <- sqrt(sum(stretch^2))
  outward <- if (s > 0) stretch / s else c(1, 0)
  along <- (plane_slopes["along", ] - plane_slopes["across", ]) / 2
  # to twice the angle, divided by s
  around <- -plane_slopes["shear", ] * if (s > 0) sinh(s) / s else 1
  rbind(plane_slopes["along", ] + plane_slopes["across", ], outward[[1]] * along - outward[[2]] * around,
        outward[[2]] * along + outward[[1]] * around)
}

to_kernel <- function(theta, settings) {
  kernel <- settings$kernel
  kernel$variance <- exp(theta[["variance"]])
  plane <- estimates_plane(settings)
  if (plane) {
    kernel$anisotropy <- from_stretch(theta[c("stretch1", "stretch2")])
    theta[[plane_name(settings)]] <- theta[[plane_name(settings)]] - log(kernel$anisotropy[["ratio"]]) / 2
  }
  own <- exp(unname(theta[settings$groups$names]))
  kernel$lengthscale <- if (is.null(settings$groups$of)) own else own[settings$groups$of]
  if (estimates_smoothness(settings)) kernel$smoothness <- exp(theta[["smoothness"]])
  kernel
}

to_nugget <- function(theta, settings) {
  max(if (is.null(settings$fixed)) exp(theta[["nugget"]]) else settings$fixed, least_nugget(theta, settings))
}

# Covariances of a smooth process whose lengthscales are long beside the distances of points are singular to double
# precision: conditional variances need some noise beside rounding errors of 1e-14 of the variance of the process.
least_nugget <- function(theta, settings) {
  exp(theta[["variance"]]) * (settings$least %or% 0) * noise_spread(settings) / settings$spread
}

# The least nugget as a share of the variance of the process.
least_share <- function(kernel, smoothness) {
  nu <- if (identical(smoothness, "estimate")) Inf else kernel_smoothness(kernel) %or% Inf # NULL for "rbf"
  if (nu > 2.5) 1e-11 else if (nu > 1.5) 1e-12 else 0
}

tell_least <- function(fit, nugget) {
  if (is.null(nugget) || fit$nugget <= nugget) return(invisible())
  tell("nugget", "so smooth a process cannot be computed with so small a `nugget`: it is ",
       format(fit$nugget, digits = 2), ", ", format(fit$settings$least), " of the variance of the process.")
}

# Lengthscales of the kernel: one for each parameter, or for each column.
to_theta <- function(kernel, nugget, settings) {
  groups <- settings$groups
  own <- kernel$lengthscale
  if (length(own) != length(groups$names)) {
    own <- if (length(own) == 1) rep(own, length(groups$names)) else if (is.null(groups$of)) exp(mean(log(own))) else {
      own[match(seq_along(groups$names), groups$of)]
    }
  }
  nugget <- max(nugget, 1e-8 * noise_spread(settings))
  # the geometric mean of the lengthscales along and across serves a model without anisotropy, too
  if (is.null(settings$kernel$anisotropy) && !is.null(kernel$anisotropy)) {
    own[1] <- own[1] * sqrt(kernel$anisotropy[["ratio"]])
  }
  c(variance = log(kernel$variance), stats::setNames(log(own), groups$names),
    if (estimates_plane(settings)) to_stretch(kernel$anisotropy), nugget = if (is.null(settings$fixed)) log(nugget),
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
  plane <- grep("^plane", names)
  of <- settings$groups$of
  if (length(plane)) of <- of[-(1:2)]
  if (length(columns)) own[columns] <- if (is.null(of)) "lengthscale" else settings$groups$names[of]
  map <- outer(names(theta), own, `==`) + 0
  dimnames(map) <- list(names(theta), names)
  if (length(plane)) {
    stretch <- c("stretch1", "stretch2")
    map[c(plane_name(settings), stretch), plane] <- theta_plane_slopes(theta[stretch])
  }
  least <- least_nugget(theta, settings)
  if (least > 0 && to_nugget(theta, settings) == least) map[, "nugget"] <- names(theta) == "variance"
  map
}

estimates_smoothness <- function(settings) identical(settings$smoothness, "estimate")

# Wide enough never to matter where the data say anything.
theta_bounds <- function(settings) {
  shortest <- pmin(1e-5, settings$close$least %or% 1 / 100)
  limits <- function(variance, lengthscale, nugget, smoothness) {
    to_theta(list(variance = variance * settings$spread, lengthscale = lengthscale * settings$scale,
                  smoothness = smoothness), nugget * noise_spread(settings), settings)
  }
  bounds <- list(lower = limits(1e-6, shortest, 1e-8, 0.1), upper = limits(1e6, 1e3, 1e2, 5))
  stretch <- is_stretch(names(bounds$lower))
  bounds$lower[stretch] <- -5
  bounds$upper[stretch] <- 5
  bounds$upper[["variance"]] <- min(bounds$upper[["variance"]], log(settings$most %or% Inf)) # of binary responses
  hold(bounds, settings)
}

# Bounds that hold some parameters at a value, for profiles of the likelihood.
hold <- function(bounds, settings) {
  held <- settings$held[names(settings$held) %in% names(bounds$lower)]
  bounds$lower[names(held)] <- bounds$upper[names(held)] <- held
  bounds
}

# The noise variance of an observation in units of the nugget, 1 / weight, of most: a few tiny weights must not count.
typical_share <- function(share) exp(mean(log(share)))

# The nugget by which noise has the variance of the observations: with weights it is in their units.
noise_spread <- function(settings) settings$noise_spread %or% settings$spread

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
  if (estimates_plane(settings)) {
    stretch <- c("stretch1", "stretch2")
    out[stretch] <- nearest(theta[stretch], "lengthscale")
  }
  out[["variance"]] <- nearest(theta[["variance"]], "noise")
  if (is.null(settings$fixed)) {
    unit <- log(noise_spread(settings) / settings$spread)
    out[["nugget"]] <- out[["variance"]] + unit + nearest(theta[["nugget"]] - unit - theta[["variance"]], "noise")
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
