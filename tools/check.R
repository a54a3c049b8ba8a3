# R CMD build and R CMD check --no-manual, in .check. Errors, warnings and notes fail, but for the notes listed here,
# which speak of the machine and not of the package.

unavoidable <- c(
  "Packages? suggested but not available for checking"
)

Sys.setenv(
  "_R_CHECK_FORCE_SUGGESTS_" = "false",        # suggested packages are used conditionally
  "_R_CHECK_SYSTEM_CLOCK_" = "0",              # would ask a server for the time
  "_R_CHECK_FUTURE_FILE_TIMESTAMPS_" = "false",
  "_R_CHECK_PKG_SIZES_" = "false"              # measures the debugging symbols of R's own compiler flags
)

r_cmd <- function(...) system2(file.path(R.home("bin"), "R"), c("CMD", ...), stdin = "")

unlink(".check", recursive = TRUE)
dir.create(".check")
setwd(".check")
if (r_cmd("build", "..") != 0) stop("R CMD build failed", call. = FALSE)

# The tests have a command of their own (make check) and need not run twice.
status <- r_cmd("check", "--no-manual", "--no-tests", Sys.glob("*.tar.gz"))

found <- tools::check_packages_in_dir_details(logs = Sys.glob("*.Rcheck/00check.log"), drop_ok = TRUE)
notes <- found$Status == "NOTE" & grepl(paste(unavoidable, collapse = "|"), found$Output)
bad <- found[!notes & found$Status %in% c("NOTE", "WARNING", "ERROR"), ]
if (status != 0 || nrow(bad) > 0) {
  stop("R CMD check is not clean", sprintf("\n%s: %s", bad$Status, bad$Check), call. = FALSE)
}
