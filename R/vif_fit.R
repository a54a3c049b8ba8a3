# Fit: maximum likelihood for the VIF approximation.

#' Fit a Gaussian process by maximum likelihood
#'
#' Fits `y = X beta + f(x) + noise`, `f` a Gaussian process, to 10 to 10^6 observations: the mean by generalised least
#' squares, and the variance and lengthscales of the process and the variance of the noise by maximum likelihood.
#' The defaults need no tuning; the section on choices says what to look at.
#'
#' The covariance of many observations is approximated (VIF approximation): inducing inputs carry its smooth part, and
#' what they leave of every observation is conditioned on `k` earlier observations, selected for what they say of it as
#' a set. The cost of one step is O(n (k^3 + k^2 m + m^2)), m being the number of inducing inputs.
#'
#' The logarithms of `variance`, `lengthscale` and `nugget` are optimised by Fisher scoring, `beta` being profiled
#' out, from coarse to fine: a thousand observations find where the likelihood is high, a larger part comes close, and
#' all observations need a few steps. Which points are neighbours depends on the parameters: conditioning sets and
#' inducing inputs are made for a round value near the parameters and held fixed around it, so that nested models have
#' the same sets. The fit has converged when the next step promises less than 0.0001 in log-likelihood (more for large
#' data, at most 0.005); otherwise there is a warning, and the best parameters are kept. Covariates may be in any unit:
#' the fit does not depend on it.
#'
#' @section Choices:
#' *Kernel.* `"matern32"` suits most spatial data; `"matern52"` or `"rbf"` smooth surfaces such as computer experiments,
#' `"matern12"` rough ones. Compare `AIC()` or [vif_cv()]. One lengthscale for all inputs is right where these are
#' coordinates in one unit; inputs of different kinds (a place and a time, factors of an experiment) need one for each
#' column: `kernel = gp_kernel("matern32", lengthscale = c(1, 1, 1))`, the numbers giving their count alone; or one
#' for each group: `lengthscale = list(space = c("x", "y", "z"), time = "day")`. For longitude and latitude use sf
#' data or [sphere_points()].
#'
#' *Direction.* Where a wind, a river or the layers of a rock make correlations reach further in one direction,
#' `anisotropy = TRUE` estimates which and by how much. `anova()` against the fit without it says whether it is needed.
#'
#' *k and inducing.* The defaults, `k` of 30 (45 for up to 4,000 observations of family `gaussian()`, all others for a
#' few hundred, see `k`) and 200 inducing inputs, are enough for most maps. `summary(fit, check = TRUE)` evaluates the
#' log-likelihood with twice as many neighbours: if it moves by more than about 1, double `k`. Smooth processes without
#' noise, such as computer experiments, need most: a larger `k`, also of [predict()][predict.vif], is what helps there,
#' while more inducing inputs cost much time for little.
#'
#' *Mean.* Give covariates that explain large-scale trends; the process takes what they leave. `confint()` and
#' `drop1()` test them.
#'
#' *Noise.* `nugget` is estimated; hold it fixed at 0, or at a tiny number, for deterministic computer experiments.
#' Known measurement variances go to `noise_variance`.
#'
#' @param y Observations, a numeric vector of length n without missing values. (Instead of `y` and `x`, a formula and
#'   data can be given, see below.)
#' @param ... Not used; any other argument is an error. In the formula method, arguments of the default method, from
#'   `kernel` on. `neighbors` is understood as `neighbours`.
#' @return An object of class `"vif"`: `kernel` and `nugget` (the estimates), `coefficients` (`beta`),
#'   `loglik`, `converged`, `message`, `iterations`, `history` (one row for each step), `bounded` (parameters at a
#'   bound, and lengthscales of columns that are constant), `order` and the ordered `gp` ([residual_gp()]) and
#'   neighbours `id`, with what predictions need. Use [predict][predict.vif], [summary][summary.vif], [plot][plot.vif],
#'   `coef`, [confint][confint.vif], `logLik`, `AIC`, [anova][anova.vif], `fitted`, [residuals][residuals.vif],
#'   [simulate][simulate.vif], `update`, `vcov` and [others][vif_parts] rather than the elements.
#' @section Errors, warnings and messages:
#' `y` of another length than `x`, with missing values (the error says how many; the formula method
#' leaves them out by `na.action`) or constant; collinear columns of `X`. A fit that does not converge
#' gives a warning of class `"vif_convergence"`, and a parameter that ends at the end of its range, because the data
#' do not determine it, one of class `"vif_bound"` (but a nugget near zero alone), as does the lengthscale of a constant
#' column. Fits of up to 2,000 observations of a smooth process with next to no noise (see `k`) look, at some of them,
#' by how much 2k neighbours would move the log-likelihood; where it is more than 2 there is a warning of class
#' `"vif_neighbours"`. For families other than `gaussian()` there are `"vif_separation"`, where binary outcomes are
#' separated (an error of this class and of
#' `"vif_mode"` where nothing can be fitted), `"vif_variance"`, where the variance of the process ran away with binary
#' outcomes or sparse counts and is held (at 10 for logit and 4 for probit at most): Laplace's approximation may be far
#' above the likelihood there, and its estimates useless (Kuss and Rasmussen, 2005). There is also
#' `"vif_white"`, where the latent process has become noise between the places: its lengthscale is below the distances
#' of neighbours, so that it stands for overdispersion, for which Laplace's approximation is poor. A fit that ends
#' below the log-likelihood of the model without a process is searched again from there. Messages have classes, too:
#' `"vif_mean"` where no `X` is given, `"vif_nugget"` where a nugget is too small for so smooth a kernel,
#' `"vif_units"` where one lengthscale serves columns of very different spread, `"vif_cap"` where `k` or `inducing` is
#' more than there are points, `"vif_white"` where the process of a `gaussian()` fit has become noise (so that variance and
#' nugget cannot be told apart, or because the nugget is held too low), `"vif_degrees"` where a formula takes longitude and
#' latitude for coordinates of a plane,
#' `"vif_sphere"` and `"vif_height"` where sf points are in degrees or have a third
#' coordinate; and `"vif_offset"` of `predict()` where a fit has an offset and new data have none. Warnings of `anova()`
#' are of class `"vif_comparison"`.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale
#'   approximations for Gaussian processes. \doi{10.48550/arXiv.2507.05064}.
#'
#'   Kuss, M. and Rasmussen, C. E. (2005). Assessing approximate inference for binary Gaussian process classification.
#'   *Journal of Machine Learning Research* 6.
#' @seealso [vif_cv()] for cross-validation, [vif_loglik()] for the likelihood at given parameters.
#' @examples
#' d <- datasets::quakes
#' fit <- vif_fit(mag ~ stations, coords = ~ sphere_points(long, lat), data = d[1:400, ],
#'                inducing = 30, k = 10, progress = FALSE)
#' summary(fit)
#' predict(fit, d[401:404, ], interval = "prediction")
#'
#' # the same from matrices
#' x <- sphere_points(d$long[1:400], d$lat[1:400])
#' X <- cbind(1, stations = d$stations[1:400])
#' fit <- vif_fit(d$mag[1:400], x, X, inducing = 30, k = 10, progress = FALSE)
#' @export
vif_fit <- function(y, ...) {
  refuse_partial(...names(), c(names(formals(vif_fit.default)), names(formals(vif_fit.formula)), "neighbors"))
  UseMethod("vif_fit")
}

#' @rdname vif_fit
#' @param x Inputs, n x d: a numeric matrix, data frame or vector.
#' @param X Covariates of the mean, n x p, among them a column of ones for a constant; 1 for a constant alone, which
#'   is also what a missing `X` stands for; `NULL` for mean zero.
#' @param kernel A [gp_kernel()], or the name of its family: the family, and by the length of `lengthscale` whether
#'   there is one lengthscale for all columns or one for each. Its values only matter if `start` is `"kernel"`.
#' @param inducing Number of inducing inputs, at most the number of distinct rows of `x`; or an m x d
#'   matrix of them, which is kept; or 0. They are chosen by k-means++ in units of the lengthscales.
#' @param k Number of neighbours that every observation is conditioned on. Where it is not given, by the number n of
#'   observations:
#'
#'   * n - 1, for the likelihood of the exact process, up to n = 150; up to 300 for a process smoother than `"matern32"`
#'     with next to no noise (a `nugget` held below a thousandth of the variance of `y`, and no larger
#'     `noise_variance`). Family `gaussian()` alone.
#'   * 45 up to n = 4,000, for family `gaussian()` alone: closer to the exact likelihood than 30, and it costs little.
#'   * 30 otherwise.
#' @param nugget Variance of the noise: `NULL` to estimate it, a number to hold it fixed, such as 0 for observations
#'   without noise. Processes of kernel `"rbf"`, and of Matern kernels smoother than `"matern52"`, have 1e-11 of their
#'   variance at least, those of kernels smoother than `"matern32"` 1e-12: with less noise their covariances are
#'   singular to double precision.
#' @param noise_variance Known variances of the single observations, added to the nugget: a vector of
#'   length n, or `NULL`.
#' @param weights Positive weights of the observations: the variance of the noise of one is `nugget / weight`, as for
#'   means of so many measurements; a vector of length n, or `NULL` for 1. New observations have weight 1. For families
#'   other than `gaussian()`: numbers of trials where `y` is a share of them, powers of the density of counts, factors
#'   of the precision otherwise, see [families][nbinom2].
#' @param order Order of the conditioning: `"maxmin"` (in units of the lengthscales), `"random"`,
#'   `"none"` for the order of `x`, or a permutation of its rows.
#' @param neighbours `"selected"` conditions every observation on the set that [conditioning_sets()] selects, which
#'   together say most of it; `"residual"` on those most correlated with it one by one, `"euclidean"` on those nearest
#'   by scaled distance, for comparisons.
#' @param start Starting values: `"auto"` finds them on a subset of the data; `"kernel"` takes those of
#'   `kernel` (and a tenth of its variance as the nugget); or a list of a `kernel` and a `nugget`.
#' @param lengthscale Groups of columns of the inputs that share a lengthscale, a named list of names or numbers of
#'   columns such as `list(space = c("x", "y", "z"), time = "day")`; `NULL` leaves it to `kernel`.
#' @param anisotropy Geometric anisotropy in the plane of the first two columns of the inputs, whose correlations then
#'   reach further in one direction than across it: `TRUE` estimates its angle and ratio, `c(angle = 30, ratio = 0.5)`
#'   holds them fixed, see [gp_kernel()]; `FALSE` is for none, and `NULL` for what `kernel` says.
#' @param smoothness For family `"matern"`: `"estimate"` estimates the smoothness, too, between 0.1 and 5; a number
#'   holds it fixed; `"fixed"` is for that of `kernel`.
#' @param iterations The largest number of iterations of the optimiser on all data.
#' @param jitter See [residual_gp()].
#' @param seed Seed of all random choices. The session's random numbers are left untouched.
#' @param threads Number of threads, see [vecchiann_info()].
#' @param progress Whether to report every step.
#' @param family Family of the responses: `gaussian()`, `binomial()` (links `"logit"` and `"probit"`), `poisson()`,
#'   `Gamma("log")`, [nbinom2()], [beta_family()] or [student_t()]; `y` as these take it. All but the first are fitted
#'   by Laplace's approximation, see [families][nbinom2]; they have no `nugget`, no `noise_variance` and no `smoothness`
#'   to estimate.
#' @param offset Known part of the linear predictor of families other than `gaussian()`, such as the log of an exposure;
#'   in a formula `offset()`, to which this argument is added.
#' @param laplace How the log-likelihood of a family other than `gaussian()` is found. `"iterative"`: by conjugate
#'   gradients and stochastic Lanczos quadrature, with the same random vectors, by `seed`, in every step; they leave a
#'   standard error `loglik_se` in the log-likelihood of the fit. `"exact"`: the same steps, and at the maximum a
#'   sparse factor, without that error. `"auto"`: the second for up to 5,000 observations in one or two dimensions, if
#'   their number times `k` is at most 150,000. All these approximate the latent process itself; `"noisy"`, for
#'   comparisons, the process plus the noise of working responses, which is less accurate.
#' @param cluster A cluster of package parallel whose workers share the work on more than 4,000 observations, with
#'   `threads` threads each, or `NULL`; see [vecchiann_cluster]. Estimates are the same. For `gaussian()` only.
#' @export
vif_fit.default <- function(y, x, X = NULL, kernel = gp_kernel("matern32"), inducing = 200, k = 30,
                            nugget = NULL, noise_variance = NULL, order = "maxmin",
                            neighbours = c("selected", "residual", "euclidean"), start = "auto",
                            lengthscale = NULL, anisotropy = NULL, smoothness = c("fixed", "estimate"), weights = NULL,
                            iterations = 100, jitter = 1e-6, seed = 1, threads = NULL,
                            progress = interactive(), family = stats::gaussian(), offset = NULL,
                            laplace = c("auto", "exact", "iterative", "noisy"), cluster = NULL, ...) {
  if ("neighbors" %in% ...names()) {
    neighbours <- list(...)$neighbors
    check_dots_but("neighbors", ...)
  } else {
    check_dots(..., hint = argument_hints)
  }
  if (missing(x)) refuse("x", "given: the inputs, one row for each observation", "missing")
  x <- check_points(x, "x", least = 2)
  n <- nrow(x)
  if (is_gaussian(family)) {
    y <- check_response(y, n, "x")
    if (!is.null(offset)) refuse("offset", "NULL with family gaussian() (subtract it from `y`)", describe(offset))
  }
  if (missing(X)) {
    X <- constant_mean(n)
    tell("mean", "no `X` is given: the mean is a constant, as with X = 1 (X = NULL is for mean zero).")
  } else {
    X <- check_covariates(X, n)
  }
  if (!is.numeric(smoothness)) smoothness <- check_choice(smoothness, c("fixed", "estimate"), "smoothness")
  kernel <- kernel_of(kernel, smoothness)
  if (is.numeric(smoothness)) smoothness <- "fixed"
  plane <- isTRUE(anisotropy)
  kernel <- kernel_in_plane(check_kernel(kernel, ncol(x)), anisotropy, x)
  given_k <- !missing(k)
  if (!is.null(nugget)) nugget <- check_nonnegative(nugget, "nugget")
  extra <- check_noise(0, noise_variance, n)
  clean <- is_gaussian(family) && least_share(kernel, smoothness) > 0 && !is.null(nugget) &&
    max(nugget, extra) < 1e-3 * stats::var(y)
  if (!given_k && is_gaussian(family)) k <- default_neighbours(n, clean)
  k <- cap(check_whole(k, "k", 1), n - 1L, "k", "the other observations", tell = given_k)
  neighbours <- check_choice(neighbours, c("selected", "residual", "euclidean"), "neighbours")
  if (smoothness == "estimate" && kernel$family != "matern") {
    refuse("smoothness", sprintf('"fixed" for family "%s"; kernel = "matern" has one to estimate', kernel$family),
           '"estimate"')
  }
  iterations <- check_whole(iterations, "iterations", 1)
  jitter <- check_nonnegative(jitter, "jitter")
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  each <- thread_count(threads) # of the workers of a cluster
  threads <- worthwhile_threads(each, n)
  cluster <- check_cluster(cluster)
  progress <- progress_line(check_flag(progress, "progress"))
  on.exit(progress())
  if (!is_gaussian(family)) {
    refuse_beside_family(nugget, noise_variance, smoothness)
    if (!is.null(cluster)) refuse("cluster", "NULL with a family other than gaussian()", describe(cluster))
    inducing <- cap_inducing(inducing, x, tell = !missing(inducing))
    groups <- lengthscale_groups(lengthscale, x, kernel, plane)
    scale <- input_scale(x, groups)
    if (is.null(lengthscale)) tell_units(x, kernel)
    settings <- list(kernel = kernel, inducing = inducing, k = k, neighbours = neighbours, jitter = jitter, seed = seed,
                     iterations = iterations, threads = threads, groups = groups, scale = scale,
                     close = close_shares(x, groups, scale, threads), smoothness = smoothness, plane = plane,
                     laplace = check_choice(laplace, c("auto", "exact", "iterative", "noisy"), "laplace"))
    call <- as_call(match.call())
    return(fit_laplace(y, x, X, family, weights, offset, settings, order, start, iterations, progress, call))
  }
  share <- 1 / check_weights(weights, n)
  basis <- mean_basis(X)
  flat <- if (is.null(X)) y else stats::lm.fit(basis$Q, y)$residuals
  if (sum(flat^2) <= 1e-20 * sum(y^2) || stats::var(flat) == 0) {
    refuse("y", "varying beyond its mean", if (stats::var(y) == 0) "constant" else "a linear function of `X`")
  }
  if (identical(nugget, 0)) check_copies(x, rep_len(extra, n))
  groups <- lengthscale_groups(lengthscale, x, kernel, plane)
  scale <- input_scale(x, groups)
  inducing <- cap_inducing(inducing, x, tell = !missing(inducing))
  if (is.null(lengthscale)) tell_units(x, kernel)

  # the optimiser sees covariates in a basis that does not depend on their units
  data <- list(y = y, x = x, X = basis$Q, extra = extra, share = share)
  settings <- list(kernel = kernel, inducing = inducing, k = k, fixed = nugget, spread = stats::var(flat),
                   noise_spread = stats::var(flat) / typical_share(share), neighbours = neighbours, jitter = jitter,
                   seed = seed, iterations = iterations, threads = threads, groups = groups, scale = scale,
                   close = close_shares(x, groups, scale, threads), smoothness = smoothness, plane = plane,
                   least = if (is.null(noise_variance)) least_share(kernel, smoothness))
  if (!is.null(cluster)) {
    settings$workers <- group_open(cluster, each)
    on.exit(group_close(settings$workers), add = TRUE)
  }
  start <- starting_values(start, data, settings, progress)
  if (is.null(start$at)) start$at <- on_grid(start$theta, settings)
  first_at <- start$first_at %or% start$at # sets may be searched again, the order stays
  order <- conditioning_order(order, x, to_kernel(first_at, settings), seed)
  data <- list(y = y[order], x = x[order, , drop = FALSE], X = basis$Q[order, , drop = FALSE],
               extra = extra[order], share = share[order])
  found <- maximise(start, data, settings, iterations, progress)
  if (!found$converged) warn_unsettled(found$message)
  mean <- mean_estimates(found$evaluation, basis, colnames(X))
  fit <- structure(list(
    call = as_call(match.call()), kernel = to_kernel(found$theta, settings),
    nugget = to_nugget(found$theta, settings),
    coefficients = mean$beta, vcov = mean$vcov, loglik = found$value,
    df = length(found$theta) + NCOL(X) * !is.null(X), n = n, k = k, converged = found$converged,
    message = found$message, iterations = found$iterations, history = found$history,
    nugget_fixed = !is.null(nugget), noise_variance = noise_variance, weights = weights,
    neighbours = neighbours, y = y,
    X = X, order = order, gp = found$gp, id = found$structure$id,
    theta = found$theta, settings = settings[names(settings) != "workers"], at = found$structure$at,
    first_at = first_at, fisher = found$fisher,
    state = kept_state(found$evaluation, mean$B)
  ), class = "vif")
  fit$bounded <- at_bounds(found$theta, settings, fit$fisher, x)
  warn_bounds(fit)
  if (clean && n <= 2000 && is.null(cluster)) warn_neighbours(fit)
  if (is.null(cluster)) tell_noise(fit)
  tell_least(fit, nugget)
  sealed(lean_fit(fit))
}

# Of a large fit the features of the process and the regression coefficients, n (m + k) numbers, are not kept: they are
# made again by whole_fit(), in about the time of a fifth of an iteration, when predictions or residuals need them;
# predictions need no coefficients.
lean_fit <- function(fit, most = large_features) {
  if (is.null(fit$gp$V) || length(fit$gp$V) > most) {
    fit$gp["V"] <- fit$gp["variance"] <- fit$state["coef"] <- list(NULL)
  }
  fit
}

whole_fit <- function(fit, threads = NULL, regression = TRUE) {
  if (!is.null(fit$gp$V)) return(fit)
  gp <- fit$gp
  threads <- thread_count(threads)
  fit$gp <- new_residual_gp(gp$x, gp$kernel, gp$inducing, gp$nugget, gp$jitter, threads)
  if (regression) {
    fit$state$coef <- .Call(C_vif_regression, fit$gp, observation_noise(fit), fit$id, NULL, NULL, threads)$coef
  }
  sealed(fit)
}

# What predictions need of an evaluation, B being that of the user's covariates.
kept_state <- function(evaluation, B) {
  state <- evaluation[c("coef", "D", "root", "b", "error", "residual")]
  state$B <- B
  state
}

# Neighbours of a fit whose user does not say how many. All, where that takes a second at most; more time is well spent
# on smooth processes without noise (`clean`), of which 45 neighbours may put the log-likelihood wrong by hundreds.
default_neighbours <- function(n, clean = FALSE) {
  if (n <= if (clean) 300 else 150) n - 1 else if (n <= 4000) 45 else 30
}

# Copies of a place without any noise have a singular covariance, which rounding may hide.
check_copies <- function(x, noise) {
  clean <- which(noise == 0)
  groups <- row_groups(x)[clean]
  again <- which(duplicated(groups))[1]
  if (is.na(again)) return(invisible())
  refuse("nugget", "positive, as there are duplicates without noise",
         sprintf("0 (rows %d and %d)", clean[match(groups[again], groups)], clean[again]))
}

cap <- function(value, most, arg, what, tell) {
  if (value <= most) return(value)
  if (tell) tell("cap", "`", arg, "` is ", most, ", the number of ", what, ", instead of ", value, ".")
  as.integer(most)
}

cap_inducing <- function(inducing, x, tell) {
  if (!is.null(dim(inducing)) || length(inducing) != 1) return(check_inducing(inducing, x))
  inducing <- check_whole(inducing, "inducing", 0)
  cap(inducing, count_distinct(x, inducing), "inducing", "the distinct inputs", tell)
}

# Many short parallel regions cost more than they save, most of all on a busy machine.
worthwhile_threads <- function(threads, n) if (n < 2000) 1L else threads

# The call of the generic, not of the method.
as_call <- function(call) {
  call[[1]] <- quote(vif_fit)
  call
}

conditioning_order <- function(order, x, kernel, seed) {
  n <- nrow(x)
  if (is.character(order)) {
    switch(check_choice(order, c("maxmin", "random", "none"), "order"),
           maxmin = order_maxmin(in_lengthscales(x, kernel)), random = order_random(x, seed),
           none = seq_len(n))
  } else {
    if (length(order) != n || !identical(sort(as.integer(order)), seq_len(n))) {
      refuse("order", paste('"maxmin", "random", "none" or a permutation of the', n, "rows of `x`"),
             describe(order))
    }
    as.integer(order)
  }
}
