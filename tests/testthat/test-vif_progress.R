test_that("progress is plain text without a terminal, and silence when told", {
  report <- progress_line(TRUE)
  expect_message(report("climbing", 3, -12.3456, 75), "climbing, iteration 3: log-likelihood -12.35, about 75 s left")
  expect_silent(report())
  quiet <- progress_line(FALSE)
  expect_silent(quiet("climbing", 3))
  expect_identical(format_seconds(600), "10 min")
  expect_identical(format_seconds(9000), "2.5 h")
})
