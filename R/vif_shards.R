# Shards that workers read: fits and predictions of data that no process holds as a whole.

#' Data in shards that workers read themselves
#'
#' For data larger than the memory of one machine. Every worker of a cluster reads its own shards, from files or by a
#' function; the session sees sums, samples, and what lies on the borders of shards. `vif_fit()` of the result fits a
#' Gaussian process to all of it, and `predict()` of that fit predicts where the shards are held.
#'
#' Shards should be compact in space, tiles of a map say, in an order in which neighbours follow each other: each worker
#' takes a sequence of them as one. What goes through the session grows with the borders of what the workers hold.
#'
#' The order of the conditioning is blockwise: every worker puts its points in maxmin order, and all points are taken
#' by the distance that each had to those before it, largest first. It is the maxmin order but for points at borders,
#' which do not know of points as coarse on the other side. Conditioning sets are chosen as in [vif_fit()], among a
#' worker's own points and those of others within some of these distances of its box. The order costs little
#' (bench/README.md has a measurement). Inducing inputs and starting values are those of a sample of all points. The
#' information, which serves steps and standard errors, leaves out what lies beyond these borders.
#'
#' The workers hold their data until `close()`.
#'
#' @param sources What there is to read: paths of files, one for each shard, or a vector or list of whatever `read`
#'   takes; at least as many as workers.
#' @param formula,coords As in [vif_fit()], for the columns of a shard; terms must not depend on the data (no
#'   `poly()`), and factors need the same levels everywhere.
#' @param weights,noise_variance As in [vif_fit()]: one-sided formulas of the columns of a shard, such as `~ w`, or the
#'   name of a column.
#' @param cluster A cluster of package parallel, see [vecchiann_cluster].
#' @param read A function that makes a data frame of one source, on a worker. The default reads files by their ending:
#'   `.rds`, `.csv`, and `.parquet` and `.feather` where package arrow is installed.
#' @param threads Number of threads of each worker.
#' @return `vif_shards()` gives an object of class `"vif_shards"`. `vif_fit()` of it gives one of class
#'   `"vif_sharded"`, with the elements `kernel`, `nugget`, `coefficients`, `vcov`, `loglik`, `converged` and
#'   `history` of a fit, and methods `coef`, `logLik`, `predict`, `print` and `vcov`. It serves as long as the workers
#'   hold the shards; its numbers outlast them.
#' @section Errors:
#' Shards without rows, or with other columns of the mean or levels of factors than others; fewer sources than workers.
#' Rows with missing values are left out.
#' @seealso [vecchiann_cluster]
#' @examples
#' \donttest{
#' # four tiles in files, two workers
#' x <- cbind(east = runif(8000), north = runif(8000))
#' data <- data.frame(x, height = sin(6 * x[, 1]) + rnorm(8000, sd = 0.3))
#' tile <- 2 * (x[, 1] > 0.5) + (x[, 2] > 0.5)
#' files <- file.path(tempdir(), paste0("tile", 0:3, ".rds"))
#' for (i in 0:3) saveRDS(data[tile == i, ], files[i + 1])
#' cluster <- parallel::makeCluster(2)
#' shards <- vif_shards(files, height ~ 1, coords = ~ east + north, cluster = cluster)
#' fit <- vif_fit(shards, inducing = 30, k = 10, progress = FALSE)
#' fit
#' predict(fit, data.frame(east = 0.5, north = c(0.2, 0.8)))
#' close(shards)
#' parallel::stopCluster(cluster)
#' }
#' @export
vif_shards <- function(sources, formula, coords, cluster, read = NULL, threads = NULL, weights = NULL,
                       noise_variance = NULL) {
  check_class(formula, "formula", "formula")
  check_class(coords, "formula", "coords")
  columns <- list(formula = formula, coords = coords, weights = column_formula(weights, "weights"),
                  noise_variance = column_formula(noise_variance, "noise_variance"))
  for (name in names(columns)) if (!is.null(columns[[name]])) environment(columns[[name]]) <- globalenv()
  check_cluster(cluster)
  if (is.null(cluster)) refuse("cluster", "a cluster of package parallel", "NULL")
  if (!is.null(read) && !is.function(read)) refuse("read", "a function of one source, or NULL", describe(read))
  if (length(sources) < length(cluster)) {
    refuse("sources", paste("at least as many as workers,", length(cluster)), length(sources))
  }
  group <- group_open(cluster, thread_count(threads))
  done <- FALSE
  on.exit(if (!done) group_close(group))
  of <- ceiling(seq_along(sources) * length(cluster) / length(sources))
  parts <- group_map(group, "worker_read", lapply(unname(split(as.list(sources), of)), list, columns, read))
  differ <- other_columns(parts)
  if (length(differ)) refuse_columns(paste("at", describe_worker(group, differ[1])))
  done <- TRUE
  n <- vapply(parts, `[[`, 0L, "n")
  join <- function(...) if (is.matrix(..1)) rbind(...) else c(...)
  structure(list(
    group = group, columns = columns, coding = parts[[1]]$coding, inputs = parts[[1]]$inputs, n = sum(n),
    first = c(0L, cumsum(n)),
    box = lapply(parts, `[[`, "box"), apart = any(vapply(parts, `[[`, NA, "apart")),
    centre = colSums(do.call(rbind, lapply(parts, `[[`, "middle")) * n) / sum(n),
    sample = do.call(Map, c(list(f = join), lapply(parts, `[[`, "sample")))
  ), class = "vif_shards")
}

# One column of a shard, NULL for none.
column_formula <- function(of, arg) {
  if (is.null(of) || inherits(of, "formula") && length(of) == 2) return(of)
  if (!is.character(of) || length(of) != 1) {
    refuse(arg, "a formula such as ~ w, the name of a column, or NULL", describe(of))
  }
  stats::reformulate(paste0("`", of, "`"))
}

#' @export
close.vif_shards <- function(con, ...) {
  group_close(con$group)
  invisible()
}

#' @export
print.vif_shards <- function(x, ...) {
  cat("<vif_shards> ", counted(x$n, "observation"), " of ", deparse1(x$columns$formula), " held by ",
      counted(length(x$group$cluster), "worker"), "\n", sep = "")
  invisible(x)
}

# ---- fit ----

#' @rdname vif_shards
#' @param y A result of `vif_shards()`.
#' @param kernel,inducing,k,nugget,lengthscale,anisotropy,iterations,jitter,seed,progress As in [vif_fit()].
#' @param ... Not used; any other argument is an error.
#' @export
vif_fit.vif_shards <- function(y, kernel = gp_kernel("matern32"), inducing = 200, k = 30, nugget = NULL,
                               lengthscale = NULL, anisotropy = NULL, iterations = 100, jitter = 1e-6, seed = 1,
                               progress = interactive(), ...) {
  check_dots(...)
  shards <- y
  sample <- shards$sample
  if (is.character(kernel)) kernel <- gp_kernel(kernel)
  plane <- isTRUE(anisotropy)
  kernel <- kernel_in_plane(check_kernel(kernel, ncol(sample$x)), anisotropy, sample$x)
  k <- check_whole(k, "k", 1)
  if (!is.null(nugget)) nugget <- check_nonnegative(nugget, "nugget")
  iterations <- check_whole(iterations, "iterations", 1)
  jitter <- check_nonnegative(jitter, "jitter")
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  inducing <- cap_inducing(inducing, sample$x, tell = !missing(inducing))
  progress <- progress_line(check_flag(progress, "progress"))
  on.exit(progress())
  basis <- if (ncol(sample$X)) mean_basis(check_covariates(sample$X, nrow(sample$x), "X of the sample"))
  data <- list(y = sample$y, x = sample$x, X = basis$Q, extra = sample$extra, share = sample$share)
  groups <- lengthscale_groups(lengthscale, structure(sample$x, dimnames = list(NULL, shards$inputs)), kernel, plane)
  scale <- input_scale(sample$x, groups)
  flat <- if (is.null(basis)) sample$y else stats::lm.fit(basis$Q, sample$y)$residuals
  settings <- list(kernel = kernel, inducing = inducing, k = k, fixed = nugget, spread = stats::var(flat),
                   noise_spread = stats::var(flat) / typical_share(sample$share), neighbours = "selected", jitter = jitter,
                   seed = seed, threads = thread_count(NULL), groups = groups, scale = scale,
                   close = close_shares(sample$x, groups, scale, thread_count(NULL)), smoothness = "fixed",
                   plane = plane, least = if (!shards$apart) least_share(kernel, "fixed"))
  start <- subset_estimate(data, settings, progress)
  start$at <- on_grid(start$theta, settings)
  settings$inducing <- inducing_of(sample$x[sample$even, , drop = FALSE], to_kernel(start$at, settings), settings)
  group_map(shards$group, "worker_basis", rep(list(list(basis$back)), length(shards$box)))
  data$shards <- c(unclass(shards)[c("group", "n", "first", "box", "centre", "apart")],
                   list(latest = new.env(), read = TRUE))
  found <- climb_searches(start, data, settings, iterations, progress)
  if (!found$settled) {
    warning(warningCondition(paste0("vif_fit() has not converged (", found$message,
                                    "): the parameters reached so far are kept"),
                             class = "vif_convergence", call = NULL))
  }
  at <- found$at
  if (!identical(data$shards$latest$theta, at$theta)) shard_evaluate(at$theta, found$structure, data, settings, FALSE)
  id <- new_token()
  group_map(shards$group, "worker_keep", rep(list(list(id)), length(shards$box)))
  mean <- mean_estimates(at$evaluation, basis, shards$coding$names)
  fit <- structure(list(
    call = as_call(match.call()), kernel = to_kernel(at$theta, settings), nugget = to_nugget(at$theta, settings),
    coefficients = mean$beta, vcov = mean$vcov, loglik = at$value, df = length(at$theta) + length(mean$beta),
    n = shards$n, k = k, converged = found$settled, message = found$message, iterations = found$iterations,
    history = found$history, theta = at$theta, fisher = at$fisher, settings = settings[names(settings) != "inducing"],
    inducing = settings$inducing, jitter = jitter, nugget_fixed = !is.null(nugget),
    id = id, shards = shards, state = list(root = at$evaluation$root, b = at$evaluation$b, B = mean$B)
  ), class = "vif_sharded")
  fit$bounded <- at_bounds(fit$theta, settings, fit$fisher, do.call(rbind, shards$box))
  warn_bounds(fit)
  tell_least(fit, nugget)
  sealed(fit)
}

#' @export
print.vif_sharded <- function(x, ...) {
  check_sharded(x, "x")
  cat("<vif_sharded> ", counted(x$n, "observation"), " in shards of ", counted(length(x$shards$box), "worker"),
      ", k = ", x$k, ", ", counted(nrow(x$inducing), "inducing input"), "\n", sep = "")
  cat("kernel: ", format(x$kernel), ", nugget ", format(x$nugget, digits = 4), "\n", sep = "")
  cat("log-likelihood ", format(x$loglik, nsmall = 2), if (!x$converged) ", not converged", "\n", sep = "")
  if (length(x$bounded)) cat(bounds_title(x), ": ", describe_bounds(x), "\n", sep = "")
  if (length(x$coefficients)) print(x$coefficients)
  invisible(x)
}

#' @rdname vif_shards
#' @param type As in [coef][coef.vif].
#' @export
coef.vif_sharded <- function(object, type = c("all", "mean", "covariance"), ...) {
  check_dots(...)
  coefficients_of(check_sharded(object), check_choice(type, c("all", "mean", "covariance"), "type"))
}

#' @export
logLik.vif_sharded <- function(object, ...) {
  check_dots(...)
  check_sharded(object)
  structure(object$loglik, df = object$df, nobs = object$n, class = "logLik")
}

#' @rdname vif_shards
#' @param which `"mean"` or `"covariance"`: of the coefficients of the mean, or of the covariance parameters that were
#'   estimated, by the information of their logarithms, as in [vcov][confint.vif].
#' @export
vcov.vif_sharded <- function(object, which = c("mean", "covariance"), ...) {
  check_dots(...)
  which <- check_choice(which, c("mean", "covariance"), "which")
  check_sharded(object)
  if (which == "mean") object$vcov else covariance_vcov(object)
}

#' @rdname vif_shards
#' @param object A fit of shards.
#' @param newdata A data frame with the variables of the right-hand side of the formula and of `coords`. Every row is
#'   predicted by the worker whose box it is in or nearest to; where boxes overlap all these predict it, and the one of
#'   the smallest standard error counts.
#' @param se.fit,interval,level,chunk As in [predict][predict.vif].
#' @export
predict.vif_sharded <- function(object, newdata, se.fit = TRUE, interval = c("none", "prediction", "confidence"),
                                level = 0.95, chunk = 50000, ...) {
  check_dots(...)
  check_sharded(object)
  interval <- check_choice(interval, c("none", "prediction", "confidence"), "interval")
  level <- check_number(level, "level", "a number between 0 and 1", function(p) p > 0 && p < 1)
  chunk <- check_whole(chunk, "chunk", 1)
  check_class(newdata, "data.frame", "newdata")
  shards <- object$shards
  new <- shard_frame(newdata, shards$columns[c("formula", "coords")], response = FALSE, shards$coding)
  want_variance <- check_flag(se.fit, "se.fit") || interval != "none"
  fit <- object[c("kernel", "nugget", "coefficients", "vcov", "k", "inducing", "jitter", "state", "id")]
  group_map(shards$group, "worker_sharded", rep(list(list(fit)), length(shards$box)))
  boxes <- lapply(shards$box, box_in_lengthscales, kernel = object$kernel)
  near <- nearest_boxes(in_lengthscales(new$x, object$kernel), boxes)
  rows <- lapply(seq_along(boxes), function(w) which(near[, w]))
  # of several workers the one that knows most answers, however they are ordered
  wanted <- want_variance | rowSums(near) > 1
  rounds <- max(1, ceiling(max(lengths(rows)) / chunk))
  found <- list(fit = rep(NA_real_, nrow(new$x)), variance = rep(NA_real_, nrow(new$x)))
  for (round in seq_len(rounds)) {
    now <- lapply(rows, function(own) own[ceiling(seq_along(own) / chunk) == round])
    parts <- group_map(shards$group, "worker_predict_some", lapply(now, function(own) {
      list(new$x[own, , drop = FALSE], new$X[own, , drop = FALSE], wanted[own])
    }))
    for (w in seq_along(parts)) {
      own <- now[[w]]
      better <- which(is.na(found$fit[own]) | parts[[w]]$variance < found$variance[own])
      for (name in names(found)) found[[name]][own[better]] <- parts[[w]][[name]][better]
    }
  }
  if (!is.null(new$offset)) found$fit <- found$fit + new$offset
  prediction(found, NULL, new$rows, nrow(newdata), se.fit, interval, level, object$nugget)
}
