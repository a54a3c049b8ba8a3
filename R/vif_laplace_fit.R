# Fits of non-Gaussian responses: parameters are theta (see R/vif_parameters.R, without a nugget), log phi and beta.

# A "vif" object from checked settings of vif_fit(). Working responses and their noise stand where a Gaussian fit has
# its observations, so that predictions go the same way.
fit_laplace <- function(y, x, X, family, weights, offset, settings, order, start, iterations, progress, call) {
  n <- nrow(x)
  family <- laplace_family(family)
  response <- family_response(family, y, weights, n)
  given <- offset
  offset <- check_offset(offset, n)
  # the optimiser sees covariates in a basis that does not depend on their units
  basis <- mean_basis(X)
  data <- list(y = response$y, w = response$w, x = x, X = basis$Q, offset = offset)
  rough <- family_guess(family, response) - offset
  if (!is.null(X)) rough <- stats::lm.fit(basis$Q, rough)$residuals
  settings$spread <- max(stats::var(rough), 0.05)
  settings$fixed <- 0
  settings$family <- family
  begin <- laplace_start(start, data, settings, progress)
  rows <- conditioning_order(order, x, to_kernel(begin$theta, settings), settings$seed)
  found <- laplace_maximise(begin, some_data(data, rows), settings, iterations, progress)
  if (!found$converged) {
    warn_laplace(paste0("vif_fit() has not converged (", found$message, "): the parameters reached so far are kept"))
  }
  mode <- found$mode
  if (family$name %in% c("logit", "probit") && separates(response$y[rows], mode$eta)) {
    warn_laplace(paste("the covariates or the process separate the outcomes (every one has a fitted probability above",
                       "0.95): coefficients or variance have no finite estimates"), "vif_separation")
  }
  back <- order(rows)
  mean <- mean_estimates(list(beta = mode$beta, information = mode$information, B = mode$solved$B), basis, colnames(X))
  # settings of a saved fit hold no functions of this version
  settings$family <- NULL
  fit <- structure(list(
    call = call, kernel = to_kernel(found$theta, settings), nugget = 0, coefficients = mean$beta, vcov = mean$vcov,
    loglik = mode$loglik, df = length(found$theta) + length(found$phi) + NCOL(X) * !is.null(X), n = n, k = settings$k,
    converged = found$converged, message = found$message, iterations = found$iterations, history = found$history,
    nugget_fixed = TRUE, noise_variance = mode$noise[back], weights = response$w, neighbours = settings$neighbours,
    y = stats::setNames(response$y, if (is.null(dim(y))) names(y)), X = X, offset = given, order = rows,
    gp = found$structure$gp, id = found$structure$wide, theta = found$theta, settings = settings,
    at = found$structure$at, family = family$object, phi = found$phi, laplace = settings$laplace,
    latent_id = found$structure$id, linear.predictors = unname(mode$eta)[back], loglik_se = mode$se,
    state = list(coef = mode$state$coef, D = mode$state$D, root = mode$state$root, b = drop(mode$solved$b),
                 error = drop(mode$solved$error), residual = mode$response, B = mean$B)
  ), class = "vif")
  fit$bounded <- at_bounds(found$theta, settings)
  warn_bounds(fit)
  sealed(lean_fit(fit))
}

# Whether every outcome, 0 or 1, has a fitted probability near 1.
separates <- function(y, eta) all(y %in% 0:1) && min((2 * y - 1) * eta) > 3

print_family <- function(x, digits) {
  cat("family: ", x$family$family, "(", x$family$link, ")",
      paste0(", ", names(x$phi), " ", format(x$phi, digits = digits, trim = TRUE), recycle0 = TRUE), "\n", sep = "")
}

refuse_beside_family <- function(nugget, noise_variance, smoothness) {
  if (!is.null(nugget)) refuse("nugget", "NULL with a `family` other than gaussian()", describe(nugget))
  if (!is.null(noise_variance)) {
    refuse("noise_variance", "NULL with a `family` other than gaussian()", describe(noise_variance))
  }
  if (smoothness == "estimate") refuse("smoothness", '"fixed" with a `family` other than gaussian()', '"estimate"')
}

warn_laplace <- function(message, class = "vif_convergence") {
  warning(warningCondition(message, class = class, call = NULL))
}

check_offset <- function(offset, n) {
  if (is.null(offset)) return(numeric(n))
  if (!is.numeric(offset) || length(offset) != n) {
    refuse("offset", paste("NULL or numeric of length", n), describe(offset))
  }
  check_finite(as.double(offset), "offset")
}

some_data <- function(data, rows) {
  list(y = data$y[rows], w = data$w[rows], x = data$x[rows, , drop = FALSE], X = data$X[rows, , drop = FALSE],
       offset = data$offset[rows])
}

# ---- starting values: a subset of the data, from the best of a few lengthscales ----

laplace_start <- function(start, data, settings, progress, size = 2000) {
  family <- settings$family
  phi <- family_start(family, data)
  if (is.list(start) && !inherits(start, "gp_kernel")) {
    if (!inherits(start$kernel, "gp_kernel")) {
      refuse("start", '"auto", "kernel" or a list of a `kernel`', describe(start))
    }
    check_kernel(start$kernel, ncol(data$x))
    phi[] <- start$phi %or% phi
    theta <- inside(to_theta(start$kernel, 0, settings), theta_bounds(settings))
    return(list(theta = theta, phi = phi))
  }
  if (identical(start, "kernel")) return(list(theta = to_theta(settings$kernel, 0, settings), phi = phi))
  if (!identical(start, "auto")) refuse("start", '"auto", "kernel" or a list of a `kernel`', describe(start))
  n <- nrow(data$x)
  index <- list(y = seq_len(n), x = data$x, X = NULL, extra = numeric(n))
  part <- subset_of(index, settings, size)
  small <- some_data(data, part$data$y)
  if (!is.null(small$X) && qr(small$X)$rank < ncol(small$X)) small$X <- NULL
  own <- part$settings
  own$inducing <- count_inducing(settings$inducing, length(small$y) %/% 30)
  own$neighbours <- settings$neighbours
  own$laplace <- "noisy"
  thetas <- lapply(c(0.03, 0.08, 0.2, 0.5), function(share) {
    kernel <- list(variance = settings$spread / 2, lengthscale = share * settings$scale,
                   smoothness = settings$kernel$smoothness)
    inside(to_theta(kernel, 0, settings), theta_bounds(settings))
  })
  structure <- laplace_structure(thetas[[2]], small, own)
  value <- vapply(thetas, function(theta) laplace_at(list(theta = theta, phi = phi), structure, small, own)$loglik, 0)
  if (!any(is.finite(value))) return(list(theta = thetas[[3]], phi = phi))
  begin <- list(theta = thetas[[which.max(value)]], phi = phi)
  found <- laplace_climb(begin, small, own, limit = 30, tolerance = 1e-2, stage = "subset", progress = progress)
  list(theta = found$theta, phi = found$phi, beta = if (is.null(small$X) == is.null(data$X)) found$mode$beta,
       curve = found$curve * n / length(small$y), history = found$history)
}

# ---- evaluation ----

# Process and conditioning sets of a theta; `noise` are working variances that selected sets take into account.
laplace_structure <- function(theta, data, settings, noise = NULL) {
  at <- on_grid(theta, settings)
  gp <- make_gp(at, data$x, settings$inducing, settings)
  if (is.null(noise)) {
    guess <- family_guess(settings$family, data)
    phi <- all_phi(settings$family, family_start(settings$family, data))
    noise <- 1 / settings$family$slopes(data$y, (guess + mean(guess)) / 2, data$w, phi)$curvature
  }
  wide <- neighbours_of(gp, pmin(noise, 1e3 * settings$spread), settings)
  # sets of the process itself, as good as noise-free
  id <- if (settings$laplace == "noisy") wide else {
    neighbours_of(gp, rep(1e-6 * gp$kernel$variance, nrow(data$x)), settings)
  }
  list(at = at, inducing = gp$inducing, id = id, wide = wide)
}

# The likelihood at parameters par (theta, phi, beta); without beta it is taken from the mode.
laplace_at <- function(par, structure, data, settings, eta = NULL, gradient = FALSE, tolerance = 1e-4,
                       noisy = settings$laplace == "noisy", probes = 20) {
  tryCatch({
    whole <- make_gp(par$theta, data$x, structure$inducing, settings)
    gp <- if (estimates_plane(settings)) in_plane_directions(whole) else whole
    phi <- all_phi(settings$family, par$phi)
    found <- if (noisy) {
      laplace_evaluate(gp, structure$wide, data, settings$family, phi, par$beta, eta, settings$threads,
                       gradient, tolerance)
    } else {
      latent_evaluate(gp, structure$id, structure$wide, data, settings$family, phi, par$beta, eta,
                      settings$threads, gradient, tolerance, probes, settings$seed)
    }
    if (!is.finite(found$loglik)) found$loglik <- -Inf
    if (gradient && estimates_plane(settings)) names(found$gradient) <- plane_labels(names(found$gradient))
    c(found, list(gp = whole, par = par))
  }, error = function(e) list(loglik = -Inf, failure = conditionMessage(e)))
}

# ---- optimisation ----

laplace_maximise <- function(begin, data, settings, iterations, progress, searches = 3) {
  at <- begin
  done <- 0
  history <- begin$history
  noise <- NULL
  for (search in seq_len(searches)) {
    found <- laplace_climb(at, data, settings, iterations - done, 1e-3, "all", progress, noise, done)
    done <- found$iterations
    history <- rbind(history, found$history)
    at <- found
    noise <- found$mode$noise
    if (!found$settled || !off_grid(found$theta, found$structure$at, settings)) break
  }
  # the last mode is that of predictions, and found to more digits
  mode <- laplace_at(found[c("theta", "phi", "beta")], found$structure, data, settings, found$eta,
                     tolerance = 1e-7, probes = 50)
  if (!is.finite(mode$loglik)) mode <- found$mode
  if (settings$laplace == "latent" && factors_well(found$structure$id, data$x)) {
    phi <- all_phi(settings$family, found$phi)
    mode$loglik <- exact_loglik(mode, found$structure$id, data, settings$family, phi, settings$threads)
    mode$se <- 0
  }
  found$structure$gp <- mode$gp
  list(theta = found$theta, phi = found$phi, mode = mode, structure = found$structure, converged = found$settled,
       message = found$message, iterations = done, history = history)
}

# Whether a sparse factor costs less than a few evaluations: moderate sizes in the plane.
factors_well <- function(id, x) nrow(id) <= 10000 && length(id) <= 3e5 && ncol(x) <= 2

# The likelihood at a mode without the error of the quadrature.
exact_loglik <- function(mode, id, data, family, phi, threads) {
  gp <- mode$gp
  slack <- rep(latent_jitter * gp$kernel$variance, length(data$y))
  latent <- .Call(C_vif_regression, gp, slack, id, NULL, NULL, threads)
  logdet <- sparse_system(gp, id, latent, threads)(mode$noise)$logdet()$value
  sum(family$value(data$y, mode$eta, data$w, phi)) - sum(mode$a * mode$b) / 2 - (logdet - sum(log(mode$noise))) / 2
}

# One climb with sets held fixed, by the method of Broyden, Fletcher, Goldfarb and Shanno in coordinates in which the
# curvature is about 1, as `curve` or a guess says. It ends where the next step promises less than `tolerance`.
laplace_climb <- function(begin, data, settings, limit, tolerance, stage, progress, noise = NULL, done = 0) {
  clock <- proc.time()[["elapsed"]]
  bounds <- theta_bounds(settings)
  structure <- laplace_structure(begin$theta, data, settings, noise)
  count <- c(theta = length(begin$theta), phi = length(begin$phi))
  first <- laplace_at(begin[c("theta", "phi", "beta")], structure, data, settings, begin$eta, noisy = TRUE)
  if (!is.finite(first$loglik)) {
    stop(user_call(), "the likelihood cannot be evaluated: ",
         first$failure %or% "the mode of the latent process is not found", call. = FALSE)
  }
  par <- c(begin$theta, log(begin$phi), first$beta)
  unpack <- function(par) {
    list(theta = par[seq_len(count[[1]])], phi = exp(par[count[[1]] + seq_len(count[[2]])]),
         beta = unname(par[-seq_len(sum(count))]))
  }
  slope <- function(at) {
    g <- at$gradient
    tail <- length(g) - length(par) + sum(count) # parameters of the kernel and phi
    of_kernel <- to_theta_slope(g[seq_len(tail - count[[2]])], unpack(par)$theta, settings)
    c(of_kernel, g[-seq_len(tail - count[[2]])])
  }
  evaluate_at <- function(par, eta) {
    own <- unpack(par)
    outside <- any(own$theta < bounds$lower | own$theta > bounds$upper) || any(abs(log(own$phi)) > 15)
    if (outside) return(list(loglik = -Inf))
    laplace_at(own, structure, data, settings, eta, gradient = TRUE)
  }
  inverse <- diag(1 / start_curvature(begin$curve, length(par), sum(count), first$information))
  if (is.matrix(begin$curve) && nrow(begin$curve) == length(par)) {
    inverse <- tryCatch(solve(begin$curve), error = function(e) inverse)
  }
  current <- evaluate_at(par, first$eta)
  g <- slope(current)
  history <- NULL
  note <- function() {
    now <- proc.time()[["elapsed"]]
    row <- data.frame(stage = stage, observations = length(data$y), iteration = done, loglik = current$loglik,
                      seconds = now - clock,
                      t(c(natural_parameters(unpack(par)$theta, settings), unpack(par)$phi)))
    clock <<- now
    history <<- rbind(history, row)
    if (is.function(progress)) progress(stage, row$iteration, row$loglik)
  }
  note()
  last <- done + limit
  settled <- FALSE
  repeat {
    step <- drop(inverse %*% g)
    if (sum(step * g) / 2 < tolerance) {
      settled <- TRUE
      break
    }
    if (done >= last) break
    done <- done + 1
    step <- step * min(1, 1.5 / max(abs(step[seq_len(sum(count))])))
    trial <- NULL
    for (attempt in 1:12) {
      trial <- evaluate_at(par + step, current$eta)
      if (is.finite(trial$loglik) && trial$loglik >= current$loglik + 1e-4 * sum(step * g) - 0.1 * tolerance) break
      step <- step / if (is.finite(trial$loglik)) 2.5 else 4
      trial <- NULL
    }
    if (is.null(trial)) {
      # the slope leads nowhere in this metric: once more by steepest ascent, and otherwise this is the top
      if (identical(inverse, diag(diag(inverse)))) {
        settled <- sum(step * g) < 10 * tolerance
        break
      }
      inverse <- diag(diag(inverse))
      next
    }
    g_new <- local({
      old <- par
      par <<- par + step
      slope(trial)
    })
    change <- g - g_new
    if (sum(change * step) > 1e-10 * sqrt(sum(change^2) * sum(step^2))) inverse <- bfgs_update(inverse, step, change)
    current <- trial
    g <- g_new
    note()
  }
  c(unpack(par), list(mode = current, eta = current$eta, structure = structure, settled = settled, iterations = done,
                      history = history, curve = tryCatch(solve(inverse), error = function(e) NULL),
                      message = if (settled) "converged" else if (done >= last) {
                        paste("the limit of", counted(last, "iteration"), "is reached")
                      } else "the likelihood rises no more along its gradient"))
}

start_curvature <- function(curve, size, outer, information) {
  guess <- rep(20, size)
  if (size > outer) guess[-seq_len(outer)] <- diag(as.matrix(information))
  pmax(guess, 1e-8)
}

bfgs_update <- function(inverse, step, change) {
  weight <- 1 / sum(step * change)
  left <- diag(length(step)) - weight * outer(step, change)
  left %*% inverse %*% t(left) + weight * outer(step, step)
}
