# Family gaussian() as a row: Laplace's approximation is exact for it, which tests use. vif_fit() has the closed form
# (members of a row: family.R).

gaussian_row <- list(
  type = "continuous", start = c(sigma2 = 1), mean = identity,
  guess = function(y, w) y, scaled_start = function(phi, guess, w) c(sigma2 = stats::var(guess) / 4 * w),
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
  saturated = function(y, w, phi) gaussian_row$value(y, y, w, phi),
  moments = function(link, se, w, phi) {
    list(fit = link + 0 * se, se.fit = se, se.obs = sqrt(se^2 + phi[["sigma2"]] / w))
  },
  width = function(y, w, phi) list(at = y, width = sqrt(phi[["sigma2"]] / w))
)
