set.seed(8)
n <- 250
x <- matrix(runif(2 * n), n)
y <- setNames(2 + sin(6 * x[, 1]) + rnorm(n, sd = 0.2), paste0("p", 1:n))
fit <- vif_fit(y, x, X = rep(1, n), inducing = 20, k = 8, progress = FALSE)
full <- suppressWarnings(vif_fit(y, x, X = rep(1, n), inducing = 20, k = n - 1, iterations = 2, progress = FALSE))

test_that("generics of stats read a fit", {
  expect_identical(AIC(fit), 2 * 4 - 2 * as.numeric(logLik(fit)))
  expect_identical(attr(logLik(fit), "nobs"), 250L)
  expect_equal(BIC(fit), log(n) * 4 - 2 * fit$loglik)
  expect_identical(nobs(fit), as.integer(n))
  expect_named(coef(fit), c("X1", "variance", "lengthscale", "nugget"))
  expect_named(coef(fit, "mean"), "X1")
  expect_identical(dimnames(vcov(fit)), list("X1", "X1"))
  expect_error(coef(fit, "some"), "`type`")
})

test_that("residuals are those of the exact process where the approximation is exact", {
  S <- oracle_covariance(full$kernel, x, x) + diag(full$nugget, n)
  r <- y - full$coefficients
  precision <- solve(S)
  expect_equal(residuals(full), drop(full$nugget * precision %*% r), ignore_attr = TRUE, tolerance = 1e-8)
  expect_equal(residuals(full, "loo"), drop(precision %*% r) / diag(precision), ignore_attr = TRUE, tolerance = 1e-8)
  expect_equal(residuals(full, "standardised"), drop(precision %*% r) / sqrt(diag(precision)),
               ignore_attr = TRUE, tolerance = 1e-8)
  expect_named(residuals(full), names(y))
  expect_equal(fitted(full) + residuals(full), y)
  expect_equal(unname(fitted(full)), predict(full, x, newX = rep(1, n), k = n)$fit, tolerance = 1e-8)
})

test_that("leaving one out leaves one out", {
  rows <- setdiff(seq_len(n), 17)
  S <- oracle_covariance(full$kernel, x, x) + diag(full$nugget, n)
  without <- full$coefficients + S[17, rows] %*% solve(S[rows, rows], y[rows] - full$coefficients)
  expect_equal(unname(residuals(full, "loo")[17]), unname(y[17]) - drop(without), tolerance = 1e-8)
  expect_equal(sd(residuals(fit, "standardised")), 1, tolerance = 0.15)
})

test_that("simulations have the covariance of the model", {
  draws <- as.matrix(simulate(full, 4000, seed = 1))
  S <- oracle_covariance(full$kernel, x, x) + diag(full$nugget, n)
  expect_lt(max(abs(rowMeans(draws) - full$coefficients)), 6 * sqrt(S[1, 1] / 4000))
  expect_lt(max(abs(cov(t(draws)) - S)) / S[1, 1], 0.15)
  expect_identical(simulate(fit, 2, seed = 3), simulate(fit, 2, seed = 3))
  expect_named(simulate(fit, 2), c("sim_1", "sim_2"))
})

test_that("simulations say where they come from, as those of package stats", {
  line <- lm(dist ~ speed, cars)
  expect_identical(attr(simulate(fit, seed = 3), "seed"), attr(simulate(line, seed = 3L), "seed"))
  set.seed(4)
  before <- .Random.seed
  expect_identical(attr(simulate(fit), "seed"), before)
  expect_false(identical(.Random.seed, before))
})

test_that("a fit prints and sums itself up", {
  expect_output(print(fit), "<vif> 250 observations, 20 inducing inputs, k = 8")
  expect_output(print(fit), "converged after")
  expect_output(print(summary(fit)), "standardised leave-one-out residuals")
  expect_identical(dim(summary(fit)$coefficients), c(1L, 4L))
  bare <- vif_fit(y - 2, x, X = NULL, inducing = 20, k = 8, progress = FALSE)
  expect_output(print(summary(bare)), "covariance")
  expect_length(bare$coefficients, 0)
})

test_that("update() fits again from where the fit is", {
  more <- update(fit, k = 15)
  expect_identical(more$k, 15L)
  expect_equal(coef(more), coef(fit), tolerance = 0.2)
  expect_identical(update(fit, k = 15, evaluate = FALSE)$k, 15)
  expect_null(update(fit, weights = 1:3, evaluate = FALSE)$start)
  d <- data.frame(y = y, a = x[, 1], b = x[, 2])
  by_formula <- vif_fit(y ~ 1, coords = ~ a + b, data = d, inducing = 20, k = 8, progress = FALSE)
  wider <- update(by_formula, . ~ . + b)
  expect_named(wider$coefficients, c("(Intercept)", "b"))
  expect_identical(formula(wider), y ~ b)
})

test_that("update() keeps order, inducing inputs and conditioning sets", {
  set.seed(9)
  d <- data.frame(y = y, a = x[, 1], b = 3 * x[, 2], noise = rnorm(n))
  d$y <- d$y + cos(3 * d$b)
  for (kernel in list("matern32", gp_kernel("matern52", lengthscale = c(1, 1)))) {
    full <- vif_fit(y ~ b, coords = ~ a + b, data = d, kernel = kernel, inducing = 20, k = 8, progress = FALSE)
    again <- update(full)
    expect_equal(again$loglik, full$loglik, tolerance = 1e-6 / abs(full$loglik))
    for (other in list(again, update(full, . ~ . + noise), update(full, . ~ . - b))) {
      for (part in c("order", "id", "at", "first_at")) expect_identical(other[[part]], full[[part]], label = part)
      expect_identical(other$gp$inducing, full$gp$inducing)
    }
    # sets at the end of a search from far away, in the order of its start
    far <- update(full, start = list(kernel = gp_kernel(full$kernel$family, 10, full$kernel$lengthscale * c(30, 2)[
      seq_along(full$kernel$lengthscale)]), nugget = 1))
    expect_false(identical(far$at, far$first_at))
    for (part in c("order", "id")) expect_identical(update(far)[[part]], far[[part]], label = part)
  }
  # where they are those of another model they are found anew
  held <- update(full, nugget = full$nugget)
  expect_named(held$at, c("variance", "lengthscale.a", "lengthscale.b"))
  wide <- update(full, data = transform(d, b = 1.1 * b))
  expect_false(isTRUE(all.equal(wide$at[["lengthscale.b"]], full$at[["lengthscale.b"]])))
})

test_that("update() tells an X of NULL from none, and takes inputs with other columns", {
  expect_length(coef(update(fit, X = NULL), "mean"), 0)
  expect_identical(update(fit, X = NULL, evaluate = FALSE)["X"], quote(vif_fit(X = NULL))["X"])
  expect_identical(update(fit, k = NULL)$k, 45L)
  d <- data.frame(y = y, a = x[, 1], b = x[, 2], c = rnorm(n))
  two <- vif_fit(y ~ 1, coords = ~ a + b, data = d, kernel = gp_kernel(lengthscale = c(1, 1)), inducing = 10, k = 8,
                 progress = FALSE)
  three <- suppressWarnings(update(two, coords = ~ a + b + c, kernel = gp_kernel(lengthscale = c(1, 1, 1))))
  expect_named(three$kernel$lengthscale, NULL)
  expect_length(three$kernel$lengthscale, 3)
  one <- update(two, coords = ~ a, kernel = "matern32")
  expect_identical(colnames(one$gp$x), "a")
  expect_length(update(two, lengthscale = list(both = c("a", "b")))$theta, 3)
  each <- gp_kernel(lengthscale = c(1, 1))
  counts <- suppressWarnings(vif_fit(pmax(round(y), 0), x, X = 1, kernel = each, inducing = 6, k = 5,
                                     family = poisson(), iterations = 5, progress = FALSE))
  expect_identical(ncol(suppressWarnings(update(counts, x = x[, 1], kernel = "matern32"))$gp$x), 1L)
})

test_that("a saved fit predicts as before", {
  file <- tempfile()
  saveRDS(fit, file)
  expect_identical(predict(readRDS(file), x[1:5, ], newX = rep(1, 5)), predict(fit, x[1:5, ], newX = rep(1, 5)))
})

test_that("plots are drawn", {
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  expect_identical(plot(fit), fit)
  line <- vif_fit(y, x[, 1], X = 1, inducing = 10, k = 8, progress = FALSE)
  expect_identical(plot(line, which = 3), line)
  expect_error(plot(fit, which = 9), "`which` must be among 1 to 4")
  expect_error(plot(fit, columns = 1), "`columns` must be two of the 2 columns")
})

test_that("update() starts anew where the data are in other units", {
  set.seed(5)
  n <- 200
  d <- data.frame(a = runif(n), b = runif(n))
  d$far_a <- d$a * 1e5
  d$far_b <- d$b * 1e5
  d$y <- sin(12 * d$a) + cos(9 * d$b) + rnorm(n, sd = 0.2)
  fit <- vif_fit(y ~ 1, ~ a + b, d, inducing = 20, k = 10, progress = FALSE)
  expect_equal(logLik(update(fit, coords = ~ far_a + far_b))[1], logLik(fit)[1], tolerance = 1e-6)
  d$wide <- exp(3 * d$y + 8)
  fresh <- vif_fit(wide ~ 1, ~ a + b, d, inducing = 20, k = 10, progress = FALSE)
  expect_equal(logLik(update(fit, wide ~ .))[1], logLik(fresh)[1], tolerance = 1e-6)
  expect_error(update(fit, X = NULL), "`X` must be left to the formula")
})

test_that("predictions at the observations have the noise that their weights say", {
  set.seed(2)
  x <- cbind(runif(60), runif(60))
  w <- rep(c(1, 4), 30)
  fit <- vif_fit(sin(5 * x[, 1]) + rnorm(60, sd = 0.3 / sqrt(w)), x, X = 1, inducing = 8, k = 8, weights = w, progress = FALSE)
  found <- predict(fit, se.fit = TRUE)
  expect_equal(found$se.obs^2 - found$se.fit^2, fit$nugget / w)
})

test_that("a covariate may have the name of a covariance parameter", {
  set.seed(5)
  d <- data.frame(x = runif(150), nugget = rnorm(150))
  d$y <- sin(6 * d$x) + 2 * d$nugget + rnorm(150) / 5
  fit <- vif_fit(y ~ nugget, ~ x, d, inducing = 20, progress = FALSE)
  other <- vif_fit(y ~ slope, ~ x, transform(d, slope = nugget), inducing = 20, progress = FALSE)
  limits <- confint(fit)
  expect_identical(rownames(limits), names(coef(fit)))
  expect_equal(unname(limits), unname(confint(other)))
  expect_equal(unname(confint(fit, 5)), unname(confint(other, "nugget")))
  expect_equal(unname(confint(fit, "nugget")), unname(confint(other, c("slope", "nugget"))))
  expect_equal(confint(fit, c("lengthscale", "(Intercept)")), limits[c("lengthscale", "(Intercept)"), ])
  tidied <- tidy.vif(fit, conf.int = TRUE)
  expect_equal(tidied$conf.low, unname(limits[, 1]))
  expect_error(confint(fit, 9), "`parm` must be among")
  expect_equal(confint(fit, -1), limits[-1, ])
  held <- vif_fit(y ~ nugget, ~ x, d, inducing = 20, nugget = 0.04, progress = FALSE)
  expect_equal(confint(held, "nugget"), confint(held, 2))
  zero <- vif_fit(d$y, d$x, X = NULL, inducing = 20, progress = FALSE)
  expect_equal(confint(zero, "nugget"), confint(zero)["nugget", , drop = FALSE])
})

test_that("standard errors beside a nugget near zero do not take it for known", {
  n <- 80
  set.seed(2)
  x <- cbind(runif(n), runif(n))
  s <- as.matrix(dist(x))
  set.seed(5)
  y <- drop(crossprod(chol(exp(-s / 0.05) + diag(0.7, n)), rnorm(n)))
  fit <- vif_fit(y, x, X = 1, kernel = "matern12", progress = FALSE)
  expect_identical(fit$bounded, c(nugget = "lower"))
  K <- exp(-s / fit$kernel$lengthscale)
  slopes <- list(K, fit$kernel$variance * K * s / fit$kernel$lengthscale^2, diag(n))
  P <- solve(fit$kernel$variance * K + diag(fit$nugget, n))
  fisher <- sapply(slopes, function(a) sapply(slopes, function(b) sum((P %*% a) * t(P %*% b)) / 2))
  error <- sqrt(diag(solve(fisher)))
  expect_equal(unname(sqrt(diag(vcov(fit, "covariance")))), c(error[1:2], NA), tolerance = 1e-3)
})
