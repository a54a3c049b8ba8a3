test_that("a kernel keeps its family and hyperparameters", {
  kernel <- gp_kernel("rbf", variance = 2L, lengthscale = c(1, 3))
  expect_s3_class(kernel, "gp_kernel")
  expect_identical(kernel$family, "rbf")
  expect_identical(kernel$variance, 2)
  expect_identical(kernel$lengthscale, c(1, 3))
  expect_identical(gp_kernel()$family, "matern32")
})

test_that("a kernel prints in one line", {
  expect_output(print(gp_kernel()), "matern32, variance 1, lengthscale 1", fixed = TRUE)
  expect_identical(format(gp_kernel("matern", 2, c(0.1, 1 / 3), smoothness = 0.8)),
                   "matern, smoothness 0.8, variance 2, lengthscale (0.1000, 0.3333)")
})

test_that("bad hyperparameters are refused by name", {
  expect_error(gp_kernel("cubic"), '^gp_kernel\\(\\): `family` must be one of "matern32".*not "cubic"')
  expect_error(gp_kernel(1), "`family`")
  for (variance in list(0, -1, NA, NaN, Inf, "1", c(1, 2), NULL)) {
    expect_error(gp_kernel(variance = variance), "^gp_kernel\\(\\): `variance` must be a positive finite number, not ")
  }
  for (lengthscale in list(0, c(1, -1), NA_real_, NaN, Inf, "1", numeric(), NULL)) {
    expect_error(gp_kernel(lengthscale = lengthscale), "^gp_kernel\\(\\): `lengthscale` must be positive and finite, not ")
  }
  expect_error(gp_kernel("matern"), "`smoothness` must be a positive finite number, not NULL")
  expect_error(gp_kernel("matern", smoothness = 0), "`smoothness`")
  expect_error(gp_kernel("rbf", smoothness = 1), '`smoothness` must be NULL for family "rbf", not 1')
})

test_that("every family has its values", {
  x <- cbind(c(0, 0.01, 0.3, 1, 2.5, 40), 1)
  for (family in kernel_families) for (lengthscale in list(0.7, c(0.7, 2))) {
    kernel <- gp_kernel(family, 3, lengthscale, if (family == "matern") 1.1)
    gp <- residual_gp(x, kernel, inducing = 0)
    expect_equal(residual_correlation(gp), oracle_covariance(kernel, x, x) / 3, tolerance = 1e-13, label = family)
  }
})

test_that("half-integer smoothness gives the closed forms", {
  x <- matrix(runif(40), ncol = 2)
  for (family in c("matern12", "matern32", "matern52")) {
    nu <- as.numeric(sub("matern(.)2", "\\1", family)) / 2
    expect_equal(residual_correlation(residual_gp(x, gp_kernel("matern", smoothness = nu), 0)),
                 residual_correlation(residual_gp(x, gp_kernel(family), 0)), tolerance = 1e-12)
  }
})

test_that("names of other packages are understood", {
  expect_identical(gp_kernel("exponential", 2, 3), gp_kernel("matern12", 2, 3))
  expect_identical(gp_kernel("gaussian"), gp_kernel("rbf"))
  expect_identical(gp_kernel("squared_exponential"), gp_kernel("rbf"))
})
