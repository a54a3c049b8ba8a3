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
    const float *table; /* what single precision uses for a function: values by radial_cell */
} radial;

/* Cells of a table of a function of s2: a power of two for each exponent, 2^8 cells each, the first
 * from 0 and the last without end. */
#define RADIAL_CELLS (52 * 256)
#define RADIAL_FIRST (87 << 8) /* s2 = 2^-40 */

/* Cell of s2 >= 0 given by its single-precision bits. */
static inline int radial_cell(int32_t bits)
{
    int cell = (bits >> 15) - RADIAL_FIRST;
    return cell < 0 ? 0 : cell >= RADIAL_CELLS ? RADIAL_CELLS - 1 : cell;
}

/* Shapes of screening: rows (queries) and columns (points) of a tile, queries of a block. */
#define SCREEN_ROWS 8
#define SCREEN_COLS 32
#define SCREEN_BLOCK 64

/* The rows of a screening tile. Every row has its own memory: features (integers, or the single
 * precision coordinates of a local basis) and x, its position. */
typedef struct {
    const void *features[SCREEN_ROWS];
    const float *x[SCREEN_ROWS];
    float gain[SCREEN_ROWS], step[SCREEN_ROWS], norm[SCREEN_ROWS], error[SCREEN_ROWS],
        tail[SCREEN_ROWS], tau[SCREEN_ROWS];
} simd_rows;

/* Its columns, SCREEN_COLS values each: features [step][column][4 bytes], x [coordinate][column]. */
typedef struct {
    const void *features;
    const float *x, *gain, *step, *norm, *error, *tail;
    const int32_t *start; /* where integer sums start */
    float slack, slack_floor; /* slack gain_j <= slack norm_j + slack_floor over the panel */
} simd_columns;

/* What a tile finds: the value of each pair, its error as slope_i norm_j + norm_i error_j +
 * base_i, and bit j of mask[i] where |value| + error reaches tau of row i. */
typedef struct {
    float value[SCREEN_ROWS * SCREEN_COLS], slope[SCREEN_ROWS], base[SCREEN_ROWS];
    uint32_t mask[SCREEN_ROWS];
} simd_intervals;

/* Queries side by side, [..][SCREEN_BLOCK], for a filter of whole panels. */
typedef struct {
    float x[16 * SCREEN_BLOCK], features[SCREEN_COLS * SCREEN_BLOCK];
    float gain[SCREEN_BLOCK], norm[SCREEN_BLOCK], error[SCREEN_BLOCK], tail[SCREEN_BLOCK],
        tau[SCREEN_BLOCK];
} simd_lanes;

/* The box of a panel: ranges of its positions, local coordinates and gains, and its largest errors. */
typedef struct {
    const float *low, *high;    /* d each */
    const float *middle, *half; /* rank each */
    float gain_low, gain_high, norm, error, tail, slack;
} simd_box;

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

    /* B (rows x cols) <- corner^-1 (B - tile), for a lower triangular corner (rows x rows, row-major,
     * inverted diagonal); `height` rows count. */
    void (*solve_corner)(int height, const double *corner, const double *tile, double *B);

    /* y[u] += factor * x[u]. */
    void (*add_multiple)(int m, double factor, const double *x, double *y);

    /* out[u] = f[u] / step rounded to an integer; returns sum_u (f[u] - step out[u])^2. */
    double (*round_integers)(int m, double step, const double *f, int16_t *out);

    /* The largest |f[u]|; *norm2 is sum_u f[u]^2. */
    double (*sizes)(int m, const double *f, double *norm2);

    /* out[c] = |q - x[ids[c]]|^2 with points of d contiguous values. */
    void (*distance_list)(int d, const double *q, const double *x, const int *ids, size_t count,
                          double *out);

    /* value_ij <- -step_i step_j (start_j + sum_u a_iu b_ju), integers of 8 or 16 bits, summed in 32:
     * `steps` times 4 elements of 8 bits (rows unsigned, columns signed) or 2 of 16. dot_tile8 is NULL
     * where the instruction set makes it no faster than dot_tile16. */
    void (*dot_tile8)(int steps, const simd_rows *rows, const simd_columns *columns, float *value);
    void (*dot_tile16)(int steps, const simd_rows *rows, const simd_columns *columns, float *value);

    /* value_ij <- -sum_s a_is b_js in single precision, s < rank. */
    void (*dot_tile32)(int rank, const simd_rows *rows, const simd_columns *columns, float *value);

    /* Completes the values of a tile to correlations, with their errors (see screen.h):
     * value_ij += gain_i gain_j radial(s2_ij),
     * slope_i   = error_i + gain_i slack,
     * base_i    = gain_i slack_floor;
     * without a radial function (NULL) gains are 0 and tail_i tail_j is added to the error. */
    void (*interval_tile)(const radial *rad, int d, const simd_rows *rows,
                          const simd_columns *columns, simd_intervals *out);

    /* Bit q is set when a point of the box may reach tau of lane q < count. */
    uint64_t (*box_filter)(const radial *rad, int d, int rank, int count, const simd_lanes *lanes,
                           const simd_box *box);

    /* sums[q] = sum_u weights[u * SCREEN_BLOCK + q] * bounds[u], SCREEN_BLOCK queries at once. */
    void (*block_product)(int m, const float *weights, const float *bounds, float *sums);

    /* How many of the values are >= threshold. */
    size_t (*count_reaching)(const float *values, size_t count, float threshold);
} simd_table;

extern const simd_table *simd;

/* Chooses the table; `limit` caps it by name ("portable", "avx2", "avx512"), NULL takes the widest. */
void simd_init(const char *limit);

/* Packs rows ids[0 .. count - 1] of a matrix of m contiguous values each into panels of `width`; the
 * last panel repeats its first row as padding. */
void simd_pack_rows(int m, int width, size_t count, const double *rows, const int *ids,
                    double *panels);

/* Packs `count` points (point i, element u at source[i * point_stride + u * element_stride]) into
 * panels of `width`; the last panel is padded with zeros. Panels follow each other: m * width each. */
void simd_pack(int m, int width, size_t count, const double *source, size_t point_stride,
               size_t element_stride, double *panels);

#endif
