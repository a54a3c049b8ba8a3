# Generics of stats that say what a fit is made of and compare fits.

#' Parts of a fitted Gaussian process
#'
#' Methods of the generics of package stats. `logLik()` counts mean coefficients and covariance parameters
#' as degrees of freedom; `deviance()` is minus twice the log-likelihood, for all families (not the residual deviance
#' of [stats::glm()], which compares with a saturated model); `sigma()` the standard deviation of the noise,
#' `sqrt(nugget)`. `terms()`, `model.frame()` and `formula()` are those of a fit by formula, the model frame with the
#' inputs; `model.matrix()` is the matrix of covariates. `extractAIC()` serves [stats::step()], [stats::drop1()] and
#' [stats::add1()].
#'
#' @param object,x,formula A [vif_fit()].
#' @param scale Not used.
#' @param k Penalty for each parameter, 2 for AIC.
#' @param ... Not used; any other argument is an error.
#' @return What the generics of stats say.
#' @examples
#' x <- runif(200)
#' fit <- vif_fit(sin(8 * x) + rnorm(200, sd = 0.2), x, X = 1, inducing = 20, k = 10)
#' sigma(fit)
#' df.residual(fit)
#' @name vif_parts
#' @keywords internal
NULL

#' @rdname vif_parts
#' @export
logLik.vif <- function(object, ...) {
  check_dots(..., hint = c(REML = "fits are by maximum likelihood"))
  check_fit(object)
  structure(object$loglik, df = object$df, nobs = object$n, class = "logLik")
}

#' @rdname vif_parts
#' @export
nobs.vif <- function(object, ...) check_fit(object)$n

#' @rdname vif_parts
#' @export
formula.vif <- function(x, ...) if (!is.null(x$formula)) stats::formula(x$formula) # step() leaves terms there

#' @rdname vif_parts
#' @importFrom stats sigma
#' @export
sigma.vif <- function(object, ...) {
  check_dots(...)
  if (is_laplace(check_fit(object))) return(NA_real_)
  sqrt(object$nugget)
}

#' @rdname vif_parts
#' @importFrom stats deviance
#' @export
deviance.vif <- function(object, ...) {
  check_dots(...)
  -2 * check_fit(object)$loglik
}

#' @rdname vif_parts
#' @importFrom stats df.residual
#' @export
df.residual.vif <- function(object, ...) {
  check_dots(...)
  check_fit(object)
  object$n - object$df
}

#' @rdname vif_parts
#' @importFrom stats family
#' @export
family.vif <- function(object, ...) {
  if (is.null(object$family)) stats::gaussian() else object$family
}

#' @rdname vif_parts
#' @importFrom stats terms
#' @export
terms.vif <- function(x, ...) by_formula(x)$terms

#' @rdname vif_parts
#' @importFrom stats model.frame
#' @export
model.frame.vif <- function(formula, ...) by_formula(formula)$model

#' @rdname vif_parts
#' @importFrom stats model.matrix
#' @export
model.matrix.vif <- function(object, ...) {
  if (is.null(object$X)) matrix(0, object$n, 0) else object$X
}

#' @rdname vif_parts
#' @importFrom stats case.names
#' @export
case.names.vif <- function(object, ...) {
  names <- if (is.null(object$model)) names(object$y) else row.names(object$model)
  if (is.null(names)) as.character(seq_len(object$n)) else names
}

#' @rdname vif_parts
#' @importFrom stats variable.names
#' @export
variable.names.vif <- function(object, ...) names(object$coefficients)

#' @rdname vif_parts
#' @param fit A [vif_fit()].
#' @importFrom stats extractAIC
#' @export
extractAIC.vif <- function(fit, scale = 0, k = 2, ...) {
  check_dots(...)
  check_fit(fit, "fit")
  c(fit$df, -2 * fit$loglik + k * fit$df)
}

by_formula <- function(object) {
  if (is.null(object$formula)) {
    stop(user_call(), "the fit has no formula: it was made from matrices.", call. = FALSE)
  }
  object
}

#' Compare fitted Gaussian processes
#'
#' A table of likelihood-ratio tests of fits to the same observations, each against the one before, in the order of
#' their numbers of parameters. All are maximum likelihood fits, so that means may be compared too.
#'
#' The approximation has an error of its own, which differs between fits as far as their neighbours do. All columns are
#' of log-likelihoods with the order, inducing inputs and neighbours of the largest model, so that they may differ from
#' [AIC()] of the fits; a fit that would lose more than one unit by them, as under another metric, keeps its own. A
#' difference in log-likelihood of one or less needs a check with more neighbours, see [summary][summary.vif]. A
#' parameter whose value under the smaller model is at the end of its range, such as a nugget of zero, makes the
#' p value conservative.
#'
#' A fit is tested against the one before where that is a special case of it: by its mean and offset, by its kernel (the
#' same family, or one with a smoothness of its own inside `"matern"` with `smoothness = "estimate"`; one lengthscale
#' inside several, and any of both inside an anisotropy that is estimated), by its nugget and by the parameters of its
#' family. Other pairs are compared by AIC, and have no `Chisq`.
#'
#' @param object A [vif_fit()].
#' @param ... Further fits of the same observations.
#' @return A data frame of class `"anova"`: `npar`, `AIC`, `BIC`, `logLik`, `Chisq`, `Df` and `Pr(>Chisq)`, one row a
#'   fit.
#' @section Errors:
#' A single fit (its coefficients are tested by [summary()][summary.vif], its terms by [stats::drop1()]), objects of
#' another class and fits of other observations or of another family. Fits with other inputs, weights, neighbours, `k`
#' or numbers of inducing inputs draw a warning of class `"vif_comparison"`, and so do models that are not nested, a
#' larger model with a lower log-likelihood, and log-likelihoods whose standard errors (see `laplace` of [vif_fit()])
#' are not small beside their difference.
#' @examples
#' set.seed(1)
#' d <- data.frame(x = runif(300), z = rnorm(300))
#' d$y <- sin(8 * d$x) + d$z / 4 + rnorm(300, sd = 0.2)
#' small <- vif_fit(y ~ 1, coords = ~ x, data = d, inducing = 20, k = 10)
#' anova(small, update(small, . ~ z))
#' @importFrom stats anova
#' @export
anova.vif <- function(object, ...) {
  fits <- list(object, ...)
  odd <- which(!vapply(fits, inherits, NA, "vif"))
  if (length(odd)) refuse("...", "further fits of vif_fit()", describe(fits[[odd[1]]]))
  if (length(fits) < 2) {
    stop(user_call(), "two fits or more are compared; for the terms of one fit use drop1(), for its coefficients ",
         "summary().", call. = FALSE)
  }
  for (i in seq_along(fits)) check_fit(fits[[i]], if (i == 1) "object" else "...")
  labels <- vapply(as.list(match.call(expand.dots = FALSE)[["..."]]), deparse1, "")
  labels <- make.unique(c(deparse1(substitute(object)), labels))
  for (fit in fits[-1]) {
    size <- function(fit) format(fit$n, big.mark = ",")
    if (fit$n != object$n) {
      lost <- length(fit$na.action) + length(object$na.action)
      refuse("...", "fits of the same observations", paste0("one of ", size(fit), " beside one of ", size(object),
        if (lost) ": rows with missing values are left out; fit both to na.omit(data)"))
    }
    if (!isTRUE(all.equal(unname(fit$y), unname(object$y)))) {
      refuse("...", "fits of the same observations", "one of another response")
    }
  }
  families <- vapply(fits, function(fit) paste(family.vif(fit)[c("family", "link")], collapse = " "), "")
  if (any(families != families[1])) {
    refuse("...", paste("fits of one family,", families[1]), families[families != families[1]][1])
  }
  if (!all(vapply(fits, same_data, NA, object))) {
    warn_comparison("the fits differ in inputs, weights or noise variances, so that they are not nested")
  }
  same <- vapply(fits, function(fit) {
    identical(list(fit$k, fit$neighbours, nrow(fit$gp$inducing)),
              list(object$k, object$neighbours, nrow(object$gp$inducing)))
  }, NA)
  if (!all(same)) {
    warn_comparison("the fits differ in k, in the kind of neighbours or in the number of inducing inputs, so that ",
                    "their log-likelihoods are approximated differently")
  }
  order <- order(vapply(fits, `[[`, 0, "df"))
  fits <- fits[order]
  labels <- labels[order]
  common <- common_loglik(fits)
  loglik <- common$loglik
  npar <- vapply(fits, `[[`, 0, "df")
  df <- c(NA, diff(npar))
  chisq <- c(NA, 2 * diff(loglik))
  chisq[df == 0] <- NA
  for (i in seq_along(fits)[-1]) {
    apart <- not_nested(fits[[i - 1]], fits[[i]])
    if (is.null(apart)) next
    chisq[i] <- NA
    if (same_data(fits[[i - 1]], fits[[i]])) {
      warn_comparison(labels[i - 1], " is no special case of ", labels[i], " (by ", apart, "): there is no test of ",
                      "one against the other; compare their AIC")
    }
  }
  if (any(low <- chisq < -0.1 & !is.na(chisq))) {
    warn_comparison("the log-likelihood of ", labels[low][1], " is below that of a smaller model: it was not ",
                    "fitted to its maximum (try another `start` or a larger `k`)")
  }
  # Chisq has twice the standard error of a difference of log-likelihoods; half a unit of it changes no conclusion
  error <- c(NA, 2 * sqrt(common$se[-1]^2 + common$se[-length(fits)]^2))
  if (any(vague <- error > pmax(chisq, 1) / 2 & !is.na(chisq))) {
    warn_comparison("Chisq of ", labels[vague][1], " has a standard error of about ",
                    format(error[vague][1], digits = 2), ", from the random vectors behind the log-likelihoods ",
                    "(laplace = \"exact\" has none)")
  }
  table <- data.frame(npar = npar, AIC = 2 * (npar - loglik), BIC = log(object$n) * npar - 2 * loglik, logLik = loglik,
                      Chisq = pmax(chisq, 0), Df = df,
                      "Pr(>Chisq)" = stats::pchisq(pmax(chisq, 0), df, lower.tail = FALSE),
                      row.names = labels, check.names = FALSE)
  what <- vapply(fits, function(fit) {
    paste0(if (is.null(fit$formula)) describe_mean(fit, 3) else deparse1(formula.vif(fit)), "; ", fit$kernel$family,
           if (!is.null(fit$kernel$anisotropy)) ", anisotropic")
  }, "")
  structure(table, heading = c("Likelihood-ratio tests of Gaussian processes", paste0(labels, ": ", what)),
            class = c("anova", "data.frame"))
}

# Whether two fits have the same inputs, weights and known noise variances (those of other families are of working
# responses).
same_data <- function(one, other) {
  data <- function(fit) list(unname(fitted_inputs(fit)$x), fit_weights(fit), if (!is_laplace(fit)) fit_noise(fit))
  identical(data(one), data(other))
}

# Why a fit is no special case of another, in a few words; NULL where it is one.
not_nested <- function(small, large) {
  if (!same_data(small, large)) return("their inputs, weights or noise variances")
  if (!nested_kernels(small, large)) return("their kernels")
  if (!nested_means(small, large)) return("their means and offsets")
  own <- c(names(small$phi), if (!small$nugget_fixed) "nugget")
  # as asked for, which the process may raise
  fixed <- function(fit) list(if (fit$nugget_fixed) fit$settings$fixed %or% fit$nugget, fit$family$df)
  held <- !vapply(fixed(large), is.null, NA)
  free <- c(names(large$phi), if (!large$nugget_fixed) "nugget")
  if (!all(own %in% free) || !identical(fixed(small)[held], fixed(large)[held])) return("what is held fixed")
}

nested_kernels <- function(small, large) {
  # of a kernel that is no Matern one its name
  smoothness <- lapply(list(small, large), function(fit) kernel_smoothness(fit$kernel) %or% fit$kernel$family)
  if (estimates_smoothness(large$settings)) {
    if (!is.numeric(smoothness[[1]]) || !within(smoothness[[1]], 0.1, 5)) return(FALSE)
  } else if (estimates_smoothness(small$settings) || !identical(smoothness[[1]], smoothness[[2]])) {
    return(FALSE)
  }
  groups <- lapply(list(small, large), function(fit) fit$settings$groups$of %or% rep(1, ncol(fit$gp$x)))
  if (estimates_plane(large$settings)) {
    groups[[2]][1:2] <- -(1:2) # an anisotropy gives the plane any two lengthscales
  } else if (estimates_plane(small$settings) || !identical(small$kernel$anisotropy, large$kernel$anisotropy)) {
    return(FALSE)
  }
  # the columns of each of the larger model's lengthscales share one of the smaller model's
  all(tapply(groups[[1]], groups[[2]], function(of) length(unique(of)) == 1))
}

# Whether the covariates of a model, and by how much its offset differs, are combinations of those of another.
nested_means <- function(small, large) {
  offset <- function(fit) fit$offset %or% rep(0, fit$n)
  own <- cbind(small$X, if (!identical(small$offset, large$offset)) offset(small) - offset(large))
  if (is.null(own)) return(TRUE)
  rest <- if (is.null(large$X)) own else qr.resid(qr(large$X), own)
  all(colSums(rest^2) <= 1e-14 * colSums(own^2))
}

warn_comparison <- function(...) {
  warning(warningCondition(paste0("anova(): ", ...), class = "vif_comparison", call = NULL))
}
