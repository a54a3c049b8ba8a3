# Tree: a cover tree over the inputs, and the residual process whose neighbours it finds.

#' Cover tree
#'
#' Builds a cover tree over the inputs in units of the lengthscale. A search of [residual_knn()] over the
#' tree saves building one; the structure depends on the inputs alone and stays when hyperparameters
#' change. What a search derives from the hyperparameters (bounds, bases, integers for screening) is
#' made in parallel when it starts, from the features of the tree's residual process.
#'
#' Every node has one parent; the points of a subtree are a contiguous range of `perm`; the centre of a
#' node is the centre of one of its children; the centres of siblings are at least as far apart as the
#' largest of their radii; no node has a single child; duplicated inputs share a leaf.
#'
#' `update()` gives the tree another kernel, with the same inducing inputs, nugget and jitter, or another
#' residual process of the same inputs (`gp`): features and residual variances are computed anew, the
#' structure is not. It keeps the lengthscales that it was built with, which matters for speed only.
#'
#' @param gp A [residual_gp()].
#' @param threads Number of threads, see [vecchiann_info()].
#' @param ... Not used.
#' @return A list of class `"cover_tree"`, made of ordinary R vectors: `gp`; `lengthscale`, that of the
#'   build; `perm`, the rows of `x` in tree order; and for every node, breadth first, `first` and `count`
#'   (its range in `perm`), `parent` (0 for the root), `child` and `children` (the first child and how many, 0 for a leaf), `centre` (a row
#'   of `x`), `level` (0 for the root) and `radius` (the largest distance from the centre to one of its
#'   points, in the scaled units of the build).
#' @section Errors:
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
  check_class(gp, "residual_gp", "gp")
  nodes <- .Call(C_cover_tree, gp$x, gp$kernel$lengthscale, thread_count(threads))
  structure(c(list(gp = gp, lengthscale = gp$kernel$lengthscale), nodes), class = "cover_tree")
}

#' @rdname cover_tree
#' @param object A `cover_tree`.
#' @param kernel Another [gp_kernel()] for the same inputs and inducing inputs.
#' @importFrom stats update
#' @export
update.cover_tree <- function(object, kernel = object$gp$kernel, gp = NULL, threads = NULL, ...) {
  old <- object$gp
  if (!is.null(gp)) {
    check_class(gp, "residual_gp", "gp")
    if (!identical(gp$x, old$x)) refuse("gp", "of the inputs of the tree", "of others")
    object$gp <- gp
    return(object)
  }
  if (is.null(old$inducing)) {
    refuse("gp", "given to update the tree of a residual_process()", "NULL")
  }
  check_kernel(kernel, ncol(old$x))
  object$gp <- new_residual_gp(old$x, kernel, old$inducing, old$nugget, old$jitter, thread_count(threads))
  object
}

#' @export
print.cover_tree <- function(x, ...) {
  cat("<cover_tree> ", counted(length(x$perm), "point"), ", ", counted(length(x$first), "node"), ", ",
      counted(max(x$level) + 1, "level"), "\n", sep = "")
  print(x$gp)
  invisible(x)
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
  by_level <- function(values, f) as.vector(tapply(values, object$level, f))
  leaf <- object$children == 0
  levels <- data.frame(
    level = sort(unique(object$level)), nodes = by_level(leaf, length), leaves = by_level(leaf, sum),
    points = by_level(object$count, sum),
    fanout = by_level(ifelse(leaf, NA, object$children), function(children) mean(children, na.rm = TRUE)),
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

#' Picture of a cover tree
#'
#' Draws the nodes of one level over the inputs: a disc for each, its centre and its radius in the units of
#' the inputs. Leaves of earlier levels are drawn too, so that every point is covered.
#'
#' @param x A [cover_tree()].
#' @param level Which level; the default is the first with at least 12 nodes, or the last.
#' @param columns The two columns of the inputs to draw, by number, where there are more than one.
#' @param xlab,ylab,main As in [plot.default()].
#' @param ... Further arguments of [plot.default()].
#' @return `x`, invisibly.
#' @examples
#' gp <- residual_gp(matrix(runif(2000), ncol = 2), gp_kernel(lengthscale = 0.2), inducing = 10)
#' plot(cover_tree(gp), asp = 1)
#' @export
plot.cover_tree <- function(x, level = NULL, columns = 1:2, xlab = NULL, ylab = NULL, main = NULL, ...) {
  nodes <- tabulate(x$level + 1)
  if (is.null(level)) level <- c(which(nodes >= 12), length(nodes))[1] - 1
  level <- check_whole(level, "level", 0)
  if (level >= length(nodes)) refuse("level", paste("at most", length(nodes) - 1), level)
  points <- x$gp$x
  flat <- ncol(points) == 1
  if (!flat && !all(columns %in% seq_len(ncol(points)) & length(columns) == 2)) {
    refuse("columns", paste("two column numbers from 1 to", ncol(points)), describe(columns))
  }
  labels <- colnames(points)
  if (is.null(labels)) labels <- paste("input", seq_len(ncol(points)))
  at <- if (flat) cbind(points, 0) else points[, columns]
  drawn <- which(x$level == level | (x$level < level & x$children == 0))
  graphics::plot(at, type = "n", bty = "l", las = 1, xlab = if (is.null(xlab)) labels[columns[1]] else xlab,
                 ylab = if (!is.null(ylab)) ylab else if (flat) "" else labels[columns[2]],
                 yaxt = if (flat) "n" else "s", ...)
  graphics::points(at, pch = 16, cex = 0.35, col = "#9a9a9a")
  # radii are in units of the lengthscales, which the picture need not have in common
  lengthscale <- rep_len(x$lengthscale, ncol(points))
  spread <- if (flat) c(lengthscale, 0) else lengthscale[columns]
  angle <- seq(0, 2 * pi, length.out = 73)
  for (node in drawn) {
    middle <- at[x$centre[node], ]
    graphics::polygon(middle[1] + x$radius[node] * spread[1] * cos(angle),
                      middle[2] + x$radius[node] * spread[2] * sin(angle), border = "#2f7fb8", col = "#2f7fb812")
  }
  graphics::points(at[x$centre[drawn], , drop = FALSE], pch = 16, cex = 0.8, col = "#c1121f")
  title <- paste0("level ", level, " of 0 to ", length(nodes) - 1, ": ", counted(sum(x$level == level), "node"))
  graphics::title(if (is.null(main)) title else main, cex.main = 1, font.main = 1)
  invisible(x)
}
