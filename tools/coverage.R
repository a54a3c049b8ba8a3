# Measures with covr which lines of R and C the tests run (C by gcov). Prints both percentages and, for each file, the
# lines that no test runs; fails where a percentage is below what is wanted.
#
#   Rscript tools/coverage.R [least percentage, 95]
#
# The tests run once for each instruction set that the machine has; after the first time, those of the C core only. The
# vector routines are compiled once for each: a line of them counts as run only if every one of these copies ran it. A
# line of another header counts if one of the files that include it ran it.

least <- as.numeric(c(commandArgs(trailingOnly = TRUE), 95)[[1]])
core <- "^(conditioning_sets|form|kernel|residual|vif|vif_laplace|vif_predict)$" # each routine by each instruction set
vectors <- "^src/simd/simd_(body|lanes)[.]h$" # included once for each instruction set

# gcov would like code that is not optimised at all, with which the tests take hours; -O1 keeps lines apart, too.
options(covr.flags = c(CFLAGS = "-O1 --coverage", LDFLAGS = "--coverage"))
Sys.setenv(NOT_CRAN = "true")

run_tests <- function(core) {
  rscript <- file.path(R.home("bin"), "Rscript")
  filter <- NULL
  for (setting in c("avx512", "avx2", "portable")) {
    env <- paste0("VECCHIANN_SIMD=", setting)
    used <- system2(rscript, c("-e", shQuote("cat(vecchiann::vecchiann_info()$simd)")), env = env, stdout = TRUE)
    if (used != setting) next # the processor has only what comes next
    system2(rscript, c("tools/test.R", paste0("tests-", setting), shQuote(filter)), env = env)
    filter <- core
  }
  # processes that a test ends in the middle leave broken records behind
  for (record in list.files(.libPaths()[[1]], "^covr_trace_", full.names = TRUE)) {
    if (inherits(try(readRDS(record), silent = TRUE), "try-error")) unlink(record)
  }
}

copy <- tempfile("coverage")
dir.create(copy)
file.copy(c("DESCRIPTION", "NAMESPACE", "LICENSE", "R", "src", "inst", "tests", "tools"), copy, recursive = TRUE)
unlink(list.files(file.path(copy, "src"), "\\.(o|so)$", recursive = TRUE, full.names = TRUE))
code <- c(paste0("setwd(", deparse(copy), ")"), deparse(as.call(list(run_tests, core))))
coverage <- covr::package_coverage(copy, type = "none", code = code)
for (counts in Sys.glob(file.path(copy, "tests-*"))) cat(basename(counts), ": ", readLines(counts), "\n", sep = "")

# One row a line, with the number of times that it was run.
by_line <- function(records, across) stats::aggregate(value ~ filename + first_line, records, across)

records <- as.data.frame(coverage)
in_c <- grepl("^src/", records$filename)
several <- grepl(vectors, records$filename)
lines <- list(
  R = setNames(covr::tally_coverage(coverage)[c("filename", "line", "value")], c("filename", "first_line", "value")),
  C = rbind(by_line(records[in_c & !several, ], max), by_line(records[several, ], min))
)
lines$R <- lines$R[!grepl("^src/", lines$R$filename), ]

ranges <- function(x) {
  x <- sort(x)
  first <- c(TRUE, diff(x) > 1)
  last <- c(diff(x) > 1, TRUE)
  paste(ifelse(x[first] == x[last], x[first], paste0(x[first], "-", x[last])), collapse = ", ")
}

for (language in names(lines)) {
  missed <- lines[[language]][lines[[language]]$value == 0, ]
  missed <- tapply(missed$first_line, missed$filename, ranges)
  cat(sprintf("%s: %s\n", names(missed), missed), sep = "")
}
percent <- vapply(lines, function(x) 100 * mean(x$value > 0), 0)
cat(sprintf("%s: %.1f %% of %d lines\n", names(percent), percent, vapply(lines, nrow, 0L)), sep = "")
if (any(percent < least)) quit(status = 1)
