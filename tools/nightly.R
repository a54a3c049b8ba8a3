# What is too long for every change: writes what it did to docs/nightly.md.
#
#   Rscript tools/nightly.R [SHARE]
#
# SHARE of the whole, 1 unless given: that takes an hour or two.

share <- as.numeric(c(commandArgs(TRUE), "1")[1])
count <- function(whole) format(max(ceiling(whole * share), 1), scientific = FALSE)
seed <- as.integer(Sys.Date()) * 1000L %% 1000000000L # new cases every day
rscript <- file.path(R.home("bin"), "Rscript")
kinds <- c(objects = 50000, calls = 50000, searches = 900, interrupts = 1000)
rows <- lapply(names(kinds), function(kind) {
  arguments <- c("tools/fuzz.R", kind, count(kinds[[kind]]), seed)
  started <- proc.time()[[3]]
  output <- suppressWarnings(system2(rscript, arguments, stdout = TRUE))
  writeLines(output)
  list(command = paste(c("Rscript", arguments), collapse = " "), last = output[length(output)],
       minutes = (proc.time()[[3]] - started) / 60, failed = !is.null(attr(output, "status")))
})
started <- proc.time()[[3]]
output <- suppressWarnings(system2(rscript, c("tools/fuzz_index.R", count(1200)), stdout = TRUE, stderr = TRUE))
ran <- sub(".*: *", "", grep("number_of_executed_units", output, value = TRUE))
rows <- c(rows, list(list(command = paste("Rscript tools/fuzz_index.R", count(1200)),
                          last = paste("packed indices:", ran, "executions"),
                          minutes = (proc.time()[[3]] - started) / 60, failed = !is.null(attr(output, "status")))))

field <- function(name) vapply(rows, function(row) format(row[[name]], digits = 2), "")
writeLines(c(
  "# The last nightly run", "",
  paste0("Written by `make nightly`; docs/reliability.md says what is promised. Run of ", Sys.Date(), ", ", R.version.string, "."), "",
  "| command | result | minutes | |", "|---|---|---|---|",
  paste0("| `", field("command"), "` | ", field("last"), " | ", field("minutes"), " | ",
         ifelse(field("failed") == "TRUE", "failed", "passed"), " |")
), file.path("docs", "nightly.md"))
quit(status = any(vapply(rows, function(row) row$failed, NA)))
