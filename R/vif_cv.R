# Cross-validation: predictions of observations by fits that have not seen them.

#' Cross-validation of a fitted Gaussian process
#'
#' Predicts every observation from the others, with the covariance parameters of the fit, and scores the
#' predictions. Leave-one-out predictions are exact for the approximation and come from its factor as it is. The mean is
#' estimated again without the observations that are left out, by the fold and one by one (Dubrule, 1983); its
#' uncertainty is not part of the predictions' standard errors, as in [predict][predict.vif]. Inducing inputs are kept;
#' only observations that lose a neighbour look for new ones.
#'
#' Random folds say how well a model fills gaps between observations. Where predictions are made farther away, as in
#' maps, `blocks` leaves out whole regions: take them about as large as the gaps to be filled.
#'
#' Scores are computed for the Gaussian predictive distributions of the observations (noise included). `crps` is the
#' continuous ranked probability score, `interval` the interval score (its width, and `2 / (1 - level)` times what an
#' observation lies beyond it), both in the units of the observations, `log` minus the log density; the smaller the
#' better. `coverage` is the share of observations in their intervals, which should be `level`.
#'
#' For families other than `gaussian()` the same are those of the predictive distributions, integrated over the
#' uncertainty of the linear predictor (`crps` by 200 points of each). Weights of counts are in none of them; other
#' weights are part of the distribution of an observation. Binary responses, or shares of trials, have instead `log`,
#' the Brier score `brier` (mean squared error of the probability, each row's share of successes counting once) and
#' `auc`, the area under the receiver operating characteristic over single trials: the larger the better. The mode is
#' found again in each fold; leaving one out takes working responses as they are.
#'
#' @param fit A [vif_fit()].
#' @param folds Number of folds, by default 10, or that of the observations or blocks if that is less; or a vector with
#'   the fold of each observation; or `"loo"` to leave out one at a time.
#' @param blocks `NULL` for random folds; a number of compact blocks of equal size, cut across the inputs in units of
#'   the lengthscales, which are dealt out to the folds; or a vector with the block of each observation, such as a
#'   region.
#' @param level Probability content of the intervals.
#' @param refit Whether to estimate the covariance parameters again in each fold, by a fit as the one that is given
#'   (same seed, order and limit of iterations), from its estimates. For families other than `gaussian()` scores still
#'   take the parameters of the family, such as `size`, from the whole fit.
#' @param k Number of neighbours of predictions; `NULL` for what [predict][predict.vif] takes by default.
#' @param seed Seed of the folds. The session's random numbers are left untouched.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param ... Not used; any other argument is an error.
#' @return A list of class `"vif_cv"`: `scores`, a named vector of `rmse`, `mae`, `crps`, `interval`, `coverage` and
#'   `log` (or `log`, `brier` and `auc`); `predictions`, a data frame in the order of the data with `fold`, `observed`,
#'   `fit` and `se.obs`, for families other than `gaussian()` also the linear predictor `link` and its standard error
#'   `se.link` (after `na.action = na.exclude` with rows of `NA`); `level`; and how they were left out: the number of
#'   `folds`, the `blocks`, and whether it was one by one (`loo`) or as `given`; and `k`. `plot()` shows
#'   observations against predictions.
#' @section Errors:
#' More folds than observations (or blocks), and vectors of another length or with missing values. Folds without which
#' a coefficient of the mean cannot be estimated, such as one with all rows of a level of a factor (with `"loo"`
#' such an observation has `NA` as its prediction and is in no score, which a message of class `"vif_alone"` says).
#' @references Dubrule, O. (1983). Cross validation of kriging in a unique neighborhood. *Mathematical Geology* 15(6).
#'
#'   Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and estimation.
#'   *Journal of the American Statistical Association* 102(477).
#'
#'   Roberts, D. R. et al. (2017). Cross-validation strategies for data with temporal, spatial, hierarchical, or
#'   phylogenetic structure. *Ecography* 40(8).
#' @examples
#' set.seed(1)
#' x <- cbind(runif(300), runif(300))
#' y <- sin(6 * x[, 1]) * cos(5 * x[, 2]) + rnorm(300, sd = 0.1)
#' fit <- vif_fit(y, x, X = 1, inducing = 30, k = 10, progress = FALSE)
#' vif_cv(fit)
#' vif_cv(fit, blocks = 20)
#' vif_cv(fit, folds = "loo")
#' @export
vif_cv <- function(fit, folds = min(10, fit$n), blocks = NULL, level = 0.95, refit = FALSE, k = NULL, seed = 1,
                   threads = NULL, ...) {
  check_dots(..., hint = cv_hints)
  fit <- whole_fit(check_fit(fit, "fit"), threads)
  level <- check_number(level, "level", "a number between 0 and 1", function(p) p > 0 && p < 1)
  refit <- check_flag(refit, "refit")
  if (!is.null(k)) k <- check_whole(k, "k", 1)
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  threads <- thread_count(threads)
  asked <- !missing(folds)
  if (identical(folds, "LOO")) folds <- "loo"
  if (identical(folds, "loo")) {
    if (!is.null(blocks)) refuse("blocks", 'NULL with folds = "loo"', describe(blocks))
    if (refit) refuse("refit", 'FALSE with folds = "loo"', "TRUE")
    fold <- seq_len(fit$n)
    found <- predict_left_out(fit)
  } else {
    fold <- folds_of(fit, folds, blocks, seed, asked)
    if (refit && fit$n - max(tabulate(fold)) < 2) {
      refuse("folds", "such that two observations or more are left with refit = TRUE", "with a fold of all but one")
    }
    check_means(fit$X, fold, if (length(folds) > 1) folds else fold)
    found <- list(fit = numeric(fit$n), se = numeric(fit$n))
    for (this in unique(fold)) {
      held <- which(fold == this)
      p <- predict_held(fit, held, refit, k, threads)
      found$fit[held] <- p$fit
      found$se[held] <- p$se
    }
  }
  seen <- !is.na(found$fit)
  if (!all(seen)) tell_alone(which(!seen))
  predictions <- data.frame(fold = fold, observed = unname(fit$y), fit = found$fit, se.obs = found$se)
  if (is_laplace(fit)) {
    # in folds that are fitted again parameters of the family differ a little: the scores use those of the whole fit
    p <- data.frame(link = found$fit, se = found$se)
    predictions[c("fit", "se.obs")] <- laplace_summary(fit, p$link, p$se, "response", "none", level, fit$weights)[
      c("fit", "se.obs")]
    predictions[c("link", "se.link")] <- p
    of_fit <- family_scores(fit, predictions$observed[seen], fit$weights[seen], p[seen, ], level)
  } else {
    of_fit <- scores(predictions[seen, ], level)
  }
  structure(list(scores = of_fit, predictions = pad_excluded(predictions, fit), level = level,
                 folds = length(unique(fold)), blocks = blocks, loo = identical(folds, "loo"), k = k,
                 given = length(folds) > 1), class = "vif_cv")
}

tell_alone <- function(rows) {
  tell("alone", counted(length(rows), "observation"), " (", paste(utils::head(rows, 5), collapse = ", "),
       if (length(rows) > 5) ", ..", ") alone determine", if (length(rows) == 1) "s", " a coefficient of the mean, and the ",
       "others cannot predict what has it: NA, and in no score.")
}

# The fold of each observation; a number of folds that was not `asked` for is at most that of the blocks.
folds_of <- function(fit, folds, blocks, seed, asked) {
  n <- fit$n
  if (length(folds) > 1 || is.character(folds)) {
    check_parts(folds, "folds", "a number, \"loo\" or one fold", n)
    if (length(unique(folds)) < 2) refuse("folds", "two folds or more", "one")
    if (!is.null(blocks)) refuse("blocks", "NULL where `folds` has the fold of each observation", describe(blocks))
    return(match(folds, unique(folds)))
  }
  folds <- check_whole(folds, "folds", 2)
  if (is.null(blocks)) {
    if (folds > n) refuse("folds", paste("at most", n, "(the observations)"), folds)
    return(with_seed(seed, sample(rep_len(seq_len(folds), n))))
  }
  if (length(blocks) == 1) {
    blocks <- check_whole(blocks, "blocks", 2)
    if (blocks > n) refuse("blocks", paste("at most", n, "(the observations)"), blocks)
    x <- fitted_inputs(fit)$x
    blocks <- space_cut(in_lengthscales(x, fit$kernel), blocks)
  } else {
    check_parts(blocks, "blocks", "NULL, a number or one block", n)
  }
  blocks <- match(blocks, unique(blocks))
  count <- max(blocks)
  if (count < 2) refuse("blocks", "two blocks or more", "one")
  if (!asked) folds <- min(folds, count)
  if (folds > count) refuse("folds", paste("at most", count, "(the blocks)"), folds)
  with_seed(seed, sample(rep_len(seq_len(folds), count)))[blocks]
}

# A fold or block for each observation.
check_parts <- function(parts, arg, wanted, n) {
  wanted <- paste(wanted, "for each of", counted(n, "observation"))
  if (length(parts) != n) refuse(arg, wanted, describe(parts))
  missing <- which(is.na(parts))
  if (length(missing)) {
    rows <- paste(c(utils::head(missing, 5), if (length(missing) > 5) "..."), collapse = ", ")
    refuse(arg, paste0(wanted, ", without missing values"),
           paste0("NA for ", counted(length(missing), "observation"), " (", rows, ")"))
  }
}

# Without any fold the others must say what the mean is. `called` has the names of folds, one for each observation.
check_means <- function(X, fold, called) {
  if (is.null(X)) return(invisible())
  for (this in unique(fold)) {
    surplus <- surplus_columns(X[fold != this, , drop = FALSE])
    if (!length(surplus)) next
    refuse("folds", "such that the others can estimate the mean without any one of them", paste0(
      "with fold ", called[match(this, fold)], ", without which ", paste(surplus, collapse = ", "),
      if (length(surplus) > 1) " depend" else " depends",
      " on other columns of the mean (all rows of a level of a factor may be in that fold)"))
  }
}

# Predictions of each observation by all others: means and standard deviations of the observations, or of the linear
# predictors where the family is not gaussian().
predict_left_out <- function(fit) {
  if (is_laplace(fit)) return(stats::setNames(left_out(fit, beta = TRUE), c("fit", "se")))
  B <- contrast_matrix(fit$id, fit$state$coef)
  precision <- precision_diagonal(fit, B)
  X <- fit$X[fit$order, , drop = FALSE]
  inflation <- if (length(X)) without_beta(precision, precision_times(fit, B, X), X) else rep(1, fit$n)
  inflation[fit$order] <- inflation
  # an observation has its noise at least; the approximation may say less where sets are small beside the noise
  se <- pmax(1 / sqrt(precision), sqrt(observation_noise(fit)))
  se[fit$order] <- se
  list(fit = unname(fit$y - fit_residuals(fit, "loo") * inflation), se = se)
}

# By what residuals from all others grow where beta is estimated without the observation, too: the diagonal of S^-1 over
# that of Q = S^-1 - S^-1 X (X' S^-1 X)^-1 X' S^-1 (Dubrule, 1983), from S^-1 X. NA for an observation without
# which a coefficient cannot be estimated.
without_beta <- function(precision, solved, X) {
  share <- rowSums(solved * t(solve(crossprod(X, solved), t(solved)))) / precision
  ifelse(share < 1 - 1e-8, 1 / (1 - share), NA)
}

# The same of some observations by the others.
predict_held <- function(fit, held, refit, k, threads) {
  kept <- without(fit, held, threads)
  inputs <- fitted_inputs(fit)
  if (refit) kept <- refitted(fit, held, kept, threads)
  if (!is.null(k)) k <- min(k, kept$n)
  found <- predict_chunks(kept, some_inputs(inputs, held), k, TRUE, FALSE, 50000, threads, FALSE)
  offset <- if (is.null(fit$offset)) 0 else fit$offset[held]
  if (is_laplace(fit)) return(list(fit = found$fit + offset, se = sqrt(found$variance)))
  noise <- fit_noise(fit)[held] + kept$nugget / fit_weights(fit)[held]
  list(fit = found$fit + offset, se = sqrt(found$variance + noise))
}

cv_hints <- c(type = "folds are `folds`, and regions that are left out `blocks`")
cv_hints[c("K", "nfolds", "nfold", "v")] <- "the number of folds is `folds`"

# The fit at the same covariance parameters without some of the observations.
without <- function(fit, held, threads) {
  stays <- !seq_len(fit$n) %in% held
  ordered <- stays[fit$order] # by row of gp$x
  gp <- fit$gp
  gp$x <- gp$x[ordered, , drop = FALSE]
  gp$V <- gp$V[, ordered, drop = FALSE]
  gp$variance <- gp$variance[ordered]
  k <- min(ncol(fit$id), max(nrow(gp$x) - 1L, 1L)) # a single observation has a set of one, missing
  out <- fit
  out$gp <- gp
  out$n <- nrow(gp$x)
  out$k <- k
  out$order <- match(fit$order[ordered], which(stays))
  out$y <- fit$y[stays]
  out$offset <- fit$offset[stays]
  out$noise_variance <- fit$noise_variance[stays]
  out$weights <- fit$weights[stays]
  out$id <- kept_sets(fit$id, ordered, k, function(lost) fitted_neighbours(out, gp, k, queries = lost))
  out$na.action <- NULL
  out$X <- fit$X[stays, , drop = FALSE]
  if (is_laplace(fit)) {
    out$linear.predictors <- fit$linear.predictors[stays]
    out$latent_id <- if (fit$laplace == "noisy") out$id else {
      kept_sets(fit$latent_id, ordered, k, function(lost) {
        neighbours_of(gp, rep(1e-6 * gp$kernel$variance, out$n), utils::modifyList(fit$settings, list(k = k)), lost)
      })
    }
    return(laplace_without(out, threads))
  }
  basis <- mean_basis(out$X)
  response <- unname(if (is.null(out$offset)) out$y else out$y - out$offset)
  evaluation <- vif_evaluate(response[out$order], gp, out$id, observation_noise(out),
                             basis$Q[out$order, , drop = FALSE], threads)
  mean <- mean_estimates(evaluation, basis, colnames(out$X))
  out$coefficients <- mean$beta
  out$vcov <- mean$vcov
  out$loglik <- evaluation$loglik
  out$state <- kept_state(evaluation, mean$B)
  out
}

# Conditioning sets of the observations that stay (`ordered`, by row); `search` finds new ones for rows that lose a
# neighbour.
kept_sets <- function(id, ordered, k, search) {
  id <- id[ordered, , drop = FALSE]
  lost <- which(rowSums(!is.na(id) & !matrix(ordered[id], nrow(id))) > 0)
  id[] <- cumsum(ordered)[id]
  id <- id[, seq_len(k), drop = FALSE]
  if (length(lost)) id[lost, ] <- search(lost)
  id
}

# The same with parameters estimated without them, from those of the fit and as it was made.
refitted <- function(fit, held, kept, threads) {
  laplace <- is_laplace(fit)
  common <- list(
    x = fitted_inputs(fit)$x[-held, , drop = FALSE], X = kept$X, kernel = fit$kernel, inducing = fit$gp$inducing,
    k = kept$k, weights = kept$weights, order = kept$order, neighbours = fit$neighbours, jitter = fit$gp$jitter,
    seed = fit$settings$seed, iterations = fit$settings$iterations %or% 100, lengthscale = own_groups(fit),
    anisotropy = if (estimates_plane(fit$settings)) TRUE, threads = threads_or_null(threads), progress = FALSE)
  own <- if (laplace) {
    list(y = kept$y, start = list(kernel = fit$kernel, phi = fit$phi), family = fit$family, offset = kept$offset,
         laplace = fit$laplace)
  } else {
    list(y = if (is.null(kept$offset)) kept$y else kept$y - kept$offset,
         start = list(kernel = fit$kernel, nugget = fit$nugget), nugget = if (fit$nugget_fixed) fit$nugget,
         noise_variance = kept$noise_variance,
         smoothness = if (estimates_smoothness(fit$settings)) "estimate" else "fixed")
  }
  # the fit itself has told of too few neighbours, and of a process that is noise
  again <- suppressMessages(classes = "vif_white", suppressWarnings(classes = "vif_neighbours", {
    do.call("vif_fit.default", c(common, own))
  }))
  if (!laplace) again$offset <- kept$offset
  again
}

# The groups of columns that share a lengthscale, as vif_fit() takes them; NULL where it is one or one for each.
own_groups <- function(fit) {
  of <- fit$settings$groups$of
  if (is.null(of) || anyDuplicated(of) == 0) return(NULL)
  stats::setNames(split(seq_along(of), of), sub("^lengthscale\\.", "", fit$settings$groups$names))
}

scores <- function(predictions, level) {
  error <- predictions$observed - predictions$fit
  se <- predictions$se.obs
  z <- error / se
  q <- stats::qnorm((1 + level) / 2)
  c(rmse = sqrt(mean(error^2)), mae = mean(abs(error)),
    crps = mean(se * (z * (2 * stats::pnorm(z) - 1) + 2 * stats::dnorm(z) - 1 / sqrt(pi))),
    interval = mean(2 * q * se + 2 / (1 - level) * pmax(abs(error) - q * se, 0)),
    coverage = mean(abs(z) <= q), log = mean(0.5 * log(2 * pi) + log(se) + z^2 / 2))
}

#' @export
plot.vif_cv <- function(x, xlab = "predicted", ylab = "observed", ...) {
  p <- x$predictions
  graphics::plot(p$fit, p$observed, xlab = xlab, ylab = ylab, ...)
  graphics::abline(0, 1, lty = 2)
  invisible(x)
}

#' @export
print.vif_cv <- function(x, digits = 4, ...) {
  how <- if (x$loo) {
    "one observation left out at a time"
  } else {
    paste0(counted(x$folds, "fold"), if (x$given) ", as given" else if (is.null(x$blocks)) ", random" else " of blocks")
  }
  cat("<vif_cv> ", counted(sum(!is.na(x$predictions$fold)), "observation"), ", ", how,
      if (!is.null(x$k)) paste0(", predicted from k = ", counted(x$k, "neighbour")), "\n", sep = "")
  print(signif(x$scores, digits))
  if ("interval" %in% names(x$scores)) cat(sprintf("interval and coverage at level %s\n", format(x$level)))
  invisible(x)
}
