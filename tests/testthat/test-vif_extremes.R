# Numbers at the ends of what is offered: the right answer or an error, never NaN.

set.seed(41)
spots <- matrix(sample(0:1023, 120, TRUE), 60) / 1024 # exact in binary, and with an offset of 1e9 too
heights <- sin(6 * spots[, 1]) + rnorm(60, sd = 0.3)
everyone <- function(n) rbind(NA, t(sapply(2:n, function(i) c(rev(seq_len(i - 1)), rep(NA, n - i)))))
# the table of all points before each, as GpGp writes it
all_before <- cbind(seq_len(60), everyone(60))
storage.mode(all_before) <- "integer"

loglik_of <- function(kernel, x = spots, y = heights, nugget = 0.1 * kernel$variance, inducing = x[seq(1, 60, by = 9), ]) {
  gp <- residual_gp(x, kernel, inducing)
  value <- vif_loglik(y, gp, all_before, nugget, gradient = TRUE)
  expect_true(all(is.finite(c(value, attr(value, "gradient")))), label = format(kernel))
  value
}

test_that("likelihood and gradient are right for variances from 1e-300 to 1e300", {
  for (family in c("matern12", "matern32", "matern52", "rbf")) {
    one <- loglik_of(gp_kernel(family, 1, 0.3))
    expect_equal(as.numeric(one), gp_loglik(heights, spots, gp_kernel(family, 1, 0.3), 0.1), tolerance = 1e-8)
    for (power in c(-300, -200, -80, 80, 200, 300)) {
      scaled <- loglik_of(gp_kernel(family, 10^power, 0.3), y = heights * 10^(power / 2))
      expect_equal(as.numeric(scaled), as.numeric(one) - 30 * power * log(10), tolerance = 1e-9, label = paste(family, power))
      expect_equal(attr(scaled, "gradient"), attr(one, "gradient"), tolerance = 1e-6, label = paste(family, power))
    }
  }
})

test_that("lengthscales from 1e-8 to 1e8, and offsets of 1e9, give the dense likelihood", {
  for (family in c("matern12", "matern32", "matern52", "rbf")) {
    for (lengthscale in 10^c(-8, -5, -2, 0, 2, 5, 8)) {
      kernel <- gp_kernel(family, 2, lengthscale)
      expect_equal(as.numeric(loglik_of(kernel)), gp_loglik(heights, spots, kernel, 0.2), tolerance = 1e-7, label = format(kernel))
      unit <- gp_kernel(family, 2, lengthscale * 0.2)
      expect_equal(as.numeric(loglik_of(unit, spots * lengthscale)),
                   as.numeric(loglik_of(gp_kernel(family, 2, 0.2))), tolerance = 1e-8, label = format(unit))
    }
    kernel <- gp_kernel(family, 1, c(0.1, 0.4))
    expect_equal(as.numeric(loglik_of(kernel, spots + 1e9)), as.numeric(loglik_of(kernel)), tolerance = 1e-9, label = family)
  }
})

test_that("smoothness from 0.05 to the largest gives the dense likelihood and its slope", {
  for (smoothness in c(0.05, 0.2, 0.49, 0.51, 1.2, 3, 9.99, 10, 40, 1000, 10000)) {
    kernel <- gp_kernel("matern", 1.5, 0.3, smoothness)
    value <- loglik_of(kernel)
    expect_equal(as.numeric(value), gp_loglik(heights, spots, kernel, 0.15), tolerance = 1e-7, label = format(kernel))
    step <- 1e-4
    at <- function(move) gp_loglik(heights, spots, gp_kernel("matern", 1.5, 0.3 * exp(move), smoothness), 0.15)
    expect_equal(attr(value, "gradient")[["lengthscale"]], (at(step) - at(-step)) / (2 * step), tolerance = 1e-4,
                 label = format(kernel))
  }
})

test_that("residual variances of 1e-5 to 1e-9 of the variance are no obstacle", {
  for (family in c("matern12", "matern32", "rbf")) for (gap in 10^-(2:9)) {
    base <- matrix(runif(40), 20)
    x <- rbind(base, base + gap, base - gap / 2)
    kernel <- gp_kernel(family, 3, 0.3)
    gp <- residual_gp(x, kernel, base, jitter = 1e-9)
    exact <- residual_knn(gp, 5, method = "brute")
    expect_false(anyNA(exact$dist))
    for (method in c("level", "best_first")) {
      expect_identical(residual_knn(cover_tree(gp), 5, method = method)$id, exact$id, label = paste(family, gap, method))
    }
    expect_equal(as.numeric(vif_loglik(heights, gp, all_before, 0.3)), gp_loglik(heights, x, kernel, 0.3), tolerance = 1e-6,
                 label = paste(family, gap))
    without <- tryCatch(as.numeric(vif_loglik(heights, gp, all_before, 0)), error = conditionMessage)
    if (is.numeric(without)) expect_true(is.finite(without)) else expect_match(without, "not positive definite")
  }
})

test_that("a fit moves with the units of its data", {
  skip_on_cran()
  set.seed(42)
  # numbers that 1e9 leaves as they are; on a coarser grid rounding would decide between sets that are as good
  x <- matrix(sample(2^20, 500), 250) / 2^20
  y <- 3 + sin(6 * x[, 1]) + rnorm(250, sd = 0.2)
  fit <- function(y, x) vif_fit(y, x, cbind(rep(1, length(y))), inducing = 15, k = 8, seed = 1, progress = FALSE)
  one <- fit(y, x)
  new <- matrix(sample(2^20, 20), 10) / 2^20
  for (units in list(c(1e-140, 1, 0), c(1e140, 1, 0), c(1, 1e-8, 0), c(1, 1e8, 0), c(1e-6, 1, 1e9), c(1e6, 1e8, 1e9))) {
    move <- function(x) x * units[2] + units[3]
    other <- fit(y * units[1], move(x))
    label <- paste(units, collapse = ", ")
    expect_lt(abs(other$loglik + 250 * log(units[1]) - one$loglik), 1e-3, label = label)
    expect_equal(other$kernel$variance / units[1]^2, one$kernel$variance, tolerance = 1e-3, label = label)
    expect_equal(other$kernel$lengthscale / units[2], one$kernel$lengthscale, tolerance = 1e-3, label = label)
    p <- predict(other, move(new), newX = cbind(rep(1, 10)), se.fit = TRUE)
    was <- predict(one, new, newX = cbind(rep(1, 10)))
    expect_equal(p$fit / units[1], was$fit, tolerance = 1e-3, label = label)
    expect_equal(p$se.fit / units[1], was$se.fit, tolerance = 1e-3, label = label)
  }
})

test_that("numbers that cannot be served end in an error that names them, or in finite answers", {
  calls <- expression(
    variance = residual_gp(spots, gp_kernel(variance = 1e-310), 5), huge = residual_gp(spots, gp_kernel(variance = 1e305), 5),
    tiny = residual_gp(spots, gp_kernel(lengthscale = 1e-320), 5), wide = residual_gp(spots, gp_kernel(lengthscale = 1e300), 5),
    far = residual_gp(spots * 1e300, gp_kernel(lengthscale = 1e-5), 5), together = residual_gp(spots * 1e-320, gp_kernel(), 5)
  )
  for (name in names(calls)) {
    answer <- tryCatch({
      gp <- eval(calls[[name]])
      c(residual_knn(gp, 3)$dist, vif_loglik(heights, gp, residual_knn(gp, 3, predecessors = TRUE), gp$kernel$variance))
    }, error = conditionMessage)
    if (is.character(answer)) expect_match(answer, "`[a-z_]+`|not positive definite", label = name)
    else expect_false(any(is.nan(answer)), label = name)
  }
})

test_that("without noise, smooth processes of long lengthscales keep the noise that double precision needs", {
  set.seed(3)
  surface <- function(d) exp(-3 * (d$a - 0.5)^2) + d$b^3
  runs <- data.frame(a = runif(300), b = runif(300))
  runs$y <- surface(runs)
  new <- data.frame(a = runif(200), b = runif(200))
  for (kernel in list(gp_kernel("matern52"), gp_kernel("rbf", lengthscale = c(1, 1)))) {
    expect_message(fit <- vif_fit(y ~ 1, coords = ~ a + b, data = runs, kernel = kernel, nugget = 0, progress = FALSE),
                   "so small a `nugget`", class = "vif_nugget")
    expect_equal(fit$nugget, fit$settings$least * fit$kernel$variance)
    p <- predict(fit, new)
    error <- p$fit - surface(new)
    expect_lt(sqrt(mean(error^2)), 3e-4)
    expect_gt(mean(abs(error) < 2 * p$se.fit), 0.9)
  }
  rough <- vif_fit(y ~ 1, coords = ~ a + b, data = runs, kernel = "matern32", nugget = 0, progress = FALSE)
  expect_identical(rough$nugget, 0)
})

test_that("where the noise goes with the variance, so does the gradient", {
  set.seed(4)
  x <- matrix(runif(160), 80)
  fit <- suppressMessages(vif_fit(sin(3 * x[, 1]) + x[, 2]^2, x, X = 1, kernel = "rbf", nugget = 0, progress = FALSE))
  data <- list(y = fit$y[fit$order], x = fit$gp$x, X = matrix(1, 80, 1), extra = numeric(80), share = rep(1, 80))
  structure <- list(inducing = fit$gp$inducing, id = fit$id)
  theta <- fit$theta + c(0.3, -0.4) # away from the maximum
  value <- function(theta) evaluate(theta, structure, data, fit$settings)$value
  slope <- vapply(seq_along(theta), function(a) {
    step <- replace(numeric(2), a, 1e-3)
    (value(theta + step) - value(theta - step)) / 2e-3
  }, 0)
  expect_equal(unname(evaluate(theta, structure, data, fit$settings)$gradient), slope, tolerance = 1e-3)
})

test_that("a column that matters linearly is not called one that does not matter", {
  set.seed(5)
  X <- matrix(runif(1200), 200, 6, dimnames = list(NULL, paste0("v", 1:6)))
  y <- 10 * sin(pi * X[, 1] * X[, 2]) + 20 * (X[, 3] - 0.5)^2 + 10 * X[, 4] + 5 * X[, 5]
  kernel <- gp_kernel("matern52", lengthscale = rep(1, 6))
  expect_warning(fit <- suppressMessages(vif_fit(y, X, X = 1, kernel = kernel, nugget = 0, progress = FALSE)),
                 "v5, [^()]*have run.* constant or a straight line.* straight lines belong to the mean$", class = "vif_bound")
  expect_output(print(fit), "20 times the range: v3, v4, v5, v6 \\(little effect, or a smooth trend\\)")
})
