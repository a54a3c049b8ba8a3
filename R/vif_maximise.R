# Maximise: the climb of vif_fit() over stretches of fixed neighbours, and where it starts.

# ---- starting values ----

# Where to start, and how the log-likelihood curves there.
starting_values <- function(start, data, settings) {
  wanted <- '"auto", "kernel" or a list of a `kernel` and a `nugget`'
  part <- subset_of(data, settings)
  if (is.list(start) && !inherits(start, "gp_kernel")) {
    if (!inherits(start$kernel, "gp_kernel") || !is.numeric(start$nugget)) {
      refuse("start", wanted, describe(start))
    }
    check_kernel(start$kernel, ncol(data$x))
    start$kernel$lengthscale <- rep_len(start$kernel$lengthscale, length(settings$kernel$lengthscale))
    theta <- to_theta(start$kernel, start$nugget, settings)
  } else if (identical(start, "kernel")) {
    theta <- to_theta(settings$kernel, settings$kernel$variance / 10, settings)
  } else {
    if (!identical(start, "auto")) refuse("start", wanted, describe(start))
    return(subset_estimate(part$data, part$settings))
  }
  theta <- inside(theta, theta_bounds(settings))
  list(theta = theta, curvature = curvature_at(theta, part$data, part$settings))
}

inside <- function(theta, bounds) pmin(pmax(theta, bounds$lower), bounds$upper)

# Up to 1000 points, half of them spread out, for the long distances, and half in close groups, for the
# short ones, and the settings of a plain Vecchia approximation of them.
subset_of <- function(data, settings, size = 1000, groups = 10) {
  n <- nrow(data$x)
  rows <- if (n <= size) seq_len(n) else with_seed(settings$seed, {
    unit <- t(data$x) / apply(data$x, 2, function(column) max(diff(range(column)), 1e-300))
    close <- lapply(sample.int(n, groups), function(centre) {
      utils::head(order(colSums((unit - unit[, centre])^2)), size / 2 / groups)
    })
    unique(c(sample.int(n, size / 2), unlist(close)))
  })
  settings$k <- min(20L, length(rows) - 1L)
  settings$inducing <- 0
  settings$neighbours <- "euclidean"
  settings$threads <- worthwhile_threads(settings$threads, length(rows))
  rows <- rows[order_maxmin(sweep(data$x[rows, , drop = FALSE], 2, settings$scale, `/`))]
  part <- list(y = data$y[rows], x = data$x[rows, , drop = FALSE], X = data$X[rows, , drop = FALSE],
               extra = data$extra[rows])
  if (!is.null(part$X) && qr(part$X)$rank < ncol(part$X)) {
    part$y <- stats::lm.fit(part$X, part$y)$residuals
    part$X <- NULL
  }
  list(data = part, settings = settings)
}

# The estimate of a subset, from the best of a few lengthscales.
subset_estimate <- function(part, settings) {
  candidates <- lapply(c(0.02, 0.05, 0.1, 0.2, 0.5), function(share) {
    kernel <- list(variance = 0.9 * settings$spread,
                   lengthscale = share * settings$scale * sqrt(ncol(part$x)))
    to_theta(kernel, 0.1 * settings$spread, settings)
  })
  value <- vapply(candidates, function(theta) {
    evaluate(theta, structure_of(theta, part, settings), part, settings)$value
  }, 0)
  best <- list(theta = candidates[[which.max(value)]])
  best$curvature <- curvature_at(best$theta, part, settings)
  if (!is.finite(max(value))) return(best)
  maximise(best, part, settings, iterations = 30, progress = FALSE, searches = 6)[c("theta", "curvature")]
}

# The negative second derivative of the log-likelihood, by differences of the gradient, made positive
# definite. That of a subset serves all the data: where these say more its steps come out too long,
# which the optimiser mends, and never too short, which would look like convergence.
curvature_at <- function(theta, data, settings, step = 1e-3) {
  structure <- structure_of(theta, data, settings)
  slope <- function(theta) {
    at <- evaluate(theta, structure, data, settings)
    if (is.finite(at$value)) gradient_of(at, structure, data, settings) else NaN * theta
  }
  here <- slope(theta)
  H <- vapply(seq_along(theta), function(j) {
    (here - slope(replace(theta, j, theta[[j]] + step))) / step
  }, theta)
  if (!all(is.finite(H))) return(diag(length(theta)))
  parts <- eigen((H + t(H)) / 2, symmetric = TRUE)
  parts$vectors %*% (pmax(abs(parts$values), 0.1) * t(parts$vectors))
}

# ---- optimisation ----

# Inducing inputs and neighbours at theta. Inducing inputs depend on the lengthscales only by the shape of
# the scaled domain: they are kept until one of its sides has changed by a twentieth of the longest, so
# that the climb can settle, whatever the lengthscales of columns that do not matter. The first
# search builds a cover tree, later ones take its structure over: the inputs stay where they are.
structure_of <- function(theta, data, settings, before = NULL) {
  lengthscale <- to_kernel(theta, settings)$lengthscale
  shape <- settings$scale / lengthscale
  shape <- shape / max(shape)
  keep <- !is.null(before) && max(abs(shape - before$shape)) < 0.05
  gp <- make_gp(theta, data$x, if (keep) before$inducing else settings$inducing, settings)
  searched <- searched_process(settings$neighbours, gp)
  threads <- threads_or_null(settings$threads)
  tree <- if (is.null(before)) cover_tree(searched, threads) else update(before$tree, gp = searched)
  selected <- settings$neighbours == "selected"
  nn <- residual_knn(tree, settings$k * if (selected) 4 else 1, predecessors = TRUE, threads = threads, progress = FALSE)
  if (selected) {
    noise <- to_nugget(theta, settings) + data$extra
    nn <- conditioning_sets(gp, settings$k, noise, pool = nn, threads = threads, progress = FALSE)
  }
  # features and index are made anew at every step and as large as all the rest: the tree goes on without
  tree$gp$V <- tree$index <- NULL
  list(inducing = gp$inducing, shape = if (keep) before$shape else shape, id = unname(nn$id), tree = tree)
}

# Without inducing inputs the correlation falls with the scaled distance alone: Euclidean neighbours.
searched_process <- function(neighbours, gp) {
  if (neighbours == "residual") return(gp)
  new_residual_gp(gp$x, gp$kernel, gp$x[0, , drop = FALSE], 0, gp$jitter, NA_integer_)
}

make_gp <- function(theta, x, inducing, settings) {
  residual_gp(x, to_kernel(theta, settings), inducing, jitter = settings$jitter, seed = settings$seed,
              threads = threads_or_null(settings$threads))
}

threads_or_null <- function(threads) if (is.na(threads)) NULL else threads

# Log-likelihood at theta for a given structure; -Inf where a covariance is not positive definite.
evaluate <- function(theta, structure, data, settings) {
  noise <- to_nugget(theta, settings) + data$extra
  tryCatch({
    gp <- make_gp(theta, data$x, structure$inducing, settings)
    evaluation <- vif_evaluate(data$y, gp, structure$id, noise, data$X, settings$threads)
    if (is.finite(evaluation$loglik)) {
      list(value = evaluation$loglik, theta = theta, gp = gp, evaluation = evaluation)
    } else {
      list(value = -Inf)
    }
  }, error = function(e) list(value = -Inf, failure = conditionMessage(e)))
}

# The gradient at an evaluation, without what is held fixed.
gradient_of <- function(at, structure, data, settings) {
  nugget <- to_nugget(at$theta, settings)
  slope <- vif_gradient(at$evaluation, at$gp, structure$id, nugget + data$extra, nugget, settings$threads)
  slope[seq_along(at$theta)]
}

# Climbs in stretches of fixed structure that end at iterations 1, 2, 4, 8, ... and at convergence: the
# optimiser has settled, and after another search it settles again without much gain or movement.
maximise <- function(start, data, settings, iterations, progress, searches = 30) {
  bounds <- theta_bounds(settings)
  theta <- start$theta
  curvature <- start$curvature
  done <- settled <- 0
  converged <- FALSE
  message <- NULL
  history <- structure <- NULL
  for (search in seq_len(searches)) {
    structure <- structure_of(theta, data, settings, structure)
    current <- evaluate(theta, structure, data, settings)
    if (!is.finite(current$value)) {
      stop(user_call(), "the likelihood cannot be evaluated: ", current$failure %or% "it is not finite",
           call. = FALSE)
    }
    history <- rbind(history, history_row(done, current$value, theta))
    if (progress) report(history)
    limit <- min(if (done) 2^(floor(log2(done)) + 1) - done else 1, iterations - done)
    if (limit < 1) {
      message <- paste("the limit of", counted(iterations, "iteration"), "is reached")
      break
    }
    step <- climb(current, structure, data, settings, bounds, limit, curvature)
    done <- done + step$iterations
    gain <- step$value - current$value
    moved <- max(abs(step$theta - theta))
    theta <- step$theta
    curvature <- step$curvature
    settled <- settled + step$settled
    if (step$settled && (gain < 0.01 || moved < 0.001)) {
      converged <- TRUE
      message <- "converged"
      break
    }
    if (step$settled && settled > 3 && moved < 0.05) {
      converged <- TRUE
      message <- sprintf("converged, but for %.1f %% that new neighbours move a parameter", 100 * moved)
      break
    }
  }
  state <- evaluate(theta, structure, data, settings)
  state$id <- structure$id
  if (converged) history <- rbind(history, history_row(done, state$value, theta))
  list(theta = theta, curvature = curvature, state = state, converged = converged,
       message = message %or% paste("it did not settle in", searches, "searches"), iterations = done,
       history = history)
}

history_row <- function(iteration, loglik, theta) {
  data.frame(iteration = iteration, loglik = loglik, t(exp(theta)))
}

`%or%` <- function(a, b) if (is.null(a)) b else a

# One stretch. nlminb() is given its own secant approximation of the second derivative, which outlives
# the stretch: with hardly any memory of how the likelihood curves every search would begin anew. It
# asks for value, gradient and second derivative apart and wants finite values: where a covariance is not
# positive definite the likelihood is very low and flat.
climb <- function(current, structure, data, settings, bounds, limit, curvature) {
  names <- names(current$theta)
  last <- current
  best <- current[c("theta", "value")]
  floor <- current$value - 1e3 * (1 + abs(current$value))
  at <- function(par) {
    if (!identical(par, unname(last$theta))) {
      last <<- evaluate(stats::setNames(par, names), structure, data, settings)
      last$theta <<- par
      if (last$value > best$value) best <<- last[c("theta", "value")]
    }
    last
  }
  slope <- function(par) {
    here <- at(par)
    if (!is.finite(here$value)) return(rep(0, length(par)))
    if (is.null(here$gradient)) last$gradient <<- gradient_of(here, structure, data, settings)
    -unname(last$gradient)
  }
  before <- NULL
  curve <- function(par) {
    here <- list(theta = par, slope = slope(par))
    if (!is.null(before)) {
      curvature <<- secant(curvature, here$theta - before$theta, here$slope - before$slope)
    }
    before <<- here
    curvature
  }
  found <- stats::nlminb(unname(current$theta), function(par) -max(at(par)$value, floor), slope, curve,
                         lower = unname(bounds$lower), upper = unname(bounds$upper),
                         control = list(iter.max = limit, rel.tol = 1e-4 / (1 + abs(current$value))))
  limited <- grepl("limit", found$message)
  list(theta = stats::setNames(best$theta, names), value = best$value, settled = !limited,
       iterations = found$iterations, curvature = curvature)
}

# The BFGS update of a second derivative by a step and the change of slope along it, damped as by Powell
# (1978) so that it stays positive definite.
secant <- function(curvature, step, change) {
  through <- drop(curvature %*% step)
  expected <- sum(step * through)
  if (expected <= 0) return(curvature)
  agreed <- sum(step * change)
  if (agreed < 0.2 * expected) {
    share <- 0.8 * expected / (expected - agreed)
    change <- share * change + (1 - share) * through
  }
  curvature - tcrossprod(through) / expected + tcrossprod(change) / sum(step * change)
}

report <- function(history) {
  row <- utils::tail(history, 1)
  values <- paste(names(row)[-(1:2)], vapply(row[-(1:2)], format, "", digits = 4), collapse = ", ")
  message(sprintf("search %2d, iteration %2d: log-likelihood %.4f, %s", nrow(history), row$iteration,
                  row$loglik, values))
}
