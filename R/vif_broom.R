# Methods for generics of other packages, registered when these are loaded.

#' Tidy summaries of a fitted Gaussian process
#'
#' Methods of `tidy()`, `glance()` and `augment()`, which package broom exports, of ggplot2's `autoplot()`, and
#' support of package emmeans for fits by formula.
#'
#' @param x,object A [vif_fit()].
#' @param effects `"mean"`, `"covariance"` or both: which parameters.
#' @param conf.int,conf.level,conf.method Whether to add confidence limits, their level, and the method of
#'   [confint()][confint.vif].
#' @param data The data of the fit, to which columns are added; by default its model frame or its inputs.
#' @param newdata New data, to predict instead.
#' @param se_fit Whether to add standard errors.
#' @param interval,level As `interval` and `level` of [predict][predict.vif].
#' @param type `"residuals"` for a map of standardised leave-one-out residuals over the inputs, `"predictions"` for
#'   observations against their leave-one-out predictions, `"quantiles"` for a normal quantile plot of the residuals.
#'   For families other than `gaussian()` the residuals are randomised quantile residuals.
#' @param ... Not used; any other argument is an error. For `augment()`, arguments of [predict][predict.vif].
#' @return Data frames (tibbles where package tibble is installed): `tidy()` one row a parameter, `glance()` one row,
#'   with the standard error `logLik.se` of the log-likelihood where random vectors have found it (0 elsewhere),
#'   `augment()` the data with `.fitted` and, without `newdata`, `.resid` (`.fitted + .resid` are the observations),
#'   `.loo` (means of the observations as predicted from all others) and `.std.resid`. Standard errors and limits are
#'   those of [predict][predict.vif]: for families other than `gaussian()`, `.fitted` is at the mode of the linear
#'   predictor without `newdata`, as [fitted()][residuals.vif] has it, and integrated over its uncertainty with it.
#'   `autoplot()`: a ggplot.
#' @examples
#' x <- runif(200)
#' d <- data.frame(x, y = sin(8 * x) + rnorm(200, sd = 0.2))
#' fit <- vif_fit(y ~ 1, coords = ~ x, data = d, inducing = 20, k = 10)
#' if (requireNamespace("generics", quietly = TRUE)) {
#'   generics::tidy(fit)
#'   generics::glance(fit)
#'   generics::augment(fit, newdata = data.frame(x = c(0.2, 0.7)), interval = "prediction")
#' }
#' @name vif_tidy
NULL

#' @rdname vif_tidy
#' @exportS3Method generics::tidy
tidy.vif <- function(x, effects = c("mean", "covariance"), conf.int = FALSE, conf.level = 0.95,
                     conf.method = c("wald", "profile"), ...) {
  check_dots(...)
  odd <- setdiff(effects, c("mean", "covariance"))
  if (length(odd)) refuse("effects", 'among "mean", "covariance"', describe(odd[1]))
  conf.int <- check_flag(conf.int, "conf.int")
  conf.method <- check_choice(conf.method, c("wald", "profile"), "conf.method")
  sums <- summary.vif(x)
  mean <- sums$coefficients
  cov <- sums$covariance
  none <- rep(NA_real_, nrow(cov))
  table <- data.frame(effect = rep(c("mean", "covariance"), c(nrow(mean), nrow(cov))),
                      term = c(rownames(mean), rownames(cov)), estimate = c(mean[, 1], cov[, 1]),
                      std.error = c(mean[, 2], cov[, 2]), statistic = c(mean[, 3], none), p.value = c(mean[, 4], none),
                      row.names = NULL)
  wanted <- table$effect %in% effects
  if (conf.int) { # by place: a covariate may have the name of a covariance parameter
    place <- intersect(estimated_places(x), which(wanted))
    limits <- limits_at(x, place, conf.level, conf.method, arg = "conf.level")
    table[c("conf.low", "conf.high")] <- limits[match(seq_len(nrow(table)), place), ]
  }
  as_tibble(table[wanted, ])
}

#' @rdname vif_tidy
#' @exportS3Method generics::glance
glance.vif <- function(x, ...) {
  check_dots(...)
  as_tibble(data.frame(nobs = x$n, df = x$df, logLik = x$loglik, AIC = stats::AIC(x), BIC = stats::BIC(x),
                       deviance = -2 * x$loglik, df.residual = x$n - x$df, sigma = sigma.vif(x), k = x$k,
                       inducing = nrow(x$gp$inducing), converged = x$converged, logLik.se = loglik_error(x)))
}

#' @rdname vif_tidy
#' @exportS3Method generics::augment
augment.vif <- function(x, data = NULL, newdata = NULL, se_fit = FALSE,
                        interval = c("none", "prediction", "confidence"), level = 0.95, ...) {
  se_fit <- check_flag(se_fit, "se_fit")
  interval <- check_choice(interval, c("none", "prediction", "confidence"), "interval")
  predicted <- if (is.null(newdata)) {
    predict.vif(x, se.fit = TRUE, interval = interval, level = level, ...)
  } else {
    predict.vif(x, newdata, interval = interval, level = level, ...)
  }
  out <- if (!is.null(newdata)) {
    newdata
  } else if (!is.null(data)) {
    # rows that na.omit() has left out are left out here, too
    whole <- inherits(x$na.action, "omit") && NROW(data) == x$n + length(x$na.action)
    if (whole) data[-x$na.action, , drop = FALSE] else data
  } else if (!is.null(x$model)) {
    pad_excluded(x$model, x)
  } else {
    data.frame(y = x$y, fitted_inputs(x)$x)
  }
  if (nrow(out) != nrow(predicted)) {
    refuse("data", paste("the data of the fit, of", counted(nrow(predicted), "row")), paste("of", nrow(out)))
  }
  if (!inherits(out, "sf")) out <- as.data.frame(out)
  type <- c(list(...)$type, "response")[1]
  at_mode <- is.null(newdata) && is_laplace(x) && startsWith("response", type) # what residuals belong to
  out$.fitted <- if (at_mode) unname(fitted.vif(x)) else predicted$fit
  if (se_fit) out$.se.fit <- predicted$se.fit
  if (interval != "none") {
    out$.lower <- predicted$lwr
    out$.upper <- predicted$upr
  }
  if (is.null(newdata)) {
    observed <- unname(stats::naresid(x$na.action, x$y))
    out$.resid <- if (is_laplace(x)) unname(residuals.vif(x)) else observed - out$.fitted
    out$.loo <- stats::naresid(x$na.action, response_left_out(whole_fit(x)))
    out$.std.resid <- unname(rstandard.vif(x))
  }
  if (inherits(out, "sf")) out else as_tibble(out)
}

# Means of the observations as predicted from all others.
response_left_out <- function(object) {
  found <- predict_left_out(object)
  if (!is_laplace(object)) return(found$fit)
  laplace_summary(object, found$fit, found$se, "response", "none", 0.95, object$weights)$fit
}

as_tibble <- function(x) {
  if (requireNamespace("tibble", quietly = TRUE)) tibble::as_tibble(x) else x
}

#' @rdname vif_tidy
#' @exportS3Method ggplot2::autoplot
autoplot.vif <- function(object, type = c("residuals", "predictions", "quantiles"), ...) {
  check_dots(...)
  type <- check_choice(type, c("residuals", "predictions", "quantiles"), "type")
  object <- whole_fit(object)
  standard <- if (is_laplace(object)) residuals_laplace(object, "quantile", seed = 1) else {
    fit_residuals(object, "standardised")
  }
  if (type == "predictions") {
    d <- data.frame(predicted = response_left_out(object), observed = unname(object$y))
    return(ggplot2::ggplot(d, ggplot2::aes(!!as.name("predicted"), !!as.name("observed"))) +
             ggplot2::geom_abline(colour = "grey60") + ggplot2::geom_point(alpha = 0.5, colour = "#2f7fb8") +
             ggplot2::labs(x = "predicted from all others", y = "observed"))
  }
  if (type == "quantiles") {
    return(ggplot2::ggplot(data.frame(residual = standard), ggplot2::aes(sample = !!as.name("residual"))) +
             ggplot2::geom_abline(colour = "grey60") + ggplot2::geom_qq(colour = "#2f7fb8") +
             ggplot2::labs(x = "normal quantiles",
                           y = if (is_laplace(object)) "randomised quantile residuals" else "standardised residuals"))
  }
  inputs <- fitted_inputs(object)$x
  names <- input_names(inputs)
  d <- data.frame(first = inputs[, 1], second = if (ncol(inputs) > 1) inputs[, 2] else standard, residual = standard)
  ggplot2::ggplot(d, ggplot2::aes(!!as.name("first"), !!as.name("second"), colour = !!as.name("residual"))) +
    ggplot2::geom_point() +
    ggplot2::scale_colour_gradient2(low = "#08457e", mid = "#d9d9d9", high = "#c1121f") +
    ggplot2::labs(x = names[1], y = if (ncol(inputs) > 1) names[2] else "residual", colour = "standardised\nresidual")
}

#' @exportS3Method emmeans::recover_data
recover_data.vif <- function(object, ...) {
  by_formula(object)
  call <- object$call
  emmeans::recover_data(call, stats::delete.response(object$terms), object$na.action, frame = object$model, ...)
}

#' @exportS3Method emmeans::emm_basis
emm_basis.vif <- function(object, trms, xlev, grid, ...) {
  frame <- stats::model.frame(trms, grid, na.action = stats::na.pass, xlev = xlev)
  X <- stats::model.matrix(trms, frame, contrasts.arg = object$contrasts)
  list(X = X, bhat = unname(object$coefficients), nbasis = matrix(NA), V = object$vcov,
       dffun = function(k, dfargs) Inf, dfargs = list(), misc = emmeans::.std.link.labels(family.vif(object), list()))
}
