# Pictures of kernels and residual processes.

#' Pictures of a kernel and of a residual process
#'
#' A kernel is drawn as its correlation by distance, up to where it falls below 0.01, in units of the inputs (of the
#' lengthscales, if there are several); with anisotropy along the angle and, dashed, across it. A residual process is
#' drawn as the share of each input's variance that its inducing inputs leave, over the inputs.
#'
#' @param x A [gp_kernel()] or a [residual_gp()].
#' @param add Whether to add the curve to a picture.
#' @param columns The two columns of the inputs to draw, by number or name, where there are more than one.
#' @param ... Graphical parameters, as `col` or `xlab`.
#' @return `x`, invisibly.
#' @examples
#' plot(gp_kernel("matern12", lengthscale = 0.3))
#' plot(gp_kernel("rbf", lengthscale = 0.3), add = TRUE, col = 2)
#' plot(residual_gp(matrix(runif(2000), ncol = 2), gp_kernel(lengthscale = 0.3), inducing = 20))
#' @export
plot.gp_kernel <- function(x, add = FALSE, ...) {
  add <- check_flag(add, "add")
  many <- length(x$lengthscale) > 1
  unit <- x
  unit$variance <- 1
  unit["anisotropy"] <- list(NULL)
  if (many) unit$lengthscale <- 1
  from <- residual_gp(matrix(0), unit, inducing = 0)
  at <- seq(0, 12 * unit$lengthscale, length.out = 400)
  correlation <- drop(residual_correlation(from, newdata = matrix(at)))
  end <- if (add) length(at) else max(2, sum(correlation > 0.01))
  own <- list(...)
  if (add) {
    graphics::lines(at, correlation, ...)
  } else {
    set <- utils::modifyList(list(type = "l", bty = "l", las = 1, ylim = c(0, 1), ylab = "correlation",
                                  xlab = if (many) "distance in lengthscales" else "distance", main = format(x),
                                  cex.main = 1, font.main = 1), own)
    do.call(graphics::plot, c(list(at[seq_len(end)], correlation[seq_len(end)]), set))
  }
  if (!is.null(x$anisotropy)) {
    graphics::lines(at * x$anisotropy[["ratio"]], correlation, lty = 2, col = if (is.null(own$col)) 1 else own$col)
  }
  invisible(x)
}

#' @rdname plot.gp_kernel
#' @export
plot.residual_gp <- function(x, columns = 1:2, ...) {
  share <- x$variance / x$kernel$variance
  points <- x$x
  features <- counted(nrow(x$V), if (is.null(x$inducing)) "feature" else "inducing input")
  set <- list(bty = "l", las = 1, pch = 20, cex = if (nrow(points) > 2000) 0.4 else 0.8,
              main = sprintf("Variance left by %s: %.2g to %.2g of the process", features, min(share), max(share)),
              cex.main = 1, font.main = 1)
  if (ncol(points) == 1) {
    set <- utils::modifyList(c(set, list(xlab = axis_label(points, 1), ylab = "share of the variance",
                                         ylim = c(0, max(share)), col = plot_colours$query)), list(...))
    do.call(graphics::plot, c(list(points[, 1], share), set))
  } else {
    columns <- check_columns(columns, points)
    ramp <- grDevices::hcl.colors(20, "YlGnBu", rev = TRUE)
    shade <- ramp[findInterval(share, seq(0, max(share, 1e-300), length.out = 21), all.inside = TRUE)]
    set <- utils::modifyList(c(set, list(xlab = axis_label(points, columns[1]), ylab = axis_label(points, columns[2]),
                                         col = shade)), list(...))
    do.call(graphics::plot, c(list(points[, columns[1]], points[, columns[2]]), set))
    if (length(x$inducing)) graphics::points(x$inducing[, columns, drop = FALSE], pch = 4, cex = 0.7)
  }
  invisible(x)
}
