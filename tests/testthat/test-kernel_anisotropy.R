# Geometric anisotropy against plain R: distances by a matrix, never by the maps of the package.

# Scaled distance of the rows of a and b: angle clockwise from the second column, written out.
plain_distance <- function(a, b, lengthscale, angle, ratio) {
  t <- angle * pi / 180
  outer(seq_len(nrow(a)), seq_len(nrow(b)), Vectorize(function(i, j) {
    h <- a[i, ] - b[j, ]
    along <- h[1] * sin(t) + h[2] * cos(t)
    across <- h[1] * cos(t) - h[2] * sin(t)
    sqrt(along^2 + (across / ratio)^2 + sum(h[-(1:2)]^2)) / lengthscale
  }))
}

# The same for all pairs at once, for optimisers.
fast_distance <- function(x, lengthscale, angle, ratio) {
  t <- angle * pi / 180
  as.matrix(dist(cbind(x %*% c(sin(t), cos(t)), x %*% c(cos(t), -sin(t)) / ratio))) / lengthscale
}

matern32 <- function(r) (1 + sqrt(3) * r) * exp(-sqrt(3) * r)

plain_loglik <- function(y, S) {
  root <- chol(S)
  -sum(backsolve(root, y, transpose = TRUE)^2) / 2 - sum(log(diag(root))) - length(y) / 2 * log(2 * pi)
}

anisotropic_data <- function(n, seed = 1, angle = 60, ratio = 0.3, lengthscale = 0.5, noise = 0.1) {
  set.seed(seed)
  x <- cbind(east = runif(n), north = runif(n))
  S <- matern32(plain_distance(x, x, lengthscale, angle, ratio)) + diag(noise, n)
  data.frame(x, z = drop(crossprod(chol(S), rnorm(n))))
}

test_that("an anisotropic kernel says what is wrong with its arguments", {
  kernel <- gp_kernel("rbf", anisotropy = c(ratio = 0.5, angle = 200))
  expect_identical(kernel$anisotropy, c(angle = 20, ratio = 0.5))
  expect_identical(gp_kernel(anisotropy = c(20, 0.5)), gp_kernel(anisotropy = c(angle = 20, ratio = 0.5)))
  expect_output(print(kernel), "rbf, variance 1, lengthscale 1, angle 20, ratio 0.5", fixed = TRUE)
  for (bad in list(1, c(1, 0), c(1, 1.2), c(NA, 0.5), c(a = 1, b = 0.5), "north", TRUE)) {
    expect_error(gp_kernel(anisotropy = bad), "^gp_kernel\\(\\): `anisotropy` must be NULL or c\\(angle = , ratio = \\)")
  }
  expect_error(gp_kernel(lengthscale = c(1, 2), anisotropy = c(10, 0.5)), "equal lengthscales in the first two columns")
  expect_error(residual_gp(1:10, kernel, 0), "without anisotropy for inputs of one column")
})

test_that("processes, searches and trees see anisotropic distances", {
  set.seed(1)
  x <- cbind(runif(400), runif(400))
  new <- cbind(runif(5), runif(5))
  kernel <- gp_kernel("matern32", 2, 0.3, anisotropy = c(angle = 35, ratio = 0.4))
  plain <- residual_gp(x, kernel, 0)
  rho <- matern32(plain_distance(x, x, 0.3, 35, 0.4))
  expect_equal(residual_correlation(plain), rho, tolerance = 1e-12)
  expect_equal(residual_correlation(plain, newdata = new), matern32(plain_distance(new, x, 0.3, 35, 0.4)),
               tolerance = 1e-12)

  for (selection in c("kmeans++", "maxmin", "random")) {
    gp <- residual_gp(x, kernel, 30, seed = 1, selection = selection)
    z <- gp$inducing
    Kz <- 2 * matern32(plain_distance(z, z, 0.3, 35, 0.4)) + diag(2e-6, 30)
    Kzx <- 2 * matern32(plain_distance(z, x, 0.3, 35, 0.4))
    r <- 2 * rho - crossprod(Kzx, solve(Kz, Kzx))
    expect_equal(gp$variance, diag(r), tolerance = 1e-7)
    expect_true(all(z >= -0.3 & z <= 1.3))
  }
  reference <- abs(r / sqrt(outer(diag(r), diag(r))))
  diag(reference) <- -1
  nearest <- t(apply(reference, 1, function(row) order(-row)[1:10]))
  tree <- cover_tree(gp)
  for (object in list(gp, tree)) for (method in c("brute", "level", "best_first")) {
    expect_identical(unname(residual_knn(object, 10, method = method)$id), nearest)
  }
  expect_identical(.Call(C_tree_invariant, tree, x, tree$lengthscale), 0L)
  # the tree of one kernel serves another; copies from files are checked again
  other <- update(tree, kernel = gp_kernel("matern32", 2, 0.2, anisotropy = c(angle = 120, ratio = 0.5)))
  file <- tempfile()
  saveRDS(list(other, gp), file)
  back <- readRDS(file)
  expect_identical(residual_knn(back[[1]], 5)$id, residual_knn(other$gp, 5, method = "brute")$id)
  expect_identical(residual_knn(back[[2]], 5)$id, residual_knn(gp, 5)$id)
  edited <- gp
  edited$kernel$anisotropy[["angle"]] <- 50
  expect_error(residual_knn(edited, 5), "was changed or damaged")
  edited <- tree
  edited$anisotropy[["ratio"]] <- 0.9
  expect_error(residual_knn(edited, 5), "was changed or damaged")
  sets <- conditioning_sets(gp, 8, nugget = 0.1, newdata = new)
  turned <- x %*% t(plane_map(kernel$anisotropy))
  flat <- residual_gp(turned, gp_kernel("matern32", 2, 0.3), z %*% t(plane_map(kernel$anisotropy)))
  expect_identical(sets$id, conditioning_sets(flat, 8, nugget = 0.1, newdata = new %*% t(plane_map(kernel$anisotropy)))$id)
})

test_that("log-likelihood and gradient agree with a dense reference", {
  d <- anisotropic_data(120)
  x <- as.matrix(d[1:2])
  time <- cbind(x, day = seq_len(120) / 60)
  loglik <- function(p, x) {
    S <- p[["variance"]] * matern32(plain_distance(x, x, p[["lengthscale"]], p[["angle"]], p[["ratio"]]))
    plain_loglik(d$z, S + diag(p[["nugget"]], 120))
  }
  at <- c(variance = 1.3, lengthscale = 0.4, angle = 50, ratio = 0.45, nugget = 0.2)
  for (inputs in list(x, time)) {
    kernel <- gp_kernel("matern32", 1.3, 0.4, anisotropy = c(angle = 50, ratio = 0.45))
    gp <- residual_gp(inputs, kernel, inputs[1:12, ])
    nn <- residual_knn(gp, 119, predecessors = TRUE)
    exact <- loglik(at, inputs)
    expect_equal(gp_loglik(d$z, inputs, kernel, 0.2), exact, tolerance = 1e-10)
    found <- vif_loglik(d$z, gp, nn, 0.2, gradient = TRUE)
    expect_equal(as.numeric(found), exact, tolerance = 1e-8)
    step <- function(name, by) {
      p <- at
      p[[name]] <- if (name == "angle") p[[name]] + by else p[[name]] * exp(by)
      loglik(p, inputs)
    }
    numeric <- vapply(names(at), function(name) (step(name, 1e-4) - step(name, -1e-4)) / 2e-4, 0)
    expect_equal(attr(found, "gradient")[names(at)], numeric, tolerance = 1e-4)
  }
  # of lengthscales for plane and day apart, sums are those of the common one
  apart <- gp
  apart$kernel$lengthscale <- c(0.4, 0.4, 0.4)
  slope <- attr(vif_loglik(d$z, residual_gp(time, apart$kernel, time[1:12, ]), nn, 0.2, gradient = TRUE), "gradient")
  expect_equal(sum(slope[c("lengthscale", "lengthscale3")]), numeric[["lengthscale"]], tolerance = 1e-4)
})

test_that("derivatives and information to the parameters of a fit are those of differences", {
  d <- anisotropic_data(100)
  x <- as.matrix(d[1:2])
  groups <- list(of = NULL, names = "lengthscale")
  settings <- list(kernel = gp_kernel(), groups = groups, scale = 1, spread = 1, jitter = 1e-6, threads = 1L, seed = 1,
                   plane = TRUE, smoothness = "fixed")
  data <- list(y = d$z, x = x, X = matrix(1, 100), extra = rep(0, 100), share = rep(1, 100))
  id <- matrix(NA_integer_, 100, 99)
  for (i in 2:100) id[i, seq_len(i - 1)] <- seq_len(i - 1)
  structure <- list(inducing = x[0, ], id = id)
  for (stretch in list(c(0.3, -0.6), c(0, 0), c(0, 1.2))) {
    theta <- c(variance = 0.2, lengthscale = -1, stretch1 = stretch[1], stretch2 = stretch[2], nugget = -2)
    at <- evaluate(theta, structure, data, settings, information = "accurate")
    numeric <- vapply(names(theta), function(name) {
      step <- function(by) {
        theta[[name]] <- theta[[name]] + by
        evaluate(theta, structure, data, settings, FALSE)$value
      }
      (step(1e-4) - step(-1e-4)) / 2e-4
    }, 0)
    expect_equal(at$gradient, numeric, tolerance = 1e-5)
    # expected information: tr(S^-1 dS S^-1 dS) / 2, dS by differences
    S <- function(theta) {
      kernel <- to_kernel(theta, settings)
      exp(theta[["variance"]]) * matern32(plain_distance(x, x, kernel$lengthscale, kernel$anisotropy[["angle"]],
                                                         kernel$anisotropy[["ratio"]])) + diag(exp(theta[["nugget"]]), 100)
    }
    slopes <- lapply(names(theta), function(name) {
      up <- down <- theta
      up[[name]] <- up[[name]] + 1e-4
      down[[name]] <- down[[name]] - 1e-4
      solve(S(theta), (S(up) - S(down)) / 2e-4)
    })
    fisher <- outer(1:5, 1:5, Vectorize(function(i, j) sum(slopes[[i]] * t(slopes[[j]])) / 2))
    expect_equal(unname(at$fisher), fisher, tolerance = 1e-4)
  }
  expect_equal(from_stretch(to_stretch(c(angle = 130, ratio = 0.2))), c(angle = 130, ratio = 0.2))
})

test_that("vif_fit() finds angle and ratio, and the maximum of the exact likelihood", {
  d <- anisotropic_data(150)
  fit <- vif_fit(z ~ 0, coords = ~ east + north, data = d, anisotropy = TRUE, inducing = 20, k = 149, progress = FALSE)
  expect_true(fit$converged)
  x <- as.matrix(d[1:2])
  found <- coef(fit)
  expect_named(found, c("variance", "lengthscale", "angle", "ratio", "nugget"))
  negative <- function(p) {
    S <- exp(p[1]) * matern32(fast_distance(x, exp(p[2]), p[3], exp(p[4]))) + diag(exp(p[5]), 150)
    -plain_loglik(d$z, S)
  }
  at <- c(log(found[1:2]), found[3], log(found[4:5]))
  expect_equal(fit$loglik, -negative(at), tolerance = 1e-6)
  skip_on_cran()
  best <- optim(at, negative, control = list(maxit = 60, parscale = c(1, 1, 50, 1, 1)))
  expect_lt(-best$value - fit$loglik, 0.01)
})

test_that("everything that a fit offers works with anisotropy", {
  d <- anisotropic_data(240)
  d$w <- rnorm(240)
  train <- d[1:220, ]
  new <- d[221:240, ]
  fit <- vif_fit(z ~ w, coords = ~ east + north, data = train, anisotropy = TRUE, inducing = 20, k = 20, progress = FALSE)
  round <- update(fit, anisotropy = FALSE)
  expect_null(round$kernel$anisotropy)
  expect_gt(fit$loglik - round$loglik, 5)
  expect_equal(fit$df, round$df + 2)
  expect_equal(fit$kernel$anisotropy[["angle"]], 60, tolerance = 0.15)
  expect_equal(fit$kernel$anisotropy[["ratio"]], 0.3, tolerance = 0.4)
  table <- anova(round, fit)
  expect_identical(table$Df, c(NA, 2))
  expect_lt(table[2, "Pr(>Chisq)"], 1e-4)

  # the dense conditional distribution at the estimates
  x <- as.matrix(train[1:2])
  a <- fit$kernel$anisotropy
  K <- function(a1, b1) {
    fit$kernel$variance * matern32(plain_distance(a1, b1, fit$kernel$lengthscale, a[["angle"]], a[["ratio"]]))
  }
  S <- K(x, x) + diag(fit$nugget, 220)
  C <- K(as.matrix(new[1:2]), x)
  mean <- drop(cbind(1, new$w) %*% coef(fit, "mean"))
  exact <- mean + drop(C %*% solve(S, train$z - cbind(1, train$w) %*% coef(fit, "mean")))
  sd <- sqrt(fit$kernel$variance - rowSums(C * t(solve(S, t(C)))))
  p <- predict(fit, new, k = 220)
  expect_equal(p$fit, exact, tolerance = 1e-3)
  expect_equal(p$se.fit, sd, tolerance = 1e-3)
  expect_lt(max(abs(predict(fit, new)$fit - exact)), 0.05)
  samples <- attr(predict(fit, new, nsim = 500, seed = 1), "samples")
  expect_lt(max(abs(rowMeans(samples) - exact) / sd), 5 / sqrt(500))
  expect_identical(dim(simulate(fit, 2, seed = 1)), c(220L, 2L))
  expect_length(fitted(fit), 220)

  # standard errors by the delta method, from differences of the natural parameters
  V <- vcov(fit, "covariance")
  expect_identical(rownames(V), names(coef(fit, "covariance")))
  J <- vapply(names(fit$theta), function(name) {
    up <- down <- fit$theta
    up[[name]] <- up[[name]] + 1e-5
    down[[name]] <- down[[name]] - 1e-5
    (natural_parameters(up, fit$settings) - natural_parameters(down, fit$settings)) / 2e-5
  }, fit$theta)
  expect_equal(unname(V), unname(J %*% solve(accurate_fisher(fit)) %*% t(J)), tolerance = 1e-6)
  limits <- confint(fit)
  expect_true(all(limits[, 1] < coef(fit) & coef(fit) < limits[, 2]))
  expect_equal(unname(limits["angle", ]), coef(fit)[["angle"]] + c(-1, 1) * qnorm(0.975) * sqrt(V["angle", "angle"]))
  expect_lte(limits["ratio", 2], 1)
  expect_output(print(fit), "angle [0-9.]+, ratio 0\\.")
  expect_output(print(summary(fit)), "angle .*\nratio ")

  held <- update(fit, anisotropy = c(angle = 60, ratio = 0.3))
  expect_identical(held$kernel$anisotropy, c(angle = 60, ratio = 0.3))
  expect_equal(held$df, round$df)
  again <- vif_fit(train$z, x, X = cbind(1, train$w), kernel = gp_kernel("matern32", anisotropy = c(60, 0.3)), inducing = 20,
                   k = 20, progress = FALSE)
  expect_equal(again$loglik, held$loglik, tolerance = 1e-3)
  file <- tempfile()
  saveRDS(fit, file)
  expect_identical(predict(readRDS(file), new), predict(fit, new))
  expect_s3_class(vif_cv(fit, folds = 3, seed = 1), "vif_cv")
})

test_that("anisotropy in space stands beside time, and is refused where it makes no sense", {
  d <- anisotropic_data(200)
  d$day <- rep(1:4, 50)
  d$hour <- runif(200)
  fit <- vif_fit(z ~ 1, coords = ~ east + north + day, data = d, anisotropy = TRUE, inducing = 0, k = 10,
                 lengthscale = list(time = "day", place = c("east", "north")), progress = FALSE)
  expect_named(coef(fit, "covariance"), c("variance", "lengthscale.place", "lengthscale.time", "angle", "ratio", "nugget"))
  each <- suppressWarnings(vif_fit(z ~ 1, coords = ~ east + north + day, data = d, anisotropy = TRUE, inducing = 0, k = 10,
                                   kernel = gp_kernel(lengthscale = c(1, 1, 1)), progress = FALSE))
  expect_equal(each$loglik, fit$loglik, tolerance = 1e-3)
  expect_named(coef(each, "covariance"), c("variance", "lengthscale.plane", "lengthscale.day", "angle", "ratio", "nugget"))
  expect_error(vif_fit(z ~ 1, coords = ~ east + north + day, data = d, anisotropy = TRUE),
               'lengthscale = list(plane = c("east", "north"), day = "day")', fixed = TRUE)
  expect_error(vif_fit(z ~ 1, coords = ~ east + day + north, data = d, anisotropy = TRUE,
                       lengthscale = list(place = c("east", "north"), time = "day")), "a group for east and day alone")
  expect_error(vif_fit(z ~ 1, coords = ~ east, data = d, anisotropy = TRUE), "`anisotropy` must be FALSE for inputs of one")
  expect_error(vif_fit(z ~ 1, coords = ~ east + north, data = d, anisotropy = NA), "`anisotropy` must be TRUE, FALSE")
})

test_that("parameters of an anisotropic kernel go to GpGp and back", {
  kernel <- gp_kernel("matern32", 2, 0.4, anisotropy = c(angle = 80, ratio = 0.4))
  there <- as_gpgp(kernel, nugget = 0.3)
  expect_identical(there$covfun_name, "matern_anisotropic2D")
  back <- from_gpgp(there$covfun_name, there$covparms)
  expect_equal(back$nugget, 0.3)
  expect_equal(back$kernel$lengthscale, 0.4)
  expect_equal(back$kernel$anisotropy, kernel$anisotropy)
  expect_identical(back$kernel$smoothness, 1.5)
  rough <- as_gpgp(gp_kernel("matern12", anisotropy = c(10, 0.5)))
  expect_equal(from_gpgp(rough$covfun_name, rough$covparms)$kernel, gp_kernel("matern12", anisotropy = c(10, 0.5)))
  expect_identical(rough$covfun_name, "exponential_anisotropic2D")
  expect_error(as_gpgp(kernel, shape = "isotropic"), '"anisotropic2D" for a kernel with anisotropy')
  expect_error(as_gpgp(gp_kernel(), shape = "anisotropic2D"), "for a kernel without anisotropy")
  expect_error(as_gpgp(gp_kernel(anisotropy = c(45, 0.2))), fixed = TRUE,
               paste('family "matern12" for this angle and ratio: GpGp\'s matern_anisotropic2D() computes other distances',
                     "than its help says, and none of its parameters gives those of this kernel, not of another family"))
  expect_error(from_gpgp("matern_anisotropic2D", c(1, 0.1, 3, 3, 1.5, 0)), "`covparms` must be those of a positive")
  expect_error(as_gpboost(kernel), "without anisotropy")
  skip_if_not_installed("GpGp")
  x <- cbind(runif(20), runif(20))
  expect_equal(GpGp::matern_anisotropic2D(there$covparms, x),
               2 * matern32(plain_distance(x, x, 0.4, 80, 0.4)) + diag(0.3, 20), tolerance = 1e-8)
  expect_equal(GpGp::exponential_anisotropic2D(rough$covparms, x), exp(-plain_distance(x, x, 1, 10, 0.5)), tolerance = 1e-8)
})

test_that("counts have anisotropic processes, too", {
  set.seed(3)
  x <- cbind(a = runif(300), b = runif(300))
  S <- 2 * matern32(fast_distance(x, 0.5, 30, 0.3)) + diag(1e-8, 300)
  y <- rpois(300, exp(1 + drop(crossprod(chol(S), rnorm(300)))))
  fit <- vif_fit(y, x, X = 1, family = poisson(), inducing = 20, k = 10, anisotropy = TRUE, laplace = "noisy",
                 progress = FALSE)
  expect_true(fit$converged)
  expect_lt(abs(fit$kernel$anisotropy[["angle"]] - 30), 10)
  expect_lt(fit$kernel$anisotropy[["ratio"]], 0.5)
  # the gradient of the approximate likelihood is that of differences
  settings <- utils::modifyList(fit$settings, list(family = laplace_family(poisson())))
  data <- list(y = y, w = rep(1, 300), x = x, X = matrix(1, 300), offset = rep(0, 300))
  data <- some_data(data, fit$order)
  structure <- list(inducing = fit$gp$inducing, id = fit$latent_id, wide = fit$id)
  at <- function(theta) {
    laplace_at(list(theta = theta, phi = numeric(), beta = coef(fit, "mean")), structure, data, settings, gradient = TRUE,
               tolerance = 1e-9)
  }
  theta <- fit$theta + 0.3
  found <- at(theta)
  slope <- to_theta_slope(found$gradient[grep("variance|plane", names(found$gradient))], theta, settings)
  numeric <- vapply(names(theta), function(name) {
    step <- function(by) {
      theta[[name]] <- theta[[name]] + by
      at(theta)$loglik
    }
    (step(1e-4) - step(-1e-4)) / 2e-4
  }, 0)
  expect_equal(slope, numeric, tolerance = 0.02)
})
