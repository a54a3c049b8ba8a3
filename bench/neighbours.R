# Neighbour searches side by side on the benchmark problems.
#
#   Rscript bench/neighbours.R [problems, e.g. ABCDE] [threads, e.g. 1 or 1,2] [repetitions] [n]
#
# Every figure of speed is the median of repetitions in which the searches take turns, so that a machine whose speed drifts
# drifts for all; "level / brute" is the median of the ratios. Brute force and best-first answer 1920 queries, on which
# recall is counted too, against brute force in double precision; level answers all points over a tree that keeps its index,
# auto all points of the residual process, index included. What several threads are worth is a median of ratios too: level
# on one thread takes its turn beside them. Features, tree and index have columns of their own; update is
# both but the structure. Bytes are those of the tree as R holds it, index and structure, as a share of V. F and R are run
# once: predecessors of all points, in maxmin order, index included.

source("bench/problems.R")

arguments <- commandArgs(trailingOnly = TRUE)
names <- strsplit(if (length(arguments) > 0) arguments[1] else "ABCD", "")[[1]]
teams <- as.integer(strsplit(if (length(arguments) > 1) arguments[2] else "1", ",")[[1]])
repetitions <- if (length(arguments) > 2) as.integer(arguments[3]) else 3L
other_n <- if (length(arguments) > 3) as.integer(arguments[4])

of_all_points <- Filter(function(name) !isTRUE(problems[[name]]$predecessors), names)
of_predecessors <- setdiff(names, of_all_points)
if (!requireNamespace("GpGp", quietly = TRUE)) of_predecessors <- setdiff(of_predecessors, "R")

problem_of <- function(name) make_problem(name, if (is.null(other_n)) problems[[name]]$n else other_n)

search <- function(object, problem, threads, ...) {
  residual_knn(object, problem$k, threads = threads, progress = FALSE, ...)
}

recall_on <- function(nn, exact) mean(nn$id == exact$id, na.rm = TRUE)

bench_all_points <- function(name, problem, threads) {
  n <- problem$n
  features <- seconds(gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = threads))
  build <- seconds(tree <- cover_tree(gp, threads = threads))
  renew <- seconds(update(tree, kernel = problem$kernel, threads = threads))
  bytes <- sum(vapply(tree[setdiff(names(tree), "gp")], function(part) as.numeric(object.size(part)), 0))
  queries <- sort(sample.int(n, min(1920, n)))
  exact <- best <- level <- auto <- NULL
  times <- replicate(repetitions, c(
    brute = seconds(exact <<- search(tree, problem, threads, queries = queries, method = "brute")),
    level = seconds(level <<- search(tree, problem, threads, method = "level")),
    alone = if (threads == 1) NA else seconds(search(tree, problem, 1, method = "level")),
    auto = seconds(auto <<- search(gp, problem, threads, method = "auto")),
    best = seconds(best <<- search(tree, problem, threads, queries = queries, method = "best_first"))
  ))
  speed <- c(length(queries), n, n, n, length(queries)) / times
  middle <- apply(speed, 1, median)
  of_queries <- function(nn) list(id = nn$id[queries, , drop = FALSE])
  recalls <- c(recall_on(of_queries(level), exact), recall_on(of_queries(auto), exact), recall_on(best, exact))
  row(name, threads, round(middle[["brute"]]), sprintf("%.1f", middle[["brute"]] * n * 2 * nrow(gp$V) / 1e9),
      round(middle[["level"]]), round(middle[["auto"]]), round(middle[["best"]]),
      sprintf("%.1f", apply(speed[c("level", "auto"), , drop = FALSE] / rep(speed["brute", ], each = 2), 1, median)),
      if (threads == 1) "" else sprintf("%.2f", median(speed["level", ] / speed["alone", ])),
      sprintf("%.4f", recalls), signif(level$stats[["screened"]] / n^2, 2), round(level$stats[["correlations"]] / n),
      sprintf("%.2f", c(features, build, renew)), signif(bytes / as.numeric(object.size(gp$V)), 2))
}

bench_predecessors <- function(name, problem, threads) {
  n <- problem$n
  features <- seconds(gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = threads))
  all <- seconds(nn <- search(gp, problem, threads, predecessors = TRUE))
  queries <- sort(sample.int(n, 1920))
  some <- seconds(exact <- search(gp, problem, threads, predecessors = TRUE, queries = queries, method = "brute"))
  row(name, threads, n, sprintf("%.1f", c(features, all, some * n / length(queries))),
      sprintf("%.4f", recall_on(list(id = nn$id[queries, ]), exact)),
      round(nn$stats[["correlations"]] / n))
}

if (length(of_all_points)) {
  heading("problem", "threads", "brute q/s", "GFLOPS", "level q/s", "auto q/s", "best-first q/s", "level / brute",
          "auto / brute", "level / one thread", "recall, level", "recall, auto", "recall, best-first", "pairs screened",
          "correlations a query", "features s", "tree and index s", "update s", "bytes / V")
}
for (name in of_all_points) {
  problem <- problem_of(name)
  for (threads in teams) bench_all_points(name, problem, threads)
}
if (length(of_predecessors)) {
  cat("\n")
  heading("problem, predecessors", "threads", "n", "features s", "search s", "brute s, from 1920 queries", "recall on these", "correlations a query")
}
for (name in of_predecessors) {
  problem <- problem_of(name)
  for (threads in teams) bench_predecessors(name, problem, threads)
}
