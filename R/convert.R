# Convert: neighbours as the tables of other packages.

#' Neighbours in the form of other packages
#'
#' `as_nnarray()` gives the table of GpGp's `find_ordered_nn()`, to hand to its `fit_model(NNarray = )` or
#' `vecchia_Linv()`; `as_nn2()` the list of RANN's `nn2()`; `as_get_knn()` that of FNN's `get.knn()`.
#'
#' RANN counts a point among its own neighbours when it searches a set for itself; a point is never
#' its own neighbour here, and `as_nn2()` does not add it.
#'
#' @param nn A result of [residual_knn()] or [conditioning_sets()]: for `as_nnarray()`, of `predecessors = TRUE` for all
#'   rows; for the other two, one without missing neighbours, as their packages know none.
#' @return `as_nnarray()`: an integer matrix, n x (k + 1), the point itself in the first column and its
#'   neighbours after it in their order, filled with `NA`. `as_nn2()`: `list(nn.idx, nn.dists)`.
#'   `as_get_knn()`: `list(nn.index, nn.dist)`. The distances are those of the residual correlation.
#' @examples
#' x <- cbind(runif(200), runif(200))
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 10, seed = 1)
#' head(as_nnarray(residual_knn(gp, k = 3, predecessors = TRUE)))
#' str(as_nn2(residual_knn(gp, k = 3)))
#' str(as_get_knn(residual_knn(gp, k = 3)))
#' @export
as_nnarray <- function(nn) {
  check_neighbours(nn)
  if (!nn$predecessors) refuse("nn", "a search with predecessors = TRUE", "one among all points")
  if (!is.null(nn$queries)) refuse("nn", "a search for all rows", "one for chosen `queries`")
  unname(cbind(seq_len(nrow(nn$id)), nn$id))
}

#' @rdname as_nnarray
#' @export
as_nn2 <- function(nn) {
  check_complete(nn)
  list(nn.idx = unname(nn$id), nn.dists = unname(nn$dist))
}

#' @rdname as_nnarray
#' @export
as_get_knn <- function(nn) {
  check_complete(nn)
  list(nn.index = unname(nn$id), nn.dist = unname(nn$dist))
}

check_complete <- function(nn) {
  check_neighbours(nn)
  short <- which(is.na(nn$id[, nn$k]))
  if (length(short)) {
    refuse("nn", paste("a search with", nn$k, "neighbours in every row"),
           paste("one with", counted(length(short), "row"), "filled with NA, first row", short[1]))
  }
}
