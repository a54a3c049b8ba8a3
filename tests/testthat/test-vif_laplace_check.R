# Against the dense Laplace approximation with the VIF covariance of the noise-free process.
latent_covariance <- function(gp, id, jitter = 1e-8) {
  f <- vif_factor(gp, cbind(seq_len(nrow(id)), id), jitter * gp$kernel$variance)
  root <- as.matrix(Matrix::solve(f$B, diag(sqrt(f$D))))
  crossprod(gp$V) + tcrossprod(root)
}

test_that("sparse factors and conjugate gradients give the dense Laplace approximation of the noise-free process", {
  on_one_thread()
  set.seed(21)
  n <- 250
  x <- cbind(runif(n), runif(n))
  X <- cbind(one = rep(1, n))
  field <- drop(crossprod(chol(oracle_covariance(gp_kernel("matern32", 1, 0.3), x, x) + diag(1e-8, n)), rnorm(n)))
  for (case in list(list(binomial(), rbinom(n, 1, plogis(field))), list(poisson(), rpois(n, exp(field))),
                    list(student_t(4), field + 0.3 * rt(n, 4)))) {
    fit <- vif_fit(case[[2]], x, X = X, family = case[[1]], inducing = 15, k = 8, progress = FALSE)
    rows <- fit$order
    K <- latent_covariance(fit$gp, fit$latent_id)
    data <- list(y = fit$y[rows], w = fit$weights[rows], X = X, offset = rep(0, n))
    family <- laplace_family(case[[1]])
    phi <- all_phi(family, fit$phi)
    inverse <- solve(K)
    fixed <- fit$coefficients[[1]]
    b <- numeric(n)
    for (iteration in 1:100) {
      s <- family$slopes(data$y, fixed + b, data$w, phi)
      b <- b + solve(inverse + diag(s$curvature), s$d1 - drop(inverse %*% b))
    }
    W <- family$slopes(data$y, fixed + b, data$w, phi)$curvature
    dense <- sum(family$value(data$y, fixed + b, data$w, phi)) - drop(b %*% inverse %*% b) / 2 -
      as.numeric(determinant(diag(n) + K * rep(W, each = n))$modulus) / 2
    exact <- latent_loglik(fit, "exact")
    expect_equal(c(exact), dense, tolerance = 1e-6)
    expect_equal(attr(exact, "linear.predictors")[rows], fixed + b, tolerance = 1e-5)
    iterative <- latent_loglik(fit, "iterative", probes = 100)
    expect_equal(attr(iterative, "linear.predictors"), attr(exact, "linear.predictors"), tolerance = 1e-5)
    expect_lt(abs(iterative - exact), max(4 * attr(iterative, "se"), 1e-6))
    expect_lt(attr(iterative, "se"), 0.02)
    expect_identical(latent_loglik(fit, "iterative", probes = 100), iterative)
    expect_identical(fit$loglik_se, 0)
    expect_equal(fit$loglik, c(exact), tolerance = 1e-6)
  }
  expect_error(latent_loglik(1), "`object` must be a vif object")
})

test_that("conjugate gradients solve, and their Lanczos matrix gives the log-determinant of a small matrix", {
  set.seed(2)
  A <- crossprod(matrix(rnorm(64), 8)) + diag(8)
  r <- diag(8)
  found <- conjugate_gradients(function(x) x %*% A, identity, r, 1e-12)
  expect_equal(found$x, solve(A), tolerance = 1e-8)
  expect_equal(sum(found$log), as.numeric(determinant(A)$modulus), tolerance = 1e-8)
})

test_that("the known trace leaves terms of second order to the random vectors", {
  on_one_thread()
  set.seed(22)
  n <- 400
  x <- cbind(runif(n), runif(n))
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, gp_kernel("matern32", 1, 0.2), 15, seed = 1)
  id <- unname(residual_knn(gp, 15, predecessors = TRUE, progress = FALSE)$id)
  data <- list(y = rpois(n, exp(sin(6 * x[, 1]))), w = rep(1, n), X = NULL, offset = numeric(n))
  evaluate <- function(seed, ...) {
    latent_evaluate(gp, id, id, data, laplace_family(poisson()), numeric(), numeric(), threads = 1L, tolerance = 1e-8,
                    seed = seed, ...)
  }
  latent <- .Call(C_vif_regression, gp, rep(latent_jitter, n), id, NULL, NULL, 1L)
  exact <- latent_laplace(sparse_system(gp, id, latent), laplace_family(poisson()), data, numeric(), numeric(n),
                          numeric(n))$loglik
  plain <- lapply(1:6, evaluate)
  refined <- lapply(1:6, evaluate, refine = TRUE)
  error <- function(found) vapply(found, `[[`, 0, "loglik") - exact
  se <- function(found) vapply(found, `[[`, 0, "se")
  expect_lt(max(abs(error(refined)) / se(refined)), 4)
  expect_lt(max(se(refined)), min(se(plain)) / 3)
  expect_lt(mean(error(refined)^2), mean(error(plain)^2) / 25)
})

test_that("rough shares, many close to 0 or 1, have the dense approximation's mode and log-likelihood", {
  on_one_thread()
  n <- 80
  family <- laplace_family(beta_family())
  for (case in list(c(1, 3, 0.1), c(4, 6, 0.03), c(2, 6, 0.1))) {
    set.seed(case[1])
    x <- cbind(runif(n), runif(n))
    field <- drop(crossprod(chol(case[2] * exp(-as.matrix(dist(x)) / case[3]) + diag(1e-9, n)), rnorm(n)))
    y <- pmin(rbeta(n, 10 * plogis(field), 10 * plogis(-field)), 1 - 1e-16)
    for (laplace in c("auto", "noisy")) {
      fit <- suppressWarnings(vif_fit(y, x, X = 1, family = beta_family(), inducing = 20, k = 15, laplace = laplace,
                                      progress = FALSE), classes = "vif_white")
      expect_true(fit$converged)
      expect_lt(nrow(fit$history), 40)
      rows <- fit$order
      K <- latent_covariance(fit$gp, fit$latent_id)
      inverse <- solve(K)
      phi <- all_phi(family, fit$phi)
      slopes <- function(b) family$slopes(y[rows], fit$coefficients[[1]] + b, 1, phi)
      joint <- function(b) {
        sum(family$value(y[rows], fit$coefficients[[1]] + b, 1, phi)) - drop(b %*% inverse %*% b) / 2
      }
      b <- numeric(n)
      for (iteration in 1:100) {
        s <- slopes(b)
        step <- solve(inverse + diag(pmax(s$own, 0.05)), s$d1 - drop(inverse %*% b))
        while (joint(b + step) < joint(b) - 1e-9) step <- step / 2
        b <- b + step
      }
      s <- slopes(b)
      expect_gt(max(s$own / s$curvature), 2) # where scoring overshoots
      dense <- joint(b) - as.numeric(determinant(diag(n) + K * rep(s$curvature, each = n))$modulus) / 2
      exact <- latent_loglik(fit, "exact")
      expect_equal(c(exact), dense, tolerance = 1e-6)
      expect_equal(attr(exact, "linear.predictors")[rows], fit$coefficients[[1]] + b, tolerance = 1e-5)
      if (laplace == "auto") expect_equal(fit$loglik, dense, tolerance = 1e-6)
      again <- laplace_again(fit)
      structure <- list(inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
      at <- function(precision, ...) {
        par <- replace(again$par, "phi", list(c(precision = precision)))
        laplace_at(par, structure, again$data, again$settings, again$eta, tolerance = 1e-8, ...)
      }
      higher <- at(2 * fit$phi[[1]] * exp(1e-3))$loglik - at(2 * fit$phi[[1]] * exp(-1e-3))$loglik
      expect_equal(at(2 * fit$phi[[1]], gradient = TRUE)$gradient[["precision"]], higher / 2e-3, tolerance = 2e-3)
    }
  }
})
