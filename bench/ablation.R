# What each form of screening and each mechanism of a search buys: searches with the form forced, and with one mechanism off.
#
#   Rscript bench/ablation.R [problems] [repetitions] [n]
#
# Mechanisms are switched off in the index that a tree keeps, by numbers with which they never skip anything: answers stay the same.
# Variants take turns; time is that of the processor on one thread, the median of all repetitions, and the ratio is the median of
# those to the index that `auto` would choose in the same turn. "few" are single queries. Larger n than 60,000 are cut for problems
# E and F unless n is given.

source("bench/problems.R")

names <- strsplit(given(1, "ABCDEFR"), "")[[1]]
repetitions <- as.integer(given(2, 5))
other_n <- as.integer(given(3, NA))
core <- asNamespace("vecchiann")

# The tree with one array of its index changed, if it has it.
edited <- function(tree, field, change, size = 4, what = "double") {
  fields <- .Call(core$C_tree_index_fields, tree$gp, tree)
  at <- match(field, fields$name)
  if (is.na(at)) return(tree)
  bytes <- fields$at[at] + seq_len(fields$bytes[at])
  values <- readBin(tree$index[bytes], what, fields$bytes[at] / size, size)
  tree$index[bytes] <- writeBin(change(values), raw(), size)
  tree$index <- .Call(core$C_tree_seal, tree$index)
  tree
}

constant <- function(value) function(x) 0 * x + value

no_balls <- function(tree) edited(edited(tree, "axis.sine", constant(1)), "axis.cosine", constant(0))
no_spans <- function(tree) edited(tree, "spans.rank", function(x) 0L * x, 4, "integer")
no_bound <- function(tree) {
  for (level in c("groups", "cells", "columns")) tree <- edited(tree, paste0("bound.", level, ".gain"), constant(1e30), 8)
  tree
}

in_form <- function(tree, form) {
  forced <- core$index_tree(unclass(tree), 1L, form)
  served <- "order.perm" %in% .Call(core$C_tree_index_fields, forced$gp, forced)$name
  if (served) forced
}

variants <- function(tree) {
  all <- list("as chosen" = tree, "landmarks" = in_form(tree, "landmarks"), "integers" = in_form(tree, "integers"),
              "expansions" = if (nrow(tree$gp$x) <= 40000) in_form(tree, "expansions"),
              "no balls" = no_balls(tree), "no spans" = no_spans(tree), "no kernel bound" = no_bound(tree))
  all <- all[!vapply(all, is.null, NA)]
  all[c(TRUE, !vapply(all[-1], function(other) identical(other$index, tree$index), NA))]
}

processor <- function(code) sum(system.time(code, gcFirst = FALSE)[c("user.self", "sys.self")])

heading("problem", "n", "variant", "us a query", "ratio", "screened a query", "correlations a query", "same answer")
for (name in names) {
  n <- if (!is.na(other_n)) other_n else min(problems[[name]]$n, 60000)
  problem <- make_problem(name, n)
  predecessors <- isTRUE(problem$predecessors)
  gp <- residual_gp(problem$x, problem$kernel, inducing = problem$inducing, threads = 1)
  tree <- cover_tree(gp, threads = 1)
  trees <- variants(tree)
  few <- as.integer(seq(1, n, length.out = 120))
  search <- function(tree, ...) residual_knn(tree, problem$k, predecessors = predecessors, threads = 1, progress = FALSE, ...)
  singly <- function(method) function() for (query in few) search(tree, method = method, queries = query)
  searches <- c(lapply(trees, function(tree) function() search(tree, method = "level")),
                "few, best first" = singly("best_first"), "few, blocks" = singly("level"))
  found <- lapply(searches, function(run) run())
  spent <- replicate(repetitions, vapply(searches, function(run) processor(run()), 0))
  for (variant in names(searches)) {
    nn <- found[[variant]]
    queries <- if (startsWith(variant, "few")) length(few) else n
    row(name, n, variant, sprintf("%.2f", median(spent[variant, ]) / queries * 1e6),
        sprintf("%.2f", median(spent[variant, ] / spent[if (startsWith(variant, "few")) "few, best first" else 1, ])),
        if (length(nn)) sprintf("%.0f", nn$stats[["screened"]] / queries) else "",
        if (length(nn)) sprintf("%.0f", nn$stats[["correlations"]] / queries) else "",
        if (length(nn)) identical(nn[c("id", "dist")], found[[1]][c("id", "dist")]) else "")
  }
}
