# Fit: maximum likelihood for the VIF approximation.

#' Fit a Gaussian process by maximum likelihood
#'
#' Fits `y = X beta + f(x) + noise`, `f` a Gaussian process, under the VIF approximation: inducing inputs
#' carry its smooth part, and every point's residual is conditioned on its `k` residual-correlation
#' neighbours among earlier points. For 10^4 to 10^6 observations; the cost of one step is
#' O(n (k^3 + k^2 m + m^2)).
#'
#' The logarithms of `variance`, `lengthscale` and `nugget` are optimised by [stats::nlminb()] with analytic
#' gradients and a second derivative that is learned from them, `beta` being profiled out by generalised
#' least squares. Which points are neighbours depends on the parameters: neighbours and inducing inputs
#' are found again at iterations 1, 2, 4, 8, ... and at convergence, through one [cover_tree()] that is
#' built at the start, and held fixed in between. Inducing inputs are chosen again only where the shape of
#' the domain in units of the lengthscales has changed, a side by a twentieth of the longest.
#'
#' The fit has converged when the optimiser has (it expects to gain less than 0.0001 in log-likelihood), and
#' after another search it gains less than 0.01 (a tenth of a standard error) or moves no parameter by
#' more than 0.1 %. Neighbours near a tie can go on changing places: then it is enough that the optimiser
#' settles four times and new neighbours move no parameter by more than 5 %, and `message` says by how
#' much. Otherwise there is a warning, and the last parameters are kept.
#'
#' @param y Observations, a numeric vector of length n without missing values; or a formula
#'   `y ~ a + b` for the mean, whose terms are looked up in `data` (and which has an intercept unless it
#'   says `- 1`).
#' @param ... Arguments of the other method.
#' @return An object of class `"vif"`: `kernel` and `nugget` (the estimates), `coefficients` (`beta`),
#'   `loglik`, `converged`, `message`, `iterations`, `history` (one row for each search), `order` and the
#'   ordered `gp` ([residual_gp()]) and neighbours `id`, with what predictions need. Use
#'   [predict][predict.vif], [summary][summary.vif], `coef`, `logLik`, `AIC`, `fitted`,
#'   [residuals][residuals.vif], [simulate][simulate.vif], [plot][plot.vif], `update`, `vcov` and `nobs`
#'   rather than the elements.
#' @section Errors:
#' `y` of another length than `x`, with missing values (the error says how many; the formula method
#' leaves them out by `na.action`) or constant; collinear columns of `X`. A fit that does not converge
#' gives a warning of class `"vif_convergence"`.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes. \doi{10.48550/arXiv.2507.05064}.
#' @seealso [vif_loglik()] for the likelihood at given parameters.
#' @examples
#' set.seed(1)
#' x <- cbind(runif(400), runif(400))
#' y <- 2 + sin(6 * x[, 1]) * cos(5 * x[, 2]) + rnorm(400, sd = 0.1)
#' fit <- vif_fit(y, x, X = rep(1, 400), inducing = 30, k = 10, progress = FALSE)
#' fit
#' predict(fit, cbind(c(0.2, 0.5), 0.5), newX = c(1, 1))
#'
#' d <- data.frame(lon = x[, 1], lat = x[, 2], y = y)
#' vif_fit(y ~ lat, coords = ~ lon + lat, data = d, inducing = 30, k = 10, progress = FALSE)
#' @export
vif_fit <- function(y, ...) UseMethod("vif_fit")

#' @rdname vif_fit
#' @param x Inputs, n x d: a numeric matrix, data frame or vector.
#' @param X Covariates of the mean, n x p, among them a column of ones for a constant; `NULL` for mean
#'   zero.
#' @param kernel A [gp_kernel()]: its family, and by the length of `lengthscale` whether there is one
#'   lengthscale for all columns or one for each. Its values only matter if `start` is `"kernel"`.
#' @param inducing Number of inducing inputs, at most the number of distinct rows of `x`; or an m x d
#'   matrix of them, which is kept; or 0. They are chosen by k-means++ in units of the lengthscales.
#' @param k Number of neighbours that every observation is conditioned on.
#' @param nugget Variance of the noise: `NULL` to estimate it, a number to hold it fixed.
#' @param noise_variance Known variances of the single observations, added to the nugget: a vector of
#'   length n, or `NULL`.
#' @param order Order of the conditioning: `"maxmin"` (in units of the lengthscales), `"random"`,
#'   `"none"` for the order of `x`, or a permutation of its rows.
#' @param neighbours `"residual"` conditions on the neighbours by residual correlation, `"euclidean"`
#'   on those by scaled distance, for comparisons.
#' @param start Starting values: `"auto"` finds them on a subset of the data; `"kernel"` takes those of
#'   `kernel` (and a tenth of its variance as the nugget); or a list of a `kernel` and a `nugget`.
#' @param iterations The largest number of iterations of the optimiser in total.
#' @param jitter See [residual_gp()].
#' @param seed Seed of all random choices. The session's random numbers are left untouched.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to report every search.
#' @export
vif_fit.default <- function(y, x, X = NULL, kernel = gp_kernel("matern32"), inducing = 200, k = 30,
                            nugget = NULL, noise_variance = NULL, order = "maxmin",
                            neighbours = c("residual", "euclidean"), start = "auto",
                            iterations = 100, jitter = 1e-6, seed = 1, threads = NULL,
                            progress = interactive(), ...) {
  unused <- ...names()
  if (...length()) refuse(c(unused, "...")[1], "an argument of vif_fit()", "unknown")
  if (missing(x)) refuse("x", "given: the inputs, one row for each observation", "missing")
  x <- check_points(x, "x", least = 2)
  n <- nrow(x)
  y <- check_response(y, n, "x")
  X <- check_covariates(X, n)
  check_kernel(kernel, ncol(x))
  k <- min(check_whole(k, "k", 1), n - 1L)
  if (!is.null(nugget)) nugget <- check_nonnegative(nugget, "nugget")
  extra <- check_noise(0, noise_variance, n)
  neighbours <- check_choice(neighbours, c("residual", "euclidean"), "neighbours")
  iterations <- check_whole(iterations, "iterations", 1)
  jitter <- check_nonnegative(jitter, "jitter")
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  threads <- worthwhile_threads(thread_count(threads), n)
  progress <- check_flag(progress, "progress")
  flat <- if (is.null(X)) y else stats::lm.fit(X, y)$residuals
  if (sum(flat^2) <= 1e-20 * sum(y^2) || stats::var(flat) == 0) {
    refuse("y", "varying beyond its mean", if (stats::var(y) == 0) "constant" else "a linear function of `X`")
  }
  if (missing(inducing)) inducing <- min(inducing, length(distinct_rows(x)))

  data <- list(y = y, x = x, X = X, extra = extra)
  settings <- list(kernel = kernel, inducing = inducing, k = k, fixed = nugget, spread = stats::var(flat),
                   neighbours = neighbours, jitter = jitter, seed = seed, threads = threads,
                   scale = input_scale(x, kernel))
  start <- starting_values(start, data, settings)
  order <- conditioning_order(order, x, to_kernel(start$theta, settings)$lengthscale, seed)
  data <- list(y = y[order], x = x[order, , drop = FALSE], X = X[order, , drop = FALSE],
               extra = extra[order])
  found <- maximise(start, data, settings, iterations, progress)
  if (!found$converged) {
    warning(warningCondition(paste0("vif_fit() has not converged (", found$message,
                                    "): the parameters reached so far are kept"),
                             class = "vif_convergence", call = NULL))
  }
  state <- found$state
  structure(list(
    call = as_call(match.call()), kernel = to_kernel(found$theta, settings),
    nugget = to_nugget(found$theta, settings),
    coefficients = stats::setNames(state$evaluation$beta, colnames(X)),
    vcov = inverse(state$evaluation$information, colnames(X)), loglik = state$evaluation$loglik,
    df = length(found$theta) + NCOL(X) * !is.null(X), n = n, k = k, converged = found$converged,
    message = found$message, iterations = found$iterations, history = found$history,
    nugget_fixed = !is.null(nugget), noise_variance = noise_variance, neighbours = neighbours, y = y,
    X = X, order = order, gp = state$gp, id = state$id,
    state = state$evaluation[c("coef", "D", "root", "b", "B", "error", "residual")]
  ), class = "vif")
}

#' @rdname vif_fit
#' @param coords One-sided formula of the inputs, for example `~ lon + lat`.
#' @param data Data frame with the variables of both formulas.
#' @param subset,na.action As in [stats::lm()]; by default rows with missing values are left out. The
#'   formula method looks up `noise_variance` in `data` too, so that it loses the same rows.
#' @export
vif_fit.formula <- function(y, coords, data = environment(y), subset, na.action = stats::na.omit,
                            noise_variance = NULL, ...) {
  if (missing(coords) || !inherits(coords, "formula") || length(coords) != 2) {
    refuse("coords", "a one-sided formula such as ~ lon + lat", if (missing(coords)) "missing" else describe(coords))
  }
  terms <- stats::delete.response(stats::terms(y, data = data))
  if (!is.null(attr(terms, "offset"))) refuse("y", "a formula without offset()", deparse1(y))
  both <- joint_formula(y, coords)
  call <- match.call(expand.dots = FALSE)
  frame <- call[c(1, match(c("data", "subset", "noise_variance"), names(call), 0))]
  frame[[1]] <- quote(stats::model.frame)
  frame$formula <- both
  frame$na.action <- na.action
  frame <- eval(frame, parent.frame())
  X <- stats::model.matrix(terms, frame)
  fit <- vif_fit.default(stats::model.response(frame), coordinates(coords, frame),
                         X = if (ncol(X)) X, noise_variance = frame[["(noise_variance)"]], ...)
  fit$call <- as_call(match.call())
  fit$formula <- y
  fit$coords <- coords
  fit$terms <- remember(terms, frame)
  fit$coords_terms <- remember(stats::terms(coords), frame)
  fit$xlevels <- stats::.getXlevels(terms, frame)
  fit$contrasts <- attr(X, "contrasts")
  fit$na.action <- attr(frame, "na.action")
  fit
}

# Terms that know, for new data, what poly(), scale() and the like found in the data of the fit, from the
# frame of both formulas.
remember <- function(terms, frame) {
  joint <- attr(frame, "terms")
  names <- function(terms) vapply(as.list(attr(terms, "variables"))[-1], deparse1, "")
  own <- match(names(terms), names(joint))
  attr(terms, "predvars") <- attr(joint, "predvars")[c(1, 1 + own)]
  attr(terms, "dataClasses") <- attr(joint, "dataClasses")[names(terms)]
  terms
}

# Many short parallel regions cost more than they save, most of all on a busy machine.
worthwhile_threads <- function(threads, n) if (n < 2000) 1L else threads

# The call of the generic, not of the method.
as_call <- function(call) {
  call[[1]] <- quote(vif_fit)
  call
}

# y ~ a + b and ~ lon + lat as y ~ a + b + (lon + lat): one model frame, so that rows stay together.
joint_formula <- function(formula, coords) {
  joint <- formula
  joint[[3]] <- call("+", formula[[3]], call("(", coords[[2]]))
  joint
}

coordinates <- function(coords, frame) {
  names <- attr(stats::terms(coords), "term.labels")
  x <- as.matrix(frame[names])
  if (!is.numeric(x)) refuse("coords", "a formula of numeric variables", deparse1(coords))
  rownames(x) <- NULL
  x
}

conditioning_order <- function(order, x, lengthscale, seed) {
  n <- nrow(x)
  if (is.character(order)) {
    switch(check_choice(order, c("maxmin", "random", "none"), "order"),
           maxmin = order_maxmin(sweep(x, 2, lengthscale, `/`)), random = order_random(x, seed),
           none = seq_len(n))
  } else {
    if (length(order) != n || !identical(sort(as.integer(order)), seq_len(n))) {
      refuse("order", paste('"maxmin", "random", "none" or a permutation of the', n, "rows of `x`"),
             describe(order))
    }
    as.integer(order)
  }
}

inverse <- function(information, names) {
  if (!nrow(information)) return(information)
  matrix(solve(information), nrow(information), dimnames = list(names, names))
}

# ---- parameters: theta = log(variance, lengthscales, nugget unless fixed) ----

# Spread of the inputs along each lengthscale.
input_scale <- function(x, kernel) {
  spread <- apply(x, 2, function(column) diff(range(column)))
  spread[spread == 0] <- 1
  if (length(kernel$lengthscale) == 1) max(spread) else spread
}

to_kernel <- function(theta, settings) {
  kernel <- settings$kernel
  kernel$variance <- exp(theta[[1]])
  kernel$lengthscale <- exp(unname(theta[1 + seq_along(kernel$lengthscale)]))
  kernel
}

to_nugget <- function(theta, settings) {
  if (is.null(settings$fixed)) exp(theta[[length(theta)]]) else settings$fixed
}

to_theta <- function(kernel, nugget, settings) {
  nugget <- max(nugget, 1e-8 * settings$spread)
  c(variance = log(kernel$variance), lengthscale = log(kernel$lengthscale),
    nugget = if (is.null(settings$fixed)) log(nugget))
}

# Wide enough never to matter where the data say anything.
theta_bounds <- function(settings) {
  limits <- function(low, high) {
    to_theta(list(variance = low[[1]], lengthscale = low[[2]]), low[[3]], settings)
  }
  list(lower = limits(list(1e-6 * settings$spread, 1e-5 * settings$scale, 1e-8 * settings$spread)),
       upper = limits(list(1e6 * settings$spread, 1e3 * settings$scale, 1e2 * settings$spread)))
}

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
  nn <- residual_knn(tree, settings$k, predecessors = TRUE, threads = threads, progress = FALSE)
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
