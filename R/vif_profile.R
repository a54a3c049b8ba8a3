# Profiles of the log-likelihood: one parameter is held, and the others climb to their maximum.

# Intervals of the parameters at some places of coef(fit). An interval ends where the root of twice the fall of the
# profile from the top reaches the normal quantile.
profile_limits <- function(fit, place, level) {
  z <- stats::qnorm((1 + level) / 2)
  climber <- if (is_laplace(fit)) laplace_profile(fit) else gaussian_profile(fit)
  names <- names(coef.vif(fit))[place]
  of_mean <- place <= length(fit$coefficients)
  known <- c(names(fit$theta), names(fit$phi))
  if (estimates_plane(fit$settings)) known <- setdiff(known, plane_name(fit$settings))
  if (!all(of_mean | names %in% known)) {
    refuse("parm", "without angle, ratio and the lengthscale of their plane for profile intervals",
           names[!of_mean & !names %in% known][1])
  }
  top <- climber$start
  highest <- 0
  out <- matrix(NA_real_, length(place), 2)
  for (i in seq_along(place)) {
    own <- profile_of(fit, names[i], of_mean[i], climber, top)
    for (side in c(-1, 1)) {
      end <- profile_end(own, side, z)
      out[i, (side + 3) / 2] <- if (is.finite(end)) own$natural(end) else own$beyond[[(side + 3) / 2]]
    }
    highest <- max(highest, own$above())
  }
  if (highest > 0.05) {
    warning(warningCondition(paste0(
      "the log-likelihood rises to ", format(highest, digits = 2), " above that of the fit on the profiles: the fit is ",
      "not at the maximum. Fit again with other values of `start`"), class = "vif_profile", call = NULL))
  }
  out
}

# One parameter: its estimate, a first step, how far it may go, what an interval that ends beyond is told to end at, and
# the fall of its profile.
profile_of <- function(fit, name, of_mean, climber, top) {
  seen <- list(list(value = climber$value(top, name, of_mean), found = top))
  above <- 0
  error <- if (of_mean) sqrt(fit$vcov[name, name]) else {
    spread <- log_vcov(fit)
    if (name %in% rownames(spread)) sqrt(spread[name, name]) else NA
  }
  bounds <- if (of_mean) c(-Inf, Inf) else climber$bounds(name)
  fall <- function(value) {
    from <- seen[[which.min(abs(vapply(seen, `[[`, 0, "value") - value))]]$found
    found <- climber$climb(from, name, of_mean, value)
    if (!is.finite(found$loglik)) return(Inf)
    seen <<- c(seen, list(list(value = value, found = found)))
    above <<- max(above, found$loglik - top$loglik)
    sqrt(2 * max(top$loglik - found$loglik, 0))
  }
  list(at = seen[[1]]$value, step = if (is.finite(error) && error > 0) min(error, if (of_mean) Inf else 1) else 0.5,
       bounds = bounds, fall = fall, above = function() above, natural = if (of_mean) identity else exp,
       beyond = profile_beyond(name, of_mean, bounds, fit))
}

# Where an interval ends whose profile does not fall far enough within the range of the search.
profile_beyond <- function(name, of_mean, bounds, fit) {
  if (of_mean) return(c(-Inf, Inf))
  if (name == "smoothness") return(exp(bounds))
  c(0, if (name == "variance" && !is.null(fit$settings$most)) NA else Inf) # a variance that is held
}

# The value on one side of the estimate where the fall is z, to within 0.005: steps out until it is larger, then by the
# rule of false position (Illinois). Infinite where the range ends before.
profile_end <- function(own, side, z) {
  inner <- c(own$at, -z)
  step <- z * own$step
  bound <- own$bounds[[(side + 3) / 2]]
  for (attempt in 1:40) {
    value <- own$at + side * step
    if (side * (value - bound) >= 0) value <- bound
    if (value == inner[1]) return(side * Inf)
    outer <- c(value, own$fall(value) - z)
    if (outer[2] >= 0 || value == bound) break
    step <- step * min(max(1.1 * z / (outer[2] + z), 1.3), 3)
    inner <- outer
  }
  if (outer[2] < 0) return(side * Inf)
  for (attempt in 1:30) {
    if (outer[2] < 0.005) return(outer[1])
    share <- if (is.finite(outer[2])) min(max(-inner[2] / (outer[2] - inner[2]), 0.05), 0.95) else 0.5
    value <- inner[1] + share * (outer[1] - inner[1])
    now <- c(value, own$fall(value) - z)
    if (abs(now[2]) < 0.005) return(value)
    if (now[2] < 0) {
      inner <- now
      outer[2] <- outer[2] / 2
    } else {
      outer <- now
      inner[2] <- inner[2] / 2
    }
  }
  outer[1]
}

# ---- climbs with a parameter held, by family ----

# Each of the two has `start`, the top of the likelihood from the estimates; `climb`, from there or from what a climb
# before has found, with a parameter held, a coefficient of the mean or the logarithm of another; its `value` at a top;
# and its `bounds`.

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
  list(
    start = climb_on(fit$theta, whole, settings),
    climb = function(from, name, of_mean, value) {
      if (!of_mean) {
        settings$held <- stats::setNames(value, name)
        return(climb_on(replace(from$theta, name, value), whole, settings))
      }
      without <- without_covariate(fit, name)
      climb_on(from$theta, utils::modifyList(whole, list(y = whole$y - value * without$column, X = without$Q)), settings)
    },
    value = function(top, name, of_mean) if (of_mean) fit$coefficients[[name]] else top$theta[[name]],
    bounds = function(name) c(theta_bounds(settings)$lower[[name]], theta_bounds(settings)$upper[[name]])
  )
}

laplace_profile <- function(fit) {
  again <- laplace_again(fit)
  structure <- list(at = fit$at, inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
  climb_on <- function(from, data, settings) {
    found <- laplace_climb(from, data, settings, 100, 1e-3, "profile", FALSE, structure = structure)
    mode <- laplace_final(found$last, structure, data, settings, found$eta, state = found$mode$state)
    if (!is.finite(mode$loglik)) mode <- found$mode
    c(list(loglik = mode$loglik, eta = mode$eta), mode$par)
  }
  list(
    start = climb_on(c(again$par, list(eta = again$eta)), again$data, again$settings),
    climb = function(from, name, of_mean, value) {
      settings <- again$settings
      data <- again$data
      if (of_mean) {
        without <- without_covariate(fit, name)
        data$offset <- data$offset + value * without$column
        data["X"] <- list(without$Q)
        from["beta"] <- list(NULL)
      } else {
        settings$held <- stats::setNames(value, name)
        part <- if (name %in% names(from$theta)) "theta" else "phi"
        from[[part]][[name]] <- if (part == "phi") exp(value) else value
      }
      climb_on(from, data, settings)
    },
    value = function(top, name, of_mean) {
      if (of_mean) fit$coefficients[[name]] else c(top$theta, log(top$phi))[[name]]
    },
    bounds = function(name) {
      of_theta <- theta_bounds(again$settings)
      of_phi <- phi_bounds(fit$phi, again$settings)
      c(c(of_theta$lower, of_phi$lower)[[name]], c(of_theta$upper, of_phi$upper)[[name]])
    }
  )
}

# A covariate in the order of the data, and a basis of the others.
without_covariate <- function(fit, name) {
  others <- fit$X[fit$order, colnames(fit$X) != name, drop = FALSE]
  list(column = fit$X[fit$order, name], Q = if (ncol(others)) mean_basis(others)$Q)
}
