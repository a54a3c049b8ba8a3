# Draws man/figures/meuse.png, the picture of README.md, with the lines of code that README.md shows.
#
#   Rscript tools/readme.R
library(vecchiann)

data(meuse, meuse.grid, package = "sp")
fit <- vif_fit(log(zinc) ~ sqrt(dist), coords = ~ x + y, data = meuse, progress = FALSE)
map <- cbind(meuse.grid, predict(fit, meuse.grid))

# One panel: the cells of a grid coloured by a value, with a scale beside them.
panel <- function(value, title, colours, points = NULL) {
  breaks <- pretty(value, 9)
  colours <- colours(length(breaks) - 1)
  plot(map$x, map$y, type = "n", asp = 1, axes = FALSE, xlab = "", ylab = "")
  shade <- colours[findInterval(value, breaks, all.inside = TRUE)]
  rect(map$x - 20, map$y - 20, map$x + 20, map$y + 20, col = shade, border = NA)
  if (!is.null(points)) points(points, pch = 1, cex = 0.5, col = "#00000088")
  title(title, font.main = 1, cex.main = 1.1, line = 0.3)
  legend("topleft", bty = "n", fill = rev(colours), border = NA, cex = 0.8, y.intersp = 0.9,
         legend = rev(paste(head(breaks, -1), "to", breaks[-1])))
}

png("man/figures/meuse.png", width = 1500, height = 900, res = 170, type = "cairo")
par(mfrow = c(1, 2), mar = c(0.3, 0.3, 2, 0.3))
panel(map$fit, "log(zinc), predicted", function(n) hcl.colors(n, "YlOrRd", rev = TRUE))
panel(map$se.fit, "standard error, and the samples", function(n) hcl.colors(n, "Blues 3", rev = TRUE), meuse[c("x", "y")])
invisible(dev.off())
