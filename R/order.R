# Order: orderings of the inputs for a Vecchia approximation.

#' Orderings of the inputs
#'
#' A Vecchia approximation conditions each point on earlier ones, so the order of the points decides how
#' good it is. All functions return the rows of `x` in their new order, ready for `x[order, ]`.
#'
#' `order_maxmin()` is the exact maximum-minimum-distance ordering: it starts with the point nearest to
#' the centroid and goes on with the point that is farthest from all points chosen before (Euclidean
#' distance in the columns as they are: divide by the lengthscales first if these differ). Ties go to
#' the lower row, and copies of points chosen before come last, in their order. A k-d tree over the
#' distances that are left makes it O(n log n) for points spread over a domain: about 0.1 seconds for
#' 100,000 points in two dimensions, and 10 in ten, where fewer distances can be ruled out.
#'
#' `order_random()` is a random permutation. `order_coordinate()` sorts by the values of one column, ties
#' by row.
#'
#' Package GpGp has an approximate `order_maxmin()`, which masks this one where GpGp is attached later:
#' `vecchiann::order_maxmin()` is always this one.
#'
#' @param x Inputs, n x d: a numeric matrix, a data frame of numeric columns, or a vector (one column).
#' @param seed A whole number makes the permutation repeatable and leaves the session's random numbers
#'   untouched; `NULL` draws from them.
#' @param column Number or name of the column to sort by.
#' @return An integer permutation of `1:n`.
#' @section Errors:
#' Missing or infinite values in `x`, and a `column` that it does not have.
#' @references Guinness, J. (2018). Permutation and grouping methods for sharpening Gaussian process
#'   approximations, section 3. *Technometrics* 60(4).
#'
#'   Schaefer, F., Katzfuss, M. and Owhadi, H. (2021). Sparse Cholesky factorization by Kullback-Leibler
#'   minimization, section 4. *SIAM Journal on Scientific Computing* 43(3).
#' @examples
#' x <- cbind(runif(1000), runif(1000))
#' ordered <- x[order_maxmin(x), ]
#' plot(x, pch = ".")
#' points(ordered[1:50, ], pch = 19)
#' head(order_coordinate(x, 2))
#' head(order_random(x, seed = 1))
#' @export
order_maxmin <- function(x) {
  x <- check_points(x, "x")
  .Call(C_order_points, x, colMeans(x))
}

#' @rdname order_maxmin
#' @export
order_random <- function(x, seed = NULL) {
  n <- nrow(check_points(x, "x"))
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  with_seed(seed, sample.int(n))
}

#' @rdname order_maxmin
#' @export
order_coordinate <- function(x, column = 1) {
  x <- check_points(x, "x")
  if (!is.atomic(column) || !length(column) || length(column) > 1 || is.na(column) ||
      !column %in% (if (is.character(column)) colnames(x) else seq_len(ncol(x)))) {
    refuse("column", paste("the number or name of one of the", ncol(x), "columns of `x`"),
           describe(column))
  }
  order(x[, column], method = "radix")
}
