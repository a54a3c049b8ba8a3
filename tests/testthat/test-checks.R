gp_of <- function(x, ...) residual_gp(x, gp_kernel(), inducing = 0, ...)

test_that("inputs of every numeric form are accepted", {
  x <- matrix(c(1L, 2L, 3L, 4L, 5L, 6L), 3, dimnames = list(letters[1:3], c("a", "b")))
  double <- x + 0
  expect_identical(gp_of(x)$x, double)
  expect_identical(gp_of(as.data.frame(x))$x, double)
  expect_identical(gp_of(data.frame(a = 1:3, b = c(4, 5, 6)))$x, `rownames<-`(double, NULL))
  expect_identical(gp_of(c(1, 2, 4))$x, matrix(c(1, 2, 4)))
  expect_identical(gp_of(scale(double))$x, unclass(scale(double))[, ])
})

test_that("bad inputs are refused: the argument, what was given, what is wanted", {
  refused <- function(x, pattern) expect_error(gp_of(x), paste0("^residual_gp\\(\\): `x` must be ", pattern))
  refused(matrix("a", 3, 2), 'a numeric matrix, data frame or vector, not an object of class "character", size 3 x 2')
  refused(letters, "a numeric matrix.*character")
  refused(NULL, "a numeric matrix, data frame or vector, not NULL")
  refused(list(1, 2), '.*not an object of class "list", size 2')
  refused(mean, ".*not a function")
  refused(factor(1:3), '.*not an object of class "factor", size 3')
  refused(matrix(TRUE, 2, 2), '.*class "logical"')
  refused(array(1, c(2, 2, 2)), ".*size 2 x 2 x 2")
  refused(data.frame(a = 1:3, f = factor(1:3)), 'numeric in every column, not factor in column "f"')
  refused(data.frame(a = 1:3, s = letters[1:3]), '.*not character in column "s"')
  refused(cbind(1:3, c(1, NA, 3)), "finite everywhere, not NA \\(row 2, column 2\\)")
  refused(cbind(1:3, c(1, 2, NaN)), "finite everywhere, not NaN \\(row 3, column 2\\)")
  refused(c(1, -Inf), "finite everywhere, not -Inf \\(row 2, column 1\\)")
  refused(c(1L, NA), "finite everywhere, not NA")
  refused(matrix(0, 0, 2), "of one row or more, not of size 0 x 2")
  refused(matrix(0, 2, 0), "of one column or more, not of size 2 x 0")
  refused(numeric(), "of one row or more")
  refused(data.frame(a = 1)[0, , drop = FALSE], "of one row or more")
})

test_that("finite entries whose sum is not are accepted", {
  expect_identical(gp_of(c(1e308, 1e308))$x, matrix(1e308, 2))
})

test_that("the function that the user called is named", {
  wrapper <- function() residual_knn(gp_of(1:5), k = 0)
  expect_error(wrapper(), "^residual_knn\\(\\): `k`")
  # The argument is evaluated inside residual_knn(), but is a call of its own.
  expect_error(residual_knn(residual_gp(letters, gp_kernel()), k = 1), "^residual_gp\\(\\): `x`")
  expect_error(vecchiann::gp_kernel(variance = 0), "^gp_kernel\\(\\)")
  expect_error(lapply(0, function(k) residual_knn(gp_of(1:5), k)), "^residual_knn\\(\\): `k`")
  expect_error(do.call(gp_kernel, list(variance = 0)), "^`variance` must be")
  expect_error(do.call("gp_kernel", list(variance = 0)), "^gp_kernel\\(\\): `variance` must be")
})

test_that("one row, constant columns and tiny problems work", {
  one <- residual_knn(gp_of(cbind(1, 2)), k = 3)
  expect_identical(one$id, matrix(NA_integer_, 1, 3))
  expect_identical(one$dist, matrix(NA_real_, 1, 3))
  varied <- cbind(runif(30), runif(30))
  constant <- residual_gp(cbind(varied, 7), gp_kernel(), inducing = 4, seed = 1)
  plain <- residual_gp(varied, gp_kernel(), inducing = 4, seed = 1)
  expect_identical(residual_knn(constant, k = 3)$id, residual_knn(plain, k = 3)$id)
  expect_identical(residual_knn(gp_of(rep(1, 4)), k = 2)$id, rbind(2:3, c(1L, 3L), 1:2, 1:2))
})

test_that("what is no list, no matrix or no vector is refused by name", {
  expect_identical(gp_of(table(c(1, 1, 2)))$x, cbind(c(2, 1)))
  expect_error(order_coordinate(1:3, quote(a)), "^order_coordinate\\(\\): `column` must be")
  expect_error(vif_factor(gp_of(1:3), matrix(0, 3, 0), 0.1), "^vif_factor\\(\\): `nn` must be")
  for (fake in list(structure(1, class = "residual_gp"), structure(list(), class = "residual_gp"), structure("a", class = "cover_tree"),
                    structure(list(gp = 1), class = "cover_tree"))) {
    expect_error(residual_knn(fake, 1), "^residual_knn\\(\\): `object[^`]*` must be")
  }
  expect_error(as_nn2(structure(list(), class = "residual_knn")), "^as_nn2\\(\\): `nn` must be")
  expect_error(predict(structure(list(), class = "vif"), 1), "^predict\\(\\): `object` must be")
})
