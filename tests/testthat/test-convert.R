x <- matrix(runif(60), ncol = 2, dimnames = list(paste0("p", 1:30), NULL))
gp <- residual_gp(x, gp_kernel(lengthscale = 0.3), inducing = 4, seed = 1)
all_points <- residual_knn(gp, k = 3)
before <- residual_knn(gp, k = 3, predecessors = TRUE)

test_that("GpGp's table has the point itself first and NA where nothing is", {
  array <- as_nnarray(before)
  expect_true(is.integer(array))
  expect_identical(array[, 1], 1:30)
  expect_identical(array[, -1], unname(before$id))
  expect_identical(array[1:3, ], rbind(c(1L, NA, NA, NA), c(2L, 1L, NA, NA), array[3, ]))
  expect_error(as_nnarray(all_points), "^as_nnarray\\(\\): `nn` must be a search with predecessors = TRUE")
  some <- residual_knn(gp, k = 3, predecessors = TRUE, queries = 5:9)
  expect_error(as_nnarray(some), "`nn` must be a search for all rows, not one for chosen `queries`")
})

test_that("RANN's and FNN's lists hold the same tables", {
  expect_identical(as_nn2(all_points), list(nn.idx = unname(all_points$id), nn.dists = unname(all_points$dist)))
  expect_identical(as_get_knn(all_points), list(nn.index = unname(all_points$id), nn.dist = unname(all_points$dist)))
  expect_error(as_nn2(before), "^as_nn2\\(\\): `nn` must be a search with 3 neighbours in every row, not one with 3 rows")
  expect_error(as_get_knn(before), "^as_get_knn\\(\\): `nn`")
  expect_error(as_nn2(1:3), "`nn` must be a residual_knn object, not 1:3")
})

test_that("GpGp accepts the table", {
  skip_if_not_installed("GpGp")
  y <- rnorm(30)
  loglik <- GpGp::vecchia_meanzero_loglik(c(1, 0.2, 0.1), "matern15_isotropic", y, unname(x), as_nnarray(before))
  expect_true(is.finite(loglik$loglik))
})
