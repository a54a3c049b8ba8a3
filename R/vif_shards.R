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
#' @param cluster A cluster of package parallel, see [vecchiann_cluster].
#' @param read A function that makes a data frame of one source, on a worker. The default reads files by their ending:
#'   `.rds`, `.csv`, and `.parquet` and `.feather` where package arrow is installed.
#' @param threads Number of threads of each worker.
#' @return `vif_shards()` gives an object of class `"vif_shards"`. `vif_fit()` of it gives one of class
#'   `"vif_sharded"`, with the elements `kernel`, `nugget`, `coefficients`, `vcov`, `loglik`, `converged` and
#'   `history` of a fit, and methods `coef`, `logLik`, `predict`, `print` and `vcov`. It serves as long as the workers hold
#'   the shards; its numbers outlast them.
#' @section Errors:
#' Shards without rows or with other columns of the mean than others; fewer sources than workers. Rows with missing
#' values are left out.
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
vif_shards <- function(sources, formula, coords, cluster, read = NULL, threads = NULL) {
  check_class(formula, "formula", "formula")
  check_class(coords, "formula", "coords")
  check_cluster(cluster)
  if (is.null(cluster)) refuse("cluster", "a cluster of package parallel", "NULL")
  if (!is.null(read) && !is.function(read)) refuse("read", "a function of one source, or NULL", describe(read))
  if (length(sources) < length(cluster)) {
    refuse("sources", paste("at least as many as workers,", length(cluster)), length(sources))
  }
  environment(formula) <- environment(coords) <- globalenv()
  group <- group_open(cluster, thread_count(threads))
  done <- FALSE
  on.exit(if (!done) group_close(group))
  of <- ceiling(seq_along(sources) * length(cluster) / length(sources))
  parts <- group_map(group, "worker_read", lapply(unname(split(as.list(sources), of)), list, formula, coords, read))
  names <- parts[[1]]$names
  differ <- which(!vapply(parts, function(part) identical(part$names, names), NA))
  if (length(differ)) {
    refuse("sources", "of the same columns of the mean", paste("others at", describe_worker(group, differ[1])))
  }
  done <- TRUE
  n <- vapply(parts, `[[`, 0L, "n")
  join <- function(...) if (is.matrix(..1)) rbind(...) else c(...)
  structure(list(
    group = group, formula = formula, coords = coords, names = names, n = sum(n), first = c(0L, cumsum(n)),
    box = lapply(parts, `[[`, "box"), centre = colSums(do.call(rbind, lapply(parts, `[[`, "middle")) * n) / sum(n),
    sample = do.call(Map, c(list(f = join), lapply(parts, `[[`, "sample")))
  ), class = "vif_shards")
}

#' @export
close.vif_shards <- function(con, ...) {
  group_close(con$group)
  invisible()
}

#' @export
print.vif_shards <- function(x, ...) {
  cat("<vif_shards> ", counted(x$n, "observation"), " of ", deparse1(x$formula), " held by ",
      counted(length(x$group$cluster), "worker"), "\n", sep = "")
  invisible(x)
}

# ---- fit ----

#' @rdname vif_shards
#' @param y A result of `vif_shards()`.
#' @param kernel,inducing,k,nugget,iterations,jitter,seed,progress As in [vif_fit()].
#' @param ... Not used; any other argument is an error.
#' @export
vif_fit.vif_shards <- function(y, kernel = gp_kernel("matern32"), inducing = 200, k = 30, nugget = NULL,
                               iterations = 100, jitter = 1e-6, seed = 1, progress = interactive(), ...) {
  check_dots(...)
  shards <- y
  sample <- shards$sample
  if (is.character(kernel)) kernel <- gp_kernel(kernel)
  check_kernel(kernel, ncol(sample$x))
  k <- check_whole(k, "k", 1)
  if (!is.null(nugget)) nugget <- check_nonnegative(nugget, "nugget")
  iterations <- check_whole(iterations, "iterations", 1)
  jitter <- check_nonnegative(jitter, "jitter")
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  inducing <- cap_inducing(inducing, sample$x, tell = !missing(inducing))
  progress <- progress_line(check_flag(progress, "progress"))
  on.exit(progress())
  basis <- mean_basis(check_covariates(sample$X, nrow(sample$x), "X of the sample"))
  size <- length(sample$y)
  data <- list(y = sample$y, x = sample$x, X = basis$Q, extra = rep(0, size), share = rep(1, size))
  groups <- lengthscale_groups(NULL, sample$x, kernel)
  flat <- if (is.null(basis)) sample$y else stats::lm.fit(basis$Q, sample$y)$residuals
  settings <- list(kernel = kernel, inducing = inducing, k = k, fixed = nugget, spread = stats::var(flat),
                   neighbours = "selected", jitter = jitter, seed = seed, threads = thread_count(NULL), groups = groups,
                   scale = input_scale(sample$x, groups), smoothness = "fixed", plane = NULL)
  start <- subset_estimate(data, settings, progress)
  start$at <- on_grid(start$theta, settings)
  settings$inducing <- inducing_of(sample$x[sample$even, , drop = FALSE], to_kernel(start$at, settings), settings)
  group_map(shards$group, "worker_basis", rep(list(list(basis$back)), length(shards$box)))
  data$shards <- c(unclass(shards)[c("group", "n", "first", "box", "centre")], list(latest = new.env(), read = TRUE))
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
  mean <- mean_estimates(at$evaluation, basis, shards$names)
  structure(list(
    call = as_call(match.call()), kernel = to_kernel(at$theta, settings), nugget = to_nugget(at$theta, settings),
    coefficients = mean$beta, vcov = mean$vcov, loglik = at$value, df = length(at$theta) + length(mean$beta),
    n = shards$n, k = k, converged = found$settled, message = found$message, iterations = found$iterations,
    history = found$history, theta = at$theta, fisher = at$fisher, inducing = settings$inducing, jitter = jitter,
    id = id, shards = shards, state = list(root = at$evaluation$root, b = at$evaluation$b, B = mean$B)
  ), class = "vif_sharded")
}

#' @export
print.vif_sharded <- function(x, ...) {
  cat("<vif_sharded> ", counted(x$n, "observation"), " in shards of ", counted(length(x$shards$box), "worker"),
      ", k = ", x$k, ", ", counted(nrow(x$inducing), "inducing input"), "\n", sep = "")
  cat("kernel: ", format(x$kernel), ", nugget ", format(x$nugget, digits = 4), "\n", sep = "")
  cat("log-likelihood ", format(x$loglik, nsmall = 2), if (!x$converged) ", not converged", "\n", sep = "")
  print(x$coefficients)
  invisible(x)
}

#' @export
coef.vif_sharded <- function(object, ...) object$coefficients

#' @export
logLik.vif_sharded <- function(object, ...) structure(object$loglik, df = object$df, nobs = object$n, class = "logLik")

#' @rdname vif_shards
#' @param which `"mean"` or `"covariance"`: of the coefficients of the mean, or of the covariance parameters that were
#'   estimated, by the information of their logarithms.
#' @export
vcov.vif_sharded <- function(object, which = c("mean", "covariance"), ...) {
  check_dots(...)
  if (check_choice(which, c("mean", "covariance"), "which") == "mean") return(object$vcov)
  spread <- tryCatch(chol2inv(chol(object$fisher)), error = function(e) NA)
  estimate <- exp(object$theta)
  structure(spread * outer(estimate, estimate), dimnames = list(names(estimate), names(estimate)))
}

#' @rdname vif_shards
#' @param object A fit of shards.
#' @param newdata A data frame with the variables of the right-hand side of the formula and of `coords`. Every row is
#'   predicted by the worker whose box it is in or nearest to.
#' @param se.fit,interval,level,chunk As in [predict][predict.vif].
#' @export
predict.vif_sharded <- function(object, newdata, se.fit = TRUE, interval = c("none", "prediction", "confidence"),
                                level = 0.95, chunk = 50000, ...) {
  check_dots(...)
  interval <- check_choice(interval, c("none", "prediction", "confidence"), "interval")
  chunk <- check_whole(chunk, "chunk", 1)
  check_class(newdata, "data.frame", "newdata")
  shards <- object$shards
  new <- shard_frame(newdata, shards$formula, shards$coords, response = FALSE)
  want_variance <- check_flag(se.fit, "se.fit") || interval != "none"
  fit <- object[c("kernel", "nugget", "coefficients", "vcov", "k", "inducing", "jitter", "state", "id")]
  group_map(shards$group, "worker_sharded", rep(list(list(fit)), length(shards$box)))
  boxes <- lapply(shards$box, in_lengthscales, kernel = object$kernel)
  owner <- nearest_box(in_lengthscales(new$x, object$kernel), boxes)
  rows <- part_rows(owner, length(shards$box))
  rounds <- max(1, ceiling(max(lengths(rows)) / chunk))
  found <- list(fit = numeric(nrow(new$x)), variance = if (want_variance) numeric(nrow(new$x)))
  for (round in seq_len(rounds)) {
    now <- lapply(rows, function(own) own[ceiling(seq_along(own) / chunk) == round])
    parts <- group_map(shards$group, "worker_predict_some", lapply(now, function(own) {
      list(new$x[own, , drop = FALSE], new$X[own, , drop = FALSE], want_variance)
    }))
    for (w in seq_along(parts)) for (name in names(parts[[w]])) found[[name]][now[[w]]] <- parts[[w]][[name]]
  }
  prediction(found, NULL, new$rows, nrow(newdata), se.fit, interval, level, object$nugget)
}

# The number of the box that each point is in or nearest to.
nearest_box <- function(x, boxes) {
  distance <- vapply(boxes, function(box) box_distance(x, box), numeric(nrow(x)))
  max.col(-matrix(distance, nrow(x)), ties.method = "first")
}

box_distance <- function(x, box) {
  outside <- vapply(seq_len(ncol(x)), function(l) {
    pmax(min(box[, l]) - x[, l], x[, l] - max(box[, l]), 0)
  }, numeric(nrow(x)))
  sqrt(rowSums(matrix(outside, nrow(x))^2))
}

# Coordinates, covariates and response of a data frame, without rows that lack any of them.
shard_frame <- function(data, formula, coords, response = TRUE) {
  terms <- stats::terms(formula)
  if (!response) terms <- stats::delete.response(terms)
  places <- stats::model.frame(coords, data, na.action = stats::na.pass)
  frame <- stats::model.frame(terms, data, na.action = stats::na.pass)
  if (!length(frame)) frame <- data.frame(row.names = seq_len(nrow(places))) # a constant has no variable
  rows <- which(stats::complete.cases(cbind(places, frame)))
  x <- as.matrix(places[rows, , drop = FALSE])
  storage.mode(x) <- "double"
  X <- stats::model.matrix(terms, frame[rows, , drop = FALSE])
  list(x = unname(x), X = X, y = if (response) as.double(stats::model.response(frame)[rows]), rows = rows)
}

# ---- structure ----

# As shard_structure(), where the session has no points: workers order their own, send what lies near the boxes of
# others, search, and say which points of others they depend on, and these on, until there are no more.
read_structure <- function(at, data, settings) {
  shards <- data$shards
  group <- shards$group
  kernel <- to_kernel(at, settings)
  workers <- seq_along(shards$box)
  sent <- group_map(group, "worker_border", lapply(workers, function(w) {
    list(kernel, settings$k * 4, shards$first[w], shards$box[-w])
  }))
  border <- lapply(workers, function(w) lapply(workers[-w], function(v) sent[[v]][[if (w < v) w else w - 1L]]))
  wanted <- group_map(group, "worker_sets_read", lapply(workers, function(w) {
    list(border[[w]], kernel, settings$inducing, to_nugget(at, settings), settings$k, settings$jitter, shards$centre)
  }))
  known <- lapply(border, function(parts) unlist(lapply(parts, `[[`, "number")))
  halo <- wanted
  parents <- rep(list(NULL), length(workers))
  owner <- function(numbers) findInterval(numbers - 1L, shards$first)
  while (nrow(settings$inducing) && length(unlist(wanted))) {
    asked <- sort(unique(unlist(wanted)))
    answers <- group_map(group, "worker_parents", lapply(workers, function(w) list(asked[owner(asked) == w])))
    rows <- do.call(rbind, answers)
    parents <- Map(function(old, new) rbind(old, rows[match(new, asked), , drop = FALSE]), parents, wanted)
    wanted <- Map(function(new, have, border) {
      candidates <- unique(as.vector(rows[match(new, asked), ]))
      setdiff(intersect(candidates, border), have)
    }, wanted, halo, known)
    halo <- Map(c, halo, wanted)
  }
  all <- unique(unlist(halo))
  export <- lapply(workers, function(w) sort(all[owner(all) == w]))
  group_map(group, "worker_structure_read", lapply(workers, function(w) {
    list(halo[[w]], parents[[w]], settings$inducing, export[[w]])
  }))
  list(at = at, inducing = settings$inducing, halo = halo, export = export)
}

# ---- on the workers ----

read_shard <- function(source) {
  ending <- tolower(sub(".*\\.", "", source))
  if (ending == "rds") return(readRDS(source))
  if (ending == "csv") return(utils::read.csv(source))
  if (ending %in% c("parquet", "feather")) {
    if (!requireNamespace("arrow", quietly = TRUE)) stop("package arrow is needed to read ", source, call. = FALSE)
    return(as.data.frame(if (ending == "parquet") arrow::read_parquet(source) else arrow::read_feather(source)))
  }
  stop("no reader for ", source, ": give `read`", call. = FALSE)
}

# Reads the sources; answers with what the session needs for starting values: half of a sample spread out, half in
# groups.
worker_read <- function(own, sources, formula, coords, read, size = 3000L, group = 50L) {
  parts <- lapply(sources, function(source) {
    data <- if (is.null(read)) read_shard(source) else read(source)
    shard_frame(as.data.frame(data), formula, coords)
  })
  own$x <- do.call(rbind, lapply(parts, `[[`, "x"))
  own$y <- unlist(lapply(parts, `[[`, "y"))
  own$X <- do.call(rbind, lapply(parts, `[[`, "X"))
  if (!length(own$y)) stop("a worker has no complete rows in ", deparse1(unlist(sources)), call. = FALSE)
  n <- length(own$y)
  rows <- with_seed(1, {
    spread <- sample.int(n, min(n, size))
    centres <- sample.int(n, min(n, size %/% group))
    sides <- input_scale(own$x, list(of = seq_len(ncol(own$x))))
    plain <- euclidean_process(list(x = own$x, kernel = gp_kernel(lengthscale = sides)), own$threads)
    close <- residual_knn(plain, group - 1L, queries = centres, threads = own$threads, progress = FALSE)$id
    unique(c(spread, centres, close[!is.na(close)]))
  })
  list(n = n, box = apply(own$x, 2, range), names = colnames(own$X), middle = colMeans(own$x),
       sample = list(x = own$x[rows, , drop = FALSE], y = own$y[rows], X = own$X[rows, , drop = FALSE],
                     even = seq_along(rows) <= min(n, size)))
}

# Covariates in the basis of the likelihood.
worker_basis <- function(own, back) {
  own$values <- unname(rbind(own$y, t(own$X %*% back)))
  own$memory <- vif_memory()
  own$order <- NULL
  NULL
}

# Own points in maxmin order, each with its distance from those before it; answers with those that may matter to the
# boxes of others, which are within some of these distances of them.
worker_border <- function(own, kernel, candidates, first, boxes) {
  scaled <- in_lengthscales(own$x, kernel)
  order <- order_maxmin(scaled)
  own$x <- own$x[order, , drop = FALSE]
  own$values <- own$values[, order, drop = FALSE]
  own$X <- own$X[order, , drop = FALSE]
  own$y <- own$y[order]
  scaled <- scaled[order, , drop = FALSE]
  own$first <- first
  plain <- euclidean_process(list(x = own$x, kernel = kernel), own$threads)
  near <- residual_knn(plain, 1L, predecessors = TRUE, threads = own$threads, progress = FALSE)$id
  own$spacing <- sqrt(rowSums((scaled - scaled[near, , drop = FALSE])^2))
  own$spacing[1] <- Inf
  # the order of all points is by spacing: no point before its parents in the shard
  own$spacing <- cummin(own$spacing)
  reach <- 1.5 * candidates^(1 / ncol(scaled)) * own$spacing
  lapply(boxes, function(box) {
    rows <- which(box_distance(scaled, in_lengthscales(box, kernel)) <= reach)
    list(number = first + rows, x = own$x[rows, , drop = FALSE], values = own$values[, rows, drop = FALSE],
         spacing = own$spacing[rows])
  })
}

# Sets of the own points among those before them here and in the border; answers with the numbers of others' points in
# them.
worker_sets_read <- function(own, border, kernel, inducing, nugget, k, jitter, centre) {
  n <- length(own$y)
  join <- function(name, f, mine) do.call(f, c(list(mine), lapply(border, `[[`, name)))
  number <- join("number", c, own$first + seq_len(n))
  order <- order(-join("spacing", c, own$spacing), number)
  own$number <- number[order]
  own$all <- join("values", cbind, own$values)[, order, drop = FALSE]
  x <- structure(join("x", rbind, own$x)[order, , drop = FALSE], centre = centre)
  own$rows <- which(order <= n)
  own$shared <- list(x = x, k = min(k, nrow(x) - 1L), neighbours = "selected", kernel = kernel, jitter = jitter,
                     apart = FALSE, extra = 0, share = 1)
  id <- worker_search(own, kernel, inducing, nugget)
  parents <- unique(id[!is.na(id)])
  sort(own$number[parents[!parents %in% own$rows]])
}

# Parents of own points by their numbers.
worker_parents <- function(own, numbers) {
  id <- own$id[match(numbers, own$number[own$rows]), , drop = FALSE]
  matrix(own$number[id], nrow(id), ncol(id))
}

worker_structure_read <- function(own, halo, parents, inducing, export) {
  at <- match(halo, own$number)
  id <- if (is.null(parents)) matrix(NA_integer_, length(halo), ncol(own$id)) else {
    matrix(match(parents, own$number), nrow(parents))
  }
  values <- function(rows) {
    list(values = own$all[, rows, drop = FALSE], extra = numeric(length(rows)), share = rep(1, length(rows)))
  }
  held <- own$values
  own$values <- values(own$rows)
  worker_structure(own, at, values(at), id, inducing, match(export, own$number))
  own$values <- held
  own$local$shard$place <- own$number[own$local$shard$place + 1L] - 1L
  NULL
}

# What predictions need of the shard and its halo after the last evaluation of a fit.
worker_keep <- function(own, id) {
  own$fits[[id]] <- list(x = own$local$x, residual = .Call(C_shard_state, own$pointer)$residual)
  NULL
}

worker_sharded <- function(own, fit) {
  x <- own$fits[[fit$id]]$x
  n <- nrow(x)
  state <- c(fit$state, list(residual = own$fits[[fit$id]]$residual))
  own$predict <- selected_predictor(list(
    gp = featureless(x, new_residual_gp(points_of(x, 1L), fit$kernel, fit$inducing, 0, fit$jitter, own$threads)),
    kernel = fit$kernel, nugget = fit$nugget, n = n, k = fit$k, neighbours = "selected", order = seq_len(n),
    state = state, coefficients = fit$coefficients, vcov = fit$vcov, X = NULL
  ), NULL, TRUE, own$threads)
  NULL
}

worker_predict_some <- function(own, x, X, want_variance) {
  if (!nrow(x)) return(NULL)
  own$predict(x, X, want_variance, FALSE)
}
