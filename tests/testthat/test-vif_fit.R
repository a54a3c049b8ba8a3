set.seed(6)
n <- 400
x <- cbind(lon = runif(n), lat = runif(n))
truth <- gp_kernel("matern32", variance = 2, lengthscale = 0.2)
f <- drop(crossprod(chol(oracle_covariance(truth, x, x) + diag(1e-10, n)), rnorm(n)))
y <- 3 - x[, 1] + f + rnorm(n, sd = 0.3)
X <- cbind(one = 1, east = x[, 1])
quick <- function(...) vif_fit(..., progress = FALSE)
fit <- quick(y, x, X = X, inducing = 40, k = 12)

dense_loglik <- function(theta) {
  gp_loglik(y, x, gp_kernel("matern32", exp(theta[1]), exp(theta[2])), exp(theta[3]), X = X)
}

test_that("a fit with all neighbours is the maximum likelihood estimate of the exact process", {
  exact <- quick(y, x, X = X, inducing = 10, k = n - 1)
  best <- optim(log(c(2, 0.2, 0.1)), dense_loglik, method = "BFGS",
                control = list(fnscale = -1, reltol = 1e-12))
  expect_true(exact$converged)
  expect_equal(exact$loglik, dense_loglik(log(unname(coef(exact, "covariance")))), tolerance = 1e-8)
  expect_lt(abs(exact$loglik - best$value), 0.01)
  expect_equal(unname(log(coef(exact, "covariance"))), best$par, tolerance = 0.02)
})

test_that("with few neighbours it comes close, and reports what it did", {
  expect_true(fit$converged)
  expect_equal(as.numeric(logLik(fit)), vif_loglik(y[fit$order], fit$gp, cbind(seq_len(n), fit$id),
                                                   fit$nugget, X = X[fit$order, ]))
  expect_lt(abs(fit$loglik - dense_loglik(log(unname(coef(fit, "covariance"))))), 5)
  # the gradient vanishes where it has converged
  slope <- attr(vif_loglik(y[fit$order], fit$gp, cbind(seq_len(n), fit$id), fit$nugget,
                           X = X[fit$order, ], gradient = TRUE), "gradient")
  expect_lt(max(abs(slope)), 0.5)
  expect_named(fit$history, c("stage", "observations", "iteration", "loglik", "seconds", "variance", "lengthscale",
                              "nugget"))
  expect_identical(utils::tail(fit$history$loglik, 1), fit$loglik)
  expect_identical(sort(fit$order), 1:n)
  expect_identical(fit$gp$x, x[fit$order, ])
})

test_that("one lengthscale or one for each column, a fixed nugget, known noise", {
  each <- quick(y, x, X = X, kernel = gp_kernel("matern32", lengthscale = c(1, 1)), inducing = 40, k = 12)
  expect_named(coef(each, "covariance"), c("variance", "lengthscale.lon", "lengthscale.lat", "nugget"))
  expect_gt(each$loglik, fit$loglik - 1)
  fixed <- quick(y, x, X = X, inducing = 40, k = 12, nugget = 0.2)
  expect_identical(fixed$nugget, 0.2)
  expect_identical(attr(logLik(fixed), "df"), 4L)
  expect_lt(fixed$loglik, fit$loglik)
  # measurement variances of 0.05 beside a nugget are a nugget 0.05 larger
  known <- quick(y, x, X = X, inducing = 40, k = 12, noise_variance = rep(0.05, n))
  expect_equal(known$nugget + 0.05, fit$nugget, tolerance = 0.01)
  expect_equal(known$loglik, fit$loglik, tolerance = 2e-3)
})

test_that("other kernels, orders, starting values and no inducing inputs work", {
  for (kernel in list(gp_kernel("matern12"), gp_kernel("matern52"), gp_kernel("rbf"),
                      gp_kernel("matern", smoothness = 1.2))) {
    expect_true(quick(y, x, X = X, kernel = kernel, inducing = 20, k = 8)$converged, label = format(kernel))
  }
  expect_lt(abs(quick(y, x, X = X, inducing = 0, k = 12, order = "random")$loglik - fit$loglik), 6)
  started <- quick(y, x, X = X, inducing = 40, k = 12, start = list(kernel = truth, nugget = 0.1))
  expect_lt(abs(started$loglik - fit$loglik), 1)
  given <- quick(y, x, X = X, kernel = truth, inducing = 40, k = 12, start = "kernel", order = n:1)
  expect_identical(given$order, n:1)
  expect_identical(quick(y, x, X = X, inducing = x[1:9, ], k = 5)$gp$inducing, x[1:9, ])
  nearest <- quick(y, x, X = X, inducing = 40, k = 12, neighbours = "euclidean")
  expect_output(print(nearest), "12 Euclidean neighbours")
})

test_that("the formula method is the matrix method", {
  d <- data.frame(x, y = y, kind = gl(2, 1, n, c("a", "b")))
  by_formula <- quick(y ~ lon, coords = ~ lon + lat, data = d, inducing = 40, k = 12)
  expect_equal(by_formula$loglik, fit$loglik)
  expect_named(by_formula$coefficients, c("(Intercept)", "lon"))
  new <- data.frame(lon = c(0.2, 0.7), lat = c(0.4, 0.9))
  expect_equal(predict(by_formula, new), predict(fit, as.matrix(new), newX = cbind(1, new$lon)),
               ignore_attr = TRUE)
  d$y[c(2, 9)] <- NA
  less <- vif_fit(y ~ kind, coords = ~ lon + lat, data = d, inducing = 20, k = 8, subset = lon < 0.9,
                  progress = FALSE)
  expect_identical(nobs(less), sum(d$lon < 0.9 & !is.na(d$y)))
  expect_named(less$coefficients, c("(Intercept)", "kindb"))
  expect_identical(nrow(predict(less, d[1:3, ])), 3L)
  expect_error(predict(less, d[1:3, c("lon", "lat")]), "`newdata` must be with column kind")
  expect_error(quick(y ~ kind, coords = ~ lon + lat, data = d, na.action = na.pass), "2 NA")
  expect_error(quick(y ~ kind, coords = lon ~ lat, data = d), "`coords` must be a one-sided formula")
})

test_that("terms of the formulas keep for new data what they found in the data of the fit", {
  d <- data.frame(x, y = y)
  fitted <- quick(y ~ poly(lon, 2), coords = ~ scale(lon) + lat, data = d, inducing = 20, k = 8)
  basis <- poly(x[, 1], 2)
  inputs <- cbind(c(scale(x[, 1])), x[, 2])
  by_hand <- quick(y, inputs, X = cbind(1, unclass(basis)), inducing = 20, k = 8)
  expect_equal(fitted$loglik, by_hand$loglik)
  new <- data.frame(lon = c(0.2, 0.7, 0.4), lat = c(0.4, 0.9, 0.1))
  at <- cbind((new$lon - mean(x[, 1])) / sd(x[, 1]), new$lat)
  expect_equal(predict(fitted, new), predict(by_hand, at, newX = cbind(1, predict(basis, new$lon))),
               ignore_attr = TRUE)
  expect_equal(predict(fitted, new[2, ])$fit, predict(fitted, new)$fit[2])
})

test_that("the formula method loses the same rows everywhere", {
  d <- data.frame(x, y = y, known = runif(n, 0, 0.1))
  d$y[c(3, 8)] <- NA
  d$known[5] <- NA
  kept <- setdiff(which(d$lon < 0.9), c(3, 5, 8))
  by_formula <- vif_fit(y ~ lon, coords = ~ lon + lat, data = d, noise_variance = known, subset = lon < 0.9,
                        na.action = na.exclude, inducing = 20, k = 8, progress = FALSE)
  by_hand <- quick(y[kept], x[kept, ], X = cbind(1, x[kept, 1]), noise_variance = d$known[kept], inducing = 20, k = 8)
  expect_equal(by_formula$loglik, by_hand$loglik)
  padded <- which(which(d$lon < 0.9) %in% c(3, 5, 8))
  expect_identical(unname(which(is.na(residuals(by_formula)))), padded)
  expect_identical(unname(which(is.na(fitted(by_formula)))), padded)
  expect_equal(unname(residuals(by_formula, "loo")[-padded]), residuals(by_hand, "loo"))
  expect_error(quick(y ~ lon, data = d), "^vif_fit\\(\\): `coords` must be a one-sided formula .* not missing")
  expect_error(quick(y), "^vif_fit\\(\\): `x` must be given")
})

test_that("a fit is repeatable, whatever the session's random numbers, and leaves them alone", {
  set.seed(77)
  before <- .Random.seed
  again <- quick(y, x, X = X, inducing = 40, k = 12)
  expect_identical(.Random.seed, before)
  expect_identical(again$loglik, fit$loglik)
  expect_identical(quick(y, x, X = X, inducing = 40, k = 12, threads = 1)$loglik, fit$loglik)
})

test_that("a fit that has not converged says so and keeps its best parameters", {
  far <- list(kernel = gp_kernel("matern32", 100, 9), nugget = 5)
  expect_warning(short <- quick(y, x, X = X, inducing = 40, k = 12, iterations = 1, start = far),
                 "has not converged \\(the limit of 1 iteration is reached\\)", class = "vif_convergence")
  expect_false(short$converged)
  expect_output(print(short), "NOT CONVERGED")
  expect_gt(short$loglik, short$history$loglik[1])
})

test_that("bad input is refused by name", {
  expect_error(quick(y[-1], x, X = NULL), "^vif_fit\\(\\): `y` must be of length 400 \\(the rows of `x`\\), not of length 399")
  expect_error(quick(replace(y, 5:7, NA), x, X = NULL), "3 NA \\(first at position 5\\)")
  expect_error(quick(rep(1, n), x, X = NULL), "`y` must be varying beyond its mean, not constant")
  expect_error(quick(1 + 2 * X[, 2], x, X = X), "not a linear function of `X`")
  expect_error(quick(y, x, X = cbind(X, X[, 2])), "`X` must be of linearly independent columns")
  expect_error(quick(y, replace(x, 3, NaN), X = NULL), "`x` must be finite everywhere")
  expect_error(quick(y, x, X = NULL, kernel = gp_kernel(lengthscale = 1:3)), "`lengthscale`")
  expect_error(quick(y, x, X = NULL, k = 0), "`k` must be a whole number of at least 1")
  expect_message(quick(y, x, X = 1, inducing = n + 1, iterations = 5), "`inducing` is 400", class = "vif_cap")
  expect_error(quick(y, x, X = NULL, start = "warm"), '`start` must be "auto", "kernel" or a list')
  expect_error(quick(y, x, X = NULL, order = 1:3), "`order` must be")
  expect_error(quick(y, x, X = 1, neighbor = "residual"), "`neighbor` is not an argument of vif_fit")
})

test_that("few points, one column and copies of points are no trouble", {
  few <- suppressMessages(quick(y[1:30], x[1:30, ], k = 50))
  expect_identical(c(few$k, nrow(few$gp$inducing)), c(29L, 30L))
  twice <- quick(c(y, y[1:50] + 0.1), rbind(x, x[1:50, ]), X = rep(1, n + 50), inducing = 20, k = 8)
  expect_true(twice$converged)
  line <- quick(sin(10 * x[, 1]) + rnorm(n, sd = 0.1), x[, 1], X = NULL, inducing = 15, k = 8)
  expect_true(line$converged)
  expect_equal(line$nugget, 0.01, tolerance = 0.3)
})

test_that("a large fit is kept without its features, and predicts as before", {
  lean <- sealed(lean_fit(fit, 100))
  expect_null(lean$gp$V)
  expect_null(lean$state$coef)
  file <- tempfile(fileext = ".rds")
  saveRDS(lean, file)
  again <- readRDS(file)
  new <- cbind(lon = runif(5), lat = runif(5))
  expect_identical(predict(again, new, newX = cbind(1, new[, 1])), predict(fit, new, newX = cbind(1, new[, 1])))
  expect_equal(residuals(again, "loo"), residuals(fit, "loo"), tolerance = 1e-12)
  expect_equal(simulate(again, seed = 1), simulate(fit, seed = 1), tolerance = 1e-12)
  expect_output(print(again), "400 observations, 40 inducing inputs")
})

test_that("weights divide the noise", {
  w <- rep(c(1, 4), length.out = n)
  weighted <- quick(y, x, X = X, inducing = 40, k = n - 1, weights = w)
  dense <- function(theta) {
    gp_loglik(y, x, gp_kernel("matern32", exp(theta[1]), exp(theta[2])), 0, X = X, noise_variance = exp(theta[3]) / w)
  }
  theta <- log(unname(coef(weighted, "covariance")))
  expect_equal(weighted$loglik, dense(theta), tolerance = 1e-7)
  expect_lt(optim(theta, dense, control = list(fnscale = -1))$value, weighted$loglik + 0.01)
  d <- data.frame(x, y = y, w = w)
  by_formula <- vif_fit(y ~ lon, coords = ~ lon + lat, data = d, inducing = 40, k = 12, weights = w, progress = FALSE)
  expect_equal(by_formula$loglik, quick(y, x, X = X, inducing = 40, k = 12, weights = w)$loglik, tolerance = 1e-6)
  expect_equal(quick(y, x, X = X, inducing = 40, k = 12, weights = rep(2, n))$nugget, 2 * fit$nugget, tolerance = 0.03)
  expect_error(quick(y, x, X = X, weights = -w), "`weights` must be positive, not -1 \\(position 1\\)")
  expect_error(quick(y, x, X = X, weights = 1:3), "`weights` must be NULL or numeric of length 400")
})

test_that("few observations have all others as neighbours unless told otherwise, up to 4,000 have 45, more have 30", {
  expect_identical(vapply(c(100, 150, 151, 300, 4000, 4001), default_neighbours, 0), c(99, 149, 45, 45, 45, 30))
  expect_identical(vapply(c(100, 300, 301, 4001), default_neighbours, 0, clean = TRUE), c(99, 299, 45, 30))
  set.seed(8)
  u <- runif(160)
  z <- sin(9 * u) + rnorm(160, sd = 0.1)
  k_of <- function(rows = 1:160, ...) {
    suppressMessages(suppressWarnings(vif_fit(z[rows], u[rows], X = NULL, inducing = 5, iterations = 1, progress = FALSE,
                                              ...)))$k
  }
  expect_identical(k_of(1:100), 99L)
  expect_identical(k_of(1:100, k = 12), 12L)
  expect_identical(k_of(), 45L)
  smooth <- function(...) k_of(kernel = "matern52", ...)
  expect_identical(smooth(nugget = 1e-5), 159L)
  # with noise, unknown noise or a rough process it is not worth the time
  expect_identical(smooth(), 45L)
  expect_identical(smooth(nugget = 0.01), 45L)
  expect_identical(smooth(nugget = 0, noise_variance = rep(0.01, 160)), 45L)
  expect_identical(k_of(nugget = 0), 45L)
  counts <- vif_fit(rpois(40, 3), u[1:40], X = 1, inducing = 5, family = poisson(), progress = FALSE, iterations = 1) |>
    suppressWarnings()
  expect_identical(counts$k, 30L)
})

test_that("of small computer experiments the log-likelihood is exact, and of larger ones its error is told", {
  set.seed(2)
  x <- vapply(1:5, function(column) (sample(320) - runif(320)) / 320, numeric(320))
  y <- x[, 1] * exp(2 * x[, 2]) / (1 + x[, 3] * x[, 4]) + sin(3 * x[, 5])
  fit_of <- function(rows, ...) {
    suppressWarnings(suppressMessages(vif_fit(y[rows], x[rows, ], 1, kernel = gp_kernel("rbf", lengthscale = rep(1, 5)),
                                              nugget = 0, progress = FALSE, ...)), "vif_bound")
  }
  small <- fit_of(1:120)
  expect_lt(abs(small$loglik - gp_loglik(y[1:120], x[1:120, ], small$kernel, small$nugget, rep(1, 120))), 0.1)
  expect_warning(rough <- fit_of(1:320), "with twice the neighbours the log-likelihood is (lower|higher) by about .*k = 45 is",
                 class = "vif_neighbours")
  moved <- summary(rough, check = TRUE)$refined - rough$loglik
  expect_gt(abs(moved), 2)
  expect_equal(refined_part(rough, seq_len(320)), moved, tolerance = 1e-6)
  expect_warning(warn_neighbours(rough, 1L, abs(moved) + 1), NA)
  expect_warning(warn_neighbours(rough, 1L, abs(moved) - 1), if (moved < 0) "lower" else "higher")
  # told once, not for each fold
  expect_no_warning(vif_cv(rough, folds = rep(1:2, 160), refit = TRUE), class = "vif_neighbours")
})

test_that("places far from each other do not hide short lengthscales, nor make them a bound", {
  set.seed(1)
  x <- matrix(runif(300), 150)
  S <- gp_covariance(x, gp_kernel(lengthscale = 0.3)) + diag(0.09, 150)
  y <- drop(t(chol(S)) %*% rnorm(150))
  fits <- lapply(c(10, 1e6), function(apart) {
    x[76:150, ] <- x[76:150, ] + apart
    expect_no_warning(vif_fit(y, x, 1, progress = FALSE), class = "vif_bound")
  })
  expect_equal(fits[[2]]$loglik, fits[[1]]$loglik, tolerance = 1e-4)
  expect_equal(fits[[2]]$kernel$lengthscale, fits[[1]]$kernel$lengthscale, tolerance = 0.02)
  expect_equal(confint(fits[[2]]), confint(fits[[1]]), tolerance = 0.05)
  # bursts of readings a minute apart, on some days of a year
  time <- rep(seq(0, 364, length.out = 20) * 86400, each = 8) + rep(0:7 * 60, 20)
  kernel <- gp_kernel("matern12", 1, 600)
  y <- drop(t(chol(gp_covariance(cbind(time), kernel) + diag(0.01, 160))) %*% rnorm(160))
  fit <- suppressWarnings(vif_fit(y, time, 1, kernel = "matern12", progress = FALSE), classes = "vif_bound")
  expect_gt(fit$loglik, gp_loglik(y, cbind(time), kernel, 0.01, X = matrix(1, 160)) - 0.1)
})

test_that("observations of a single place have no distances to look at", {
  one <- matrix(0.5, 12, 2)
  groups <- list(of = NULL, names = "lengthscale")
  expect_identical(close_shares(one, groups, 1, 1L), list(least = 1, typical = 1))
  apart <- close_shares(cbind(c(0, 0, 1, 1, 5)), groups, 2, 1L)
  expect_equal(apart$typical, 0.5)
})

test_that("a parameter near a bound that the data determine is not at a bound", {
  settings <- list(spread = 1, scale = 1, groups = list(of = NULL, names = "lengthscale"), smoothness = "estimate",
                   kernel = gp_kernel("matern", smoothness = 1.5))
  theta <- c(variance = 0, lengthscale = 0, nugget = log(0.01), smoothness = log(2.5))
  fisher <- diag(c(50, 50, 50, 20))
  dimnames(fisher) <- list(names(theta), names(theta))
  expect_length(at_bounds(theta, settings, fisher), 0)
  fisher["smoothness", "smoothness"] <- 0.1
  expect_identical(at_bounds(theta, settings, fisher), c(smoothness = "upper"))
  theta[["smoothness"]] <- log(5)
  fisher["smoothness", "smoothness"] <- 20
  expect_identical(at_bounds(theta, settings, fisher), c(smoothness = "upper"))
  theta[c("nugget", "smoothness")] <- c(-9, 0)
  fisher["nugget", "nugget"] <- 0.001
  expect_identical(at_bounds(theta, settings, fisher), c(nugget = "lower"))
})

test_that("copies of a place without noise are refused, whatever rounding makes of them", {
  for (seed in 5:7) {
    set.seed(seed)
    d <- data.frame(a = runif(60), b = runif(60))
    d$y <- sin(5 * d$a) + rnorm(60, sd = 0.3)
    d[2, 1:2] <- d[1, 1:2]
    expect_error(vif_fit(y ~ 1, ~ a + b, d, nugget = 0), "`nugget` must be positive, as there are duplicates without noise")
    expect_error(vif_fit(y ~ 1, ~ a + b, d, nugget = 0), "rows 1 and 2")
  }
  noise <- rep(0.1, 60)
  expect_true(is.finite(vif_fit(y ~ 1, ~ a + b, d, nugget = 0, noise_variance = noise, inducing = 5, k = 5, progress = FALSE)$loglik))
})

test_that("a weak signal beside much noise is found", {
  set.seed(3)
  x <- cbind(runif(300), runif(300))
  S <- gp_covariance(x, gp_kernel("matern32", 1, 0.2))
  y <- drop(crossprod(chol(S + diag(1e-8, 300)), rnorm(300))) + rnorm(300, sd = sqrt(8))
  fit <- vif_fit(y, x, X = 1, progress = FALSE)
  near <- vif_fit(y, x, X = 1, start = list(kernel = gp_kernel("matern32", 1, 0.2), nugget = 8), progress = FALSE)
  expect_gt(fit$loglik, near$loglik - 0.1)
})

test_that("lengthscales of constant columns are told, and leave the others their standard errors", {
  set.seed(12)
  x <- cbind(a = runif(150), b = runif(150), still = 0.1)
  y <- sin(6 * x[, 1]) + cos(5 * x[, 2]) + rnorm(150, sd = 0.2)
  each <- gp_kernel("matern32", lengthscale = rep(1, 3))
  quick <- function(y, ...) vif_fit(y, x, X = 1, inducing = 10, k = 8, progress = FALSE, ...)
  told <- "lengthscale.still is that of a constant column \\(.*leave the column out$"
  expect_warning(fit <- quick(y, kernel = each), told, class = "vif_bound")
  expect_identical(fit$bounded, c(lengthscale.still = "constant"))
  error <- vcov(fit, "covariance")
  expect_true(all(is.na(error["lengthscale.still", ])))
  expect_true(all(diag(error)[-4] > 0))
  expect_lt(fit$iterations, 20) # the information of that lengthscale, zero, does not spoil the steps
  expect_output(print(fit), "df = 6, of them 1 without information.*\nwithout information: lengthscale.still")
  expect_length(long_columns(fit), 0)
  expect_warning(counts <- quick(rpois(150, exp(y)), kernel = each, family = poisson()), told, class = "vif_bound")
  expect_true(counts$converged)
  expect_true(all(is.finite(vcov(counts, "covariance")[1:3, 1:3])))
  # a group with it is told where all of it is constant, and a lengthscale for all columns is of no column
  expect_warning(quick(y, lengthscale = list(plane = 1:2, rest = 3)), "lengthscale.rest is that of a constant column")
  expect_silent(quick(y, lengthscale = list(one = 1, two = 2:3)))
  expect_silent(quick(y))
})

test_that("lengthscales of many columns that do not matter are told once", {
  set.seed(2)
  x <- matrix(runif(600), 60, dimnames = list(NULL, paste0("v", 1:10)))
  y <- sin(5 * x[, 1]) + x[, 2]^2
  each <- gp_kernel("rbf", lengthscale = rep(1, 10))
  screen <- function(x) suppressMessages(vif_fit(y, x, X = 1, kernel = each, nugget = 0, progress = FALSE))
  told <- expect_warning(fit <- screen(x), "does not depend on.* can be left out", class = "vif_bound")
  once <- "lengthscale.v3, [^()]*lengthscale.v[0-9]+ have run to the upper end of their range \\(about 1000\\)"
  expect_match(conditionMessage(told), once)
  expect_length(gregexpr("range", conditionMessage(told))[[1]], 1)
  expect_no_match(conditionMessage(told), "hold it fixed")
  expect_output(print(fit), once)
  expect_gt(length(fit$bounded), 3)
  expect_warning(screen(unname(x)), "lengthscale3, .*straight lines belong to the mean$", class = "vif_bound")
})
