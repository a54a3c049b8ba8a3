# Compiles tools/fuzz_index.c with clang's libFuzzer and both sanitizers, and runs it.
#
#   Rscript tools/fuzz_index.R [SECONDS]
#
# Inputs that reach new code are kept in .fuzz/corpus, so that runs go on where the last one ended. An input that
# fails is left in .fuzz; `.fuzz/fuzz_index FILE` repeats it.

seconds <- c(commandArgs(TRUE), "60")[1]
folder <- ".fuzz"
dir.create(file.path(folder, "corpus"), recursive = TRUE, showWarnings = FALSE)
if (!nzchar(Sys.which("clang"))) stop("clang is needed: apt-get install clang libclang-rt-dev", call. = FALSE)

core <- c("simd", "base", "model", "partition", "bound", "form", "search")
sources <- c(list.files(file.path("src", core), pattern = "\\.c$", full.names = TRUE), "tools/fuzz_index.c")
program <- file.path(folder, "fuzz_index")
flags <- c("-g", "-O1", "-std=gnu11", "-fno-omit-frame-pointer", "-fsanitize=fuzzer,address,undefined",
           "-fno-sanitize-recover=undefined", "-Wno-unknown-pragmas", "-Isrc", paste0("-I", R.home("include")))
newest <- max(file.mtime(c(list.files("src", "\\.h$", recursive = TRUE, full.names = TRUE), "tools/fuzz_index.R")))
objects <- file.path(folder, sub("c$", "o", gsub("/", "_", sources)))
for (at in seq_along(sources)) { # what is older than its source or a header
  if (isTRUE(file.mtime(objects[at]) > max(newest, file.mtime(sources[at])))) next
  if (system2("clang", c(flags, "-c", sources[at], "-o", objects[at]))) quit(status = 1)
}
status <- system2("clang", c(flags, objects, "-o", program, paste0("-L", R.home("lib")), "-lR", "-lm",
                             paste0("-Wl,-rpath,", R.home("lib"))))
if (status) quit(status = 1)
status <- system2(program, c(file.path(folder, "corpus"), paste0("-max_total_time=", seconds), "-max_len=600", "-timeout=20",
                             "-rss_limit_mb=2048", "-print_final_stats=1", paste0("-artifact_prefix=", folder, "/")),
                  env = c("VECCHIANN_SIMD=avx2", "ASAN_OPTIONS=detect_leaks=1"))
quit(status = status)
