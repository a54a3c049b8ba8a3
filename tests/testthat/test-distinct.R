# Searches by places, where many points are copies of each other: the answers are those of all points, bit for bit.

expect_copies <- function(object, k, ..., label = NULL) {
  brute <- residual_knn(object, k, ..., method = "brute", progress = FALSE)
  for (method in c("auto", "level", "best_first")) {
    nn <- residual_knn(object, k, ..., method = method, progress = FALSE)
    expect_identical(nn[c("id", "dist")], brute[c("id", "dist")], label = paste(label, method))
  }
  brute
}

# Copies of `places` places, each of them there; shuffled, or with the first copies first.
copies <- function(n, places, d = 2, shuffle = TRUE) {
  x <- inputs("uniform", places, d)[c(seq_len(places), sample.int(places, n - places, TRUE)), , drop = FALSE]
  if (shuffle) x[sample.int(n), , drop = FALSE] else x
}

expect_copies_in_all_modes <- function(object, k, label) {
  n <- nrow(if (inherits(object, "cover_tree")) object$gp$x else object$x)
  some <- sample.int(n, n / 2, TRUE)
  expect_copies(object, k, label = paste(label, "all"))
  expect_copies(object, k, predecessors = TRUE, label = paste(label, "predecessors"))
  expect_copies(object, k, queries = some, label = paste(label, "queries"))
  expect_copies(object, k, queries = some, predecessors = TRUE, label = paste(label, "both"))
}

test_that("copies are searched right in every mode, with a nugget and without, in any order", {
  on_one_thread()
  set.seed(1)
  for (places in c(1, 3, 60)) for (nugget in c(0, 0.2)) for (shuffle in c(TRUE, FALSE)) {
    x <- copies(400, places, shuffle = shuffle)
    gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = min(places - 1, 15), nugget = nugget, seed = 1)
    label <- paste(places, "places, nugget", nugget)
    new <- rbind(x[1:50, ], copies(250, 20))
    for (k in c(1, 12, 401)) expect_copies_in_all_modes(gp, k, label)
    expect_copies(gp, 12, newdata = new, label = paste(label, "new"))
    expect_search(gp, 12, label = label)
    expect_search(gp, 12, predecessors = TRUE, label = label)
    expect_search(gp, 12, newdata = new, label = label)
  }
})

test_that("copies are searched right over trees of every form", {
  on_one_thread()
  set.seed(2)
  for (family in c("matern12", "matern52")) for (lengthscale in c(0.02, 0.3)) {
    x <- rbind(copies(6000, 1500), inputs("uniform", 500, 2))
    gp <- residual_gp(x, gp_kernel(family, lengthscale = lengthscale), inducing = 40, seed = 1)
    tree <- cover_tree(gp)
    label <- paste(family, lengthscale)
    expect_copies(tree, 10, label = label)
    expect_copies(tree, 10, predecessors = TRUE, label = label)
    expect_copies(tree, 10, queries = c(1, 6500), label = label)
    expect_copies(tree, 10, newdata = copies(3000, 300), label = label)
  }
})

test_that("copies of points whose variance is gone, and on inducing inputs, are searched right", {
  on_one_thread()
  set.seed(3)
  x <- copies(900, 100)
  z <- unique(x)[1:20, ]
  for (jitter in c(1e-6, 1e-14)) {
    gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.3), inducing = z, jitter = jitter)
    expect_copies_in_all_modes(gp, 30, paste("jitter", jitter))
    expect_copies(gp, 30, newdata = rbind(z, x[1:100, ], z), label = paste("jitter", jitter, "new"))
  }
})

test_that("points at one place whose own features differ are no copies", {
  on_one_thread()
  set.seed(4)
  x <- copies(600, 50)
  gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.3), inducing = 5, seed = 1)
  own <- function(V, noise) residual_process(x, gp$kernel, V, 1 - colSums(V^2) + noise)
  expect_copies_in_all_modes(own(gp$V + rnorm(3000, sd = 1e-4), 0.2), 10, "other features")
  expect_copies_in_all_modes(own(gp$V, 0.2), 10, "the same")
  expect_copies_in_all_modes(own(gp$V, rep(c(0.2, 0.3), 300)), 10, "other variances")
})

test_that("what a place costs does not depend on its copies", {
  on_one_thread()
  set.seed(5)
  x <- inputs("uniform", 6000, 2)
  x[sample.int(6000, 3000), ] <- rep(c(0.3, 0.4), each = 3000)
  gp <- residual_gp(x, gp_kernel("matern52", lengthscale = 0.1), inducing = 50, seed = 1)
  for (object in list(gp, cover_tree(gp))) for (predecessors in c(FALSE, TRUE)) {
    nn <- residual_knn(object, 10, predecessors = predecessors, method = "level")
    expect_lt(nn$stats[["correlations"]] / 6000, 300)
  }
  expect_lt(residual_knn(gp, 10, newdata = x[1:3000, ], method = "level")$stats[["correlations"]] / 3000, 300)
})

test_that("the answer does not depend on threads, nor a budget on copies", {
  set.seed(6)
  gp <- residual_gp(copies(3000, 700), gp_kernel("matern32", lengthscale = 0.1), inducing = 30, seed = 1)
  for (predecessors in c(FALSE, TRUE)) {
    one <- residual_knn(gp, 10, predecessors = predecessors, threads = 1)
    expect_identical(residual_knn(gp, 10, predecessors = predecessors, threads = 2)[c("id", "dist")], one[c("id", "dist")])
  }
  few <- residual_knn(gp, 5, budget = 20)
  expect_lte(few$stats[["correlations"]], 20 * 3000)
  expect_identical(residual_knn(gp, 5, budget = 3000)[c("id", "dist")], residual_knn(gp, 5)[c("id", "dist")])
})

test_that("features of copies are those of each of them, and orders take copies last", {
  set.seed(7)
  x <- copies(500, 40)
  gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 9, seed = 1)
  first <- match(x[, 1], x[, 1])
  expect_identical(gp$V, gp$V[, first])
  expect_identical(gp$variance, gp$variance[first])
  expect_equal(gp$V, oracle_points(gp, x)$V, tolerance = 1e-8)
  order <- order_maxmin(x)
  expect_false(anyDuplicated(x[order[1:40], ]) > 0)
  expect_identical(order[41:500], setdiff(1:500, order[1:40]))
})
