# Divergence: how far the VIF approximation is from the exact process, by the kind of conditioning sets.
#
#   Rscript bench/divergence.R [seed] [n]
#
# Kullback-Leibler divergence of the exact distribution of n noisy observations from the approximation at the true
# parameters: uniform inputs in maxmin order, inducing inputs by k-means++. bench/divergence.md has the results.

source("bench/problems.R")
source("tools/divergence.R")

seed <- as.integer(given(1, 1))
n <- as.integer(given(2, 2500))

settings <- list(
  list(d = 2, kernel = gp_kernel("matern32", 1, 0.1), m = 150, nugget = 0.1, k = c(10, 30)),
  list(d = 2, kernel = gp_kernel("matern12", 1, 0.2), m = 150, nugget = 0.1, k = 30),
  list(d = 2, kernel = gp_kernel("rbf", 1, 0.1), m = 100, nugget = 0.01, k = 30),
  list(d = 5, kernel = gp_kernel("matern32", 1, 0.5), m = 150, nugget = 0.1, k = 30),
  list(d = 5, kernel = gp_kernel("rbf", 1, 0.5), m = 150, nugget = 0.01, k = 30),
  list(d = 10, kernel = gp_kernel("matern52", 1, 1), m = 150, nugget = 0.1, k = 30)
)

heading("problem", "k", names(sets_of))
for (setting in settings) {
  set.seed(seed)
  x <- matrix(runif(n * setting$d), n)
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, setting$kernel, inducing = setting$m, seed = seed)
  exact <- exact_process(x, setting$kernel, setting$nugget)
  for (k in setting$k) {
    found <- vapply(sets_of, function(sets) divergence(gp, sets(gp, k, setting$nugget), setting$nugget, exact), 0)
    row(sprintf("d = %d, %s %g, m = %d, nugget %g", setting$d, setting$kernel$family, setting$kernel$lengthscale, setting$m,
                setting$nugget), k, signif(found, 3))
  }
}
