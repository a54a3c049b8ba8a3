# Builds, checks and tests the package as other machines do, and prints one line for each variant. Fails where one does.
#
#   Rscript tools/check_variants.R [variant ...]      all of them, or those that are named
#
# What a variant printed is left in .check-variants/. The tests are those that a package repository runs; NOT_CRAN=true
# in the environment runs all of them.

place <- file.path(getwd(), ".check-variants")
r_program <- function(name) file.path(R.home("bin"), name)
fail <- function(...) stop(..., call. = FALSE)
skip <- function(...) stop(structure(class = c("skip", "error", "condition"), list(message = paste0(...), call = NULL)))

# Runs a program with more environment variables and leaves what it prints in a file; TRUE if it succeeded.
run <- function(log, program, arguments, env = character()) {
  log <- file.path(place, paste0(log, ".txt"))
  env <- paste0(names(env), "=", shQuote(env), recycle0 = TRUE)
  system2(program, arguments, env = env, stdout = log, stderr = log, stdin = "") == 0
}

# ---- Builds: made when first asked for, each in a library of its own -------------------------------------------------

strict <- "CFLAGS = -O2 -Wall -Wextra -pedantic"

builds <- list( # what a user's Makevars would say
  gcc = c("CC = gcc", strict),
  clang = c("CC = clang", strict),
  "no-openmp" = "SHLIB_OPENMP_CFLAGS ="
)

tarball <- function() {
  found <- Sys.glob(file.path(place, "*.tar.gz"))
  if (length(found) == 1) return(found)
  here <- getwd()
  on.exit(setwd(here))
  setwd(place)
  arguments <- c("CMD", "build", "--no-build-vignettes", shQuote(here))
  if (!run("build", r_program("R"), arguments)) fail("R CMD build failed")
  tarball()
}

built <- function(name) {
  library <- file.path(place, name)
  if (file.exists(file.path(library, "vecchiann"))) return(library)
  program <- sub("CC = ", "", grep("^CC", builds[[name]], value = TRUE))
  if (any(!nzchar(Sys.which(program)))) skip("no ", program, " here")
  dir.create(library, showWarnings = FALSE)
  makevars <- file.path(place, paste0(name, ".makevars"))
  writeLines(builds[[name]], makevars)
  arguments <- c("CMD", "INSTALL", "--no-docs", paste0("--library=", shQuote(library)), shQuote(tarball()))
  # Several files at once, to see that none waits for another.
  ok <- run(paste0(name, "-install"), r_program("R"), arguments, c(R_MAKEVARS_USER = makevars, MAKEFLAGS = "-j4"))
  if (!ok) fail("R CMD INSTALL failed")
  library
}

# ---- What can be wrong: each stops with words ------------------------------------------------------------------------

no_warnings <- function(name) {
  built(name)
  found <- grep("warning:", readLines(file.path(place, paste0(name, "-install.txt")), warn = FALSE), value = TRUE)
  if (length(found) > 0) fail("warnings: ", length(found), ", the first ", found[[1]])
}

tests <- function(name, log = name, env = character()) {
  counts <- file.path(place, paste0(log, "-counts.txt"))
  libraries <- paste(c(built(name), .libPaths()), collapse = .Platform$path.sep)
  env <- c(R_LIBS = libraries, NOT_CRAN = Sys.getenv("NOT_CRAN", "false"), env)
  ok <- run(paste0(log, "-tests"), r_program("Rscript"), c("tools/test.R", shQuote(counts)), env)
  result <- if (file.exists(counts)) readLines(counts) else "the tests stopped"
  if (ok) result else fail(result)
}

tests_in_locale <- function(name) {
  asked <- c("-e", shQuote(sprintf('cat(Sys.setlocale("LC_CTYPE", "%s"))', name)))
  found <- suppressWarnings(system2(r_program("Rscript"), asked, stdout = TRUE, stderr = FALSE))
  if (length(found) == 0) skip("no such locale here")
  tests("gcc", name, c(LC_ALL = name))
}

checked <- function(log, options, env = character()) {
  if (!run(log, r_program("Rscript"), c("tools/check.R", options), env)) {
    fail("see ", log, ".txt: ", tail(readLines(file.path(place, paste0(log, ".txt")), warn = FALSE), 1))
  }
}

variants <- list(
  gcc = list("gcc without a warning, make -j", function() no_warnings("gcc")),
  clang = list("clang without a warning, make -j", function() { no_warnings("clang"); tests("clang") }),
  "no-openmp" = list("compiled without OpenMP", function() tests("no-openmp")),
  c = list("locale C", function() tests_in_locale("C")),
  latin1 = list("locale en_US.ISO-8859-1", function() tests_in_locale("en_US.ISO-8859-1")),
  avx2 = list("no vector instructions beyond AVX2", function() tests("gcc", "avx2", c(VECCHIANN_SIMD = "avx2"))),
  portable = list("portable code only", function() tests("gcc", "portable", c(VECCHIANN_SIMD = "portable"))),
  "depends-only" = list("R CMD check without suggested packages", function() {
    checked("depends-only", "--no-manual", c("_R_CHECK_DEPENDS_ONLY_" = "true"))
  }),
  cran = list("R CMD check --as-cran", function() checked("cran", "--as-cran"))
)

wanted <- commandArgs(trailingOnly = TRUE)
if (length(wanted) == 0) wanted <- names(variants)
unknown <- setdiff(wanted, names(variants))
if (length(unknown) > 0) {
  fail("no variant ", paste(unknown, collapse = ", "), "; there are ", paste(names(variants), collapse = ", "))
}
unlink(place, recursive = TRUE)
dir.create(place)

failed <- FALSE
for (name in wanted) {
  state <- "ok"
  time <- system.time(says <- tryCatch(variants[[name]][[2]](), error = function(e) {
    state <<- if (inherits(e, "skip")) "skipped" else "FAILED"
    conditionMessage(e)
  }))
  failed <- failed || state == "FAILED"
  says <- paste0("; ", says, recycle0 = TRUE, collapse = "")
  cat(sprintf("%-7s %-12s %s, %.0f s%s\n", state, name, variants[[name]][[1]], time[["elapsed"]], says))
}
if (failed) quit(status = 1)
