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

test_that("no more threads are started than the machine serves", {
  most <- .Call(C_threads_limit)
  expect_gte(most, 16)
  gp <- residual_gp(runif(50), gp_kernel(), inducing = 5)
  here <- residual_knn(gp, k = 4)$id
  for (threads in c(60000, .Machine$integer.max, most + 1)) {
    expect_warning(nn <- residual_knn(gp, k = 4, threads = threads), "^residual_knn\\(\\): `threads` = .* are used")
    expect_identical(nn$id, here)
    old <- options(vecchiann.threads = threads)
    expect_warning(info <- vecchiann_info(), "vecchiann_info\\(\\): `threads`")
    expect_lte(info$threads, most)
    options(old)
  }
  expect_no_warning(vecchiann_info(threads = most))
  script <- "vecchiann::vecchiann_info()$threads; nrow(vecchiann::residual_knn(vecchiann::residual_gp(1:9 + 0, vecchiann::gp_kernel(), 2), 2)$id)"
  for (variable in c("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")) for (value in c("60000", "2147483647", "99999999999")) {
    libraries <- paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep))
    out <- system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", "-e", shQuote(script)), stdout = TRUE, stderr = FALSE,
                   env = c(paste0(variable, "=", value), libraries))
    expect_identical(out[length(out)], "[1] 9", label = paste(variable, value))
  }
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
