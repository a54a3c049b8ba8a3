# VIF: factor, likelihood and derivatives of the Vecchia-inducing-points full-scale approximation.
# The sums over points are made in C (src/vif.h); what is left here is algebra of size m and ncol(X).

#' Factor of the VIF approximation
#'
#' Vecchia's approximation of the residual process plus noise: every point is regressed on its
#' neighbours, so that the precision matrix of the residual process plus noise is about
#' `t(B) %*% diag(1 / D) %*% B`, and the covariance of the observations
#' `crossprod(gp$V) + solve(B) %*% diag(D) %*% t(solve(B))`.
#'
#' Points are taken in the row order of `gp$x`; order them first, for example by [order_maxmin()]. The
#' cost is O(n (k^3 + k^2 m)).
#'
#' @param gp A [residual_gp()]. Its own `nugget`, which belongs to the search, is not used.
#' @param nn Neighbours of every row among the rows before it: a result of
#'   `residual_knn(gp, k, predecessors = TRUE)`, or a table as GpGp's `find_ordered_nn()` makes it: an
#'   integer matrix with n rows, row i starting with i itself and filled with `NA`.
#' @param nugget Variance of the noise of the observations, not negative.
#' @param noise_variance Known variances of the single observations, added to the nugget: a vector of
#'   length n, or `NULL` for none.
#' @param threads Number of threads, see [vecchiann_info()].
#' @return A list of `B`, an n x n sparse unit lower triangular matrix (`dgCMatrix`) holding the negative
#'   regression coefficients, and `D`, the n conditional variances.
#' @section Errors:
#' A residual covariance that is not positive definite, as duplicated inputs without noise have: the
#' message names the row.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes, section 2. \doi{10.48550/arXiv.2507.05064}.
#' @seealso [vif_loglik()], [vif_fit()]
#' @examples
#' x <- cbind(runif(300), runif(300))
#' x <- x[order_maxmin(x), ]
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
#' f <- vif_factor(gp, residual_knn(gp, k = 10, predecessors = TRUE), nugget = 0.1)
#' f$B[1:5, 1:5]
#' range(f$D)
#' @export
vif_factor <- function(gp, nn, nugget, noise_variance = NULL, threads = NULL) {
  check_gp(gp)
  id <- check_conditioning(nn, nrow(gp$x))
  noise <- check_noise(nugget, noise_variance, nrow(gp$x))
  f <- .Call(C_vif_regression, gp, noise, id, NULL, NULL, thread_count(threads))
  list(B = contrast_matrix(id, f$coef), D = f$D)
}

# Rows y_i - sum_j a_ij y_j as a sparse matrix.
contrast_matrix <- function(id, coef) {
  n <- nrow(id)
  used <- which(!is.na(id))
  Matrix::sparseMatrix(i = c(seq_len(n), (used - 1L) %% n + 1L), j = c(seq_len(n), id[used]),
                       x = c(rep(1, n), -t(coef)[used]), dims = c(n, n))
}

#' Log-likelihoods of a Gaussian process
#'
#' The log density of observations `y = X beta + f(x) + noise` under the VIF approximation
#' (`vif_loglik()`) and under the exact process (`gp_loglik()`, for checks: O(n^3)). Both include the
#' constant `-n/2 log(2 pi)`. The two agree where the approximation is exact: with n - 1 neighbours, and,
#' as the jitter goes to zero, with the inputs themselves as inducing inputs.
#'
#' With `X` the coefficients are profiled out: the density is taken at the generalised least squares
#' estimate `beta`, which is its maximum over `beta` (maximum likelihood, not REML).
#'
#' @inheritParams vif_factor
#' @param y Observations, one for each row of `gp$x` (or `x`), in its order.
#' @param X Covariates of the mean, n x p; `NULL` for mean zero.
#' @param gradient `TRUE` adds the attribute `"gradient"`: derivatives to the logarithms of `variance`,
#'   `lengthscale` (as many as the kernel has) and `nugget`, with neighbours and inducing inputs held
#'   fixed.
#' @return A number.
#' @section Errors:
#' `y` of another length or with missing values; `X` with other rows or collinear columns; a covariance
#' that is not positive definite.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes, sections 2 and 3. \doi{10.48550/arXiv.2507.05064}.
#'
#'   Rasmussen, C. E. and Williams, C. K. I. (2006). *Gaussian Processes for Machine Learning*,
#'   section 2.7. MIT Press.
#' @examples
#' x <- cbind(runif(200), runif(200))
#' x <- x[order_maxmin(x), ]
#' y <- sin(6 * x[, 1]) + rnorm(200, sd = 0.1)
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.3), inducing = 20, seed = 1)
#' nn <- residual_knn(gp, k = 10, predecessors = TRUE)
#' vif_loglik(y, gp, nn, nugget = 0.01)
#' gp_loglik(y, x, gp$kernel, nugget = 0.01)
#' vif_loglik(y, gp, nn, nugget = 0.01, X = cbind(1, x), gradient = TRUE)
#' @export
vif_loglik <- function(y, gp, nn, nugget, X = NULL, noise_variance = NULL, gradient = FALSE,
                       threads = NULL) {
  check_gp(gp)
  n <- nrow(gp$x)
  y <- check_response(y, n, "gp$x")
  X <- check_covariates(X, n)
  id <- check_conditioning(nn, n)
  noise <- check_noise(nugget, noise_variance, n)
  gradient <- check_flag(gradient, "gradient")
  if (gradient && is.null(gp$chol)) refuse("gradient", "FALSE for a residual_process()", "TRUE")
  threads <- thread_count(threads)
  evaluation <- vif_evaluate(y, gp, id, noise, X, threads)
  if (!gradient) return(evaluation$loglik)
  structure(evaluation$loglik,
            gradient = vif_gradient(evaluation, gp, id, noise, nugget, threads))
}

# Likelihood and all that derivatives and predictions need. Columns of values are stored one column a
# point, as the core wants them: y and X become rows.
vif_evaluate <- function(y, gp, id, noise, X, threads) {
  f <- .Call(C_vif_regression, gp, noise, id, NULL, NULL, threads)
  values <- unname(rbind(y, if (!is.null(X)) t(X)))
  contrasts <- .Call(C_vif_contrasts, id, f$coef, values, values, threads)
  W <- .Call(C_vif_contrasts, id, f$coef, gp$V, gp$V, threads)
  M <- .Call(C_vif_crossproduct, W, W, 1 / f$D, threads)
  diag(M) <- diag(M) + 1
  root <- if (nrow(M)) t(chol(M)) else M
  B <- solve_root(root, .Call(C_vif_crossproduct, W, contrasts, 1 / f$D, threads))
  errors <- contrasts - crossprod(B, W)
  beta <- numeric()
  information <- matrix(0, 0, 0)
  if (!is.null(X)) {
    Q <- .Call(C_vif_crossproduct, errors, errors, 1 / f$D, threads) + crossprod(B)
    information <- Q[-1, -1, drop = FALSE]
    beta <- drop(solve(information, Q[-1, 1]))
  }
  # from here on the only values are the residuals y - X beta
  profile <- c(1, -beta)
  residual <- drop(crossprod(profile, values))
  b <- drop(B %*% profile)
  error <- drop(crossprod(profile, errors))
  loglik <- -0.5 * (length(y) * log(2 * pi) + sum(log(f$D)) + 2 * sum(log(diag(root))) +
                      sum(error^2 / f$D) + sum(b^2))
  list(loglik = loglik, beta = beta, information = information, coef = f$coef, D = f$D, W = W,
       root = root, b = b, B = B[, -1, drop = FALSE], error = error, residual = residual,
       centred = residual - drop(crossprod(b, gp$V)))
}

solve_root <- function(root, x) {
  if (!nrow(root)) return(x)
  backsolve(root, forwardsolve(root, x), upper.tri = FALSE, transpose = TRUE)
}

# Derivatives to log variance, log lengthscales and log nugget, by reverse differentiation: from the
# likelihood to the residual covariances and features (in C), from the features to k(Z, X) (in C) and
# to the Cholesky factor of k(Z, Z) (here, m x m).
vif_gradient <- function(evaluation, gp, id, noise, nugget, threads) {
  parts <- .Call(C_vif_derivative, gp, noise, id, evaluation, threads)
  slope <- parts$slope
  if (nrow(gp$inducing)) {
    # K = L L', V = L^-1 k: the adjoint of K is -L^-T Phi L^-1, Phi the lower half of vbar V'
    Phi <- parts$features
    Phi[upper.tri(Phi)] <- 0
    diag(Phi) <- diag(Phi) / 2
    half <- backsolve(gp$chol, Phi, upper.tri = FALSE, transpose = TRUE)
    adjoint <- -t(backsolve(gp$chol, t(half), upper.tri = FALSE, transpose = TRUE))
    slope <- slope + .Call(C_vif_slopes, gp, gp$inducing, adjoint, threads)
  }
  if (length(gp$kernel$lengthscale) == 1) slope <- sum(slope)
  names(slope) <- if (length(slope) > 1) paste0("lengthscale", seq_along(slope)) else "lengthscale"
  c(variance = parts$signal - sum(parts$noise * noise), slope, nugget = nugget * sum(parts$noise))
}

#' @rdname vif_loglik
#' @param x Inputs, n x d.
#' @param kernel A [gp_kernel()].
#' @export
gp_loglik <- function(y, x, kernel, nugget, X = NULL, noise_variance = NULL) {
  x <- check_points(x, "x")
  y <- check_response(y, nrow(x), "x")
  X <- check_covariates(X, nrow(x))
  S <- gp_covariance(x, kernel)
  diag(S) <- diag(S) + check_noise(nugget, noise_variance, nrow(x))
  root <- tryCatch(chol(S), error = function(e) {
    refuse("nugget", "large enough to make the covariance of `y` positive definite", nugget)
  })
  white <- backsolve(root, cbind(y, X), transpose = TRUE)
  if (!is.null(X)) white[, 1] <- stats::lm.fit(white[, -1, drop = FALSE], white[, 1])$residuals
  -0.5 * (length(y) * log(2 * pi) + sum(white[, 1]^2)) - sum(log(diag(root)))
}

# k(x, newdata), dense; without newdata k(x, x).
gp_covariance <- function(x, kernel, newdata = NULL) {
  process <- residual_gp(x, kernel, inducing = 0)
  rho <- residual_correlation(process, newdata = newdata)
  kernel$variance * if (is.null(newdata)) rho else t(rho)
}

# ---- checks ----

check_response <- function(y, n, where) {
  if (is.matrix(y) && ncol(y) == 1) y <- drop(y)
  if (!is.numeric(y) || !is.null(dim(y)) || is.factor(y)) refuse("y", "a numeric vector", describe(y))
  if (length(y) != n) {
    refuse("y", paste0("of length ", n, " (the rows of `", where, "`)"), paste("of length", length(y)))
  }
  missing <- sum(is.na(y))
  if (missing) {
    refuse("y", "without missing values (leave out their rows)",
           paste0("one with ", missing, " NA (first at position ", which(is.na(y))[1], ")"))
  }
  check_finite(y, "y")
  stats::setNames(as.double(y), names(y))
}

# Covariates as a double matrix with names, of full rank.
check_covariates <- function(X, n, arg = "X") {
  if (is.null(X)) return(NULL)
  X <- check_points(X, arg)
  if (nrow(X) != n) {
    refuse(arg, paste0("of ", counted(n, "row"), ", one for each observation"), paste("of", nrow(X)))
  }
  if (is.null(colnames(X))) colnames(X) <- paste0("X", seq_len(ncol(X)))
  rank <- qr(X)
  if (rank$rank < ncol(X)) {
    surplus <- colnames(X)[rank$pivot[-seq_len(rank$rank)]]
    refuse(arg, "of linearly independent columns",
           paste0("of rank ", rank$rank, " with ", ncol(X), " columns (",
                  paste(surplus, collapse = ", "), " depends on the others)"))
  }
  X
}

# Noise variance of every observation.
check_noise <- function(nugget, noise_variance, n) {
  nugget <- check_nonnegative(nugget, "nugget")
  if (is.null(noise_variance)) return(rep(nugget, n))
  if (!is.numeric(noise_variance) || length(noise_variance) != n) {
    refuse("noise_variance", paste("NULL or numeric of length", n), describe(noise_variance))
  }
  check_finite(noise_variance, "noise_variance")
  low <- which(noise_variance < 0)
  if (length(low)) {
    refuse("noise_variance", "at least 0", paste0(noise_variance[low[1]], " (position ", low[1], ")"))
  }
  nugget + as.double(noise_variance)
}

# Neighbours among earlier rows as an integer matrix without the point itself.
check_conditioning <- function(nn, n) {
  if (inherits(nn, "residual_knn")) {
    check_neighbours(nn)
    if (!nn$predecessors) refuse("nn", "a search with predecessors = TRUE", "one among all points")
    if (!is.null(nn$queries)) refuse("nn", "a search for all rows", "one for chosen `queries`")
    id <- unname(nn$id)
  } else {
    if (!is.matrix(nn) || !is.numeric(nn) || !ncol(nn)) {
      refuse("nn", "a residual_knn object or an integer matrix as GpGp's find_ordered_nn() makes it",
             describe(nn))
    }
    if (nrow(nn) == n && !isTRUE(all(nn[, 1] == seq_len(n)))) {
      refuse("nn", "a matrix whose first column is the row itself", "one with other values there")
    }
    id <- nn[, -1, drop = FALSE]
    storage.mode(id) <- "integer"
    dimnames(id) <- NULL
  }
  if (nrow(id) != n) {
    refuse("nn", paste0("of ", counted(n, "row"), " (the rows of `gp$x`)"), paste("of", nrow(id)))
  }
  bad <- which(id < 1L | id >= row(id))
  if (length(bad)) {
    refuse("nn", "neighbours among earlier rows", sprintf("%d in row %d", id[bad[1]], row(id)[bad[1]]))
  }
  id
}
