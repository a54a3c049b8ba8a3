if (requireNamespace("testthat", quietly = TRUE)) {
  library(testthat)
  library(vecchiann)
  test_check("vecchiann")
}
