# Two builds of the package in turns: what a change does to the time of searches of all points.
#
#   Rscript bench/turns.R [library of one build] [library of the other] [problems] [repetitions] [method] [n] [k]
#
# Each build is loaded by a process of its own, and searches take turns, several for each reading of the clock where they are
# short; the ratio is the median of the ratios. `level` and `best_first` search a tree that keeps its index, `auto` and `brute`
# the residual process, index included; one thread. Without arguments the build in .lib is compared with itself, which shows the noise.

source("bench/problems.R")

builds <- normalizePath(c(given(1, ".lib"), given(2, given(1, ".lib"))))
names <- strsplit(given(3, "A"), "")[[1]]
repetitions <- as.integer(given(4, 9))
method <- given(5, "level")
other_n <- as.integer(given(6, NA))
other_k <- as.integer(given(7, NA))

workers <- lapply(builds, function(build) {
  worker <- parallel::makePSOCKcluster(1)
  parallel::clusterCall(worker, function(build) {
    library(vecchiann, lib.loc = build)
    source("bench/problems.R", local = globalenv())
    NULL
  }, build)
  worker
})
on <- function(worker, ...) parallel::clusterCall(worker, ...)[[1]]

prepare <- function(name, method, other_n, other_k) {
  problem <- make_problem(name, if (is.na(other_n)) problems[[name]]$n else other_n)
  if (!is.na(other_k)) problem$k <- other_k
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)
  searched <- if (method %in% c("level", "best_first")) cover_tree(gp, threads = 1) else gp
  searching <<- function() {
    residual_knn(searched, problem$k, method = method, threads = 1, progress = FALSE,
                 predecessors = isTRUE(problem$predecessors))
  }
  problem$n
}

timed <- function(times) seconds(for (i in seq_len(times)) nn <<- searching()) / times

heading("problem", "n", "one, us a query", "the other", "the other / one", "same neighbours", "same distances, bit for bit")
for (name in names) {
  n <- vapply(workers, on, numeric(1), prepare, name, method, other_n, other_k)[1]
  times <- max(1, round(least_queries / n))
  spent <- matrix(0, repetitions, 2)
  for (i in seq_len(repetitions)) {
    for (which in if (i %% 2) 1:2 else 2:1) spent[i, which] <- on(workers[[which]], timed, times)
  }
  answers <- lapply(workers, on, function() nn[c("id", "dist")])
  row(name, n, sprintf("%.2f", apply(spent, 2, median) / n * 1e6), sprintf("%.3f", median(spent[, 2] / spent[, 1])),
      mapply(identical, answers[[1]], answers[[2]]))
}
for (worker in workers) parallel::stopCluster(worker)
