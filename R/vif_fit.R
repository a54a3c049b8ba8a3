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
#'   on those by scaled distance, for comparisons. `"selected"` selects each set together from the 4 k points nearest by
#'   scaled distance, see [conditioning_sets()].
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
                            neighbours = c("residual", "euclidean", "selected"), start = "auto",
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
  neighbours <- check_choice(neighbours, c("residual", "euclidean", "selected"), "neighbours")
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
