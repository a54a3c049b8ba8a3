# The work on shards that workers read: their frames, order, sets and predictions; the session's side is vif_shards.R.

# ---- boxes and frames ----

# Which boxes each point is in, or of those it is in none, is nearest to: a column for each box.
nearest_boxes <- function(x, boxes) {
  distance <- matrix(vapply(boxes, function(box) box_distance(x, box), numeric(nrow(x))),
                     nrow(x), length(boxes))
  distance == do.call(pmin, as.data.frame(distance))
}

box_distance <- function(x, box) {
  outside <- vapply(seq_len(ncol(x)), function(l) {
    pmax(min(box[, l]) - x[, l], x[, l] - max(box[, l]), 0)
  }, numeric(nrow(x)))
  sqrt(rowSums(matrix(outside, nrow(x))^2))
}

# A box around another one, whose corners an anisotropy turns.
box_in_lengthscales <- function(box, kernel) {
  corners <- as.matrix(expand.grid(lapply(seq_len(ncol(box)), function(l) range(box[, l]))))
  apply(in_lengthscales(corners, kernel), 2, range)
}

# Coordinates, covariates, response less its offset, and noise of a data frame, without rows that lack any of them; new
# data has its factors coded as `coding` says.
shard_frame <- function(data, columns, response = TRUE, coding = NULL, where = "") {
  terms <- stats::terms(columns$formula)
  if (!response) {
    terms <- structure(stats::delete.response(terms), dataClasses = coding$kinds)
    for (term in offset_terms(terms)) check_offset_variables(term, environment(columns$formula), data)
  }
  read <- function(of, levels = NULL) {
    frame <- if (response) stats::model.frame(of, data, na.action = stats::na.pass) else {
      new_frame(of, data, levels)
    }
    if (length(frame)) frame else data.frame(row.names = seq_len(nrow(data))) # a constant has no variable
  }
  places <- read(columns$coords)
  frame <- read(terms, coding$levels)
  if (response) check_own_terms(frame)
  check_kinds(frame, terms)
  noise <- lapply(columns[c("weights", "noise_variance")], function(of) if (!is.null(of)) read(of)[[1]])
  rows <- which(stats::complete.cases(do.call(cbind, c(list(places, frame), Filter(length, noise)))))
  x <- as.matrix(places[rows, , drop = FALSE])
  storage.mode(x) <- "double"
  frame <- frame[rows, , drop = FALSE]
  X <- stats::model.matrix(terms, frame, contrasts.arg = coding$contrasts)
  offset <- stats::model.offset(frame)
  y <- if (response) stats::model.response(frame)
  if (response && (!is.numeric(y) || length(dim(y)) > 1 || any(!is.finite(y)))) {
    refuse("sources", "with a response of finite numbers", paste0(describe(y), where))
  }
  list(x = unname(x), X = X, y = if (response) as.double(y - (offset %or% 0)), rows = rows,
       offset = offset, share = 1 / check_weights(noise[[1]][rows], length(rows)), inputs = colnames(x),
       extra = check_noise(0, noise[[2]][rows], length(rows)),
       coding = list(names = colnames(X), levels = stats::.getXlevels(terms, frame), contrasts = attr(X, "contrasts"),
                     kinds = vapply(frame, stats::.MFclass, "")))
}

# Bases that depend on all the data, such as those of poly() and scale(), would be others in each shard.
check_own_terms <- function(frame) {
  terms <- attr(frame, "terms")
  known <- as.list(attr(terms, "variables"))[-1]
  made <- as.list(attr(terms, "predvars"))[-1]
  depends <- !mapply(identical, known, made %or% known)
  if (any(depends)) {
    refuse("formula", "of terms that each row has by itself",
           paste(deparse1(known[depends][[1]]), "(its basis depends on all rows)"))
  }
}

# Which parts have other columns of the mean than the first, or code factors otherwise.
other_columns <- function(parts) {
  alike <- function(part) identical(part$coding[1:3], parts[[1]]$coding[1:3])
  which(!vapply(parts, alike, NA))
}

refuse_columns <- function(where) {
  refuse("sources", "of the same columns of the mean, with the same levels of factors", paste("others", where))
}

# ---- structure ----

# As shard_structure(), where the session has no points: workers order their own, send what lies near the boxes of
# others, search, and say which points of others they depend on, and these on, until there are no more.
read_structure <- function(at, data, settings) {
  shards <- data$shards
  group <- shards$group
  kernel <- to_kernel(at, settings)
  workers <- seq_along(shards$box)
  sent <- group_map(group, "worker_border", lapply(workers, function(w) {
    list(kernel, settings$k * 4, shards$first[w], shards$box[-w])
  }))
  border <- lapply(workers, function(w) lapply(workers[-w], function(v) sent[[v]][[if (w < v) w else w - 1L]]))
  wanted <- group_map(group, "worker_sets_read", lapply(workers, function(w) {
    list(border[[w]], kernel, settings$inducing, to_nugget(at, settings), settings$k, settings$jitter, shards$centre,
         shards$apart)
  }))
  known <- lapply(border, function(parts) unlist(lapply(parts, `[[`, "number")))
  halo <- wanted
  parents <- rep(list(NULL), length(workers))
  owner <- function(numbers) findInterval(numbers - 1L, shards$first)
  while (nrow(settings$inducing) && length(unlist(wanted))) {
    asked <- sort(unique(unlist(wanted)))
    answers <- group_map(group, "worker_parents", lapply(workers, function(w) list(asked[owner(asked) == w])))
    rows <- do.call(rbind, answers)
    parents <- Map(function(old, new) rbind(old, rows[match(new, asked), , drop = FALSE]), parents, wanted)
    wanted <- Map(function(new, have, border) {
      candidates <- unique(as.vector(rows[match(new, asked), ]))
      setdiff(intersect(candidates, border), have)
    }, wanted, halo, known)
    halo <- Map(c, halo, wanted)
  }
  all <- unique(unlist(halo))
  export <- lapply(workers, function(w) sort(all[owner(all) == w]))
  group_map(group, "worker_structure_read", lapply(workers, function(w) {
    list(halo[[w]], parents[[w]], settings$inducing, export[[w]])
  }))
  list(at = at, inducing = settings$inducing, halo = halo, export = export)
}

# ---- on the workers ----

read_shard <- function(source) {
  ending <- tolower(sub(".*\\.", "", source))
  if (ending == "rds") return(readRDS(source))
  if (ending == "csv") return(utils::read.csv(source))
  if (ending %in% c("parquet", "feather")) {
    if (!requireNamespace("arrow", quietly = TRUE)) stop("package arrow is needed to read ", source, call. = FALSE)
    return(as.data.frame(if (ending == "parquet") arrow::read_parquet(source) else arrow::read_feather(source)))
  }
  stop("no reader for ", source, ": give `read`", call. = FALSE)
}

# Reads the sources; answers with what the session needs for starting values: half of a sample spread out, half in
# groups.
worker_read <- function(own, sources, columns, read, size = 3000L, group = 50L) {
  parts <- lapply(sources, function(source) {
    data <- if (is.null(read)) read_shard(source) else read(source)
    shard_frame(as.data.frame(data), columns, where = paste(" in", describe(source)))
  })
  differ <- other_columns(parts)
  if (length(differ)) refuse_columns(paste("in", describe(sources[[differ[1]]])))
  for (name in c("x", "X")) own[[name]] <- do.call(rbind, lapply(parts, `[[`, name))
  for (name in c("y", "share", "extra")) own[[name]] <- unlist(lapply(parts, `[[`, name))
  if (!length(own$y)) stop("a worker has no complete rows in ", deparse1(unlist(sources)), call. = FALSE)
  n <- length(own$y)
  rows <- with_seed(1, {
    spread <- sample.int(n, min(n, size))
    centres <- sample.int(n, min(n, size %/% group))
    sides <- input_scale(own$x, list(of = seq_len(ncol(own$x))))
    plain <- euclidean_process(list(x = own$x, kernel = gp_kernel(lengthscale = sides)), own$threads)
    close <- residual_knn(plain, group - 1L, queries = centres, threads = own$threads, progress = FALSE)$id
    unique(c(spread, centres, close[!is.na(close)]))
  })
  # rare levels of factors, too, so that no column of the mean is zero in the sample
  rare <- which(colSums(own$X[rows, , drop = FALSE] != 0) == 0)
  rows <- unique(c(rows, unlist(lapply(rare, function(j) utils::head(which(own$X[, j] != 0), 20)))))
  list(n = n, box = apply(own$x, 2, range), coding = parts[[1]]$coding, inputs = parts[[1]]$inputs,
       middle = colMeans(own$x), apart = any(own$extra != 0),
       sample = list(x = own$x[rows, , drop = FALSE], y = own$y[rows], X = own$X[rows, , drop = FALSE],
                     share = own$share[rows], extra = own$extra[rows], even = seq_along(rows) <= min(n, size)))
}

# Covariates in the basis of the likelihood.
worker_basis <- function(own, back) {
  own$values <- unname(rbind(own$y, if (!is.null(back)) t(own$X %*% back)))
  own$memory <- vif_memory()
  own$order <- NULL
  NULL
}

# Own points in maxmin order, each with its distance from those before it; answers with those that may matter to the
# boxes of others, which are within some of these distances of them.
worker_border <- function(own, kernel, candidates, first, boxes) {
  scaled <- in_lengthscales(own$x, kernel)
  order <- order_maxmin(scaled)
  for (name in c("x", "X")) own[[name]] <- own[[name]][order, , drop = FALSE]
  for (name in c("y", "share", "extra")) own[[name]] <- own[[name]][order]
  own$values <- own$values[, order, drop = FALSE]
  scaled <- scaled[order, , drop = FALSE]
  own$first <- first
  plain <- euclidean_process(list(x = own$x, kernel = kernel), own$threads)
  near <- residual_knn(plain, 1L, predecessors = TRUE, threads = own$threads, progress = FALSE)$id
  own$spacing <- sqrt(rowSums((scaled - scaled[near, , drop = FALSE])^2))
  own$spacing[1] <- Inf
  # the order of all points is by spacing: no point before its parents in the shard
  own$spacing <- cummin(own$spacing)
  reach <- 1.5 * candidates^(1 / ncol(scaled)) * own$spacing
  lapply(boxes, function(box) {
    rows <- which(box_distance(scaled, box_in_lengthscales(box, kernel)) <= reach)
    list(number = first + rows, x = own$x[rows, , drop = FALSE], values = own$values[, rows, drop = FALSE],
         share = own$share[rows], extra = own$extra[rows], spacing = own$spacing[rows])
  })
}

# Sets of the own points among those before them here and in the border; answers with the numbers of others' points in
# them.
worker_sets_read <- function(own, border, kernel, inducing, nugget, k, jitter, centre, apart) {
  n <- length(own$y)
  join <- function(name, f, mine) do.call(f, c(list(mine), lapply(border, `[[`, name)))
  number <- join("number", c, own$first + seq_len(n))
  order <- order(-join("spacing", c, own$spacing), number)
  own$number <- number[order]
  own$all <- list(values = join("values", cbind, own$values)[, order, drop = FALSE],
                  extra = join("extra", c, own$extra)[order], share = join("share", c, own$share)[order])
  x <- structure(join("x", rbind, own$x)[order, , drop = FALSE], centre = centre)
  own$rows <- which(order <= n)
  own$shared <- list(x = x, k = min(k, nrow(x) - 1L), neighbours = "selected", kernel = kernel, jitter = jitter,
                     apart = apart, extra = shortest(own$all$extra), share = shortest(own$all$share))
  id <- worker_search(own, kernel, inducing, nugget)
  parents <- unique(id[!is.na(id)])
  sort(own$number[parents[!parents %in% own$rows]])
}

# Parents of own points by their numbers.
worker_parents <- function(own, numbers) {
  id <- own$id[match(numbers, own$number[own$rows]), , drop = FALSE]
  matrix(own$number[id], nrow(id), ncol(id))
}

worker_structure_read <- function(own, halo, parents, inducing, export) {
  at <- match(halo, own$number)
  id <- if (is.null(parents)) matrix(NA_integer_, length(halo), ncol(own$id)) else {
    matrix(match(parents, own$number), nrow(parents))
  }
  values <- function(rows) {
    list(values = own$all$values[, rows, drop = FALSE], extra = own$all$extra[rows], share = own$all$share[rows])
  }
  held <- own$values
  own$values <- values(own$rows)
  worker_structure(own, at, values(at), id, inducing, match(export, own$number))
  own$values <- held
  own$local$shard$number <- own$number[own$local$shard$number + 1L] - 1L
  NULL
}

# What predictions need of the shard and its halo after the last evaluation of a fit.
worker_keep <- function(own, id) {
  own$fits[[id]] <- list(x = own$local$x, extra = own$local$extra, share = own$local$share,
                         residual = .Call(C_shard_state, own$pointer)$residual)
  NULL
}

worker_sharded <- function(own, fit) {
  held <- own$fits[[fit$id]]
  x <- held$x
  n <- nrow(x)
  state <- c(fit$state, list(residual = held$residual))
  own$predict <- selected_predictor(list(
    gp = featureless(x, new_residual_gp(points_of(x, 1L), fit$kernel, fit$inducing, 0, fit$jitter, own$threads)),
    kernel = fit$kernel, nugget = fit$nugget, n = n, k = fit$k, neighbours = "selected", order = seq_len(n),
    state = state, coefficients = fit$coefficients, vcov = fit$vcov, X = NULL, weights = 1 / held$share,
    noise_variance = held$extra
  ), NULL, TRUE, own$threads)
  NULL
}

# Variances of those rows for which `wanted` says so.
worker_predict_some <- function(own, x, X, wanted) {
  out <- list(fit = numeric(nrow(x)), variance = rep(NA_real_, nrow(x)))
  for (want_variance in unique(wanted)) {
    rows <- which(wanted == want_variance)
    found <- own$predict(x[rows, , drop = FALSE], X[rows, , drop = FALSE], want_variance, FALSE)
    for (name in names(Filter(length, found))) out[[name]][rows] <- found[[name]]
  }
  out
}
