# The same numbers, bit for bit, for any number of threads, order and chunking of queries, in forked and fresh processes.

# Everything that the package computes, of one small data set.
everything <- function() {
  set.seed(7)
  x <- matrix(runif(1400), 700, dimnames = list(NULL, c("a", "b")))
  y <- sin(6 * x[, 1]) + rnorm(700, sd = 0.2)
  kernel <- gp_kernel("matern32", 1.3, c(0.2, 0.3))
  gp <- residual_gp(x, kernel, inducing = 25, seed = 1)
  tree <- cover_tree(gp)
  new <- matrix(runif(90), 45)
  rows <- seq(5, 700, by = 3)
  nn <- residual_knn(gp, 7, predecessors = TRUE)
  sets <- conditioning_sets(gp, 6, 0.1)
  fit <- vif_fit(y, x, cbind(1, x[, 1]), kernel, inducing = 15, k = 6, seed = 1, iterations = 8, progress = FALSE)
  counts <- suppressWarnings(vif_fit(rpois(250, exp(y[1:250])), x[1:250, ], inducing = 10, k = 5, family = poisson(), seed = 1,
                                     iterations = 4, progress = FALSE))
  list(
    maxmin = residual_gp(x, kernel, inducing = 25, selection = "maxmin")$V, gp = unclass(gp), tree = unclass(tree),
    searches = lapply(c("brute", "level", "best_first", "auto"), function(method) {
      lapply(list(list(tree), list(gp, queries = rows), list(tree, predecessors = TRUE), list(tree, newdata = new)), function(what) {
        do.call(residual_knn, c(what, list(k = 7, method = method)))[c("id", "dist")]
      })
    }),
    budget = residual_knn(tree, 7, queries = rows, budget = 50)$id,
    order = order_maxmin(x), correlation = residual_correlation(gp, 1:9),
    sets = sets[c("id", "dist", "variance")], at_new = conditioning_sets(tree, 6, 0.1, newdata = new)[c("id", "variance")],
    factor = vif_factor(gp, nn, 0.1), loglik = vif_loglik(y, gp, sets, 0.1, cbind(1, x), gradient = TRUE),
    fit = fit[c("loglik", "theta", "coefficients", "vcov", "fisher", "id", "state")],
    predicted = unclass(predict(fit, new, newX = cbind(1, new[, 1]), interval = "prediction", nsim = 2, seed = 1)),
    loo = residuals(fit, "loo"), simulated = simulate(fit, nsim = 2, seed = 1),
    counts = counts[c("loglik", "theta", "coefficients", "linear.predictors")],
    expected = unclass(suppressWarnings(predict(counts, new))), latent = latent_loglik(counts, method = "iterative", probes = 6)
  )
}

on_threads <- function(threads) {
  old <- options(vecchiann.threads = threads)
  on.exit(options(old))
  suppressMessages(everything())
}

# The names of parts that differ.
other_parts <- function(a, b) names(a)[!unlist(Map(identical, a, b))]

# on_threads(2) of a process of its own.
fresh_process <- function(variable = "VECCHIANN_SIMD=") {
  file <- tempfile(fileext = ".rds")
  script <- tempfile(fileext = ".R")
  on.exit(unlink(c(file, script)))
  code <- lapply(c("everything", "on_threads"), function(name) call("<-", as.name(name), get(name)))
  writeLines(c("library(vecchiann)", unlist(lapply(code, deparse)), sprintf("saveRDS(on_threads(2), %s)", deparse(file))), script)
  system2(file.path(R.home("bin"), "Rscript"), c("--vanilla", script), stdout = FALSE, stderr = FALSE,
          env = c(paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep)), variable))
  readRDS(file)
}

test_that("1, 2, 7 and 16 threads, a forked child and a fresh process give the same bits", {
  skip_on_cran()
  here <- on_threads(1)
  for (threads in c(2, 7, 16)) expect_identical(other_parts(here, on_threads(threads)), character(), label = paste(threads, "threads"))
  skip_on_os("windows")
  child <- parallel::mccollect(parallel::mcparallel(on_threads(2)))[[1]]
  expect_identical(other_parts(here, child), character(), label = "a forked child")
  expect_identical(other_parts(here, fresh_process()), character(), label = "a fresh process")
})

test_that("instruction sets give the same neighbours", {
  skip_on_cran()
  ids <- function(of) rapply(of[c("searches", "budget", "order")], function(x) if (is.integer(x)) x, how = "unlist")
  known <- lapply(paste0("VECCHIANN_SIMD=", c("portable", "avx2", "avx512")), function(variable) ids(fresh_process(variable)))
  expect_identical(known[[2]], known[[1]])
  expect_identical(known[[3]], known[[1]])
})

test_that("the order and the chunks of queries do not matter", {
  set.seed(8)
  x <- matrix(runif(3000), ncol = 2)
  for (family in c("matern12", "matern52")) {
    tree <- cover_tree(residual_gp(x, gp_kernel(family, lengthscale = 0.1), x[1:30, ]))
    new <- rbind(matrix(runif(160), 80), x[20:40, ])
    for (method in methods_to_test) {
      parts <- c("id", "dist")
      whole <- residual_knn(tree, 6, method = method)[parts]
      before <- residual_knn(tree, 6, method = method, predecessors = TRUE)[parts]
      at_new <- residual_knn(tree, 6, new, method = method)[parts]
      shuffled <- sample(1500)
      pick <- function(found, rows) lapply(found, function(part) part[rows, , drop = FALSE])
      expect_identical(residual_knn(tree, 6, method = method, queries = shuffled)[parts], pick(whole, shuffled))
      for (rows in list(sample(1500, 1), sample(1500, 10), sample(1500, 300, TRUE))) {
        expect_identical(residual_knn(tree, 6, method = method, queries = rows)[parts], pick(whole, rows))
        expect_identical(residual_knn(tree, 6, method = method, queries = rows, predecessors = TRUE)[parts], pick(before, rows))
      }
      for (rows in list(sample(101), 3, 30:70)) {
        expect_identical(residual_knn(tree, 6, new[rows, , drop = FALSE], method = method)[parts], pick(at_new, rows))
      }
    }
  }
})

test_that("the order and the chunks of predictions and sets do not matter", {
  set.seed(9)
  x <- matrix(runif(600), 300)
  gp <- residual_gp(x, gp_kernel(lengthscale = 0.2), inducing = 15, seed = 1)
  new <- matrix(runif(100), 50)
  rows <- sample(50)
  sets <- conditioning_sets(gp, 5, 0.1, newdata = new)
  expect_identical(conditioning_sets(gp, 5, 0.1, newdata = new[rows, ])$id, sets$id[rows, ])
  expect_identical(conditioning_sets(gp, 5, 0.1, queries = rows)$id, conditioning_sets(gp, 5, 0.1)$id[rows, ])
  fit <- vif_fit(sin(6 * x[, 1]) + rnorm(300, sd = 0.1), x, inducing = 15, k = 6, progress = FALSE)
  whole <- predict(fit, new, interval = "prediction")
  expect_equal(unclass(predict(fit, new[rows, ], interval = "prediction"))[1:2], lapply(unclass(whole)[1:2], `[`, rows), tolerance = 0)
  expect_identical(unclass(predict(fit, new, interval = "prediction", chunk = 7))[1:2], unclass(whole)[1:2])
})
