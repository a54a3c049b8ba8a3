# Residual process: what a Gaussian process keeps after conditioning on inducing inputs.

#' The residual process of a Gaussian process with inducing inputs
#'
#' Conditioning a Gaussian process with covariance `k` on its values at `m` inducing inputs `Z` leaves
#' the residual covariance `r(x, y) = k(x, y) - v_x . v_y`, where `v_x = L^-1 k(Z, x)` are the whitened
#' inducing features and `L` is the lower Cholesky factor of `k(Z, Z) + jitter * variance * I`. The
#' object holds all that the search for residual neighbours needs.
#'
#' Inducing inputs are chosen among or between the distinct rows of `x`, in units of the lengthscale:
#' `"kmeans++"` takes the centres of seeded k-means with a few Lloyd steps, `"maxmin"` rows that are far
#' from each other, `"random"` rows drawn without replacement.
#'
#' @param x Inputs, n x d: a numeric matrix, a data frame of numeric columns, or a vector (one column).
#'   Row and column names are kept. Duplicated rows are different points.
#' @param kernel A [gp_kernel()].
#' @param inducing How many inducing inputs to choose, by default 200 or one for each distinct row of `x` if these are
#'   fewer; or an m x d matrix of them, in the units of `x`;
#'   or 0 for none, when the residual process is the process itself.
#' @param nugget Variance of independent noise, not negative. It is added to the residual variances,
#'   so that a positive value gives the correlation of the noisy process.
#' @param jitter Added to the diagonal of `k(Z, Z)` as a multiple of the kernel's variance.
#' @param selection How inducing inputs are chosen.
#' @param seed A whole number makes the choice repeatable and leaves the session's random numbers
#'   untouched; `NULL` draws from them.
#' @param threads Number of threads, see [vecchiann_info()].
#' @return A list of class `"residual_gp"`, made of ordinary R vectors: `x` (n x d double matrix),
#'   `kernel`, `inducing` (m x d), `nugget`, `jitter`, `chol` (`L`, m x m), `V` (m x n, column i is `v_i`)
#'   and `variance` (the n residual variances `r_ii`, without nugget).
#' @section Errors:
#' More inducing inputs than distinct rows of `x`, or a covariance of the inducing inputs that is
#' not positive definite: the message names the pivot, and a larger `jitter` helps.
#' @references Banerjee, S., Gelfand, A. E., Finley, A. O. and Sang, H. (2008). Gaussian predictive
#'   process models for large spatial data sets, section 2. *JRSS B* 70(4).
#'
#'   Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale approximations
#'   for Gaussian processes, section 2.
#'
#'   Arthur, D. and Vassilvitskii, S. (2007). k-means++: the advantages of careful seeding. *SODA*.
#' @seealso [residual_knn()], [residual_correlation()], [residual_process()] for a residual process
#'   that was computed elsewhere.
#' @examples
#' x <- cbind(runif(500), runif(500))
#' residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
#' @export
residual_gp <- function(x, kernel, inducing = 200, nugget = 0, jitter = 1e-6,
                        selection = c("kmeans++", "maxmin", "random"), seed = NULL,
                        threads = NULL) {
  x <- check_points(x, "x")
  kernel <- check_kernel(kernel, ncol(x))
  check_spread(x, kernel)
  nugget <- check_nonnegative(nugget, "nugget")
  jitter <- check_nonnegative(jitter, "jitter")
  selection <- check_choice(selection, eval(formals()$selection), "selection")
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  threads <- thread_count(threads)
  if (missing(inducing)) inducing <- count_distinct(x, inducing)
  inducing <- if (is.null(dim(inducing)) && length(inducing) == 1) {
    m <- check_whole(inducing, "inducing", 0)
    with_seed(seed, choose_inducing(x, kernel, m, selection, threads))
  } else {
    check_inducing(inducing, x)
  }
  new_residual_gp(x, kernel, inducing, nugget, jitter, threads)
}

check_inducing <- function(inducing, x) {
  if (setequal(column_names(inducing), colnames(x))) inducing <- match_columns(inducing, colnames(x), "inducing")
  check_points(inducing, "inducing", ncol(x), least = 0)
}

# The object from arguments that were checked.
new_residual_gp <- function(x, kernel, inducing, nugget, jitter, threads) {
  parts <- .Call(C_residual_gp, x, kernel, inducing, jitter, threads)
  known_gp(structure(c(list(x = x, kernel = kernel, inducing = inducing, nugget = nugget, jitter = jitter),
                       parts[c("chol", "V", "variance")]), class = "residual_gp"))
}

choose_inducing <- function(x, kernel, m, selection, threads) {
  if (m == 0) return(x[0, , drop = FALSE])
  select <- function(selection, uniforms) {
    .Call(C_select_inducing, isotropic(x, kernel), kernel$lengthscale, m, selection, uniforms, threads)
  }
  distinct <- count_distinct(x, m)
  if (m > distinct) {
    refuse("inducing", paste("at most", distinct, "(the distinct rows of `x`)"), m)
  }
  chosen <- switch(selection,
    "random" = {
      rows <- distinct_rows(x)
      sort(rows[sample.int(length(rows), m)])
    },
    "maxmin" = select("maxmin", NULL),
    "kmeans++" = select("kmeans++", stats::runif(m + 1))
  )
  if (selection == "kmeans++") {
    isotropic(matrix(chosen, m, dimnames = list(NULL, colnames(x))), kernel, back = TRUE)
  } else {
    x[chosen, , drop = FALSE]
  }
}

# Ids of the rows that differ from all earlier rows.
distinct_rows <- function(x) which(!duplicated(row_groups(x)))

# How many there are, or `most` if so many: a few rows often have them.
count_distinct <- function(x, most) {
  few <- min(nrow(x), 4 * most + 100)
  some <- length(distinct_rows(x[seq_len(few), , drop = FALSE]))
  min(most, if (some < most && few < nrow(x)) length(distinct_rows(x)) else some)
}

# The same number for the same row; unique() would compare 15 digits of text.
row_groups <- function(x) {
  columns <- lapply(seq_len(ncol(x)), function(j) x[, j])
  rank <- do.call(order, c(columns, method = "radix"))
  differs <- lapply(columns, function(column) diff(column[rank]) != 0)
  group <- integer(nrow(x))
  group[rank] <- cumsum(c(TRUE, Reduce(`|`, differs)))
  group
}

#' A residual process that was computed elsewhere
#'
#' Makes a [residual_gp()] from whitened features and residual variances of your own, without
#' inducing inputs: for neighbours and conditioning sets under a low-rank part that another program made, such as
#' another package's inducing points or basis functions. Residual correlations are
#' `(k(x, y) - v_x . v_y) / sqrt(p_x p_y)` with `p = variance + nugget`. As the features of other points are not known,
#' `newdata` is refused wherever such a process is used.
#'
#' @inheritParams residual_gp
#' @param V Features, m x n: column i belongs to row i of `x`, in units of the kernel's standard
#'   deviation, so that `colSums(V^2)` is the variance that they explain.
#' @param variance The n residual variances, none below `kernel$variance - colSums(V^2)` (but for
#'   rounding), as anything less makes no correlation.
#' @return A list of class `"residual_gp"` whose `inducing`, `jitter` and `chol` are `NULL`.
#' @section Errors:
#' `V` with another number of columns than `x` has rows; `variance` of another length, or below what `V` leaves.
#' @seealso [residual_gp()], which computes the features itself; [residual_knn()], [conditioning_sets()]
#' @examples
#' x <- matrix(runif(200), ncol = 2)
#' gp <- residual_gp(x, gp_kernel("rbf", lengthscale = 0.3), inducing = 10, seed = 1)
#' own <- residual_process(x, gp$kernel, gp$V, gp$variance)
#' all.equal(residual_correlation(own), residual_correlation(gp))
#' @export
residual_process <- function(x, kernel, V, variance = pmax(kernel$variance - colSums(V^2), 0),
                             nugget = 0) {
  x <- check_points(x, "x")
  kernel <- check_kernel(kernel, ncol(x))
  check_spread(x, kernel)
  if (!is.matrix(V) || !is.numeric(V) || ncol(V) != nrow(x)) {
    refuse("V", paste("a numeric matrix of", counted(nrow(x), "column"), "(the rows of `x`)"),
           describe(V))
  }
  V <- check_finite(matrix(as.double(V), nrow(V), ncol(V)), "V")
  nugget <- check_nonnegative(nugget, "nugget")
  if (!is.numeric(variance) || length(variance) != nrow(x)) {
    refuse("variance", paste("numeric of length", nrow(x), "(the rows of `x`)"), describe(variance))
  }
  variance <- check_finite(as.double(variance), "variance")
  least <- pmax(1 - 1e-8 - colSums((V / sqrt(kernel$variance))^2), 0) * kernel$variance
  low <- which(variance < least)
  if (length(low)) {
    refuse("variance", "at least kernel$variance - colSums(V^2)",
           paste0(format(variance[low[1]]), " (position ", low[1], ")"))
  }
  structure(list(x = x, kernel = kernel, inducing = NULL, nugget = nugget, jitter = NULL,
                 chol = NULL, V = V, variance = variance), class = "residual_gp")
}

#' Residual correlations
#'
#' The dense block of residual correlations `rho` between chosen points, for checks and small work;
#' [residual_knn()] never forms one.
#'
#' `rho_ij = r_ij / sqrt(p_i p_j)`, with residual covariance `r` and `p_i = r_ii + nugget`, clamped to
#' \[-1, 1\]. A point with itself has `r_ii / p_i`, which is 1 without a nugget. A point whose residual
#' variance is gone (`r_ii <= 1e-10 * kernel$variance`, no nugget) has 0 everywhere, with itself too.
#'
#' @param gp A [residual_gp()].
#' @param i Rows of `x` that make the rows of the block; `NULL` for all.
#' @param j Rows of `x` that make its columns; `NULL` for all.
#' @param newdata Other inputs in place of rows `i`, with the columns of `x`.
#' @return A double matrix, `length(i)` (or `nrow(newdata)`) x `length(j)`, named by the row names of the
#'   inputs where they have any.
#' @examples
#' x <- seq(0, 1, length.out = 50)
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.3), inducing = c(0.2, 0.5, 0.8))
#' round(residual_correlation(gp, i = 1:4, j = 1:6), 3)
#' residual_correlation(gp, j = 24:27, newdata = 0.49)
#' @export
residual_correlation <- function(gp, i = NULL, j = NULL, newdata = NULL) {
  check_gp(gp)
  i <- check_rows(i, "i", nrow(gp$x))
  j <- check_rows(j, "j", nrow(gp$x))
  threads <- thread_count(NULL)
  new <- NULL
  if (!is.null(newdata)) {
    if (!is.null(i)) refuse("i", "NULL with `newdata`", describe(i))
    new <- new_points(gp, check_newdata(gp, newdata), threads)
  }
  rho <- .Call(C_residual_correlation, gp, i, j, new, threads)
  rows <- if (is.null(new)) picked_names(gp$x, i) else rownames(new$x)
  columns <- picked_names(gp$x, j)
  if (!is.null(rows) || !is.null(columns)) dimnames(rho) <- list(rows, columns)
  rho
}

picked_names <- function(x, rows) {
  if (is.null(rows)) rownames(x) else rownames(x)[rows]
}

check_newdata <- function(gp, newdata) {
  if (is.null(gp$inducing)) {
    refuse("newdata", "NULL for a residual_process(), which cannot make features of new points",
           describe(newdata))
  }
  newdata <- check_like(newdata, gp$x, "newdata")
  check_spread(newdata, gp$kernel, "newdata", gp$x)
  newdata
}

# Checked inputs with their features and residual variances, as the C core takes new points.
new_points <- function(gp, newdata, threads) {
  c(list(x = newdata), .Call(C_residual_features, gp, newdata, threads))
}

#' @export
print.residual_gp <- function(x, ...) {
  check_gp(x, "x")
  m <- if (is.null(x$inducing)) {
    counted(nrow(x$V), "own feature")
  } else {
    counted(nrow(x$inducing), "inducing input")
  }
  cat("<residual_gp> ", counted(nrow(x$x), "point"), " in ", counted(ncol(x$x), "dimension"), ", ", m,
      "\n", sep = "")
  cat("kernel: ", format(x$kernel), "\n", sep = "")
  share <- x$variance / x$kernel$variance
  cat(sprintf("residual variance: %.3g of the kernel's on average, %.3g to %.3g\n", mean(share),
              min(share), max(share)))
  if (x$nugget > 0) cat("nugget: ", format(x$nugget, digits = 4), "\n", sep = "")
  invisible(x)
}
