# Peak memory above a session that holds the inputs, each step in a process of its own (Linux).
#
#   Rscript bench/memory.R [problem]

source("bench/problems.R")

arguments <- commandArgs(trailingOnly = TRUE)
name <- if (length(arguments) > 0) arguments[1] else "E"

features <- function(problem) residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)

steps <- list(
  inputs = function(problem) NULL,
  features = features,
  brute = function(problem) residual_knn(features(problem), problem$k, queries = 1:1920, method = "brute", threads = 1),
  level = function(problem) residual_knn(features(problem), problem$k, method = "level", threads = 1),
  tree = function(problem) residual_knn(cover_tree(features(problem), threads = 1), problem$k, method = "level", threads = 1)
)

# The peak of a process that takes a step: this script, with the step as a second argument.
peak <- function(step) {
  printed <- system2(file.path(R.home("bin"), "Rscript"), c("bench/memory.R", name, step), stdout = TRUE)
  as.numeric(printed[length(printed)])
}

if (!file.exists("/proc/self/status")) {
  cat("Peak memory is read from /proc/self/status, which this system does not have.\n")
} else if (length(arguments) > 1) {
  invisible(steps[[arguments[2]]](make_problem(name)))
  peak_line <- grep("^VmHWM", readLines("/proc/self/status"), value = TRUE)
  cat(as.numeric(gsub("[^0-9]", "", peak_line)) / 1024, "\n")
} else {
  heading("problem", "V, MB", "features, MB", "and brute force", "and a level search", "and a tree with its index")
  above <- vapply(names(steps), peak, 0)
  row(name, round(8 * problems[[name]]$n * problems[[name]]$m / 2^20), round(above[-1] - above[["inputs"]]))
}
