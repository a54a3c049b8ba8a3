set.seed(14)
d <- data.frame(x = runif(150), kind = gl(3, 1, 150, c("a", "b", "c")))
d$y <- sin(8 * d$x) + as.integer(d$kind) / 3 + rnorm(150, sd = 0.2)
fit <- vif_fit(y ~ kind, coords = ~ x, data = d, inducing = 20, k = 10, progress = FALSE)

test_that("tidy(), glance() and augment() are found", {
  skip_if_not_installed("generics")
  parts <- generics::tidy(fit, conf.int = TRUE)
  expect_identical(parts$term[1:3], names(coef(fit, "mean")))
  expect_equal(parts$estimate, unname(coef(fit)))
  expect_equal(parts$conf.low[1:3], unname(confint(fit, 1:3)[, 1]))
  expect_identical(nrow(generics::tidy(fit, effects = "covariance")), 3L)
  expect_error(generics::tidy(fit, effects = "random"), "`effects`")
  one <- generics::glance(fit)
  expect_identical(c(nrow(one), one$nobs), c(1L, 150L))
  expect_equal(one$AIC, AIC(fit))
  with <- generics::augment(fit, data = d)
  expect_equal(with$.fitted, unname(fitted(fit)))
  expect_equal(with$.resid, unname(residuals(fit)))
  expect_true(all(c("x", "kind", ".loo", ".std.resid") %in% names(with)))
  new <- generics::augment(fit, newdata = d[1:4, ], se_fit = TRUE, interval = "prediction")
  expect_equal(new$.upper, predict(fit, d[1:4, ], interval = "prediction")$upr)
  expect_error(generics::augment(fit, data = d[1:3, ]), "`data`")
})

test_that("autoplot() makes plots", {
  skip_if_not_installed("ggplot2")
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  expect_s3_class(print(ggplot2::autoplot(fit)), "ggplot")
  expect_s3_class(print(ggplot2::autoplot(fit, "predictions")), "ggplot")
})

test_that("emmeans are linear in the mean", {
  skip_if_not_installed("emmeans")
  means <- as.data.frame(emmeans::emmeans(fit, "kind"))
  beta <- coef(fit, "mean")
  expect_equal(means$emmean, unname(beta[1] + c(0, beta[2:3])))
  V <- vcov(fit)
  expect_equal(means$SE[2], sqrt(V[1, 1] + V[2, 2] + 2 * V[1, 2]))
})

test_that("augment() keeps new sf points, and predicts them", {
  skip_if_not_installed("sf")
  d <- data.frame(x = runif(60), y = runif(60))
  d$z <- d$x + rnorm(60, sd = 0.1)
  points <- sf::st_as_sf(d, coords = c("x", "y"))
  fit <- vif_fit(z ~ 1, data = points, inducing = 10, k = 8, progress = FALSE)
  out <- augment.vif(fit, newdata = points[1:4, ], se_fit = TRUE)
  expect_s3_class(out, "sf")
  expect_identical(out$.fitted, predict(fit, points[1:4, ])$fit)
})

test_that("emmeans are back-transformed to responses", {
  skip_if_not_installed("emmeans")
  d$count <- rep(0:4, 30)
  counts <- suppressWarnings(vif_fit(count ~ kind, coords = ~ x, data = d, family = poisson(), inducing = 10, k = 5,
                                     progress = FALSE))
  rates <- as.data.frame(emmeans::emmeans(counts, ~ kind, type = "response"))
  expect_equal(rates$rate, exp(as.data.frame(emmeans::emmeans(counts, ~ kind))$emmean))
})

test_that("rows that were left out are left out, or empty, in augment() and simulate()", {
  holes <- d
  holes$y[c(2, 9)] <- NA
  omitted <- update(fit, data = holes)
  padded <- update(fit, data = holes, na.action = na.exclude)
  expect_identical(dim(simulate(padded, 2)), c(150L, 2L))
  expect_identical(which(is.na(simulate(padded)[[1]])), c(2L, 9L))
  skip_if_not_installed("generics")
  expect_equal(generics::augment(omitted, data = holes)$.fitted, unname(fitted(omitted)))
  expect_equal(generics::augment(omitted, data = holes)$x, d$x[-c(2, 9)])
  expect_equal(generics::augment(padded)$.fitted, unname(fitted(padded)))
  expect_equal(generics::augment(padded, data = holes)$x, d$x)
})
