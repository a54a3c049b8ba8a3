# Builds the documents as a web site in docs/site, by pkgdown and without the internet.
#
#   Rscript tools/site.R [folder]

options(pkgdown.internet = FALSE)
folder <- c(commandArgs(trailingOnly = TRUE), file.path("docs", "site"))[[1]]
override <- list(destination = folder)
pkgdown::check_pkgdown()
pkgdown::build_site(".", override = override, preview = FALSE, devel = FALSE, new_process = FALSE)
