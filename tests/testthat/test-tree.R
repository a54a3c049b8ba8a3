tree_of <- function(kind, n, d, ...) {
  gp <- residual_gp(inputs(kind, n, d), gp_kernel("matern32", lengthscale = 0.1 * d), inducing = 20, ..., seed = 1)
  cover_tree(gp)
}

# The invariants of src/partition/tree.h, from the structure and the scaled inputs alone.
expect_cover_tree <- function(tree, label) {
  x <- t(t(tree$gp$x) / tree$gp$kernel$lengthscale)
  gap <- function(i, j) sqrt(rowSums((x[i, , drop = FALSE] - x[rep(j, length(i)), , drop = FALSE])^2))
  inside <- function(v) tree$perm[tree$first[v] + seq_len(tree$count[v]) - 1]
  # Radii are in scaled units up to the constant of the kernel's family.
  unit <- max(tree$radius) / max(gap(inside(1), tree$centre[1]), 1e-300)
  for (v in seq_along(tree$first)) {
    reach <- max(gap(inside(v), tree$centre[v]))
    expect_equal(tree$radius[v], unit * reach, tolerance = 1e-10, label = paste(label, "radius of", v))
    children <- tree$child[v] + seq_len(tree$children[v]) - 1
    if (!length(children)) next
    expect_gt(length(children), 1)
    expect_identical(unlist(lapply(children, inside)), inside(v))
    expect_true(tree$centre[v] %in% tree$centre[children])
    expect_true(all(tree$parent[children] == v))
    between <- as.matrix(stats::dist(x[tree$centre[children], , drop = FALSE]))
    expect_gte(min(between[upper.tri(between)]) * unit * (1 + 1e-12), max(tree$radius[children]))
  }
  expect_identical(sort(tree$perm), seq_len(nrow(x)))
}

test_that("a tree keeps its invariants", {
  set.seed(1)
  for (kind in c("uniform", "duplicates", "grid", "clusters")) for (d in c(1, 2, 5)) {
    expect_cover_tree(tree_of(kind, 300, d, selection = "random"), paste(kind, d))
  }
})

test_that("the checker of invariants agrees, and sees damage", {
  invariant <- function(tree) .Call(C_tree_invariant, tree, tree$gp$x, tree$lengthscale)
  set.seed(2)
  for (kind in c("uniform", "duplicates", "grid", "clusters")) for (d in c(1, 2, 10)) {
    expect_identical(invariant(tree_of(kind, 400, d, selection = "random")), 0L, label = paste(kind, d))
  }
  tree <- tree_of("uniform", 400, 2)
  damage <- function(field, change) {
    tree[[field]] <- change(tree[[field]])
    invariant(tree)
  }
  expect_gt(damage("perm", rev), 0L)
  expect_identical(damage("radius", function(radius) radius * 0.9), 3L)
  inner <- which(tree$children > 1)[1]
  expect_identical(damage("centre", function(centre) replace(centre, inner, tree$perm[tree$first[inner] + 1])), 2L)
  tree$first[2] <- 1000L
  tree$index <- NULL # where the index serves, the structure is not read
  expect_error(residual_knn(tree, 3, method = "level"), "tree does not fit its points")
  expect_error(print(tree), "^print\\(\\): `x` must be as it was made.*cover_tree\\(x\\$gp\\).*`first`")
})

test_that("a tree of one point, and of constant columns", {
  one <- cover_tree(residual_gp(matrix(0.5, 1, 2), gp_kernel(), inducing = 0))
  expect_identical(one$count, 1L)
  new <- matrix(runif(6), 3)
  for (object in list(one, one$gp, index_tree(unclass(one), 1, "integers"), index_tree(unclass(one), 1, "expansions"))) {
    for (method in c("auto", "level", "best_first", "brute")) {
      expect_identical(residual_knn(object, 2, newdata = new, method = method)$id, cbind(rep(1L, 3), NA))
      expect_identical(residual_knn(object, 1, method = method)$id, matrix(NA_integer_))
    }
    expect_identical(conditioning_sets(object, 1, newdata = new)$id, matrix(1L, 3))
  }
  flat <- cover_tree(residual_gp(cbind(runif(100), 1), gp_kernel(), inducing = 5, seed = 1))
  expect_search(flat, 3, label = "constant column")
})

test_that("duplicates collapse into a leaf", {
  tree <- cover_tree(residual_gp(matrix(1, 500, 2), gp_kernel(), inducing = 0))
  expect_identical(length(tree$first), 1L)
})

test_that("the tree is the same for any number of threads", {
  gp <- residual_gp(inputs("uniform", 5000, 3), gp_kernel(), inducing = 0)
  expect_identical(cover_tree(gp, threads = 1), cover_tree(gp, threads = 2))
})

test_that("a search through the tree gives the answer of a search without", {
  tree <- tree_of("uniform", 700, 2)
  expect_search(tree, 9, label = "tree")
  expect_search(tree, 9, predecessors = TRUE, label = "tree, predecessors")
  expect_search(tree, 9, newdata = inputs("uniform", 40, 2), label = "tree, newdata")
})

test_that("new hyperparameters keep the structure and change the answer", {
  tree <- tree_of("uniform", 500, 2)
  kernel <- gp_kernel("rbf", 2, c(0.1, 0.4))
  new <- update(tree, kernel = kernel)
  structure <- setdiff(names(tree), c("gp", "index"))
  expect_identical(new[structure], tree[structure])
  expect_identical(new$gp, residual_gp(tree$gp$x, kernel, tree$gp$inducing))
  expect_search(new, 9, label = "updated")
  fresh <- cover_tree(new$gp)
  for (method in methods_to_test) {
    same <- c("id", "dist")
    expect_identical(residual_knn(new, 9, method = method)[same], residual_knn(fresh, 9, method = method)[same])
  }
  own <- residual_process(tree$gp$x, kernel, new$gp$V, new$gp$variance)
  expect_search(update(tree, gp = own), 9, label = "own process")
  expect_error(update(cover_tree(own), kernel = kernel), "^update\\(\\): `gp` must be given")
  expect_error(update(tree, kernel = "rbf"), "^update\\(\\): `kernel` must be a gp_kernel object")
  expect_error(update(tree, gp = residual_gp(tree$gp$x + 1, kernel, 5)), "`gp` must be of the inputs of the tree")
})

test_that("a tree survives a file", {
  tree <- tree_of("uniform", 200, 2)
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  saveRDS(tree, file)
  expect_identical(residual_knn(readRDS(file), 3), residual_knn(tree, 3))
  # in a new process too, which has only what the file holds
  script <- tempfile(fileext = ".R")
  answer <- tempfile(fileext = ".rds")
  on.exit(unlink(c(script, answer)), add = TRUE)
  writeLines(sprintf("saveRDS(vecchiann::residual_knn(readRDS(%s), 3), %s)", deparse(file), deparse(answer)), script)
  system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", script),
          env = paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep)))
  expect_identical(readRDS(answer), residual_knn(tree, 3))
})

test_that("a tree prints its size and levels", {
  tree <- tree_of("uniform", 400, 2)
  expect_output(print(tree), "<cover_tree> 400 points, .* nodes, .* levels\nindex: .*, .* (bytes|Kb|Mb)")
  expect_identical(sum(summary(tree)$nodes), length(tree$first))
  expect_output(print(summary(tree)), "largest_radius")
  expect_error(cover_tree(1), "^cover_tree\\(\\): `gp` must be a residual_gp object")
})

test_that("a tree can be drawn", {
  pdf(NULL)
  on.exit(dev.off())
  tree <- tree_of("uniform", 400, 2)
  expect_identical(plot(tree), tree)
  expect_no_error(plot(tree_of("uniform", 100, 1)))
  expect_no_error(plot(tree_of("uniform", 400, 5), level = 1, columns = c(2, 4)))
  named <- cover_tree(residual_gp(cbind(east = runif(50), up = 0, north = runif(50)), gp_kernel(), 5))
  expect_no_error(plot(named, columns = c("east", "north")))
  expect_error(plot(named, columns = c("east", "west")), "`columns` must be two columns of the inputs")
  expect_error(plot(tree_of("uniform", 100, 2), level = 99), "`level` must be at most")
})

# Every way of using a tree that reads it.
tree_uses <- list(
  function(tree) residual_knn(tree, 3), function(tree) residual_knn(tree, 3, predecessors = TRUE),
  function(tree) residual_knn(tree, 3, budget = 50), print, summary, plot,
  function(tree) update(tree, kernel = gp_kernel(lengthscale = 0.3)), function(tree) update(tree, gp = tree$gp)
)

test_that("a tree that was edited is refused, by the name of the part, with its index and without", {
  pdf(NULL)
  on.exit(dev.off())
  set.seed(3)
  whole <- tree_of("uniform", 3000, 2)
  refused <- function(tree, part) {
    for (use in if (part == "index") tree_uses[-8] else tree_uses) { # the last makes another index
      expect_error(use(tree), paste0("must be as it was made.*cover_tree\\(.*\\$gp\\).*`[^`]*", part), label = part)
    }
  }
  inner <- which(whole$children > 0 & whole$parent > 0)[1]
  edits <- list(
    perm = function(x) replace(x, 5, x[6]), first = function(x) replace(x, 3, x[3] + 1L), count = function(x) rev(x),
    parent = function(x) replace(x, length(x), 1L), child = function(x) replace(x, inner, x[inner] + 1L),
    children = function(x) replace(x, inner, 2147483647L), centre = function(x) replace(x, 2, NA),
    level = function(x) replace(x, 4, 7L), radius = function(x) replace(x, 2, x[2] / 2),
    lengthscale = function(x) x * NaN, index = function(x) as.integer(x)
  )
  for (part in names(edits)) {
    tree <- whole
    tree[[part]] <- edits[[part]](tree[[part]])
    refused(tree, if (part == "child") "parent" else part) # the children of another node than theirs
    tree[[part]] <- as.character(whole[[part]])
    refused(tree, part)
    if (part == "index") next
    tree[[part]] <- NULL
    expect_error(residual_knn(tree, 3), "must be as it was made")
    tree[[part]] <- edits[[part]](whole[[part]])
    tree$index <- NULL
    expect_error(residual_knn(tree, 3), "must be as it was made", label = paste(part, "without index"))
  }
  turned <- whole
  for (value in list("north", 1, c(30, -1))) {
    turned$anisotropy <- value
    refused(turned, "anisotropy")
  }
  swapped <- whole
  swapped$perm[1:2] <- whole$perm[2:1] # still a permutation
  refused(swapped, "perm")
})

test_that("changed bytes of an index are seen, wherever they are, and a cut end", {
  set.seed(4)
  whole <- tree_of("uniform", 2000, 2)
  expect_gt(length(whole$index), 1e4)
  exact <- residual_knn(whole, 3)
  for (at in c(9:40, 200, sample.int(length(whole$index), 60), length(whole$index) - 20)) {
    tree <- whole
    tree$index[at] <- xor(tree$index[at], as.raw(2^(at %% 8)))
    expect_error(residual_knn(tree, 3), "must be as it was made.*`index`", label = paste("byte", at))
  }
  for (length in c(20, 300, length(whole$index) - c(1, 64))) {
    tree <- whole
    tree$index <- whole$index[seq_len(length)]
    expect_error(residual_knn(tree, 3), "must be as it was made.*`index`", label = paste(length, "bytes"))
  }
  file <- tempfile()
  on.exit(unlink(file))
  saveRDS(whole, file, compress = FALSE)
  bytes <- readBin(file, "raw", file.size(file))
  bytes[length(bytes) - 5000] <- xor(bytes[length(bytes) - 5000], as.raw(4)) # the index stands at the end
  writeBin(bytes, file)
  expect_error(residual_knn(readRDS(file), 3), "must be as it was made")
  expect_identical(residual_knn(whole, 3), exact)
})

test_that("what was checked is not trusted when it has changed", {
  set.seed(5)
  tree <- tree_of("uniform", 500, 2)
  residual_knn(tree, 3, queries = 1)
  expect_true(.Call(C_gp_known, tree$gp))
  expect_true(.Call(C_tree_known, tree))
  read <- unserialize(serialize(tree, NULL))
  expect_false(.Call(C_gp_known, read$gp))
  residual_knn(read, 3, queries = 1)
  expect_true(.Call(C_tree_known, read))
  for (i in 1:3) {
    read$gp$V[i, 40] <- NaN # by now nobody else has it
    expect_error(residual_knn(read, 3, queries = 1), "`object\\$gp` must be as it was made.*`V`")
  }
  tree$radius[2] <- 0.1
  expect_false(.Call(C_tree_known, tree))
})

test_that("more objects than are remembered are all accepted", {
  gps <- lapply(1:40, function(i) residual_gp(matrix(runif(60), ncol = 2), gp_kernel(), inducing = 3, seed = 1))
  trees <- lapply(gps, cover_tree)
  for (tree in c(trees, rev(trees))) expect_identical(residual_knn(tree, 2)$id, residual_knn(tree$gp, 2)$id)
})
