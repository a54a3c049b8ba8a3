# Check: the Laplace approximation of a fit's noise-free process once more, by a sparse factor or by conjugate
# gradients with more random vectors and a finer preconditioner than a fit uses.

#' Log-likelihood of a non-Gaussian fit, to more digits
#'
#' Laplace's approximation of the log-likelihood under the VIF approximation of the noise-free process (Gyger, Furrer
#' and Sigrist, 2025), with the parameters, order and conditioning sets of the fit and a mode found anew. A fit itself
#' leaves the small error `loglik_se` of its random vectors, which matters where models are compared; or it
#' approximates the process plus noise (`laplace = "noisy"`), whose error this tells.
#'
#' `"exact"` factors the sparse precision of the residual process plus the working weights (package Matrix), with the
#' inducing inputs by Woodbury's formula: for up to some 10^4 points in two dimensions. `"iterative"` uses conjugate
#' gradients, preconditioned by the VIF approximation of the noisy process, which needs a handful of steps, and
#' stochastic Lanczos quadrature for what the log-determinant differs from that of a preconditioner with three times
#' the neighbours.
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
  jitter <- check_positive(jitter, "jitter")
  seed <- check_whole(seed, "seed", -.Machine$integer.max)
  if (method == "auto") method <- if (object$n <= 5000) "exact" else "iterative"
  threads <- thread_count(NULL)
  rows <- object$order
  family <- laplace_family(object$family)
  data <- list(y = object$y[rows], w = object$weights[rows])
  fixed <- (object$offset %or% numeric(object$n))[rows] +
    if (is.null(object$X)) 0 else drop(object$X[rows, , drop = FALSE] %*% object$coefficients)
  slack <- rep(jitter * object$gp$kernel$variance, object$n)
  latent <- .Call(C_vif_regression, object$gp, slack, object$latent_id, NULL, NULL, threads)
  make <- switch(method, exact = sparse_system, iterative = krylov_system)
  system <- make(object$gp, object$latent_id, latent, threads)
  found <- latent_laplace(system, family, data, all_phi(family, object$phi), fixed, object$linear.predictors[rows],
                          probes, seed)
  eta <- found$eta
  eta[rows] <- eta
  structure(found$loglik, linear.predictors = eta, se = found$se)
}

# A system answers for given noise: solve(r) = A^-1 r and logdet(probes, seed) = log det A, A = latent covariance +
# noise.
latent_laplace <- function(system, family, data, phi, fixed, eta, probes = 30, seed = 1, tolerance = 1e-7) {
  joint <- function(at) sum(family$value(data$y, fixed + at$b, data$w, phi)) - sum(at$a * at$b) / 2
  here <- NULL
  from <- eta
  for (iteration in 1:100) {
    s <- family$slopes(data$y, from, data$w, phi)
    noise <- 1 / s$curvature
    z <- from - fixed + noise * s$d1
    at <- system(noise)
    a <- at$solve(z)
    new <- list(a = a, b = z - noise * a)
    move <- max(abs(fixed + new$b - from) * sqrt(s$curvature))
    if (move < tolerance) {
      logdet <- at$logdet(probes, seed)
      value <- joint(list(a = a, b = from - fixed)) - (logdet$value - sum(log(noise))) / 2
      return(list(eta = from, loglik = value, se = if (!is.null(logdet$se)) logdet$se / 2, iterations = iteration))
    }
    step <- 1
    while (!is.null(here) && step > 1e-6 && !isTRUE(joint(new) >= joint(here) - 1e-8 * abs(joint(here)))) {
      step <- step / 2
      new <- Map(function(to, from) from + (to - from) / 2, new, here)
    }
    here <- new
    from <- fixed + here$b
  }
  stop(user_call(), "the mode of the latent process is not found", call. = FALSE)
}

# A = V'V + R + N with R^-1 = P = B' D^-1 B: (R + N)^-1 = w - w (P + w)^-1 w with w = 1 / N, and Woodbury for V.
sparse_system <- function(gp, id, latent, threads) {
  B <- contrast_matrix(id, latent$coef)
  P <- Matrix::crossprod(Matrix::Diagonal(x = 1 / sqrt(latent$D)) %*% B)
  V <- gp$V
  function(noise) {
    w <- 1 / noise
    Q <- Matrix::Cholesky(Matrix::forceSymmetric(P + Matrix::Diagonal(x = w)), perm = TRUE, LDL = FALSE)
    residual <- function(r) w * r - w * as.matrix(Matrix::solve(Q, w * r))
    TV <- residual(t(V))
    root <- t(chol(diag(nrow(V)) + V %*% TV))
    list(
      solve = function(r) drop(residual(r) - TV %*% solve_root(root, crossprod(TV, r))),
      logdet = function(...) {
        # half the log-determinant, whatever package Matrix makes of its arguments
        half <- sum(log(Matrix::diag(methods::as(Q, "CsparseMatrix"))))
        list(value = 2 * half + sum(log(latent$D)) - sum(log(w)) + 2 * sum(log(diag(root))))
      })
  }
}

# The same by conjugate gradients on rows of right-hand sides, preconditioned by the VIF approximation of A.
krylov_system <- function(gp, id, latent, threads, tolerance = 1e-8) {
  function(noise) {
    state <- working_state(gp, id, noise, threads)
    multiply <- function(x) {
      up <- .Call(C_laplace_solves, id, latent$coef, x, TRUE) * rep(latent$D, each = nrow(x))
      of_features <- .Call(C_laplace_combination, .Call(C_laplace_crossproduct, gp$V, x, NULL, threads), gp$V, threads)
      .Call(C_laplace_solves, id, latent$coef, up, FALSE) + of_features +
        x * rep(noise, each = nrow(x))
    }
    precondition <- function(r) working_solve(state, id, r, threads)$solved
    list(
      solve = function(r) drop(conjugate_gradients(multiply, precondition, rbind(r), tolerance)$x),
      logdet = function(probes, seed) {
        n <- length(noise)
        m <- nrow(gp$V)
        # the quadrature's variance is that of what the preconditioner leaves out: three times the neighbours are
        # worth it
        gp$nugget <- mean(noise)
        wide <- unname(residual_knn(gp, min(3L * ncol(id), n - 1L), predecessors = TRUE, progress = FALSE)$id)
        state <- working_state(gp, wide, noise, threads)
        precondition <- function(r) working_solve(state, wide, r, threads)$solved
        # draws from the preconditioner itself
        xi <- with_seed(seed, {
          e <- matrix(stats::rnorm(probes * n), probes) * rep(sqrt(state$D), each = probes)
          .Call(C_laplace_solves, wide, state$coef, e, FALSE) + crossprod(matrix(stats::rnorm(m * probes), m), gp$V)
        })
        each <- conjugate_gradients(multiply, precondition, xi, 1e-6)$log
        list(value = sum(log(state$D)) + 2 * sum(log(diag(state$root))) + mean(each),
             se = stats::sd(each) / sqrt(probes))
      })
  }
}
