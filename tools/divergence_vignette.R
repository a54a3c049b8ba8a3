# Computes vignettes/divergence.rds: the divergence of the exact process from its VIF approximation over the size of the
# conditioning sets, for the three kinds of sets. divergence_figure() draws it, for a vignette to take over.
#
#   Rscript tools/divergence_vignette.R

library(vecchiann)
source("tools/divergence.R")

divergence_figure <- function(results) {
  colours <- c(Euclidean = "#2f7fb8", residual = "#8f8f8f", selected = "#c1121f")
  problems <- unique(results$problem)
  old <- par(mfrow = c(1, length(problems)), mar = c(3, 4.2, 2, 0.6), mgp = c(3, 0.6, 0), las = 1, cex = 0.62)
  on.exit(par(old))
  for (name in problems) {
    part <- results[results$problem == name, ]
    plot(part$k, part$divergence, type = "n", log = "y", bty = "l", xlab = "", ylab = if (name == problems[1]) "divergence" else "")
    title(name, line = 0.8, cex.main = 1, font.main = 1)
    title(xlab = "k", line = 1.8)
    for (kind in names(colours)) {
      lines(divergence ~ k, part[part$sets == kind, ], type = "b", pch = 20, col = colours[[kind]])
    }
  }
  legend("topright", names(colours), col = colours, pch = 20, lty = 1, bty = "n", cex = 0.9)
}

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
