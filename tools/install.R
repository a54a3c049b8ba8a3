# Installs what is missing: the package's hard dependencies, and the packages and programs named as arguments.
#
#   Rscript tools/install.R [--suggested] [package | program:name ...]
#
# Root on a Debian-like system takes the distribution's prebuilt packages first, which need no compiling. What they
# do not cover comes from R's configured repositories into .lib, the checkout's own library, so that no other library
# has to exist or be writable.

# Programs that an R package needs beside itself, by the name of their system package.
programs <- list(rmarkdown = "pandoc")

dependencies <- function(fields) {
  text <- read.dcf("DESCRIPTION", fields)
  entries <- trimws(unlist(strsplit(text[!is.na(text)], ",")))
  version <- ifelse(grepl(">=", entries), sub(".*>= *([0-9.-]+).*", "\\1", entries), "0")
  setNames(version, sub(" *\\(.*", "", entries))
}

missing_packages <- function(packages) {
  oldest <- dependencies(c("Imports", "Suggests"))
  usable <- function(package) {
    version <- if (package %in% names(oldest)) oldest[[package]] else "0"
    tryCatch({
      loadNamespace(package, versionCheck = list(op = ">=", version = version))
      TRUE
    }, error = function(e) FALSE)
  }
  packages[!vapply(packages, usable, NA)]
}

missing_programs <- function(needed) needed[!nzchar(Sys.which(needed))]

# The distribution's packages serve its own R only, which Debian and its kin keep in /usr/lib/R.
has_apt <- function() {
  nzchar(Sys.which("apt-get")) && R.home() == "/usr/lib/R" && Sys.info()[["effective_user"]] == "root"
}

apt_get <- function(...) {
  system2("apt-get", c("-q", "-y", "-o", "DPkg::Lock::Timeout=120", ...), env = "DEBIAN_FRONTEND=noninteractive",
          stdout = FALSE, stderr = FALSE) == 0
}

install_system <- function(names) {
  apt_get("update")
  known <- Filter(function(name) system2("apt-cache", c("show", name), stdout = FALSE, stderr = FALSE) == 0, names)
  if (length(known) == 0) return()
  message("Installing system packages: ", paste(known, collapse = ", "))
  apt_get("install", "--no-install-recommends", known)
}

install_source <- function(packages) {
  # Without a mirror chosen beforehand, R would ask for one; the first of its own list is the one for everybody.
  if ("@CRAN@" %in% getOption("repos")) utils::chooseCRANmirror(graphics = FALSE, ind = 1, local.only = TRUE)
  Sys.setenv(USE_BUNDLED_LIBUV = "1") # package fs, under testthat, would ask for a system library
  message("Installing R packages: ", paste(packages, collapse = ", "))
  dir.create(".lib", showWarnings = FALSE)
  cores <- parallel::detectCores()
  install.packages(packages, lib = ".lib", Ncpus = if (is.na(cores)) 1 else cores, quiet = TRUE)
}

dir.create(".lib", showWarnings = FALSE)
.libPaths(c(".lib", .libPaths()))

arguments <- commandArgs(trailingOnly = TRUE)
if ("--suggested" %in% arguments) {
  # arrow and gpboost take half an hour or more to compile
  arguments <- c(setdiff(arguments, "--suggested"), setdiff(names(dependencies("Suggests")), c("arrow", "gpboost")))
}
program <- startsWith(arguments, "program:")
wanted <- unique(c(names(dependencies("Imports")), arguments[!program]))
needed <- c(unlist(programs[wanted]), sub("program:", "", arguments[program]))
packages <- missing_packages(wanted)
tools <- missing_programs(needed)

if (length(c(packages, tools)) > 0 && has_apt()) {
  install_system(c(if (length(packages) > 0) paste0("r-cran-", tolower(packages)), tools))
  packages <- missing_packages(packages)
  tools <- missing_programs(needed)
}
if (length(packages) > 0) {
  install_source(packages)
  packages <- missing_packages(packages)
}
if (length(c(packages, tools)) > 0) {
  stop("could not install ", paste(c(packages, tools), collapse = ", "),
       "; please install by hand and try again.", call. = FALSE)
}
