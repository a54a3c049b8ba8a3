# Check: the Laplace approximation of a fit's noise-free process once more, by a sparse factor or by conjugate
# gradients.

#' Log-likelihood of a non-Gaussian fit, by a sparse factor or by conjugate gradients
#'
#' Laplace's approximation of the log-likelihood under the VIF approximation of the noise-free process (Gyger, Furrer
#' and Sigrist, 2025), with the parameters, order and conditioning sets of the fit and a mode found anew: by the other
#' method than the fit used, with more random vectors, or for a fit that approximates the process plus noise
#' (`laplace = "noisy"`), whose error this tells.
#'
#' `"exact"` factors the sparse precision of the residual process plus the working weights (package Matrix), with the
#' inducing inputs by Woodbury's formula: for up to some 10^4 points in two dimensions. `"iterative"` uses conjugate
#' gradients, preconditioned by the VIF approximation of the noisy process, which needs a handful of steps, and
#' stochastic Lanczos quadrature for what the log-determinant differs from that of the preconditioner. The part of the
#' quadrature that is linear has a trace that is known, so that only the terms of second order are left to the random
#' vectors: 10,000 binary observations have a standard error of 0.02 with 30 of them.
#'
#' @param object A [vif_fit()] with a `family` other than `gaussian()`.
#' @param method `"exact"`, `"iterative"`, or `"auto"` for the first up to 5,000 observations.
#' @param probes Number of random vectors of the quadrature.
#' @param jitter Variance added to every point's latent process, relative to the kernel's, so that copies of a point
#'   are harmless.
#' @param seed Seed of the random vectors. The session's random numbers are left untouched.
#' @return A number, with attributes `"linear.predictors"` (the mode, in the order of the data) and, for
#'   `"iterative"`, `"se"`, the standard error of the quadrature.
#' @section Errors:
#' A Gaussian fit, and a mode that is not found.
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale approximations for
#'   Gaussian processes, section 4. \doi{10.48550/arXiv.2507.05064}.
#'
#'   Ubaru, S., Chen, J. and Saad, Y. (2017). Fast estimation of tr(f(A)) via stochastic Lanczos quadrature. *SIAM
#'   Journal on Matrix Analysis and Applications* 38(4).
#' @examples
#' set.seed(1)
#' x <- cbind(runif(300), runif(300))
#' y <- rpois(300, exp(sin(6 * x[, 1])))
#' fit <- vif_fit(y, x, X = 1, family = poisson(), inducing = 20, k = 10, progress = FALSE)
#' logLik(fit)
#' latent_loglik(fit)
#' @export
latent_loglik <- function(object, method = c("auto", "exact", "iterative"), probes = 30, jitter = 1e-8, seed = 1) {
  object <- whole_fit(check_fit(object))
  if (!is_laplace(object)) refuse("object", "a fit with a family other than gaussian()", "a Gaussian one")
  method <- check_choice(method, c("auto", "exact", "iterative"), "method")
  probes <- check_whole(probes, "probes", 2)
  jitter <- check_number(jitter, "jitter", "a share of the variance, above 0 and at most 1", function(x) x > 0 && x <= 1)
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  if (method == "auto") method <- if (object$n <= 5000) "exact" else "iterative"
  threads <- thread_count(NULL)
  rows <- object$order
  family <- laplace_family(object$family)
  phi <- all_phi(family, object$phi)
  data <- list(y = object$y[rows], w = object$weights[rows], X = object$X[rows, , drop = FALSE],
               offset = (object$offset %or% numeric(object$n))[rows])
  from <- object$linear.predictors[rows]
  found <- if (method == "exact") {
    latent <- .Call(C_vif_regression, object$gp, rep(jitter * object$gp$kernel$variance, object$n), object$latent_id,
                    NULL, NULL, threads)
    fixed <- data$offset + if (is.null(data$X)) 0 else drop(data$X %*% object$coefficients)
    latent_laplace(sparse_system(object$gp, object$latent_id, latent), family, data, phi, fixed, from)
  } else {
    latent_evaluate(object$gp, object$latent_id, object$id, data, family, phi, object$coefficients, from, threads,
                    tolerance = 1e-7, probes = probes, seed = seed, jitter = jitter, refine = TRUE, most_se = Inf)
  }
  if (!is.finite(found$loglik)) stop_mode()
  eta <- found$eta
  eta[rows] <- eta
  structure(found$loglik, linear.predictors = eta, se = found$se)
}

# A system answers for given noise: solve(r) = A^-1 r and logdet() = log det A, A = latent covariance + noise.
latent_laplace <- function(system, family, data, phi, fixed, eta, tolerance = 1e-7) {
  joint <- function(at) sum(family$value(data$y, fixed + at$b, data$w, phi)) - sum(at$a * at$b) / 2
  here <- NULL
  from <- eta
  for (iteration in 1:100) {
    s <- family$slopes(data$y, from, data$w, phi)
    noise <- 1 / pmax(s$curvature, s$own %or% s$curvature) # expected curvatures alone may overshoot
    z <- from - fixed + noise * s$d1
    at <- system(noise)
    a <- at$solve(z)
    new <- list(a = a, b = z - noise * a)
    move <- max(abs(fixed + new$b - from) * sqrt(s$curvature))
    if (move < tolerance) {
      value <- joint(list(a = a, b = from - fixed)) - (system(1 / s$curvature)$logdet() + sum(log(s$curvature))) / 2
      return(list(eta = from, loglik = value, iterations = iteration))
    }
    step <- 1
    while (!is.null(here) && step > 1e-6 && !isTRUE(joint(new) >= joint(here) - 1e-8 * abs(joint(here)))) {
      step <- step / 2
      new <- Map(function(to, from) from + (to - from) / 2, new, here)
    }
    here <- new
    from <- fixed + here$b
  }
  stop_mode()
}

stop_mode <- function(why = "the mode of the latent process is not found") {
  stop(errorCondition(paste0(user_call(), why, ": the responses may be too far from any that the family can have ",
                             "with these covariates"), class = "vif_mode", call = NULL))
}

# A = V'V + R + N with R^-1 = P = B' D^-1 B: (R + N)^-1 = w - w (P + w)^-1 w with w = 1 / N, and Woodbury for V.
sparse_system <- function(gp, id, latent) {
  B <- contrast_matrix(id, latent$coef)
  P <- Matrix::crossprod(Matrix::Diagonal(x = 1 / sqrt(latent$D)) %*% B)
  V <- gp$V
  function(noise) {
    w <- 1 / noise
    Q <- Matrix::Cholesky(Matrix::forceSymmetric(P + Matrix::Diagonal(x = w)), perm = TRUE, LDL = FALSE)
    residual <- function(r) w * r - w * as.matrix(Matrix::solve(Q, w * r))
    if (nrow(V)) {
      TV <- residual(t(V))
      root <- t(chol(diag(nrow(V)) + V %*% TV))
    }
    list(
      solve = function(r) drop(residual(r) - if (nrow(V)) TV %*% solve_root(root, crossprod(TV, r)) else 0),
      logdet = function() {
        # half the log-determinant, whatever package Matrix makes of its arguments
        half <- sum(log(Matrix::diag(methods::as(Q, "CsparseMatrix"))))
        2 * half + sum(log(latent$D)) - sum(log(w)) + if (nrow(V)) 2 * sum(log(diag(root))) else 0
      })
  }
}
