# Non-Gaussian fits: time to fit and predict, log scores of new responses and, where it is installed, gpboost on the same
# data. Time is that of the processor, user plus system.
#
#   Rscript bench/family.R [n] [m] [k]

library(vecchiann)

arguments <- as.integer(commandArgs(TRUE))
n <- if (length(arguments) > 0) arguments[1] else 10000
m <- if (length(arguments) > 1) arguments[2] else 200
k <- if (length(arguments) > 2) arguments[3] else 30

# A Matern field by its exact process on a few thousand inducing inputs: large n without a dense factor.
simulate_field <- function(x, kernel) {
  gp <- residual_gp(x, kernel, inducing = min(300, nrow(x)), seed = 1)
  nn <- residual_knn(gp, 40, predecessors = TRUE, progress = FALSE)
  f <- vif_factor(gp, nn, nugget = 1e-8)
  drop(crossprod(gp$V, rnorm(nrow(gp$V)))) + as.vector(Matrix::solve(f$B, sqrt(f$D) * rnorm(nrow(x))))
}

seconds <- function(code) {
  before <- proc.time()
  value <- code
  spent <- proc.time() - before
  list(value = value, cpu = sum(spent[1:2]), wall = spent[[3]])
}

set.seed(1)
total <- n + 2000
x <- cbind(lon = runif(total), lat = runif(total))
x <- x[order_maxmin(x), ]
eta <- 0.2 + simulate_field(x, gp_kernel("matern32", 1, 0.1))
test <- sample.int(total, 2000)
cases <- list(
  binomial = list(family = binomial(), peer = "bernoulli_logit", y = rbinom(total, 1, plogis(eta)),
                  score = function(y, eta) dbinom(y, 1, plogis(eta), log = TRUE)),
  poisson = list(family = poisson(), peer = "poisson", y = rpois(total, exp(eta)),
                 score = function(y, eta) dpois(y, exp(eta), log = TRUE))
)

# Mean log predictive density, the linear predictor being normal.
log_score <- function(case, link, se) {
  node <- qnorm(((1:200) - 0.5) / 200)
  mean(log(rowMeans(exp(case$score(case$y[test], outer(se, node) + link)))))
}

row <- function(...) data.frame(..., check.names = FALSE)

for (name in names(cases)) {
  case <- cases[[name]]
  fit <- seconds(vif_fit(case$y[-test], x[-test, ], X = matrix(1, n), family = case$family, inducing = m, k = k,
                         neighbours = "selected", progress = FALSE))
  new <- seconds(predict(fit$value, x[test, ], newX = matrix(1, length(test)), type = "link"))
  table <- row(package = "vecchiann", fit = fit$cpu, predict = new$cpu, wall = fit$wall + new$wall,
               score = log_score(case, new$value$fit, new$value$se.fit), variance = fit$value$kernel$variance,
               lengthscale = fit$value$kernel$lengthscale, loglik = fit$value$loglik)
  if (n <= 20000) {
    latent <- seconds(latent_loglik(fit$value, "iterative"))
    cat(sprintf("%s: log-likelihood from the noise-free process %.3f (se %.3f) beside %.3f, %.1f s\n", name, latent$value,
                attr(latent$value, "se"), fit$value$loglik, latent$cpu))
  }
  if (requireNamespace("gpboost", quietly = TRUE)) {
    for (approx in c("full_scale_vecchia", "vecchia")) {
      theirs <- seconds(gpboost::fitGPModel(
        gp_coords = x[-test, ], y = case$y[-test], X = matrix(1, n), likelihood = case$peer, cov_function = "matern",
        cov_fct_shape = 1.5, gp_approx = approx, num_neighbors = k, num_ind_points = m, matrix_inversion_method = "iterative"))
      ahead <- seconds(predict(theirs$value, gp_coords_pred = x[test, ], X_pred = matrix(1, length(test)),
                               predict_var = TRUE, predict_response = FALSE))
      parameters <- theirs$value$get_cov_pars()
      table <- rbind(table, row(package = paste("gpboost", approx), fit = theirs$cpu, predict = ahead$cpu,
                                wall = theirs$wall + ahead$wall,
                                score = log_score(case, ahead$value$mu, sqrt(ahead$value$var)),
                                variance = parameters[[1]], lengthscale = parameters[[2]],
                                loglik = -theirs$value$get_current_neg_log_likelihood()))
    }
  }
  cat(sprintf("\n%s, n = %d, m = %d, k = %d\n", name, n, m, k))
  print(table, digits = 4, row.names = FALSE)
}
