# Fitted models of non-Gaussian responses evaluated again at their parameters: standard errors of covariance parameters,
# log-likelihoods on common sets, the mode without some observations.

# Parameters, data in some order, settings and linear predictors of a fit, as laplace_at() takes them.
laplace_again <- function(fit, order = fit$order) {
  settings <- fit$settings
  settings$family <- laplace_family(fit$family)
  settings$threads <- worthwhile_threads(thread_count(NULL), fit$n)
  basis <- mean_basis(fit$X)
  data <- list(y = unname(fit$y), w = fit$weights, x = fitted_inputs(fit)$x, X = basis$Q,
               offset = fit$offset %or% numeric(fit$n))
  par <- list(theta = fit$theta, phi = fit$phi, beta = if (!is.null(basis)) drop(basis$change %*% fit$coefficients))
  list(par = par, data = some_data(data, order), settings = settings, basis = basis, eta = fit$linear.predictors[order])
}

# The gradient in (theta, log phi, beta) of an evaluation.
laplace_slope <- function(at, settings) {
  g <- at$gradient
  rest <- length(at$par$phi) + length(at$par$beta)
  kernel <- seq_len(length(g) - rest)
  c(to_theta_slope(g[kernel], at$par$theta, settings), g[-kernel])
}

# Covariance matrix of the estimates of the `free` ones of theta and log phi, NULL if it is singular: the inverse of
# the observed information, by central differences of the gradient, with the same sets and random vectors throughout.
# Of beta alone the information is that of generalised least squares.
laplace_vcov <- function(fit, free, step = 0.02) {
  again <- laplace_again(fit)
  structure <- list(inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
  theta <- length(fit$theta)
  outer <- theta + length(fit$phi)
  slope <- function(j, step) {
    log_par <- c(again$par$theta, log(again$par$phi))
    log_par[j] <- log_par[j] + step
    par <- list(theta = log_par[seq_len(theta)], phi = exp(log_par[-seq_len(theta)]), beta = again$par$beta)
    at <- laplace_at(par, structure, again$data, again$settings, again$eta, gradient = TRUE, tolerance = 1e-6)
    if (!is.finite(at$loglik)) return(rep(NA_real_, outer + length(par$beta)))
    unname(laplace_slope(at, again$settings))
  }
  columns <- vapply(free, function(j) (slope(j, -step) - slope(j, step)) / (2 * step),
                    numeric(outer + length(again$par$beta)))
  if (anyNA(columns)) return(NULL)
  own <- columns[free, , drop = FALSE]
  own <- (own + t(own)) / 2
  if (!is.null(again$basis)) {
    across <- columns[-seq_len(outer), , drop = FALSE]
    spread <- again$basis$change %*% fit$vcov %*% t(again$basis$change)
    own <- own - crossprod(across, spread %*% across)
  }
  tryCatch(chol2inv(chol(own)), error = function(e) NULL)
}

# The standard error that random vectors leave in the log-likelihood of a fit.
loglik_error <- function(fit) fit$loglik_se %or% 0

# As common_loglik() of Gaussian fits, with the sets of the largest model.
common_laplace <- function(fits) {
  largest <- fits[[which.max(vapply(fits, function(fit) fit$df, 0))]]
  structure <- list(inducing = largest$gp$inducing, id = largest$latent_id, wide = largest$id)
  own <- function(fit) c(loglik = fit$loglik, se = loglik_error(fit))
  found <- vapply(fits, function(fit) {
    if (identical(fit, largest)) return(own(fit))
    again <- laplace_again(fit, largest$order)
    if (!identical(again$data$x, largest$gp$x) || !identical(fit$laplace, largest$laplace)) return(own(fit))
    at <- laplace_final(again$par, structure, again$data, again$settings, again$eta, gradient = TRUE)
    if (!is.finite(at$loglik)) return(own(fit))
    slope <- laplace_slope(at, again$settings)
    slope[names(slope) %in% names(fit$bounded)] <- 0
    gain <- sum(slope * solve(working_information(at, structure, again$data, again$settings), slope)) / 2
    value <- c(loglik = at$loglik + gain, se = at$se %or% 0)
    if (value[[1]] < fit$loglik - max(most_lost, 3 * value[[2]])) own(fit) else value
  }, numeric(2))
  as.data.frame(t(found))
}

# A fit whose data and sets lack some observations: its mode and mean without them, at the same covariance parameters.
laplace_without <- function(out, threads) {
  again <- laplace_again(out)
  data <- again$data
  family <- again$settings$family
  phi <- all_phi(family, out$phi)
  mode <- laplace_mode(out$gp, out$id, data, family, phi, NULL, again$eta, threads, tolerance = 1e-6)
  if (mode$settled && out$laplace != "noisy") {
    slack <- rep(latent_jitter * out$gp$kernel$variance, out$n)
    latent <- .Call(C_vif_regression, out$gp, slack, out$latent_id, NULL, NULL, threads)
    mode <- latent_mode(out$gp, out$latent_id, out$id, latent, data, family, phi, mode$beta, mode$eta, threads, 1e-6)
  }
  if (!mode$settled) stop_mode()
  with_mode(out, mode, again$basis)
}

# The parts of a fit that its mode decides.
with_mode <- function(fit, mode, basis) {
  back <- order(fit$order)
  mean <- mean_estimates(list(beta = mode$beta, information = mode$information, B = mode$solved$B), basis,
                         colnames(fit$X))
  fit$coefficients <- mean$beta
  fit$vcov <- mean$vcov
  fit$noise_variance <- mode$noise[back]
  fit$linear.predictors <- unname(mode$eta)[back]
  fit$state <- list(coef = mode$state$coef, D = mode$state$D, root = mode$state$root, b = drop(mode$solved$b),
                    error = drop(mode$solved$error), residual = mode$response, B = mean$B)
  fit
}
