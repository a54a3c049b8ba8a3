# R CMD build and R CMD check, in .check. Errors, warnings and notes fail, but for the lines listed here, which speak of
# the machine or of a package's first submission.
#
#   Rscript tools/check.R [option of R CMD check ...]
#
# Without options the tests are left out, which have a command of their own (make check), and the vignettes are built once,
# by R CMD build.

unavoidable <- c(
  "^Packages? suggested but not available for checking:", "^ +('[[:alnum:].]+'(, *)?)+$",
  "^Maintainer: ", "^New submission$"
)

Sys.setenv(
  "_R_CHECK_FORCE_SUGGESTS_" = "false",        # suggested packages are used conditionally
  "_R_CHECK_SYSTEM_CLOCK_" = "0",              # would ask a server for the time
  "_R_CHECK_FUTURE_FILE_TIMESTAMPS_" = "false",
  "_R_CHECK_CRAN_INCOMING_REMOTE_" = "false",  # would ask servers for addresses and for the repository's index
  "_R_CHECK_RD_LINE_WIDTHS_" = "true",         # as CRAN does
  "_R_CHECK_PKG_SIZES_" = "false"              # measures the debugging symbols of R's own compiler flags
)

# The script that CRAN reads `cleanup` with, of Debian's devscripts.
if (!nzchar(Sys.which("checkbashisms"))) Sys.setenv("_R_CHECK_BASHISMS_" = "false")

options <- commandArgs(trailingOnly = TRUE)
if (length(options) == 0) options <- c("--no-tests", "--no-manual", "--no-build-vignettes", "--run-donttest")
if (!nzchar(Sys.which("pdflatex"))) options <- union(options, "--no-manual")

r_cmd <- function(...) system2(file.path(R.home("bin"), "R"), c("CMD", ...), stdin = "")

unlink(".check", recursive = TRUE)
dir.create(".check")
setwd(".check")
if (r_cmd("build", "..") != 0) stop("R CMD build failed", call. = FALSE)
status <- r_cmd("check", options, Sys.glob("*.tar.gz"))

found <- tools::check_packages_in_dir_details(logs = Sys.glob("*.Rcheck/00check.log"), drop_ok = TRUE)
says <- function(output) {
  lines <- gsub("[\u2018\u2019]", "'", strsplit(output, "\n", fixed = TRUE)[[1]])
  Filter(nzchar, lines[!grepl(paste(unavoidable, collapse = "|"), lines)])
}
notes <- found$Status == "NOTE" & lengths(lapply(found$Output, says)) == 0
bad <- found[!notes & found$Status %in% c("NOTE", "WARNING", "ERROR"), ]
if (status != 0 || nrow(bad) > 0) {
  stop("R CMD check is not clean", sprintf("\n%s: %s", bad$Status, bad$Check), call. = FALSE)
}
