set.seed(16)
n <- 300
x <- cbind(east = runif(n), north = runif(n), day = runif(n, 0, 30))
truth <- gp_kernel("matern32", 1.5, c(0.3, 0.3, 12))
y <- drop(crossprod(chol(oracle_covariance(truth, x, x) + diag(0.1, n)), rnorm(n)))
quick <- function(y, x, X = NULL, ..., inducing = 30, k = 10) {
  vif_fit(y, x, X = X, ..., inducing = inducing, k = k, progress = FALSE)
}

setting <- function(kernel, x, ..., groups = NULL) {
  groups <- lengthscale_groups(groups, x, kernel)
  utils::modifyList(list(kernel = kernel, inducing = 30, k = 10, fixed = NULL, spread = 1, neighbours = "residual",
                         jitter = 1e-6, seed = 1, threads = 1L, groups = groups, scale = input_scale(x, groups),
                         smoothness = "fixed"), list(...))
}
data_of <- function(y, x, X = NULL) list(y = y, x = x, X = X, extra = rep(0, length(y)), share = rep(1, length(y)))

test_that("lengthscales by group belong to their columns", {
  groups <- list(space = c("east", "north"), time = "day")
  settings <- setting(gp_kernel("matern32"), x, groups = groups)
  expect_identical(settings$groups, list(of = c(1L, 1L, 2L), names = c("lengthscale.space", "lengthscale.time")))
  theta <- to_theta(gp_kernel("matern32", 2, c(0.1, 0.1, 9)), 0.3, settings)
  expect_equal(exp(theta), c(variance = 2, lengthscale.space = 0.1, lengthscale.time = 9, nugget = 0.3))
  expect_equal(to_kernel(theta, settings)$lengthscale, c(0.1, 0.1, 9))
  structure <- structure_of(theta, data_of(y, x), settings)
  at <- evaluate(theta, structure, data_of(y, x), settings)
  slope <- vapply(seq_along(theta), function(j) {
    value <- function(h) evaluate(replace(theta, j, theta[[j]] + h), structure, data_of(y, x), settings, FALSE)$value
    (value(1e-5) - value(-1e-5)) / 2e-5
  }, 0)
  expect_equal(unname(at$gradient), slope, tolerance = 1e-5)
  expect_identical(dimnames(at$fisher), list(names(theta), names(theta)))
  grouped <- quick(y, x, lengthscale = groups)
  each <- quick(y, x, kernel = gp_kernel("matern32", lengthscale = c(1, 1, 1)))
  expect_identical(grouped$kernel$lengthscale[1], grouped$kernel$lengthscale[2])
  expect_lt(grouped$loglik, each$loglik + 2)
  expect_gt(grouped$loglik, each$loglik - 6)
  expect_identical(attr(logLik(grouped), "df"), attr(logLik(each), "df") - 1L)
  # a group of columns that turn into each other does not see a rotation
  turned <- x
  turned[, 1:2] <- x[, 1:2] %*% matrix(c(cos(1), sin(1), -sin(1), cos(1)), 2)
  expect_equal(quick(y, turned, lengthscale = groups)$loglik, grouped$loglik, tolerance = 1e-4)
})

test_that("groups of columns that are none are refused", {
  expect_error(quick(y, x, lengthscale = list(a = c("east", "north"))), "one without day")
  expect_error(quick(y, x, lengthscale = list(a = 1:2, b = 2:3)), "one with north in two")
  expect_error(quick(y, x, lengthscale = list(a = c("east", "up"), b = "day")), "made of east, north, day")
  expect_error(quick(y, x, lengthscale = list(1, 2)), "`lengthscale` must be a named list of groups")
})

test_that("sets are those of parameters on a grid, which are shared by neighbours and left only for far ones", {
  settings <- setting(gp_kernel("matern32"), x)
  theta <- to_theta(gp_kernel("matern32", 2, 3), 0.3, settings)
  at <- on_grid(theta, settings)
  expect_lte(max(abs(at - theta)), log(10) / 2)
  expect_identical(on_grid(at, settings), at)
  # the variance alone does not matter
  expect_equal((on_grid(theta + c(3, 0, 3), settings) - at)[["lengthscale"]], 0)
  expect_false(off_grid(at + c(5, 0.4, 5), at, settings))
  expect_true(off_grid(at + c(0, 0.6, 0), at, settings))
  expect_true(off_grid(at + c(0, 0, 2), at, settings))
  # a column without influence may have any lengthscale
  each <- setting(gp_kernel("matern32", lengthscale = c(1, 1, 1)), x)
  flat <- to_theta(gp_kernel("matern32", 1, c(1, 1, 1e4)), 0.1, each)
  expect_false(off_grid(flat + c(0, 0, 0, -2, 0), flat, each))
})

test_that("a scoring step keeps parameters at their bounds and damping shortens it", {
  at <- list(theta = c(a = 0, b = 1), gradient = c(a = -1, b = 2), fisher = diag(c(4, 2)))
  bounds <- list(lower = c(0, -5), upper = c(5, 5))
  step <- scoring_step(at, bounds)
  expect_equal(step$step, c(a = 0, b = 1), tolerance = 1e-6)
  expect_equal(step$gain, 1, tolerance = 1e-6)
  expect_equal(scoring_step(at, list(lower = c(-5, -5), upper = bounds$upper))$step, c(a = -0.25, b = 1), tolerance = 1e-6)
  expect_equal(scoring_step(at, bounds, damping = 1)$step[["b"]], 0.5, tolerance = 1e-6)
})

test_that("scoring ends no lower than nlminb() from the same start, with the same sets", {
  for (seed in 1:4) {
    set.seed(seed)
    x <- cbind(runif(n), runif(n))
    truth <- gp_kernel(c("matern12", "matern32", "matern52", "rbf")[seed], 1, 0.2)
    y <- drop(crossprod(chol(oracle_covariance(truth, x, x) + diag(c(0.5, 0.1, 0.02, 0.1)[seed], n)), rnorm(n)))
    settings <- setting(truth, x, spread = var(y))
    start <- starting_values("auto", data_of(y, x), settings)
    ours <- maximise(start, data_of(y, x), settings, 100, FALSE)
    expect_true(ours$converged)
    structure <- structure_of(start$theta, data_of(y, x), settings, ours$structure$at)
    theirs <- polish(evaluate(start$theta, structure, data_of(y, x), settings), structure, data_of(y, x), settings,
                     theta_bounds(settings), 200)
    expect_gt(ours$value, theirs$at$value - 1e-3)
  }
})

test_that("where a step fails nlminb() goes on", {
  settings <- setting(gp_kernel("matern32"), x[, 1:2])
  data <- data_of(y, x[, 1:2])
  start <- to_theta(gp_kernel("matern32", 5, 2), 2, settings)
  structure <- structure_of(start, data, settings)
  at <- evaluate(start, structure, data, settings)
  polished <- polish(at, structure, data, settings, theta_bounds(settings), 50)
  expect_true(polished$settled)
  expect_gt(polished$at$value, at$value + 1)
  # a direction in which the likelihood falls is given up
  down <- list(step = -scoring_step(at, theta_bounds(settings))$step, gain = 1)
  blind <- at
  blind$gradient <- -at$gradient
  expect_null(rise(blind, down, theta_bounds(settings), structure, data, settings))
  # and a climb whose first step is given up ends where nlminb() does
  stuck <- climb
  environment(stuck) <- list2env(list(rise = function(...) NULL), parent = environment(climb))
  climbed <- stuck(start, data, settings, "all", 50, 1e-3, FALSE)
  expect_true(climbed$settled)
  expect_equal(climbed$at$value, polished$at$value, tolerance = 1e-6)
})

test_that("of several modes the highest is found", {
  twice <- rep(seq_len(100), 2)
  set.seed(5)
  at <- matrix(runif(200), ncol = 2)
  signal <- sin(9 * at[, 1]) + cos(7 * at[, 2])
  expect_warning(fit <- quick(signal[twice] + rep(rnorm(100, sd = 1e-3), 2), at[twice, ], inducing = 0),
                 "nugget has run to the lower end", class = "vif_bound")
  # copies agree exactly: next to no noise
  expect_lt(fit$nugget, 1e-5)
})

test_that("log-likelihoods of models of the same inputs are compared with the same sets", {
  X <- cbind(one = 1, noise = rnorm(n))
  small <- quick(y, x[, 1:2], X = X[, 1, drop = FALSE])
  large <- quick(y, x[, 1:2], X = X)
  expect_identical(small$id, large$id)
  common <- common_loglik(list(small, large))$loglik
  expect_equal(common, c(small$loglik, large$loglik), tolerance = 1e-5)
  # sets of other parameters: the difference is still that of the models
  moved <- quick(y, x[, 1:2], X = X[, 1, drop = FALSE], start = list(kernel = gp_kernel("matern32", 1, 0.15), nugget = 0.1,
                                                                     at = small$at + c(0, log(2) / 2, 0)))
  expect_false(identical(moved$id, large$id))
  again <- common_loglik(list(moved, large))$loglik
  expect_equal(diff(again), diff(common), tolerance = 0.02)
})

test_that("the smoothness of family matern is estimated on request", {
  rough <- gp_kernel("matern", 1, 0.3, smoothness = 0.8)
  set.seed(3)
  x <- cbind(runif(500), runif(500))
  y <- drop(crossprod(chol(oracle_covariance(rough, x, x) + diag(0.01, 500)), rnorm(500)))
  fit <- quick(y, x, kernel = gp_kernel("matern", smoothness = 1.5), smoothness = "estimate")
  expect_gt(fit$kernel$smoothness, 0.4)
  expect_lt(fit$kernel$smoothness, 1.4)
  expect_true("smoothness" %in% rownames(fit$fisher))
  expect_error(quick(y, x, smoothness = "estimate"), '`smoothness` must be "fixed" for family "matern32"')
})

test_that("a smoothness that ends at its bound is told", {
  set.seed(1)
  x <- cbind(runif(150), runif(150))
  y <- sin(2 * x[, 1]) + cos(3 * x[, 2])
  expect_warning(fit <- quick(y + rnorm(150, sd = 0.01), x, kernel = "matern", smoothness = "estimate"),
                 "smoothness has run to the upper end of its range \\(5\\)", class = "vif_bound")
  expect_identical(fit$bounded[["smoothness"]], "upper")
  expect_output(print(fit), "at a bound: smoothness")
  expect_true(is.na(confint(fit)["smoothness", 1]))
  # of deterministic data the nugget is at its end, too
  expect_warning(quick(y, x, kernel = "matern", smoothness = "estimate"), "smoothness has run to the upper end",
                 class = "vif_bound")
})

test_that("a nugget on its way to zero does not hold the others up", {
  skip_if_not_installed("MASS")
  freely <- vif_fit(z ~ 1, coords = ~ x + y, data = MASS::topo, kernel = "exponential", progress = FALSE)
  without <- vif_fit(z ~ 1, coords = ~ x + y, data = MASS::topo, kernel = "exponential", nugget = 0, progress = FALSE)
  expect_lt(abs(freely$loglik - without$loglik), 0.01)
  set.seed(1)
  some <- sample(length(volcano), 110)
  heights <- data.frame(which(volcano > 0, arr.ind = TRUE)[some, ], z = volcano[some])
  freely <- suppressWarnings(vif_fit(z ~ 1, ~ row + col, heights, kernel = "exponential", progress = FALSE))
  without <- vif_fit(z ~ 1, ~ row + col, heights, kernel = "exponential", nugget = 0, progress = FALSE)
  expect_lt(abs(freely$loglik - without$loglik), 0.01)
})

test_that("a step within limits is the best of all within them", {
  set.seed(4)
  for (trial in 1:50) {
    root <- matrix(rnorm(9), 3)
    information <- crossprod(root) + 0.01 * diag(3)
    slope <- 5 * rnorm(3)
    limit <- c(0.5, 1, 2)
    step <- box_step(information, slope, -limit, limit)
    gain <- function(s) sum(slope * s) - sum(s * (information %*% s)) / 2
    best <- -optim(0 * slope, function(s) -gain(s), method = "L-BFGS-B", lower = -limit, upper = limit)$value
    expect_true(all(abs(step) <= limit))
    expect_gt(gain(step), 0.99 * best)
  }
  current <- list(theta = c(a = 0, b = 0), gradient = c(-20.2, 21.6), fisher = matrix(c(2, 1.99, 1.99, 2), 2))
  expect_gt(scoring_step(current, list(lower = c(-9, -9), upper = c(9, 9)))$gain, 1)
})

test_that("a few tiny weights do not mislead the start", {
  set.seed(2)
  n <- 200
  x <- cbind(runif(n), runif(n))
  y <- sin(5 * x[, 1]) * cos(4 * x[, 2]) + rnorm(n, sd = 0.3)
  fit <- function(few, size, ...) {
    vif_fit(y, x, X = 1, weights = replace(rep(1, n), seq_len(few), size), progress = FALSE, ...)$loglik
  }
  for (case in list(c(1, 1e-5), c(5, 1e-6), c(1, 1e6), c(150, 1e5))) {
    good <- fit(case[1], case[2], start = list(kernel = gp_kernel("matern32", 0.5, 0.5), nugget = 0.1))
    expect_equal(fit(case[1], case[2]), good, tolerance = 1e-3 / abs(good), label = paste(case, collapse = " of "))
  }
})

test_that("weights may have any unit", {
  skip_if_not_installed("sp")
  data(meuse, package = "sp", envir = environment())
  fits <- lapply(c(1, 1e-6, 1e5), function(unit) {
    meuse$w <- unit * rep(1:5, 31)
    vif_fit(log(zinc) ~ 1, ~ x + y, meuse, weights = w, progress = FALSE)
  })
  for (i in 2:3) {
    expect_equal(fits[[i]]$loglik, fits[[1]]$loglik, tolerance = 1e-6)
    expect_equal(fits[[i]]$nugget, fits[[1]]$nugget * c(1, 1e-6, 1e5)[i], tolerance = 1e-3)
    expect_identical(fits[[i]]$id, fits[[1]]$id)
  }
})

test_that("a climb along a ridge ends", {
  set.seed(13)
  d <- data.frame(a = runif(200), b = runif(200), z = rnorm(200), noise = rnorm(200), count = rep(0:4, 40))
  expect_no_warning(fit <- vif_fit(count ~ 1, coords = ~ a + b, data = d, inducing = 20, k = 10, progress = FALSE),
                    class = "vif_convergence")
  expect_gte(fit$loglik, as.numeric(logLik(lm(count ~ 1, d))))
})

test_that("a last step is taken without derivatives where it brings what it promised, and not otherwise", {
  settings <- setting(gp_kernel("matern32"), x, groups = list(space = c("east", "north"), time = "day"))
  data <- data_of(y, x)
  fit <- quick(y, x, kernel = truth, neighbours = "residual",
               lengthscale = list(space = c("east", "north"), time = "day"))
  structure <- structure_of(fit$theta, data, settings)
  bounds <- theta_bounds(settings)
  current <- evaluate(fit$theta + c(0.02, -0.01, 0.01, 0.02), structure, data, settings)
  for (round in 1:2) { # to the maximum for these sets, and away from it a little
    current$curvature <- current$fisher
    current <- evaluate(current$theta + scoring_step(current, bounds)$step, structure, data, settings)
  }
  current <- evaluate(current$theta + 0.005, structure, data, settings)
  current$curvature <- -vapply(seq_along(current$theta), function(i) {
    ahead <- evaluate(current$theta + 1e-4 * (seq_along(current$theta) == i), structure, data, settings)
    back <- evaluate(current$theta - 1e-4 * (seq_along(current$theta) == i), structure, data, settings)
    (ahead$gradient - back$gradient) / 2e-4
  }, current$theta)
  step <- scoring_step(current, bounds)
  taken <- ending(current, step, bounds, 1e-3, structure, data, settings)
  full <- evaluate(current$theta + step$step, structure, data, settings)
  expect_equal(taken$value, full$value, tolerance = 1e-12)
  expect_lt(scoring_step(taken, bounds)$gain, 1e-3 * step$gain)
  expect_lt(scoring_step(full, bounds)$gain, 0.1 * step$gain)
  expect_null(ending(current, step, bounds, 1e-15, structure, data, settings))
  for (gain in step$gain * c(0.5, 2)) {
    expect_null(ending(current, utils::modifyList(step, list(gain = gain)), bounds, 1e-3, structure, data, settings))
  }
  # a rise that misses the promise by a twentieth leaves a square of that: 0.0025 of the gain
  missing <- ending
  environment(missing) <- list2env(list(evaluate = function(theta, ...) {
    list(value = current$value + 1.05 * step$gain, theta = theta)
  }), parent = environment(ending))
  expect_null(missing(current, step, bounds, 4.9 * 0.0025 * step$gain, structure, data, settings))
  expect_type(missing(current, step, bounds, 5.1 * 0.0025 * step$gain, structure, data, settings), "list")
})

test_that("evaluations of large fits, whose features the core makes, are those of others", {
  lean <- lean_gp
  environment(lean) <- list2env(list(large_features = 0), parent = environment(lean_gp))
  large <- evaluate
  environment(large) <- list2env(list(lean_gp = lean), parent = environment(evaluate))
  groups <- list(plane = c("east", "north"), day = "day")
  fits <- list(quick(y, x, lengthscale = groups), quick(y, x, lengthscale = groups, anisotropy = TRUE),
               quick(y, x, lengthscale = groups, kernel = "matern", smoothness = "estimate"))
  for (fit in fits) {
    structure <- list(inducing = fit$gp$inducing, id = fit$id)
    data <- fit_data(fit, fit$order)
    small <- evaluate(fit$theta, structure, data, fit$settings)
    made <- large(fit$theta, structure, data, fit$settings)
    expect_null(made$gp$V)
    expect_null(made$evaluation$coef)
    for (part in c("value", "gradient", "fisher")) expect_equal(made[[part]], small[[part]], tolerance = 1e-8)
    for (part in c("beta", "D", "b", "error")) {
      expect_equal(made$evaluation[[part]], small$evaluation[[part]], tolerance = 1e-8)
    }
  }
})
