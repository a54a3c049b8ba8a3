# Shards that workers read, against the likelihood of one process with the same order and sets.

shard_files <- function(n) {
  set.seed(1)
  data <- data.frame(east = runif(n), north = runif(n), z = rnorm(n))
  data$height <- sin(6 * data$east) * cos(7 * data$north) + data$z / 2 + rnorm(n, sd = 0.3)
  tile <- 2 * (data$east > 0.5) + (data$north > 0.5)
  files <- tempfile(paste0("tile", 0:3), fileext = c(".rds", ".csv"))
  for (i in 1:4) {
    own <- data[tile == i - 1, ]
    if (i %% 2) saveRDS(own, files[i]) else write.csv(format(own, digits = 17), files[i], row.names = FALSE)
  }
  list(data = data, files = files)
}

# What the workers hold: points in the order of all, and their sets as positions in it.
gather_sets <- function(cluster, token) {
  parts <- parallel::clusterCall(cluster, function(token) {
    own <- asNamespace("vecchiann")$held[[token]]
    list(number = own$number[own$rows], id = matrix(own$number[own$id], nrow(own$id)), spacing = own$spacing, x = own$x,
         y = own$y, X = own$X, share = own$share, extra = own$extra)
  }, token)
  join <- function(name, f) do.call(f, lapply(parts, `[[`, name))
  order <- order(-join("spacing", c), join("number", c))
  place <- match(join("number", c), join("number", c)[order])
  id <- join("id", rbind)
  list(x = join("x", rbind)[order, ], y = join("y", c)[order], share = join("share", c)[order],
       extra = join("extra", c)[order], X = join("X", rbind)[order, ],
       id = matrix(place[id], nrow(id))[order, ], order = order)
}

test_that("fits of shards maximise the likelihood of their order and sets, and predict", {
  skip_on_cran()
  p <- shard_files(5000)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  shards <- vif_shards(p$files, height ~ z, coords = ~ east + north, cluster = cluster, threads = 1)
  expect_output(print(shards), "5,000 observations of height ~ z held by 2 workers")
  fit <- vif_fit(shards, inducing = 20, k = 10, progress = FALSE)
  expect_true(fit$converged)
  sets <- gather_sets(cluster, shards$group$token)
  expect_true(all(sets$id < row(sets$id), na.rm = TRUE))
  gp <- residual_gp(sets$x, fit$kernel, fit$inducing, jitter = fit$jitter)
  one <- vif_loglik(sets$y, gp, cbind(seq_len(5000), sets$id), fit$nugget, X = sets$X, gradient = TRUE)
  expect_equal(fit$loglik, as.vector(one), tolerance = 1e-9)
  expect_lt(max(abs(attr(one, "gradient"))), 1) # at the maximum
  whole <- vif_fit(height ~ z, coords = ~ east + north, data = p$data, inducing = 20, k = 10, progress = FALSE)
  expect_equal(fit$nugget, whole$nugget, tolerance = 0.05)
  expect_equal(coef(fit)[["z"]], 0.5, tolerance = 0.05)
  expect_equal(attr(logLik(fit), "nobs"), 5000)
  expect_output(print(fit), "5,000 observations in shards of 2 workers")
  # about those of one process, whose estimates differ a little
  expect_identical(vcov(fit), fit$vcov)
  expect_equal(vcov(fit)["z", "z"], vcov(whole)["z", "z"], tolerance = 0.05)
  errors <- sqrt(diag(vcov(fit, "covariance"))) / c(fit$kernel$variance, fit$kernel$lengthscale, fit$nugget)
  expected <- sqrt(diag(vcov(whole, "covariance"))) / coef(whole, "covariance")
  expect_named(errors, c("variance", "lengthscale", "nugget"))
  expect_equal(unname(errors), unname(expected), tolerance = 0.25)
  new <- data.frame(east = runif(300), north = runif(300), z = c(NA, rep(0, 299)))
  truth <- sin(6 * new$east) * cos(7 * new$north)
  predicted <- predict(fit, new, interval = "prediction")
  expect_true(is.na(predicted$fit[1]))
  expect_equal(predict(fit, new, interval = "prediction", chunk = 40), predicted, tolerance = 1e-8)
  error <- function(p) sqrt(mean((p - truth)[-1]^2))
  expect_lt(error(predicted$fit), 1.1 * error(predict(whole, new, se.fit = FALSE)))
  # another fit of the same shards leaves this one as it was
  vif_fit(shards, kernel = "matern52", inducing = 0, k = 5, nugget = 0.09, progress = FALSE)
  expect_equal(predict(fit, new, interval = "prediction"), predicted, tolerance = 1e-12)
  close(shards)
  left <- parallel::clusterCall(cluster, function() length(ls(asNamespace("vecchiann")$held)))
  expect_identical(unlist(left), c(0L, 0L))
})

test_that("shards take weights, known noise and anisotropy", {
  skip_on_cran()
  set.seed(3)
  n <- 5000
  data <- data.frame(east = runif(n), north = runif(n), w = rep(c(1, 4), n / 2), v = 0.05 * runif(n))
  surface <- function(at) sin(9 * at$east + 3 * at$north) * cos(3 * at$north - at$east)
  data$height <- surface(data) + rnorm(n, sd = sqrt(0.2 / data$w + data$v))
  data$w[7] <- NA
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  halves <- split(data, data$north > 0.5)
  shards <- vif_shards(halves, height ~ 1, ~ east + north, cluster, identity, threads = 1, weights = "w",
                       noise_variance = ~ v)
  expect_identical(shards$n, 4999L)
  fit <- vif_fit(shards, inducing = 20, k = 10, anisotropy = TRUE, progress = FALSE)
  sets <- gather_sets(cluster, shards$group$token)
  expect_setequal(sets$share, c(1, 0.25))
  gp <- residual_gp(sets$x, fit$kernel, fit$inducing, jitter = fit$jitter)
  one <- vif_loglik(sets$y, gp, cbind(seq_len(4999), sets$id), 0, X = sets$X,
                    noise_variance = fit$nugget * sets$share + sets$extra)
  expect_equal(fit$loglik, as.vector(one), tolerance = 1e-9)
  whole <- vif_fit(height ~ 1, coords = ~ east + north, data = data, weights = w, noise_variance = v, inducing = 20,
                   k = 10, anisotropy = TRUE, progress = FALSE)
  expect_equal(fit$nugget, whole$nugget, tolerance = 0.02)
  expect_equal(fit$kernel$anisotropy[["ratio"]], whole$kernel$anisotropy[["ratio"]], tolerance = 0.1)
  expect_named(sqrt(diag(vcov(fit, "covariance"))), colnames(vcov(whole, "covariance")))
  # a little along the edge that the two workers share, too
  new <- data.frame(east = runif(200), north = c(runif(150), rep(0.5, 50)))
  ours <- predict(fit, new)
  theirs <- predict(whole, new)
  error <- function(p) sqrt(mean((p$fit - surface(new))^2))
  expect_lt(error(ours), 1.1 * error(theirs))
  expect_equal(mean(ours$se.fit), mean(theirs$se.fit), tolerance = 0.05)
  close(shards)
  grouped <- vif_shards(halves, height ~ 1, ~ east + north, cluster, identity, threads = 1, weights = ~ w)
  fit <- vif_fit(grouped, lengthscale = list(a = "east", b = "north"), inducing = 0, k = 5, progress = FALSE)
  expect_length(fit$kernel$lengthscale, 2)
  expect_lt(fit$kernel$lengthscale[1], fit$kernel$lengthscale[2])
  close(grouped)
  expect_error(vif_shards(halves, height ~ 1, ~ east + north, cluster, identity, weights = 1), "`weights` must be")
  expect_error(vif_shards(halves, height ~ 1, ~ east + north, cluster, identity, weights = ~ I(-v)),
               "^vif_shards\\(\\): `weights` must be positive")
})

test_that("the box of a turned box holds its corners", {
  kernel <- gp_kernel("matern32", lengthscale = 2, anisotropy = c(angle = 30, ratio = 0.5))
  box <- cbind(c(-1, 1), c(0, 3))
  inside <- cbind(runif(50, -1, 1), runif(50, 0, 3))
  expect_equal(box_distance(in_lengthscales(inside, kernel), box_in_lengthscales(box, kernel)), rep(0, 50))
})

test_that("shards are refused by name", {
  skip_on_cran()
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  made <- function(i) data.frame(a = runif(200), b = runif(200), y = rnorm(200), f = if (i == 1) "u" else c("u", "v"))
  expect_error(vif_shards(1, y ~ 1, ~ a + b, cluster, made), "at least as many as workers, 2")
  expect_error(vif_shards(1:2, y ~ f, ~ a + b, cluster, made), "contrasts|same columns")
  expect_error(vif_shards(1:2, y ~ 1, ~ a + nowhere, cluster, made), "'nowhere' not found")
  expect_error(vif_shards(c("a.txt", "b.txt"), y ~ 1, ~ a + b, cluster), "no reader for a.txt")
  expect_error(vif_shards(1:2, y ~ 1, ~ a + b, NULL, made), "`cluster` must be")
  shards <- vif_shards(1:3, y ~ 1, ~ a + b, cluster, made)
  expect_identical(shards$n, 600L)
  expect_error(vif_fit(shards, X = 1), "`X` is not an argument")
  close(shards)
})

test_that("offsets and factors of shards mean what they mean in one data frame", {
  skip_on_cran()
  set.seed(5)
  n <- 2400
  data <- data.frame(east = runif(n), north = runif(n), v = 10 * runif(n),
                     f = factor(sample(c("a", "b", "c"), n, TRUE), levels = c("c", "a", "b")))
  data$y <- sin(6 * data$east) + 2 * (data$f == "b") - (data$f == "a") + log(1 + data$v) + rnorm(n, sd = 0.3)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  halves <- split(data, data$north > 0.5)
  read <- function(formula, parts = halves) {
    vif_shards(parts, formula, ~ east + north, cluster, identity, threads = 1)
  }
  shards <- read(y ~ f + offset(log(1 + v)))
  fit <- vif_fit(shards, inducing = 10, k = 8, progress = FALSE)
  whole <- vif_fit(y ~ f + offset(log(1 + v)), coords = ~ east + north, data = data, inducing = 10, k = 8,
                   progress = FALSE)
  expect_equal(coef(fit, "mean"), coef(whole, "mean"), tolerance = 0.1)
  expect_equal(fit$nugget, whole$nugget, tolerance = 0.05)
  new <- data[c(1:40, NA), ]
  expect_lt(max(abs(predict(fit, new)$fit - predict(whole, new)$fit), na.rm = TRUE), 0.15)
  # one level alone, as text, and in another order of levels
  one <- data[data$f == "b", ][1:5, ]
  expected <- predict(fit, one)
  one$f <- "b"
  expect_equal(predict(fit, one), expected)
  one$f <- factor("b", levels = c("b", "c"))
  expect_equal(predict(fit, one), expected)
  one$f <- "d"
  expect_error(predict(fit, one), "^predict\\(\\): `newdata` does not fit the model: .*new level.* d")
  one$f <- 1
  expect_error(predict(fit, one), "`newdata` must be with f of the kind that was fitted, factor")
  expect_error(predict(fit, one[names(one) != "v"]), "`newdata` must be with the variables of `offset`.* without v")
  expect_error(predict(fit, new[c("east", "north", "v")]), "`newdata` does not fit the model: object 'f' not found")
  expect_error(predict(fit, new, interval = "prediction", level = 95), "`level` must be a number between 0 and 1")
  expect_named(coef(fit), c(names(coef(whole))))
  expect_identical(coef(fit, "cov"), coef(fit, "covariance"))
  expect_error(coef(fit, "none"), "`type` must be one of")

  # what is damaged is refused by all that answers with it
  uses <- list(print, coef, logLik, vcov, function(fit) predict(fit, new))
  damages <- list(nugget = function(fit) fit$nugget <- fit$nugget * 2, B = function(fit) fit$state$B <- NULL,
                  levels = function(fit) fit$shards$coding$levels$f <- c("a", "b", "c"),
                  first = function(fit) fit$shards$first[2] <- 7L)
  for (name in names(damages)) {
    damage <- damages[[name]]
    body(damage) <- bquote({ .(body(damage)); fit })
    for (use in uses) expect_error(use(damage(fit)), "`(object|x)` must be as it was made", label = name)
  }
  close(shards)

  # the same number of columns, of other levels, within a worker and between workers
  quarters <- split(data, list(data$north > 0.5, data$east > 0.5))
  relevelled <- function(at, levels) {
    parts <- quarters
    parts[[at]]$f <- factor(ifelse(parts[[at]]$f == "b", "b", "c"), levels = levels)
    for (i in setdiff(1:4, at)) parts[[i]]$f <- factor(ifelse(parts[[i]]$f == "b", "b", "a"), levels = c("a", "b"))
    parts
  }
  wanted <- "^vif_shards\\(\\): `sources` must be of the same columns of the mean, with the same levels of factors"
  expect_error(read(y ~ f, relevelled(2, c("c", "b"))), paste0(wanted, ", not others in an object"))
  expect_error(read(y ~ f, relevelled(2, c("b", "c"))), paste0(wanted, ", not others in"))
  swapped <- halves
  swapped[[2]]$f <- factor(swapped[[2]]$f, levels = c("a", "b", "c"))
  expect_error(read(y ~ f, swapped), paste0(wanted, ", not others at worker 2"))
  renamed <- halves
  levels(renamed[[2]]$f)[1] <- "z" # the base level is in no name of a column
  expect_error(read(y ~ f, renamed), paste0(wanted, ", not others at worker 2"))
})

test_that("parameters of shards at a bound have no standard errors", {
  skip_on_cran()
  set.seed(6)
  data <- data.frame(east = runif(800), north = runif(800))
  data$y <- sin(9 * data$east) * cos(7 * data$north)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  shards <- vif_shards(split(data, data$north > 0.5), y ~ 1, ~ east + north, cluster, identity, threads = 1)
  expect_warning(fit <- vif_fit(shards, inducing = 10, k = 8, progress = FALSE), "nugget has run", class = "vif_bound")
  expect_true("nugget" %in% names(fit$bounded))
  error <- vcov(fit, "covariance")
  expect_true(all(is.na(error["nugget", ])))
  expect_true(all(is.finite(diag(error)[c("variance", "lengthscale")])))
  expect_output(print(fit), "at a bound: nugget")
  close(shards)
})

test_that("points belong to the boxes they are in, or to the nearest", {
  boxes <- list(cbind(c(0, 1.2), c(0, 1)), cbind(c(1, 2), c(0, 1)))
  at <- rbind(c(0.5, 0.5), c(1.5, 0.5), c(3, 3), c(-1, 0), c(1.1, 0.2), c(1, 2))
  expect_identical(unname(nearest_boxes(at, boxes)),
                   cbind(c(TRUE, FALSE, FALSE, TRUE, TRUE, TRUE), c(FALSE, TRUE, TRUE, FALSE, TRUE, TRUE)))
  expect_identical(dim(nearest_boxes(at[0, ], boxes)), c(0L, 2L))
  expect_equal(box_distance(rbind(c(0.5, 0.5), c(4.2, 5)), boxes[[1]]), c(0, 5))
})

test_that("where boxes overlap the worker that knows most predicts, in whatever order they are", {
  skip_on_cran()
  set.seed(10)
  n <- 800
  data <- data.frame(east = runif(n), north = runif(n))
  data$y <- sin(9 * data$east) + cos(9 * data$north) + rnorm(n, sd = 0.1)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  parallel::clusterCall(cluster, function(paths) .libPaths(paths), .libPaths())
  new <- rbind(data.frame(east = c(runif(80), NA), north = runif(81)), data[1:20, c("east", "north")])
  whole <- predict(vif_fit(y ~ 1, ~ east + north, data, inducing = 20, k = 20, progress = FALSE), new)
  few <- list(data[1:30, ], data[-(1:30), ])
  for (parts in list(few, rev(few))) {
    shards <- vif_shards(parts, y ~ 1, ~ east + north, cluster, identity, threads = 1)
    fit <- vif_fit(shards, inducing = 20, k = 20, progress = FALSE)
    predicted <- predict(fit, new)
    expect_lt(max(abs(predicted$fit - whole$fit) / whole$se.fit, na.rm = TRUE), 0.3)
    expect_equal(predicted$se.fit, whole$se.fit, tolerance = 0.02)
    expect_lt(max(predicted$se.fit / whole$se.fit, na.rm = TRUE), 1.05)
    # the same without standard errors, with intervals alone and in small chunks
    expect_equal(predict(fit, new, se.fit = FALSE), predicted$fit, tolerance = 1e-12)
    limits <- predict(fit, new, se.fit = FALSE, interval = "confidence")
    expect_equal(limits$upr - limits$fit, qnorm(0.975) * predicted$se.fit)
    expect_equal(predict(fit, new, chunk = 7), predicted, tolerance = 1e-8)
    expect_equal(predict(fit, new, se.fit = FALSE, chunk = 7), predicted$fit, tolerance = 1e-8)
    expect_identical(predict(fit, new[81, ])$fit, NA_real_)
    close(shards)
  }
})

test_that("a constant column of shards is told", {
  skip_on_cran()
  set.seed(11)
  data <- data.frame(east = runif(400), north = runif(400), depth = 2)
  data$y <- sin(9 * data$east) + cos(7 * data$north) + rnorm(400, sd = 0.2)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  parallel::clusterCall(cluster, function(paths) .libPaths(paths), .libPaths())
  each <- gp_kernel("matern32", lengthscale = rep(1, 3))
  fit_of <- function(data) {
    shards <- vif_shards(split(data, data$north > 0.5), y ~ 1, ~ east + north + depth, cluster, identity, threads = 1)
    on.exit(close(shards))
    vif_fit(shards, kernel = each, inducing = 10, k = 8, progress = FALSE)
  }
  expect_warning(fit <- fit_of(data), "lengthscale.depth is that of a constant column", class = "vif_bound")
  expect_output(print(fit), "without information: lengthscale.depth")
  data$depth <- as.numeric(data$north > 0.5) # constant in each shard
  expect_false("constant" %in% suppressWarnings(fit_of(data))$bounded)
})

test_that("new points of a fit with a constant mean need no covariate", {
  new <- data.frame(east = c(0.5, NA, 0.5), north = c(0.2, 0.8, 0.8))
  frame <- shard_frame(new, list(formula = height ~ 1, coords = ~ east + north), response = FALSE)
  expect_identical(frame$rows, c(1L, 3L))
  expect_equal(unname(frame$X), matrix(1, 2, 1), ignore_attr = TRUE)
})

test_that("shards take rare levels and a mean of zero, and refuse bases of all rows and responses that are no numbers", {
  skip_on_cran()
  set.seed(8)
  n <- 8000
  data <- data.frame(east = runif(n), north = runif(n), z = runif(n), g = ifelse(seq_len(n) == 7, "v", "u"))
  data$g <- factor(data$g)
  data$y <- sin(5 * data$east) + 2 * (data$g == "v") + rnorm(n, sd = 0.3)
  halves <- split(data, data$east < 0.5)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  read <- function(formula, parts = halves) vif_shards(parts, formula, ~ east + north, cluster, identity, threads = 1)
  expect_error(read(y ~ poly(z, 2)), "`formula` must be of terms that each row has by itself, not poly\\(z, 2\\)")
  expect_error(read(y ~ scale(z)), "its basis depends on all rows")
  shards <- read(y ~ g)
  expect_named(coef(vif_fit(shards, inducing = 8, k = 5, iterations = 2, progress = FALSE), "mean"), c("(Intercept)", "gv"))
  close(shards)
  shards <- read(y ~ 0)
  fit <- vif_fit(shards, inducing = 8, k = 5, progress = FALSE)
  expect_length(coef(fit, "mean"), 0)
  expect_output(print(fit), "log-likelihood")
  expect_true(all(is.finite(predict(fit, data[1:3, ])$fit)))
  close(shards)
  texts <- halves
  texts[[1]]$y <- as.character(texts[[1]]$y)
  expect_error(read(y ~ 1, texts), "`sources` must be with a response of finite numbers")
})

test_that("files of Arrow are read as others are", {
  skip_on_cran()
  skip_if_not_installed("arrow")
  set.seed(9)
  data <- data.frame(east = runif(1200), north = runif(1200), z = runif(1200), g = factor(sample(c("p", "q"), 1200, TRUE)))
  data$y <- sin(5 * data$east) + data$z + rnorm(1200, sd = 0.3)
  folder <- tempfile()
  dir.create(folder)
  halves <- split(data, data$east < 0.5)
  cluster <- parallel::makeCluster(2)
  on.exit(parallel::stopCluster(cluster))
  parallel::clusterCall(cluster, function(paths) .libPaths(paths), .libPaths())
  write <- list(rds = saveRDS, parquet = arrow::write_parquet,
                feather = function(x, file) arrow::write_feather(x, file, compression = "uncompressed"))
  fits <- lapply(names(write), function(ending) {
    files <- file.path(folder, paste0(1:2, ".", ending))
    for (i in 1:2) write[[ending]](halves[[i]], files[i])
    shards <- vif_shards(files, y ~ z + g, ~ east + north, cluster, threads = 1)
    fit <- vif_fit(shards, inducing = 10, k = 8, progress = FALSE)
    close(shards)
    c(coef(fit), logLik(fit))
  })
  expect_identical(fits[[2]], fits[[1]])
  expect_identical(fits[[3]], fits[[1]])
})
