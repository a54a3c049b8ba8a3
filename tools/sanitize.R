# The C core under the compiler's sanitizers, under valgrind, and with R's collector at every allocation.
#
#   Rscript tools/sanitize.R [short|long]
#
# 1. A build with AddressSanitizer and UndefinedBehaviorSanitizer in .sanitize/lib, whose runtime is loaded before R: a call of
#    every routine, damaged objects, hostile calls, searches; `long` has more of them, lets every allocation of every routine
#    fail once, and runs the whole suite of tests.
# 2. valgrind's memcheck over a call of every routine (tests/testthat/helper-entries.R), by AVX2, because it knows no AVX-512
#    (the calls are recorded so: indices are laid out for an instruction set).
# 3. gctorture() over the same calls: R's collector runs at each allocation, and answers stay the same.
# Linux with gcc. Leaks are counted by the core itself, in tests/testthat/test-scratch.R: R's own would hide them.

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
arguments <- commandArgs(TRUE)
helper <- file.path("tests", "testthat", "helper-entries.R")
folder <- ".sanitize"

with_helper <- function() {
  suppressPackageStartupMessages(library(vecchiann))
  options(vecchiann.threads = 1)
  sys.source(helper, globalenv())
}

children <- list(
  record = function(file) {
    environment <- new.env(parent = asNamespace("vecchiann"))
    sys.source(helper, environment)
    saveRDS(suppressMessages(suppressWarnings(environment$entry_calls())), file)
  },
  replay = function(file) {
    with_helper()
    calls <- readRDS(file)
    for (call in calls) call_entry(call)
    cat(length(calls), "calls of", length(unique(names(calls))), "routines\n")
  },
  torture = function(file) {
    with_helper()
    calls <- readRDS(file)
    if ("short" %in% arguments) calls <- calls[!duplicated(names(calls))]
    for (at in seq_along(calls)) {
      whole <- call_entry(calls[[at]])
      gctorture(TRUE)
      value <- call_entry(calls[[at]])
      gctorture(FALSE)
      same <- identical(value, whole) || names(calls)[at] %in% c("gp_known", "tree_known", "vif_memory")
      if (!same) stop(names(calls)[at], ": another answer", call. = FALSE)
    }
    cat(length(calls), "calls of", length(unique(names(calls))), "routines\n")
  }
)

run <- function(label, command, args, env = character(), timeout = 0) {
  started <- proc.time()
  status <- system2(command, args, env = env, timeout = timeout)
  spent <- proc.time() - started
  cat(sprintf("%s: %s, %.0f s, %.0f s of the processor\n", label, if (status) paste("FAILED, status", status) else "clean",
              spent[[3]], sum(spent[4:5])))
  status != 0
}

rscript <- file.path(R.home("bin"), "Rscript")
installed <- function(lib) paste0("R_LIBS=", paste(c(normalizePath(lib), .libPaths()), collapse = ":"))
plain <- function() c(installed(".lib"), "VECCHIANN_SIMD=avx2", "OMP_NUM_THREADS=1")

sanitized_build <- function(lib) {
  dir.create(lib, recursive = TRUE, showWarnings = FALSE)
  makevars <- file.path(folder, "Makevars")
  flags <- "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
  writeLines(c(paste("CFLAGS = -g -O1", flags), paste("LDFLAGS =", flags)), makevars)
  run("build with sanitizers", file.path(R.home("bin"), "R"),
      c("CMD", "INSTALL", "--preclean", "--clean", "--no-docs", "--no-test-load", "--no-byte-compile",
        paste0("--library=", lib), "."),
      env = c(paste0("R_MAKEVARS_USER=", normalizePath(makevars)), "MAKEFLAGS=-j2"))
}

under_sanitizers <- function(long, file) {
  lib <- file.path(folder, "lib")
  failed <- sanitized_build(lib)
  runtime <- vapply(c("libasan.so", "libubsan.so"), function(name) {
    system2("gcc", paste0("-print-file-name=", name), stdout = TRUE)
  }, "")
  watched <- c(paste0("LD_PRELOAD=", paste(normalizePath(runtime), collapse = ":")), installed(lib), "NOT_CRAN=true",
               "OMP_NUM_THREADS=2",
               "ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1:detect_stack_use_after_return=1",
               "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1")
  tests <- function(files) {
    code <- sprintf(paste0("r <- as.data.frame(testthat::test_dir('tests/testthat', filter = '%s', package = 'vecchiann', ",
                           "load_package = 'installed', reporter = 'summary', stop_on_failure = FALSE)); ",
                           "quit(status = sum(r$failed) + sum(r$error) > 0)"), files)
    run(paste("sanitizers, tests", files), rscript, c("-e", shQuote(code)), watched)
  }
  failed <- c(failed, run("sanitizers, a call of every routine", rscript, c(script, "--child", "replay", file),
                          c(watched, "VECCHIANN_SIMD=avx2")))
  if (long) failed <- c(failed, tests("^scratch$"))
  counts <- if (long) c(searches = 1500, objects = 5000, calls = 5000) else c(searches = 30, objects = 200, calls = 200)
  for (kind in names(counts)) {
    failed <- c(failed, run(paste("sanitizers,", counts[[kind]], kind), rscript,
                            c("tools/fuzz.R", kind, counts[[kind]], 70000), watched))
  }
  if (long) failed <- c(failed, tests(""))
  failed
}

under_valgrind_and_torture <- function(long, file) {
  c(
    run("valgrind", file.path(R.home("bin"), "R"),
        c("-d", shQuote("valgrind --error-exitcode=9 -q --leak-check=no"), "--vanilla", "-s", "-f", script, "--args", "--child",
          "replay", file), plain()),
    run("gctorture", rscript, c(script, "--child", "torture", file, if (!long) "short"), plain())
  )
}

parent <- function(long) {
  dir.create(folder, showWarnings = FALSE)
  file <- file.path(folder, "calls.rds")
  if (run("calls of every routine", rscript, c(script, "--child", "record", file), plain())) quit(status = 1)
  # side by side, as neither uses more than one processor for long
  works <- list(under_sanitizers, under_valgrind_and_torture)
  failed <- parallel::mclapply(works, function(work) work(long, file), mc.cores = 2)
  quit(status = !all(vapply(failed, is.logical, NA)) || any(unlist(failed)))
}

if (length(arguments) && arguments[1] == "--child") {
  children[[arguments[2]]](arguments[3])
} else {
  parent(match.arg(c(arguments, "short")[1], c("short", "long")) == "long")
}
