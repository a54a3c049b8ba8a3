# Conditioning sets: neighbours that are chosen together, for what they say as a set.

#' Conditioning sets by greedy conditional selection
#'
#' Chooses for each query a set of `k` points that together say most of it. The `k` nearest points are the best
#' neighbours one by one, but several of them may say the same. Here the set grows by one point at a time, and
#' each is the one that explains most of what the points before it leave of the query's residual variance. A
#' Vecchia approximation from these sets is several times closer to the exact process than from as many nearest
#' neighbours.
#'
#' [vif_fit()] and [predict()][predict.vif] choose such sets themselves. Call it for likelihoods of your own
#' ([vif_loglik()]), to look at the sets, or to give them to another package ([as_nnarray()]).
#'
#' Candidates are the `pool / 2` points nearest to the query in units of the lengthscales and the `pool / 2` of
#' largest residual correlation, noise included ([residual_knn()] finds both exactly); points that are both count once.
#' With `c_j` the residual covariance of the query and candidate `j`, and `D_j` the residual variance of `j` plus its
#' noise, both given the points taken so far, the next point is that of the largest `c_j^2 / D_j`, ties to
#' the lower row number. The query itself is taken without noise. The answer does not depend on the number of
#' threads.
#'
#' A point that has (nearly) no variance left given those taken is not taken: duplicated inputs
#' without noise count once. Where fewer than `k` candidates are left the rest of the row is `NA`. For a query
#' that is known exactly (variance 0) the rest of its set makes no difference, and goes by row number.
#'
#' The cost for a query is about `k` residual covariances with each candidate, less where queries that are close
#' together share candidates. It is spent once for each search and not for each likelihood.
#'
#' @param object A [residual_gp()], or a `cover_tree` over one. Its own `nugget` is not used.
#' @param k Size of the sets, a whole number of at least 1.
#' @param nugget Variance of the noise of the observations: a number, or one for each row of `x`.
#' @param pool Number of candidates of a query, a whole number of at least `k`; or the candidates themselves: a result
#'   of [residual_knn()] for the same inputs and queries, or a list of several, whose neighbours are taken together.
#' @param newdata Inputs to find sets for in place of the rows of `x`, with the columns of `x`. A row of `x` with the
#'   same inputs is one of the candidates.
#' @param predecessors `TRUE` takes the points for row i from the rows before it, as a Vecchia approximation needs
#'   them; `FALSE` from all other rows. `FALSE` with `newdata`.
#' @param queries Which rows of `x` to find sets for; `NULL` for all.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to show the progress of a long selection.
#' @param cluster A cluster of package parallel whose workers share the queries, with `threads` threads each, or `NULL`;
#'   see [vecchiann_cluster].
#' @return A list of class `"conditioning_sets"`, which is accepted wherever a result of [residual_knn()] is, with
#'   elements
#'   \item{id}{integer matrix, one row a query and `k` columns: row numbers of `x` in the order in which they were
#'     taken}
#'   \item{variance}{for each query what its set leaves of its residual variance, without noise}
#'   \item{dist}{double matrix of the residual-correlation distances of the query and its points, without noise,
#'     `NA` where `id` is; not sorted}
#'   \item{k, nugget, queries, predecessors}{as given}
#'   \item{pool}{the largest number of candidates of a query}
#'   \item{x, newdata, inducing}{the inputs, for [plot][plot.residual_knn]}
#'   and those elements of a `"residual_knn"` that describe a search. Row names of the inputs are kept.
#' @section Errors:
#' A `pool` below `k`, or of other inputs or queries; a `nugget` that is negative or of another length than 1 or the
#' rows of `x`. `queries` and `predecessors` speak of the rows of `x`: together with `newdata` they are an error.
#' @references Huan, S., Guinness, J., Katzfuss, M., Owhadi, H. and Schaefer, F. (2023). Sparse inverse Cholesky
#'   factorization of dense kernel matrices by greedy conditional selection. \doi{10.48550/arXiv.2307.11648}.
#' @seealso [residual_knn()]; [vif_factor()] and [vif_loglik()], which take the sets; [as_nnarray()] for GpGp.
#' @examples
#' x <- cbind(runif(500), runif(500))
#' x <- x[order_maxmin(x), ]
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
#' sets <- conditioning_sets(gp, k = 10, nugget = 0.1)
#' sets
#' sets$id[500, ]
#' y <- sin(6 * x[, 1]) + rnorm(500, sd = 0.3)
#' vif_loglik(y, gp, sets, nugget = 0.1)
#' conditioning_sets(gp, k = 5, nugget = 0.1, newdata = cbind(0.5, 0.5))$variance
#' @export
conditioning_sets <- function(object, k, nugget = 0, pool = 4 * k, newdata = NULL,
                              predecessors = is.null(newdata), queries = NULL, threads = NULL,
                              progress = interactive(), cluster = NULL) {
  asked <- check_search(object, k, newdata, predecessors, queries, threads, progress, cluster)
  gp <- asked$gp
  k <- asked$k
  predecessors <- asked$predecessors
  queries <- asked$queries
  newdata <- asked$newdata
  threads <- asked$threads
  progress <- asked$progress
  cluster <- asked$cluster
  noise <- check_noises(nugget, nrow(gp$x))
  pool <- check_pool(pool, k, gp, newdata, queries)
  found <- if (is.null(cluster)) {
    source <- if (is.list(pool)) pool else pool_source(object, noise, predecessors, threads)
    select_chunks(gp, noise, source, pool, k, newdata, queries, predecessors, threads, progress)
  } else {
    found <- cluster_queries(cluster, threads, object, newdata, queries, "worker_sets", function(own) {
      list(shortest(noise), if (is.list(pool)) lapply(pool, function(table) table[own, , drop = FALSE]) else pool, k,
           predecessors)
    }, c("id", "dist", "variance"))
    found[c("id", "dist", "variance")]
  }
  names <- if (is.null(newdata)) picked_names(gp$x, queries) else rownames(newdata)
  rownames(found$id) <- rownames(found$dist) <- names(found$variance) <- names
  sealed_neighbours(c(found, list(
    k = k, nugget = nugget, pool = if (is.list(pool)) sum(vapply(pool, ncol, 0L)) else min(pool, nrow(gp$x)),
    queries = queries, predecessors = predecessors, budget = Inf, method = "selected",
    note = if (is.list(pool)) "from a given pool", x = gp$x, newdata = newdata, inducing = gp$inducing
  )), c("conditioning_sets", "residual_knn"))
}

# Sets of all queries, of which a bounded number are taken at a time.
select_chunks <- function(gp, noise, source, pool, k, newdata, queries, predecessors, threads, progress,
                          rows = chunk_rows) {
  count <- if (!is.null(newdata)) nrow(newdata) else if (is.null(queries)) nrow(gp$x) else length(queries)
  whole <- is.null(newdata) || is.list(pool)
  chunks <- if (whole) list(seq_len(count)) else space_chunks(in_lengthscales(newdata, gp$kernel), rows)
  if (is.function(source) && length(chunks) > 1) source <- source(index = TRUE)
  parts <- lapply(chunks, function(chunk) {
    new <- if (!is.null(newdata)) new_points(gp, newdata[chunk, , drop = FALSE], threads)
    pools <- if (is.list(pool)) pool else source(pool, queries, new)
    .Call(C_conditioning_sets, gp, noise, pools, k, queries, new, predecessors, threads, progress)
  })
  if (length(parts) == 1) return(parts[[1]])
  bind_answers(parts, c("id", "dist", "variance"), order(unlist(chunks)))
}

# The worker's side.
worker_sets <- function(own, queries, newdata, noise, pool, k, predecessors) {
  noise <- rep_len(noise, nrow(own$gp$x))
  if (is.null(own$source) && !is.list(pool)) {
    own$source <- pool_source(if (is.null(own$tree)) own$gp else own$tree, noise, predecessors, own$threads)
    if (own$many) own$source <- own$source(index = TRUE)
  }
  source <- if (is.list(pool)) pool else own$source
  select_chunks(own$gp, noise, source, pool, k, newdata, queries, predecessors, own$threads, FALSE)
}

# A function that finds the candidates of queries: half of them nearest in space, half by residual correlation. With
# `index` it answers with another one that does the work of every search beforehand, for many calls.
pool_source <- function(object, noise, predecessors, threads) {
  tree <- if (inherits(object, "cover_tree") && all(noise == object$gp$nugget)) object
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  residual <- noisy_process(gp, noise)
  plain <- euclidean_process(gp, threads)
  plain_tree <- NULL
  function(pool, queries = NULL, new = NULL, index = FALSE) {
    if (index) {
      if (is.null(tree)) tree <<- cover_tree(residual, threads_or_null(threads))
      plain_tree <<- cover_tree(plain, threads_or_null(threads))
      return(sys.function())
    }
    half <- min(as.integer(ceiling(pool / 2)), nrow(gp$x))
    search <- function(process, tree, new) {
      nearest_ids(process, half, tree, queries, new, predecessors, threads = threads)
    }
    near <- search(plain, plain_tree, if (!is.null(new)) plain_points(new$x))
    # without inducing inputs, and with equal noise, these are the same
    if (!nrow(gp$V) && identical(residual$variance, gp$variance)) return(list(near))
    list(near, search(residual, tree, new))
  }
}

# The process whose residual correlations include the noise of each point.
noisy_process <- function(gp, noise) {
  gp$nugget <- noise[[1]]
  if (any(noise != noise[[1]])) {
    gp$nugget <- 0
    gp$variance <- pmax(gp$variance, 0) + noise
  }
  known_gp(gp)
}

# A process whose correlations fall with the scaled distance, over a range that they resolve.
euclidean_process <- function(gp, threads) {
  kernel <- gp$kernel
  sides <- apply(isotropic(gp$x, kernel), 2, function(column) diff(range(column))) / kernel$lengthscale
  widest <- if (max(sides) > 0) max(sides) else 1
  wide <- gp_kernel("matern12", 1, kernel$lengthscale * widest, anisotropy = kernel$anisotropy)
  new_residual_gp(gp$x, wide, gp$x[0, , drop = FALSE], 0, 0, threads)
}

plain_points <- function(x) list(x = x, V = matrix(0, 0, nrow(x)), variance = rep(1, nrow(x)))

# Noise variance of each row of x.
check_noises <- function(nugget, n) {
  if (!is.numeric(nugget) || is.object(nugget) || !length(nugget) %in% c(1, n)) {
    refuse("nugget", paste0("a number or numeric of length ", n, " (the rows of `x`)"),
           if (is.numeric(nugget)) paste("of length", length(nugget)) else describe(nugget))
  }
  check_finite(nugget, "nugget")
  low <- which(nugget < 0)
  if (length(low)) {
    refuse("nugget", "at least 0", paste0(nugget[low[1]], if (length(nugget) > 1) paste0(" (position ", low[1], ")")))
  }
  rep_len(as.double(nugget), n)
}

# A number of candidates, or a list of tables of them.
check_pool <- function(pool, k, gp, newdata, queries) {
  wanted <- paste("a whole number of at least `k` =", k)
  if (is.numeric(pool) && length(pool) == 1) {
    if (!is.finite(pool) || pool != round(pool) || pool < k) refuse("pool", wanted, describe(pool))
    return(min(pool, .Machine$integer.max))
  }
  if (inherits(pool, "residual_knn")) pool <- list(pool)
  if (!is.list(pool) || !length(pool) || !all(vapply(pool, inherits, NA, "residual_knn"))) {
    refuse("pool", paste(wanted, "or results of residual_knn()"), describe(pool))
  }
  for (nn in pool) {
    check_neighbours(nn, "pool")
    if (!identical(unname(nn$x), unname(gp$x))) refuse("pool", "of the inputs of `object`", "of another data set")
    same <- identical(nn$queries, queries) && identical(unname(nn$newdata), unname(newdata))
    if (!same) refuse("pool", "for the same queries or `newdata`", "for others")
  }
  size <- sum(vapply(pool, function(nn) nn$k, 0))
  if (size < k) refuse("pool", paste("of at least `k` =", k, "candidates"), paste("of", size))
  lapply(pool, function(nn) unname(nn$id))
}

#' @export
print.conditioning_sets <- function(x, ...) {
  check_neighbours(x, "x")
  queries <- counted(nrow(x$id), if (is.null(x$newdata)) "point" else "new point")
  among <- if (x$predecessors) ", among predecessors" else paste(" among", counted(nrow(x$x), "point"))
  cat("<conditioning_sets> k = ", x$k, " for ", queries, among, "\n", sep = "")
  noise <- range(x$nugget)
  cat("selected from ", counted(x$pool, "candidate"), if (!is.null(x$note)) paste0(" (", x$note, ")"), ", nugget ",
      paste(unique(format(noise, digits = 4)), collapse = " to "), "\n", sep = "")
  cat("id and dist: ", nrow(x$id), " x ", x$k, " matrices; variance left: ",
      format(stats::median(x$variance), digits = 3), " in the median", sep = "")
  short <- sum(is.na(x$id[, x$k]))
  if (short) cat("; NA fills", counted(short, "row"), "with fewer candidates")
  cat("\n")
  invisible(x)
}

#' @rdname summary.residual_knn
#' @export
summary.conditioning_sets <- function(object, ...) {
  summary <- NextMethod()
  summary$variance <- stats::quantile(object$variance, names = FALSE)
  names(summary$variance) <- colnames(summary$quantiles)
  class(summary) <- c("summary.conditioning_sets", class(summary))
  summary
}

#' @export
print.summary.conditioning_sets <- function(x, ...) {
  NextMethod()
  cat("\nresidual variance left:\n")
  print(x$variance, digits = 3)
  invisible(x)
}
