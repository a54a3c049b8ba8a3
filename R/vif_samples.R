# Samples: joint draws of the process at new inputs, given the observations.

# Samples of the noise-free process given the observations: the inducing variables from their posterior,
# then one new point after the other given its neighbours. Copies of a point share its sample.
joint_samples <- function(object, new, k, nsim, threads) {
  gp <- object$gp
  n <- object$n
  group <- row_groups(new$x)
  x <- new$x[!duplicated(group), , drop = FALSE]
  order <- order_maxmin(in_lengthscales(x, object$kernel))
  place <- match(group, group[!duplicated(group)][order])
  x <- x[order, , drop = FALSE]
  count <- nrow(x)

  both <- new_residual_gp(rbind(gp$x, x), gp$kernel, gp$inducing, 0, gp$jitter, threads)
  # a hundred-millionth of the variance as noise keeps close new points apart
  slack <- rep(1e-8 * gp$kernel$variance, count)
  noise <- c(observation_noise(object), slack)
  selected <- object$neighbours == "selected"
  if (is.null(k)) k <- if (selected) max(30L, (5L * object$k) %/% 3L) else 2L * object$k
  k <- min(k, nrow(both$x) - 1L)
  nn <- residual_knn(searched_process(object$neighbours, both), k * if (selected) 4 else 1, predecessors = TRUE,
                     queries = n + seq_len(count), threads = threads_or_null(threads), progress = FALSE)
  if (selected) {
    nn <- conditioning_sets(both, k, noise, pool = nn, queries = n + seq_len(count), threads = threads_or_null(threads),
                            progress = FALSE)
  }
  id <- unname(nn$id)
  own <- list(x = x, V = both$V[, -seq_len(n), drop = FALSE], variance = both$variance[-seq_len(n)])
  f <- .Call(C_vif_regression, both, noise, id, own, slack, threads)
  W <- .Call(C_vif_contrasts, id, f$coef, both$V, own$V, threads)
  observed <- new_id <- id
  observed[id > n] <- NA
  new_id[id <= n] <- NA
  known <- -.Call(C_vif_contrasts, observed, f$coef, rbind(object$state$residual),
                  matrix(0, 1, count), threads)
  B <- methods::as(contrast_matrix(new_id - n, f$coef), "triangularMatrix")

  m <- length(object$state$b)
  z <- normals(m, nsim)
  if (m) z <- object$state$b + backsolve(object$state$root, z, upper.tri = FALSE, transpose = TRUE)
  noise <- sqrt(f$D) * normals(count, nsim)
  samples <- as.matrix(Matrix::solve(B, drop(known) + crossprod(W, z) + noise))
  samples <- samples[place, , drop = FALSE]
  if (!is.null(new$X)) samples <- samples + drop(new$X %*% object$coefficients)
  unname(samples)
}
