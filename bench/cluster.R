# What workers of a cluster cost and bring.
#
#   Rscript bench/cluster.R fit [n] [type]        a fit by two workers of one thread beside one process of two threads;
#                                                 workers of sockets ("PSOCK") or, by packages snow and Rmpi, "MPI"
#   Rscript bench/cluster.R likelihood [n] [m]    one likelihood with derivatives by 1 to 4 workers of one thread
#   Rscript bench/cluster.R order [lengthscale]   what the blockwise order of vif_shards() costs in divergence
#
# Uniform inputs in the unit square, k = 30, m = 200. With fewer processors than workers the seconds of `likelihood` are
# of no use; `busiest` is then the processor time of the worker that has most to do.

source("bench/problems.R")

shard_problem <- function(n, m, k = 30) {
  set.seed(1)
  x <- matrix(runif(2 * n), n)
  x <- x[order_maxmin(x), ]
  y <- sin(6 * x[, 1]) * cos(7 * x[, 2]) + rnorm(n, sd = 0.3)
  kernel <- gp_kernel("matern32", 0.5, 0.1)
  settings <- list(kernel = kernel, inducing = m, k = k, fixed = NULL, spread = var(y), neighbours = "selected",
                   jitter = 1e-6, seed = 1L, threads = 2L, scale = 1, smoothness = "fixed", plane = NULL,
                   groups = list(of = NULL, names = "lengthscale"))
  list(data = list(y = y, x = x, X = matrix(1, n, 1), extra = rep(0, n), share = rep(1, n)), settings = settings,
       theta = vecchiann:::to_theta(kernel, 0.1, settings))
}

bytes <- 0
count_bytes <- function() {
  map <- vecchiann:::group_map
  counting <- function(group, what, each) {
    answers <- map(group, what, each)
    bytes <<- bytes + length(serialize(each, NULL)) + length(serialize(answers, NULL))
    answers
  }
  environment(map) <- asNamespace("vecchiann")
  utils::assignInNamespace("group_map", counting, "vecchiann")
}

fit_part <- function(n, type) {
  set.seed(1)
  x <- matrix(runif(2 * n), n)
  y <- sin(6 * x[, 1]) * cos(7 * x[, 2]) + rnorm(n, sd = 0.3)
  fit <- function(...) vif_fit(y, x, X = 1, progress = FALSE, ...)
  cluster <- parallel::makeCluster(2, type)
  on.exit(if (type == "MPI") snow::stopCluster(cluster) else parallel::stopCluster(cluster))
  one <- seconds(alone <- fit(threads = 2))
  two <- seconds(together <- fit(threads = 1, cluster = cluster))
  cat(sprintf("n = %g: one process, two threads %.1f s; two workers, one thread each %.1f s: %.2f of its speed\n", n, one,
              two, one / two))
  cat(sprintf("largest difference of log parameters %.1e, of the log-likelihood %.1e, same sets: %s\n",
              max(abs(together$theta - alone$theta)), abs(together$loglik - alone$loglik),
              identical(together$id, alone$id)))
}

likelihood_part <- function(n, m) {
  count_bytes()
  problem <- shard_problem(n, m)
  cpu <- function(cluster) {
    unlist(parallel::clusterCall(cluster, function() sum(proc.time()[1:2])))
  }
  cat(sprintf("n = %g, m = %g, k = 30\n\n", n, m))
  cat("| workers | seconds | busiest worker, CPU s | halo, share of n | MB moved by a likelihood | MB moved by a search | log-likelihood |\n|---|---|---|---|---|---|---|\n")
  for (workers in 1:4) {
    cluster <- parallel::makePSOCKcluster(workers)
    group <- vecchiann:::group_open(cluster, 1L)
    problem$settings$workers <- group
    bytes <<- 0
    data <- vecchiann:::shard_data(problem$data, problem$settings)
    structure <- vecchiann:::structure_of(problem$theta, data, problem$settings)
    searched <- bytes
    once <- function() vecchiann:::evaluate(problem$theta, structure, data, problem$settings)
    found <- once()
    bytes <<- 0
    before <- cpu(cluster)
    time <- seconds(once())
    busiest <- max(cpu(cluster) - before)
    cat(sprintf("| %d | %.2f | %.2f | %.3f | %.1f | %.1f | %.9f |\n", workers, time, busiest,
                length(unlist(structure$halo)) / n, bytes / 1e6, searched / 1e6, found$value))
    vecchiann:::group_close(group)
    parallel::stopCluster(cluster)
  }
}

# The divergence of the exact distribution from the approximation by order and sets of shards that some workers read.
order_part <- function(lengthscale, n = 2500) {
  source("tools/divergence.R")
  set.seed(1)
  x <- cbind(a = runif(n), b = runif(n))
  kernel <- gp_kernel("matern32", 1, lengthscale)
  nugget <- 0.1
  exact_at <- function(x) exact_process(x, kernel, nugget)
  cat(sprintf("n = %g, %s, m = 150, nugget 0.1\n\n| k | one process | %s |\n|---|---|---|---|---|\n", n, format(kernel),
              paste(c(1, 2, 4), "workers", collapse = " | ")))
  for (k in c(10, 30)) {
    maxmin <- x[order_maxmin(x), ]
    gp <- residual_gp(maxmin, kernel, inducing = 150, seed = 1)
    pool <- residual_knn(residual_gp(maxmin, kernel, inducing = 0), 3 * k, predecessors = TRUE, progress = FALSE)
    sets <- conditioning_sets(gp, k, nugget, pool = pool, progress = FALSE)
    found <- divergence(gp, sets, nugget, exact_at(maxmin))
    for (workers in c(1, 2, 4)) {
      part <- vecchiann:::space_cut(x, workers)
      tiles <- lapply(seq_len(workers), function(w) data.frame(x[part == w, ], y = 0))
      cluster <- parallel::makePSOCKcluster(workers)
      shards <- vif_shards(tiles, y ~ 1, ~ a + b, cluster, read = identity, threads = 1)
      settings <- list(kernel = kernel, inducing = gp$inducing, k = k, fixed = nugget, spread = 1, jitter = 1e-6,
                       scale = 1, smoothness = "fixed", plane = NULL, groups = list(of = NULL, names = "lengthscale"))
      vecchiann:::group_map(shards$group, "worker_basis", rep(list(list(diag(1))), workers))
      theta <- vecchiann:::to_theta(kernel, nugget, settings)
      vecchiann:::read_structure(theta, list(shards = unclass(shards)), settings)
      parts <- parallel::clusterCall(cluster, function(token) {
        own <- asNamespace("vecchiann")$held[[token]]
        list(number = own$number[own$rows], id = matrix(own$number[own$id], nrow(own$id)), spacing = own$spacing,
             x = own$x)
      }, shards$group$token)
      join <- function(name, f) do.call(f, lapply(parts, `[[`, name))
      order <- order(-join("spacing", c), join("number", c))
      id <- matrix(match(join("id", rbind), join("number", c)[order]), n)[order, ]
      x_in_order <- join("x", rbind)[order, ]
      own <- residual_gp(x_in_order, kernel, inducing = gp$inducing)
      found <- c(found, divergence(own, cbind(seq_len(n), id), nugget, exact_at(x_in_order)))
      close(shards)
      parallel::stopCluster(cluster)
    }
    cat("|", k, "|", paste(format(found, digits = 3), collapse = " | "), "|\n")
  }
}

arguments <- c(commandArgs(trailingOnly = TRUE), "likelihood")
number <- function(at, default) if (length(arguments) > at) as.numeric(arguments[at]) else default
type <- if (length(arguments) > 3) arguments[3] else "PSOCK"
switch(arguments[1], fit = fit_part(number(2, 500000), type), likelihood = likelihood_part(number(2, 100000), number(3, 200)),
       order = order_part(number(2, 0.1)),
       stop("the first argument is `fit`, `likelihood` or `order`", call. = FALSE))
