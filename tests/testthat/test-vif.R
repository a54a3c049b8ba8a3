# The definition of the VIF approximation, dense and point by point.
dense_vif <- function(gp, id, noise) {
  n <- nrow(gp$x)
  r <- oracle_covariance(gp$kernel, gp$x, gp$x) - crossprod(gp$V)
  diag(r) <- diag(r) + noise
  B <- diag(n)
  D <- diag(r)
  for (i in seq_len(n)) {
    N <- id[i, !is.na(id[i, ])]
    if (!length(N)) next
    a <- solve(r[N, N, drop = FALSE], r[N, i])
    B[i, N] <- -a
    D[i] <- D[i] - sum(a * r[N, i])
  }
  root <- solve(B, diag(sqrt(D)))
  list(B = B, D = D, S = crossprod(gp$V) + tcrossprod(root))
}

log_density <- function(y, S, X = NULL) {
  if (!is.null(X)) y <- y - X %*% solve(t(X) %*% solve(S, X), t(X) %*% solve(S, y))
  -0.5 * (length(y) * log(2 * pi) + as.numeric(determinant(S)$modulus) + sum(y * solve(S, y)))
}

ordered_inputs <- function(n, d) {
  x <- matrix(runif(n * d), n, d)
  x[order_maxmin(x), , drop = FALSE]
}

kernels <- list(
  gp_kernel("matern12", 1.5, 0.4), gp_kernel("matern32", 0.7, c(0.2, 0.5)), gp_kernel("matern52", 2, 0.3),
  gp_kernel("rbf", 1.5, c(0.3, 0.2)), gp_kernel("matern", 1.2, c(0.3, 0.4), smoothness = 0.8)
)

# A number for each vector of log-parameters (variance, lengthscales, nugget, smoothness), and the vector itself.
log_parameters <- function(kernel, nugget) {
  log(c(kernel$variance, kernel$lengthscale, nugget, kernel$smoothness))
}

moved_model <- function(theta, gp) {
  d <- length(gp$kernel$lengthscale)
  kernel <- gp$kernel
  kernel$variance <- exp(theta[1])
  kernel$lengthscale <- exp(theta[1 + seq_len(d)])
  if (kernel$family == "matern") kernel$smoothness <- exp(theta[d + 3])
  list(gp = residual_gp(gp$x, kernel, inducing = gp$inducing), nugget = exp(theta[d + 2]))
}

# Central differences of order four: error h^4 and rounding / h.
differences <- function(f, theta, h = 1e-3) {
  lapply(seq_along(theta), function(j) {
    step <- h * (seq_along(theta) == j)
    (8 * (f(theta + step) - f(theta - step)) - (f(theta + 2 * step) - f(theta - 2 * step))) / (12 * h)
  })
}

# tr(S^-1 S_a S^-1 S_b) / 2.
dense_information <- function(S, slopes) {
  G <- lapply(slopes, function(slope) solve(S, slope))
  outer(seq_along(G), seq_along(G), Vectorize(function(a, b) sum(G[[a]] * t(G[[b]])) / 2))
}

# Of the whole model, and of its regressions one by one: that of a point and its neighbours less that of these.
model_information <- function(gp, id, nugget, extra = 0) {
  f <- function(theta) {
    at <- moved_model(theta, gp)
    dense_vif(at$gp, id, at$nugget + extra)$S
  }
  theta <- log_parameters(gp$kernel, nugget)
  dense_information(f(theta), differences(f, theta))
}

regression_information <- function(gp, id, nugget) {
  f <- function(theta) {
    at <- moved_model(theta, gp)
    oracle_covariance(at$gp$kernel, gp$x, gp$x) + diag(at$nugget, nrow(gp$x))
  }
  theta <- log_parameters(gp$kernel, nugget)
  S <- f(theta)
  slopes <- differences(f, theta)
  of <- function(rows) {
    if (!length(rows)) return(0)
    dense_information(S[rows, rows, drop = FALSE], lapply(slopes, function(slope) slope[rows, rows, drop = FALSE]))
  }
  Reduce(`+`, lapply(seq_len(nrow(id)), function(i) {
    N <- id[i, !is.na(id[i, ])]
    of(c(N, i)) - of(N)
  }))
}

evaluated <- function(y, gp, id, nugget, information = "accurate", X = NULL, extra = 0, threads = 1L, ...) {
  vecchiann:::vif_evaluate(y, gp, id, rep_len(nugget + extra, length(y)), X, threads, TRUE, information, nugget, ...)
}

set.seed(4)
n <- 120
x <- ordered_inputs(n, 2)
y <- 1 + x[, 1] + rnorm(n)
X <- cbind(one = 1, x)
known <- runif(n, 0, 0.2)

test_that("factor, likelihood and gradient agree with their dense definitions", {
  for (kernel in kernels) {
    for (m in c(0, 1, 15)) {
      gp <- residual_gp(x, kernel, inducing = m, seed = 1)
      nn <- residual_knn(gp, 9, predecessors = TRUE)
      label <- paste(format(kernel), "m =", m)
      dense <- dense_vif(gp, nn$id, 0.2 + known)
      f <- vif_factor(gp, nn, 0.2, noise_variance = known)
      expect_s4_class(f$B, "dgCMatrix")
      expect_equal(as.matrix(f$B), dense$B, tolerance = 1e-10, label = label)
      expect_equal(f$D, dense$D, tolerance = 1e-10, label = label)
      expect_equal(vif_loglik(y, gp, nn, 0.2, noise_variance = known), log_density(y, dense$S),
                   tolerance = 1e-10, label = label)
      value <- vif_loglik(y, gp, nn, 0.2, X = X, noise_variance = known, gradient = TRUE)
      expect_equal(c(value), log_density(y, dense$S, X), tolerance = 1e-10, label = label)

      at <- function(theta) {
        moved <- moved_model(theta, gp)
        vif_loglik(y, moved$gp, nn, moved$nugget, X = X, noise_variance = known)
      }
      numeric <- unlist(differences(at, log_parameters(kernel, 0.2)))
      expect_equal(unname(attr(value, "gradient")), numeric, tolerance = 1e-6, label = label)
    }
  }
})

test_that("derivatives are named after the parameters", {
  names_of <- function(kernel) {
    gp <- residual_gp(x, kernel, inducing = 0)
    names(attr(vif_loglik(y, gp, residual_knn(gp, 2, predecessors = TRUE), 0.1, gradient = TRUE), "gradient"))
  }
  expect_identical(names_of(gp_kernel("rbf")), c("variance", "lengthscale", "nugget"))
  expect_identical(names_of(gp_kernel("matern", 1, c(1, 1), 0.8)),
                   c("variance", "lengthscale1", "lengthscale2", "nugget", "smoothness"))
})

test_that("tables of any shape are derived right: one neighbour, holes, copies, more neighbours than points before", {
  set.seed(5)
  kernel <- gp_kernel("matern52", 1.3, c(0.3, 0.6))
  some <- x[c(1:23, 20:23), ]
  z <- y[1:27]
  for (k in c(1, 2, 3, 6, 7, 8, 26)) {
    for (m in c(0, 1, 5)) {
      gp <- residual_gp(some, kernel, inducing = some[seq_len(m), , drop = FALSE])
      id <- residual_knn(gp, k, predecessors = TRUE)$id
      id[sample(length(id), length(id) / 5)] <- NA
      label <- paste("k =", k, "m =", m)
      dense <- dense_vif(gp, id, 0.3)
      found <- evaluated(z, gp, id, 0.3)
      expect_equal(found$loglik, log_density(z, dense$S), tolerance = 1e-10, label = label)
      f <- function(theta) {
        at <- moved_model(theta, gp)
        log_density(z, dense_vif(at$gp, id, at$nugget)$S)
      }
      numeric <- unlist(differences(f, log_parameters(kernel, 0.3)))
      expect_equal(unname(found$gradient), numeric, tolerance = 1e-6, label = label)
      plain <- if (m) model_information(gp, id, 0.3) else regression_information(gp, id, 0.3)
      expect_equal(unname(found$fisher), plain, tolerance = 1e-6, label = label)
    }
  }
})

test_that("the expected information agrees with its dense definition", {
  for (kernel in kernels) {
    for (m in c(0, 1, 15)) {
      gp <- residual_gp(x, kernel, inducing = m, seed = 1)
      id <- residual_knn(gp, 9, predecessors = TRUE)$id
      label <- paste(format(kernel), "m =", m)
      exact <- model_information(gp, id, 0.2, known)
      found <- evaluated(y, gp, id, 0.2, X = X, extra = known)$fisher
      expect_identical(rownames(found), colnames(found))
      found <- unname(found)
      if (m) expect_equal(found, exact, tolerance = 1e-6, label = label)
      # of regressions one by one it is a little different, of random signs it is an estimate
      expect_equal(sqrt(diag(solve(found))), sqrt(diag(solve(exact))), tolerance = 0.02, label = label)
      rough <- unname(evaluated(y, gp, id, 0.2, TRUE, extra = known)$fisher)
      expect_true(isSymmetric(rough))
      expect_gt(min(eigen(rough, TRUE, TRUE)$values), 0)
      expect_equal(diag(rough), diag(exact), tolerance = 0.1, label = label)
    }
  }
})

test_that("estimates of the information of more points are near, the same at each call, and leave R's random numbers alone", {
  set.seed(6)
  many <- ordered_inputs(300, 2)
  gp <- residual_gp(many, gp_kernel("matern32", 1, 0.3), inducing = 20, seed = 1)
  id <- residual_knn(gp, 10, predecessors = TRUE)$id
  z <- rnorm(300)
  before <- .Random.seed
  rough <- evaluated(z, gp, id, 0.1, TRUE)$fisher
  expect_identical(.Random.seed, before)
  expect_identical(evaluated(z, gp, id, 0.1, TRUE, threads = 3L)$fisher, rough)
  exact <- model_information(gp, id, 0.1)
  expect_equal(unname(sqrt(diag(solve(rough)))), sqrt(diag(solve(exact))), tolerance = 0.05)
})

test_that("derivatives by column add up to those of one lengthscale", {
  kernel <- gp_kernel("matern", 1.2, 0.4, smoothness = 1.2)
  for (m in c(0, 7)) {
    gp <- residual_gp(x, kernel, inducing = m, seed = 1)
    id <- residual_knn(gp, 6, predecessors = TRUE)$id
    one <- evaluated(y, gp, id, 0.2)
    each <- evaluated(y, gp, id, 0.2, columns = TRUE)
    expect_equal(each$gradient, one$gradient, tolerance = 1e-8)
    expect_equal(each$fisher, one$fisher, tolerance = 1e-8)
    expect_length(each$gradient_columns, 2)
    expect_equal(sum(each$gradient_columns), one$gradient[["lengthscale"]], tolerance = 1e-8)
    expect_identical(rownames(each$fisher_columns),
                     c("variance", "lengthscale1", "lengthscale2", "nugget", "smoothness"))
    apart <- gp
    apart$kernel$lengthscale <- c(0.4, 0.4)
    expect_identical(unname(evaluated(y, apart, id, 0.2)$gradient[2:3]), each$gradient_columns)
  }
})

test_that("memory that is kept changes nothing", {
  memory <- vecchiann:::vif_memory()
  for (m in c(0, 3, 15)) {
    gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.3), inducing = m, seed = 1)
    for (k in c(9, 4)) {
      id <- residual_knn(gp, k, predecessors = TRUE)$id
      expect_identical(evaluated(y, gp, id, 0.2, TRUE, memory = memory), evaluated(y, gp, id, 0.2, TRUE))
    }
  }
})

test_that("features that the likelihood makes itself are those of the process", {
  set.seed(9)
  x <- ordered_inputs(700, 2)
  gp <- residual_gp(x, kernels[[2]], inducing = 20)
  id <- unname(residual_knn(gp, 8, predecessors = TRUE, progress = FALSE)$id)
  y <- rnorm(700)
  for (derivatives in c(TRUE, FALSE)) {
    evaluation <- function(gp) {
      vif_evaluate(y, gp, id, rep(0.1, 700), matrix(1, 700, 1), 2L, derivatives, derivatives, 0.1)
    }
    whole <- evaluation(gp)
    whole["coef"] <- list(NULL) # which large fits do not keep
    expect_identical(evaluation(featureless(x, gp)), whole)
  }
})

test_that("there may be many neighbours", {
  set.seed(7)
  many <- ordered_inputs(170, 2)
  gp <- residual_gp(many, gp_kernel("matern32", lengthscale = 0.3), inducing = 11, seed = 1)
  id <- residual_knn(gp, 140, predecessors = TRUE)$id
  id[150, 7] <- NA
  dense <- dense_vif(gp, id, 0.1)
  f <- vif_factor(gp, cbind(seq_len(170), id), 0.1)
  expect_equal(as.matrix(f$B), dense$B, tolerance = 1e-9)
  expect_equal(f$D, dense$D, tolerance = 1e-10)
})

test_that("with all predecessors as neighbours the approximation is exact, whatever the inducing inputs", {
  for (kernel in kernels) {
    for (m in c(0, 1, 20, n)) {
      gp <- residual_gp(x, kernel, inducing = m, seed = 1, selection = "random")
      nn <- residual_knn(gp, n - 1, predecessors = TRUE)
      for (mean in list(NULL, X)) {
        exact <- gp_loglik(y, x, kernel, 0.1, X = mean, noise_variance = known)
        expect_equal(vif_loglik(y, gp, nn, 0.1, X = mean, noise_variance = known), exact, tolerance = 1e-8)
        S <- oracle_covariance(kernel, x, x) + diag(0.1 + known)
        expect_equal(exact, log_density(y, S, mean), tolerance = 1e-8)
      }
    }
  }
})

test_that("with the inputs as inducing inputs it becomes exact as the jitter goes to zero", {
  kernel <- gp_kernel("matern32", 1, 0.3)
  exact <- gp_loglik(y, x, kernel, 0.1)
  error <- vapply(10^-c(2, 4, 6, 8), function(jitter) {
    gp <- residual_gp(x, kernel, inducing = x, jitter = jitter)
    abs(vif_loglik(y, gp, residual_knn(gp, 2, predecessors = TRUE), 0.1) - exact)
  }, 0)
  expect_true(all(diff(error) < 0))
  expect_lt(error[4], 1e-5)
})

test_that("the answer does not depend on the number of threads", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 10, seed = 1)
  nn <- residual_knn(gp, 9, predecessors = TRUE)
  one <- evaluated(y, gp, nn$id, 0.1, TRUE, X = X, extra = known)
  for (threads in c(2L, 7L)) {
    expect_identical(evaluated(y, gp, nn$id, 0.1, TRUE, X = X, extra = known, threads = threads), one)
  }
  expect_identical(vif_factor(gp, nn, 0.1, threads = 3), vif_factor(gp, nn, 0.1, threads = 1))
})

test_that("GpGp's tables are neighbours too", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 10, seed = 1)
  nn <- residual_knn(gp, 9, predecessors = TRUE)
  expect_identical(vif_factor(gp, as_nnarray(nn), 0.1), vif_factor(gp, nn, 0.1))
  array <- as_nnarray(nn)
  storage.mode(array) <- "double"
  expect_identical(vif_loglik(y, gp, array, 0.1), vif_loglik(y, gp, nn, 0.1))
})

test_that("without inducing inputs it is the Vecchia likelihood of GpGp", {
  skip_if_not_installed("GpGp")
  # its own search calls package fields, which it only suggests
  array <- if (nzchar(system.file(package = "fields"))) {
    GpGp::find_ordered_nn(x, 8)
  } else {
    as_nnarray(residual_knn(residual_gp(x, gp_kernel(), 0), 8, predecessors = TRUE))
  }
  for (kernel in kernels[-4]) {
    gp <- residual_gp(x, kernel, inducing = 0)
    theirs <- as_gpgp(kernel, 0.15)
    expect_equal(vif_loglik(y, gp, array, 0.15),
                 GpGp::vecchia_meanzero_loglik(theirs$covparms, theirs$covfun_name, y, x, array)$loglik,
                 tolerance = 1e-7)
  }
})

test_that("a covariance that is not positive definite is an error that names the row", {
  twice <- rbind(x[1:10, ], x[10, ])
  gp <- residual_gp(twice, gp_kernel("matern32", lengthscale = 0.2), inducing = 0)
  nn <- residual_knn(gp, 5, predecessors = TRUE)
  expect_error(vif_factor(gp, nn, 0), "residual covariance of point 11 .*not positive definite.*`nugget`")
  expect_true(all(vif_factor(gp, nn, 0.1)$D > 0))
  expect_error(gp_loglik(y[1:11], twice, gp$kernel, 0), "^gp_loglik\\(\\): `nugget` must be large enough")
})

test_that("the first point that fails is named, wherever it stands", {
  for (m in c(0, 3)) {
    gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = m, seed = 1)
    id <- residual_knn(gp, 4, predecessors = TRUE)$id
    for (point in c(1, 31, n)) {
      noise <- replace(rep(0.1, n), c(point, n), -2)
      for (gradient in c(FALSE, TRUE)) {
        expect_error(vecchiann:::vif_evaluate(y, gp, id, noise, NULL, 2L, gradient),
                     paste("covariance of point", point, "and its neighbours"))
      }
    }
  }
})

test_that("bad arguments are refused by name", {
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 5, seed = 1)
  nn <- residual_knn(gp, 5, predecessors = TRUE)
  expect_error(vif_loglik(y[-1], gp, nn, 0.1),
               "^vif_loglik\\(\\): `y` must be of length 120 \\(the rows of `gp\\$x`\\), not of length 119")
  expect_error(vif_loglik(replace(y, c(3, 7), NA), gp, nn, 0.1), "2 NA \\(first at position 3\\)")
  expect_error(vif_loglik(replace(y, 5, Inf), gp, nn, 0.1), "`y` must be finite everywhere")
  expect_error(vif_loglik(letters, gp, nn, 0.1), "`y` must be a numeric vector")
  expect_error(vif_loglik(y, gp, nn, 0.1, X = cbind(a = 1, b = x[, 1], c = 2 * x[, 1])),
               "`X` must be of linearly independent columns, not of rank 2 with 3 columns \\(c depends")
  expect_error(vif_loglik(y, gp, nn, 0.1, X = X[-1, ]), "`X` must be of 120 rows")
  expect_error(vif_loglik(y, gp, nn, -1), "`nugget` must be a finite number of at least 0")
  expect_error(vif_loglik(y, gp, nn, 0.1, noise_variance = -known), "`noise_variance` must be at least 0")
  expect_error(vif_loglik(y, gp, nn, 0.1, noise_variance = 1:3), "`noise_variance` must be NULL or numeric of length 120")
  expect_error(vif_factor(gp, residual_knn(gp, 5), 0.1), "`nn` must be a search with predecessors = TRUE")
  expect_error(vif_factor(gp, residual_knn(gp, 5, predecessors = TRUE, queries = 1:9), 0.1), "all rows")
  expect_error(vif_factor(gp, nn$id, 0.1), "`nn` must be a matrix whose first column is the row itself")
  expect_error(vif_factor(gp, cbind(1:120, 120L), 0.1), "`nn` must be neighbours among earlier rows, not 120 in row 1")
  expect_error(vif_factor(gp, as_nnarray(nn)[1:7, ], 0.1), "`nn` must be of 120 rows")
  expect_error(vif_factor(gp, "nn", 0.1), "`nn` must be a residual_knn object or an integer matrix")
  expect_error(vif_factor(1, nn, 0.1), "^vif_factor\\(\\): `gp` must be a residual_gp object")
  own <- residual_process(x, gp$kernel, gp$V, gp$variance)
  expect_equal(vif_loglik(y, own, nn, 0.1), vif_loglik(y, gp, nn, 0.1))
  expect_error(vif_loglik(y, own, nn, 0.1, gradient = TRUE), "`gradient` must be FALSE for a residual_process")
})
