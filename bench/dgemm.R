# Brute force against a plain dgemm of the same product.
#
#   Rscript bench/dgemm.R [n] [repetitions] [path of an optimised BLAS]
#
# Brute force answers 960 queries among n points of problem A's kernel; dgemm multiplies the features of the same points and
# queries, 240 queries at a time, and does nothing else. Both on one thread, in turns; medians. R's own BLAS is always
# timed, an optimised one where it is found.

source("bench/problems.R")
Sys.setenv(OPENBLAS_NUM_THREADS = 1)

arguments <- commandArgs(trailingOnly = TRUE)
n <- if (length(arguments) > 0) as.integer(arguments[1]) else 20000L
repetitions <- if (length(arguments) > 1) as.integer(arguments[2]) else 5L
optimised <- if (length(arguments) > 2) arguments[3] else {
  folders <- c("/usr/lib/*", "/usr/lib/*/openblas-*", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/opt/openblas/lib")
  Sys.glob(file.path(folders, c("libopenblas.so.0", "libopenblas.so", "libopenblas.dylib")))
}
blas <- c("R's BLAS" = extSoftVersion()[["BLAS"]], "optimised BLAS" = optimised[1])
blas <- blas[!is.na(blas)]
queries <- 960
block <- 240

load_compiled("dgemm.c", flags = "-ldl")

compare <- function(m) {
  problem <- make_problem("A", n)
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$x[sample.int(n, m), ], threads = 1)
  chosen <- sort(sample.int(n, queries))
  C <- matrix(0, n, block)
  parts <- lapply(split(chosen, (seq_along(chosen) - 1) %/% block), function(rows) gp$V[, rows])
  product <- function(path) seconds(for (part in parts) .Call("bench_dgemm", path, gp$V, part, C))
  brute <- function() {
    seconds(residual_knn(gp, problem$k, queries = chosen, method = "brute", threads = 1, progress = FALSE))
  }
  for (path in blas) product(path)
  times <- replicate(repetitions, c(brute(), vapply(blas, product, 0)))
  rates <- 2 * m * n * queries / apply(matrix(times, ncol = repetitions), 1, median) / 1e9
  row(m, sprintf("%.1f", rates), sprintf("%.0f %%", 100 * rates[1] / rates[-1]))
}

heading("m", "brute, GFLOPS", paste0(names(blas), ", GFLOPS"), paste("brute / dgemm of", names(blas)))
for (m in c(100, 200, 512)) compare(m)
