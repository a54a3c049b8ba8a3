# Neighbour searches side by side on the benchmark problems.
#
#   Rscript bench/neighbours.R [problems, e.g. ABCDE] [threads] [repetitions]
#
# Every figure of speed is the median of repetitions that take turns, brute force and tree search, so that a machine
# whose speed drifts drifts for both. Brute force answers 1024 queries, and those are what recall is counted on; the
# searches answer all points, index included. F is run once: predecessors of all points, in maxmin order.

library(vecchiann)

arguments <- commandArgs(trailingOnly = TRUE)
names <- strsplit(if (length(arguments) > 0) arguments[1] else "ABCD", "")[[1]]
threads <- if (length(arguments) > 1) as.integer(arguments[2]) else 1L
repetitions <- if (length(arguments) > 2) as.integer(arguments[3]) else 3L

problems <- list(
  A = list(n = 20000, d = 2, family = "matern32", lengthscale = 0.05, m = 200, k = 30),
  B = list(n = 20000, d = 2, family = "matern52", lengthscale = 0.1, m = 200, k = 30),
  C = list(n = 20000, d = 5, family = "matern32", lengthscale = 0.5, m = 200, k = 30),
  D = list(n = 32768, d = 3, family = "rbf", lengthscale = 1, m = 512, k = 50),
  E = list(n = 100000, d = 2, family = "matern32", lengthscale = 0.05, m = 200, k = 30),
  F = list(n = 1000000, d = 2, family = "matern32", lengthscale = 0.02, m = 200, k = 30)
)

seconds <- function(code) system.time(code, gcFirst = FALSE)[["elapsed"]]

make_inputs <- function(name, problem) {
  set.seed(1)
  draw <- if (name == "D") rnorm else runif
  matrix(draw(problem$n * problem$d), problem$n)
}

search_all <- function(object, k, ...) residual_knn(object, k, threads = threads, progress = FALSE, ...)

row <- function(...) cat("|", paste(c(...), collapse = " | "), "|\n")

bench_all_points <- function(name, problem) {
  x <- make_inputs(name, problem)
  kernel <- gp_kernel(problem$family, lengthscale = problem$lengthscale)
  features <- seconds(gp <- residual_gp(x, kernel, inducing = x[sample(problem$n, problem$m), ], threads = threads))
  build <- seconds(tree <- cover_tree(gp, threads = threads))
  renew <- seconds(update(tree, kernel = kernel, threads = threads))
  queries <- sort(sample(problem$n, 1024))
  left <- gp$V[, queries]
  right <- gp$V[, seq_len(2000)]
  times <- replicate(repetitions, {
    brute <- seconds(exact <<- search_all(tree, problem$k, queries = queries, method = "brute"))
    level <- seconds(found <<- search_all(tree, problem$k, method = "level"))
    auto <- seconds(chosen <<- search_all(tree, problem$k, method = "auto"))
    # the same product, and nothing else, by the BLAS that R runs on
    product <- seconds(for (slab in 1:5) crossprod(left, right))
    c(brute = 1024 / brute, dgemm = 5 * 2 * problem$m * 1024 * 2000 / product / 1e9, level = problem$n / level, auto = problem$n / auto,
      ratio = (problem$n / level) / (1024 / brute))
  })
  speed <- apply(times, 1, median)
  sampled <- function(nn) mean(nn$id[queries, ] == exact$id)
  row(name, threads, round(speed[["brute"]]), round(speed[["brute"]] * problem$n * 2 * problem$m / 1e9, 1),
      round(speed[["dgemm"]], 1), round(speed[["level"]]), round(speed[["auto"]]), round(speed[["ratio"]], 1),
      format(sampled(found), nsmall = 4), format(sampled(chosen), nsmall = 4),
      signif(found$stats[["screened"]] / problem$n^2, 2), round(found$stats[["correlations"]] / problem$n),
      round(features, 2), round(build, 2), round(renew, 2))
}

bench_predecessors <- function(name, problem) {
  x <- make_inputs(name, problem)
  x <- x[order_maxmin(x), ]
  kernel <- gp_kernel(problem$family, lengthscale = problem$lengthscale)
  gp <- residual_gp(x, kernel, inducing = x[sample(problem$n, problem$m), ], threads = threads)
  all <- seconds(nn <- search_all(gp, problem$k, predecessors = TRUE))
  queries <- sort(sample(problem$n, 64))
  exact <- search_all(gp, problem$k, predecessors = TRUE, queries = queries, method = "brute")
  cat(sprintf("\n%s, predecessors in maxmin order, %d threads: %.1f s for all %d points, recall %.4f on 64 of them\n",
              name, threads, all, problem$n, mean(nn$id[queries, ] == exact$id, na.rm = TRUE)))
}

exact <- found <- chosen <- NULL
if (any(names != "F")) {
  row("problem", "threads", "brute q/s", "GFLOPS", "dgemm", "level q/s", "auto q/s", "level / brute", "recall", "recall, auto",
      "pairs screened", "correlations a query", "features s", "tree s", "update s")
  cat(strrep("|---", 15), "|\n", sep = "")
}
for (name in names) (if (name == "F") bench_predecessors else bench_all_points)(name, problems[[name]])
