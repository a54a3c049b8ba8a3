quick <- function(...) vif_fit(..., inducing = 20, k = 10, progress = FALSE)
set.seed(13)
d <- data.frame(a = runif(200), b = runif(200), z = rnorm(200), noise = rnorm(200))
d$y <- 1 + sin(6 * d$a) + d$z / 4 + rnorm(200, sd = 0.2)
fit <- vif_fit(y ~ z + noise, coords = ~ a + b, data = d, inducing = 20, k = 10, progress = FALSE)
matrices <- quick(d$y, d[c("a", "b")], X = 1)

test_that("no method swallows an argument", {
  expect_error(predict(fit, d[1:2, ], foo = 1), "predict\\(\\): `foo` is not an argument of predict\\(\\)")
  expect_error(predict(fit, d[1:2, ], type = "terms"), '`type` must be one of "response", "link"')
  expect_identical(predict(fit, d[1:2, ], type = "link"), predict(fit, d[1:2, ]))
  expect_error(simulate(fit, newdata = d), "`newdata` is not an argument of simulate\\(\\): samples at new inputs")
  for (method in list(coef, vcov, logLik, fitted, residuals, summary, sigma, deviance, df.residual, rstandard, plot)) {
    expect_error(method(fit, swallowed = 1), "`swallowed` is not an argument")
  }
  expect_error(confint(fit, swallowed = 1), "`swallowed` is not an argument")
  gp <- residual_gp(runif(20), gp_kernel(), inducing = 3)
  expect_error(cover_tree(gp, 1L, k = 3), "`k` is not an argument of cover_tree")
  expect_error(summary(cover_tree(gp), k = 3), "`k` is not an argument of summary")
  expect_error(update(cover_tree(gp), size = 3), "`size` is not an argument of update")
})

test_that("partial names of arguments work in predict()", {
  expect_identical(predict(fit, d[1:2, ], se = FALSE), predict(fit, d[1:2, ], se.fit = FALSE))
  expect_identical(predict(fit, d[1:2, ], se = TRUE), predict(fit, d[1:2, ]))
  expect_true(is.numeric(predict(fit, d[1:2, ], se = FALSE)))
})

test_that("predict() without new data is that at the observations; with all neighbours it and fitted() are exact", {
  expect_equal(predict(fit), predict(fit, d), ignore_attr = TRUE)
  expect_equal(predict(fit)$fit, unname(fitted(fit)))
  full <- vif_fit(y ~ z, coords = ~ a + b, data = d, inducing = 10, k = 199, progress = FALSE, iterations = 100)
  S <- oracle_covariance(full$kernel, full$gp$x[order(full$order), ], full$gp$x[order(full$order), ])
  noisy <- solve(S + diag(full$nugget, 200))
  X <- model.matrix(full)
  variance <- diag(S - S %*% noisy %*% S)
  expect_equal(predict(full)$se.fit^2, variance, tolerance = 1e-6)
  expect_equal(unname(fitted(full)), predict(full)$fit, tolerance = 1e-6)
  left <- t(X) - t(X) %*% noisy %*% S
  expect_equal(predict(full, beta_uncertainty = TRUE)$se.fit^2,
               variance + colSums(left * solve(t(X) %*% noisy %*% X, left)), tolerance = 1e-6, ignore_attr = TRUE)
  expect_equal(predict(full)[1:5, ], predict(full, d[1:5, ], k = 200), tolerance = 1e-6)
  excluded <- d
  excluded$y[3] <- NA
  padded <- quick(y ~ z, coords = ~ a + b, data = excluded, na.action = na.exclude)
  expect_identical(which(is.na(predict(padded)$fit)), 3L)
  expect_identical(unname(which(is.na(predict(padded, se = FALSE)))), 3L)
})

test_that("samples keep to their rows", {
  p <- predict(fit, d[1:6, ], nsim = 4, seed = 2)
  samples <- attr(p, "samples")
  expect_identical(attr(p[c(5, 2), ], "samples"), samples[c(5, 2), ])
  expect_identical(attr(p[-1, ], "samples"), samples[-1, ])
  expect_identical(attr(p[p$fit > 0, c("fit", "se.fit")], "samples"), samples[p$fit > 0, , drop = FALSE])
  expect_identical(attr(p["fit"], "samples"), samples)
  expect_identical(attr(head(p, 2), "samples"), samples[1:2, ])
  expect_identical(p[, "fit"], p$fit)
  expect_identical(p[2, "fit"], p$fit[2])
})

test_that("a fit knows its parts", {
  expect_identical(sigma(fit), sqrt(fit$nugget))
  expect_identical(deviance(fit), -2 * fit$loglik)
  expect_identical(df.residual(fit), 200L - 6L)
  expect_identical(family(fit)$family, "gaussian")
  expect_identical(attr(terms(fit), "response"), 1L)
  expect_identical(names(model.frame(fit)), c("y", "z", "noise", "a", "b"))
  expect_equal(model.matrix(fit), model.matrix(~ z + noise, d), ignore_attr = TRUE)
  expect_identical(variable.names(fit), c("(Intercept)", "z", "noise"))
  expect_identical(case.names(fit), as.character(1:200))
  expect_identical(rstandard(fit), residuals(fit, "standardised"))
  expect_identical(residuals(fit, "standardized"), residuals(fit, "standardised"))
  expect_identical(extractAIC(fit), c(6, AIC(fit)))
  expect_error(terms(matrices), "the fit has no formula")
})

test_that("terms are dropped and added", {
  dropped <- drop1(fit, test = "Chisq")
  expect_identical(rownames(dropped), c("<none>", "z", "noise"))
  expect_lt(dropped["z", "Pr(>Chi)"], 1e-6)
  expect_equal(dropped["noise", "AIC"], AIC(update(fit, . ~ . - noise)), tolerance = 1e-6)
  expect_lt(add1(update(fit, . ~ . - z), ~ . + z)["z", "AIC"], dropped["z", "AIC"])
})

test_that("anova() tests nested fits by their likelihood ratio", {
  small <- update(fit, . ~ 1)
  table <- anova(fit, small)
  expect_identical(rownames(table), c("small", "fit"))
  expect_equal(table$Chisq[2], 2 * (fit$loglik - small$loglik), tolerance = 0.01)
  expect_equal(table$`Pr(>Chisq)`[2], pchisq(table$Chisq[2], 2, lower.tail = FALSE))
  expect_output(print(table), "Likelihood-ratio tests")
  expect_error(anova(fit), "two fits or more are compared")
  expect_error(anova(fit, lm(y ~ z, d)), "`...` must be further fits of vif_fit")
  expect_error(anova(fit, quick(y ~ 1, coords = ~ a + b, data = d[-1, ])), "fits of the same observations")
  expect_warning(anova(small, update(fit, k = 12)), class = "vif_comparison")
})

test_that("intervals of the mean are Wald's, those of covariance parameters from their logarithms", {
  error <- sqrt(diag(vcov(fit)))
  expect_equal(confint(fit, "z", level = 0.9)[1, ], coef(fit)[["z"]] + c(-1, 1) * qnorm(0.95) * error[["z"]], ignore_attr = TRUE)
  bare <- fit
  bare$fisher <- NULL
  bare <- sealed(bare)
  expect_identical(rownames(confint(bare)), c("(Intercept)", "z", "noise"))
  expect_error(confint(bare, "nugget"), "holds no information matrix")
  expect_error(vcov(bare, "covariance"), "holds no information matrix")
  expect_error(confint(fit, "depth"), "`parm` must be among")
  expect_error(confint(fit, 99), "`parm` must be among .*, not 99\\.")
  known <- fit
  known$fisher <- matrix(c(20, 5, 2, 5, 30, 1, 2, 1, 80), 3)
  known$bounded <- character()
  known <- sealed(known)
  V <- solve(known$fisher)
  estimate <- coef(fit, "covariance")
  expect_equal(vcov(known, "covariance"), V * outer(estimate, estimate), ignore_attr = TRUE)
  expect_equal(confint(known)["lengthscale", ], estimate[[2]] * exp(c(-1, 1) * qnorm(0.975) * sqrt(V[2, 2])), ignore_attr = TRUE)
  expect_equal(covariance_table(known)[, "Std. Error"], estimate * sqrt(diag(V)))
  # what is at a bound is held there
  known$bounded <- c(nugget = "lower")
  known <- sealed(known)
  expect_equal(unname(vcov(known, "covariance")[1:2, 1:2]), unname(solve(known$fisher[1:2, 1:2]) * outer(estimate, estimate)[1:2, 1:2]))
  expect_true(is.na(confint(known)["nugget", 1]))
})

test_that("a summary has every table once, and checks the approximation", {
  lines <- capture.output(print(summary(fit, check = TRUE)))
  expect_length(grep("lengthscale", lines), 1)
  expect_length(grep("log-likelihood:", lines), 1)
  expect_length(grep("log-likelihood with 20 neighbours", lines), 1)
  expect_length(grep("^nugget", lines), 1)
  refined <- summary(fit, check = TRUE)$refined
  nearest <- residual_knn(residual_gp(fit$gp$x, fit$kernel, inducing = 0), 60, predecessors = TRUE, progress = FALSE)
  more <- conditioning_sets(fit$gp, 20, nugget = fit$nugget, pool = nearest, progress = FALSE)
  expect_equal(refined, vif_loglik(d$y[fit$order], fit$gp, more, fit$nugget, X = model.matrix(fit)[fit$order, ]))
  expect_equal(summary(fit)$covariance[, 1], coef(fit, "covariance"))
})

test_that("lengthscales have the names of their columns everywhere", {
  each <- quick(y ~ 1, coords = ~ a + b, data = d, kernel = gp_kernel(lengthscale = c(1, 1)))
  expect_named(coef(each, "covariance"), c("variance", "lengthscale.a", "lengthscale.b", "nugget"))
  expect_output(print(each), "lengthscale \\(a = ")
  expect_identical(rownames(summary(each)$covariance), names(coef(each, "covariance")))
})

test_that("anova() tests nested models alone", {
  fit_as <- function(..., mean = y ~ 1) suppressWarnings(quick(mean, coords = ~ a + b, data = d, ...), "vif_bound")
  plain <- fit_as()
  each <- function(family) gp_kernel(family, lengthscale = c(1, 1))
  has_test <- function(table) expect_false(anyNA(table$`Pr(>Chisq)`[2]))
  none <- function(...) {
    expect_warning(table <- anova(...), "is no special case of .*compare their AIC", class = "vif_comparison")
    expect_true(is.na(table$Chisq[2]) && is.na(table$`Pr(>Chisq)`[2]))
  }
  none(fit_as(kernel = "rbf"), fit_as(kernel = each("matern12")))
  several <- fit_as(kernel = each("matern32"))
  free <- fit_as(kernel = "matern", smoothness = "estimate")
  turned <- fit_as(anisotropy = TRUE)
  expect_no_warning(has_test(anova(plain, several)))
  expect_no_warning(has_test(anova(plain, free)))
  expect_no_warning(has_test(anova(plain, turned)))
  none(several, fit_as(kernel = "matern", smoothness = "estimate", mean = y ~ z))
  none(fit_as(kernel = "rbf"), free)
  expect_true(nested_kernels(several, turned))
  expect_false(nested_kernels(turned, several))
  expect_true(nested_kernels(plain, fit_as(kernel = "matern", smoothness = 1.5)))
  fixed <- fit_as(anisotropy = c(30, 0.5))
  expect_true(nested_kernels(fixed, turned))
  expect_false(nested_kernels(plain, fixed))
  # groups of columns
  z <- cbind(a = d$a, b = d$b, c = runif(200))
  grouped <- function(groups) suppressWarnings(quick(d$y, z, X = 1, lengthscale = groups, iterations = 1))
  pair <- grouped(list(p = c("a", "b"), q = "c"))
  three <- grouped(list(p = "a", q = "b", r = "c"))
  expect_true(nested_kernels(pair, three))
  expect_false(nested_kernels(pair, grouped(list(p = c("a", "c"), q = "b"))))
  # offsets: a coefficient that is held at 1 is nested in one that is estimated, and another offset is not
  held <- fit_as(mean = y ~ offset(z))
  expect_no_warning(has_test(anova(held, fit_as(mean = y ~ z))))
  none(held, fit_as(mean = y ~ noise))
  # means by what they span, not by names
  expect_true(nested_means(fit_as(mean = y ~ z), fit_as(mean = y ~ poly(z, 2))))
  # nuggets
  known <- fit_as(nugget = 0.04)
  expect_no_warning(has_test(anova(known, plain)))
  none(plain, fit_as(nugget = 0.04, mean = y ~ z + noise))
  none(fit_as(nugget = 0.05), fit_as(nugget = 0.04, mean = y ~ z))
  # as many parameters, and another model; the same one twice is none
  none(fit_as(mean = y ~ z), fit_as(mean = y ~ noise))
  none(plain, fit_as(kernel = "matern52"))
  expect_no_warning(anova(fit_as(mean = y ~ z), fit_as(mean = y ~ I(2 * z))))
})

test_that("anova() compares what can be compared", {
  d$count <- rep(0:4, 40)
  gaussian <- quick(count ~ 1, coords = ~ a + b, data = d)
  poisson <- suppressWarnings(quick(count ~ 1, coords = ~ a + b, data = d, family = poisson()))
  larger <- suppressWarnings(quick(count ~ z, coords = ~ a + b, data = d, family = stats::poisson()))
  expect_no_warning(anova(poisson, larger))
  expect_error(anova(gaussian, poisson), "`...` must be fits of one family, gaussian identity, not poisson log", fixed = TRUE)
  expect_warning(anova(fit, update(fit, . ~ z, weights = rep(1:2, 100))), "differ in inputs, weights", class = "vif_comparison")
  expect_warning(anova(fit, update(fit, . ~ z, coords = ~ b + a)), "differ in inputs, weights", class = "vif_comparison")
  poor <- suppressWarnings(update(fit, start = list(kernel = gp_kernel("matern32", 1, 50), nugget = 1), iterations = 1))
  expect_warning(anova(update(fit, . ~ z), poor), "below that of a smaller model", class = "vif_comparison")
})

test_that("anova() refuses fits that were edited, and leaves a fit its sets where others serve it badly", {
  set.seed(1)
  n <- 150
  d <- data.frame(a = runif(n), b = runif(n), z = rnorm(n))
  d$y <- sin(6 * d$a) + rnorm(n, sd = 0.3)
  small <- vif_fit(y ~ 1, ~ a + b, d, inducing = 10, k = 8, progress = FALSE)
  large <- update(small, . ~ z)
  edited <- large
  edited$loglik <- edited$loglik + 5
  expect_error(anova(small, edited), "must be as it was made")
  edited <- large
  names(edited$coefficients) <- rev(names(edited$coefficients))
  expect_error(summary(edited), "must be as it was made")
  # with a hundred units more by its own sets, it keeps them
  apart <- small
  apart$loglik <- apart$loglik + 100
  expect_identical(common_loglik(list(sealed(apart), large))$loglik, c(apart$loglik, large$loglik))
  expect_lt(abs(common_loglik(list(small, large))$loglik[1] - small$loglik), 1)
})
