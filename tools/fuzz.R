# Adversarial cases for the installed package, seeded. Prints counts; any fault ends with status 1.
#
#   Rscript tools/fuzz.R KIND [COUNT] [SEED] [SECONDS]
#
# KIND is one of
#   searches     random problems: every tree search against brute force, under each instruction set
#   objects      processes, trees, neighbours, conditioning sets and fits, damaged in memory and in files
#   calls        every exported function, with arguments of wrong types, sizes and values
#   interrupts   interrupts, time limits and errors from progress, at random moments of long work
# Each case has a seed of its own: SEED, SEED + 1, ... A case that fails prints its seed, and
# `Rscript tools/fuzz.R KIND 1 THAT_SEED` repeats it. Cases run in forks of a process that holds what they work on, some
# hundred in each; one that ends its fork, or hangs, is a fault, and the next fork goes on behind it. After SECONDS no more
# are begun.

suppressPackageStartupMessages(library(vecchiann))

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
for (part in c("searches", "objects", "calls", "interrupts")) {
  source(file.path(dirname(script), paste0("fuzz_", part, ".R")))
}

# one: a function of one case, with the seed set, that returns a list of `form` (any label to count by), `checks` (how many
# it made), `queries` (neighbours of how many were compared, if any), and `faults` (texts); prepare: makes what the cases of
# all forks share; environments: of the child processes; slice: cases of a fork.
kinds <- list(
  searches = list(one = fuzz_search, prepare = function() NULL, slice = 100,
                  environments = paste0("VECCHIANN_SIMD=", c("portable", "avx2", "avx512"))),
  objects = list(one = fuzz_object, prepare = prepare_objects, environments = "VECCHIANN_SIMD=", slice = 500),
  calls = list(one = fuzz_call, prepare = call_setting, environments = "VECCHIANN_SIMD=", slice = 500),
  interrupts = list(one = fuzz_interrupt, prepare = prepare_interrupts, environments = "VECCHIANN_SIMD=", slice = 50)
)

nothing <- list(cases = 0, checks = 0, queries = 0, faults = 0, forms = integer())

add_counts <- function(all, more) {
  for (count in c("cases", "checks", "queries", "faults")) all[[count]] <- all[[count]] + more[[count]]
  all$forms <- add_forms(all$forms, more$forms)
  all
}

add_forms <- function(all, more) {
  for (form in names(more)) all[form] <- sum(all[form], more[form], na.rm = TRUE)
  all
}

# ---- the children ---------------------------------------------------------------------------------------------------

# Cases of seeds first .. last, none begun after `until`; leaves what was done in a file after each, for others to find.
run_cases <- function(kind, first, last, until, file) {
  done <- c(nothing, seed = first - 1)
  for (seed in first:last) {
    if (as.numeric(Sys.time()) > until) break
    done$seed <- seed
    saveRDS(c(done, ended = FALSE), file, compress = FALSE)
    set.seed(seed)
    found <- tryCatch(kinds[[kind]]$one(), error = function(e) list(form = "error", checks = 1, faults = conditionMessage(e)))
    done$cases <- done$cases + 1
    done$checks <- done$checks + found$checks
    done$queries <- done$queries + sum(found$queries)
    done$faults <- done$faults + length(found$faults)
    done$forms <- add_forms(done$forms, setNames(found$checks, found$form))
    for (fault in found$faults) cat("seed ", seed, ": ", fault, "\n", sep = "")
  }
  saveRDS(c(done, ended = TRUE), file, compress = FALSE)
}

# The same in a fork, which starts with all that cases work on. One without news for ten minutes hangs.
run_fork <- function(kind, first, last, until, file) {
  if (.Platform$OS.type == "windows") return(run_cases(kind, first, last, until, file))
  saveRDS(c(nothing, seed = first, ended = FALSE), file)
  job <- parallel::mcparallel(run_cases(kind, first, last, until, file), silent = FALSE)
  while (is.null(parallel::mccollect(job, wait = FALSE, timeout = 5))) {
    if (difftime(Sys.time(), file.mtime(file), units = "secs") > 600) {
      tools::pskill(job$pid, tools::SIGKILL)
      break
    }
  }
}

# Cases of seeds first .. last in forks; leaves the counts in a file.
run_child <- function(kind, first, last, until, file) {
  options(vecchiann.threads = 1)
  set.seed(1)
  suppressMessages(kinds[[kind]]$prepare())
  environment <- paste0("VECCHIANN_SIMD=", Sys.getenv("VECCHIANN_SIMD"))
  all <- nothing
  now <- tempfile(fileext = ".rds")
  while (first <= last && as.numeric(Sys.time()) < until) {
    run_fork(kind, first, min(last, first + kinds[[kind]]$slice - 1), until, now)
    done <- readRDS(now)
    all <- add_counts(all, done)
    if (!done$ended) {
      all$faults <- all$faults + 1
      cat("seed ", done$seed, ": the process ended, or hung (", environment, ")\n", sep = "")
    }
    first <- done$seed + 1
    saveRDS(all, file)
  }
}

# Runs cases of seeds first .. last in a process of that environment; returns the counts.
run_environment <- function(kind, environment, first, last, until) {
  file <- tempfile(fileext = ".rds")
  command <- paste(c(shQuote(file.path(R.home("bin"), "Rscript")), script, "--child", kind, first, last, sprintf("%.0f", until), file),
                   collapse = " ")
  # a call that asks for all the memory there is gets an error, and does not end the processes of the machine
  # (sanitizers reserve far more than they use)
  if (.Platform$OS.type == "unix" && !nzchar(Sys.getenv("ASAN_OPTIONS"))) command <- paste("ulimit -v 16000000;", command)
  failed <- system2("sh", c("-c", shQuote(command)), env = environment)
  done <- if (file.exists(file)) readRDS(file) else nothing
  if (failed) {
    done$faults <- done$faults + 1
    cat("a child process failed (", environment, ")\n", sep = "")
  }
  done
}

run_parent <- function(kind, count, seed, seconds) {
  environments <- kinds[[kind]]$environments
  each <- ceiling(count / length(environments))
  total <- nothing
  started <- as.numeric(Sys.time())
  for (at in seq_along(environments)) {
    until <- started + seconds * at / length(environments)
    done <- run_environment(kind, environments[at], seed, seed + each - 1, until)
    seed <- seed + if (count > 1) each else 0
    if (length(environments) > 1) cat(environments[at], ": ", summary_line(done), "\n", sep = "")
    total <- add_counts(total, done)
  }
  cat(kind, ": ", summary_line(total), "\n", sep = "")
  if (total$faults || !total$cases) quit(status = 1)
}

summary_line <- function(done) {
  number <- function(x) format(x, big.mark = ",", scientific = FALSE)
  paste0(number(done$cases), " cases, ", number(done$checks), " checks, ",
         if (done$queries) paste0(number(done$queries), " queries, "), number(done$faults), " faults (",
         paste(names(done$forms), number(done$forms), collapse = "; "), ")")
}

arguments <- commandArgs(TRUE)
if (length(arguments) && arguments[1] == "--child") {
  run_child(arguments[2], as.integer(arguments[3]), as.integer(arguments[4]), as.numeric(arguments[5]), arguments[6])
} else {
  number <- function(at, default) if (length(arguments) < at) default else as.numeric(arguments[at])
  run_parent(match.arg(arguments[1], names(kinds)), number(2, 1000), number(3, 1), number(4, Inf))
}
