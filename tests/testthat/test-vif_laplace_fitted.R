# Fits of all families against the dense Laplace approximation, standard errors, common sets, cross-validation.
n <- 200
set.seed(41)
x <- cbind(east = runif(n), north = runif(n))
X <- cbind(one = 1, east = x[, 1])
truth <- gp_kernel("matern32", variance = 0.8, lengthscale = 0.3)
eta <- 0.3 - 0.5 * x[, 1] + drop(crossprod(chol(oracle_covariance(truth, x, x) + diag(1e-9, n)), rnorm(n)))
trials <- sample(1:4, n, TRUE)
# Student's t with outliers on one side
outliers <- ifelse(seq_len(n) %% 25 == 0, 8, 0)
responses <- list(
  logit = list(binomial(), rbinom(n, trials, plogis(eta)) / trials, trials),
  probit = list(binomial("probit"), rbinom(n, 1, pnorm(eta))), poisson = list(poisson(), rpois(n, exp(eta))),
  gamma = list(Gamma("log"), rgamma(n, 2, 2 * exp(-eta))),
  nbinom2 = list(nbinom2(), rnbinom(n, size = 2, mu = exp(eta))),
  beta = list(beta_family(), pmin(pmax(rbeta(n, 6 * plogis(eta), 6 * plogis(-eta)), 1e-4), 1 - 1e-4)),
  student_t = list(student_t(), eta + 0.4 * rt(n, 4) + outliers)
)
# the parameters hardly move: what is compared holds at any
some_fit <- function(case, rows = seq_len(n), ...) {
  suppressWarnings(vif_fit(case[[2]][rows], x[rows, ], X = X[rows, ], kernel = truth, family = case[[1]],
                           weights = if (length(case) > 2) case[[3]][rows], inducing = 10, start = "kernel",
                           progress = FALSE, threads = 1, ...), "vif_convergence")
}

# The dense approximation at log parameters and beta of a fit, in the order of the data.
dense_of <- function(fit, log_par = c(fit$theta, log(fit$phi)), beta = fit$coefficients) {
  kernel <- fit$kernel
  kernel$variance <- exp(log_par[[1]])
  kernel$lengthscale <- exp(log_par[[2]])
  phi <- fit$phi
  phi[] <- exp(log_par[-(1:2)])
  family <- laplace_family(fit$family)
  at <- fitted_inputs(fit)$x
  dense_laplace(oracle_covariance(kernel, at, at) + diag(1e-8 * kernel$variance, nrow(at)), family,
                list(y = fit$y, w = fit$weights, X = fit$X, offset = 0), all_phi(family, phi), beta)
}

test_that("with all predecessors as neighbours everything is that of the dense approximation, for all families", {
  on_one_thread()
  new <- rbind(c(0.2, 0.3), c(0.55, 0.5), c(1.3, 0.9))
  for (name in names(responses)) {
    fit <- some_fit(responses[[name]], k = n - 1, iterations = 1)
    dense <- dense_of(fit)
    expect_equal(fit$loglik, dense$loglik, tolerance = 1e-6, label = name)
    expect_equal(fit$linear.predictors, dense$eta, tolerance = 1e-6, label = name)
    # the gradient along one direction, by differences
    again <- laplace_again(fit)
    structure <- list(inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
    at <- laplace_at(again$par, structure, again$data, again$settings, again$eta, gradient = TRUE, tolerance = 1e-9)
    way <- c(0.7, -0.4, rep(0.3, length(fit$phi)), c(0.5, -0.2))
    value <- function(step) {
      outer <- seq_len(2 + length(fit$phi))
      dense_of(fit, c(fit$theta, log(fit$phi)) + step * way[outer],
               fit$coefficients + step * drop(again$basis$back %*% way[-outer]))$loglik
    }
    h <- 2e-3
    slope <- (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    expect_equal(sum(laplace_slope(at, again$settings) * way), slope, tolerance = 1e-5, label = name)
    # predictions
    K <- oracle_covariance(fit$kernel, x, x)
    cross <- oracle_covariance(fit$kernel, new, x)
    p <- predict(fit, new, newX = cbind(1, new[, 1]), type = "link", k = n)
    expect_equal(p$fit, drop(cbind(1, new[, 1]) %*% fit$coefficients + cross %*% solve(K, dense$b)), tolerance = 1e-6,
                 label = name)
    variance <- fit$kernel$variance - rowSums((cross %*% solve(K + diag(1 / dense$W))) * cross)
    expect_equal(p$se.fit^2, variance, tolerance = 1e-6, label = name)
  }
})

test_that("standard errors of covariance parameters are those of the curvature of the dense approximation", {
  on_one_thread()
  for (name in c("poisson", "nbinom2")) {
    fit <- some_fit(responses[[name]], 1:80, k = 79)
    outer <- 2 + length(fit$phi)
    par <- c(fit$theta, log(fit$phi), fit$coefficients)
    # differences small enough for a curvature, large enough for the rounding of the mode
    curvature <- optimHess(par, function(par) dense_of(fit, par[1:outer], par[-(1:outer)])$loglik,
                           control = list(ndeps = rep(5e-3, length(par))))
    expected <- solve(-curvature)[1:outer, 1:outer]
    found <- log_vcov(fit)
    expect_identical(rownames(found), names(coef(fit, "covariance")))
    expect_equal(sqrt(diag(found)), sqrt(diag(expected)), tolerance = 0.02, ignore_attr = TRUE, label = name)
    expect_equal(cov2cor(found), cov2cor(expected), tolerance = 0.05, ignore_attr = TRUE, label = name)
    estimate <- coef(fit, "covariance")
    expect_equal(vcov(fit, "covariance"), found * outer(estimate, estimate))
    limits <- confint(fit)
    expect_identical(rownames(limits), names(coef(fit)))
    expect_equal(limits[names(estimate), 2], estimate * exp(qnorm(0.975) * sqrt(diag(found))))
    expect_equal(summary(fit)$covariance[, 2], sqrt(diag(vcov(fit, "covariance"))))
  }
})

test_that("nested fits are compared on the sets of the larger one", {
  on_one_thread()
  d <- data.frame(x, y = responses$poisson[[2]], z = rnorm(n))
  fit <- function(...) {
    vif_fit(y ~ east, coords = ~ east + north, data = d, family = poisson(), inducing = 10, k = 8, progress = FALSE, ...)
  }
  small <- fit()
  large <- vif_fit(y ~ east + z, coords = ~ east + north, data = d, family = poisson(), inducing = 10, k = 8,
                   progress = FALSE)
  # other sets for the smaller model, of other parameters
  far <- fit(order = "random")
  table <- anova(far, large)
  expect_identical(table$logLik[2], large$loglik)
  again <- laplace_again(far, large$order)
  structure <- list(inducing = large$gp$inducing, id = large$latent_id, wide = large$id)
  on_common <- laplace_final(again$par, structure, again$data, again$settings, again$eta)$loglik
  expect_gt(abs(far$loglik - on_common), 0.02) # these sets matter
  # and a step to the maximum for these
  expect_gte(table$logLik[1], on_common)
  expect_lt(table$logLik[1], on_common + 0.03)
  expect_lt(abs(anova(small, large)$logLik[1] - small$loglik), 0.03)
  expect_s3_class(drop1(large), "anova")
})

test_that("standard errors of log-likelihoods are told, also where they hide a difference", {
  on_one_thread()
  fit <- some_fit(responses$poisson, k = 8, laplace = "iterative")
  expect_gt(fit$loglik_se, 0)
  expect_output(print(fit), sprintf("standard error %s", format(fit$loglik_se, digits = 2)), fixed = TRUE)
  expect_output(print(summary(fit)), "standard error 0.0")
  if (requireNamespace("generics", quietly = TRUE)) expect_identical(generics::glance(fit)$logLik.se, fit$loglik_se)
  exact <- some_fit(responses$poisson, k = 8)
  expect_no_match(capture.output(print(exact)), "standard error")
  small <- vif_fit(responses$poisson[[2]], x, X = 1, family = poisson(), kernel = truth, inducing = 10, k = 8,
                   laplace = "iterative", progress = FALSE)
  table <- expect_no_warning(anova(small, fit))
  small$loglik_se <- fit$loglik_se <- 2
  expect_warning(anova(sealed(small), sealed(fit)), "Chisq of .* has a standard error of about [0-9.]+, from the random",
                 class = "vif_comparison")
})

test_that("residuals of other families", {
  on_one_thread()
  set.seed(44)
  w <- sample(1:3, n, TRUE)
  # those of a generalised linear model that has the linear predictors as its offset
  skip_if_not_installed("MASS")
  for (name in c("poisson", "nbinom2")) {
    y <- responses[[name]][[2]]
    fit <- some_fit(list(responses[[name]][[1]], y, w), k = 8, iterations = 1)
    eta <- fit$linear.predictors
    peer <- glm(y ~ 0 + offset(eta), weights = w,
                family = if (name == "poisson") poisson() else MASS::negative.binomial(fit$phi[["size"]], "log"))
    for (type in c("pearson", "deviance")) {
      expect_equal(residuals(fit, type), unname(residuals(peer, type)), tolerance = 1e-6, label = paste(name, type))
    }
  }
  shares <- some_fit(responses$beta, k = 8)
  r <- residuals(shares, "deviance")
  expect_true(all(r != 0) && all(sign(r) == sign(residuals(shares))))
  at_mean <- function(mu) dbeta(shares$y, mu * shares$phi, (1 - mu) * shares$phi, log = TRUE)
  expect_equal(abs(r), sqrt(2 * abs(at_mean(shares$y) - at_mean(fitted(shares)))))
  heavy <- some_fit(list(student_t(2), responses$student_t[[2]]), k = 8, iterations = 1)
  expect_equal(residuals(heavy, "pearson"), residuals(heavy) / heavy$phi[["scale"]])
  expect_identical(residuals(shares, "quantile"), residuals(shares, "quantile", seed = 3))
  counts <- some_fit(responses$poisson, k = 8, iterations = 1)
  expect_identical(residuals(counts, "quantile", seed = 3), residuals(counts, "quantile", seed = 3))
  expect_error(residuals(counts, "quantile", s = 1), "`s` is not an argument of residuals")
  expect_error(residuals(counts, "quantile", seed = "a"), "`seed` must be a whole number")
  expect_error(plot(counts, which = 3), "`which` must be among 1 to 2 for a family other than gaussian")
})

test_that("augment() adds up for other families", {
  skip_if_not_installed("generics")
  on_one_thread()
  counts <- some_fit(responses$poisson, k = 8, iterations = 1)
  with <- generics::augment(counts)
  expect_equal(with$.fitted + with$.resid, unname(counts$y))
  expect_identical(with$.fitted, unname(fitted(counts)))
  expect_equal(with$.loo, vif_cv(counts, "loo")$predictions$fit)
  expect_identical(with$.std.resid, unname(rstandard(counts)))
  expect_identical(generics::augment(counts, type = "link")$.fitted, predict(counts, type = "link")$fit)
})

test_that("folds are predicted by the dense approximation of the others, its mean estimated again", {
  on_one_thread()
  for (name in c("logit", "poisson", "student_t")) {
    fit <- some_fit(responses[[name]], k = n - 1, iterations = 1)
    fold <- rep(1:4, length.out = n)
    cv <- vif_cv(fit, folds = fold, k = n)
    held <- which(fold == 2)
    kept <- which(fold != 2)
    K <- oracle_covariance(fit$kernel, x, x)
    family <- laplace_family(fit$family)
    phi <- all_phi(family, fit$phi)
    eta <- fit$linear.predictors[kept]
    for (iteration in 1:200) {
      s <- family$slopes(fit$y[kept], eta, fit$weights[kept], phi)
      S <- solve(K[kept, kept] + diag(1 / s$curvature))
      z <- eta + s$d1 / s$curvature
      beta <- solve(t(X[kept, ]) %*% S %*% X[kept, ], t(X[kept, ]) %*% S %*% z)
      new <- drop(z - S %*% (z - X[kept, ] %*% beta) / s$curvature)
      if (max(abs(new - eta)) < 1e-10) break
      eta <- new
    }
    link <- drop(X[held, ] %*% beta + K[held, kept] %*% S %*% (z - X[kept, ] %*% beta))
    variance <- fit$kernel$variance - rowSums((K[held, kept] %*% S) * K[held, kept])
    expect_equal(cv$predictions$link[held], link, tolerance = 1e-5, label = name)
    expect_equal(cv$predictions$se.link[held]^2, variance, tolerance = 1e-5, label = name)
    expect_identical(names(cv$scores), if (name == "logit") c("log", "brier", "auc") else
      c("rmse", "mae", "crps", "interval", "coverage", "log"))
    expect_true(all(is.finite(cv$scores)))
    expect_output(print(cv), "4 folds")
    left <- vif_cv(fit, "loo")
    expect_equal(left$predictions$link, left_out(fit, beta = TRUE)$link)
    expect_lt(abs(left$scores[["log"]] - cv$scores[["log"]]), 0.2)
  }
  few <- some_fit(responses$poisson, k = 8)
  again <- vif_cv(few, 2, refit = TRUE, blocks = 6)
  expect_lt(abs(again$scores[["log"]] - vif_cv(few, 2, blocks = 6)$scores[["log"]]), 0.3)
})

test_that("scores are their definitions", {
  y <- c(0, 1, 1, 0, 1)
  p <- c(0.2, 0.9, 0.4, 0.4, 0.3)
  pairs <- outer(p[y == 1], p[y == 0], `-`)
  expect_equal(area_under_curve(y, p, rep(1, 5)), mean((sign(pairs) + 1) / 2))
  # trials are as many observations
  share <- c(1 / 3, 1)
  expect_equal(area_under_curve(share, c(0.3, 0.6), c(3, 2)),
               area_under_curve(c(1, 0, 0, 1, 1), c(0.3, 0.3, 0.3, 0.6, 0.6), rep(1, 5)))
  # normal responses of normal linear predictors: closed form
  family <- laplace_family(gaussian())
  link <- c(0, 1, -2)
  se <- c(0.5, 1, 0.2)
  observed <- c(0.3, -2, -2)
  sd <- sqrt(se^2 + 0.7)
  z <- (observed - link) / sd
  exact <- sd * (z * (2 * pnorm(z) - 1) + 2 * dnorm(z) - 1 / sqrt(pi))
  expect_equal(ranked_score(observed, family, link, se, rep(1, 3), c(sigma2 = 0.7)), exact, tolerance = 0.01)
  # counts: the sum of squares of the distribution function less that of the observation
  family <- laplace_family(poisson())
  at <- 0:200
  cdf <- function(link, se) vapply(at, function(y) mixture_cdf(y, family, link, se, 1, numeric()), 0)
  expect_equal(ranked_score(3, family, 1, 0.4, 1, numeric()), sum((cdf(1, 0.4) - (at >= 3))^2), tolerance = 0.02)
})

test_that("the mode of Student's t is found from bad starts, and outliers hardly move it", {
  on_one_thread()
  fit <- some_fit(responses$student_t, k = n - 1, iterations = 1)
  again <- laplace_again(fit)
  family <- again$settings$family
  gp <- fit$gp
  latent <- .Call(C_vif_regression, gp, rep(1e-8 * gp$kernel$variance, n), fit$latent_id, NULL, NULL, 1L)
  phi <- c(scale = 0.2, df = 2)
  mode <- function(eta) {
    latent_mode(gp, fit$latent_id, fit$id, latent, again$data, family, phi, again$par$beta, eta, 1L, 1e-6)
  }
  joint <- function(found) sum(family$value(again$data$y, found$eta, 1, phi)) - sum(found$a * found$b) / 2
  set.seed(6)
  starts <- list(again$eta, again$data$y, rep(50, n), rep(-1e3, n), rnorm(n, sd = 10))
  found <- lapply(starts, mode)
  expect_true(all(vapply(found, `[[`, NA, "settled")))
  expect_equal(vapply(found, joint, 0), rep(joint(found[[1]]), length(starts)), tolerance = 1e-5)
  # where the outliers lie makes little difference
  moved <- again$data
  far <- moved$y > again$eta + 5
  expect_gt(sum(far), 4)
  moved$y[far] <- moved$y[far] + 100
  there <- latent_mode(gp, fit$latent_id, fit$id, latent, moved, family, phi, again$par$beta, NULL, 1L, 1e-6)
  expect_true(there$settled)
  expect_lt(max(abs(there$eta - found[[1]]$eta)), 0.2)
})

test_that("modes that are not found are errors of their own class", {
  fit <- some_fit(responses$poisson, k = 8)
  again <- laplace_again(fit)
  structure <- list(inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
  again$data$y[3] <- NaN
  at <- laplace_at(again$par, structure, again$data, again$settings)
  expect_identical(at$loglik, -Inf)
  expect_error(stop_mode(), class = "vif_mode")
  # counts that no process can have: one is 10^300
  y <- responses$poisson[[2]]
  y[5] <- 1e300
  expect_error(suppressWarnings(vif_fit(y, x, X = X, family = poisson(), inducing = 5, k = 5, progress = FALSE)),
               class = "vif_mode")
})

test_that("complete separation by a covariate is told, and the best is kept", {
  side <- as.numeric(x[, 1] > 0.5)
  expect_warning(fit <- vif_fit(side, x, X = cbind(1, 100 * (side - 0.5)), family = binomial(), inducing = 10, k = 8,
                                progress = FALSE), class = "vif_separation")
  expect_true(is.finite(fit$loglik))
})

test_that("a variance that runs away with binary outcomes is held", {
  skip_if_not_installed("sp")
  utils::data("meuse", package = "sp", envir = environment())
  meuse$high <- meuse$zinc > 400
  for (link in c("logit", "probit")) {
    expect_warning(fit <- vif_fit(high ~ sqrt(dist), coords = ~ x + y, data = meuse, family = binomial(link),
                                  progress = FALSE), "ran to [0-9]+, .* held at", class = "vif_separation")
    expect_equal(fit$kernel$variance, family_table[[link]]$most_variance, tolerance = 1e-3)
    expect_identical(fit$bounded[["variance"]], "upper")
    # a logistic regression has 0.111
    expect_lt(vif_cv(fit, seed = 1)$scores[["brier"]], 0.105)
  }
})

test_that("a variance that runs away with sparse counts is held", {
  set.seed(3)
  n <- 500
  x <- cbind(runif(n), runif(n))
  K <- as.matrix(dist(x)) / 0.2
  z <- drop(t(chol((1 + sqrt(3) * K) * exp(-sqrt(3) * K) + diag(1e-8, n))) %*% rnorm(n))
  y <- rpois(n, exp(z - 4)) # 495 times 0
  expect_warning(fit <- vif_fit(y, x, X = 1, family = poisson(), progress = FALSE), "ran to .* held at",
                 class = "vif_variance")
  expect_lt(predict(fit, cbind(0.5, 0.5))$fit, 1)
})

test_that("with a variance held the other parameters are at the maximum", {
  set.seed(1)
  n <- 150
  x <- cbind(runif(n), runif(n))
  z <- rnorm(n)
  y <- as.numeric(sin(5 * x[, 1]) + 0.8 * z > 0.3)
  fits <- lapply(list("auto", list(kernel = gp_kernel("matern32", 3.6, 0.3))), function(start) {
    suppressWarnings(vif_fit(y, x, X = cbind(1, z), family = binomial("probit"), start = start, progress = FALSE))
  })
  for (fit in fits) {
    expect_true(fit$converged)
    expect_equal(fit$kernel$variance, family_table$probit$most_variance)
    # the dense approximation has -28.67 there, and 3.28
    expect_equal(fit$loglik, -28.6706, tolerance = 1e-4)
    expect_equal(fit$coefficients[[2]], 3.276, tolerance = 5e-3)
  }
})

test_that("student_t() does not depend on the unit of the response", {
  set.seed(6)
  n <- 250
  x <- cbind(runif(n), runif(n))
  z <- x[, 1] + rnorm(n) / 5
  y <- 3 + 2 * z + sin(5 * x[, 1]) * cos(4 * x[, 2]) + 0.3 * rt(n, 3)
  y[1:12] <- y[1:12] + 30
  fits <- lapply(c(1, 1e9), function(unit) {
    vif_fit(y * unit, x, X = cbind(1, z), family = student_t(), progress = FALSE)
  })
  expect_equal(fits[[2]]$coefficients / 1e9, fits[[1]]$coefficients, tolerance = 1e-3)
  expect_equal(fits[[2]]$loglik + n * log(1e9), fits[[1]]$loglik, tolerance = 1e-5)
})

test_that("counts that are noise are held, too", {
  set.seed(2)
  n <- 150
  x <- cbind(runif(n), runif(n))
  y <- rep(0, n)
  y[sample(n, 5)] <- c(1, 1, 2, 1, 5)
  expect_warning(expect_warning(fit <- vif_fit(y, x, X = 1, family = poisson(), progress = FALSE),
                                class = "vif_variance"), class = "vif_bound")
  expect_lt(predict(fit, cbind(0.5, 0.5))$fit, 1)
})

test_that("long computations of other families can be stopped", {
  skip_on_cran()
  set.seed(7)
  x <- cbind(runif(8000), runif(8000))
  y <- rpois(8000, 2)
  before <- proc.time()[["elapsed"]]
  setTimeLimit(elapsed = 1.5, transient = TRUE)
  on.exit(setTimeLimit())
  expect_error(vif_fit(y, x, X = 1, family = poisson(), inducing = 200, k = 30, progress = FALSE), "time limit")
})
