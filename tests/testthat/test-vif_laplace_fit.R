set.seed(31)
n <- 160
d <- data.frame(lon = runif(n), lat = runif(n), z = rnorm(n), time = runif(n, 0.5, 2))
truth <- gp_kernel("matern32", variance = 0.8, lengthscale = 0.25)
x <- as.matrix(d[c("lon", "lat")])
eta <- 0.8 + 0.4 * d$z + drop(crossprod(chol(oracle_covariance(truth, x, x) + diag(1e-9, n)), rnorm(n)))
d$count <- rpois(n, d$time * exp(eta))
d$seen <- rbinom(n, 1, plogis(eta - 0.8))
quick <- function(...) vif_fit(..., progress = FALSE, threads = 1)
count_fit <- quick(count ~ z + offset(log(time)), coords = ~ lon + lat, data = d, family = poisson(),
                   inducing = 10, k = n - 1)
seen_fit <- quick(seen ~ z, coords = ~ lon + lat, data = d, family = binomial(), inducing = 15, k = 12)

test_that("with all neighbours fit and predictions are those of the dense Laplace approximation", {
  on_one_thread()
  K <- oracle_covariance(count_fit$kernel, x, x)
  fixed <- count_fit$coefficients[[1]] + count_fit$coefficients[[2]] * d$z + log(d$time)
  inverse <- solve(K)
  b <- numeric(n)
  for (iteration in 1:50) b <- b + solve(inverse + diag(exp(fixed + b)), d$count - exp(fixed + b) - drop(inverse %*% b))
  W <- exp(fixed + b)
  loglik <- sum(dpois(d$count, W, log = TRUE)) - drop(b %*% inverse %*% b) / 2 -
    as.numeric(determinant(diag(n) + K * rep(W, each = n))$modulus) / 2
  expect_equal(count_fit$loglik, loglik, tolerance = 1e-7)
  expect_equal(unname(count_fit$linear.predictors), fixed + b, tolerance = 1e-6)

  new <- data.frame(lon = c(0.2, 0.55, 1.3), lat = c(0.3, 0.5, 0.9), z = c(0, 1, -1), time = c(1, 2, 0.5))
  cross <- oracle_covariance(count_fit$kernel, as.matrix(new[1:2]), x)
  mean <- cbind(1, new$z) %*% count_fit$coefficients + log(new$time) + cross %*% inverse %*% b
  variance <- count_fit$kernel$variance - rowSums((cross %*% solve(K + diag(1 / W))) * cross)
  p <- predict(count_fit, new, type = "link", interval = "confidence", k = n)
  expect_equal(p$fit, drop(mean), tolerance = 1e-6)
  expect_equal(p$se.fit^2, variance, tolerance = 1e-6)
  expect_equal(p$upr, p$fit + qnorm(0.975) * p$se.fit)
  response <- predict(count_fit, new, k = n)
  expect_equal(response$fit, exp(p$fit + p$se.fit^2 / 2), tolerance = 1e-6)
  expect_equal(response$se.fit, response$fit * sqrt(expm1(p$se.fit^2)), tolerance = 1e-5)
  expect_equal(response$se.obs, sqrt(response$se.fit^2 + response$fit), tolerance = 1e-5)
})

test_that("fits without inducing inputs, exact and iterative, agree", {
  set.seed(61)
  x <- matrix(runif(600), 300)
  y <- rbinom(300, 1, plogis(sin(6 * x[, 1]) + 2 * cos(5 * x[, 2])))
  fits <- lapply(c("exact", "iterative"), function(how) {
    vif_fit(y, x, X = 1, family = binomial(), inducing = 0, k = 20, laplace = how, progress = FALSE)
  })
  expect_lt(abs(fits[[1]]$loglik - fits[[2]]$loglik), 0.1)
  expect_lt(abs(as.numeric(latent_loglik(fits[[1]], "exact")) - fits[[1]]$loglik), 0.02)
  expect_true(all(is.finite(predict(fits[[1]], x[1:5, ] + 0.01, newX = matrix(1, 5))$se.fit)))
})

test_that("the fit is a maximum of the dense approximation", {
  on_one_thread()
  rows <- count_fit$order
  data <- list(y = d$count[rows], w = rep(1, n), X = count_fit$X[rows, ], offset = log(d$time)[rows])
  at <- laplace_evaluate(count_fit$gp, count_fit$id, data, laplace_family(poisson()), numeric(), count_fit$coefficients,
                         gradient = TRUE, tolerance = 1e-9)
  expect_equal(at$loglik, count_fit$loglik, tolerance = 1e-8)
  expect_lt(max(abs(at$gradient)), 0.5)
  expect_true(count_fit$converged)
  expect_identical(attr(logLik(count_fit), "df"), 4L)
})

test_that("forms of one response give one fit, and offsets and weights count", {
  on_one_thread()
  parts <- c("coefficients", "kernel", "loglik")
  forms <- list(d$seen == 1, factor(ifelse(d$seen == 1, "yes", "no")), cbind(d$seen, 1 - d$seen))
  for (y in forms) {
    again <- quick(y, x, X = cbind(`(Intercept)` = 1, z = d$z), family = binomial(), inducing = 15, k = 12)
    expect_equal(again[parts], seen_fit[parts], tolerance = 1e-8)
  }
  # everything observed twice, as two trials
  # with so few points the process may separate them
  twice <- suppressWarnings(quick(d$seen, x, X = cbind(1, d$z), family = binomial(), weights = rep(2, n),
                                  inducing = 15, k = 12))
  columns <- suppressWarnings(quick(cbind(2 * d$seen, 2 - 2 * d$seen), x, X = cbind(1, d$z), family = binomial(),
                                    inducing = 15, k = 12))
  expect_equal(twice$loglik, columns$loglik)
  expect_false(isTRUE(all.equal(twice$loglik, seen_fit$loglik)))
  moved <- quick(d$count, x, X = cbind(1, d$z), offset = log(d$time) + 2, family = poisson(), inducing = 10, k = n - 1)
  expect_equal(unname(moved$coefficients), unname(count_fit$coefficients) - c(2, 0), tolerance = 0.01)
})

test_that("probabilities are integrated, intervals are quantiles and hold what they say", {
  new <- expand.grid(lon = c(0.1, 0.5, 0.9), lat = c(0.2, 0.8))
  new$z <- 0.5
  link <- predict(seen_fit, new, type = "link")
  p <- predict(seen_fit, new, interval = "confidence", level = 0.9)
  by_hand <- vapply(seq_len(nrow(new)), function(i) {
    integrate(function(e) plogis(e) * dnorm(e, link$fit[i], link$se.fit[i]), -20, 20, rel.tol = 1e-9)$value
  }, 0)
  expect_equal(p$fit, by_hand, tolerance = 1e-6)
  expect_equal(p$lwr, plogis(link$fit - qnorm(0.95) * link$se.fit))
  expect_true(all(p$lwr < p$fit & p$fit < p$upr))
  new$time <- 1
  limits <- predict(count_fit, new, interval = "prediction", level = 0.8)
  link <- predict(count_fit, new, type = "link")
  family <- laplace_family(poisson())
  cdf <- function(y) mixture_cdf(y, family, link$fit, link$se.fit, 1, numeric())
  expect_true(all(limits$lwr == round(limits$lwr)))
  expect_true(all(cdf(limits$upr) >= 0.9 & cdf(limits$upr - 1) < 0.9))
  expect_true(all(cdf(limits$lwr) >= 0.1 & cdf(limits$lwr - 1) < 0.1))
  gamma <- laplace_family(Gamma("log"))
  q <- mixture_quantile(0.3, gamma, c(0, 1), c(0.5, 0.2), 1, c(shape = 2))
  expect_equal(mixture_cdf(q, gamma, c(0, 1), c(0.5, 0.2), 1, c(shape = 2)), c(0.3, 0.3), tolerance = 1e-8)
})

test_that("residuals, fitted values, simulations and scores are those of the family", {
  mu <- fitted(seen_fit)
  expect_equal(unname(mu), plogis(seen_fit$linear.predictors))
  expect_equal(unname(residuals(seen_fit)), d$seen - unname(mu))
  expect_equal(unname(residuals(seen_fit, "pearson")), (d$seen - unname(mu)) / sqrt(unname(mu * (1 - mu))))
  expect_equal(unname(residuals(seen_fit, "deviance")),
               sign(d$seen - 0.5) * sqrt(-2 * unname(ifelse(d$seen == 1, log(mu), log1p(-mu)))))
  r <- residuals(count_fit, "quantile", seed = 1)
  expect_identical(residuals(count_fit, "quantile", seed = 1), r)
  expect_gt(ks.test(unname(r), "pnorm")$p.value, 0.01)
  s <- simulate(count_fit, 50, seed = 1)
  expect_equal(dim(s), c(n, 50))
  expect_true(all(s == round(s)))
  link <- predict(seen_fit, d, type = "link")
  score <- laplace_scores(seen_fit, d$seen, link$fit, link$se.fit)
  p <- predict(seen_fit, d)$fit
  expect_equal(score$log, dbinom(d$seen, 1, p, log = TRUE), tolerance = 1e-8)
  expect_equal(score$brier, (d$seen - p)^2, tolerance = 1e-8)
})

test_that("responses that are narrow beside the uncertainty of the linear predictor are integrated, too", {
  cases <- list(list(poisson(), numeric(), 6, 1), list(nbinom2(), c(size = 1e4), 6, 1),
                list(Gamma("log"), c(shape = 7000), 6, 1), list(Gamma("log"), c(shape = 0.5), 6, 1),
                list(student_t(), c(scale = 0.006, df = 4), 0, 1), list(binomial(), numeric(), 0, 900),
                list(binomial("probit"), numeric(), 0, 900), list(beta_family(), c(precision = 5e4), 0, 1))
  set.seed(3)
  for (case in cases) for (se in c(0.3, 1, 3)) {
    family <- laplace_family(case[[1]])
    phi <- case[[2]]
    w <- case[[4]]
    label <- paste(family$name, se)
    link <- case[[3]] + se * c(-1, 0, 2)
    y <- family$draw(link + se * c(0.7, -0.4, 0.1), w, phi)
    change <- family$width(y, w, phi)
    exact <- function(f, i) { # piece by piece, finer and finer towards where the response changes
      where <- (change$at[i] - link[i]) / se
      width <- rep_len(change$width, 3)[i] / se
      ends <- sort(c(-12, 12, -9:9, pmin(pmax(where + width * c(-2^(12:0), 0, 2^(0:12)), -12), 12)))
      sum(mapply(function(from, to) integrate(f, from, to, rel.tol = 1e-9)$value, ends[-length(ends)], ends[-1]))
    }
    log_density <- vapply(1:3, function(i) {
      log(exact(function(z) exp(family$value(y[i], link[i] + se * z, w, phi) + dnorm(z, log = TRUE)), i))
    }, 0)
    below <- vapply(1:3, function(i) exact(function(z) family$cdf(y[i], link[i] + se * z, w, phi) * dnorm(z), i), 0)
    expect_equal(laplace_scores(list(family = case[[1]], phi = phi), y, link, rep(se, 3), rep(w, 3))$log, log_density,
                 tolerance = 1e-6, label = label)
    expect_equal(mixture_cdf(y, family, link, rep(se, 3), w, phi), below, tolerance = 1e-6, label = label)
  }
  # lognormal moments, and a probability, where the linear predictor says nothing
  moments <- response_moments(laplace_family(Gamma("log")), 1, 6, 1, c(shape = 2))
  expect_equal(moments$se.fit, exp(1 + 18) * sqrt(expm1(36)))
  expect_equal(response_moments(laplace_family(binomial("probit")), -10, 50, 1, numeric())$fit, pnorm(-10 / sqrt(2501)),
               tolerance = 1e-7)
})

test_that("what is left out of each observation is exact for the working responses", {
  S <- oracle_covariance(count_fit$kernel, x, x) + diag(count_fit$noise_variance)
  z <- numeric(n)
  z[count_fit$order] <- count_fit$state$residual
  i <- 17
  away <- solve(S[-i, -i], cbind(z[-i], S[-i, i]))
  fixed <- unname(drop(count_fit$X %*% count_fit$coefficients)) + log(d$time)
  found <- left_out(count_fit)[i, ]
  expect_equal(found$link, fixed[i] + sum(S[-i, i] * away[, 1]), tolerance = 1e-6)
  expect_equal(found$se^2, count_fit$kernel$variance - sum(S[-i, i] * away[, 2]), tolerance = 1e-6)
})

test_that("methods of fits work on these too, and a saved fit predicts the same", {
  expect_output(print(seen_fit), "family: binomial\\(logit\\)")
  expect_named(coef(seen_fit), c("(Intercept)", "z", "variance", "lengthscale"))
  expect_identical(dim(vcov(seen_fit)), c(2L, 2L))
  expect_true(is.finite(AIC(seen_fit)))
  expect_output(print(summary(seen_fit)), "quantile residuals:.*mean")
  file <- tempfile()
  saveRDS(seen_fit, file)
  expect_identical(predict(readRDS(file), d[1:5, ]), predict(seen_fit, d[1:5, ]))
})

test_that("what a family does not take is refused", {
  bad <- function(...) quick(x = x, inducing = 5, k = 5, ...)
  expect_error(bad(d$seen, family = binomial(), nugget = 0.1), "`nugget` must be NULL with a `family`")
  expect_error(bad(d$seen, family = binomial(), noise_variance = rep(1, n)), "`noise_variance` must be NULL")
  expect_error(bad(d$seen, family = binomial("cloglog")), "cloglog")
  expect_error(bad(d$count + 0.5, family = poisson()), "whole counts")
  expect_error(bad(d$count, family = poisson(), offset = 1:3), "`offset` must be NULL or numeric of length 160")
  expect_error(bad(rep(1, n), family = binomial()), "both outcomes")
})

test_that("separated outcomes are told", {
  side <- x[, 1] > 0.5
  expect_warning(fit <- quick(side, x, X = cbind(1, 100 * (side - 0.5)), family = binomial(), inducing = 10, k = 8),
                 class = "vif_separation")
  expect_s3_class(fit, "vif")
})

test_that("joint samples are those of the linear predictor", {
  new <- data.frame(lon = c(0.2, 0.7), lat = c(0.3, 0.6), z = c(0, 1), time = c(1, 2))
  p <- predict(count_fit, new, type = "link", nsim = 4000, seed = 1)
  samples <- attr(p, "samples")
  expect_lt(max(abs(rowMeans(samples) - p$fit) / p$se.fit), 0.08)
  expect_equal(apply(samples, 1, sd), p$se.fit, tolerance = 0.06)
  expect_equal(attr(predict(count_fit, new, nsim = 4000, seed = 1), "samples"), exp(samples))
})

test_that("fits have pictures", {
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  expect_identical(plot(seen_fit), seen_fit)
  skip_if_not_installed("ggplot2")
  for (type in c("residuals", "predictions", "quantiles")) {
    picture <- ggplot2::autoplot(count_fit, type)
    expect_s3_class(picture, "ggplot")
    expect_silent(print(picture))
  }
  expect_equal(ggplot2::autoplot(count_fit, "predictions")$data$predicted, vif_cv(count_fit, "loo")$predictions$fit)
})

test_that("a fit that was changed is refused, and one kept without features does the same", {
  changed <- seen_fit
  changed$linear.predictors[3] <- 1
  expect_error(predict(changed, d[1:2, ]), "changed or damaged")
  expect_error(residuals(changed), "changed or damaged")
  slim <- sealed(lean_fit(seen_fit, most = 0))
  expect_null(slim$gp$V)
  expect_equal(predict(slim, d[1:3, ]), predict(seen_fit, d[1:3, ]), tolerance = 1e-10)
  expect_equal(residuals(slim, "quantile", seed = 1), residuals(seen_fit, "quantile", seed = 1), tolerance = 1e-8)
  expect_equal(simulate(slim, seed = 1), simulate(seen_fit, seed = 1))
  expect_equal(latent_loglik(slim), latent_loglik(seen_fit))
})

test_that("at the observations predictions are those of the fit, and missing values stay where they were", {
  at <- predict(count_fit, type = "link")
  expect_equal(at$fit, count_fit$linear.predictors)
  expect_equal(at$se.fit, predict(count_fit, d, type = "link", k = n)$se.fit, tolerance = 1e-5)
  new <- d[1:3, ]
  new$lat[2] <- NA
  p <- predict(count_fit, new, interval = "prediction", nsim = 2, seed = 1)
  expect_identical(is.na(p$fit), c(FALSE, TRUE, FALSE))
  expect_identical(is.na(p$upr), c(FALSE, TRUE, FALSE))
  expect_identical(is.na(attr(p, "samples")[, 1]), c(FALSE, TRUE, FALSE))
  expect_equal(predict(count_fit, new, se.fit = FALSE)[c(1, 3)], p$fit[c(1, 3)])
  holed <- d
  holed$seen[5] <- NA
  fit <- quick(seen ~ z, coords = ~ lon + lat, data = holed, family = "binomial", inducing = 15, k = 12,
               na.action = na.exclude)
  expect_identical(which(is.na(residuals(fit, "quantile", seed = 1))), 5L, ignore_attr = TRUE)
  expect_identical(which(is.na(fitted(fit))), 5L, ignore_attr = TRUE)
})

test_that("offsets of a formula and of matrices are one, covariates may be in any unit, and updates start at the fit", {
  by_matrix <- quick(d$count, x, X = cbind(1, 1e6 * d$z + 1e7), offset = log(d$time), family = poisson(), inducing = 10,
                     k = n - 1)
  expect_equal(by_matrix$loglik, count_fit$loglik, tolerance = 1e-6)
  expect_equal(by_matrix$coefficients[[2]] * 1e6, count_fit$coefficients[["z"]], tolerance = 1e-3)
  expect_equal(sqrt(vcov(by_matrix)[2, 2]) * 1e6, sqrt(vcov(count_fit)["z", "z"]), tolerance = 1e-3)
  fit <- vif_fit(count ~ z + offset(log(time)), coords = ~ lon + lat, data = d, family = poisson(), inducing = 10,
                 k = 12, progress = FALSE, threads = 1)
  expect_equal(anova(fit, update(fit, . ~ . - z))$Df[2], 1)
  other <- update(fit, family = nbinom2())
  expect_named(coef(other, "covariance"), c("variance", "lengthscale", "size"))
  expect_true("size" %in% names(update(other, k = 10, iterations = 5)$phi))
})

test_that("what fits of other families lack is said", {
  expect_error(summary(seen_fit, check = TRUE), "`check` must be FALSE")
  expect_error(predict(seen_fit, d, type = "link", interval = "prediction"), "`interval` must be")
  expect_error(quick(d$seen, x, X = 1, family = binomial(), kernel = gp_kernel("matern", smoothness = 1),
                     smoothness = "estimate"), '`smoothness` must be "fixed" with a `family`')
  expect_error(quick(d$count, x, X = 1, offset = rep(1, n)), "`offset` must be NULL with family gaussian")
  expect_true(is.na(sigma(seen_fit)))
  expect_error(quick(d$count, x, X = 1, family = poisson(), laplace = "latent"), "`laplace` must be")
  expect_identical(family(seen_fit)$family, "binomial")
})

test_that("fits of Student's t do not depend on the unit of the response", {
  set.seed(3)
  d <- data.frame(x = runif(120), z = rnorm(120))
  d$y <- sin(6 * d$x) + 0.3 * d$z + 0.2 * rt(120, 3)
  fitted_in <- function(unit) {
    d$y <- d$y * unit
    fit <- vif_fit(y ~ z, coords = ~ x, data = d, family = student_t(), progress = FALSE)
    c(fit$loglik + 120 * log(unit), fit$kernel$lengthscale, fit$kernel$variance / unit^2, fit$phi[["scale"]] / unit,
      coef(fit, "mean") / unit, sqrt(diag(vcov(fit))) / unit)
  }
  one <- fitted_in(1)
  for (unit in c(1e-6, 1e6)) expect_equal(fitted_in(unit), one, tolerance = 1e-6)
})

test_that("counts of huge means have quantiles, and of none are none", {
  set.seed(3)
  d <- data.frame(x = runif(100), z = rnorm(100), ex = 1)
  d$p <- rpois(100, exp(1 + 0.2 * d$z))
  for (family in list(poisson(), nbinom2())) {
    fit <- vif_fit(p ~ z + offset(log(ex)), ~x, d, family = family, inducing = 5, k = 5, progress = FALSE)
    predicted <- function(z = 0, ex = 1, ...) predict(fit, data.frame(x = 0.5, z, ex), se.fit = TRUE, ...)
    # the offset says how large: relative to the mean limits stay what they are where counts are many
    far <- predicted(ex = 10^c(12, 14, 15, 16, 17, 20, 50, 100, 150, 300), interval = "prediction")
    relative <- as.matrix(far[c("lwr", "upr")]) / far$fit
    expect_equal(relative, relative[rep(1, nrow(relative)), ], tolerance = 1e-4, ignore_attr = TRUE)
    # beyond what a number can be
    expect_identical(unlist(predicted(z = 1e6, interval = "prediction"), use.names = FALSE), rep(Inf, 5))
    # no exposure, no counts
    none <- predicted(ex = 0, interval = "prediction")
    expect_identical(unlist(none, use.names = FALSE), rep(0, 5))
    expect_true(all(none[c("fit", "se.fit", "se.obs")] == predicted(z = -1e6)[c("fit", "se.fit", "se.obs")]))
  }
})

test_that("new rows that all have missing values are predicted as NA", {
  holes <- data.frame(lon = c(NA, 0.5), lat = NA_real_, z = 0.1)
  p <- predict(seen_fit, holes, interval = "prediction")
  expect_true(nrow(p) == 2 && all(is.na(p)))
})

test_that("a parameter of a family that runs to its bound is told", {
  x <- seq(0, 1, length.out = 60)
  expect_warning(fit <- vif_fit(exp(sin(5 * x)), x, X = 1, family = Gamma(link = "log"), progress = FALSE),
                 "shape has run to the upper end", class = "vif_bound")
  expect_identical(fit$bounded[["shape"]], "upper")
  expect_output(print(fit), "at a bound: shape")
  expect_identical(phi_at_bounds(c(size = exp(15), scale = exp(-14.5), df = 3), list()), c(size = "upper", scale = "lower"))
  expect_length(phi_at_bounds(fit$phi[0], list()), 0)
})
