# Neighbours: the search for residual neighbours and its result.

#' Nearest neighbours by residual correlation
#'
#' Finds, exactly and in double precision, the `k` points with the largest absolute residual correlation
#' to each query, that is the smallest distance `d = sqrt(1 - abs(rho))`: the conditioning sets of a
#' Vecchia approximation of the residual process.
#'
#' A point is never its own neighbour, but duplicated inputs are different points and may be each
#' other's, at distance 0. Neighbours are ordered by distance, then by row number; the answer depends
#' neither on the number of threads nor on the method. A point whose residual variance is gone (at an
#' inducing input, without nugget) is at distance 1 from all others. Where there are fewer than `k`
#' candidates the rest of the row is `NA`.
#'
#' `newdata` is taken in chunks, so that memory stays bounded for any number of rows.
#'
#' @param object A [residual_gp()], or a `cover_tree` over one.
#' @param k Number of neighbours, a whole number of at least 1.
#' @param newdata Inputs to search for in place of the rows of `x`, with the columns of `x`. Their
#'   neighbours are rows of `x`, and a row of `x` with the same inputs is one of the candidates.
#' @param predecessors `TRUE` restricts the neighbours of row i to the rows before it, `j < i`.
#' @param queries Which rows of `x` to search for; `NULL` for all.
#' @param method The search: by brute force (`"brute"`), in blocks of close queries (`"level"`) or one
#'   query at a time, by the cells that promise most (`"best_first"`, for few queries that are far
#'   apart). All give the same answer; `"auto"` takes the one that should be
#'   fastest, from counts of queries and points and from a sample of the data.
#' @param budget The largest number of residual correlations to evaluate for one query. A finite budget
#'   makes the search approximate, and the result says so when printed. It is spent on the nearest points that
#'   bounds cannot rule out, which is `"best_first"` whatever search `method` names.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to show the progress of a long search.
#' @param cluster A cluster of package parallel whose workers share the queries, with `threads` threads each, or `NULL`;
#'   see [vecchiann_cluster].
#' @return A list of class `"residual_knn"` with elements
#'   \item{id}{integer matrix, one row a query and `k` columns: row numbers of `x`, nearest first}
#'   \item{dist}{double matrix of the distances `d`, `NA` where `id` is}
#'   \item{k, queries, predecessors, budget}{as given}
#'   \item{method, note}{the search that was run, and why}
#'   \item{stats}{counters of the search: `nodes` (groups, cells and panels of points) visited, `bounds` tried and
#'     nodes `pruned` by them, pairs `screened` by an interval, `correlations` evaluated in double precision}
#'   \item{x, newdata, inducing}{the inputs, for [plot][plot.residual_knn]}
#'   \item{checksum}{of these numbers: an object whose numbers were changed, in memory or in a file, is refused wherever
#'     it is used. A neighbour table of your own is a matrix, see [vif_factor()]}
#'   Row names of the inputs are kept.
#' @section Errors:
#' `queries` and `predecessors` speak of the rows of `x`: together with `newdata` they are an error.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes (the distance).
#' @seealso [recall()] to compare two results; [as_nnarray()], [as_nn2()] and [as_get_knn()] for the
#'   tables of other packages.
#' @examples
#' x <- cbind(runif(500), runif(500))
#' gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.2), inducing = 20, seed = 1)
#' nn <- residual_knn(gp, k = 10)
#' nn
#' nn$id[1, ]
#' residual_knn(gp, k = 10, predecessors = TRUE)
#' residual_knn(gp, k = 3, newdata = cbind(0.5, 0.5))$dist
#' @export
residual_knn <- function(object, k, newdata = NULL, predecessors = FALSE, queries = NULL,
                         method = c("auto", "level", "best_first", "brute"), budget = Inf,
                         threads = NULL, progress = interactive(), cluster = NULL) {
  asked <- check_search(object, k, newdata, predecessors, queries, threads, progress, cluster)
  tree <- if (inherits(object, "cover_tree")) object
  gp <- asked$gp
  k <- asked$k
  predecessors <- asked$predecessors
  queries <- asked$queries
  newdata <- asked$newdata
  threads <- asked$threads
  progress <- asked$progress
  cluster <- asked$cluster
  method <- check_choice(method, eval(formals()$method), "method")
  budget <- check_number(budget, "budget", "a number of at least 1", function(x) x >= 1)
  if (is.null(cluster) && !is.null(newdata) && nrow(newdata) > chunk_rows && is.null(tree) && method != "brute") {
    tree <- cover_tree(gp, threads)
  }
  search <- function(new) {
    .Call(C_residual_knn, gp, tree, k, queries, new, predecessors, method, budget, TRUE, threads, progress)
  }
  found <- if (!is.null(cluster)) {
    cluster_queries(cluster, threads, object, newdata, queries, "worker_knn",
                    function(own) list(k, predecessors, method, budget))
  } else if (is.null(newdata)) {
    search(NULL)
  } else {
    search_chunks(search, gp, newdata, threads)
  }
  names <- if (is.null(newdata)) picked_names(gp$x, queries) else rownames(newdata)
  rownames(found$id) <- rownames(found$dist) <- names
  sealed_neighbours(list(id = found$id, dist = found$dist, k = k, queries = queries,
                         predecessors = predecessors, budget = budget, method = found$method,
                         note = found$note, stats = found$stats, x = gp$x, newdata = newdata,
                         inducing = gp$inducing), "residual_knn")
}

# What searches and selections are asked for: the process, and the other arguments as they will be used.
check_search <- function(object, k, newdata, predecessors, queries, threads, progress, cluster) {
  check_class(object, c("residual_gp", "cover_tree"), "object")
  if (inherits(object, "cover_tree")) check_tree(object, "object") else check_gp(object, "object")
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  asked <- list(gp = gp, k = check_whole(k, "k", 1), predecessors = check_flag(predecessors, "predecessors"),
                queries = check_rows(queries, "queries", nrow(gp$x)), threads = thread_count(threads),
                progress = check_flag(progress, "progress"), cluster = check_cluster(cluster))
  if (is.null(newdata)) return(asked)
  if (asked$predecessors) refuse("predecessors", "FALSE with `newdata`", "TRUE")
  if (!is.null(queries)) refuse("queries", "NULL with `newdata`", describe(queries))
  asked$newdata <- check_newdata(gp, newdata)
  asked
}

chunk_rows <- 50000

# Searches for new points chunk by chunk: only one chunk's features exist at a time.
search_chunks <- function(search, gp, newdata, threads, rows = chunk_rows) {
  chunks <- space_chunks(in_lengthscales(newdata, gp$kernel), rows)
  found <- lapply(chunks, function(chunk) {
    search(new_points(gp, newdata[chunk, , drop = FALSE], threads))
  })
  if (length(found) == 1) return(found[[1]])
  c(bind_answers(found, back = order(unlist(chunks))), list(
    stats = Reduce(`+`, lapply(found, function(part) unlist(part$stats))), method = found[[1]]$method,
    note = found[[1]]$note))
}

# Answers to queries of a process or tree, which every worker gets once, that the workers of a cluster share out.
# `what` is a worker's function of what it holds, its queries (rows of x or new inputs), and the `arguments` for
# queries of these numbers.
cluster_queries <- function(cluster, threads, object, newdata, queries, what, arguments, names = c("id", "dist")) {
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  x <- if (!is.null(newdata)) newdata else if (is.null(queries)) gp$x else gp$x[queries, , drop = FALSE]
  found <- cluster_rounds(cluster, threads, in_lengthscales(x, gp$kernel), chunk_rows, "worker_object",
                          list(travelling(object)), what, function(own) {
    c(list(if (is.null(newdata)) if (is.null(queries)) own else queries[own],
           if (!is.null(newdata)) newdata[own, , drop = FALSE]), arguments(own))
  }, names)
  stats <- lapply(found$parts, function(part) unlist(part$stats))
  c(found$answers, list(stats = as.list(Reduce(`+`, stats)), method = found$parts[[1]]$method,
                        note = found$parts[[1]]$note))
}

# Features that workers can make themselves do not travel.
travelling <- function(object) {
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  if (is.null(gp$inducing)) return(object)
  gp[c("V", "variance", "chol")] <- NULL
  if (inherits(object, "cover_tree")) object$gp <- gp else object <- gp
  object
}

# The worker's side of travelling(); a tree for many searches where there is none.
worker_object <- function(own, many, object) {
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  if (is.null(gp$V)) gp <- new_residual_gp(gp$x, gp$kernel, gp$inducing, gp$nugget, gp$jitter, own$threads)
  own$gp <- gp
  own$many <- many
  if (inherits(object, "cover_tree")) {
    object$gp <- gp
    own$tree <- check_tree(object, "object")
  }
  NULL
}

# The ids of the k nearest alone: without distances less memory is touched.
nearest_ids <- function(gp, k, tree = NULL, queries = NULL, new = NULL, predecessors = FALSE, method = "auto",
                        threads = NA_integer_) {
  .Call(C_residual_knn, gp, tree, k, queries, new, predecessors, method, Inf, FALSE, threads, FALSE)$id
}

worker_knn <- function(own, queries, newdata, k, predecessors, method, budget) {
  if (own$many && is.null(own$tree) && method != "brute") own$tree <- cover_tree(own$gp, own$threads)
  new <- if (!is.null(newdata)) new_points(own$gp, newdata, own$threads)
  .Call(C_residual_knn, own$gp, own$tree, k, queries, new, predecessors, method, budget, TRUE, own$threads, FALSE)
}

is_exact <- function(nn) is.infinite(nn$budget)

#' @export
print.residual_knn <- function(x, ...) {
  check_neighbours(x, "x")
  queries <- counted(nrow(x$id), if (is.null(x$newdata)) "point" else "new point")
  among <- if (x$predecessors) ", among predecessors" else paste(" among", counted(nrow(x$x), "point"))
  cat("<residual_knn> k = ", x$k, " for ", queries, among, "\n", sep = "")
  exactness <- if (is_exact(x)) {
    "exact"
  } else {
    paste("approximate: at most", format(x$budget), "correlations evaluated a query")
  }
  cat(exactness, ', method "', x$method, '"', if (length(x$note) && nzchar(x$note)) paste0(" (", x$note, ")"),
      "\n", sep = "")
  cat("id and dist: ", nrow(x$id), " x ", x$k, " matrices", sep = "")
  short <- sum(is.na(x$id[, x$k]))
  if (short) cat("; NA fills", counted(short, "row"), "with fewer candidates")
  cat("\n")
  invisible(x)
}

#' Summary of a search
#'
#' @param object A result of [residual_knn()].
#' @param ... Not used.
#' @return A list of class `"summary.residual_knn"`: `call` (one line of text), `quantiles` (of the
#'   distance to the first, middle and last neighbour), `short` (rows filled with `NA`), `stats` (the
#'   counters) and `per_query` (the counters for one query).
#' @examples
#' gp <- residual_gp(matrix(runif(400), ncol = 2), gp_kernel(lengthscale = 0.3), inducing = 10)
#' summary(residual_knn(gp, k = 5))
#' @export
summary.residual_knn <- function(object, ...) {
  check_dots(...)
  check_neighbours(object, "object")
  ranks <- unique(c(1, ceiling(object$k / 2), object$k))
  quantiles <- t(apply(object$dist[, ranks, drop = FALSE], 2, stats::quantile, na.rm = TRUE, names = FALSE))
  dimnames(quantiles) <- list(paste("neighbour", ranks), c("min", "25%", "50%", "75%", "max"))
  stats <- unlist(object$stats)
  structure(list(nn = object, quantiles = quantiles, stats = stats,
                 per_query = stats / nrow(object$id)), class = "summary.residual_knn")
}

#' @export
print.summary.residual_knn <- function(x, ...) {
  print(x$nn)
  cat("\ndistance d = sqrt(1 - |rho|):\n")
  print(x$quantiles, digits = 3)
  if (length(x$stats)) {
    cat("\ncounters:\n")
    print(cbind(total = x$stats, "a query" = x$per_query), digits = 4)
  }
  invisible(x)
}

#' Share of exact neighbours that a search found
#'
#' Compares an approximate result with an exact one of the same queries. A returned neighbour counts
#' if its distance is at most that of the exact k-th neighbour, so that ties may be broken either way.
#'
#' @param nn,exact Results of [residual_knn()] for the same queries and the same `k`.
#' @param tolerance Slack allowed to the distances for rounding.
#' @return A number between 0 and 1.
#' @examples
#' gp <- residual_gp(matrix(runif(400), ncol = 2), gp_kernel(lengthscale = 0.3), inducing = 10)
#' nn <- residual_knn(gp, k = 5)
#' recall(nn, nn)
#' @export
recall <- function(nn, exact, tolerance = 1e-10) {
  check_neighbours(nn)
  check_neighbours(exact, "exact")
  tolerance <- check_nonnegative(tolerance, "tolerance")
  if (!identical(dim(nn$id), dim(exact$id)) || !identical(nn$queries, exact$queries)) {
    refuse("nn", "for the queries and the k of `exact`",
           sprintf("for %d queries and k = %d", nrow(nn$id), nn$k))
  }
  wanted <- !is.na(exact$dist)
  farthest <- do.call(pmax, c(lapply(seq_len(exact$k), function(j) exact$dist[, j]), na.rm = TRUE))
  sum(nn$dist <= farthest + tolerance, na.rm = TRUE) / sum(wanted)
}
