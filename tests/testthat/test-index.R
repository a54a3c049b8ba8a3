# The index that a tree keeps, and what becomes of an answer when one of its bounds is broken on purpose.

skip_on_cran() # problems of up to 36,000 points; the answers of every search are tested elsewhere, too

expect_same_search <- function(tree, ...) {
  brute <- residual_knn(tree, 15, ..., method = "brute")
  expect_identical(residual_knn(tree, 15, ..., method = "level")[c("id", "dist")], brute[c("id", "dist")])
}

# The oracle comparison fails: some neighbours are missed.
expect_wrong_search <- function(tree, label, method = "level", ...) {
  brute <- residual_knn(tree, 15, ..., method = "brute")
  expect_lt(recall(residual_knn(tree, 15, ..., method = method), brute), 1, label = label)
}

plane <- function(n, family = "matern32", lengthscale = 0.05, m = 100, ...) {
  x <- inputs("uniform", n, 2)
  residual_gp(x, gp_kernel(family, lengthscale = lengthscale), inducing = x[seq_len(m), ], ...)
}

test_that("subspaces of landmarks: a tail, an angle or an error too small is seen", {
  set.seed(1)
  tree <- cover_tree(plane(5000, "matern52", 0.1))
  expect_true("subspace.psi" %in% .Call(C_tree_index_fields, tree$gp, tree)$name)
  expect_same_search(tree)
  expect_wrong_search(damaged(tree, "subspace.tail", function(x) 0 * x), "no error of inner products")
  expect_wrong_search(damaged(tree, "subspace.stage_tail", function(x) x - 0.5), "angle of the cell too small")
  first <- function(x) x * (seq_along(x) %% 6 != 1) # of six stages a cell
  expect_wrong_search(damaged(tree, "subspace.stage_tail", first), "angle to the first landmarks too small")
  expect_wrong_search(damaged(tree, "subspace.psi", function(x) 0.5 * x), "coordinates too small")
})

test_that("cones of cells that are small beside the lengthscale: an opening too small is seen", {
  set.seed(20)
  tree <- cover_tree(plane(12000, lengthscale = 0.5, m = 9))
  expect_identical(index_form(tree), "landmarks")
  expect_same_search(tree)
  expect_same_search(tree, predecessors = TRUE)
  expect_same_search(tree, newdata = inputs("uniform", 3000, 2))
  x <- inputs("uniform", 12000, 1) # queries and axes are far enough from what they are seen in for that to matter
  line <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.4), inducing = x[1:5, , drop = FALSE])
  expect_same_search(cover_tree(line))
  open_to <- function(tree, cosine) {
    damaged(damaged(tree, "axis.sine", function(x) 0 * x + 1 - cosine), "axis.cosine", function(x) 0 * x + cosine)
  }
  expect_wrong_search(open_to(tree, 1), "no opening")
  expect_same_search(open_to(tree, 0))
  correlations <- function(tree) residual_knn(tree, 15, method = "level")$stats[["correlations"]]
  many <- cover_tree(plane(40000, lengthscale = 0.5, m = 9))
  expect_lt(correlations(many), 0.97 * correlations(open_to(many, 0))) # they do skip cells, whose landmarks are not asked then
})

test_that("the expansion bound: a reach, a weight or a gain too small is seen", {
  set.seed(2)
  tree <- cover_tree(plane(20000, lengthscale = 0.03))
  expect_same_search(tree, queries = 1:300 * 60)
  smaller <- function(x) 0.2 * x
  broken <- tree
  for (level in c("groups", "cells", "by_panel")) {
    broken <- damaged(broken, paste0("bound.", level, ".gain"), smaller, 8)
    broken <- damaged(broken, paste0("bound.", level, ".reach"), smaller)
  }
  expect_wrong_search(broken, "reach and gain", queries = 1:300 * 60)
  expect_wrong_search(broken, "reach and gain", "best_first", queries = 1:300 * 60)
  special <- damaged(tree, "bound.special_reach", function(x) ifelse(seq_along(x) %% 7 == 0, 0, x))
  expect_wrong_search(special, "queries on inducing inputs", queries = 1:100)
})

test_that("integers: an error of rounding left out is seen", {
  set.seed(3)
  x <- inputs("uniform", 4000, 5)
  tree <- cover_tree(residual_gp(x, gp_kernel("matern32", lengthscale = 0.5), inducing = 60, seed = 1))
  expect_true("integers.values" %in% .Call(C_tree_index_fields, tree$gp, tree)$name)
  if ("integers.fine" %in% .Call(C_tree_index_fields, tree$gp, tree)$name) { # where there are integers of 8 bits
    broken <- damaged(tree, "integers.fine_step", function(x) 0.8 * x)
    rough <- damaged(tree, "integers.error", function(x) 0 * x)
    for (field in c("integers.norm", "frame.slack", "integers.slack_floor")) {
      rough <- damaged(rough, field, function(x) 0 * x)
    }
  } else { # errors of 16 bits alone are too small to be missed
    broken <- damaged(tree, "integers.step", function(x) 0.8 * x)
    rough <- NULL
  }
  for (queries in list(NULL, 1:2000)) { # all points: blocks meet in pairs; some: they do not
    expect_same_search(tree, queries = queries)
    expect_wrong_search(broken, "features in 16 bits too small", queries = queries)
    if (length(rough)) expect_wrong_search(rough, "no error at all", queries = queries)
  }
})

test_that("blocks meet in pairs, in waves, with few neighbours or many, and where bounds leave little of them", {
  set.seed(9)
  x <- inputs("uniform", 36000, 4)
  tree <- cover_tree(residual_gp(x, gp_kernel("matern12", lengthscale = 0.3), inducing = 32, seed = 1))
  expect_true("integers.values" %in% .Call(C_tree_index_fields, tree$gp, tree)$name)
  expect_gt(ceiling(nrow(x) / 512), 64) # more than meet in one wave
  some <- seq(1, nrow(x), 97)
  for (k in c(1, 70)) {
    nn <- residual_knn(tree, k, method = "level", threads = 2)
    brute <- residual_knn(tree, k, queries = some, method = "brute")
    expect_identical(list(nn$id[some, ], nn$dist[some, ]), list(brute$id[, ], brute$dist[, ]))
    expect_lt(nn$stats[["screened"]], 0.8 * nrow(x)^2) # a product serves two queries
  }
  x <- x[1:6000, 1:3]
  short <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.15), inducing = 16, seed = 1)
  short <- index_tree(unclass(cover_tree(short)), 1, "integers")
  expect_true("integers.values" %in% .Call(C_tree_index_fields, short$gp, short)$name)
  nn <- residual_knn(short, 15, method = "level", threads = 2)
  expect_lt(nn$stats[["screened"]], 0.5 * nrow(x)^2)
  expect_same_search(short)
})

test_that("kernel expansions: exact, and a value or a weight too small is seen", {
  set.seed(16)
  tree <- cover_tree(plane(15000, m = 150))
  expect_identical(index_form(tree), "expansions")
  expect_same_search(tree)
  expect_same_search(tree, predecessors = TRUE)
  expect_same_search(tree, queries = c(1:40, 900:300, 300:305, 15000)) # the first are inducing inputs, some come twice
  expect_same_search(tree, newdata = rbind(tree$gp$x[c(1:20, 5000:5040), ], inputs("uniform", 500, 2)))
  expect_wrong_search(damaged(tree, "terms.kernels", function(x) 0.9 * x), "values at the inducing inputs too small")
  expect_wrong_search(damaged(tree, "terms.weights", function(x) 0.9 * x), "weights too small")
  queries <- 1:150 # on inducing inputs: by their weights
  expect_wrong_search(damaged(tree, "bound.special_reach", function(x) x * (seq_along(x) %% 3 > 0)), "weights lost", queries = queries)
})

test_that("spans of panels: an angle or a coordinate too small is seen", {
  set.seed(17)
  tree <- cover_tree(plane(15000, m = 150))
  expect_identical(index_form(tree), "expansions")
  expect_same_search(tree)
  broken <- damaged(damaged(tree, "spans.sine", function(x) 0 * x), "spans.cosine", function(x) 0 * x + 1)
  expect_wrong_search(broken, "no angle between queries and the span of their panel")
  broken <- damaged(tree, "spans.inverse", function(x) 0.5 * x)
  expect_wrong_search(broken, "coordinates in the span too small")
})

test_that("spans of panels: an error left out of terms that panels do not keep is seen", {
  set.seed(21)
  sites <- inputs("uniform", 500, 2)[rep(1:500, each = 20), ] # what holds for a point, holds for all at its site
  x <- rbind(inputs("uniform", 150, 2), sites + rnorm(length(sites), sd = 1e-3))
  tree <- cover_tree(residual_gp(x, gp_kernel("matern32", lengthscale = 0.05), inducing = x[1:150, ]))
  expect_identical(index_form(tree), "expansions")
  brute <- residual_knn(tree, 50, method = "brute")
  recalls <- vapply(c(3, 6), function(every) {
    lose <- function(place) ifelse(seq_along(place) %% every == 0, -1L, place)
    few <- damaged(tree, "terms.kernel_rank", lose, 2, "integer") # as if panels kept fewer: slower, not wrong
    bold <- damaged(few, "spans.amplify", function(x) 0 * x)
    vapply(list(few, bold), function(tree) recall(residual_knn(tree, 50, method = "level"), brute), 0)
  }, c(0, 0))
  expect_identical(recalls[1, ], c(1, 1))
  expect_lt(min(recalls[2, ]), 1)
})

test_that("kernel expansions hold for other kernels, a nugget, duplicates, clusters and no inducing inputs", {
  set.seed(18)
  x <- rbind(inputs("uniform", 4000, 2), inputs("clustered", 2000, 2))
  x <- rbind(x, x[sample(nrow(x), 1000), ])
  forms <- c()
  for (family in c("matern12", "matern52", "rbf")) {
    for (m in c(0, 90)) {
      for (nugget in c(0, 0.05)) {
        gp <- residual_gp(x, gp_kernel(family, variance = 3, lengthscale = c(0.03, 0.05)), m, nugget, seed = 1)
        tree <- cover_tree(gp)
        forms <- c(forms, index_form(tree))
        expect_same_search(tree)
        expect_same_search(update(tree, kernel = gp_kernel(family, lengthscale = 0.02)), predecessors = TRUE)
      }
    }
  }
  expect_gt(mean(forms == "expansions"), 0.4)
})

test_that("best-first: weights too small, or a process that is none, are seen", {
  set.seed(4)
  gp <- plane(5000)
  expect_identical(residual_knn(gp, 15, method = "best_first")$id, residual_knn(gp, 15, method = "brute")$id)
  short <- gp
  short$chol <- gp$chol * 3 # weights by a third, features and correlations as they were
  expect_wrong_search(known_gp(short), "expansion bound", "best_first") # unknown, it would be refused
  x <- cbind(runif(6000))
  gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.005), inducing = 150, seed = 1)
  own <- residual_process(x, gp$kernel, gp$V, gp$variance, nugget = 1e-3)
  for (method in c("best_first", "level")) {
    expect_identical(residual_knn(own, 15, method = method)$id, residual_knn(own, 15, method = "brute")$id)
  }
  own$V <- own$V * rep(c(0.95, 1.05), each = 150 * 5) # no covariance any more: angles that are no metric
  own <- known_gp(own)
  tree <- index_tree(unclass(cover_tree(own)), 1, "landmarks")
  for (method in c("best_first", "level")) expect_wrong_search(tree, paste("subspaces,", method), method)
})

test_that("best-first over an index: exact, and a bound too small is seen", {
  set.seed(10)
  tree <- cover_tree(plane(6000, "matern52", 0.1))
  expect_best <- function(tree, ...) {
    brute <- residual_knn(tree, 15, ..., method = "brute")
    for (threads in 1:2) {
      nn <- residual_knn(tree, 15, ..., method = "best_first", threads = threads)
      expect_identical(nn[c("id", "dist")], brute[c("id", "dist")])
    }
    nn
  }
  some <- sample(6000, 300)
  nn <- expect_best(tree, queries = c(some, 1:50)) # the first are inducing inputs
  expect_lt(nn$stats[["correlations"]], 0.3 * 350 * 6000)
  expect_gt(nn$stats[["pruned"]], 0)
  expect_best(tree, predecessors = TRUE)
  expect_best(tree, newdata = rbind(tree$gp$x[1:40, ], inputs("uniform", 200, 2)))
  queries <- c(some, 101:700)
  for (field in c("tail", "stage_tail")) {
    broken <- damaged(tree, paste0("subspace.", field), function(x) 0.3 * x)
    expect_wrong_search(broken, field, "best_first", queries = queries)
  }
  integers <- cover_tree(plane(4000, "matern12", 0.5, m = 30))
  expect_identical(index_form(integers), "integers")
  expect_best(integers, queries = some[some <= 4000])
})

test_that("a cell whose points have all vanished has no landmarks, and is searched all the same", {
  set.seed(15)
  x <- rbind(inputs("uniform", 6000, 2), 3 + 0.2 * inputs("uniform", 1500, 2))
  gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.1), x[1:100, ])
  gone <- 6001:7500
  gp$V[, gone] <- c(1, rep(0, 99)) # the inducing variables explain all of them
  gp$variance[gone] <- 0
  for (order in list(1:7500, 7500:1)) {
    tree <- cover_tree(residual_process(x[order, ], gp$kernel, gp$V[, order], gp$variance[order]))
    expect_identical(index_form(tree), "landmarks")
    queries <- c(1:50, 7451:7500, sample(7500, 300))
    brute <- residual_knn(tree, 10, queries = queries, method = "brute")
    for (method in c("level", "best_first")) {
      nn <- residual_knn(tree, 10, queries = queries, method = method)
      expect_identical(nn[c("id", "dist")], brute[c("id", "dist")])
    }
  }
})

test_that("auto takes few queries one by one where they are far apart", {
  set.seed(11)
  tree <- cover_tree(plane(20000))
  taken <- function(...) residual_knn(tree, 10, ...)$method
  far <- rbind(c(0.1, 0.1), c(0.9, 0.9), c(0.1, 0.9))
  expect_identical(taken(queries = 7), "best_first")
  expect_identical(taken(newdata = far), "best_first")
  expect_identical(taken(newdata = 0.5 + far / 1000), "level")
  expect_identical(taken(queries = 1:400), "level")
})

test_that("new points that are far apart are searched apart, close ones together", {
  set.seed(12)
  tree <- cover_tree(plane(20000))
  close <- matrix(0.5 + runif(600, -0.01, 0.01), ncol = 2)
  far <- inputs("uniform", 300, 2)
  each <- function(newdata) {
    nn <- residual_knn(tree, 15, newdata = newdata, method = "level")
    expect_identical(nn$id, residual_knn(tree, 15, newdata = newdata, method = "brute")$id)
    nn$stats[["correlations"]] / nrow(newdata)
  }
  expect_lt(each(close), 300)
  expect_lt(each(far), 800)
  expect_lt(each(rbind(far, close)), 600)
})

test_that("queries that integers do not serve are left to brute force, others are not", {
  set.seed(13)
  x <- inputs("uniform", 4000, 6)
  tree <- cover_tree(residual_gp(x, gp_kernel("matern52", lengthscale = 0.12), 0, nugget = 0.1))
  expect_identical(index_form(tree), "integers")
  for (queries in list(NULL, 1:1500)) {
    brute <- residual_knn(tree, 30, queries = queries, method = "brute")
    for (threads in 1:2) {
      nn <- residual_knn(tree, 30, queries = queries, method = "level", threads = threads)
      expect_identical(nn[c("id", "dist")], brute[c("id", "dist")])
    }
    if (is.null(queries)) given_up <- nn$stats[["correlations"]] / 4000^2
  }
  expect_gt(given_up, 0.1) # some go through all points
  expect_lt(given_up, 0.9)
})

test_that("auto makes integers where they promise to pay, and none where they do not", {
  set.seed(14)
  x <- inputs("uniform", 7000, 5)
  taken <- function(lengthscale, family = "matern32") {
    residual_knn(residual_gp(x, gp_kernel(family, lengthscale = lengthscale), 30, seed = 1), 10)
  }
  expect_match(taken(0.5)$note, "integers")
  expect_match(taken(0.02, "rbf")$note, "no index that was likely to pay")
  gp <- residual_gp(x[1:6000, ], gp_kernel("matern32", lengthscale = 0.3), 300, seed = 1, selection = "random")
  expect_match(residual_knn(gp, 10)$note, "integers") # though one point in twenty is an inducing input
})

test_that("the answers of queries that show what a search costs stay, whatever it shows", {
  set.seed(15)
  x <- inputs("uniform", 12000, 2)
  shown <- c()
  skipped <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.1), 100, seed = 1)
  screened <- residual_gp(cbind(x, x[12000:1, ]), gp_kernel("matern12", lengthscale = 0.3), 20, seed = 1)
  neither <- residual_gp(
    x[1:6000, 1, drop = FALSE], gp_kernel("matern32", lengthscale = 0.25), 300,
    seed = 1, selection = "random"
  )
  for (search in list(list(skipped, 20), list(screened, 20), list(neither, 60))) {
    for (predecessors in c(FALSE, TRUE)) {
      brute <- residual_knn(search[[1]], search[[2]], predecessors = predecessors, method = "brute")
      nn <- residual_knn(search[[1]], search[[2]], predecessors = predecessors)
      expect_identical(nn[c("id", "dist")], brute[c("id", "dist")])
      shown <- c(shown, nn$note)
    }
  }
  expect_match(shown, "landmarks", all = FALSE)
  expect_match(shown, "integers", all = FALSE)
  expect_match(shown, "screening left too much", all = FALSE)
})

test_that("integers of 16 bits serve from an index that was kept", {
  set.seed(3)
  x <- inputs("uniform", 4000, 5)
  tree <- cover_tree(residual_gp(x, gp_kernel("matern32", lengthscale = 1.5), inducing = 60, seed = 1))
  names <- .Call(C_tree_index_fields, tree$gp, tree)$name
  expect_true("integers.values" %in% names)
  expect_false("integers.fine" %in% names) # these go with 8 bits
  expect_same_search(tree)
})

test_that("a process with nothing to skip or to screen gets no index", {
  set.seed(8)
  x <- inputs("uniform", 4000, 5)
  tree <- cover_tree(residual_gp(x, gp_kernel("matern52", lengthscale = 2.24), inducing = 100, seed = 1))
  expect_identical(index_form(tree), "none, nothing to skip")
  expect_same_search(tree, queries = 1:200)
})

test_that("an index of other points, or of none, is not read", {
  set.seed(5)
  tree <- cover_tree(plane(3000))
  other <- cover_tree(plane(2999))
  same <- c("id", "dist")
  exact <- residual_knn(tree, 5, method = "brute")[same]
  for (index in list(NULL, other$index, raw(0), rev(tree$index), tree$index[-1])) {
    broken <- tree
    broken$index <- index
    expect_identical(residual_knn(broken, 5, method = "level")[same], exact)
  }
})

test_that("an index does not serve another process of the same shape", {
  set.seed(7)
  tree <- cover_tree(plane(5000, "matern52", 0.1))
  for (gp in list(residual_gp(tree$gp$x, gp_kernel("matern52", lengthscale = 0.2), tree$gp$inducing),
                  residual_gp(tree$gp$x, tree$gp$kernel, tree$gp$inducing, nugget = 0.1))) {
    tree$gp <- gp # by hand, not by update()
    expect_same_search(tree)
    expect_output(print(tree), "index: missing or of another process")
  }
  own <- tree$gp[c("kernel", "V", "variance")]
  tree <- cover_tree(residual_process(tree$gp$x, own$kernel, own$V, own$variance))
  tree$gp$V <- tree$gp$V[nrow(own$V):1, ] * 0.9 # the same variances
  tree$gp$variance <- tree$gp$variance + colSums(own$V^2) - colSums(tree$gp$V^2)
  expect_same_search(tree)
})

test_that("equal trees have equal indices", {
  gp <- plane(3000)
  expect_identical(cover_tree(gp), cover_tree(gp, threads = 1))
})

test_that("searches allocate nothing for a query, a block or a point", {
  # a level-synchronous search asks for its buffers once, whatever it searches
  buffers <- function(tree, queries) {
    before <- .Call(C_scratch_buffers, NULL)[1]
    residual_knn(tree, 5, queries = queries, method = "level", threads = 1)
    .Call(C_scratch_buffers, NULL)[1] - before
  }
  set.seed(6)
  small <- cover_tree(plane(6000, "matern52", 0.1))
  large <- cover_tree(plane(12000, "matern52", 0.1))
  expect_identical(index_form(small), index_form(large))
  once <- buffers(small, 101:1100)
  few <- buffers(small, 101:110) # without what whole blocks need
  expect_gt(few, 0)
  expect_lte(few, once)
  expect_identical(buffers(small, 101:6000), once)
  expect_identical(buffers(large, 101:110), few)
  expect_identical(buffers(large, 101:12000), once)
})

test_that("new points on inducing inputs are found in every form, where no point stands on one", {
  on_one_thread()
  set.seed(31)
  x <- inputs("uniform", 4000, 2)
  grid <- as.matrix(expand.grid((0:6) / 6, (0:6) / 6))
  new <- unname(rbind(grid, grid + 1e-9, grid * (1 + 4e-16), x[1:50, ]))
  shown <- NULL
  for (family in c("matern52", "matern12", "matern32")) for (lengthscale in c(0.02, 0.2, 0.5)) for (nugget in c(0, 1e-5)) {
    gp <- residual_gp(x, gp_kernel(family, lengthscale = lengthscale), inducing = grid, nugget = nugget)
    tree <- cover_tree(gp)
    shown <- c(shown, index_form(tree))
    brute <- residual_knn(tree, 10, newdata = new, method = "brute")
    for (object in list(gp, tree)) for (method in c("auto", "level", "best_first")) {
      expect_identical(residual_knn(object, 10, newdata = new, method = method)[c("id", "dist")], brute[c("id", "dist")],
                       label = paste(family, lengthscale, nugget, method))
    }
    one <- residual_knn(tree, 10, newdata = new[9, , drop = FALSE], method = "best_first")
    expect_identical(one$id, brute$id[9, , drop = FALSE])
    few <- residual_knn(tree, 10, newdata = new, budget = 50)
    expect_false(anyNA(few$id))
  }
  expect_setequal(shown, c("landmarks", "integers", "expansions"))
  expect_search(tree, 10, newdata = new[c(1:60, 150), ], label = "on a grid")
})

test_that("a nugget whose squares leave the range of numbers is none", {
  set.seed(5)
  x <- inputs("uniform", 3000, 2)
  for (nugget in c(1e-60, 1e-200)) {
    gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.2), inducing = x[1:60, ], nugget = nugget, jitter = 0)
    exact <- residual_knn(gp, 5, method = "brute")
    expect_false(anyNA(exact$dist))
    expect_identical(residual_knn(gp, 5, method = "level")$id, exact$id)
  }
})
