# Predict: new inputs, conditioned on observations and, through them, on the inducing variables.

#' Predictions of a fitted Gaussian process
#'
#' Every new point is regressed on `k` observations; the inducing inputs add their posterior mean and variance.
#' With all observations this is the exact conditional distribution. For a fit with `neighbours = "selected"` the
#' observations are selected together, for what they say as a set of the noise-free value at the new point, as
#' [conditioning_sets()] does; candidates are the nearest of all observations (`2 k`) and those of the first quarter,
#' sixteenth and 64th in the order of the fit (`k` each), which are spread wider, in units of the lengthscales. Other fits
#' predict from the nearest by residual correlation or by distance, as they were fitted. New points are taken in
#' chunks, and nothing of the size of all of them times the number of inducing inputs is ever kept.
#'
#' A few observations are enough inside of the data. In gaps, such as those that clouds leave in satellite images, and
#' outside, more of them have something to say. By default a fit with `neighbours = "selected"` selects 5/3 of its own `k`
#' observations for each new point, 30 at least, from fewer candidates; and 30 more, 90 at least, where the nearest
#' observation is more than three times as far away as observations typically are from each other.
#'
#' The variances take the covariance parameters as known. They also take `beta` as known, as other
#' packages do, unless `beta_uncertainty = TRUE` adds the variance of its estimate (universal kriging).
#'
#' @param object A [vif_fit()].
#' @param newdata New inputs, n* x d; for a fit by formula a data frame with all variables of the
#'   right-hand side and of `coords`. Missing: the inputs of the fit.
#' @param newX Covariates at the new inputs, n* x p, where the fit has `X` (not for a fit by formula).
#' @param k Number of neighbours for all new points; `NULL` for the default: what is said above, and twice the `k` of the
#'   fit for fits with other neighbours.
#' @param se.fit Whether to compute standard errors.
#' @param interval `"prediction"` adds limits for a new observation (noise by `nugget` alone),
#'   `"confidence"` for the noise-free process.
#' @param level Probability content of the intervals.
#' @param beta_uncertainty Whether variances include that of the estimate of `beta`.
#' @param nsim Number of joint samples of the noise-free process at the new inputs. They condition each
#'   new point on `k` neighbours among observations and new points before it, in maxmin order, and need
#'   memory for all new points at once; `beta` is taken as known.
#' @param seed Seed of the samples; `NULL` uses the session's random numbers.
#' @param chunk Number of new points to take at a time.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to report progress.
#' @param ... Not used.
#' @return Without `se.fit` and `interval` the vector of predicted means. Otherwise a data frame of
#'   `fit`, with `se.fit` the columns `se.fit` (standard error of the noise-free process) and `se.obs`
#'   (standard deviation of a new observation, `sqrt(se.fit^2 + nugget)`), and with an interval `lwr` and
#'   `upr`. With `nsim` the attribute `"samples"`, an n* x nsim matrix.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes, section on prediction. \doi{10.48550/arXiv.2507.05064}.
#' @examples
#' set.seed(1)
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10, progress = FALSE)
#' new <- seq(0, 1, length.out = 50)
#' p <- predict(fit, new, interval = "prediction")
#' head(p)
#' matplot(new, p[c("fit", "lwr", "upr")], type = "l", lty = c(1, 2, 2), col = 1)
#' points(x, fit$y, pch = 20, col = "grey")
#' @export
predict.vif <- function(object, newdata, newX = NULL, k = NULL, se.fit = TRUE,
                        interval = c("none", "prediction", "confidence"), level = 0.95,
                        beta_uncertainty = FALSE, nsim = 0, seed = NULL, chunk = 50000,
                        threads = NULL, progress = interactive(), ...) {
  if (!is.null(k)) k <- min(check_whole(k, "k", 1), object$n)
  se.fit <- check_flag(se.fit, "se.fit")
  interval <- check_choice(interval, c("none", "prediction", "confidence"), "interval")
  level <- check_number(level, "level", "a number between 0 and 1", function(p) p > 0 && p < 1)
  beta_uncertainty <- check_flag(beta_uncertainty, "beta_uncertainty")
  nsim <- check_whole(nsim, "nsim", 0)
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  chunk <- check_whole(chunk, "chunk", 1)
  threads <- thread_count(threads)
  progress <- check_flag(progress, "progress")
  new <- if (missing(newdata)) fitted_inputs(object) else new_inputs(object, newdata, newX)

  n <- nrow(new$x)
  starts <- seq(1, n, by = chunk)
  object$gp <- fitted_gp(object, threads)
  at_chunk <- if (object$neighbours == "selected") selected_predictor(object, k, length(starts) > 1, threads) else {
    nearest_predictor(object, if (is.null(k)) min(2L * object$k, object$n) else k, threads)
  }
  parts <- lapply(starts, function(first) {
    rows <- first:min(first + chunk - 1, n)
    if (progress && length(starts) > 1) message(sprintf("predicting %d of %d", max(rows), n))
    at_chunk(new$x[rows, , drop = FALSE], new$X[rows, , drop = FALSE], se.fit || interval != "none", beta_uncertainty)
  })
  names <- rownames(new$x)
  fit <- stats::setNames(unlist(lapply(parts, `[[`, "fit")), names)
  out <- fit
  if (se.fit || interval != "none") {
    variance <- unlist(lapply(parts, `[[`, "variance"))
    se <- list(latent = sqrt(variance), observation = sqrt(variance + object$nugget))
    out <- data.frame(fit = fit, row.names = names)
    if (se.fit) out[c("se.fit", "se.obs")] <- se
    if (interval != "none") {
      half <- stats::qnorm((1 + level) / 2) * se[[if (interval == "prediction") 2 else 1]]
      out$lwr <- unname(fit) - half
      out$upr <- unname(fit) + half
    }
  }
  if (nsim) {
    attr(out, "samples") <- with_seed(seed, joint_samples(object, new, k, nsim, threads))
  }
  out
}

fitted_inputs <- function(object) {
  back <- order(object$order)
  list(x = object$gp$x[back, , drop = FALSE], X = object$X)
}

new_inputs <- function(object, newdata, newX) {
  if (is.null(object$formula)) {
    x <- check_points(newdata, "newdata", ncol(object$gp$x))
    if (is.null(object$X)) {
      if (!is.null(newX)) refuse("newX", "NULL, as the fit has no covariates", describe(newX))
      return(list(x = x, X = NULL))
    }
    if (is.null(newX)) {
      refuse("newX", paste("given, with the", counted(ncol(object$X), "column"), "of `X`"), "missing")
    }
    # a vector is one covariate, or the covariates of one point
    if (is.null(dim(newX)) && nrow(x) == 1) newX <- matrix(newX, 1)
    newX <- check_points(newX, "newX")
    if (nrow(newX) != nrow(x) || ncol(newX) != ncol(object$X)) {
      refuse("newX", sprintf("%d x %d", nrow(x), ncol(object$X)), paste(dim(newX), collapse = " x "))
    }
    return(list(x = x, X = newX))
  }
  if (!is.data.frame(newdata)) refuse("newdata", "a data frame, as the fit has a formula", describe(newdata))
  if (!is.null(newX)) refuse("newX", "NULL, as the fit has a formula", describe(newX))
  absent <- setdiff(c(all.vars(object$coords), all.vars(object$terms)),
                    c(names(newdata), ls(environment(object$formula))))
  if (length(absent)) {
    refuse("newdata", paste("with column", absent[1]), paste("one of", paste(names(newdata), collapse = ", ")))
  }
  frame <- stats::model.frame(object$terms, newdata, na.action = stats::na.pass, xlev = object$xlevels)
  X <- stats::model.matrix(object$terms, frame, contrasts.arg = object$contrasts)
  inputs <- stats::model.frame(object$coords_terms, newdata, na.action = stats::na.pass)
  list(x = check_points(coordinates(object$coords, inputs), "newdata"),
       X = if (ncol(X)) check_points(X, "newdata"))
}

# The residual process of a fit, whose features are made again where they were left out to save memory.
fitted_gp <- function(object, threads) {
  gp <- object$gp
  if (!is.null(gp$V)) return(gp)
  new_residual_gp(gp$x, gp$kernel, gp$inducing, gp$nugget, gp$jitter, threads)
}

# Functions of a few new points that give means, and variances of the noise-free process: from the nearest observations,
nearest_predictor <- function(object, k, threads) {
  gp <- object$gp
  state <- object$state
  searched <- searched_process(object$neighbours, gp)
  noise <- observation_noise(object)
  # Noise of the size of the variance keeps the child's own pivot away from zero; it is taken off again.
  guard <- gp$kernel$variance
  function(x, X, want_variance, beta_uncertainty) {
    nn <- residual_knn(searched, k, newdata = x, threads = threads_or_null(threads), progress = FALSE)
    id <- unname(nn$id)
    new <- new_points(gp, x, threads)
    f <- .Call(C_vif_regression, gp, noise, id, new, rep(guard, nrow(x)), threads)
    contrast <- function(parents, children) .Call(C_vif_contrasts, id, f$coef, parents, children, threads)
    none <- matrix(0, 1, nrow(x))
    W <- contrast(gp$V, new$V)
    fit <- -drop(contrast(rbind(state$residual), none)) + drop(crossprod(W, state$b))
    if (!is.null(X)) fit <- fit + drop(X %*% object$coefficients)
    if (!want_variance) return(list(fit = fit))
    variance <- pmax(f$D - guard, 0) + .Call(C_vif_norms, state$root, W, threads)
    if (beta_uncertainty && !is.null(X)) variance <- variance + beta_variance(object, id, f$coef, W, X, threads)
    list(fit = fit, variance = variance)
  }
}

# and from selected ones. Without k points that stand in gaps get larger sets than the others.
selected_predictor <- function(object, k, many, threads) {
  gp <- object$gp
  state <- object$state
  noise <- observation_noise(object)
  centred <- state$residual - drop(crossprod(state$b, gp$V))
  pools <- candidate_search(gp, many, threads)
  size <- if (is.null(k)) min(max(30L, (5L * object$k) %/% 3L), object$n) else k
  far <- if (is.null(k)) 3 * typical_distance(gp, threads) else Inf
  predict_some <- function(x, X, k, slim, want_variance, beta_uncertainty) {
    new <- new_points(gp, x, threads)
    sets <- want_variance && beta_uncertainty && !is.null(X)
    candidates <- if (slim) pools(x, k + k %/% 5L, 10L) else pools(x, 2L * k, k)
    found <- .Call(C_vif_prediction, gp, noise, candidates, k, NULL, new, centred, state$b,
                   if (want_variance) state$root, sets, threads)
    if (sets) {
      W <- .Call(C_vif_contrasts, found$id, found$coef, gp$V, new$V, threads)
      found$variance <- found$variance + beta_variance(object, found$id, found$coef, W, X, threads)
    }
    found[c("fit", "variance")]
  }
  function(x, X, want_variance, beta_uncertainty) {
    gap <- if (is.finite(far)) distance_to(gp, x, pools(x, 1L, 0L)[[1]][, 1]) > far else rep(FALSE, nrow(x))
    out <- list(fit = numeric(nrow(x)), variance = if (want_variance) numeric(nrow(x)))
    for (rows in Filter(length, list(which(!gap), which(gap)))) {
      wanted <- if (gap[rows[1]]) min(max(90L, size + 30L), object$n) else size
      slim <- is.null(k) && !gap[rows[1]]
      found <- predict_some(x[rows, , drop = FALSE], X[rows, , drop = FALSE], wanted, slim, want_variance, beta_uncertainty)
      out$fit[rows] <- found$fit
      if (want_variance) out$variance[rows] <- found$variance
    }
    if (!is.null(X)) out$fit <- out$fit + drop(X %*% object$coefficients)
    out
  }
}

# What the estimate of beta adds to the variances.
beta_variance <- function(object, id, coef, W, X, threads) {
  left <- .Call(C_vif_contrasts, id, coef, t(object$X[object$order, , drop = FALSE]), t(X), threads) -
    crossprod(object$state$B, W)
  colSums(left * (object$vcov %*% left))
}

# A function that finds candidates for new points: the `near` nearest among all rows of x, and the `spread` nearest among
# the first quarter, sixteenth and 64th of them.
candidate_search <- function(gp, many, threads) {
  n <- nrow(gp$x)
  processes <- lapply(n %/% c(1, 4, 16, 64), function(rows) {
    process <- euclidean_process(list(x = gp$x[seq_len(rows), , drop = FALSE], kernel = gp$kernel), threads)
    list(rows = rows, gp = process, tree = if (many && rows > 1000) cover_tree(process, threads_or_null(threads)))
  })
  function(x, near, spread) {
    tables <- lapply(seq_along(processes), function(level) {
      process <- processes[[level]]
      width <- if (level == 1) min(near, n) else spread
      if (width == 0 || (process$rows < 2 * width && level > 1)) return(NULL)
      .Call(C_residual_knn, process$gp, process$tree, width, NULL, plain_points(x), FALSE, "auto", Inf, threads, FALSE)$id
    })
    Filter(Negate(is.null), tables)
  }
}

distance_to <- function(gp, x, rows) {
  lengthscale <- rep(gp$kernel$lengthscale, length.out = ncol(x))
  sqrt(colSums(((t(x) - t(gp$x[rows, , drop = FALSE])) / lengthscale)^2))
}

# The median distance of a row of x from the nearest other one that is not a copy, by a sample.
typical_distance <- function(gp, threads) {
  distinct <- distinct_rows(gp$x)
  if (length(distinct) < 2) return(Inf)
  x <- gp$x[distinct, , drop = FALSE]
  queries <- unique(round(seq(1, nrow(x), length.out = min(nrow(x), 1000))))
  process <- euclidean_process(list(x = x, kernel = gp$kernel), threads)
  nn <- .Call(C_residual_knn, process, NULL, 1L, as.integer(queries), NULL, FALSE, "auto", Inf, threads, FALSE)$id
  stats::median(distance_to(gp, x[queries, , drop = FALSE], distinct[nn]))
}

# In the order of gp$x.
observation_noise <- function(object) {
  extra <- if (is.null(object$noise_variance)) 0 else object$noise_variance[object$order]
  rep_len(object$nugget + extra, object$n)
}

# Samples of the noise-free process given the observations: the inducing variables from their posterior,
# then one new point after the other given its neighbours. Copies of a point share its sample.
joint_samples <- function(object, new, k, nsim, threads) {
  gp <- object$gp
  n <- object$n
  group <- row_groups(new$x)
  x <- new$x[!duplicated(group), , drop = FALSE]
  order <- order_maxmin(sweep(x, 2, object$kernel$lengthscale, `/`))
  place <- match(group, group[!duplicated(group)][order])
  x <- x[order, , drop = FALSE]
  count <- nrow(x)

  both <- new_residual_gp(rbind(gp$x, x), gp$kernel, gp$inducing, 0, gp$jitter, threads)
  # a hundred-millionth of the variance as noise keeps close new points apart
  slack <- rep(1e-8 * gp$kernel$variance, count)
  noise <- c(observation_noise(object), slack)
  selected <- object$neighbours == "selected"
  if (is.null(k)) k <- if (selected) max(30L, (5L * object$k) %/% 3L) else 2L * object$k
  k <- min(k, nrow(both$x) - 1L)
  nn <- residual_knn(searched_process(object$neighbours, both), k * if (selected) 4 else 1, predecessors = TRUE,
                     queries = n + seq_len(count), threads = threads_or_null(threads), progress = FALSE)
  if (selected) {
    nn <- conditioning_sets(both, k, noise, pool = nn, queries = n + seq_len(count), threads = threads_or_null(threads),
                            progress = FALSE)
  }
  id <- unname(nn$id)
  own <- list(x = x, V = both$V[, -seq_len(n), drop = FALSE], variance = both$variance[-seq_len(n)])
  f <- .Call(C_vif_regression, both, noise, id, own, slack, threads)
  W <- .Call(C_vif_contrasts, id, f$coef, both$V, own$V, threads)
  observed <- new_id <- id
  observed[id > n] <- NA
  new_id[id <= n] <- NA
  known <- -.Call(C_vif_contrasts, observed, f$coef, rbind(object$state$residual),
                  matrix(0, 1, count), threads)
  B <- methods::as(contrast_matrix(new_id - n, f$coef), "triangularMatrix")

  m <- length(object$state$b)
  z <- matrix(stats::rnorm(m * nsim), m, nsim)
  if (m) z <- object$state$b + backsolve(object$state$root, z, upper.tri = FALSE, transpose = TRUE)
  noise <- sqrt(f$D) * matrix(stats::rnorm(count * nsim), count, nsim)
  samples <- as.matrix(Matrix::solve(B, drop(known) + crossprod(W, z) + noise))
  samples <- samples[place, , drop = FALSE]
  if (!is.null(new$X)) samples <- samples + drop(new$X %*% object$coefficients)
  unname(samples)
}

# The same number for the same row.
row_groups <- function(x) {
  columns <- lapply(seq_len(ncol(x)), function(j) x[, j])
  rank <- do.call(order, c(columns, method = "radix"))
  differs <- lapply(columns, function(column) diff(column[rank]) != 0)
  group <- integer(nrow(x))
  group[rank] <- cumsum(c(TRUE, Reduce(`|`, differs)))
  group
}
