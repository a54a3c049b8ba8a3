set.seed(3)
n <- 60
x <- runif(n)
z <- rnorm(n)
gap <- as.matrix(dist(x)) / 0.15
root <- chol((1 + sqrt(3) * gap) * exp(-sqrt(3) * gap) + diag(1e-9, n))
y <- 1 + 0.5 * z + drop(rnorm(n) %*% root) + rnorm(n, sd = 0.3)
fit <- vif_fit(y, x, X = cbind(one = 1, z), inducing = 0, k = n - 1, progress = FALSE)

# Twice the fall of the dense profile from the top, with a parameter held. What is held: the logarithm of a covariance
# parameter, or a coefficient of z.
dense_loglik <- function(theta, y, X) {
  s <- sqrt(3) * as.matrix(dist(x)) / exp(theta[[2]])
  upper <- chol(exp(theta[[1]]) * (1 + s) * exp(-s) + diag(exp(theta[[3]]), n))
  white <- lm.fit(backsolve(upper, X, transpose = TRUE), backsolve(upper, y, transpose = TRUE))$residuals
  -sum(log(diag(upper))) - sum(white^2) / 2 - n / 2 * log(2 * pi)
}
dense_top <- function(held = integer(), value = numeric(), y. = y, X = cbind(1, z)) {
  free <- setdiff(1:3, held)
  whole <- function(par) replace(replace(numeric(3), free, par), held, value)
  optim(fit$theta[free], function(par) -dense_loglik(whole(par), y., X), method = "BFGS",
        control = list(reltol = 1e-13, fnscale = 1))$value
}
fall <- function(...) 2 * (dense_top(...) - dense_top())

test_that("profile intervals end where the dense profile has fallen by the quantile", {
  limits <- confint(fit, method = "profile", level = 0.9)
  expect_identical(dimnames(limits), dimnames(confint(fit, level = 0.9)))
  for (j in 1:3) {
    for (side in 1:2) expect_equal(fall(j, log(limits[2 + j, side])), qchisq(0.9, 1), tolerance = 0.02)
  }
  for (side in 1:2) {
    expect_equal(fall(y. = y - limits["z", side] * z, X = matrix(1, n)), qchisq(0.9, 1), tolerance = 0.02)
  }
  expect_true(all(limits[, 1] < coef(fit) & coef(fit) < limits[, 2]))
  expect_equal(confint(fit, c("nugget", "z"), level = 0.9, method = "profile"), limits[c("nugget", "z"), ])
  rows <- tidy.vif(fit, conf.int = TRUE, conf.level = 0.9, conf.method = "profile")
  expect_equal(cbind(rows$conf.low, rows$conf.high), limits, ignore_attr = TRUE)
  expect_error(confint(fit, method = "bootstrap"), "`method` must be one of")
})

test_that("a profile that does not fall far enough ends at 0 or infinity", {
  set.seed(5)
  smooth <- suppressWarnings(vif_fit(drop(rnorm(n) %*% root), cbind(a = x, b = 1), X = 1, inducing = 0, k = n - 1,
                                     kernel = gp_kernel("matern32", lengthscale = c(1, 1)), progress = FALSE))
  expect_true("nugget" %in% names(smooth$bounded))
  limits <- confint(smooth, c("nugget", "lengthscale.b"), method = "profile")
  expect_identical(limits[, 1], c(nugget = 0, lengthscale.b = 0))
  expect_lt(limits["nugget", 2], 0.02)
  expect_gt(limits["nugget", 2], 0)
  expect_identical(limits["lengthscale.b", 2], Inf)
})

test_that("profiles of other families have parameters of the family and of the mean", {
  counts <- rnbinom(n, size = 3, mu = exp(1 + drop(rnorm(n) %*% root) / 2))
  other <- vif_fit(counts, x, X = cbind(one = 1, z), family = nbinom2(), inducing = 0, k = 20, progress = FALSE)
  limits <- confint(other, c("size", "z"), method = "profile")
  held <- function(...) {
    # the plain reference: a search of the profile by optimize() and nlminb() over exact evaluations
    again <- laplace_again(other)
    structure <- list(at = other$at, inducing = other$gp$inducing, id = other$latent_id, wide = other$id)
    value <- function(par) {
      at <- laplace_final(list(theta = setNames(par[1:2], names(other$theta)), phi = c(size = exp(par[[3]])), beta = unname(par[4:5])), structure,
                          again$data, again$settings, again$eta)
      if (is.finite(at$loglik)) -at$loglik else 1e10
    }
    nlminb(c(other$theta, log(other$phi), again$par$beta), value, ...)$objective
  }
  free <- rep(Inf, 5)
  for (side in 1:2) {
    at <- replace(free, 3, log(limits["size", side]))
    start <- held(lower = ifelse(is.finite(at), at, -Inf), upper = at, control = list(rel.tol = 1e-9))
    expect_equal(2 * (start - held(control = list(rel.tol = 1e-9))), qchisq(0.95, 1), tolerance = 0.03)
  }
  expect_true(all(limits[, 1] < coef(other)[c("size", "z")] & coef(other)[c("size", "z")] < limits[, 2]))
  wald <- confint(other, "z")
  expect_equal(limits["z", ], wald[1, ], tolerance = 0.2)
})

test_that("profiles say when the fit is not at the maximum, and refuse what they do not hold", {
  # a process of a range shorter than nearly all gaps has the larger likelihood
  set.seed(78)
  u <- runif(80)
  s <- sqrt(3) * as.matrix(dist(u)) / 0.3
  v <- drop(rnorm(80) %*% chol((1 + s) * exp(-s) + diag(0.7 + 1e-10, 80)))
  local <- suppressMessages(vif_fit(v, u, X = 1, inducing = 0, k = 79, progress = FALSE))
  expect_warning(confint(local, "lengthscale", method = "profile"), class = "vif_profile")
  plane <- vif_fit(y, cbind(x, runif(n)), X = 1, inducing = 0, k = 20, anisotropy = TRUE, progress = FALSE) |> suppressWarnings()
  expect_error(confint(plane, "ratio", method = "profile"), "`parm` must be without angle, ratio .*, not ratio")
  limits <- confint(plane, method = "profile")
  known <- rownames(limits) %in% c("(Intercept)", "variance", "nugget")
  expect_true(all(is.na(limits[!known, ])))
  expect_true(all(limits[known, 1] < coef(plane)[known] & coef(plane)[known] < limits[known, 2]))
  expect_equal(tidy.vif(plane, "mean", conf.int = TRUE, conf.method = "profile")$conf.low, limits[[1, 1]])
  expect_error(tidy.vif(plane, conf.method = "none"), "`conf.method` must be one of")
})

test_that("profiles know weights, offsets, levels and covariates of one name", {
  alike <- fit
  colnames(alike$X) <- names(alike$coefficients) <- c("z", "z")
  limits <- confint(fit, method = "profile")
  expect_equal(unname(confint(sealed(alike), "z", method = "profile")), unname(limits[1:2, ]))
  # means of two measurements, in units in which the nugget is that of one
  double <- vif_fit(y, x, X = cbind(one = 1, z), inducing = 0, k = n - 1, weights = rep(2, n), progress = FALSE)
  expect_equal(confint(double, method = "profile"), limits * c(1, 1, 1, 1, 2), tolerance = 2e-3)
  moved <- vif_fit(y ~ z + offset(o), ~ x, data.frame(y = y + 3 * x, o = 3 * x, x, z), inducing = 0, k = n - 1, progress = FALSE)
  expect_equal(confint(moved, "z", method = "profile"), limits["z", , drop = FALSE], tolerance = 2e-3)
  expect_equal(confint(fit, "z", method = "profile", level = 1e-17)[1, ], rep(coef(fit)[["z"]], 2), ignore_attr = TRUE)
  wide <- confint(fit, "z", method = "profile", level = 1 - 1e-15)
  expect_true(all(is.finite(wide)) && wide[1] < limits["z", 1] && wide[2] > limits["z", 2])
})

test_that("profiles of binary responses stay where Laplace's approximation can be trusted", {
  set.seed(9)
  at <- matrix(runif(2 * n), n)
  w <- drop(rnorm(n) %*% chol(exp(-as.matrix(dist(at)) / 0.2)))
  v <- rnorm(n)
  present <- rbinom(n, 1, plogis(2 * (v + 1.5 * w)))
  binary <- vif_fit(present, at, X = cbind(one = 1, v), family = binomial(), inducing = 0, k = 20, progress = FALSE)
  expect_lt(binary$kernel$variance, 10)
  limits <- confint(binary, method = "profile")
  expect_true(is.na(limits["variance", 2]))
  expect_true(all(is.finite(limits[c("one", "v"), ])))
  # fits with the covariate's part in the offset: that at the lower end has fallen as far as it should; that at the upper
  # end has a variance beyond what the profile takes
  held <- function(slope) {
    vif_fit(present, at, X = 1, family = binomial(), inducing = 0, k = 20, offset = slope * v, progress = FALSE)
  }
  expect_equal(2 * (laplace_profile(binary)$start$loglik - held(limits["v", 1])$loglik), qchisq(0.95, 1), tolerance = 0.02)
  expect_gt(held(limits["v", 2])$kernel$variance, 10)
})
