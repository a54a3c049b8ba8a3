# Laplace approximation of the noise-free process at the cost of that of the noisy one. The prior is the VIF
# approximation of the process itself (Gyger, Furrer and Sigrist, 2025): with noise-free conditioning sets it is far
# closer to the exact process than that of the noisy one (2,000 counts, d = 2, m = 45: log-likelihood wrong by 0.03 at
# k = 15, against 2.4 at k = 30). The VIF approximation S of the noisy process is so close to A = latent covariance +
# noise that it is a preconditioner with which conjugate gradients take a handful of steps, and log det A = log det S
# + a small rest, by stochastic Lanczos quadrature with draws from S; derivatives of the rest are averages over the
# same draws, as differences from those of S.

# Variance added to every point's latent process, relative to the kernel's, so that copies of a point are harmless.
latent_jitter <- 1e-8

# As laplace_evaluate(), with `id` the sets of the latent process and `wide` those of the noisy one. Random numbers
# are the same in every evaluation. `state` is a working state for parameters close by, with which the mode is found.
# `refine` takes nearly all of their variance out of the log-likelihood, not of the
# gradient, at about the cost of another evaluation without it; there are more draws then, up to five times as many,
# where the standard error of the log-likelihood is above `most_se`.
latent_evaluate <- function(gp, id, wide, data, family, phi, beta, eta = NULL, threads = NA_integer_, gradient = FALSE,
                            tolerance = 1e-4, probes = 24, seed = 1, jitter = latent_jitter, refine = FALSE,
                            most_se = 0.03, state = NULL) {
  slack <- rep(jitter * gp$kernel$variance, length(data$y))
  latent <- .Call(C_laplace_regression, gp, slack, id, FALSE, threads)
  mode <- latent_mode(gp, id, wide, latent, data, family, phi, beta, eta, threads, tolerance, state)
  if (!mode$settled) return(c(mode, loglik = -Inf))
  draw <- function(probes, seed) latent_draws(mode, wide, gp, probes, seed, threads, tolerance)
  drawn <- draw(probes, seed)
  rest <- if (refine) refined_rest(mode, drawn, draw, seed, gp, id, wide, latent, threads, 2 * most_se) else {
    list(value = mean(drawn$log), se = stats::sd(drawn$log) / sqrt(probes))
  }
  logdet <- sum(log(mode$state$D)) + 2 * sum(log(diag(mode$state$root))) + rest$value
  mode$loglik <- sum(family$value(data$y, mode$eta, data$w, phi)) - sum(mode$a * mode$b) / 2 -
    (logdet - sum(log(mode$noise))) / 2
  mode$se <- rest$se / 2
  if (gradient) mode$gradient <- latent_gradient(mode, drawn, gp, id, wide, latent, slack, data, family, phi, threads)
  mode
}

# x to A x for A = V'V + B^-1 D B'^-1 + noise, x with a vector in each row.
latent_system <- function(gp, id, latent, noise, threads) function(x) {
  up <- .Call(C_laplace_solves, id, latent$coef, x, TRUE) * rep(latent$D, each = nrow(x))
  .Call(C_laplace_solves, id, latent$coef, up, FALSE) + x * rep(noise, each = nrow(x)) +
    .Call(C_laplace_combination, .Call(C_laplace_crossproduct, gp$V, x, NULL, threads), gp$V, threads)
}

# The mode b of the latent process and a, the inverse of its covariance times b, by Newton's method (with expected
# curvatures: scoring). Linear systems are solved to a hundredth of what a step changes, with b made from a, so that
# they are a pair however exact; the mode is where a is the slope of the log density of the responses. For families
# whose log density is not concave, such as Student's t, or whose expansions overshoot, steps are halved until the joint
# log density rises, so that the search ends at a maximum from any start (Vanhatalo, Jylanki and Vehtari, 2009). If the
# first step is worse than b = 0 the search starts there, and once more if it fails.
latent_mode <- function(gp, id, wide, latent, data, family, phi, beta, eta, threads, tolerance, state = NULL,
                        iterations = 100, again = TRUE) {
  p <- NCOL(data$X) * !is.null(data$X)
  fail <- function() {
    if (!again) return(list(eta = from, settled = FALSE))
    latent_mode(gp, id, wide, latent, data, family, phi, beta, fixed, threads, tolerance, NULL, 3 * iterations,
                again = FALSE)
  }
  fixed <- data$offset + if (p) drop(data$X %*% beta) else 0
  joint <- function(at) sum(family$value(data$y, fixed + at$b, data$w, phi)) - sum(at$a * at$b) / 2
  from <- if (is.null(eta)) family_guess(family, data) else eta
  here <- list(a = 0 * from, b = 0 * from)
  height <- joint(here)
  inverse_of <- function(state) if (!is.null(state) && nrow(state$root)) chol2inv(t(state$root))
  inverse <- inverse_of(state)
  own <- FALSE # whether `state` is one of these parameters
  renew <- function(noise) {
    own <<- TRUE
    state <<- working_state(gp, wide, noise, threads)
    inverse <<- inverse_of(state)
  }
  precondition <- function(r) working_solve(state, wide, r, threads, inverse)$solved
  for (iteration in seq_len(iterations)) {
    s <- family$slopes(data$y, from, data$w, phi)
    noise <- 1 / (s$search %or% s$curvature)
    if (anyNA(noise)) break
    if (iteration > 1 && max(abs(s$d1 - here$a) / sqrt(s$curvature)) < 0.1 * tolerance) break
    # an old preconditioner serves as long as the noise is about the same
    if (is.null(state) || mean(log(noise / state$noise)^2) > 0.1) renew(noise)
    multiply <- latent_system(gp, id, latent, noise, threads)
    z <- from - fixed + noise * s$d1
    start <- if (iteration > 1) here$a else s$d1
    found <- conjugate_gradients(multiply, precondition, rbind(z), 0.01, start = rbind(start))
    new <- list(a = drop(found$x), b = z - noise * drop(found$x) - drop(found$left))
    reached <- joint(new)
    rises <- function() isTRUE(reached >= height - 1e-8 * (1 + abs(height))) # rounding must not stop the last steps
    halvings <- 0
    if (iteration == 1 && !rises()) {
      new <- here
      reached <- height
    }
    while (!rises() && halvings < 30) {
      halvings <- halvings + 1
      new <- list(a = (new$a + here$a) / 2, b = (new$b + here$b) / 2)
      reached <- joint(new)
    }
    if (halvings == 30) return(fail())
    here <- new
    height <- reached
    from <- fixed + here$b
  }
  if (anyNA(noise) || iteration == iterations) return(fail())
  noise <- 1 / s$curvature
  # draws from a process of other noise than the mode's would make the log-likelihood a rough function
  if (!own || !identical(noise, state$noise)) renew(noise)
  z <- here$b + noise * s$d1
  multiply <- latent_system(gp, id, latent, noise, threads)
  solved <- working_solve(state, wide, rbind(z, if (p) t(data$X)), threads)
  c(here, list(
    eta = from, beta = beta, slopes = s, noise = noise, state = state, response = z, multiply = multiply,
    precondition = precondition, settled = TRUE, iterations = iteration,
    smooth = function(r) {
      found <- conjugate_gradients(multiply, precondition, rbind(noise * r), max(10 * tolerance, 1e-9))
      list(x = drop(found$x), Kx = noise * r - drop(found$left) - noise * drop(found$x))
    },
    solved = list(b = solved$b[, 1, drop = FALSE], error = solved$error[1, , drop = FALSE],
                  B = solved$b[, -1, drop = FALSE]),
    information = if (p) crossprod(data$X, t(solved$solved[-1, , drop = FALSE]))))
}

# Draws y from N(0, S), S^-1 y, A^-1 y, and the terms of the quadrature.
latent_draws <- function(mode, wide, gp, probes, seed, threads, tolerance) {
  n <- length(mode$noise)
  m <- nrow(gp$V)
  y <- with_seed(seed, {
    e <- normals(probes, n) * rep(sqrt(mode$state$D), each = probes)
    .Call(C_laplace_solves, wide, mode$state$coef, e, FALSE) +
      .Call(C_laplace_combination, normals(m, probes), gp$V, threads)
  })
  found <- conjugate_gradients(mode$multiply, mode$precondition, y, max(10 * tolerance, 1e-6))
  list(y = y, by_A = found$x, log = found$log, linear = found$linear)
}

# tr log(I + E) for E = S^-1/2 A S^-1/2 - I. Nearly all variance of its estimate is that of the draws' z'Ez, whose
# expectation tr E is known: control variates leave the terms of second order. With S = V'V + R_S, R_S^-1 = P = B'B of
# the noisy process, A = V'V + R + N and Y = V P,
#   tr E = tr P (R + N) - n + m - tr M^-1 - tr M^-1 Y (R + N) Y'.
# A row of B, which is regression on a set, has variance 1 under the process plus noise; under R, its approximation, a
# little more or less: tr P (R + N) - n is the sum of these differences, of which some rows, evenly spaced, say enough.
refined_rest <- function(mode, drawn, draw, seed, gp, id, wide, latent, threads, most_se, rows = 200, chunk = 48) {
  n <- length(mode$noise)
  m <- nrow(gp$V)
  state <- mode$state
  # x (R + N) x' for each row x
  variance <- function(x) {
    drop(.Call(C_laplace_solves, id, latent$coef, x, TRUE)^2 %*% latent$D) + drop(x^2 %*% mode$noise)
  }
  in_chunks <- function(which, f) unlist(lapply(split(which, (seq_along(which) - 1) %/% chunk), f), use.names = FALSE)
  pick <- unique(round(seq(1, n, length.out = min(rows, n))))
  excess <- in_chunks(pick, function(pick) {
    x <- matrix(0, length(pick), n)
    x[cbind(seq_along(pick), pick)] <- 1
    for (slot in seq_len(ncol(wide))) {
      of <- wide[pick, slot]
      there <- which(!is.na(of))
      x[cbind(there, of[there])] <- -state$coef[slot, pick[there]]
    }
    variance(x) / state$D[pick] - 1
  })
  known <- n * mean(excess)
  if (m) {
    inverse <- forwardsolve(state$root, diag(m))
    known <- known + m - sum(inverse^2) - sum(in_chunks(seq_len(m), function(rows) {
      WD <- .Call(C_laplace_combination, t(inverse[rows, , drop = FALSE]), state$W, threads)
      variance(.Call(C_laplace_collects, wide, state$coef, WD / rep(state$D, each = length(rows))))
    }))
  }
  probes <- length(drawn$log)
  rest <- drawn$log - drawn$linear
  more <- min(length(rest) * (stats::var(rest) / length(rest) / most_se^2 - 1), 4 * length(rest))
  more <- 8 * ceiling(max(more, 0) / 8) # whole vectors of numbers cost least
  while (more > 0) {
    # a few at a time: memory grows with their number
    few <- min(more, probes)
    seed <- seed + 1
    more <- more - few
    drawn <- draw(few, seed)
    rest <- c(rest, drawn$log - drawn$linear)
  }
  sampled <- if (length(pick) < n) n * stats::sd(excess) / sqrt(length(pick)) else 0
  list(value = known + mean(rest), se = sqrt(stats::var(rest) / length(rest) + sampled^2))
}

latent_gradient <- function(mode, drawn, gp, id, wide, latent, slack, data, family, phi, threads) {
  s <- mode$slopes
  noise <- mode$noise
  probes <- nrow(drawn$y)
  solved <- working_solve(mode$state, wide, drawn$y, threads)
  # of -log det S / 2 and the average of the same over the draws
  control <- .Call(C_laplace_derivative, gp, noise, wide,
                   c(mode$state[c("coef", "D", "W", "root")],
                     list(weight = rep(1 / probes, probes), b = solved$b, error = solved$error,
                          centred = drawn$y - .Call(C_laplace_combination, solved$b, gp$V, threads))), threads)
  diagonal <- colMeans(drawn$by_A * solved$solved) - 2 * control$noise # of A^-1
  spread <- pmin(pmax(noise - noise^2 * diagonal, 0), noise)
  back <- through_mode(-spread * s$turn / 2, noise, s$own, mode$smooth)
  left <- rbind(s$d1 / 2 + back$q, drawn$by_A)
  right <- rbind(s$d1, solved$solved)
  weight <- c(1, rep(-0.5 / probes, probes))
  up_left <- .Call(C_laplace_solves, id, latent$coef, left, TRUE)
  up_right <- .Call(C_laplace_solves, id, latent$coef, right, TRUE)
  down <- function(up) .Call(C_laplace_solves, id, latent$coef, up * rep(latent$D, each = nrow(up)), FALSE)
  own <- .Call(C_laplace_pair_sums, id, weight, up_left, up_right, down(up_left), down(up_right), threads)
  V_left <- .Call(C_laplace_crossproduct, gp$V, left, NULL, threads)
  V_right <- .Call(C_laplace_crossproduct, gp$V, right, NULL, threads)
  more <- list(before = control$vbar, left = cbind(V_left, V_right),
               right = rbind(weight * right, weight * left))
  parts <- .Call(C_laplace_derivative, gp, slack, id, c(latent, own, more), threads)
  signal <- sum(weight * (colSums(V_left * V_right) + drop((up_left * up_right) %*% latent$D)))
  slope <- feature_slopes(parts$slope + control$slope, parts$vbar, gp, threads)
  of_phi <- vapply(family$phi_slopes(data$y, mode$eta, data$w, phi), function(own) {
    sum(own$value - spread * own$curvature / 2 + noise * (back$l - back$q) * own$d1)
  }, 0)
  of_beta <- if (!is.null(data$X)) drop(crossprod(data$X, s$d1 + back$q))
  c(variance = signal + control$signal - sum(control$noise * noise), slope,
    of_phi[setdiff(names(phi), names(family$fixed))], of_beta)
}

# Solutions of A x = r, a right-hand side in each row, and for each of them with z = S^-1/2 r and E = S^-1/2 A S^-1/2 -
# I the terms log = z' log(I + E) z, by the Lanczos matrix that the steps make, and linear = z' E z. `left` is r - A x,
# smaller by `tolerance` than at the start.
conjugate_gradients <- function(multiply, precondition, r, tolerance, most = 200, start = NULL) {
  x <- 0 * r
  if (!is.null(start)) {
    x <- start
    r <- r - multiply(x)
  }
  p <- z <- precondition(r)
  first <- rz <- rowSums(r * z)
  alphas <- betas <- NULL
  for (step in seq_len(most)) {
    Ap <- multiply(p)
    alpha <- ifelse(rz > 0, rz / rowSums(p * Ap), 0)
    x <- x + alpha * p
    r <- r - alpha * Ap
    z <- precondition(r)
    new <- rowSums(r * z)
    beta <- ifelse(rz > 0, new / rz, 0)
    alphas <- cbind(alphas, alpha)
    betas <- cbind(betas, beta)
    rz <- new
    if (all(rz <= tolerance^2 * first)) break
    p <- z + beta * p
  }
  list(x = x, left = r, steps = step, linear = first * ifelse(alphas[, 1] > 0, 1 / alphas[, 1] - 1, 0),
       log = first * vapply(seq_len(nrow(x)), function(i) lanczos_log(alphas[i, ], betas[i, ]), 0))
}

# e1' log(T) e1 for the Lanczos matrix T of conjugate gradients with these steps.
lanczos_log <- function(alpha, beta) {
  size <- match(FALSE, alpha > 0, nomatch = length(alpha) + 1) - 1 # what is solved exactly goes on with zeros
  if (!size) return(0)
  alpha <- alpha[seq_len(size)]
  beta <- beta[seq_len(size)]
  T <- diag(1 / alpha + c(0, beta[-size] / alpha[-size]), size)
  off <- sqrt(pmax(beta[-size], 0)) / alpha[-size]
  T[cbind(seq_len(size - 1), seq_len(size - 1) + 1)] <- T[cbind(seq_len(size - 1) + 1, seq_len(size - 1))] <- off
  e <- eigen(T, symmetric = TRUE)
  sum(e$vectors[1, ]^2 * log(pmax(e$values, 1e-300)))
}
