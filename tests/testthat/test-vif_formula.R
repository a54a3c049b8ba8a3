quick <- function(...) vif_fit(..., inducing = 20, k = 10, progress = FALSE)
set.seed(12)
n <- 150
d <- data.frame(lon = runif(n), lat = runif(n), height = rnorm(n))
d$y <- 1 + sin(6 * d$lon) + cos(5 * d$lat) + d$height / 2 + rnorm(n, sd = 0.1)
fit <- quick(y ~ height, coords = ~ lon + lat, data = d)
new <- d[1:4, c("lon", "lat", "height")]

test_that("inputs may be named in every usual way", {
  same <- function(other) {
    expect_equal(other$loglik, fit$loglik)
    expect_equal(predict(other, new), predict(fit, new))
  }
  same(quick(formula = y ~ height, data = d, coords = ~ lon + lat))
  same(quick(y ~ height, coords = c("lon", "lat"), data = d))
  same(quick(y ~ height, coords = as.matrix(d[c("lon", "lat")]), data = d))
  same(quick(y ~ height, coords = d[c("lon", "lat")], data = d[c("y", "height")]))
  same(quick(y ~ height, coords = ~ lon + lat, data = d, kernel = "matern32"))
  all <- quick(y ~ 1, coords = ~ ., data = d[c("lon", "lat", "y")])
  expect_identical(colnames(all$gp$x), c("lon", "lat"))
  skip_if_not_installed("tibble")
  same(quick(y ~ height, coords = ~ lon + lat, data = tibble::as_tibble(d)))
})

test_that("terms of the inputs may be functions of several columns, and names follow", {
  sphere <- quick(y ~ 1, coords = ~ sphere_points(360 * lon, 180 * lat - 90) + height, data = d,
                  kernel = gp_kernel(lengthscale = c(1, 1, 1, 1)))
  expect_named(coef(sphere, "covariance")[2:5], paste0("lengthscale.", c("x", "y", "z", "height")))
  expect_identical(dim(predict(sphere, new)), c(4L, 3L))
})

test_that("rows of the inputs go with those of the data", {
  holes <- d
  holes$y[3] <- NA
  M <- as.matrix(d[c("lon", "lat")])
  M[7, 1] <- NA
  one <- vif_fit(y ~ 1, coords = M, data = holes, subset = height < 1, inducing = 20, k = 10, progress = FALSE)
  kept <- setdiff(which(d$height < 1), c(3, 7))
  expect_equal(one$loglik, quick(d$y[kept], unname(M[kept, ]), X = 1)$loglik)
})

test_that("an offset is part of the mean, in the fit and at new data", {
  with <- quick(y ~ height + offset(3 * lat), coords = ~ lon + lat, data = d)
  by_hand <- quick(y - 3 * lat ~ height, coords = ~ lon + lat, data = d)
  expect_equal(with$loglik, by_hand$loglik)
  expect_equal(predict(with, new)$fit, predict(by_hand, new)$fit + 3 * new$lat)
  expect_equal(fitted(with), fitted(by_hand) + 3 * d$lat, ignore_attr = TRUE)
  expect_equal(predict(with)$fit, unname(fitted(with)))
  expect_equal(simulate(with, 1, seed = 1)[[1]], simulate(by_hand, 1, seed = 1)[[1]] + 3 * d$lat)
  expect_output(print(with), "beside an offset")
})

test_that("both spellings of neighbours are known", {
  one <- quick(y ~ height, coords = ~ lon + lat, data = d, neighbors = "euclidean")
  expect_identical(one$neighbours, "euclidean")
  expect_error(quick(y ~ height, coords = ~ lon + lat, data = d, neighbors = "euclidean", wight = 1), "`wight` is not an argument of vif_fit\\(\\); did you mean `weights`\\?")
})

test_that("what cannot be read is refused by name", {
  expect_error(quick(y ~ 1, data = d), "`coords` must be a one-sided formula .* not missing")
  expect_error(quick(y ~ 1, coords = c("lon", "east"), data = d), '`coords` must be names of columns of `data`, not "east"')
  expect_error(quick(y ~ 1, coords = unname(as.matrix(d[1:2])), data = d), "`coords` must be with a name for every column")
  expect_error(quick(y ~ 1, coords = as.matrix(d[1:9, 1:2]), data = d), "`coords` must be of 150 rows as `data` is")
  expect_error(quick(~ height, coords = ~ lon, data = d), "`formula` must be one with a response")
  expect_error(quick(d$y, d[1:2], coords = ~ lon), "`coords` is not an argument of vif_fit\\(\\): it belongs to a fit by formula")
  expect_error(quick(y ~ 1, coords = ~ lon, data = d, X = 1), "`X` must be left out with a formula, which has the mean .*, not 1")
  expect_error(quick(y ~ 1, coords = ~ lon, data = d, X = NULL), "`X` must be left out with a formula")
})

test_that("one lengthscale over columns of very different spread draws a message", {
  d$seconds <- 86400 * runif(n)
  expect_message(suppressWarnings(quick(y ~ 1, coords = ~ lon + seconds, data = d, iterations = 20)),
                 "range of seconds is .* times that of lon, .* lengthscale = list\\(a = \"lon\", b = \"seconds\"\\)", class = "vif_units")
  expect_silent(quick(y ~ 1, coords = ~ lon + lat, data = d))
})

test_that("k and inducing are capped at what there is, with a message", {
  few <- d[1:30, ]
  expect_message(expect_message(
    one <- vif_fit(y ~ 1, coords = ~ lon + lat, data = few, k = 50, inducing = 60, progress = FALSE),
    "`k` is 29, the number of the other observations, instead of 50"), "`inducing` is 30")
  expect_identical(c(one$k, nrow(one$gp$inducing)), c(29L, 30L))
  expect_silent(vif_fit(y ~ 1, coords = ~ lon + lat, data = few, progress = FALSE))
})

test_that("parameters at a bound and columns of long lengthscales are named", {
  smooth <- data.frame(a = runif(100), b = runif(100), none = runif(100))
  smooth$y <- sin(3 * smooth$a) + smooth$b^2
  expect_warning(one <- vif_fit(y ~ 1, coords = ~ a + b + none, data = smooth, kernel = gp_kernel("rbf", lengthscale = c(1, 1, 1)),
                                inducing = 30, k = 20, progress = FALSE), "nugget has run to the lower end", class = "vif_bound")
  expect_identical(one$bounded[["nugget"]], "lower")
  expect_output(print(one), "of them [12] at a bound")
  expect_output(print(summary(one)), "at a bound: .*nugget has run to the lower end")
  one$kernel$lengthscale <- c(1, 1, 30)
  expect_identical(long_columns(one), "none")
  expect_output(print_foot(one, 4), "times the range: none")
})

test_that("data that is no data frame is refused by name", {
  for (odd in list(y ~ 1, gp_kernel(), 1:3, "a")) {
    expect_error(vif_fit(y ~ 1, coords = ~ x, data = odd), "^vif_fit\\(\\): `data` must be a data frame")
  }
})

test_that("names that are nowhere are named, with what there is", {
  d <- data.frame(x = 1:20, y = rnorm(20))
  expect_error(vif_fit(y ~ 1, coords = ~ lon, data = d),
               "^vif_fit\\(\\): `coords` must be made of columns of `data` \\(x, y\\), not of lon")
  expect_error(vif_fit(y ~ depth, coords = ~ x, data = d), "`formula` must be made of columns of `data` \\(x, y\\), not of depth")
  outside <- (1:20)^2
  expect_s3_class(vif_fit(y ~ 1, coords = ~ outside, data = d, inducing = 0, k = 5, nugget = 1, progress = FALSE), "vif")
})

test_that("a family name, its smoothness and the beginnings of choices are understood", {
  set.seed(1)
  d <- data.frame(x = runif(80))
  d$y <- sin(6 * d$x) + rnorm(80, sd = 0.2)
  rough <- vif_fit(y ~ 1, coords = ~ x, data = d, kernel = "matern", smoothness = 0.8, inducing = 10, k = 8, progress = FALSE)
  expect_identical(rough$kernel$smoothness, 0.8)
  expect_false("smoothness" %in% names(rough$theta))
  free <- suppressWarnings(update(rough, smoothness = "est"))
  expect_true("smoothness" %in% names(free$theta))
  expect_error(update(rough, smoothness = "fixed"), '`smoothness` must be a number, or "estimate", for kernel "matern"')
  expect_error(update(rough, kernel = "rbf"), '`smoothness` must be "fixed" for family "rbf"')
  expect_error(update(rough, kernel = "cubic"), "`kernel` must be one of")
  expect_named(predict(rough, d[1:3, ], interval = "pred"), c("fit", "se.fit", "se.obs", "lwr", "upr"))
  expect_error(predict(rough, d, interval = "p1"), "`interval` must be one of")
  expect_identical(formula(step(rough, trace = 0)), y ~ 1, ignore_formula_env = TRUE)
})

test_that("inputs are plain numbers, and a sum of variables", {
  for (odd in list(~ lon:lat, ~ lon * lat, ~ lon + lat - lat)) {
    expect_error(quick(y ~ 1, coords = odd, data = d), "`coords` must be a sum of variables")
  }
  dated <- transform(d, day = as.Date("2020-01-01") + seq_len(n))
  expect_error(quick(y ~ 1, coords = ~ lon + day, data = dated), "day is of class Date (as.numeric() makes", fixed = TRUE)
  skip_if_not_installed("units")
  measured <- d
  measured$lon <- units::set_units(d$lon, "km")
  expect_error(quick(y ~ 1, coords = ~ lon + lat, data = measured), '`data` must be of plain numbers.* "units" in lon')
  expect_error(quick(d$y, measured[c("lon", "lat")], X = 1), '`x` must be of plain numbers.* "units" in lon')
  expect_error(quick(d$y, d$lon, X = measured$lon), '`X` must be of plain numbers')
  expect_error(predict(fit, measured[1:3, ]), '`newdata` must be of plain numbers.* "units" in lon')
})

test_that("an offset may be an argument", {
  d$e <- runif(n)
  term <- quick(y ~ height + offset(e), coords = ~ lon + lat, data = d)
  argument <- vif_fit(y ~ height, coords = ~ lon + lat, data = d, offset = e, inducing = 20, k = 10, progress = FALSE)
  expect_equal(coef(argument), coef(term))
  expect_equal(predict(argument, d[1:3, ]), predict(term, d[1:3, ]))
  expect_error(predict(argument, new), "with column e")
  outside <- vif_fit(y ~ height, coords = ~ lon + lat, data = d, offset = d$e, inducing = 20, k = 10, progress = FALSE)
  expect_equal(coef(outside), coef(term))
  expect_error(predict(outside, d[1:3, ]), "with the variables of `offset`")
})

test_that("what other packages take is told what it is here", {
  d$g <- gl(3, n / 3)
  expect_error(quick(y ~ height + (1 | g), coords = ~ lon + lat, data = d), "without random effects.*one with \\(1 \\| g\\)")
  expect_error(quick(y ~ 1, locations = ~ lon + lat, data = d), "`locations` is not an argument.*did you mean `coords`\\?$")
  expect_error(quick(y ~ height, d), "did you mean `data =`?", fixed = TRUE)
  expect_error(quick(y > 0 ~ 1, coords = ~ lon + lat, data = d), "numeric vector (binary responses have family = binomial())",
               fixed = TRUE)
  expect_error(quick(y ~ 1, coords = ~ lon + lat, data = d, lengthscale = 2), "values to start from go into gp_kernel()",
               fixed = TRUE)
  spatial <- structure(list(), class = "SpatialPointsDataFrame")
  expect_error(quick(y ~ 1, data = structure(spatial, class = c("SpatialPointsDataFrame", "Spatial"))), "sf::st_as_sf()",
               fixed = TRUE)
})

test_that("a function of the session is no variable of a formula", {
  d <- data.frame(a = runif(60), b = runif(60), y = rnorm(60))
  expect_error(vif_fit(y ~ df, coords = ~ a, data = d), "`formula` must be made of columns of `data` .*, not of df")
  expect_error(vif_fit(t ~ b, coords = ~ a, data = d), "`formula` must be made of columns of `data` .*, not of t")
  expect_error(vif_fit(y ~ b, coords = ~ a + c, data = d), "`coords` must be made of columns of `data` .*, not of c")
  fit <- suppressWarnings(vif_fit(y ~ I(sapply(b, exp)), coords = ~ a, data = d, inducing = 5, k = 5, iterations = 2,
                                  progress = FALSE))
  expect_length(fit$coefficients, 2)
})

test_that("a list serves as data where it is a data frame in all but name", {
  set.seed(1)
  d <- data.frame(y = rnorm(30), east = runif(30), north = runif(30))
  fit <- function(data) vif_fit(y ~ 1, ~ east + north, data, inducing = 4, k = 3, iterations = 2, progress = FALSE)
  expect_equal(suppressWarnings(fit(as.list(d)))$loglik, suppressWarnings(fit(d))$loglik)
  expect_error(fit(list(y = d$y, east = gp_kernel())), "`data` must be a data frame, or missing, not a list that is none")
})

test_that("arguments of other packages are refused, and names are not completed", {
  d <- data.frame(x = runif(40), y = runif(40), z = rnorm(40))
  expect_error(vif_fit(z ~ 1, ~ x + y, d, nu = 1.5), "`nu` is not an argument of vif_fit.*smoothness")
  expect_error(vif_fit(d$z, d[1:2], X = 1, nu = 1.5), "`nu` is not an argument")
  expect_error(vif_fit(z ~ 1, ~ x + y, d, nug = 0.1), "`nug` is not an argument.*did you mean `nugget`")
  expect_error(vif_fit(z ~ 1, data = d, xcoord = x, ycoord = y), "`xcoord` is not an argument.*coords = ~ x \\+ y")
  expect_error(vif_fit(z ~ 1, coords = c(nowhere, y), data = d), "`coords` must be a one-sided formula")
  expect_error(vif_fit(z ~ 1, ~ x + y, d, noise_variance = 3), "`noise_variance` must be a column")
  expect_error(vif_fit(z ~ 1, ~ x + y, d, model = "exp"), "the covariance function is `kernel`")
})

test_that("degrees that are taken for a plane are told, and so are rows that were left out", {
  d <- data.frame(lon = runif(40, 170, 190), lat = runif(40, -20, 20))
  d$z <- sin(d$lat / 5) + rnorm(40) / 10
  d$z[7] <- NA
  expect_message(fit <- vif_fit(z ~ 1, ~ lon + lat, d, progress = FALSE), "sphere_points\\(lon, lat\\)", class = "vif_degrees")
  expect_output(print(fit), "1 row with missing values left out")
  expect_no_degrees <- function(code) {
    told <- FALSE
    withCallingHandlers(code, vif_degrees = function(m) told <<- TRUE)
    expect_false(told)
  }
  expect_no_degrees(vif_fit(z ~ 1, ~ sphere_points(lon, lat), d, progress = FALSE))
  expect_no_degrees(vif_fit(z ~ 1, ~ lon + lat, transform(d, lat = 1000 * lat), progress = FALSE))
  d$lat[3] <- NA
  expect_error(vif_fit(z ~ 1, ~ lon + lat, d[-7, ], na.action = na.pass), "`x` must be .*finite|missing")
})

test_that("a Gaussian process without correlation is told", {
  set.seed(3)
  d <- data.frame(x = runif(100), y = runif(100), z = rnorm(100), s = 0)
  expect_message(vif_fit(z ~ 1, ~ x + y, d, progress = FALSE), "has become noise", class = "vif_white")
  d$s <- sin(6 * d$x) + d$z / 5
  expect_message(vif_fit(s ~ 1, ~ x + y, d, progress = FALSE), NA)
  # noise that the nugget may not have
  expect_message(vif_fit(sin(6 * x) + z ~ 1, ~ x + y, d, nugget = 0.01, progress = FALSE), "with a nugget of 0.01",
                 class = "vif_white")
})
