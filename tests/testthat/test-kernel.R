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
  expect_error(gp_kernel("matern"), "`smoothness` must be a number from 0.001 to 10000, not NULL")
  for (smoothness in list(0, 5e-4, 10001, 1e300, Inf, NA, "1")) {
    expect_error(gp_kernel("matern", smoothness = smoothness), "^gp_kernel\\(\\): `smoothness` must be a number from")
  }
  expect_error(from_gpgp("matern_isotropic", c(1, 1, 2e4, 0)), "`smoothness` must be a number from")
  expect_error(from_gpboost("matern", c(1, 1, 1), cov_fct_shape = 2e4), "`smoothness` must be a number from")
  expect_error(gp_kernel("rbf", smoothness = 1), '`smoothness` must be NULL for family "rbf", not 1')
})

test_that("every family has its values", {
  x <- cbind(c(0, 0.01, 0.3, 1, 2.5, 40), 1)
  for (family in kernel_families()) for (lengthscale in list(0.7, c(0.7, 2))) {
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

# Correlation of smoothness nu at the distances z = sqrt(2 nu) r, and -z times its derivative, as means over the Gamma
# distribution by the trapezoidal rule; upward from smoothness below 2 by the recurrence of Bessel functions.
gamma_mean <- function(nu, z, term) {
  vapply(z, function(z) {
    u <- seq(log(z^2 / 4) - 7, log(800), by = 0.02)
    0.02 * sum(exp(nu * u - exp(u) - z^2 / 4 * exp(-u) - lgamma(nu) + term(z, u)))
  }, 0)
}
matern_by_recurrence <- function(nu, z) {
  at <- if (nu %% 1 == 0) 1 else nu %% 1
  before <- gamma_mean(at, z, function(z, u) 0)
  if (nu - at < 0.5) return(before)
  at <- at + 1
  value <- gamma_mean(at, z, function(z, u) 0)
  while (at < nu - 0.5) {
    after <- value + z^2 / (4 * at * (at - 1)) * before
    before <- value
    value <- after
    at <- at + 1
  }
  value
}
matern_slope <- function(nu, z) {
  if (nu > 2) z^2 / (2 * (nu - 1)) * matern_by_recurrence(nu - 1, z) else gamma_mean(nu, z, function(z, u) log(z^2 / 2) - u)
}

test_that("Matern of any smoothness is right to 1e-12, and so is its slope", {
  far <- c(1e-150, 1e-12, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1, 3, 10, 30, 100, 300, 600)
  near <- c(0.01, 0.1, 0.5, 1, 2, 3)
  for (nu in c(0.001, 0.01, 0.05, 0.3, 0.7, 1, 2.5, 7.7, 9.999, 10, 10.5, 20, 50.25, 100, 127, 128, 200, 1000, 10000)) {
    z <- if (nu <= 20) far else sqrt(2 * nu) * near
    for (i in seq_along(z)) {
      gp <- residual_gp(c(0, z[i] / sqrt(2 * nu)), gp_kernel("matern", smoothness = nu), inducing = 0)
      label <- paste("smoothness", nu, "at", z[i])
      expect_lt(abs(residual_correlation(gp)[2] - matern_by_recurrence(nu, z[i])), 1e-12, label = label)
      slope <- .Call(C_kernel_slopes, gp$kernel, abs(diff(gp$x[, 1])))
      expect_lt(abs(slope - matern_slope(nu, z[i])), 1e-12, label = paste("slope,", label))
    }
  }
})

test_that("every family has the slope of its value", {
  r <- c(0.1, 0.7, 2)
  for (family in kernel_families()) {
    kernel <- gp_kernel(family, smoothness = if (family == "matern") 1.1)
    by_difference <- (oracle_kappa(kernel, r + 1e-5) - oracle_kappa(kernel, r - 1e-5)) / 2e-5
    expect_equal(.Call(C_kernel_slopes, kernel, r), -r * by_difference, tolerance = 1e-8, label = family)
  }
})

test_that("Matern is finite at any distance", {
  for (nu in c(0.001, 0.5, 1, 1.0000001, 3, 9.9, 10, 150, 10000)) {
    for (r in c(5e-324, 1e-300, 1e-160, 1e-20, 1e20, 1e100, 1e149)) {
      gp <- residual_gp(c(0, r), gp_kernel("matern", smoothness = nu), inducing = 0)
      rho <- residual_correlation(gp)[2]
      expect_true(if (r < 1) rho > 0 && rho <= 1 else rho == 0, label = paste("smoothness", nu, "at", r))
      slope <- .Call(C_kernel_slopes, gp$kernel, r)
      expect_true(is.finite(slope), label = paste("slope, smoothness", nu, "at", r))
    }
  }
})

test_that("a kernel edited by hand is refused where it enters", {
  edited <- function(...) utils::modifyList(gp_kernel("matern", smoothness = 1), list(...))
  refused <- function(kernel, pattern) {
    expect_error(residual_gp(1:5, kernel, 2), pattern)
    expect_error(as_gpgp(kernel), pattern)
    tree <- cover_tree(residual_gp(1:5, gp_kernel(), 2))
    expect_error(update(tree, kernel = kernel), pattern)
  }
  refused(edited(smoothness = 2e4), "`kernel\\$smoothness` must be a number from 0.001 to 10000, not 20000")
  refused(edited(family = "cubic"), '`kernel\\$family` must be a family of gp_kernel\\(\\), not "cubic"')
  refused(edited(family = c("rbf", "matern")), "`kernel\\$family`")
  refused(edited(variance = NaN), "`kernel\\$variance` must be a positive finite number, not NaN")
  refused(edited(lengthscale = -1), "`kernel\\$lengthscale` must be positive and finite, not -1")
  whole <- edited(lengthscale = 2L, variance = 3L)
  expect_identical(residual_gp(1:5, whole, 2:3), residual_gp(1:5, edited(lengthscale = 2, variance = 3), 2:3))
})

test_that("the families are those of the table in C, in the order of the usage", {
  expect_identical(eval(formals(gp_kernel)$family), kernel_families())
})
