# The Laplace approximation against its dense definition, dense_laplace().
laplace_problem <- function(case, n = 200, beta = c(0.3, -0.5), kernel = gp_kernel("matern32", 0.8, 0.3), m = 15,
                            k = n - 1) {
  set.seed(11)
  x <- matrix(runif(2 * n), n)
  x <- x[order_maxmin(x), ]
  X <- cbind(one = 1, east = x[, 1])
  K <- oracle_covariance(kernel, x, x)
  offset <- rnorm(n, sd = 0.1)
  eta <- drop(X %*% beta) + offset + drop(crossprod(chol(K + diag(1e-10, n)), rnorm(n)))
  family <- laplace_family(case$family)
  w <- if (isTRUE(case$trials)) sample(1:4, n, TRUE) else rep(1, n)
  y <- family$draw(eta, w, case$phi)
  if (family$name == "beta") y <- pmin(pmax(y, 1e-4), 1 - 1e-4)
  gp <- residual_gp(x, kernel, inducing = m, seed = 1)
  list(family = family, phi = case$phi, beta = beta, kernel = kernel, x = x, K = K, gp = gp, eta = eta,
       id = unname(residual_knn(gp, k, predecessors = TRUE)$id), data = list(y = y, w = w, X = X, offset = offset))
}

laplace_cases <- list(
  gaussian = list(family = gaussian(), phi = c(sigma2 = 0.3)),
  logit = list(family = binomial(), phi = numeric(), trials = TRUE),
  probit = list(family = binomial("probit"), phi = numeric()),
  poisson = list(family = poisson(), phi = numeric()),
  gamma = list(family = Gamma("log"), phi = c(shape = 2)),
  nbinom2 = list(family = nbinom2(), phi = c(size = 2)),
  beta = list(family = beta_family(), phi = c(precision = 6)),
  student_t = list(family = student_t(), phi = c(scale = 0.4, df = 4))
)

evaluate_laplace <- function(problem, par = NULL, gradient = FALSE, tolerance = 1e-10, passes = 1) {
  kernel <- problem$kernel
  phi <- problem$phi
  beta <- problem$beta
  gp <- problem$gp
  if (!is.null(par)) {
    kernel$variance <- exp(par[1])
    kernel$lengthscale <- exp(par[2])
    phi[] <- exp(par[2 + seq_along(phi)])
    beta <- par[2 + length(phi) + seq_along(beta)]
    gp <- residual_gp(problem$x, kernel, inducing = gp$inducing)
  }
  laplace_evaluate(gp, problem$id, problem$data, problem$family, phi, beta, gradient = gradient, tolerance = tolerance,
                   passes = passes)
}

test_that("with all predecessors as neighbours mode and likelihood are those of the dense approximation", {
  on_one_thread()
  for (name in names(laplace_cases)) {
    problem <- laplace_problem(laplace_cases[[name]], n = 120)
    dense <- dense_laplace(problem$K, problem$family, problem$data, all_phi(problem$family, problem$phi), problem$beta)
    found <- evaluate_laplace(problem)
    expect_true(found$settled, label = name)
    expect_equal(found$eta, dense$eta, tolerance = 1e-6, label = name)
    expect_equal(found$loglik, dense$loglik, tolerance = 1e-6, label = name)
  }
})

test_that("the gradient is that of the likelihood, what comes through the mode included", {
  on_one_thread()
  for (name in names(laplace_cases)) {
    problem <- laplace_problem(laplace_cases[[name]], n = if (name == "poisson") 100 else 60) # sums of rows in two parts
    par <- c(log(0.8), log(0.3), log(problem$phi), problem$beta)
    at <- function(par) evaluate_laplace(problem, par)$loglik
    numeric <- vapply(seq_along(par), function(j) {
      step <- 1e-3 * (seq_along(par) == j)
      (8 * (at(par + step) - at(par - step)) - (at(par + 2 * step) - at(par - 2 * step))) / 12e-3
    }, 0)
    found <- evaluate_laplace(problem, par, gradient = TRUE)$gradient
    expect_named(found, c("variance", "lengthscale", names(problem$phi), "one", "east"))
    expect_equal(unname(found), numeric, tolerance = 1e-5, label = name)
  }
})

test_that("products of matrices of any size are those of R", {
  on_one_thread()
  set.seed(5)
  for (n in c(1, 17, 50)) for (m in c(1, 7, 20)) for (q in c(1, 4, 5, 11)) {
    V <- matrix(rnorm(m * n), m)
    B <- matrix(rnorm(q * n), q)
    C <- matrix(rnorm(m * q), m)
    w <- runif(n)
    label <- paste(n, m, q)
    expect_equal(.Call(C_laplace_crossproduct, V, B, w, 1L), V %*% (w * t(B)), tolerance = 1e-12, label = label)
    expect_equal(.Call(C_laplace_crossproduct, V, B, NULL, 1L), V %*% t(B), tolerance = 1e-12, label = label)
    expect_equal(.Call(C_laplace_combination, C, V, 1L), t(C) %*% V, tolerance = 1e-12, label = label)
  }
})

test_that("a working state is that of the regressions", {
  on_one_thread()
  set.seed(6)
  x <- matrix(runif(120), 60)
  gp <- residual_gp(x, gp_kernel("matern32", 1, 0.3), inducing = 9, seed = 1)
  id <- unname(residual_knn(gp, 6, predecessors = TRUE, progress = FALSE)$id)
  noise <- runif(60, 0.1, 1)
  state <- working_state(gp, id, noise, 1L)
  f <- .Call(C_vif_regression, gp, noise, id, NULL, NULL, 1L)
  W <- .Call(C_vif_contrasts, id, f$coef, gp$V, gp$V, 1L)
  expect_identical(state[c("coef", "D")], f)
  expect_equal(state$W, W, tolerance = 1e-12)
  expect_equal(tcrossprod(state$root), diag(9) + W %*% (t(W) / f$D), tolerance = 1e-12)
})

test_that("a Gaussian family is the Gaussian likelihood, whatever the neighbours", {
  on_one_thread()
  problem <- laplace_problem(laplace_cases$gaussian, k = 8)
  data <- problem$data
  r <- data$y - data$offset - drop(data$X %*% problem$beta)
  found <- evaluate_laplace(problem, gradient = TRUE)
  exact <- vif_loglik(r, problem$gp, cbind(seq_along(r), problem$id), 0.3, gradient = TRUE)
  expect_equal(found$loglik, c(exact), tolerance = 1e-10)
  expect_equal(unname(found$gradient[1:3]), unname(attr(exact, "gradient")), tolerance = 1e-8)
  expect_equal(found$iterations, 2)
})

test_that("with few neighbours it is close, and the gradient tends to that of the likelihood", {
  on_one_thread()
  for (name in c("logit", "poisson", "nbinom2", "beta")) {
    problem <- laplace_problem(laplace_cases[[name]], k = 15, m = 20)
    dense <- dense_laplace(problem$K, problem$family, problem$data, all_phi(problem$family, problem$phi), problem$beta)
    expect_lt(abs(evaluate_laplace(problem)$loglik - dense$loglik), 0.5, label = name)
    par <- c(log(0.8), log(0.3), log(problem$phi), problem$beta)
    numeric <- vapply(seq_along(par), function(j) {
      step <- 1e-3 * (seq_along(par) == j)
      (evaluate_laplace(problem, par + step)$loglik - evaluate_laplace(problem, par - step)$loglik) / 2e-3
    }, 0)
    error <- vapply(c(0, 1, 6), function(passes) {
      max(abs(unname(evaluate_laplace(problem, par, gradient = TRUE, passes = passes)$gradient) - numeric))
    }, 0)
    expect_lt(error[2], 0.1 * error[1], label = name)
    expect_lt(error[3], 1e-4 * max(abs(numeric)), label = name)
  }
})

# Of the noise-free process, the parameters as evaluate_laplace() has them.
evaluate_latent <- function(problem, par, ...) {
  kernel <- problem$kernel
  kernel$variance <- exp(par[1])
  kernel$lengthscale <- exp(par[2])
  phi <- problem$phi
  phi[] <- exp(par[2 + seq_along(phi)])
  beta <- par[-seq_len(2 + length(phi))]
  gp <- residual_gp(problem$x, kernel, inducing = problem$gp$inducing)
  latent <- .Call(C_vif_regression, gp, rep(1e-8 * kernel$variance, nrow(problem$x)), problem$id, NULL, NULL, 1L)
  fixed <- problem$data$offset + drop(problem$data$X %*% beta)
  list(
    exact = function() {
      latent_laplace(sparse_system(gp, problem$id, latent), problem$family, problem$data,
                     all_phi(problem$family, phi), fixed, fixed)$loglik
    },
    found = function(...) latent_evaluate(gp, problem$id, problem$id, problem$data, problem$family, phi, beta, ...)
  )
}

test_that("of the noise-free process all is exact with all neighbours, and right on average with few", {
  on_one_thread()
  for (name in names(laplace_cases)) {
    for (k in c(69, 12)) {
      problem <- laplace_problem(laplace_cases[[name]], n = 70, k = k, m = 10)
      par <- c(log(0.8), log(0.3), log(problem$phi), problem$beta)
      numeric <- vapply(seq_along(par), function(j) {
        step <- 1e-3 * (seq_along(par) == j)
        (evaluate_latent(problem, par + step)$exact() - evaluate_latent(problem, par - step)$exact()) / 2e-3
      }, 0)
      exact <- evaluate_latent(problem, par)$exact()
      found <- evaluate_latent(problem, par)$found(gradient = TRUE, tolerance = 1e-8, probes = if (k == 12) 200 else 5)
      label <- paste(name, k)
      if (k == 69) {
        expect_equal(found$loglik, exact, tolerance = 1e-6, label = label)
        expect_equal(unname(found$gradient), numeric, tolerance = 1e-4, label = label)
      } else {
        expect_lt(abs(found$loglik - exact), 4 * found$se, label = label)
        expect_lt(found$se, 0.1, label = label)
        expect_equal(unname(found$gradient), numeric, tolerance = 0.02, label = label)
      }
    }
  }
})

test_that("likelihoods of the noise-free process do not depend on the number of threads and are repeatable", {
  problem <- laplace_problem(laplace_cases$poisson, k = 10)
  par <- c(log(0.8), log(0.3), problem$beta)
  one <- evaluate_latent(problem, par)$found(threads = 1L, gradient = TRUE)
  other <- evaluate_latent(problem, par)$found(threads = 3L, gradient = TRUE)
  parts <- c("loglik", "eta", "gradient")
  expect_identical(one[parts], other[parts])
})

test_that("what comes through the mode is solved for true curvatures of any size", {
  set.seed(12)
  n <- 30
  x <- cbind(runif(n), runif(n))
  K <- oracle_covariance(gp_kernel("matern32", 1, 0.3), x, x)
  noise <- rep(c(1, 0.5), n / 2)
  own <- rep(c(1, 50, -0.1, 4, 0), n / 5) / noise
  h <- rnorm(n)
  smooth <- function(r) {
    x <- drop(solve(K + diag(noise), noise * r))
    list(x = x, Kx = drop(K %*% x))
  }
  back <- through_mode(h, noise, own, smooth, 1e-10)
  expect_equal(back$q, drop(solve(K + diag(noise), noise * back$l)), tolerance = 1e-7)
  expect_equal(back$l, h + (1 - noise * own) * (back$l - back$q), tolerance = 1e-7)
  expect_equal(through_mode(h, noise, NULL, smooth), list(l = h, q = smooth(h)$x))
})
