# Rewrites NAMESPACE and man/ from the comments in R/; with --check only says whether they are up to date.

# The sources are read without compiling anything, since documentation depends on the R code alone, and without
# attaching the imported packages: Matrix would turn print and summary into generics for which ours are no methods.
read_sources <- function(root) {
  sources <- new.env(parent = globalenv())
  for (file in list.files(file.path(root, "R"), full.names = TRUE)) sys.source(file, sources)
  sources
}

document <- function(root) roxygen2::roxygenise(root, load_code = read_sources)

generated <- function(root) {
  files <- c("NAMESPACE", file.path("man", list.files(file.path(root, "man"), pattern = "\\.Rd$")))
  sapply(files, function(file) readLines(file.path(root, file), encoding = "UTF-8"), simplify = FALSE)
}

check <- function() {
  if (packageVersion("roxygen2") != read.dcf("DESCRIPTION", "RoxygenNote")[[1]]) {
    return(message("Documentation not checked: another version of roxygen2 wrote it, in other words."))
  }
  copy <- tempfile("document")
  dir.create(copy)
  file.copy(c("DESCRIPTION", "NAMESPACE", "R", "man"), copy, recursive = TRUE)
  # What roxygen2 warns of does not reach the manual as it was meant.
  withCallingHandlers(suppressMessages(document(copy)), warning = function(w) stop(conditionMessage(w), call. = FALSE))
  now <- generated(".")
  new <- generated(copy)
  stale <- Filter(function(file) !identical(now[[file]], new[[file]]), union(names(now), names(new)))
  if (length(stale) > 0) {
    stop("out of date, run `make document`: ", paste(stale, collapse = ", "), call. = FALSE)
  }
}

if ("--check" %in% commandArgs(trailingOnly = TRUE)) check() else document(".")
