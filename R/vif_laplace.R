# Laplace: likelihoods of non-Gaussian responses under the VIF approximation, their modes and derivatives.
#
# At the mode eta of the linear predictor the responses y_i act like working responses z_i = eta_i + g_i / w_i with
# Gaussian noise of variance 1 / w_i, where g and w are the first and minus the second derivative of
# log p(y_i | eta_i):
#   log p(y) ~ log N(z; X beta + offset, S) + sum_i log p(y_i | eta_i) - log N(z_i; eta_i, 1 / w_i),
# with S the covariance of the latent process plus noise 1 / w (Zilber and Katzfuss, 2021, for Vecchia approximations).
# Here the VIF approximation is that of the noisy process, as in the Gaussian fit, with a variance for each point: no
# linear system of the size of the data is ever solved, a Newton step is one factorisation of cost
# O(n (k^3 + k^2 m + m^2)), a Gaussian family gives the Gaussian fit, and the result is that of the exact Laplace
# approximation as k goes to n - 1. It serves for starting values, for predictions, and as the preconditioner of the
# more accurate R/vif_laplace_latent.R, which fits use.

# ---- the noisy process ----

# Factors of S for noise variances of the points.
working_state <- function(gp, id, noise, threads) {
  c(.Call(C_laplace_regression, gp, noise, id, TRUE, threads), list(noise = noise))
}

solve_root <- function(root, x) {
  if (!nrow(root)) return(x)
  backsolve(root, forwardsolve(root, x), upper.tri = FALSE, transpose = TRUE)
}

# b, errors and S^-1 y for responses y, one in a row (q x n); with M^-1 as `inverse` a little less exact and faster.
working_solve <- function(state, id, y, threads, inverse = NULL) {
  u <- .Call(C_vif_contrasts, id, state$coef, y, y, threads)
  b <- .Call(C_laplace_crossproduct, state$W, u, 1 / state$D, threads)
  b <- if (is.null(inverse)) solve_root(state$root, b) else inverse %*% b
  error <- u - .Call(C_laplace_combination, b, state$W, threads)
  list(b = b, error = error, solved = .Call(C_laplace_collects, id, state$coef, error / rep(state$D, each = nrow(y))))
}

# Diagonal of S^-1.
working_precision <- function(state, id, threads) {
  k <- nrow(state$coef)
  squares <- .Call(C_laplace_collects, id, -state$coef^2, rbind(1 / state$D))
  if (!nrow(state$W)) return(drop(squares))
  VP <- .Call(C_laplace_collects, id, state$coef, state$W / rep(state$D, each = nrow(state$W)))
  drop(squares) - .Call(C_vif_norm, state$root, VP, threads)
}

working_loglik <- function(state, solved) {
  -0.5 * (length(state$D) * log(2 * pi) + sum(log(state$D)) + 2 * sum(log(diag(state$root))) +
            sum(solved$error[1, ]^2 / state$D) + sum(solved$b[, 1]^2))
}

# ---- the mode ----

# The mode of the latent process, by Newton's method, and of beta too if `beta` is NULL. data: y, w, X, offset, in the
# order of gp$x. Every step smooths the working responses of a linear predictor `from`. As S changes with its noise
# the steps shrink by a constant factor in the end, the smaller the better S approximates; where they grow they are
# damped. A search that finds nothing begins once more, at the mean of the process, where outliers count least.
laplace_mode <- function(gp, id, data, family, phi, beta, eta = NULL, threads = NA_integer_, tolerance = 1e-4,
                         iterations = 100, again = TRUE) {
  p <- NCOL(data$X) * !is.null(data$X)
  from <- if (is.null(eta)) family_guess(family, data) else eta
  # beyond a few units of a log or logit the expansion says nothing
  longest <- if (family$object$link == "identity") Inf else 4
  last <- Inf
  damping <- 1
  for (iteration in seq_len(iterations)) {
    s <- family$slopes(data$y, from, data$w, phi)
    noise <- 1 / s$curvature
    z <- from - data$offset + noise * s$d1
    state <- working_state(gp, id, noise, threads)
    solved <- working_solve(state, id, rbind(z, if (p) t(data$X)), threads)
    information <- if (p) crossprod(data$X, t(solved$solved[-1, , drop = FALSE]))
    if (!p) own <- numeric()
    else own <- if (is.null(beta)) drop(solve(information, crossprod(data$X, solved$solved[1, ]))) else beta
    profile <- c(1, -own)
    a <- drop(profile %*% solved$solved)
    move <- data$offset + z - noise * a - from
    size <- max(abs(move) * sqrt(s$curvature))
    if (is.na(size)) break
    if (size < tolerance) {
      mean <- if (p) drop(data$X %*% own) else 0 * z
      return(list(eta = from, beta = own, slopes = s, noise = noise, state = state, response = z - mean,
                  solved = list(b = solved$b %*% profile, error = profile %*% solved$error,
                                B = solved$b[, -1, drop = FALSE]),
                  information = information, settled = TRUE, iterations = iteration))
    }
    damping <- if (size > last) max(damping / 2, 1 / 64) else min(1, 1.5 * damping)
    last <- size
    if (!is.null(s$own)) {
      # scoring overshoots where the true curvature is far above its expectation: from a step by 1 / N to one by the
      # larger of the two
      more <- pmax(s$own - s$curvature, 0)
      back <- through_mode(more * move, noise, s$curvature + more, smoother(state, id, noise, threads), 1e-2)
      move <- move - noise * (back$l - back$q)
    }
    from <- from + pmin(pmax(damping * move, -longest), longest)
  }
  if (!again) return(list(eta = from, settled = FALSE))
  middle <- data$offset + if (is.null(beta) || !p) robust_line(family_guess(family, data) - data$offset, data$X) else {
    drop(data$X %*% beta)
  }
  laplace_mode(gp, id, data, family, phi, beta, middle, threads, tolerance, 3 * iterations, again = FALSE)
}

# ---- the likelihood ----

# The Laplace approximation of the log-likelihood at given parameters, with its gradient in log variance, log
# lengthscales (as many as the kernel has), log phi and beta, neighbours and inducing inputs held fixed. What the
# mode's own dependence on the parameters adds is a series whose terms shrink as S comes closer to the covariance that
# it approximates; with the default of one pass beyond the first the gradient has errors of 1e-2 in bad cases (m = 0,
# k = 10) and 1e-4 in good ones.
laplace_evaluate <- function(gp, id, data, family, phi, beta, eta = NULL, threads = NA_integer_, gradient = FALSE,
                             tolerance = 1e-4, passes = 1) {
  mode <- laplace_mode(gp, id, data, family, phi, beta, eta, threads, tolerance)
  if (!mode$settled) return(c(mode, loglik = -Inf))
  mode$loglik <- working_loglik(mode$state, mode$solved) +
    sum(family$value(data$y, mode$eta, data$w, phi)) +
    0.5 * sum(log(2 * pi * mode$noise) + mode$noise * mode$slopes$d1^2)
  if (gradient) mode$gradient <- laplace_gradient(mode, gp, id, data, family, phi, threads, passes)
  mode
}

# With L(theta, N) the likelihood for noise N, whose derivative to the working responses vanishes, and the mode a
# fixed point eta = G(eta, theta) = z - N S^-1 (z - mean), the derivative is dL + h' d eta, h = dL/dN dN/d eta, and h'
# d eta = l' dG where l = h + (dG/d eta)' l. Of dG/d eta the part that is not an error of approximation is (1 - N w)
# (I - S^-1 N), w minus the true second derivatives, nothing where these are the curvatures.
laplace_gradient <- function(mode, gp, id, data, family, phi, threads, passes) {
  s <- mode$slopes
  noise <- mode$noise
  to_noise <- -noise^2 * s$turn
  z <- mode$response
  parts <- first <- laplace_adjoint(mode, gp, id, rbind(z), 1, threads)
  h <- (first$noise + (1 / noise - s$d1^2) / 2) * to_noise
  back <- list(l = h, q = h)
  error <- 0
  for (pass in seq_len(if (all(h == 0)) 0 else passes)) {
    back <- through_mode(h + error, noise, s$own, smoother(mode$state, id, noise, threads), 1e-9)
    t <- noise * back$l
    # t' dS^-1 z as a difference of two quadratic forms
    parts <- laplace_adjoint(mode, gp, id, rbind(z + t, t), c(1, -1), threads)
    error <- (parts$noise - first$noise - s$d1 * back$q) * to_noise
  }
  slope <- feature_slopes(parts$slope, parts$vbar, gp, threads)
  of_phi <- vapply(family$phi_slopes(data$y, mode$eta, data$w, phi), function(own) {
    by_noise <- parts$noise + (1 / noise - s$d1^2) / 2 - back$q * s$d1
    sum(own$value - by_noise * noise^2 * own$curvature + noise * (back$l - back$q) * own$d1)
  }, 0)
  of_beta <- if (!is.null(data$X)) drop(crossprod(data$X, s$d1 + back$q))
  c(variance = parts$signal - sum(parts$noise * noise), slope, of_phi[setdiff(names(phi), names(family$fixed))],
    of_beta)
}

laplace_adjoint <- function(mode, gp, id, y, weight, threads) {
  solved <- if (length(weight) == 1) mode$solved else working_solve(mode$state, id, y, threads)
  state <- c(mode$state[c("coef", "D", "W", "root")],
             list(weight = weight, b = solved$b, error = solved$error,
                  centred = y - .Call(C_laplace_combination, solved$b, gp$V, threads)))
  .Call(C_laplace_derivative, gp, mode$noise, id, state, threads)
}

# Derivatives to the log lengthscales, with what comes through the features V = L^-1 k and their derivatives vbar:
# through k, and through K = L L' of the inducing inputs, whose adjoint is -L^-T Phi L^-1, Phi the lower half of vbar
# V'.
feature_slopes <- function(slope, vbar, gp, threads) {
  if (nrow(gp$inducing)) {
    slope <- slope + .Call(C_laplace_features, gp, vbar, threads)
    Phi <- .Call(C_laplace_crossproduct, vbar, gp$V, NULL, threads)
    Phi[upper.tri(Phi)] <- 0
    diag(Phi) <- diag(Phi) / 2
    half <- backsolve(gp$chol, Phi, upper.tri = FALSE, transpose = TRUE)
    adjoint <- -t(backsolve(gp$chol, t(half), upper.tri = FALSE, transpose = TRUE))
    slope <- slope + .Call(C_laplace_inducing, gp, adjoint, threads)
  }
  stats::setNames(slope, if (length(slope) > 1) paste0("lengthscale", seq_along(slope)) else "lengthscale")
}

# r to the pair that through_mode() asks for.
smoother <- function(state, id, noise, threads) function(r) {
  x <- drop(working_solve(state, id, rbind(noise * r), threads)$solved)
  list(x = x, Kx = noise * (r - x))
}

# l = h + (1 - N w) (l - q) and q = S^-1 N l. With K = S - N and t = N (l - q) this is (K^-1 + w) t = h and q = K^-1 t:
# by conjugate gradients, as w may be many times 1 / N, with a step of scoring as their preconditioner: smooth(r) gives
# x = S^-1 N r, or nearly, and K x, which then is (K^-1 + 1 / N)^-1 r.
through_mode <- function(h, noise, own, smooth, tolerance = 1e-6) {
  if (all(h == 0)) return(list(l = h, q = h))
  new <- smooth(h)
  scored <- list(l = h, q = new$x)
  if (is.null(own)) return(scored)
  t <- q <- 0 * h
  r <- h
  p <- new
  for (pass in 1:100) {
    fall <- p$x + own * p$Kx
    # K^-1 + w is positive definite at a maximum
    if (!isTRUE(sum(p$Kx * fall) > 0)) break
    size <- sum(r * p$Kx) / sum(p$Kx * fall)
    t <- t + size * p$Kx
    q <- q + size * p$x
    before <- sum(r * new$Kx)
    last <- r
    r <- r - size * fall
    if (max(abs(r)) <= tolerance * max(abs(h))) break
    new <- smooth(r)
    turn <- sum((r - last) * new$Kx) / before # smoothing that is not exact is not the same from step to step
    p <- list(x = new$x + turn * p$x, Kx = new$Kx + turn * p$Kx)
  }
  if (all(t == 0)) scored else list(l = t / noise + q, q = q)
}
