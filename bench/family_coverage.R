# Coverage of 95 % intervals over simulated data sets: of the coefficient of a covariate, of the parameters of the
# covariance and of the family, of the linear predictor and of new responses at new places. Laplace's approximation and
# intervals at estimated covariance parameters both leave something out. Draws family_coverage.png.
#
#   Rscript bench/family_coverage.R [sets] [n]

library(vecchiann)

arguments <- as.integer(commandArgs(TRUE))
sets <- if (length(arguments) > 0) arguments[1] else 100
n <- if (length(arguments) > 1) arguments[2] else 400
fresh <- 100
kernel <- gp_kernel("matern32", 0.8, 0.2)
cases <- list(
  binomial = list(family = binomial(), draw = function(eta) rbinom(length(eta), 5, plogis(eta)) / 5, trials = 5),
  poisson = list(family = poisson(), draw = function(eta) rpois(length(eta), exp(eta))),
  gamma = list(family = Gamma("log"), draw = function(eta) rgamma(length(eta), 2, 2 * exp(-eta)), phi = c(shape = 2)),
  nbinom2 = list(family = nbinom2(), draw = function(eta) rnbinom(length(eta), size = 2, mu = exp(eta)),
                 phi = c(size = 2)),
  beta = list(family = beta_family(), draw = function(eta) {
    # shares that round to 0 or 1 are outside of the family
    pmin(pmax(rbeta(length(eta), 10 * plogis(eta), 10 * plogis(-eta)), 1e-12), 1 - 1e-12)
  }, phi = c(precision = 10)),
  student_t = list(family = student_t(df = 4), draw = function(eta) eta + 0.5 * rt(length(eta), 4), phi = c(scale = 0.5))
)

one_set <- function(seed, case) {
  set.seed(seed)
  total <- n + fresh
  x <- cbind(runif(total), runif(total))
  z <- rnorm(total)
  S <- kernel$variance * residual_correlation(residual_gp(x, kernel, 0)) + diag(1e-8, total)
  eta <- 0.5 + 0.5 * z + drop(crossprod(chol(S), rnorm(total)))
  y <- case$draw(eta)
  old <- seq_len(n)
  fit <- vif_fit(y[old], x[old, ], X = cbind(1, z[old]), family = case$family,
                 weights = if (!is.null(case$trials)) rep(case$trials, n), inducing = 30, k = 12, progress = FALSE)
  truth <- c(X2 = 0.5, variance = kernel$variance, lengthscale = kernel$lengthscale, case$phi)
  limits <- confint(fit, names(truth))
  inside <- truth > limits[, 1] & truth < limits[, 2]
  at <- function(...) predict(fit, x[-old, ], newX = cbind(1, z[-old]), ...)
  link <- at(type = "link", interval = "confidence", beta_uncertainty = TRUE)
  c(inside[1:3], family = if (is.null(case$phi)) NA else inside[[4]],
    predictor = mean(eta[-old] > link$lwr & eta[-old] < link$upr),
    response = if (!is.null(case$trials)) NA else {
      ahead <- at(interval = "prediction")
      mean(y[-old] >= ahead$lwr & y[-old] <= ahead$upr)
    })
}

shown <- c("coefficient", "variance", "lengthscale", "parameter of the family", "linear predictor", "new response")
tables <- lapply(names(cases), function(name) {
  found <- vapply(seq_len(sets), function(seed) {
    tryCatch(unname(one_set(seed, cases[[name]])) + 0, error = function(e) rep(NA_real_, 6))
  }, numeric(6))
  failed <- sum(is.na(found[1, ]))
  no_limits <- sum(is.na(found[2, ])) - failed
  table <- data.frame(mean = rowMeans(found, na.rm = TRUE), se = apply(found, 1, sd, na.rm = TRUE) / sqrt(sets),
                      row.names = shown)
  cat(sprintf("%s: %d sets of n = %d, %d failed, %d without limits of the covariance\n", name, sets, n, failed,
              no_limits))
  print(table, digits = 3)
  table
})
names(tables) <- names(cases)

grDevices::png("bench/family_coverage.png", width = 1500, height = 800, res = 160)
par(mar = c(4, 11, 1, 8), las = 1, xpd = FALSE)
plot(NA, xlim = c(0.8, 1), ylim = c(length(shown) + 0.5, 0.5), xlab = "coverage of 95 % intervals", ylab = "", yaxt = "n",
     bty = "l")
axis(2, seq_along(shown), shown, tick = FALSE)
abline(v = 0.95, col = "grey50", lty = 2)
colours <- c("#08457e", "#2f9e44", "#c1121f", "#b8860b", "#7048a0", "#5c5c5c")
for (j in seq_along(tables)) {
  table <- tables[[j]]
  at <- seq_along(shown) + (j - (length(tables) + 1) / 2) * 0.12
  # for a share of sets near 1 the standard error of the nominal level is the fairer one
  se <- pmax(table$se, ifelse(seq_along(shown) <= 4, sqrt(0.95 * 0.05 / sets), 0))
  segments(pmax(table$mean - 2 * se, 0), at, pmin(table$mean + 2 * se, 1), at, col = colours[j])
  points(table$mean, at, pch = 19, col = colours[j])
}
par(xpd = NA)
legend(1.005, 1, names(tables), col = colours, pch = 19, bty = "n")
invisible(dev.off())
