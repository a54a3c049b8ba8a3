# Tree: a cover tree over the inputs, and the residual process whose neighbours it finds.

#' Cover tree
#'
#' Builds a cover tree over the inputs in units of the lengthscale. The structure depends on the inputs
#' alone and stays when hyperparameters change. What searches derive from the hyperparameters (bounds, and
#' kernel expansions, landmarks or integers for screening) is made in parallel and kept in `index`: searches of
#' [residual_knn()] over the tree read it where it stands, while a search of the residual process itself
#' makes it anew, which takes as long as 1000 to 2000 queries by brute force.
#'
#' Every node has one parent; the points of a subtree are a contiguous range of `perm`; the centre of a
#' node is the centre of one of its children; the centres of siblings are at least as far apart as the
#' largest of their radii; no node has a single child; duplicated inputs share a leaf.
#'
#' `update()` gives the tree another kernel, with the same inducing inputs, nugget and jitter, or another
#' residual process of the same inputs (`gp`): features, residual variances and index are computed anew, the
#' structure is not. It keeps the lengthscales that it was built with, which matters for speed only.
#'
#' @param gp A [residual_gp()].
#' @param threads Number of threads, see [vecchiann_info()].
#' @param ... Not used.
#' @return A list of class `"cover_tree"`, made of ordinary R vectors: `gp`; `lengthscale`, that of the
#'   build; `perm`, the rows of `x` in tree order; and for every node, breadth first, `first` and `count`
#'   (its range in `perm`), `parent` (0 for the root), `child` and `children` (the first child and how many, 0 for a
#'   leaf), `centre` (a row of `x`), `level` (0 for the root) and `radius` (the largest distance from the centre to one
#'   of its points, in the scaled units of the build). Last, `index`, a raw vector of about a quarter of the size of
#'   the features `V`; a machine with other vector instructions makes its own when it reads the tree from a
#'   file.
#' @section Errors:
#' A tree is checked when it is first used in a session: one that was edited or damaged, in memory or in a file, is
#' refused, and `cover_tree(tree$gp)` makes it again.
#'
#' `gp` that is no residual process; in `update()`, a `kernel` that does not fit the inputs, or a `gp` of
#' other inputs.
#' @seealso [summary()][summary.cover_tree] and [plot()][plot.cover_tree].
#' @references Beygelzimer, A., Kakade, S. and Langford, J. (2006). Cover trees for nearest neighbor.
#'   *ICML*.
#' @examples
#' x <- cbind(runif(500), runif(500))
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
#' tree <- cover_tree(gp)
#' tree
#' residual_knn(tree, k = 5)
#' update(tree, kernel = gp_kernel("matern32", lengthscale = 0.3))
#' @export
cover_tree <- function(gp, threads = NULL, ...) {
  check_dots(...)
  check_gp(gp)
  threads <- thread_count(threads)
  nodes <- .Call(C_cover_tree, gp$x, gp$kernel$lengthscale, gp$kernel$anisotropy, threads)
  index_tree(c(list(gp = gp, lengthscale = gp$kernel$lengthscale, anisotropy = gp$kernel$anisotropy), nodes), threads)
}

# Adds what searches derive from the residual process of a tree; in a form of screening that tests name, or the fastest.
index_tree <- function(tree, threads, form = NULL) {
  tree$index <- .Call(C_tree_index, tree$gp, tree, threads, form)
  tree <- structure(tree, class = "cover_tree")
  .Call(C_tree_remember, tree)
  tree
}

#' @rdname cover_tree
#' @param object A `cover_tree`.
#' @param kernel Another [gp_kernel()] for the same inputs and inducing inputs.
#' @importFrom stats update
#' @export
update.cover_tree <- function(object, kernel = object$gp$kernel, gp = NULL, threads = NULL, ...) {
  check_dots(...)
  if (!is.null(gp)) {
    check_gp(gp)
    if (!identical(gp$x, object$gp$x)) refuse("gp", "of the inputs of the tree", "of others")
    object[c("gp", "index")] <- list(gp, NULL)
    check_tree(object, "object") # what is left of the old one is its structure
    return(index_tree(unclass(object), thread_count(threads)))
  }
  check_tree(object, "object")
  old <- object$gp
  if (is.null(old$inducing)) {
    refuse("gp", "given to update the tree of a residual_process()", "NULL")
  }
  kernel <- check_kernel(kernel, ncol(old$x))
  check_spread(old$x, kernel)
  threads <- thread_count(threads)
  object$gp <- new_residual_gp(old$x, kernel, old$inducing, old$nugget, old$jitter, threads)
  index_tree(unclass(object), threads)
}

#' @export
print.cover_tree <- function(x, ...) {
  check_tree(x, "x")
  cat("<cover_tree> ", counted(length(x$perm), "point"), ", ", counted(length(x$first), "node"), ", ",
      counted(max(x$level) + 1, "level"), "\n", sep = "")
  cat("index: ", index_form(x), ", ", format(structure(length(x$index), class = "object_size"), units = "auto"),
      "\n", sep = "")
  print(x$gp)
  invisible(x)
}

# The form by which searches of the tree screen.
index_form <- function(tree) {
  fields <- .Call(C_tree_index_fields, tree$gp, tree)
  if (is.null(fields)) "missing or of another process, not read"
  else if (is.null(fields$form)) "none, nothing to skip"
  else fields$form
}

#' Summary of a cover tree
#'
#' @param object A [cover_tree()].
#' @param ... Not used.
#' @return A data frame of class `"summary.cover_tree"`, one row a level: numbers of `nodes`, `leaves` and
#'   `points` in them, the mean `fanout` of inner nodes, the median and largest `radius`.
#' @examples
#' summary(cover_tree(residual_gp(matrix(runif(800), ncol = 2), gp_kernel(), inducing = 5)))
#' @export
summary.cover_tree <- function(object, ...) {
  check_dots(...)
  check_tree(object, "object")
  by_level <- function(values, f) as.vector(tapply(values, object$level, f))
  leaf <- object$children == 0
  levels <- data.frame(
    level = sort(unique(object$level)), nodes = by_level(leaf, length), leaves = by_level(leaf, sum),
    points = by_level(object$count, sum),
    fanout = by_level(ifelse(leaf, NA, object$children), function(children) {
      if (all(is.na(children))) NA else mean(children, na.rm = TRUE)
    }),
    median_radius = by_level(object$radius, stats::median), largest_radius = by_level(object$radius, max)
  )
  class(levels) <- c("summary.cover_tree", "data.frame")
  levels
}

#' @export
print.summary.cover_tree <- function(x, digits = 3, ...) {
  print.data.frame(x, digits = digits, row.names = FALSE)
  invisible(x)
}
