# Fit and predict on real data: a tenth of the 5,307 heights of the volcano Maunga Whau, which come with R, is held out
# and predicted from the rest by a Gaussian process under the VIF approximation.
#
#   Rscript vif.R [picture.png]
#
# Where package GpGp is installed the same is done for its 32,436 ocean temperatures from Argo floats, on the sphere and in
# time, which takes some minutes; their map has coastlines where package maps is installed.
library(vecchiann)

picture <- c(commandArgs(trailingOnly = TRUE), "vif.png")[1]

report <- function(name, fit, p, truth, seconds) {
  cat("\n", name, "\n", sep = "")
  print(fit)
  error <- truth - p$fit
  inside <- mean(truth > p$lwr & truth < p$upr)
  cat(sprintf("held out %s: RMSE %.3f (standard deviation %.3f), log score %.3f, 95 %% intervals hold %.1f %%, %.0f s\n",
              format(length(truth), big.mark = ","), sqrt(mean(error^2)), sd(truth),
              mean(-dnorm(truth, p$fit, p$se.obs, log = TRUE)), 100 * inside, seconds))
}

# ---- Volcano --------------------------------------------------------------------------------------------------------

grid <- data.frame(east = 10 * c(col(volcano)), north = 10 * (nrow(volcano) - c(row(volcano))), height = c(volcano))
set.seed(1)
held <- sample.int(nrow(grid), nrow(grid) / 10)
seconds <- system.time({
  fit <- vif_fit(height ~ 1, coords = ~ east + north, data = grid[-held, ], kernel = gp_kernel("matern52"),
                 inducing = 100, k = 20)
  p <- predict(fit, grid[held, ], interval = "prediction")
})[["elapsed"]]
report("Maunga Whau, heights in metres", fit, p, grid$height[held], seconds)

map <- function(values, title, palette, rev = FALSE) {
  surface <- matrix(values, nrow(volcano))
  image(sort(unique(grid$east)), sort(unique(grid$north)), t(surface[nrow(volcano):1, ]), asp = 1, las = 1, bty = "n",
        col = hcl.colors(64, palette, rev = rev), xlab = "east (m)", ylab = "north (m)")
  title(title, line = 1, cex.main = 1, font.main = 1)
}

png(picture, 1200, 1000, res = 120)
layout(matrix(1:4, 2, byrow = TRUE))
par(mar = c(4, 4.5, 3, 1))
surface <- predict(fit, grid)
map(surface$fit, sprintf("Prediction, %.0f to %.0f m", min(surface$fit), max(surface$fit)), "Terrain 2")
map(surface$se.fit, sprintf("Standard error, up to %.1f m", max(surface$se.fit)), "YlOrRd", rev = TRUE)
plot(p$fit, grid$height[held], pch = 20, cex = 0.6, col = "#2f7fb8", bty = "l", las = 1, xlab = "predicted (m)",
     ylab = "held out (m)")
abline(0, 1, col = "#c1121f")
title("Held-out heights", line = 1, cex.main = 1, font.main = 1)
levels <- seq(0.05, 0.95, by = 0.05)
coverage <- vapply(levels, function(level) {
  mean(abs(grid$height[held] - p$fit) < qnorm((1 + level) / 2) * p$se.obs)
}, 0)
plot(levels, coverage, pch = 20, bty = "l", las = 1, xlim = 0:1, ylim = 0:1, col = "#2f7fb8", xlab = "level of the interval",
     ylab = "share of held-out heights inside")
abline(0, 1, col = "#c1121f")
title("Coverage", line = 1, cex.main = 1, font.main = 1)
invisible(dev.off())
cat("picture:", picture, "\n")

# ---- Argo floats ----------------------------------------------------------------------------------------------------

if (!requireNamespace("GpGp", quietly = TRUE)) quit()
data("argo2016", package = "GpGp")
argo <- argo2016[order(argo2016$day), ]
# chords on the sphere in 1000 km, and days: one lengthscale for each column
x <- cbind(sphere_points(argo$lon, argo$lat, radius = 6.371), day = argo$day)
X <- cbind(one = 1, latitude = argo$lat, latitude2 = argo$lat^2)
held <- sample.int(nrow(x), nrow(x) / 10)
seconds <- system.time({
  fit <- vif_fit(argo$temp100[-held], x[-held, ], X = X[-held, ], kernel = gp_kernel("matern32", lengthscale = rep(1, 4)),
                 inducing = 200, k = 20, progress = TRUE)
  p <- predict(fit, x[held, ], newX = X[held, ], interval = "prediction")
})[["elapsed"]]
report("Argo floats, temperature at 100 dbar in degrees Celsius", fit, p, argo$temp100[held], seconds)

places <- expand.grid(lon = seq(0.5, 359.5, by = 2), lat = seq(-70, 70, by = 2))
at <- cbind(sphere_points(places$lon, places$lat, radius = 6.371), day = mean(argo$day))
surface <- predict(fit, at, newX = cbind(1, places$lat, places$lat^2))
world <- function(values, title, palette, rev = FALSE) {
  image(unique(places$lon), unique(places$lat), matrix(values, length(unique(places$lon))), las = 1, bty = "n",
        col = hcl.colors(64, palette, rev = rev), xlab = "longitude", ylab = "latitude")
  if (requireNamespace("maps", quietly = TRUE)) {
    maps::map("world2", add = TRUE, fill = TRUE, col = "grey85", border = "grey60", lwd = 0.4)
  }
  title(title, line = 1, cex.main = 1, font.main = 1)
}
picture <- sub("(\\.png)?$", "-argo.png", picture)
png(picture, 1200, 1100, res = 120)
par(mfrow = c(2, 1), mar = c(4, 4.5, 3, 1))
world(surface$fit, sprintf("Temperature at 100 dbar, %.0f to %.0f degrees", min(surface$fit), max(surface$fit)),
      "Spectral", rev = TRUE)
world(surface$se.fit, sprintf("Standard error, %.2f to %.2f degrees", min(surface$se.fit), max(surface$se.fit)), "YlOrRd",
      rev = TRUE)
points(argo$lon %% 360, argo$lat, pch = ".", col = "#00000066")
invisible(dev.off())
cat("picture:", picture, "\n")
