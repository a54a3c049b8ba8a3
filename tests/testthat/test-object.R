set.seed(12)
x <- matrix(runif(300), 150)
gp <- residual_gp(x, gp_kernel(lengthscale = 0.3), inducing = 10, seed = 1)

through_file <- function(object) {
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  saveRDS(object, file)
  readRDS(file)
}

test_that("neighbours and sets whose numbers were changed are refused, in range or not", {
  nn <- residual_knn(gp, 4, predecessors = TRUE)
  sets <- conditioning_sets(gp, 4, 0.1)
  for (whole in list(nn, sets)) {
    expect_identical(vif_factor(gp, through_file(whole), 0.1), vif_factor(gp, whole, 0.1))
    damages <- list(
      id = function(nn) nn$id[100, 1] <- nn$id[100, 1] %% 99L + 1L, dist = function(nn) nn$dist[100, 2] <- nn$dist[100, 2] / 2,
      x = function(nn) nn$x[1] <- 0.5, k = function(nn) nn$k <- 5L, method = function(nn) nn$method <- "none",
      checksum = function(nn) nn$checksum <- NULL
    )
    for (name in names(damages)) {
      damage <- damages[[name]]
      body(damage) <- bquote({ .(body(damage)); nn })
      for (other in list(damage(whole), through_file(damage(whole)))) {
        for (use in list(as_nnarray, print, summary, function(nn) vif_factor(gp, nn, 0.1))) {
          expect_error(use(other), "must be as it was made", label = name)
        }
      }
    }
  }
  other <- nn
  other$dist[100, 2] <- 0.5
  expect_error(conditioning_sets(gp, 3, 0.1, pool = other), "`pool` must be as it was made")
  # a table of one's own is a matrix
  expect_identical(vif_factor(gp, cbind(1:150, unname(nn$id)), 0.1), vif_factor(gp, nn, 0.1))
})

test_that("fits whose numbers were changed are refused by all that answers with them", {
  fit <- vif_fit(sin(6 * x[, 1]) + rnorm(150, sd = 0.1), x, X = 1, inducing = 8, k = 5, progress = FALSE)
  uses <- list(coef, vcov, confint, logLik, AIC, BIC, nobs, sigma, deviance, df.residual, fitted, residuals, summary, print,
               function(fit) predict(fit, x[1:2, ], newX = 1), function(fit) extractAIC(fit))
  for (part in c("loglik", "vcov", "theta", "nugget", "coefficients", "y", "n", "df")) {
    other <- fit
    other[[part]][1] <- other[[part]][1] + 1
    for (use in uses) expect_error(use(other), "must be as it was made", label = part)
  }
  expect_identical(logLik(through_file(fit)), logLik(fit))
})

test_that("arguments without any value are refused by name", {
  y <- exp(x[, 1])
  expect_error(vif_fit(y, x, inducing = list(), family = Gamma("log")), "`inducing` must be")
  expect_error(vif_fit(y, x, inducing = NULL), "`inducing` must be")
  expect_error(vif_fit(y ~ a, character(), data = data.frame(y, a = x[, 1], b = x[, 2])), "`coords` must be")
})

test_that("an index of wild sizes is not opened, whatever its checksum says", {
  x <- matrix(runif(3000), ncol = 2)
  gp <- residual_gp(x, gp_kernel("matern52", 2, 0.2), x[1:8, ])
  tree <- cover_tree(gp)
  exact <- residual_knn(gp, 5, method = "brute", queries = 1:40)$id
  integers <- list(1L, -1L, 1000000L, .Machine$integer.max, -.Machine$integer.max)
  # what lengths of arrays are made of, in the header of src/search/index.c: rows, cols, form, d, m, count, panels, specials,
  # weights, special_reach, terms
  for (at in c(40 + 4 * 0:7, 76, 80, 84)) {
    for (change in integers) {
      other <- tree
      here <- at + 1:4
      old <- readBin(other$index[here], "integer", 1, 4)
      other$index[here] <- writeBin(bitwXor(old, change), raw(), 4)
      other$index <- .Call(C_tree_seal, other$index)
      if (at == 68 && change == 1L) next # one special more or less takes no more memory
      expect_identical(residual_knn(other, 5, method = "level", queries = 1:40)$id, exact, label = paste(at, change))
    }
  }
})
