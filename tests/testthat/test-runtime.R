test_that("threads come from the argument, the option, the default", {
  old <- options(vecchiann.threads = NULL)
  on.exit(options(old))
  expect_identical(vecchiann_info(threads = 1)$threads, 1L)
  expect_identical(thread_count(NULL), NA_integer_)
  expect_gte(vecchiann_info()$threads, 1)
  options(vecchiann.threads = 1)
  expect_identical(thread_count(NULL), 1L)
  expect_identical(thread_count(2), 2L)
  options(vecchiann.threads = "two")
  expect_error(vecchiann_info(), '^vecchiann_info\\(\\): `threads` must be a whole number of at least 1, not "two"')
})

test_that("the set-up prints in one line", {
  expect_output(print(vecchiann_info(1)), "<vecchiann_info> 1 thread .*, SIMD: [[:alnum:]]+")
})

test_that("a forked process searches too", {
  skip_on_os("windows")
  gp <- residual_gp(matrix(runif(200), ncol = 2), gp_kernel(), inducing = 5)
  here <- residual_knn(gp, k = 4)$id # OpenMP has started its threads before the fork
  there <- parallel::mclapply(1:2, function(i) residual_knn(gp, k = 4)$id, mc.cores = 2)
  expect_identical(there, list(here, here))
})
