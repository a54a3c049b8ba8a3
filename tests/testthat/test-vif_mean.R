quick <- function(...) vif_fit(..., progress = FALSE)

test_that("the basis of the covariates is orthogonal and leads back to them, in any unit", {
  set.seed(1)
  X <- cbind(one = 1, a = runif(50), b = 1e8 * rnorm(50), c = 1e-8 * rnorm(50), d = 1e6 + runif(50))
  basis <- mean_basis(X)
  expect_equal(crossprod(basis$Q) / 50, diag(5), tolerance = 1e-9)
  expect_equal(basis$Q %*% basis$change, X, ignore_attr = TRUE, tolerance = 1e-12)
  expect_equal(basis$change %*% basis$back, diag(5), tolerance = 1e-8)
  without <- mean_basis(X[, 2:4])
  expect_equal(without$Q %*% without$change, X[, 2:4], ignore_attr = TRUE, tolerance = 1e-12)
})

test_that("rank is judged in units of the columns", {
  set.seed(2)
  a <- runif(30)
  expect_silent(check_covariates(cbind(1, a, 1e-9 * a^2, 1e9 + a^3), 30))
  expect_error(check_covariates(cbind(1, a, 3 * a - 2), 30), "linearly independent")
  expect_error(check_covariates(cbind(1, 1e8, a), 30), "of rank 2 with 3 columns")
  expect_error(check_covariates(cbind(a, 0), 30), "X2 depends on the others")
})

test_that("log-likelihoods do not depend on the units of X", {
  set.seed(3)
  x <- cbind(runif(80), runif(80))
  X <- cbind(1, x)
  y <- rnorm(80)
  large <- cbind(1, 3e5 + 1e8 * x[, 1], 1e-8 * x[, 2])
  kernel <- gp_kernel(lengthscale = 0.3)
  expect_equal(gp_loglik(y, x, kernel, 0.2, X = large), gp_loglik(y, x, kernel, 0.2, X = X), tolerance = 1e-10)
  gp <- residual_gp(x, kernel, inducing = 10, seed = 1)
  nn <- residual_knn(gp, 10, predecessors = TRUE)
  expect_equal(vif_loglik(y, gp, nn, 0.2, X = large), vif_loglik(y, gp, nn, 0.2, X = X), tolerance = 1e-10)
})

test_that("fits, standard errors and predictions do not depend on the units of X: meuse in metres", {
  skip_if_not_installed("sp")
  data("meuse", package = "sp", envir = environment())
  model <- log(zinc) ~ x + y + dist + elev
  fit <- quick(model, coords = ~ x + y, data = meuse)
  expect_lt(abs(fit$loglik + 53.19), 0.05)
  expect_true(quick(log(zinc) ~ x + y, coords = ~ x + y, data = meuse)$converged)
  scaled <- meuse
  scaled[c("px", "py")] <- meuse[c("x", "y")]
  covariates <- c("x", "y", "dist", "elev")
  scaled[covariates] <- scale(meuse[covariates])
  other <- quick(model, coords = ~ px + py, data = scaled)
  p <- predict(fit, meuse[1:9, ], beta_uncertainty = TRUE)
  expect_equal(other$loglik, fit$loglik, tolerance = 1e-6)
  expect_equal(predict(other, scaled[1:9, ], beta_uncertainty = TRUE), p, tolerance = 1e-6)
  for (unit in 10^c(-8, 8)) {
    units <- meuse
    units$dist <- units$dist * unit
    units$elev <- units$elev / unit
    same <- quick(model, coords = ~ x + y, data = units)
    expect_equal(same$loglik, fit$loglik, tolerance = 1e-6)
    back <- c(1, 1, 1, unit, 1 / unit)
    expect_equal(coef(same, "mean") * back, coef(fit, "mean"), tolerance = 1e-6)
    expect_equal(sqrt(diag(vcov(same))) * back, sqrt(diag(vcov(fit))), tolerance = 1e-6)
    expect_equal(predict(same, units[1:9, ], beta_uncertainty = TRUE), p, tolerance = 1e-6)
  }
})

test_that("without X the mean is a constant and the fit says so; X = NULL is mean zero, X = 1 a constant", {
  set.seed(4)
  x <- cbind(runif(120), runif(120))
  y <- 50 + sin(5 * x[, 1]) + rnorm(120, sd = 0.1)
  expect_message(silent <- quick(y, x, inducing = 20, k = 10), "no `X` is given: the mean is a constant", class = "vif_mean")
  expect_silent(constant <- quick(y, x, X = 1, inducing = 20, k = 10))
  expect_identical(silent$loglik, constant$loglik)
  expect_identical(quick(y, x, X = rep(1, 120), inducing = 20, k = 10)$loglik, constant$loglik)
  expect_output(print(constant), "mean: constant, \\(Intercept\\) = [45]")
  zero <- quick(y - 50, x, X = NULL, inducing = 20, k = 10)
  expect_output(print(zero), "mean: zero")
  expect_identical(zero$df, 3L)
  # a constant need not be given again
  expect_equal(predict(constant, x[1:3, ])$fit, predict(constant, x[1:3, ], newX = rep(1, 3))$fit)
})
