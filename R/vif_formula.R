# Fits by formula: one model frame for response, covariates and inputs.

#' @rdname vif_fit
#' @param formula The model of the mean, `response ~ covariates`, as in [stats::lm()]; an `offset()` is part of the
#'   mean.
#' @param coords The inputs of the Gaussian process: a one-sided formula such as `~ lon + lat` (`~ .` for all columns
#'   but the response), whose terms may be functions (`~ sphere_points(lon, lat) + day`); the names of
#'   columns of `data`; or a matrix or data frame with named columns, one row for each row of `data`. For `data` of
#'   class `"sf"` it may be missing: the inputs are the points' coordinates, on the sphere in kilometres where these are
#'   longitude and latitude. Name the geometry column to add others: `~ geometry + day`.
#' @param data Data frame, tibble or sf object with the variables of both formulas.
#' @param subset,na.action As in [stats::lm()]; by default rows with missing values are left out. The
#'   formula method looks up `noise_variance`, `weights` and `offset` in `data` too, so that they lose the same rows.
#' @export
vif_fit.formula <- function(formula, coords, data = environment(formula), subset, na.action = stats::na.omit,
                            noise_variance = NULL, weights = NULL, offset = NULL, family = stats::gaussian(), ...) {
  if (!is.data.frame(data) && !is.environment(data) && !(is.list(data) && !is.object(data)) && !is.null(data)) {
    refuse("data", paste0("a data frame, or missing", if (inherits(data, "Spatial")) " (sf::st_as_sf() makes one)"),
           describe(data))
  }
  if (is.list(data) && !is.data.frame(data)) { # model frames take a list for a data frame
    data <- tryCatch(as.data.frame(data, optional = TRUE), error = function(e) {
      refuse("data", "a data frame, or missing", "a list that is none")
    })
  }
  if ("X" %in% ...names()) {
    refuse("X", "left out with a formula, which has the mean (y ~ 1 for a constant, y ~ 0 for mean zero)",
           describe(list(...)$X))
  }
  if (missing(coords) && !inherits(data, "sf")) {
    odd <- setdiff(...names(), c("", "neighbors", names(formals(vif_fit.default))))
    if (length(odd)) {
      hint <- argument_hints
      if (!odd[1] %in% names(hint)) hint[odd[1]] <- "did you mean `coords`?"
      do.call(check_dots, c(stats::setNames(list(NULL), odd[1]), list(hint = hint)))
    }
  } else if (missing(data) && is.data.frame(coords) && all(all.vars(formula[[2]]) %in% names(coords))) {
    refuse("coords", "a formula of the inputs, their names or a matrix", "the data (did you mean `data =`?)")
  }
  place <- place_of(if (missing(coords)) NULL else given_coords(coords), data, formula)
  data <- place$data
  if (place$sphere && !is.null(wanted <- list(...)$anisotropy) && !isFALSE(wanted)) {
    refuse("anisotropy", "FALSE for longitude and latitude, which are no plane (sf::st_transform() projects them)",
           describe(wanted))
  }
  full <- stats::terms(formula, data = if (is.data.frame(data)) data[setdiff(names(data), place$column)])
  if (!attr(full, "response")) refuse("formula", "one with a response, such as y ~ 1", deparse1(formula))
  is_random <- function(term) is.call(term) && deparse1(term[[1]]) %in% c("|", "||")
  random <- Filter(is_random, as.list(attr(full, "variables")))
  if (length(random)) {
    refuse("formula", "without random effects, which are not offered (a factor is a fixed effect)",
           paste0("one with (", deparse1(random[[1]]), ")"))
  }
  check_variables(stats::formula(full), place$coords, data)
  call <- match.call(expand.dots = FALSE)
  frame <- call[c(1, match(c("subset", "noise_variance", "weights", "offset"), names(call), 0))]
  frame[[1]] <- quote(stats::model.frame)
  frame$formula <- joint_formula(stats::formula(full), place$coords)
  frame$data <- data
  frame$na.action <- na.action
  frame$drop.unused.levels <- TRUE
  frame <- tryCatch(eval(frame, parent.frame()), error = function(e) refuse_length(e))
  if (nrow(frame) < 2) {
    refuse("data", "of two complete rows or more", paste("of", nrow(frame), "after missing values are left out"))
  }
  refuse_units(frame[-1], "data")
  inputs <- coordinates(place$coords, frame)
  if (!place$sphere) tell_degrees(inputs)
  terms <- remember(full, frame)
  X <- stats::model.matrix(terms, frame)
  y <- stats::model.response(frame)
  offset <- stats::model.offset(frame)
  # a Gaussian fit has what the offset leaves, others have it in the linear predictor
  moved <- !is.null(offset) && is_gaussian(family)
  fit <- vif_fit.default(if (moved) y - offset else y, inputs,
                         X = if (ncol(X)) X, noise_variance = frame[["(noise_variance)"]],
                         weights = frame[["(weights)"]], family = family, offset = if (!moved) offset, ...)
  if (moved) {
    fit$y <- fit$y + offset
    fit$offset <- offset
  }
  fit$call <- as_call(match.call())
  fit$formula <- stats::formula(full)
  fit$coords <- place$coords
  fit$place <- place[c("column", "origin")]
  fit$columns <- intersect(c(all.vars(full), all.vars(place$coords), all.vars(call$offset)),
                           if (is.data.frame(data)) names(data))
  fit$terms <- terms
  fit$coords_terms <- remember(stats::terms(place$coords), frame)
  fit$xlevels <- stats::.getXlevels(terms, frame)
  fit$contrasts <- attr(X, "contrasts")
  fit$na.action <- attr(frame, "na.action")
  fit$model <- frame
  sealed(fit)
}

# What model.frame() says of an argument of another length, in the words of this package.
refuse_length <- function(e) {
  arg <- sub(".*found for '\\((.*)\\)'.*", "\\1", conditionMessage(e))
  if (arg == conditionMessage(e)) stop(e)
  refuse(arg, "a column of `data`, or a vector with a value for each row", "of another length")
}

# What `coords` is; an expression of columns, as other packages take it, is none.
given_coords <- function(coords) {
  tryCatch(coords, error = function(e) {
    refuse("coords", 'a one-sided formula such as ~ x + y, names such as c("x", "y"), or a matrix',
           paste0("something else (", conditionMessage(e), ")"))
  })
}

# Where inputs come from: a one-sided formula, the data that it reads, and, for inputs that are not columns of
# the user's data, the name of the matrix column that holds them and how to make it from new data.
place_of <- function(coords, data, formula) {
  column <- origin <- NULL
  if (inherits(data, "sf")) {
    spatial <- sf_inputs(data)
    data <- spatial$data
    column <- spatial$column
    origin <- spatial$origin
    if (is.null(coords)) coords <- stats::reformulate(quoted_name(column), env = environment(formula))
  }
  wanted <- "a one-sided formula such as ~ lon + lat, names of columns of `data`, or a matrix"
  if (is.null(coords)) refuse("coords", wanted, "missing")
  if (is.character(coords)) {
    if (!length(coords) || anyNA(coords)) refuse("coords", wanted, describe(coords))
    absent <- setdiff(coords, if (is.data.frame(data)) names(data) else ls(data))
    if (length(absent)) refuse("coords", "names of columns of `data`", paste0('"', absent[1], '"'))
    coords <- stats::reformulate(vapply(coords, quoted_name, ""), env = environment(formula))
  } else if (is.matrix(coords) || is.data.frame(coords)) {
    given <- given_inputs(coords, data)
    data <- given$data
    column <- given$column
    origin <- given$origin
    coords <- stats::reformulate(column, env = environment(formula))
  }
  if (!inherits(coords, "formula") || length(coords) != 2) refuse("coords", wanted, describe(coords))
  if ("." %in% all.vars(coords)) {
    if (!is.data.frame(data)) refuse("data", "given where `coords` is ~ .", "missing")
    others <- setdiff(names(data), all.vars(formula[[2]]))
    coords <- stats::formula(stats::terms(coords, data = data[others]))
  }
  uses <- attr(stats::terms(coords), "factors") > 0
  if (length(uses) && (any(rowSums(uses) != 1) || any(colSums(uses) != 1))) {
    refuse("coords", "a sum of variables, such as ~ lon + lat (operators go into I())", deparse1(coords))
  }
  list(coords = coords, data = data, column = column, origin = origin, sphere = isTRUE(origin$sphere))
}

# What the formulas name must be in the data, or where the formula was written.
check_variables <- function(formula, coords, data) {
  if (!is.data.frame(data)) return(invisible())
  there <- function(name) name %in% names(data) || exists(name, envir = environment(formula))
  # a function, such as df() and t() are, may be an argument of another one, but is no variable
  is_function <- function(name) !name %in% names(data) && is.function(get0(name, environment(formula)))
  for (arg in c("formula", "coords")) {
    own <- if (arg == "formula") formula else coords
    names <- all.vars(own)
    variable <- names %in% variable_names(stats::terms(own))
    absent <- names[!vapply(names, there, NA) | variable & vapply(names, is_function, NA)]
    if (length(absent)) {
      known <- c(utils::head(names(data), 12), if (length(data) > 12) "...")
      refuse(arg, paste0("made of columns of `data` (", paste(known, collapse = ", "), ")"), paste("of", absent[1]))
    }
  }
}

# Inputs given as a matrix become a column of the data, so that subset and missing values meet the same rows.
given_inputs <- function(coords, data) {
  if (inherits(coords, "sf")) refuse("coords", "missing, with the sf object as `data`", "an sf object")
  refuse_units(coords, "coords")
  x <- as.matrix(coords)
  if (!is.numeric(x)) refuse("coords", "numeric in every column", describe(coords))
  names <- colnames(x)
  if (is.null(names) || !all(nzchar(names)) || anyDuplicated(names)) {
    refuse("coords", "with a name for every column, by which predict() finds them in new data", "without")
  }
  rownames(x) <- NULL
  if (is.data.frame(data)) {
    if (nrow(x) != nrow(data)) {
      refuse("coords", paste("of", counted(nrow(data), "row"), "as `data` is"), paste("of", nrow(x)))
    }
    data$.coords <- x
  } else {
    data <- list2env(list(.coords = x), parent = data)
  }
  list(data = data, column = ".coords", origin = list(kind = "columns", names = names))
}

quoted_name <- function(name) paste(deparse(as.name(name), backtick = TRUE), collapse = "")

# y ~ a + b and ~ lon + lat as y ~ a + b + (lon + lat): one model frame, so that rows stay together.
joint_formula <- function(formula, coords) {
  joint <- formula
  joint[[3]] <- call("+", formula[[3]], call("(", coords[[2]]))
  joint
}

# Terms that know, for new data, what poly(), scale() and the like found in the data of the fit, from the
# frame of both formulas.
remember <- function(terms, frame) {
  joint <- attr(frame, "terms")
  own <- match(variable_names(terms), variable_names(joint))
  attr(terms, "predvars") <- attr(joint, "predvars")[c(1, 1 + own)]
  attr(terms, "dataClasses") <- attr(joint, "dataClasses")[own]
  terms
}

variable_names <- function(terms) vapply(as.list(attr(terms, "variables"))[-1], deparse1, "")

# The columns of the inputs: a variable that is a matrix brings the names of its own columns.
coordinates <- function(coords, frame) {
  names <- variable_names(stats::terms(coords))
  if (!length(names)) refuse("coords", "a formula of at least one variable", deparse1(coords))
  parts <- lapply(names, function(name) {
    part <- frame[[name]]
    if (!is.numeric(part)) {
      refuse("coords", "a formula of numeric variables",
             paste0(deparse1(coords), ", where ", name, " is ", describe_kind(part),
                    if (inherits(part, c("Date", "POSIXt", "difftime"))) " (as.numeric() makes numbers of it)"))
    }
    part <- as.matrix(unclass(part))
    if (is.null(colnames(part))) {
      colnames(part) <- if (ncol(part) == 1) name else paste0(name, seq_len(ncol(part)))
    }
    part
  })
  x <- do.call(cbind, parts)
  rownames(x) <- NULL
  x
}

describe_kind <- function(x) if (is.null(x)) "missing" else paste("of class", class(x)[1])
