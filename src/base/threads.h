/* Threads: the whole thread policy of the package, and the only place that sees <omp.h>.
 *
 * Regions elsewhere are written `#pragma omp parallel ... num_threads(t)` with t from
 * threads_resolve(); they compile to serial code where OpenMP is absent. No region calls R. */
#ifndef VECCHIANN_THREADS_H
#define VECCHIANN_THREADS_H

/* Number of threads to use for a request; a request below 1 means the default: every processor, but
 * no more than OMP_NUM_THREADS, OMP_THREAD_LIMIT, and 2 under R CMD check. Never more than threads_most().
 * One after a fork, because OpenMP runtimes deadlock in forked children. */
int threads_resolve(int requested);

/* The largest number of threads that is ever used: four times the processors, or 16. */
int threads_most(void);

/* Index of the calling thread within its region, 0 outside one. */
int threads_id(void);

/* 1 when the package was compiled with OpenMP. */
int threads_openmp(void);

/* Seconds on a monotonic clock, to size the work between two polls of a monitor. */
double threads_seconds(void);

/* To be called once when the library is loaded: remembers the process for the fork test. */
void threads_init(void);

#endif
