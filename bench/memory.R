# Peak memory above a session that holds the inputs, each step in a process of its own (Linux).
#
#   Rscript bench/memory.R [problem]

source("bench/problems.R")

arguments <- commandArgs(trailingOnly = TRUE)
name <- if (length(arguments) > 0) arguments[1] else "E"
step <- if (length(arguments) > 1) arguments[2] else "all"

steps <- list(
  inputs = function(problem) NULL,
  features = function(problem) features(problem),
  brute = function(problem) residual_knn(features(problem), problem$k, queries = 1:1920, method = "brute", threads = 1),
  level = function(problem) residual_knn(features(problem), problem$k, method = "level", threads = 1),
  tree = function(problem) residual_knn(cover_tree(features(problem), threads = 1), problem$k, method = "level", threads = 1)
)

features <- function(problem) residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)

peak <- function(step) {
  printed <- system2(file.path(R.home("bin"), "Rscript"), c("bench/memory.R", name, step), stdout = TRUE)
  as.numeric(printed[length(printed)])
}

if (step == "all") {
  problem <- make_problem(name)
  heading("problem", "V, MB", "features, MB", "and brute force", "and a level search", "and a tree with its index")
  above <- vapply(names(steps), peak, 0)
  row(name, round(8 * problem$n * nrow(problem$inducing) / 2^20), paste(round(above[-1] - above[["inputs"]]), collapse = " | "))
} else {
  invisible(steps[[step]](make_problem(name)))
  status <- readLines("/proc/self/status")
  cat(as.numeric(gsub("[^0-9]", "", grep("^VmHWM", status, value = TRUE))) / 1024, "\n")
}
