# Non-Gaussian fits: time to fit and predict and log scores of new responses, beside other packages on the same data
# and in one run. Time is that of the processor, user plus system, which other work on the machine disturbs least, and
# by the clock.
#
#   Rscript bench/family.R gpboost [n] [m] [k]    gpboost's VIF and plain Vecchia approximation, iterative methods
#   Rscript bench/family.R gpvecchia [n] [k]      GPvecchia's Vecchia-Laplace approximation, Poisson
#   Rscript bench/family.R large [n] [m] [k]      binary responses by themselves, with the peak of memory

library(vecchiann)

arguments <- commandArgs(TRUE)
part <- if (length(arguments)) arguments[1] else "gpboost"
sizes <- as.integer(arguments[-1])
size <- function(i, default) if (length(sizes) >= i) sizes[i] else default

# A Matern field by its process on 300 inducing inputs and 40 neighbours: large n without a dense factor.
simulate_field <- function(x, kernel) {
  gp <- residual_gp(x, kernel, inducing = min(300, nrow(x)), seed = 1)
  nn <- residual_knn(gp, 40, predecessors = TRUE, progress = FALSE)
  f <- vif_factor(gp, nn, nugget = 1e-8)
  drop(crossprod(gp$V, rnorm(nrow(gp$V)))) +
    as.vector(Matrix::solve(methods::as(f$B, "triangularMatrix"), sqrt(f$D) * rnorm(nrow(x))))
}

seconds <- function(code) {
  before <- proc.time()
  value <- code
  spent <- proc.time() - before
  list(value = value, cpu = sum(spent[1:2]), wall = spent[[3]])
}

# Inputs in the square, the linear predictor, and 2,000 rows to predict.
simulated <- function(n) {
  set.seed(1)
  total <- n + 2000
  x <- cbind(lon = runif(total), lat = runif(total))
  x <- x[order_maxmin(x), ]
  list(x = x, eta = 0.2 + simulate_field(x, gp_kernel("matern32", 1, 0.1)), test = sample.int(total, 2000))
}

cases <- list(
  binomial = list(family = binomial(), peer = "bernoulli_logit",
                  draw = function(eta) rbinom(length(eta), 1, plogis(eta)),
                  density = function(y, eta) dbinom(y, 1, plogis(eta), log = TRUE)),
  poisson = list(family = poisson(), peer = "poisson", draw = function(eta) rpois(length(eta), exp(eta)),
                 density = function(y, eta) dpois(y, exp(eta), log = TRUE))
)

# Log predictive densities, the linear predictor being normal.
log_scores <- function(case, y, link, se) {
  node <- qnorm(((1:200) - 0.5) / 200)
  log(rowMeans(exp(case$density(y, outer(se, node) + link))))
}

row <- function(package, fit, new, scores, variance, range, loglik) {
  data.frame(package, `fit, cpu s` = fit$cpu, `predict, cpu s` = new$cpu, `both, clock s` = fit$wall + new$wall,
             `log score` = mean(scores), variance, range, loglik, check.names = FALSE)
}

own_row <- function(case, data, y, m, k) {
  test <- data$test
  fit <- seconds(vif_fit(y[-test], data$x[-test, ], X = matrix(1, length(y) - length(test)), family = case$family,
                         inducing = m, k = k, progress = FALSE))
  new <- seconds(predict(fit$value, data$x[test, ], newX = matrix(1, length(test)), type = "link"))
  own <- fit$value
  scores <- log_scores(case, y[test], new$value$fit, new$value$se.fit)
  list(fit = own, scores = scores, row = row(sprintf("vecchiann, m = %d", m), fit, new, scores, own$kernel$variance,
                                             own$kernel$lengthscale, own$loglik))
}

# The mean difference of log scores of the same responses, and its standard error.
compare <- function(title, ours, theirs) {
  gain <- ours - theirs
  cat(sprintf("log score, vecchiann less %s: %.5f (standard error %.5f)\n", title, mean(gain),
              sd(gain) / sqrt(length(gain))))
}

show <- function(title, table) {
  cat("\n", title, "\n", sep = "")
  print(table, digits = 4, row.names = FALSE)
}

if (part == "gpboost") {
  n <- size(1, 10000)
  m <- size(2, 200)
  k <- size(3, 30)
  data <- simulated(n)
  test <- data$test
  for (name in names(cases)) {
    case <- cases[[name]]
    y <- case$draw(data$eta)
    table <- NULL
    for (approx in c("full_scale_vecchia", "vecchia")) {
      own <- own_row(case, data, y, if (approx == "vecchia") 0 else m, k)
      table <- rbind(table, own$row)
      if (!requireNamespace("gpboost", quietly = TRUE)) next
      theirs <- seconds(gpboost::fitGPModel(
        gp_coords = data$x[-test, ], y = y[-test], X = matrix(1, n), likelihood = case$peer, cov_function = "matern",
        cov_fct_shape = 1.5, gp_approx = approx, num_neighbors = k, num_ind_points = m,
        matrix_inversion_method = "iterative"))
      ahead <- seconds(predict(theirs$value, gp_coords_pred = data$x[test, ], X_pred = matrix(1, length(test)),
                               predict_var = TRUE, predict_response = FALSE))
      parameters <- theirs$value$get_cov_pars()
      scores <- log_scores(case, y[test], ahead$value$mu, sqrt(ahead$value$var))
      table <- rbind(table, row(paste("gpboost,", approx), theirs, ahead, scores, parameters[[1]], parameters[[2]],
                                -theirs$value$get_current_neg_log_likelihood()))
      show(sprintf("%s, n = %d, k = %d", name, n, k), table)
      compare(paste("gpboost,", approx), own$scores, scores)
    }
    if (!requireNamespace("gpboost", quietly = TRUE)) show(sprintf("%s, n = %d, k = %d", name, n, k), table)
  }
}

if (part == "gpvecchia") {
  n <- size(1, 5000)
  k <- size(2, 20)
  data <- simulated(n)
  test <- data$test
  case <- cases$poisson
  y <- case$draw(data$eta)
  own <- lapply(c(0, 100), function(m) own_row(case, data, y, m, k))
  table <- rbind(own[[1]]$row, own[[2]]$row)
  if (requireNamespace("GPvecchia", quietly = TRUE)) {
    # as its vignette has it: the likelihood over log variance, log range and the mean, by the method of Nelder and Mead
    sets <- GPvecchia::vecchia_specify(data$x[-test, ], k, cond.yz = "zy")
    minus <- function(par) {
      -GPvecchia::vecchia_laplace_likelihood(y[-test], sets, likelihood_model = "poisson", prior_mean = rep(par[3], n),
                                             covparms = c(exp(par[1:2]), 1.5))
    }
    theirs <- seconds(optim(c(log(0.5), log(0.05), log(mean(y[-test]))), minus,
                            control = list(reltol = 1e-7, maxit = 100)))
    par <- theirs$value$par
    ahead <- seconds({
      posterior <- GPvecchia::calculate_posterior_VL(y[-test], sets, "poisson", c(exp(par[1:2]), 1.5),
                                                     prior_mean = rep(par[3], n))
      where <- GPvecchia::vecchia_specify(data$x[-test, ], k, cond.yz = "zy", locs.pred = data$x[test, ])
      GPvecchia::vecchia_laplace_prediction(posterior, where, c(exp(par[1:2]), 1.5))
    })
    sound <- ahead$value$var.pred > 0
    if (!all(sound)) cat(sum(!sound), "predictive variances of GPvecchia are not positive: its score is that of the others\n")
    scores <- log_scores(case, y[test][sound], ahead$value$mu.pred[sound] + par[3], sqrt(ahead$value$var.pred[sound]))
    table <- rbind(table, row("GPvecchia", theirs, ahead, scores, exp(par[1]), exp(par[2]), -theirs$value$value))
    compare("GPvecchia", own[[1]]$scores[sound], scores)
  }
  show(sprintf("poisson, n = %d, k = %d", n, k), table)
}

if (part == "large") {
  n <- size(1, 100000)
  case <- cases$binomial
  # in a process of its own, whose memory is not counted
  data <- parallel::mccollect(parallel::mcparallel(simulated(n)))[[1]]
  y <- case$draw(data$eta)
  gc()
  if (file.access("/proc/self/clear_refs", 2) == 0) writeLines("5", "/proc/self/clear_refs")
  found <- own_row(case, data, y, size(2, 200), size(3, 30))
  show(sprintf("binary responses, n = %d, %d threads", n, vecchiann_info()$threads), found$row)
  cat(sprintf("%d steps on all data, standard error of the log-likelihood %.3f\n", found$fit$iterations,
              found$fit$loglik_se))
  if (file.exists("/proc/self/status")) cat(grep("VmHWM", readLines("/proc/self/status"), value = TRUE), "\n")
}
