# Few queries over a tree that keeps its index: which search is fastest, and what a query takes.
#
#   Rscript bench/few.R [problems] [repetitions]
#
# One thread. Searches take turns of some 200 queries (brute force: 10 searches), each with queries of its own: points
# drawn at random ("far"), or the nearest of one ("close"). Microseconds a query, medians.

source("bench/problems.R")

arguments <- commandArgs(trailingOnly = TRUE)
names <- strsplit(if (length(arguments) > 0) arguments[1] else "ABCDE", "")[[1]]
repetitions <- if (length(arguments) > 1) as.integer(arguments[2]) else 15L

draw <- function(problem, count, kind) {
  if (kind == "far") return(sample.int(problem$n, count))
  centre <- problem$x[sample.int(problem$n, 1), ]
  order(colSums((t(problem$x) - centre)^2))[seq_len(count)]
}

bench_few <- function(name, problem, tree, count, kind) {
  methods <- c("brute", "level", "best_first", "auto")
  turn <- function(method) {
    searches <- if (method == "brute") 10 else ceiling(200 / count)
    queries <- replicate(searches, draw(problem, count, kind), simplify = FALSE)
    spent <- seconds(for (some in queries) {
      residual_knn(tree, problem$k, queries = some, method = method, threads = 1, progress = FALSE)
    })
    1e6 * spent / searches / count
  }
  times <- replicate(repetitions, vapply(sample(methods), turn, 0)[methods])
  middle <- apply(times, 1, median)
  row(name, count, kind, round(middle), sprintf("%.2f", middle[["level"]] / middle[["best_first"]]),
      sprintf("%.2f", min(middle) / middle[["auto"]]))
}

heading("problem", "queries", "which", "brute us", "level us", "best-first us", "auto us", "level / best-first", "fastest / auto")
for (name in names) {
  problem <- make_problem(name)
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)
  tree <- cover_tree(gp, threads = 1)
  bench_few(name, problem, tree, 1, "far")
  for (count in c(4, 16, 64)) for (kind in c("far", "close")) bench_few(name, problem, tree, count, kind)
}
