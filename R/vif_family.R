# Families of responses: what the Laplace approximation asks of one. A family is a row of functions:
#   value(y, eta, w, phi)        log density of each observation
#   slopes(y, eta, w, phi)       list of its first derivative `d1` in eta, a positive `curvature` (minus the second
#                                derivative, or its expectation), the derivative `turn` of the curvature in eta,
#                                `own`, minus the second derivative, where the curvature is an expectation, and
#                                `search`, a curvature for the steps to the mode, if another one brings them there sooner
#   phi_slopes(y, eta, w, phi)   for each parameter of phi a list of the derivatives of value, d1 and curvature to
#                                its log
#   mean, deviation(eta, w, phi) mean and standard deviation of a response
#   cdf, quantile, draw          distribution function, quantiles and draws given eta, w and phi
# w are prior weights (trials for binomial, powers of the density for counts, for numbers that vary continuously factors
# of their precision), phi a named vector of positive parameters.

#' Families of responses beyond those of stats
#'
#' Families for [vif_fit()] beside R's own [gaussian()], [binomial()] (links `"logit"` and `"probit"`), [poisson()] and
#' [Gamma()] (link `"log"`).
#'
#' | family | response | link | parameters estimated |
#' |---|---|---|---|
#' | `binomial()` | 0/1, logical, factor, shares with weights, or two columns of counts | logit, probit | none |
#' | `poisson()` | counts | log | none |
#' | `nbinom2()` | counts of variance `mu + mu^2 / size` | log | `size` |
#' | `Gamma("log")` | positive numbers of variance `mu^2 / shape` | log | `shape` |
#' | `beta_family()` | shares between 0 and 1 of variance `mu (1 - mu) / (1 + precision)` | logit | `precision` |
#' | `student_t()` | real numbers with outliers: `eta + scale * t` | identity | `scale`, and `df` unless given |
#'
#' Of a factor the first level is failure, and all others are success.
#'
#' Prior `weights` are numbers of trials for `binomial()`. For numbers that vary continuously they are factors of the
#' precision, as for means of so many measurements: `shape * weight` for `Gamma()`, which is `dispersion / weight` in
#' [stats::glm()], `precision * weight` for `beta_family()`, and `scale / sqrt(weight)` for `student_t()`. (As powers of
#' the density they would say that one number had been observed again at its place, without any noise between the two,
#' and the likelihood would have no maximum.) For the counts of `poisson()` and `nbinom2()` they are powers of the
#' density, as in `glm()` and `MASS::glm.nb()`: an observation of weight 2 counts as two. For exposures use an offset.
#'
#' The log-likelihood is Laplace's approximation. For `beta_family()` and `student_t()`, whose log densities are not
#' concave in `eta`, it has the expected information of each observation in place of minus the second derivative; for
#' `student_t()` of few degrees of freedom (up to about 5) this flatters the log-likelihood, by about 1 to 2 for every
#' hundred observations, so that a `df` that is estimated tends to come out small.
#'
#' @param df Degrees of freedom, a number above 1, or `NULL` to estimate them.
#' @return An object of class `"family"`.
#' @section Errors:
#' Degrees of freedom of 1 or less.
#' @references Jylanki, P., Vanhatalo, J. and Vehtari, A. (2011). Robust Gaussian process regression with a Student-t
#'   likelihood. *Journal of Machine Learning Research* 12.
#'
#'   Ferrari, S. L. P. and Cribari-Neto, F. (2004). Beta regression for modelling rates and proportions. *Journal of
#'   Applied Statistics* 31(7).
#' @seealso [vif_fit()]
#' @examples
#' nbinom2()
#' student_t(df = 4)
#' @export
nbinom2 <- function() new_family("nbinom2", "log")

#' @rdname nbinom2
#' @export
beta_family <- function() new_family("beta", "logit")

#' @rdname nbinom2
#' @export
student_t <- function(df = NULL) {
  if (!is.null(df)) df <- check_number(df, "df", "NULL or a finite number above 1", function(x) x > 1 && is.finite(x))
  family <- new_family("student_t", "identity")
  family$df <- df
  family
}

new_family <- function(name, link) structure(list(family = name, link = link), class = "family")

# The row of a family, from R's own object, its function or its name.
laplace_family <- function(family) {
  if (is.character(family) && length(family) == 1) {
    family <- (if (isTRUE(nzchar(family))) get0(family, mode = "function")) %or%
      refuse("family", "a family such as binomial()", describe(family))
  }
  if (is.function(family)) family <- family_of(family)
  if (!inherits(family, "family")) refuse("family", "a family such as binomial() or poisson()", describe(family))
  known <- c(gaussian.identity = "gaussian", binomial.logit = "logit", binomial.probit = "probit",
             poisson.log = "poisson", Gamma.log = "gamma", nbinom2.log = "nbinom2", beta.logit = "beta",
             student_t.identity = "student_t")
  name <- unname(known[paste0(family$family, ".", family$link)])
  if (is.na(name)) {
    refuse("family", paste("gaussian(), binomial(\"logit\"), binomial(\"probit\"), poisson(), Gamma(\"log\"),",
                           "nbinom2(), beta_family() or student_t()"), sprintf('%s("%s")', family$family, family$link))
  }
  row <- family_table[[name]]
  if (name == "student_t" && !is.null(family$df)) {
    row$start <- row$start["scale"]
    row$fixed <- c(df = family$df)
  }
  row$object <- family
  row$name <- name
  row
}

# What a function gives that makes families, without arguments.
family_of <- function(make) {
  tryCatch(make(), error = function(e) refuse("family", "a family such as binomial() or poisson()", describe(make)))
}

is_gaussian <- function(family) {
  if (is.function(family)) family <- family_of(family)
  identical(family, "gaussian") ||
    (inherits(family, "family") && family$family == "gaussian" && family$link == "identity")
}

# All parameters of phi, estimated and fixed.
all_phi <- function(family, phi) c(phi, family$fixed)

# log(1 + exp(x)), and Mills' ratio dnorm / pnorm, without overflow.
softplus <- function(x) pmax(x, 0) + log1p(exp(-abs(x)))
mills <- function(x) exp(stats::dnorm(x, log = TRUE) - stats::pnorm(x, log.p = TRUE))

# Where a curvature vanishes in double precision the observation says nothing any more.
floored <- function(curvature) pmax(curvature, 1e-12)

log_choose <- function(y, w) lgamma(w + 1) - lgamma(w * y + 1) - lgamma(w * (1 - y) + 1)

# Binomial responses are shares y of w trials.
binomial_row <- function(mean, value, slopes, log_cdf) {
  list(
    start = numeric(), discrete = TRUE, mean = mean, value = value, slopes = slopes,
    phi_slopes = function(y, eta, w, phi) list(),
    deviation = function(eta, w, phi) sqrt(mean(eta) * mean(-eta) / w),
    cdf = function(y, eta, w, phi) stats::pbinom(round(y * w), w, mean(eta)),
    quantile = function(p, eta, w, phi) stats::qbinom(p, w, mean(eta)) / w,
    draw = function(eta, w, phi) stats::rbinom(length(eta), w, mean(eta)) / w,
    saturated = function(y, w, phi) log_choose(y, w) + w * (xlogy(y) + xlogy(1 - y))
  )
}

xlogy <- function(x) ifelse(x > 0, x * log(pmax(x, 1e-300)), 0)

logit_row <- binomial_row(
  mean = stats::plogis,
  value = function(y, eta, w, phi) log_choose(y, w) - w * (y * softplus(-eta) + (1 - y) * softplus(eta)),
  slopes = function(y, eta, w, phi) {
    p <- stats::plogis(eta)
    q <- stats::plogis(-eta)
    list(d1 = w * (y * q - (1 - y) * p), curvature = floored(w * p * q), turn = w * p * q * (q - p))
  }
)

probit_row <- binomial_row(
  mean = stats::pnorm,
  value = function(y, eta, w, phi) {
    log_choose(y, w) + w * (y * stats::pnorm(eta, log.p = TRUE) + (1 - y) * stats::pnorm(-eta, log.p = TRUE))
  },
  slopes = function(y, eta, w, phi) {
    up <- mills(eta)
    down <- mills(-eta)
    c1 <- up * (up + eta)
    c2 <- down * (down - eta)
    list(d1 = w * (y * up - (1 - y) * down), curvature = floored(w * (y * c1 + (1 - y) * c2)),
         turn = w * (y * (up * (1 - c1) - c1 * (up + eta)) + (1 - y) * (c2 * (down - eta) - down * (1 - c2))))
  }
)

# Counts of larger means are as good as continuous, and neighbouring ones soon the same in double precision.
huge <- 1e15
by_size <- function(mu, counts, continuous) ifelse(mu < huge, counts, continuous)

poisson_row <- list(
  start = numeric(), discrete = TRUE, mean = exp,
  value = function(y, eta, w, phi) w * (y * eta - exp(eta) - lgamma(y + 1)),
  slopes = function(y, eta, w, phi) {
    mu <- w * exp(eta)
    list(d1 = w * y - mu, curvature = floored(mu), turn = mu)
  },
  phi_slopes = function(y, eta, w, phi) list(),
  deviation = function(eta, w, phi) exp(eta / 2),
  cdf = function(y, eta, w, phi) {
    mu <- exp(eta)
    by_size(mu, stats::ppois(y, pmin(mu, huge)), stats::pnorm((y / mu - 1) * sqrt(mu)))
  },
  quantile = function(p, eta, w, phi) {
    mu <- exp(eta)
    by_size(mu, stats::qpois(p, pmin(mu, huge)), mu * (1 + stats::qnorm(p) / sqrt(mu)))
  },
  draw = function(eta, w, phi) stats::rpois(length(eta), exp(eta)),
  saturated = function(y, w, phi) w * (xlogy(y) - y - lgamma(y + 1))
)

nbinom2_row <- list(
  start = c(size = 2), discrete = TRUE, mean = exp,
  value = function(y, eta, w, phi) w * stats::dnbinom(y, size = phi[["size"]], mu = exp(eta), log = TRUE),
  slopes = function(y, eta, w, phi) {
    size <- phi[["size"]]
    mu <- exp(eta)
    list(d1 = w * (y - mu) * size / (size + mu), curvature = floored(w * mu * size * (y + size) / (size + mu)^2),
         turn = w * mu * size * (y + size) * (size - mu) / (size + mu)^3)
  },
  phi_slopes = function(y, eta, w, phi) {
    size <- phi[["size"]]
    mu <- exp(eta)
    all <- size + mu
    list(size = list(
      value = w * size * (digamma(y + size) - digamma(size) + log(size / all) + (mu - y) / all),
      d1 = w * size * (y - mu) * mu / all^2,
      curvature = w * size * mu * ((y + 2 * size) * all - 2 * size * (y + size)) / all^3))
  },
  deviation = function(eta, w, phi) sqrt(exp(eta) + exp(2 * eta) / phi[["size"]]),
  cdf = function(y, eta, w, phi) {
    mu <- exp(eta)
    size <- phi[["size"]]
    by_size(pmax(mu, y), stats::pnbinom(pmin(y, huge), size = size, mu = pmin(mu, huge)),
            stats::pgamma(y / mu, size, size))
  },
  quantile = function(p, eta, w, phi) {
    mu <- exp(eta)
    size <- phi[["size"]]
    by_size(mu, stats::qnbinom(p, size = size, mu = pmin(mu, huge)), exp(eta + log(stats::qgamma(p, size, size))))
  },
  draw = function(eta, w, phi) stats::rnbinom(length(eta), size = phi[["size"]], mu = exp(eta)),
  saturated = function(y, w, phi) w * stats::dnbinom(y, size = phi[["size"]], mu = y, log = TRUE)
)

gamma_row <- list(
  start = c(shape = 1), discrete = FALSE, mean = exp,
  value = function(y, eta, w, phi) {
    shape <- w * phi[["shape"]]
    shape * (log(shape) - eta - y * exp(-eta)) + (shape - 1) * log(y) - lgamma(shape)
  },
  slopes = function(y, eta, w, phi) {
    ratio <- w * phi[["shape"]] * y * exp(-eta)
    list(d1 = ratio - w * phi[["shape"]], curvature = floored(ratio), turn = -ratio)
  },
  phi_slopes = function(y, eta, w, phi) {
    shape <- w * phi[["shape"]]
    ratio <- y * exp(-eta)
    list(shape = list(value = shape * (log(shape) + 1 - eta + log(y) - ratio - digamma(shape)),
                      d1 = shape * (ratio - 1), curvature = shape * ratio))
  },
  deviation = function(eta, w, phi) exp(eta) / sqrt(w * phi[["shape"]]),
  cdf = function(y, eta, w, phi) stats::pgamma(y, w * phi[["shape"]], w * phi[["shape"]] * exp(-eta)),
  quantile = function(p, eta, w, phi) stats::qgamma(p, w * phi[["shape"]], w * phi[["shape"]] * exp(-eta)),
  draw = function(eta, w, phi) stats::rgamma(length(eta), w * phi[["shape"]], w * phi[["shape"]] * exp(-eta)),
  saturated = function(y, w, phi) gamma_row$value(y, log(y), w, phi)
)

# The log density is not concave: the curvature is its expectation. That of a response near 0 or 1 may be many times as
# large where the linear predictor is not as far out, and scoring would overshoot without end: steps to the mode take
# the larger one.
beta_row <- list(
  start = c(precision = 5), discrete = FALSE, mean = stats::plogis,
  value = function(y, eta, w, phi) {
    precision <- w * phi[["precision"]]
    stats::dbeta(y, stats::plogis(eta) * precision, stats::plogis(-eta) * precision, log = TRUE)
  },
  slopes = function(y, eta, w, phi) {
    precision <- w * phi[["precision"]]
    p <- beta_parts(y, eta, precision)
    expected <- precision^2 * p$m1^2 * p$spread
    own <- expected - precision * p$m2 * p$error
    list(d1 = precision * p$m1 * p$error, curvature = floored(expected),
         turn = precision^2 * (2 * p$m1 * p$m2 * p$spread +
                                 p$m1^3 * precision * (psigamma(p$a, 2) - psigamma(p$b, 2))),
         own = own, search = pmax(own, floored(expected)))
  },
  phi_slopes = function(y, eta, w, phi) {
    precision <- w * phi[["precision"]]
    p <- beta_parts(y, eta, precision)
    mu <- stats::plogis(eta)
    nu <- stats::plogis(-eta)
    list(precision = list(
      value = precision * (mu * (log(y) - digamma(p$a)) + nu * (log1p(-y) - digamma(p$b)) + digamma(precision)),
      d1 = precision * p$m1 * (p$error - precision * (trigamma(p$a) * mu - trigamma(p$b) * nu)),
      curvature = precision^2 * p$m1^2 *
        (2 * p$spread + precision * (psigamma(p$a, 2) * mu + psigamma(p$b, 2) * nu))))
  },
  deviation = function(eta, w, phi) sqrt(stats::plogis(eta) * stats::plogis(-eta) / (1 + w * phi[["precision"]])),
  cdf = function(y, eta, w, phi) {
    stats::pbeta(y, stats::plogis(eta) * w * phi[["precision"]], stats::plogis(-eta) * w * phi[["precision"]])
  },
  quantile = function(p, eta, w, phi) {
    # of the smaller share: of numbers close to 1 there are too few for qbeta(), which warns
    other <- eta > 0
    q <- stats::qbeta(abs(other - p), stats::plogis(-abs(eta)) * w * phi[["precision"]],
                      stats::plogis(abs(eta)) * w * phi[["precision"]])
    abs(other - q)
  },
  draw = function(eta, w, phi) {
    stats::rbeta(length(eta), stats::plogis(eta) * w * phi[["precision"]], stats::plogis(-eta) * w * phi[["precision"]])
  },
  saturated = function(y, w, phi) beta_row$value(y, stats::qlogis(y), w, phi)
)

beta_parts <- function(y, eta, precision) {
  mu <- stats::plogis(eta)
  nu <- stats::plogis(-eta)
  # shapes that underflow would make everything infinite
  a <- pmax(mu * precision, 1e-12)
  b <- pmax(nu * precision, 1e-12)
  list(a = a, b = b, m1 = mu * nu, m2 = mu * nu * (nu - mu), spread = trigamma(a) + trigamma(b),
       error = log(y) - log1p(-y) - digamma(a) + digamma(b))
}

# The log density is not concave: the curvature is its expectation, as in scoring. Steps to the mode take that of the
# normal density in the scale mixture, with which they always rise (expectation and maximisation), and outliers count
# little.
student_t_row <- list(
  start = c(scale = 1, df = 5), discrete = FALSE, mean = identity,
  value = function(y, eta, w, phi) {
    scale <- student_t_scale(w, phi)
    stats::dt((y - eta) / scale, phi[["df"]], log = TRUE) - log(scale)
  },
  slopes = function(y, eta, w, phi) {
    df <- phi[["df"]]
    s2 <- student_t_scale(w, phi)^2
    error <- y - eta
    all <- df * s2 + error^2
    list(d1 = (df + 1) * error / all, curvature = (df + 1) / (df + 3) / s2 + 0 * eta, turn = 0 * eta,
         own = (df + 1) * (df * s2 - error^2) / all^2, search = (df + 1) / all)
  },
  phi_slopes = function(y, eta, w, phi) {
    df <- phi[["df"]]
    s2 <- student_t_scale(w, phi)^2
    error <- y - eta
    all <- df * s2 + error^2
    list(
      scale = list(value = (df + 1) * error^2 / all - 1, d1 = -2 * (df + 1) * error * df * s2 / all^2,
                   curvature = -2 * (df + 1) / (df + 3) / s2 + 0 * eta),
      df = list(value = df / 2 * (digamma((df + 1) / 2) - digamma(df / 2) - 1 / df - log1p(error^2 / (df * s2)) +
                                   (df + 1) * error^2 / (df * all)),
                d1 = df * error * (1 / all - (df + 1) * s2 / all^2),
                curvature = df * 2 / (df + 3)^2 / s2 + 0 * eta))
  },
  deviation = function(eta, w, phi) {
    student_t_scale(w, phi) * (if (phi[["df"]] > 2) sqrt(phi[["df"]] / (phi[["df"]] - 2)) else Inf) + 0 * eta
  },
  cdf = function(y, eta, w, phi) stats::pt((y - eta) / student_t_scale(w, phi), phi[["df"]]),
  quantile = function(p, eta, w, phi) eta + student_t_scale(w, phi) * stats::qt(p, phi[["df"]]),
  draw = function(eta, w, phi) eta + student_t_scale(w, phi) * stats::rt(length(eta), phi[["df"]]),
  saturated = function(y, w, phi) student_t_row$value(y, y, w, phi)
)

student_t_scale <- function(w, phi) phi[["scale"]] / sqrt(w)

gaussian_row <- list(
  start = c(sigma2 = 1), discrete = FALSE, mean = identity,
  value = function(y, eta, w, phi) stats::dnorm(y, eta, sqrt(phi[["sigma2"]] / w), log = TRUE),
  slopes = function(y, eta, w, phi) {
    precision <- w / phi[["sigma2"]]
    list(d1 = precision * (y - eta), curvature = precision + 0 * eta, turn = 0 * eta)
  },
  phi_slopes = function(y, eta, w, phi) {
    precision <- w / phi[["sigma2"]]
    list(sigma2 = list(value = (precision * (y - eta)^2 - 1) / 2, d1 = -precision * (y - eta),
                       curvature = -precision + 0 * eta))
  },
  deviation = function(eta, w, phi) sqrt(phi[["sigma2"]] / w) + 0 * eta,
  cdf = function(y, eta, w, phi) stats::pnorm(y, eta, sqrt(phi[["sigma2"]] / w)),
  quantile = function(p, eta, w, phi) stats::qnorm(p, eta, sqrt(phi[["sigma2"]] / w)),
  draw = function(eta, w, phi) stats::rnorm(length(eta), eta, sqrt(phi[["sigma2"]] / w)),
  saturated = function(y, w, phi) gaussian_row$value(y, y, w, phi)
)

family_table <- list(gaussian = gaussian_row, logit = logit_row, probit = probit_row, poisson = poisson_row,
                     gamma = gamma_row, nbinom2 = nbinom2_row, beta = beta_row, student_t = student_t_row)
