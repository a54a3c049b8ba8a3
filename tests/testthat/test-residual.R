set.seed(3)
square <- matrix(runif(300), 150, 2, dimnames = list(NULL, c("east", "north")))

test_that("factor, features and variances are those of the definition", {
  on_one_thread()
  for (family in kernel_families()) for (d in c(1, 2, 5)) for (m in c(0, 1, 12)) {
    x <- inputs("uniform", 60, d)
    kernel <- gp_kernel(family, 2.5, if (d == 2) c(0.3, 0.6) else 0.4, if (family == "matern") 1.2)
    gp <- residual_gp(x, kernel, inducing = m, seed = 1)
    label <- paste(family, d, m)
    oracle <- oracle_points(gp, x)
    expect_identical(dim(gp$inducing), c(as.integer(m), as.integer(d)))
    expect_identical(dim(gp$V), c(as.integer(m), 60L))
    expect_equal(gp$V, oracle$V, tolerance = 1e-8, label = label)
    expect_equal(gp$variance, oracle$variance, tolerance = 1e-8, label = label)
    K <- oracle_covariance(kernel, gp$inducing, gp$inducing) + diag(1e-6 * 2.5, m)
    expect_equal(tcrossprod(gp$chol), K, tolerance = 1e-12, label = label)
    expect_true(all(gp$chol[upper.tri(gp$chol)] == 0))
    expect_equal(residual_correlation(gp), oracle_rho(gp, oracle, oracle), tolerance = 1e-6, label = label)
  }
})

test_that("blocks of correlations are parts of the whole", {
  gp <- residual_gp(square, gp_kernel(lengthscale = 0.2), inducing = 15, nugget = 0.1, seed = 1)
  rho <- residual_correlation(gp)
  expect_equal(diag(rho), gp$variance / (gp$variance + 0.1))
  expect_identical(residual_correlation(gp, c(7, 3, 3), 150:1), rho[c(7, 3, 3), 150:1])
  expect_identical(residual_correlation(gp, i = 5), rho[5, , drop = FALSE])
  new <- matrix(runif(8), 4)
  from <- oracle_points(gp, new)
  expect_equal(residual_correlation(gp, j = 1:9, newdata = new),
               oracle_rho(gp, from, oracle_points(gp, square[1:9, ])), tolerance = 1e-8)
  plain <- residual_gp(square, gp_kernel(lengthscale = 0.2), inducing = 15, seed = 1)
  expect_equal(diag(residual_correlation(plain)), rep(1, 150))
})

test_that("a point whose residual variance is gone is correlated with nothing", {
  gp <- residual_gp(square, gp_kernel(), inducing = square[c(4, 9), ], jitter = 1e-14)
  expect_true(all(gp$variance[c(4, 9)] < 1e-10))
  expect_true(all(residual_correlation(gp, i = c(4, 9)) == 0))
  expect_true(all(residual_correlation(gp, j = c(4, 9)) == 0))
  noisy <- residual_gp(square, gp_kernel(), inducing = square[c(4, 9), ], jitter = 1e-14, nugget = 0.1)
  expect_true(all(abs(residual_correlation(noisy, i = 4)) <= 1))
})

test_that("names are kept", {
  named <- square[1:20, ]
  rownames(named) <- letters[1:20]
  gp <- residual_gp(named, gp_kernel(), inducing = 3, seed = 1)
  expect_identical(dimnames(gp$x), dimnames(named))
  expect_identical(colnames(gp$inducing), colnames(named))
  expect_identical(dimnames(residual_correlation(gp, c(2, 1), 3)), list(c("b", "a"), "c"))
})

test_that("every selection gives m distinct inducing inputs", {
  x <- square[c(1:40, 1:40, 1:40), ]
  for (selection in c("kmeans++", "maxmin", "random")) for (m in c(1, 5, 39, 40)) {
    gp <- residual_gp(x, gp_kernel(lengthscale = 0.1), inducing = m, selection = selection, seed = 2)
    expect_identical(nrow(gp$inducing), as.integer(m), label = selection)
    expect_false(any(duplicated(gp$inducing)), label = paste(selection, m))
    expect_error(residual_gp(x, gp_kernel(), inducing = 41, selection = selection),
                 "^residual_gp\\(\\): `inducing` must be at most 40 .*not 41")
  }
  chosen <- residual_gp(square, gp_kernel(), inducing = 30, selection = "maxmin")$inducing
  expect_true(all(paste(chosen[, 1], chosen[, 2]) %in% paste(square[, 1], square[, 2])))
})

# Arthur and Vassilvitskii (2007), and ten steps of Lloyd's algorithm.
plain_kmeans <- function(x, m, uniforms) {
  squares <- function(centres) apply(centres, 1, function(centre) colSums((t(x) - centre)^2))
  centres <- x[floor(uniforms[1] * nrow(x)) + 1, , drop = FALSE]
  for (i in seq_len(m)[-1]) {
    sums <- cumsum(apply(squares(centres), 1, min))
    centres <- rbind(centres, x[which(sums > uniforms[i] * sums[length(sums)])[1], ])
  }
  for (step in 1:10) {
    nearest <- factor(max.col(-squares(centres), "first"), seq_len(m))
    means <- rowsum(x, nearest) / as.vector(table(nearest)[table(nearest) > 0])
    centres[as.integer(rownames(means)), ] <- means
  }
  unname(centres)
}

test_that("by default there are no more inducing inputs than distinct rows", {
  expect_identical(nrow(residual_gp(square[c(1:20, 1:20), ], gp_kernel())$inducing), 20L)
  expect_identical(nrow(residual_gp(matrix(seq(0, 1, length.out = 400)), gp_kernel())$inducing), 200L)
})

test_that("k-means++ is that of plain R, for any number of columns and of threads", {
  set.seed(9)
  for (d in c(1, 2, 5)) for (n in c(30, 2500)) for (m in c(2, 19)) {
    x <- matrix(rnorm(n * d), n)
    uniforms <- runif(m)
    for (threads in 1:2) {
      found <- .Call(C_select_inducing, x, 1, m, "kmeans++", uniforms, threads)
      expect_equal(found, plain_kmeans(x, m, uniforms), tolerance = 1e-12, label = paste(d, n, m, threads))
    }
  }
})

test_that("k-means++ covers the inputs better than a random choice", {
  spread <- function(selection) {
    gp <- residual_gp(square, gp_kernel(lengthscale = c(1, 5)), inducing = 12, selection = selection, seed = 4)
    scaled <- function(x) sweep(x, 2, c(1, 5), "/")
    centres <- scaled(gp$inducing)
    sum(apply(scaled(square), 1, function(point) min(colSums((t(centres) - point)^2))))
  }
  expect_lt(spread("kmeans++"), 0.8 * spread("random"))
})

test_that("a seed repeats the choice and leaves the session's random numbers alone", {
  choose <- function(seed) residual_gp(square, gp_kernel(), inducing = 9, seed = seed)$inducing
  set.seed(11)
  before <- .Random.seed
  first <- choose(5)
  expect_identical(.Random.seed, before)
  expect_identical(choose(5), first)
  expect_false(identical(choose(6), first))
  drawn <- choose(NULL)
  expect_false(identical(.Random.seed, before))
  expect_false(identical(choose(NULL), drawn))
  set.seed(11)
  expect_identical(choose(NULL), drawn)
})

test_that("inducing inputs may be given", {
  z <- matrix(c(0.2, 0.8, 0.5, 0.5), 2)
  expect_identical(unname(residual_gp(square, gp_kernel(), z)$inducing), z)
  expect_identical(residual_gp(square, gp_kernel(), as.data.frame(z))$V, residual_gp(square, gp_kernel(), z)$V)
  expect_identical(residual_gp(square, gp_kernel(), z[0, ])$variance, rep(1, 150))
  expect_error(residual_gp(square, gp_kernel(), z[, 1, drop = FALSE]),
               "^residual_gp\\(\\): `inducing` must be of 2 columns as `x` is, not of 1")
})

test_that("a failing Cholesky factorisation names the pivot and suggests jitter", {
  z <- rbind(square[1:5, ], square[2, ])
  expect_error(residual_gp(square, gp_kernel(), z, jitter = 0), "pivot 6.*jitter")
  expect_s3_class(residual_gp(square, gp_kernel(), z), "residual_gp")
})

test_that("the answer does not depend on the number of threads", {
  x <- inputs("uniform", 3000, 3)
  gp <- function(threads) residual_gp(x, gp_kernel("matern52"), 70, seed = 1, threads = threads)
  expect_identical(gp(1), gp(2))
  expect_identical(gp(1), gp(5))
})

test_that("an own residual process is accepted", {
  gp <- residual_gp(square, gp_kernel(lengthscale = 0.3), inducing = 10, seed = 1)
  own <- residual_process(square, gp$kernel, gp$V, gp$variance, nugget = 0.2)
  noisy <- residual_gp(square, gp_kernel(lengthscale = 0.3), gp$inducing, nugget = 0.2)
  expect_identical(residual_correlation(own), residual_correlation(noisy))
  expect_output(print(own), "10 own features")
  expect_equal(residual_process(square, gp$kernel, gp$V)$variance, gp$variance)
  expect_error(residual_process(square, gp$kernel, gp$V[, -1]), "^residual_process\\(\\): `V` must be .*150 columns")
  expect_error(residual_process(square, gp$kernel, gp$V, gp$variance[-1]), "`variance` must be numeric of length 150")
  expect_error(residual_process(square, gp$kernel, gp$V, gp$variance / 2), "`variance` must be at least")
  expect_error(residual_correlation(own, newdata = square), "`newdata` must be NULL for a residual_process")
})

test_that("bad arguments are refused by name", {
  gp <- function(...) residual_gp(square, gp_kernel(), ...)
  expect_error(residual_gp(square, "rbf"), '^residual_gp\\(\\): `kernel` must be a gp_kernel object, not "rbf"')
  expect_error(residual_gp(square, gp_kernel(lengthscale = 1:3)),
               "^residual_gp\\(\\): `lengthscale` must be of length 1 or 2 .*not of length 3")
  for (nugget in list(-1, NA, Inf, "a", 1:2)) expect_error(gp(nugget = nugget), "`nugget` must be a finite number")
  for (jitter in list(-1, NaN, Inf)) expect_error(gp(jitter = jitter), "`jitter` must be a finite number")
  for (inducing in list(-1, 2.5, NA, "a")) expect_error(gp(inducing), "`inducing` must be")
  expect_error(gp(selection = "grid"), '`selection` must be one of "kmeans\\+\\+"')
  expect_error(gp(seed = 1.5), "`seed` must be a whole number")
  expect_error(gp(threads = 0), "`threads` must be a whole number of at least 1, not 0")
  fitted <- gp(5)
  expect_error(residual_correlation(fitted, i = 0), "^residual_correlation\\(\\): `i` must be row numbers from 1 to 150, not 0")
  expect_error(residual_correlation(fitted, j = 151), "`j` must be .* not 151 \\(position 1\\)")
  expect_error(residual_correlation(fitted, i = 1, newdata = square), "`i` must be NULL with `newdata`, not 1")
  expect_error(residual_correlation(square), "`gp` must be a residual_gp object")
})

test_that("an object prints its size, kernel and variances", {
  expect_output(print(residual_gp(square, gp_kernel(), 7)),
                "150 points in 2 dimensions, 7 inducing inputs\nkernel: matern32.*residual variance: ")
})

test_that("a process that was edited is refused by the name of the part", {
  set.seed(12)
  x <- inputs("uniform", 120, 2)
  y <- rnorm(120)
  table <- cbind(1:120, c(NA, 1:119))
  uses <- list(
    function(gp) residual_knn(gp, 3), function(gp) residual_correlation(gp, 1:3), cover_tree, print,
    function(gp) vif_factor(gp, table, 0.1), function(gp) vif_loglik(y, gp, table, 0.1)
  )
  refused <- function(gp, part) {
    for (use in uses) expect_error(use(gp), paste0("`gp|object|x` must be as it was made.*residual_gp\\(\\).*`", part), label = part)
  }
  made <- list(gp_kernel("matern32", 3, c(0.2, 0.3)), gp_kernel("matern", 1e-8, 0.2, 0.7), gp_kernel("rbf", 1e9, 0.4))
  for (kernel in made) {
    whole <- residual_gp(x, kernel, inducing = 15, nugget = 0.1, seed = 1)
    edits <- list(
      x = function(x) replace(x, 7, NA), x = function(x) x[-1, ], x = as.integer, x = function(x) t(x),
      V = function(V) replace(V, 33, Inf), V = function(V) replace(V, 33, V[33] + 1e-4 * sqrt(kernel$variance)),
      V = function(V) V[, 120:1], V = function(V) V[-1, ], chol = function(L) replace(L, 17, NaN), chol = function(L) t(L),
      chol = function(L) L * 1.001, variance = function(v) replace(v, 3, NA), variance = function(v) rev(v),
      variance = function(v) v[-1], nugget = function(nugget) NaN, nugget = function(nugget) -1, nugget = function(nugget) "a",
      inducing = function(z) z[-1, ], jitter = function(jitter) Inf, kernel = function(kernel) unclass(kernel)[c(2, 1, 3)]
    )
    for (i in seq_along(edits)) {
      gp <- whole
      gp[[names(edits)[i]]] <- edits[[i]](gp[[names(edits)[i]]])
      for (use in uses) expect_error(use(gp), "must be (as it was made|a gp_kernel)", label = paste(names(edits)[i], i))
    }
    gp <- whole
    gp$inducing[4] <- 0.4321 # features no longer follow
    refused(gp, "chol")
    gp <- whole
    gp$x[4] <- 0.4321
    refused(gp, "V")
    expect_identical(residual_knn(unserialize(serialize(whole, NULL)), 3), residual_knn(whole, 3))
  }
  own <- residual_process(x, gp_kernel(lengthscale = 0.3), matrix(0.1, 2, 120))
  own$variance[5] <- 0
  refused(own, "variance")
  own$variance <- NULL
  refused(own, "variance")
})

test_that("neighbours that were edited are refused where they enter", {
  gp <- residual_gp(square, gp_kernel(lengthscale = 0.3), inducing = 10, seed = 1)
  whole <- residual_knn(gp, 4, predecessors = TRUE)
  pdf(NULL)
  on.exit(dev.off())
  uses <- list(as_nnarray, as_nn2, as_get_knn, function(nn) recall(nn, whole), function(nn) recall(whole, nn), plot, print, summary,
               function(nn) vif_factor(gp, nn, 0.1))
  edits <- list(
    id = function(id) replace(id, 9, 151L), id = function(id) replace(id, 9, 0L), id = function(id) id + 0, id = function(id) id[, -1],
    id = function(id) replace(id, 600, NA), dist = function(dist) replace(dist, 600, NaN), dist = function(dist) dist * 2,
    k = function(k) 5L, predecessors = function(flag) NA, queries = function(queries) 1:3, x = function(x) x[-1, ]
  )
  for (i in seq_along(edits)) {
    nn <- whole
    nn[[names(edits)[i]]] <- edits[[i]](nn[[names(edits)[i]]])
    for (use in uses) expect_error(use(nn), "must be as it was made.*residual_knn\\(\\)", label = paste(names(edits)[i], i))
  }
})

test_that("factor, features and correlations are in proportion to the variance, however large or small", {
  for (variance in c(1e150, 1e-150, 1e300, 1e-300, 1e25, 2^-80)) for (nugget in c(0, 0.2)) {
    one <- residual_gp(square, gp_kernel("matern52", 1, 0.3), inducing = 12, nugget = nugget, seed = 1)
    gp <- residual_gp(square, gp_kernel("matern52", variance, 0.3), inducing = 12, nugget = nugget * variance, seed = 1)
    expect_equal(gp$chol / sqrt(variance), one$chol, tolerance = 1e-9)
    expect_equal(gp$V / sqrt(variance), one$V, tolerance = 1e-9)
    expect_equal(gp$variance / variance, one$variance, tolerance = 1e-9)
    expect_equal(residual_correlation(gp), residual_correlation(one), tolerance = 1e-8)
    new <- square[1:5, ] + 0.01
    expect_equal(residual_correlation(gp, newdata = new), residual_correlation(one, newdata = new), tolerance = 1e-8)
    own <- residual_process(square, gp$kernel, gp$V, gp$variance, gp$nugget)
    expect_identical(residual_correlation(own), residual_correlation(gp))
  }
})

test_that("inputs may be far apart, but squared distances must be numbers", {
  x <- square * 1e100
  far <- residual_gp(x, gp_kernel(), inducing = 9, seed = 1)
  expect_identical(residual_knn(far, 3, method = "level")[c("id", "dist")], residual_knn(far, 3, method = "brute")[c("id", "dist")])
  for (selection in c("kmeans++", "maxmin", "random")) {
    expect_error(residual_gp(square * 1e299, gp_kernel(), inducing = 9, selection = selection),
                 "^residual_gp\\(\\): `x` must be spread over less than 1e150 lengthscales, not over")
  }
  expect_error(residual_gp(square, gp_kernel(lengthscale = 1e-200), 0), "`x` must be spread over less than 1e150 lengthscales")
  expect_identical(residual_correlation(residual_gp(c(1e308, 1e308), gp_kernel(), 0)), matrix(1, 2, 2))
})

test_that("distinct rows are counted up to what is wanted", {
  x <- cbind(c(rep(1, 900), 1:100), 2)
  expect_identical(count_distinct(x, 7), 7) # the first rows have one
  expect_identical(count_distinct(x, 100), 100)
  expect_equal(count_distinct(x, 101), 100)
  expect_equal(count_distinct(x[1:900, ], 5), 1)
  expect_equal(count_distinct(x, 0), 0)
  expect_error(residual_gp(x[1:900, ], gp_kernel(), inducing = 2), "at most 1")
})
