# Laplace: likelihoods of non-Gaussian responses under the VIF approximation, their modes and derivatives.
#
# At the mode eta of the linear predictor the responses y_i act like working responses z_i = eta_i + g_i / w_i with Gaussian
# noise of variance 1 / w_i, where g and w are the first and minus the second derivative of log p(y_i | eta_i):
#   log p(y) ~ log N(z; X beta + offset, S) + sum_i log p(y_i | eta_i) - log N(z_i; eta_i, 1 / w_i),
# with S the covariance of the latent process plus noise 1 / w (Zilber and Katzfuss, 2021, for Vecchia approximations). The
# VIF approximation is that of the noisy process, as in the Gaussian fit, with a variance for each point: no linear system of
# the size of the data is ever solved, a Newton step is one factorisation of cost O(n (k^3 + k^2 m + m^2)), a Gaussian family
# gives the Gaussian fit, and the result is that of the exact Laplace approximation as k goes to n - 1. Measured on 1,500
# points (d = 2, m = 150): log-likelihoods of binary data are wrong by 0.4 at k = 15 and 0.03 at k = 30. The Laplace
# approximation with the VIF approximation of the noise-free process instead (Gyger, Furrer and Sigrist, 2025), which needs
# conjugate gradients or a sparse factor, is in R/vif_laplace_latent.R.

# ---- the noisy process ----

# Factors of S for noise variances of the points.
working_state <- function(gp, id, noise, threads) {
  f <- .Call(C_vif_regression, gp, noise, id, NULL, NULL, threads)
  W <- .Call(C_vif_contrasts, id, f$coef, gp$V, gp$V, threads)
  M <- .Call(C_vif_crossproduct, W, W, 1 / f$D, threads)
  diag(M) <- diag(M) + 1
  list(coef = f$coef, D = f$D, W = W, root = if (nrow(M)) t(chol(M)) else M, noise = noise)
}

# b, errors and S^-1 y for responses y, one in a row (q x n).
working_solve <- function(state, id, y, threads) {
  u <- .Call(C_vif_contrasts, id, state$coef, y, y, threads)
  b <- solve_root(state$root, .Call(C_vif_crossproduct, state$W, u, 1 / state$D, threads))
  error <- u - crossprod(b, state$W)
  list(b = b, error = error, solved = .Call(C_laplace_collects, id, state$coef, error / rep(state$D, each = nrow(y))))
}

# Diagonal of S^-1.
working_precision <- function(state, id, threads) {
  k <- nrow(state$coef)
  squares <- .Call(C_laplace_collects, id, -state$coef^2, rbind(1 / state$D))
  if (!nrow(state$W)) return(drop(squares))
  VP <- .Call(C_laplace_collects, id, state$coef, state$W / rep(state$D, each = nrow(state$W)))
  drop(squares) - .Call(C_vif_norms, state$root, VP, threads)
}

working_loglik <- function(state, solved) {
  -0.5 * (length(state$D) * log(2 * pi) + sum(log(state$D)) + 2 * sum(log(diag(state$root))) +
            sum(solved$error[1, ]^2 / state$D) + sum(solved$b[, 1]^2))
}

# ---- the mode ----

# The mode of the latent process, by Newton's method, and of beta too if `beta` is NULL. data: y, w, X, offset, in the order of
# gp$x. Steps are from a point (beta, a, b), b = S_latent a, for which log p(y, b) is known, and halved until it rises.
laplace_mode <- function(gp, id, data, family, phi, beta, eta = NULL, threads = NA_integer_, tolerance = 1e-5,
                         iterations = 100) {
  joint <- function(at) {
    value <- sum(family$value(data$y, at$eta, data$w, phi)) - sum(at$a * at$b) / 2
    if (is.finite(value)) value else -Inf
  }
  free <- is.null(beta)
  p <- NCOL(data$X) * !is.null(data$X)
  fixed <- function(beta) data$offset + if (p) drop(data$X %*% beta) else 0
  zero <- if (free) numeric(p) else beta
  here <- list(beta = zero, a = 0 * data$offset, b = 0 * data$offset, eta = fixed(zero))
  here$value <- joint(here)
  from <- if (is.null(eta)) here$eta else eta # where the density is expanded, the given start at first
  elsewhere <- !is.null(eta)
  for (iteration in seq_len(iterations)) {
    s <- family$slopes(data$y, from, data$w, phi)
    noise <- 1 / s$curvature
    z <- from - data$offset + noise * s$d1
    state <- working_state(gp, id, noise, threads)
    solved <- working_solve(state, id, rbind(z, if (p) t(data$X)), threads)
    new <- here
    information <- NULL
    if (p) {
      information <- crossprod(data$X, t(solved$solved[-1, , drop = FALSE]))
      if (free) new$beta <- drop(solve(information, crossprod(data$X, solved$solved[1, ])))
    }
    profile <- c(1, -new$beta)
    new$a <- drop(profile %*% solved$solved)
    new$b <- z - (fixed(new$beta) - data$offset) - noise * new$a
    new$eta <- fixed(new$beta) + new$b
    new$value <- joint(new)
    move <- max(abs(new$eta - from) * sqrt(s$curvature))
    if (move < tolerance) {
      kept <- list(b = solved$b %*% profile, error = profile %*% solved$error, B = solved$b[, -1, drop = FALSE])
      return(list(eta = from, beta = new$beta, slopes = s, noise = noise, state = state, solved = kept, z = z, a = new$a,
                  response = z - (fixed(new$beta) - data$offset), fixed = fixed(new$beta), information = information,
                  settled = TRUE, iterations = iteration))
    }
    accepted <- shortened(here, new, joint)
    if (is.null(accepted)) {
      # the given start was bad: from here then; otherwise nothing rises any more
      if (!elsewhere) break
      from <- here$eta
    } else {
      here <- accepted
      from <- here$eta
    }
    elsewhere <- FALSE
  }
  list(eta = here$eta, beta = here$beta, settled = FALSE)
}

shortened <- function(here, new, joint, slack = 1e-7) {
  step <- 1
  for (attempt in 1:20) {
    at <- new
    if (step < 1) {
      for (part in c("beta", "a", "b", "eta")) at[[part]] <- (1 - step) * here[[part]] + step * new[[part]]
      at$value <- joint(at)
    }
    if (at$value >= here$value - slack * (1 + abs(here$value))) return(at)
    step <- step / 2
  }
  NULL
}

# ---- the likelihood ----

# The Laplace approximation of the log-likelihood at given parameters, with its gradient in log variance, log lengthscales
# (as many as the kernel has), log phi and beta. The gradient takes neighbours and inducing inputs as fixed; it is exact as
# k goes to n - 1 and otherwise as near as S is to the covariance that it approximates.
laplace_evaluate <- function(gp, id, data, family, phi, beta, eta = NULL, threads = NA_integer_, gradient = FALSE,
                             tolerance = 1e-5) {
  mode <- laplace_mode(gp, id, data, family, phi, beta, eta, threads, tolerance)
  if (!mode$settled) return(c(mode, loglik = -Inf))
  mode$loglik <- working_loglik(mode$state, mode$solved) +
    sum(family$value(data$y, mode$eta, data$w, phi)) +
    0.5 * sum(log(2 * pi * mode$noise) + mode$noise * mode$slopes$d1^2)
  if (gradient) mode$gradient <- laplace_gradient(mode, gp, id, data, family, phi, threads)
  mode
}

laplace_gradient <- function(mode, gp, id, data, family, phi, threads) {
  s <- mode$slopes
  noise <- mode$noise
  spread <- noise - noise^2 * working_precision(mode$state, id, threads) # posterior variances of eta
  implicit <- through_mode(mode, -spread * s$turn / 2, id, threads)
  # t' dS^-1 z, what comes through the mode, as a difference of two quadratic forms
  y <- rbind(mode$response)
  weight <- 1
  solved <- mode$solved
  if (any(implicit$t != 0)) {
    y <- rbind(mode$response + implicit$t, implicit$t)
    weight <- c(1, -1)
    solved <- working_solve(mode$state, id, y, threads)
  }
  state <- c(mode$state[c("coef", "D", "W", "root")],
             list(weight = weight, b = solved$b, error = solved$error, centred = y - crossprod(solved$b, gp$V)))
  parts <- .Call(C_laplace_derivative, gp, noise, id, state, threads)
  slope <- parts$slope
  if (nrow(gp$inducing)) {
    # K = L L', V = L^-1 k: the adjoint of K is -L^-T Phi L^-1, Phi the lower half of vbar V'
    Phi <- .Call(C_vif_crossproduct, parts$vbar, gp$V, NULL, threads)
    Phi[upper.tri(Phi)] <- 0
    diag(Phi) <- diag(Phi) / 2
    half <- backsolve(gp$chol, Phi, upper.tri = FALSE, transpose = TRUE)
    slope <- slope + .Call(C_laplace_inducing, gp, -t(backsolve(gp$chol, t(half), upper.tri = FALSE, transpose = TRUE)), threads)
  }
  if (length(gp$kernel$lengthscale) == 1) slope <- sum(slope)
  names(slope) <- if (length(slope) > 1) paste0("lengthscale", seq_along(slope)) else "lengthscale"
  # by the noise at fixed z: what the factors say, without the part of t
  direct <- parts$noise - s$d1 * implicit$q + (1 / noise - s$d1^2) / 2
  of_phi <- vapply(family$phi_slopes(data$y, mode$eta, data$w, all_phi(family, phi))[names(phi)], function(own) {
    sum(own$value - direct * noise^2 * own$curvature + implicit$lambda * own$d1)
  }, 0)
  of_beta <- if (!is.null(data$X)) drop(crossprod(data$X, s$d1 + implicit$q))
  c(variance = parts$signal - sum(parts$noise * noise), slope, of_phi, of_beta)
}

# For the derivative h of the log-likelihood to the mode: lambda = (S_latent^-1 + w)^-1 h with the true second derivatives w,
# q = S_latent^-1 lambda, and t with q = S^-1 t.
through_mode <- function(mode, h, id, threads) {
  if (all(h == 0)) return(list(lambda = h, q = h, t = h))
  excess <- if (is.null(mode$slopes$own)) NULL else mode$slopes$curvature - mode$slopes$own
  seen <- h
  for (pass in 1:100) {
    q <- drop(working_solve(mode$state, id, rbind(mode$noise * seen), threads)$solved)
    lambda <- mode$noise * (seen - q)
    if (is.null(excess)) break
    next_seen <- h + excess * lambda
    if (max(abs(next_seen - seen)) <= 1e-9 * max(abs(h))) break
    seen <- next_seen
  }
  list(lambda = lambda, q = q, t = mode$noise * seen)
}
