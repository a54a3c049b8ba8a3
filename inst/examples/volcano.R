# Residual neighbours on real data: 5,307 heights of the volcano Maunga Whau, which come with R.
#
#   Rscript volcano.R [picture.png]
#
# Hyperparameters are chosen, the points brought into maxmin order, the conditioning set of every point found
# among its predecessors, and compared with what conditioning on the Euclidean neighbours would have used.
# Where package GpGp is installed the same is done for its 32,436 ocean temperatures.
library(vecchiann)

picture <- c(commandArgs(trailingOnly = TRUE), "volcano.png")[1]

# Maximum likelihood for a random subset of the data: the dense likelihood of 600 points takes a moment, and
# a conditioning set changes little with small errors of the hyperparameters. `start` holds the variance, the
# nugget and the lengthscales; its attribute says which lengthscale each column of `x` has.
choose_hyperparameters <- function(y, x, X, start, size = 600) {
  subset <- sample.int(length(y), size)
  kernel <- function(theta) gp_kernel("matern32", exp(theta[1]), exp(theta[-(1:2)])[attr(start, "columns")])
  objective <- function(theta) {
    -gp_loglik(y[subset], x[subset, ], kernel(theta), nugget = exp(theta[2]), X = X[subset, , drop = FALSE])
  }
  theta <- stats::nlminb(log(start), objective, control = list(rel.tol = 1e-6))$par
  list(kernel = kernel(theta), nugget = exp(theta[2]))
}

# Predecessor neighbours of all points, residual and Euclidean, for points in maxmin order.
condition <- function(x, kernel, inducing, k) {
  gp <- residual_gp(x, kernel, inducing = inducing, seed = 1)
  seconds <- system.time(nn <- residual_knn(gp, k, predecessors = TRUE))[["elapsed"]]
  cat(sprintf("%s points, %d inducing inputs, k = %d: %.1f seconds, method \"%s\"\n",
              format(nrow(x), big.mark = ","), inducing, k, seconds, nn$method))
  # Without inducing inputs the correlation falls with the distance (in units of the lengthscales) alone, so
  # that the nearest in correlation are the nearest in distance.
  euclidean <- residual_knn(residual_gp(x, kernel, inducing = 0), k, predecessors = TRUE)
  found <- vapply(seq_len(nrow(x)), function(i) sum(nn$id[i, ] %in% euclidean$id[i, !is.na(euclidean$id[i, ])]), 0)
  missed <- sum(!is.na(nn$id)) - sum(found)
  cat(sprintf("  Euclidean neighbours miss %s of %s residual neighbours: %.0f %%\n", format(missed, big.mark = ","),
              format(sum(!is.na(nn$id)), big.mark = ","), 100 * missed / sum(!is.na(nn$id))))
  invisible(list(nn = nn, euclidean = euclidean, found = found))
}

# The map with the conditioning set of one point, and its surroundings with the Euclidean neighbours too.
draw <- function(result, query, heights) {
  nn <- result$nn
  par(mfrow = c(1, 2), mar = c(4, 4, 4, 1), mgp = c(2.4, 0.7, 0))
  north <- 10 * seq_len(nrow(heights))
  west <- 10 * seq_len(ncol(heights))
  image(north, west, heights, asp = 1, bty = "n", las = 1, col = hcl.colors(30, "Terrain 2"),
        xlab = "north (m)", ylab = "west (m)", font.main = 1, cex.main = 1,
        main = sprintf("%s heights, point %d and its neighbours", format(length(heights), big.mark = ","), query))
  contour(north, west, heights, add = TRUE, drawlabels = FALSE, col = "#00000040")
  points(nn$x[nn$id[query, ], ], pch = 21, bg = "#08457e", col = "white", cex = 0.9)
  points(nn$x[query, , drop = FALSE], pch = 23, bg = "#c1121f", col = "white", cex = 1.4)
  plot(nn, query = query, asp = 1, zoom = TRUE, xlab = "north (m)", ylab = "west (m)",
       main = sprintf("%d residual neighbours; rings: the Euclidean ones", nn$k))
  points(nn$x[result$euclidean$id[query, ], ], cex = 1.9, lwd = 1.6, col = "#e07a1f")
}

# ---- Heights of a volcano, on a grid of 10 metres ----

set.seed(1)
x <- as.matrix(expand.grid(north = 10 * seq_len(nrow(volcano)), west = 10 * seq_len(ncol(volcano))))
y <- as.vector(volcano)
chosen <- choose_hyperparameters(y, x, X = matrix(1, length(y)), structure(c(500, 1, 200), columns = 1))
x <- x[order_maxmin(x), ]
cat("Volcano: ", format(chosen$kernel), ", nugget ", format(chosen$nugget, digits = 3), "\n", sep = "")
result <- condition(x, chosen$kernel, inducing = 200, k = 30)

if (capabilities("png")) {
  png(picture, 2200, 1000, res = 150)
} else {
  picture <- sub("[.]png$", ".pdf", picture)
  pdf(picture, 14, 6.5)
}
# A point of the middle of the map and the later half of the order that misses as many as the median point.
inner <- which(abs(x[, 1] - 435) < 250 & abs(x[, 2] - 305) < 150 & seq_len(nrow(x)) > 2500)
draw(result, inner[which.min(abs(result$found[inner] - median(result$found)))], volcano)
invisible(dev.off())
cat("picture:", normalizePath(picture), "\n")

# ---- Temperatures from Argo floats: longitude and latitude as a point on the unit sphere, and the day ----

if (requireNamespace("GpGp", quietly = TRUE)) {
  argo <- GpGp::argo2016
  lon <- argo$lon * pi / 180
  lat <- argo$lat * pi / 180
  x <- cbind(cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat), argo$day)
  y <- argo$temp100
  X <- cbind(1, lat, lat^2)
  chosen <- choose_hyperparameters(y, x, X, structure(c(10, 0.5, 0.1, 30), columns = c(1, 1, 1, 2)))
  x <- x[order_maxmin(t(t(x) / chosen$kernel$lengthscale)), ]
  cat("Argo floats: ", format(chosen$kernel), ", nugget ", format(chosen$nugget, digits = 3), "\n", sep = "")
  condition(x, chosen$kernel, inducing = 500, k = 30)
}
