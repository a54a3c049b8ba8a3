# What a fit costs, beside GpGp and gpboost where these are installed.
#
#   Rscript bench/fit.R likelihood [n] [repeats]   the likelihood with its gradient and the expected information
#   Rscript bench/fit.R sets [n] [repeats]         conditioning sets beside likelihoods, on one thread
#   Rscript bench/fit.R fit [n] [threads]          whole fits, predictions and scores
#   Rscript bench/fit.R growth [power] [threads]   fits of 10^4 to 10^power points, with memory
#   Rscript bench/fit.R optimiser                  scoring against nlminb()
#   Rscript bench/fit.R ending [count]             last steps without derivatives: what is left to gain after them
#
# Uniform inputs in the unit square, maxmin order, k = 30, m = 200. In the first part ours and GpGp's take turns; of each the fastest
# counts. Operations are counted as in a text book: what any method with these neighbours and inducing inputs must do.

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

# Selected sets with their default pool beside likelihoods with gradient and information, which take turns.
sets_part <- function(n, repeats, k = 30, m = 200) {
  problem <- likelihood_problem(n, m, gp_kernel("matern32", 1, 0.1), k)
  runs <- list(
    "conditioning_sets()" = function() conditioning_sets(problem$gp, k, problem$nugget, threads = 1, progress = FALSE),
    "four likelihoods" = function() for (i in 1:4) our_likelihood(problem, 1)
  )
  for (run in runs) run()
  time <- vapply(seq_len(repeats), function(turn) vapply(runs, function(run) seconds(run()), 0), numeric(length(runs)))
  cat("\nSets and likelihoods: n = ", n, ", k = ", k, ", m = ", m, ", matern32 0.1, nugget 0.1, one thread\n\n", sep = "")
  heading("", "us a point")
  best <- apply(time, 1, min)
  for (name in names(best)) row(name, round(1e6 * best[[name]] / n, 1))
}

# Data of a process close to the exact one: a VIF approximation of the process without noise, which few neighbours screen
# well, with more inducing inputs and neighbours than the fits have where memory allows. With the noise in the process 30
# neighbours are too few: at n = 10^6 fits then ended nine standard errors below the variance.
simulate_data <- function(n, lengthscale, nugget = 0.1, held = 2000) {
  set.seed(20)
  x <- matrix(runif(2 * (n + held)), ncol = 2)
  x <- x[order_maxmin(x), ]
  kernel <- gp_kernel("matern32", 1, lengthscale)
  gp <- residual_gp(x, kernel, inducing = if (n > 2e5) 200 else min(500, n %/% 4), seed = 1)
  f <- vif_factor(gp, residual_knn(gp, if (n > 2e5) 30 else 60, predecessors = TRUE, progress = FALSE), 0)
  y <- drop(crossprod(gp$V, rnorm(nrow(gp$V)))) +
    as.vector(Matrix::solve(methods::as(f$B, "triangularMatrix"), sqrt(f$D) * rnorm(nrow(x)))) +
    sqrt(nugget) * rnorm(nrow(x))
  out <- sample.int(nrow(x), held)
  list(x = x[-out, ], y = y[-out], new = x[out, ], truth = y[out], kernel = kernel, nugget = nugget)
}

score <- function(mean, sd, truth) {
  sprintf("%.4f", c(sqrt(mean((truth - mean)^2)), mean(-dnorm(truth, mean, sd, log = TRUE))))
}

# Kullback-Leibler divergence of the exact process of n points from what each package takes for it, at the parameters of `data`: the mean
# of exact log-likelihoods less approximate ones over data sets that are drawn from the exact process, and its standard error.
divergences <- function(data, n = 2500, draws = 30) {
  set.seed(21)
  x <- matrix(runif(2 * n), n)
  x <- x[order_maxmin(x), ]
  gp <- residual_gp(x, data$kernel, inducing = 200, seed = 1)
  S <- data$kernel$variance * residual_correlation(residual_gp(x, data$kernel, inducing = 0)) + diag(data$nugget, n)
  R <- chol(S)
  z <- matrix(rnorm(n * draws), n)
  Y <- crossprod(R, z)
  exact <- -colSums(z^2) / 2 - sum(log(diag(R))) - n * log(2 * pi) / 2
  below <- function(loglik) {
    less <- exact - vapply(seq_len(draws), function(i) loglik(Y[, i]), 0)
    sprintf("%.2f (%.2f)", mean(less), sd(less) / sqrt(draws))
  }
  sets <- vecchiann:::neighbours_of(gp, rep(data$nugget, n), list(k = 30L, neighbours = "selected", threads = 1L))
  sets <- cbind(seq_len(n), sets)
  found <- c("vecchiann" = below(function(y) vif_loglik(y, gp, sets, data$nugget)))
  if (requireNamespace("GpGp", quietly = TRUE)) {
    theirs <- as_gpgp(data$kernel, data$nugget)
    groups <- GpGp::group_obs(GpGp::find_ordered_nn(x, 30)) # as fit_model() has them
    found[["GpGp"]] <- below(function(y) {
      GpGp::vecchia_grouped_meanzero_loglik(theirs$covparms, theirs$covfun_name, y, x, groups)$loglik
    })
  }
  if (requireNamespace("gpboost", quietly = TRUE)) {
    cov <- as_gpboost(data$kernel, data$nugget)
    model <- gpboost_model(x, cov, 1)
    found[["gpboost"]] <- below(function(y) -model$neg_log_likelihood(cov_pars = unname(cov$cov_pars), y = y))
  }
  found
}

gpboost_model <- function(x, cov, threads) {
  gpboost::GPModel(gp_coords = x, cov_function = cov$cov_function, cov_fct_shape = cov$cov_fct_shape,
                   likelihood = "gaussian", gp_approx = "full_scale_vecchia_correlation_based", num_neighbors = 30,
                   num_ind_points = 200, num_parallel_threads = threads, seed = 1L)
}

# Fits of n points beside GpGp's fit_model() with its defaults, and gpboost's VIF where it is installed.
fit_part <- function(n, threads) {
  data <- simulate_data(n, 0.1)
  cat("\nFits: n = ", n, ", d = 2, matern32, lengthscale 0.1, nugget 0.1, ", threads, " thread(s)\n\n", sep = "")
  heading("", "fit, s", "variance", "lengthscale", "nugget", "predict 2,000, s", "RMSE", "log score")
  parameters <- function(kernel, nugget) sprintf("%.4f", c(kernel$variance, kernel$lengthscale, nugget))
  spent <- c(ours = seconds(fit <- vif_fit(data$y, data$x, X = 1, threads = threads, progress = FALSE)))
  predicting <- seconds(p <- predict(fit, data$new, threads = threads))
  row("vecchiann", round(spent[["ours"]], 2), parameters(fit$kernel, fit$nugget), round(predicting, 2),
      score(p$fit, p$se.obs, data$truth))
  if (requireNamespace("GpGp", quietly = TRUE)) {
    ones <- matrix(1, n, 1)
    spent[["GpGp"]] <- seconds(g <- GpGp::fit_model(data$y, data$x, ones, "matern15_isotropic", silent = TRUE))
    ones <- matrix(1, length(data$truth), 1)
    predicting <- seconds({
      mean <- GpGp::predictions(g, data$new, ones, m = 60)
      sims <- GpGp::cond_sim(g, data$new, ones, m = 60, nsims = 200)
    })
    found <- from_gpgp(g$covfun_name, g$covparms)
    sd <- sqrt(apply(sims, 1, var) + found$nugget)
    row("GpGp, fit_model()", round(spent[["GpGp"]], 2), parameters(found$kernel, found$nugget), round(predicting, 2),
        score(mean, sd, data$truth))
  }
  if (requireNamespace("gpboost", quietly = TRUE)) {
    cov <- as_gpboost(data$kernel, data$nugget)
    model <- gpboost_model(data$x, cov, threads)
    spent[["gpboost"]] <- seconds(model$fit(y = data$y))
    predicting <- seconds(p <- model$predict(gp_coords_pred = data$new, predict_var = TRUE))
    found <- from_gpboost(cov$cov_function, model$get_cov_pars(), cov$cov_fct_shape)
    row("gpboost, VIF", round(spent[["gpboost"]], 2), parameters(found$kernel, found$nugget), round(predicting, 2),
        score(p$mu, sqrt(p$var), data$truth))
  }
  found <- divergences(data)
  cat("\nDivergence from the exact process, 2,500 points of the same kind at the true parameters (its standard error): ",
      paste(names(found), found, collapse = ", "), "\n", sep = "")
  cat("\n", paste0(names(spent)[-1], " / vecchiann: ", round(spent[-1] / spent[[1]], 1), collapse = ", "), "\n", sep = "")
}

# The largest memory of the process, in GB, since the first of these; Linux only.
peak_from_here <- function() try(writeLines("5", "/proc/self/clear_refs"), silent = TRUE)
peak_memory <- function() {
  if (!file.exists("/proc/self/status")) return(NA)
  as.numeric(gsub("[^0-9]", "", grep("VmHWM", readLines("/proc/self/status"), value = TRUE))) / 1024^2
}

# How the time of a fit grows, at the same number of points in a lengthscale; the largest with its memory.
growth_part <- function(sizes, threads) {
  cat("\nFits as n grows, lengthscale 0.1 sqrt(10^4 / n), ", threads, " threads\n\n", sep = "")
  heading("n", "fit, s", "times the one before", "peak memory, GB", "object, MB", "predict 10^6, s")
  before <- NA
  for (n in sizes) {
    data <- simulate_data(n, 0.1 * sqrt(1e4 / n))
    gc()
    peak_from_here()
    spent <- seconds(fit <- vif_fit(data$y, data$x, X = 1, threads = threads, progress = FALSE))
    peak <- peak_memory()
    new <- matrix(runif(2e6), ncol = 2)
    predicting <- seconds(predict(fit, new, threads = threads))
    row(format(n, scientific = FALSE), round(spent, 1), round(spent / before, 1), round(peak, 1),
        round(as.numeric(object.size(fit)) / 1e6), round(predicting, 1))
    before <- spent
  }
}

# Whether scoring ends as high as nlminb() with the same derivatives, sets and start: twenty data sets.
optimiser_part <- function(count = 20, n = 1000) {
  families <- c("matern12", "matern32", "matern52", "rbf")
  gain <- vapply(seq_len(count), function(seed) {
    set.seed(seed)
    d <- 1 + seed %% 3
    x <- matrix(runif(n * d), n)
    kernel <- gp_kernel(families[1 + seed %% 4], 1, runif(d, 0.05, 0.5))
    noise <- 10^runif(1, -3, 0)
    S <- residual_correlation(residual_gp(x, kernel, inducing = 0)) + diag(noise, n)
    y <- drop(crossprod(chol(S), rnorm(n)))
    fit <- suppressWarnings(vif_fit(y, x, X = 1, kernel = kernel, inducing = 100, k = 15, progress = FALSE))
    here <- asNamespace("vecchiann")
    data <- here$fit_data(fit, fit$order)
    structure <- list(inducing = fit$gp$inducing, id = fit$id)
    bounds <- here$theta_bounds(fit$settings)
    start <- here$subset_estimate(data, fit$settings, FALSE)$theta
    theirs <- here$polish(here$evaluate(start, structure, data, fit$settings), structure, data, fit$settings, bounds, 500)
    fit$loglik - theirs$at$value
  }, 0)
  cat("\nLog-likelihood reached by scoring less that by nlminb(), ", count, " data sets: ", sep = "")
  cat(sprintf("lowest %.4f, median %.4f, highest %.4f\n", min(gain), median(gain), max(gain)))
}

# After each last step the climb goes on to the maximum.
ending_part <- function(count) {
  here <- asNamespace("vecchiann")
  ending <- here$ending
  seen <- NULL
  watched <- function(current, step, bounds, tolerance, ...) {
    taken <- ending(current, step, bounds, tolerance, ...)
    after <- top <- here$evaluate(current$theta + step$step, ...)
    for (more in 1:8) {
      further <- if (is.finite(top$value)) here$rise(top, here$scoring_step(top, bounds), bounds, ...)
      if (is.null(further) || further$value - top$value < 1e-3 * tolerance) break
      top <- further
    }
    seen <<- rbind(seen, data.frame(taken = !is.null(taken), left = (top$value - after$value) / tolerance))
    taken
  }
  utils::assignInNamespace("ending", watched, "vecchiann")
  families <- c("matern12", "matern32", "matern52", "rbf")
  for (seed in seq_len(count)) {
    set.seed(seed)
    n <- sample(c(1500, 3000, 6000, 12000, 25000), 1)
    d <- 1 + seed %% 3
    x <- matrix(runif(n * d), n)
    x <- x[order_maxmin(x), , drop = FALSE]
    gp <- residual_gp(x, gp_kernel(families[1 + seed %% 4], 1, runif(1, 0.05, 0.4)), inducing = 200)
    f <- vif_factor(gp, residual_knn(gp, 40, predecessors = TRUE, progress = FALSE), 10^runif(1, -2.5, 0))
    y <- drop(crossprod(gp$V, rnorm(nrow(gp$V)))) +
      as.vector(Matrix::solve(methods::as(f$B, "triangularMatrix"), sqrt(f$D) * rnorm(n)))
    suppressWarnings(vif_fit(y, x, X = 1, kernel = families[1 + (seed + seed %/% 20) %% 4], progress = FALSE))
  }
  taken <- seen$left[seen$taken]
  cat("\nLast steps without derivatives, ", count, " data sets: ", length(taken), " of ", nrow(seen), " taken; left to gain, ",
      "as a share of the tolerance:\n", sep = "")
  cat(sprintf("of those taken median %.3f, most %.3f; of the others median %.3f, most %.3f\n", median(taken), max(taken),
              median(seen$left[!seen$taken]), max(seen$left[!seen$taken])))
}

parts <- list(
  likelihood = function() likelihood_part(as.numeric(given(2, 50000)), as.numeric(given(3, 5))),
  sets = function() sets_part(as.numeric(given(2, 50000)), as.numeric(given(3, 2))),
  fit = function() fit_part(as.numeric(given(2, 10000)), as.integer(given(3, 1))),
  growth = function() growth_part(10^(4:as.numeric(given(2, 5))), as.integer(given(3, 2))),
  optimiser = function() optimiser_part(),
  ending = function() ending_part(as.numeric(given(2, 60)))
)
for (part in strsplit(given(1, paste(names(parts), collapse = ",")), ",")[[1]]) parts[[part]]()
