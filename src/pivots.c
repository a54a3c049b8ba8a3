#include "pivots.h"

#include "scratch.h"
#include "threads.h"

#include <string.h>

void pivots_free(pivots *p)
{
    void *held[] = {p->beta,  p->noise, p->reach,       p->gain,   p->place,  p->kernels, p->x,
                    p->scale, p->pairs, p->weight_most, p->middle, p->cosine, p->sine};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    memset(p, 0, sizeof(*p));
}

static int counts(const bounds *b, int id)
{
    return id >= 0 && b->special.rank[id] < 0 && b->points->scale[id] > 0.0;
}

/* Which of `count` points is nearest to their middle; -1 if none counts. */
static int middle_of(const bounds *b, const int *ids, int count)
{
    int d = b->d, found = -1;
    double away[SCREEN_COLS] = {0.0}, least = INFINITY;
    for (int u = 0; u < d; u++) {
        const double *x = b->points->x + u;
        double low = INFINITY, high = -INFINITY;
        for (int j = 0; j < count; j++)
            if (counts(b, ids[j])) {
                double value = x[(size_t)ids[j] * d];
                low = value < low ? value : low;
                high = value > high ? value : high;
            }
        for (int j = 0; j < count; j++) {
            double gap = x[(size_t)ids[j] * d] - 0.5 * (low + high);
            away[j] += gap * gap;
        }
    }
    for (int j = 0; j < count; j++)
        if (counts(b, ids[j]) && away[j] < least) {
            least = away[j];
            found = j;
        }
    return found;
}

/* The middle of some queries. */
static void set_middle(const bounds *b, const int *ids, float noise, int *middle, float *cosine,
                       float *sine)
{
    int count = 0, at;
    double rho[SCREEN_ROWS], least = 1.0;
    while (count < SCREEN_ROWS && ids[count] >= 0)
        count++;
    at = middle_of(b, ids, count);
    *middle = at < 0 ? -1 : ids[at];
    if (at >= 0)
        metric_list(b->kern, b->points, ids[at], b->points, ids, count, rho);
    for (int j = 0; j < count && at >= 0; j++)
        if (j != at && counts(b, ids[j]))
            least = fmin(least, fabs(rho[j]));
    least = fmax(0.0, least - 8.0 * noise * noise - 1e-6);
    *cosine = (float)(at < 0 ? 0.0 : least * (1.0 - 1e-6));
    *sine = (float)(at < 0 ? 1.0 : fmin(1.0, sqrt(1.0 - least * least) * (1.0 + 1e-6)));
}

/* The pivots of a panel, by id or -1, and what they say of it. */
static void choose(const bounds *b, int panel, float noise, int *chosen, int at, simd_pivots *out)
{
    const int *ids = b->order->ids + (size_t)panel * SCREEN_COLS;
    int count = 0, first, second = -1;
    double rho[2][SCREEN_COLS], cross = 0.0, left = 0.0, special = 0.0,
                                slack = 2.0 * PIVOTS_NOISY * (8.0 * noise * noise + 1e-12);
    while (count < SCREEN_COLS && ids[count] >= 0)
        count++;
    first = middle_of(b, ids, count);
    for (int j = 0; j < count; j++)
        if (b->special.rank[ids[j]] >= 0)
            special = fmax(special, b->points->scale[ids[j]] * b->jitter * b->kern->variance);
    if (first >= 0)
        metric_list(b->kern, b->points, ids[first], b->points, ids, count, rho[0]);
    for (int j = 0; j < count && first >= 0; j++)
        if (j != first && counts(b, ids[j]) && 1.0 - rho[0][j] * rho[0][j] > left) {
            left = 1.0 - rho[0][j] * rho[0][j];
            second = j;
        }
    if (left < PIVOTS_APART)
        second = -1;
    double s2 = left;
    if (second >= 0) {
        cross = rho[0][second];
        left = 0.0;
        metric_list(b->kern, b->points, ids[second], b->points, ids, count, rho[1]);
        for (int j = 0; j < count; j++) {
            double apart = rho[1][j] - cross * rho[0][j];
            if (j != first && j != second && counts(b, ids[j]))
                left = fmax(left, 1.0 - rho[0][j] * rho[0][j] - apart * apart / s2);
        }
    }
    chosen[at] = first < 0 ? -1 : ids[first];
    chosen[PIVOTS_PANELS + at] = second < 0 ? -1 : ids[second];
    double sine2 = first < 0 ? 1.0 : fmin(1.0, fmax(left, 0.0) + slack),
           root = second < 0 ? 0.0 : 1.0 / sqrt(s2);
    out->cross[at] = (float)cross;
    out->inverse[at] = (float)root;
    out->amplify[at] =
        (float)(1.01 * sqrt(1.0 + (1.0 + fabs(cross)) * (1.0 + fabs(cross)) * root * root));
    out->sine[at] = (float)fmin(1.0, sqrt(sine2) * (1.0 + 1e-6));
    out->cosine[at] = (float)(sqrt(1.0 - fmin(1.0, sine2)) * (1.0 - 1e-6));
    out->special[at] = (float)(special * (1.0 + 1e-6));
}

/* Values of the pivots of a cell; `values` has m doubles and m x SCREEN_COLS floats. */
static void set_cell(const metric_source *source, const bounds *b, const frames *frame, int c,
                     double *values, pivots *p)
{
    const cells *order = b->order;
    const metric_points *points = b->points;
    int m = p->m, d = p->d, first = order->panel[c], panels = order->panel[c + 1] - first,
        ids[SCREEN_COLS];
    double sum = 0.0;
    float *kernels = (float *)(values + m), *reach = p->reach + (size_t)c * m, noise = 0.0f;
    simd_pivots *pairs = &p->pairs[c];
    memset(ids, 0xff, sizeof(ids));
    memset(kernels, 0, (size_t)m * SCREEN_COLS * sizeof(float));
    memset(reach, 0, m * sizeof(float));
    memset(pairs, 0, sizeof(*pairs));
    for (int at = order->first[c]; at < order->first[c + 1]; at++)
        if (counts(b, order->perm[at]))
            noise = fmaxf(noise, b->noise[order->perm[at]]);
    for (int i = 0; i < panels; i++) {
        choose(b, first + i, noise, ids, i, pairs);
        sum += asin(pairs->sine[i]);
    }
    p->noise[c] = noise;
    p->beta[c] = (float)(sum / panels);
    p->gain[c] = 0.0;
    for (int j = 0; j < SCREEN_COLS; j++) {
        float *x = p->x + (size_t)c * d * SCREEN_COLS + j;
        double scale = ids[j] < 0 ? 0.0 : points->scale[ids[j]];
        p->scale[(size_t)c * SCREEN_COLS + j] = (float)(sqrt(source->kern->variance) * scale);
        p->gain[c] = fmax(p->gain[c], scale);
        for (int u = 0; u < d; u++)
            x[u * SCREEN_COLS] = 0.0f;
        if (ids[j] < 0)
            continue;
        for (int u = 0; u < d; u++)
            x[u * SCREEN_COLS] =
                (float)(points->x[(size_t)ids[j] * d + u] - frame->centre[(size_t)c * d + u]);
        kernel_row(source->kern, d, points->x + (size_t)ids[j] * d, m, source->z, values);
        for (int u = 0; u < m; u++) {
            float value = (float)(values[u] * scale), up = value * (1.0f + 1e-6f);
            kernels[u * SCREEN_COLS + j] = value;
            reach[u] = up > reach[u] ? up : reach[u];
        }
    }
    bounds_keep(m, p->most, reach, kernels, p->place + (size_t)c * m,
                p->kernels + (size_t)c * p->most * SCREEN_COLS);
    for (int panel = first; panel < first + panels; panel++) {
        const float *weight = b->panels.weight + (size_t)panel * m;
        float most = 0.0f;
        for (int u = 0; u < m; u++)
            most = weight[u] > most ? weight[u] : most;
        p->weight_most[panel] = most;
        for (int t = 0; t < PIVOTS_TILES; t++) {
            size_t at = (size_t)panel * PIVOTS_TILES + t;
            set_middle(b, order->ids + at * SCREEN_ROWS, noise, p->middle + at, p->cosine + at,
                       p->sine + at);
        }
    }
}

status pivots_build(const metric_source *source, const bounds *b, const frames *frame, int threads,
                    pivots *p)
{
    size_t cells = b->order->count, m = b->m, d = b->d, most = b->terms.most,
           room = m + m * SCREEN_COLS / 2 + 1;
    *p = (pivots){.m = b->m, .d = b->d, .most = b->terms.most};
    p->beta = scratch_alloc(cells, sizeof(float));
    p->noise = scratch_alloc(cells, sizeof(float));
    p->reach = scratch_alloc(cells * m, sizeof(float));
    p->gain = scratch_alloc(cells, sizeof(double));
    p->place = scratch_alloc(cells * m, sizeof(int16_t));
    p->kernels = scratch_alloc(cells * most * SCREEN_COLS, sizeof(float));
    p->x = scratch_alloc(cells * d * SCREEN_COLS, sizeof(float));
    p->scale = scratch_alloc(cells * SCREEN_COLS, sizeof(float));
    p->pairs = scratch_alloc(cells, sizeof(simd_pivots));
    p->weight_most = scratch_alloc(b->order->panels, sizeof(float));
    size_t tiles = (size_t)b->order->panels * PIVOTS_TILES;
    p->middle = scratch_alloc(tiles, sizeof(int));
    p->cosine = scratch_alloc(tiles, sizeof(float));
    p->sine = scratch_alloc(tiles, sizeof(float));
    double *scratch = scratch_alloc(room * threads, sizeof(double));
    int ok = p->beta && p->noise && p->reach && p->gain && p->place && p->kernels && p->x &&
             p->scale && p->pairs && p->weight_most && p->middle && p->cosine && p->sine && scratch;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) if (ok)
    for (int c = 0; c < (ok ? (int)cells : 0); c++)
        set_cell(source, b, frame, c, scratch + room * threads_id(), p);
    scratch_free(scratch);
    if (!ok)
        pivots_free(p);
    return ok ? status_ok() : status_fail(STATUS_MEMORY);
}
