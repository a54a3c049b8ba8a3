# Five analyses with the first line that a user would type, and the exact process beside one of them.
#
#   Rscript bench/analyses.R
#
# Real data of R and of packages sp, fields and gstat, where these are installed, and a computer experiment.

source("bench/problems.R")

has <- function(...) all(vapply(c(...), requireNamespace, NA, quietly = TRUE))
show <- function(title, code) {
  cat("\n## ", title, "\n\n", sep = "")
  spent <- seconds(fit <- code)
  print(fit)
  cat(sprintf("%.1f s\n", spent))
  invisible(fit)
}

show("Earthquakes near Fiji: magnitude by place and depth, the place on the sphere",
     vif_fit(mag ~ depth, coords = ~ sphere_points(long, lat), data = quakes))

if (has("sp", "sf")) {
  data(meuse, package = "sp")
  meuse_sf <- sf::st_as_sf(meuse, coords = c("x", "y"), crs = 28992)
  fit <- show("Zinc along the Meuse, sf points", vif_fit(log(zinc) ~ sqrt(dist), data = meuse_sf))
  print(head(predict(fit, meuse_sf, interval = "prediction"), 3))
  print(vif_cv(fit))
}

if (has("fields")) {
  data(NorthAmericanRainfall, package = "fields")
  rain <- with(NorthAmericanRainfall, data.frame(lon = longitude, lat = latitude, elevation = elevation,
                                                 rain = log(precip)))
  fit <- show("Summer rainfall of North America on the sphere",
              vif_fit(rain ~ elevation, coords = ~ sphere_points(lon, lat), data = rain))
  # the exact process: its maximum, and standard errors by its expected information
  x <- with(rain, sphere_points(lon, lat))
  X <- cbind(1, rain$elevation)
  S_of <- function(theta) {
    gp <- residual_gp(x, gp_kernel("matern32", 1, exp(theta[2])), inducing = 0)
    exp(theta[1]) * residual_correlation(gp) + diag(exp(theta[3]), nrow(x))
  }
  value <- function(theta) gp_loglik(rain$rain, x, gp_kernel("matern32", exp(theta[1]), exp(theta[2])), exp(theta[3]), X = X)
  theta <- unname(log(coef(fit, "covariance")))
  at_fit <- value(theta)
  inverse <- chol2inv(chol(S_of(theta)))
  slopes <- lapply(1:3, function(j) {
    h <- 1e-4 * (1:3 == j)
    inverse %*% ((S_of(theta + h) - S_of(theta - h)) / 2e-4)
  })
  information <- outer(1:3, 1:3, Vectorize(function(a, b) sum(slopes[[a]] * t(slopes[[b]])) / 2))
  exact <- sqrt(diag(solve(information))) * exp(theta)
  ours <- sqrt(diag(vcov(fit, "covariance")))
  cat(sprintf("\nlog-likelihood %.3f, of the exact process at the same parameters %.3f\n", fit$loglik, at_fit))
  print(rbind("standard errors" = ours, exact = exact, ratio = ours / exact), digits = 4)
}

if (has("gstat")) {
  data(wind, package = "gstat")
  stations <- c("RPT", "VAL", "ROS", "KIL", "SHA", "BIR", "DUB", "CLA", "MUL", "CLO", "BEL", "MAL")
  place <- wind.loc[match(stations, wind.loc$Code), ]
  degrees <- function(text) {
    parts <- lapply(strsplit(as.character(text), "[^0-9.]+"), as.numeric)
    vapply(parts, function(part) sum(part / 60^(seq_along(part) - 1), na.rm = TRUE), 0)
  }
  days <- wind[wind$year == 78, ]
  long <- data.frame(
    speed = sqrt(unlist(days[stations], use.names = FALSE)), day = rep(seq_len(nrow(days)), length(stations)),
    lat = rep(degrees(place$Latitude), each = nrow(days)), lon = rep(-degrees(place$Longitude), each = nrow(days))
  )
  show("Irish winds of 1978 in space and time",
       vif_fit(speed ~ 1, coords = ~ sphere_points(lon, lat) + day, data = long,
               lengthscale = list(space = 1:3, time = 4)))
}

borehole <- function(u) {
  low <- c(0.05, 100, 63070, 990, 63.1, 700, 1120, 9855)
  high <- c(0.15, 50000, 115600, 1110, 116, 820, 1680, 12045)
  v <- t(low + t(u) * (high - low))
  ratio <- log(v[, 2] / v[, 1])
  2 * pi * v[, 3] * (v[, 4] - v[, 6]) / (ratio * (1 + 2 * v[, 7] * v[, 3] / (ratio * v[, 1]^2 * v[, 8]) + v[, 3] / v[, 5]))
}
set.seed(1)
runs <- as.data.frame(matrix(runif(2000 * 8), ncol = 8))
runs$flow <- borehole(as.matrix(runs))
fit <- show("The borehole function of eight inputs, 1,500 runs",
            vif_fit(flow ~ 1, coords = ~ ., data = runs[1:1500, ], kernel = gp_kernel("matern52", lengthscale = rep(1, 8))))
p <- predict(fit, runs[1501:2000, ])
cat(sprintf("RMSE of 500 other runs: %.3f, standard deviation of the function %.1f\n",
            sqrt(mean((p$fit - runs$flow[1501:2000])^2)), sd(runs$flow)))
