held_buffers <- function() .Call(C_scratch_buffers, NULL)[2]
asked_buffers <- function() .Call(C_scratch_buffers, NULL)[1]

test_that("every request for memory of every routine may fail once, and nothing is lost", {
  skip_on_cran()
  calls <- entry_calls()
  routines <- names(getDLLRegisteredRoutines("vecchiann")$.Call)
  expect_setequal(setdiff(routines, names(calls)), c("scratch_buffers", "vif_memory"))
  on.exit(.Call(C_scratch_buffers, 0))
  failed <- refused <- 0
  for (at in seq_along(calls)) {
    call <- calls[[at]]
    gc(FALSE)
    held <- held_buffers()
    whole <- call_entry(call)
    asked <- asked_buffers()
    whole <- call_entry(call)
    asked <- asked_buffers() - asked
    for (nth in seq_len(asked)) {
      .Call(C_scratch_buffers, nth)
      value <- tryCatch(call_entry(call), error = conditionMessage)
      .Call(C_scratch_buffers, 0)
      failed <- failed + 1
      if (identical(value, "not enough memory")) refused <- refused + 1
      else if (!identical(value, whole)) fail(paste0(names(calls)[at], ", call ", at, ", request ", nth, ": ", deparse(value)[1]))
    }
    if (any(vapply(call$arguments, typeof, "") == "externalptr")) gc(FALSE)
    expect_identical(held_buffers(), held, label = names(calls)[at])
    expect_identical(call_entry(call), whole, label = names(calls)[at])
  }
  expect_gt(refused, 500)
  expect_lt(failed - refused, failed / 50) # what can do without goes on: places_likely() and a vif_memory()
  message(sprintf("%d requests failed, %d errors, in %d calls", failed, refused, length(calls)))
})
