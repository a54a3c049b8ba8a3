# What each idea of the report is worth when the answer must be right: problems D and A, one thread.
#
#   Rscript bench/report.R [problems] [repetitions] [n]
#
# The package's own engines answer first. The other rows are report.c, an exact level-synchronous search of a cover tree by
# the angle bound alone, with one switch turned at a time; they take turns, on about 2000 queries in whole blocks, without
# the time to build the tree. Recall is against double-precision brute force, on the queries of report.c.

source("bench/problems.R")

arguments <- commandArgs(trailingOnly = TRUE)
names <- strsplit(if (length(arguments) > 0) arguments[1] else "DA", "")[[1]]
repetitions <- if (length(arguments) > 1) as.integer(arguments[2]) else 3L

core <- grep("^src/r/", list.files("src", "[.]c$", full.names = TRUE, recursive = TRUE), invert = TRUE, value = TRUE)
load_compiled("report.c", core, "$(LAPACK_LIBS) $(BLAS_LIBS) $(FLIBS)")

variants <- c("bit masks, scratch, fused, adaptive tiles" = 0L, "with per-query allocations of size n" = 1L,
              "kernel unfused" = 2L, "fixed tiles" = 4L, "byte masks" = 8L)

report <- function(name) {
  problem <- make_problem(name, if (length(arguments) > 2) as.integer(arguments[3]) else problems[[name]]$n)
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)
  tree <- cover_tree(gp, threads = 1)
  .Call("report_prepare", gp, problem$k)
  every <- max(1, problem$n %/% 2048)
  rows <- .Call("report_search", 0L, every)[[1]]
  search <- function(method, queries = NULL) {
    residual_knn(tree, problem$k, queries = queries, method = method, threads = 1, progress = FALSE)
  }
  exact <- search("brute", rows)$id
  result <- function(what, speed, found, share) {
    row(name, what, round(speed), format(mean(found == exact), nsmall = 4), signif(share, 2))
  }
  of_package <- function(what, method, queries = NULL) {
    spent <- median(replicate(repetitions, seconds(found <<- search(method, queries))))
    asked <- nrow(found$id)
    chosen <- if (is.null(queries)) found$id[rows, ] else found$id
    result(what, asked / spent, chosen, found$stats[["correlations"]] / asked / problem$n)
  }
  found <- NULL
  of_package("package: brute force", "brute", rows)
  of_package("package: best-first heap", "best_first", rows)
  of_package("package: level-synchronous", "level")
  answers <- list()
  times <- replicate(repetitions, vapply(names(variants), function(what) {
    seconds(answers[[what]] <<- .Call("report_search", variants[[what]], every))
  }, 0))
  for (what in names(variants)) {
    answer <- answers[[what]]
    result(paste("report.c:", what), length(rows) / median(times[what, ]), t(answer[[2]]),
           answer[[3]] / length(rows) / problem$n)
  }
}

heading("problem", "search", "q/s", "recall", "share of pairs evaluated")
for (name in names) report(name)
