# Interrupts, time limits and errors from progress at random moments, for tools/fuzz.R: control returns within half a second
# of the process's own time, the next answers are right, and the memory of the core is back.

most_seconds <- 0.5

interrupt_kernel <- gp_kernel("matern32", lengthscale = 0.1)

# What long work works on, large and small.
interrupt_setting <- function(size) {
  stored(paste("interrupts", size), function() {
    large <- size == "large"
    n <- if (large) 40000 else 200
    x <- matrix(runif(2 * n), n)
    gp <- residual_gp(x, interrupt_kernel, inducing = x[1:(if (large) 100 else 10), ])
    few <- seq_len(if (large) 2500 else 120)
    s <- list(x = x, m = if (large) 400 else 10, k = if (large) 30 else 4, gp = gp, tree = cover_tree(gp), few = x[few, ])
    s$y <- sin(8 * s$few[, 1]) + rnorm(length(few), sd = 0.2)
    s$count <- rpois(length(few), exp(s$y))
    s$fit <- vif_fit(s$y[1:120], s$few[1:120, ], inducing = 10, k = 5, progress = FALSE)
    s$counts <- vif_fit(s$count[1:120], s$few[1:120, ], inducing = 10, k = 5, family = poisson(), progress = FALSE)
    s$before <- residual_knn(gp, s$k, predecessors = TRUE)
    s$copies <- residual_gp(x[rep(1:20, n / 20), ], interrupt_kernel, inducing = 5, seed = 1)
    s
  })
}

numbers_of_fit <- function(fit) c(fit$loglik, fit$nugget, fit$kernel$variance)

interrupt_works <- list(
  kmeans = function(s) sum(residual_gp(s$x, interrupt_kernel, s$m, seed = 1)$variance),
  maxmin = function(s) sum(residual_gp(s$x, interrupt_kernel, s$m, selection = "maxmin")$variance),
  factor = function(s) residual_gp(s$x[1:9, ], interrupt_kernel, s$x[seq_len(10 * s$m), ], jitter = 1e-3)$variance,
  features = function(s) sum(residual_gp(s$x, interrupt_kernel, s$x[seq_len(s$m), ])$variance),
  own = function(s) sum(residual_knn(residual_process(s$x, interrupt_kernel, s$gp$V, s$gp$variance), s$k)$dist),
  tree = function(s) sum(cover_tree(s$gp)$radius),
  brute = function(s) sum(residual_knn(s$gp, s$k, method = "brute", queries = seq_len(nrow(s$x) / 8))$dist),
  level = function(s) sum(residual_knn(s$tree, s$k, method = "level")$dist),
  best_first = function(s) sum(residual_knn(s$tree, s$k, method = "best_first", queries = seq_len(nrow(s$x) / 4))$dist),
  budget = function(s) sum(residual_knn(s$tree, s$k, queries = seq_len(nrow(s$x) / 4), budget = 100)$dist, na.rm = TRUE),
  predecessors = function(s) sum(residual_knn(s$gp, s$k, predecessors = TRUE)$dist, na.rm = TRUE),
  new = function(s) sum(residual_knn(s$gp, s$k, s$x + 0.001)$dist),
  copies = function(s) sum(residual_knn(s$copies, s$k)$dist),
  correlation = function(s) sum(residual_correlation(s$gp, seq_len(s$m))),
  order = function(s) sum(order_maxmin(s$x)[1:99]),
  sets = function(s) sum(conditioning_sets(s$tree, s$k, 0.1)$variance),
  regression = function(s) sum(vif_factor(s$gp, s$before, 0.1)$D),
  likelihood = function(s) as.numeric(vif_loglik(s$x[, 1], s$gp, s$before, 0.1, gradient = TRUE)),
  dense = function(s) gp_loglik(s$y, s$few, interrupt_kernel, 0.1),
  fit = function(s) numbers_of_fit(vif_fit(s$y, s$few, inducing = 20, k = 8, seed = 1, progress = FALSE)),
  shown = function(s) numbers_of_fit(vif_fit(s$y, s$few, inducing = 20, k = 8, seed = 1, progress = TRUE)),
  poisson = function(s) {
    numbers_of_fit(vif_fit(s$count, s$few, inducing = 20, k = 8, family = poisson(), seed = 1, progress = FALSE))
  },
  predict = function(s) sum(predict(s$fit, s$x, interval = "prediction", progress = FALSE)$upr),
  counts = function(s) sum(predict(s$counts, s$x, progress = FALSE)$fit),
  latent = function(s) latent_loglik(s$counts, method = "iterative", probes = 2 * s$m)[[1]],
  simulate = function(s) sum(simulate(s$fit, nsim = 5 * s$m, seed = 1)),
  loo = function(s) sum(residuals(s$fit, "loo")),
  cv = function(s) sum(unlist(vif_cv(s$fit, folds = 4, seed = 1)$scores))
)

interrupt_seconds <- function(name) {
  stored(paste("seconds", name), function() {
    before <- own_seconds()
    suppressMessages(interrupt_works[[name]](interrupt_setting("large")))
    own_seconds() - before
  })
}

prepare_interrupts <- function() {
  small <- interrupt_setting("small")
  for (name in names(interrupt_works)) {
    stored(paste("right", name), function() interrupt_works[[name]](small))
    interrupt_seconds(name)
  }
}

own_seconds <- function() sum(proc.time()[1:2])

# The processor time of this process when a signal was sent to it, from /proc.
signal_seconds <- function(file) {
  stat <- sub(".*[)] ", "", readLines(file, warn = FALSE)[1])
  ticks <- stored("ticks", function() as.numeric(system2("getconf", "CLK_TCK", stdout = TRUE)))
  sum(as.numeric(strsplit(stat, " ")[[1]][12:13])) / ticks
}

# Does the work with an end at a random moment: what came of it, and how long after the moment.
ended <- function(work, way, moment) {
  s <- interrupt_setting("large")
  caught <- function(e) if (inherits(e, "interrupt")) "interrupt" else conditionMessage(e)
  if (way == "signal") {
    file <- tempfile()
    ready <- tempfile()
    on.exit(unlink(c(file, ready)))
    own <- Sys.getpid()
    came <- suspendInterrupts({
      # system() ignores signals while it runs
      system(sprintf("(while [ ! -e %s ]; do sleep 0.002; done; sleep %.3f; cat /proc/%d/stat > %s; kill -INT %d) &", ready,
                     moment, own, file, own))
      file.create(ready)
      what <- tryCatch(allowInterrupts({ work(s); "done" }), interrupt = caught, error = caught)
      at <- own_seconds()
      if (what == "done") tryCatch(allowInterrupts(Sys.sleep(600)), interrupt = caught)
      what
    })
    return(list(what = came, late = if (came == "done") 0 else at - signal_seconds(file), right = "interrupt"))
  }
  if (way == "limit") {
    start <- own_seconds()
    came <- tryCatch({
      setTimeLimit(cpu = moment, transient = TRUE)
      work(s)
      "done"
    }, error = caught, finally = setTimeLimit())
    return(list(what = came, late = own_seconds() - start - moment, right = "reached CPU time limit"))
  }
  left <- sample.int(12, 1)
  at <- NULL
  stop_here <- function(m) {
    left <<- left - 1
    if (left == 0) {
      at <<- own_seconds()
      stop("no more of this")
    }
    invokeRestart("muffleMessage")
  }
  came <- tryCatch(withCallingHandlers({ work(s); "done" }, message = stop_here), error = caught)
  list(what = came, late = if (is.null(at)) 0 else own_seconds() - at, right = "no more of this")
}

fuzz_interrupt <- function() {
  name <- sample(names(interrupt_works), 1)
  way <- if (name == "shown") one_of("signal", "progress") else one_of("signal", "limit", shares = c(2, 1))
  work <- interrupt_works[[name]]
  small <- interrupt_setting("small")
  right <- stored(paste("right", name), function() suppressMessages(work(small)))
  moment <- runif(1, 0.005, max(0.05, interrupt_seconds(name)))
  label <- paste0(name, ", ", way, " after ", format(moment, digits = 3), " s: ")
  gc(FALSE)
  held <- .Call(vecchiann:::C_scratch_buffers, NULL)[2]
  came <- suppressMessages(ended(work, way, moment))
  gc(FALSE)
  faults <- NULL
  if (!came$what %in% c("done", came$right)) faults <- c(faults, paste0(label, "ended with ", came$what))
  if (came$what != "done" && came$late > most_seconds) faults <- c(faults, paste0(label, "control after ", format(came$late), " s"))
  left <- .Call(vecchiann:::C_scratch_buffers, NULL)[2] - held
  if (left) faults <- c(faults, paste0(label, left, " buffers are left"))
  again <- tryCatch(suppressMessages(work(small)), error = conditionMessage)
  if (!identical(again, right)) faults <- c(faults, paste0(label, "another answer afterwards"))
  list(form = paste0(way, if (came$what == "done") ", too late"), checks = 1, faults = faults)
}
