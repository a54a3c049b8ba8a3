/* SIMD: the vector kernels of the package, one table of function pointers per instruction set.
 *
 * simd_init() probes the processor once and points `simd` at the widest table it can run; a portable
 * one is always present. The bodies are written once, in simd_body.h, and compiled for each
 * instruction set inside simd.c. Routines see numbers alone: what a point, a cell or a set is they are not told.
 *
 * Panels. A panel holds `width` points side by side, index-major: element u of point j stands at
 * panel[u * width + j]. Row panels are `rows` wide (queries, broadcast), column panels `cols` wide
 * (candidates, one lane each). Tiles accumulate a dot product over u = 0, 1, .. in one accumulator. Lists read points
 * where they stand; element u goes to chain u mod 8, and chains are added in pairs, whatever the width of a vector. So
 * a pair has one value in all tiles and one, which differs by rounding, in all lists, bit for bit, in either order of
 * its two points. Answers to users are evaluated by lists; norms are added up like them, for duplicates to be exactly 0
 * apart. */
#ifndef VECCHIANN_SIMD_H
#define VECCHIANN_SIMD_H

#include <stddef.h>
#include <stdint.h>

#define SIMD_MAX_ROWS 16
#define SIMD_MAX_COLS 32
#define ORDER_MOST 256 /* pairs that are ordered by counting */

typedef enum { RADIAL_POLYEXP, RADIAL_GAUSSIAN, RADIAL_FUNCTION } radial_kind;

/* A radial function of the squared distance s2, times `variance`:
 * polyexp (1 + c1 s + c2 s^2) exp(-s), gaussian exp(-s2), or any function, evaluated one by one. */
typedef struct {
    radial_kind kind;
    double variance, c1, c2;
    double (*function)(const void *context, double s2);
    const void *context;
} radial;

/* A radial function of the squared distance s2 in pieces, for single precision: piece
 * (bits of s2 >> shift) - base, within 0 .. RADIAL_PIECES - 1, is value + s2 (slope + s2 (curve + s2 twist)) and errs
 * by at most `error`. */
#define RADIAL_PIECES 32

typedef struct {
    int shift, base;
    float value[RADIAL_PIECES], slope[RADIAL_PIECES], curve[RADIAL_PIECES], twist[RADIAL_PIECES], error;
} radial_pieces;

/* Shapes of screening: rows (queries) and columns (points) of a tile. */
#define SIMD_MIXED 32          /* lanes of a fingerprint, */
#define SIMD_MIX 0x100000001b3 /* and its multiplier: Fowler, Noll and Vo */
#define SCREEN_ROWS 8
#define SCREEN_COLS 32
#define SCREEN_SHIFT 5 /* its logarithm */

/* Rows of single-precision matrices are padded to multiples of this. */
#define SIMD_WIDTH 16

/* The rows of a screening tile. Every row has its own memory: features and x, its position. */
typedef struct {
    const void *features[SCREEN_ROWS]; /* integers, or single precision */
    const float *x[SCREEN_ROWS];
    float gain[SCREEN_ROWS], step[SCREEN_ROWS], norm[SCREEN_ROWS], error[SCREEN_ROWS], tau[SCREEN_ROWS];
    const int16_t *fine[SCREEN_ROWS]; /* features in 16 bits beside those in 8 */
    float fine_step[SCREEN_ROWS], fine_error[SCREEN_ROWS];
} simd_rows;

/* Its columns, SCREEN_COLS values each: features [step][column][4 bytes], x [coordinate][column]. */
typedef struct {
    const void *features;
    const float *x, *gain, *step, *norm, *error;
    const int32_t *start; /* where integer sums start */
    const int16_t *fine;  /* features in 16 bits, fine_width for each column in turn */
    const float *fine_step, *fine_error;
    int fine_width;           /* a multiple of 32 */
    const float *tau;         /* thresholds, where the columns are queries too, or NULL */
    float slack, slack_floor; /* slack gain_j <= slack norm_j + slack_floor over the panel */
} simd_columns;

/* What a tile finds: the value of each pair, its error as slope_i norm_j + norm_i error_j +
 * base_i, and bit j of mask[i] where |value| + error reaches tau of row i, of column_mask[i] where it reaches
 * that of column j. */
typedef struct {
    float value[SCREEN_ROWS * SCREEN_COLS], kernel[SCREEN_ROWS * SCREEN_COLS]; /* its part of value */
    float slope[SCREEN_ROWS], base[SCREEN_ROWS];
    uint32_t mask[SCREEN_ROWS], column_mask[SCREEN_ROWS];
    uint32_t rows; /* those with a bit in either mask */
} simd_intervals;

/* Values of one query with the points of a panel; their errors are base + slope norm_j + row_norm error_j. */
typedef struct {
    const float *value, *norm, *error;
    float base, slope, row_norm;
} simd_interval_row;

/* Queries of a block, for the bounds of subspace.h: threshold, roundoff and length; tail, |b|_1 and
 * sum_s roundoff_s |b_s| in the own cell. Whole vectors are read. */
typedef struct {
    const float *tau, *roundoff, *length, *tail, *size, *roundoff_sum;
} simd_skip;

/* A cell: spread gather, rounding, largest roundoff, rounding of an inner product and of P b; the largest length;
 * cosine and sine of what its largest tail is of that. */
typedef struct {
    float roundoff, rounding, most, dot, product, length, cosine, sine;
} simd_skip_cell;

/* Queries of a panel: threshold, roundoff_q times the largest, 1 / gain, and cosine and sine of the angle with their
 * span (spans.h). From these come the smallest bound and the smallest max_y |psi_y| that matter to each, negative
 * where all do. */
typedef struct {
    float tau[SCREEN_COLS], roundoff[SCREEN_COLS], inverse[SCREEN_COLS], cosine[SCREEN_COLS], sine[SCREEN_COLS],
        least[SCREEN_COLS], must[SCREEN_COLS];
} simd_bundle;

typedef struct {
    const char *name;
    int rows, cols; /* shape of the double-precision tile */
    int lanes;      /* small systems side by side */

    /* out[i] = radial(s2[i]); out may be s2. */
    void (*radial_values)(const radial *rad, size_t count, const double *s2, double *out);

    /* Packs rows ids[0 .. count - 1] of a matrix of m contiguous values each into panels of `width`; the
     * last panel repeats its first row as padding. */
    void (*pack_rows)(int m, int width, size_t count, const double *rows, const int *ids, double *panels);

    /* c[i * cols + j] = sum_u a[u * rows + i] * b[u * cols + j]. */
    void (*dot_tile)(int m, const double *a, const double *b, double *c);

    /* s2[i * cols + j] = sum_u (a[u * rows + i] - b[u * cols + j])^2. */
    void (*distance_tile)(int d, const double *a, const double *b, double *s2);

    /* which[j] = the row of a (count rows of d values) that is nearest to point j of a panel, the first of several. */
    void (*nearest_rows)(int d, int count, const double *a, const double *b, int *which);

    /* most[i] = the largest |a[i * cols + j]| gain[j], i < count. */
    void (*largest)(int count, const double *a, const double *gain, double *most);

    /* norms[j] = sum_u b[u * cols + j]^2, the dot product of each point with itself, added up as in dot_list. */
    void (*panel_norms)(int m, const double *b, double *norms);

    /* r = radial(distance) - dot, for row panel (ax, av) and column panel (bx, bv). */
    void (*residual_tile)(const radial *rad, int d, const double *ax, const double *bx, int m, const double *av,
                          const double *bv, double *r);

    /* The same for `count` rows given by pointers; r has room for whole eights of rows. */
    void (*residual_rows)(const radial *rad, int d, int count, const double *const *ax, const double *bx, int m,
                          const double *const *av, const double *bv, double *r);

    /* out[i * stride + j] = r_ij a_gain_i b_gain_j in single precision, for `count` rows given by
     * pointers and one column panel (bx, bv). */
    void (*correlations)(const radial *rad, int d, int m, int count, const double *const *ax, const double *const *av,
                         const double *a_gain, const double *bx, const double *bv, const double *b_gain, float *out,
                         size_t stride);

    /* Bit j is set when |r[j]| * gain[j] >= threshold, j < cols. */
    uint32_t (*at_least)(const double *r, const double *gain, double threshold);

    /* out[c] = q . v[ids[c]] with points of m contiguous values, in chains (above). */
    void (*dot_list)(int m, const double *q, const double *v, const int *ids, size_t count, double *out);

    /* B (rows x cols) <- corner^-1 (B - tile), for a lower triangular corner (rows x rows, row-major,
     * inverted diagonal); `height` rows count. */
    void (*solve_corner)(int height, const double *corner, const double *tile, double *B);

    /* y[u] += factor * x[u]. */
    void (*add_multiple)(int m, double factor, const double *x, double *y);

    /* out[u] = f[u] / step rounded to an integer; returns sum_u (f[u] - step out[u])^2. m is a multiple of 8. */
    double (*round_integers)(int m, double step, const double *f, int16_t *out);

    /* The largest |f[u]|; *norm2 is sum_u f[u]^2. m is a multiple of 8. */
    double (*sizes)(int m, const double *f, double *norm2);

    /* out[c] = |q - x[ids[c]]|^2 with points of d contiguous values. */
    void (*distance_list)(int d, const double *q, const double *x, const int *ids, size_t count, double *out);

    /* value_ij <- -step_i step_j (start_j + sum_u a_iu b_ju), integers of 8 or 16 bits, summed in 32:
     * `steps` times 4 elements of 8 bits (rows unsigned, columns signed) or 2 of 16. dot_tile8 is NULL
     * where the instruction set makes it no faster than dot_tile16. */
    void (*dot_tile8)(int steps, const simd_rows *rows, const simd_columns *columns, float *value);
    void (*dot_tile16)(int steps, const simd_rows *rows, const simd_columns *columns, float *value);

    /* Completes the values of the first `count` rows of a tile to correlations, with their errors (form/integers.c):
     * value_ij += gain_i gain_j kappa(s2_ij),
     * slope_i   = error_i + gain_i slack,
     * base_i    = gain_i slack_floor. */
    void (*interval_tile)(const radial_pieces *pieces, int count, int d, const simd_rows *rows,
                          const simd_columns *columns, simd_intervals *out);

    /* Does row i of a tile again with features in 16 bits, for the pairs of its masks, which become finer, and
     * so do values and slope; errors are then those of fine_error. NULL where dot_tile8 is. */
    void (*refine_row)(int i, const simd_rows *rows, const simd_columns *columns, simd_intervals *out);

    /* out[i * stride + j] = sum_u a[i][u] b[u * stride + j], i < count, u < inner, j < width, in single
     * precision; width is a multiple of SIMD_WIDTH. */
    void (*multiply32)(int count, const float *const *a, int inner, const float *b, int stride, int width, float *out);

    /* lengths[i] = sum_u rows[i * stride + u]^2, u < width. */
    void (*squared_lengths)(int count, int stride, int width, const float *rows, float *lengths);

    /* Clears of a bit set those of `count` queries whose |P b_q|, in single precision, is below least[q]: P b_q has
     * elements sum_s P[s * width + r] b[s * stride + q], r < to, a multiple of SIMD_WIDTH, s < rank. */
    void (*drop_short)(int count, int rank, const float *b, size_t stride, const float *P, int width, int to,
                       const float *least, uint64_t *active);

    /* For each query the smallest |psi| at which it is not done with the cell, and the same less its
     * distance from the span of its own cell's landmarks; 0 where it is never done. */
    void (*skip_lengths)(int count, const simd_skip *queries, const simd_skip_cell *cell, float *limit, float *least);

    /* upper[j] = up (gain[j] radial(s2_j) + sum_u weight[u] reach[u * SIMD_WIDTH + j]), j < SIMD_WIDTH, s2_j the
     * squared distance between the box (low, high) and that of column j, lows[u * SIMD_WIDTH + j] and so on. */
    void (*box_bounds)(const radial *rad, int d, const double *low, const double *high, const double *lows,
                       const double *highs, const double *gain, int m, const float *weight, const float *reach,
                       float up, float *upper);

    /* sum_u a[u] b[u] in single precision. */
    float (*dot32)(int m, const float *a, const float *b);

    /* value_ij = sum_u rows[i][u] columns[u * SCREEN_COLS + j] for SCREEN_ROWS rows, and bit j of
     * mask[i] where |value_ij| + row_tail_i tail_j >= limit_i. */
    void (*subspace_tile)(int rank, const float *const *rows, const float *row_tail, const float *limit,
                          const float *columns, const float *tail, float *value, uint32_t *mask);

    /* The inputs u < m that both sides keep, at row_rank[u] and column_rank[u] >= 0, and whose product
     * weight[u] reach[u] is at least `least`: where their values start, rank times SCREEN_COLS. Returns how many;
     * *left is the sum of the other products. The lists need room for m and a vector. */
    int (*choose_terms)(int m, const float *weight, const float *reach, const int16_t *row_rank,
                        const int16_t *column_rank, float least, int *row_at, int *column_at, float *left);

    /* value_ij = gain_i gain_j kappa(s2_ij) - sum_t a_i[row_at[t]] b[column_at[t] + j] for the first `count` rows,
     * a_i and b the features of a row and of the columns, and bit j of mask[i] where |value_ij| >= tau_i. Whole
     * tiles of SCREEN_ROWS are read and written. */
    void (*expansion_tile)(const radial_pieces *pieces, int count, int d, int terms, const int *row_at,
                           const int *column_at, const simd_rows *rows, const simd_columns *columns, float *value,
                           uint32_t *mask);

    /* The largest over j < SCREEN_COLS of sum_i (sum_u inverse[i * SCREEN_ROWS + u] value[u * SCREEN_COLS + j])^2, u <=
     * i < rank <= SCREEN_ROWS. */
    float (*span_length)(int rank, const float *inverse, const float *value);

    /* Sets what matters to each query of a bundle; returns the smallest of `least`. */
    float (*bundle_limits)(simd_bundle *bundle);

    /* Bit j is set where values[j] <= most, j < SCREEN_COLS. */
    uint32_t (*within)(const float *values, float most);

    /* Orders up to ORDER_MOST pairs (dist, id), whose ids differ, by dist and then by id. */
    void (*order_pairs)(int count, const double *dist, const int *id, double *to_dist, int *to_id);

    /* dist[c] = sqrt(1 - |rho_c|), rho_c = r[c] / sqrt(p q[c]) clamped, 0 where p or q[c] is 0; dist may be r. */
    void (*distances)(size_t count, const double *r, double p, const double *q, double *dist);

    /* Appends the intervals of |value| of the points of a mask that are candidates, 0 <= id < limit and
     * not `self`; returns how many. The lists need room for SCREEN_COLS more. */
    int (*append_intervals)(uint32_t mask, const int *ids, int limit, int self, const simd_interval_row *row, int *id,
                            float *low, float *high);

    /* Keeps the intervals whose high end reaches the threshold; returns how many. */
    int (*drop_intervals)(int count, float threshold, int *id, float *low, float *high);

    /* A number between low and 1 that at least k of the values reach, if they reach low, and that is near the
     * largest such number: by counts. Values are read to a whole vector: the caller pads them by
     * negative ones. */
    float (*reached_by)(const float *values, int count, int k, float low);

    /* One step of a greedy selection by a partial Cholesky factor, for `count` candidates, whole vectors of them:
     *   row_j  <- (covariance[place_j] - sum_{u < done} weight[u] factor[u * stride + j]) scale,
     *   left_j <- left_j - row_j^2,  c_j <- c_j - pull row_j,
     *   score_j = c_j^2 / left_j, roughly, where left_j > least_j, otherwise -1.
     * near <- the candidates of which one has the largest c_j^2 / left_j; returns how many. */
    int (*select_step)(int count, int done, const double *factor, size_t stride, const double *weight, double scale,
                       double pull, const double *least, const double *covariance, const int *place, double *row,
                       double *c, double *left, double *score, int *near);

    /* Mixes the bits of values into SIMD_MIXED lanes, value i into lane i % SIMD_MIXED by
     * lane = (lane ^ bits ^ bits >> 32) SIMD_MIX, modulo 2^64; what is left of `count` is the caller's. */
    void (*mix)(size_t count, const double *values, uint64_t *lane);

    /* out[p (p + 1) / 2 + q] = rows[p] . rows[q], q <= p < count. */
    void (*gram_rows)(int m, int count, const double *const *rows, double *out);

    /* out[s][u] = sum_j weight[s][j] rows[j][u], s < sums, j < count; no sum is one of the rows. */
    void (*combine_rows)(int m, int count, int sums, const double *const *weight, const double *const *rows,
                         double *const *out);

    /* rows[j][s * stride + u] += a[j] x[s * stride + u] + b[s][j] y[u], s < sets, one row after the other; x is none of
     * the rows. */
    void (*spread_rows)(int m, int sets, int stride, int count, const double *a, const double *x,
                        const double *const *b, const double *y, double *const *rows);

    /* out[j] = q . rows[j]. */
    void (*dot_rows)(int m, const double *q, int count, const double *const *rows, double *out);

    /* w = sum_p weight[p] rows[p] and dw = sum_p weight[p] changes[p] (m values each), and
     * out[p] = dw . rows[p] + w . changes[p]: every row is read once. `sums` is scratch of lanes values for each row,
     * and for what fills their number up to whole vectors. */
    void (*contrast_rows)(int m, int count, const double *weight, const double *const *rows,
                          const double *const *changes, double *w, double *dw, double *sums, double *out);

    /* c[i * cols + j] = sum_t a[i * a_row + t * a_step] b[t * b_step + j], i < rows, j < cols, t < steps; a_row
     * or a_step is 1. */
    void (*strided_tile)(size_t steps, const double *a, size_t a_row, size_t a_step, const double *b, size_t b_step,
                         double *c);

    /* value[i] = radial(s2[i]) and slope[i] = -s d radial / ds, its derivative to the logarithm of a common
     * lengthscale; not for a RADIAL_FUNCTION. */
    void (*radial_slopes)(const radial *rad, size_t count, const double *s2, double *value, double *slope);

    /* Small systems, one in each lane: element e of a vector of values stands at [e * lanes + lane]. Points x are size
     * x d. Symmetric and lower triangular matrices of order `size` are packed: (p, q), q <= p, is element p (p + 1) / 2
     * + q. */

    /* s2 (p, q) = the squared distance of points p and q. */
    void (*lane_distances)(int d, int size, const double *x, double *s2);

    /* out (p, q) = A (p, q) (x_pl - x_ql)^2; out may be A. */
    void (*lane_axis)(int d, int l, int size, const double *x, const double *A, double *out);

    /* R <- its Cholesky factor, inverse <- the inverses of its diagonal; `size` is even. Bit `lane` of the answer is
     * set where a system is not positive definite; its values are of no use then. */
    unsigned (*lane_factor)(int size, double *R, double *inverse);

    /* b <- L^-1 b and b <- L^-T b with the leading block of order `size` of a factor. */
    void (*lane_solve)(int size, const double *L, const double *inverse, double *b);
    void (*lane_solve_back)(int size, const double *L, const double *inverse, double *b);

    /* out <- A alpha, A symmetric, its diagonal taken for 0. */
    void (*lane_multiply)(int size, const double *A, const double *alpha, double *out);
} simd_table;

extern const simd_table *simd;

/* Chooses the table; `limit` caps it by name ("portable", "avx2", "avx512"), NULL takes the widest. */
void simd_init(const char *limit);

/* In the calling thread numbers below the normal range are taken for zero, where the processor can do that, until
 * simd_restore() with the answer: many processors are slow with them, and products of small features are full of
 * them. */
unsigned simd_flush(void);
void simd_restore(unsigned state);

/* Packs `count` points (point i, element u at source[i * point_stride + u * element_stride]) into
 * panels of `width`; the last panel is padded with zeros. Panels follow each other: m * width each. */
void simd_pack(int m, int width, size_t count, const double *source, size_t point_stride, size_t element_stride,
               double *panels);

/* The first `filled` points of a column panel, m values each. */
void simd_unpack(int m, int filled, const double *panel, double *points);

#endif
