kernels <- list(
  gp_kernel("matern12", 1.5, 0.4), gp_kernel("matern32", 0.7, c(0.2, 0.5)), gp_kernel("matern52", 2, 0.3),
  gp_kernel("matern", 1.2, c(0.3, 0.4), smoothness = 0.8), gp_kernel("rbf", 1.5, 0.3),
  gp_kernel("rbf", 0.5, c(0.3, 0.1)), gp_kernel("matern", 2, 0.3, smoothness = 1.8)
)
set.seed(5)
x <- matrix(runif(60), 30)
y <- rnorm(30)

test_that("parameters survive the way there and back", {
  for (kernel in kernels) {
    theirs <- as_gpboost(kernel, 0.2)
    expect_equal(from_gpboost(theirs$cov_function, theirs$cov_pars, theirs$cov_fct_shape),
                 list(kernel = kernel, nugget = 0.2))
    if (kernel$family == "rbf") next
    theirs <- as_gpgp(kernel, 0.2)
    expect_equal(from_gpgp(theirs$covfun_name, theirs$covparms), list(kernel = kernel, nugget = 0.2))
  }
  expect_equal(from_gpboost("exponential", c(0, 1, 2))$kernel, gp_kernel("matern12", 1, 2))
})

test_that("GpGp's covariances are ours at the translated parameters", {
  skip_if_not_installed("GpGp")
  for (kernel in Filter(function(kernel) kernel$family != "rbf", kernels)) {
    theirs <- as_gpgp(kernel, 0.2)
    covariance <- getExportedValue("GpGp", theirs$covfun_name)(theirs$covparms, x)
    expect_equal(covariance, oracle_covariance(kernel, x, x) + diag(0.2, 30), tolerance = 1e-7,
                 label = format(kernel))
  }
})

test_that("gpboost's likelihood is ours at the translated parameters", {
  skip_if_not_installed("gpboost")
  for (kernel in kernels) {
    theirs <- as_gpboost(kernel, 0.2)
    model <- gpboost::GPModel(gp_coords = x, cov_function = theirs$cov_function,
                              cov_fct_shape = theirs$cov_fct_shape, likelihood = "gaussian")
    expect_equal(-model$neg_log_likelihood(cov_pars = unname(theirs$cov_pars), y = y),
                 gp_loglik(y, x, kernel, 0.2), tolerance = 1e-6, label = format(kernel))
  }
})

test_that("what has no counterpart is refused by name", {
  expect_error(as_gpgp(gp_kernel("rbf")), "^as_gpgp\\(\\): `kernel` must be of a Matern family")
  expect_error(from_gpgp("matern_spheretime_warp", 1:5), '`covfun_name` must be one of .*not "matern_spheretime_warp"')
  expect_error(from_gpgp("matern15_isotropic", 1:4), "`covparms` must be numeric of length 3")
  expect_error(from_gpboost("wendland", 1:3), "`cov_function` must be one of")
  expect_error(from_gpboost("matern", 1:2), "`cov_pars` must be numeric of length 3 or more")
})

test_that("points on the sphere are where they belong", {
  p <- sphere_points(c(0, 90, -180, 180, 20), c(0, 0, 0, 0, 90), radius = 2)
  expect_equal(unname(p), rbind(c(2, 0, 0), c(0, 2, 0), c(-2, 0, 0), c(-2, 0, 0), c(0, 0, 2)))
  expect_identical(colnames(p), c("x", "y", "z"))
  expect_identical(sphere_points(cbind(10, 20)), sphere_points(10, 20))
  for (names in list(c("lat", "lon"), c("Latitude", "LONGITUDE"), c("LAT", "long"))) {
    swapped <- matrix(c(20, 20, 10, 10), 2, dimnames = list(NULL, names))
    expect_identical(sphere_points(as.data.frame(swapped)), sphere_points(c(10, 10), c(20, 20)))
    expect_identical(sphere_points(swapped[, 2:1]), sphere_points(c(10, 10), c(20, 20)))
    expect_identical(sphere_points(swapped[1, , drop = FALSE]), sphere_points(10, 20))
  }
  for (names in list(c("y", "x"), c("lat", "lat"), c("lat", ""), c("lat", "x"))) { # names that tell too little
    expect_identical(sphere_points(matrix(c(10, 20), 1, dimnames = list(NULL, names))), sphere_points(10, 20))
  }
  # chords are shorter than arcs by 1/24 of the squared angle
  expect_equal(c(dist(sphere_points(c(0, 1), c(0, 0)))), 6371 * pi / 180, tolerance = 1e-4)
  expect_error(sphere_points(0, 91), "^sphere_points\\(\\): `lat` must be between -90 and 90 degrees, not 91")
  expect_equal(sphere_points(370, 20), sphere_points(10, 20))
  expect_error(sphere_points(NA_real_, 0), "`lon` must be finite")
  expect_error(sphere_points(1:2, 1), "`lat` must be of length 2")
})

test_that("converters take fits", {
  x <- runif(100)
  fit <- vif_fit(sin(8 * x) + rnorm(100, sd = 0.2), x, X = 1, inducing = 20, k = 10, progress = FALSE)
  expect_identical(as_gpgp(fit), as_gpgp(fit$kernel, fit$nugget))
  expect_identical(as_gpboost(fit), as_gpboost(fit$kernel, fit$nugget))
  expect_error(as_gpgp(fit, nugget = 1), "`nugget` must be left out with a fit")
  back <- from_gpgp(structure(as_gpgp(fit), class = "GpGp_fit"))
  expect_equal(back, list(kernel = fit$kernel, nugget = fit$nugget))
  model <- structure(list(model_to_list = function(...) as_gpboost(fit)), class = "GPModel")
  expect_equal(from_gpboost(model), list(kernel = fit$kernel, nugget = fit$nugget))
})

test_that("GpGp's functions on the sphere and in space-time are the same covariances", {
  skip_if_not_installed("GpGp")
  set.seed(5)
  places <- cbind(lon = runif(20, -180, 180), lat = runif(20, -90, 90))
  time <- runif(20, 0, 50)
  agree <- function(name, parms, locs, x, shape) {
    ours <- from_gpgp(name, parms)
    S <- getExportedValue("GpGp", name)(parms, locs)
    expect_equal(S, oracle_covariance(ours$kernel, x, x) + diag(ours$nugget, 20), tolerance = 1e-8, ignore_attr = TRUE)
    expect_equal(as_gpgp(ours$kernel, ours$nugget, shape), list(covfun_name = name, covparms = parms))
  }
  sphere <- sphere_points(places)
  agree("matern_sphere", c(2, 0.3, 0.8, 0.1), places, sphere, "sphere")
  agree("exponential_sphere", c(2, 0.3, 0.1), places, sphere, "sphere")
  agree("matern_spheretime", c(2, 0.3, 20, 0.8, 0.1), cbind(places, time), cbind(sphere, time), "spheretime")
  agree("exponential_spheretime", c(2, 0.3, 20, 0.1), cbind(places, time), cbind(sphere, time), "spheretime")
  plane <- cbind(runif(20), runif(20), time)
  agree("matern_spacetime", c(2, 0.3, 20, 0.8, 0.1), plane, plane, "spacetime")
  expect_identical(as_gpgp(gp_kernel("matern32", lengthscale = c(3, 3, 3, 9)), 0, "spheretime")$covfun_name, "matern_spheretime")
})

test_that("forms that the lengthscales do not fit are refused", {
  expect_error(as_gpgp(gp_kernel(lengthscale = 1:4), shape = "spheretime"), "three equal lengthscales and one for time")
  expect_error(as_gpgp(gp_kernel(lengthscale = 1:2), shape = "isotropic"), "`shape` must be one with a range for each")
  expect_error(from_gpgp("matern_spheretime", c(1, 1, 0.5, 0.1)), "`covparms` must be numeric of length 5")
})

# Observations on which the other packages' exact fits and ours must agree.
peer_data <- function(n = 120) {
  set.seed(7)
  x <- cbind(runif(n), runif(n))
  S <- oracle_covariance(gp_kernel("matern32", 1, 0.25), x, x) + diag(0.1, n)
  list(x = x, y = 2 + drop(crossprod(chol(S), rnorm(n))), new = cbind(runif(10), runif(10)))
}

# Kriging with a known kernel and a constant mean by generalised least squares, plain and dense.
kriging <- function(d, ours) {
  S <- oracle_covariance(ours$kernel, d$x, d$x) + diag(ours$nugget, nrow(d$x))
  beta <- sum(solve(S, d$y)) / sum(solve(S))
  C <- oracle_covariance(ours$kernel, d$new, d$x)
  list(fit = beta + drop(C %*% solve(S, d$y - beta)),
       variance = ours$kernel$variance - rowSums(C * t(solve(S, t(C)))))
}

test_that("fits of GpGp convert: likelihood and predictions are ours at its estimates", {
  skip_if_not_installed("GpGp")
  d <- peer_data()
  theirs <- GpGp::fit_model(d$y, d$x, covfun_name = "matern15_isotropic", m_seq = 119, silent = TRUE)
  ours <- from_gpgp(theirs)
  expect_identical(ours$kernel$family, "matern32")
  at <- gp_loglik(d$y, d$x, ours$kernel, ours$nugget, X = matrix(1, 120))
  expect_equal(theirs$loglik, at, tolerance = 1e-6)
  p <- GpGp::predictions(theirs, d$new, matrix(1, 10), m = 119)
  expect_equal(as.vector(p), kriging(d, ours)$fit, tolerance = 1e-4)
  # the same maximum, but for the penalty that GpGp adds
  fit <- vif_fit(d$y, d$x, X = 1, inducing = 0, k = 119, progress = FALSE)
  expect_lt(abs(fit$loglik - theirs$loglik), 0.1)
  expect_gt(fit$loglik, theirs$loglik - 1e-3)
  expect_lt(max(abs(predict(fit, d$new, k = 120)$fit - p)), 0.05)
})

test_that("models of gpboost convert: likelihood and predictions are ours at its estimates", {
  skip_if_not_installed("gpboost")
  d <- peer_data()
  X <- matrix(1, 120, dimnames = list(NULL, "constant"))
  model <- gpboost::fitGPModel(y = d$y, X = X, gp_coords = d$x, cov_function = "matern", cov_fct_shape = 1.5,
                               likelihood = "gaussian")
  ours <- from_gpboost(model)
  expect_identical(ours$kernel$family, "matern32")
  at <- gp_loglik(d$y, d$x, ours$kernel, ours$nugget, X = X)
  expect_equal(-model$get_current_neg_log_likelihood(), at, tolerance = 1e-4)
  p <- predict(model, gp_coords_pred = d$new, X_pred = matrix(1, 10, dimnames = dimnames(X)), predict_var = TRUE,
               predict_response = FALSE)
  expect_equal(p$mu, kriging(d, ours)$fit, tolerance = 1e-3)
  expect_equal(p$var, kriging(d, ours)$variance, tolerance = 1e-3)
  fit <- vif_fit(d$y, d$x, X = 1, inducing = 0, k = 119, progress = FALSE)
  expect_lt(abs(fit$loglik - at), 0.02)
  ready <- predict(fit, d$new, k = 120)
  expect_lt(max(abs(ready$fit - p$mu)), 0.05)
  expect_equal(ready$se.fit, sqrt(p$var), tolerance = 0.05)
})

test_that("gpboost's VIF approximation and ours are as close to the exact likelihood as each other", {
  skip_if_not_installed("gpboost")
  set.seed(8)
  x <- matrix(runif(600), 300)
  kernel <- gp_kernel("matern32", 1, 0.3)
  y <- drop(crossprod(chol(oracle_covariance(kernel, x, x) + diag(0.1, 300)), rnorm(300)))
  exact <- gp_loglik(y, x, kernel, 0.1)
  model <- gpboost::GPModel(gp_coords = x, cov_function = "matern", cov_fct_shape = 1.5, likelihood = "gaussian",
                            gp_approx = "full_scale_vecchia_correlation_based", num_neighbors = 20, num_ind_points = 30)
  theirs <- -model$neg_log_likelihood(cov_pars = c(0.1, 1, 0.3), y = y)
  order <- order_maxmin(x)
  gp <- residual_gp(x[order, ], kernel, 30, seed = 1)
  ours <- vif_loglik(y[order], gp, conditioning_sets(gp, 20, nugget = 0.1), 0.1)
  expect_lt(abs(ours - exact), 0.5)
  expect_lt(abs(theirs - exact), 3)
})
