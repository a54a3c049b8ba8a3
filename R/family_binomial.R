# Family binomial(), links logit and probit (members of a row: family.R).

log_choose <- function(y, w) lgamma(w + 1) - lgamma(w * y + 1) - lgamma(w * (1 - y) + 1)

# Rows of binomial(), by link: responses are shares y of w trials. `mean` is the inverse of the `link`, `rise` its
# slope. `most_variance` is where odds go from 1 to 500 within two standard deviations of the process (ran_away()).
binomial_row <- function(mean, link, rise, most_variance, value, slopes) {
  list(
    type = "shares", start = numeric(), most_variance = most_variance, mean = mean, value = value, slopes = slopes,
    guess = function(y, w) link((w * y + 0.5) / (w + 1)),
    phi_slopes = function(y, eta, w, phi) list(),
    deviation = function(eta, w, phi) sqrt(mean(eta) * mean(-eta) / w),
    cdf = function(y, eta, w, phi) stats::pbinom(round(y * w), w, mean(eta)),
    quantile = function(p, eta, w, phi) stats::qbinom(p, w, mean(eta)) / w,
    draw = function(eta, w, phi) stats::rbinom(length(eta), w, mean(eta)) / w,
    saturated = function(y, w, phi) log_choose(y, w) + w * (xlogy(y) + xlogy(1 - y)),
    width = function(y, w, phi) {
      p <- (w * pmin(pmax(y, 0), 1) + 0.5) / (w + 1)
      list(at = link(p), width = sqrt(p * (1 - p) / w) / rise(link(p)))
    }
  )
}

logit_row <- binomial_row(
  mean = stats::plogis, link = stats::qlogis, rise = stats::dlogis, most_variance = 10,
  value = function(y, eta, w, phi) log_choose(y, w) - w * (y * softplus(-eta) + (1 - y) * softplus(eta)),
  slopes = function(y, eta, w, phi) {
    p <- stats::plogis(eta)
    q <- stats::plogis(-eta)
    list(d1 = w * (y * q - (1 - y) * p), curvature = floored(w * p * q), turn = w * p * q * (q - p))
  }
)

probit_row <- binomial_row(
  mean = stats::pnorm, link = stats::qnorm, rise = stats::dnorm, most_variance = 4,
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
