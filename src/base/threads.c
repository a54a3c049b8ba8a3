#include "base/threads.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

static int home_process = 0;

void threads_init(void) { home_process = (int)getpid(); }

static int environment_cap(const char *name, int cap)
{
    const char *text = getenv(name);
    int value = text ? atoi(text) : 0;
    return value >= 1 && value < cap ? value : cap;
}

int threads_resolve(int requested)
{
#ifdef _OPENMP
    if ((int)getpid() != home_process)
        return 1;
    int limit = environment_cap("OMP_THREAD_LIMIT", omp_get_thread_limit());
    if (requested >= 1)
        return requested < limit ? requested : limit;
    int threads = environment_cap("OMP_NUM_THREADS", omp_get_num_procs());
    const char *check = getenv("_R_CHECK_LIMIT_CORES_");
    if (check && strcmp(check, "false") != 0 && strcmp(check, "FALSE") != 0 && threads > 2)
        threads = 2;
    return threads < limit ? threads : limit;
#else
    (void)requested;
    (void)environment_cap;
    return 1;
#endif
}

int threads_id(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

int threads_openmp(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

double threads_seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
