# The definition, O(n^2): distances squared and summed column by column, as the C core does.
plain_maxmin <- function(x) {
  x <- as.matrix(x)
  squares <- function(point) {
    sum <- numeric(nrow(x))
    for (j in seq_len(ncol(x))) sum <- sum + (x[, j] - point[j])^2
    sum
  }
  order <- integer(nrow(x))
  gap <- rep(Inf, nrow(x))
  nxt <- which.min(squares(colMeans(x)))
  for (t in seq_along(order)) {
    order[t] <- nxt
    gap <- pmin(gap, squares(x[nxt, ]))
    gap[order[seq_len(t)]] <- -1
    nxt <- which.max(gap)
  }
  order
}

test_that("order_maxmin() is the greedy farthest-point ordering, ties to the lower row", {
  set.seed(1)
  for (kind in c("uniform", "duplicates", "grid", "clusters")) {
    for (d in c(1, 2, 3, 5, 10)) {
      for (n in c(1, 2, 32, 33, 65, 300)) {
        x <- inputs(kind, max(n, 3), d)[seq_len(n), , drop = FALSE]
        expect_identical(order_maxmin(x), plain_maxmin(x), label = paste(kind, d, n))
      }
    }
  }
})

test_that("copies of chosen points come last, in their order", {
  x <- rbind(c(0, 0), c(1, 0), c(0, 0), c(1, 1), c(1, 0), c(0, 0))
  expect_identical(order_maxmin(x)[4:6], c(3L, 5L, 6L))
  expect_identical(order_maxmin(rep(7, 5)), 1:5)
})

test_that("a larger ordering keeps its promise", {
  set.seed(2)
  x <- matrix(runif(4000), ncol = 2)
  expect_identical(order_maxmin(x), plain_maxmin(x))
  expect_identical(order_maxmin(as.data.frame(x)), order_maxmin(x))
})

test_that("the other orderings are permutations that keep their promise", {
  x <- cbind(a = c(3, 1, 2, 1), b = c(0, 1, 0, 1))
  expect_identical(order_coordinate(x), c(2L, 4L, 3L, 1L))
  expect_identical(order_coordinate(x, "b"), c(1L, 3L, 2L, 4L))
  expect_identical(order_random(x, seed = 3), order_random(x, seed = 3))
  expect_identical(sort(order_random(1:100)), 1:100)
  set.seed(1)
  before <- runif(1)
  set.seed(1)
  order_random(x, seed = 9)
  expect_identical(runif(1), before)
})

test_that("orderings refuse what they cannot order", {
  expect_error(order_maxmin(c(1, NA)), "^order_maxmin\\(\\): `x` must be finite everywhere, not NA")
  expect_error(order_maxmin("a"), "`x` must be a numeric matrix")
  expect_error(order_coordinate(1:3, 2), "^order_coordinate\\(\\): `column` must be the number or name")
  expect_error(order_coordinate(cbind(a = 1:2), "b"), "`column`")
  expect_error(order_random(1:3, seed = "a"), "`seed`")
})
