# The house rules that a script can check. One line for each violation; any violation ends with status 1.
#
#   Rscript tools/lint.R [root]

# ---- The rules, as data ---------------------------------------------------------------------------------------------

# src/: folders, foundations first, and in each its files without their endings, row by row. A file may include the headers
# of earlier folders, of earlier rows of its own folder, and its own: neither of later rows nor of its peers in the same row.
c_layers <- list(
  simd = list("simd_lanes", "simd_body", "simd"),
  base = list(c("status", "bitset", "heap", "kbest", "threads", "scratch"), "pace", "linalg"),
  model = list("matern", "kernel", c("inducing", "metric"), c("places", "specials")),
  partition = list("boxes", c("tree", "order"), "cells"),
  bound = list("bounds", "spans"),
  form = list("form", c("frames", "sample"), "subspace", c("dense", "expansions", "integers", "landmarks", "laws")),
  search = list(
    c("answers", "index"), "query", c("brute", "distinct", "level"), c("best_first", "candidates", "frontier", "mutual")
  ),
  select = list("select"),
  vif = list(
    c("products", "slopes"), c("batch", "information"), c("evaluation", "laplace"), c("arrangement", "passes", "mean", "derivatives"),
    c("likelihood", "steps", "vif"), "predict"
  ),
  r = list(c("entry", "glue"), "known", "problem", c("gp", "laplace", "search", "select", "shard", "tree", "vif")),
  . = list("init") # R CMD check wants a source file in src/ itself
)

# R/: the families of files, foundations first. A file calls functions of its own family and of earlier ones.
r_layers <- c(
  "vecchiann-package", "checks", "runtime", "kernel", "object", "residual", "order", "tree", "cluster", "neighbours", "conditioning",
  "convert", "plot", "family", "vif"
)

# What only the folders and files named may contain. Comments and strings do not count.
rooms <- list(
  list(name = "<omp.h>", homes = "base/threads", pattern = "<omp\\.h>"),
  list(name = "R's API", homes = c("r", "init"), pattern = paste(
    "\\bSEXP\\b", "[<\"](R|Rdefines|Rinternals)\\.h", "R_ext/(Error|Memory|Print|Rdynload|Utils)\\.h",
    "\\b(Rf_error|Rf_warning|Rprintf|REprintf|R_alloc|R_CheckUserInterrupt)\\b", sep = "|")),
  list(name = "Rmath.h", homes = "model/matern", pattern = "[<\"]Rmath\\.h"),
  list(name = "a BLAS or LAPACK call", homes = "base/linalg", pattern = "\\bF77_\\w+|R_ext/(BLAS|Lapack)\\.h"),
  list(name = "instruction-set code", homes = "simd", pattern = paste(
    "\\b\\w*intrin\\.h", "\\barm_neon\\.h", "\\b_mm\\d*_\\w+", "\\b__m(128|256|512)\\w*",
    "#\\s*pragma\\s+(GCC\\s+(target|push_options)|clang\\s+attribute)", "\\btarget(_clones)?\\s*\\(", sep = "|")),
  list(name = "malloc, calloc, realloc or free", homes = "base/scratch",
       pattern = "(?<![\\w.>])(malloc|calloc|realloc|free|posix_memalign|aligned_alloc|strdup)\\s*\\("),
  list(name = "a monitor_poll() whose answer, an interrupt, is lost,", homes = character(),
       pattern = "^\\s*(\\(void\\)\\s*)?monitor_poll\\("),
  list(name = "the type long, 32 bits wide on Windows,", homes = character(),
       pattern = "(?<!long )\\blong\\b(?! long)")
)

# Folders and files that speak to readers, and what they must not say.
texts <- c("DESCRIPTION", "Makefile", "NEWS.md", "README.md", "_pkgdown.yml",
           ".ci", "R", "bench", "docs", "inst", "man", "src", "tests", "tools", "vignettes")
home_path <- "[/]((home|Users)/\\w|root/)"

# ---- Reading --------------------------------------------------------------------------------------------------------

# R/: a family is a file's name up to the first underscore.
family <- function(path) sub("[._].*", "", basename(path))
stem <- function(path) sub("\\.[^.]*$", "", basename(path))

read_text <- function(path) paste(readLines(path, warn = FALSE), collapse = "\n")

# C code without comments and string contents, with every line where it was. The names of included files stay.
read_c <- function(path) {
  text <- read_text(path)
  skip <- "(?m)^[ \\t]*#[ \\t]*include[ \\t]*[<\"][^>\"\\n]*[>\"](*SKIP)(*FAIL)"
  mute <- paste(skip, "(?s:/\\*.*?\\*/)", "//[^\\n]*", "\"(?:\\\\.|[^\"\\\\\\n])*\"", "'(?:\\\\.|[^'\\\\\\n])*'",
                sep = "|")
  found <- gregexpr(mute, text, perl = TRUE)
  regmatches(text, found) <- lapply(regmatches(text, found), function(x) gsub("[^\\n]+", " ", x, perl = TRUE))
  strsplit(text, "\n", fixed = TRUE)[[1]]
}

files_in <- function(root, folder, pattern) list.files(file.path(root, folder), pattern = pattern, recursive = TRUE)

# One line for each element of the longest argument, none where an argument is empty.
violation <- function(path, ..., line = NULL) {
  place <- if (missing(line)) path else paste0(path, ":", line, recycle0 = TRUE)
  paste0(place, ": ", ..., recycle0 = TRUE)
}

# ---- Checks: each takes the root of the package and returns its violations ------------------------------------------

check_includes <- function(root) {
  rows <- unlist(c_layers, recursive = FALSE)
  place <- paste0(rep(rep(names(c_layers), lengths(c_layers)), lengths(rows)), "/", unlist(rows))
  place <- sub("^[.]/", "", place)
  rank <- setNames(rep(seq_along(rows), lengths(rows)), place)
  unit <- function(path) sub("\\.[^.]*$", "", path)
  files <- files_in(root, "src", "")
  files <- files[!grepl("^(Makevars.*|README\\.md)$|\\.(o|so|dll|dylib)$", files)]
  unknown <- files[!unit(files) %in% names(rank) | !grepl("\\.[ch]$", files)]
  check <- function(file) {
    code <- read_c(file.path(root, "src", file))
    line <- grep("^\\s*#\\s*include\\s*\"", code)
    header <- sub("^[^\"]*\"([^\"]*)\".*", "\\1", code[line])
    own <- unit(header) == unit(file)
    bad <- !own & !(unit(header) %in% names(rank) & rank[unit(header)] < rank[[unit(file)]])
    violation(file.path("src", file), "must not include ", header[bad], ", which is not of an earlier layer",
              line = line[bad])
  }
  c(
    violation(file.path("src", unknown), "no layer of tools/lint.R names this file"),
    unlist(lapply(setdiff(files, unknown), check))
  )
}

# Every file of C is compiled, and nothing else.
check_objects <- function(root) {
  makevars <- file.path(root, "src", "Makevars")
  if (!file.exists(makevars)) return()
  text <- gsub("\\\\\n", " ", read_text(makevars))
  listed <- strsplit(trimws(sub("(?s).*OBJECTS *=([^\n]*).*", "\\1", text, perl = TRUE)), "\\s+")[[1]]
  wanted <- sub("c$", "o", files_in(root, "src", "\\.c$"))
  c(
    violation("src/Makevars", "OBJECTS lacks ", setdiff(wanted, listed)),
    violation("src/Makevars", "OBJECTS has ", setdiff(listed, wanted), ", which has no source")
  )
}

check_rooms <- function(root) {
  check <- function(file) {
    code <- read_c(file.path(root, "src", file))
    unlist(lapply(rooms, function(room) {
      if (any(startsWith(file, paste0(room$homes, "/", recycle0 = TRUE)),
              sub("\\.[^.]*$", "", file) %in% room$homes)) return()
      where <- if (length(room$homes) == 0) "nowhere" else paste("only in", paste(room$homes, collapse = ", "))
      line <- grep(room$pattern, code, perl = TRUE)
      violation(file.path("src", file), room$name, " belongs ", where, line = line)
    }))
  }
  unlist(lapply(files_in(root, "src", "\\.[ch]$"), check))
}

# Registered names with their number of arguments, from init.c's table of {"name", (DL_FUNC)&name, 3} or MACRO(name, 3).
registered <- function(root) {
  text <- paste(read_c(file.path(root, "src/init.c")), collapse = " ")
  table <- sub(".*R_CallMethodDef([^;]*);.*", "\\1", text)
  found <- regmatches(table, gregexpr("\\w+\\s*,\\s*\\d+\\s*[)}]", table, perl = TRUE))[[1]]
  found <- found[!grepl("^NULL\\b", found)]
  setNames(as.integer(gsub("\\D", "", sub("\\w+", "", found))), sub("\\W.*", "", found))
}

# Prototypes of entry.h with their number of arguments.
prototypes <- function(root) {
  text <- paste(read_c(file.path(root, "src/r/entry.h")), collapse = " ")
  found <- regmatches(text, gregexpr("\\bSEXP\\s+\\w+\\s*\\([^)]*\\)\\s*;", text, perl = TRUE))[[1]]
  setNames(lengths(gregexpr("\\bSEXP\\b", found)) - 1L, sub("SEXP\\s+(\\w+).*", "\\1", found))
}

check_registration <- function(root) {
  if (!all(file.exists(file.path(root, "src", c("init.c", "r/entry.h"))))) return("src: init.c or r/entry.h is missing")
  table <- registered(root)
  declared <- prototypes(root)
  both <- intersect(names(table), names(declared))
  differ <- both[table[both] != declared[both]]
  unregistered <- setdiff(names(declared), names(table))
  undeclared <- setdiff(names(table), names(declared))
  used <- unlist(lapply(files_in(root, "R", "\\.R$"), function(file) {
    tokens <- utils::getParseData(parse(file.path(root, "R", file), keep.source = TRUE))
    tokens <- tokens[tokens$token == "SYMBOL" & grepl("^C_", tokens$text), ]
    tokens <- tokens[!sub("^C_", "", tokens$text) %in% names(table), ]
    violation(file.path("R", file), tokens$text, " is not registered in init.c", line = tokens$line1)
  }))
  c(
    violation("src/init.c", differ, " is registered with ", table[differ], " arguments and declared with ",
              declared[differ]),
    violation("src/init.c", unregistered, " is declared in entry.h and not registered"),
    violation("src/init.c", undeclared, " is registered and not declared in entry.h"),
    used
  )
}

check_paths <- function(root) {
  here <- file.path(root, texts)
  files <- c(list.files(here[dir.exists(here)], all.files = TRUE, recursive = TRUE, full.names = TRUE),
             here[file.exists(here) & !dir.exists(here)])
  files <- files[!grepl("\\.(o|so|dll|dylib|png|pdf|rds|rda)$", files)]
  unlist(lapply(files, function(file) {
    line <- grep(home_path, readLines(file, warn = FALSE), perl = TRUE, useBytes = TRUE)
    name <- substring(file, nchar(root) + 2)
    violation(name, "names somebody's home directory", line = line)
  }))
}

# Top-level expressions of an R file as functions without arguments, so that what they use can be found without running
# any of it; and the names that they define.
read_r <- function(path) {
  expressions <- parse(path, keep.source = TRUE)
  assigned <- function(e) {
    if (is.call(e) && as.character(e[[1]])[[1]] %in% c("<-", "=") && is.name(e[[2]])) as.character(e[[2]]) else ""
  }
  uses <- lapply(as.list(expressions), function(e) {
    codetools::findGlobals(eval(call("function", NULL, call("{", e)), baseenv()))
  })
  list(
    line = vapply(getSrcref(expressions), function(ref) ref[[1]], 0L),
    defines = vapply(as.list(expressions), assigned, ""),
    uses = uses
  )
}

check_r_layers <- function(root) {
  files <- files_in(root, "R", "\\.R$")
  unknown <- files[!family(files) %in% r_layers]
  code <- lapply(setNames(file.path(root, "R", files), stem(files)), read_r)
  code <- code[family(names(code)) %in% r_layers]
  definitions <- lapply(code, function(file) file$defines[nzchar(file$defines)])
  home <- setNames(rep(names(definitions), lengths(definitions)), unlist(definitions))
  calls <- unlist(lapply(names(code), function(name) {
    later <- names(home)[match(family(home), r_layers) > match(family(name), r_layers)]
    unlist(Map(function(line, uses) {
      bad <- intersect(uses, later)
      violation(file.path("R", paste0(name, ".R")), bad, " is defined in the later file ", home[bad], ".R", line = line)
    }, code[[name]]$line, code[[name]]$uses))
  }))
  twice <- unique(names(home)[duplicated(names(home))])
  c(
    violation(file.path("R", unknown), "no layer of tools/lint.R names this file"),
    violation("R", twice, " is defined more than once"),
    calls
  )
}

# One concept, one name: a test file is called after the file in R/, src/ or tools/ that it tests.
check_names <- function(root) {
  concept <- function(names) sub("[-_].*", "", stem(names))
  known <- concept(c(files_in(root, "R", "\\.R$"), files_in(root, "src", "\\.[ch]$"), files_in(root, "tools", "\\.R$")))
  tests <- files_in(root, file.path("tests", "testthat"), "^test-.*\\.R$")
  bad <- tests[!concept(sub("^test-", "", tests)) %in% known]
  violation(file.path("tests/testthat", bad), "is not called after a file in R/, src/ or tools/")
}

# Every help page and vignette has a place in the index of the web site, and every entry of the index exists.
check_site <- function(root) {
  index <- file.path(root, "_pkgdown.yml")
  if (!file.exists(index)) return()
  lines <- readLines(index)
  part <- cumsum(grepl("^reference:", lines)) > 0
  entries <- function(of) sub("^  - ([^:]*)$", "\\1", grep("^  - [^:]*$", of, value = TRUE))
  pages <- files_in(root, "man", "\\.Rd$")
  is_internal <- function(page) grepl("\\keyword{internal}", read_text(file.path(root, "man", page)), fixed = TRUE)
  internal <- vapply(pages, is_internal, NA)
  pages <- sub("\\.Rd$", "", pages)
  vignettes <- sub("\\.Rmd$", "", files_in(root, "vignettes", "\\.Rmd$"))
  c(
    violation("_pkgdown.yml", "lacks the help page ", setdiff(pages[!internal], entries(lines[part]))),
    violation("_pkgdown.yml", "names the help page ", setdiff(entries(lines[part]), pages), ", which does not exist"),
    violation("_pkgdown.yml", "lacks the vignette ", setdiff(vignettes, entries(lines[!part]))),
    violation("_pkgdown.yml", "names the vignette ", setdiff(entries(lines[!part]), vignettes), ", which does not exist")
  )
}

checks <- list(check_includes, check_objects, check_rooms, check_registration, check_paths, check_r_layers, check_names,
               check_site)

lint <- function(root) as.character(unlist(lapply(checks, function(check) check(root))))

if (sys.nframe() == 0L) {
  root <- c(commandArgs(trailingOnly = TRUE), ".")[[1]]
  violations <- lint(root)
  writeLines(violations)
  if (length(violations) > 0) quit(status = 1)
}
