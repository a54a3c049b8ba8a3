held_buffers <- function() .Call(C_scratch_buffers, NULL)[2]
asked_buffers <- function() .Call(C_scratch_buffers, NULL)[1]

test_that("every request for memory of every routine may fail once, and nothing is lost", {
  skip_on_cran()
  calls <- entry_calls()
  routines <- names(getDLLRegisteredRoutines("vecchiann")$.Call)
  expect_identical(grep("^shard_", setdiff(routines, names(calls)), invert = TRUE, value = TRUE), "scratch_buffers")
  on.exit(.Call(C_scratch_buffers, 0))
  failed <- refused <- 0
  for (at in seq_along(calls)) {
    call <- calls[[at]]
    gc(FALSE)
    held <- held_buffers()
    whole <- call_entry(call)
    asked <- asked_buffers()
    whole <- call_entry(call)
    asked <- asked_buffers() - asked
    for (nth in seq_len(asked)) {
      .Call(C_scratch_buffers, nth)
      value <- tryCatch(call_entry(call), error = conditionMessage)
      .Call(C_scratch_buffers, 0)
      failed <- failed + 1
      if (identical(value, "not enough memory")) refused <- refused + 1
      else if (!identical(value, whole) && names(calls)[at] != "vif_memory") {
        fail(paste0(names(calls)[at], ", call ", at, ", request ", nth, ": ", deparse(value)[1]))
      }
    }
    if (names(calls)[at] == "vif_memory") value <- whole <- NULL
    gc(FALSE)
    expect_identical(held_buffers(), held, label = names(calls)[at])
    if (names(calls)[at] != "vif_memory") expect_identical(call_entry(call), whole, label = names(calls)[at])
  }
  expect_gt(refused, 500)
  expect_lt(failed - refused, failed / 50) # what can do without goes on: a vif_memory()
  message(sprintf("%d requests failed, %d errors, in %d calls", failed, refused, length(calls)))
})

test_that("an evaluation in steps, as clusters make it, loses nothing either", {
  set.seed(2)
  x <- matrix(runif(80), 40)
  gp <- residual_gp(x, gp_kernel("matern", lengthscale = 0.3, smoothness = 0.8), inducing = 5, seed = 1)
  id <- unname(residual_knn(gp, 3, predecessors = TRUE)$id)
  noise <- rep(0.1, 40)
  values <- rbind(sin(6 * x[, 1]), 1)
  evaluate <- function() {
    shard <- list(own = as.raw(rep(1, 40)), number = 0:39, apart = FALSE)
    open <- .Call(C_shard_open, gp, noise, noise, id, values, shard, 2L, FALSE, NULL, 1L)
    on.exit(.Call(C_shard_close, open$pointer))
    known <- .Call(C_shard_finish, open$sizes, 1L, double(), open$sums)
    known <- .Call(C_shard_finish, open$sizes, 2L, known, .Call(C_shard_step, open$pointer, 2L, known))
    .Call(C_shard_finish, open$sizes, 3L, known, .Call(C_shard_step, open$pointer, 3L, known))$loglik
  }
  on.exit(.Call(C_scratch_buffers, 0))
  gc(FALSE)
  held <- held_buffers()
  before <- asked_buffers()
  whole <- evaluate()
  asked <- asked_buffers() - before
  local <- vif_evaluate(values[1, ], gp, id, noise, cbind(values[2, ]), 1L, nugget = noise)
  expect_equal(whole, as.numeric(local$loglik))
  for (nth in seq_len(asked)) {
    .Call(C_scratch_buffers, nth)
    expect_error(evaluate(), "^not enough memory$", label = paste("request", nth))
  }
  .Call(C_scratch_buffers, 0)
  gc(FALSE)
  expect_identical(held_buffers(), held)
  expect_identical(evaluate(), whole)
})

test_that("calls beyond a limit on memory end in an error, and the session goes on", {
  skip_on_cran()
  skip_if(nzchar(Sys.getenv("ASAN_OPTIONS")), "a sanitizer takes terabytes of addresses")
  skip_on_os(c("windows", "mac"))
  script <- tempfile(fileext = ".R")
  on.exit(unlink(script))
  writeLines(c(
    "library(vecchiann)",
    "small <- function() residual_knn(residual_gp(1:30 / 30, gp_kernel(), 5, seed = 1), 3)$id",
    "before <- small()",
    "x <- matrix(runif(8e5), ncol = 2)",
    "work <- expression(nn = residual_knn(residual_gp(x, gp_kernel(lengthscale = 0.01), 0), 20, method = 'level'),",
    "  tree = cover_tree(residual_gp(x, gp_kernel('matern52', 1, 0.3), x[1:20, ])), order = order_maxmin(x),",
    "  features = residual_gp(x, gp_kernel(), x[1:900, ], jitter = 0.1),",
    "  sets = conditioning_sets(residual_gp(x, gp_kernel(), 0), 10, 0.1))",
    "ended <- function(e) tryCatch({ eval(e); 'done' }, error = conditionMessage)",
    "for (name in names(work)) cat(name, ended(work[[name]]), '\\n', sep = ': ')",
    "gc(FALSE)",
    "cat(.Call(vecchiann:::C_scratch_buffers, NULL)[2], identical(small(), before))"
  ), script)
  libraries <- paste(.libPaths(), collapse = .Platform$path.sep)
  refused <- 0
  for (limit in c(350, 450, 600)) {
    command <- sprintf("ulimit -v %d000; R_LIBS=%s OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 %s --vanilla %s 2>&1", limit,
                       shQuote(libraries), shQuote(file.path(R.home("bin"), "Rscript")), shQuote(script))
    out <- system2("sh", c("-c", shQuote(command)), stdout = TRUE)
    said <- grep("^(nn|tree|order|features|sets): ", out, value = TRUE)
    expect_length(said, 5)
    expect_true(all(grepl("done|not enough memory|cannot allocate", said)), label = paste(out, collapse = "\n"))
    expect_identical(out[length(out)], "0 TRUE", label = paste(limit, "MB"))
    refused <- refused + sum(!grepl("done", said))
  }
  expect_gt(refused, 3)
})
