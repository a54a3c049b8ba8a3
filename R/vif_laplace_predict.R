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
  rule <- hermite()
  # plogis() of no rows is no matrix
  over <- function(f) drop(matrix(f(outer(se, rule$node) + link), length(link)) %*% rule$weight)
  fit <- over(family$mean)
  squares <- over(function(eta) family$mean(eta)^2)
  spread <- ifelse(squares < Inf, squares - fit^2, Inf)
  noise <- over(function(eta) family$deviation(eta, w, phi)^2)
  out <- list(fit = fit, se.fit = sqrt(pmax(spread, 0)), se.obs = sqrt(pmax(spread, 0) + noise))
  if (interval == "confidence") out <- c(out, lapply(limits, family$mean))
  if (interval == "prediction") {
    tail <- (1 - level) / 2
    out$lwr <- mixture_quantile(tail, family, link, se, w, phi, rule)
    out$upr <- mixture_quantile(1 - tail, family, link, se, w, phi, rule)
  }
  out
}

# Gauss-Hermite rule for a standard normal variable, by the eigenvalues of its Jacobi matrix (Golub and Welsch, 1969).
hermite <- function(size = 30) {
  J <- matrix(0, size, size)
  J[cbind(seq_len(size - 1), 2:size)] <- J[cbind(2:size, seq_len(size - 1))] <- sqrt(seq_len(size - 1))
  e <- eigen(J, symmetric = TRUE)
  list(node = e$values, weight = e$vectors[1, ]^2)
}

# P(Y <= y) over the uncertainty of the linear predictor.
mixture_cdf <- function(y, family, link, se, w, phi, rule = hermite()) {
  drop(matrix(family$cdf(y, outer(se, rule$node) + link, w, phi), length(link)) %*% rule$weight)
}

# Its quantiles: between those at far linear predictors, by halving; for counts the smallest count that reaches p.
mixture_quantile <- function(p, family, link, se, w, phi, rule = hermite()) {
  unit <- if (family$discrete && family$name %in% c("logit", "probit")) w else 1 # responses are shares of w trials
  far <- max(abs(rule$node)) * se
  low <- family$quantile(p, link - far, w, phi)
  high <- family$quantile(p, link + far, w, phi)
  if (family$discrete) {
    most <- .Machine$double.xmax
    low <- pmin(round(low * unit) - 1, most)
    high <- pmin(round(high * unit), most)
    repeat {
      middle <- floor(low + (high - low) / 2)
      open <- middle > low & middle < high # there are numbers between, which beyond 2^53 are not all whole ones
      if (!any(open)) break
      reached <- mixture_cdf(middle / unit, family, link, se, w, phi, rule) >= p
      high <- ifelse(open & reached, middle, high)
      low <- ifelse(open & !reached, middle, low)
    }
    return(ifelse(high < most, high / unit, Inf))
  }
  for (halving in 1:60) {
    middle <- (low + high) / 2
    reached <- mixture_cdf(middle, family, link, se, w, phi, rule) >= p
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
      if (family$discrete) {
        unit <- if (family$name %in% c("logit", "probit")) w else 1
        lower <- mixture_cdf(y - 1 / unit, family, at$link, at$se, w, phi)
        upper <- with_seed(seed, lower + stats::runif(length(y)) * (upper - lower))
      }
      stats::qnorm(pmin(pmax(upper, 1e-15), 1 - 1e-15))
    }
  )
  stats::setNames(value, names(object$y))
}

# Standard deviations of responses, for residuals: weights of counts are powers of their density, which leave a response
# as it is but make it count for more. Student's t of two degrees of freedom or fewer has its scale alone.
pearson_scale <- function(family, eta, w, phi) {
  if (family$name %in% c("poisson", "nbinom2")) return(family$deviation(eta, w, phi) / sqrt(w))
  if (family$name == "student_t" && phi[["df"]] <= 2) return(student_t_scale(w, phi))
  family$deviation(eta, w, phi)
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
