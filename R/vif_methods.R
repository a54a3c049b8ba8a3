# Methods of fitted VIF models other than predict().

#' @export
print.vif <- function(x, digits = 4, ...) {
  check_fit(x, "x")
  cat("<vif> ", counted(x$n, "observation"), ", ", counted(nrow(x$gp$inducing), "inducing input"), ", k = ",
      x$k, if (x$neighbours == "euclidean") " Euclidean neighbours", "\n", sep = "")
  cat("kernel: ", format(x$kernel), "\n", sep = "")
  cat("nugget: ", format(x$nugget, digits = digits), if (x$nugget_fixed) " (fixed)",
      if (!is.null(x$noise_variance)) ", beside known noise variances", "\n", sep = "")
  if (length(x$coefficients)) {
    cat("mean: ", paste(names(x$coefficients), format(x$coefficients, digits = digits, trim = TRUE),
                        sep = " = ", collapse = ", "), "\n", sep = "")
  }
  cat("log-likelihood: ", format(x$loglik, nsmall = 2, digits = digits + 4), " (df = ", x$df, "), ",
      if (x$converged) x$message else paste0("NOT CONVERGED: ", x$message), " after ",
      counted(x$iterations, "iteration"), "\n", sep = "")
  invisible(x)
}

#' Summary of a fitted Gaussian process
#'
#' @param object A [vif_fit()].
#' @param ... Not used.
#' @return A list of class `"summary.vif"`: `coefficients` (estimates, standard errors, z and p values
#'   of the mean), `parameters` (the covariance parameters), `aic`, `residuals` (quantiles of the
#'   standardised leave-one-out residuals) and `fit`.
#' @examples
#' x <- runif(200)
#' summary(vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = rep(1, 200), inducing = 20, k = 10))
#' @export
summary.vif <- function(object, ...) {
  check_fit(object)
  estimate <- object$coefficients
  error <- sqrt(diag(object$vcov))
  z <- estimate / error
  table <- cbind(Estimate = estimate, "Std. Error" = error, "z value" = z,
                 "Pr(>|z|)" = 2 * stats::pnorm(-abs(z)))
  structure(list(fit = object, coefficients = table, parameters = coef.vif(object, "covariance"),
                 aic = stats::AIC(object),
                 residuals = stats::quantile(fit_residuals(object, "standardised"))),
            class = "summary.vif")
}

#' @export
print.summary.vif <- function(x, digits = 4, ...) {
  print(x$fit, digits = digits)
  cat("AIC: ", format(x$aic, nsmall = 1, digits = digits + 4), "\n", sep = "")
  cat("\nstandardised leave-one-out residuals:\n")
  print(x$residuals, digits = digits)
  if (nrow(x$coefficients)) {
    cat("\nmean:\n")
    stats::printCoefmat(x$coefficients, digits = digits, has.Pvalue = TRUE)
  }
  cat("\ncovariance:\n")
  print(x$parameters, digits = digits)
  invisible(x)
}

#' Coefficients of a fitted Gaussian process
#'
#' @param object A [vif_fit()].
#' @param type `"all"` for the mean coefficients `beta` followed by `variance`, `lengthscale` (numbered if
#'   more than one) and `nugget`; `"mean"` or `"covariance"` for one of the two.
#' @param ... Not used.
#' @return A named numeric vector.
#' @examples
#' x <- runif(200)
#' coef(vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = rep(1, 200), inducing = 20, k = 10))
#' @export
coef.vif <- function(object, type = c("all", "mean", "covariance"), ...) {
  type <- check_choice(type, c("all", "mean", "covariance"), "type")
  covariance <- c(variance = object$kernel$variance, lengthscale = object$kernel$lengthscale,
                  nugget = object$nugget)
  switch(type, all = c(object$coefficients, covariance), mean = object$coefficients,
         covariance = covariance)
}

#' @export
vcov.vif <- function(object, ...) object$vcov

#' @export
logLik.vif <- function(object, ...) {
  structure(object$loglik, df = object$df, nobs = object$n, class = "logLik")
}

#' @export
nobs.vif <- function(object, ...) object$n

#' @export
formula.vif <- function(x, ...) x$formula

#' Residuals and fitted values of a fitted Gaussian process
#'
#' Fitted values are the conditional mean of `X beta + f` at the observations, given all of them. The
#' leave-one-out residuals are exact for the VIF approximation at the fitted parameters: each
#' observation minus its conditional mean given all others, `(S^-1 (y - X beta))_i / (S^-1)_ii`, computed
#' from the factor in O(n (k m + m^2)).
#'
#' @param object A [vif_fit()].
#' @param type `"response"` for `y - fitted`, `"loo"` for leave-one-out residuals, `"standardised"` for
#'   these divided by their standard deviations: independent standard normal values, more or less, where
#'   the model holds.
#' @param ... Not used.
#' @return A numeric vector in the order of the data; after `na.action = na.exclude` with `NA` where rows
#'   were left out.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10)
#' sd(residuals(fit))
#' sd(residuals(fit, "loo"))
#' qqnorm(residuals(fit, "standardised"))
#' @export
residuals.vif <- function(object, type = c("response", "loo", "standardised"), ...) {
  check_fit(object)
  type <- check_choice(type, c("response", "loo", "standardised"), "type")
  stats::naresid(object$na.action, fit_residuals(object, type))
}

fit_residuals <- function(object, type) {
  state <- object$state
  B <- contrast_matrix(object$id, state$coef)
  weighted <- as.vector(Matrix::crossprod(B, state$error / state$D)) # S^-1 (y - X beta)
  value <- if (type == "response") {
    observation_noise(object) * weighted
  } else {
    precision <- precision_diagonal(object, B)
    weighted / if (type == "loo") precision else sqrt(precision)
  }
  value[object$order] <- value
  names(value) <- names(object$y)
  value
}

# Diagonal of S^-1 = P - P V' M^-1 V P with P = B' D^-1 B.
precision_diagonal <- function(object, B) {
  threads <- thread_count(NULL)
  state <- object$state
  diagonal <- as.vector(Matrix::crossprod(B^2, 1 / state$D))
  if (!length(state$b)) return(diagonal)
  W <- .Call(C_vif_contrasts, object$id, state$coef, object$gp$V, object$gp$V, threads)
  VP <- t(as.matrix(Matrix::crossprod(B, t(W) / state$D)))
  diagonal - .Call(C_vif_norms, state$root, VP, threads)
}

#' @rdname residuals.vif
#' @export
fitted.vif <- function(object, ...) {
  check_fit(object)
  stats::naresid(object$na.action, object$y - fit_residuals(object, "response"))
}

#' Simulate from a fitted Gaussian process
#'
#' Draws new observations at the inputs of the fit, noise included, from the fitted VIF approximation
#' (not conditioned on the data; for that see `nsim` of [predict][predict.vif]).
#'
#' @param object A [vif_fit()].
#' @param nsim Number of draws.
#' @param seed Seed of the draws; `NULL` uses the session's random numbers.
#' @param ... Not used.
#' @return A data frame with n rows and `nsim` columns, as [stats::simulate()] gives.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10)
#' plot(x, simulate(fit, seed = 1)[[1]])
#' @importFrom stats coef fitted formula logLik nobs predict residuals simulate vcov
#' @export
simulate.vif <- function(object, nsim = 1, seed = NULL, ...) {
  check_fit(object)
  nsim <- check_whole(nsim, "nsim", 1)
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  state <- object$state
  m <- nrow(object$gp$V)
  B <- methods::as(contrast_matrix(object$id, state$coef), "triangularMatrix")
  draws <- with_seed(seed, {
    z <- matrix(stats::rnorm(m * nsim), m, nsim)
    crossprod(object$gp$V, z) +
      as.matrix(Matrix::solve(B, sqrt(state$D) * matrix(stats::rnorm(object$n * nsim), object$n)))
  })
  draws[object$order, ] <- draws
  if (!is.null(object$X)) draws <- draws + drop(object$X %*% object$coefficients)
  stats::setNames(as.data.frame(draws), paste0("sim_", seq_len(nsim)))
}

#' Update a fitted Gaussian process
#'
#' Fits again with changed arguments, starting from the parameters of the old fit unless `start` is given.
#'
#' @param object A [vif_fit()].
#' @param formula. For a fit by formula, the new formula; `.` stands for the old one, as in
#'   [stats::update.formula()].
#' @param ... Arguments of [vif_fit()] to change.
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
    call$y <- stats::update.formula(object$formula, formula.)
  }
  changes <- as.list(substitute(list(...)))[-1]
  for (name in names(changes)) call[[name]] <- changes[[name]]
  if (is.null(changes$start)) call$start <- list(kernel = object$kernel, nugget = object$nugget)
  if (evaluate) eval(call, parent.frame()) else call
}

#' Diagnostic plots of a fitted Gaussian process
#'
#' Four pictures: observations against their leave-one-out predictions; a normal quantile plot of the
#' standardised leave-one-out residuals; these residuals over the inputs, where the model should leave no
#' pattern; and the log-likelihood at every search of neighbours.
#'
#' @param x A [vif_fit()].
#' @param which Which of the four to draw.
#' @param columns The two columns of the inputs to draw, where there are more than one.
#' @param ... Not used.
#' @return `x`, invisibly.
#' @examples
#' x <- cbind(runif(400), runif(400))
#' fit <- vif_fit(sin(6 * x[, 1]) + rnorm(400, sd = 0.2), x, inducing = 20, k = 10)
#' old <- par(mfrow = c(2, 2))
#' plot(fit)
#' par(old)
#' @export
plot.vif <- function(x, which = 1:4, columns = 1:2, ...) {
  check_fit(x, "x")
  if (!is.numeric(which) || !all(which %in% 1:4)) refuse("which", "among 1 to 4", describe(which))
  if (any(which %in% 1:3)) {
    left_out <- fit_residuals(x, "loo")
    standard <- fit_residuals(x, "standardised")
  }
  frame <- function(title, ...) {
    graphics::plot(..., bty = "l", las = 1)
    graphics::title(title, line = 1, cex.main = 1, font.main = 1)
  }
  dot <- list(pch = 20, cex = if (x$n > 2000) 0.4 else 0.7)
  if (1 %in% which) {
    frame("Leave-one-out predictions", x$y - left_out, x$y, pch = dot$pch, cex = dot$cex, col = "#2f7fb855",
          xlab = "predicted from all others", ylab = "observed")
    graphics::abline(0, 1, col = "#c1121f")
  }
  if (2 %in% which) {
    q <- stats::qqnorm(standard, plot.it = FALSE)
    frame("Standardised leave-one-out residuals", q$x, q$y, pch = dot$pch, cex = dot$cex,
          col = "#2f7fb8", xlab = "normal quantiles", ylab = "residuals")
    graphics::abline(0, 1, col = "#c1121f")
  }
  if (3 %in% which) plot_residual_map(x, standard, columns, dot, frame)
  if (4 %in% which) {
    # neighbours change between searches, so the climb may go down a little
    frame("Climb", x$history$iteration, x$history$loglik - x$loglik, type = "b", pch = 20,
          col = "#2f7fb8", xlab = "iteration at a search", ylab = "log-likelihood below that of the fit")
  }
  invisible(x)
}

plot_residual_map <- function(fit, standard, columns, dot, frame) {
  inputs <- fitted_inputs(fit)$x
  if (ncol(inputs) == 1) {
    frame("Standardised residuals over the inputs", inputs[, 1], standard, pch = dot$pch,
          cex = dot$cex, col = "#2f7fb8", xlab = input_names(inputs)[1], ylab = "residuals")
    graphics::abline(h = 0, col = "#c1121f")
    return(invisible())
  }
  if (is.character(columns)) columns <- match(columns, colnames(inputs))
  if (length(columns) != 2 || !all(columns %in% seq_len(ncol(inputs)))) {
    refuse("columns", paste("two of the", ncol(inputs), "columns of `x`"), describe(columns))
  }
  ramp <- grDevices::colorRampPalette(c("#08457e", "#7fb2d8", "#d9d9d9", "#e8a0a0", "#c1121f"))(9)
  shade <- ramp[findInterval(pmin(pmax(standard, -3), 3), seq(-3, 3, length.out = 10), all.inside = TRUE)]
  labels <- input_names(inputs)[columns]
  frame("Standardised residuals, blue -3 to red 3", inputs[, columns[1]], inputs[, columns[2]],
        pch = dot$pch, cex = dot$cex, col = shade, xlab = labels[1], ylab = labels[2])
}

input_names <- function(x) if (is.null(colnames(x))) paste0("x", seq_len(ncol(x))) else colnames(x)
