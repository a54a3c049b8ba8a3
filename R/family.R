# Families of responses: what the Laplace approximation asks of one. A family is a row, in a file of its own
# (family_*.R), and no other code knows its name but for degrees of freedom that users fix, and advice in messages. Its
# members:
#   type                         "shares" of w trials, "counts", or "continuous": what prior weights w mean (below), how
#                                residuals are drawn and which scores are shown follow from it
#   start                        phi to start from, a named vector of positive parameters
#   scaled_start(phi, guess, w)  optional: the same by what guesses and median weight say of the unit
#   any_unit                     TRUE where responses may have any unit, and `scale` among phi has it, too
#   support(y)                   optional: list of `bad`, TRUE for each response outside, and what is `wanted`
#   constant                     TRUE where all responses may be the same
#   guess(y, w)                  a linear predictor near each response
#   value(y, eta, w, phi)        log density of each observation
#   slopes(y, eta, w, phi)       list of its first derivative `d1` in eta, a positive `curvature` (minus the second
#                                derivative, or its expectation), the derivative `turn` of the curvature in eta,
#                                `own`, minus the second derivative, where the curvature is an expectation, and
#                                `search`, a curvature for the steps to the mode, if another one brings them sooner
#   phi_slopes(y, eta, w, phi)   for each parameter of phi a list of the derivatives of value, d1 and curvature to
#                                its log
#   mean, deviation(eta, w, phi) mean and standard deviation of a response
#   pearson(eta, w, phi)         optional: what Pearson residuals are divided by, in place of the deviation
#   cdf, quantile, draw          distribution function, quantiles and draws given eta, w and phi
#   saturated(y, w, phi)         log density at the best linear predictor of each response alone
#   moments(link, se, w, phi)    optional: mean `fit` of a response where eta is normal, with its standard deviation
#                                `se.fit`, and that of the response, `se.obs`; by quadrature otherwise
#   width(y, w, phi)             where (`at`) cdf and density of a response change most as functions of eta, and within
#                                what `width`: quadrature looks there
#   most_variance                of shares: the variance of the process that is held where all outcomes are fitted
# w are prior weights: trials of shares, powers of the density of counts, factors of the precision of what is
# continuous.

# ---- what rows share ----

# log(1 + exp(x)), and Mills' ratio dnorm / pnorm, without overflow.
softplus <- function(x) pmax(x, 0) + log1p(exp(-abs(x)))
mills <- function(x) exp(stats::dnorm(x, log = TRUE) - stats::pnorm(x, log.p = TRUE))

# Where a curvature vanishes in double precision the observation says nothing any more.
floored <- function(curvature) pmax(curvature, 1e-12)

xlogy <- function(x) ifelse(x > 0, x * log(pmax(x, 1e-300)), 0)

# Moments for the log link, where the variance of a response of mean mu is linear mu + square mu^2.
lognormal_moments <- function(link, se, linear, square) {
  fit <- exp(link + se^2 / 2)
  list(fit = fit, se.fit = fit * sqrt(expm1(se^2)),
       se.obs = fit * sqrt(expm1(se^2) + linear / pmax(fit, 1e-300) + square * exp(se^2)))
}
