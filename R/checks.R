# Checks of what users hand in. One idiom for every message:
#   caller(): `argument` must be WANTED, not GIVEN.

refuse <- function(arg, wanted, given) {
  stop(user_call(), "`", arg, "` must be ", wanted, ", not ", given, ".", call. = FALSE)
}

# "residual_knn(): " for the function of this package that the user called. Frames are followed by
# parent, not by position on the stack, so that an argument that is itself a call of the package and
# evaluated lazily is blamed on its own function.
user_call <- function() {
  parents <- sys.parents()
  home <- topenv()
  frame <- length(parents)
  name <- NULL
  while (frame > 0) {
    if (identical(environment(sys.function(frame)), home)) {
      # a method is known to the user by its generic
      generic <- get0(".Generic", sys.frame(frame), mode = "character", inherits = FALSE)
      name <- if (is.null(generic)) sys.call(frame)[[1]] else as.name(generic)
    }
    # do.call() from an environment that is no frame makes a frame its own parent
    frame <- if (parents[frame] < frame) parents[frame] else 0
  }
  name <- paste(deparse(name), collapse = "")
  if (grepl("^(vecchiann:::?)?[[:alnum:]._]+$", name)) paste0(sub(".*:", "", name), "(): ")
}

# What was given, in a few words.
describe <- function(x) {
  if (is.null(x) || (is.atomic(x) && !is.object(x) && is.null(dim(x)) && length(x) %in% 1:5)) {
    return(deparse1(unname(x)))
  }
  type <- if (is.object(x)) class(x)[1] else typeof(x)
  size <- if (is.null(dim(x))) length(x) else paste(dim(x), collapse = " x ")
  if (is.function(x)) "a function" else sprintf('an object of class "%s", size %s', type, size)
}

# "1 point", "2 points"
counted <- function(n, what) {
  paste0(format(n, big.mark = ",", scientific = FALSE), " ", what, if (n != 1) "s")
}

# Points as a plain double matrix, one row a point; a vector is one column.
check_points <- function(x, arg, columns = NULL, least = 1) {
  refuse_units(x, arg)
  if (is.data.frame(x)) x <- as_numeric_frame(x, arg)
  if (!is.numeric(x) || is.factor(x) || length(dim(x)) > 2) {
    refuse(arg, "a numeric matrix, data frame or vector", describe(x))
  }
  if (length(dim(x)) == 1) x <- as.vector(x)
  if (is.null(dim(x))) x <- matrix(x, ncol = 1, dimnames = if (!is.null(names(x))) list(names(x), NULL))
  if (nrow(x) < least) {
    refuse(arg, paste("of", if (least > 1) counted(least, "row") else "one row", "or more"),
           paste("of size", paste(dim(x), collapse = " x ")))
  }
  if (ncol(x) < 1) refuse(arg, "of one column or more", paste("of size", paste(dim(x), collapse = " x ")))
  if (!is.null(columns) && ncol(x) != columns) {
    refuse(arg, paste("of", counted(columns, "column"), "as `x` is"), paste("of", ncol(x)))
  }
  check_finite(matrix(as.double(x), nrow(x), ncol(x), dimnames = dimnames(x)), arg)
}

# colnames(), also of arrays of one dimension, which have none.
column_names <- function(x) if (length(dim(x)) == 2) colnames(x)

# Names of the columns of inputs, made up where there are none.
input_names <- function(x) if (is.null(colnames(x))) paste0("x", seq_len(ncol(x))) else colnames(x)

# New rows for the columns of `like`, in its order: by name where both have names, by position otherwise.
# With `holes` missing values are let through.
check_like <- function(x, like, arg, least = 1, holes = FALSE) {
  x <- match_columns(x, colnames(like), arg)
  if (!holes) return(check_points(x, arg, ncol(like), least))
  if (is.data.frame(x)) {
    empty <- vapply(x, function(column) is.logical(column) && all(is.na(column)), NA)
    x[empty] <- lapply(x[empty], as.double)
    x <- as_numeric_frame(x, arg)
  }
  if (is.logical(x) && all(is.na(x))) storage.mode(x) <- "double"
  if (!is.numeric(x)) refuse(arg, "a numeric matrix, data frame or vector", describe(x))
  absent <- is.na(x)
  x[absent] <- 0
  x <- check_points(x, arg, ncol(like), least)
  x[absent] <- NA
  x
}

match_columns <- function(x, wanted, arg) {
  given <- if (is.data.frame(x)) names(x) else column_names(x)
  if (is.null(given) || is.null(wanted) || anyDuplicated(wanted) || !any(nzchar(given))) return(x)
  # columns without a name take the places that the others leave, in their order
  blank <- which(is.na(given) | !nzchar(given))
  free <- setdiff(wanted, given)
  if (length(blank) && length(blank) == length(free)) given[blank] <- free
  place <- match(wanted, given)
  if (anyNA(place) || anyDuplicated(given[given %in% wanted])) {
    listed <- function(names) paste(c(utils::head(names, 8), if (length(names) > 8) "..."), collapse = ", ")
    refuse(arg, paste0("with the columns ", listed(wanted), " (or without names, in this order)"),
           paste("with", listed(ifelse(nzchar(given), given, "one without a name"))))
  }
  if (identical(place, seq_along(given))) return(x)
  x[, place, drop = FALSE]
}

# A method takes `...` because its generic does; an argument that it does not know is an error. `hint` names, for
# arguments that users may expect, what to do instead.
check_dots <- function(..., hint = NULL) {
  if (!...length()) return(invisible())
  name <- c(...names(), "")[1]
  if (is.na(name)) name <- ""
  caller <- user_call()
  caller <- if (is.null(caller)) "this function" else sub(": ", "", caller, fixed = TRUE)
  advice <- if (name %in% names(hint)) paste0(": ", hint[[name]]) else meant(name)
  if (!nzchar(name)) {
    stop(user_call(), "one argument too many is given, of class ", class(...elt(1))[1], ".", call. = FALSE)
  }
  end <- if (!is.null(advice) && endsWith(advice, "?")) "" else "."
  stop(user_call(), "`", name, "` is not an argument of ", caller, advice, end, call. = FALSE)
}

# The argument, of the functions of this package that were called, whose name is nearly the one that was typed.
meant <- function(name) {
  called <- lapply(seq_len(sys.nframe()), sys.function)
  called <- called[vapply(called, function(f) identical(environment(f), topenv()), NA)]
  known <- setdiff(unlist(lapply(called, function(f) names(formals(f)))), c("...", "hint", "name", "read"))
  if (!length(known) || !nzchar(name)) return(NULL)
  distance <- drop(utils::adist(name, known, ignore.case = TRUE))
  if (min(distance) > 2 || min(distance) >= nchar(name) / 2) return(NULL)
  paste0("; did you mean `", known[which.min(distance)], "`?")
}

as_numeric_frame <- function(x, arg) {
  odd <- which(!vapply(x, is.numeric, NA))
  if (length(odd)) {
    refuse(arg, "numeric in every column",
           sprintf('%s in column "%s"', class(x[[odd[1]]])[1], names(x)[odd[1]]))
  }
  data.matrix(x)
}

# Numbers would be taken as they are, in whatever units.
refuse_units <- function(x, arg) {
  columns <- if (is.data.frame(x)) x else list(x)
  odd <- which(vapply(columns, inherits, NA, "units"))
  if (!length(odd)) return(invisible())
  refuse(arg, "of plain numbers, in units of your choice (units::drop_units() makes them)",
         paste0('of class "units"', if (is.data.frame(x)) paste(" in", names(x)[odd[1]])))
}

check_finite <- function(x, arg) {
  # The sum is finite only if every entry is: no logical copy of x where all is well.
  if (is.finite(sum(x))) return(x)
  bad <- which(!is.finite(x))
  if (!length(bad)) return(x)
  at <- if (is.matrix(x)) paste0("row ", row(x)[bad[1]], ", column ", col(x)[bad[1]]) else paste("position", bad[1])
  refuse(arg, "finite everywhere", paste0(x[bad[1]], " (", at, ")"))
}

# Squared distances must be numbers, those from other points, too. Missing values aside.
check_spread <- function(x, kernel, arg = "x", from = NULL) {
  ends <- vapply(seq_len(ncol(x)), function(l) range(x[, l], from[, l], na.rm = TRUE), numeric(2))
  spread <- (ends[2, ] / 2 - ends[1, ] / 2) / kernel$lengthscale
  if (!is.null(kernel$anisotropy)) spread <- spread / kernel$anisotropy[["ratio"]]
  if (!all(spread < 1e150)) {
    refuse(arg, "spread over less than 1e150 lengthscales", paste("over", format(2 * max(spread), digits = 3)))
  }
}

check_number <- function(x, arg, wanted, valid) {
  if (!is.numeric(x) || is.object(x) || length(x) != 1 || is.na(x) || !valid(x)) {
    refuse(arg, wanted, describe(x))
  }
  as.double(x)
}

check_positive <- function(x, arg) {
  check_number(x, arg, "a positive finite number", function(x) x > 0 && is.finite(x))
}

check_nonnegative <- function(x, arg) {
  check_number(x, arg, "a finite number of at least 0", function(x) x >= 0 && is.finite(x))
}

check_whole <- function(x, arg, least) {
  whole <- function(x) x >= least && x <= .Machine$integer.max && x == round(x)
  as.integer(check_number(x, arg, paste("a whole number of at least", least), whole))
}

is_flag <- function(x) isTRUE(x) || isFALSE(x)

check_flag <- function(x, arg) {
  if (!is_flag(x)) refuse(arg, "TRUE or FALSE", describe(x))
  x
}

check_choice <- function(x, choices, arg) {
  if (identical(x, choices)) return(choices[1])
  # the beginning of a choice is enough, as for match.arg()
  at <- if (is.character(x) && length(x) == 1) pmatch(x, choices) else NA
  if (is.na(at)) refuse(arg, paste("one of", paste0('"', choices, '"', collapse = ", ")), describe(x))
  choices[at]
}

check_class <- function(x, class, arg) {
  if (!inherits(x, class)) {
    refuse(arg, paste("a", paste(class, collapse = " or "), "object"), describe(x))
  }
  x
}

# Row ids between 1 and n; NULL, for all rows, stays NULL.
check_rows <- function(i, arg, n) {
  if (is.null(i)) return(NULL)
  wanted <- paste("row numbers from 1 to", n)
  if (!is.numeric(i) || is.object(i) || !length(i)) refuse(arg, wanted, describe(i))
  bad <- which(is.na(i) | i < 1 | i > n | i != round(i))
  if (length(bad)) refuse(arg, wanted, paste0(i[bad[1]], " (position ", bad[1], ")"))
  as.integer(i)
}
