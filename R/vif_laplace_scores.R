# Scores of predictions of non-Gaussian responses.

# Log scores log p(y) of new responses, and for binary ones Brier scores, from predictions of the linear predictor.
laplace_scores <- function(object, y, link, se, w = rep(1, length(y))) {
  family <- laplace_family(object$family)
  phi <- all_phi(family, object$phi)
  change <- family$width(y, w, phi)
  list(log = log_expected(function(eta, i) family$value(y[i], eta, w[i], phi), link, se, change$at, change$width),
       brier = if (family$type == "shares") (y - response_moments(family, link, se, w, phi)$fit)^2)
}

# The scores that vif_cv() shows. `p` has the linear predictors `link` and their standard errors `se`.
family_scores <- function(object, y, w, p, level) {
  family <- laplace_family(object$family)
  # those of counts are powers of the density, which leave an observation as it is
  if (family$type == "counts") w <- rep(1, length(y))
  of_each <- laplace_scores(object, y, p$link, p$se, w)
  mean_response <- laplace_summary(object, p$link, p$se, "response", "none", level, w)$fit
  if (!is.null(of_each$brier)) {
    return(c(log = -mean(of_each$log), brier = mean(of_each$brier), auc = area_under_curve(y, mean_response, w)))
  }
  limits <- laplace_summary(object, p$link, p$se, "response", "prediction", level, w)
  error <- y - mean_response
  outside <- pmax(limits$lwr - y, 0) + pmax(y - limits$upr, 0)
  c(rmse = sqrt(mean(error^2)), mae = mean(abs(error)),
    crps = mean(ranked_score(y, family, p$link, p$se, w, all_phi(family, object$phi))),
    interval = mean(limits$upr - limits$lwr + 2 / (1 - level) * outside), coverage = mean(outside == 0),
    log = -mean(of_each$log))
}

# Probability that a success has a larger prediction than a failure, ties by halves: y shares of w trials.
area_under_curve <- function(y, predicted, w) {
  positive <- rowsum(w * y, predicted) # by values, ascending
  negative <- rowsum(w * (1 - y), predicted)
  sum(positive * (cumsum(negative) - negative / 2)) / (sum(positive) * sum(negative))
}

# Continuous ranked probability scores E|Y - y| - E|Y - Y'| / 2, by `size` points of each predictive distribution: a
# lattice of quantiles of the linear predictor and of the response (steps of the golden ratio).
ranked_score <- function(y, family, link, se, w, phi, size = 200) {
  first <- (seq_len(size) - 0.5) / size
  second <- (seq_len(size) * (sqrt(5) - 1) / 2) %% 1
  draws <- family$quantile(rep(second, each = length(y)), outer(se, stats::qnorm(first)) + link, w, phi)
  draws <- matrix(draws, length(y))
  sorted <- matrix(draws[order(row(draws), draws)], length(y), byrow = TRUE)
  rowMeans(abs(draws - y)) - drop(sorted %*% (2 * seq_len(size) - size - 1)) / size^2
}
