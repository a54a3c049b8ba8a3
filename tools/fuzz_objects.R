# Damaged objects, for tools/fuzz.R: processes, trees, neighbours, conditioning sets and fits of all families with bytes flipped, numbers replaced, ends cut,
# elements removed, retyped or exchanged, in memory or on the way through a file. Each must give the right answer or an
# error that names the object.

# ---- objects, made once a process -------------------------------------------------------------------------------------

fuzz_store <- new.env()

# The value of `make`, made with random numbers of its own.
stored <- function(name, make) {
  if (is.null(fuzz_store[[name]])) {
    seed <- .Random.seed
    set.seed(1)
    fuzz_store[[name]] <- suppressWarnings(suppressMessages(make()))
    assign(".Random.seed", seed, globalenv())
  }
  fuzz_store[[name]]
}

fuzz_gp <- function(kind) {
  x <- matrix(runif(2 * switch(kind, landmarks = 3000, integers = 2000, 400)), ncol = 2)
  if (kind == "integers") x <- matrix(runif(4000 * 5), ncol = 5)
  gp <- switch(kind,
    landmarks = residual_gp(x, gp_kernel("matern52", 2, 0.1), x[1:50, ]),
    integers = residual_gp(x, gp_kernel("matern32", lengthscale = 0.5), inducing = 60, seed = 1),
    smooth = residual_gp(x, gp_kernel("matern", 1, c(0.2, 0.4), 0.8), inducing = 20, nugget = 0.1, seed = 1),
    plain = residual_gp(x, gp_kernel("rbf", lengthscale = 0.1), inducing = 0),
    own = {
      gp <- residual_gp(x, gp_kernel(lengthscale = 0.3), inducing = 10, seed = 1)
      residual_process(x, gp$kernel, gp$V, gp$variance)
    }
  )
  gp
}

fuzz_object_of <- function(kind, form) {
  gp <- function() stored(form, function() fuzz_gp(form))
  y <- function() stored("y", function() rnorm(400))
  switch(kind,
    gp = gp(),
    tree = stored(paste(form, "tree"), function() cover_tree(gp())),
    neighbours = stored(paste(form, "nn"), function() residual_knn(gp(), 5, predecessors = TRUE)),
    sets = stored("sets", function() conditioning_sets(gp(), 5, 0.1)),
    fit = stored("fit", function() {
      vif_fit(y()[1:150], fuzz_gp("plain")$x[1:150, ], X = cbind(one = 1, z = y()[151:300]), inducing = 15, k = 8)
    }),
    formula = stored("formula", function() {
      x <- fuzz_gp("plain")$x[1:150, ]
      data <- data.frame(a = x[, 1], b = x[, 2], z = y()[151:300], f = factor(rep(c("u", "v", "w"), 50)), v = x[, 1] + 1)
      data$y <- y()[1:150] + data$z^2 + log(data$v)
      vif_fit(y ~ poly(z, 2) + f + offset(log(v)), coords = ~ scale(a) + b, data = data, inducing = 12, k = 6)
    }),
    counts = stored(paste("counts", form), function() {
      family <- switch(form, landmarks = poisson(), integers = binomial(), smooth = student_t(), plain = nbinom2(), own = Gamma("log"))
      eta <- y()[1:100]
      response <- switch(form, landmarks = , plain = rpois(100, exp(eta)), integers = rbinom(100, 1, plogis(eta)), smooth = eta,
                         own = exp(eta) * rgamma(100, 5, 5))
      suppressWarnings(vif_fit(response, fuzz_gp("plain")$x[1:100, ], inducing = 6, k = 5, family = family, iterations = 15))
    })
  )
}

prepare_objects <- function() {
  for (form in c("landmarks", "integers", "smooth", "plain", "own")) {
    for (kind in c("gp", "tree", "counts")) fuzz_object_of(kind, form)
  }
  for (kind in c("neighbours", "sets", "fit", "formula")) fuzz_object_of(kind, "smooth")
}

# ---- damage -----------------------------------------------------------------------------------------------------------

flip_bits <- function(x) {
  size <- switch(typeof(x), double = 8, raw = 1, 4)
  bytes <- if (is.raw(x)) x else writeBin(as.vector(x), raw())
  if (!length(bytes)) return(x)
  for (at in sample.int(length(bytes), sample(c(1, 1, 3), 1), TRUE)) {
    bytes[at] <- xor(bytes[at], as.raw(2^sample(0:7, 1)))
  }
  values <- if (is.raw(x)) bytes else readBin(bytes, typeof(x), length(x), size)
  attributes(values) <- attributes(x)
  values
}

odd_values <- list(NA_real_, NaN, Inf, -Inf, 0, -1, 1, 0.5, 1e300, -1e300, 1e-300, 2147483647, -2147483647, 1e10, 4096, 65536)

replace_some <- function(x) {
  if (!length(x)) return(x)
  at <- sample.int(length(x), min(length(x), sample(c(1, 1, 2, 20), 1)))
  value <- odd_values[[sample.int(length(odd_values), 1)]]
  if (is.integer(x)) value <- if (is.finite(value) && abs(value) < 2^31) as.integer(value) else NA_integer_
  x[at] <- if (is.raw(x)) as.raw(sample(0:255, 1)) else value
  x
}

damage_values <- function(x) {
  cut <- function(x) x[seq_len(sample(0:max(length(x) - 1, 0), 1))]
  numeric <- is.numeric(x) || is.raw(x) || is.logical(x)
  how <- one_of("flip", "replace", "shift", "swap", "cut", "grow", "retype", "reshape", "empty", "remove",
                shares = if (numeric) c(6, 6, 2, 2, 2, 1, 1, 2, 1, 1) else c(0, 0, 0, 0, 1, 1, 2, 1, 1, 2))
  switch(how,
    flip = if (is.logical(x)) !x else flip_bits(x),
    replace = replace_some(x),
    shift = {
      if (is.raw(x)) rev(x) else {
        at <- sample.int(max(length(x), 1), 1)
        if (length(x)) x[at] <- x[at] + one_of(1L, -1L, 7L)
        x
      }
    },
    swap = {
      if (length(x) > 1) {
        at <- sample.int(length(x), 2)
        x[at] <- x[rev(at)]
      }
      x
    },
    cut = cut(x),
    grow = c(x, x[length(x)], x[length(x)]),
    retype = switch(sample.int(5, 1), as.character(x), as.list(x), if (is.raw(x)) as.integer(x) else x != 0, factor(1:3),
                    function() 1),
    reshape = {
      if (is.matrix(x) && runif(1) < 0.5) t(x) else if (is.matrix(x)) x[, -1, drop = FALSE] else matrix(x, nrow = 1)
    },
    empty = x[0],
    remove = NULL
  )
}

# One damage somewhere in a list, and its place.
damage_list <- function(object, place = character()) {
  if (runif(1) < 0.02) return(list(object = structure(unname(unclass(object)), class = oldClass(object)), place = c(place, "names")))
  name <- sample(names(object), 1)
  part <- object[[name]]
  inner <- is.list(part) && !is.data.frame(part) && length(part) && !is.null(names(part)) && runif(1) < 0.9
  if (inner) {
    below <- damage_list(part, c(place, name))
    object[[name]] <- below$object
    return(list(object = object, place = below$place))
  }
  value <- if (is.atomic(part) && !is.null(part)) damage_values(part) else if (inherits(part, "terms") && runif(1) < 0.7) {
    damage_terms(part)
  } else one_of(NULL, 1, "a", list(1, 2))
  if (is.null(value)) object[[name]] <- NULL else object[[name]] <- value
  list(object = object, place = c(place, name))
}

# Damages an attribute of terms: numbers in calls of `predvars` above all.
damage_terms <- function(terms) {
  numbers <- function(call) { # the places of numbers in a call
    unlist(lapply(seq_along(call)[-1], function(i) {
      part <- call[[i]]
      if (is.call(part) || is.list(part)) lapply(numbers(part), function(at) c(i, at)) else if (is.numeric(part)) list(i)
    }), recursive = FALSE)
  }
  found <- numbers(attr(terms, "predvars"))
  if (length(found) && runif(1) < 0.7) {
    at <- found[[sample.int(length(found), 1)]]
    value <- damage_values(attr(terms, "predvars")[[at]])
    if (!is.null(value)) attr(terms, "predvars")[[at]] <- value
    return(terms)
  }
  name <- sample(setdiff(names(attributes(terms)), c("class", ".Environment")), 1)
  part <- attr(terms, name)
  attr(terms, name) <- if (is.atomic(part)) damage_values(part)
  terms
}

through_file <- function(object) {
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  saveRDS(object, file, compress = FALSE)
  readRDS(file)
}

# ---- uses: each gives numbers to compare ------------------------------------------------------------------------------

knn_numbers <- function(nn) nn$dist
fuzz_new <- function(gp) stored(paste("new", ncol(gp$x)), function() matrix(runif(3 * ncol(gp$x)), 3))

gp_uses <- list(
  brute = function(gp) knn_numbers(residual_knn(gp, 5, queries = 1:7, method = "brute")),
  auto = function(gp) knn_numbers(residual_knn(gp, 5)),
  predecessors = function(gp) knn_numbers(residual_knn(gp, 5, queries = 50:90, predecessors = TRUE)),
  new = function(gp) knn_numbers(residual_knn(gp, 5, newdata = fuzz_new(gp))),
  correlation = function(gp) residual_correlation(gp, 1:5, 1:9),
  tree = function(gp) knn_numbers(residual_knn(cover_tree(gp), 5, queries = 1:30)),
  factor = function(gp) {
    id <- cbind(seq_len(400), c(NA, 1:399), c(NA, NA, 1:398))
    if (identical(nrow(gp$x), 400L)) vif_factor(gp, id, 0.1)$D else residual_correlation(gp, 1)
  },
  likelihood = function(gp) {
    id <- cbind(seq_len(400), c(NA, 1:399))
    if (identical(nrow(gp$x), 400L)) as.numeric(vif_loglik(sin(1:400), gp, id, 0.1)) else residual_correlation(gp, 1)
  },
  print = function(gp) nchar(paste(utils::capture.output(print(gp)), collapse = "")) * 0
)

tree_uses <- list(
  level = function(tree) knn_numbers(residual_knn(tree, 5, method = "level")),
  best = function(tree) knn_numbers(residual_knn(tree, 5, queries = 1:9, method = "best_first")),
  auto = function(tree) knn_numbers(residual_knn(tree, 5, queries = 1:40)),
  predecessors = function(tree) knn_numbers(residual_knn(tree, 5, queries = 50:90, predecessors = TRUE)),
  new = function(tree) knn_numbers(residual_knn(tree, 5, newdata = fuzz_new(tree$gp))),
  nodes = function(tree) knn_numbers(residual_knn(tree, 5, queries = 1:9, budget = 1e6)),
  update = function(tree) knn_numbers(residual_knn(update(tree, kernel = gp_kernel(lengthscale = 0.3)), 5, queries = 1:9)),
  print = function(tree) nchar(paste(utils::capture.output(print(tree)), collapse = "")) * 0,
  summary = function(tree) 0 * nrow(summary(tree))
)

nn_uses <- list(
  nnarray = function(nn) as_nnarray(nn), nn2 = function(nn) as_nn2(nn), knn = function(nn) as_get_knn(nn),
  recall = function(nn) recall(nn, fuzz_object_of("neighbours", "smooth")),
  factor = function(nn) vif_factor(fuzz_object_of("gp", "smooth"), nn, 0.1)$D,
  print = function(nn) utils::capture.output(print(nn)), summary = function(nn) utils::capture.output(print(summary(nn))),
  plot = function(nn) {
    grDevices::pdf(NULL)
    on.exit(grDevices::dev.off())
    plot(nn)
    0
  }
)

fit_uses <- list(
  predict = function(fit) predict(fit, matrix(c(0.1, 0.5, 0.7, 0.2), 2), newX = cbind(1, c(0, 1)), progress = FALSE)$fit,
  fitted = function(fit) fitted(fit), residuals = function(fit) residuals(fit, "loo"),
  simulate = function(fit) simulate(fit, seed = 1)[[1]], vcov = function(fit) vcov(fit), confint = function(fit) confint(fit),
  logLik = function(fit) as.numeric(logLik(fit)), summary = function(fit) summary(fit)$coefficients,
  AIC = function(fit) AIC(fit),
  print = function(fit) nchar(paste(utils::capture.output(print(fit)), collapse = "")) * 0
)

formula_uses <- utils::modifyList(fit_uses, list(
  predict = function(fit) {
    new <- data.frame(a = c(0.1, 0.7), b = c(0.5, 0.2), z = c(0.3, -1), f = c("v", "w"), v = 1:2)
    predict(fit, new, progress = FALSE)$fit
  }
))

count_uses <- list(
  predict = function(fit) predict(fit, matrix(c(0.1, 0.5, 0.7, 0.2), 2), progress = FALSE)$fit,
  fitted = function(fit) fitted(fit), residuals = function(fit) residuals(fit), vcov = function(fit) vcov(fit),
  simulate = function(fit) simulate(fit, seed = 1)[[1]], logLik = function(fit) as.numeric(logLik(fit)),
  print = function(fit) nchar(paste(utils::capture.output(print(fit)), collapse = "")) * 0
)

fuzz_uses <- list(gp = gp_uses, tree = tree_uses, neighbours = nn_uses, sets = nn_uses, fit = fit_uses,
                  formula = formula_uses, counts = count_uses)

# The process that the parts of an edited one describe, made anew.
rebuilt <- function(gp) {
  if (is.null(gp$inducing)) return(residual_process(gp$x, gp$kernel, gp$V, gp$variance, gp$nugget))
  residual_gp(gp$x, gp$kernel, gp$inducing, gp$nugget, gp$jitter)
}

right_answer <- function(kind, object, whole, use) {
  switch(kind,
    gp = use(rebuilt(object)),
    tree = use(cover_tree(rebuilt(object$gp))),
    use(whole)
  )
}

# ---- one case ---------------------------------------------------------------------------------------------------------

# Parts of a process fit each other to 1e-11 of the variance, which a jitter of 1e-6 may make 1e-5.
closeness <- 1e-5

named_error <- "^([[:alnum:]_.]+\\(\\): )?`[^`]+` must be |does not fit its points|not positive definite|fails at pivot"

fuzz_object <- function() {
  kind <- one_of("gp", "tree", "neighbours", "sets", "fit", "formula", "counts", shares = c(4, 6, 2, 2, 2, 2, 2))
  form <- one_of("landmarks", "integers", "smooth", "plain", "own", shares = c(2, 2, 2, 1, 1))
  if (kind %in% c("neighbours", "sets", "formula")) form <- "smooth"
  whole <- fuzz_object_of(kind, form)
  object <- if (runif(1) < 0.3) through_file(whole) else whole
  hit <- damage_list(object)
  if (kind == "tree" && runif(1) < 0.4) { # most of a tree is its process: the index and the structure have their turn
    name <- sample(setdiff(names(object), c("gp", "lengthscale")), 1)
    hit <- list(object = object, place = name)
    hit$object[[name]] <- if (is.null(object[[name]])) 1 else damage_values(object[[name]])
  }
  damaged <- if (runif(1) < 0.5) through_file(hit$object) else hit$object
  use_name <- sample(names(fuzz_uses[[kind]]), 1)
  use <- fuzz_uses[[kind]][[use_name]]
  label <- paste0(kind, " (", form, "), ", paste(hit$place, collapse = "$"), ", ", use_name, ": ")
  failed <- function(e) structure(list(message = conditionMessage(e)), class = "failed")
  answer <- tryCatch(suppressWarnings(use(damaged)), error = failed)
  faults <- NULL
  outcome <- "right"
  if (inherits(answer, "failed")) {
    outcome <- "refused"
    if (!grepl(named_error, answer$message)) faults <- paste0(label, "error without a name: ", answer$message)
  } else {
    right <- tryCatch(suppressWarnings(right_answer(kind, damaged, whole, use)), error = failed)
    if (any(vapply(answer, function(x) is.numeric(x) && any(is.nan(x)), NA))) {
      faults <- paste0(label, "NaN")
    } else if (inherits(right, "failed")) {
      faults <- paste0(label, "taken, but: ", right$message)
    } else if (!is.null(right) && !isTRUE(all.equal(answer, right, tolerance = closeness, check.attributes = FALSE))) {
      faults <- paste0(label, "another answer: ", all.equal(answer, right, tolerance = closeness)[1])
    }
  }
  list(form = paste(kind, outcome), checks = 1, faults = faults)
}
