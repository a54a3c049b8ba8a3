#include "partition/nodes.h"

#include "base/pace.h"
#include "base/scratch.h"

#include <float.h>
#include <string.h>

#define CHUNK 256

void nodes_free(nodes *b)
{
    void *held[] = {b->low,   b->high,  b->largest, b->scale, b->least,
                    b->terms, b->known, b->angle,   b->rows};
    specials_free(&b->special);
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    memset(b, 0, sizeof(*b));
}

/* ---- build ---------------------------------------------------------------------------------- */

static void widen(const nodes *b, int v, const double *low, const double *high)
{
    int d = b->points->d;
    double *own_low = b->low + (size_t)v * d, *own_high = b->high + (size_t)v * d;
    for (int u = 0; u < d; u++) {
        own_low[u] = low[u] < own_low[u] ? low[u] : own_low[u];
        own_high[u] = high[u] > own_high[u] ? high[u] : own_high[u];
    }
}

static void measure_leaf(const nodes *b, int v)
{
    const tree *t = b->structure;
    const metric_points *points = b->points;
    for (int i = t->first[v]; i < t->first[v] + t->count[v]; i++) {
        int id = t->perm[i];
        double scale = points->scale[id];
        const double *x = points->x + (size_t)id * points->d;
        widen(b, v, x, x);
        b->least[v] = id < b->least[v] ? id : b->least[v];
        b->largest[v] = fmax(b->largest[v], scale);
        if (scale > b->scale[v] && b->special.rank[id] < 0)
            b->scale[v] = scale;
    }
}

status nodes_build(const metric_source *source, const tree *structure, const metric_points *points,
                   int threads, nodes *b)
{
    size_t count = structure->nodes, d = points->d;
    memset(b, 0, sizeof(*b));
    b->source = source;
    b->structure = structure;
    b->points = points;
    b->expands = source->L != NULL || points->m == 0;
    b->low = scratch_alloc(count * d, sizeof(double));
    b->high = scratch_alloc(count * d, sizeof(double));
    b->largest = scratch_alloc(count, sizeof(double));
    b->scale = scratch_alloc(count, sizeof(double));
    b->least = scratch_alloc(count, sizeof(int));
    b->known = scratch_alloc(count, 1);
    int ok = b->low && b->high && b->largest && b->scale && b->least && b->known;
    if (ok && b->expands)
        ok = (b->terms = scratch_alloc(2 * count * points->m + 1, sizeof(double))) != NULL;
    size_t m = source->L ? points->m : 0;
    if (ok && m) {
        b->rows = scratch_alloc(m * m, sizeof(double));
        ok = b->rows != NULL;
    }
    for (size_t u = 0; u < m && ok; u++)
        for (size_t t = 0; t <= u; t++)
            b->rows[u * m + t] = source->L[t * m + u];
    status result = ok ? specials_find(source, points, &b->special) : status_fail(STATUS_MEMORY);
    if (result.code) {
        nodes_free(b);
        return result;
    }
    memset(b->known, 0, count);
    memset(b->largest, 0, count * sizeof(double));
    memset(b->scale, 0, count * sizeof(double));
    for (size_t i = 0; i < count * d; i++) {
        b->low[i] = INFINITY;
        b->high[i] = -INFINITY;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int v = 0; v < structure->nodes; v++) {
        b->least[v] = (int)points->n;
        if (structure->children[v] == 0)
            measure_leaf(b, v);
    }
    for (int v = structure->nodes - 1; v > 0; v--) { /* children are numbered after their parent */
        int parent = structure->parent[v];
        widen(b, parent, b->low + v * d, b->high + v * d);
        b->largest[parent] = fmax(b->largest[parent], b->largest[v]);
        b->scale[parent] = fmax(b->scale[parent], b->scale[v]);
        b->least[parent] = b->least[v] < b->least[parent] ? b->least[v] : b->least[parent];
    }
    return status_ok();
}

/* ---- the expansion bound -------------------------------------------------------------------- */

/* Squared distances of x from the nearest and the farthest point of the box. */
static void box_distances(const nodes *b, int v, const double *x, double *near, double *far)
{
    int d = b->points->d;
    const double *low = b->low + (size_t)v * d, *high = b->high + (size_t)v * d;
    double near2 = 0.0, far2 = 0.0;
    for (int u = 0; u < d; u++) {
        double below = low[u] - x[u], above = x[u] - high[u];
        double gap = below > 0.0 ? below : above > 0.0 ? above : 0.0;
        double reach = below < above ? below : above; /* minus the larger of the two ways across */
        near2 += gap * gap;
        far2 += reach * reach;
    }
    *near = near2;
    *far = far2;
}

static void fill(nodes *b, int v)
{
    const metric_source *source = b->source;
    int m = b->points->m, d = b->points->d;
    double *middle = b->terms + 2 * (size_t)v * m, *half = middle + m;
    double tiny = source->jitter * source->kern->variance;
    for (int u = 0; u < m; u++)
        box_distances(b, v, source->z + (size_t)u * d, &half[u], &middle[u]);
    kernel_values(source->kern, 2 * m, middle, middle);
    for (int u = 0; u < m; u++) {
        double near = half[u], far = middle[u];
        middle[u] = 0.5 * (near + far) * b->scale[v];
        half[u] = 0.5 * (near - far) * b->scale[v];
    }
    for (int s = 0; s < b->special.count; s++) {
        int id = b->special.ids[s], u = b->special.inputs[s];
        double near, far;
        box_distances(b, v, b->points->x + (size_t)id * d, &near, &far);
        if (near == 0.0) /* in the box: all of its own, perhaps others */
            half[u] = fmax(half[u], tiny * b->points->scale[id]);
    }
    b->known[v] = 1;
}

status nodes_fill(nodes *b, int threads, const monitor *mon)
{
    if (!b->expands)
        return status_ok();
    pace p = pace_over(mon, b->structure->nodes, threads);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
        for (int v = (int)p.first; v < (int)p.last; v++)
            fill(b, v);
    }
    return pace_end(&p);
}

/* weight <- L^-T weight, by the rows of L. */
static void solve_transposed(int m, const double *rows, double *weight)
{
    for (int u = m - 1; u >= 0; u--) {
        const double *row = rows + (size_t)u * m;
        weight[u] /= row[u];
        simd->add_multiple(u, -weight[u], row, weight);
    }
}

static void solve(int m, const double *L, double *weight)
{
    for (int u = 0; u < m; u++) {
        const double *column = L + (size_t)u * m + u;
        weight[u] /= column[0];
        simd->add_multiple(m - u - 1, -weight[u], column + 1, weight + u + 1);
    }
}

void nodes_query_set(const nodes *b, const metric_points *from, int row, node_query *query)
{
    const metric_source *source = b->source;
    int m = from->m, input = specials_input(source, from, row);
    query->from = from;
    query->row = row;
    query->special = input >= 0;
    query->scale = from->scale[row];
    query->gain = query->special ? 0.0 : query->scale;
    query->total = 0.0;
    if (!b->expands || !m)
        return;
    double factor = query->scale;
    if (query->special) {
        memset(query->weight, 0, m * sizeof(double));
        query->weight[input] = 1.0;
        solve(m, source->L, query->weight);
        factor *= source->jitter * source->kern->variance;
    } else {
        memcpy(query->weight, from->v + (size_t)row * m, m * sizeof(double));
    }
    solve_transposed(m, b->rows, query->weight);
    for (int u = 0; u < m; u++) {
        query->weight[u] *= factor;
        query->weight[m + u] = fabs(query->weight[u]);
        query->total += query->weight[m + u];
    }
}

/* What rounding adds for a point with 1 / sqrt(p) = 1; see nodes.h. */
static double slack(const nodes *b, const node_query *query)
{
    double m = b->points->m, unit = DBL_EPSILON * b->source->kern->variance;
    return unit * ((6.0 * m + 100.0) * query->total + (m + 100.0) * query->scale);
}

void nodes_expansion(nodes *b, const node_query *query, const node_bound *parent, node_bound *out)
{
    const tree *t = b->structure;
    int first = t->child[parent->node], count = t->children[parent->node];
    int m = b->points->m, ids[TREE_FANOUT];
    const double *x = query->from->x + (size_t)query->row * b->points->d;
    double own[2 * TREE_FANOUT], sum[TREE_FANOUT], half[TREE_FANOUT], *far = own + count;
    for (int c = 0; c < count; c++) {
        box_distances(b, first + c, x, &own[c], &far[c]);
        out[c] = (node_bound){first + c, parent->upper, own[c], 0.0, INFINITY};
    }
    if (!b->expands)
        return;
    kernel_values(b->source->kern, 2 * (size_t)count, own, own);
    for (int c = 0; c < count; c++) {
        if (!b->known[first + c])
            fill(b, first + c);
        ids[c] = 2 * (first + c);
    }
    simd->dot_list(m, query->weight, b->terms, ids, count, sum);
    for (int c = 0; c < count; c++)
        ids[c]++;
    simd->dot_list(m, query->weight + m, b->terms, ids, count, half);
    double rounding = slack(b, query);
    for (int c = 0; c < count; c++) {
        double gain = 0.5 * query->gain * b->scale[first + c];
        out[c].middle = sum[c];
        out[c].half = half[c] + rounding * b->largest[first + c];
        out[c].upper =
            fabs(gain * (own[c] + far[c]) - sum[c]) + gain * (own[c] - far[c]) + out[c].half;
    }
}

int nodes_screen(const nodes *b, const node_query *query, const node_bound *bound, double threshold,
                 int count, int *ids)
{
    const metric_points *points = b->points;
    double scale = b->scale[bound->node], kernels[CHUNK];
    int left = 0;
    if (!b->expands || threshold <= 0.0 || scale == 0.0)
        return count;
    for (int first = 0; first < count; first += CHUNK) {
        int filled = count - first < CHUNK ? count - first : CHUNK;
        simd->distance_list(points->d, query->from->x + (size_t)query->row * points->d, points->x,
                            ids + first, filled, kernels);
        kernel_values(b->source->kern, filled, kernels, kernels);
        for (int i = 0; i < filled; i++) {
            int id = ids[first + i];
            double own = points->scale[id];
            double upper = own / scale *
                           (fabs(query->gain * scale * kernels[i] - bound->middle) + bound->half);
            ids[left] = id;
            left += upper >= threshold || b->special.rank[id] >= 0;
        }
    }
    return left;
}

/* ---- the angle bound ------------------------------------------------------------------------ */

/* How far rounding can turn the angle of two points with these 1 / sqrt(p). */
static double turned(const nodes *b, double scale_a, double scale_b)
{
    double m = b->points->m,
           error = (m + 8.0) * DBL_EPSILON * b->source->kern->variance * scale_a * scale_b;
    if (b->source->L)
        error *= 1.0 + 2.0 * sqrt(m / b->source->jitter);
    return 1.12 * sqrt(2.0 * error) + 1e-12;
}

status nodes_angles(nodes *b, int threads, const monitor *mon)
{
    const tree *t = b->structure;
    const metric_points *points = b->points;
    double *angle = scratch_alloc(t->nodes, sizeof(double));
    if (!angle)
        return status_fail(STATUS_MEMORY);
    pace p = pace_over(mon, t->nodes, 1);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
        for (int v = (int)p.first; v < (int)p.last; v++) {
            double rho[CHUNK], least = 1.0;
            int centre = t->centre[v], last = t->first[v] + t->count[v];
            for (int i = t->first[v]; i < last; i += CHUNK) {
                int filled = last - i < CHUNK ? last - i : CHUNK;
                metric_list(b->source->kern, points, centre, points, t->perm + i, filled, rho);
                for (int j = 0; j < filled; j++)
                    if (t->perm[i + j] != centre)
                        least = fmin(least, fabs(rho[j]));
            }
            angle[v] = acos(least) + turned(b, points->scale[centre], b->largest[v]);
        }
    }
    b->angle = angle;
    return pace_end(&p);
}

double nodes_angle(const nodes *b, const node_query *query, int node)
{
    const metric_points *points = b->points;
    int centre = b->structure->centre[node];
    if (points->variance[centre] == 0.0) /* it has no direction */
        return 1.0;
    double rho;
    metric_list(b->source->kern, query->from, query->row, points, &centre, 1, &rho);
    double gap = acos(fabs(rho)) - b->angle[node] - turned(b, query->scale, points->scale[centre]);
    gap -= turned(b, query->scale, b->largest[node]);
    return gap > 0.0 ? cos(gap) + 1e-15 : 1.0;
}
