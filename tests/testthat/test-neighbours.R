# One search in every mode. Problems of one table share few calls, so that the grid stays fast.
expect_all_modes <- function(gp, k, label) {
  n <- nrow(gp$x)
  new <- rbind(gp$x[c(1, n), , drop = FALSE], inputs("uniform", 7, ncol(gp$x)))
  expect_search(gp, k, label = paste(label, "all"))
  expect_search(gp, k, predecessors = TRUE, label = paste(label, "predecessors"))
  expect_search(gp, k, queries = c(n, 1, 1, ceiling(n / 2)), label = paste(label, "queries"))
  expect_search(gp, k, queries = c(n, 1), predecessors = TRUE, label = paste(label, "both"))
  expect_search(gp, k, newdata = new, label = paste(label, "newdata"))
}

test_that("neighbours are the oracle's over kernels, dimensions, m and k", {
  on_one_thread()
  set.seed(1)
  for (family in kernel_families()) for (d in c(1, 2, 3, 5, 10)) for (m in c(0, 3, 40)) {
    kernel <- gp_kernel(family, 2, if (d == 3) c(0.2, 0.5, 2) else 0.15 * d, if (family == "matern") 0.9)
    gp <- residual_gp(inputs("uniform", 131, d), kernel, inducing = m, seed = 1)
    expect_all_modes(gp, sample(c(1, 7, 30), 1), paste(family, "d", d, "m", m))
  }
})

test_that("neighbours are the oracle's for duplicates, grids and clusters, with and without nugget", {
  on_one_thread()
  set.seed(2)
  for (kind in c("duplicates", "grid", "clusters")) for (family in c("matern12", "matern32", "rbf")) {
    for (d in c(1, 2, 5)) for (nugget in c(0, 0.3)) for (m in c(0, 9)) {
      gp <- residual_gp(inputs(kind, 100, d), gp_kernel(family, 1, 0.2 * d), inducing = m, nugget = nugget,
                        selection = if (kind == "clusters") "kmeans++" else "random", seed = 1)
      expect_all_modes(gp, 12, paste(kind, family, "d", d, "nugget", nugget, "m", m))
    }
  }
})

test_that("the comparison with the oracle sees every kind of fault", {
  gp <- residual_gp(inputs("grid", 49, 2), gp_kernel(lengthscale = 0.4), inducing = 0)
  nn <- residual_knn(gp, 5, predecessors = TRUE)
  oracle <- oracle_search(gp, 5, predecessors = TRUE)
  expect_success(expect_neighbours(nn, oracle))
  tie <- which(nn$dist[, 1] == nn$dist[, 2])[1]
  faults <- list(
    distance = function(nn) { nn$dist <- nn$dist * (1 + 1e-7); nn }, # single precision
    distance = function(nn) { nn$id[40, 5] <- 1L; nn$dist[40, 5] <- sqrt(1 - abs(oracle$rho[40, 1])); nn },
    claim = function(nn) { nn$id[40, 5] <- 1L; nn },
    self = function(nn) { nn$id[40, 1] <- 40L; nn$dist[40, 1] <- 0; nn },
    late = function(nn) { nn$id[40, 5] <- 41L; nn },
    twice = function(nn) { nn$id[40, 2] <- nn$id[40, 1]; nn },
    missing = function(nn) { nn$id[40, 5] <- NA; nn$dist[40, 5] <- NA; nn },
    ties = function(nn) { nn$id[tie, 1:2] <- nn$id[tie, 2:1]; nn },
    order = function(nn) { nn$id[40, ] <- rev(nn$id[40, ]); nn$dist[40, ] <- rev(nn$dist[40, ]); nn }
  )
  for (f in seq_along(faults)) {
    expect_failure(expect_neighbours(faults[[f]](nn), oracle), paste0("fault of .*", names(faults)[f]))
  }
})

test_that("more neighbours than candidates are filled with NA", {
  on_one_thread()
  for (n in c(1, 2, 5, 33, 64, 65)) {
    gp <- residual_gp(inputs("uniform", n, 2), gp_kernel(), inducing = min(n - 1, 2), seed = 1)
    for (k in c(n, n + 1, 3 * n)) expect_all_modes(gp, k, paste("n", n, "k", k))
  }
})

test_that("the residual process of an ill-conditioned kernel is searched right", {
  set.seed(5)
  gp <- residual_gp(inputs("uniform", 200, 2), gp_kernel("rbf", lengthscale = 0.8), inducing = 40, seed = 1)
  expect_lt(stats::median(gp$variance), 1e-5)
  expect_all_modes(gp, 10, "rbf")
})

test_that("many points, tiles and threads give one answer", {
  set.seed(6)
  x <- inputs("uniform", 1500, 2)[c(1:1500, 1:50), ]
  gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.1), inducing = 130, seed = 1)
  for (method in methods_to_test) {
    one <- residual_knn(gp, 25, method = method, threads = 1)
    same <- c("id", "dist")
    expect_identical(residual_knn(gp, 25, method = method, threads = 2)[same], one[same], label = method)
    expect_identical(residual_knn(gp, 25, method = method, threads = 3)[same], one[same], label = method)
    # Any batch of queries gives the rows of the whole.
    some <- sample(1550, 77)
    expect_identical(residual_knn(gp, 25, queries = some, method = method)$id, one$id[some, ], label = method)
  }
  expect_search(gp, 25, label = "1550 points")
  expect_search(gp, 25, predecessors = TRUE, label = "1550 points, predecessors")
})

test_that("problems large enough to skip points are searched right", {
  on_one_thread()
  set.seed(7)
  for (family in c("matern12", "matern32", "matern52", "rbf")) for (d in c(1, 2, 5)) {
    kind <- sample(c("uniform", "duplicates", "clusters"), 1)
    gp <- residual_gp(inputs(kind, 700, d), gp_kernel(family, lengthscale = 0.1 * d), inducing = 50,
                      selection = "random", seed = 1)
    expect_search(gp, 15, label = paste(kind, family, "d", d))
    expect_search(gp, 15, predecessors = TRUE, label = paste(kind, family, "d", d, "predecessors"))
    expect_search(gp, 15, newdata = inputs("uniform", 100, d), label = paste(kind, family, "d", d, "newdata"))
  }
})

test_that("answers stand where they belong for every k, with missing ones and predecessors", {
  set.seed(17)
  few <- residual_gp(inputs("uniform", 37, 2), gp_kernel("matern32", lengthscale = 0.3), inducing = 5, seed = 1)
  exact <- oracle_search(few, 60, predecessors = TRUE)
  for (k in c(1:36, 59, 60)) { # more than 36 there are not
    nn <- residual_knn(few, k, predecessors = TRUE)
    expect_identical(nn$id, exact$id[, seq_len(k), drop = FALSE], label = paste("k", k))
    expect_equal(nn$dist, exact$dist[, seq_len(k), drop = FALSE], tolerance = 1e-9, label = paste("k", k))
  }
  many <- residual_gp(inputs("uniform", 2500, 2), gp_kernel("matern32", lengthscale = 0.1), inducing = 20, seed = 1)
  tree <- cover_tree(many)
  all <- residual_knn(many, 51, method = "brute")
  for (k in c(1, 8, 9, 15, 17, 30, 33, 50)) for (method in c("level", "best_first")) {
    nn <- residual_knn(tree, k, method = method, threads = 2)
    expect_identical(nn$id, all$id[, seq_len(k), drop = FALSE], label = paste(method, "k", k))
    expect_identical(nn$dist, all$dist[, seq_len(k), drop = FALSE], label = paste(method, "k", k))
  }
})

test_that("duplicates are each other's neighbours and never their own", {
  gp <- residual_gp(cbind(c(3, 1, 1, 1, 2), 0), gp_kernel(), inducing = matrix(c(0, 0), 1))
  nn <- residual_knn(gp, k = 2)
  expect_identical(nn$id[2:4, ], rbind(3:4, c(2L, 4L), 2:3))
  expect_equal(nn$dist[2:4, ], matrix(0, 3, 2), tolerance = 1e-7)
})

test_that("a point whose residual variance is gone is at distance one from all", {
  x <- inputs("uniform", 40, 2)
  gp <- residual_gp(x, gp_kernel(), inducing = x[c(7, 20), ], jitter = 1e-15)
  nn <- residual_knn(gp, k = 39)
  expect_identical(nn$id[7, ], setdiff(1:40, 7L))
  expect_identical(nn$dist[7, ], rep(1, 39))
  expect_identical(unique(nn$dist[nn$id == 7]), 1)
})

test_that("new points are searched in chunks without a change of the answer", {
  gp <- residual_gp(inputs("uniform", 90, 2), gp_kernel(lengthscale = 0.2), inducing = 8, seed = 1)
  new <- inputs("uniform", 23, 2)
  rownames(new) <- paste0("new", 1:23)
  whole <- residual_knn(gp, 4, newdata = new)
  search <- function(new) .Call(C_residual_knn, gp, NULL, 4L, NULL, new, FALSE, "auto", Inf, TRUE, NA_integer_, FALSE)
  parts <- search_chunks(search, gp, new, NA_integer_, rows = 10)
  expect_identical(parts$id, unname(whole$id))
  expect_identical(parts$dist, unname(whole$dist))
  expect_identical(parts$stats[["correlations"]], whole$stats[["correlations"]])
  expect_identical(rownames(whole$id), rownames(new))
})

test_that("a result keeps the names and what was asked", {
  x <- matrix(runif(40), 20, dimnames = list(letters[1:20], NULL))
  nn <- residual_knn(residual_gp(x, gp_kernel(), 3), k = 2, queries = c(5, 2))
  expect_s3_class(nn, "residual_knn")
  expect_identical(rownames(nn$id), c("e", "b"))
  expect_identical(rownames(nn$dist), c("e", "b"))
  expect_identical(nn[c("k", "queries", "predecessors", "budget")],
                   list(k = 2L, queries = c(5L, 2L), predecessors = FALSE, budget = Inf))
})

test_that("an own residual process is searched", {
  gp <- residual_gp(inputs("uniform", 80, 2), gp_kernel(lengthscale = 0.2), inducing = 10, seed = 1)
  own <- residual_process(gp$x, gp$kernel, gp$V, gp$variance)
  expect_identical(residual_knn(own, 5)$id, residual_knn(gp, 5)$id)
  expect_error(residual_knn(own, 5, newdata = gp$x), "^residual_knn\\(\\): `newdata` must be NULL for a residual_process")
})

test_that("objects and results survive a file", {
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  gp <- residual_gp(inputs("uniform", 50, 2), gp_kernel(), inducing = 5, seed = 1)
  nn <- residual_knn(gp, 4)
  saveRDS(list(gp, nn), file)
  back <- readRDS(file)
  expect_identical(back, list(gp, nn))
  expect_identical(residual_knn(back[[1]], 4), nn)
})

test_that("recall counts the exact neighbours, ties either way", {
  gp <- residual_gp(cbind(rep(1:10, each = 3)), gp_kernel(), inducing = 0)
  exact <- residual_knn(gp, k = 3)
  expect_identical(recall(exact, exact), 1)
  tied <- exact
  tied$id[1, 3] <- exact$id[1, 3] + 1L # another point at the same distance
  as_found <- function(nn) sealed_neighbours(unclass(nn), "residual_knn")
  expect_identical(recall(as_found(tied), exact), 1)
  worse <- exact
  worse$dist[1:10, 3] <- 1
  expect_equal(recall(as_found(worse), exact), 1 - 10 / 90)
  early <- residual_knn(gp, k = 3, predecessors = TRUE)
  expect_identical(recall(early, early), 1)
  expect_error(recall(residual_knn(gp, k = 2), exact), "^recall\\(\\): `nn` must be for the queries and the k of `exact`")
  expect_error(recall(exact$id, exact), "`nn` must be a residual_knn object")
})

test_that("a result prints what was searched, and how", {
  gp <- residual_gp(inputs("uniform", 50, 2), gp_kernel(), inducing = 5, seed = 1)
  nn <- residual_knn(gp, k = 4, predecessors = TRUE, method = "brute")
  expect_output(print(nn), "k = 4 for 50 points, among predecessors\nexact, method \"brute\"")
  expect_output(print(nn), "NA fills 4 rows")
  expect_output(print(residual_knn(gp, k = 4, newdata = gp$x[1, , drop = FALSE])), "1 new point among 50 points")
  nn <- residual_knn(gp, k = 4, predecessors = TRUE, budget = 100)
  expect_output(print(nn), "approximate: at most 100 correlations")
  expect_output(print(summary(nn)), "neighbour 4.*counters:.*correlations")
  expect_named(summary(nn)$per_query, names(nn$stats))
})

test_that("bad arguments are refused by name", {
  gp <- residual_gp(inputs("uniform", 20, 2), gp_kernel(), inducing = 3, seed = 1)
  refused <- function(pattern, ...) {
    expect_error(residual_knn(gp, ...), paste0("^residual_knn\\(\\): ", pattern))
  }
  for (k in list(0, -1, 1.5, NA, Inf, "a", 1:2, NULL)) refused("`k` must be a whole number of at least 1, not ", k = k)
  refused("`queries` must be row numbers from 1 to 20, not 21 \\(position 2\\)", k = 1, queries = c(1, 21))
  for (queries in list(0, -1, 1.5, NA_real_, "a", integer(), TRUE)) refused("`queries` must be", k = 1, queries = queries)
  refused("`predecessors` must be TRUE or FALSE, not NA", k = 1, predecessors = NA)
  refused('`method` must be one of "auto", "level", "best_first", "brute", not "fast"', k = 1, method = "fast")
  for (budget in list(0, -1, NA, "a")) refused("`budget` must be a number of at least 1", k = 1, budget = budget)
  refused("`threads` must be a whole number of at least 1, not 1.5", k = 1, threads = 1.5)
  refused("`progress` must be TRUE or FALSE", k = 1, progress = "yes")
  refused("`queries` must be NULL with `newdata`, not 1", k = 1, newdata = gp$x, queries = 1)
  refused("`predecessors` must be FALSE with `newdata`, not TRUE", k = 1, newdata = gp$x, predecessors = TRUE)
  refused("`newdata` must be of 2 columns as `x` is, not of 3", k = 1, newdata = matrix(0, 1, 3))
  refused("`newdata` must be finite everywhere, not NA", k = 1, newdata = cbind(1, NA))
  refused("`newdata` must be of one row or more", k = 1, newdata = gp$x[0, ])
  expect_error(residual_knn(gp$x, k = 1), "`object` must be a residual_gp or cover_tree object")
})

test_that("an interrupt stops a long search soon, and the session goes on", {
  skip_on_cran()
  skip_on_os("windows")
  script <- tempfile(fileext = ".R")
  ready <- tempfile()
  on.exit(unlink(c(script, ready)))
  writeLines(c(
    "library(vecchiann)",
    "gp <- residual_gp(matrix(runif(4e5), ncol = 2), gp_kernel(lengthscale = 0.1), inducing = 50)",
    "small <- residual_gp(gp$x[1:50, ], gp_kernel(), inducing = 5)",
    "invisible(residual_knn(small, 3))",
    sprintf("writeLines(as.character(Sys.getpid()), %s)", deparse(ready)),
    "now <- function(condition) sprintf('%.3f', as.numeric(Sys.time()))",
    "stopped <- tryCatch(residual_knn(gp, 30, method = 'brute'), interrupt = now)",
    "cat(stopped, nrow(residual_knn(small, 3)$id), sep = '\\n')"
  ), script)
  output <- tempfile()
  rscript <- file.path(R.home("bin"), "Rscript")
  system2(rscript, c("--vanilla", script), stdout = output, stderr = output, wait = FALSE,
          env = paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep)))
  wait_for <- function(file, lines, seconds = 30) {
    until <- Sys.time() + seconds
    while (Sys.time() < until) {
      if (file.exists(file) && length(readLines(file, warn = FALSE)) >= lines) return(TRUE)
      Sys.sleep(0.05)
    }
    FALSE
  }
  expect_true(wait_for(ready, 1))
  Sys.sleep(0.5)
  sent <- as.numeric(Sys.time())
  tools::pskill(as.integer(readLines(ready)), tools::SIGINT)
  expect_true(wait_for(output, 2, 5))
  answer <- as.numeric(utils::tail(readLines(output), 2)) # R writes an empty line for the interrupt
  expect_lt(answer[1] - sent, 0.5)
  expect_identical(answer[2], 50)
})

test_that("the engines agree where residual variances are a millionth of the variance", {
  set.seed(11)
  x <- matrix(rnorm(2 * 4500), ncol = 2)
  gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 1), inducing = x[sample(4500, 120), ])
  expect_lt(stats::median(gp$variance), 1e-5)
  for (predecessors in c(FALSE, TRUE)) {
    brute <- residual_knn(gp, 20, predecessors = predecessors, method = "brute", progress = FALSE)
    for (method in c("level", "best_first", "auto")) {
      nn <- residual_knn(gp, 20, predecessors = predecessors, method = method, progress = FALSE)
      expect_identical(nn$id, brute$id)
      expect_identical(nn$dist, brute$dist)
    }
  }
})

test_that("early points are searched in prefixes, and every engine agrees on them", {
  set.seed(12)
  x <- matrix(runif(2 * 9000), ncol = 2)
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.1), inducing = 60, selection = "random")
  brute <- residual_knn(gp, 10, predecessors = TRUE, method = "brute", progress = FALSE)
  for (method in c("level", "best_first")) {
    nn <- residual_knn(gp, 10, predecessors = TRUE, method = method, progress = FALSE)
    expect_identical(nn[c("id", "dist")], brute[c("id", "dist")])
    expect_lt(nn$stats[["correlations"]], brute$stats[["correlations"]])
  }
  # scratch does not grow with n: neither do the pairs looked at, near enough
  level <- residual_knn(gp, 10, method = "level", progress = FALSE)
  expect_lt(level$stats[["screened"]] / 9000, 0.5 * 9000)
})

test_that("duplicates on inducing inputs are found", {
  set.seed(13)
  x <- matrix(runif(10 * 500), ncol = 10)[sample(500, 1500, TRUE), ]
  gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.3), inducing = unique(x)[1:100, ])
  brute <- residual_knn(gp, 5, method = "brute", progress = FALSE)
  for (method in c("level", "best_first")) {
    expect_identical(residual_knn(gp, 5, method = method, progress = FALSE)$id, brute$id)
  }
})

test_that("duplicates are exactly 0 apart, and found by every engine, where rounding is larger than other distances", {
  set.seed(1)
  x <- matrix(runif(3000))[rep(1:3000, 2), , drop = FALSE]
  gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.05), inducing = 40, seed = 1)
  expect_lt(min(gp$variance), 1e-6)
  brute <- residual_knn(gp, 1, method = "brute", progress = FALSE)
  expect_identical(max(brute$dist), 0)
  for (method in c("level", "best_first")) {
    expect_identical(residual_knn(gp, 1, method = method, progress = FALSE)[c("id", "dist")], brute[c("id", "dist")], label = method)
  }
})

test_that("the general Matern kernel, ten dimensions and an own process are searched right", {
  set.seed(15)
  kernel <- gp_kernel("matern", lengthscale = 0.6, smoothness = 1.2)
  gp <- residual_gp(inputs("clusters", 500, 10), kernel, inducing = 40, nugget = 0.01, seed = 1)
  own <- residual_process(gp$x, kernel, gp$V, gp$variance, nugget = 0.01)
  for (object in list(gp, own, cover_tree(own))) {
    expect_search(object, 8, label = "hard")
    expect_search(object, 8, predecessors = TRUE, label = "hard, predecessors")
  }
})

test_that("every search counts what it does", {
  set.seed(16)
  gp <- residual_gp(inputs("uniform", 1500, 2), gp_kernel(lengthscale = 0.1), inducing = 30, seed = 1)
  for (method in methods_to_test) {
    stats <- residual_knn(gp, 5, method = method)$stats
    expect_named(stats, c("nodes", "bounds", "pruned", "screened", "correlations"))
    expect_gte(stats[["correlations"]], 5 * 1500)
    expect_lte(stats[["pruned"]], stats[["bounds"]])
    if (method %in% c("level", "best_first")) expect_gt(stats[["nodes"]], 0)
  }
  auto <- residual_knn(gp, 5)
  expect_output(print(auto), "(auto: ", fixed = TRUE)
  expect_output(print(summary(auto)), "(auto: ", fixed = TRUE)
})

test_that("a budget makes the search approximate, and more of it better", {
  set.seed(14)
  x <- matrix(runif(2 * 3000), ncol = 2)
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.1), inducing = 50, selection = "random")
  exact <- residual_knn(gp, 10, progress = FALSE)
  found <- lapply(c(50, 300, 1000), function(budget) residual_knn(gp, 10, budget = budget, progress = FALSE))
  recalls <- vapply(found, recall, 0, exact = exact)
  expect_false(is.unsorted(recalls))
  expect_gt(recalls[1], 0.8)
  expect_gt(recalls[2], 0.99)
  for (nn in found) expect_lte(nn$stats[["correlations"]] / 3000, nn$budget)
  expect_output(print(found[[1]]), "approximate")
})

test_that("a budget of all candidates and more is exact, and is never exceeded", {
  set.seed(44)
  for (n in c(1, 2, 40, 300)) {
    gp <- residual_gp(inputs("uniform", n, 2), gp_kernel(lengthscale = 0.2), inducing = min(n - 1, 3), seed = 1)
    for (budget in c(1, 7, n, 1e300)) for (predecessors in c(FALSE, TRUE)) {
      nn <- residual_knn(gp, 5, budget = budget, predecessors = predecessors)
      expect_lte(nn$stats[["correlations"]] / n, budget)
      if (budget >= n) expect_identical(nn$id, residual_knn(gp, 5, predecessors = predecessors, method = "brute")$id)
    }
  }
})

test_that("best-first search of one point looks at few others, on inducing inputs too", {
  set.seed(17)
  x <- inputs("uniform", 6000, 2)
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.05), inducing = x[1:100, ])
  tree <- cover_tree(gp)
  for (query in c(1, 100, 3000, 6000)) {
    nn <- residual_knn(tree, 10, queries = query, method = "best_first")
    expect_identical(nn[c("id", "dist")], residual_knn(tree, 10, queries = query, method = "brute")[c("id", "dist")])
    expect_lt(nn$stats[["correlations"]], 600)
  }
  plain <- residual_knn(residual_gp(x, gp$kernel, inducing = 0), 10, method = "best_first")
  expect_lt(plain$stats[["correlations"]] / 6000, 60)
})

test_that("best-first search skips where features are all that is known, and goes by tiles where nothing can be skipped", {
  set.seed(18)
  x <- cbind(runif(6000))
  gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.005), inducing = 20, selection = "random")
  own <- residual_process(x, gp$kernel, gp$V, gp$variance, nugget = 0.001)
  brute <- residual_knn(own, 10, method = "brute")
  angles <- residual_knn(own, 10, method = "best_first")
  expect_identical(angles[c("id", "dist")], brute[c("id", "dist")])
  expect_lt(angles$stats[["correlations"]], brute$stats[["correlations"]] / 2)
  rough <- residual_gp(inputs("uniform", 4000, 5), gp_kernel("matern52", lengthscale = 2.24), inducing = 100, seed = 1)
  expect_match(residual_knn(rough, 10, queries = 1:20, method = "best_first")$note, "brute force")
})

test_that("points far from all others, correlated with none, have the lowest rows for neighbours", {
  set.seed(19)
  for (d in 1:3) {
    x <- matrix(rt(6000 * d, 2), ncol = d) # heavy tails
    for (m in c(0, 40)) {
      gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.05), inducing = x[seq_len(m), , drop = FALSE])
      tree <- cover_tree(gp)
      for (predecessors in c(FALSE, TRUE)) {
        brute <- residual_knn(gp, 10, predecessors = predecessors, method = "brute")
        expect_identical(residual_knn(tree, 10, predecessors = predecessors, method = "level")[c("id", "dist")],
                         brute[c("id", "dist")])
      }
    }
  }
  expect_true(any(brute$dist == 1, na.rm = TRUE))
})

test_that("a k far beyond the candidates takes no memory but that of the answer", {
  on_one_thread()
  set.seed(20)
  gp <- residual_gp(inputs("uniform", 3000, 2), gp_kernel("matern32", lengthscale = 0.1), inducing = 30, seed = 1)
  all <- residual_knn(gp, 2999, queries = c(5, 700), method = "brute")
  for (method in methods_to_test) {
    nn <- residual_knn(gp, 40000, queries = c(5, 700), method = method)
    expect_identical(nn$id[, 1:2999], all$id, label = method)
    expect_true(all(is.na(nn$id[, 3000:40000]), is.na(nn$dist[, 3000:40000])), label = method)
  }
})

test_that("neighbours do not depend on the variance", {
  on_one_thread()
  set.seed(21)
  x <- inputs("uniform", 2500, 2)
  new <- inputs("uniform", 100, 2)
  for (nugget in c(0, 0.1)) for (lengthscale in c(0.02, 0.2)) {
    processes <- lapply(c(1, 1e150, 1e-150, 1e300, 1e-300, 1e25), function(variance) {
      residual_gp(x, gp_kernel("matern32", variance, lengthscale), inducing = 40, nugget = nugget * variance, seed = 1)
    })
    one <- processes[[1]]
    for (gp in processes[-1]) for (method in methods_to_test) for (object in list(gp, cover_tree(gp))) {
      label <- paste(method, gp$kernel$variance, nugget, lengthscale)
      expect_identical(residual_knn(object, 10, method = method)$id, residual_knn(one, 10, method = method)$id, label = label)
      nn <- residual_knn(object, 10, newdata = new, method = method)
      expect_identical(nn$id, residual_knn(one, 10, newdata = new, method = method)$id, label = label)
      expect_equal(nn$dist, residual_knn(one, 10, newdata = new, method = method)$dist, tolerance = 1e-9, label = label)
    }
  }
})

test_that("ids alone are those that come with distances, for rows of one part and of several", {
  set.seed(12)
  gp <- residual_gp(matrix(runif(600), 300), gp_kernel("matern32", 1, 0.3), inducing = 10)
  for (k in c(1L, 7L, 16L, 17L, 40L)) {
    found <- residual_knn(gp, k, predecessors = TRUE, progress = FALSE)
    expect_identical(nearest_ids(gp, k, predecessors = TRUE), unname(found$id))
  }
})
