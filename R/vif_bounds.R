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
  flat <- of_columns(fit) & fit$bounded == "upper"
  constant <- fit$bounded == "constant"
  ends <- paste(names(fit$bounded), fit$bounded)
  of_family <- ends %in% names(family_limits)
  advice <- c(if (any(flat)) {
    if (sum(flat) == 1) {
      paste("Along this column the process is constant or a straight line. If it does not depend on the column, this",
            "can be left out; a straight line belongs to the mean")
    } else {
      paste("Along these columns the process is constant or a straight line. Those that it does not depend on, as is",
            "usual where inputs are screened, can be left out; straight lines belong to the mean")
    }
  }, if (any(constant)) {
    paste("Nothing depends on the lengthscale of a constant column, though it counts as a parameter: leave the",
          if (sum(constant) == 1) "column out" else "columns out")
  }, family_limits[ends[of_family]],
  if (!all(flat | constant | of_family)) "The data do not determine it: hold it fixed, or simplify the model")
  warning(warningCondition(
    paste0("vif_fit(): ", describe_bounds(fit), ". ", paste(advice, collapse = ". ")),
    class = "vif_bound", call = NULL))
}

# What a parameter of a family means at the end of its range.
family_limits <- c(
  "size upper" = "The counts vary no more than those of poisson()",
  "shape upper" = "The responses show no noise beside the process: gaussian() of their logarithm may serve",
  "precision upper" = "The responses show no noise beside the process",
  "df upper" = "The noise is normal: gaussian() may serve",
  "scale lower" = "The responses show no noise beside the process"
)

# Lengthscales of columns, or groups of them, with or without names.
of_columns <- function(fit) grepl("^lengthscale.", names(fit$bounded))

# Lengthscales of columns that have gone the same way are told together.
describe_bounds <- function(fit) {
  value <- coefficients_of(fit, "covariance")[names(fit$bounded)]
  kind <- ifelse(of_columns(fit), fit$bounded, names(fit$bounded))
  together <- split(seq_along(kind), factor(kind, unique(kind)))
  paste(vapply(together, function(own) {
    side <- fit$bounded[[own[1]]]
    one <- length(own) == 1
    how <- if (side == "constant") {
      if (one) "is that of a constant column" else "are those of constant columns"
    } else {
      paste(if (one) "has" else "have", "run to the", side, "end of", if (one) "its range" else "their range")
    }
    size <- if (one) format(value[[own]], digits = 4) else {
      # those of one range are flat somewhere near its end
      wide <- range(value[own])
      if (wide[2] < 1.5 * wide[1]) wide <- exp(mean(log(wide)))
      paste("about", paste(format_each(signif(wide, if (length(wide) == 1) 1 else 2)), collapse = " to "))
    }
    sprintf("%s %s (%s)", paste(names(fit$bounded)[own], collapse = ", "), how, size)
  }, ""), collapse = ", ")
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
