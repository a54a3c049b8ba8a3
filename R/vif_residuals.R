# Residuals, fitted values and simulations.

#' Residuals and fitted values of a fitted Gaussian process
#'
#' Fitted values are the conditional mean of `X beta + f` at the observations, as `predict(object)`
#' without new data has it. For families other than `gaussian()` the mean response at the mode of the linear predictor,
#' where `predict()` integrates over its uncertainty. The leave-one-out
#' residuals are exact for the VIF approximation at the fitted parameters: each
#' observation minus its conditional mean given all others, `(S^-1 (y - X beta))_i / (S^-1)_ii`, computed
#' from the factor in O(n (k m + m^2)).
#'
#' @param object A [vif_fit()].
#' @param type `"response"` for `y - fitted`, `"loo"` for leave-one-out residuals, `"standardised"` for
#'   these divided by their standard deviations (also spelt `"standardized"`): independent standard normal values,
#'   more or less, where the model holds. For families other than `gaussian()` one of `"response"`, `"pearson"`,
#'   `"deviance"` (all three at the fitted linear predictor) and `"quantile"`: randomised quantile residuals, each
#'   observation predicted from all others, standard normal where the model holds; `rstandard()` gives these with
#'   `seed = 1`. Pearson residuals are divided by the standard deviation of the response (for `student_t()` with `df` of 2 or
#'   less, which has none, by its scale), and squares of deviance residuals are twice what the log density of the
#'   observation lacks to that with the observation as its mean, both with the estimated parameters of the family: for
#'   `Gamma()` they are those of [stats::glm()] times `sqrt(shape)`. (For `beta_family()`, whose density need not be
#'   highest there, the size of the difference is taken, as in package betareg.) Weights of counts multiply squares, as
#'   in `glm()`. The squares of deviance residuals do not add up to [deviance()][vif_parts], which is minus twice the
#'   log-likelihood.
#' @param ... `seed` of quantile residuals of counts and binary responses, a whole number; `NULL` uses the session's
#'   random numbers. Any other argument is an error.
#' @return A numeric vector in the order of the data; after `na.action = na.exclude` with `NA` where rows
#'   were left out.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10)
#' sd(residuals(fit))
#' sd(residuals(fit, "loo"))
#' qqnorm(residuals(fit, "standardised"))
#' @export
residuals.vif <- function(object, type = c("response", "loo", "standardised"), ...) {
  object <- whole_fit(check_fit(object))
  if (is_laplace(object)) {
    type <- check_choice(if (missing(type)) "response" else type, laplace_residuals, "type")
    return(stats::naresid(object$na.action, residuals_laplace(object, type, ...)))
  }
  check_dots(...)
  if (identical(type, "standardized")) type <- "standardised"
  type <- check_choice(type, c("response", "loo", "standardised"), "type")
  stats::naresid(object$na.action, fit_residuals(object, type))
}

# Of a Gaussian fit.
fitted_means <- function(object) {
  new <- some_inputs(fitted_inputs(object), seq_len(object$n))
  found <- predict_chunks(object, new, NULL, FALSE, FALSE, 50000, thread_count(NULL), FALSE)
  stats::setNames(found$fit + (new$offset %or% 0), names(object$y))
}

fit_residuals <- function(object, type) {
  if (type == "response") return(object$y - fitted_means(object))
  state <- object$state
  B <- contrast_matrix(object$id, state$coef)
  weighted <- as.vector(Matrix::crossprod(B, state$error / state$D)) # S^-1 (y - X beta)
  precision <- precision_diagonal(object, B)
  value <- weighted / if (type == "loo") precision else sqrt(precision)
  value[object$order] <- value
  names(value) <- names(object$y)
  value
}

# Diagonal of S^-1 = P - P V' M^-1 V P with P = B' D^-1 B.
precision_diagonal <- function(object, B) {
  threads <- thread_count(NULL)
  state <- object$state
  diagonal <- as.vector(Matrix::crossprod(B^2, 1 / state$D))
  if (!length(state$b)) return(diagonal)
  W <- .Call(C_vif_contrasts, object$id, state$coef, object$gp$V, object$gp$V, threads)
  VP <- t(as.matrix(Matrix::crossprod(B, t(W) / state$D)))
  diagonal - .Call(C_vif_norm, state$root, VP, threads)
}

# S^-1 X = P X - P V' M^-1 V P X.
precision_times <- function(object, B, X) {
  threads <- thread_count(NULL)
  state <- object$state
  PX <- as.matrix(Matrix::crossprod(B, as.matrix(B %*% X) / state$D))
  if (!length(state$b)) return(PX)
  W <- .Call(C_vif_contrasts, object$id, state$coef, object$gp$V, object$gp$V, threads)
  weights <- backsolve(state$root, forwardsolve(state$root, object$gp$V %*% PX), upper.tri = FALSE, transpose = TRUE)
  PX - as.matrix(Matrix::crossprod(B, crossprod(W, weights) / state$D))
}

#' @rdname residuals.vif
#' @export
fitted.vif <- function(object, ...) {
  check_dots(...)
  object <- whole_fit(check_fit(object))
  if (is_laplace(object)) return(stats::naresid(object$na.action, fitted_laplace(object)))
  stats::naresid(object$na.action, fitted_means(object))
}

#' @rdname residuals.vif
#' @param model A [vif_fit()].
#' @importFrom stats rstandard
#' @export
rstandard.vif <- function(model, ...) {
  check_dots(...)
  if (is_laplace(model)) return(residuals.vif(model, "quantile", seed = 1))
  residuals.vif(model, "standardised")
}

# NA where na.action = na.exclude left rows out.
pad_excluded <- function(out, object) {
  if (!inherits(object$na.action, "exclude")) return(out)
  place <- rep(NA_integer_, object$n + length(object$na.action))
  place[-object$na.action] <- seq_len(object$n)
  if (!is.data.frame(out)) return(stats::naresid(object$na.action, out))
  padded <- out[place, , drop = FALSE]
  row.names(padded) <- NULL
  padded
}

#' Simulate from a fitted Gaussian process
#'
#' Draws new observations at the inputs of the fit, noise included, from the fitted VIF approximation
#' (not conditioned on the data; for that see `nsim` of [predict][predict.vif]).
#'
#' @param object A [vif_fit()].
#' @param nsim Number of draws.
#' @param seed Seed of the draws; `NULL` uses the session's random numbers.
#' @param ... Not used; any other argument is an error.
#' @return A data frame with n rows (after `na.action = na.exclude` with rows of `NA`) and `nsim` columns, as
#'   [stats::simulate()] gives: for a response of two columns of counts every column is such a matrix, as for
#'   [stats::glm()]; other binomial responses are shares of their trials. The attribute `"seed"` is `seed` with the kind
#'   of the random numbers, or without a `seed` their state before the draws.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, inducing = 20, k = 10)
#' plot(x, simulate(fit, seed = 1)[[1]])
#' @importFrom stats coef fitted formula logLik nobs predict residuals simulate vcov
#' @export
simulate.vif <- function(object, nsim = 1, seed = NULL, ...) {
  check_dots(..., hint = c(newdata = "samples at new inputs, given the data, are predict(fit, newdata, nsim = )"))
  object <- whole_fit(check_fit(object))
  nsim <- check_whole(nsim, "nsim", 1)
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  state_of_draws <- random_state(seed)
  draws <- if (is_laplace(object)) simulate_laplace(object, nsim, seed) else simulate_gaussian(object, nsim, seed)
  out <- pad_excluded(draws, object)
  attr(out, "seed") <- state_of_draws
  out
}

# From where draws come, in the form of stats::simulate(): the seed and the kind of generator, or the state of the
# session's.
random_state <- function(seed) {
  if (!is.null(seed)) return(structure(seed, kind = as.list(RNGkind())))
  if (!exists(".Random.seed", globalenv(), inherits = FALSE)) stats::runif(1)
  get(".Random.seed", globalenv(), inherits = FALSE)
}

simulate_gaussian <- function(object, nsim, seed) {
  state <- object$state
  m <- nrow(object$gp$V)
  B <- methods::as(contrast_matrix(object$id, state$coef), "triangularMatrix")
  draws <- with_seed(seed, {
    z <- normals(m, nsim)
    crossprod(object$gp$V, z) +
      as.matrix(Matrix::solve(B, sqrt(state$D) * normals(object$n, nsim)))
  })
  draws[object$order, ] <- draws
  if (!is.null(object$X)) draws <- draws + drop(object$X %*% object$coefficients)
  if (!is.null(object$offset)) draws <- draws + object$offset
  stats::setNames(as.data.frame(draws), paste0("sim_", seq_len(nsim)))
}
