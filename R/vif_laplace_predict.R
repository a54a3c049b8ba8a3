# Predictions and methods of fits of non-Gaussian responses.

# As prediction(), from means and variances of the linear predictor; those of the response are integrated over it.
prediction_laplace <- function(object, found, w, type, names, rows, n, se.fit, interval, level) {
  se <- if (is.null(found$variance)) rep(NA_real_, length(rows)) else sqrt(found$variance)
  known <- laplace_summary(object, unname(found$fit), se, type, interval, level, w)
  whole <- lapply(known, function(values) {
    out <- rep(NA_real_, n)
    out[rows] <- values
    out
  })
  if (!se.fit && interval == "none") return(stats::setNames(whole$fit, names))
  columns <- c("fit", if (se.fit) c("se.fit", if (type == "response") "se.obs"),
               if (interval != "none") c("lwr", "upr"))
  data.frame(whole[columns], row.names = row_names(names))
}

# Means, standard errors and limits from the mean and standard error of the linear predictor. se.fit is the standard
# deviation of the mean response, se.obs that of a response.
laplace_summary <- function(object, link, se, type, interval, level, w) {
  family <- laplace_family(object$family)
  phi <- all_phi(family, object$phi)
  half <- stats::qnorm((1 + level) / 2) * se
  limits <- list(lwr = link - half, upr = link + half)
  if (type == "link") {
    if (interval == "prediction") refuse("interval", '"none" or "confidence" with type = "link"', '"prediction"')
    return(c(list(fit = link, se.fit = se), if (interval == "confidence") limits))
  }
  out <- response_moments(family, link, se, w, phi)
  if (interval == "confidence") out <- c(out, lapply(limits, family$mean))
  if (interval == "prediction") {
    tail <- (1 - level) / 2
    out$lwr <- mixture_quantile(tail, family, link, se, w, phi)
    out$upr <- mixture_quantile(1 - tail, family, link, se, w, phi)
  }
  out
}

# ---- expectations over the linear predictor ----

# Mean, its standard deviation and that of a response where the linear predictor is normal.
response_moments <- function(family, link, se, w, phi) {
  if (!is.null(family$moments)) return(family$moments(link, se, w, phi))
  w <- rep_len(w, length(link))
  over <- function(f) expected(f, link, se, 0, 1) # inverse links rise within about one of 0
  fit <- over(function(eta, i) family$mean(eta))
  spread <- pmax(over(function(eta, i) family$mean(eta)^2) - fit^2, 0)
  noise <- over(function(eta, i) family$deviation(eta, w[i], phi)^2)
  list(fit = fit, se.fit = sqrt(spread), se.obs = sqrt(spread + noise))
}

# E f(eta, i) for row i, where f changes around `at` within about `width`: by a fixed rule where that is wide beside `se`,
# and by one with its nodes around `at` otherwise.
expected <- function(f, link, se, at, width) {
  n <- length(link)
  where <- rep_len((at - link) / se, n)
  narrow <- rep_len(width / se, n)
  close <- which(narrow < 1 & abs(where) < 8) # beyond there is next to nothing
  wide <- setdiff(seq_len(n), close)
  rule <- hermite()
  out <- numeric(n)
  out[wide] <- matrix(f(outer(se[wide], rule$node) + link[wide], wide), length(wide)) %*% rule$weight
  for (i in pieces(close)) {
    rule <- sinh_rule(where[i], narrow[i])
    values <- matrix(f(se[i] * rule$node + link[i], i), length(i))
    out[i] <- rowSums(values * rule$weight) / rowSums(rule$weight)
  }
  out
}

# log E exp(f(eta, i)) of a log density, whose product with the normal density has its peak between `at` and `link`, or,
# for heavy tails and outliers, at `link`.
log_expected <- function(f, link, se, at, width) {
  n <- length(link)
  log_sum <- function(values, weight) {
    top <- apply(values, 1, max)
    top + log(rowSums(exp(values - top) * weight))
  }
  out <- numeric(n)
  where <- rep_len((at - link) / se, n)
  narrow <- rep_len(width / se, n)
  centre <- where / (1 + narrow^2)
  narrow <- narrow / sqrt(1 + narrow^2)
  fixed <- !is.finite(centre) # no standard error
  for (i in pieces(which(fixed))) out[i] <- matrix(f(matrix(link[i]), i))
  for (i in pieces(which(!fixed))) {
    peak <- function(z) drop(matrix(f(matrix(se[i] * z + link[i]), i))) - z^2 / 2
    flat <- abs(where[i]) > 9 & peak(0 * i) > peak(centre[i])
    rule <- sinh_rule(ifelse(flat, 0, centre[i]), ifelse(flat, 1, narrow[i]))
    out[i] <- log_sum(matrix(f(se[i] * rule$node + link[i], i), length(i)), rule$weight)
  }
  out
}

pieces <- function(rows, size = 2000) split(rows, (seq_along(rows) - 1) %/% size)

# Gauss-Hermite rule for a standard normal variable, by the eigenvalues of its Jacobi matrix (Golub and Welsch, 1969).
hermite <- function(size = 30) {
  J <- matrix(0, size, size)
  J[cbind(seq_len(size - 1), 2:size)] <- J[cbind(2:size, seq_len(size - 1))] <- sqrt(seq_len(size - 1))
  e <- eigen(J, symmetric = TRUE)
  list(node = e$values, weight = e$vectors[1, ]^2)
}

# For a standard normal variable, a row for each centre: the trapezoidal rule in u, where z = centre + width sinh(u). Nodes
# are as close as the width at the centre, and everywhere closer than a tenth of the distance from it or the width.
sinh_rule <- function(centre, width, step = 0.1, reach = 9.5) {
  width <- pmin(pmax(width, 1e-12), 1)
  low <- asinh((pmin(-reach, centre - reach) - centre) / width)
  high <- asinh((pmax(reach, centre + reach) - centre) / width)
  size <- ceiling(max(high - low) / step) + 1
  u <- low + outer(high - low, seq(0, 1, length.out = size))
  node <- centre + width * sinh(u)
  list(node = node, weight = stats::dnorm(node) * width * cosh(u) * ((high - low) / (size - 1)))
}

# P(Y <= y) over the uncertainty of the linear predictor.
mixture_cdf <- function(y, family, link, se, w, phi) {
  y <- rep_len(y, length(link))
  w <- rep_len(w, length(link))
  change <- family$width(y, w, phi)
  expected(function(eta, i) family$cdf(y[i], eta, w[i], phi), link, se, change$at, change$width)
}

# Its quantiles: between those at far linear predictors, by halving; for counts the smallest count that reaches p.
mixture_quantile <- function(p, family, link, se, w, phi) {
  unit <- if (family$type == "shares") w else 1 # responses are shares of w trials
  far <- 7 * se
  low <- family$quantile(p, link - far, w, phi)
  high <- family$quantile(p, link + far, w, phi)
  if (family$type != "continuous") {
    most <- .Machine$double.xmax
    low <- pmin(round(low * unit) - 1, most)
    high <- pmin(round(high * unit), most)
    repeat {
      middle <- floor(low + (high - low) / 2)
      open <- middle > low & middle < high # there are numbers between, which beyond 2^53 are not all whole ones
      if (!any(open)) break
      reached <- mixture_cdf(middle / unit, family, link, se, w, phi) >= p
      high <- ifelse(open & reached, middle, high)
      low <- ifelse(open & !reached, middle, low)
    }
    return(ifelse(high < most, high / unit, Inf))
  }
  for (halving in 1:60) {
    middle <- (low + high) / 2
    reached <- mixture_cdf(middle, family, link, se, w, phi) >= p
    high <- ifelse(reached, middle, high)
    low <- ifelse(reached, low, middle)
  }
  (low + high) / 2
}

# ---- residuals ----

# Linear predictors of the observations as predicted from all others, given the coefficients of all or with those of the
# others: exact for the working responses.
left_out <- function(object, beta = FALSE) {
  threads <- thread_count(NULL)
  state <- object$state
  noise <- object$noise_variance[object$order]
  weighted <- drop(.Call(C_laplace_collects, object$id, state$coef, rbind(state$error / state$D)))
  state$W <- .Call(C_vif_contrasts, object$id, state$coef, object$gp$V, object$gp$V, threads)
  precision <- working_precision(state, object$id, threads)
  eta <- object$linear.predictors[object$order]
  working <- eta + noise * weighted # the working response, of which weighted is S^-1 (z - mean)
  gap <- weighted / precision
  if (beta && length(object$X)) {
    X <- object$X[object$order, , drop = FALSE]
    gap <- gap * without_beta(precision, t(working_solve(state, object$id, t(X), threads)$solved), X)
  }
  out <- data.frame(link = working - gap, se = sqrt(pmax(1 / precision - noise, 1e-12)))
  out[object$order, ] <- out
  out
}

laplace_residuals <- c("response", "pearson", "deviance", "quantile")

residuals_laplace <- function(object, type, ..., seed = NULL) {
  check_dots(...)
  if (!is.null(seed)) seed <- check_whole(seed, "seed", -.Machine$integer.max)
  family <- laplace_family(object$family)
  phi <- all_phi(family, object$phi)
  y <- object$y
  w <- object$weights
  eta <- object$linear.predictors
  value <- switch(type,
    response = y - family$mean(eta),
    pearson = (y - family$mean(eta)) / pearson_scale(family, eta, w, phi),
    deviance = {
      # of shares the density is highest near y, not at it, so that the difference may be negative
      gap <- family$saturated(y, w, phi) - family$value(y, eta, w, phi)
      sign(y - family$mean(eta)) * sqrt(2 * abs(gap))
    },
    quantile = {
      at <- left_out(object)
      upper <- mixture_cdf(y, family, at$link, at$se, w, phi)
      if (family$type != "continuous") {
        unit <- if (family$type == "shares") w else 1
        lower <- mixture_cdf(y - 1 / unit, family, at$link, at$se, w, phi)
        upper <- with_seed(seed, lower + stats::runif(length(y)) * (upper - lower))
      }
      stats::qnorm(pmin(pmax(upper, 1e-15), 1 - 1e-15))
    }
  )
  stats::setNames(value, names(object$y))
}

# Standard deviations of responses, for residuals: weights of counts are powers of their density, which leave a response
# as it is but make it count for more.
pearson_scale <- function(family, eta, w, phi) {
  if (!is.null(family$pearson)) return(family$pearson(eta, w, phi))
  family$deviation(eta, w, phi) / if (family$type == "counts") sqrt(w) else 1
}

fitted_laplace <- function(object) {
  stats::setNames(laplace_family(object$family)$mean(object$linear.predictors), names(object$y))
}

# Two pictures: quantiles of the randomised quantile residuals, and these against the linear predictor.
plot_laplace <- function(x, which) {
  r <- residuals_laplace(x, "quantile", seed = 1)
  look <- list(pch = 20, cex = if (x$n > 2000) 0.4 else 0.7, col = "#2f7fb8", bty = "l", las = 1)
  picture <- function(title, ...) {
    do.call(graphics::plot, c(list(...), look))
    graphics::title(title, line = 1, cex.main = 1, font.main = 1)
  }
  if (1 %in% which) {
    q <- stats::qqnorm(r, plot.it = FALSE)
    picture("Randomised quantile residuals", q$x, q$y, xlab = "normal quantiles", ylab = "residuals")
    graphics::abline(0, 1, col = "#c1121f")
  }
  if (2 %in% which) {
    picture("Residuals over the linear predictor", left_out(x)$link, r, xlab = "predicted from all others",
            ylab = "residuals")
    graphics::abline(h = 0, col = "#c1121f")
  }
  invisible(x)
}

# ---- simulation ----

# New responses at the inputs of the fit, the latent process drawn anew.
simulate_laplace <- function(object, nsim, seed) {
  family <- laplace_family(object$family)
  phi <- all_phi(family, object$phi)
  gp <- object$gp
  n <- object$n
  # a millionth of the variance as noise keeps copies of a point apart
  slack <- rep(1e-6 * gp$kernel$variance, n)
  threads <- thread_count(NULL)
  f <- .Call(C_vif_regression, gp, slack, object$latent_id, NULL, NULL, threads)
  draws <- with_seed(seed, {
    m <- nrow(gp$V)
    noise <- t(sqrt(f$D) * normals(n, nsim))
    latent <- t(.Call(C_laplace_solves, object$latent_id, f$coef, noise, FALSE)) +
      crossprod(gp$V, normals(m, nsim))
    latent[object$order, ] <- latent
    fixed <- (object$offset %or% 0) + if (is.null(object$X)) 0 else drop(object$X %*% object$coefficients)
    apply(latent + fixed, 2, function(eta) family$draw(eta, object$weights, phi))
  })
  names <- paste0("sim_", seq_len(nsim))
  if (is.null(object$counts)) return(stats::setNames(as.data.frame(draws), names))
  # two columns of counts each, as the response was
  both <- lapply(seq_len(nsim), function(j) {
    successes <- round(draws[, j] * object$weights)
    matrix(c(successes, object$weights - successes), n, dimnames = list(NULL, object$counts))
  })
  structure(stats::setNames(both, names), row.names = seq_len(n), class = "data.frame")
}
