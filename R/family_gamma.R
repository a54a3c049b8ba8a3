# Family Gamma("log") (members of a row: family.R).

gamma_row <- list(
  type = "continuous", start = c(shape = 1), mean = exp,
  support = function(y) list(bad = y <= 0, wanted = "above 0 for Gamma()"),
  guess = function(y, w) log(y), scaled_start = function(phi, guess, w) phi / w,
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
  saturated = function(y, w, phi) gamma_row$value(y, log(y), w, phi),
  moments = function(link, se, w, phi) lognormal_moments(link, se, 0, 1 / (w * phi[["shape"]])),
  width = function(y, w, phi) list(at = log(pmax(y, 0)), width = 1 / sqrt(w * phi[["shape"]]))
)
