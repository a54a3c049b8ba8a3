# Random problems, for tools/fuzz.R: every tree search against brute force, bit for bit.

# One of some values, as they stand; shares say how often.
one_of <- function(..., shares = NULL) {
  values <- list(...)
  values[[sample.int(length(values), 1, prob = shares)]]
}

random_inputs <- function(n, d) {
  uniform <- function(n) matrix(runif(n * d), n, d)
  switch(one_of("uniform", "copies", "crowd", "rounded", "grid", "clusters", "line", shares = c(4, 1, 1, 1, 1, 2, 1)),
    uniform = uniform(n),
    copies = {
      x <- uniform(max(1, n %/% sample(2:20, 1)))
      x[c(seq_len(nrow(x)), sample.int(nrow(x), n, TRUE))[seq_len(n)], , drop = FALSE]
    },
    crowd = { # a few places with many points, amid others
      x <- uniform(n)
      some <- sample.int(n, n %/% 2)
      x[some, ] <- uniform(3)[sample.int(3, length(some), TRUE), ]
      x
    },
    rounded = round(uniform(n) * 30) / 30,
    grid = as.matrix(expand.grid(rep(list(seq_len(ceiling(n^(1 / d)))), d)))[seq_len(n), , drop = FALSE] / n^(1 / d),
    clusters = matrix(rnorm(n * d, sd = 0.02), n, d) + uniform(5)[sample.int(5, n, TRUE), ],
    line = matrix(runif(n), n, d)
  )
}

random_process <- function(n, d) {
  x <- unname(random_inputs(n, d))
  if (runif(1) < 0.3) x <- x[order_maxmin(x), , drop = FALSE]
  distinct <- unique(x)
  most <- nrow(distinct)
  own <- function(count) distinct[sample.int(most, min(most, count)), , drop = FALSE]
  inducing <- switch(one_of("none", "chosen", "points", "grid", "mixed"),
    none = 0,
    chosen = min(most, sample(c(1, 5, 20, 60), 1)),
    points = own(sample(c(1, 10, 60), 1)), # points stand on inducing inputs,
    grid = as.matrix(expand.grid(rep(list((0:2) / 2), min(d, 3))))[, rep_len(seq_len(min(d, 3)), d), drop = FALSE],
    mixed = rbind(own(4), matrix(runif(4 * d), 4, d)) # or none, or some do
  )
  kernel <- gp_kernel(one_of("matern12", "matern32", "matern52", "rbf"),
                      one_of(1, 3, 1e-150, 1e300, shares = c(5, 2, 1, 1)), one_of(0.02, 0.1, 0.3, 1) * sqrt(d))
  gp <- residual_gp(x, kernel, if (is.matrix(inducing)) unname(inducing) else inducing,
                    nugget = kernel$variance * one_of(0, 0.1, 1e-8, 1e6, shares = c(6, 2, 1, 1)),
                    jitter = one_of(1e-6, 1e-4, 1e-9, shares = c(4, 1, 1)), seed = 1)
  if (runif(1) < 0.1 && !anyNA(gp$V)) gp <- residual_process(x, gp$kernel, gp$V, gp$variance, gp$nugget)
  gp
}

# New inputs on and near inducing inputs, on points, between and far from them.
random_new <- function(gp, count) {
  x <- gp$x
  near <- if (length(gp$inducing)) gp$inducing else x
  from <- list(near, near + 1e-9, near * (1 + 4e-16), x, matrix(runif(5 * ncol(x)), 5), x[1, , drop = FALSE] + 100)
  new <- do.call(rbind, lapply(from, function(rows) rows[sample.int(nrow(rows), count, TRUE), , drop = FALSE]))
  new[sample.int(nrow(new), count), , drop = FALSE]
}

random_mode <- function(gp) {
  n <- nrow(gp$x)
  some <- sample.int(n, sample(c(1, 3, 100), 1), TRUE)
  switch(one_of("all", "predecessors", "queries", "both", if (is.null(gp$inducing)) "all" else "new"),
    all = list(),
    predecessors = list(predecessors = TRUE),
    queries = list(queries = some),
    both = list(queries = some, predecessors = TRUE),
    new = list(newdata = random_new(gp, sample(c(1, 5, 80), 1)))
  )
}

# What is wrong with an approximate answer, given the exact one of all candidates.
budget_fault <- function(nn, all, budget) {
  there <- !is.na(nn$id)
  claimed <- vapply(seq_len(nrow(nn$id)), function(i) {
    identical(nn$dist[i, ], all$dist[i, match(nn$id[i, ], all$id[i, ])])
  }, NA)
  if (!all(claimed)) "wrong distances"
  else if (anyDuplicated(cbind(row(nn$id)[there], nn$id[there]))) "a neighbour twice"
  else if (any(apply(nn$dist, 1, is.unsorted, na.rm = TRUE))) "order"
  else if (nn$stats[["correlations"]] > budget * nrow(nn$id)) "more correlations than the budget"
}

# One problem in one mode. Returns the form, how many searches, and what was wrong with each.
fuzz_search <- function() {
  n <- one_of(1, 2, 33, 200, 700, 1500, 3500, shares = c(1, 1, 2, 4, 3, 4, 5)) # forms need some points to pay
  gp <- tryCatch(random_process(n, sample(c(1, 2, 2, 3, 6), 1)), error = function(e) {
    if (!grepl("not positive definite|pivot", conditionMessage(e))) stop(e)
  })
  if (is.null(gp)) return(list(form = "refused", checks = 0))
  kept <- runif(1) < 0.7
  object <- if (kept) cover_tree(gp) else gp
  arguments <- c(list(object, one_of(1, 5, 30, n + 3, shares = c(1, 4, 3, 1)), threads = one_of(1, 2, shares = c(9, 1))),
                 random_mode(gp))
  search <- function(...) do.call(residual_knn, c(arguments, list(...), list(progress = FALSE)))
  exact <- search(method = "brute")
  faults <- if (any(is.nan(exact$dist)) || !identical(is.na(exact$id), is.na(exact$dist))) "brute: no numbers"
  methods <- c("auto", "level", "best_first")
  for (method in methods) {
    nn <- search(method = method)
    if (!identical(nn$id, exact$id)) faults <- c(faults, paste0(method, ": other neighbours"))
    else if (!identical(nn$dist, exact$dist)) faults <- c(faults, paste0(method, ": other distances"))
  }
  if (n <= 200) {
    budget <- sample(c(1, 20, 150), 1)
    arguments[[2]] <- n
    all <- search(method = "brute")
    arguments[[2]] <- min(n, 5)
    wrong <- budget_fault(search(budget = budget), all, budget)
    if (length(wrong)) faults <- c(faults, paste("budget:", wrong))
  }
  list(form = if (kept) vecchiann:::index_form(object) else "none kept", checks = length(methods) + (n <= 200),
       queries = nrow(exact$id) * (length(methods) + (n <= 200)), faults = faults)
}
