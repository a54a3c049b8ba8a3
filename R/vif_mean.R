# Mean: covariates of full rank, and the orthonormal basis that the likelihood is computed in.

# Covariates as a double matrix with names, of full rank.
check_covariates <- function(X, n, arg = "X") {
  if (is.null(X)) return(NULL)
  if (is.numeric(X) && length(X) == 1 && isTRUE(X == 1) && n > 1) return(constant_mean(n))
  X <- check_points(X, arg)
  if (nrow(X) != n) {
    refuse(arg, paste0("of ", counted(n, "row"), ", one for each observation"), paste("of", nrow(X)))
  }
  names <- if (is.null(colnames(X))) rep("", ncol(X)) else colnames(X)
  blank <- !nzchar(names)
  names[blank] <- own_names(ncol(X))[blank]
  colnames(X) <- names
  surplus <- surplus_columns(X)
  if (length(surplus)) {
    refuse(arg, "of linearly independent columns",
           paste0("of rank ", ncol(X) - length(surplus), " with ", ncol(X), " columns (",
                  paste(surplus, collapse = ", "), " depends on the others)"))
  }
  X
}

# Names of columns that depend on the others.
surplus_columns <- function(X) {
  parts <- qr(standardise(X)$columns)
  colnames(X)[parts$pivot[seq_len(ncol(X)) > parts$rank]]
}

# Names of covariates that have none.
own_names <- function(p) paste0("X", seq_len(p))

constant_mean <- function(n) matrix(1, n, 1, dimnames = list(NULL, "(Intercept)"))

is_constant_mean <- function(X) !is.null(X) && ncol(X) == 1 && all(X == X[1])

# Columns of root mean square 1, centred where another column is constant: X = columns %*% change. Their rank is that of
# X in exact numbers, whatever the units and origins of the covariates.
standardise <- function(X) {
  p <- ncol(X)
  first <- X[1, ]
  constant <- which(first != 0 & colSums(X != rep(first, each = nrow(X))) == 0)[1]
  middle <- if (is.na(constant)) rep(0, p) else replace(colMeans(X), constant, 0)
  columns <- X - rep(middle, each = nrow(X))
  largest <- pmax(apply(abs(columns), 2, max), .Machine$double.xmin)
  size <- largest * sqrt(colMeans((columns / rep(largest, each = nrow(X)))^2))
  # what is left of a constant is rounding
  rounding <- size <= 1e-13 * abs(middle)
  size[rounding | size == 0] <- 1
  columns <- columns / rep(size, each = nrow(X))
  columns[, rounding] <- 0
  change <- diag(size, p)
  if (!is.na(constant)) change[constant, ] <- change[constant, ] + middle / (first[constant] / size[constant])
  list(columns = columns, change = change)
}

# X = Q %*% change with orthogonal columns of root mean square 1 in Q. The likelihood, profiled over beta, is the same
# for both; of X in large or mixed units its normal equations lose all digits.
mean_basis <- function(X) {
  if (is.null(X)) return(NULL)
  scaled <- standardise(X)
  parts <- qr(scaled$columns)
  root <- sqrt(nrow(X))
  Q <- qr.Q(parts) * root
  R <- qr.R(parts) / root
  change <- R %*% scaled$change[parts$pivot, , drop = FALSE]
  back <- solve_scaled(scaled$change)[, parts$pivot, drop = FALSE] %*% backsolve(R, diag(ncol(X)))
  list(Q = Q, change = change, back = back)
}

# The inverse of a `change` of standardise(): its columns in units of their diagonal are those of the identity but for
# one row.
solve_scaled <- function(change) {
  size <- diag(change)
  (diag(2, nrow(change)) - change / rep(size, each = nrow(change))) / size
}

# Estimates for X from those for the columns of mean_basis(X): beta = back theta.
mean_estimates <- function(evaluation, basis, names) {
  if (is.null(basis)) {
    return(list(beta = stats::setNames(numeric(), character()), vcov = matrix(0, 0, 0), B = evaluation$B))
  }
  spread <- backsolve(chol(evaluation$information), diag(length(names)))
  vcov <- tcrossprod(basis$back %*% spread)
  dimnames(vcov) <- list(names, names)
  list(beta = stats::setNames(drop(basis$back %*% evaluation$beta), names), vcov = vcov,
       B = evaluation$B %*% basis$change)
}
