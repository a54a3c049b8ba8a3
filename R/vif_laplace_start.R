# Starting values of fits of non-Gaussian responses, and what a fit must be better than: the model without a process,
# and a process that is noise between the places.

# ---- searches ----

# The end of a search from `start`. Where there is reason to doubt it, because the model without a process is better or
# the process has become noise, it is held against the end of a second one, from a process of small variance beside the
# estimates of the model without one, and against that model, which is the process at its smallest variance.
laplace_search <- function(start, data, settings, order, iterations, progress, null) {
  # as binary responses that are separated have the log-likelihood 0 without a process no other is better
  apart <- separates(data$y, null$eta, settings$family)
  climb <- function(begin) {
    rows <- conditioning_order(order, data$x, to_kernel(begin$theta, settings), settings$seed)
    found <- laplace_maximise(begin, some_data(data, rows), settings, iterations, progress)
    white <- white_process(found, some_data(data, rows), settings, null)
    c(found, list(rows = rows, white = white, score = found$mode$loglik + sum(white$error)))
  }
  first <- tryCatch(climb(laplace_start(start, data, settings, progress)), vif_mode = function(e) e)
  failed <- inherits(first, "error")
  if (apart) {
    if (failed) stop(errorCondition(paste0(user_call(), "the covariates ", separation),
                                    class = c("vif_separation", "vif_mode"), call = NULL))
    return(first)
  }
  below <- function(found) found$score < null$loglik - max(0.02, 3 * sum(found$mode$se))
  if (!failed && (first$iterations >= iterations || !below(first) && is.null(first$white))) return(first)
  # whatever goes wrong on the way, there is the first
  attempt <- function(begin) tryCatch(climb(begin), error = function(e) if (is_time_limit(e)) stop(e))
  better <- function(found, other) {
    if (is.null(found) || inherits(found, "error") || !is.null(other) && other$score > found$score) other %or% found
    else found
  }
  found <- better(first, attempt(small_start(null, data, settings, progress)))
  if (!inherits(found, "error") && below(found)) found <- better(found, attempt(null_start(null, settings)))
  if (inherits(found, "error")) stop(found)
  found
}

# A start at a process of small variance, from the better of two lengthscales.
small_start <- function(null, data, settings, progress) {
  begins <- lapply(c(0.1, 0.3), function(share) {
    theta <- to_theta(list(variance = settings$spread / 10, lengthscale = share * settings$scale,
                           smoothness = settings$kernel$smoothness), 0, settings)
    begin <- list(theta = inside(theta, theta_bounds(settings)), phi = null$phi)
    tryCatch(laplace_stages(begin, data, settings, progress), error = function(e) if (is_time_limit(e)) stop(e))
  })
  value <- vapply(begins, function(begin) begin$loglik %or% -Inf, 0)
  begins[[which.max(value)]] %or% null_start(null, settings)
}

# The model without a process.
null_start <- function(null, settings) {
  bounds <- theta_bounds(settings)
  theta <- to_theta(list(variance = settings$spread, lengthscale = settings$scale / 5,
                         smoothness = settings$kernel$smoothness), 0, settings)
  theta[["variance"]] <- bounds$lower[["variance"]]
  list(theta = inside(theta, bounds), phi = null$phi, beta = null$beta)
}

# ---- the model without a process ----

# Its maximum: log-likelihood, linear predictor, beta (NULL without X) and phi, by turns of scoring for beta, with steps
# that are halved until they rise, and of a search for log phi.
null_model <- function(data, family) {
  phi <- family_start(family, data)
  X <- data$X
  line <- if (!is.null(X)) robust_line(family_guess(family, data) - data$offset, X)
  beta <- if (!is.null(X)) qr.coef(qr(X), line)
  eta_of <- function(beta) data$offset + if (is.null(X)) 0 else drop(X %*% beta)
  value <- function(eta, phi) {
    out <- sum(family$value(data$y, eta, data$w, all_phi(family, phi)))
    if (is.finite(out)) out else -Inf
  }
  eta <- eta_of(beta)
  height <- value(eta, phi)
  for (turn in 1:30) {
    before <- height
    for (iteration in seq_len(25 * !is.null(X))) {
      s <- family$slopes(data$y, eta, data$w, all_phi(family, phi))
      weight <- s$search %or% s$curvature
      step <- tryCatch(drop(solve(crossprod(X, weight * X), crossprod(X, s$d1))), error = function(e) NULL)
      if (is.null(step) || !all(is.finite(step))) break
      for (halving in 1:20) {
        new <- eta_of(beta + step)
        reached <- value(new, phi)
        if (reached >= height) break
        step <- step / 2
      }
      if (reached < height) break
      gain <- reached - height
      beta <- beta + step
      eta <- new
      height <- reached
      if (!(gain > 1e-4)) break
    }
    if (!length(phi)) break
    slopes <- function(log_phi) {
      all <- all_phi(family, exp(log_phi))
      -vapply(family$phi_slopes(data$y, eta, data$w, all)[names(phi)], function(own) sum(own$value), 0)
    }
    fall <- function(log_phi) -value(eta, exp(log_phi))
    best <- tryCatch(stats::nlminb(log(phi), fall, slopes, lower = log(phi) - 14, upper = log(phi) + 14),
                     error = function(e) NULL)
    if (is.null(best) || !(-best$objective >= height)) break
    phi[] <- exp(best$par)
    height <- -best$objective
    if (!(height - before > 1e-3)) break
  }
  list(loglik = height, eta = eta, beta = beta, phi = phi)
}

# ---- a process that is noise ----

# If the process at the end of a search hardly correlates nearest neighbours, and matters: this correlation and the
# error of Laplace's approximation. NULL otherwise.
white_process <- function(found, data, settings, null) {
  kernel <- to_kernel(found$theta, settings)
  correlation <- nearest_correlation(kernel, found$structure$id, data$x)
  if (correlation > 0.3) return(NULL)
  error <- white_error(found$mode$eta, found$mode$par, kernel$variance, data, settings)
  if (found$mode$loglik > null$loglik + 2 || abs(error) > 1) list(correlation = correlation, error = error)
}

# The median of the correlations of points with the nearest one of their sets: of late points of the order, which have
# their neighbours before them.
nearest_correlation <- function(kernel, id, x, count = 50) {
  n <- nrow(x)
  rows <- unique(round(seq(ceiling((n + 1) / 2), n, length.out = min(count, n %/% 2 + 1))))
  sets <- unique(stats::na.omit(as.vector(id[rows, ])))
  if (!length(sets)) return(1)
  rho <- gp_covariance(x[rows, , drop = FALSE], kernel, x[sets, , drop = FALSE]) / kernel$variance
  stats::median(vapply(seq_along(rows), function(i) max(rho[i, match(id[rows[i], ], sets)], 0, na.rm = TRUE), 0))
}

# Where the process is independent from place to place the likelihood is a product of integrals over one variable each,
# and so is Laplace's approximation: the sum of the differences of their logs. Nodes are mode + a sinh(u), close by at
# the mode and out to ten standard deviations. Of many observations some, evenly spaced, say enough.
white_error <- function(eta, par, variance, data, settings, most = 2000) {
  n <- length(data$y)
  rows <- if (n <= most) seq_len(n) else round(seq(1, n, length.out = most))
  family <- settings$family
  phi <- all_phi(family, par$phi)
  y <- data$y[rows]
  w <- data$w[rows]
  mean <- (data$offset + if (is.null(data$X)) 0 else drop(data$X %*% par$beta))[rows]
  sd <- sqrt(variance)
  log_joint <- function(eta) family$value(y, eta, w, phi) + stats::dnorm((eta - mean) / sd, log = TRUE) - log(sd)
  mode <- eta[rows]
  for (iteration in 1:50) {
    s <- family$slopes(y, mode, w, phi)
    step <- (s$d1 - (mode - mean) / variance) / ((s$search %or% s$curvature) + 1 / variance)
    worse <- !(log_joint(mode + step) >= log_joint(mode) - 1e-12)
    mode <- mode + ifelse(worse, step / 4, step)
    if (isTRUE(max(abs(step)) < 1e-8 * sd)) break
  }
  narrow <- 1 / sqrt(family$slopes(y, mode, w, phi)$curvature + 1 / variance)
  top <- log_joint(mode)
  end <- asinh(10 * sd / narrow)
  u <- seq(-1, 1, length.out = 201)
  nodes <- outer(end, u)
  density <- exp(matrix(log_joint(mode + narrow * sinh(nodes)), length(y)) - top) * cosh(nodes)
  integral <- rowSums(density, na.rm = TRUE) * end * (u[2] - u[1]) # in units of exp(top) narrow
  out <- sum(log(integral) - log(2 * pi) / 2) * n / length(rows)
  if (is.finite(out)) out else 0
}

# ---- starting values: a subset of the data, from the best of a few lengthscales ----

laplace_start <- function(start, data, settings, progress) {
  family <- settings$family
  phi <- family_start(family, data)
  wanted <- '"auto", "kernel" or a list of a `kernel`'
  start <- fitting_start(start, data$x, data$y)
  if (is_start_list(start)) {
    theta <- listed_theta(start, 0, data$x, settings, wanted)
    phi[] <- start$phi %or% phi
    return(list(theta = theta, phi = phi))
  }
  if (identical(start, "kernel")) return(list(theta = to_theta(settings$kernel, 0, settings), phi = phi))
  if (!identical(start, "auto")) refuse("start", wanted, describe(start))
  laplace_stages(list(phi = phi), data, settings, progress)
}

# Starting values for all data from starting values, or from phi alone, for a part of them.
laplace_stages <- function(begin, data, settings, progress) {
  n <- nrow(data$x)
  for (size in c(2000, if (n >= 32000) n %/% 8)) {
    part <- laplace_subset(data, settings, size, begin$theta)
    if (is.null(begin$theta)) begin$theta <- best_of_grid(begin$phi, part)
    stage <- if (size == 2000) "subset" else "part"
    found <- laplace_climb(begin[c("theta", "phi")], part$data, part$settings, limit = 30, tolerance = 1e-2,
                           stage = stage, progress = progress)
    begin <- list(theta = found$last$theta, phi = found$last$phi, loglik = found$mode$loglik,
                  history = rbind(begin$history, found$history),
                  beta = if (is.null(part$data$X) == is.null(data$X)) found$last$beta %or% found$mode$beta)
  }
  begin
}

# Part of the data, spread out and in groups, and settings that cost little.
laplace_subset <- function(data, settings, size, theta) {
  n <- nrow(data$x)
  part <- subset_of(list(y = seq_len(n), x = data$x, X = NULL, extra = numeric(n)), settings, size, theta)
  small <- some_data(data, part$data$y)
  if (!is.null(small$X) && qr(small$X)$rank < ncol(small$X)) small$X <- NULL
  own <- part$settings
  own$inducing <- count_inducing(settings$inducing, length(small$y) %/% 30)
  own$neighbours <- settings$neighbours
  own$laplace <- "noisy"
  list(data = small, settings = own)
}

# The best of a few lengthscales.
best_of_grid <- function(phi, part) {
  settings <- part$settings
  thetas <- lapply(c(0.03, 0.08, 0.2, 0.5), function(share) {
    kernel <- list(variance = settings$spread / 2, lengthscale = share * settings$scale,
                   smoothness = settings$kernel$smoothness)
    inside(to_theta(kernel, 0, settings), theta_bounds(settings))
  })
  structure <- laplace_structure(thetas[[2]], part$data, settings)
  eta <- NULL
  value <- vapply(thetas, function(theta) {
    at <- laplace_at(list(theta = theta, phi = phi), structure, part$data, settings, eta, tolerance = 1e-2)
    eta <<- at$eta
    at$loglik
  }, 0)
  thetas[[if (any(is.finite(value))) which.max(value) else 3]]
}
