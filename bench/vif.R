# VIF against gpboost: the same simulated data, kernel, number of inducing inputs and of neighbours.
#
#   Rscript bench/vif.R [n] [threads]
#
# For each problem: the log-likelihood at the true parameters, and of a fit the estimates, seconds, and RMSE and
# log score (mean negative log predictive density, lower is better) of n / 5 held-out observations. Without gpboost
# only our own rows are printed. Data are drawn from a VIF approximation with many neighbours, which is close to
# the exact process where that is out of reach.

library(vecchiann)

arguments <- as.numeric(commandArgs(trailingOnly = TRUE))
n <- if (length(arguments) > 0) arguments[1] else 10000
threads <- if (length(arguments) > 1) arguments[2] else 2
m <- 200
k <- 30
nugget <- 0.1

problems <- list(
  "d = 2" = list(d = 2, kernel = gp_kernel("matern32", 1, 0.1)),
  "d = 5" = list(d = 5, kernel = gp_kernel("matern32", 1, 0.5))
)

simulate_data <- function(problem) {
  x <- matrix(runif(1.2 * n * problem$d), ncol = problem$d)
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, problem$kernel, inducing = 500, seed = 1)
  nn <- residual_knn(gp, 80, predecessors = TRUE, progress = FALSE)
  f <- vif_factor(gp, nn, nugget)
  B <- methods::as(f$B, "triangularMatrix")
  y <- drop(crossprod(gp$V, rnorm(500))) + as.vector(Matrix::solve(B, sqrt(f$D) * rnorm(nrow(x))))
  held <- sample.int(nrow(x), nrow(x) - n)
  list(x = x[-held, ], y = y[-held], new = x[held, ], truth = y[held])
}

scores <- function(mean, sd, truth) {
  c(RMSE = sqrt(mean((truth - mean)^2)), score = mean(-dnorm(truth, mean, sd, log = TRUE)))
}

seconds <- function(code) system.time(code)[["elapsed"]]

ours <- function(data, kernel, neighbours) {
  order <- order_maxmin(data$x)
  gp <- residual_gp(data$x[order, ], kernel, inducing = m, seed = 1)
  searched <- if (neighbours == "residual") gp else residual_gp(data$x[order, ], kernel, inducing = 0)
  nn <- residual_knn(searched, k, predecessors = TRUE, threads = threads, progress = FALSE)
  at_truth <- vif_loglik(data$y[order], gp, nn, nugget, threads = threads)
  fitting <- seconds(fit <- vif_fit(data$y, data$x, kernel = gp_kernel("matern32"), inducing = m, k = k,
                                    neighbours = neighbours, threads = threads, progress = FALSE))
  predicting <- seconds(p <- predict(fit, data$new, threads = threads))
  data.frame(loglik_at_truth = at_truth, variance = fit$kernel$variance, lengthscale = fit$kernel$lengthscale,
             nugget = fit$nugget, loglik = fit$loglik, fit_s = fitting, predict_s = predicting,
             t(scores(p$fit, p$se.obs, data$truth)))
}

theirs <- function(data, kernel, approximation) {
  cov <- as_gpboost(kernel, nugget)
  model <- gpboost::GPModel(gp_coords = data$x, cov_function = cov$cov_function, cov_fct_shape = cov$cov_fct_shape,
                            likelihood = "gaussian", gp_approx = approximation, num_neighbors = k, num_ind_points = m,
                            num_parallel_threads = threads, seed = 1L)
  at_truth <- -model$neg_log_likelihood(cov_pars = unname(cov$cov_pars), y = data$y)
  fitting <- seconds(model$fit(y = data$y))
  predicting <- seconds(p <- model$predict(gp_coords_pred = data$new, predict_var = TRUE))
  found <- from_gpboost(cov$cov_function, model$get_cov_pars(), cov$cov_fct_shape)
  data.frame(loglik_at_truth = at_truth, variance = found$kernel$variance, lengthscale = found$kernel$lengthscale,
             nugget = found$nugget, loglik = -model$get_current_neg_log_likelihood(), fit_s = fitting,
             predict_s = predicting, t(scores(p$mu, sqrt(p$var), data$truth)))
}

set.seed(20)
for (name in names(problems)) {
  problem <- problems[[name]]
  data <- simulate_data(problem)
  rows <- list("vecchiann, residual neighbours" = ours(data, problem$kernel, "residual"),
               "vecchiann, Euclidean neighbours" = ours(data, problem$kernel, "euclidean"))
  if (requireNamespace("gpboost", quietly = TRUE)) {
    rows[["gpboost, correlation-based"]] <- theirs(data, problem$kernel, "full_scale_vecchia_correlation_based")
    rows[["gpboost, Euclidean"]] <- theirs(data, problem$kernel, "full_scale_vecchia")
  }
  cat("\n", name, ": n = ", n, ", ", format(problem$kernel), ", nugget ", nugget, ", m = ", m, ", k = ", k, ", ",
      threads, " threads\n", sep = "")
  table <- do.call(rbind, rows)
  table[] <- Map(function(column, digits) round(column, digits), table, c(1, 3, 4, 4, 1, 1, 2, 4, 4))
  print(table)
}
