# VIF: factor, likelihood and derivatives of the Vecchia-inducing-points full-scale approximation.
# All of it is computed in C (src/vif).

#' Factor of the VIF approximation
#'
#' Vecchia's approximation of the residual process plus noise: every point is regressed on its
#' neighbours, so that the precision matrix of the residual process plus noise is about
#' `t(B) %*% diag(1 / D) %*% B`, and the covariance of the observations
#' `crossprod(gp$V) + solve(B) %*% diag(D) %*% t(solve(B))`.
#'
#' For work of your own with the precision matrix: sampling, preconditioning, or a check of what [vif_fit()] does.
#' Fits and predictions do not need it.
#'
#' Points are taken in the row order of `gp$x`; order them first, for example by [order_maxmin()]. The
#' cost is O(n (k^3 + k^2 m)).
#'
#' @param gp A [residual_gp()]. Its own `nugget`, which belongs to the search, is not used.
#' @param nn Neighbours of every row among the rows before it: a result of [conditioning_sets()] or of
#'   `residual_knn(gp, k, predecessors = TRUE)`, or a table as GpGp's `find_ordered_nn()` makes it: an
#'   integer matrix with n rows, row i starting with i itself and filled with `NA`.
#' @param nugget Variance of the noise of the observations, not negative.
#' @param noise_variance Known variances of the single observations, added to the nugget: a vector of
#'   length n, or `NULL` for none.
#' @param threads Number of threads, see [vecchiann_info()].
#' @return A list of `B`, an n x n sparse unit lower triangular matrix (`dgCMatrix`) holding the negative
#'   regression coefficients, and `D`, the n conditional variances.
#' @section Errors:
#' Neighbours of another number of rows, or that are not rows before their own; a nugget that is negative. A residual
#' covariance that is not positive definite, as duplicated inputs without noise have: the message names the row.
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
#' [vif_fit()] maximises `vif_loglik()`; call it yourself to look at the likelihood at parameters of your choice, or
#' to put it into an optimiser or sampler of your own.
#'
#' With `X` the coefficients are profiled out: the density is taken at the generalised least squares
#' estimate `beta`, which is its maximum over `beta` (maximum likelihood, not REML).
#'
#' @inheritParams vif_factor
#' @param y Observations, one for each row of `gp$x` (or `x`), in its order.
#' @param X Covariates of the mean, n x p; `NULL` for mean zero.
#' @param gradient `TRUE` adds the attribute `"gradient"`: derivatives to the logarithms of `variance`,
#'   `lengthscale` (as many as the kernel has), `nugget`, and for family `"matern"` `smoothness`, with
#'   neighbours and inducing inputs held fixed. Of a kernel with anisotropy also to `angle`, in degrees, and to the
#'   logarithm of `ratio`; `lengthscale` is then that of the plane.
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
  X <- mean_basis(check_covariates(X, n))$Q
  id <- check_conditioning(nn, n)
  noise <- check_noise(nugget, noise_variance, n)
  gradient <- check_flag(gradient, "gradient")
  if (gradient && is.null(gp$chol)) refuse("gradient", "FALSE for a residual_process()", "TRUE")
  threads <- thread_count(threads)
  turned <- !is.null(gp$kernel$anisotropy)
  evaluation <- vif_evaluate(y, gp, id, noise, X, threads, gradient, nugget = nugget, plane = turned)
  slope <- evaluation$gradient
  structure(evaluation$loglik, gradient = if (gradient && turned) gradient_in_plane(slope, gp$kernel) else slope)
}

# Likelihood and all that predictions need; with `gradient` and `information` also what these say of the logarithms of
# the covariance parameters. The information serves the steps of an optimiser, and standard errors if it is asked for as
# "accurate", which costs more where there are inducing inputs. With `columns` there is one lengthscale for each column.
# With `plane` they are to the lengthscales of in_plane_directions(), named plane1 to plane3, and of the other columns.
# `nugget` is what of the noise is in proportion to the nugget: one number or one for each point.
# Evaluations that follow each other save the time that the system takes to clear memory with a `memory`, vif_memory(),
# of theirs.
vif_evaluate <- function(y, gp, id, noise, X, threads, gradient = FALSE, information = FALSE, nugget = 0,
                         columns = plane || length(gp$kernel$lengthscale) > 1, memory = NULL, plane = FALSE) {
  if (plane) gp <- in_plane_directions(gp)
  values <- unname(rbind(y, if (!is.null(X)) t(X))) # a column a point, as the core wants them
  storage.mode(values) <- "double"
  how <- if (identical(information, "accurate")) 2L else as.integer(information)
  found <- .Call(C_vif_likelihood, gp, noise, as.double(nugget), id, values, gradient, how, columns, memory,
                 threads)
  named_derivatives(found, gp$kernel, ncol(gp$x), columns, plane)
}

# Names of the gradient and the information that the core has found for d columns, and from those of all columns those
# of one lengthscale where the kernel has one.
named_derivatives <- function(found, kernel, d, columns = length(kernel$lengthscale) > 1, plane = FALSE) {
  if (is.null(found$gradient)) return(found)
  matern <- kernel$family == "matern"
  labels <- derivative_names(if (columns) d else 1, matern)
  if (plane) labels <- plane_labels(labels)
  names(found$gradient) <- labels
  if (!is.null(found$fisher)) dimnames(found$fisher) <- list(labels, labels)
  if (!columns) return(found)
  found$gradient_columns <- unname(found$gradient[1 + seq_len(d)])
  found$fisher_columns <- found$fisher
  if (plane || length(kernel$lengthscale) > 1) return(found)
  # one lengthscale for all columns: the chain rule
  group <- match(sub("[0-9]+$", "", labels), derivative_names(1, matern))
  found$gradient <- drop(rowsum(found$gradient, group))
  names(found$gradient) <- derivative_names(1, matern)
  if (!is.null(found$fisher)) {
    found$fisher <- rowsum(t(rowsum(found$fisher, group)), group)
    dimnames(found$fisher) <- list(names(found$gradient), names(found$gradient))
  }
  found
}

# Derivatives of vif_evaluate(plane = TRUE) as those to lengthscale (of the plane, or of all columns if it is one),
# angle in degrees and logarithm of the ratio.
gradient_in_plane <- function(slope, kernel) {
  at <- grep("^plane", names(slope))
  other <- grep("^lengthscale", names(slope))
  plane <- drop(plane_gradient(kernel$anisotropy) %*% slope[at])
  if (length(kernel$lengthscale) == 1) {
    plane[["lengthscale"]] <- plane[["lengthscale"]] + sum(slope[other])
    other <- integer()
  }
  rest <- slope[names(slope) %in% c("nugget", "smoothness")]
  c(slope["variance"], plane["lengthscale"], slope[other], plane[c("angle", "ratio")], rest)
}

vif_memory <- function() .Call(C_vif_memory)

# Names of the parameters whose logarithms derivatives are taken to.
derivative_names <- function(lengthscales, matern) {
  c("variance", if (lengthscales > 1) paste0("lengthscale", seq_len(lengthscales)) else "lengthscale", "nugget",
    if (matern) "smoothness")
}

#' @rdname vif_loglik
#' @param x Inputs, n x d.
#' @param kernel A [gp_kernel()].
#' @export
gp_loglik <- function(y, x, kernel, nugget, X = NULL, noise_variance = NULL) {
  x <- check_points(x, "x")
  y <- check_response(y, nrow(x), "x")
  X <- mean_basis(check_covariates(X, nrow(x)))$Q
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
  if (!is.numeric(y) || !is.null(dim(y)) || is.factor(y)) {
    binary <- is.logical(y) || is.factor(y)
    refuse("y", paste0("a numeric vector", if (binary) " (binary responses have family = binomial())"), describe(y))
  }
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

# Weights of the observations, 1 unless given.
check_weights <- function(weights, n) {
  if (is.null(weights)) return(rep(1, n))
  if (!is.numeric(weights) || length(weights) != n) {
    refuse("weights", paste("NULL or numeric of length", n), describe(weights))
  }
  check_finite(weights, "weights")
  low <- which(weights <= 0)
  if (length(low)) refuse("weights", "positive", paste0(weights[low[1]], " (position ", low[1], ")"))
  as.double(weights)
}
