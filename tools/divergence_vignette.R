# Computes vignettes/divergence.rds: the divergence of the exact process from its VIF approximation over the size of the
# conditioning sets, for the three kinds of sets, which vignettes/neighbours.Rmd draws.
#
#   Rscript tools/divergence_vignette.R

library(vecchiann)
source("tools/divergence.R")

compute <- function(n = 1200, m = 100, nugget = 0.05, sizes = c(5, 10, 15, 20, 30, 40)) {
  problems <- list(
    "Matern 1/2, d = 2" = list(d = 2, kernel = gp_kernel("matern12", 1, 0.2)),
    "Matern 3/2, d = 2" = list(d = 2, kernel = gp_kernel("matern32", 1, 0.1)),
    "Matern 3/2, d = 5" = list(d = 5, kernel = gp_kernel("matern32", 1, 0.5)),
    "Gaussian, d = 5" = list(d = 5, kernel = gp_kernel("rbf", 1, 0.5))
  )
  set.seed(11)
  parts <- lapply(names(problems), function(name) {
    problem <- problems[[name]]
    x <- matrix(runif(n * problem$d), n)
    x <- x[order_maxmin(x), ]
    gp <- residual_gp(x, problem$kernel, inducing = m, seed = 1)
    exact <- exact_process(x, problem$kernel, nugget)
    grid <- expand.grid(k = sizes, sets = names(sets_of), stringsAsFactors = FALSE)
    grid$divergence <- mapply(function(sets, k) divergence(gp, sets_of[[sets]](gp, k, nugget), nugget, exact), grid$sets, grid$k)
    cbind(problem = name, grid)
  })
  structure(do.call(rbind, parts), setting = c(n = n, m = m, nugget = nugget))
}

if (sys.nframe() == 0L) saveRDS(compute(), "vignettes/divergence.rds")
