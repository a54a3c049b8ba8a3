# Comparable models: twice the gain in log-likelihood by a covariate of pure noise, against chi-squared of one degree of freedom.
#
#   Rscript bench/nested.R [data sets] [n] [threads]
#
# Each data set is fitted twice, with a constant and with a covariate of pure noise beside it. The gain is taken from the fits
# as they are (what AIC compares), from anova(), which evaluates both with the same conditioning sets, and from the exact process.

source("bench/problems.R")

count <- as.integer(given(1, 200))
n <- as.integer(given(2, 800))
options(vecchiann.threads = as.integer(given(3, 2)))
truth <- gp_kernel("matern32", lengthscale = 0.15)

exact <- function(fit, y, x, X) {
  value <- function(theta) {
    tryCatch(gp_loglik(y, x, gp_kernel("matern32", exp(theta[1]), exp(theta[2])), exp(theta[3]), X = X),
             error = function(e) -1e10)
  }
  optim(log(unname(coef(fit, "covariance"))), value, control = list(fnscale = -1, reltol = 1e-10))$value
}

set.seed(8)
gains <- t(vapply(seq_len(count), function(s) {
  x <- cbind(runif(n), runif(n))
  root <- chol(truth$variance * residual_correlation(residual_gp(x, truth, inducing = 0)) + diag(0.1, n))
  y <- drop(crossprod(root, rnorm(n)))
  X <- cbind(constant = 1, noise = rnorm(n))
  small <- vif_fit(y, x, X = X[, 1, drop = FALSE], inducing = 60, k = 15, progress = FALSE)
  large <- vif_fit(y, x, X = X, inducing = 60, k = 15, progress = FALSE)
  table <- anova(small, large)
  c("as fitted" = 2 * (large$loglik - small$loglik), anova = 2 * diff(table$logLik),
    exact = if (s <= 20) 2 * (exact(large, y, x, X) - exact(small, y, x, X[, 1, drop = FALSE])) else NA,
    shared = identical(small$id, large$id))
}, numeric(4)))

levels <- c(0.5, 0.8, 0.9, 0.95, 0.99)
heading("2 (l1 - l0)", "mean", paste0(100 * levels, " %"), "above the 95 % point", "Kolmogorov-Smirnov p")
row("chi-squared", 1, sprintf("%.2f", qchisq(levels, 1)), 0.05, "")
for (name in c("as fitted", "anova")) {
  gain <- gains[, name]
  row(name, sprintf("%.2f", c(mean(gain), quantile(gain, levels))), sprintf("%.3f", mean(gain > qchisq(0.95, 1))),
      sprintf("%.2f", suppressWarnings(ks.test(gain, "pchisq", 1)$p.value)))
}
some <- !is.na(gains[, "exact"])
cat(sprintf("\nthe same sets in %d of %d pairs; on %d data sets the gain differs from that of the exact process by %.2f (root mean square)\n",
            sum(gains[, "shared"]), count, sum(some), sqrt(mean((gains[some, "anova"] - gains[some, "exact"])^2))))
