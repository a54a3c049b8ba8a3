# Families of counts, poisson() and nbinom2() (members of a row: family.R).

count_guess <- function(y, w) log(y + 0.5 * mean(y)) - log(1.5)

count_support <- function(y) {
  if (all(y == 0)) refuse("y", "of counts that are not all 0", "all 0")
  list(bad = y < 0 | y != round(y), wanted = "of whole counts of at least 0")
}

# Counts of larger means are as good as continuous, and neighbouring ones soon the same in double precision.
huge <- 1e15
by_size <- function(mu, counts, continuous) ifelse(mu < huge, counts, continuous)

poisson_row <- list(
  type = "counts", start = numeric(), constant = TRUE, mean = exp, guess = count_guess, support = count_support,
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
  saturated = function(y, w, phi) w * (xlogy(y) - y - lgamma(y + 1)),
  moments = function(link, se, w, phi) lognormal_moments(link, se, 1, 0),
  width = function(y, w, phi) list(at = log(pmax(y, 0) + 0.7), width = 1 / sqrt(pmax(y, 0) + 0.7))
)

nbinom2_row <- list(
  type = "counts", start = c(size = 2), mean = exp, guess = count_guess, support = count_support,
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
  saturated = function(y, w, phi) w * stats::dnbinom(y, size = phi[["size"]], mu = y, log = TRUE),
  moments = function(link, se, w, phi) lognormal_moments(link, se, 1, 1 / phi[["size"]]),
  width = function(y, w, phi) {
    count <- pmax(y, 0) + 0.7
    list(at = log(count), width = sqrt(1 / count + 1 / phi[["size"]]))
  }
)
