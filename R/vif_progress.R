# Progress of a fit: one line that is renewed where package cli can, else plain messages.

# A reporter: report(stage, step, loglik, left) at every step, `left` being seconds or NULL, and report() at the
# end. It is silent where `show` is FALSE.
progress_line <- function(show) {
  if (!show) return(function(...) invisible())
  renewed <- requireNamespace("cli", quietly = TRUE) && cli::is_dynamic_tty(stderr())
  bar <- if (renewed) cli::cli_status("fitting", .auto_close = FALSE)
  function(stage = NULL, step = NULL, loglik = NULL, left = NULL) {
    if (is.null(stage)) {
      if (renewed) cli::cli_status_clear(bar)
    } else {
      text <- progress_text(stage, step, loglik, left)
      if (renewed) cli::cli_status_update(bar, "{text}") else message(text)
    }
    invisible()
  }
}

progress_text <- function(stage, step = NULL, loglik = NULL, left = NULL) {
  paste0(stage, if (!is.null(step)) paste0(", iteration ", step),
         if (!is.null(loglik)) sprintf(": log-likelihood %.2f", loglik),
         if (!is.null(left)) paste0(", about ", format_seconds(left), " left"))
}

format_seconds <- function(seconds) {
  if (seconds < 90) return(sprintf("%.0f s", seconds))
  if (seconds < 5400) sprintf("%.0f min", seconds / 60) else sprintf("%.1f h", seconds / 3600)
}
