# Object: what a process, a tree, a search or a fit must hold where one enters a function. It may come from a file or
# have been edited. The arrays of processes and trees are checked once a session, which C remembers.

# `remedy` says how to make the object again. A checksum is of the whole, so that no `part` is known where it differs.
damaged <- function(arg, part, remedy) {
  if (is.null(part)) {
    refuse(arg, paste0("as it was made (", remedy, " makes it again)"), "one that was changed or damaged")
  }
  refuse(arg, paste0("as it was made, and its parts must fit each other (", remedy, " makes it again)"),
         paste0("one whose `", part, "` was changed or damaged"))
}

# Elements must be there with their types: `wanted` are tests by name.
check_elements <- function(object, wanted, arg, remedy) {
  if (!is.list(object)) refuse(arg, "a list", typeof(object))
  for (name in names(wanted)) {
    if (!isTRUE(wanted[[name]](object[[name]]))) damaged(arg, name, remedy)
  }
}

is_number <- function(x) is.double(x) && length(x) == 1 && is.finite(x)
is_table <- function(x) is.double(x) && is.matrix(x)

remake_gp <- "residual_gp(), or residual_process(),"

check_gp <- function(gp, arg = "gp") {
  check_class(gp, "residual_gp", arg)
  if (.Call(C_gp_known, gp)) return(gp)
  own <- is.list(gp) && is.null(gp$inducing)
  check_elements(gp, list(
    x = function(x) is_table(x) && nrow(x) > 0 && ncol(x) > 0,
    nugget = function(nugget) is_number(nugget) && nugget >= 0,
    inducing = function(z) own || is_table(z) && ncol(z) == ncol(gp$x),
    jitter = function(jitter) if (own) is.null(jitter) else is_number(jitter) && jitter >= 0,
    V = function(V) is_table(V) && ncol(V) == nrow(gp$x) && (own || nrow(V) == nrow(gp$inducing)),
    chol = function(L) if (own) is.null(L) else is_table(L) && all(dim(L) == nrow(gp$V)),
    variance = function(variance) is.double(variance) && length(variance) == nrow(gp$x)
  ), arg, remake_gp)
  if (!identical(check_kernel(gp$kernel, ncol(gp$x)), gp$kernel)) damaged(arg, "kernel", remake_gp)
  if (all(is.finite(gp$x))) check_spread(gp$x, gp$kernel, paste0(arg, "$x"))
  part <- .Call(C_gp_damage, gp, thread_count(NULL))
  if (!is.null(part)) damaged(arg, part, remake_gp)
  gp
}

# A process that was just made needs no check.
known_gp <- function(gp) {
  .Call(C_gp_remember, gp)
  gp
}

tree_fields <- c("perm", "first", "count", "parent", "child", "children", "centre", "level")

check_tree <- function(tree, arg = "tree") {
  check_class(tree, "cover_tree", arg)
  if (!is.list(tree)) refuse(arg, "a list", typeof(tree))
  gp <- check_gp(tree$gp, paste0(arg, "$gp"))
  if (.Call(C_tree_known, tree)) return(tree)
  remedy <- sprintf("cover_tree(%s$gp)", arg)
  nodes <- length(tree$first)
  whole <- function(length) function(x) is.integer(x) && is.null(dim(x)) && length(x) == length
  wanted <- stats::setNames(lapply(c(nrow(gp$x), rep(nodes, 7)), whole), tree_fields)
  check_elements(tree, c(list(
    lengthscale = function(x) is.double(x) && length(x) %in% c(1, ncol(gp$x)) && all(is.finite(x) & x > 0),
    anisotropy = function(a) is.null(a) || is.double(a) && length(a) == 2 && all(is.finite(a)) && a[2] > 0,
    first = function(first) is.integer(first) && is.null(dim(first)) && nodes > 0,
    radius = function(radius) is.double(radius) && is.null(dim(radius)) && length(radius) == nodes,
    index = function(index) is.null(index) || is.raw(index)
  ), wanted), arg, remedy)
  part <- .Call(C_tree_damage, tree)
  if (!is.null(part)) {
    damaged(arg, part, paste0("the tree does not fit its points; ", remedy))
  }
  tree
}

# What a search found, with a checksum of its numbers.
sealed_neighbours <- function(parts, class) {
  parts$checksum <- neighbours_checksum(parts)
  structure(parts, class = class)
}

neighbours_parts <- c("id", "dist", "variance", "k", "nugget", "pool", "queries", "predecessors", "budget", "x",
                      "newdata", "inducing", "method", "note", "stats")

neighbours_checksum <- function(nn) .Call(C_numbers_print, unclass(nn)[neighbours_parts])

check_neighbours <- function(nn, arg = "nn") {
  check_class(nn, "residual_knn", arg)
  remedy <- if (inherits(nn, "conditioning_sets")) "conditioning_sets()" else "residual_knn()"
  own <- is.list(nn) && is.null(nn$newdata)
  check_elements(nn, list(
    x = function(x) is_table(x) && nrow(x) > 0,
    id = function(id) is.matrix(id) && is.integer(id) && ncol(id) > 0,
    dist = function(dist) is_table(dist) && identical(dim(dist), dim(nn$id)) && identical(is.na(dist), is.na(nn$id)),
    k = function(k) is.numeric(k) && identical(as.double(k), as.double(ncol(nn$id))),
    predecessors = is_flag,
    budget = function(budget) is.double(budget) && length(budget) == 1 && !is.na(budget),
    queries = function(queries) {
      is.null(queries) || is.integer(queries) && length(queries) == nrow(nn$id) && within(queries, 1, nrow(nn$x))
    },
    newdata = function(newdata) own || is_table(newdata) && nrow(newdata) == nrow(nn$id) && ncol(newdata) == ncol(nn$x),
    inducing = function(z) is.null(z) || is_table(z) && ncol(z) == ncol(nn$x),
    method = is_text,
    note = function(note) is.null(note) || is_text(note),
    stats = function(stats) is.null(stats) || is.numeric(unlist(stats))
  ), arg, remedy)
  if (!within(nn$id, 1, nrow(nn$x))) damaged(arg, "id", remedy)
  if (!within(nn$dist, 0, 1)) damaged(arg, "dist", remedy)
  if (own && is.null(nn$queries) && nrow(nn$id) != nrow(nn$x)) damaged(arg, "id", remedy)
  if (!identical(nn$checksum, neighbours_checksum(nn))) damaged(arg, NULL, remedy)
  nn
}

# What a fit holds beside its process, with a checksum of it.
fit_parts <- c("kernel", "nugget", "noise_variance", "weights", "coefficients", "n", "k", "y", "X", "offset", "order",
               "id", "theta", "fisher", "state", "vcov", "loglik", "loglik_se", "df", "iterations", "settings", "at",
               "first_at", "model", "na.action", "nugget_fixed", "converged", "message",
               "bounded", "neighbours")

# and of a fit by formula.
formula_parts <- c("coords", "terms", "coords_terms", "xlevels", "contrasts", "place", "columns")

sealed <- function(fit) {
  fit$checksum <- fit_checksum(fit)
  fit
}

# and beside that a fit of another family than gaussian().
laplace_parts <- c("phi", "counts", "latent_id", "linear.predictors", "family")

is_laplace <- function(object) !is.null(object$linear.predictors)

fit_checksum <- function(fit) {
  if (inherits(fit, "vif_sharded")) return(sharded_checksum(fit))
  parts <- c(fit_parts, if (is_laplace(fit)) laplace_parts)
  # predict() evaluates the argument `offset` in new data; stats::step() writes terms in place of the formula
  read <- c(unclass(fit)[formula_parts], list(if (is.call(fit$call)) fit$call$offset, inherits(fit$formula, "formula")))
  .Call(C_numbers_print, c(unclass(fit)[parts], unclass(fit$gp)[c("x", "inducing", "chol")], plain_parts(read),
                             list(names(fit$coefficients))))
}

# What a fit of shards holds; the connections to its workers are not the same in every session.
sharded_parts <- c("kernel", "nugget", "coefficients", "vcov", "loglik", "df", "n", "k", "converged", "message",
                   "iterations", "theta", "fisher", "settings", "inducing", "jitter", "nugget_fixed", "id", "state",
                   "bounded")

sharded_checksum <- function(fit) {
  shards <- if (is.list(fit$shards)) unclass(fit$shards)
  read <- shards[c("columns", "coding", "inputs", "n", "first", "box")]
  .Call(C_numbers_print, c(unclass(fit)[sharded_parts], plain_parts(read)))
}

check_sharded <- function(fit, arg = "object") {
  if (!is.list(fit)) refuse(arg, "a list", typeof(fit))
  if (!identical(fit$checksum, fit_checksum(fit))) damaged(arg, NULL, "vif_fit()")
  fit
}

# Formulas, terms and calls as lists of texts and numbers, with what their attributes say. Of environments, functions
# and pointers it is told that they are there: what they hold is another thing in every session.
plain_parts <- function(x) {
  if (is.null(x)) return(NULL)
  if (is.name(x)) return(as.character(x))
  if (!is.atomic(x) && !is.list(x) && !is.call(x)) return(typeof(x))
  about <- attributes(x)
  if (!is.atomic(x)) {
    x <- unclass(x)
    # an index left empty, as in x[, 1], is a name that no variable can hold
    x <- lapply(seq_along(x), function(i) if (is.name(x[[i]])) as.character(x[[i]]) else plain_parts(x[[i]]))
  }
  list(x, names(about), lapply(unname(about), plain_parts))
}

check_fit <- function(fit, arg = "object") {
  check_class(fit, "vif", arg)
  remedy <- "vif_fit()"
  check_elements(fit, list(
    gp = function(gp) inherits(gp, "residual_gp"), state = is.list, n = is_whole_number, k = is_whole_number,
    id = function(id) is.matrix(id) && is.integer(id), order = is.integer, nugget = is_number, neighbours = is_text,
    loglik = is_number, df = is_whole_number, iterations = is_whole_number, message = is_text,
    converged = is_flag, nugget_fixed = is_flag, call = function(call) is.null(call) || is.call(call)
  ), arg, remedy)
  # a large fit is kept without features, see lean_fit()
  if (!is.null(fit$gp$V)) check_gp(fit$gp, paste0(arg, "$gp"))
  if (!identical(fit$checksum, fit_checksum(fit))) damaged(arg, NULL, remedy)
  if (is_laplace(fit)) check_elements(fit, list(family = function(family) {
    inherits(family, "family") && is_text(family$family) && is_text(family$link)
  }), arg, remedy)
  if (nrow(fit$gp$x) != fit$n || nrow(fit$gp$inducing) != length(fit$state$b)) damaged(arg, "gp", remedy)
  fit
}

is_text <- function(x) is.character(x) && length(x) == 1 && !is.na(x)
is_whole_number <- function(x) is.numeric(x) && length(x) == 1 && is.finite(x) && x == round(x)

# Missing ones aside.
within <- function(x, least, most) {
  if (all(is.na(x))) return(TRUE)
  ends <- range(x, na.rm = TRUE)
  ends[1] >= least && ends[2] <= most
}
