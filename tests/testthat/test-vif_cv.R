set.seed(15)
n <- 120
x <- cbind(runif(n), runif(n))
y <- 2 + sin(6 * x[, 1]) + rnorm(n, sd = 0.3)
known <- runif(n, 0, 0.05)
fit <- vif_fit(y, x, X = 1, inducing = 15, k = n - 1, noise_variance = known, progress = FALSE)

# The exact process at the parameters of the fit, without some observations.
dense_without <- function(held) {
  S <- oracle_covariance(fit$kernel, x, x) + diag(fit$nugget + known)
  kept <- setdiff(seq_len(n), held)
  inverse <- solve(S[kept, kept])
  beta <- sum(inverse %*% y[kept]) / sum(inverse)
  cross <- S[held, kept, drop = FALSE]
  list(fit = beta + drop(cross %*% inverse %*% (y[kept] - beta)),
       se = sqrt(diag(S)[held] - rowSums((cross %*% inverse) * cross)))
}

test_that("folds are predicted by the exact process of the others where the approximation is exact", {
  cv <- vif_cv(fit, folds = 4, k = n)
  for (this in 1:4) {
    held <- which(cv$predictions$fold == this)
    exact <- dense_without(held)
    expect_equal(cv$predictions$fit[held], exact$fit, tolerance = 1e-6)
    expect_equal(cv$predictions$se.obs[held], exact$se, tolerance = 1e-6)
  }
  expect_identical(vif_cv(fit, folds = 4)$predictions$fold, cv$predictions$fold)
  expect_output(print(cv), "4 folds, random")
  expect_output(print(vif_cv(fit, folds = cv$predictions$fold)), "4 folds, as given")
})

test_that("an observation that alone determines a coefficient is not predicted", {
  alone <- cbind(1, c(1, rep(0, n - 1)))
  for (family in list(gaussian(), poisson())) {
    response <- if (identical(family, gaussian())) y else round(exp(y - 1))
    odd <- suppressWarnings(vif_fit(response, x, X = alone, family = family, inducing = 15, k = 8, progress = FALSE))
    expect_message(cv <- vif_cv(odd, "loo"), "1 observation (1) alone determines", fixed = TRUE, class = "vif_alone")
    expect_identical(which(is.na(cv$predictions$fit)), 1L)
    expect_true(all(is.finite(cv$scores)))
  }
})

test_that("kept neighbours are those of the others, and lost ones are searched", {
  few <- vif_fit(y, x, X = 1, inducing = 15, k = 6, neighbours = "residual", progress = FALSE)
  held <- c(3, 40, 77)
  less <- without(few, held, NULL %or% NA_integer_)
  stays <- !few$order %in% held
  gp <- residual_gp(few$gp$x[stays, ], few$kernel, few$gp$inducing)
  before <- few$id[stays, ]
  lost <- apply(before, 1, function(id) any(!stays[id], na.rm = TRUE))
  expect_true(any(lost) && !all(lost))
  expect_identical(less$id[lost, ], unname(residual_knn(gp, 6, predecessors = TRUE)$id)[lost, ])
  expect_identical(matrix(which(stays)[less$id[!lost, ]], ncol = 6), before[!lost, ])
  expect_equal(less$y[less$order], y[few$order[!few$order %in% held]])
  expect_equal(less$loglik, vif_loglik(less$y[less$order], gp, cbind(seq_len(117), less$id), few$nugget, X = 1))
})

test_that("leaving one out comes from the factor", {
  cv <- vif_cv(fit, "loo")
  S <- oracle_covariance(fit$kernel, x, x) + diag(fit$nugget + known)
  precision <- solve(S)
  free <- precision - tcrossprod(rowSums(precision)) / sum(precision) # the constant mean is that of the others
  expect_equal(cv$predictions$fit, y - drop(precision %*% (y - fit$coefficients)) / diag(free), tolerance = 1e-6)
  expect_equal(cv$predictions$se.obs, 1 / sqrt(diag(precision)), tolerance = 1e-6)
})

test_that("observations that are predicted without an error have their standard errors", {
  # zeros so far away that they are independent of all others, closer together than these
  far <- rbind(x, x[1:30, ] / 4 + 1e7)
  apart <- vif_fit(c(y - 2, rep(0, 30)), far, X = NULL, inducing = 15, k = n - 1, progress = FALSE)
  cv <- vif_cv(apart, "loo")
  expect_identical(cv$predictions$fit[-(1:n)], rep(0, 30))
  S <- oracle_covariance(apart$kernel, far, far) + diag(apart$nugget, n + 30)
  expect_equal(cv$predictions$se.obs, 1 / sqrt(diag(solve(S))), tolerance = 1e-5)
})

test_that("scores are what they say", {
  p <- data.frame(observed = c(1, -0.4, 5), fit = c(0.2, 0, 1), se.obs = c(1, 0.5, 1.2))
  s <- scores(p, 0.9)
  crps <- vapply(1:3, function(i) {
    integrate(function(t) (pnorm(t, p$fit[i], p$se.obs[i]) - (t >= p$observed[i]))^2, -Inf, p$observed[i])$value +
      integrate(function(t) (pnorm(t, p$fit[i], p$se.obs[i]) - 1)^2, p$observed[i], Inf)$value
  }, 0)
  expect_equal(s[["crps"]], mean(crps), tolerance = 1e-5)
  expect_equal(s[["log"]], -mean(dnorm(p$observed, p$fit, p$se.obs, log = TRUE)))
  expect_equal(s[["rmse"]], sqrt(mean((p$observed - p$fit)^2)))
  expect_equal(s[["coverage"]], 2 / 3)
  half <- qnorm(0.95) * p$se.obs
  expect_equal(s[["interval"]], mean(2 * half + 20 * pmax(abs(p$observed - p$fit) - half, 0)))
})

test_that("blocks are compact, of equal size, and stay together", {
  cv <- vif_cv(fit, folds = 3, blocks = 12)
  block <- space_cut(x, 12)
  expect_identical(as.vector(table(block)), rep(10L, 12))
  expect_true(all(tapply(cv$predictions$fold, block, function(fold) length(unique(fold)) == 1)))
  spread <- mean(tapply(x[, 1], block, function(at) diff(range(at))))
  expect_lt(spread, 0.5)
  region <- rep(c("a", "b", "c", "d"), 30)
  by_region <- vif_cv(fit, folds = 4, blocks = region)
  expect_identical(unname(rowSums(table(by_region$predictions$fold, region) > 0)), rep(1, 4))
  expect_gt(cv$scores[["rmse"]], 0)
  expect_output(print(cv), "3 folds of blocks")
})

test_that("parameters may be estimated again in every fold", {
  again <- vif_cv(fit, folds = 2, refit = TRUE)
  expect_lt(abs(again$scores[["rmse"]] - vif_cv(fit, folds = 2)$scores[["rmse"]]), 0.1)
})

test_that("folds are predicted as predict() does unless told otherwise", {
  few <- vif_fit(y, x, X = 1, inducing = 15, k = 6, progress = FALSE)
  cv <- vif_cv(few, folds = 3)
  held <- which(cv$predictions$fold == 2)
  kept <- sealed(without(few, held, 1L))
  p <- predict(kept, x[held, ])
  expect_equal(cv$predictions$fit[held], p$fit)
  expect_equal(cv$predictions$se.obs[held], p$se.obs)
  expect_false(isTRUE(all.equal(p$fit, predict(kept, x[held, ], k = 12)$fit)))
})

test_that("fits of the folds are made as the fit was", {
  counts <- rpois(n, exp(y - 1))
  held <- 1:30
  for (family in list(gaussian(), poisson())) {
    turned <- suppressWarnings(vif_fit(counts, x, X = 1, inducing = 10, k = 6, anisotropy = TRUE, order = "random",
                                       seed = 7, iterations = 3, family = family, progress = FALSE))
    kept <- without(turned, held, 1L)
    again <- suppressWarnings(refitted(turned, held, kept, 1L))
    expect_true(estimates_plane(again$settings), label = family$family)
    expect_identical(again$settings$seed, 7L)
    expect_identical(again$order, kept$order)
    expect_lte(again$iterations, 3L)
    expect_identical(again$settings$iterations, 3L)
  }
})

test_that("grouped lengthscales stay grouped", {
  z <- cbind(x, runif(n))
  grouped <- vif_fit(y + sin(4 * z[, 3]), z, X = 1, inducing = 15, k = 10, lengthscale = list(place = 1:2, time = 3),
                     progress = FALSE)
  expect_identical(own_groups(grouped), list(place = 1:2, time = 3L))
  expect_null(own_groups(fit))
  cv <- vif_cv(grouped, folds = 2, refit = TRUE)
  expect_true(all(is.finite(cv$scores)))
})

test_that("bad arguments are refused by name", {
  expect_error(vif_cv(1), "`fit` must be a vif object")
  expect_error(vif_cv(fit, folds = 1), "`folds` must be a whole number of at least 2")
  expect_error(vif_cv(fit, folds = 1000), "`folds` must be at most 120")
  expect_error(vif_cv(fit, folds = 1:3), "`folds` must be a number")
  expect_error(vif_cv(fit, blocks = 1:3), "`blocks`")
  holes <- replace(rep(1:3, 40), c(5, 117), NA)
  expect_error(vif_cv(fit, holes),
               "one fold for each of 120 observations, without missing.* not NA for 2 observations \\(5, 117\\)")
  expect_error(vif_cv(fit, blocks = holes),
               "`blocks` must be .*, without missing.*, not NA for 2 observations \\(5, 117\\)")
  expect_error(vif_cv(fit, folds = 5, blocks = rep(1:3, 40)), "`folds` must be at most 3 \\(the blocks\\), not 5")
  expect_error(vif_cv(fit, folds = 5, blocks = 4), "`folds` must be at most 4")
  expect_error(vif_cv(fit, blocks = rep(1, 120)), "two blocks or more")
  expect_identical(vif_cv(fit, blocks = rep(1:3, 40))$folds, 3L)
  expect_error(vif_cv(fit, "loo", blocks = 4), "`blocks` must be NULL")
  expect_error(vif_cv(fit, rep(1:3, 40), blocks = 4), "`blocks` must be NULL where `folds`")
})

test_that("weights of all observations alike change no score", {
  quick <- function(...) vif_fit(y, x, X = 1, inducing = 10, k = 8, progress = FALSE, ...)
  scores <- function(fit) vif_cv(fit, folds = 3, refit = TRUE)$scores
  expect_equal(scores(quick(weights = rep(20, n))), scores(quick()), tolerance = 0.01)
})

test_that("few observations are as many folds, and LOO is loo", {
  few <- suppressWarnings(vif_fit(y[1:7], x[1:7, 1], X = 1, inducing = 2, k = 3, progress = FALSE))
  expect_identical(vif_cv(few)$folds, 7L)
  expect_identical(vif_cv(few, folds = "LOO"), vif_cv(few, folds = "loo"))
  expect_error(vif_cv(few, folds = "one"), 'a number, "loo" or')
})

test_that("leaving one out leaves it out of the mean, too", {
  set.seed(7)
  n <- 40
  x <- cbind(runif(n), runif(n))
  Z <- cbind(1, matrix(rnorm(n * 6), n), seq_len(n) == 3) # the last coefficient is of one observation alone
  y <- sin(5 * x[, 1]) + rnorm(n, sd = 0.4)
  fit <- vif_fit(y, x, X = Z[, 1:7], inducing = 5, k = n - 1, progress = FALSE)
  loo <- vif_cv(fit, "loo")
  folds <- vif_cv(fit, folds = n, k = n - 1)
  expect_equal(loo$predictions$fit, folds$predictions$fit, tolerance = 1e-8)
  expect_equal(loo$scores, folds$scores, tolerance = 1e-8)
  own <- vif_fit(y, x, X = Z, inducing = 5, k = n - 1, progress = FALSE)
  alone <- which(rowSums(qr.Q(qr(Z))^2) > 1 - 1e-8)
  expect_gt(length(alone), 0)
  expect_identical(which(is.na(suppressMessages(vif_cv(own, "loo"))$predictions$fit)), alone)
  # counts: working responses of all, so that what one says of the mode stays
  counts <- vif_fit(rpois(n, exp(1 + 0.5 * y)), x, X = Z[, 1:7], inducing = 5, k = n - 1, family = poisson(), progress = FALSE)
  expect_equal(vif_cv(counts, "loo")$scores[["rmse"]], vif_cv(counts, folds = n, k = n - 1)$scores[["rmse"]], tolerance = 0.02)
  given <- mean((counts$y - exp(left_out(whole_fit(counts, NULL))$link))^2)
  expect_gt(mean((counts$y - exp(left_out(whole_fit(counts, NULL), beta = TRUE)$link))^2), given)
})

test_that("a fold may leave a single observation", {
  set.seed(1)
  x <- runif(50)
  y <- sin(6 * x) + rnorm(50, sd = 0.1)
  folds <- c(1, rep(2, 49))
  quick <- function(...) vif_fit(x = x, X = 1, k = 5, progress = FALSE, ...)
  fit <- quick(y)
  cv <- vif_cv(fit, folds = folds)
  expect_equal(cv$predictions$fit[-1], rep(y[1], 49)) # the mean is that observation, and nothing is left to correlate
  expect_equal(vif_cv(fit, folds = folds, k = 1)$scores, cv$scores)
  expect_error(vif_cv(fit, folds = folds, refit = TRUE), "`folds` must be such that two observations or more are left")
  for (neighbours in c("euclidean", "residual")) {
    plain <- quick(y, inducing = 0, neighbours = neighbours)
    expect_equal(vif_cv(plain, folds = folds)$predictions$fit[-1], rep(y[1], 49))
  }
  counts <- rpois(50, exp(y))
  for (laplace in c("exact", "iterative", "noisy")) {
    cv <- vif_cv(quick(counts, family = poisson(), laplace = laplace), folds = folds)
    expect_true(all(is.finite(cv$scores)), label = laplace)
  }
  two <- suppressWarnings(vif_fit(c(0.1, 1), c(1, 2), X = 1, progress = FALSE))
  expect_equal(vif_cv(two)$predictions$fit, c(1, 0.1))
  one <- residual_gp(0.5, gp_kernel(), inducing = 0)
  expect_error(.Call(C_residual_knn, one, NULL, 0L, NULL, NULL, TRUE, "auto", Inf, TRUE, 1L, FALSE), "k must be 1 or more")
  expect_error(vif_fit(1, 1), "`x` must be of 2 rows or more")
})

test_that("predictions have rows of NA where na.exclude left rows out", {
  d <- data.frame(y, a = x[, 1], counts = rpois(n, exp(y / 2)))[1:40, ]
  d[c(2, 17), ] <- NA
  of_rows <- function(formula, na.action, ...) {
    vif_cv(vif_fit(formula, ~a, d, na.action = na.action, inducing = 5, k = 5, progress = FALSE, ...), folds = 4)
  }
  for (family in list(gaussian(), poisson())) {
    formula <- if (family$family == "poisson") counts ~ 1 else y ~ 1
    padded <- of_rows(formula, na.exclude, family = family)
    left <- of_rows(formula, na.omit, family = family)
    expect_identical(padded$scores, left$scores)
    expect_equal(padded$predictions[-c(2, 17), ], left$predictions, tolerance = 0, ignore_attr = TRUE)
    expect_true(all(is.na(padded$predictions[c(2, 17), ])))
    expect_output(print(padded), "38 observations, 4 folds")
  }
})

test_that("folds without which the mean cannot be estimated are named", {
  d <- data.frame(y, a = x[, 1], b = x[, 2], g = factor(rep(c("u", "v", "w"), c(40, 79, 1))))
  fit <- vif_fit(y ~ g, ~ a + b, d, inducing = 5, k = 5, progress = FALSE)
  expect_error(vif_cv(fit, rep(c("north", "south"), 60)), paste0(
    "^vif_cv\\(\\): `folds` must be such that the others can estimate the mean.*, not with fold south, without which ",
    "gw depends on other columns of the mean \\(all rows of a level"))
  for (folds in c(3, 5)) {
    last <- folds_of(fit, folds, NULL, 1, TRUE)[n]
    expect_error(vif_cv(fit, folds), paste0("not with fold ", last, ", without which gw"))
    expect_error(vif_cv(fit, folds, refit = TRUE), paste0("not with fold ", last, ", without which gw"))
  }
  expect_error(vif_cv(fit, match(d$g, "u", nomatch = 2)), "not with fold 1, without which gw depends")
  expect_true(all(is.finite(vif_cv(fit, "loo")$scores)))
  zero <- vif_fit(y ~ 0, ~ a + b, d, inducing = 5, k = 5, progress = FALSE)
  expect_true(all(is.finite(vif_cv(zero, rep(1:2, 60))$scores)))
})

test_that("weights of counts are in no score", {
  set.seed(8)
  counts <- rpois(n, exp(1 + sin(5 * x[, 1])))
  w <- rep(c(1, 3), n / 2)
  for (family in list(poisson(), nbinom2())) {
    counted <- vif_fit(counts, x, X = 1, inducing = 10, k = 8, family = family, weights = w, progress = FALSE)
    cv <- vif_cv(counted, "loo")
    p <- cv$predictions
    density <- function(eta, y) if (family$family == "poisson") dpois(y, exp(eta)) else {
      dnbinom(y, size = counted$phi[["size"]], mu = exp(eta))
    }
    each <- vapply(seq_len(n), function(i) {
      integrate(function(z) dnorm(z) * density(p$link[i] + p$se.link[i] * z, counts[i]), -8, 8, rel.tol = 1e-9)$value
    }, 0)
    expect_equal(cv$scores[["log"]], -mean(log(each)), tolerance = 1e-5, label = family$family)
  }
  # other weights are part of the distribution
  positive <- rgamma(n, 2 * w, 2 * w)
  fit <- vif_fit(positive, x, X = 1, inducing = 10, k = 8, family = Gamma("log"), weights = w, progress = FALSE)
  cv <- vif_cv(fit, "loo")
  shape <- w * fit$phi[["shape"]]
  each <- vapply(seq_len(n), function(i) {
    integrate(function(z) dnorm(z) * dgamma(positive[i], shape[i], shape[i] /
                                              exp(cv$predictions$link[i] + cv$predictions$se.link[i] * z)),
              -8, 8, rel.tol = 1e-9)$value
  }, 0)
  expect_equal(cv$scores[["log"]], -mean(log(each)), tolerance = 1e-5)
})

test_that("arguments for folds of other packages are told, and k is printed", {
  x <- runif(60)
  fit <- vif_fit(sin(6 * x) + rnorm(60) / 5, x, X = 1, inducing = 10, progress = FALSE)
  expect_error(vif_cv(fit, nfolds = 5), "`nfolds` is not an argument of vif_cv.*`folds`")
  cv <- vif_cv(fit, k = 5)
  expect_output(print(cv), "k = 5 neighbours")
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  expect_invisible(plot(cv))
})
