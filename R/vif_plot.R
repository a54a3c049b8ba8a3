# Pictures of fits.

#' Diagnostic plots of a fitted Gaussian process
#'
#' Four pictures: observations against their leave-one-out predictions; a normal quantile plot of the
#' standardised leave-one-out residuals; these residuals over the inputs, where the model should leave no
#' pattern; and the log-likelihood at every step, for the parts of the data that the fit goes through. For families
#' other than `gaussian()` there are two: quantiles of the randomised quantile residuals, and these over the linear
#' predictor.
#'
#' @param x A [vif_fit()].
#' @param which Which of the four (for families other than `gaussian()` two) to draw.
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
  check_dots(...)
  x <- whole_fit(check_fit(x, "x"))
  most <- if (is_laplace(x)) 2 else 4
  if (missing(which)) which <- seq_len(most)
  if (!is.numeric(which) || !all(which %in% seq_len(most))) {
    refuse("which", paste("among 1 to", most, if (is_laplace(x)) "for a family other than gaussian()"), describe(which))
  }
  if (is_laplace(x)) return(plot_laplace(x, which))
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
    # parts of the data have likelihoods of their own, so what can be compared is the mean of an observation
    history <- x$history
    steps <- seq_len(nrow(history))
    stage <- match(history$stage, unique(history$stage))
    height <- x$n * history$loglik / history$observations - x$loglik
    frame("Steps, by part of the data", steps, height, type = "n", xlab = "step", xaxt = "n",
          ylab = "log-likelihood less that of the fit")
    graphics::axis(1, pretty(steps)[pretty(steps) == round(pretty(steps))])
    for (s in unique(stage)) {
      own <- stage == s
      graphics::lines(steps[own], height[own], type = "b", pch = 20, col = plot_stage[s])
    }
    sizes <- history$observations[!duplicated(stage)]
    # the first stage has simpler sets, even where it takes all observations
    graphics::legend("bottomright", paste0(unique(history$stage), ", n = ", format(sizes, big.mark = ",", trim = TRUE)),
                     col = plot_stage[seq_along(sizes)], pch = 20, bty = "n", cex = 0.8)
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

plot_stage <- c("#9fb8cc", "#2f7fb8", "#08457e")
