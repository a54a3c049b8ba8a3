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
    frame <- parents[frame]
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
  if (is.data.frame(x)) x <- as_numeric_frame(x, arg)
  if (!is.numeric(x) || is.factor(x) || length(dim(x)) > 2) {
    refuse(arg, "a numeric matrix, data frame or vector", describe(x))
  }
  if (length(dim(x)) == 1) x <- as.vector(x)
  if (is.null(dim(x))) x <- matrix(x, ncol = 1, dimnames = if (!is.null(names(x))) list(names(x), NULL))
  if (nrow(x) < least) refuse(arg, "of one row or more", paste("of size", paste(dim(x), collapse = " x ")))
  if (ncol(x) < 1) refuse(arg, "of one column or more", paste("of size", paste(dim(x), collapse = " x ")))
  if (!is.null(columns) && ncol(x) != columns) {
    refuse(arg, paste("of", counted(columns, "column"), "as `x` is"), paste("of", ncol(x)))
  }
  check_finite(matrix(as.double(x), nrow(x), ncol(x), dimnames = dimnames(x)), arg)
}

as_numeric_frame <- function(x, arg) {
  odd <- which(!vapply(x, is.numeric, NA))
  if (length(odd)) {
    refuse(arg, "numeric in every column",
           sprintf('%s in column "%s"', class(x[[odd[1]]])[1], names(x)[odd[1]]))
  }
  data.matrix(x)
}

check_finite <- function(x, arg) {
  # The sum is finite only if every entry is: no logical copy of x where all is well.
  if (is.finite(sum(x))) return(x)
  bad <- which(!is.finite(x))
  if (!length(bad)) return(x)
  at <- if (is.matrix(x)) paste0("row ", row(x)[bad[1]], ", column ", col(x)[bad[1]]) else paste("position", bad[1])
  refuse(arg, "finite everywhere", paste0(x[bad[1]], " (", at, ")"))
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

check_flag <- function(x, arg) {
  if (!isTRUE(x) && !isFALSE(x)) refuse(arg, "TRUE or FALSE", describe(x))
  x
}

check_choice <- function(x, choices, arg) {
  if (identical(x, choices)) return(choices[1])
  if (!is.character(x) || length(x) != 1 || !x %in% choices) {
    refuse(arg, paste("one of", paste0('"', choices, '"', collapse = ", ")), describe(x))
  }
  x
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
