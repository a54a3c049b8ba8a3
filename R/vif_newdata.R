# New inputs and covariates of a fit, from what predict() and its kin are given.

# Inputs, covariates and offsets of the observations, in the order of the data.
fitted_inputs <- function(object) {
  back <- order(object$order)
  list(x = object$gp$x[back, , drop = FALSE], X = object$X, offset = object$offset)
}

# The same of new data, with `complete`: which rows have no missing value. The others are left for the caller to fill.
new_inputs <- function(object, newdata, newX = NULL, newoffset = NULL) {
  new <- if (is.null(object$formula)) {
    inputs_by_matrix(object, newdata, newX)
  } else {
    if (!is.null(newX)) refuse("newX", "NULL, as the fit has a formula", describe(newX))
    if (!is.null(newoffset)) refuse("newoffset", "NULL, as the fit has a formula", describe(newoffset))
    inputs_by_formula(object, newdata)
  }
  if (is.null(object$formula)) new$offset <- offset_by_matrix(object, nrow(new$x), newoffset)
  check_spread(new$x, object$gp$kernel, "newdata", object$gp$x)
  new$complete <- rowSums(is.na(new$x)) == 0
  if (!is.null(new$X)) new$complete <- new$complete & rowSums(is.na(new$X)) == 0
  if (!is.null(new$offset)) new$complete <- new$complete & !is.na(new$offset)
  new
}

# Of the new inputs some rows.
some_inputs <- function(new, rows) {
  list(x = new$x[rows, , drop = FALSE], X = new$X[rows, , drop = FALSE], offset = new$offset[rows])
}

inputs_by_matrix <- function(object, newdata, newX) {
  x <- check_like(newdata, object$gp$x, "newdata", least = 0, holes = TRUE)
  X <- object$X
  if (is.null(X)) {
    if (!is.null(newX)) refuse("newX", "NULL, as the fit has no covariates", describe(newX))
    return(list(x = x, X = NULL))
  }
  if (is.null(newX)) {
    if (!is_constant_mean(X)) {
      refuse("newX", paste("given, with the", counted(ncol(X), "column"), "of `X`"), "missing")
    }
    newX <- matrix(X[1], nrow(x), 1, dimnames = list(NULL, colnames(X)))
  }
  # a vector is one covariate, or the covariates of one point
  if (is.null(dim(newX)) && nrow(x) == 1) newX <- matrix(newX, 1, dimnames = list(NULL, names(newX)))
  if (is.null(dim(newX))) newX <- matrix(newX, ncol = 1)
  if (nrow(newX) != nrow(x) || ncol(newX) < ncol(X)) {
    refuse("newX", sprintf("%d x %d", nrow(x), ncol(X)), paste(dim(newX), collapse = " x "))
  }
  # names that the fit made up are not asked for
  given <- if (is.data.frame(newX)) names(newX) else colnames(newX)
  own <- colnames(X) == own_names(ncol(X))
  if (all(own) && !all(colnames(X) %in% given)) {
    colnames(X) <- NULL
    if (ncol(newX) != ncol(X)) refuse("newX", sprintf("%d x %d", nrow(x), ncol(X)), paste(dim(newX), collapse = " x "))
  }
  list(x = x, X = check_like(newX, X, "newX", least = 0, holes = TRUE))
}

offset_by_matrix <- function(object, n, newoffset) {
  if (is.null(object$offset)) {
    if (!is.null(newoffset)) refuse("newoffset", "NULL, as the fit has no offset", describe(newoffset))
    return(NULL)
  }
  if (is.null(newoffset)) {
    tell("offset", "the fit has an offset and no `newoffset` is given: predictions are for an offset of 0.")
    return(NULL)
  }
  if (!is.numeric(newoffset) || !length(newoffset) %in% c(1L, n)) {
    refuse("newoffset", paste("one number or", counted(n, "number")), describe(newoffset))
  }
  rep_len(check_finite(as.double(newoffset), "newoffset"), n)
}

refuse_lacking <- function(absent, newdata, hint = "") {
  many <- length(absent) > 1
  refuse("newdata", paste0("with column", if (many) "s", " ", paste(absent, collapse = ", "), hint),
         paste0("without ", if (many) "them" else "it", " (it has ", paste(names(newdata), collapse = ", "), ")"))
}

inputs_by_formula <- function(object, newdata) {
  newdata <- placed(object, newdata)
  terms <- stats::delete.response(object$terms)
  needed <- c(all.vars(object$coords), all.vars(terms), all.vars(object$call$offset))
  absent <- setdiff(intersect(needed, object$columns), names(newdata))
  if (length(absent)) {
    # functions that read a raster by its layers know no coordinates
    place <- all(absent %in% all.vars(object$coords))
    hint <- if (place) " (of rasters terra::interpolate() gives the coordinates, too)"
    refuse_lacking(absent, newdata, hint)
  }
  frame <- new_frame(terms, newdata, object$xlevels)
  check_kinds(frame, terms)
  if (length(frame) && nrow(frame) != nrow(newdata)) { # what newdata lacks was found in the session
    lacking <- setdiff(all.vars(terms), names(newdata))
    refuse("newdata", paste("with the variables of the formula,", paste(all.vars(terms), collapse = ", ")),
           paste("without", paste(lacking, collapse = ", ")))
  }
  X <- stats::model.matrix(terms, frame, contrasts.arg = object$contrasts)
  inputs <- new_frame(object$coords_terms, newdata)
  x <- coordinates(object$coords, inputs)
  if (nrow(x)) rownames(x) <- if (!identical(attr(newdata, "row.names"), seq_len(nrow(x)))) row.names(newdata)
  empty <- object$gp$x
  list(x = check_like(unnamed(x), unnamed(empty), "newdata", least = 0, holes = TRUE),
       X = if (ncol(X)) check_like(unname(X), unname(object$X), "newdata", least = 0, holes = TRUE),
       offset = new_offset(object, frame, newdata))
}

# Offsets of the formula and of the argument `offset`, which is evaluated in the new data.
new_offset <- function(object, frame, newdata) {
  home <- environment(object$formula)
  for (term in offset_terms(object$terms)) check_offset_variables(term, home, newdata)
  offset <- stats::model.offset(frame)
  if (is.null(object$call$offset)) return(offset)
  check_offset_variables(object$call$offset, home, newdata)
  more <- eval(object$call$offset, newdata, home)
  if (length(more) != nrow(newdata)) {
    refuse_offset(paste("of", counted(nrow(newdata), "row"), "where `offset` has", length(more)))
  }
  (offset %or% 0) + more
}

offset_terms <- function(terms) as.list(attr(terms, "variables"))[attr(terms, "offset") + 1]

# Variables of an offset must be in the new data: what the session holds under such a name is of other rows,
# unless it is one number.
check_offset_variables <- function(offset, home, newdata) {
  names <- all.vars(offset)
  there <- names %in% names(newdata)
  fixed <- vapply(names, function(name) length(get0(name, home)) == 1, NA)
  if (!any(there) || !all(there | fixed)) refuse_offset(paste("without", c(names[!there & !fixed], "any")[1]))
}

refuse_offset <- function(given) {
  refuse("newdata", "with the variables of `offset` (write it as a term offset() of columns of the data)", given)
}

unnamed <- function(x) {
  colnames(x) <- NULL
  x
}

# The model frame of new data. Its errors, on new levels of a factor above all, are told as errors of `newdata`.
new_frame <- function(terms, newdata, levels = NULL) {
  # what should be a factor and is none is left to check_kinds()
  levels <- levels[vapply(names(levels), function(name) {
    given <- newdata[[name]]
    is.null(given) || is.factor(given) || is.character(given)
  }, NA)]
  frame <- tryCatch(stats::model.frame(terms, newdata, na.action = stats::na.pass, xlev = levels), error = function(e) {
    stop(user_call(), "`newdata` does not fit the model: ", conditionMessage(e), ".", call. = FALSE)
  })
  refuse_units(frame, "newdata")
  frame
}

# Covariates must be of the kind that was fitted. A column of missing values is of any kind but a factor.
check_kinds <- function(frame, terms) {
  fitted <- attr(terms, "dataClasses")
  for (name in intersect(names(frame), names(fitted))) {
    same <- c(ordered = "factor", character = "factor")
    kinds <- c(fitted[[name]], stats::.MFclass(frame[[name]]))
    alike <- ifelse(kinds %in% names(same), same[kinds], kinds)
    empty <- is.logical(frame[[name]]) && all(is.na(frame[[name]])) && alike[1] != "factor"
    if (alike[1] != alike[2] && !empty) {
      refuse("newdata", paste0("with ", name, " of the kind that was fitted, ", kinds[1]), kinds[2])
    }
  }
}

# New data with the matrix column that holds the inputs, where the fit has one.
placed <- function(object, newdata) {
  origin <- object$place$origin
  if (inherits(newdata, "sf")) {
    if (identical(origin$kind, "sf")) return(sf_newdata(newdata, object$place))
    newdata <- as.data.frame(newdata)
  }
  if (is.matrix(newdata) && !is.null(colnames(newdata))) newdata <- as.data.frame(newdata)
  if (!is.data.frame(newdata)) {
    raster <- c(stars = "; the map of a stars object is predict(newdata, fit)",
                SpatRaster = "; the map of a raster is terra::interpolate(newdata, fit)")[class(newdata)[1]]
    refuse("newdata", "a data frame, as the fit has a formula", paste0(describe(newdata), if (!is.na(raster)) raster))
  }
  if (is.null(origin)) return(newdata)
  if (identical(origin$kind, "sf")) return(sf_from_columns(newdata, object$place))
  absent <- setdiff(origin$names, names(newdata))
  if (length(absent)) {
    refuse_lacking(absent, newdata)
  }
  newdata$.coords <- as.matrix(newdata[origin$names])
  newdata
}
