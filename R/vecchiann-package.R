#' vecchiann: exact residual-correlation neighbours
#'
#' A Vecchia approximation conditions every observation on a few earlier ones. When inducing points already carry the
#' large-scale part of a Gaussian process, the few that matter are those most correlated with it in the *residual*
#' process, and they are not its Euclidean neighbours. This package finds them exactly.
#'
#' Start with [gp_kernel()] and [residual_gp()], search with [residual_knn()], and hand the result to other packages
#' with [as_nnarray()], [as_nn2()] or [as_get_knn()].
#'
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale approximations for
#'   Gaussian processes. \doi{10.48550/arXiv.2507.05064}.
#' @keywords internal
#' @useDynLib vecchiann, .registration = TRUE, .fixes = "C_"
"_PACKAGE"

.onUnload <- function(libpath) {
  library.dynam.unload("vecchiann", libpath)
}
