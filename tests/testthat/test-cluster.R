# Work on a cluster against the same work in the session.

cluster_of <- function(workers, frame = parent.frame()) {
  cluster <- parallel::makeCluster(workers)
  stop <- substitute(try(parallel::stopCluster(cluster), silent = TRUE), list(cluster = cluster))
  do.call(on.exit, list(stop, add = TRUE), envir = frame)
  cluster
}

# What the workers still hold, and whether calls and answers go together.
expect_clean <- function(cluster) {
  left <- parallel::clusterCall(cluster, function() c(length(ls(asNamespace("vecchiann")$held)), Sys.getpid()))
  expect_identical(vapply(left, `[[`, 0L, 1), integer(length(cluster)))
  again <- parallel::clusterCall(cluster, Sys.getpid)
  expect_identical(again, lapply(left, `[[`, 2))
}

test_that("searches and selections are those of one process", {
  skip_on_cran()
  cluster <- cluster_of(3)
  set.seed(3)
  x <- cbind(a = runif(2000), b = runif(2000))
  rownames(x) <- paste0("p", 1:2000)
  gp <- residual_gp(x, gp_kernel(lengthscale = 0.2), inducing = 30, seed = 1)
  tree <- cover_tree(gp)
  new <- cbind(a = runif(300), b = runif(300))
  expect_same <- function(f, object, ..., what = c("id", "dist")) {
    expect_identical(f(object, ..., cluster = cluster, threads = 1)[what], f(object, ..., threads = 1)[what])
  }
  expect_same(residual_knn, gp, 5)
  expect_same(residual_knn, tree, 5, predecessors = TRUE)
  expect_same(residual_knn, tree, 5, newdata = new)
  expect_same(residual_knn, gp, 5, queries = c(7L, 3L, 100:300))
  expect_same(residual_knn, residual_process(x, gp$kernel, gp$V), 5, queries = 1:400)
  expect_same(residual_knn, gp, 5, newdata = new[1:2, ]) # fewer than workers
  what <- c("id", "dist", "variance")
  expect_same(conditioning_sets, gp, 5, nugget = 0.1, what = what)
  expect_same(conditioning_sets, tree, 5, newdata = new, what = what)
  expect_same(conditioning_sets, gp, 5, nugget = runif(2000), queries = 5:600, what = what)
  expect_same(conditioning_sets, gp, 5, pool = residual_knn(gp, 20, predecessors = TRUE), what = what)
  expect_identical(residual_knn(gp, 3, cluster = cluster)$stats$correlations > 0, TRUE)
  expect_clean(cluster)
})

test_that("rounds of few points give the same answers", {
  skip_on_cran()
  cluster <- cluster_of(2)
  set.seed(4)
  x <- cbind(runif(3000), runif(3000))
  y <- sin(6 * x[, 1]) + rnorm(3000, sd = 0.3)
  X <- cbind(1, x[, 1])
  new <- cbind(runif(250), runif(250))
  for (neighbours in c("selected", "euclidean")) {
    fit <- vif_fit(y, x, X = X, inducing = 20, k = 10, neighbours = neighbours,
                   start = list(kernel = gp_kernel(), nugget = 0.1), progress = FALSE)
    predicted <- function(...) predict(fit, new, X[1:250, ], interval = "prediction", beta_uncertainty = TRUE, ...)
    one <- predicted()
    expect_equal(predicted(cluster = cluster), one, tolerance = 1e-10)
    expect_equal(predicted(cluster = cluster, chunk = 40), one, tolerance = 1e-10)
    expect_equal(predict(fit, cluster = cluster, chunk = 700), predict(fit), tolerance = 1e-10)
  }
  expect_clean(cluster)
})

test_that("what is no cluster is refused, and errors of workers leave the cluster usable", {
  skip_on_cran()
  gp <- residual_gp(matrix(runif(200), 100), gp_kernel(), inducing = 3)
  expect_error(residual_knn(gp, 3, cluster = 2), "`cluster` must be a cluster of package parallel")
  expect_error(vif_fit(runif(100), runif(100), X = 1, cluster = "a"), "`cluster` must be")
  cluster <- cluster_of(2)
  expect_error(vif_fit(rpois(100, 1), runif(100), X = 1, family = poisson(), cluster = cluster), "NULL with a family")
  group <- group_open(cluster, 1L)
  # one worker fails, the other answers
  expect_error(group_map(group, "worker_first", list(list(), list())), "missing|argument")
  group_close(group)
  expect_clean(cluster)
  # an interrupt waits for the answers
  skip_on_os("windows")
  big <- residual_gp(matrix(runif(20000), 10000), gp_kernel(lengthscale = 0.1), inducing = 20, seed = 1)
  for (moment in c(0.3, runif(9, 0.02, 0.4))) {
    parallel::clusterCall(cluster[1], function(pid, moment) {
      system(sprintf("(sleep %f; kill -INT %d) &", moment, pid))
    }, Sys.getpid(), moment)
    ended <- tryCatch({
      for (i in 1:50) conditioning_sets(big, 10, cluster = cluster, threads = 1)
      "never"
    }, interrupt = function(e) "interrupted")
    expect_identical(ended, "interrupted")
    expect_clean(cluster)
  }
})

test_that("threads of workers on one machine share its processors", {
  skip_on_cran()
  cluster <- cluster_of(2)
  group <- group_open(cluster, NA_integer_)
  expect_identical(group$threads, rep(max(1L, parallel::detectCores() %/% 2L), 2))
  given <- parallel::clusterCall(cluster, function(token) asNamespace("vecchiann")$held[[token]]$threads, group$token)
  expect_true(all(unlist(given) >= 1 & unlist(given) <= group$threads))
  group_close(group)
  group <- group_open(cluster, 3L)
  given <- parallel::clusterCall(cluster, function(token) asNamespace("vecchiann")$held[[token]]$threads, group$token)
  expect_identical(given, list(3L, 3L))
  group_close(group)
})

test_that("clusters of other packages serve", {
  skip_on_cran()
  skip_if_not_installed("mirai")
  cluster <- mirai::make_cluster(2)
  on.exit(mirai::stop_cluster(cluster))
  x <- cbind(runif(1000), runif(1000))
  gp <- residual_gp(x, gp_kernel(lengthscale = 0.2), inducing = 10, seed = 1)
  expect_identical(residual_knn(gp, 5, cluster = cluster)$id, residual_knn(gp, 5)$id)
})
