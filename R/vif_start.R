# Starting values of Gaussian fits: a grid on a subset of the data, and climbs from its local maxima.

# Parameters to start from on all data, and the history of the stages that found them.
starting_values <- function(start, data, settings, progress = FALSE) {
  wanted <- '"auto", "kernel" or a list of a `kernel` and a `nugget`'
  start <- fitting_start(start, data$x, data$y)
  if (is_start_list(start)) {
    theta <- listed_theta(start, start$nugget, data$x, settings, wanted)
    return(list(theta = theta, at = grid_point(start$at, theta, settings),
                first_at = grid_point(start$first_at, theta, settings)))
  }
  if (identical(start, "kernel")) {
    theta <- to_theta(settings$kernel, settings$kernel$variance / 10, settings)
    return(list(theta = inside(theta, theta_bounds(settings))))
  }
  if (!identical(start, "auto")) refuse("start", wanted, describe(start))
  subset_estimate(data, settings, progress)
}

# What update() starts from: parameters, grid points of the sets at the end and of the order, and the spread of the
# data they are for.
start_of_fit <- function(fit) {
  start <- list(kernel = fit$kernel, nugget = fit$nugget, spread = spread_of(fitted_inputs(fit)$x, fit$y))
  c(start, if (is_laplace(fit)) list(phi = fit$phi) else unclass(fit)[c("at", "first_at")])
}

is_start_list <- function(start) is.list(start) && !inherits(start, "gp_kernel")

# Ranges of the inputs, and the standard deviation of the response, in logs.
spread_of <- function(x, y) log(c(apply(x, 2, function(column) diff(range(column))), stats::sd(y)))

# The start, unless it comes from a fit of other columns, or of data in other units or much wider.
fitting_start <- function(start, x, y) {
  if (!is_start_list(start) || is.null(start$spread)) return(start)
  now <- spread_of(x, y)
  close <- length(now) == length(start$spread) && isTRUE(all(now == start$spread | abs(now - start$spread) < log(3)))
  if (close) start else "auto"
}

# Parameters of a list of starting values.
listed_theta <- function(start, nugget, x, settings, wanted) {
  if (!inherits(start$kernel, "gp_kernel") || !is.numeric(nugget)) refuse("start", wanted, describe(start))
  check_kernel(start$kernel, ncol(x))
  if (is.null(start$kernel$smoothness)) start$kernel$smoothness <- settings$kernel$smoothness
  inside(to_theta(start$kernel, nugget, settings), theta_bounds(settings))
}

# A grid point of another fit, if it has the same parameters and is one of this grid, too: NULL for other inputs.
grid_point <- function(at, theta, settings) {
  same <- is.numeric(at) && identical(names(at), names(theta)) && isTRUE(all.equal(on_grid(at, settings), at))
  if (same) at
}

# How many observations the two stages before all data take; a stage that is not much smaller is left out.
stage_sizes <- function(n) {
  sizes <- c(subset = 1000, part = min(max(4000, round(n / 8)), 80000))
  c(sizes[1], sizes[-1][2 * sizes[-1] <= n])
}

subset_estimate <- function(data, settings, progress) {
  settings$memory <- vif_memory()
  found <- NULL
  for (stage in names(stage_sizes(nrow(data$x)))) {
    part <- subset_of(data, settings, stage_sizes(nrow(data$x))[[stage]], found$theta)
    modes <- if (is.null(found)) grid_modes(part$data, part$settings) else list(found$theta)
    data_of_stage <- shard_data(part$data, part$settings)
    climbs <- lapply(modes, climb, data = data_of_stage, settings = part$settings, stage = stage, limit = 30,
                     tolerance = 0.05, progress = progress)
    value <- vapply(climbs, function(climbed) climbed$at$value, 0)
    best <- climbs[[which.max(value)]]
    found <- list(theta = if (is.finite(max(value))) best$at$theta else modes[[1]],
                  history = rbind(found$history, best$history))
  }
  found
}

# Half of the points spread out, for the long distances, and half in close groups, for the short ones, with settings
# that cost little.
subset_of <- function(data, settings, size, theta = NULL, group = 50) {
  n <- nrow(data$x)
  kernel <- settings$kernel
  if (is.null(theta)) {
    kernel$lengthscale <- settings$scale[settings$groups$of %or% 1]
  } else {
    kernel <- to_kernel(theta, settings)
  }
  unit <- in_lengthscales(data$x, kernel)
  rows <- if (n <= size) seq_len(n) else with_seed(settings$seed, {
    centres <- sample.int(n, ceiling(size / 2 / group))
    process <- new_residual_gp(unit, gp_kernel("matern12"), unit[0, , drop = FALSE], 0, 0, settings$threads)
    close <- residual_knn(process, group - 1, queries = centres, progress = FALSE,
                          threads = threads_or_null(settings$threads))
    unique(c(sample.int(n, size %/% 2), centres, close$id))
  })
  count <- length(rows)
  settings$k <- min(20L, count - 1L)
  settings$inducing <- if (is.null(theta)) 0 else count_inducing(settings$inducing, count %/% 40)
  settings$neighbours <- "euclidean"
  settings$threads <- worthwhile_threads(settings$threads, count)
  rows <- rows[order_maxmin(unit[rows, , drop = FALSE])]
  part <- list(y = data$y[rows], x = data$x[rows, , drop = FALSE], X = data$X[rows, , drop = FALSE],
               extra = data$extra[rows], share = data$share[rows])
  if (!is.null(part$X) && qr(part$X)$rank < ncol(part$X)) {
    part$y <- stats::lm.fit(part$X, part$y)$residuals
    part$X <- NULL
  }
  list(data = part, settings = settings)
}

# A smaller number of inducing inputs, or some of those given.
count_inducing <- function(inducing, most) {
  if (!is.matrix(inducing)) return(min(inducing, most))
  inducing[seq_len(min(nrow(inducing), most)), , drop = FALSE]
}

# The likelihood on a grid of lengthscales and shares of noise: its local maxima, where several climbs start.
grid_modes <- function(data, settings) {
  shares <- c(0.01, 0.025, 0.06, 0.15, 0.4)
  # and shorter ones where neighbours are much closer than that
  typical <- max(min(settings$close$typical %or% 1), 1e-8)
  while (shares[1] > 8 * typical) shares <- c(shares[1] / 2.5, shares)
  noises <- if (is.null(settings$fixed)) c(0.9, 0.5, 0.1, 0.01, 1e-4) else 0.1
  thetas <- lapply(seq_along(shares), function(i) lapply(noises, function(noise) {
    kernel <- list(variance = (1 - noise) * settings$spread, smoothness = settings$kernel$smoothness,
                   lengthscale = shares[i] * settings$scale * sqrt(ncol(data$x)))
    inside(to_theta(kernel, noise * noise_spread(settings), settings), theta_bounds(settings))
  }))
  # without inducing inputs Euclidean neighbours are the same for lengthscales in the same proportions
  structure <- structure_of(thetas[[1]][[1]], data, settings)
  value <- vapply(thetas, function(row) {
    vapply(row, function(theta) evaluate(theta, structure, data, settings, FALSE)$value, 0)
  }, numeric(length(noises)))
  value <- matrix(value, length(noises))
  padded <- matrix(-Inf, nrow(value) + 2, ncol(value) + 2)
  inner <- list(1 + seq_len(nrow(value)), 1 + seq_len(ncol(value)))
  padded[inner[[1]], inner[[2]]] <- value
  around <- do.call(pmax, lapply(list(c(1, 0), c(-1, 0), c(0, 1), c(0, -1)), function(step) {
    padded[inner[[1]] + step[1], inner[[2]] + step[2]]
  }))
  peaks <- which(value >= around & is.finite(value))
  if (!length(peaks)) return(thetas[[3]][1])
  peaks <- utils::head(peaks[order(-value[peaks])], 3)
  lapply(peaks, function(peak) {
    thetas[[(peak - 1) %/% length(noises) + 1]][[(peak - 1) %% length(noises) + 1]]
  })
}
