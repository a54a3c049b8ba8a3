#include "base/threads.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef _WIN32
#include <process.h>
#include <windows.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

/* A runtime that cannot start a team ends the process, so no more threads are asked of it than this many times the
 * processors, or this many where that is less. */
#define THREADS_SHARE 4
#define THREADS_FEW 16

static int home_process = 0;

/* LLVM's runtime (version 14) ends the process at its first call where the environment asks for more threads than it
 * has room to count. Such a number is lowered here, before any call. */
static void lower_absurd(const char *name)
{
#ifndef _WIN32
    const char *text = getenv(name);
    if (text && strtod(text, NULL) > 32768.0)
        setenv(name, "32768", 1);
#else
    (void)name;
#endif
}

void threads_init(void)
{
    home_process = (int)getpid();
    lower_absurd("OMP_NUM_THREADS");
    lower_absurd("OMP_THREAD_LIMIT");
}

static int environment_cap(const char *name, int cap)
{
    const char *text = getenv(name);
    double value = text ? strtod(text, NULL) : 0.0;
    return value >= 1.0 && value < cap ? (int)value : cap;
}

int threads_most(void)
{
#ifdef _OPENMP
    int processors = omp_get_num_procs();
    return processors > THREADS_FEW / THREADS_SHARE ? processors * THREADS_SHARE : THREADS_FEW;
#else
    return INT_MAX; /* one is used, whatever is asked for */
#endif
}

int threads_resolve(int requested)
{
#ifdef _OPENMP
    if ((int)getpid() != home_process)
        return 1;
    int most = threads_most(), limit = environment_cap("OMP_THREAD_LIMIT", omp_get_thread_limit());
    limit = limit < most ? limit : most;
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
#ifdef _WIN32
    LARGE_INTEGER now, unit;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&unit);
    return (double)now.QuadPart / (double)unit.QuadPart;
#else
    struct timespec now;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &now); /* the time of day may be set back */
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}
