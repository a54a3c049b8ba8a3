set.seed(7)
n <- 300
x <- matrix(runif(2 * n), n)
y <- 2 + sin(6 * x[, 1]) + x[, 2] + rnorm(n, sd = 0.2)
X <- cbind(one = 1, north = x[, 2])
known <- runif(n, 0, 0.1)
fit <- vif_fit(y, x, X = X, inducing = 30, k = 10, noise_variance = known, neighbours = "residual", progress = FALSE)
new <- matrix(runif(80), 40)
newX <- cbind(1, new[, 2])

# The exact conditional distribution at the parameters of a fit.
dense_prediction <- function(fit, new, newX, beta_uncertainty = FALSE) {
  S <- oracle_covariance(fit$kernel, x, x) + diag(fit$nugget + known)
  cross <- oracle_covariance(fit$kernel, x, new)
  beta <- solve(t(X) %*% solve(S, X), t(X) %*% solve(S, y))
  mean <- newX %*% beta + t(cross) %*% solve(S, y - X %*% beta)
  covariance <- oracle_covariance(fit$kernel, new, new) - t(cross) %*% solve(S, cross)
  left <- t(newX) - t(X) %*% solve(S, cross)
  variance <- diag(covariance) + beta_uncertainty * colSums(left * solve(t(X) %*% solve(S, X), left))
  list(mean = drop(mean), se = sqrt(variance), covariance = covariance)
}

test_that("with all observations as neighbours predictions are exact, whatever the inducing inputs", {
  for (inducing in c(0, 1, 25, n)) {
    full <- suppressWarnings(vif_fit(y, x, X = X, inducing = inducing, k = n - 1, noise_variance = known,
                                     iterations = 3, progress = FALSE))
    for (universal in c(FALSE, TRUE)) {
      exact <- dense_prediction(full, new, newX, universal)
      p <- predict(full, new, newX = newX, k = n, beta_uncertainty = universal)
      expect_equal(p$fit, exact$mean, tolerance = 1e-8)
      expect_equal(p$se.fit^2, exact$se^2, tolerance = 1e-8)
      expect_equal(p$se.obs^2, exact$se^2 + full$nugget, tolerance = 1e-8)
    }
    samples <- attr(predict(full, new[1:12, ], newX = newX[1:12, ], k = n + 12, nsim = 20000, seed = 1), "samples")
    exact <- dense_prediction(full, new[1:12, ], newX[1:12, ])
    expect_identical(dim(samples), c(12L, 20000L))
    spread <- sqrt(diag(exact$covariance))
    expect_lt(max(abs(rowMeans(samples) - exact$mean) / spread), 5 / sqrt(20000))
    expect_lt(max(abs(cov(t(samples)) - exact$covariance) / outer(spread, spread)), 0.05)
  }
})

test_that("with some it is close, and without inducing inputs it is the conditional of the neighbours", {
  exact <- dense_prediction(fit, new, newX)
  p <- predict(fit, new, newX = newX)
  expect_lt(max(abs(p$fit - exact$mean) / exact$se), 0.2)
  expect_equal(p$se.fit, exact$se, tolerance = 0.05)
  plain <- vif_fit(y, x, X = X, inducing = 0, k = 10, noise_variance = known, neighbours = "residual",
                   progress = FALSE)
  nn <- residual_knn(plain$gp, 7, newdata = new[1, , drop = FALSE])$id[1, ]
  rows <- plain$order[nn]
  S <- oracle_covariance(plain$kernel, x[rows, ], x[rows, ]) + diag(plain$nugget + known[rows])
  cross <- oracle_covariance(plain$kernel, x[rows, ], new[1, , drop = FALSE])
  p <- predict(plain, new[1, ,drop = FALSE], newX = newX[1, ], k = 7)
  expect_equal(p$fit, drop(newX[1, ] %*% plain$coefficients +
                             t(cross) %*% solve(S, (y - X %*% plain$coefficients)[rows])), tolerance = 1e-8)
  expect_equal(p$se.fit^2, drop(plain$kernel$variance - t(cross) %*% solve(S, cross)), tolerance = 1e-8)
})

test_that("with the observations as inducing inputs predictions become exact as the jitter goes to zero", {
  error <- vapply(10^-c(2, 4, 6, 8), function(jitter) {
    dense <- suppressWarnings(vif_fit(y, x, X = X, inducing = x, k = 3, jitter = jitter, noise_variance = known,
                                      iterations = 1, start = list(kernel = fit$kernel, nugget = fit$nugget),
                                      progress = FALSE))
    exact <- dense_prediction(dense, new, newX)
    p <- predict(dense, new, newX = newX)
    max(abs(p$fit - exact$mean) / exact$se, abs(p$se.fit / exact$se - 1))
  }, 0)
  expect_true(all(diff(error) < 0))
  expect_lt(error[4], 1e-4)
})

test_that("a fit with Euclidean neighbours predicts from these", {
  nearest <- vif_fit(y, x, X = X, inducing = 30, k = 3, neighbours = "euclidean", progress = FALSE)
  p <- predict(nearest, new, newX = newX)
  plain <- nearest
  plain$neighbours <- "residual"
  plain <- sealed(plain)
  expect_false(isTRUE(all.equal(predict(plain, new, newX = newX), p)))
  # the definition: residual covariances, but the nearest observations
  gp <- nearest$gp
  inputs <- rbind(gp$x, new)
  both <- residual_gp(inputs, gp$kernel, gp$inducing)
  R <- oracle_covariance(gp$kernel, inputs, inputs) - crossprod(both$V)
  means <- vapply(seq_len(nrow(new)), function(j) {
    N <- order(colSums((t(gp$x) - new[j, ])^2))[1:6]
    a <- solve(R[N, N] + diag(nearest$nugget, 6), R[N, n + j])
    w <- both$V[, n + j] - both$V[, N] %*% a
    sum(newX[j, ] * nearest$coefficients) + sum(a * nearest$state$residual[N]) + sum(w * nearest$state$b)
  }, 0)
  expect_equal(p$fit, means, tolerance = 1e-8)
})

test_that("chunks and threads change nothing", {
  whole <- predict(fit, new, newX = newX)
  expect_equal(predict(fit, new, newX = newX, chunk = 7, progress = FALSE), whole)
  expect_identical(predict(fit, new, newX = newX, threads = 1), whole)
})

test_that("the forms of the result", {
  mean <- predict(fit, new, newX = newX, se.fit = FALSE)
  expect_true(is.numeric(mean) && is.null(dim(mean)))
  p <- predict(fit, new, newX = newX, interval = "prediction", level = 0.9)
  expect_named(p, c("fit", "se.fit", "se.obs", "lwr", "upr"))
  expect_equal(p$fit, mean)
  expect_equal(p$upr - p$fit, qnorm(0.95) * p$se.obs)
  expect_equal(p$se.obs^2, p$se.fit^2 + fit$nugget)
  q <- predict(fit, new, newX = newX, interval = "confidence", se.fit = FALSE)
  expect_named(q, c("fit", "lwr", "upr"))
  expect_equal(q$fit - q$lwr, qnorm(0.975) * p$se.fit)
  named <- new[1:2, ]
  rownames(named) <- c("a", "b")
  expect_named(predict(fit, named, newX = newX[1:2, ], se.fit = FALSE), c("a", "b"))
})

test_that("predicting the noise-free process at an observation without noise gives it back", {
  exact <- suppressWarnings(vif_fit(y, x, X = NULL, inducing = 10, k = 10, nugget = 1e-6, progress = FALSE))
  p <- predict(exact, x)
  expect_lt(max(abs(p$fit - y)), 1e-3)
  expect_lt(max(p$se.fit), 2e-3)
})

test_that("intervals cover", {
  inside <- replicate(5, {
    more <- matrix(runif(1000), ncol = 2)
    z <- 2 + sin(6 * more[, 1]) + more[, 2] + rnorm(500, sd = sqrt(fit$nugget))
    p <- predict(fit, more, newX = cbind(1, more[, 2]), interval = "prediction")
    mean(z > p$lwr & z < p$upr)
  })
  expect_gt(mean(inside), 0.92)
  expect_lt(mean(inside), 0.98)
})

test_that("samples repeat with a seed and are equal at equal inputs", {
  at <- new[c(1, 2, 1), ]
  one <- attr(predict(fit, at, newX = newX[c(1, 2, 1), ], nsim = 3, seed = 5), "samples")
  expect_identical(one, attr(predict(fit, at, newX = newX[c(1, 2, 1), ], nsim = 3, seed = 5), "samples"))
  expect_identical(one[1, ], one[3, ])
})

test_that("bad arguments are refused by name", {
  expect_error(predict(fit, new), "`newX` must be given, with the 2 columns of `X`, not missing")
  expect_error(predict(fit, new, newX = newX[-1, ]), "`newX` must be 40 x 2, not 39 x 2")
  expect_error(predict(fit, cbind(new, 1), newX = newX), "`newdata` must be of 2 columns")
  expect_error(predict(fit, replace(new, 2, Inf), newX = newX), "`newdata` must be finite")
  expect_error(predict(fit, new, newX = newX, interval = "both"), "`interval`")
  expect_error(predict(fit, new, newX = newX, level = 95), "`level` must be a number between 0 and 1, not 95")
  expect_error(predict(fit, new, newX = newX, k = 0), "`k`")
})

test_that("a fit that was edited is refused", {
  set.seed(20)
  x <- runif(60)
  whole <- vif_fit(sin(8 * x) + rnorm(60, sd = 0.2), x, inducing = 8, k = 4, progress = FALSE)
  edits <- list(state = function(state) replace(state, "b", list(state$b + 0.1)), id = function(id) replace(id, 200, 1L), nugget = function(v) v * 2,
                order = rev, gp = function(gp) replace(gp, "V", list(gp$V * 1.01)), coefficients = function(beta) 5, n = function(n) NULL)
  for (part in names(edits)) {
    fit <- whole
    fit[[part]] <- edits[[part]](fit[[part]])
    for (use in list(function(fit) predict(fit, 0.5), residuals, print, summary)) {
      expect_error(use(fit), "must be as it was made", label = part)
    }
  }
  expect_identical(predict(unserialize(serialize(whole, NULL)), 0.5), predict(whole, 0.5))
})

selected_fit <- fit
selected_fit$neighbours <- "selected"
selected_fit <- sealed(selected_fit)

test_that("a fit with selected sets predicts the conditional of these", {
  # candidates: the nearest of all, of the first quarter and of the first sixteenth
  nearest <- function(rows, k) {
    nn <- residual_knn(residual_gp(fit$gp$x[seq_len(rows), ], fit$kernel, inducing = 0), k, newdata = new)
    nn$x <- fit$gp$x
    vecchiann:::sealed_neighbours(unclass(nn), class(nn))
  }
  sets <- conditioning_sets(fit$gp, 7, fit$nugget + known[fit$order], newdata = new,
                            pool = list(nearest(n, 14), nearest(n %/% 4, 7), nearest(n %/% 16, 7)))
  p <- predict(selected_fit, new, newX = newX, k = 7)
  R <- oracle_covariance(fit$kernel, rbind(fit$gp$x, new), rbind(fit$gp$x, new))
  V <- cbind(fit$gp$V, new_points(fit$gp, new, NA_integer_)$V)
  R <- R - crossprod(V)
  noise <- (fit$nugget + known)[fit$order]
  plain <- vapply(seq_len(nrow(new)), function(j) {
    N <- sets$id[j, ]
    a <- solve(R[N, N] + diag(noise[N]), R[N, n + j])
    w <- V[, n + j] - V[, N] %*% a
    c(sum(newX[j, ] * fit$coefficients) + sum(a * fit$state$residual[N]) + sum(w * fit$state$b),
      R[n + j, n + j] - sum(a * R[N, n + j]) + sum(forwardsolve(fit$state$root, w)^2))
  }, numeric(2))
  expect_equal(p$fit, plain[1, ], tolerance = 1e-8)
  expect_equal(p$se.fit^2, plain[2, ], tolerance = 1e-8)
})

test_that("selected sets of all observations are exact, for every kind of variance and for samples", {
  for (universal in c(FALSE, TRUE)) {
    exact <- dense_prediction(fit, new, newX, universal)
    p <- predict(selected_fit, new, newX = newX, k = n, beta_uncertainty = universal)
    expect_equal(p$se.fit, predict(fit, new, newX = newX, k = n, beta_uncertainty = universal)$se.fit, tolerance = 1e-8)
    expect_equal(p$fit, predict(fit, new, newX = newX, k = n)$fit, tolerance = 1e-8)
    expect_equal(p$se.fit, exact$se, tolerance = 0.01)
  }
  samples <- attr(predict(selected_fit, new[1:5, ], newX = newX[1:5, ], k = 200, nsim = 4000, seed = 1), "samples")
  p <- predict(selected_fit, new[1:5, ], newX = newX[1:5, ], k = 200)
  expect_lt(max(abs(rowMeans(samples) - p$fit) / p$se.fit), 5 / sqrt(4000))
  expect_equal(apply(samples, 1, sd), p$se.fit, tolerance = 0.05)
})

test_that("the default is closer to the exact prediction in a gap than a set of fixed size", {
  set.seed(3)
  u <- matrix(runif(6000), ncol = 2)
  u <- u[sqrt(rowSums((u - 0.5)^2)) > 0.2, ]
  z <- sin(9 * u[, 1]) + rnorm(nrow(u), sd = 0.3)
  kernel <- gp_kernel("matern12", 1, 0.5)
  gapped <- suppressWarnings(vif_fit(z, u, inducing = 10, k = 10, neighbours = "selected", kernel = kernel, iterations = 1,
                                     start = list(kernel = kernel, nugget = 0.1), progress = FALSE))
  at <- cbind(0.5 + c(-0.1, 0, 0.1), 0.5)
  best <- predict(gapped, at, k = nrow(u))$se.fit
  expect_lt(max(predict(gapped, at)$se.fit / best), 1.01)
  expect_lt(mean(predict(gapped, at)$se.fit), mean(predict(gapped, at, k = 30)$se.fit))
})

test_that("features that a fit left out are made again, and chunks and threads change nothing for selected sets", {
  whole <- predict(selected_fit, new, newX = newX)
  lean <- selected_fit
  lean$gp$V <- NULL
  expect_identical(predict(lean, new, newX = newX), whole)
  expect_equal(predict(selected_fit, new, newX = newX, chunk = 7, progress = FALSE), whole)
  expect_identical(predict(selected_fit, new, newX = newX, threads = 1), whole)
  lean$neighbours <- "residual"
  lean <- sealed(lean)
  expect_identical(predict(lean, new, newX = newX), predict(fit, new, newX = newX))
})

test_that("of more than 200 neighbours the nearest are taken, without a selection", {
  set.seed(5)
  u <- matrix(runif(600), ncol = 2)
  kernel <- gp_kernel("matern32", 1, 0.3)
  wide <- suppressWarnings(vif_fit(sin(5 * u[, 1]) + rnorm(300, sd = 0.2), u, X = NULL, inducing = 0, k = 10, kernel = kernel,
                                   start = list(kernel = kernel, nugget = 0.04), iterations = 1, progress = FALSE))
  at <- cbind(0.4, 0.6)
  near <- order(rowSums((u - rep(at, each = 300))^2))[1:250]
  points <- rbind(at, u[near, ])
  S <- wide$kernel$variance * residual_correlation(residual_gp(points, wide$kernel, inducing = 0))
  inner <- S[-1, -1] + diag(wide$nugget, 250)
  p <- predict(wide, at, k = 250)
  expect_equal(p$fit, drop(S[1, -1] %*% solve(inner, wide$y[near])), tolerance = 1e-10)
  expect_equal(p$se.fit^2, drop(S[1, 1] - S[1, -1] %*% solve(inner, S[-1, 1])), tolerance = 1e-9)
})

test_that("predictions of a fit with weights know them", {
  set.seed(6)
  u <- matrix(runif(120), ncol = 2)
  weights <- runif(60, 0.2, 5)
  kernel <- gp_kernel("matern32", 1, 0.4)
  z <- sin(5 * u[, 1]) + rnorm(60, sd = 0.3 / sqrt(weights))
  weighted <- suppressWarnings(vif_fit(z, u, X = NULL, weights = weights, inducing = 0, kernel = kernel, iterations = 1,
                                       start = list(kernel = kernel, nugget = 0.09), progress = FALSE))
  points <- rbind(u, cbind(c(0.2, 0.7), 0.5))
  S <- weighted$kernel$variance * residual_correlation(residual_gp(points, weighted$kernel, inducing = 0))
  expected <- S[61:62, 1:60] %*% solve(S[1:60, 1:60] + diag(weighted$nugget / weights), z)
  expect_equal(predict(weighted, points[61:62, ], k = 60)$fit, drop(expected), tolerance = 1e-8)
})

test_that("predictions from noisy observations take more of them", {
  set.seed(71)
  x <- matrix(runif(3000), ncol = 2)
  field <- sin(5 * x[, 1]) + cos(4 * x[, 2])
  new <- matrix(runif(40), ncol = 2)
  for (noise in c(0.05, 3)) {
    fit <- vif_fit(field + rnorm(1500, sd = sqrt(noise)), x, X = 1, inducing = 0, k = 30, progress = FALSE)
    # means of the exact conditional distribution
    K <- oracle_covariance(fit$kernel, rbind(x, new), rbind(x, new))
    S <- K[1:1500, 1:1500] + diag(fit$nugget, 1500)
    centred <- fit$y - fit$coefficients
    exact <- fit$coefficients + drop(K[-(1:1500), 1:1500] %*% solve(S, centred))
    off <- function(k) sqrt(mean((predict(fit, new, k = k, se.fit = FALSE) - exact)^2)) / sd(exact)
    expect_identical(vecchiann:::default_size(fit), if (noise > 1) 120L else 50L)
    expect_lt(off(NULL), 0.05)
    if (noise > 1) expect_lt(off(NULL), off(50) / 2)
  }
})

test_that("predictions of the observations have the names that fitted values have", {
  rows <- data.frame(z = unname(drop(y)), a = x[, 1], b = x[, 2])[1:40, ]
  rows$z[3] <- NA
  by_formula <- vif_fit(z ~ 1, rows, coords = ~ a + b, progress = FALSE)
  expect_named(predict(by_formula, se.fit = FALSE), names(fitted(by_formula)))
  expect_identical(rownames(predict(by_formula)), names(fitted(by_formula)))
  expect_identical(names(fitted(by_formula)), rownames(rows)[-3])
})

test_that("standard errors far below the standard deviation of the process are right", {
  set.seed(9)
  x <- matrix(runif(240), 120)
  y <- sin(3 * x[, 1]) * cos(4 * x[, 2])
  new <- matrix(runif(600), 300)
  truth <- sin(3 * new[, 1]) * cos(4 * new[, 2])
  for (family in c("matern52", "rbf")) {
    told <- NULL
    fit <- withCallingHandlers(vif_fit(y, x, 1, kernel = family, nugget = 0, progress = FALSE), vif_nugget = function(m) {
      told <<- conditionMessage(m)
      invokeRestart("muffleMessage")
    })
    expect_match(told, "so smooth a process")
    share <- if (family == "rbf") 1e-11 else 1e-12
    expect_equal(fit$nugget, share * fit$kernel$variance)
    predicted <- predict(fit, new, k = 119)
    S <- gp_covariance(x, fit$kernel) + diag(fit$nugget, 120)
    root <- chol(S)
    W <- backsolve(root, gp_covariance(x, fit$kernel, new), transpose = TRUE)
    exact <- sqrt(fit$kernel$variance - colSums(W^2))
    large <- exact > 1e-6 * sqrt(fit$kernel$variance) # what the dense reference itself has right
    expect_gt(mean(large), 0.2)
    expect_equal(predicted$se.fit[large], exact[large], tolerance = 0.02)
    expect_lt(mean(abs(predict(fit, new)$fit - truth) > 1.96 * predict(fit, new)$se.fit), 0.06)
  }
})

test_that("observations with much noise and small sets have standard errors that hold, predicted and left out", {
  set.seed(1)
  x <- cbind(runif(3000), runif(3000))
  f <- sin(9 * x[, 1]) * cos(7 * x[, 2])
  fit <- suppressWarnings(vif_fit(f + rnorm(3000), x, X = 1, inducing = 0, k = 20, progress = FALSE))
  p <- predict(fit)
  # by the likelihood's approximation many were zero
  expect_gt(min(p$se.fit), 0.02)
  expect_gt(mean(abs(p$fit - f) < 1.96 * p$se.fit), 0.9)
  # the mean by the likelihood's approximation, y - nugget S^-1 (y - X beta)
  B <- contrast_matrix(fit$id, fit$state$coef)
  weighted <- as.vector(Matrix::crossprod(B, fit$state$error / fit$state$D))
  expect_lt(mean((p$fit - f)^2), 0.7 * mean((fit$y - (fit$nugget * weighted)[order(fit$order)] - f)^2))
  expect_gte(min(vif_cv(fit, "loo")$predictions$se.obs), sqrt(fit$nugget) * (1 - 1e-12))
})
