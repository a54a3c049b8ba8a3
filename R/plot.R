# Plot: pictures in base graphics.

#' Picture of a conditioning set
#'
#' Draws the neighbours of one query over the inputs: each is a disc, coloured by its absolute residual
#' correlation with the query and joined to it. Inducing inputs are marked, and for a search among
#' predecessors the points after the query are drawn fainter than those before it.
#'
#' Inputs of one column are drawn against the distance of the neighbours, all points as ticks on the
#' axis; of those with more columns two are chosen.
#'
#' @param x A result of [residual_knn()].
#' @param query Which row of `x$id` to draw; the default is the last one.
#' @param columns The two columns of the inputs to draw, by number or name, where there are more than
#'   one.
#' @param zoom `TRUE` shows the surroundings of the conditioning set only.
#' @param legend Whether to draw the legend, above the plot.
#' @param xlim,ylim,xlab,ylab,main As in [plot.default()]; the defaults follow from the data.
#' @param ... Further arguments of [plot.default()], such as `asp = 1`.
#' @return `x`, invisibly.
#' @examples
#' grid <- as.matrix(expand.grid(east = 1:30, north = 1:30))[sample(900), ]
#' gp <- residual_gp(grid, gp_kernel("matern32", lengthscale = 8), inducing = 25, seed = 1)
#' nn <- residual_knn(gp, k = 15, predecessors = TRUE)
#' plot(nn, query = 600, asp = 1)
#' @export
plot.residual_knn <- function(x, query = nrow(x$id), columns = 1:2, zoom = FALSE, legend = TRUE,
                              xlim = NULL, ylim = NULL, xlab = NULL, ylab = NULL, main = NULL, ...) {
  check_neighbours(x, "x")
  check_number(query, "query", paste("a row number from 1 to", nrow(x$id)),
               function(query) query %in% seq_len(nrow(x$id)))
  check_flag(zoom, "zoom")
  check_flag(legend, "legend")
  scene <- plot_scene(x, query, columns)
  if (zoom) {
    focus <- rbind(scene$self, scene$neighbours)
    if (is.null(xlim)) xlim <- surroundings(focus[, 1], scene$points[, 1])
    if (is.null(ylim) && !scene$flat) ylim <- surroundings(focus[, 2], scene$points[, 2])
  }
  if (scene$flat && is.null(ylim)) ylim <- c(0, max(scene$neighbours[, 2], 0.1) * 1.05)
  graphics::plot(scene$points, type = "n", xlim = xlim, ylim = ylim, bty = "l", las = 1,
                 xlab = if (is.null(xlab)) scene$labels[1] else xlab,
                 ylab = if (is.null(ylab)) scene$labels[2] else ylab, ...)
  draw_scene(scene)
  title <- if (is.null(main)) plot_title(x, query, nrow(scene$neighbours)) else main
  graphics::title(title, line = if (legend) 2.2 else 1, cex.main = 1, font.main = 1)
  if (legend) draw_legend(scene)
  invisible(x)
}

plot_colours <- list(
  before = "#8f8f8f", after = "#d9d9d9", inducing = "#3b3b3b", query = "#c1121f", line = "#00000033", node = "#2f7fb8",
  ramp = c("#d8e6f2", "#7fb2d8", "#2f7fb8", "#08457e", "#041f3d")
)

# What is drawn, in the coordinates of the plot.
plot_scene <- function(nn, query, columns) {
  self <- if (is.null(nn$queries)) query else nn$queries[query]
  from <- if (is.null(nn$newdata)) nn$x else nn$newdata
  id <- nn$id[query, ]
  id <- unname(id[!is.na(id)])
  dist <- unname(nn$dist[query, seq_along(id)])
  flat <- ncol(nn$x) == 1
  inducing <- if (is.null(nn$inducing)) nn$x[0, , drop = FALSE] else nn$inducing
  if (flat) {
    points <- cbind(nn$x, 0)
    at <- list(self = cbind(from[self, ], 0), neighbours = cbind(nn$x[id, ], dist),
               inducing = cbind(inducing, rep(0, nrow(inducing))), labels = c(axis_label(nn$x, 1), "distance"))
  } else {
    columns <- check_columns(columns, nn$x)
    points <- nn$x[, columns]
    at <- list(self = from[self, columns, drop = FALSE], neighbours = nn$x[id, columns, drop = FALSE],
               inducing = inducing[, columns, drop = FALSE],
               labels = c(axis_label(nn$x, columns[1]), axis_label(nn$x, columns[2])))
  }
  before <- if (nn$predecessors) seq_len(nrow(nn$x)) < self else rep(TRUE, nrow(nn$x))
  c(at, list(points = unname(points), before = before, rho = 1 - dist^2, flat = flat,
             predecessors = nn$predecessors))
}

check_columns <- function(columns, x) {
  if (is.character(columns) && length(columns) == 2) columns <- match(columns, colnames(x))
  if (!is.numeric(columns) || length(columns) != 2 || !all(columns %in% seq_len(ncol(x)))) {
    refuse("columns", "two columns of the inputs", describe(columns))
  }
  columns
}

axis_label <- function(x, column) {
  if (is.null(colnames(x))) paste0("x[, ", column, "]") else colnames(x)[column]
}

plot_title <- function(nn, query, found) {
  row <- if (is.null(nn$queries)) query else nn$queries[query]
  paste0("Conditioning set of ", if (is.null(nn$newdata)) "point " else "new point ", row, ": ", found,
         if (nn$predecessors) " predecessors" else " neighbours")
}

# The range of the focus and half as much again, within that of all points.
surroundings <- function(focus, all) {
  margin <- diff(range(focus)) * 0.25 + diff(range(all)) * 0.01
  c(max(min(focus) - margin, min(all)), min(max(focus) + margin, max(all)))
}

correlation_colour <- function(rho) {
  grDevices::rgb(grDevices::colorRamp(plot_colours$ramp, space = "Lab")(pmin(pmax(rho, 0), 1)),
                 maxColorValue = 255)
}

draw_scene <- function(scene) {
  # The more points are in view the smaller they are drawn: they stay the ground and not the figure.
  view <- graphics::par("usr")
  in_view <- scene$points[, 1] >= view[1] & scene$points[, 1] <= view[2] &
    scene$points[, 2] >= view[3] & scene$points[, 2] <= view[4]
  size <- max(0.25, min(0.7, 12 / sqrt(sum(in_view))))
  shade <- ifelse(scene$before, plot_colours$before, plot_colours$after)
  last <- order(scene$before)
  if (scene$flat) {
    graphics::rug(scene$points[!scene$before, 1], col = plot_colours$after, quiet = TRUE)
    graphics::rug(scene$points[scene$before, 1], col = plot_colours$before, quiet = TRUE)
  } else {
    graphics::points(scene$points[last, ], pch = 16, cex = size, col = shade[last])
  }
  graphics::points(scene$inducing, pch = 4, cex = 0.8, lwd = 1.4, col = plot_colours$inducing)
  if (nrow(scene$neighbours)) {
    start <- if (scene$flat) cbind(scene$neighbours[, 1], 0) else scene$self
    graphics::segments(start[, 1], start[, 2], scene$neighbours[, 1], scene$neighbours[, 2],
                       col = plot_colours$line)
    far <- order(scene$rho)
    graphics::points(scene$neighbours[far, , drop = FALSE], pch = 21, cex = 1.25, col = "white",
                     bg = correlation_colour(scene$rho[far]), lwd = 0.6)
  }
  graphics::points(scene$self, pch = 23, cex = 1.5, col = "white", bg = plot_colours$query, xpd = NA)
}

# One row above the plot, where no data are; laid out in inches and shrunk to the width of the figure.
draw_legend <- function(scene) {
  entries <- list(
    legend_entry("query", 23, "white", plot_colours$query),
    legend_entry("neighbour, |rho| from 0 to 1", 21, "white", correlation_colour(c(0, 0.25, 0.5, 0.75, 1))),
    legend_entry("inducing input", 4, plot_colours$inducing),
    legend_entry(if (scene$predecessors) "before" else "other point", 16, plot_colours$before),
    legend_entry("after", 16, plot_colours$after)
  )
  entries <- entries[c(TRUE, TRUE, nrow(scene$inducing) > 0, TRUE, scene$predecessors)]
  symbol <- 0.09 * lengths(lapply(entries, `[[`, "bg")) + 0.07
  text <- vapply(entries, function(entry) graphics::strwidth(entry$label, "inches", cex = 0.8), 0)
  width <- symbol + text + 0.2
  shrink <- min(1, 0.96 * graphics::par("fin")[1] / sum(width))
  left <- (graphics::grconvertX(0.5, "npc", "inches") - shrink * sum(width) / 2)
  left <- max(left, 0.02 * graphics::par("fin")[1]) + shrink * c(0, cumsum(width))
  y <- graphics::grconvertY(graphics::grconvertY(1, "npc", "inches") + 1.2 * graphics::par("csi"), "inches", "user")
  place <- function(inches) graphics::grconvertX(inches, "inches", "user")
  for (e in seq_along(entries)) {
    entry <- entries[[e]]
    at <- left[e] + shrink * 0.09 * (seq_along(entry$bg) - 0.2)
    graphics::points(place(at), rep(y, length(at)), pch = entry$pch, col = entry$col, bg = entry$bg, lwd = 0.8,
                     cex = 1.1 * shrink, xpd = NA)
    graphics::text(place(left[e] + shrink * symbol[e]), y, entry$label, adj = c(0, 0.5), cex = 0.8 * shrink, xpd = NA)
  }
}

# `bg` holds one colour for each symbol that is drawn.
legend_entry <- function(label, pch, col, bg = NA) list(label = label, pch = pch, col = col, bg = bg)

#' Picture of a cover tree
#'
#' Draws the nodes of one level over the inputs: a disc for each, its centre and its radius in the units of
#' the inputs (an ellipse where the kernel has an anisotropy). Leaves of earlier levels are drawn too, so that every
#' point is covered. Inputs of one column lie on a line, and the height of a disc means no more than its width.
#'
#' @param x A [cover_tree()].
#' @param level Which level; the default is the first with at least 12 nodes, or the last.
#' @param columns The two columns of the inputs to draw, by number or name, where there are more than
#'   one.
#' @param xlab,ylab,main As in [plot.default()].
#' @param ... Further arguments of [plot.default()].
#' @return `x`, invisibly.
#' @examples
#' gp <- residual_gp(matrix(runif(2000), ncol = 2), gp_kernel(lengthscale = 0.2), inducing = 10)
#' plot(cover_tree(gp), asp = 1)
#' @export
plot.cover_tree <- function(x, level = NULL, columns = 1:2, xlab = NULL, ylab = NULL, main = NULL, ...) {
  check_tree(x, "x")
  nodes <- tabulate(x$level + 1)
  if (is.null(level)) level <- c(which(nodes >= 12), length(nodes))[1] - 1
  level <- check_whole(level, "level", 0)
  if (level >= length(nodes)) refuse("level", paste("at most", length(nodes) - 1), level)
  points <- x$gp$x
  flat <- ncol(points) == 1
  columns <- if (flat) 1 else check_columns(columns, points)
  at <- if (flat) cbind(points, 0) else points[, columns]
  drawn <- which(x$level == level | (x$level < level & x$children == 0))
  graphics::plot(at, type = "n", bty = "l", las = 1,
                 xlab = if (is.null(xlab)) axis_label(points, columns[1]) else xlab,
                 ylab = if (!is.null(ylab)) ylab else if (flat) "" else axis_label(points, columns[2]),
                 yaxt = if (flat) "n" else "s", ...)
  graphics::points(at, pch = 16, cex = 0.35, col = plot_colours$before)
  # radii are in units of the lengthscales, which the picture need not have in common
  lengthscale <- rep_len(x$lengthscale, ncol(points))
  spread <- if (flat) c(lengthscale, 0.9 / max(x$radius[drawn], .Machine$double.xmin)) else lengthscale[columns]
  angle <- seq(0, 2 * pi, length.out = 73)
  disc <- cbind(spread[1] * cos(angle), spread[2] * sin(angle))
  if (!is.null(x$anisotropy) && setequal(columns, 1:2)) {
    disc <- disc[, columns] %*% t(solve(plane_map(x$anisotropy)))[, columns]
  }
  for (node in drawn) {
    middle <- at[x$centre[node], ]
    graphics::polygon(middle[1] + x$radius[node] * disc[, 1], middle[2] + x$radius[node] * disc[, 2],
                      border = plot_colours$node, col = paste0(plot_colours$node, "12"))
  }
  graphics::points(at[x$centre[drawn], , drop = FALSE], pch = 16, cex = 0.8, col = plot_colours$query)
  title <- paste0("level ", level, " of 0 to ", length(nodes) - 1, ": ", counted(sum(x$level == level), "node"))
  graphics::title(if (is.null(main)) title else main, cex.main = 1, font.main = 1)
  invisible(x)
}
