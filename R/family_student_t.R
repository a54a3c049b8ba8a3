# Family student_t() (members of a row: family.R).

# The log density is not concave: the curvature is its expectation, as in scoring. Steps to the mode take that of the
# normal density in the scale mixture, with which they always rise (expectation and maximisation), and outliers count
# little.
student_t_row <- list(
  type = "continuous", start = c(scale = 1, df = 5), any_unit = TRUE, mean = identity,
  guess = function(y, w) y,
  scaled_start = function(phi, guess, w) {
    replace(phi, "scale", (stats::mad(guess) / 2 + 1e-3 * stats::sd(guess)) * sqrt(w))
  },
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
  # of two degrees of freedom or fewer, which have no variance, the scale alone
  pearson = function(eta, w, phi) {
    if (phi[["df"]] <= 2) student_t_scale(w, phi) else student_t_row$deviation(eta, w, phi)
  },
  saturated = function(y, w, phi) student_t_row$value(y, y, w, phi),
  moments = function(link, se, w, phi) {
    list(fit = link + 0 * se, se.fit = se, se.obs = sqrt(se^2 + student_t_row$deviation(link, w, phi)^2))
  },
  width = function(y, w, phi) list(at = y, width = student_t_scale(w, phi))
)

student_t_scale <- function(w, phi) phi[["scale"]] / sqrt(w)
