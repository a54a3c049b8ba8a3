/* SIMD: the vector kernels of the package, one table of function pointers per instruction set.
 *
 * simd_init() probes the processor once and points `simd` at the widest table it can run; a portable
 * one is always present. The bodies are written once, in simd_body.h, and compiled for each
 * instruction set inside simd.c. Nothing here knows what a point or a kernel is.
 *
 * Panels. A panel holds `width` points side by side, index-major: element u of point j stands at
 * panel[u * width + j]. Row panels are `rows` wide (queries, broadcast), column panels `cols` wide
 * (candidates, one lane each). Every dot product and squared distance is accumulated over u = 0, 1, ..
 * in one accumulator, in the tiles and in the lists alike, so that a pair has the same value, bit for
 * bit, whichever routine computes it and in either order of its two points. */
#ifndef VECCHIANN_SIMD_H
#define VECCHIANN_SIMD_H

#include <stddef.h>
#include <stdint.h>

#define SIMD_MAX_ROWS 16
#define SIMD_MAX_COLS 32

typedef enum { RADIAL_POLYEXP, RADIAL_GAUSSIAN, RADIAL_FUNCTION } radial_form;

/* A radial function of the squared distance s2, times `variance`:
 * polyexp (1 + c1 s + c2 s^2) exp(-s), gaussian exp(-s2), or any function, evaluated one by one. */
typedef struct {
    radial_form form;
    double variance, c1, c2;
    double (*function)(const void *context, double s2);
    const void *context;
} radial;

/* Shapes of single-precision screening: rows of a tile, columns of a tile, queries of a block. */
#define SCREEN_ROWS 8
#define SCREEN_COLS 32
#define SCREEN_BLOCK 64

/* The rows of a screening tile: SCREEN_ROWS values each, x is [coordinate][row]. */
typedef struct {
    const float *x;
    float gain[SCREEN_ROWS], step[SCREEN_ROWS], norm[SCREEN_ROWS], error[SCREEN_ROWS],
        tail[SCREEN_ROWS], tau[SCREEN_ROWS];
} simd_queries;

/* Its columns: SCREEN_COLS values each, x is [coordinate][column]. */
typedef struct {
    const float *x, *gain, *step, *norm, *error, *tail;
} simd_points;

typedef struct {
    float value[SCREEN_ROWS * SCREEN_COLS], error[SCREEN_ROWS * SCREEN_COLS];
    uint32_t mask[SCREEN_ROWS];
} simd_intervals;

typedef struct {
    const char *name;
    int rows, cols; /* shape of the double-precision tile */

    /* out[i] = radial(s2[i]); out may be s2. */
    void (*radial_values)(const radial *rad, size_t count, const double *s2, double *out);

    /* c[i * cols + j] = sum_u a[u * rows + i] * b[u * cols + j]. */
    void (*dot_tile)(int m, const double *a, const double *b, double *c);

    /* s2[i * cols + j] = sum_u (a[u * rows + i] - b[u * cols + j])^2. */
    void (*distance_tile)(int d, const double *a, const double *b, double *s2);

    /* norms[j] = sum_u b[u * cols + j]^2, the dot product of each point with itself. */
    void (*panel_norms)(int m, const double *b, double *norms);

    /* r = radial(distance) - dot, for row panel (ax, av) and column panel (bx, bv). */
    void (*residual_tile)(const radial *rad, int d, const double *ax, const double *bx, int m,
                          const double *av, const double *bv, double *r);

    /* Bit j is set when |r[j]| * scale[j] >= threshold, j < cols. */
    uint32_t (*reach)(const double *r, const double *scale, double threshold);

    /* out[c] = q . v[ids[c]] with points of m contiguous values. */
    void (*dot_list)(int m, const double *q, const double *v, const int *ids, size_t count,
                     double *out);

    /* out[c] = |q - x[ids[c]]|^2 with points of d contiguous values. */
    void (*distance_list)(int d, const double *q, const double *x, const int *ids, size_t count,
                          double *out);

    /* Integer dot products of SCREEN_ROWS queries and SCREEN_COLS points, in 32 bits:
     * c[i * SCREEN_COLS + j] = start[j] + sum_u a_i[u] * b_j[u]. A step holds 4 elements of 8 bits
     * or 2 of 16 for each row or column: a is [step][row][element], b is [step][column][element].
     * Rows of 8 bits are unsigned. dot_tile8 is NULL where the instruction set makes it no faster
     * than dot_tile16. */
    void (*dot_tile8)(int steps, const uint8_t *a, const int8_t *b, const int32_t *start,
                      int32_t *c);
    void (*dot_tile16)(int steps, const int16_t *a, const int16_t *b, const int32_t *start,
                       int32_t *c);

    /* Intervals for the correlations of a tile, from its integer dot products (see screen.h):
     * value = gain_i gain_j radial(s2_ij) - step_i step_j dots_ij,
     * error = error_i norm_j + norm_i error_j + tail_i tail_j + slack gain_i gain_j,
     * and bit j of mask[i] tells whether |value| + error >= tau[i]. */
    void (*interval_tile)(const radial *rad, int d, const simd_queries *queries,
                          const simd_points *points, const int32_t *dots, float slack,
                          simd_intervals *out);

    /* sums[q] = sum_u weights[u * SCREEN_BLOCK + q] * bounds[u], SCREEN_BLOCK queries at once. */
    void (*block_product)(int m, const float *weights, const float *bounds, float *sums);

    /* How many of the values are >= threshold. */
    size_t (*count_reaching)(const float *values, size_t count, float threshold);
} simd_table;

extern const simd_table *simd;

/* Chooses the table; `limit` caps it by name ("portable", "avx2", "avx512"), NULL takes the widest. */
void simd_init(const char *limit);

/* Packs `count` points (point i, element u at source[i * point_stride + u * element_stride]) into
 * panels of `width`; the last panel is padded with zeros. Panels follow each other: m * width each. */
void simd_pack(int m, int width, size_t count, const double *source, size_t point_stride,
               size_t element_stride, double *panels);

#endif
