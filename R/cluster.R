# Cluster: maps over the workers of a cluster of package parallel, which keep what they are given from one call to the
# next.

#' Work on several processes or machines
#'
#' [vif_fit()], its [predict][predict.vif] method, [residual_knn()] and [conditioning_sets()] take `cluster`, a
#' cluster of R's package parallel: `parallel::makeCluster(4)` on one machine, `parallel::makePSOCKcluster(c("host1",
#' "host2"))` on several, workers over MPI by package snow, or `mirai::make_cluster()`. Results are those without a
#' cluster: the same neighbours and sets, log-likelihoods that agree to rounding, and the same estimates.
#'
#' Points are cut in space (by a k-d tree) into one shard for each worker. For a fit every worker gets the coordinates
#' of all points once (8 d bytes a point), observations and covariates of its own shard, and, after each search for
#' neighbours, those of the halo of its shard, the points of other shards on which its own depend. They stay there,
#' and are removed at the end, also after an error. A likelihood then moves sums: three times about m^2 numbers for m
#' inducing inputs, and for the points on the borders of shards their regressions (about 8 k (2 + d) bytes). Nothing
#' of it depends on the number of points inside of the shards.
#'
#' vecchiann must be installed on every worker, in the same version. Its libraries are those of the worker, then those
#' of the session. Workers on one machine share out its processors: `threads` is the number of threads of *each
#' worker*, by default the processors of its machine over its workers there, at least one.
#'
#' A worker that dies ends in an error of class `"vecchiann_cluster"` that names its number, machine and process; the
#' others have nothing left of the work, and serve on as `cluster[-2]`, say. So do all workers after other errors and
#' after interrupts, which wait for the end of what the workers are doing: a step of a fit, or 50,000 points. (A limit
#' of `setTimeLimit()` does not wait, and may leave half a message behind.)
#'
#' Small work stays in the session: fits and stages of fits with up to 4,000 observations. `vif_fit()` refuses a
#' cluster for families other than `gaussian()`.
#'
#' @name vecchiann_cluster
#' @aliases cluster
#' @seealso `vignette("large-data", package = "vecchiann")` for costs, batch schedulers, and how far it goes.
#' @examples
#' \donttest{
#' cluster <- parallel::makeCluster(2)
#' x <- cbind(runif(6000), runif(6000))
#' y <- sin(6 * x[, 1]) + rnorm(6000, sd = 0.3)
#' fit <- vif_fit(y, x, X = 1, inducing = 30, k = 10, cluster = cluster, threads = 1, progress = FALSE)
#' predict(fit, cbind(0.5, seq(0, 1, by = 0.1)), cluster = cluster)
#' parallel::stopCluster(cluster)
#' }
NULL

# ---- workers ----

check_cluster <- function(cluster) {
  if (is.null(cluster)) return(NULL)
  if (!inherits(cluster, "cluster") || !length(cluster)) {
    refuse("cluster", "a cluster of package parallel, as parallel::makeCluster() makes it, or NULL", describe(cluster))
  }
  cluster
}

# Some workers of a cluster; the clusters of package mirai are plain lists then.
some_workers <- function(cluster, which) {
  some <- cluster[which]
  if (!inherits(some, "cluster")) class(some) <- "cluster"
  some
}

# A group of workers that hold something under a token until group_close().
group_open <- function(cluster, threads) {
  # outside of the namespace, which a worker may not find yet
  greet <- function(paths) {
    found <- requireNamespace("vecchiann", quietly = TRUE)
    for (path in paths) if (!found) found <- requireNamespace("vecchiann", lib.loc = path, quietly = TRUE)
    cores <- parallel::detectCores()
    list(version = if (found) as.character(getNamespaceVersion("vecchiann")), host = Sys.info()[["nodename"]],
         pid = Sys.getpid(), cores = if (is.na(cores)) 1L else cores)
  }
  environment(greet) <- baseenv()
  group <- list(cluster = cluster, token = new_token())
  group$workers <- group_send(group, rep(list(.libPaths()), length(cluster)), greet)
  version <- as.character(getNamespaceVersion("vecchiann"))
  for (w in seq_along(group$workers)) {
    found <- group$workers[[w]]$version
    if (identical(found, version)) next
    stop(user_call(), describe_worker(group, w), if (is.null(found)) " has no package vecchiann" else
      paste0(" has version ", found, " of vecchiann, not ", version), ".", call. = FALSE)
  }
  host <- vapply(group$workers, `[[`, "", "host")
  cores <- vapply(group$workers, `[[`, 1L, "cores")
  share <- pmax(1L, cores %/% as.integer(table(host)[host]))
  group$threads <- if (is.na(threads)) share else rep(threads, length(cluster))
  open <- FALSE
  on.exit(if (!open) group_close(group))
  group_map(group, "worker_open", lapply(seq_along(cluster), function(w) {
    list(group$threads[w], at_most = is.na(threads))
  }))
  open <- TRUE
  group
}

new_token <- function() {
  tokens$last <- tokens$last + 1
  paste(Sys.info()[["nodename"]], Sys.getpid(), tokens$last, sep = "-")
}
tokens <- new.env()
tokens$last <- 0

# Removes what the workers hold that are still there.
group_close <- function(group) {
  finish(for (w in seq_along(group$cluster)) {
    node <- some_workers(group$cluster, w)
    tryCatch(parallel::clusterCall(node, worker_call, list(group$token), "worker_close", group$token),
             error = function(e) NULL)
  })
}

describe_worker <- function(group, w) {
  worker <- group$workers[[w]]
  if (is.null(worker)) return(paste("worker", w))
  sprintf("worker %d (%s, process %d)", w, worker$host, worker$pid)
}

# Calls a function of this package on every worker, with what it holds and the arguments of `each`; their answers in
# the order of the workers. All answers are taken before the first error is raised.
group_map <- function(group, what, each) {
  answers <- group_send(group, each, worker_call, what, group$token)
  failed <- which(vapply(answers, function(answer) !is.null(answer$error), NA))
  if (length(failed)) {
    says <- sub("^worker_[a-z_]+\\(\\): ", "", answers[[failed[1]]]$error)
    stop(errorCondition(paste0(user_call(), says), class = answers[[failed[1]]]$class))
  }
  lapply(answers, `[[`, "value")
}

# Evaluates code that an interrupt lets go on to its end, and is raised then. R lets interrupts in while it waits for a
# part of a message, also where they are suspended, and would leave the rest of it behind.
finish <- function(code) {
  came <- NULL
  value <- withCallingHandlers(code, interrupt = function(i) {
    came <<- i
    invokeRestart("resume")
  })
  if (!is.null(came)) {
    signalCondition(came)
    invokeRestart("abort")
  }
  value
}

# Every call sends each worker one message and takes one answer. The end of a worker leaves answers of others behind,
# which settle() takes before anything else happens.
group_send <- function(group, each, ...) {
  tryCatch(finish(parallel::clusterApply(group$cluster, each, ...)), error = function(e) {
    dead <- which(!vapply(seq_along(group$cluster), function(w) settle(some_workers(group$cluster, w)), NA))
    if (!length(dead)) stop(e)
    stop(errorCondition(
      paste0(user_call(), paste(vapply(dead, describe_worker, "", group = group), collapse = " and "),
             if (length(dead) > 1) " do" else " does", " not answer any more: ", conditionMessage(e)),
      class = "vecchiann_cluster", call = NULL))
  })
}

# Brings a worker into step: takes answers until that to the present question. FALSE if the worker is gone.
settle <- function(node) {
  mark <- new_token()
  receive <- utils::getS3method("recvData", class(node[[1]])[1], optional = TRUE, envir = asNamespace("parallel"))
  attempt <- function(code) tryCatch(finish(code), error = function(e) FALSE)
  answer <- attempt(parallel::clusterCall(node, identity, mark)[[1]])
  while (!identical(answer, mark) && !isFALSE(answer)) answer <- attempt(receive(node[[1]])$value)
  identical(answer, mark)
}

# ---- on the workers ----

held <- new.env() # environments by token

worker_call <- function(arguments, what, token) {
  if (is.null(held[[token]])) assign(token, new.env(), envir = held)
  tryCatch(list(value = do.call(what, c(list(held[[token]]), arguments), envir = topenv())),
           error = function(e) list(error = conditionMessage(e), class = setdiff(class(e), c("error", "condition"))))
}

worker_open <- function(own, threads, at_most) {
  own$threads <- if (at_most) min(threads, .Call(C_threads_info, NA_integer_)$threads) else threads
  NULL
}

worker_close <- function(own, token) {
  rm(list = token, envir = held)
  NULL
}

# ---- shards ----

# One number for many that are the same.
shortest <- function(values) if (all(values == values[1])) values[1] else values

# Cuts points in space into `parts` of the same size: the number of each point's part. A k-d tree: the widest side is
# cut first.
space_cut <- function(x, parts) {
  out <- rep(1L, nrow(x))
  cut <- function(rows, first, parts) {
    if (parts < 2) {
      out[rows] <<- first
      return()
    }
    left <- parts %/% 2
    sides <- apply(x[rows, , drop = FALSE], 2, function(column) diff(range(column)))
    sorted <- rows[order(x[rows, which.max(sides)], rows, method = "radix")]
    count <- round(length(rows) * left / parts)
    cut(sorted[seq_len(count)], first, left)
    cut(sorted[-seq_len(count)], first + left, parts - left)
  }
  cut(seq_len(nrow(x)), 1L, parts)
  out
}

# The rows of chunks of at most `rows` points, those of a chunk near each other: they share candidates. Thousands of small
# chunks are not worth the cuts.
space_chunks <- function(x, rows) {
  parts <- ceiling(nrow(x) / rows)
  part_rows(if (parts > 2000) (seq_len(nrow(x)) - 1) %/% rows + 1 else space_cut(x, parts), parts)
}

# The rows of each part, ascending; no part is empty where there are as many points as parts.
part_rows <- function(part, parts) unname(split(seq_along(part), factor(part, seq_len(parts))))

# Answers for points x (scaled) that the workers share out in space, at most `rows` of them at a time each. They get
# `load` once, by the function `loader`; `what` is then called with the arguments of `each` for the numbers of some
# points. Vectors and matrices of the answers are put together in the order of x.
cluster_rounds <- function(cluster, threads, x, rows, loader, load, what, each, names) {
  cluster <- some_workers(cluster, seq_len(min(length(cluster), nrow(x))))
  group <- group_open(cluster, threads)
  on.exit(group_close(group))
  shards <- part_rows(space_cut(x, length(cluster)), length(cluster))
  rounds <- ceiling(max(lengths(shards)) / rows)
  group_map(group, loader, rep(list(c(list(rounds > 1), load)), length(cluster)))
  chunks <- lapply(shards, function(own) part_rows(ceiling(seq_along(own) * rounds / length(own)), rounds))
  numbers <- unlist(lapply(seq_len(rounds), function(round) Map(function(own, at) own[at[[round]]], shards, chunks)),
                    recursive = FALSE)
  parts <- unlist(lapply(split(numbers, (seq_along(numbers) - 1) %/% length(cluster)), function(now) {
    group_map(group, what, lapply(unname(now), each))
  }), recursive = FALSE)
  list(parts = unname(parts), answers = bind_answers(unname(parts), names, order(unlist(numbers))))
}

# Tables of answers below each other; `back` puts their rows into another order.
bind_answers <- function(found, names = c("id", "dist"), back = NULL) {
  sapply(names, function(name) {
    parts <- lapply(found, `[[`, name)
    if (is.null(dim(parts[[1]]))) {
      whole <- unlist(parts)
      return(if (is.null(back)) whole else whole[back])
    }
    whole <- do.call(rbind, parts)
    if (is.null(back)) whole else whole[back, , drop = FALSE]
  }, simplify = FALSE)
}

