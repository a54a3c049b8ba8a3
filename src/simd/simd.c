#include "simd/simd.h"

#include <math.h>
#include <string.h>

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define SIMD_X86 1
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(x) #x
#define NAME_TEXT(x) TEXT_(x)

#define ISA portable
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#include "simd/simd_body.h"

#ifdef SIMD_X86
#define PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define TARGET(features) PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define TARGET_END _Pragma("clang attribute pop")
#else
#define TARGET(features) _Pragma("GCC push_options") PRAGMA(GCC target(features))
#define TARGET_END _Pragma("GCC pop_options")
#endif

TARGET("avx2,fma")
#define ISA avx2
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#include "simd/simd_body.h"
TARGET_END

TARGET("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")
#define ISA avx512
#define VECTOR_BYTES 64
#define TILE_ROWS 12
#include "simd/simd_body.h"
TARGET_END
#endif

const simd_table *simd = &table_portable;

void simd_init(const char *limit)
{
    simd = &table_portable;
#ifdef SIMD_X86
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512vnni");
    if (limit && strcmp(limit, "portable") == 0)
        return;
    if (limit && strcmp(limit, "avx2") == 0)
        avx512 = 0;
    if (avx2)
        simd = &table_avx2;
    if (avx512)
        simd = &table_avx512;
#else
    (void)limit;
#endif
}

#if defined(SIMD_X86) && defined(__SSE2__)
#define FLUSH 0x8040 /* results to zero, operands taken for zero */

unsigned simd_flush(void)
{
    unsigned state = _mm_getcsr();
    _mm_setcsr(state | FLUSH);
    return state;
}

void simd_restore(unsigned state) { _mm_setcsr(state); }
#else
unsigned simd_flush(void) { return 0; }

void simd_restore(unsigned state) { (void)state; }
#endif

void simd_pack(int m, int width, size_t count, const double *source, size_t point_stride, size_t element_stride,
               double *panels)
{
    for (size_t first = 0; first < count; first += width) {
        size_t filled = count - first < (size_t)width ? count - first : (size_t)width;
        const double *from = source + first * point_stride;
        for (int u = 0; u < m; u++, panels += width) {
            for (size_t j = 0; j < filled; j++)
                panels[j] = from[j * point_stride + u * element_stride];
            for (size_t j = filled; j < (size_t)width; j++)
                panels[j] = 0.0;
        }
    }
}

void simd_unpack(int m, int filled, const double *panel, double *points)
{
    for (int j = 0; j < filled; j++)
        for (int u = 0; u < m; u++)
            points[u + (size_t)j * m] = panel[(size_t)u * simd->cols + j];
}
