# Parameters that the data do not determine, and columns of long lengthscales.

# Covariance parameters at a bound of the search, or within a factor e of it where the likelihood is so flat that the
# search may end anywhere: "lower" or "upper", by name. `fisher` is the information, NULL if there is none. Lengthscales
# of columns of `x` that are constant stay where the search began: "constant".
at_bounds <- function(theta, settings, fisher = NULL, x = NULL) {
  bounds <- theta_bounds(settings)
  flat <- if (is.null(fisher)) TRUE else !(diag(fisher)[seq_along(theta)] > 1)
  near <- ifelse(flat, 1, 0.01)
  side <- ifelse(theta < bounds$lower + near, "lower", ifelse(theta > bounds$upper - near, "upper", NA))
  names(side) <- names(theta)
  stretch <- is_stretch(names(side))
  side[stretch & !is.na(side)] <- "lower"
  # noise of which there is none, as far as the data say
  if (!is.null(fisher) && "nugget" %in% names(theta)) {
    none <- fisher["nugget", "nugget"] < 0.01 && theta[["nugget"]] < theta[["variance"]] - 5
    if (none) side["nugget"] <- "lower"
  }
  if (!is.null(x)) {
    group <- settings$groups$of %or% rep(1, ncol(x))
    varies <- apply(x, 2, function(column) any(column != column[1]))
    side[settings$groups$names[setdiff(group, group[varies])]] <- "constant"
  }
  names(side)[stretch] <- "ratio"
  side <- side[!is.na(side)]
  side[!duplicated(names(side))]
}

# A nugget near zero that is not at its bound is a statement about the data, and no reason to warn.
warn_bounds <- function(fit) {
  no_noise <- isTRUE(fit$theta["nugget"] > theta_bounds(fit$settings)$lower["nugget"] + 1)
  if (no_noise) fit$bounded <- fit$bounded[names(fit$bounded) != "nugget"]
  # told by ran_away()
  if (!is.null(fit$settings$most)) fit$bounded <- fit$bounded[names(fit$bounded) != "variance"]
  if (!length(fit$bounded)) return(invisible())
  flat <- grepl("^lengthscale\\..", names(fit$bounded)) & fit$bounded == "upper"
  constant <- fit$bounded == "constant"
  advice <- c(if (any(flat)) {
    paste("Along such a column the process is constant or a straight line: the column can be left out, or put into the",
          "mean if it matters")
  }, if (any(constant)) {
    paste("Nothing depends on the lengthscale of a constant column, though it counts as a parameter: leave the column",
          "out")
  }, if (!all(flat | constant)) "The data do not determine it: hold it fixed, or simplify the model")
  warning(warningCondition(
    paste0("vif_fit(): ", describe_bounds(fit), ". ", paste(advice, collapse = ". ")),
    class = "vif_bound", call = NULL))
}

describe_bounds <- function(fit) {
  value <- coefficients_of(fit, "covariance")[names(fit$bounded)]
  how <- ifelse(fit$bounded == "constant", " is that of a constant column",
                paste0(" has run to the ", fit$bounded, " end of its range"))
  paste0(names(fit$bounded), how, " (", format_each(value), ")", collapse = ", ")
}

bounds_title <- function(fit) if (all(fit$bounded == "constant")) "without information" else "at a bound"

format_each <- function(x, digits = 4) vapply(x, format, "", digits = digits)

# Columns of the inputs that hardly matter, or matter as a smooth trend (where the variance of the process is large):
# their lengthscale is more than 20 times their range.
long_columns <- function(fit) {
  lengthscale <- fit$kernel$lengthscale
  x <- fit$gp$x
  if (length(lengthscale) == 1 || length(lengthscale) != ncol(x)) return(character())
  spread <- apply(x, 2, function(column) diff(range(column)))
  input_names(x)[lengthscale > 20 * spread & spread > 0]
}
