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
  skip_if(most == .Machine$integer.max, "compiled without OpenMP: one thread, whatever is asked for")
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

test_that("a time limit stops every long piece of work as the error that it is", {
  skip_on_cran()
  set.seed(1)
  x <- matrix(runif(6e5), ncol = 2)
  kernel <- gp_kernel("matern12", lengthscale = 0.1)
  gp <- residual_gp(x[1:1e5, ], kernel, inducing = x[1:100, ])
  large <- residual_gp(x, kernel, inducing = x[1:100, ])
  long <- expression(
    kmeans = residual_gp(x, kernel, inducing = 3000),
    maxmin = residual_gp(x, kernel, inducing = 3000, selection = "maxmin"),
    factor = residual_gp(x[1:100, ], kernel, inducing = x[1:5000, ], jitter = 1e-3),
    features = residual_gp(x, kernel, inducing = x[1:500, ]),
    index = cover_tree(large, threads = 1),
    search = residual_knn(gp, 30, method = "brute"),
    correlation = residual_correlation(gp, 1:300),
    order = order_maxmin(matrix(runif(4e6), ncol = 8))
  )
  for (work in names(long)) {
    caught <- tryCatch({
      setTimeLimit(elapsed = 0.15, transient = TRUE)
      eval(long[[work]])
      "done"
    }, interrupt = function(e) "interrupt", error = conditionMessage, finally = setTimeLimit())
    expect_identical(caught, "reached elapsed time limit", label = work)
  }
  expect_identical(dim(residual_knn(gp, 3, queries = 1:5)$id), c(5L, 3L))
})

test_that("an interrupt stops what goes before a search, and the session goes on", {
  skip_on_cran()
  skip_on_os("windows")
  script <- tempfile(fileext = ".R")
  on.exit(unlink(script))
  writeLines(c(
    "library(vecchiann)",
    "x <- matrix(runif(1e6), ncol = 2)",
    "own <- Sys.getpid()",
    "caught <- tryCatch({",
    "  system(paste('(sleep 1; kill -INT', own, ') &'))",
    "  residual_gp(x, gp_kernel(lengthscale = 0.1), inducing = 5000)",
    "}, interrupt = function(condition) class(condition)[1], error = function(e) 'error')",
    "cat(caught, nrow(residual_knn(residual_gp(x[1:50, ], gp_kernel(), 5), 3)$id))"
  ), script)
  out <- system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", script), stdout = TRUE, stderr = FALSE, timeout = 60,
                 env = paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep)))
  expect_identical(out[length(out)], "interrupt 50")
})

test_that("a calling handler may stop a search, too, and its own jump arrives", {
  set.seed(1)
  gp <- residual_gp(matrix(runif(2e5), ncol = 2), gp_kernel(lengthscale = 0.1), inducing = 50)
  caught <- withRestarts(
    withCallingHandlers({
      setTimeLimit(elapsed = 0.1, transient = TRUE)
      residual_knn(gp, 30, method = "brute")
    }, error = function(e) invokeRestart("elsewhere", conditionMessage(e))),
    elsewhere = function(message) paste("went on:", message)
  )
  setTimeLimit()
  expect_identical(caught, "went on: reached elapsed time limit")
})

# A little of everything that the vector routines serve; what is compared between instruction sets.
work_of_vectors <- function() {
  set.seed(1)
  searches <- list(
    expansions = list(2, gp_kernel("matern32", lengthscale = 0.1), 100, 0),
    subspaces = list(2, gp_kernel("rbf", lengthscale = 0.2), 50, 0.01),
    integers = list(5, gp_kernel("matern52", lengthscale = 0.5), 100, 0),
    rough = list(3, gp_kernel("matern12", lengthscale = c(0.2, 0.3, 0.5)), 30, 0),
    smoothness = list(2, gp_kernel("matern", lengthscale = 0.1, smoothness = 0.8), 30, 0.1)
  )
  found <- lapply(searches, function(search) {
    x <- matrix(stats::runif(2500 * search[[1]]), ncol = search[[1]])
    gp <- residual_gp(x, search[[2]], search[[3]], nugget = search[[4]], seed = 1)
    near <- lapply(c("level", "best_first", "brute"), function(method) residual_knn(gp, 10, method = method))
    sets <- conditioning_sets(gp, 10, nugget = 0.1, queries = 1500:2500)
    list(id = lapply(c(near, list(sets)), `[[`, "id"), numbers = list(near[[1]]$dist, sets$variance))
  })
  x <- matrix(stats::runif(800), ncol = 2)
  mean <- 1 + sin(6 * x[, 1]) + x[, 2]
  fits <- list(
    gaussian = vif_fit(mean + stats::rnorm(400, sd = 0.3), x, inducing = 20, k = 10, progress = FALSE),
    none = vif_fit(mean + stats::rnorm(400, sd = 0.3), x, inducing = 0, k = 10, kernel = "matern12", progress = FALSE),
    counts = vif_fit(stats::rpois(400, exp(mean)), x, inducing = 20, k = 10, family = "poisson", progress = FALSE)
  )
  new <- matrix(stats::runif(40), ncol = 2)
  fitted <- lapply(fits, function(fit) list(fit$loglik, coef(fit), predict(fit, new, se.fit = TRUE)))
  list(id = lapply(found, `[[`, "id"), numbers = list(lapply(found, `[[`, "numbers"), fitted))
}

test_that("every instruction set gives the same neighbours, sets, fits and predictions", {
  skip_on_cran()
  here <- work_of_vectors()
  script <- tempfile(fileext = ".R")
  answers <- tempfile(fileext = ".rds")
  on.exit(unlink(c(script, answers)))
  writeLines(c("library(vecchiann)", "work_of_vectors <- ", deparse(work_of_vectors),
               sprintf("saveRDS(c(work_of_vectors(), simd = vecchiann_info()$simd), %s)", deparse(answers))), script)
  for (simd in setdiff(c("portable", "avx2"), vecchiann_info()$simd)) {
    libraries <- paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep))
    system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", script), stdout = FALSE, stderr = FALSE,
            env = c(libraries, paste0("VECCHIANN_SIMD=", simd)))
    there <- readRDS(answers)
    if (there$simd != simd) next # no processor of this kind
    expect_identical(there$id, here$id, label = simd)
    expect_equal(there$numbers, here$numbers, tolerance = 1e-5, label = simd)
    unlink(answers)
  }
})

test_that("seeds give the same numbers under every RNGkind() of the session, which stays", {
  kinds <- RNGkind()
  state <- get0(".Random.seed", globalenv(), inherits = FALSE)
  on.exit({
    suppressWarnings(do.call(RNGkind, as.list(kinds)))
    if (!is.null(state)) assign(".Random.seed", state, globalenv())
  })
  draw <- function() with_seed(3, c(runif(2), rnorm(2), sample(1e5, 2)))
  expected <- draw()
  others <- list(c("Wichmann-Hill", "Box-Muller", "Rounding"), c("L'Ecuyer-CMRG", "Inversion", "Rejection"))
  for (other in others) {
    suppressWarnings(do.call(RNGkind, as.list(other)))
    runif(1)
    before <- .Random.seed
    expect_identical(draw(), expected)
    expect_identical(.Random.seed, before)
    expect_identical(RNGkind(), other)
    rm(".Random.seed", envir = globalenv())
    expect_identical(draw(), expected)
    expect_false(exists(".Random.seed", globalenv(), inherits = FALSE))
    expect_identical(RNGkind(), other)
  }
})
