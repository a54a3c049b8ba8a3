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
  other$id[5, 1] <- 50L
  expect_error(print(other), "must be as it was made (residual_knn() makes it again), not one that was changed or damaged.",
               fixed = TRUE)
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
  other <- fit
  other$nugget <- 10
  expect_error(predict(other, x[1:2, ], newX = 1), fixed = TRUE,
               "`object` must be as it was made (vif_fit() makes it again), not one that was changed or damaged.")
  expect_identical(logLik(through_file(fit)), logLik(fit))
})

test_that("shapes, flags and families count as numbers do", {
  y <- sin(6 * x[, 1])
  fit <- vif_fit(y, x, inducing = 8, k = 5, progress = FALSE)
  counts <- vif_fit(round(exp(y)), x, inducing = 6, k = 4, family = poisson(), iterations = 3, progress = FALSE)
  expect_refused <- function(object, part, value, use) {
    object[[part]] <- value
    expect_error(use(object), "`(object|x)` must be as it was made", label = paste(part, deparse1(value)))
  }
  expect_refused(fit, "y", matrix(fit$y, 1), residuals)
  for (part in c("nugget_fixed", "converged")) {
    for (value in list(NULL, NA, !fit[[part]], logical(), c(FALSE, FALSE))) expect_refused(fit, part, value, confint)
  }
  for (object in list(fit, counts)) expect_refused(object, "call", 1, residuals)
  family <- counts$family
  family$family <- mean
  expect_refused(counts, "family", family, residuals)
  family$family <- "Gamma"
  expect_refused(counts, "family", family, residuals)
  expect_refused(counts, "bounded", mean, print)
  tree <- cover_tree(gp)
  for (part in c("level", "first", "radius")) expect_refused(tree, part, matrix(tree[[part]], 1), summary)
  nn <- residual_knn(gp, 4)
  nn$stats <- matrix(nn$stats, 1)
  expect_error(summary(nn), "must be as it was made")
})

test_that("what a formula found in the data counts, its environment does not", {
  data <- data.frame(a = x[, 1], b = x[, 2], z = x[, 1] * x[, 2], f = factor(rep(c("u", "v", "w"), 50)), v = 1 + x[, 2])
  data$y <- sin(6 * x[, 1]) + log(data$v) + rnorm(150, sd = 0.1)
  columns <- function(m) m[, 2]
  fit <- vif_fit(y ~ poly(z, 2) + f + columns(cbind(1, b)[, 1:2]) + offset(log(v)), coords = ~ scale(a) + b,
                 data = data, offset = 2 * v, inducing = 8, k = 5, progress = FALSE)
  expected <- predict(fit, data[1:5, ])
  whole <- through_file(fit)
  expect_equal(predict(whole, data[1:5, ]), expected, tolerance = 1e-12)
  assign("added", 1, environment(whole$formula))
  whole$formula <- `environment<-`(whole$formula, new.env(parent = environment(fit$formula)))
  expect_equal(predict(whole, data[1:5, ]), expected, tolerance = 1e-12)
  damages <- list(
    terms = function(fit) attr(fit$terms, "predvars")[[3]]$coefs$alpha[1] <- 0.3,
    coords_terms = function(fit) attr(fit$coords_terms, "predvars")[[2]]$center <- 0,
    kinds = function(fit) attr(fit$terms, "dataClasses")["f"] <- "numeric",
    levels = function(fit) fit$xlevels$f <- c("v", "u", "w"), names = function(fit) names(fit$xlevels) <- "z",
    contrasts = function(fit) fit$contrasts$f <- "contr.sum", coords = function(fit) fit$coords <- ~ scale(b) + a,
    columns = function(fit) fit$columns <- "a", offset = function(fit) fit$call$offset <- quote(3 * v),
    neighbours = function(fit) fit$neighbours <- "euclidean", place = function(fit) fit$place$column <- "a",
    formula = function(fit) fit["formula"] <- list(NULL), call = function(fit) fit$call <- "a"
  )
  for (name in names(damages)) {
    damage <- damages[[name]]
    body(damage) <- bquote({ .(body(damage)); fit })
    for (other in list(damage(fit), through_file(damage(fit)))) {
      for (use in list(print, function(fit) predict(fit, data[1:5, ]))) {
        expect_error(use(other), "must be as it was made", label = name)
      }
    }
  }
})

test_that("arguments without any value are refused by name", {
  y <- exp(x[, 1])
  expect_error(vif_fit(y, x, inducing = list(), family = Gamma("log")), "`inducing` must be")
  expect_error(vif_fit(y, x, inducing = NULL), "`inducing` must be")
  expect_error(vif_fit(y, x, inducing = data.frame(f = factor(1:9))), "`inducing` must be numeric")
  expect_error(vif_fit(y, x, family = mean), "`family` must be a family.*not a function")
  expect_error(vif_fit(y, x, X = NA), "`X` must be")
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

test_that("points too far for their distances to be numbers are refused, of processes, searches and predictions", {
  far <- x * 1e300
  expect_error(residual_knn(gp, 3, far), "`newdata` must be spread over less than 1e150 lengthscales")
  expect_error(conditioning_sets(gp, 3, newdata = far), "`newdata` must be spread")
  for (family in list(gaussian(), poisson())) {
    fit <- suppressWarnings(vif_fit(rpois(nrow(x), 2), x, X = NULL, inducing = 6, k = 4, family = family, iterations = 3,
                                    progress = FALSE))
    expect_error(predict(fit, far), "`newdata` must be spread over less than 1e150 lengthscales")
    expect_error(predict(fit, rbind(NA, x[1, ] * 1e200)), "`newdata` must be spread")
    # the prior holds as far as distances go
    there <- predict(fit, rbind(NA, c(1e100, 0)), type = "link")
    expect_equal(there$se.fit[2]^2, fit$kernel$variance, tolerance = 1e-6)
  }
  gp$x <- far
  expect_error(residual_knn(gp, 3), "must be")
})

test_that("inputs in a table of one dimension have no columns to choose from", {
  named <- residual_gp(cbind(a = x[, 1], b = x[, 2]), gp_kernel(), inducing = 4, seed = 1)
  expect_error(residual_knn(named, 2, table(1:3)), "`newdata` must be of 2 columns")
  expect_error(residual_gp(named$x, gp_kernel(), inducing = table(1:3)), "`inducing` must be of 2 columns")
})

test_that("more draws than memory holds are an error that says so", {
  skip_on_os(c("windows", "mac"))
  fit <- vif_fit(sin(6 * x[, 1]), x, inducing = 8, k = 5, progress = FALSE)
  expect_error(simulate(fit, nsim = .Machine$integer.max), "cannot allocate")
})

test_that("a jitter beyond the variance is refused", {
  counts <- suppressWarnings(vif_fit(rep(0:2, 50), x, inducing = 6, k = 4, family = poisson(), iterations = 2, progress = FALSE))
  for (jitter in c(0, 1e300)) expect_error(latent_loglik(counts, "iterative", jitter = jitter), "`jitter` must be a share")
})

test_that("pointers to other things are refused", {
  nn <- residual_knn(gp, 3, predecessors = TRUE)$id
  memory <- vif_memory()
  expect_error(.Call(C_shard_state, memory), "no pointer to a shard")
  expect_error(.Call(C_shard_close, memory), "no pointer to a shard")
  expect_error(.Call(C_shard_state, NULL), "no pointer to a shard")
  shard <- list(own = as.raw(rep(1, 150)), number = 0:149, apart = FALSE)
  noise <- rep(0.1, 150)
  open <- function(memory) .Call(C_shard_open, gp, noise, noise, unname(nn), rbind(sin(1:150)), shard, 0L, FALSE, memory, 1L)
  held <- open(memory)$pointer
  expect_error(open(held), "no pointer to a vif_memory")
  .Call(C_shard_close, held)
  expect_error(.Call(C_shard_state, held), "no evaluation is open")
})

test_that("a smoothness that no kernel has is refused in a process that is known", {
  known <- residual_gp(x, gp_kernel("matern", lengthscale = 0.3, smoothness = 0.8), inducing = 5, seed = 1)
  residual_knn(known, 3)
  for (smoothness in c(-Inf, Inf, NaN, -1, 0, 1e300)) {
    known$kernel$smoothness <- smoothness
    expect_error(residual_knn(known, 3), "`kernel[$]smoothness` must be a number from 0.001", label = smoothness)
  }
})
