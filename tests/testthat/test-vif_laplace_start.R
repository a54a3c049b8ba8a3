# Starts of fits of non-Gaussian responses: the model without a process, outliers, overdispersion, separation.
n <- 200
set.seed(71)
d <- data.frame(x = runif(n), y = runif(n), z = rnorm(n))
at <- as.matrix(d[c("x", "y")])
quick <- function(formula, data, ...) {
  vif_fit(formula, coords = ~ x + y, data = data, progress = FALSE, threads = 1, inducing = 20, k = 20, ...)
}
null_of <- function(y, family, w = rep(1, length(y)), X = cbind(1, d$z), offset = numeric(length(y))) {
  null_model(list(y = y, w = w, X = X, offset = offset), laplace_family(family))
}

test_that("the model without a process is that of glm", {
  set.seed(72)
  w <- rep(c(1, 3), n / 2)
  eta <- 0.5 + 0.6 * d$z
  exposure <- runif(n)
  v <- rpois(n, exp(eta + exposure))
  own <- glm(v ~ z, poisson(), d, offset = exposure, weights = w)
  null <- null_of(v, poisson(), w, offset = exposure)
  expect_equal(unname(null$beta), unname(coef(own)), tolerance = 1e-4)
  expect_equal(null$loglik, as.numeric(logLik(own)), tolerance = 1e-7)
  v <- rbinom(n, w, pnorm(eta)) / w
  own <- glm(v ~ z, binomial("probit"), d, weights = w)
  expect_equal(null_of(v, binomial("probit"), w)$loglik, as.numeric(logLik(own)), tolerance = 1e-7)
  # dispersion / weight
  v <- rgamma(n, 2 * w, 2 * w * exp(-eta))
  own <- glm(v ~ z, Gamma("log"), d, weights = w)
  null <- null_of(v, Gamma("log"), w)
  expect_equal(unname(null$beta), unname(coef(own)), tolerance = 1e-4)
  loglik <- function(shape) sum(dgamma(v, shape * w, shape * w / fitted(own), log = TRUE))
  best <- optimise(loglik, c(0.5, 8), maximum = TRUE, tol = 1e-8)
  expect_equal(null$phi[["shape"]], best$maximum, tolerance = 1e-3)
  expect_equal(null$loglik, best$objective, tolerance = 1e-6)
  v <- 2 + d$z + rt(n, 3) / sqrt(w)
  best <- optim(c(2, 1, 0, 1), function(p) {
    -sum(dt((v - p[1] - p[2] * d$z) * sqrt(w) / exp(p[3]), exp(p[4]), log = TRUE) + log(w) / 2 - p[3])
  }, control = list(reltol = 1e-12, maxit = 2000))
  null <- null_of(v, student_t(), w)
  expect_equal(null$loglik, -best$value, tolerance = 1e-5)
  expect_equal(unname(null$beta), best$par[1:2], tolerance = 0.02)
  expect_null(null_of(v, student_t(), w, X = NULL)$beta)
  skip_if_not_installed("MASS")
  v <- rnbinom(n, size = 0.7, mu = exp(eta))
  own <- MASS::glm.nb(v ~ z, d, weights = w)
  null <- null_of(v, nbinom2(), w)
  expect_equal(null$loglik, as.numeric(logLik(own)), tolerance = 1e-5)
  expect_equal(null$phi[["size"]], own$theta, tolerance = 0.01)
})

test_that("gross outliers change a fit of Student's t as little as their absence does", {
  set.seed(1)
  d$r <- sin(6 * d$x) + 0.2 * rnorm(n)
  clean <- quick(r ~ 1, d[-7, ], family = student_t(4))
  for (far in c(50, 1000, 1e6)) {
    d$r[7] <- far
    fit <- quick(r ~ 1, d, family = student_t(4))
    expect_true(fit$converged)
    expect_equal(coef(fit)[-1], coef(clean)[-1], tolerance = 0.1)
    expect_lt(max(abs(fitted(fit)[-7] - fitted(clean))), 0.1)
  }
  K <- oracle_covariance(fit$kernel, at, at) + diag(1e-8 * fit$kernel$variance, n)
  family <- laplace_family(student_t(4))
  dense <- dense_laplace(K, family, list(y = d$r, w = rep(1, n), X = fit$X, offset = 0), all_phi(family, fit$phi),
                         fit$coefficients)
  expect_equal(fit$loglik, dense$loglik, tolerance = 2e-3)
})

test_that("many outliers, on both sides, and noise without a variance are fitted", {
  set.seed(3)
  d$r <- sin(6 * d$x) + 0.5 * d$z + 0.2 * rnorm(n)
  rows <- sample(n, 14)
  d$r[rows] <- d$r[rows] + rep(c(-1000, 50), 7)
  d$c <- sin(6 * d$x) + 0.2 * rcauchy(n)
  smooth <- list(r = sin(6 * d$x) + 0.5 * d$z, c = sin(6 * d$x))
  for (response in c("r", "c")) {
    fit <- quick(reformulate("z", response), d, family = student_t(4))
    expect_true(fit$converged)
    expect_lt(sqrt(mean((fitted(fit) - smooth[[response]])^2)), 0.25)
    expect_gt(fit$loglik, null_of(d[[response]], student_t(4))$loglik)
  }
})

test_that("a mode is found from the mean of the process and from a start at outliers", {
  set.seed(4)
  y <- sin(6 * d$x) + 0.2 * rnorm(n)
  y[c(5, 50)] <- c(1e4, -300)
  family <- laplace_family(student_t(4))
  data <- list(y = y, w = rep(1, n), X = matrix(1, n), offset = numeric(n))
  phi <- c(scale = 0.2, df = 4)
  gp <- residual_gp(at, gp_kernel("matern32", 0.5, 0.3), inducing = 20)
  id <- residual_knn(gp, 15, progress = FALSE)$id
  latent <- .Call(C_laplace_regression, gp, rep(1e-8, n), id, FALSE, 1L)
  for (eta in list(NULL, y)) {
    expect_true(laplace_mode(gp, id, data, family, phi, 0, eta, 1L)$settled)
    expect_true(latent_mode(gp, id, id, latent, data, family, phi, 0, eta, 1L, 1e-4)$settled)
  }
})

test_that("overdispersed counts are no process of noise where the family has a parameter for it", {
  set.seed(2)
  d <- data.frame(x = runif(300), y = runif(300))
  d$n <- rnbinom(300, size = 0.1, mu = 3)
  null <- null_of(d$n, nbinom2(), X = matrix(1, 300))
  fit <- suppressWarnings(quick(n ~ 1, d, family = nbinom2()), "vif_bound")
  expect_gt(fit$loglik, null$loglik - 0.02)
  expect_lt(fit$phi[["size"]], 0.2)
  expect_lt(fit$kernel$variance, 1)
  expect_warning(fit <- quick(n ~ 1, d, family = poisson()), "noise between the places.*nbinom2", class = "vif_white")
  # its log-likelihood is wrong by what the warning says
  eta <- fit$coefficients[[1]]
  sd <- sqrt(fit$kernel$variance)
  e <- seq(-9, 9, length.out = 20001)
  exact <- sum(vapply(d$n, function(y) log(sum(dpois(y, exp(eta + sd * e)) * dnorm(e)) * (e[2] - e[1])), 0))
  told <- tryCatch(quick(n ~ 1, d, family = poisson()), vif_white = conditionMessage)
  expect_equal(as.numeric(sub(".*about ", "", told)), abs(exact - fit$loglik), tolerance = 0.1)
})

test_that("no fit ends below the model without a process", {
  set.seed(4)
  n <- 300
  d <- data.frame(x = runif(n), y = runif(n), z = rnorm(n))
  at <- as.matrix(d[c("x", "y")])
  truth <- oracle_covariance(gp_kernel("matern32", 0.7, 0.2), at, at) + diag(1e-9, n)
  d$n <- rnbinom(n, size = 0.2, mu = exp(1 + drop(crossprod(chol(truth), rnorm(n)))))
  fit <- quick(n ~ z, d, family = nbinom2())
  expect_gt(fit$loglik, null_of(d$n, nbinom2(), X = cbind(1, d$z))$loglik)
  set.seed(5)
  noise <- list(list(poisson(), rpois(n, 2)), list(Gamma("log"), rgamma(n, 2)), list(student_t(4), rt(n, 4)),
                list(beta_family(), rbeta(n, 3, 2)))
  for (case in noise) {
    d$r <- case[[2]]
    null <- null_of(d$r, case[[1]], X = cbind(1, d$z))
    fit <- suppressWarnings(quick(r ~ z, d, family = case[[1]]))
    expect_gt(fit$loglik, null$loglik - 0.05)
    # also from a start where the process is noise
    bad <- list(kernel = gp_kernel("matern32", 20, 1e-4))
    expect_gt(suppressWarnings(quick(r ~ z, d, family = case[[1]], start = bad))$loglik, null$loglik - 0.05)
  }
})

test_that("a process is noise where it does not correlate the nearest neighbours", {
  kernel <- gp_kernel("matern32", 2, 0.1)
  rows <- order_maxmin(at)
  id <- t(vapply(seq_len(n), function(i) c(seq_len(i - 1), rep(NA_integer_, n - i)), integer(n - 1)))
  rho <- oracle_covariance(kernel, at[rows, ], at[rows, ]) / 2
  late <- vapply((n / 2 + 1):n, function(i) max(rho[i, seq_len(i - 1)]), 0)
  expect_equal(nearest_correlation(kernel, id, at[rows, ], 1000), median(late), tolerance = 0.02)
})

test_that("weights of Gamma, beta and Student's t are those of means: units of weights do not matter", {
  set.seed(1)
  d$g <- rgamma(n, 3, 1)
  d$b <- rbeta(n, 3, 2)
  d$t <- rt(n, 4) + sin(6 * d$x)
  families <- list(g = Gamma("log"), b = beta_family(), t = student_t(4))
  by <- c(1 / 2, 1 / 2, sqrt(2))
  for (response in names(families)) {
    fits <- lapply(1:2, function(w) {
      suppressWarnings(vif_fit(d[[response]], at, X = cbind(1, d$z), weights = rep(w, n), family = families[[response]],
                               inducing = 20, k = 20, progress = FALSE, threads = 1))
    })
    expect_equal(fits[[2]]$loglik, fits[[1]]$loglik, tolerance = 1e-3)
    expect_equal(fits[[2]]$phi[[1]], fits[[1]]$phi[[1]] * by[[match(response, names(families))]], tolerance = 0.01)
  }
})

test_that("separation by a covariate is told where nothing can be fitted", {
  d$b <- as.numeric(d$z > 0)
  for (link in c("logit", "probit")) {
    seen <- tryCatch(quick(b ~ z, d, family = binomial(link)), error = identity, warning = identity)
    expect_s3_class(seen, "vif_separation")
    expect_match(conditionMessage(seen), "separate the outcomes")
  }
})

test_that("simulations of two columns of counts are such columns, as for glm", {
  set.seed(9)
  d$N <- sample(2:6, n, TRUE)
  d$s <- rbinom(n, d$N, plogis(sin(6 * d$x)))
  fit <- quick(cbind(s, N - s) ~ z, d, family = binomial())
  new <- simulate(fit, 3, seed = 1)
  own <- simulate(glm(cbind(s, N - s) ~ z, binomial(), d), 3, seed = 1)
  expect_identical(lapply(new, dim), lapply(own, dim))
  expect_identical(colnames(new[[1]]), colnames(own[[1]]))
  expect_identical(names(new), names(own))
  expect_equal(rowSums(new[[2]]), d$N)
  expect_true(all(new[[3]] >= 0))
  d$again <- new[[1]]
  expect_true(is.finite(quick(again ~ z, d, family = binomial())$loglik))
  d$s[3] <- NA
  holed <- simulate(quick(cbind(s, N - s) ~ z, d, family = binomial(), na.action = na.exclude), 1, seed = 1)
  expect_equal(dim(holed$sim_1), c(n, 2))
  expect_true(all(is.na(holed$sim_1[3, ])))
  rows <- which(!is.na(d$s))
  shares <- vif_fit((d$s / d$N)[rows], at[rows, ], X = cbind(1, d$z)[rows, ], weights = d$N[rows], family = binomial(),
                    inducing = 20, k = 20, progress = FALSE, threads = 1)
  expect_null(dim(simulate(shares, 1, seed = 1)[[1]]))
})

test_that("a summary says why standard errors are lacking", {
  set.seed(11)
  d$n <- rpois(n, exp(sin(6 * d$x)))
  lacking <- summary(quick(n ~ 1, d, family = poisson()))
  expect_false(lacks_errors(lacking))
  lacking$covariance[, 2] <- NA
  expect_output(print(lacking), "no standard errors: the information .* is not positive definite")
})

test_that("a start that is the solution is one: update() of two equal counts", {
  d <- data.frame(x = 1:2, p = c(2, 2))
  fit <- vif_fit(p ~ 1, coords = ~ x, data = d, family = poisson(), progress = FALSE)
  expect_equal(update(fit)$loglik, fit$loglik, tolerance = 1e-3)
  expect_equal(lanczos_log(c(0.5, 0), c(0.1, 0)), log(2))
  expect_identical(lanczos_log(0, 0), 0)
})
