# The two laws of a screening form (src/form/form.h), each form forced: what it clears of a cell has nothing that reaches a threshold,
# and every interval contains the correlation. src/form/laws.h compares both with correlations that the metric evaluates.

forms <- c("landmarks", "integers", "expansions", "dense")

in_form <- function(gp, form) index_tree(unclass(cover_tree(gp, threads = 1)), 1, form)

# All points, predecessors, new points and one query at a time; NULL where the form serves no cells of the process.
laws <- function(tree, k = 8, new = NULL) {
  if (!"order.perm" %in% .Call(C_tree_index_fields, tree$gp, tree)$name) return()
  check <- function(...) .Call(C_form_laws, tree, k, ...)
  if (!is.null(new)) new <- new_points(tree$gp, new, 1L)
  check(NULL, FALSE, FALSE) + check(NULL, TRUE, FALSE) + check(new, FALSE, FALSE) + check(NULL, FALSE, TRUE)
}

expect_laws <- function(gp, form, new, label) {
  counts <- laws(in_form(gp, form), new = new)
  if (is.null(counts)) return()
  expect_identical(unname(counts[4:6]), c(0, 0, 0), label = label)
  expect_gt(counts[["intervals"]], 0, label = label)
  counts
}

test_that("the laws hold for every form, on random and hard processes", {
  on_one_thread()
  set.seed(41)
  cleared <- 0
  served <- tested <- c()
  for (kind in c("uniform", "clusters", "duplicates", "grid")) for (d in 1:3) {
    x <- inputs(kind, 700, d)
    family <- kernel_families()[length(tested) %% length(kernel_families()) + 1]
    tested <- c(tested, family)
    kernel <- gp_kernel(family, variance = 10^runif(1, -2, 2), lengthscale = d * 10^runif(1, -2, 0),
                        smoothness = if (family == "matern") 0.8)
    gp <- residual_gp(x, kernel, inducing = sample(c(0, 5, 40), 1), nugget = sample(c(0, 1e-3, 0.1), 1) * kernel$variance,
                      selection = "random", seed = 1)
    for (form in forms) {
      counts <- expect_laws(gp, form, inputs(kind, 60, d), paste(kind, d, family, form))
      if (!is.null(counts)) served <- c(served, form)
      if (form == "landmarks" && !is.null(counts)) cleared <- cleared + counts[["cleared"]]
    }
  }
  expect_setequal(served, forms)
  expect_setequal(tested, kernel_families())
  expect_gt(cleared, 0)
})

test_that("the laws hold where residual variances are small, weights large and queries stand on inducing inputs", {
  on_one_thread()
  set.seed(42)
  x <- inputs("uniform", 1200, 2)
  for (family in c("rbf", "matern52")) for (lengthscale in c(0.1, 0.4)) {
    gp <- residual_gp(x, gp_kernel(family, lengthscale = lengthscale), inducing = x[1:60, ])
    new <- rbind(x[1:30, ], x[1:30, ] + 1e-7, inputs("uniform", 20, 2))
    for (form in forms) expect_laws(gp, form, new, paste(family, lengthscale, form))
  }
})

test_that("the laws hold where noise is nearly all that points have, or differs from point to point", {
  on_one_thread()
  set.seed(44)
  x <- inputs("uniform", 1500, 2)
  noises <- list(most = rep(0.05, 1500), some = rep(c(0, 0.05), 750), few = 10^runif(1500, -9, 0))
  for (family in c("rbf", "matern32")) for (noise in names(noises)) {
    gp <- noisy_process(residual_gp(x, gp_kernel(family, lengthscale = 0.7), inducing = 100, seed = 1), noises[[noise]])
    exact <- residual_knn(gp, 8, method = "brute")
    for (form in forms) {
      label <- paste(family, noise, form)
      expect_laws(gp, form, inputs("uniform", 20, 2), label)
      tree <- in_form(gp, form)
      if (!is.null(laws(tree))) expect_identical(residual_knn(tree, 8, method = "level")$id, exact$id, label = label)
    }
  }
})

test_that("the laws hold where blocks of all points meet in pairs", {
  on_one_thread()
  set.seed(45)
  gp <- residual_gp(inputs("uniform", 2100, 2), gp_kernel("matern52", lengthscale = 0.2), inducing = 30, seed = 1)
  exact <- residual_knn(gp, 8, method = "brute")$id
  paired <- c()
  for (form in forms) { # those that cannot screen both ways are searched block by block
    tree <- in_form(gp, form)
    counts <- .Call(C_form_laws, tree, 8, NULL, FALSE, FALSE)
    expect_identical(unname(counts[4:6]), c(0, 0, 0), label = form)
    expect_identical(residual_knn(tree, 8, method = "level")$id, exact, label = form)
    if (counts[["pairs"]] > 0) paired <- c(paired, form)
  }
  expect_identical(paired, "integers")
  tree <- in_form(gp, "integers")
  expect_gt(.Call(C_form_laws, tree, 8, NULL, FALSE, FALSE)[["silent"]], 0)
  expect_gt(sum(.Call(C_form_laws, damaged(tree, "integers.step", function(x) 0.5 * x), 8, NULL, FALSE, FALSE)[4:6]), 0)
})

test_that("a form that serves no cells of a process leaves it to brute force", {
  gp <- residual_gp(inputs("uniform", 600, 6), gp_kernel("matern12", lengthscale = 0.05), inducing = 20, seed = 1)
  tree <- in_form(gp, "landmarks")
  expect_null(laws(tree))
  for (method in c("auto", "level")) expect_identical(residual_knn(tree, 5, method = method)$id, residual_knn(gp, 5, method = "brute")$id)
  expect_error(index_tree(unclass(cover_tree(gp, threads = 1)), 1, "magic"), "no screening form is called 'magic'")
})

test_that("a tree in the form that evaluates every pair serves predecessors", {
  gp <- residual_gp(inputs("uniform", 2300, 2), gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
  expect_identical(residual_knn(in_form(gp, "dense"), 5, predecessors = TRUE)$id,
                   residual_knn(gp, 5, predecessors = TRUE, method = "brute")$id)
})

test_that("a form that breaks a law is seen", {
  on_one_thread()
  set.seed(43)
  gp <- residual_gp(inputs("uniform", 3000, 2), gp_kernel("matern52", lengthscale = 0.2), inducing = 30, seed = 1)
  broken <- function(form, field, change, which) {
    expect_gt(laws(damaged(in_form(gp, form), field, change))[[which]], 0, label = paste(form, field))
  }
  broken("landmarks", "subspace.tail", function(x) 0 * x, "wrong intervals")
  broken("landmarks", "subspace.stage_tail", function(x) x - 0.5, "wrong cleared")
  broken("integers", "integers.step", function(x) 0.5 * x, "wrong intervals")
  short <- residual_gp(gp$x, gp_kernel("matern32", lengthscale = 0.05), inducing = 100, seed = 1)
  counts <- laws(damaged(in_form(short, "expansions"), "terms.kernels", function(x) 0.5 * x))
  expect_gt(counts[["wrong intervals"]] + counts[["wrong silent"]], 0)
})
