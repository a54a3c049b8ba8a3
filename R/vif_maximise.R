# Maximise: how vif_fit() climbs. Fisher scoring, coarse to fine: a subset of the data finds the right mode
# (vif_start.R), a larger one comes close, and all data need a few evaluations.

# ---- evaluation ----

# Inducing inputs and conditioning sets, those of the grid point `at`.
structure_of <- function(theta, data, settings, at = on_grid(theta, settings)) {
  if (isTRUE(data$shards$read)) return(read_structure(at, data, settings))
  if (!is.null(data$shards)) return(shard_structure(at, data, settings))
  inducing <- inducing_of(data$x, to_kernel(at, settings), settings)
  process <- if (settings$neighbours == "residual") make_gp else lean_gp
  noise <- to_nugget(at, settings) * data$share + data$extra
  id <- neighbours_of(process(at, data$x, inducing, settings), noise, settings)
  if (length(id) > large_features) gc() # evaluations need the memory of candidates and features
  list(at = at, inducing = inducing, id = id)
}

# Sets of all points, or of some, among the points before them. Selection takes its candidates from the nearest in
# space: those by residual correlation would add little (bench/divergence.md).
neighbours_of <- function(gp, noise, settings, queries = NULL) {
  neighbours_of_each(gp, list(noise), settings, queries)[[1]]
}

# The same for each of a list of noises.
neighbours_of_each <- function(gp, noises, settings, queries = NULL) {
  selected <- settings$neighbours == "selected"
  width <- settings$k * if (selected) candidates_for(gp$x) else 1
  method <- if (settings$neighbours == "residual") "auto" else "level"
  n <- nrow(gp$x)
  id <- nearest_ids(searched_process(settings$neighbours, gp), as.integer(min(width, n)), queries = queries,
                    predecessors = TRUE, method = method, threads = settings$threads)
  if (!selected) return(rep(list(id), length(noises)))
  .Call(C_selected_sets, gp, lapply(noises, rep_len, n), list(id), as.integer(min(settings$k, n)), queries,
        settings$memory, settings$threads)
}

# Candidates for each place of a set.
candidates_for <- function(x) if (ncol(x) <= 2) 3 else 4

searched_process <- function(neighbours, gp) {
  if (neighbours == "residual") gp else euclidean_process(gp, NA_integer_)
}

make_gp <- function(theta, x, inducing, settings) {
  residual_gp(x, to_kernel(theta, settings), inducing, jitter = settings$jitter, seed = settings$seed,
              threads = threads_or_null(settings$threads))
}

# Features of so many numbers, 80 MB, are made again when they are needed and not kept.
large_features <- 1e7

# The process of an evaluation; if it is large without features, which the core then makes where it wants them.
lean_gp <- function(theta, x, inducing, settings) {
  if (as.double(NROW(inducing)) * nrow(x) <= large_features) return(make_gp(theta, x, inducing, settings))
  featureless(x, make_gp(theta, points_of(x, 1L), inducing, settings))
}

# The process of points x, without features, from one of some of them.
featureless <- function(x, gp) {
  gp$x <- x
  gp[c("V", "variance")] <- list(NULL)
  gp
}

# Log-likelihood at theta for a given structure, with its gradient and expected information in theta unless these
# are not wanted (that of a step, unless "accurate" is asked for), and the process; -Inf where a covariance is not
# positive definite.
evaluate <- function(theta, structure, data, settings, derivatives = TRUE, information = derivatives) {
  if (!is.null(data$shards)) return(shard_evaluate(theta, structure, data, settings, derivatives))
  nugget <- to_nugget(theta, settings) * data$share
  tryCatch({
    gp <- lean_gp(theta, data$x, structure$inducing, settings)
    evaluation <- vif_evaluate(data$y, gp, structure$id, nugget + data$extra, data$X, settings$threads,
                               gradient = derivatives, information = information, nugget = nugget,
                               memory = settings$memory, plane = derivatives && estimates_plane(settings))
    if (!is.finite(evaluation$loglik)) return(list(value = -Inf))
    list(value = evaluation$loglik, theta = theta, evaluation = evaluation,
         gp = gp,
         gradient = if (derivatives) to_theta_slope(evaluation$gradient, theta, settings),
         fisher = if (!is.null(evaluation$fisher)) to_theta_information(evaluation$fisher, theta, settings))
  }, error = function(e) list(value = -Inf, failure = conditionMessage(e)))
}

# ---- optimisation ----

# Climbs on all data. The structure stays that of its grid point unless the parameters leave its neighbourhood.
maximise <- function(start, data, settings, iterations, progress) {
  settings$memory <- vif_memory()
  data <- shard_data(data, settings)
  found <- climb_searches(start, data, settings, iterations, progress)
  theta <- found$at$theta
  if (!is.null(data$shards)) found$at <- shard_complete(found$at, found$structure, data, settings)
  list(theta = theta, fisher = structure(found$at$fisher, of_steps = TRUE), evaluation = found$at$evaluation,
       structure = found$structure, value = found$at$value, converged = found$settled,
       gp = found$at$gp %or% lean_gp(theta, data$x, found$structure$inducing, settings),
       message = found$message, iterations = found$iterations, history = found$history)
}

# The last of the climbs between which sets are searched anew, with the history of all stages.
climb_searches <- function(start, data, settings, iterations, progress, searches = 4) {
  theta <- start$theta
  history <- start$history
  done <- 0
  at <- if (is.null(start$at)) on_grid(theta, settings) else start$at
  for (search in seq_len(searches)) {
    # a few thousandths of a log-likelihood are less than a tenth of a standard error
    tolerance <- min(max(1e-4, 2e-7 * observations(data)), 5e-3)
    found <- climb(theta, data, settings, "all", iterations - done, tolerance, progress, at, done)
    done <- found$iterations
    history <- rbind(history, found$history)
    theta <- found$at$theta
    if (!found$settled || !off_grid(theta, at, settings)) break
    at <- on_grid(theta, settings)
  }
  found$history <- history
  found
}

# How many there are, also where the session holds a sample of them alone.
observations <- function(data) data$shards$n %or% length(data$y)

# One climb by Fisher scoring with sets held fixed. Where the model does not hold the likelihood curves otherwise than
# expected: the expected information is corrected along the last steps by what the gradient has shown there. The climb
# ends where the next step promises less than `tolerance` in log-likelihood, or ten steps have brought less than that
# each on average, as along the ridge of a process that is noise. Steps are bounded, shortened and damped as long as the
# likelihood does not rise enough; if that fails nlminb() goes on with the same derivatives. `progress` is a function of
# progress_line(), or FALSE.
climb <- function(theta, data, settings, stage, limit, tolerance, progress, at = on_grid(theta, settings), done = 0,
                  structure = structure_of(theta, data, settings, at)) {
  clock <- proc.time()[["elapsed"]]
  force(structure) # workers of shards find it before they evaluate
  bounds <- theta_bounds(settings)
  current <- evaluate(theta, structure, data, settings)
  history <- NULL
  seen <- list()
  note <- function() {
    now <- proc.time()[["elapsed"]]
    spent <- now - clock
    row <- data.frame(stage = stage, observations = observations(data), iteration = done, loglik = current$value,
                      seconds = spent, t(natural_parameters(current$theta, settings)))
    clock <<- now
    history <<- rbind(history, row)
    if (!is.function(progress)) return()
    # a step leaves about a thirtieth of what it promised
    more <- max(0, ceiling(log(max(scoring_step(current, bounds)$gain, 1e-10) / tolerance, 30)))
    label <- if (stage == "all") "all observations" else paste(format(row$observations, big.mark = ","), "observations")
    progress(label, done, current$value, if (stage == "all") more * spent)
  }
  if (!is.finite(current$value)) {
    if (stage != "all") return(list(at = list(value = -Inf, theta = theta), history = NULL))
    stop(user_call(), "the likelihood cannot be evaluated: ", current$failure %or% "it is not finite", call. = FALSE)
  }
  note()
  last <- done + limit
  before <- 0 # what the step before this one promised
  repeat {
    current$curvature <- Reduce(secant, seen, current$fisher)
    step <- scoring_step(current, bounds)
    rows <- NROW(history)
    settled <- step$gain < tolerance || rows > 10 && current$value - history$loglik[rows - 10] < 10 * tolerance
    if (settled || done >= last) break
    done <- done + 1
    # promises of whole steps fall by a larger factor each time
    trial <- if (2 * step$gain^2 < tolerance * before) {
      ending(current, step, bounds, tolerance, structure, data, settings)
    }
    if (is.null(trial)) trial <- rise(current, step, bounds, structure, data, settings)
    before <- if (identical(trial$theta, current$theta + step$step)) step$gain else 0
    if (is.null(trial)) {
      polished <- polish(current, structure, data, settings, bounds, last - done)
      done <- done + polished$iterations
      settled <- polished$settled
      current <- polished$at
      note()
      break
    }
    pair <- list(step = trial$theta - current$theta, change = current$gradient - trial$gradient)
    seen <- c(utils::tail(seen, 1), list(pair))
    current <- trial
    note()
  }
  list(at = current, structure = structure, settled = settled, iterations = done, history = history,
       message = if (settled) "converged" else paste("the limit of", counted(last, "iteration"), "is reached"))
}

# The scoring step from an evaluation, and what it promises. Parameters at a bound that want to leave stay there;
# damping is relative to the information of each. A parameter of which the data say next to nothing, such as a nugget on
# its way to zero, has a huge step of its own, which must not hold the others up; one of which they say nothing at all,
# such as the lengthscale of a constant column, stays, as its information cannot be inverted.
scoring_step <- function(current, bounds, damping = 0, longest = 2) {
  slope <- current$gradient
  all <- current$curvature %or% current$fisher
  free <- !(current$theta <= bounds$lower & slope < 0 | current$theta >= bounds$upper & slope > 0) &
    (diag(all) > 1e-12 | abs(slope) > 1e-12)
  step <- 0 * slope
  if (!any(free)) return(list(step = step, gain = 0))
  slope <- slope[free]
  information <- all[free, free, drop = FALSE]
  scale <- pmax(diag(information), 1e-10 * max(diag(information)), 1e-8)
  diag(information) <- diag(information) + (damping + 1e-7) * scale
  lowest <- pmax(-longest, bounds$lower - current$theta)[free]
  highest <- pmin(longest, bounds$upper - current$theta)[free]
  gain_of <- function(own) sum(slope * own) - sum(own * (information %*% own)) / 2
  own <- box_step(information, slope, lowest, highest)
  if (is.null(own) || !(gain_of(own) > 0)) {
    own <- pmin(pmax(slope / scale, lowest), highest)
    own <- own * min(1, sum(slope * own) / sum(own * (information %*% own)))
  }
  step[free] <- own
  list(step = step, gain = max(gain_of(own), 0))
}

# The step that is best by slope and information, each element within its limits: the one that would go beyond them
# by most stays at its limit, and the others go on from there. Then each by itself goes on as far as it rises, as some
# may have been held in vain. NULL if the information is singular.
box_step <- function(information, slope, lowest, highest) {
  step <- 0 * slope
  open <- rep(TRUE, length(slope))
  while (any(open)) {
    left <- slope[open] - drop(information[open, !open, drop = FALSE] %*% step[!open])
    own <- tryCatch(solve(information[open, open, drop = FALSE], left), error = function(e) NULL)
    if (is.null(own)) return(NULL)
    step[open] <- own
    beyond <- ifelse(open, pmax(step - highest, lowest - step), -Inf)
    if (max(beyond) <= 0) break
    worst <- which.max(beyond)
    open[worst] <- FALSE
    step[worst] <- min(max(step[worst], lowest[worst]), highest[worst])
  }
  if (all(open)) return(step)
  for (sweep in 1:50) {
    for (i in seq_along(step)) {
      best <- step[i] + (slope[i] - sum(information[i, ] * step)) / information[i, i]
      step[i] <- min(max(best, lowest[i]), highest[i])
    }
  }
  step
}

# The BFGS update of an information matrix by a step and the fall of the gradient along it, damped as by Powell (1978)
# so that it stays positive definite.
secant <- function(information, pair) {
  through <- drop(information %*% pair$step)
  expected <- sum(pair$step * through)
  if (!(expected > 0)) return(information)
  agreed <- sum(pair$step * pair$change)
  change <- pair$change
  if (agreed < 0.2 * expected) {
    share <- 0.8 * expected / (expected - agreed)
    change <- share * change + (1 - share) * through
  }
  information - tcrossprod(through) / expected + tcrossprod(change) / sum(pair$step * change)
}

# An evaluation that is higher by a share of what the step promised, or NULL. The expected information of parameters
# that change by less than a tenth is that of before.
rise <- function(current, step, bounds, structure, data, settings, longest = 2) {
  damping <- 1e-3
  for (attempt in 1:8) {
    theta <- current$theta + step$step * min(1, longest / max(abs(step$step)))
    promised <- sum(current$gradient * (theta - current$theta))
    near <- max(abs(theta - current$theta)) < 0.1
    trial <- evaluate(theta, structure, data, settings, information = !near)
    if (near) trial$fisher <- current$fisher
    if (trial$value >= current$value + 1e-4 * max(promised, 0)) return(trial)
    damping <- damping * 8
    step <- scoring_step(current, bounds, damping)
    longest <- longest / 2
  }
  NULL
}

# A step after which little is left, without derivatives: the gradient is what the information makes of it. NULL where
# the likelihood does not rise as promised, or where more steps are to come. Where the curvature along the step is wrong
# by a share of itself, so is the rise, and the square of that share is left to gain along the step, and more across it:
# so that may be a fifth of the tolerance at most (`Rscript bench/fit.R ending` shows what is left in truth).
ending <- function(current, step, bounds, tolerance, structure, data, settings) {
  trial <- evaluate(current$theta + step$step, structure, data, settings, derivatives = FALSE)
  curved <- sum(step$step * (current$curvature %*% step$step)) / 2
  missed <- abs(trial$value - current$value - step$gain)
  if (!(missed < 0.1 * curved && missed^2 / curved < tolerance / 5)) return(NULL)
  trial$gradient <- current$gradient - drop(current$curvature %*% step$step)
  trial$fisher <- current$fisher
  if (scoring_step(trial, bounds)$gain < tolerance) trial
}

# The last resort. nlminb() wants finite values: where a covariance is not positive definite the likelihood is very
# low and flat.
polish <- function(current, structure, data, settings, bounds, limit) {
  last <- best <- current
  floor <- current$value - 1e3 * (1 + abs(current$value))
  at <- function(par) {
    if (!identical(par, unname(last$theta))) {
      theta <- stats::setNames(par, names(current$theta))
      last <<- evaluate(theta, structure, data, settings)
      last$theta <<- theta
      if (last$value > best$value) best <<- last
    }
    last
  }
  slope <- function(par) if (is.finite(at(par)$value)) -unname(at(par)$gradient) else 0 * par
  curve <- function(par) if (is.finite(at(par)$value)) unname(at(par)$fisher) else diag(length(par))
  found <- stats::nlminb(unname(current$theta), function(par) -max(at(par)$value, floor), slope, curve,
                         lower = unname(bounds$lower), upper = unname(bounds$upper),
                         control = list(iter.max = max(limit, 1), rel.tol = 1e-5 / (1 + abs(current$value))))
  list(at = best, settled = !grepl("limit", found$message), iterations = found$iterations)
}

`%or%` <- function(a, b) if (is.null(a)) b else a

# ---- comparison ----

# Log-likelihoods of fits to the same observations, and their standard errors, all with the order, inducing inputs and
# sets of the largest model: the error of the approximation is then the same for all, and differences are those of the
# models. Each is taken at its own maximum for these sets, one scoring step away. Fits of other inputs keep their own
# sets, and so do those that lose more than `most_lost` by others: sets of another metric may be far from the best.
most_lost <- 1
common_loglik <- function(fits) {
  if (is_laplace(fits[[1]])) return(common_laplace(fits))
  largest <- fits[[which.max(vapply(fits, function(fit) fit$df, 0))]]
  structure <- list(inducing = largest$gp$inducing, id = largest$id)
  loglik <- vapply(fits, function(fit) {
    if (identical(fit, largest)) return(fit$loglik)
    data <- fit_data(fit, largest$order)
    if (!identical(data$x, largest$gp$x)) return(fit$loglik)
    at <- evaluate(fit$theta, structure, data, fit$settings)
    if (!is.finite(at$value)) return(fit$loglik)
    value <- at$value + scoring_step(at, theta_bounds(fit$settings))$gain
    if (value < fit$loglik - most_lost) fit$loglik else value
  }, 0)
  data.frame(loglik = loglik, se = 0)
}

# The information of a fit for standard errors. That of the steps may err by a tenth in these where the data hold few
# degrees of freedom; an accurate one costs two evaluations, and is left out for very many observations.
accurate_fisher <- function(fit) {
  if (is.null(attr(fit$fisher, "of_steps")) || fit$n > 1e5) return(fit$fisher)
  data <- fit_data(fit, fit$order)
  structure <- list(inducing = fit$gp$inducing, id = fit$id)
  evaluate(fit$theta, structure, data, fit$settings, information = "accurate")$fisher %or% fit$fisher
}

# The data of a fit in some order, as evaluate() takes them.
fit_data <- function(fit, order) {
  response <- unname(if (is.null(fit$offset)) fit$y else fit$y - fit$offset)
  back <- order(fit$order)[order]
  list(y = response[order], x = fit$gp$x[back, , drop = FALSE], X = mean_basis(fit$X)$Q[order, , drop = FALSE],
       extra = fit_noise(fit)[order], share = 1 / fit_weights(fit)[order])
}

# Known noise variances beside the nugget, and weights, in the order of the data.
fit_noise <- function(fit) if (is.null(fit$noise_variance)) rep(0, fit$n) else as.double(fit$noise_variance)

fit_weights <- function(fit) if (is.null(fit$weights)) rep(1, fit$n) else as.double(fit$weights)
