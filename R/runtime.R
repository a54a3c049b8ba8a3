# Threads and SIMD level: how the package runs here.

#' How vecchiann runs on this machine
#'
#' Reports the number of threads a search would use, whether the package was compiled with OpenMP, and
#' the SIMD instructions picked when it was loaded.
#'
#' @param threads Number of threads asked for. `NULL` stands for the option `vecchiann.threads` and,
#'   where that is not set, for every processor, within the limits of the environment variables
#'   `OMP_NUM_THREADS` and `OMP_THREAD_LIMIT`; no more than two under `R CMD check`, and one in a
#'   forked process. More than four times the processors, or 16 where that is more, are not started: there is a
#'   warning, and that many are used.
#' @return A list of class `"vecchiann_info"` with elements `threads`, `openmp` and `simd`.
#' @examples
#' vecchiann_info()
#' vecchiann_info(threads = 1)
#' @export
vecchiann_info <- function(threads = NULL) {
  structure(.Call(C_threads_info, thread_count(threads)), class = "vecchiann_info")
}

#' @export
print.vecchiann_info <- function(x, ...) {
  openmp <- if (x$openmp) "OpenMP" else "no OpenMP"
  cat("<vecchiann_info> ", counted(x$threads, "thread"), " (", openmp, "), SIMD: ", x$simd, "\n",
      sep = "")
  invisible(x)
}

# NA leaves the choice to the C core, which alone knows about forks and limits.
thread_count <- function(threads) {
  if (is.null(threads)) threads <- getOption("vecchiann.threads")
  if (is.null(threads)) return(NA_integer_)
  threads <- check_whole(threads, "threads", 1)
  most <- .Call(C_threads_limit)
  if (threads <= most) return(threads)
  warning(user_call(), "`threads` = ", threads, " is more than this machine serves; ", most, " are used.",
          call. = FALSE)
  most
}

# Runs code with the random numbers of a seed, the same whatever RNGkind() of the session is, and leaves those of the
# session untouched; without a seed the session's own stream is used and advances.
with_seed <- function(seed, code) {
  if (is.null(seed)) return(code)
  before <- get0(".Random.seed", globalenv(), inherits = FALSE)
  kinds <- if (is.null(before)) RNGkind()
  on.exit({
    if (is.null(before)) {
      # the kind "Rounding" warns when it is set
      suppressWarnings(do.call(RNGkind, as.list(kinds)))
      rm(".Random.seed", envir = globalenv())
    } else {
      assign(".Random.seed", before, envir = globalenv())
    }
  })
  set.seed(seed, "Mersenne-Twister", "Inversion", "Rejection")
  code
}

# Standard normal draws; their number may be larger than the largest integer.
normals <- function(rows, columns) matrix(stats::rnorm(as.double(rows) * columns), rows, columns)

# A count of thread_count(), for functions that take the argument of users.
threads_or_null <- function(threads) if (is.na(threads)) NULL else threads
