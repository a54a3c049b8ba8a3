# Predictions in gaps: whether the sizes that predict() chooses for itself there serve other data than those of bench/competition.R.
#
#   Rscript bench/gaps.R [n] [seed]
#
# Simulated fields, uniform inputs in the unit square or cube. What lies in a few balls, as under clouds, is held out: about a fifth of
# n points. Of each number of neighbours: scores at the held-out points (CRPS, coverage of 95 % intervals), and how much
# larger the standard errors are than from 600 neighbours, on average and at the 99 % quantile.

source("bench/problems.R")

n <- as.numeric(given(1, 8000))
seed <- as.integer(given(2, 31))

fields <- list(
  list(kernel = gp_kernel("matern12", 1, 0.2), nugget = 0.05, d = 2, radius = c(0.12, 0.18)),
  list(kernel = gp_kernel("matern32", 1, 0.1), nugget = 0.1, d = 2, radius = c(0.12, 0.18)),
  list(kernel = gp_kernel("matern52", 1, 0.3), nugget = 0.01, d = 2, radius = c(0.12, 0.18)),
  list(kernel = gp_kernel("matern32", 1, 0.05), nugget = 0.1, d = 2, radius = rep(0.04, 40)),
  list(kernel = gp_kernel("matern12", 1, 0.5), nugget = 0.1, d = 3, radius = c(0.25, 0.3))
)

# A draw from a VIF approximation with more inducing inputs and neighbours than the fits have, and which points are held out.
draw_field <- function(field) {
  x <- matrix(runif(n * field$d), n)
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, field$kernel, inducing = 400, seed = 1)
  f <- vif_factor(gp, residual_knn(gp, 60, predecessors = TRUE, progress = FALSE), field$nugget)
  y <- drop(crossprod(gp$V, rnorm(nrow(gp$V)))) +
    as.vector(Matrix::solve(methods::as(f$B, "triangularMatrix"), sqrt(f$D) * rnorm(n)))
  held <- rowSums(vapply(field$radius, function(radius) {
    rowSums(sweep(x, 2, runif(field$d, radius, 1 - radius))^2) < radius^2
  }, logical(n))) > 0
  list(x = x, y = y, held = held)
}

heading("field", "held out", "neighbours", "us a point", "RMSE", "CRPS", "coverage", "standard error / that of 600, mean", "99 %")
for (field in fields) {
  set.seed(seed)
  data <- draw_field(field)
  fit <- vif_fit(data$y[!data$held], data$x[!data$held, ], X = 1, kernel = field$kernel, progress = FALSE)
  new <- data$x[data$held, ]
  truth <- data$y[data$held]
  best <- predict(fit, new, k = 600)
  for (k in list(30, 60, 200, NULL)) {
    spent <- sum(system.time(p <- predict(fit, new, k = k))[1:2])
    z <- (truth - p$fit) / p$se.obs
    ratio <- p$se.fit / best$se.fit
    row(sprintf("%s %g, d = %d, nugget %g, %d balls", field$kernel$family, field$kernel$lengthscale, field$d, field$nugget,
                length(field$radius)), length(truth), if (is.null(k)) "default" else k, round(1e6 * spent / length(truth)),
        sprintf("%.4f", c(sqrt(mean((truth - p$fit)^2)),
                          mean(p$se.obs * (z * (2 * pnorm(z) - 1) + 2 * dnorm(z) - 1 / sqrt(pi))))),
        sprintf("%.3f", mean(abs(z) < qnorm(0.975))), sprintf("%.4f", c(mean(ratio), quantile(ratio, 0.99))))
  }
}
