# Hostile calls, for tools/fuzz.R: every exported function with one or two arguments of wrong types, sizes or values. Each
# must return something without NaN or stop with an error that names the argument.

call_setting <- function() {
  stored("calls", function() {
    x <- matrix(runif(160), 80, dimnames = list(NULL, c("east", "north")))
    y <- sin(6 * x[, 1]) + rnorm(80, sd = 0.1)
    gp <- residual_gp(x, gp_kernel("matern32", lengthscale = 0.3), inducing = 10, seed = 1)
    before <- residual_knn(gp, 4, predecessors = TRUE)
    fit <- vif_fit(y, x, inducing = 8, k = 5, progress = FALSE)
    counts <- vif_fit(rpois(80, exp(y)), x, inducing = 6, k = 4, family = poisson(), iterations = 5, progress = FALSE)
    list(x = x, y = y, counts = counts, sets = conditioning_sets(gp, 4), gp = gp, tree = cover_tree(gp), before = before, nn = residual_knn(gp, 4), fit = fit,
         data = data.frame(x, y = y, group = factor(rep(c("a", "b"), 40))))
  })
}

# Calls that are right, by name, with all arguments that are to be made wrong.
right_calls <- function(s) {
  list(
    gp_kernel = list("matern", variance = 2, lengthscale = c(0.3, 0.4), smoothness = 1.2),
    residual_gp = list(s$x, s$gp$kernel, inducing = 6, nugget = 0.1, jitter = 1e-6, selection = "kmeans++", seed = 1,
                       threads = 1),
    residual_process = list(s$x, s$gp$kernel, s$gp$V, variance = s$gp$variance, nugget = 0),
    residual_correlation = list(s$gp, i = 1:3, j = 4:9),
    residual_correlation = list(s$gp, newdata = s$x[1:2, ]),
    cover_tree = list(s$gp, threads = 1),
    update = list(s$tree, kernel = gp_kernel(lengthscale = 0.2), threads = 1),
    update = list(s$tree, gp = s$gp),
    residual_knn = list(s$gp, k = 4, predecessors = FALSE, queries = c(3, 70), method = "auto", budget = Inf, threads = 1,
                        progress = FALSE),
    residual_knn = list(s$tree, k = 4, predecessors = TRUE, method = "level", budget = 60, threads = 1, progress = FALSE),
    residual_knn = list(s$tree, k = 4, newdata = s$x[5:9, ], method = "best_first", threads = 1, progress = FALSE),
    conditioning_sets = list(s$gp, k = 4, nugget = 0.1, pool = 12, predecessors = TRUE, queries = c(3, 70), threads = 1,
                             progress = FALSE),
    conditioning_sets = list(s$tree, k = 3, nugget = rep(0.1, 80), newdata = s$x[5:9, ], threads = 1, progress = FALSE),
    conditioning_sets = list(s$gp, k = 3, pool = s$before, progress = FALSE),
    as_nnarray = list(s$before), as_nn2 = list(s$nn), as_get_knn = list(s$nn), recall = list(s$nn, s$nn, tolerance = 0),
    vif_factor = list(s$gp, s$before, nugget = 0.1, noise_variance = rep(0.1, 80), threads = 1),
    vif_loglik = list(s$y, s$gp, s$before, nugget = 0.1, X = cbind(1, s$x), noise_variance = NULL, gradient = TRUE),
    gp_loglik = list(s$y, s$x, s$gp$kernel, nugget = 0.1, X = cbind(1, s$x), noise_variance = rep(1, 80)),
    vif_fit = list(s$y[1:40], s$x[1:40, ], X = cbind(one = rep(1, 40)), kernel = gp_kernel(), inducing = 5, k = 3,
                   nugget = 0.1, noise_variance = NULL, order = "maxmin", neighbours = "residual", start = "auto",
                   iterations = 3, jitter = 1e-6, seed = 1, threads = 1, progress = FALSE),
    vif_fit = list(y ~ group, ~ east + north, data = s$data, inducing = 5, k = 3, iterations = 3, progress = FALSE),
    vif_fit = list(exp(s$y[1:40]), s$x[1:40, ], inducing = 5, k = 3, family = Gamma("log"), weights = rep(1, 40), iterations = 2,
                   progress = FALSE),
    predict = list(s$counts, newdata = s$x[1:6, ] + 0.01, k = 4, se.fit = TRUE, interval = "prediction", level = 0.9,
                   type = "response", nsim = 2, seed = 1, progress = FALSE),
    vif_cv = list(s$fit, folds = 3, level = 0.9, refit = FALSE, k = 6, seed = 1, threads = 1),
    latent_loglik = list(s$counts, method = "iterative", probes = 4, jitter = 1e-8, seed = 1),
    beta_family = list(), nbinom2 = list(), student_t = list(df = 4),
    coef = list(s$fit, type = "all"), vcov = list(s$fit, which = "covariance"), confint = list(s$fit, parm = 1, level = 0.9),
    logLik = list(s$counts), anova = list(s$fit, s$fit), fitted = list(s$counts), residuals = list(s$counts, type = "quantile"),
    predict = list(s$fit, newdata = s$x[1:6, ], k = 4, se.fit = TRUE, interval = "prediction", level = 0.9,
                   beta_uncertainty = FALSE, nsim = 2, seed = 1, chunk = 3, threads = 1, progress = FALSE),
    simulate = list(s$fit, nsim = 2, seed = 1), residuals = list(s$fit, type = "loo"),
    summary = list(s$tree), summary = list(s$nn), print = list(s$gp), print = list(s$fit),
    order_maxmin = list(s$x), order_random = list(s$x, seed = 1), order_coordinate = list(s$x, column = 2),
    sphere_points = list(c(1, 2), lat = c(3, 4), radius = 10),
    as_gpgp = list(s$gp$kernel, nugget = 0.1), as_gpboost = list(s$gp$kernel, nugget = 0.1),
    from_gpgp = list("matern_isotropic", c(1, 0.3, 0.8, 0.1)),
    from_gpboost = list("matern", c(0.1, 1, 0.3), cov_fct_shape = 0.8),
    vecchiann_info = list(threads = 1),
    plot = list(s$nn, query = 3, columns = 1:2, zoom = TRUE, legend = TRUE),
    plot = list(s$tree, level = 1, columns = 1:2)
  )
}

odd_arguments <- function(s) {
  list(NULL, NA, NaN, Inf, -Inf, -1, 0, 1, 0.5, 2.5, 1e300, -1e300, 1e-300, 5e-324, 2147483647, 2147483648, 60000L, 1e9, NA_integer_,
       NA_character_, "a", "", character(), letters, TRUE, FALSE, c(TRUE, FALSE), integer(), numeric(), logical(), list(), list(1),
       list(a = 1, b = "x"), factor(c("a", "b")), Sys.Date(), as.POSIXct(0, origin = "1970-01-01"), 1i, as.raw(1), quote(a), mean,
       globalenv(), y ~ x, 1:3, c(1, NA), c(1, Inf), c(0, 0), rep(1e200, 2), 1:80, rep(NA_real_, 80), s$x, s$x[0, ], s$x[, 0], s$x[, 1],
       t(s$x), s$x * 1e300, s$x * 1e-300, s$x * 0, replace(s$x, 5, NA), replace(s$x, 5, Inf), matrix("a", 80, 2), matrix(list(), 0, 0),
       matrix(1:160, 80), array(1, c(2, 2, 2)), as.data.frame(s$x), s$data, s$data[0, ], data.frame(), data.frame(f = factor(1:80)),
       s$gp, s$tree, s$nn, s$before, s$before$id, s$fit, s$gp$kernel, unclass(s$gp), structure(list(), class = "residual_gp"),
       structure(1, class = "cover_tree"), structure(list(), class = "gp_kernel"), structure(NULL, class = "residual_knn"),
       structure(list(id = 1), class = "residual_knn"), structure(list(), class = "vif"), new.env(), expression(1), as.name("a"),
       complex(3), bitwAnd(1:80, 3L), seq(0, 1, length.out = 80), rev(1:80), -s$x, s$x[c(1, 1, 1), ], ts(1:80), table(1:3))
}

holds_nan <- function(x) {
  if (is.list(x)) return(any(vapply(unclass(x), holds_nan, NA)))
  is.double(x) && any(is.nan(x))
}

fuzz_call <- function() {
  s <- call_setting()
  calls <- right_calls(s)
  at <- sample.int(length(calls), 1)
  left <- setdiff(getNamespaceExports("vecchiann"), c(names(calls), "vif_shards")) # the latter needs workers
  if (length(left)) stop("no call of ", paste(left, collapse = ", "))
  name <- names(calls)[at]
  arguments <- calls[[at]]
  odd <- odd_arguments(s)
  # a method is found by its first argument, which others then answer for
  from <- if (name %in% c("update", "predict", "simulate", "residuals", "summary", "print", "plot", "coef", "vcov", "confint", "logLik",
                         "anova", "fitted")) 2 else 1
  places <- if (length(arguments) >= from) seq(from, length(arguments))
  hit <- if (length(places)) places[sample.int(length(places), min(length(places), sample(c(1, 1, 2), 1)))]
  picks <- sample.int(length(odd), length(hit))
  for (i in seq_along(hit)) arguments[hit[i]] <- list(odd[[picks[i]]])
  label <- paste0(name, " ", at, ", argument ", paste0(hit, " = odd ", picks, collapse = ", "), ": ")
  grDevices::pdf(NULL)
  on.exit(grDevices::dev.off())
  setTimeLimit(cpu = 60, transient = TRUE)
  failed <- function(e) structure(list(message = conditionMessage(e)), class = "failed")
  answer <- tryCatch({
    utils::capture.output(value <- suppressWarnings(suppressMessages(do.call(name, arguments, quote = TRUE))))
    value
  }, error = failed)
  setTimeLimit()
  faults <- NULL
  refused <- inherits(answer, "failed")
  named <- paste0(named_error, "|likelihood cannot be evaluated|cannot allocate vector|not enough memory|^'data' must be",
                  "|. is not an argument of |^object '.*' not found")
  if (refused && !grepl(named, answer$message)) faults <- paste0(label, "error without a name: ", answer$message)
  if (!refused && holds_nan(answer)) faults <- paste0(label, "NaN")
  list(form = if (refused) "refused" else "answered", checks = 1, faults = faults)
}
