# Family beta_family() (members of a row: family.R).

# The log density is not concave: the curvature is its expectation. That of a response near 0 or 1 may be many times as
# large where the linear predictor is not as far out, and scoring would overshoot without end: steps to the mode take
# the larger one.
beta_row <- list(
  type = "continuous", start = c(precision = 5), mean = stats::plogis,
  support = function(y) list(bad = y <= 0 | y >= 1, wanted = "between 0 and 1, both excluded, for beta_family()"),
  guess = function(y, w) stats::qlogis(y), scaled_start = function(phi, guess, w) phi / w,
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
  saturated = function(y, w, phi) beta_row$value(y, stats::qlogis(y), w, phi),
  width = function(y, w, phi) {
    # the shape that belongs to the end that y is near, and of which, where it is small, y^shape is the distribution
    end <- pmin(pmax(pmin(y, 1 - y), 1e-300), 0.5)
    shape <- pmax(w * phi[["precision"]] * end, -log(2) / log(end))
    share <- pmin(shape / (w * phi[["precision"]]), 0.5)
    list(at = ifelse(y < 0.5, 1, -1) * stats::qlogis(share), width = 1 / sqrt(pmax(shape, 1) * (1 - end)))
  }
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
