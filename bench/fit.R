# What a fit costs: the likelihood with its gradient and the expected information, beside GpGp's.
#
#   Rscript bench/fit.R [parts: likelihood] [n] [repeats]
#
# Uniform inputs in the unit square, maxmin order, k = 30. Ours and GpGp's take turns; of each the fastest counts. Operations are counted
# as in a text book: what any method with these neighbours and inducing inputs must do.

source("bench/problems.R")

# Multiplications and additions of a point: residual covariances (half of k^2 products of m), the factor, its solves, contrasts of
# features and of their derivatives, M, M^-1 W, the derivatives of the features, and their products with the neighbours.
operations <- function(m, k, directions) {
  small <- k^3 / 3 + (2 + 4 * directions) * k^2
  large <- k^2 * m + 2 * k * m + m^2 + 2 * m^2 + 2 * k * m
  derived <- 2 * m^2 + 2 * k * m + 4 * k * m
  small + if (m) large + derived else 0
}

likelihood_problem <- function(n, m, kernel, k = 30) {
  set.seed(1)
  x <- matrix(runif(2 * n), n)
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, kernel, inducing = if (m) x[seq_len(m), ] else 0)
  nn <- residual_knn(gp, k, predecessors = TRUE, progress = FALSE)
  list(x = x, y = rnorm(n), X = matrix(1, n, 1), gp = gp, nn = nn, nugget = 0.1, memory = vecchiann:::vif_memory())
}

our_likelihood <- function(problem, threads, ...) {
  vecchiann:::vif_evaluate(problem$y, problem$gp, unname(problem$nn$id), rep(problem$nugget, length(problem$y)), problem$X,
                           threads, TRUE, TRUE, problem$nugget, memory = problem$memory, ...)
}

likelihood_part <- function(n, repeats, k = 30) {
  kernel <- gp_kernel("matern32", 1, 0.1)
  sizes <- c(0, 200)
  ours <- lapply(sizes, function(m) likelihood_problem(n, m, kernel, k))
  runs <- list()
  for (i in seq_along(sizes)) {
    for (threads in 1:2) {
      local({
        at <- i
        team <- threads
        runs[[sprintf("vecchiann, m = %d, threads = %d", sizes[at], team)]] <<- function() our_likelihood(ours[[at]], team)
      })
    }
  }
  if (requireNamespace("GpGp", quietly = TRUE)) {
    theirs <- as_gpgp(kernel, ours[[1]]$nugget)
    array <- as_nnarray(ours[[1]]$nn)
    runs[["GpGp, ungrouped"]] <- function() {
      GpGp::vecchia_profbeta_loglik_grad_info(theirs$covparms, theirs$covfun_name, ours[[1]]$y, ours[[1]]$X, ours[[1]]$x, array)
    }
  }
  for (run in runs) run() # memory is touched, code is loaded
  time <- vapply(seq_len(repeats), function(turn) vapply(runs, function(run) seconds(run()), 0), numeric(length(runs)))
  best <- apply(time, 1, min)
  cat("\nLikelihood, gradient and information: n = ", n, ", k = ", k, ", ", format(kernel), ", nugget 0.1\n\n", sep = "")
  heading("", "us a point", "times GpGp", "GFLOPS")
  for (name in names(best)) {
    m <- if (grepl("m = ", name)) as.numeric(sub(".*m = ([0-9]+).*", "\\1", name)) else 0
    row(name, round(1e6 * best[[name]] / n, 2),
        if ("GpGp, ungrouped" %in% names(best)) round(best[["GpGp, ungrouped"]] / best[[name]], 2) else "",
        round(n * operations(m, k, 3) / best[[name]] / 1e9, 1))
  }
}

parts <- list(likelihood = function() likelihood_part(as.numeric(given(2, 50000)), as.numeric(given(3, 5))))
for (part in strsplit(given(1, paste(names(parts), collapse = ",")), ",")[[1]]) parts[[part]]()
