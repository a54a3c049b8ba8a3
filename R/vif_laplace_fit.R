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
  rough <- family_guess(family, data) - offset
  if (!is.null(X)) rough <- stats::lm.fit(basis$Q, rough)$residuals
  settings$unit <- if (isTRUE(family$any_unit)) response_unit(rough) else 1
  settings$spread <- max(stats::var(rough), 0.05 * settings$unit^2)
  settings$fixed <- 0
  settings$family <- family
  null <- null_model(data, family)
  far <- NULL
  repeat {
    found <- laplace_search(start, data, settings, order, iterations, progress, null)
    variance <- to_kernel(found$theta, settings)$variance
    if (!ran_away(found, variance, data, settings, null)) break
    far <- far %or% variance
    settings$most <- family$most_variance %or% (variance / 8)
  }
  if (!is.null(far)) warn_held(far, settings)
  rows <- found$rows
  if (!found$converged) warn_unsettled(found$message)
  mode <- found$mode
  if (is.null(far) && separates(response$y[rows], mode$eta, family)) {
    warn_laplace(paste("the covariates or the process", separation), "vif_separation")
  }
  if (!is.null(found$white) && is.null(far)) warn_white(found, settings)
  # settings of a saved fit hold no functions of this version
  settings$family <- NULL
  fit <- structure(list(
    call = call, kernel = to_kernel(found$theta, settings), nugget = 0, loglik = mode$loglik,
    df = length(found$theta) + length(found$phi) + NCOL(X) * !is.null(X), n = n, k = settings$k,
    converged = found$converged, message = found$message, iterations = found$iterations, history = found$history,
    nugget_fixed = TRUE, weights = response$w, neighbours = settings$neighbours,
    y = stats::setNames(response$y, if (is.null(dim(y))) names(y)), X = X, offset = given, order = rows,
    gp = found$structure$gp, id = found$structure$wide, theta = found$theta, settings = settings,
    at = found$structure$at, family = family$object, phi = found$phi, laplace = settings$laplace,
    latent_id = found$structure$id, loglik_se = mode$se,
    counts = if (NCOL(y) == 2) colnames(y) %or% c("successes", "failures")
  ), class = "vif")
  fit <- with_mode(fit, mode, basis)
  fit$bounded <- c(at_bounds(found$theta, settings, x = x), phi_at_bounds(found$phi, settings))
  warn_bounds(fit)
  sealed(lean_fit(fit))
}

# The unit of responses that may have any: constants of the search go with it.
response_unit <- function(rough) {
  unit <- c(stats::mad(rough), stats::sd(rough), 1)
  unit[unit > 0][1]
}

# Whether the outcomes, 0 or 1, have fitted probabilities above 0.95, all but a share of them.
separates <- function(y, eta, family, but = 0) {
  family$type == "shares" && all(y %in% 0:1) && mean(family$mean((2 * y - 1) * eta) <= 0.95) <= but
}
separation <- paste("separate the outcomes (every one has a fitted probability above 0.95): coefficients or variance",
                    "may have no finite estimates")

# Laplace's approximation may rise with the variance for ever, to far above the likelihood itself, once all outcomes of a
# binary response are fitted (Kuss and Rasmussen, 2005, show how poor it is there), or where nearly all counts are 0. The
# variance is then held: of binary responses where odds go from 1 to 500 within two standard deviations; of others where
# the model, corrected by the error of the approximation for a process that is noise, is not below one without a process,
# and the mean of counts no longer far above all that were seen.
ran_away <- function(found, variance, data, settings, null) {
  family <- settings$family
  if (!is.null(family$most_variance)) {
    return(separates(data$y[found$rows], found$mode$eta, family, 0.01) && variance > 1.5 * family$most_variance)
  }
  if (variance < 1e-3) return(FALSE)
  if (!is.null(found$white) && found$score < null$loglik - 2) return(TRUE)
  if (family$type != "counts") return(FALSE)
  # a process of short range takes on all its values at the data
  kernel <- to_kernel(found$theta, settings)
  short <- nearest_correlation(kernel, found$structure$id, data$x[found$rows, , drop = FALSE]) < 0.8
  mean <- exp(data$offset + variance / 2 + if (is.null(data$X)) 0 else drop(data$X %*% found$mode$par$beta))
  short && mean(mean) > 100 * max(data$y)
}

warn_held <- function(far, settings) {
  binary <- settings$family$type == "shares"
  why <- if (binary) "the fitted probability of every outcome is near 1" else "the model is far from the data"
  warn_laplace(paste0(
    "the variance of the process ran to ", format(far, digits = 3), ", where ", why, " and Laplace's approximation ",
    "cannot be trusted: it is held at ", format(settings$most, digits = 2), " at most. Compare models by vif_cv()",
    if (binary) ", and try fewer covariates"
  ), c("vif_variance", if (binary) "vif_separation"))
}

warn_white <- function(found, settings) {
  short <- function(x) format(x, digits = 2)
  poor <- abs(found$white$error)
  warn_laplace(paste0(
    "the latent process has become noise between the places (variance ", short(found$mode$gp$kernel$variance),
    ", correlation of nearest neighbours ", short(found$white$correlation), "): the responses are overdispersed ",
    "rather than correlated in space", if (settings$family$name == "poisson") " (try nbinom2())",
    if (poor > 1) paste(", and Laplace's approximation is poor there, its log-likelihood wrong by about", short(poor))
  ), "vif_white")
}

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

warn_laplace <- function(message, class) {
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
  # sets of the process itself are as good as noise-free
  noises <- list(pmin(noise, 1e3 * settings$spread), rep(1e-6 * gp$kernel$variance, nrow(data$x)))
  sets <- neighbours_of_each(gp, if (settings$laplace == "noisy") noises[1] else noises, settings)
  list(at = at, inducing = gp$inducing, id = sets[[length(sets)]], wide = sets[[1]])
}

# The likelihood at parameters par (theta, phi, beta); without beta it is taken from the mode.
laplace_at <- function(par, structure, data, settings, eta = NULL, gradient = FALSE, tolerance = 1e-4,
                       noisy = settings$laplace == "noisy", probes = 8, refine = FALSE, state = NULL) {
  tryCatch({
    whole <- make_gp(par$theta, data$x, structure$inducing, settings)
    gp <- if (estimates_plane(settings)) in_plane_directions(whole) else whole
    phi <- all_phi(settings$family, par$phi)
    found <- if (noisy) {
      laplace_evaluate(gp, structure$wide, data, settings$family, phi, par$beta, eta, settings$threads,
                       gradient, tolerance)
    } else {
      latent_evaluate(gp, structure$id, structure$wide, data, settings$family, phi, par$beta, eta,
                      settings$threads, gradient, tolerance, probes, settings$seed, refine = refine, state = state)
    }
    if (!is.finite(found$loglik)) found$loglik <- -Inf
    if (gradient && estimates_plane(settings)) names(found$gradient) <- plane_labels(names(found$gradient))
    c(found, list(gp = whole, par = par))
  }, error = function(e) {
    if (is_time_limit(e)) stop(e)
    list(loglik = -Inf, failure = conditionMessage(e))
  })
}

# Whether an error is that of setTimeLimit(), in the language of the session.
is_time_limit <- function(e) {
  limits <- c("reached elapsed time limit", "reached CPU time limit", "reached session elapsed time limit",
              "reached session CPU time limit")
  conditionMessage(e) %in% c(limits, gettext(limits, domain = "R"))
}

# The same for a log-likelihood that is shown and compared, with a mode to more digits: by a sparse factor, or by
# conjugate gradients with little left to the random vectors.
laplace_final <- function(par, structure, data, settings, eta, gradient = FALSE, state = NULL) {
  exact <- settings$laplace == "exact" || settings$laplace == "auto" && factors_well(structure$id, data$x)
  found <- laplace_at(par, structure, data, settings, eta, gradient, 1e-7, refine = !exact,
                      probes = if (gradient) 48 else if (exact) 2 else 24, state = state)
  if (exact && is.finite(found$loglik)) {
    phi <- all_phi(settings$family, par$phi)
    found$loglik <- exact_loglik(found, structure$id, data, settings$family, phi, settings$threads)
    found$se <- 0
  }
  found
}

# ---- optimisation ----

laplace_maximise <- function(begin, data, settings, iterations, progress, searches = 3) {
  at <- begin
  done <- 0
  history <- begin$history
  noise <- NULL
  for (search in seq_len(searches)) {
    tolerance <- min(max(2e-4, 2e-6 * length(data$y)), 0.02)
    found <- laplace_climb(at, data, settings, iterations - done, tolerance, "all", progress, noise, done)
    done <- found$iterations
    history <- rbind(history, found$history)
    at <- found
    noise <- found$mode$noise
    if (!found$settled || !off_grid(found$theta, found$structure$at, settings)) break
  }
  # the last mode is that of predictions, and found to more digits
  mode <- laplace_final(found$last, found$structure, data, settings, found$eta, state = found$mode$state)
  if (!is.finite(mode$loglik)) mode <- found$mode
  found$structure$gp <- mode$gp
  list(theta = mode$par$theta, phi = mode$par$phi, mode = mode, structure = found$structure, converged = found$settled,
       message = found$message, iterations = done, history = history)
}

# Whether a sparse factor costs no more than a few evaluations: moderate sizes in the plane.
factors_well <- function(id, x) nrow(id) <= 5000 && length(id) <= 1.5e5 && ncol(x) <= 2

# The likelihood at a mode without the error of the quadrature.
exact_loglik <- function(mode, id, data, family, phi, threads) {
  gp <- mode$gp
  slack <- rep(latent_jitter * gp$kernel$variance, length(data$y))
  latent <- .Call(C_vif_regression, gp, slack, id, NULL, NULL, threads)
  logdet <- sparse_system(gp, id, latent)(mode$noise)$logdet()
  sum(family$value(data$y, mode$eta, data$w, phi)) - sum(mode$a * mode$b) / 2 - (logdet - sum(log(mode$noise))) / 2
}

# How far the logarithms of a family's parameters may go.
phi_bounds <- function(phi, settings) {
  unit <- stats::setNames(log(ifelse(names(phi) == "scale", settings$unit %or% 1, 1)), names(phi))
  hold(list(lower = unit - 15, upper = unit + 15), settings)
}

# Those of them within a factor e of a bound, as at_bounds() has it.
phi_at_bounds <- function(phi, settings) {
  bounds <- phi_bounds(phi, settings)
  side <- ifelse(log(phi) < bounds$lower + 1, "lower", ifelse(log(phi) > bounds$upper - 1, "upper", NA))
  side[!is.na(side)]
}

# One climb with sets held fixed, by the method of Broyden, Fletcher, Goldfarb and Shanno from the information of the
# working responses. It ends where the next step promises less than `tolerance`: `last` are the parameters after this
# step, which is not worth an evaluation.
laplace_climb <- function(begin, data, settings, limit, tolerance, stage, progress, noise = NULL, done = 0,
                          structure = laplace_structure(begin$theta, data, settings, noise)) {
  clock <- proc.time()[["elapsed"]]
  bounds <- theta_bounds(settings)
  count <- c(theta = length(begin$theta), phi = length(begin$phi))
  # without coefficients to start from those of the noisy process are taken, whose mode brings them along
  from <- begin
  if (is.null(begin$beta) && !is.null(data$X)) {
    from <- laplace_at(begin[c("theta", "phi")], structure, data, settings, begin$eta, noisy = TRUE)
    check_evaluation(from)
  }
  par <- c(begin$theta, log(begin$phi), from$beta)
  unpack <- function(par) {
    list(theta = par[seq_len(count[[1]])], phi = exp(par[count[[1]] + seq_len(count[[2]])]),
         beta = unname(par[-seq_len(sum(count))]))
  }
  of_phi <- phi_bounds(begin$phi, settings)
  free <- rep(Inf, length(from$beta))
  lower <- c(bounds$lower, of_phi$lower, -free)
  upper <- c(bounds$upper, of_phi$upper, free)
  moved <- function(step) pmin(pmax(par + step, lower), upper)
  # the best step within the bounds: what is at one, and wants to leave, stays, and the others go on from there
  best_step <- function() {
    step <- drop(inverse %*% g)
    if (all(par + step >= lower & par + step <= upper)) return(step)
    curved <- tryCatch(inverse_in_units(inverse), error = function(e) NULL)
    (if (!is.null(curved)) box_step(curved, g, lower - par, upper - par)) %or% (moved(step) - par)
  }
  evaluate_at <- function(par, from) {
    laplace_at(unpack(par), structure, data, settings, from$eta, gradient = TRUE, state = from$state)
  }
  current <- evaluate_at(par, from)
  check_evaluation(current)
  curve <- begin$curve %or% working_information(current, structure, data, settings)
  inverse <- tryCatch(inverse_in_units(curve), error = function(e) diag(1 / pmax(diag(curve), 1e-8), nrow(curve)))
  g <- laplace_slope(current, settings)
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
  last_par <- NULL
  repeat {
    step <- best_step()
    if (sum(step * g) / 2 < tolerance) {
      settled <- TRUE
      last_par <- moved(step)
      break
    }
    if (done >= last) break
    done <- done + 1
    step <- step * min(1, 1.5 / max(abs(step[seq_len(sum(count))])))
    trial <- NULL
    for (attempt in 1:12) {
      trial <- evaluate_at(moved(step), current)
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
    par <- moved(step)
    g_new <- laplace_slope(trial, settings)
    change <- g - g_new
    if (sum(change * step) > 1e-10 * sqrt(sum(change^2) * sum(step^2))) inverse <- bfgs_update(inverse, step, change)
    current <- trial
    g <- g_new
    note()
  }
  c(unpack(par), list(last = unpack(last_par %or% par), mode = current, eta = current$eta, structure = structure,
                      settled = settled, iterations = done, history = history,
                      curve = tryCatch(inverse_in_units(inverse), error = function(e) NULL),
                      message = if (settled) "converged" else if (done >= last) {
                        paste("the limit of", counted(last, "iteration"), "is reached")
                      } else "the likelihood rises no more along its gradient"))
}

# The inverse of a positive definite matrix whose rows have units of their own.
inverse_in_units <- function(A) {
  if (!isTRUE(all(diag(A) > 0))) stop("not positive definite")
  root <- sqrt(diag(A))
  solve(A / outer(root, root)) / outer(root, root)
}

check_evaluation <- function(at) {
  if (is.finite(at$loglik)) return(invisible())
  if (is.null(at$failure)) stop_mode()
  stop(user_call(), "the likelihood cannot be evaluated: ", at$failure, call. = FALSE)
}

# Information about (theta, log phi, beta) at a mode: of the covariance what is expected of Gaussian responses with the
# working noise, of phi the squares of each observation's slopes, of beta that of generalised least squares.
working_information <- function(mode, structure, data, settings) {
  par <- mode$par
  found <- vif_evaluate(mode$response, mode$gp, structure$wide, mode$noise, NULL, settings$threads, gradient = TRUE,
                        information = TRUE, memory = settings$memory, plane = estimates_plane(settings))
  phi <- all_phi(settings$family, par$phi)
  slopes <- settings$family$phi_slopes(data$y, mode$eta, data$w, phi)[names(par$phi)]
  parts <- list(to_theta_information(found$fisher, par$theta, settings),
                diag(vapply(slopes, function(own) sum(own$value^2), 0), length(slopes)),
                mode$information %or% matrix(0, 0, 0))
  size <- vapply(parts, NROW, 0L) * (vapply(parts, length, 0L) > 0)
  out <- matrix(0, sum(size), sum(size))
  for (part in which(size > 0)) {
    at <- sum(size[seq_len(part - 1)]) + seq_len(size[part])
    out[at, at] <- parts[[part]]
  }
  # what nothing depends on, such as the lengthscale of a constant column, must not move by rounding of its slope
  unit <- rep(1, nrow(out)) # logarithms have none; coefficients have that of the linear predictor
  of_beta <- seq_len(nrow(out)) > sum(size[1:2])
  if (any(diag(out)[of_beta] > 0)) unit[of_beta] <- max(diag(out)[of_beta])
  out + diag(ifelse(diag(out) > 1e-12 * unit, 1e-6 * diag(out), unit), nrow(out))
}

bfgs_update <- function(inverse, step, change) {
  weight <- 1 / sum(step * change)
  left <- diag(length(step)) - weight * outer(step, change)
  left %*% inverse %*% t(left) + weight * outer(step, step)
}
