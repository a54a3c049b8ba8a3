# The linter of tools/, on small packages with one violation each. It is no part of the installed package.

tool <- test_path("..", "..", "tools", "lint.R")

lint_of <- function(...) {
  skip_if_not(file.exists(tool), "the sources are not at hand")
  skip_if_not_installed("codetools")
  root <- tempfile("lint")
  on.exit(unlink(root, recursive = TRUE))
  clean <- list(
    "src/r/entry.h" = c("SEXP alpha(SEXP x, SEXP y);", "SEXP beta(void);"),
    "src/init.c" = c(
      "#include \"r/entry.h\"", "static const R_CallMethodDef table[] = {",
      "    {\"alpha\", (DL_FUNC)&alpha, 2}, /* spare, 3) */", "    ENTRY(beta, 0),", "    {NULL, NULL, 0}", "};"
    ),
    "R/kernel.R" = "gp_kernel <- function(x) .Call(C_alpha, x, 1)",
    "R/vif.R" = "vif_fit <- function(x) gp_kernel(x)"
  )
  files <- utils::modifyList(clean, list(...))
  for (path in names(files)) {
    dir.create(dirname(file.path(root, path)), recursive = TRUE, showWarnings = FALSE)
    writeLines(files[[path]], file.path(root, path))
  }
  linter <- new.env()
  sys.source(tool, linter, keep.source = FALSE)
  linter$lint(root)
}

expect_violation <- function(found, pattern) {
  expect_length(found, 1)
  expect_match(found, pattern)
}

test_that("a clean package passes", {
  expect_identical(lint_of(), character())
})

test_that("includes point to earlier layers only", {
  expect_violation(lint_of("src/model/kernel.c" = "#include \"model/metric.h\""), "^src/model/kernel.c:1: must not include model/metric.h")
  expect_violation(lint_of("src/partition/tree.c" = c("#include \"partition/tree.h\"", "#include \"bound/bounds.h\"")),
                   "^src/partition/tree.c:2: .*bounds.h")
  expect_violation(lint_of("src/simd/simd.h" = "  #  include \"base/linalg.h\""), "^src/simd/simd.h:1: .*linalg.h")
  expect_violation(lint_of("src/model/kernel.c" = "#include \"nowhere.h\""), "nowhere.h")
  expect_identical(lint_of("src/search/level.c" = c("#include \"search/query.h\"", "#include \"partition/tree.h\"")), character())
  expect_identical(lint_of("src/model/kernel.c" = c("/*", "#include \"model/metric.h\"", "*/")), character())
})

test_that("a file that no layer names is a violation", {
  expect_violation(lint_of("src/helpers.c" = ""), "^src/helpers.c: no layer")
  expect_violation(lint_of("R/helpers.R" = "x <- 1"), "^R/helpers.R: no layer")
})

test_that("files of one folder keep to its rows, and what is compiled is listed", {
  level <- "#include \"search/level.h\""
  expect_identical(lint_of("src/search/mutual.c" = level), character())
  expect_violation(lint_of("src/search/query.c" = level), "^src/search/query.c:1: .*level.h")
  expect_violation(lint_of("src/search/brute.c" = level), "^src/search/brute.c:1: .*level.h")
  expect_violation(lint_of("src/Makevars" = c("OBJECTS = \\", "    init.o \\", "    model/kernel.o")),
                   "OBJECTS has model/kernel.o")
  expect_violation(lint_of("src/Makevars" = "OBJECTS = init.o", "src/base/linalg.c" = ""), "OBJECTS lacks base/linalg.o")
})

test_that("each foreign interface stays in its room", {
  expect_violation(lint_of("src/partition/tree.c" = "#include <omp.h>"), "<omp.h> belongs only in base/threads")
  expect_violation(lint_of("src/partition/tree.c" = "static SEXP x;"), "R's API belongs only in r, init")
  expect_violation(lint_of("src/partition/tree.c" = "#include <Rinternals.h>"), "R's API")
  expect_violation(lint_of("src/partition/tree.c" = "R_CheckUserInterrupt();"), "R's API")
  expect_violation(lint_of("src/partition/tree.c" = "#include <Rmath.h>"), "Rmath.h belongs only in model/matern")
  expect_violation(lint_of("src/partition/tree.c" = "F77_CALL(dgemm)();"), "BLAS")
  expect_violation(lint_of("src/partition/tree.c" = "#include <immintrin.h>"), "instruction-set code")
  expect_violation(lint_of("src/partition/tree.c" = "#pragma GCC target(\"avx2\")"), "instruction-set code")
  expect_violation(lint_of("src/partition/tree.c" = "__attribute__((target(\"avx2\"))) void f(void);"), "instruction-set code")
  expect_violation(lint_of("src/partition/tree.c" = c("if (monitor_poll(mon, 0.5))", "    return 1;", "  monitor_poll(mon, 1.0);")),
                   "tree.c:3: a monitor_poll.* belongs nowhere")
  expect_violation(lint_of("src/partition/tree.c" = "unsigned long n;"), "the type long.* belongs nowhere")
  expect_identical(lint_of(
    "src/partition/tree.c" = c("unsigned long long n;", "/* a long SEXP", " * in <omp.h> */",
                     "const char *s = \"so \\\" long\"; // SEXP"),
    "src/base/threads.c" = "#include <omp.h>", "src/model/matern.c" = "#include <Rmath.h>", "src/r/glue.c" = "SEXP x;"
  ), character())
})

test_that("registration matches the prototypes and its uses", {
  expect_violation(lint_of("src/r/entry.h" = c("SEXP alpha(SEXP x);", "SEXP beta(void);")),
                   "alpha is registered with 2 arguments and declared with 1")
  expect_violation(lint_of("src/r/entry.h" = "SEXP alpha(SEXP x, SEXP y);"), "beta is registered and not declared")
  three <- c("SEXP alpha(SEXP x,", "  SEXP y);", "SEXP beta(void);", "SEXP gamma(SEXP);")
  expect_violation(lint_of("src/r/entry.h" = three), "gamma is declared in entry.h and not registered")
  expect_violation(lint_of("R/kernel.R" = c("", "gp_kernel <- function() .Call(C_gamma)")),
                   "^R/kernel.R:2: C_gamma is not registered")
})

test_that("R files call functions of earlier files only", {
  expect_violation(lint_of("R/kernel.R" = "gp_kernel <- function(x) lapply(x, vif_fit)"),
                   "^R/kernel.R:1: vif_fit is defined in the later file vif.R")
  expect_identical(lint_of("R/kernel.R" = "gp_kernel <- function(vif_fit) vif_fit + 1"), character())
  expect_identical(lint_of("R/vif_a.R" = "a <- function() b()", "R/vif_b.R" = "b <- function() a()"), character())
})

test_that("a name stands for one thing", {
  expect_violation(lint_of("R/vif.R" = "gp_kernel <- function(x) 1"), "^R: gp_kernel is defined more than once")
  expect_violation(lint_of("tests/testthat/test-misc.R" = ""), "^tests/testthat/test-misc.R: is not called after")
  expect_identical(lint_of("tests/testthat/test-kernel-ard.R" = ""), character())
})

test_that("nobody's home directory is named", {
  home <- paste0("/", "home/somebody/data")
  expect_violation(lint_of("README.md" = c("text", home)), "^README.md:2: names somebody's home directory")
  expect_violation(lint_of("bench/run.R" = paste0("x <- '", home, "'")), "^bench/run.R:1")
})

test_that("every help page and vignette is in the index of the site", {
  index <- c("articles:", "- title: A", "  contents:", "  - start", "reference:", "- title: B", "  contents:", "  - vif_fit")
  site <- function(...) {
    files <- list("_pkgdown.yml" = index, "man/vif_fit.Rd" = "\\name{vif_fit}", "vignettes/start.Rmd" = "",
                  "man/parts.Rd" = "\\keyword{internal}")
    do.call(lint_of, utils::modifyList(files, list(...)))
  }
  expect_identical(site(), character())
  expect_violation(site("man/recall.Rd" = "\\name{recall}"), "^_pkgdown.yml: lacks the help page recall$")
  expect_violation(site("vignettes/large.Rmd" = ""), "^_pkgdown.yml: lacks the vignette large$")
  expect_violation(site("_pkgdown.yml" = c(index, "  - vif")), "^_pkgdown.yml: names the help page vif, which")
  expect_violation(site("_pkgdown.yml" = sub("start", "end", index), "vignettes/end.Rmd" = ""), "lacks the vignette start")
})
