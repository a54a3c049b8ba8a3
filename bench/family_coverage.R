# Coverage of 95 % intervals over simulated data sets: of the coefficient of a covariate, of the linear predictor and of new
# responses at new places. Laplace's approximation and intervals at estimated covariance parameters both leave something out.
#
#   Rscript bench/family_coverage.R [sets] [n]

library(vecchiann)

arguments <- as.integer(commandArgs(TRUE))
sets <- if (length(arguments) > 0) arguments[1] else 100
n <- if (length(arguments) > 1) arguments[2] else 400
kernel <- gp_kernel("matern32", 0.8, 0.2)
families <- list(binomial = list(family = binomial(), draw = function(eta) rbinom(length(eta), 1, plogis(eta))),
                 poisson = list(family = poisson(), draw = function(eta) rpois(length(eta), exp(eta))),
                 gamma = list(family = Gamma("log"), draw = function(eta) rgamma(length(eta), 2, 2 * exp(-eta))))

one_set <- function(seed, case) {
  set.seed(seed)
  total <- n + 100
  x <- cbind(runif(total), runif(total))
  z <- rnorm(total)
  S <- kernel$variance * residual_correlation(residual_gp(x, kernel, 0)) + diag(1e-8, total)
  eta <- 0.5 + 0.5 * z + drop(crossprod(chol(S), rnorm(total)))
  y <- case$draw(eta)
  old <- seq_len(n)
  fit <- vif_fit(y[old], x[old, ], X = cbind(1, z[old]), family = case$family, inducing = 30, k = 12, neighbours = "selected",
                 progress = FALSE, threads = 1)
  new <- predict(fit, x[-old, ], newX = cbind(1, z[-old]), type = "link", interval = "confidence", beta_uncertainty = TRUE)
  ahead <- predict(fit, x[-old, ], newX = cbind(1, z[-old]), interval = "prediction")
  c(coefficient = abs(coef(fit, "mean")[[2]] - 0.5) < qnorm(0.975) * sqrt(vcov(fit)[2, 2]),
    predictor = mean(eta[-old] > new$lwr & eta[-old] < new$upr),
    response = mean(y[-old] >= ahead$lwr & y[-old] <= ahead$upr),
    variance = fit$kernel$variance, lengthscale = fit$kernel$lengthscale)
}

for (name in names(families)) {
  found <- vapply(seq_len(sets), function(seed) {
    tryCatch(one_set(seed, families[[name]]), error = function(e) rep(NA_real_, 5))
  }, numeric(5))
  cat(sprintf("%s: %d sets of n = %d, %d failed\n", name, sets, n, sum(is.na(found[1, ]))))
  print(c(rowMeans(found[1:3, ], na.rm = TRUE), apply(found[4:5, ], 1, stats::median, na.rm = TRUE)), digits = 3)
}
