# Calls of every routine of src/r/entry.h as the package itself makes them at small sizes: for tests that let memory fail, and
# for tools/sanitize.R, which lets R's collector run at every allocation.

# What reaches the routines.
small_problems <- function() {
  set.seed(1)
  x <- matrix(runif(120), 60)
  y <- sin(6 * x[, 1]) + rnorm(60, sd = 0.1)
  kernel <- gp_kernel("matern32", lengthscale = 0.3)
  for (selection in c("kmeans++", "maxmin")) gp <- residual_gp(x, kernel, inducing = 6, selection = selection, seed = 1)
  copies <- residual_gp(x[rep(1:20, 4), ], gp_kernel("rbf", lengthscale = 0.2), inducing = x[1:3, ], nugget = 0.1)
  own <- residual_process(x, kernel, gp$V, gp$variance)
  tree <- cover_tree(gp)
  wide <- matrix(runif(4000), ncol = 2) # an index wants some points
  kept <- lapply(list(
    subspaces = residual_gp(wide[1:1500, ], gp_kernel("matern52", 2, 0.2), wide[1:8, ]),
    expansions = residual_gp(wide, gp_kernel("matern12", lengthscale = 0.02), wide[1:30, ]),
    integers = residual_gp(matrix(runif(6000), ncol = 6), gp_kernel("matern32", lengthscale = 0.5), 20, seed = 1)
  ), cover_tree)
  .Call(C_tree_seal, kept[[1]]$index)
  forms <- c("integers", "landmarks", "expansions", "dense")
  laws <- lapply(forms, function(form) index_tree(unclass(tree), 1, form))[[1]]
  .Call(C_form_laws, laws, 3, NULL, FALSE, FALSE)
  .Call(C_form_laws, laws, 3, NULL, TRUE, FALSE)
  .Call(C_form_laws, laws, 3, new_points(gp, x[1:3, ] + 0.01, 1L), FALSE, TRUE)
  for (object in c(list(gp, own, copies, tree), unname(kept))) {
    if (inherits(object, "cover_tree")) .Call(C_tree_index_fields, object$gp, object)
    new <- (if (inherits(object, "cover_tree")) object$gp else object)$x[1:3, ] + 0.01
    some <- c(40L, 7L, 60L)
    for (method in c("brute", "level", "best_first")) residual_knn(object, 3, queries = some, method = method)
    residual_knn(object, 3, method = "level")
    residual_knn(object, 3, queries = some, predecessors = TRUE)
    residual_knn(object, 3, predecessors = TRUE, method = "level")
    residual_knn(object, 3, queries = some, budget = 20)
    if (!is.null(object$inducing) || inherits(object, "cover_tree")) residual_knn(object, 3, new)
  }
  residual_correlation(gp, 1:2, 3:5)
  residual_correlation(gp, newdata = x[1:2, ] + 0.1)
  again <- unserialize(serialize(tree, NULL)) # which this session has not seen
  check_tree(again)
  conditioning_sets(gp, 3, 0.1)
  conditioning_sets(tree, 3, rep(0.1, 60), newdata = x[1:2, ] + 0.1)
  nn <- residual_knn(gp, 3, predecessors = TRUE)
  vif_factor(gp, nn, 0.1)
  vif_loglik(y, gp, nn, 0.1, cbind(1, x), gradient = TRUE)
  bare <- featureless(x, gp) # of which large fits are made
  .Call(C_selected_sets, bare, list(rep(0.1, 60)), list(nn$id), 2L, NULL, NULL, 1L)
  vif_evaluate(y, bare, unname(nn$id), rep(0.1, 60), NULL, 1L, TRUE, TRUE, 0.1)
  order_maxmin(x)
  order_maxmin(x[rep(1:20, 3), ])
  vecchiann_info(1)
  .Call(C_kernel_slopes, unclass(kernel), c(0.1, 2))
  .Call(C_points_centre, x, kernel)
  .Call(C_tree_invariant, tree, x, kernel$lengthscale)
  fit <- suppressWarnings(vif_fit(y, x, cbind(rep(1, 60)), gp_kernel("matern", smoothness = 1.2), inducing = 6, k = 4,
                                  iterations = 2, seed = 1, progress = FALSE)) # so few do not converge
  predict(fit, x[1:3, ] + 0.02, newX = cbind(rep(1, 3)), interval = "prediction", progress = FALSE)
  residuals(fit, "loo")
  simulate(fit, seed = 1)
  counts <- suppressWarnings(vif_fit(rpois(60, exp(y)), x, cbind(rep(1, 60)), inducing = 6, k = 4, family = poisson(),
                                     iterations = 2, seed = 1, progress = FALSE))
  suppressWarnings(predict(counts, x[1:3, ] + 0.02, newX = cbind(rep(1, 3)), progress = FALSE))
  latent_loglik(counts, method = "iterative", probes = 4)
}

# The expression with all calls of .Call turned into calls of `to`.
redirected <- function(expression, to) {
  if (is.call(expression)) {
    if (identical(expression[[1]], quote(.Call))) expression[[1]] <- to
    for (i in seq_along(expression)) {
      if (!identical(expression[[i]], quote(expr = ))) expression[i] <- list(redirected(expression[[i]], to))
    }
  } else if (is.pairlist(expression) && length(expression)) {
    expression <- as.pairlist(lapply(expression, function(e) if (identical(e, quote(expr = ))) e else redirected(e, to)))
  }
  expression
}

# A list of list(routine, arguments) with the names of the routines, at most `most` of each and as different as their
# arguments' types.
entry_calls <- function(most = 30) {
  space <- asNamespace("vecchiann")
  seen <- list()
  kind <- function(argument) if (is.character(argument) || is.logical(argument)) argument else c(typeof(argument), names(argument))
  to <- function(routine, ...) {
    arguments <- list(...)
    of <- vapply(seen, function(call) call$routine, "") == routine$name
    first <- if (length(arguments)) dim(if (is.list(arguments[[1]])) arguments[[1]]$x else arguments[[1]])
    what <- list(lapply(arguments, kind), first, if (routine$name == "residual_knn") length(arguments[[2]]$index))
    old <- vapply(seen[of], function(call) identical(call$kind, what), NA)
    if (!any(old) && sum(of) < most) {
      seen[[length(seen) + 1]] <<- list(routine = routine$name, arguments = arguments, kind = what)
    }
    do.call(".Call", c(list(routine), arguments), quote = TRUE)
  }
  functions <- Filter(function(name) is.function(space[[name]]), ls(space, all.names = TRUE))
  before <- mget(functions, space)
  put <- function(name, value) {
    unlockBinding(name, space)
    assign(name, value, space)
    lockBinding(name, space)
  }
  on.exit(for (name in functions) put(name, before[[name]]))
  for (name in functions) {
    if (".Call" %in% all.names(body(before[[name]]))) {
      value <- before[[name]]
      body(value) <- redirected(body(value), to)
      put(name, value)
    }
  }
  before_threads <- options(vecchiann.threads = 1)
  on.exit(options(before_threads), add = TRUE)
  problems <- small_problems
  body(problems) <- redirected(body(problems), to)
  environment(problems) <- new.env(parent = space) # an attached package has functions of its own
  problems()
  names(seen) <- vapply(seen, function(call) call$routine, "")
  seen
}

# Calls one again. A vif_memory() is a new one each time, because it keeps what it was given.
call_entry <- function(call) {
  pointers <- vapply(call$arguments, typeof, "") == "externalptr"
  if (any(pointers)) call$arguments[pointers] <- list(.Call(vecchiann:::C_vif_memory))
  routine <- get(paste0("C_", call$routine), asNamespace("vecchiann"))
  do.call(".Call", c(list(routine), call$arguments), quote = TRUE)
}
