# The Kullback-Leibler divergence of the exact distribution of noisy observations from their VIF approximation, for
# bench/divergence.R and tools/divergence_vignette.R.

# The kinds of conditioning sets that are compared: functions of the residual process, the size and the noise.
sets_of <- list(
  Euclidean = function(gp, k, nugget) {
    residual_knn(residual_gp(gp$x, gp$kernel, inducing = 0), k, predecessors = TRUE, progress = FALSE)
  },
  residual = function(gp, k, nugget) residual_knn(gp, k, predecessors = TRUE, progress = FALSE),
  selected = function(gp, k, nugget) conditioning_sets(gp, k, nugget, progress = FALSE)
)

# The covariance of observations at x, with the logarithm of its determinant.
exact_process <- function(x, kernel, nugget) {
  S <- kernel$variance * residual_correlation(residual_gp(x, kernel, inducing = 0))
  diag(S) <- diag(S) + nugget
  list(S = S, log_det = as.numeric(determinant(S)$modulus))
}

# KL(N(0, S) || N(0, S_vif)) = (tr(S_vif^-1 S) - n + log det S_vif - log det S) / 2 by the factor of S_vif.
divergence <- function(gp, nn, nugget, exact) {
  f <- vif_factor(gp, nn, nugget)
  BS <- as.matrix(f$B %*% exact$S)
  W <- as.matrix(Matrix::tcrossprod(gp$V, f$B))
  WD <- t(t(W) / f$D)
  M <- diag(nrow(W)) + tcrossprod(WD, W)
  inner <- WD %*% as.matrix(Matrix::tcrossprod(BS, f$B)) %*% t(WD)
  trace <- sum(Matrix::rowSums(BS * f$B) / f$D) - sum(diag(solve(M, inner)))
  (trace - nrow(BS) + sum(log(f$D)) + as.numeric(determinant(M)$modulus) - exact$log_det) / 2
}
