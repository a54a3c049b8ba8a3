# Predict: new inputs, conditioned on observations and, through them, on the inducing variables.

#' Predictions of a fitted Gaussian process
#'
#' Every new point is regressed on `k` observations; the inducing inputs add their posterior mean and variance.
#' With all observations this is the exact conditional distribution. For a fit with `neighbours = "selected"` the
#' observations are selected together, for what they say as a set of the noise-free value at the new point, as
#' [conditioning_sets()] does; candidates are the nearest of all observations (`2 k`) and those of the first quarter,
#' sixteenth and 64th in the order of the fit (`k` each), which are spread wider, in units of the lengthscales. Other
#' fits predict from the nearest by residual correlation or by distance, as they were fitted. New points are taken in
#' chunks, and nothing of the size of all of them times the number of inducing inputs is ever kept.
#'
#' A few observations are enough inside of the data. In gaps, such as those that clouds leave in satellite images, and
#' outside, more of them have something to say. By default a fit with `neighbours = "selected"` selects 5/3 of its own
#' `k` observations for each new point, 30 at least, from fewer candidates; and 30 more, 90 at least, where the nearest
#' observation is more than three times as far away as observations typically are from each other. Noisy observations
#' say little each: where the variance of the noise is above half of that of the process, 4 `k` are selected, 120 at
#' least.
#'
#' The variances take the covariance parameters as known. They also take `beta` as known, as other
#' packages do, unless `beta_uncertainty = TRUE` adds the variance of its estimate (universal kriging).
#'
#' @param object A [vif_fit()].
#' @param newdata New inputs, n* x d, whose columns are matched by name where `x` has names too; for a fit by formula
#'   a data frame with all variables of the right-hand side and of `coords`, or an sf object where the fit has one.
#'   Rows with missing values give `NA`. Missing: the observations themselves.
#' @param newX Covariates at the new inputs, n* x p, where the fit has `X` (not for a fit by formula; a constant
#'   alone need not be given).
#' @param newoffset Offsets of the new observations, one number or one for each, where a fit from matrices has an
#'   `offset`; without it predictions are for an offset of 0, with a message. A fit by formula finds them in `newdata`.
#' @param k Number of neighbours for all new points; `NULL` for the default: what is said above, and twice the `k` of
#'   the fit for fits with other neighbours.
#'   Above 200 they are the nearest, without a selection.
#' @param se.fit Whether to compute standard errors.
#' @param interval `"prediction"` adds limits for a new observation (noise by `nugget` alone),
#'   `"confidence"` for the noise-free process. A known `noise_variance` of the fit says how much its observations
#'   count, but is no part of these limits or of `se.obs`, also at the observations: add that of a new measurement to
#'   `se.obs^2`.
#' @param level Probability content of the intervals.
#' @param beta_uncertainty Whether variances include that of the estimate of `beta`.
#' @param nsim Number of joint samples of the noise-free process (by `type`) at the new inputs. They condition each
#'   new point on `k` neighbours among observations and new points before it, in maxmin order, and need
#'   memory for all new points at once; `beta` is taken as known.
#' @param seed Seed of the samples; `NULL` uses the session's random numbers.
#' @param chunk Number of new points to take at a time, those near each other together.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to report progress.
#' @param type The same for Gaussian observations. For other families `"response"` for mean responses, integrated over
#'   the uncertainty of the linear predictor, `"link"` for the linear predictor, which is normal. Limits of a new
#'   observation are quantiles of its distribution, integrated likewise.
#' @param cluster A cluster of package parallel whose workers share `newdata`, with `threads` threads each, or `NULL`;
#'   see [vecchiann_cluster]. Samples are drawn in the session.
#' @param ... Not used; any other argument is an error.
#' @return Without `se.fit` and `interval` the vector of predicted means. Otherwise a data frame of
#'   `fit`, with `se.fit` the columns `se.fit` (standard error of the noise-free process) and `se.obs`
#'   (standard deviation of a new observation, `sqrt(se.fit^2 + nugget)`), and with an interval `lwr` and
#'   `upr`. With `nsim` the attribute `"samples"`, an n* x nsim matrix, which keeps to its rows when rows of the data
#'   frame are picked. With an sf object as `newdata` an sf object with these
#'   columns.
#'
#'   Without `newdata` these are the predictions at the inputs of the observations, as with these as `newdata`, but that
#'   `se.obs` and limits of prediction have the noise that their `weights` say: each is conditioned on its own set, to which the observation at the same place belongs. (The likelihood's approximation has
#'   means and standard errors there, too, but these are not to be trusted where sets are small beside the noise.)
#' @section Rasters:
#' For a fit by formula, `coords = ~ x + y`, and a raster of package terra in the same coordinates,
#' `terra::interpolate(raster, fit)` gives the layers `fit`, `se.fit` and `se.obs`; covariates are layers of the raster
#' under their names. For an object of package stars with dimensions x and y, `predict(grid, fit)` gives the same as its
#' attributes.
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
                        beta_uncertainty = FALSE, nsim = 0, chunk = 50000, threads = NULL,
                        progress = interactive(), type = c("response", "link"), cluster = NULL, ..., seed = NULL,
                        newoffset = NULL) {
  check_dots(..., hint = c(newx = "new covariates are `newX`", n.samples = "samples are `nsim`"))
  check_fit(object)
  cluster <- check_cluster(cluster)
  if (is.null(cluster) || nsim > 0) object <- whole_fit(object, regression = nsim > 0)
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
  type <- check_choice(type, c("response", "link"), "type") # the same thing for Gaussian observations
  if (missing(newdata) && !is.null(newX)) refuse("newX", "NULL without `newdata`", describe(newX))
  if (missing(newdata) && !is.null(newoffset)) refuse("newoffset", "NULL without `newdata`", describe(newoffset))

  laplace <- is_laplace(object)
  want_variance <- se.fit || interval != "none" || laplace && type == "response"
  given <- if (missing(newdata)) fitted_inputs(object) else new_inputs(object, newdata, newX, newoffset)
  labels <- (if (missing(newdata)) names(object$y)) %or% rownames(given$x)
  if (anyDuplicated(labels)) labels <- NULL
  rows <- if (missing(newdata)) seq_len(object$n) else which(given$complete)
  new <- some_inputs(given, rows)
  found <- predict_chunks(object, new, k, want_variance, beta_uncertainty, chunk, threads, progress, cluster)
  if (!is.null(new$offset)) found$fit <- found$fit + new$offset
  out <- if (laplace) {
    w <- if (missing(newdata)) object$weights else rep(1, length(rows))
    prediction_laplace(object, found, w, type, labels, rows, nrow(given$x), se.fit, interval, level)
  } else {
    noise <- object$nugget / if (missing(newdata)) fit_weights(object) else 1
    prediction(found, labels, rows, nrow(given$x), se.fit, interval, level, noise)
  }
  if (nsim) {
    samples <- matrix(NA_real_, nrow(given$x), nsim)
    if (length(rows)) {
      samples[rows, ] <- with_seed(seed, joint_samples(object, new, k, nsim, threads)) + (new$offset %or% 0)
      if (laplace && type == "response") samples[rows, ] <- laplace_family(object$family)$mean(samples[rows, ])
    }
    attr(out, "samples") <- samples
    if (is.data.frame(out)) class(out) <- c("vif_prediction", class(out))
  }
  if (missing(newdata)) {
    pad_excluded(out, object)
  } else if (inherits(newdata, "sf")) {
    with_geometry(out, newdata)
  } else {
    out
  }
}

# Mean and variance of the noise-free process at new points without missing values, chunk by chunk.
predict_chunks <- function(object, new, k, want_variance, beta_uncertainty, chunk, threads, progress, cluster = NULL) {
  n <- nrow(new$x)
  if (!n) return(list(fit = numeric(), variance = if (want_variance) numeric()))
  if (!selects(object, k) && is.null(k)) k <- min(2L * object$k, object$n)
  if (!is.null(cluster)) {
    return(cluster_rounds(cluster, threads, in_lengthscales(new$x, object$kernel), chunk, "worker_fit",
                          list(lean_fit(object, 0), k), "worker_predict", function(rows) {
      list(new$x[rows, , drop = FALSE], new$X[rows, , drop = FALSE], want_variance, beta_uncertainty)
    }, c("fit", if (want_variance) "variance"))$answers)
  }
  chunks <- space_chunks(in_lengthscales(new$x, object$kernel), chunk)
  at_chunk <- if (selects(object, k)) selected_predictor(object, k, length(chunks) > 1, threads) else {
    nearest_predictor(object, k, threads)
  }
  done <- 0
  parts <- lapply(chunks, function(rows) {
    done <<- done + length(rows)
    if (progress && length(chunks) > 1) message(sprintf("predicting %d of %d", done, n))
    at_chunk(new$x[rows, , drop = FALSE], new$X[rows, , drop = FALSE], want_variance, beta_uncertainty)
  })
  bind_answers(parts, c("fit", if (want_variance) "variance"), order(unlist(chunks)))
}

# Among very many neighbours there is little to choose: the nearest do.
selects <- function(object, k) object$neighbours == "selected" && (is.null(k) || k <= 200)

# Names of rows, NULL where they are what rows are called without names.
row_names <- function(names) if (!identical(names, as.character(seq_along(names)))) names

# What predict() returns, from what was found for `rows` of all n rows; NA in the others.
prediction <- function(found, names, rows, n, se.fit, interval, level, nugget) {
  whole <- function(values) {
    out <- rep(NA_real_, n)
    out[rows] <- values
    out
  }
  fit <- stats::setNames(whole(found$fit), names)
  if (!se.fit && interval == "none") return(fit)
  variance <- whole(found$variance)
  se <- list(latent = sqrt(variance), observation = sqrt(variance + nugget))
  out <- data.frame(fit = unname(fit), row.names = row_names(names))
  if (se.fit) out[c("se.fit", "se.obs")] <- se
  if (interval != "none") {
    half <- stats::qnorm((1 + level) / 2) * se[[if (interval == "prediction") 2 else 1]]
    out$lwr <- unname(fit) - half
    out$upr <- unname(fit) + half
  }
  out
}

#' @export
`[.vif_prediction` <- function(x, i, j, drop) {
  samples <- attr(x, "samples")
  by_rows <- nargs() - (!missing(drop)) > 2 && !missing(i)
  attr(x, "samples") <- NULL
  class(x) <- "data.frame"
  out <- NextMethod()
  if (!is.data.frame(out)) return(out)
  if (by_rows) {
    names <- if (is.character(i)) match(i, row.names(x)) else i
    samples <- samples[names, , drop = FALSE]
  }
  structure(out, samples = samples, class = c("vif_prediction", "data.frame"))
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
    variance <- pmax(f$D - guard, 0) + .Call(C_vif_norm, state$root, W, threads)
    if (beta_uncertainty && !is.null(X)) variance <- variance + beta_variance(object, id, f$coef, W, X, threads)
    list(fit = fit, variance = variance)
  }
}

# and from selected ones. Without k points that stand in gaps get larger sets than the others.
selected_predictor <- function(object, k, many, threads) {
  gp <- object$gp
  state <- object$state
  observed <- with_features(object)
  pools <- candidate_search(gp, many, threads)
  size <- if (is.null(k)) min(default_size(object), object$n) else k
  far <- if (is.null(k)) 3 * typical_distance(gp, threads) else Inf
  predict_some <- function(x, X, k, slim, want_variance, beta_uncertainty) {
    new <- new_points(gp, x, threads)
    sets <- want_variance && beta_uncertainty && !is.null(X)
    candidates <- if (slim) pools(x, k + k %/% 5L, 10L) else pools(x, 2L * k, k)
    given <- observed(candidates, threads)
    found <- .Call(C_vif_prediction, given$gp, given$noise, given$candidates, k, NULL, new, given$centred, state$b,
                   if (want_variance) state$root, sets, threads)
    if (sets) {
      W <- .Call(C_vif_contrasts, found$id, found$coef, given$gp$V, new$V, threads)
      id <- if (is.null(given$rows)) found$id else matrix(given$rows[found$id], nrow(found$id))
      found$variance <- found$variance + beta_variance(object, id, found$coef, W, X, threads)
    }
    found[c("fit", "variance")]
  }
  function(x, X, want_variance, beta_uncertainty) {
    gap <- if (is.finite(far)) distance_to(gp, x, pools(x, 1L, 0L)[[1]][, 1]) > far else rep(FALSE, nrow(x))
    out <- list(fit = numeric(nrow(x)), variance = if (want_variance) numeric(nrow(x)))
    for (rows in Filter(length, list(which(!gap), which(gap)))) {
      wanted <- if (gap[rows[1]]) min(max(90L, size + 30L), object$n) else size
      slim <- is.null(k) && !gap[rows[1]]
      found <- predict_some(x[rows, , drop = FALSE], X[rows, , drop = FALSE], wanted, slim, want_variance,
                            beta_uncertainty)
      out$fit[rows] <- found$fit
      if (want_variance) out$variance[rows] <- found$variance
    }
    if (!is.null(X)) out$fit <- out$fit + drop(X %*% object$coefficients)
    out
  }
}

# Noisy observations say little each, and many say much.
default_size <- function(object) {
  noisy <- stats::median(observation_noise(object)) > object$gp$kernel$variance / 2
  if (noisy) max(120L, 4L * object$k) else max(30L, (5L * object$k) %/% 3L)
}

# A function that gives the observations with their features: all of them, or where the fit keeps none, those among the
# candidates, whose tables then have their numbers among `rows`.
with_features <- function(object) {
  gp <- object$gp
  noise <- observation_noise(object)
  observed <- function(gp, rows = NULL, candidates) {
    at <- if (is.null(rows)) seq_along(noise) else rows
    list(gp = gp, noise = noise[at], candidates = candidates, rows = rows,
         centred = object$state$residual[at] - drop(crossprod(object$state$b, gp$V)))
  }
  if (!is.null(gp$V)) {
    all <- observed(gp, NULL, NULL)
    return(function(candidates, threads) {
      all$candidates <- candidates
      all
    })
  }
  attr(gp$x, "centre") <- .Call(C_points_centre, gp$x, gp$kernel)
  function(candidates, threads) {
    rows <- sort(unique(unlist(candidates)))
    some <- new_residual_gp(points_of(gp$x, rows), gp$kernel, gp$inducing, gp$nugget, gp$jitter, threads)
    observed(some, rows, lapply(candidates, function(table) matrix(match(table, rows), nrow(table))))
  }
}

# What the estimate of beta adds to the variances.
beta_variance <- function(object, id, coef, W, X, threads) {
  left <- .Call(C_vif_contrasts, id, coef, t(object$X[object$order, , drop = FALSE]), t(X), threads) -
    crossprod(object$state$B, W)
  colSums(left * (object$vcov %*% left))
}

# A function that finds candidates for new points: the `near` nearest among all rows of x, and the `spread` nearest
# among the first quarter, sixteenth and 64th of them.
candidate_search <- function(gp, many, threads) {
  n <- nrow(gp$x)
  processes <- lapply(Filter(function(rows) rows > 0, n %/% c(1, 4, 16, 64)), function(rows) {
    process <- euclidean_process(list(x = gp$x[seq_len(rows), , drop = FALSE], kernel = gp$kernel), threads)
    list(rows = rows, gp = process, tree = if (many && rows > 1000) cover_tree(process, threads_or_null(threads)))
  })
  function(x, near, spread) {
    tables <- lapply(seq_along(processes), function(level) {
      process <- processes[[level]]
      width <- if (level == 1) min(near, n) else spread
      if (width == 0 || (process$rows < 2 * width && level > 1)) return(NULL)
      method <- if (min(nrow(x), process$rows) > 1000) "level" else "auto"
      nearest_ids(process$gp, width, process$tree, new = plain_points(x), method = method, threads = threads)
    })
    Filter(Negate(is.null), tables)
  }
}

distance_to <- function(gp, x, rows) {
  sqrt(rowSums(in_lengthscales(x - gp$x[rows, , drop = FALSE], gp$kernel)^2))
}

# The median distance of a row of x from the nearest other one that is not a copy, by a sample.
typical_distance <- function(gp, threads) {
  pairs <- nearest_of_some(gp$x, gp$kernel, 1000, threads)
  if (is.null(pairs)) return(Inf)
  stats::median(distance_to(gp, gp$x[pairs$from, , drop = FALSE], pairs$to))
}

# Rows of at most so many distinct points, evenly spaced, and of the nearest other place; NULL for a single place.
nearest_of_some <- function(x, kernel, most, threads) {
  pairs <- nearest_of_rows(x, NULL, kernel, most, threads)
  apart <- rowSums(x[pairs$from, , drop = FALSE] != x[pairs$to, , drop = FALSE]) > 0
  if (all(apart)) pairs else nearest_of_rows(x, distinct_rows(x), kernel, most, threads)
}

# The same of some rows, which are taken for distinct, NULL for all.
nearest_of_rows <- function(x, rows, kernel, most, threads) {
  if (!is.null(rows)) x <- x[rows, , drop = FALSE]
  count <- nrow(x)
  if (count < 2) return(NULL)
  queries <- unique(round(seq(1, count, length.out = min(count, most))))
  process <- euclidean_process(list(x = x, kernel = kernel), threads)
  near <- nearest_ids(process, 1L, queries = as.integer(queries), threads = threads)
  list(from = if (is.null(rows)) queries else rows[queries], to = if (is.null(rows)) drop(near) else rows[near])
}

# In the order of gp$x.
observation_noise <- function(object) {
  (object$nugget / fit_weights(object) + fit_noise(object))[object$order]
}
