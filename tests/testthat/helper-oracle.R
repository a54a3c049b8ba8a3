# The definition, dense and plain: what every search is compared with.

# The searches that must agree with it.
methods_to_test <- c("auto", "brute", "level", "best_first")

oracle_kappa <- function(kernel, r) {
  s <- sqrt(2 * switch(kernel$family, matern12 = 0.5, matern32 = 1.5, matern52 = 2.5, rbf = NA,
                       matern = kernel$smoothness)) * r
  switch(kernel$family,
    matern12 = exp(-s),
    matern32 = (1 + s) * exp(-s),
    matern52 = (1 + s + s^2 / 3) * exp(-s),
    rbf = exp(-r^2 / 2),
    matern = {
      nu <- kernel$smoothness
      ifelse(s == 0, 1, 2^(1 - nu) / gamma(nu) * s^nu * besselK(pmax(s, 1e-300), nu))
    }
  )
}

oracle_covariance <- function(kernel, x, y) {
  lengthscale <- rep_len(kernel$lengthscale, ncol(x))
  squares <- 0
  for (j in seq_len(ncol(x))) squares <- squares + (outer(x[, j], y[, j], `-`) / lengthscale[j])^2
  kernel$variance * oracle_kappa(kernel, sqrt(squares))
}

# Features and residual variances of points x, from the inputs of the definition alone.
oracle_points <- function(gp, x) {
  m <- nrow(gp$inducing)
  s2 <- gp$kernel$variance
  if (m == 0) return(list(x = x, V = matrix(0, 0, nrow(x)), variance = rep(s2, nrow(x))))
  K <- oracle_covariance(gp$kernel, gp$inducing, gp$inducing) + diag(gp$jitter * s2, m)
  V <- forwardsolve(t(chol(K)), oracle_covariance(gp$kernel, gp$inducing, x))
  list(x = x, V = V, variance = s2 - colSums(V^2))
}

# Total variances; infinite, and so correlated with nothing, where the residual variance is gone.
oracle_p <- function(gp, points) {
  gone <- points$variance <= 1e-10 * gp$kernel$variance & gp$nugget == 0
  ifelse(gone, Inf, points$variance + gp$nugget)
}

oracle_rho <- function(gp, from, to) {
  r <- oracle_covariance(gp$kernel, from$x, to$x) - crossprod(from$V, to$V)
  rho <- r / sqrt(outer(oracle_p(gp, from), oracle_p(gp, to)))
  pmin(pmax(rho, -1), 1)
}

# The k nearest by (d, index). self: the column that is each row's own; limit: candidates are j < limit.
oracle_knn <- function(rho, k, self = rep(0, nrow(rho)), limit = rep(Inf, nrow(rho))) {
  d <- sqrt(1 - abs(rho))
  rows <- lapply(seq_len(nrow(rho)), function(i) {
    candidates <- setdiff(which(seq_len(ncol(rho)) < limit[i]), self[i])
    candidates[order(d[i, candidates], candidates)][seq_len(k)]
  })
  id <- matrix(unlist(rows), nrow(rho), k, byrow = TRUE)
  list(id = id, dist = matrix(d[cbind(c(row(id)), c(id))], nrow(rho), k))
}

# The search that a call of residual_knn() with these arguments asks for, by the oracle. Features and
# residual variances are those of the object, which tests compare with the oracle's on their own.
oracle_search <- function(gp, k, newdata = NULL, predecessors = FALSE, queries = seq_len(nrow(gp$x))) {
  points <- gp[c("x", "V", "variance")]
  if (!is.null(newdata)) {
    from <- new_points(gp, newdata, NA_integer_)
    rho <- oracle_rho(gp, from, points)
    found <- oracle_knn(rho, k)
  } else {
    from <- points
    rho <- oracle_rho(gp, points, points)[queries, , drop = FALSE]
    limit <- if (predecessors) queries else rep(Inf, length(queries))
    found <- oracle_knn(rho, k, self = queries, limit = limit)
  }
  # Residual covariances carry the rounding of numbers of the size of the kernel's variance.
  smallest <- min(oracle_p(gp, points), oracle_p(gp, from)) / gp$kernel$variance
  c(found, list(rho = rho, tolerance = max(1e-10, 1e-14 / smallest)))
}

# Compares a result with the oracle's: d^2 to a tolerance; every index against the distance it claims;
# the same places missing; no index twice, none that is not a candidate; and indices equal away from ties.
expect_neighbours <- function(nn, oracle, label = NULL) {
  tolerance <- oracle$tolerance
  rows <- row(nn$id)
  there <- !is.na(nn$id)
  self <- if (is.null(nn$newdata)) { if (is.null(nn$queries)) seq_len(nrow(nn$id)) else nn$queries } else 0
  squares <- nn$dist^2
  claimed <- 1 - abs(oracle$rho[cbind(c(rows), c(nn$id))])
  gap <- function(d2) {
    steps <- cbind(Inf, d2[, -1, drop = FALSE] - d2[, -ncol(d2), drop = FALSE], Inf)
    steps[is.na(steps)] <- Inf
    pmin(steps[, -ncol(steps), drop = FALSE], steps[, -1, drop = FALSE])
  }
  # The last column may tie with the first neighbour left out, which the oracle knows.
  untied <- there & gap(oracle$dist^2) > 10 * tolerance & col(nn$id) < ncol(nn$id)
  faults <- c(
    shape = !identical(dim(nn$id), dim(oracle$id)) || !is.integer(nn$id) || !is.double(nn$dist),
    missing = !identical(is.na(nn$id), is.na(oracle$id)) || !identical(is.na(nn$dist), is.na(nn$id)),
    distance = max(0, abs(squares - oracle$dist^2), na.rm = TRUE) > tolerance,
    claim = max(0, abs(c(squares) - claimed), na.rm = TRUE) > tolerance,
    twice = any(apply(nn$id, 1, function(id) anyDuplicated(id[!is.na(id)]) > 0)),
    self = any(nn$id == self, na.rm = TRUE),
    order = any(apply(nn$dist, 1, is.unsorted, na.rm = TRUE)),
    # Equal distances as returned must be ordered by index.
    ties = any(nn$dist[, -1] == nn$dist[, -nn$k] & nn$id[, -1] < nn$id[, -nn$k], na.rm = TRUE),
    late = nn$predecessors && any(nn$id >= self, na.rm = TRUE),
    index = any(nn$id[untied] != oracle$id[untied])
  )
  testthat::expect(!any(faults), paste0(label, ": fault of ", paste(names(faults)[faults], collapse = ", ")))
}

# One comparison for all the searches.
expect_search <- function(object, k, ..., label = NULL) {
  gp <- if (inherits(object, "cover_tree")) object$gp else object
  oracle <- oracle_search(gp, k, ...)
  for (method in methods_to_test) {
    nn <- residual_knn(object, k, ..., method = method, progress = FALSE)
    expect_neighbours(nn, oracle, label = paste(label, method))
  }
}

# For the rest of a test: small problems gain nothing from threads, and hundreds of them on a busy machine lose much.
on_one_thread <- function(test = parent.frame()) {
  old <- options(vecchiann.threads = 1)
  do.call(on.exit, list(bquote(options(.(old))), add = TRUE), envir = test)
}

# Inputs of each kind that has broken some search.
inputs <- function(kind, n, d) {
  x <- switch(kind,
    uniform = matrix(runif(n * d), n, d),
    duplicates = matrix(runif(n * d), n, d)[sample.int(n %/% 3, n, replace = TRUE), , drop = FALSE],
    grid = as.matrix(expand.grid(rep(list(seq_len(ceiling(n^(1 / d)))), d)))[seq_len(n), , drop = FALSE] /
      ceiling(n^(1 / d)),
    clusters = matrix(rnorm(n * d, sd = 0.02), n, d) + matrix(runif(5 * d), 5, d)[sample.int(5, n, TRUE), ]
  )
  unname(x)
}

# The Laplace approximation by its definition, dense and plain: for covariance K of the latent process,
# log p(y | b) - b' K^-1 b / 2 - log det(I + K W) / 2 at the mode b, found by Newton's method on the latent process
# itself.
dense_laplace <- function(K, family, data, phi, beta) {
  fixed <- data$offset + if (is.null(data$X)) 0 else drop(data$X %*% beta)
  inverse <- solve(K)
  b <- numeric(length(data$y))
  joint <- function(b) sum(family$value(data$y, fixed + b, data$w, phi)) - drop(b %*% inverse %*% b) / 2
  for (iteration in 1:500) {
    s <- family$slopes(data$y, fixed + b, data$w, phi)
    step <- solve(inverse + diag(s$curvature), s$d1 - drop(inverse %*% b))
    size <- 1
    while (joint(b + size * step) < joint(b) - 1e-10 && size > 1e-6) size <- size / 2
    b <- b + size * step
    if (max(abs(step)) < 1e-11) break
  }
  W <- family$slopes(data$y, fixed + b, data$w, phi)$curvature
  loglik <- joint(b) - as.numeric(determinant(diag(length(b)) + K * rep(W, each = length(b)))$modulus) / 2
  list(eta = fixed + b, b = b, W = W, loglik = loglik)
}

# The tree with one array of its index changed: single-precision numbers, double ones or integers.
damaged <- function(tree, field, change, size = 4, what = "double") {
  fields <- .Call(C_tree_index_fields, tree$gp, tree)
  at <- match(field, fields$name)
  stopifnot(!is.na(at))
  bytes <- fields$at[at] + seq_len(fields$bytes[at])
  values <- readBin(tree$index[bytes], what, fields$bytes[at] / size, size)
  tree$index[bytes] <- writeBin(change(values), raw(), size)
  tree$index <- .Call(C_tree_seal, tree$index) # or the change would be refused
  tree
}
