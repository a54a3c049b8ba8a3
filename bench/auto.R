# Whether "auto" ever loses much to brute force: seeded random problems of a size where an index may not repay itself.
#
#   Rscript bench/auto.R [problems] [seed]
#
# One thread, index included, the best of three times each, which take turns. A row for each problem where auto takes more
# than 1.07 times as long, and the quantiles of brute force / auto over all.

source("bench/problems.R")

arguments <- as.integer(commandArgs(trailingOnly = TRUE))
count <- if (length(arguments) > 0) arguments[1] else 60L
set.seed(if (length(arguments) > 1) arguments[2] else 1L)
pick <- function(...) sample(c(...), 1)

ratio <- function() {
  n <- pick(4000, 6000, 9000, 14000)
  d <- pick(1, 2, 3, 4, 5, 8, 10)
  family <- pick("rbf", "matern12", "matern32", "matern52")
  lengthscale <- exp(runif(1, log(0.03), log(2))) * sqrt(d)
  m <- pick(0, 20, 100, 300)
  k <- pick(10, 30, 60)
  nugget <- pick(0, 0, 0.1)
  x <- matrix(if (runif(1) < 0.3) rnorm(n * d) else runif(n * d), n)
  gp <- residual_gp(x, gp_kernel(family, lengthscale = lengthscale), m, nugget, selection = "random", seed = 1)
  spent <- c(brute = Inf, auto = Inf)
  for (i in 1:3) {
    for (method in names(spent)) {
      now <- seconds(nn <- residual_knn(gp, k, method = method, threads = 1, progress = FALSE))
      spent[method] <- min(spent[method], now)
    }
  }
  found <- spent[["brute"]] / spent[["auto"]]
  if (found < 1 / 1.07) {
    row(n, d, family, signif(lengthscale, 2), m, k, nugget, signif(spent[["brute"]], 3), signif(spent[["auto"]], 3), signif(found, 2), nn$note)
  }
  found
}

heading("n", "d", "family", "lengthscale", "m", "k", "nugget", "brute s", "auto s", "brute / auto", "what auto did")
all <- replicate(count, ratio())
cat("\nbrute / auto, quantiles:\n")
print(signif(quantile(all, c(0, 0.05, 0.25, 0.5, 0.75, 1)), 2))
