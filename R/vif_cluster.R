# Fits on a cluster: the likelihood as a map over shards and a sum (src/vif/likelihood.h, "in steps"), and the search
# for conditioning sets as a map. The session keeps the data and the sets; workers keep their shards (R/cluster.R).

# Fits and stages with fewer points stay in the session.
least_points <- 4000

# The data of a stage with its shards on the workers, where there are workers and the stage is large enough.
shard_data <- function(data, settings) {
  if (is.null(settings$workers) || nrow(data$x) <= least_points) return(data)
  group <- settings$workers
  of <- settings$groups$of
  part <- space_cut(sweep(data$x, 2, settings$scale[if (is.null(of)) rep(1, ncol(data$x)) else of], `/`),
                    length(group$cluster))
  own <- part_rows(part, length(group$cluster))
  x <- data$x
  dimnames(x) <- NULL
  attr(x, "centre") <- .Call(C_points_centre, x, settings$kernel)
  shared <- list(x = x, k = settings$k, neighbours = settings$neighbours, kernel = settings$kernel,
                 jitter = settings$jitter, apart = any(data$extra != 0), extra = shortest(data$extra),
                 share = shortest(data$share))
  group_map(group, "worker_load", lapply(own, function(rows) list(shared, rows, shard_values(data, rows))))
  data$shards <- list(group = group, own = own, latest = new.env())
  data
}

# Values of some points: a column a point, the observation first; known noise; share of the nugget.
shard_values <- function(data, rows) {
  list(values = unname(rbind(data$y[rows], if (!is.null(data$X)) t(data$X[rows, , drop = FALSE]))),
       extra = data$extra[rows], share = data$share[rows])
}

# As structure_of(). A halo holds all ancestors of the points of its shard, because the information needs them;
# without inducing inputs the parents alone.
shard_structure <- function(at, data, settings) {
  shards <- data$shards
  kernel <- to_kernel(at, settings)
  inducing <- inducing_of(data$x, kernel, settings)
  sets <- group_map(shards$group, "worker_search", rep(list(list(kernel, unname(inducing), to_nugget(at, settings))),
                                                       length(shards$own)))
  id <- matrix(NA_integer_, nrow(data$x), ncol(sets[[1]]))
  for (w in seq_along(sets)) id[shards$own[[w]], ] <- sets[[w]]
  halo <- lapply(shards$own, ancestors, id = id, deep = nrow(inducing) > 0)
  wanted <- sort(unique(unlist(halo)))
  export <- lapply(shards$own, function(rows) rows[rows %in% wanted])
  group_map(shards$group, "worker_structure", lapply(seq_along(halo), function(w) {
    list(halo[[w]], shard_values(data, halo[[w]]), id[halo[[w]], , drop = FALSE], unname(inducing), export[[w]])
  }))
  list(at = at, inducing = inducing, id = id, halo = halo, export = export)
}

# Points, other than `rows`, on which these depend.
ancestors <- function(rows, id, deep) {
  seen <- logical(nrow(id))
  seen[rows] <- TRUE
  found <- logical(nrow(id))
  new <- rows
  while (length(new)) {
    parents <- id[new, ]
    mark <- logical(nrow(id))
    mark[parents[!is.na(parents)]] <- TRUE
    new <- which(mark & !seen)
    seen[new] <- found[new] <- TRUE
    if (!deep) break
  }
  which(found)
}

inducing_of <- function(x, kernel, settings) {
  if (is.matrix(settings$inducing)) return(settings$inducing)
  with_seed(settings$seed, choose_inducing(x, kernel, settings$inducing, "kmeans++", settings$threads))
}

# As evaluate(), in three steps, each of which sends a few m x m numbers.
shard_evaluate <- function(theta, structure, data, settings, derivatives = TRUE) {
  group <- data$shards$group
  kernel <- to_kernel(theta, settings)
  tryCatch({
    wanted <- if (derivatives) 2L else 0L
    plane <- derivatives && estimates_plane(settings)
    first <- shard_sums(group, "worker_first", rep(list(list(kernel, to_nugget(theta, settings), wanted, plane)),
                                                   length(group$cluster)))
    sizes <- first$answers[[1]]$sizes
    sizes[1] <- observations(data)
    halo <- derivatives && nrow(structure$inducing) > 0
    known <- .Call(C_shard_finish, sizes, 1L, double(), first$sums)
    second <- shard_sums(group, "worker_second", deliver(first$answers, known, structure, halo))
    known <- .Call(C_shard_finish, sizes, 2L, known, second$sums)
    third <- shard_sums(group, "worker_third", give_back(second$answers, known, structure, halo))
    found <- .Call(C_shard_finish, sizes, 3L, known, third$sums)
    data$shards$latest$theta <- theta
    if (!is.finite(found$loglik)) return(list(value = -Inf))
    found <- named_derivatives(found, kernel, ncol(data$x) + plane, plane || length(kernel$lengthscale) > 1, plane)
    list(value = found$loglik, theta = theta, evaluation = found,
         gradient = if (derivatives) to_theta_slope(found$gradient, theta, settings),
         fisher = if (derivatives) to_theta_information(found$fisher, theta, settings))
  }, error = function(e) {
    if (inherits(e, "vecchiann_cluster")) stop(e)
    list(value = -Inf, failure = conditionMessage(e))
  })
}

shard_sums <- function(group, what, each) {
  answers <- group_map(group, what, each)
  list(answers = answers, sums = Reduce(`+`, lapply(answers, `[[`, "sums")))
}

# Regressions of the points that others want go from their owners to the halos.
deliver <- function(answers, known, structure, halo) {
  if (!halo) return(lapply(answers, function(answer) list(known)))
  rows <- do.call(cbind, lapply(answers, `[[`, "rows"))
  from <- unlist(structure$export)
  lapply(structure$halo, function(points) list(known, rows[, match(points, from), drop = FALSE]))
}

# What halos say of points goes back to their owners and is added up there, shard by shard.
give_back <- function(answers, known, structure, halo) {
  if (!halo) return(lapply(answers, function(answer) list(known)))
  lapply(structure$export, function(points) {
    total <- matrix(0, nrow(answers[[1]]$rows), length(points))
    for (w in seq_along(answers)) {
      at <- match(structure$halo[[w]], points)
      total[, at[!is.na(at)]] <- total[, at[!is.na(at)]] + answers[[w]]$rows[, !is.na(at)]
    }
    list(known, total)
  })
}

# An evaluation with what predictions need of each point; regressions only of fits that keep them, see lean_fit().
shard_complete <- function(at, structure, data, settings) {
  if (!identical(data$shards$latest$theta, at$theta)) shard_evaluate(at$theta, structure, data, settings, FALSE)
  state <- shard_state(data, coef = as.double(length(data$y)) * nrow(structure$inducing) <= large_features)
  at$evaluation[names(state)] <- state
  at
}

# What predictions need of the last evaluation, in the order of the data.
shard_state <- function(data, coef) {
  parts <- group_map(data$shards$group, "worker_state", rep(list(list(coef)), length(data$shards$own)))
  back <- order(unlist(data$shards$own))
  join <- function(name) unlist(lapply(parts, `[[`, name))[back]
  list(coef = if (coef) do.call(cbind, lapply(parts, `[[`, "coef"))[, back, drop = FALSE], D = join("D"),
       error = join("error"), residual = join("residual"))
}

# ---- on the workers: `own` is what they hold ----

worker_load <- function(own, shared, rows, values) {
  worker_release(own)
  own$local <- NULL
  own$shared <- shared
  own$rows <- rows
  own$values <- values
  own$memory <- vif_memory()
  NULL
}

# Sets of the points of the shard among all before them, by their numbers among all. Only candidates need features.
worker_search <- function(own, kernel, inducing, nugget) {
  shared <- own$shared
  x <- shared$x
  noise <- rep_len(nugget * shared$share + shared$extra, nrow(x))
  if (shared$neighbours == "residual") {
    gp <- new_residual_gp(x, kernel, inducing, 0, shared$jitter, own$threads)
    settings <- list(neighbours = "residual", k = shared$k, threads = own$threads)
    return(own$id <- neighbours_of(gp, noise, settings, queries = own$rows))
  }
  settings <- list(neighbours = "euclidean", threads = own$threads, k = shared$k)
  if (shared$neighbours == "selected") settings$k <- settings$k * candidates_for(x)
  own$id <- neighbours_of(list(x = x, kernel = kernel), noise, settings, queries = own$rows)
  if (shared$neighbours == "selected") {
    some <- sort(unique(c(own$rows, own$id)))
    gp <- new_residual_gp(points_of(x, some), kernel, inducing, 0, shared$jitter, own$threads)
    pool <- matrix(match(own$id, some), nrow(own$id))
    id <- .Call(C_selected_sets, gp, list(noise[some]), list(pool), shared$k, match(own$rows, some), NULL,
                own$threads)[[1]]
    own$id <- matrix(some[id], nrow(id))
  }
  own$id
}

# Some points as they stand in a process of all.
points_of <- function(x, rows) structure(x[rows, , drop = FALSE], centre = attr(x, "centre"))

worker_structure <- function(own, halo, values, id, inducing, export) {
  rows <- c(own$rows, halo)
  order <- order(rows, method = "radix")
  local <- function(points) match(points, rows[order])
  join <- function(name) c(own$values[[name]], values[[name]])[order]
  own$local <- list(
    x = points_of(own$shared$x, rows[order]), inducing = inducing, extra = join("extra"), share = join("share"),
    values = cbind(own$values$values, values$values)[, order, drop = FALSE],
    id = matrix(local(rbind(own$id, id)[order, ]), length(rows)),
    shard = list(own = as.raw(order <= length(own$rows)), number = rows[order] - 1L, apart = own$shared$apart)
  )
  own$at <- local(own$rows)
  own$halo <- local(halo)
  own$export <- local(export)
  NULL
}

worker_first <- function(own, kernel, nugget, wanted, plane = FALSE) {
  local <- own$local
  worker_release(own)
  gp <- new_residual_gp(local$x, kernel, local$inducing, 0, own$shared$jitter, own$threads)
  if (plane) gp <- in_plane_directions(gp)
  open <- .Call(C_shard_open, gp, nugget * local$share + local$extra, nugget * local$share, local$id, local$values,
                local$shard, wanted, length(gp$kernel$lengthscale) > 1, own$memory, own$threads)
  own$pointer <- open$pointer
  own$carries <- wanted > 0 && nrow(local$inducing) > 0
  c(open[c("sums", "sizes")],
    if (own$carries) list(rows = .Call(C_shard_rows, own$pointer, 0L, own$export, NULL)))
}

worker_second <- function(own, known, rows = NULL) {
  if (own$carries) .Call(C_shard_rows, own$pointer, 0L, own$halo, rows)
  sums <- .Call(C_shard_step, own$pointer, 2L, known)
  list(sums = sums, rows = if (own$carries) .Call(C_shard_rows, own$pointer, 1L, own$halo, NULL))
}

worker_third <- function(own, known, rows = NULL) {
  if (own$carries) .Call(C_shard_rows, own$pointer, 1L, own$export, rows)
  list(sums = .Call(C_shard_step, own$pointer, 3L, known))
}

worker_state <- function(own, coef) {
  state <- .Call(C_shard_state, own$pointer)
  list(coef = if (coef) state$coef[, own$at, drop = FALSE], D = state$D[own$at], error = state$error[own$at],
       residual = state$residual[own$at])
}

# Memory of the last evaluation.
worker_release <- function(own) {
  if (!is.null(own$pointer)) .Call(C_shard_close, own$pointer)
  own$pointer <- NULL
}

# A predictor of the fit that has come, which makes features of candidates only where it can.
worker_fit <- function(own, many, fit, k) {
  own$predict <- if (selects(fit, k)) selected_predictor(fit, k, many, own$threads) else {
    nearest_predictor(whole_fit(fit, own$threads), k, own$threads)
  }
  NULL
}

worker_predict <- function(own, ...) own$predict(...)
