#' vecchiann: Gaussian processes for large data
#'
#' Fits Gaussian process models to spatial, space-time and other data by maximum likelihood, from ten observations to a
#' million, checks them, and predicts from them.
#'
#' Start with [vif_fit()] and a formula; then [summary()][summary.vif], [plot()][plot.vif], [vif_cv()] and
#' [predict()][predict.vif]. Kernels are described by [gp_kernel()], and [sphere_points()] places longitudes and
#' latitudes in space.
#'
#' Underneath, a covariance is approximated by inducing inputs and, for what they leave, by conditioning every
#' observation on a few others: the VIF approximation. The parts can be used by themselves: [residual_gp()],
#' [residual_knn()] for the neighbours by residual correlation, [conditioning_sets()] for sets selected jointly,
#' [vif_loglik()] for the likelihood; [as_nnarray()], [as_nn2()], [as_get_knn()] and [as_gpgp()] hand neighbours and
#' parameters to other packages.
#'
#' @references Gyger, T., Furrer, R. and Sigrist, F. (2025). Vecchia-inducing-points full-scale approximations for
#'   Gaussian processes. \doi{10.48550/arXiv.2507.05064}.
#' @keywords internal
#' @useDynLib vecchiann, .registration = TRUE, .fixes = "C_"
"_PACKAGE"

.onUnload <- function(libpath) {
  library.dynam.unload("vecchiann", libpath)
}
