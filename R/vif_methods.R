# Print, summary and parameters of fitted models.

#' @export
print.vif <- function(x, digits = 4, ...) {
  check_fit(x, "x")
  print_head(x)
  cat("kernel: ", format(named_kernel(x)), "\n", sep = "")
  if (is_laplace(x)) print_family(x, digits) else {
    cat("nugget: ", format(x$nugget, digits = digits), if (x$nugget_fixed) " (fixed)",
        if (!is.null(x$noise_variance)) ", beside known noise variances", "\n", sep = "")
  }
  cat("mean: ", describe_mean(x, digits), "\n", sep = "")
  print_foot(x, digits)
  invisible(x)
}

print_head <- function(x) {
  cat("<vif> ", counted(x$n, "observation"), ", ", counted(nrow(x$gp$inducing), "inducing input"), ", k = ",
      x$k, if (x$neighbours == "euclidean") " Euclidean neighbours", "\n", sep = "")
  if (length(x$na.action)) cat("(", counted(length(x$na.action), "row"), " with missing values left out)\n", sep = "")
}

print_foot <- function(x, digits) {
  stuck <- length(x$bounded)
  error <- loglik_error(x)
  cat("log-likelihood: ", format(x$loglik, nsmall = 2, digits = digits + 4),
      if (error > 0) paste0(" (standard error ", format(error, digits = 2), ")"), " (df = ", x$df,
      if (stuck) paste0(", of them ", stuck, " ", bounds_title(x)), "), ",
      if (x$converged) x$message else paste0("NOT CONVERGED: ", x$message), " after ",
      counted(x$iterations, "iteration"), "\n", sep = "")
  if (stuck) cat(bounds_title(x), ": ", describe_bounds(x), "\n", sep = "")
  long <- long_columns(x)
  if (length(long)) {
    cat("lengthscales of more than 20 times the range: ", paste(long, collapse = ", "),
        " (little effect, or a smooth trend)\n", sep = "")
  }
}

describe_mean <- function(x, digits) {
  given <- if (!length(x$coefficients)) {
    "zero"
  } else {
    paste(names(x$coefficients), format_each(x$coefficients, digits), sep = " = ", collapse = ", ")
  }
  if (is_constant_mean(x$X)) given <- paste0("constant, ", given)
  paste0(given, if (!is.null(x$offset)) ", beside an offset")
}

# The kernel with the names of the inputs at its lengthscales.
named_kernel <- function(object) {
  kernel <- object$kernel
  columns <- colnames(object$gp$x)
  if (length(kernel$lengthscale) > 1 && length(columns) == length(kernel$lengthscale)) {
    names(kernel$lengthscale) <- columns
  }
  kernel
}

#' Summary of a fitted Gaussian process
#'
#' @param object A [vif_fit()].
#' @param check `TRUE` also evaluates the log-likelihood, at the estimates, with twice as many neighbours. If it moves
#'   by much more than the differences that you compare (1 or 2 between models), fit again with a larger `k`. It takes
#'   about as long as four iterations of the fit.
#' @param ... Not used; any other argument is an error.
#' @return A list of class `"summary.vif"`: `coefficients` (estimates, standard errors, z and p values
#'   of the mean), `covariance` (estimates and standard errors of the covariance parameters), `aic`, `residuals`
#'   (quantiles of the standardised leave-one-out residuals, or of the quantile residuals of another family than
#'   `gaussian()`), `refined` (the log-likelihood with 2k neighbours, if it
#'   was asked for) and `fit`.
#' @examples
#' x <- runif(200)
#' summary(vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = 1, inducing = 20, k = 10), check = TRUE)
#' @export
summary.vif <- function(object, check = FALSE, ...) {
  check_dots(...)
  check <- check_flag(check, "check")
  object <- whole_fit(check_fit(object))
  if (check && is_laplace(object)) refuse("check", "FALSE for a family other than gaussian()", "TRUE")
  estimate <- object$coefficients
  error <- sqrt(diag(object$vcov))
  z <- estimate / error
  table <- cbind(Estimate = estimate, "Std. Error" = error, "z value" = z,
                 "Pr(>|z|)" = 2 * stats::pnorm(-abs(z)))
  structure(list(fit = object, coefficients = table, covariance = covariance_table(object), aic = stats::AIC(object),
                 residuals = stats::quantile(if (!is_laplace(object)) fit_residuals(object, "standardised") else {
                   residuals_laplace(object, "quantile", seed = 1)
                 }),
                 refined = if (check) refined_loglik(object, 2L * object$k)),
            class = "summary.vif")
}

covariance_table <- function(object) {
  estimate <- coefficients_of(object, "covariance")
  error <- stats::setNames(rep(NA_real_, length(estimate)), names(estimate))
  if (!is.null(object$fisher) || is_laplace(object)) {
    known <- sqrt(diag(covariance_vcov(object)))
    error[names(known)] <- known
  }
  cbind(Estimate = estimate, "Std. Error" = error)
}

# Whether parameters that were estimated, and are not at a bound, have no standard errors for want of information.
lacks_errors <- function(x) {
  fit <- x$fit
  if (is.null(fit$fisher) && !is_laplace(fit)) return(FALSE)
  free <- setdiff(names(free_parameters(fit)), c(names(fit$bounded), "angle", "ratio"))
  length(free) > 0 && all(is.na(x$covariance[free, 2]))
}

# The log-likelihood of a fit with another number of neighbours.
refined_loglik <- function(object, k) {
  nn <- fitted_neighbours(object, object$gp, min(k, object$n - 1L))
  X <- mean_basis(object$X)$Q
  response <- if (is.null(object$offset)) object$y else object$y - object$offset
  vif_evaluate(unname(response)[object$order], object$gp, nn, observation_noise(object),
               X[object$order, , drop = FALSE], thread_count(NULL))$loglik
}

# The same check within a fit of few observations of a smooth process without noise, where sets that are too small may
# be wrong by hundreds and the estimates go where the error is largest. Larger sets of every `step`-th observation, from
# coarse to fine, tell how far those of all would move it, in a small part of the time of the fit.
warn_neighbours <- function(fit, step = if (fit$n <= 500) 4L else 8L, most = 2) {
  moved <- step * refined_part(fit, seq.int(step, fit$n, by = step))
  if (!is.finite(moved) || abs(moved) <= most) return(invisible())
  warning(warningCondition(sprintf(
    paste("vif_fit(): with twice the neighbours the log-likelihood is %s by about %s: k = %d is too few for so smooth",
          "a process without noise. Take a larger `k`, or a nugget"),
    if (moved < 0) "lower" else "higher", format(signif(abs(moved), 2), big.mark = ",", scientific = FALSE), fit$k),
    class = "vif_neighbours", call = NULL))
}

# By how much the log-likelihood moves if some rows have twice the neighbours; NaN where it cannot be evaluated.
refined_part <- function(fit, rows) {
  k <- min(2L * fit$k, fit$n - 1L)
  if (k <= fit$k) return(0)
  data <- fit_data(fit, fit$order)
  id <- cbind(fit$id, matrix(NA_integer_, fit$n, k - fit$k))
  id[rows, ] <- fitted_neighbours(fit, fit$gp, k, rows)
  tryCatch(vif_evaluate(data$y, fit$gp, id, observation_noise(fit), data$X, fit$settings$threads)$loglik - fit$loglik,
           error = function(e) NaN)
}

# Conditioning sets among predecessors of the kind that the fit has: for all rows or some.
fitted_neighbours <- function(object, gp, k, queries = NULL) {
  settings <- utils::modifyList(object$settings, list(k = k))
  neighbours_of(gp, observation_noise(object), settings, queries)
}

#' @export
print.summary.vif <- function(x, digits = 4, ...) {
  fit <- x$fit
  print_head(fit)
  cat("kernel: ", fit$kernel$family, if (!is.null(fit$kernel$smoothness)) paste(", smoothness", fit$kernel$smoothness),
      if (!is.null(fit$noise_variance) && !is_laplace(fit)) "; beside the nugget known noise variances", "\n", sep = "")
  if (is_laplace(fit)) print_family(fit, digits)
  cat(if (is_laplace(fit)) "\nquantile residuals:\n" else "\nstandardised leave-one-out residuals:\n")
  print(x$residuals, digits = digits)
  cat("\nmean", if (!nrow(x$coefficients)) ": zero", if (!is.null(fit$offset)) " (beside an offset)", "\n", sep = "")
  if (nrow(x$coefficients)) stats::printCoefmat(x$coefficients, digits = digits, has.Pvalue = TRUE)
  cat("\ncovariance", if (fit$nugget_fixed && !is_laplace(fit)) " (nugget held fixed)", "\n", sep = "")
  table <- cbind(Estimate = format_each(x$covariance[, 1], digits), "Std. Error" = format_each(x$covariance[, 2], 3))
  if (all(is.na(x$covariance[, 2]))) table <- table[, 1, drop = FALSE]
  print(table, quote = FALSE, right = TRUE)
  if (lacks_errors(x)) {
    cat("(no standard errors: the information about these parameters is not positive definite at the estimates,\n",
        "so the data hardly determine them)\n", sep = "")
  }
  cat("\n")
  print_foot(fit, digits)
  cat("AIC: ", format(x$aic, nsmall = 1, digits = digits + 4), "\n", sep = "")
  if (!is.null(x$refined)) {
    cat(sprintf("log-likelihood with %d neighbours: %s (%+.3g)\n", min(2L * fit$k, fit$n - 1L),
                format(x$refined, nsmall = 2, digits = digits + 4), x$refined - fit$loglik))
  }
  invisible(x)
}

#' Coefficients of a fitted Gaussian process
#'
#' @param object A [vif_fit()].
#' @param type `"all"` for the mean coefficients `beta` followed by `variance`, `lengthscale` (if there are several,
#'   with the name of the column or group, as `lengthscale.lon`, or a number), an estimated `angle` and `ratio` (see
#'   [gp_kernel()]), `nugget` and an estimated `smoothness`
#'   (instead of these the parameters of the [family][nbinom2] where it is not `gaussian()`);
#'   `"mean"` or `"covariance"` for one of the two.
#' @param ... Not used; any other argument is an error.
#' @return A named numeric vector.
#' @details
#' [vcov()][confint.vif] has the mean coefficients alone unless told otherwise: `coef(object, "mean")` belongs to
#' `vcov(object)`, and `coef(object, "covariance")` to `vcov(object, "covariance")`, which leaves out a nugget that is
#' held fixed. (For `gaussian()` estimates of the two are independent of each other in large samples.)
#' @seealso [confint()][confint.vif] for intervals and standard errors.
#' @examples
#' x <- runif(200)
#' coef(vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = 1, inducing = 20, k = 10))
#' @export
coef.vif <- function(object, type = c("all", "mean", "covariance"), ...) {
  check_dots(...)
  type <- check_choice(type, c("all", "mean", "covariance"), "type")
  coefficients_of(check_fit(object), type)
}

# The same of a fit that is being made.
coefficients_of <- function(object, type) {
  own <- natural_parameters(object$theta, object$settings)
  if (is_laplace(object)) own <- c(own, object$phi)
  after <- names(own) %in% c("nugget", "smoothness")
  covariance <- c(own[!after], nugget = if (!is_laplace(object)) object$nugget, own[names(own) == "smoothness"])
  switch(type, all = c(object$coefficients, covariance), mean = object$coefficients,
         covariance = covariance)
}

#' Update a fitted Gaussian process
#'
#' Fits again with changed arguments, starting from the parameters of the old fit unless `start` is given, the inputs have
#' other columns, or `weights`, `noise_variance` or `family` are changed. Gaussian fits keep order, inducing inputs and
#' conditioning sets where these still serve, so that [stats::drop1()], [stats::add1()] and [stats::step()] compare
#' log-likelihoods on the same sets.
#'
#' @param object A [vif_fit()].
#' @param formula. For a fit by formula, the new formula; `.` stands for the old one, as in
#'   [stats::update.formula()].
#' @param ... Arguments of [vif_fit()] to change; `NULL` takes one back, but `X = NULL` is a mean of zero.
#' @param evaluate `FALSE` returns the call instead of the fit.
#' @return A [vif_fit()].
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10)
#' update(fit, k = 20)
#' @importFrom stats update
#' @export
update.vif <- function(object, formula., ..., evaluate = TRUE) {
  call <- object$call
  if (!missing(formula.)) {
    if (is.null(object$formula)) refuse("formula.", "missing, as the fit has no formula", describe(formula.))
    call$formula <- stats::update.formula(object$formula, formula.)
  }
  changes <- as.list(substitute(list(...)))[-1]
  if ("X" %in% names(changes) && !is.null(object$formula)) {
    refuse("X", "left to the formula (`. ~ 0` is mean zero)", deparse1(changes[["X"]]))
  }
  # NULL takes an argument back, but an X of NULL is another thing than a missing one
  for (name in names(changes)) {
    if (name == "X") call["X"] <- list(changes[["X"]]) else call[[name]] <- changes[[name]]
  }
  # other weights may have other maxima, far from here
  anew <- any(c("family", "weights", "noise_variance") %in% names(changes))
  if (!"start" %in% names(changes)) call$start <- if (!anew) start_of_fit(object)
  if (evaluate) eval(call, parent.frame()) else call
}
