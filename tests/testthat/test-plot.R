drawn <- function(...) {
  file <- tempfile(fileext = ".pdf")
  grDevices::pdf(file)
  on.exit({
    grDevices::dev.off()
    unlink(file)
  })
  plot(...)
}

search <- function(d, ...) {
  x <- matrix(runif(80 * d), ncol = d)
  if (d > 1) colnames(x) <- letters[seq_len(d)]
  residual_knn(residual_gp(x, gp_kernel(lengthscale = 0.3), inducing = 6, seed = 1), k = 5, ...)
}

test_that("a conditioning set is drawn for every kind of search", {
  for (d in c(1, 2, 4)) {
    for (nn in list(search(d), search(d, predecessors = TRUE), search(d, queries = c(9, 3)),
                    search(d, newdata = matrix(0.4, 2, d)))) {
      expect_identical(drawn(nn), nn)
      expect_identical(drawn(nn, query = 1, zoom = TRUE, legend = FALSE, main = "set"), nn)
    }
  }
  none <- residual_gp(matrix(runif(20), ncol = 2), gp_kernel(), inducing = 0)
  expect_silent(drawn(residual_knn(none, k = 2), asp = 1))
  expect_silent(drawn(residual_knn(residual_process(none$x, none$kernel, none$V), k = 2)))
})

test_that("what is drawn is the chosen set in the chosen columns", {
  nn <- search(4, predecessors = TRUE)
  scene <- plot_scene(nn, 40, c("d", "b"))
  expect_identical(scene$labels, c("d", "b"))
  expect_equal(unname(scene$neighbours), unname(nn$x[nn$id[40, ], c(4, 2)]))
  expect_equal(unname(scene$self), unname(nn$x[40, c(4, 2), drop = FALSE]))
  expect_identical(sum(scene$before), 39L)
  expect_equal(scene$rho, 1 - nn$dist[40, ]^2)
  some <- search(2, queries = c(9, 3))
  expect_equal(unname(plot_scene(some, 2, 1:2)$self), unname(some$x[3, , drop = FALSE]))
})

test_that("bad choices are refused by name", {
  nn <- search(3)
  expect_error(drawn(nn, query = 81), "^plot.*\\(\\): `query` must be a row number from 1 to 80, not 81")
  for (columns in list(1, c(1, 9), "a", c("a", "z"), 1:3)) {
    expect_error(drawn(nn, columns = columns), "`columns` must be two columns of the inputs")
  }
  expect_error(drawn(nn, zoom = NA), "`zoom` must be TRUE or FALSE, not NA")
})

test_that("one column without inducing inputs is drawn without warnings", {
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  expect_no_warning(plot(residual_knn(residual_gp(runif(20), gp_kernel(), inducing = 0), 3)))
})
