# Fits on a cluster against fits in the session.

shard_problem <- function(n, m, noise = NULL, family = "matern32", d = 2) {
  set.seed(1)
  x <- matrix(runif(n * d), n)
  y <- sin(6 * x[, 1]) + rnorm(n, sd = 0.3)
  kernel <- gp_kernel(family, lengthscale = c(0.2, 0.25), smoothness = if (family == "matern") 1.2)
  settings <- list(kernel = kernel, inducing = m, k = 10L, fixed = NULL, spread = var(y), neighbours = "selected",
                   jitter = 1e-6, seed = 1L, threads = 1L, groups = list(of = 1:2, names = c("l1", "l2")),
                   scale = c(1, 1), smoothness = "fixed")
  order <- order_maxmin(x)
  data <- list(y = y[order], x = x[order, ], X = cbind(1, x[order, 1]),
               extra = if (is.null(noise)) rep(0, n) else noise, share = rep(1, n))
  list(data = data, settings = settings, theta = to_theta(kernel, 0.1, settings))
}

with_cluster <- function(workers, code) {
  cluster <- parallel::makeCluster(workers)
  on.exit(parallel::stopCluster(cluster))
  code(cluster)
}

# Sets, value, derivatives and state of all points.
expect_same_likelihood <- function(cluster, problem) {
  group <- group_open(cluster, 1L)
  on.exit(group_close(group))
  local <- problem$settings
  at <- on_grid(problem$theta, local)
  structure <- structure_of(problem$theta, problem$data, local, at)
  one <- evaluate(problem$theta, structure, problem$data, local)
  shards <- shard_data(problem$data, c(local, list(workers = group)))
  expect_identical(lengths(shards$shards$own) > 0, rep(TRUE, length(cluster)))
  sharded <- structure_of(problem$theta, shards, local, at)
  several <- evaluate(problem$theta, sharded, shards, local)
  expect_identical(sharded$id, structure$id)
  expect_equal(several[c("value", "gradient", "fisher")], one[c("value", "gradient", "fisher")], tolerance = 1e-10)
  parts <- c("beta", "information", "root", "b", "B")
  expect_equal(several$evaluation[parts], one$evaluation[parts], tolerance = 1e-9)
  expect_equal(shard_state(shards, TRUE), one$evaluation[c("coef", "D", "error", "residual")], tolerance = 1e-9)
  value <- evaluate(problem$theta, sharded, shards, local, FALSE)
  expect_equal(value$value, one$value, tolerance = 1e-12)
}

test_that("likelihood, derivatives and information are sums over shards", {
  skip_on_cran()
  with_cluster(3, function(cluster) {
    expect_same_likelihood(cluster, shard_problem(4100, 30))
    expect_same_likelihood(cluster, shard_problem(4100, 0))
    expect_same_likelihood(cluster, shard_problem(4100, 20, noise = runif(4100)))
    expect_same_likelihood(cluster[1:2], shard_problem(4100, 20, family = "matern"))
    left <- parallel::clusterCall(cluster, function() length(ls(asNamespace("vecchiann")$held)))
    expect_identical(unlist(left), c(0L, 0L, 0L))
  })
})

test_that("space is cut into parts of the same size that are boxes", {
  x <- cbind(runif(1000), runif(1000, 0, 3))
  part <- space_cut(x, 5)
  expect_equal(as.vector(table(part)), rep(200, 5))
  box <- lapply(part_rows(part, 5), function(rows) apply(x[rows, ], 2, range))
  inside <- vapply(box, function(b) {
    sum(x[, 1] >= b[1, 1] & x[, 1] <= b[2, 1] & x[, 2] >= b[1, 2] & x[, 2] <= b[2, 2])
  }, 0L)
  expect_equal(inside, rep(200, 5))
  expect_equal(space_cut(matrix(1, 6, 2), 3), c(1, 1, 2, 2, 3, 3))
})

fit_problem <- function(n) {
  set.seed(5)
  x <- cbind(runif(n), runif(n))
  list(x = x, y = sin(6 * x[, 1]) * cos(7 * x[, 2]) + rnorm(n, sd = 0.3))
}

test_that("a fit is that of one process", {
  skip_on_cran()
  p <- fit_problem(8100) # its second stage is on the workers, too
  fit <- function(...) vif_fit(p$y, p$x, X = 1, inducing = 15, k = 8, progress = FALSE, threads = 1, ...)
  one <- fit()
  with_cluster(2, function(cluster) {
    several <- fit(cluster = cluster)
    expect_equal(several$theta, one$theta, tolerance = 1e-9)
    expect_equal(several$loglik, one$loglik, tolerance = 1e-12)
    expect_identical(several$id, one$id)
    expect_equal(several$history[names(one$history) != "seconds"], one$history[names(one$history) != "seconds"],
                 tolerance = 1e-9)
    expect_equal(several$state, one$state, tolerance = 1e-8)
    expect_null(several$settings[["workers"]])
    expect_equal(predict(several, p$x[1:50, ] + 0.001), predict(one, p$x[1:50, ] + 0.001), tolerance = 1e-8)
    left <- parallel::clusterCall(cluster, function() length(ls(asNamespace("vecchiann")$held)))
    expect_identical(unlist(left), c(0L, 0L))
  })
})

test_that("a worker that dies in the middle of a fit is named", {
  skip_on_cran()
  p <- fit_problem(6000)
  cluster <- parallel::makeCluster(2)
  on.exit(try(parallel::stopCluster(cluster), silent = TRUE))
  pid <- unlist(parallel::clusterCall(cluster, Sys.getpid))
  killed <- FALSE
  kill <- function(m) {
    if (!killed && grepl("all observations, iteration 1", conditionMessage(m))) {
      tools::pskill(pid[2], tools::SIGKILL)
      killed <<- TRUE
    }
    invokeRestart("muffleMessage")
  }
  error <- tryCatch(withCallingHandlers(
    vif_fit(p$y, p$x, X = 1, inducing = 10, k = 8, progress = TRUE, threads = 1, cluster = cluster), message = kill
  ), error = identity)
  expect_true(killed)
  expect_s3_class(error, "vecchiann_cluster")
  name <- sprintf("worker 2 (%s, process %d)", Sys.info()[["nodename"]], pid[2])
  expect_match(conditionMessage(error), name, fixed = TRUE)
  left <- parallel::clusterCall(cluster[1], function() c(length(ls(asNamespace("vecchiann")$held)), Sys.getpid()))
  expect_identical(left, list(c(0L, pid[1])))
})

test_that("anisotropic processes have the same likelihood, gradient and information on a cluster", {
  skip_on_cran()
  problem <- shard_problem(4100, 15)
  problem$settings$k <- 6L
  problem$settings[c("plane", "scale")] <- list(TRUE, 1)
  problem$settings$groups <- list(of = NULL, names = "lengthscale")
  problem$settings$kernel <- gp_kernel("matern32", lengthscale = 0.25, anisotropy = c(angle = 30, ratio = 0.5))
  problem$theta <- to_theta(problem$settings$kernel, 0.1, problem$settings)
  expect_named(problem$theta, c("variance", "lengthscale", "stretch1", "stretch2", "nugget"))
  with_cluster(2, function(cluster) expect_same_likelihood(cluster, problem))
})
