# New inputs and covariates of a fit, from what predict() and its kin are given.

fitted_inputs <- function(object) {
  back <- order(object$order)
  list(x = object$gp$x[back, , drop = FALSE], X = object$X)
}

new_inputs <- function(object, newdata, newX) {
  if (is.null(object$formula)) {
    x <- check_points(newdata, "newdata", ncol(object$gp$x))
    if (is.null(object$X)) {
      if (!is.null(newX)) refuse("newX", "NULL, as the fit has no covariates", describe(newX))
      return(list(x = x, X = NULL))
    }
    if (is.null(newX)) {
      refuse("newX", paste("given, with the", counted(ncol(object$X), "column"), "of `X`"), "missing")
    }
    # a vector is one covariate, or the covariates of one point
    if (is.null(dim(newX)) && nrow(x) == 1) newX <- matrix(newX, 1)
    newX <- check_points(newX, "newX")
    if (nrow(newX) != nrow(x) || ncol(newX) != ncol(object$X)) {
      refuse("newX", sprintf("%d x %d", nrow(x), ncol(object$X)), paste(dim(newX), collapse = " x "))
    }
    return(list(x = x, X = newX))
  }
  if (!is.data.frame(newdata)) refuse("newdata", "a data frame, as the fit has a formula", describe(newdata))
  if (!is.null(newX)) refuse("newX", "NULL, as the fit has a formula", describe(newX))
  absent <- setdiff(c(all.vars(object$coords), all.vars(object$terms)),
                    c(names(newdata), ls(environment(object$formula))))
  if (length(absent)) {
    refuse("newdata", paste("with column", absent[1]), paste("one of", paste(names(newdata), collapse = ", ")))
  }
  frame <- stats::model.frame(object$terms, newdata, na.action = stats::na.pass, xlev = object$xlevels)
  X <- stats::model.matrix(object$terms, frame, contrasts.arg = object$contrasts)
  inputs <- stats::model.frame(object$coords_terms, newdata, na.action = stats::na.pass)
  list(x = check_points(coordinates(object$coords, inputs), "newdata"),
       X = if (ncol(X)) check_points(X, "newdata"))
}
