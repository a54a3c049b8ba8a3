# Responses of the families: what they are given as, and what is guessed from them before a fit.

# Responses and weights as the family takes them, or an error that says what it takes.
family_response <- function(family, y, weights, n) {
  weights <- check_weights(weights, n)
  if (family$type == "shares") return(binomial_response(y, weights, n))
  y <- check_response(y, n, "x")
  if (!is.null(family$support)) {
    inside <- family$support(y)
    at <- which(inside$bad)
    if (length(at)) refuse("y", inside$wanted, sprintf("%s (position %d)", format(y[[at[1]]]), at[1]))
  }
  if (!isTRUE(family$constant) && length(y) > 1 && stats::var(y) == 0) refuse("y", "varying", "constant")
  list(y = unname(y), w = weights)
}

binomial_response <- function(y, weights, n) {
  wanted <- "0 or 1, logical, a factor, shares with `weights` trials, or two columns of successes and failures"
  if (is.matrix(y) && ncol(y) == 2 && is.numeric(y)) {
    if (nrow(y) != n) refuse("y", paste("of", counted(n, "row")), paste("of", nrow(y)))
    if (anyNA(y) || any(y < 0 | y != round(y))) refuse("y", "of whole counts of at least 0", "other numbers")
    w <- rowSums(y)
    if (any(w == 0)) refuse("y", "of one trial or more in every row", sprintf("none in row %d", which(w == 0)[1]))
    trials <- check_trials(unname(w) * weights, y[, 1] * weights, weights,
                           "such that the counts of every row, times its weight, are whole")
    return(both_sides(list(y = unname(y[, 1] / w), w = trials)))
  }
  if (is.factor(y)) y <- as.integer(y) > 1 | ifelse(is.na(y), NA, FALSE)
  if (is.logical(y)) y <- stats::setNames(as.double(y), names(y))
  y <- check_response(y, n, "x")
  bad <- which(y < 0 | y > 1)
  if (length(bad)) refuse("y", wanted, sprintf("%s (position %d)", format(y[[bad[1]]]), bad[1]))
  trials <- check_trials(weights, 0, weights, "whole numbers of trials for family binomial()")
  bad <- which(is_broken(y * weights))
  if (length(bad)) {
    refuse("y", paste0(wanted, " (y * weights is a count)"), sprintf("%s (position %d)", format(y[[bad[1]]]), bad[1]))
  }
  both_sides(list(y = unname(y), w = trials))
}

# Numbers of trials, which are whole but for rounding, as successes among them are.
check_trials <- function(trials, successes, weights, wanted) {
  bad <- which(trials < 0.5 | is_broken(trials) | is_broken(successes))
  if (length(bad)) refuse("weights", wanted, sprintf("%s (position %d)", format(weights[[bad[1]]]), bad[1]))
  round(trials)
}

is_broken <- function(count) abs(count - round(count)) > 1e-6

both_sides <- function(response) {
  if (all(response$y == 0) || all(response$y == 1)) {
    refuse("y", "of both outcomes", paste("all", if (response$y[1] == 0) "failures" else "successes"))
  }
  response
}

# A linear predictor near each response, for starts. Of responses that may lie anywhere the gross outliers, those
# further from a robust line than ten times the median of such distances, are drawn in to there: a start that follows
# them would have a process of enormous variance.
family_guess <- function(family, data) {
  guess <- family$guess(data$y, data$w)
  if (family$type != "continuous") return(guess)
  rest <- guess - data$offset
  line <- robust_line(rest, data$X)
  error <- rest - line
  middle <- stats::median(error)
  far <- 10 * stats::mad(error, middle)
  out <- far > 0 & abs(error - middle) > far
  guess[out] <- (data$offset + line + middle + far * sign(error - middle))[out]
  guess
}

# Fitted values of the regression of y on X with the smallest sum of absolute errors, nearly, by iterated weights;
# without X the mean is zero.
robust_line <- function(y, X, rounds = 30) {
  if (is.null(X)) return(numeric(length(y)))
  fit <- drop(X %*% qr.coef(qr(X), y))
  for (round in seq_len(rounds)) {
    error <- abs(y - fit)
    weight <- 1 / pmax(error, 1e-3 * stats::median(error), 1e-12 * max(error), .Machine$double.xmin)
    weight <- weight / max(weight)
    beta <- tryCatch(solve(crossprod(X, weight * X), crossprod(X, weight * y)), error = function(e) NULL)
    if (is.null(beta)) break
    last <- fit
    fit <- drop(X %*% beta)
    if (max(abs(fit - last)) <= 0.01 * stats::median(error)) break
  }
  fit
}

# Parameters of phi near the truth, and what the spread of the responses says of their units.
family_start <- function(family, data) {
  if (is.null(family$scaled_start)) return(family$start)
  family$scaled_start(family$start, family_guess(family, data), stats::median(data$w))
}
