# Computes vignettes/vif.rds, what the vignette "vif" shows and takes minutes: how far the VIF approximation is from
# the exact process with residual-correlation and with Euclidean neighbours.
#
#   Rscript tools/vif_vignette.R
#
# For every setting: the Kullback-Leibler divergence of the exact distribution of n observations from the
# approximation, and the log score of predictions at held-out points less that of the exact process, over a number
# of data sets drawn from it.

library(vecchiann)

n <- 1200
held <- 300
draws <- 20
m <- 100
neighbours <- c(5, 10, 15, 20, 30, 40)
problems <- list(
  "Matern 3/2, d = 2" = list(d = 2, kernel = gp_kernel("matern32", 1, 0.2), nugget = 0.01),
  "Matern 5/2, d = 2" = list(d = 2, kernel = gp_kernel("matern52", 1, 0.2), nugget = 0.01),
  "Matern 3/2, d = 5" = list(d = 5, kernel = gp_kernel("matern32", 1, 0.8), nugget = 0.01),
  "Gaussian, d = 5" = list(d = 5, kernel = gp_kernel("rbf", 1, 0.5), nugget = 0.01)
)

covariance <- function(x, kernel) {
  kernel$variance * residual_correlation(residual_gp(x, kernel, inducing = 0))
}

# KL(N(0, S) || N(0, S_vif)) = (tr(S_vif^-1 S) - n + log det S_vif - log det S) / 2 by the factor of S_vif.
divergence <- function(gp, nn, nugget, S, log_det) {
  f <- vif_factor(gp, nn, nugget)
  BS <- as.matrix(f$B %*% S)
  W <- as.matrix(Matrix::tcrossprod(gp$V, f$B))
  M <- diag(nrow(W)) + W %*% (t(W) / f$D)
  WD <- t(t(W) / f$D)
  inner <- WD %*% as.matrix(Matrix::tcrossprod(BS, f$B)) %*% t(WD)
  trace <- sum(Matrix::rowSums(BS * f$B) / f$D) - sum(diag(solve(M, inner)))
  (trace - n + sum(log(f$D)) + as.numeric(determinant(M)$modulus) - log_det) / 2
}

score <- function(mean, variance, truth) mean(-stats::dnorm(truth, mean, sqrt(variance), log = TRUE))

# Predictions of the approximation from its joint distribution: observations first, then the held-out points one by
# one, each conditioned on 2k neighbours among the observations.
vif_scores <- function(gp, nn, found, new, Y, truth, nugget) {
  f <- vif_factor(gp, nn, nugget)
  W <- as.matrix(Matrix::tcrossprod(gp$V, f$B))
  M <- diag(nrow(W)) + W %*% (t(W) / f$D)
  posterior <- solve(M, W %*% (as.matrix(f$B %*% Y) / f$D))
  features <- residual_gp(rbind(gp$x, new), gp$kernel, gp$inducing)
  inside <- seq_len(n)
  V_new <- features$V[, -inside, drop = FALSE]
  r <- covariance(features$x, gp$kernel) - crossprod(features$V)
  mean <- matrix(0, nrow(new), ncol(Y))
  variance <- numeric(nrow(new))
  for (i in seq_len(nrow(new))) {
    N <- found$id[i, ]
    C <- r[N, N] + diag(nugget, length(N))
    a <- solve(C, r[N, n + i])
    w <- V_new[, i] - gp$V[, N] %*% a
    mean[i, ] <- a %*% Y[N, ] + crossprod(w, posterior)
    variance[i] <- r[n + i, n + i] + nugget - sum(a * r[N, n + i]) + sum(w * solve(M, w))
  }
  score(mean, variance, truth)
}

results <- NULL
set.seed(11)
for (name in names(problems)) {
  problem <- problems[[name]]
  x <- matrix(runif(n * problem$d), n)
  x <- x[order_maxmin(x), ]
  new <- matrix(runif(held * problem$d), held)
  S_all <- covariance(rbind(x, new), problem$kernel) + diag(problem$nugget, n + held)
  Y_all <- crossprod(chol(S_all), matrix(rnorm((n + held) * draws), n + held))
  Y <- Y_all[1:n, ]
  truth <- Y_all[-(1:n), ]
  S <- S_all[1:n, 1:n]
  cross <- S_all[1:n, -(1:n)]
  log_det <- as.numeric(determinant(S)$modulus)
  weights <- solve(S, cross)
  exact <- score(crossprod(weights, Y), 1 + problem$nugget - colSums(cross * weights), truth)
  gp <- residual_gp(x, problem$kernel, inducing = m, seed = 1)
  searched <- list(residual = gp, Euclidean = residual_gp(x, problem$kernel, inducing = 0))
  for (kind in names(searched)) {
    for (k in neighbours) {
      nn <- residual_knn(searched[[kind]], k, predecessors = TRUE, progress = FALSE)
      found <- residual_knn(searched[[kind]], 2 * k, newdata = new, progress = FALSE)
      results <- rbind(results, data.frame(
        problem = name, neighbours = kind, k = k, divergence = divergence(gp, nn, problem$nugget, S, log_det),
        score = vif_scores(gp, nn, found, new, Y, truth, problem$nugget) - exact
      ))
      print(results[nrow(results), ], row.names = FALSE)
    }
  }
}
attr(results, "setting") <- c(n = n, held = held, draws = draws, m = m)
saveRDS(results, "vignettes/vif.rds")
