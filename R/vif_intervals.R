# Standard errors and confidence intervals: of Wald by the information, and by profiles of the likelihood
# (vif_profile.R).

#' Standard errors and confidence intervals of a fitted Gaussian process
#'
#' For the mean, the covariance matrix of the generalised least squares estimate and Wald intervals. For the covariance
#' parameters, both come from the expected (Fisher) information of their logarithms, for families other than
#' `gaussian()` from the observed one, by differences of the gradient (for each parameter twice the time of a step of
#' the fit): intervals are computed on the log scale and transformed back, so that they are positive and not symmetric;
#' `vcov()` gives variances on the natural scale by the delta method. The angle of an anisotropy (degrees) has
#' symmetric intervals; it is hardly known where the ratio is near 1, and intervals for the ratio end at 1.
#'
#' Profile intervals (`method = "profile"`) hold a parameter fixed, maximise the likelihood over all others, and end
#' where twice its logarithm has fallen by the quantile of a chi-squared variable of one degree of freedom (Pawitan,
#' 2001, section 3.4). They do not depend on the scale of a parameter and cover better where the likelihood is skewed:
#' few observations, lengthscales as long as the domain, a nugget near zero. They take some ten fits for each parameter,
#' each of a few steps, with the order, the inducing inputs and the conditioning sets of the fit: choose few by `parm`
#' where there are many observations.
#'
#' @param object A [vif_fit()].
#' @param which `"mean"` or `"covariance"`.
#' @param parm Which parameters, by name or number among those of `coef(object)`; the default is all that were
#'   estimated.
#' @param level Confidence level.
#' @param method `"wald"` for intervals from standard errors, `"profile"` for those from the profile of the likelihood.
#' @param ... Not used; any other argument is an error.
#' @return `vcov()`: a matrix with a row and a column for each estimated parameter of `which`. It belongs to
#'   `coef(object, which)`, not to `coef(object)`, which has the parameters of both, and takes those by its names where
#'   the nugget is held fixed. `confint()`: a matrix of two columns, the lower and the upper limit. Where a profile does
#'   not fall far enough within the range of the search, the limit is 0 or infinity (minus infinity for a coefficient of
#'   the mean), the end of the range for the smoothness, and `NA` for a variance of a binary response that is held, or
#'   would be, because Laplace's approximation cannot be trusted beyond.
#' @section Errors:
#' Covariance parameters where the fit holds no information matrix. Standard errors are `NA` where it is singular, and
#' for parameters at a bound and lengthscales of constant columns. What is at a bound is held there for the standard
#' errors of the others, but for the nugget of a `gaussian()` fit that has gone to zero, of which they do not take for
#' known that it is zero. Angle, ratio and the lengthscale of the plane of an estimated anisotropy have no profile
#' intervals: `NA`, and an error where they are named. A warning of class `"vif_profile"` says that a profile rises
#' above the log-likelihood of the fit.
#' @references
#' Pawitan, Y. (2001). *In All Likelihood*. Oxford University Press.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = 1, inducing = 20, k = 10)
#' vcov(fit)
#' confint(fit, "(Intercept)")
#' confint(fit, "lengthscale", method = "profile")
#' @export
confint.vif <- function(object, parm, level = 0.95, method = c("wald", "profile"), ...) {
  check_dots(...)
  method <- check_choice(method, c("wald", "profile"), "method")
  place <- if (missing(parm)) estimated_places(object) else chosen_places(object, parm)
  out <- limits_at(object, place, level, method, named = !missing(parm))
  tail <- (1 - level) / 2
  dimnames(out) <- list(names(coef.vif(object))[place],
                        paste(format(100 * c(tail, 1 - tail), trim = TRUE, digits = 3), "%"))
  out
}

# Limits of the parameters at some places of coef(object), which the user may have `named`.
limits_at <- function(object, place, level, method, named = FALSE, arg = "level") {
  level <- check_number(level, arg, "a number between 0 and 1", function(p) p > 0 && p < 1)
  if (method == "wald") wald_limits(object, place, level) else profile_limits(object, place, level, named)
}

# Places among coef(object) of the parameters that were estimated. A covariate may have the name of a covariance
# parameter: these are looked for after the coefficients of the mean.
estimated_places <- function(object) {
  all <- names(coef.vif(object)) # checks the fit
  mean <- seq_along(object$coefficients)
  free <- if (is.null(object$fisher) && !is_laplace(object)) character() else names(free_parameters(object))
  c(mean, length(mean) + match(free, all[setdiff(seq_along(all), mean)]))
}

# The same of those that a user names or numbers.
chosen_places <- function(object, parm) {
  estimated <- estimated_places(object)
  all <- names(coef.vif(object))
  place <- if (is.numeric(parm)) seq_along(all)[parm] else unlist(lapply(parm, function(name) {
    own <- which(all == name)
    if (any(own %in% estimated)) intersect(own, estimated) else c(own, NA)[1]
  }))
  if (!is.numeric(parm) && !is.character(parm) || anyNA(place)) {
    refuse("parm", paste("among", paste(all, collapse = ", ")), describe(parm))
  }
  lacking <- all[setdiff(place, estimated)]
  if (length(lacking)) {
    if (lacking[1] == "nugget" && object$nugget_fixed) {
      refuse("parm", "of estimated parameters", "the nugget, which is fixed")
    }
    need_fisher(object)
  }
  place
}

wald_limits <- function(object, place, level) {
  q <- stats::qnorm((1 + level) / 2)
  limits <- function(estimate, error) cbind(estimate - q * error, estimate + q * error)
  mean <- object$coefficients
  out <- limits(mean, sqrt(diag(object$vcov)))
  if (any(place > length(mean))) {
    estimate <- free_parameters(object)
    positive <- names(estimate) != "angle"
    at <- ifelse(positive, log(abs(estimate)), estimate)
    own <- limits(at, sqrt(diag(log_vcov(object))))
    own[positive, ] <- exp(own[positive, ])
    own[names(estimate) == "ratio", ] <- pmin(own[names(estimate) == "ratio", ], 1)
    out <- rbind(out, own)
  }
  out[match(place, estimated_places(object)), , drop = FALSE]
}

#' @rdname confint.vif
#' @export
vcov.vif <- function(object, which = c("mean", "covariance"), ...) {
  check_dots(...)
  which <- check_choice(which, c("mean", "covariance"), "which")
  check_fit(object)
  if (which == "mean") object$vcov else covariance_vcov(object)
}

# Covariance parameters that were estimated, by name.
free_parameters <- function(object) {
  all <- coefficients_of(object, "covariance")
  if (object$nugget_fixed) all[names(all) != "nugget"] else all
}

# Covariance matrix of the logarithms of the covariance parameters, and of the angle. What has run to a bound has none
# and is held there.
log_vcov <- function(object) {
  need_fisher(object)
  names <- names(free_parameters(object))
  of_phi <- length(object$phi)
  slopes <- natural_slopes(object$theta, object$settings)
  slopes <- rbind(cbind(slopes, matrix(0, nrow(slopes), of_phi)), cbind(matrix(0, of_phi, ncol(slopes)), diag(of_phi)))
  rownames(slopes)[nrow(slopes) - of_phi + seq_len(of_phi)] <- names(object$phi)
  held <- names(object$bounded)
  if ("ratio" %in% held) held <- c(held, "angle")
  free <- which(!rownames(slopes) %in% held)
  out <- matrix(NA_real_, length(names), length(names), dimnames = list(names, names))
  if (!length(free)) return(out)
  spread <- if (is_laplace(object)) laplace_vcov(whole_fit(object), free) else {
    fisher <- accurate_fisher(object)
    # a nugget that has gone to zero, where the likelihood is flat in its logarithm, is not known to be zero: what it
    # says of the others counts
    gone <- object$bounded["nugget"] %in% "lower"
    zero <- which(gone & rownames(slopes) == "nugget" & diag(fisher) < 1)
    scaled_inverse(fisher, free, zero) %or% scaled_inverse(fisher, free)
  }
  if (is.null(spread)) return(out)
  known <- rowSums(slopes[, -free, drop = FALSE] != 0) == 0
  known <- names(which(known & !is.na(known)))
  through <- slopes[known, free, drop = FALSE]
  out[known, known] <- through %*% spread %*% t(through)
  out
}

# The block of `rows` in the inverse of an information matrix of these and the `others`, NULL if that is singular.
# Scaling makes it that of any unit of the parameters, so that a nugget near zero is no matter of its logarithm.
scaled_inverse <- function(information, rows, others = integer()) {
  all <- c(rows, others)
  scale <- sqrt(pmax(diag(information)[all], 0))
  scaled <- information[all, all, drop = FALSE] / outer(scale, scale)
  inverse <- tryCatch(chol2inv(chol(scaled)), error = function(e) NULL)
  if (is.null(inverse) || !all(is.finite(inverse))) return(NULL)
  own <- seq_along(rows)
  inverse[own, own, drop = FALSE] / outer(scale[own], scale[own])
}

covariance_vcov <- function(object) {
  estimate <- free_parameters(object)
  estimate[names(estimate) == "angle"] <- 1
  log_vcov(object) * outer(estimate, estimate)
}

need_fisher <- function(object) {
  if (!is.null(object$fisher) || is_laplace(object)) return(invisible())
  stop(user_call(), "the fit holds no information matrix of its covariance parameters; fit again with this version of ",
       "the package, or compare log-likelihoods.", call. = FALSE)
}
