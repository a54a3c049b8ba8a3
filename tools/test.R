# Runs the test suite on the installed package. The last line is `N passed, N failed, N skipped`, counted from the
# results and left in .lib/tests as well; a failure, or no test at all, ends with a non-zero status.

Sys.setenv(NOT_CRAN = "true") # tests that a package repository would skip are run here
reporter <- testthat::ProgressReporter$new(max_failures = Inf, update_interval = Inf)
results <- as.data.frame(testthat::test_dir(
  "tests/testthat", package = "vecchiann", load_package = "installed", reporter = reporter, stop_on_failure = FALSE
))

failed <- sum(results$failed) + sum(results$error)
counts <- sprintf("%d passed, %d failed, %d skipped", sum(results$passed), failed, sum(results$skipped))
writeLines(counts, ".lib/tests")
cat(counts, "\n", sep = "")
if (failed > 0 || sum(results$passed) == 0) quit(status = 1)
