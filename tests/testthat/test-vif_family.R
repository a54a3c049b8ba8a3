# Every family against numerical derivatives and R's own densities.
family_cases <- function(n = 40) {
  set.seed(3)
  eta <- c(rnorm(n - 2), -6, 5)
  trials <- rep(c(1, 5), length.out = n)
  list(
    gaussian = list(gaussian(), c(sigma2 = 0.7), rnorm(n, eta), rep(c(1, 2), length.out = n)),
    logit = list(binomial(), numeric(), rbinom(n, trials, plogis(eta)) / trials, trials),
    probit = list(binomial("probit"), numeric(), rbinom(n, trials, pnorm(eta)) / trials, trials),
    poisson = list(poisson(), numeric(), rpois(n, exp(eta)), rep(1, n)),
    gamma = list(Gamma("log"), c(shape = 1.7), rgamma(n, 1.7, 1.7 * exp(-eta)), rep(c(1, 2), length.out = n)),
    nbinom2 = list(nbinom2(), c(size = 1.3), rnbinom(n, size = 1.3, mu = exp(eta)), rep(1, n)),
    beta = list(beta_family(), c(precision = 4),
                pmin(pmax(rbeta(n, 4 * plogis(eta), 4 * plogis(-eta)), 1e-6), 1 - 1e-6), rep(c(1, 2), length.out = n)),
    student_t = list(student_t(), c(scale = 0.6, df = 4.5), eta + 0.6 * rt(n, 4.5), rep(c(1, 2), length.out = n))
  ) |> lapply(function(case) list(family = laplace_family(case[[1]]), phi = case[[2]], y = case[[3]], w = case[[4]], eta = eta))
}

test_that("every family has all members of a row, and no others", {
  always <- c("type", "start", "guess", "mean", "value", "slopes", "phi_slopes", "deviation", "cdf", "quantile", "draw", "saturated", "width")
  optional <- c("scaled_start", "any_unit", "support", "constant", "pearson", "moments", "most_variance")
  expect_setequal(names(family_cases()), names(family_table))
  for (name in names(family_table)) {
    row <- family_table[[name]]
    expect_identical(setdiff(always, names(row)), character(), label = name)
    expect_identical(setdiff(names(row), c(always, optional)), character(), label = name)
    expect_true(row$type %in% c("shares", "counts", "continuous"), label = name)
    expect_identical(row$type == "shares", !is.null(row$most_variance), label = name)
  }
})

test_that("moments and widths of a family are those of its distribution", {
  set.seed(8)
  for (name in names(family_cases())) {
    case <- family_cases()[[name]]
    row <- case$family
    phi <- all_phi(row, case$phi)
    w <- if (row$type == "counts") 1 else 3
    # of moments, a plain mean over many draws
    link <- 0.3
    se <- 0.4
    draws <- row$draw(link + se * qnorm((seq_len(2e5) - 0.5) / 2e5), w, phi)
    found <- response_moments(row, link, se, w, phi)
    expect_equal(found$fit, mean(draws), tolerance = 0.02, label = name)
    expect_equal(found$se.obs, sd(draws), tolerance = 0.05, label = name)
    # within two widths of `at` the density of a response changes by more than half of its largest value
    y <- row$quantile(0.6, link, w, phi)
    change <- row$width(y, w, phi)
    density <- function(eta) exp(row$value(y, eta, w, phi))
    near <- density(change$at + change$width * seq(-2, 2, by = 0.1))
    all <- density(seq(-30, 30, by = 0.01))
    expect_gt(diff(range(near)), 0.5 * max(all), label = name)
    expect_gt(max(near), 0.9 * max(all), label = name)
  }
})

slope_of <- function(f, at, h = 1e-4) (8 * (f(at + h) - f(at - h)) - (f(at + 2 * h) - f(at - 2 * h))) / (12 * h)

test_that("derivatives in the linear predictor and in the parameters are those of the density", {
  for (name in names(family_cases())) {
    case <- family_cases()[[name]]
    family <- case$family
    expect_identical(family$name, name)
    slopes <- function(eta, phi = case$phi) family$slopes(case$y, eta, case$w, phi)
    value <- function(eta, phi = case$phi) family$value(case$y, eta, case$w, phi)
    s <- slopes(case$eta)
    own <- if (is.null(s$own)) s$curvature else s$own
    expect_equal(s$d1, slope_of(value, case$eta), tolerance = 1e-7, label = name)
    expect_equal(own, -slope_of(function(eta) slopes(eta)$d1, case$eta), tolerance = 1e-6, label = name)
    expect_equal(s$turn, slope_of(function(eta) slopes(eta)$curvature, case$eta), tolerance = 1e-6, label = name)
    expect_true(all(s$curvature > 0))
    found <- family$phi_slopes(case$y, case$eta, case$w, case$phi)
    expect_identical(names(found), if (length(case$phi)) names(case$phi))
    for (parameter in names(case$phi)) {
      at <- function(log_value) replace(case$phi, parameter, exp(log_value))
      numeric <- list(value = slope_of(function(v) value(case$eta, at(v)), log(case$phi[[parameter]])),
                      d1 = slope_of(function(v) slopes(case$eta, at(v))$d1, log(case$phi[[parameter]])),
                      curvature = slope_of(function(v) slopes(case$eta, at(v))$curvature, log(case$phi[[parameter]])))
      expect_equal(lapply(found[[parameter]], as.vector), numeric, tolerance = 1e-6, label = paste(name, parameter))
    }
  }
})

test_that("densities are R's, curvatures are expectations where they are not second derivatives", {
  cases <- family_cases()
  with_case <- function(name, f) with(cases[[name]], expect_equal(family$value(y, eta, w, phi), f(y, eta, w), label = name))
  with_case("logit", function(y, eta, w) dbinom(round(y * w), w, plogis(eta), log = TRUE))
  with_case("probit", function(y, eta, w) dbinom(round(y * w), w, pnorm(eta), log = TRUE))
  with_case("poisson", function(y, eta, w) dpois(y, exp(eta), log = TRUE))
  # weights: powers of the density of counts, factors of the precision of other numbers
  with_case("nbinom2", function(y, eta, w) w * dnbinom(y, size = 1.3, mu = exp(eta), log = TRUE))
  with_case("gamma", function(y, eta, w) dgamma(y, 1.7 * w, 1.7 * w * exp(-eta), log = TRUE))
  with_case("beta", function(y, eta, w) dbeta(y, 4 * w * plogis(eta), 4 * w * plogis(-eta), log = TRUE))
  with_case("student_t", function(y, eta, w) {
    dt((y - eta) * sqrt(w) / 0.6, 4.5, log = TRUE) - log(0.6 / sqrt(w))
  })
  for (name in c("beta", "student_t")) {
    case <- cases[[name]]
    set.seed(5)
    eta <- rep(0.4, 2e5)
    own <- case$family$slopes(case$family$draw(eta, 1, case$phi), eta, 1, case$phi)
    expect_equal(mean(own$own), own$curvature[1], tolerance = 0.02, label = name)
  }
})

test_that("distribution functions, quantiles, draws and moments belong together", {
  for (name in names(family_cases())) {
    case <- family_cases()[[name]]
    family <- case$family
    eta <- c(-1, 0.5)
    w <- if (name %in% c("logit", "probit")) c(7, 7) else if (family$type == "counts") c(1, 1) else c(2, 2)
    q <- family$quantile(0.3, eta, w, case$phi)
    expect_true(all(family$cdf(q, eta, w, case$phi) >= 0.3 - 1e-8), label = name)
    if (family$type == "continuous") expect_equal(family$cdf(q, eta, w, case$phi), c(0.3, 0.3), tolerance = 1e-8)
    set.seed(6)
    draws <- family$draw(rep(0.5, 1e5), w[2], case$phi)
    expect_equal(mean(draws), family$mean(0.5), tolerance = 0.03, label = name)
    expect_equal(sd(draws), family$deviation(0.5, w[2], case$phi), tolerance = 0.05, label = name)
    if (name != "beta") { # whose density is highest near y, not at it
      best <- family$saturated(case$y, case$w, case$phi)
      expect_true(all(best >= family$value(case$y, case$eta, case$w, case$phi) - 1e-9), label = name)
    }
  }
})

test_that("deviance residuals of Gamma are those of glm times the root of the shape", {
  case <- family_cases()$gamma
  gap <- case$family$saturated(case$y, case$w, case$phi) - case$family$value(case$y, case$eta, case$w, case$phi)
  expect_equal(2 * gap, 1.7 * Gamma("log")$dev.resids(case$y, exp(case$eta), case$w))
})

test_that("guesses draw gross outliers in, and no others", {
  set.seed(8)
  X <- cbind(1, rnorm(100))
  y <- 3 + 50 * X[, 2] + rt(100, 4)
  data <- list(y = y, w = rep(1, 100), X = X, offset = rep(1, 100))
  family <- laplace_family(student_t())
  expect_identical(family_guess(family, data), y)
  start <- family_start(family, data)
  data$y[c(3, 8)] <- c(1e6, -1e9)
  guess <- family_guess(family, data)
  expect_identical(guess[-c(3, 8)], y[-c(3, 8)])
  expect_lt(max(abs(guess - y)), 30)
  expect_equal(family_start(family, data), start, tolerance = 0.1)
  expect_lt(max(abs(robust_line(data$y, X) - 3 - 50 * X[, 2])), 1)
  expect_identical(robust_line(data$y, NULL), numeric(100))
  tiny <- list(y = c(rgamma(99, 2), 1e-200), w = rep(1, 100), X = X, offset = numeric(100))
  expect_gt(min(family_guess(laplace_family(Gamma("log")), tiny)), -20)
  # units of weights do not matter for the start
  heavy <- list(y = y, w = rep(100, 100), X = X, offset = rep(1, 100))
  expect_equal(family_start(family, heavy)[["scale"]], 10 * start[["scale"]])
})

test_that("extreme linear predictors stay finite", {
  for (case in family_cases()) {
    for (far in c(-40, 40)) {
      s <- case$family$slopes(case$y, rep(far, length(case$y)), case$w, case$phi)
      expect_true(all(is.finite(unlist(s))), label = case$family$name)
    }
  }
})

test_that("responses are taken in all their forms and refused by name outside the support", {
  logit <- laplace_family(binomial())
  y <- c(0, 1, 1, 0)
  take <- function(y, weights = NULL, family = logit, n = 4) family_response(family, y, weights, n)
  expect_identical(take(y), list(y = y, w = rep(1, 4)))
  expect_identical(take(y == 1), take(y))
  expect_identical(take(factor(c("no", "yes", "yes", "no"))), take(y))
  expect_equal(take(cbind(c(1, 2, 0, 3), c(1, 1, 2, 0))), list(y = c(1 / 2, 2 / 3, 0, 1), w = c(2, 3, 2, 3)))
  expect_equal(take(c(0.5, 2 / 3, 0, 1), c(2, 3, 2, 3)), list(y = c(1 / 2, 2 / 3, 0, 1), w = c(2, 3, 2, 3)))
  expect_error(take(c(0, 1, 2, 0)), "`y` must be 0 or 1, logical, .* not 2 \\(position 3\\)")
  expect_error(take(c(0, 0.5, 1, 0)), "count")
  expect_error(take(rep(1, 4)), "both outcomes, not all successes")
  expect_error(take(cbind(c(0, 1, 1, 1), c(0, 1, 1, 1))), "one trial or more in every row, not none in row 1")
  expect_error(take(cbind(c(0.5, 1, 1, 1), 1)), "whole counts")
  expect_error(take(y, c(1, 2.5, 1, 1)), "`weights` must be whole numbers of trials .*, not 2.5 \\(position 2\\)")
  expect_error(take(y, c(1, 1, 1, 1e-9)), "`weights` must be whole numbers of trials")
  pairs <- cbind(c(1, 2, 0, 3), c(1, 1, 2, 0))
  expect_equal(take(pairs, rep(2, 4))$w, c(4, 6, 4, 6))
  expect_error(take(pairs, c(1, 1, 1.5, 1.5)), "counts of every row, times its weight, are whole, not 1.5 \\(position 4\\)")
  expect_error(take(pairs, c(0.5, 1, 1, 1)), "not 0.5 \\(position 1\\)") # one trial with half a success
  expect_identical(take(y, c(1, 3 - 1e-10, 1, 1))$w, c(1, 3, 1, 1))
  expect_error(take(y, c(1, 0, 1, 1)), "`weights` must be positive, not 0 \\(position 2\\)")
  expect_error(take(y, 1:3), "`weights` must be NULL or numeric of length 4")
  expect_error(take(c(0, NA, 1, 1)), "without missing values")
  for (family in list(poisson(), nbinom2())) {
    expect_error(take(c(1, 2.5, 0, 1), family = laplace_family(family)), "whole counts of at least 0, not 2.5 \\(position 2\\)")
    expect_error(take(c(1, -1, 0, 1), family = laplace_family(family)), "not -1")
    expect_error(take(rep(0, 4), family = laplace_family(family)), "not all 0")
  }
  expect_error(take(c(1, 0, 2, 3), family = laplace_family(Gamma("log"))), "above 0 for Gamma\\(\\), not 0 \\(position 2\\)")
  expect_error(take(c(0.1, 1, 0.2, 0.3), family = laplace_family(beta_family())), "between 0 and 1")
  expect_error(take(letters[1:4], family = laplace_family(student_t())), "numeric vector")
})

test_that("families are R's own or named here, and others are refused", {
  expect_identical(laplace_family("poisson")$name, "poisson")
  expect_identical(laplace_family(binomial)$name, "logit")
  expect_error(laplace_family(Gamma()), "not Gamma\\(\"inverse\"\\)")
  for (family in list(3, "", NA_character_)) {
    expect_error(laplace_family(family), "`family` must be a family such as binomial")
  }
  expect_error(student_t(1), "`df` must be NULL or a finite number above 1")
  expect_identical(laplace_family(student_t(4))$fixed, c(df = 4))
  expect_identical(names(laplace_family(student_t(4))$start), "scale")
  expect_true(is_gaussian(gaussian()) && is_gaussian("gaussian") && !is_gaussian(poisson))
})

test_that("quantiles of shares come without warnings of qbeta(), and scores of cross-validation with them", {
  family <- laplace_family(beta_family())
  p <- rep(c(1e-6, 0.3, 0.99), each = 9)
  eta <- matrix(c(-20, -3, -1, 0, 0.5, 2, 3, 8, 20), 9, 3)
  expect_silent(q <- family$quantile(p, eta, 1, c(precision = 2)))
  plain <- suppressWarnings(stats::qbeta(p, 2 * plogis(eta), 2 * plogis(-eta)))
  expect_equal(as.vector(q), as.vector(plain), tolerance = 1e-12)
  on_one_thread()
  set.seed(31)
  n <- 100
  x <- cbind(runif(n), runif(n))
  field <- 3 * sin(6 * x[, 1]) + 2 * cos(5 * x[, 2])
  y <- pmin(pmax(rbeta(n, 2 * plogis(field), 2 * plogis(-field)), 1e-12), 1 - 1e-12)
  fit <- vif_fit(y, x, X = 1, family = beta_family(), inducing = 20, k = 15, progress = FALSE)
  expect_no_warning(vif_cv(fit))
})
