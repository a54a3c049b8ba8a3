# The benchmark problems, and what the scripts share. Scripts run from the root of the checkout; a package that `make
# check` left in .lib is preferred to an installed one.

if (dir.exists(".lib")) .libPaths(c(normalizePath(".lib"), .libPaths()))
library(vecchiann)

problems <- list(
  A = list(n = 20000, d = 2, family = "matern32", lengthscale = 0.05, m = 200, k = 30),
  B = list(n = 20000, d = 2, family = "matern52", lengthscale = 0.1, m = 200, k = 30),
  C = list(n = 20000, d = 5, family = "matern32", lengthscale = 0.5, m = 200, k = 30),
  D = list(n = 32768, d = 3, family = "rbf", lengthscale = 1, m = 512, k = 50),
  E = list(n = 100000, d = 2, family = "matern32", lengthscale = 0.05, m = 200, k = 30),
  F = list(n = 1000000, d = 2, family = "matern32", lengthscale = 0.02, m = 200, k = 30, predecessors = TRUE),
  R = list(n = 32436, d = 4, family = "matern32", lengthscale = c(0.1, 0.1, 0.1, 20), m = 500, k = 30, predecessors = TRUE)
)

# Ocean temperatures of package GpGp: the sphere and the day.
argo_inputs <- function() {
  argo <- GpGp::argo2016
  east <- argo$lon * pi / 180
  north <- argo$lat * pi / 180
  cbind(cos(north) * cos(east), cos(north) * sin(east), sin(north), argo$day)
}

# A problem with its inputs, kernel and inducing inputs, a random subset. A smaller n makes an easier one.
make_problem <- function(name, n = problems[[name]]$n) {
  set.seed(1)
  problem <- problems[[name]]
  draw <- if (name == "D") rnorm else runif
  x <- if (name == "R") argo_inputs()[seq_len(n), ] else matrix(draw(n * problem$d), n)
  if (isTRUE(problem$predecessors)) x <- x[order_maxmin(t(t(x) / problem$lengthscale)), ]
  problem$n <- n
  problem$x <- x
  problem$kernel <- gp_kernel(problem$family, lengthscale = problem$lengthscale)
  problem$inducing <- x[sort(sample.int(n, min(problem$m, n))), , drop = FALSE]
  problem
}

given <- function(at, otherwise) {
  arguments <- commandArgs(trailingOnly = TRUE)
  if (length(arguments) >= at) arguments[at] else otherwise
}

# Searches of all points are repeated until a reading of the clock has so many queries.
least_queries <- 150000

seconds <- function(code) system.time(code, gcFirst = FALSE)[["elapsed"]]

row <- function(...) cat("|", paste(c(...), collapse = " | "), "|\n")

heading <- function(...) {
  row(...)
  cat(strrep("|---", length(c(...))), "|\n", sep = "")
}

# Compiles files of this folder, with others, into a library and loads it.
load_compiled <- function(file, others = character(), flags = "") {
  folder <- file.path(tempdir(), sub("[.]c$", "", file))
  dir.create(folder)
  sources <- c(file.path("bench", file), others)
  file.copy(sources, folder)
  writeLines(c(paste0("PKG_CPPFLAGS = -I", normalizePath("src")), "PKG_CFLAGS = $(SHLIB_OPENMP_CFLAGS)", paste("PKG_LIBS = $(SHLIB_OPENMP_CFLAGS)", flags)),
             file.path(folder, "Makevars"))
  here <- setwd(folder)
  on.exit(setwd(here))
  library <- paste0("bench", .Platform$dynlib.ext)
  log <- system2(file.path(R.home("bin"), "R"), c("CMD", "SHLIB", "-o", library, basename(sources)), stdout = TRUE, stderr = TRUE)
  if (!file.exists(library)) stop("bench/", file, " does not compile:\n", paste(log, collapse = "\n"))
  dyn.load(library)
}
