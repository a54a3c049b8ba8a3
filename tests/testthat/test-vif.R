# The definition of the VIF approximation, dense and point by point.
dense_vif <- function(gp, id, noise) {
  n <- nrow(gp$x)
  r <- oracle_covariance(gp$kernel, gp$x, gp$x) - crossprod(gp$V)
  diag(r) <- diag(r) + noise
  B <- diag(n)
  D <- diag(r)
  for (i in seq_len(n)) {
    N <- id[i, !is.na(id[i, ])]
    if (!length(N)) next
    a <- solve(r[N, N, drop = FALSE], r[N, i])
    B[i, N] <- -a
    D[i] <- D[i] - sum(a * r[N, i])
  }
  root <- solve(B, diag(sqrt(D)))
  list(B = B, D = D, S = crossprod(gp$V) + tcrossprod(root))
}

log_density <- function(y, S, X = NULL) {
  if (!is.null(X)) y <- y - X %*% solve(t(X) %*% solve(S, X), t(X) %*% solve(S, y))
  -0.5 * (length(y) * log(2 * pi) + as.numeric(determinant(S)$modulus) + sum(y * solve(S, y)))
}

ordered_inputs <- function(n, d) {
  x <- matrix(runif(n * d), n, d)
  x[order_maxmin(x), , drop = FALSE]
}

kernels <- list(
  gp_kernel("matern12", 1.5, 0.4), gp_kernel("matern32", 0.7, c(0.2, 0.5)), gp_kernel("matern52", 2, 0.3),
  gp_kernel("rbf", 1.5, c(0.3, 0.2)), gp_kernel("matern", 1.2, c(0.3, 0.4), smoothness = 0.8)
)

set.seed(4)
n <- 120
x <- ordered_inputs(n, 2)
y <- 1 + x[, 1] + rnorm(n)
X <- cbind(one = 1, x)
known <- runif(n, 0, 0.2)

test_that("factor, likelihood and gradient agree with their dense definitions", {
  for (kernel in kernels) {
    for (m in c(0, 1, 15)) {
      gp <- residual_gp(x, kernel, inducing = m, seed = 1)
      nn <- residual_knn(gp, 9, predecessors = TRUE)
      label <- paste(format(kernel), "m =", m)
      dense <- dense_vif(gp, nn$id, 0.2 + known)
      f <- vif_factor(gp, nn, 0.2, noise_variance = known)
      expect_s4_class(f$B, "dgCMatrix")
      expect_equal(as.matrix(f$B), dense$B, tolerance = 1e-10, label = label)
      expect_equal(f$D, dense$D, tolerance = 1e-10, label = label)
      expect_equal(vif_loglik(y, gp, nn, 0.2, noise_variance = known), log_density(y, dense$S),
                   tolerance = 1e-10, label = label)
      value <- vif_loglik(y, gp, nn, 0.2, X = X, noise_variance = known, gradient = TRUE)
      expect_equal(c(value), log_density(y, dense$S, X), tolerance = 1e-10, label = label)

      at <- function(theta) {
        changed <- kernel
        changed$variance <- exp(theta[1])
        changed$lengthscale <- exp(theta[1 + seq_along(kernel$lengthscale)])
        moved <- residual_gp(x, changed, inducing = gp$inducing)
        vif_loglik(y, moved, nn, exp(theta[length(theta)]), X = X, noise_variance = known)
      }
      theta <- log(c(kernel$variance, kernel$lengthscale, 0.2))
      h <- 1e-3 # central differences of order four: error h^4 and rounding / h
      numeric <- vapply(seq_along(theta), function(j) {
        step <- h * (seq_along(theta) == j)
        (8 * (at(theta + step) - at(theta - step)) - (at(theta + 2 * step) - at(theta - 2 * step))) / (12 * h)
      }, 0)
      expect_equal(unname(attr(value, "gradient")), numeric, tolerance = 1e-6, label = label)
    }
  }
})

test_that("with all predecessors as neighbours the approximation is exact, whatever the inducing inputs", {
  for (kernel in kernels) {
    for (m in c(0, 1, 20, n)) {
      gp <- residual_gp(x, kernel, inducing = m, seed = 1, selection = "random")
      nn <- residual_knn(gp, n - 1, predecessors = TRUE)
      for (mean in list(NULL, X)) {
        exact <- gp_loglik(y, x, kernel, 0.1, X = mean, noise_variance = known)
        expect_equal(vif_loglik(y, gp, nn, 0.1, X = mean, noise_variance = known), exact, tolerance = 1e-8)
        S <- oracle_covariance(kernel, x, x) + diag(0.1 + known)
        expect_equal(exact, log_density(y, S, mean), tolerance = 1e-8)
      }
    }
  }
})

test_that("with the inputs as inducing inputs it becomes exact as the jitter goes to zero", {
  kernel <- gp_kernel("matern32", 1, 0.3)
  exact <- gp_loglik(y, x, kernel, 0.1)
  error <- vapply(10^-c(2, 4, 6, 8), function(jitter) {
    gp <- residual_gp(x, kernel, inducing = x, jitter = jitter)
    abs(vif_loglik(y, gp, residual_knn(gp, 2, predecessors = TRUE), 0.1) - exact)
  }, 0)
  expect_true(all(diff(error) < 0))
  expect_lt(error[4], 1e-5)
})

test_that("the answer does not depend on the number of threads", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 10, seed = 1)
  nn <- residual_knn(gp, 9, predecessors = TRUE)
  one <- vif_loglik(y, gp, nn, 0.1, X = X, gradient = TRUE, threads = 1)
  expect_identical(vif_loglik(y, gp, nn, 0.1, X = X, gradient = TRUE, threads = 3), one)
})

test_that("GpGp's tables are neighbours too", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 10, seed = 1)
  nn <- residual_knn(gp, 9, predecessors = TRUE)
  expect_identical(vif_factor(gp, as_nnarray(nn), 0.1), vif_factor(gp, nn, 0.1))
  array <- as_nnarray(nn)
  storage.mode(array) <- "double"
  expect_identical(vif_loglik(y, gp, array, 0.1), vif_loglik(y, gp, nn, 0.1))
})

test_that("without inducing inputs it is the Vecchia likelihood of GpGp", {
  skip_if_not_installed("GpGp")
  # its own search calls package fields, which it only suggests
  array <- if (nzchar(system.file(package = "fields"))) {
    GpGp::find_ordered_nn(x, 8)
  } else {
    as_nnarray(residual_knn(residual_gp(x, gp_kernel(), 0), 8, predecessors = TRUE))
  }
  for (kernel in kernels[-4]) {
    gp <- residual_gp(x, kernel, inducing = 0)
    theirs <- as_gpgp(kernel, 0.15)
    expect_equal(vif_loglik(y, gp, array, 0.15),
                 GpGp::vecchia_meanzero_loglik(theirs$covparms, theirs$covfun_name, y, x, array)$loglik,
                 tolerance = 1e-7)
  }
})

test_that("a covariance that is not positive definite is an error that names the row", {
  twice <- rbind(x[1:10, ], x[10, ])
  gp <- residual_gp(twice, gp_kernel("matern32", lengthscale = 0.2), inducing = 0)
  nn <- residual_knn(gp, 5, predecessors = TRUE)
  expect_error(vif_factor(gp, nn, 0), "residual covariance of point 11 .*not positive definite.*`nugget`")
  expect_true(all(vif_factor(gp, nn, 0.1)$D > 0))
  expect_error(gp_loglik(y[1:11], twice, gp$kernel, 0), "^gp_loglik\\(\\): `nugget` must be large enough")
})

test_that("bad arguments are refused by name", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 5, seed = 1)
  nn <- residual_knn(gp, 5, predecessors = TRUE)
  expect_error(vif_loglik(y[-1], gp, nn, 0.1),
               "^vif_loglik\\(\\): `y` must be of length 120 \\(the rows of `gp\\$x`\\), not of length 119")
  expect_error(vif_loglik(replace(y, c(3, 7), NA), gp, nn, 0.1), "2 NA \\(first at position 3\\)")
  expect_error(vif_loglik(replace(y, 5, Inf), gp, nn, 0.1), "`y` must be finite everywhere")
  expect_error(vif_loglik(letters, gp, nn, 0.1), "`y` must be a numeric vector")
  expect_error(vif_loglik(y, gp, nn, 0.1, X = cbind(a = 1, b = x[, 1], c = 2 * x[, 1])),
               "`X` must be of linearly independent columns, not of rank 2 with 3 columns \\(c depends")
  expect_error(vif_loglik(y, gp, nn, 0.1, X = X[-1, ]), "`X` must be of 120 rows")
  expect_error(vif_loglik(y, gp, nn, -1), "`nugget` must be a finite number of at least 0")
  expect_error(vif_loglik(y, gp, nn, 0.1, noise_variance = -known), "`noise_variance` must be at least 0")
  expect_error(vif_loglik(y, gp, nn, 0.1, noise_variance = 1:3), "`noise_variance` must be NULL or numeric of length 120")
  expect_error(vif_factor(gp, residual_knn(gp, 5), 0.1), "`nn` must be a search with predecessors = TRUE")
  expect_error(vif_factor(gp, residual_knn(gp, 5, predecessors = TRUE, queries = 1:9), 0.1), "all rows")
  expect_error(vif_factor(gp, nn$id, 0.1), "`nn` must be a matrix whose first column is the row itself")
  expect_error(vif_factor(gp, cbind(1:120, 120L), 0.1), "`nn` must be neighbours among earlier rows, not 120 in row 1")
  expect_error(vif_factor(gp, as_nnarray(nn)[1:7, ], 0.1), "`nn` must be of 120 rows")
  expect_error(vif_factor(gp, "nn", 0.1), "`nn` must be a residual_knn object or an integer matrix")
  expect_error(vif_factor(1, nn, 0.1), "^vif_factor\\(\\): `gp` must be a residual_gp object")
  own <- residual_process(x, gp$kernel, gp$V, gp$variance)
  expect_equal(vif_loglik(y, own, nn, 0.1), vif_loglik(y, gp, nn, 0.1))
  expect_error(vif_loglik(y, own, nn, 0.1, gradient = TRUE), "`gradient` must be FALSE for a residual_process")
})
