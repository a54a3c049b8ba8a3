# Profiles of the log-likelihood: one parameter is held, and the others climb to their maximum.

# Intervals of the parameters at some places of coef(fit). An interval ends where the root of twice the fall of the
# profile from the top reaches the normal quantile. Of the plane of an estimated anisotropy there are none: NA, or an
# error where the user has `named` them.
profile_limits <- function(fit, place, level, named) {
  z <- stats::qnorm((1 - level) / 2, lower.tail = FALSE)
  climber <- if (is_laplace(fit)) laplace_profile(fit) else gaussian_profile(fit)
  names <- names(coef.vif(fit))[place]
  of_mean <- place <= length(fit$coefficients)
  single <- c(names(fit$theta), names(fit$phi)) # each a parameter of the climbs
  if (estimates_plane(fit$settings)) single <- setdiff(single, plane_name(fit$settings))
  lacking <- !of_mean & !names %in% single
  if (named && any(lacking)) {
    refuse("parm", "without angle, ratio and the lengthscale of their plane for profile intervals", names[lacking][1])
  }
  errors <- if (!all(of_mean)) sqrt(diag(log_vcov(fit)))
  highest <- 0
  out <- matrix(NA_real_, length(place), 2)
  for (i in which(!lacking)) {
    own <- if (of_mean[i]) profile_of(fit, place[i], sqrt(fit$vcov[place[i], place[i]]), climber) else {
      profile_of(fit, names[i], min(errors[[names[i]]], 1), climber)
    }
    for (side in c(-1, 1)) {
      end <- profile_end(own, side, z)
      out[i, (side + 3) / 2] <- if (is.finite(end)) own$natural(end) else own$beyond[[(side + 3) / 2]]
    }
    highest <- max(highest, own$above())
  }
  if (highest > 0.05) {
    warning(warningCondition(paste0(
      "the log-likelihood rises to ", format(highest, digits = 2), " above that of the fit on the profiles: the fit ",
      "is not at the maximum. Fit again with other values of `start`"), class = "vif_profile", call = NULL))
  }
  out
}

# One parameter, the number of a coefficient of the mean or the name of another, with its standard error, if it has one:
# its estimate, a first step, how far it may go, where an interval is said to end that would go further, and the fall of
# its profile.
profile_of <- function(fit, what, error, climber) {
  of_mean <- is.numeric(what)
  top <- climber$start
  at <- if (of_mean) fit$coefficients[[what]] else c(top$theta, log(top$phi %or% numeric()))[[what]]
  seen <- list(list(value = at, found = top))
  above <- 0
  # climbs start from what was found nearest, or from the top
  fall <- function(value, from_top = FALSE) {
    from <- if (from_top) top else seen[[which.min(abs(vapply(seen, `[[`, 0, "value") - value))]]$found
    found <- tryCatch(climber$climb(from, what, value), error = function(e) {
      if (is_time_limit(e)) stop(e)
      list(loglik = -Inf)
    })
    if (!is.finite(found$loglik)) return(Inf)
    seen <<- c(list(list(value = value, found = found)), seen)
    above <<- max(above, found$loglik - top$loglik)
    sqrt(2 * max(top$loglik - found$loglik, 0))
  }
  bounds <- if (of_mean) c(-Inf, Inf) else climber$bounds(what)
  beyond <- if (of_mean) c(-Inf, Inf) else if (what == "smoothness") exp(bounds) else {
    c(0, if (what == "variance" && climber$held) NA else Inf)
  }
  list(at = at, step = if (is.finite(error) && error > 0) error else 0.5, bounds = bounds, fall = fall,
       above = function() above, natural = if (of_mean) identity else exp, beyond = beyond)
}

# The value on one side of the estimate where the fall is z, to within 0.005, infinite where the range ends before.
# What climbs from nearby have found may be a lower of two tops, so the end is climbed to from the top as well, and
# where that is higher the search goes on from there.
profile_end <- function(own, side, z) {
  if (z == 0) return(own$at)
  inner <- c(own$at, -z)
  for (attempt in 1:4) {
    end <- profile_crossing(own, side, z, inner)
    if (!is.finite(end)) break
    again <- own$fall(end, from_top = TRUE) - z
    if (again > -0.02) break
    inner <- c(end, again)
  }
  end
}

# The same from an inner value with its fall less z: steps out until the fall is larger than z, then by the rule of
# false position (Illinois).
profile_crossing <- function(own, side, z, inner) {
  away <- max(z * own$step, 1.2 * abs(inner[1] - own$at)) # from the estimate
  bound <- own$bounds[[(side + 3) / 2]]
  for (attempt in 1:40) {
    value <- own$at + side * away
    if (side * (value - bound) >= 0) value <- bound
    if (value == inner[1]) return(side * Inf)
    outer <- c(value, own$fall(value) - z)
    if (outer[2] >= 0 || value == bound) break
    away <- away * min(max(1.1 * z / (outer[2] + z), 1.3), 3) # falls are nearly in proportion to it
    inner <- outer
  }
  if (outer[2] < 0) return(side * Inf)
  weight <- c(1, 1) # of the two ends, halved where the other one moved twice
  last <- 0
  for (attempt in 1:30) {
    if (outer[2] < 0.005) break
    ends <- weight * c(-inner[2], outer[2])
    share <- if (is.finite(outer[2])) min(max(ends[1] / sum(ends), 0.05), 0.95) else 0.5
    value <- inner[1] + share * (outer[1] - inner[1])
    now <- c(value, own$fall(value) - z)
    if (abs(now[2]) < 0.005) return(value)
    moved <- if (now[2] < 0) 1 else 2
    if (moved == 1) inner <- now else outer <- now
    weight <- if (moved == last) weight * c(1, 0.5)[c(moved, 3 - moved)] else c(1, 1)
    last <- moved
  }
  outer[1]
}

# ---- climbs with a parameter held, by family ----

# Each of the two has `start`, the top of the likelihood from the estimates; `climb`, from there or from what a climb
# before has found, with a parameter held, a coefficient of the mean by its number or the logarithm of another by its
# name; the `bounds` of the latter; and whether the variance is `held` at an upper bound of its own.

gaussian_profile <- function(fit) {
  settings <- fit$settings
  settings$threads <- worthwhile_threads(thread_count(NULL), fit$n)
  settings$memory <- vif_memory()
  whole <- fit_data(fit, fit$order)
  structure <- list(at = fit$at, inducing = fit$gp$inducing, id = fit$id)
  climb_on <- function(theta, data, settings) {
    found <- climb(theta, data, settings, "profile", 100, 1e-3, FALSE, fit$at, structure = structure)$at
    list(loglik = found$value, theta = found$theta)
  }
  bounds <- theta_bounds(settings)
  list(
    start = climb_on(fit$theta, whole, settings),
    climb = function(from, what, value) {
      if (!is.numeric(what)) {
        settings$held <- stats::setNames(value, what)
        return(climb_on(replace(from$theta, what, value), whole, settings))
      }
      without <- without_covariate(fit, what)
      whole$y <- whole$y - value * without$column
      whole["X"] <- list(without$Q)
      climb_on(from$theta, whole, settings)
    },
    bounds = function(name) c(bounds$lower[[name]], bounds$upper[[name]]),
    held = FALSE
  )
}

laplace_profile <- function(fit) {
  again <- laplace_again(fit)
  # where outcomes are separated the approximation cannot be trusted, and its likelihood rises for ever (ran_away())
  trusted <- again$settings$family$most_variance
  if (!is.null(trusted) && is.null(again$settings$most)) {
    again$settings$most <- max(trusted, 2 * exp(fit$theta[["variance"]]))
  }
  structure <- list(at = fit$at, inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
  climb_on <- function(from, data, settings) {
    found <- laplace_climb(from, data, settings, 100, 1e-3, "profile", FALSE, structure = structure)
    mode <- laplace_final(found$last, structure, data, settings, found$eta, state = found$mode$state)
    if (!is.finite(mode$loglik)) mode <- found$mode
    c(list(loglik = mode$loglik, eta = mode$eta), mode$par)
  }
  of_theta <- theta_bounds(again$settings)
  of_phi <- phi_bounds(fit$phi, again$settings)
  list(
    start = climb_on(c(again$par, list(eta = again$eta)), again$data, again$settings),
    climb = function(from, what, value) {
      settings <- again$settings
      data <- again$data
      if (is.numeric(what)) {
        without <- without_covariate(fit, what)
        data$offset <- data$offset + value * without$column
        data["X"] <- list(without$Q)
        from["beta"] <- list(NULL)
      } else {
        settings$held <- stats::setNames(value, what)
        part <- if (what %in% names(from$theta)) "theta" else "phi"
        from[[part]][[what]] <- if (part == "phi") exp(value) else value
      }
      climb_on(from, data, settings)
    },
    bounds = function(name) c(c(of_theta$lower, of_phi$lower)[[name]], c(of_theta$upper, of_phi$upper)[[name]]),
    held = !is.null(again$settings$most)
  )
}

# A covariate in the order of the data, and a basis of the others.
without_covariate <- function(fit, number) {
  others <- fit$X[fit$order, -number, drop = FALSE]
  list(column = fit$X[fit$order, number], Q = if (ncol(others)) mean_basis(others)$Q)
}
