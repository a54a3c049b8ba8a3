# Coverage of confidence intervals: by Wald from the information of the logarithms, and by profiles of the likelihood.
#
#   Rscript bench/intervals.R [data sets] [n] [nugget] [lengthscale]
#
# Data sets in one dimension of an exact process of variance 1, kernel matern32, constant mean, fitted with all
# neighbours. A limit that is missing (at a bound) counts as one that does not cover.

source("bench/problems.R")

sets <- as.integer(given(1, 200))
n <- as.integer(given(2, 80))
nugget <- as.numeric(given(3, 0.1))
lengthscale <- as.numeric(given(4, 0.1))
truth <- c("(Intercept)" = 0, variance = 1, lengthscale = lengthscale, nugget = nugget)

methods <- c("wald", "profile")
covered <- array(FALSE, c(sets, length(truth), 2), list(NULL, names(truth), methods))
vanished <- logical(sets)
spent <- numeric(2)
for (i in seq_len(sets)) {
  set.seed(i)
  x <- runif(n)
  s <- sqrt(3) * as.matrix(dist(x)) / lengthscale
  y <- drop(rnorm(n) %*% chol((1 + s) * exp(-s) + diag(nugget + 1e-10, n)))
  fit <- suppressMessages(suppressWarnings(vif_fit(y, x, X = 1, inducing = 0, k = n - 1, threads = 1, progress = FALSE)))
  vanished[i] <- "nugget" %in% names(fit$bounded)
  for (method in methods) {
    spent[match(method, methods)] <- spent[match(method, methods)] + seconds(limits <- confint(fit, method = method))
    inside <- limits[, 1] <= truth & truth <= limits[, 2]
    covered[i, , method] <- inside & !is.na(inside)
  }
}

heading("parameter", "covered by Wald", "by profile", "where the nugget has gone to zero: data sets", "Wald", "profile")
for (name in names(truth)) {
  of <- function(rows) sprintf("%.3f", colMeans(covered[rows, name, , drop = FALSE])[1, ])
  row(name, of(TRUE), sum(vanished), if (any(vanished)) of(vanished) else c("", ""))
}
cat(sprintf("\n%d data sets, n = %d, nugget %g, lengthscale %g; seconds for the intervals of a fit: %.3f, %.3f\n", sets, n, nugget, lengthscale,
            spent[1] / sets, spent[2] / sets))
