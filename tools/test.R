# Runs the test suite on the installed package. The last line is `N passed, N failed, N skipped`, counted from the
# results and left in a file as well; a failure, or no test at all, ends with a non-zero status.
#
#   Rscript tools/test.R [file for the counts, .lib/tests] [regular expression of the tests to run]

arguments <- commandArgs(trailingOnly = TRUE)

# Tests that a package repository would skip are run here, unless the environment says otherwise.
if (!nzchar(Sys.getenv("NOT_CRAN"))) Sys.setenv(NOT_CRAN = "true")
reporter <- testthat::ProgressReporter$new(max_failures = Inf, update_interval = Inf)
results <- as.data.frame(testthat::test_dir(
  "tests/testthat", package = "vecchiann", load_package = "installed", reporter = reporter, stop_on_failure = FALSE,
  filter = if (length(arguments) > 1) arguments[[2]]
))

failed <- sum(results$failed) + sum(results$error)
counts <- sprintf("%d passed, %d failed, %d skipped", sum(results$passed), failed, sum(results$skipped))
seconds <- tapply(results$user + results$system, sub("^test-(.*)[.]R$", "\\1", results$file), sum)
seconds <- sort(seconds, decreasing = TRUE)
slowest <- head(sprintf("%s %.0f s", names(seconds), seconds), 6)
cat("slowest files, time of the processor: ", paste(slowest, collapse = ", "), "\n", sep = "")
writeLines(counts, c(arguments, ".lib/tests")[[1]])
cat(counts, "\n", sep = "")
if (failed > 0 || sum(results$passed) == 0) quit(status = 1)
