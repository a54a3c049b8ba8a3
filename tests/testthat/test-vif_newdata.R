set.seed(11)
n <- 120
x <- cbind(lon = runif(n), lat = runif(n) / 2)
X <- cbind(one = 1, height = rnorm(n))
y <- 2 + sin(6 * x[, 1]) + X[, 2] + rnorm(n, sd = 0.2)
fit <- vif_fit(y, x, X = X, inducing = 20, k = 10, progress = FALSE)
at <- 1:5
expected <- predict(fit, x[at, ], newX = X[at, ])

test_that("columns are matched by name where both have names", {
  expect_equal(predict(fit, x[at, 2:1], newX = X[at, ]), expected)
  expect_equal(predict(fit, x[at, ], newX = X[at, 2:1]), expected)
  expect_equal(predict(fit, data.frame(lat = x[at, 2], other = letters[at], lon = x[at, 1]), newX = X[at, ]), expected)
  expect_equal(predict(fit, unname(x[at, ]), newX = unname(X[at, ])), expected)
  # the columns without names take the places that are left
  expect_equal(predict(fit, x[at, ], newX = cbind(height = X[at, 2], 1)), expected)
  expect_error(predict(fit, cbind(a = x[at, 1], lat = 0), newX = X[at, ]), "`newdata` must be with the columns lon, lat .* not with a, lat")
  expect_error(predict(fit, x[at, ], newX = cbind(one = 1, depth = X[at, 2])), "`newX` must be with the columns one, height")
})

test_that("searches and correlations match by name too", {
  gp <- fit$gp
  new <- x[at, ]
  expect_identical(residual_knn(gp, 3, newdata = new[, 2:1])$id, residual_knn(gp, 3, newdata = new)$id)
  expect_identical(residual_correlation(gp, newdata = new[, 2:1]), residual_correlation(gp, newdata = new))
  expect_error(residual_knn(gp, 3, newdata = data.frame(a = 1, b = 2)), "with the columns lon, lat")
  expect_identical(residual_gp(x, gp_kernel(), inducing = x[1:9, 2:1])$inducing, x[1:9, ])
})

test_that("covariates whose names the fit made up go by position", {
  bare <- vif_fit(y, x, X = unname(X), inducing = 20, k = 10, progress = FALSE)
  expect_named(coef(bare, "mean"), c("X1", "X2"))
  expect_equal(predict(bare, x[at, ], newX = X[at, ]), expected)
})

test_that("missing values in new data give NA in their rows, and no rows none", {
  holes <- x[at, ]
  holes[2, 1] <- NA
  newX <- X[at, ]
  newX[4, 2] <- NaN
  p <- predict(fit, holes, newX = newX, interval = "prediction", nsim = 2, seed = 1)
  expect_identical(which(is.na(p$fit)), c(2L, 4L))
  expect_identical(which(is.na(p$upr)), c(2L, 4L))
  expect_equal(p$fit[-c(2, 4)], expected$fit[-c(2, 4)])
  expect_identical(which(is.na(attr(p, "samples")[, 1])), c(2L, 4L))
  none <- predict(fit, x[0, ], newX = X[0, ])
  expect_identical(dim(none), c(0L, 3L))
  expect_identical(predict(fit, x[0, ], newX = X[0, ], se.fit = FALSE), numeric())
  expect_error(predict(fit, replace(x[at, ], 1, Inf), newX = X[at, ]), "`newdata` must be finite")
})

test_that("a fit by formula treats missing values, empty data and new levels as lm() does", {
  d <- data.frame(x, y = y, kind = factor(rep_len(c("a", "b"), n), levels = c("a", "b", "never")))
  fit <- vif_fit(y ~ kind, coords = ~ lon + lat, data = d, inducing = 20, k = 10, progress = FALSE)
  # a level without observations is dropped
  expect_named(coef(fit, "mean"), c("(Intercept)", "kindb"))
  d$kind[d$kind == "b"][1:30] <- NA
  d$kind[d$kind %in% "b"] <- NA
  expect_error(vif_fit(y ~ kind, coords = ~ lon + lat, data = d, progress = FALSE), "2 or more levels")
  new <- data.frame(lon = 0.5, lat = c(0.1, NA, 0.3, 0.2), kind = c("a", "b", NA, "b"))
  expect_identical(unname(is.na(predict(fit, new, se = FALSE))), c(FALSE, TRUE, TRUE, FALSE))
  expect_identical(nrow(predict(fit, new[0, ])), 0L)
  expect_error(predict(fit, data.frame(lon = 0.5, lat = 0.1, kind = "c")), "`newdata` does not fit the model: .*new level c")
  lon <- 1:4 # a variable of that name elsewhere is not the data's
  expect_error(predict(fit, new[, -1]), "`newdata` must be with column lon")
  expect_error(predict(fit, new[, 0]), "`newdata` must be with columns ")
})

test_that("covariates of new data are of the kind that was fitted", {
  d <- data.frame(x = runif(80), z = rnorm(80), g = gl(2, 40, labels = c("a", "b")))
  d$y <- sin(8 * d$x) + d$z + rnorm(80, sd = 0.2)
  by_formula <- vif_fit(y ~ z + g, coords = ~ x, data = d, inducing = 10, k = 5, progress = FALSE)
  new <- d[1:3, ]
  with <- function(name, value) {
    new[[name]] <- value
    predict(by_formula, new, se.fit = FALSE)
  }
  for (odd in list(c("1", "2", "3"), c(TRUE, FALSE, TRUE), gl(3, 1))) {
    expect_error(with("z", odd), "`newdata` must be with z of the kind that was fitted, numeric, not ")
  }
  expect_error(with("g", 1:3), "with g of the kind that was fitted, factor, not numeric")
  expect_identical(with("g", as.character(new$g)), predict(by_formula, new, se.fit = FALSE))
  expect_true(all(is.na(with("z", NA))))
})

test_that("offsets of fits from matrices are given for new data, or missed", {
  set.seed(1)
  x <- cbind(runif(120), runif(120))
  exposure <- runif(120, 1, 100)
  y <- rpois(120, exposure * 0.1)
  fit <- vif_fit(y, x, 1, family = poisson(), offset = log(exposure), inducing = 10, k = 8, progress = FALSE)
  expect_message(without <- predict(fit, x[1:3, ])$fit, "no `newoffset` is given", class = "vif_offset")
  expect_equal(predict(fit, x[1:3, ], newoffset = log(exposure[1:3]))$fit, without * exposure[1:3])
  expect_equal(predict(fit, x[1:3, ], newoffset = log(2))$fit, 2 * without)
  expect_error(predict(fit, x[1:3, ], newoffset = Inf), "`newoffset` must be finite everywhere, not Inf")
  expect_error(predict(fit, x[1:3, ], newoffset = 1:2), "`newoffset` must be one number or 3 numbers")
  expect_error(predict(fit, newoffset = 1), "`newoffset` must be NULL without `newdata`")
  plain <- vif_fit(y, x, 1, inducing = 10, k = 8, progress = FALSE)
  expect_error(predict(plain, x, newoffset = 1), "`newoffset` must be NULL, as the fit has no offset")
})

test_that("a covariate that only the session has is missed in new data", {
  set.seed(1)
  d <- data.frame(a = runif(60), y = rnorm(60))
  z <- rnorm(60)
  fit <- vif_fit(y ~ z, coords = ~ a, data = d, inducing = 5, k = 5, progress = FALSE)
  expect_error(suppressWarnings(predict(fit, data.frame(a = c(0.2, 0.3, 0.4)))), "`newdata` must be with .* not without z")
})

test_that("an offset that only the session has is missed in new data of as many rows", {
  set.seed(1)
  d <- data.frame(a = runif(60), v = runif(60))
  d$y <- rpois(60, 5 * d$v)
  exposure <- d$v
  unit <- 2
  of <- function(formula, offset) {
    call <- list(formula, coords = ~ a, data = d, family = poisson(), inducing = 5, k = 5, iterations = 3,
                 progress = FALSE)
    suppressWarnings(do.call(vif_fit, c(call, offset)))
  }
  new <- d[60:1, ]
  wanted <- "`newdata` must be with the variables of `offset` .*, not without "
  outside <- of(y ~ 1, list(offset = quote(log(exposure))))
  expect_error(predict(outside, new), paste0(wanted, "exposure"))
  expect_error(predict(of(y ~ 1, list(offset = log(d$v))), new), paste0(wanted, "any"))
  inside <- of(y ~ 1, list(offset = quote(log(v / unit))))
  expected <- predict(inside, new)
  expect_equal(predict(outside, transform(new, exposure = v / unit), type = "link")$se.fit,
               predict(inside, new, type = "link")$se.fit, tolerance = 0.2)
  expect_equal(expected$fit[1:3], predict(inside, new[1:3, ])$fit)
  term <- of(y ~ offset(log(exposure)), NULL)
  expect_error(predict(term, new), paste0(wanted, "exposure"))
})
