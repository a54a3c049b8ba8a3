# The definition, plain: residual covariances by the oracle, candidates by sorting, and the covariances given the points
# taken so far by solving with all of these at every step.

# Candidates of one query: the half nearest in space and the half by residual correlation, noise included.
plain_pool <- function(gp, noise, pool, r, own, away, candidates) {
  half <- ceiling(pool / 2)
  near <- head(candidates[order(away[candidates], candidates)], half)
  p <- pmax(gp$variance, 0) + noise
  gone <- gp$variance <= 1e-10 * gp$kernel$variance & noise == 0
  rho <- ifelse(gone | own <= 0, 0, abs(r) / sqrt(p))
  sort(unique(c(near, head(candidates[order(-rho[candidates], candidates)], half))))
}

plain_select <- function(R, noise, r, own, pool, k, s2) {
  start <- diag(R)[pool] + noise[pool]
  usable <- !(noise[pool] == 0 & start <= 1e-10 * s2)
  id <- rep(NA_integer_, k)
  gap <- rep(Inf, k)
  left <- own
  for (t in seq_len(k)) {
    taken <- id[seq_len(t - 1)]
    c <- r[pool]
    D <- start
    if (t > 1) {
      C <- R[taken, taken, drop = FALSE] + diag(noise[taken], t - 1)
      c <- c - drop(r[taken] %*% solve(C, R[taken, pool, drop = FALSE], tol = 0))
      D <- D - colSums(R[taken, pool, drop = FALSE] * solve(C, R[taken, pool, drop = FALSE], tol = 0))
      left <- own - drop(r[taken] %*% solve(C, r[taken], tol = 0))
    }
    open <- usable & D > 1e-10 * start & !pool %in% taken
    if (!any(open)) break
    score <- ifelse(open, if (left <= 1e-13 * s2) 0 else c^2 / D, -1)
    best <- which.max(score)
    if (sum(open) > 1) gap[t] <- (score[best] - max(score[-best])) / own
    id[t] <- pool[best]
  }
  taken <- id[!is.na(id)]
  if (length(taken)) {
    left <- own - drop(r[taken] %*% solve(R[taken, taken] + diag(noise[taken], length(taken)), r[taken], tol = 0))
  }
  list(id = id, gap = gap, variance = if (left <= 1e-13 * s2) 0 else left)
}

# The sets that a call of conditioning_sets() asks for.
plain_sets <- function(gp, k, nugget = 0, pool = 4 * k, newdata = NULL, predecessors = is.null(newdata),
                       queries = seq_len(nrow(gp$x))) {
  n <- nrow(gp$x)
  noise <- rep_len(nugget, n)
  lengthscale <- rep_len(gp$kernel$lengthscale, ncol(gp$x))
  R <- oracle_covariance(gp$kernel, gp$x, gp$x) - crossprod(gp$V)
  diag(R) <- pmax(gp$variance, 0)
  new <- if (!is.null(newdata)) new_points(gp, newdata, NA_integer_)
  at <- if (is.null(new)) list(x = gp$x, V = gp$V, variance = gp$variance) else new
  rows <- if (is.null(new)) queries else seq_len(nrow(new$x))
  lapply(rows, function(i) {
    from <- list(x = at$x[i, , drop = FALSE], V = at$V[, i, drop = FALSE])
    r <- drop(oracle_covariance(gp$kernel, from$x, gp$x) - crossprod(from$V, gp$V))
    candidates <- if (!is.null(new)) seq_len(n) else if (predecessors) seq_len(i - 1) else seq_len(n)[-i]
    away <- colSums(((t(gp$x) - c(from$x)) / lengthscale)^2)
    own <- max(at$variance[i], 0)
    found <- plain_pool(gp, noise, pool, r, own, away, candidates)
    plain_select(R, noise, r, own, found, k, gp$kernel$variance)
  })
}

# Equal ids up to the first step at which two candidates are worth the same to rounding.
expect_sets <- function(sets, plain, label = NULL, tie = 1e-9) {
  fault <- function(q) {
    tied <- which(plain[[q]]$gap < tie)
    sure <- seq_len(min(tied - 1, sets$k))
    id <- sets$id[q, ]
    c(id = !identical(unname(id[sure]), plain[[q]]$id[sure]),
      variance = !length(tied) && !isTRUE(all.equal(unname(sets$variance[q]), plain[[q]]$variance, tolerance = 1e-6)),
      missing = !identical(is.na(id), is.na(sets$dist[q, ])), twice = anyDuplicated(id[!is.na(id)]) > 0)
  }
  faults <- vapply(seq_along(plain), fault, logical(4))
  bad <- which(faults, arr.ind = TRUE)
  testthat::expect(nrow(sets$id) == length(plain) && !nrow(bad),
                   paste0(label, ": ", nrow(bad), " faults, ", rownames(faults)[bad[1]], " in row ", bad[nrow(bad) + 1]))
}

problem <- function(family, d, n = 120, m = 15, lengthscale = 0.3 * sqrt(d), kind = "uniform") {
  x <- inputs(kind, n, d)
  x <- x[order_maxmin(x), , drop = FALSE]
  residual_gp(x, gp_kernel(family, 1.7, lengthscale), inducing = m, seed = 1)
}

test_that("sets are those of the definition: kernels, inducing inputs, lengthscales and noise", {
  on_one_thread()
  set.seed(1)
  for (family in c("matern12", "matern32", "matern52", "rbf")) {
    for (m in c(0, 15)) {
      gp <- problem(family, 2, m = m, lengthscale = c(0.2, 0.5))
      for (nugget in list(0.1, runif(120, 0, 0.3))) {
        expect_sets(conditioning_sets(gp, 6, nugget), plain_sets(gp, 6, nugget), paste(family, m))
      }
    }
  }
  gp <- residual_gp(matrix(runif(300), 100), gp_kernel("matern", 1.7, 0.5, smoothness = 0.8), inducing = 5, seed = 1)
  expect_sets(conditioning_sets(gp, 6, 0.1), plain_sets(gp, 6, 0.1), "smoothness")
  gp <- problem("matern32", 2)
  expect_sets(conditioning_sets(gp, 6), plain_sets(gp, 6), "no noise")
  gp <- problem("matern32", 5, lengthscale = runif(5, 0.3, 1))
  expect_sets(conditioning_sets(gp, 9, 0.05), plain_sets(gp, 9, 0.05), "d = 5")
})

test_that("sets are those of the definition: queries, new inputs, all other points, pools of any size", {
  on_one_thread()
  set.seed(2)
  gp <- problem("matern32", 2)
  queries <- c(100, 3, 57, 1, 100)
  expect_sets(conditioning_sets(gp, 5, 0.1, queries = queries), plain_sets(gp, 5, 0.1, queries = queries), "queries")
  expect_sets(conditioning_sets(gp, 5, 0.1, predecessors = FALSE), plain_sets(gp, 5, 0.1, predecessors = FALSE), "all")
  new <- rbind(matrix(runif(40), 20), gp$x[5, ], gp$inducing[1, ])
  noise <- runif(120, 0.01, 0.2)
  expect_sets(conditioning_sets(gp, 5, noise, newdata = new), plain_sets(gp, 5, noise, newdata = new), "new")
  for (pool in c(5, 6, 40, 1000)) {
    expect_sets(conditioning_sets(gp, 5, 0.1, pool = pool), plain_sets(gp, 5, 0.1, pool = pool), paste("pool", pool))
  }
  one <- residual_gp(seq(0, 1, length.out = 30), gp_kernel("rbf", 1, 0.1), inducing = 3, seed = 1)
  expect_sets(conditioning_sets(one, 4, 0.01), plain_sets(one, 4, 0.01), "one column")
})

test_that("sets for several noises are those for each", {
  on_one_thread()
  set.seed(12)
  gp <- residual_gp(matrix(runif(600), 300), gp_kernel("matern32", 1, 0.2), inducing = 15, seed = 1)
  settings <- list(neighbours = "selected", k = 6, threads = 1L)
  noises <- list(runif(300, 0, 0.3), 1e-6, 2)
  found <- neighbours_of_each(gp, noises, settings)
  expect_identical(found, lapply(noises, function(noise) neighbours_of(gp, noise, settings)))
  pool <- residual_knn(residual_gp(gp$x, gp$kernel, 0), 18, predecessors = TRUE, progress = FALSE)
  expect_identical(found[[1]], conditioning_sets(gp, 6, noises[[1]], pool = pool, predecessors = TRUE)$id)
  expect_false(identical(found[[1]], found[[3]]))
})

test_that("a pool too wide for all its covariances gives the same sets", {
  set.seed(3)
  gp <- problem("matern32", 2, n = 900)
  queries <- c(890, 899, 2, 500)
  sets <- conditioning_sets(gp, 4, 0.1, pool = 890, queries = queries)
  expect_sets(sets, plain_sets(gp, 4, 0.1, pool = 890, queries = queries), "wide")
  expect_identical(conditioning_sets(gp, 250, 0.1, pool = 890, queries = queries)$id[, 1:4], sets$id)
})

test_that("the first of a set explains most, and each set beats as many nearest points", {
  set.seed(4)
  gp <- problem("matern12", 2, n = 300)
  gp$nugget <- 0.1
  sets <- conditioning_sets(gp, 8, 0.1, predecessors = FALSE)
  expect_identical(sets$id[, 1], residual_knn(gp, 1, predecessors = FALSE)$id[, 1])
  nearest <- conditioning_sets(gp, 8, 0.1, predecessors = FALSE, pool = residual_knn(gp, 8))
  expect_true(all(sets$variance <= nearest$variance * (1 + 1e-9)))
  expect_lt(mean(sets$variance), mean(nearest$variance))
})

test_that("duplicates: without noise a copy is taken once, with noise it counts again", {
  set.seed(5)
  x <- matrix(runif(60), 30)[rep(1:30, 3), ]
  gp <- residual_gp(x, gp_kernel("matern32", 1, 0.3), inducing = 5, seed = 1)
  sets <- conditioning_sets(gp, 12, pool = 90)
  group <- matrix((sets$id - 1) %% 30, nrow(x))
  for (i in seq_len(90)) expect_false(anyDuplicated(group[i, !is.na(group[i, ])]) > 0)
  expect_true(all(sets$variance[31:90] == 0))
  expect_true(all(sets$variance[2:30] > 0))
  expect_equal(sum(is.na(conditioning_sets(gp, 40, pool = 1000)$id[90, ])), 10)
  expect_true(all(conditioning_sets(gp, 12, newdata = x[1:3, ])$variance == 0))
  noisy <- conditioning_sets(gp, 12, 0.1)
  expect_true(all(noisy$variance[31:90] > 0))
  expect_sets(noisy, plain_sets(gp, 12, 0.1), "copies")
  # copies are worth the same: the lower row is taken first
  last <- noisy$id[90, ]
  expect_identical(last[1:2], c(30L, 60L))
})

test_that("points at inducing inputs without noise are never taken", {
  set.seed(6)
  x <- matrix(runif(80), 40)
  gp <- residual_gp(x, gp_kernel("matern32", 1, 0.3), inducing = x[1:10, ], jitter = 0)
  gone <- which(gp$variance <= 1e-10)
  expect_gt(length(gone), 0)
  sets <- conditioning_sets(gp, 5)
  expect_false(any(sets$id %in% gone))
  expect_sets(sets, plain_sets(gp, 5), "vanished")
  expect_true(all(conditioning_sets(gp, 5, newdata = x[gone, ])$variance == 0))
})

test_that("a query that the points given leave nothing of, and rows with fewer candidates", {
  gp <- residual_gp(matrix(runif(20), 10), gp_kernel("matern32", 1, 0.3), inducing = 2, seed = 1)
  sets <- conditioning_sets(gp, 12, 0.1)
  expect_identical(rowSums(!is.na(sets$id)), as.numeric(0:9))
  expect_equal(unname(sets$variance[1]), gp$variance[1])
  expect_identical(is.na(sets$id), is.na(sets$dist))
  # by definition, for a single point too
  one <- residual_gp(matrix(0.5), gp_kernel("matern32", 1, 0.3), inducing = 0)
  expect_true(all(is.na(conditioning_sets(one, 2)$id)))
  expect_identical(unname(conditioning_sets(one, 2, newdata = matrix(0.4))$id), matrix(c(1L, NA), 1))
})

test_that("the answer does not depend on threads, chunks or company", {
  set.seed(7)
  gp <- problem("matern32", 2, n = 700)
  sets <- conditioning_sets(gp, 10, 0.1, threads = 1)
  parts <- c("id", "dist", "variance")
  for (threads in c(2, 7)) expect_identical(conditioning_sets(gp, 10, 0.1, threads = threads)[parts], sets[parts])
  some <- conditioning_sets(gp, 10, 0.1, queries = c(700, 20, 333))
  expect_identical(some$id, sets$id[c(700, 20, 333), ])
  expect_identical(some$variance, sets$variance[c(700, 20, 333)])
  new <- matrix(runif(200), 100)
  whole <- conditioning_sets(gp, 10, 0.1, newdata = new)
  pieces <- select_chunks(gp, rep(0.1, 700), pool_source(gp, rep(0.1, 700), FALSE, NA_integer_), 40, 10L, new, NULL, FALSE,
                          NA_integer_, FALSE, rows = 30)
  expect_identical(unname(pieces$id), unname(whole$id))
  expect_identical(pieces$variance, unname(whole$variance))
  for (nugget in c(0.1, 0)) {
    tree <- cover_tree(residual_gp(gp$x, gp$kernel, gp$inducing, nugget = nugget))
    expect_identical(conditioning_sets(tree, 10, 0.1)[parts], sets[parts])
  }
})

test_that("distances are those of the residual process without noise", {
  set.seed(8)
  gp <- problem("matern32", 2)
  sets <- conditioning_sets(gp, 5, 0.1)
  rho <- residual_correlation(gp)
  expect_equal(sets$dist^2, matrix(1 - abs(rho[cbind(c(row(sets$id)), c(sets$id))]), 120), tolerance = 1e-10)
})

test_that("sets serve wherever neighbours do", {
  set.seed(9)
  gp <- problem("matern32", 2)
  y <- rnorm(120)
  sets <- conditioning_sets(gp, 5, 0.1)
  expect_s3_class(sets, c("conditioning_sets", "residual_knn"), exact = TRUE)
  table <- as_nnarray(sets)
  expect_identical(table, cbind(1:120, unname(sets$id)))
  expect_identical(vif_factor(gp, sets, 0.1), vif_factor(gp, table, 0.1))
  expect_identical(vif_loglik(y, gp, sets, 0.1), vif_loglik(y, gp, table, 0.1))
  expect_equal(vif_factor(gp, sets, 0.1)$D, unname(sets$variance) + 0.1)
  all <- conditioning_sets(gp, 5, 0.1, predecessors = FALSE)
  expect_identical(as_nn2(all), list(nn.idx = all$id, nn.dists = all$dist))
  expect_identical(as_get_knn(all), list(nn.index = all$id, nn.dist = all$dist))
  expect_error(vif_factor(gp, all, 0.1), "predecessors = TRUE")
  expect_output(print(sets), "<conditioning_sets> k = 5 for 120 points, among predecessors\nselected from 20 candidates")
  expect_output(print(summary(sets)), "residual variance left")
  picture <- tempfile(fileext = ".pdf")
  grDevices::pdf(picture)
  plot(sets, query = 100)
  grDevices::dev.off()
  expect_gt(file.size(picture), 1000)
  named <- gp
  rownames(named$x) <- paste0("p", 1:120)
  expect_identical(rownames(conditioning_sets(named, 3)$id), rownames(named$x))
})

test_that("pools of one's own", {
  set.seed(10)
  gp <- problem("matern32", 2)
  pool <- residual_knn(gp, 20, predecessors = TRUE)
  sets <- conditioning_sets(gp, 5, 0.1, pool = pool)
  expect_true(all(vapply(1:120, function(i) all(sets$id[i, ] %in% c(NA, pool$id[i, ])), NA)))
  # a list counts as one pool, and what is no candidate is left out
  everyone <- residual_knn(gp, 119)
  wide <- conditioning_sets(gp, 5, 0.1, pool = list(pool, everyone))
  expect_identical(wide$id, conditioning_sets(gp, 5, 0.1, pool = 1000)$id)
  other <- residual_gp(matrix(runif(240), 120), gp$kernel, inducing = 5, seed = 1)
  expect_error(conditioning_sets(gp, 5, pool = residual_knn(other, 20)), "`pool` must be of the inputs of `object`")
  expect_error(conditioning_sets(gp, 5, pool = residual_knn(gp, 20, queries = 1:3)), "`pool` must be for the same queries")
  expect_error(conditioning_sets(gp, 5, pool = residual_knn(gp, 4)), "`pool` must be of at least `k` = 5 candidates, not of 4")
})

test_that("bad arguments are refused by name", {
  gp <- problem("matern32", 2)
  expect_error(conditioning_sets(1, 5), "`object` must be a residual_gp or cover_tree object")
  expect_error(conditioning_sets(gp, 0), "`k` must be a whole number of at least 1, not 0")
  expect_error(conditioning_sets(gp, 5, pool = 4), "`pool` must be a whole number of at least `k` = 5, not 4")
  expect_error(conditioning_sets(gp, 5, pool = "all"), "`pool` must be a whole number of at least `k` = 5 or results of")
  expect_error(conditioning_sets(gp, 5, pool = NA_real_), "`pool`")
  expect_error(conditioning_sets(gp, 5, nugget = -1), "`nugget` must be at least 0, not -1")
  expect_error(conditioning_sets(gp, 5, nugget = c(rep(0, 119), -2)), "`nugget` must be at least 0, not -2 .position 120.")
  expect_error(conditioning_sets(gp, 5, nugget = c(0.1, 0.2)), "`nugget` must be a number or numeric of length 120")
  expect_error(conditioning_sets(gp, 5, nugget = NA_real_), "`nugget` must be finite")
  expect_error(conditioning_sets(gp, 5, nugget = "a"), "`nugget`")
  expect_error(conditioning_sets(gp, 5, newdata = matrix(0, 2, 3)), "`newdata` must be of 2 columns")
  expect_error(conditioning_sets(gp, 5, newdata = matrix(NA_real_, 2, 2)), "`newdata` must be finite")
  expect_error(conditioning_sets(gp, 5, newdata = gp$x, predecessors = TRUE), "`predecessors` must be FALSE with `newdata`")
  expect_error(conditioning_sets(gp, 5, newdata = gp$x, queries = 1), "`queries` must be NULL with `newdata`")
  expect_error(conditioning_sets(gp, 5, queries = 121), "`queries` must be row numbers from 1 to 120")
  own <- residual_process(gp$x, gp$kernel, gp$V, gp$variance)
  expect_error(conditioning_sets(own, 5, newdata = gp$x), "`newdata` must be NULL for a residual_process")
  expect_identical(conditioning_sets(own, 5, 0.1)$id, conditioning_sets(gp, 5, 0.1)$id)
})

test_that("sets of a process without features are those of the whole process", {
  set.seed(12)
  x <- matrix(runif(1200), 600)
  x <- rbind(x, x[1:20, ])
  for (kernel in list(gp_kernel("matern32", 1, 0.2), gp_kernel("rbf", 1e40, c(0.3, 0.1)))) {
    gp <- residual_gp(x, kernel, inducing = 15, seed = 1)
    pool <- residual_knn(euclidean_process(gp, NA_integer_), 25, predecessors = TRUE, progress = FALSE)$id
    noise <- list(rep(0.1 * kernel$variance, 620), runif(620) * kernel$variance)
    sets <- function(process, queries = NULL, memory = NULL) {
      own <- if (is.null(queries)) pool else pool[queries, , drop = FALSE]
      .Call(C_selected_sets, process, noise, list(unname(own)), 9L, queries, memory, 2L)
    }
    memory <- vif_memory()
    expect_identical(sets(featureless(x, gp), NULL, memory), sets(gp))
    expect_identical(sets(featureless(x, gp), c(600L, 3L), memory), sets(gp, c(600L, 3L)))
    expect_identical(sets(featureless(x, gp)), sets(gp))
  }
})
