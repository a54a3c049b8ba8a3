# Families as users give them, and their rows (family.R).

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

# Rows by name; that of gaussian() is for tests.
family_table <- list(gaussian = gaussian_row, logit = logit_row, probit = probit_row, poisson = poisson_row,
                     gamma = gamma_row, nbinom2 = nbinom2_row, beta = beta_row, student_t = student_t_row)
