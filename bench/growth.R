# How the cost of a query grows with n: one problem in several sizes, which take turns.
#
#   Rscript bench/growth.R [problem, e.g. E] [threads, e.g. 1 or 1,2] [repetitions] [sizes, e.g. 10000,100000,1000000]
#
# The lengthscale and the number of inducing inputs are those of the problem at every size. Each repetition searches all points
# of each size, among their predecessors where the problem says so, over a tree that keeps its index, several times for each
# reading of the clock where that is short; the exponent is that of n between the smallest and the largest size, the median of
# the repetitions'. Recall is counted on 1920 queries against brute force in double precision.

source("bench/problems.R")

name <- given(1, "E")
teams <- as.integer(strsplit(given(2, "1"), ",")[[1]])
repetitions <- as.integer(given(3, 5))
sizes <- sort(as.numeric(strsplit(given(4, "10000,100000,1000000"), ",")[[1]]))

search <- function(size, threads, method = "level", ...) {
  residual_knn(size$tree, size$k, method = method, threads = threads, progress = FALSE,
               predecessors = size$predecessors, ...)
}

searched <- lapply(sizes, function(n) {
  problem <- make_problem(name, n)
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing)
  list(n = n, k = problem$k, tree = cover_tree(gp), predecessors = isTRUE(problem$predecessors), times = max(1, round(least_queries / n)))
})

found <- NULL
recalls <- vapply(searched, function(size) {
  queries <- sort(sample.int(size$n, 1920))
  exact <- search(size, max(teams), "brute", queries = queries)
  mean(search(size, max(teams))$id[queries, ] == exact$id, na.rm = TRUE)
}, numeric(1))

heading("problem", "threads", "n", "us a query", "recall", "exponent")
for (threads in teams) {
  spent <- replicate(repetitions, vapply(searched, function(size) {
    seconds(for (i in seq_len(size$times)) found <<- search(size, threads)) / size$times / size$n * 1e6
  }, numeric(1)))
  largest <- length(sizes)
  exponents <- log(spent[largest, ] / spent[1, ]) / log(sizes[largest] / sizes[1])
  row(name, threads, paste(sizes, collapse = ", "), paste(sprintf("%.2f", apply(spent, 1, median)), collapse = ", "),
      paste(sprintf("%.4f", recalls), collapse = ", "), sprintf("%.3f", median(exponents)))
}
