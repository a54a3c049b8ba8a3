#include "screen.h"

#include "linalg.h"
#include "scratch.h"
#include "threads.h"

#include <string.h>

#define SPECIAL_VARIANCE 1e-3 /* of s2: above it cancellation costs nothing */
#define NORM16 46000.0        /* norms that keep a sum of 16-bit products inside 32 bits */
#define ERROR8 0.1            /* largest typical error of a correlation that 8 bits may have */
#define RESIDUAL_ERROR 0.02   /* typical error of 16 bits from which on residual features are better */
#define RESIDUAL_LANDMARKS 512
#define LOCAL_ERROR 0.002      /* error of a correlation that a local basis should leave */
#define LOCAL_SAMPLE 64       /* points of a cell that its basis is chosen from */

void screen_free(screen *s)
{
    void *held[] = {s->panel,       s->place,      s->ids,         s->centre,    s->slack,
                    s->x,           s->gain,       s->step,        s->norm,      s->error,
                    s->tail,        s->start,      s->integers,    s->rows,      s->rank,
                    s->basis,       s->basis_step, s->coordinates, s->row_error, s->row_norm,
                    s->row_step,    s->slack_floor,      s->box,        s->special,     s->special_ids,
                    s->special_input, s->special_v, s->prefix_tail, s->prefix_start};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    if (s->residual && !s->borrowed) {
        landmarks_free(s->residual);
        free(s->residual);
    }
    memset(s, 0, sizeof(*s));
}

/* The inducing input that point i stands on, if its residual variance is nearly gone. */
static int standing_on(const screen_source *source, const metric_points *points, size_t i)
{
    if (!source->z || points->variance[i] > SPECIAL_VARIANCE * source->kern->variance)
        return -1;
    for (int u = 0; u < points->m; u++)
        if (memcmp(points->x + i * points->d, source->z + (size_t)u * points->d,
                   points->d * sizeof(double)) == 0)
            return u;
    return -1;
}

static status find_specials(const screen_source *source, screen *s, int threads)
{
    const metric_points *points = s->points;
    size_t n = points->n;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        s->special[i] = standing_on(source, points, i);
    for (size_t i = 0; i < n; i++)
        s->specials += s->special[i] >= 0;
    s->special_ids = scratch_alloc(s->specials + 1, sizeof(int));
    s->special_input = scratch_alloc(s->specials + 1, sizeof(int));
    s->special_v = scratch_alloc((size_t)s->specials * s->m + 1, sizeof(double));
    if (!s->special_ids || !s->special_input || !s->special_v)
        return status_fail(STATUS_MEMORY);
    if (!s->specials)
        return status_ok();
    linalg_triangle triangle;
    status result = linalg_triangle_pack(s->m, source->L, 0, &triangle);
    int cols = simd->cols, at = 0;
    double *panel = scratch_alloc((size_t)s->m * cols, sizeof(double));
    if (!panel)
        result = status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < n && !result.code; i++) {
        if (s->special[i] < 0)
            continue;
        s->special_ids[at] = (int)i;
        s->special_input[at] = s->special[i];
        memset(panel, 0, (size_t)s->m * cols * sizeof(double));
        panel[(size_t)s->special[i] * cols] = -source->jitter * source->kern->variance;
        linalg_solve_panel(&triangle, panel);
        for (int u = 0; u < s->m; u++)
            s->special_v[(size_t)at * s->m + u] = panel[(size_t)u * cols];
        s->special[i] = at++;
    }
    linalg_triangle_free(&triangle);
    scratch_free(panel);
    return result;
}

void screen_features(const screen *s, const kernel *kern, size_t i, double *f, double *gain)
{
    const metric_points *points = s->points;
    double scale = points->scale[i];
    int special = s->special[i];
    const double *v = special < 0 ? points->v + i * s->m : s->special_v + (size_t)special * s->m;
    memset(f, 0, s->m * sizeof(double));
    simd->add_multiple(s->m, scale, v, f);
    *gain = special < 0 ? sqrt(kern->variance) * scale : 0.0;
}

/* Orthogonal butterflies over eights, neighbouring and then strided: 64 elements mix. */
static void butterfly(double *f, size_t stride)
{
    for (size_t half = 1; half < 8; half *= 2)
        for (size_t a = 0; a < 8; a += 2 * half)
            for (size_t b = a; b < a + half; b++) {
                double sum = f[b * stride] + f[(b + half) * stride];
                f[(b + half) * stride] = f[b * stride] - f[(b + half) * stride];
                f[b * stride] = sum;
            }
}

/* Sixteen bits gain nothing from rotation: there the norm limits the step, not the largest element. */
static void rotate(int width, double *f)
{
    for (int a = 0; a < width; a += 8)
        butterfly(f + a, 1);
    for (int a = 0; a < width / 8; a++)
        butterfly(f + a, width / 8);
    for (int a = 0; a < width; a++)
        f[a] *= 0.125;
}

/* Rounds features f (width); returns step, |f| and |f - f~| in out. */
static void round_features(int width, int bits, const double *f, int16_t *integers, double *out)
{
    double norm2, most = simd->sizes(width, f, &norm2), norm = sqrt(norm2), step = most / 127.0;
    if (bits == 16)
        step = norm / NORM16 > most / 32767.0 ? norm / NORM16 : most / 32767.0;
    step = (double)(float)(step * (1.0 + 1e-6)); /* what the tiles will multiply by */
    out[0] = step;
    out[1] = norm;
    out[2] = 0.0;
    if (step > 0.0)
        out[2] = sqrt(simd->round_integers(width, step, f, integers));
    else
        memset(integers, 0, width * sizeof(int16_t));
}

/* ---- integers ------------------------------------------------------------------------------- */

static void store_panel(screen *s, size_t column, const int16_t *integers)
{
    size_t panel = column / SCREEN_COLS, j = column % SCREEN_COLS;
    char *base = (char *)s->integers + panel * s->steps * SCREEN_COLS * 4 + 4 * j;
    int32_t sum = 0;
    for (int u = 0; u < s->steps; u++, base += SCREEN_COLS * 4) {
        if (s->prefix && u == s->prefix)
            s->prefix_start[column] = -128 * sum;
        if (s->form == SCREEN_BITS16) {
            memcpy(base, integers + 2 * u, 4);
        } else {
            int8_t four[4];
            for (int e = 0; e < 4; e++) {
                four[e] = (int8_t)integers[4 * u + e];
                sum += four[e];
            }
            memcpy(base, four, 4);
        }
    }
    s->start[column] = -128 * sum;
}

/* ---- local bases ---------------------------------------------------------------------------- */

/* Scratch of one thread. */
typedef struct {
    double *f;            /* points x width: features of a cell */
    double *basis;        /* SCREEN_COLS x width */
    double *gram;         /* LOCAL_SAMPLE x LOCAL_SAMPLE, lower; then the pivoted factor by rows */
    double *left, *spare; /* LOCAL_SAMPLE, width */
    double *gain, *tail2, *noise; /* points */
    double *products;     /* SCREEN_COLS x points: coordinates before rounding */
    double *packed;       /* panels of f, or of its sample, then of the basis */
    int16_t *integers;    /* width + 32 */
    size_t points;        /* rows of f */
} local_scratch;

static void local_free(local_scratch *l)
{
    void *held[] = {l->f, l->basis, l->gram, l->left, l->spare, l->packed, l->products, l->gain, l->tail2,
                    l->noise, l->integers};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int local_new(int width, int room, size_t points, local_scratch *l)
{
    memset(l, 0, sizeof(*l));
    l->points = points;
    l->f = scratch_alloc(points * width + 8, sizeof(double));
    l->basis = scratch_alloc((size_t)SCREEN_COLS * width + 8, sizeof(double));
    l->gram = scratch_alloc(LOCAL_SAMPLE * LOCAL_SAMPLE, sizeof(double));
    l->left = scratch_alloc(LOCAL_SAMPLE, sizeof(double));
    l->spare = scratch_alloc(width + 8, sizeof(double));
    l->packed = scratch_alloc((points + 2 * LOCAL_SAMPLE + 2 * SIMD_MAX_COLS) * width +
                                  (size_t)(width + room) * SIMD_MAX_COLS + 8,
                              sizeof(double));
    l->integers = scratch_alloc(width + 32, sizeof(int16_t));
    l->gain = scratch_alloc(points + 1, sizeof(double));
    l->tail2 = scratch_alloc(points + SIMD_MAX_COLS, sizeof(double));
    l->noise = scratch_alloc(points + 1, sizeof(double));
    if (!l->gain || !l->tail2 || !l->noise)
        return 0;
    l->products = scratch_alloc(SCREEN_COLS * points + 8, sizeof(double));
    if (!l->products || !l->f || !l->basis || !l->gram || !l->left || !l->spare || !l->packed || !l->integers)
        return 0;
    return 1;
}

/* products[i * ld + j] = a_i . b_j for rows of `width` values, by tiles. */
static void all_products(int width, int rows, const double *a, size_t a_stride, int cols,
                         const double *b, size_t b_stride, double *packed, double *products,
                         int ld)
{
    int tile_rows = simd->rows, tile_cols = simd->cols;
    double *right = packed + (size_t)(rows + tile_rows) * width;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    simd_pack(width, tile_rows, rows, a, a_stride, 1, packed);
    for (int j = 0; j < cols; j += tile_cols) {
        int columns = cols - j < tile_cols ? cols - j : tile_cols;
        simd_pack(width, tile_cols, columns, b + j * b_stride, b_stride, 1, right);
        for (int i = 0; i < rows; i += tile_rows) {
            simd->dot_tile(width, packed + (size_t)i * width, right, tile);
            for (int p = 0; p < tile_rows && i + p < rows; p++)
                memcpy(products + (size_t)(i + p) * ld + j, tile + p * tile_cols,
                       columns * sizeof(double));
        }
    }
}

/* Orthonormal basis of the features in l->f (count x width), until what is left of every sampled
 * point is below `tolerance`. Returns the rank, SCREEN_COLS + 1 when that is not enough. */
static int local_basis(int width, int count, double tolerance, local_scratch *l)
{
    int stride = (count + LOCAL_SAMPLE - 1) / LOCAL_SAMPLE, size = (count + stride - 1) / stride;
    all_products(width, size, l->f, (size_t)stride * width, size, l->f, (size_t)stride * width,
                 l->packed, l->gram, LOCAL_SAMPLE);
    for (int i = 0; i < size; i++)
        l->left[i] = l->gram[(size_t)i * LOCAL_SAMPLE + i];
    double factor[LOCAL_SAMPLE][SCREEN_COLS];
    for (int s = 0;; s++) {
        int pivot = 0;
        for (int i = 1; i < size; i++)
            if (l->left[i] > l->left[pivot])
                pivot = i;
        if (l->left[pivot] <= tolerance * tolerance)
            return s;
        if (s == SCREEN_COLS)
            return s + 1;
        double root = sqrt(l->left[pivot]), *row = l->basis + (size_t)s * width;
        for (int i = 0; i < size; i++) {
            double value = l->gram[(size_t)i * LOCAL_SAMPLE + pivot];
            for (int r = 0; r < s; r++)
                value -= factor[i][r] * factor[pivot][r];
            factor[i][s] = value / root;
            l->left[i] -= factor[i][s] * factor[i][s];
        }
        l->left[pivot] = 0.0;
        memcpy(row, l->f + (size_t)pivot * stride * width, width * sizeof(double));
        for (int r = 0; r < s; r++)
            simd->add_multiple(width, -factor[pivot][r], l->basis + (size_t)r * width, row);
        for (int u = 0; u < width; u++)
            row[u] /= root;
    }
}

static size_t box_size(int d) { return 2 * d + 2 * SCREEN_COLS + 5; }

/* The box of a panel from its columns. */
static void build_box(screen *s, int panel, int rank)
{
    int d = s->d;
    size_t column = (size_t)panel * SCREEN_COLS;
    float *low = s->box + panel * box_size(d), *high = low + d, *middle = high + d,
          *half = middle + SCREEN_COLS, *scalars = half + SCREEN_COLS;
    for (int u = 0; u < d + rank; u++) {
        const float *values = u < d ? s->x + (column * d + (size_t)u * SCREEN_COLS)
                                    : s->coordinates + (column + u - d) * SCREEN_COLS;
        float least = INFINITY, most = -INFINITY;
        for (int j = 0; j < SCREEN_COLS && s->ids[column + j] >= 0; j++) {
            least = values[j] < least ? values[j] : least;
            most = values[j] > most ? values[j] : most;
        }
        if (u < d) {
            low[u] = least;
            high[u] = most;
        } else { /* the middle is rounded, so the half is taken from it, and up */
            float centre = 0.5f * least + 0.5f * most;
            middle[u - d] = centre;
            half[u - d] = fmaxf(most - centre, centre - least) * (1.0f + 1e-6f);
        }
    }
    scalars[0] = INFINITY;
    scalars[1] = scalars[2] = scalars[3] = scalars[4] = 0.0f;
    for (int j = 0; j < SCREEN_COLS && s->ids[column + j] >= 0; j++) {
        scalars[0] = fminf(scalars[0], s->gain[column + j]);
        scalars[1] = fmaxf(scalars[1], s->gain[column + j]);
        scalars[2] = fmaxf(scalars[2], s->norm[column + j]);
        scalars[3] = fmaxf(scalars[3], s->error[column + j]);
        scalars[4] = fmaxf(scalars[4], s->tail[column + j]);
    }
}

/* Basis, coordinates and errors of a cell whose features are in l->f. */
static void build_local(screen *s, int c, double tolerance, local_scratch *l)
{
    int first = s->cell[c], count = s->cell[c + 1] - first, width = s->width;
    int rank = local_basis(width, count, tolerance, l);
    rank = rank > SCREEN_COLS ? SCREEN_COLS : rank;
    s->rank[c] = rank;
    int16_t *basis = s->basis + (size_t)c * 2 * s->steps * SCREEN_COLS;
    memset(basis, 0, (size_t)2 * s->steps * SCREEN_COLS * sizeof(int16_t));
    for (int b = 0; b < rank; b++) { /* from here on the basis is what its integers say */
        double *row = l->basis + (size_t)b * width, rounded[3];
        memcpy(l->spare, row, width * sizeof(double));
        round_features(width, 16, l->spare, l->integers, rounded);
        for (int u = 0; u < width; u++) {
            row[u] = rounded[0] * l->integers[u];
            basis[((size_t)(u / 2) * SCREEN_COLS + b) * 2 + u % 2] = l->integers[u];
        }
        s->basis_step[(size_t)c * SCREEN_COLS + b] = (float)-rounded[0];
    }
    for (int b = rank; b < SCREEN_COLS; b++)
        s->basis_step[(size_t)c * SCREEN_COLS + b] = 0.0f;
    all_products(width, rank, l->basis, width, count, l->f, width, l->packed, l->products,
                 (int)l->points);
    all_products(width, rank, l->basis, width, rank, l->basis, width, l->packed, l->gram,
                 SCREEN_COLS);
    double up = 1.0 + ldexp(1.0, -20), own[SCREEN_COLS], rounding = ldexp(1.0, -20) + 2.0 * rank * ldexp(1.0, -23);
    for (int i = 0; i < count; i++) {
        size_t column = s->place[first + i];
        float *coordinates = s->coordinates + column / SCREEN_COLS * SCREEN_COLS * SCREEN_COLS +
                             column % SCREEN_COLS;
        double *f = l->f + (size_t)i * width, norm2, left2;
        simd->sizes(width, f, &norm2);
        left2 = norm2;
        for (int b = 0; b < rank; b++) {
            double product = l->products[(size_t)b * l->points + i];
            float coordinate = coordinates[b * SCREEN_COLS] = (float)product;
            own[b] = coordinate;
            left2 += own[b] * (own[b] * l->gram[b * SCREEN_COLS + b] - 2.0 * product);
            for (int r = 0; r < b; r++)
                left2 += 2.0 * own[b] * own[r] * l->gram[b * SCREEN_COLS + r];
        }
        left2 = (left2 > 0.0 ? left2 : 0.0) + 1e-12 * norm2;
        double norm = sqrt(norm2), left = sqrt(left2);
        s->norm[column] = (float)((norm + left) * up);
        s->error[column] = (float)((left + rounding * norm) * up);
    }
    for (int panel = s->panel[c]; panel < s->panel[c + 1]; panel++)
        build_box(s, panel, rank);
}

/* ---- building ------------------------------------------------------------------------------- */

static void build_frame(screen *s, const kernel *kern, int c)
{
    const metric_points *points = s->points;
    int first = s->cell[c], count = s->cell[c + 1] - first, d = s->d;
    double *centre = s->centre + (size_t)c * d, far = 0.0;
    for (int u = 0; u < d; u++) { /* the middle of the box */
        double low = INFINITY, high = -INFINITY;
        for (int i = 0; i < count; i++) {
            double x = points->x[(size_t)s->perm[first + i] * d + u];
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        centre[u] = 0.5 * (low + high);
        far += 0.25 * (high - low) * (high - low);
    }
    double slack = ldexp(1.0, -24) * (40.0 + d + 2.0 * sqrt(far));
    if (kern->table) { /* steepest at 0, where rounding of coordinates may cost more than |ds| */
        double step = ldexp(1.0, -23) * (1.0 + sqrt(far));
        slack += kern->table_error + 1.0 - kernel_value(kern, step * step) / kern->variance;
    }
    s->slack[c] = (float)slack;
}

/* Features, gains, squared tails and noise of the points of a cell. */
static void cell_features(const screen *s, const kernel *kern, int c, local_scratch *l)
{
    int first = s->cell[c], count = s->cell[c + 1] - first, width = s->width, cols = simd->cols;
    memset(l->f, 0, (size_t)count * width * sizeof(double));
    for (int i = 0; i < count; i++) {
        l->gain[i] = l->tail2[i] = l->noise[i] = 0.0;
        if (!s->residual)
            screen_features(s, kern, s->perm[first + i], l->f + (size_t)i * width, &l->gain[i]);
    }
    for (int i = 0; i < count && s->residual; i += cols) {
        int columns = count - i < cols ? count - i : cols;
        landmarks_features(s->residual, s->points, s->perm + first + i, columns, l->packed,
                           l->tail2 + i);
        for (int j = 0; j < columns; j++) {
            double scale = s->points->scale[s->perm[first + i + j]];
            l->noise[i + j] = s->residual->noise * scale;
            for (int u = 0; u < s->residual->count; u++)
                l->f[(size_t)(i + j) * width + u] = l->packed[(size_t)u * cols + j];
        }
    }
}

static void build_cell(screen *s, const kernel *kern, int c, double tolerance, local_scratch *l)
{
    const metric_points *points = s->points;
    int first = s->cell[c], count = s->cell[c + 1] - first, d = s->d, width = s->width;
    double up = 1.0 + ldexp(1.0, -20);
    build_frame(s, kern, c);
    cell_features(s, kern, c, l);
    for (int i = 0; i < (s->panel[c + 1] - s->panel[c]) * SCREEN_COLS; i++) {
        size_t column = (size_t)s->panel[c] * SCREEN_COLS + i;
        float *x = s->x + column / SCREEN_COLS * d * SCREEN_COLS + column % SCREEN_COLS;
        double *f = i < count ? l->f + (size_t)i * width : l->spare, rounded[3];
        if (i >= count)
            memset(f, 0, width * sizeof(double));
        for (int u = 0; u < d; u++)
            x[u * SCREEN_COLS] = 0.0f;
        s->ids[column] = -1;
        if (i < count) {
            size_t id = s->perm[first + i];
            s->ids[column] = (int)id;
            s->place[first + i] = (int)column;
            for (int u = 0; u < d; u++)
                x[u * SCREEN_COLS] = (float)(points->x[id * d + u] - s->centre[(size_t)c * d + u]);
        }
        if (s->prefix) {
            double kept2;
            simd->sizes(width / 2, f, &kept2);
            s->prefix_tail[column] = (float)(sqrt(kept2 < 1.0 ? 1.0 - kept2 : 0.0) * up);
            rotate(width / 2, f);
            rotate(width / 2, f + width / 2);
        } else if (s->form == SCREEN_BITS8) {
            rotate(width, f);
        }
        round_features(width, s->form == SCREEN_BITS8 ? 8 : 16, f, l->integers, rounded);
        double noise = i < count ? l->noise[i] : 0.0;
        s->gain[column] = i < count ? (float)l->gain[i] : 0.0f;
        s->tail[column] = i < count ? (float)(sqrt(l->tail2[i]) * up) : 0.0f;
        float norm = (float)((rounded[1] + rounded[2]) * up);
        float error = (float)((rounded[2] + noise + ldexp(rounded[1], -20)) * up);
        if (s->form != SCREEN_LOCAL) {
            s->step[column] = (float)rounded[0];
            s->norm[column] = norm;
            s->error[column] = error;
            store_panel(s, column, l->integers);
        } else if (i < count) {
            memcpy(s->rows + (size_t)(first + i) * 2 * s->steps, l->integers,
                   (size_t)2 * s->steps * sizeof(int16_t));
            s->row_step[first + i] = (float)rounded[0];
            s->row_norm[first + i] = norm;
            s->row_error[first + i] = error;
        } else {
            s->norm[column] = s->error[column] = 0.0f;
        }
    }
    if (s->form == SCREEN_LOCAL)
        build_local(s, c, tolerance, l);
    for (int panel = s->panel[c]; panel < s->panel[c + 1]; panel++) {
        float floor = 0.0f;
        for (size_t j = (size_t)panel * SCREEN_COLS; j < (size_t)(panel + 1) * SCREEN_COLS; j++)
            floor = fmaxf(floor, s->slack[c] * (s->gain[j] - s->norm[j]));
        s->slack_floor[panel] = floor * (1.0f + 1e-6f);
    }
}

/* The norm of features that half of a sample of the points exceed: sets what a tail may be. */
static double typical_norm(const screen *s, const kernel *kern, double *f)
{
    double norms[97];
    int found = 0;
    size_t n = s->points->n, stride = n / 97 + 1;
    for (size_t i = 0; i < n; i += stride) {
        double gain, norm2 = 0.0;
        screen_features(s, kern, i, f, &gain);
        for (int u = 0; u < s->m; u++)
            norm2 += f[u] * f[u];
        int at = found++;
        for (; at > 0 && norms[at - 1] > norm2; at--)
            norms[at] = norms[at - 1];
        norms[at] = norm2;
    }
    return found ? sqrt(norms[found / 2]) : 0.0;
}

/* Whether rank SCREEN_COLS is enough for most of a few cells spread over the order. */
static int local_pays(const screen *s, const kernel *kern, double tolerance, local_scratch *l)
{
    int fits = 0, tried = 0;
    for (int c = 0; c < s->cells; c += s->cells / 9 + 1, tried++) {
        int first = s->cell[c], count = s->cell[c + 1] - first;
        double gain;
        for (int i = 0; i < count; i++) {
            double *f = l->f + (size_t)i * s->width;
            memset(f, 0, s->width * sizeof(double));
            screen_features(s, kern, s->perm[first + i], f, &gain);
        }
        fits += local_basis(s->width, count, tolerance, l) <= SCREEN_COLS;
    }
    return 2 * fits > tried;
}

static int bits8_suffice(const screen *s, const kernel *kern, local_scratch *l)
{
    int rough = 0, tried = 0;
    size_t n = s->points->n, stride = n / 97 + 1;
    for (size_t i = 0; i < n; i += stride, tried++) {
        double gain, rounded[3];
        memset(l->spare, 0, s->width * sizeof(double));
        screen_features(s, kern, i, l->spare, &gain);
        rotate(s->width, l->spare);
        round_features(s->width, 8, l->spare, l->integers, rounded);
        rough += 2.0 * rounded[1] * rounded[2] > ERROR8;
    }
    return 2 * rough <= tried;
}

static int allocate(screen *s)
{
    size_t n = s->points->n, columns = (size_t)s->panel[s->cells] * SCREEN_COLS;
    int ok = 1;
    s->ids = scratch_alloc(columns, sizeof(int));
    s->x = scratch_alloc(columns * s->d, sizeof(float));
    s->gain = scratch_alloc(columns, sizeof(float));
    s->norm = scratch_alloc(columns, sizeof(float));
    s->error = scratch_alloc(columns, sizeof(float));
    s->tail = scratch_alloc(columns, sizeof(float));
    s->slack_floor = scratch_alloc((size_t)s->panel[s->cells], sizeof(float));
    ok &= s->slack_floor && s->ids && s->x && s->gain && s->norm && s->error && s->tail;
    if (s->form != SCREEN_LOCAL) {
        s->step = scratch_alloc(columns, sizeof(float));
        s->start = scratch_alloc(columns, sizeof(int32_t));
        s->integers = scratch_alloc(columns * s->steps + 1, 4);
        if (s->prefix) {
            s->prefix_tail = scratch_alloc(columns, sizeof(float));
            s->prefix_start = scratch_alloc(columns, sizeof(int32_t));
            ok &= s->prefix_tail && s->prefix_start;
        }
        return ok && s->step && s->start && s->integers;
    }
    s->rows = scratch_alloc(n * s->steps + 1, 4);
    s->row_step = scratch_alloc(n, sizeof(float));
    s->row_norm = scratch_alloc(n, sizeof(float));
    s->row_error = scratch_alloc(n, sizeof(float));
    s->rank = scratch_alloc(s->cells, sizeof(int));
    s->basis = scratch_alloc((size_t)s->cells * s->steps * SCREEN_COLS + 1, 4);
    s->basis_step = scratch_alloc((size_t)s->cells * SCREEN_COLS, sizeof(float));
    s->coordinates = scratch_alloc(columns * SCREEN_COLS, sizeof(float));
    s->box = scratch_alloc((size_t)s->panel[s->cells] * box_size(s->d), sizeof(float));
    ok &= s->rows && s->row_step && s->row_norm && s->row_error && s->rank && s->basis &&
          s->basis_step && s->coordinates && s->box;
    if (ok) /* padding columns and unused coordinates are never written */
        memset(s->coordinates, 0, columns * SCREEN_COLS * sizeof(float));
    return ok;
}

/* Decides between v and residual features, and prepares the landmarks of the latter. */
static status choose_features(const screen_source *source, const screen *like, double norm,
                              int threads, screen *s)
{
    size_t n = s->points->n;
    int count = n / 8 < RESIDUAL_LANDMARKS ? (int)(n / 8) / 8 * 8 : RESIDUAL_LANDMARKS;
    if (like) {
        s->residual = like->residual;
        s->borrowed = 1;
    } else if (s->m && count && 0.6 * norm * norm / NORM16 * sqrt(s->width) > RESIDUAL_ERROR) {
        s->residual = calloc(1, sizeof(landmarks));
        if (!s->residual)
            return status_fail(STATUS_MEMORY);
        status result = landmarks_build(source->kern, s->points, s->perm, count, threads,
                                        s->residual);
        if (result.code == STATUS_NOT_POSITIVE_DEFINITE) { /* correlations are all noise: use v */
            free(s->residual);
            s->residual = NULL;
        } else if (result.code) {
            return result;
        }
    }
    if (s->residual)
        s->width = (s->residual->count + 15) / 16 * 16;
    return status_ok();
}

status screen_build(const screen_source *source, const metric_points *points, const int *perm,
                    const int *cell, int cells, const screen *like, int threads, screen *s)
{
    size_t n = points->n, largest = 0;
    memset(s, 0, sizeof(*s));
    s->points = points;
    s->d = points->d;
    s->m = points->m;
    s->width = (points->m + 7) / 8 * 8;
    s->cells = cells;
    s->perm = perm;
    s->cell = cell;
    s->panel = scratch_alloc((size_t)cells + 1, sizeof(int));
    s->place = scratch_alloc(n + 1, sizeof(int));
    s->special = scratch_alloc(n + 1, sizeof(int));
    s->centre = scratch_alloc((size_t)cells * s->d + 1, sizeof(double));
    s->slack = scratch_alloc((size_t)cells + 1, sizeof(float));
    local_scratch *scratch = calloc(threads, sizeof(*scratch));
    status result = status_fail(STATUS_MEMORY);
    if (!s->panel || !s->place || !s->special || !s->centre || !s->slack || !scratch)
        goto done;
    s->panel[0] = 0;
    for (int c = 0; c < cells; c++) {
        size_t count = cell[c + 1] - cell[c];
        s->panel[c + 1] = s->panel[c] + (int)((count + SCREEN_COLS - 1) / SCREEN_COLS);
        largest = count > largest ? count : largest;
    }
    double norm = 1.0, *f = scratch_alloc(s->width + 8, sizeof(double));
    if (!f)
        goto done;
    memset(s->special, 0xff, n * sizeof(int));
    norm = typical_norm(s, source->kern, f);
    scratch_free(f);
    result = choose_features(source, like, norm, threads, s);
    if (result.code)
        goto done;
    result = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads; t++)
        if (!local_new(s->width, s->d + s->m, largest, &scratch[t]))
            goto done;
    result = s->residual ? status_ok() : find_specials(source, s, threads);
    if (result.code)
        goto done;
    double tolerance = norm > 0.0 ? LOCAL_ERROR / norm : 1.0;
    if (like)
        s->form = like->form;
    else if (!s->residual && s->m > SCREEN_COLS && s->d <= 16 &&
             local_pays(s, source->kern, tolerance, scratch))
        s->form = SCREEN_LOCAL;
    else
        s->form = simd->dot_tile8 && (s->residual || bits8_suffice(s, source->kern, scratch))
                      ? SCREEN_BITS8
                      : SCREEN_BITS16;
    s->steps = s->width / (s->form == SCREEN_BITS8 ? 4 : 2);
    s->prefix = s->residual ? s->steps / 2 : 0;
    result = status_fail(STATUS_MEMORY);
    if (!allocate(s))
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int c = 0; c < cells; c++)
        build_cell(s, source->kern, c, tolerance, &scratch[threads_id()]);
    result = status_ok();
done:
    for (int t = 0; t < threads && scratch; t++)
        local_free(&scratch[t]);
    free(scratch);
    if (result.code)
        screen_free(s);
    return result;
}

/* ---- tiles ---------------------------------------------------------------------------------- */

const void *screen_query(const screen *s, int position, void *room, int row, simd_rows *out)
{
    size_t column = s->place[position];
    out->gain[row] = s->gain[column];
    out->tail[row] = s->tail[column];
    if (s->form == SCREEN_LOCAL) {
        out->step[row] = s->row_step[position];
        out->norm[row] = s->row_norm[position];
        out->error[row] = s->row_error[position];
        return s->rows + (size_t)position * 2 * s->steps;
    }
    out->step[row] = s->step[column];
    out->norm[row] = s->norm[column];
    out->error[row] = s->error[column];
    const char *source = (const char *)s->integers +
                         column / SCREEN_COLS * s->steps * SCREEN_COLS * 4 +
                         4 * (column % SCREEN_COLS);
    uint32_t flip = s->form == SCREEN_BITS8 ? 0x80808080u : 0u; /* signed to offset by 128 */
    for (int u = 0; u < s->steps; u++, source += SCREEN_COLS * 4) {
        uint32_t four;
        memcpy(&four, source, 4);
        four ^= flip;
        memcpy((char *)room + 4 * u, &four, 4);
    }
    return room;
}

simd_columns screen_columns(const screen *s, int cell, int panel)
{
    size_t column = (size_t)panel * SCREEN_COLS;
    int local = s->form == SCREEN_LOCAL;
    return (simd_columns){
        .features = local ? (const void *)(s->coordinates + column * SCREEN_COLS)
                          : (const char *)s->integers + column * s->steps * 4,
        .x = s->x + column * s->d,
        .gain = s->gain + column,
        .step = local ? NULL : s->step + column,
        .norm = s->norm + column,
        .error = s->error + column,
        .tail = s->tail + column,
        .start = local ? NULL : s->start + column,
        .slack = s->slack[cell],
        .slack_floor = s->slack_floor[panel],
    };
}

simd_columns screen_prefix(const screen *s, int cell, int panel)
{
    simd_columns columns = screen_columns(s, cell, panel);
    columns.tail = s->prefix_tail + (size_t)panel * SCREEN_COLS;
    columns.start = s->prefix_start + (size_t)panel * SCREEN_COLS;
    return columns;
}

simd_columns screen_projection(const screen *s, int cell)
{
    return (simd_columns){
        .features = s->basis + (size_t)cell * 2 * s->steps * SCREEN_COLS,
        .step = s->basis_step + (size_t)cell * SCREEN_COLS,
    };
}

simd_box screen_box(const screen *s, int cell, int panel)
{
    const float *low = s->box + panel * box_size(s->d), *middle = low + 2 * s->d,
                *scalars = middle + 2 * SCREEN_COLS;
    return (simd_box){low,        low + s->d, middle,     middle + SCREEN_COLS, scalars[0],
                      scalars[1], scalars[2], scalars[3], scalars[4],           s->slack[cell]};
}
