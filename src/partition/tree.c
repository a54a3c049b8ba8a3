#include "partition/tree.h"

#include "base/linalg.h"
#include "base/pace.h"
#include "base/scratch.h"
#include "partition/boxes.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PARALLEL_POINTS 20000

typedef struct {
    int d;
    const double *x;
    double *near; /* by position: squared distance to the nearest centre so far */
    int *which;   /* by position: that centre's rank, and at last its place among the children */
    int *moved;   /* by position: scratch for the permutation */
} build;

/* What splitting a node finds: its children in order. */
typedef struct {
    int count, centre[TREE_FANOUT], first[TREE_FANOUT], points[TREE_FANOUT];
    double radius[TREE_FANOUT];
} siblings;

static double squared(int d, const double *x, int i, int j)
{
    return linalg_distance2(d, x + (size_t)i * d, x + (size_t)j * d);
}

/* Position of the point farthest from its centre; ties to the lower index. */
static int farthest(const build *b, const int *perm, int first, int count)
{
    int best = first;
    for (int i = first + 1; i < first + count; i++)
        if (b->near[i] > b->near[best] || (b->near[i] == b->near[best] && perm[i] < perm[best]))
            best = i;
    return best;
}

static void assign(const build *b, const int *perm, int first, int count, int centre, int rank, int threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = first; i < first + count; i++) {
        double s2 = squared(b->d, b->x, perm[i], centre);
        if (rank == 0 || s2 < b->near[i]) {
            b->near[i] = s2;
            b->which[i] = rank;
        }
    }
}

/* The place of each centre in a greedy tour from the first, so that consecutive children are close. */
static void tour(const build *b, int count, const int *centre, int *place)
{
    int used[TREE_FANOUT] = {1}, here = 0;
    place[0] = 0;
    for (int step = 1; step < count; step++) {
        int best = -1;
        double best_s2 = 0.0;
        for (int c = 0; c < count; c++) {
            if (used[c])
                continue;
            double s2 = squared(b->d, b->x, centre[here], centre[c]);
            if (best < 0 || s2 < best_s2) {
                best = c;
                best_s2 = s2;
            }
        }
        used[best] = 1;
        place[best] = step;
        here = best;
    }
}

/* Returns 0 if the monitor, which is for the main thread alone, asked to stop. */
static int split(const build *b, int *perm, int first, int count, int centre, int threads, const monitor *mon,
                 siblings *out)
{
    int centres[TREE_FANOUT], child[TREE_FANOUT], at[TREE_FANOUT];
    int want = (count + TREE_LEAF - 1) / TREE_LEAF * 2;
    want = want > TREE_FANOUT ? TREE_FANOUT : want;
    out->count = 0;
    centres[0] = centre;
    assign(b, perm, first, count, centre, 0, threads);
    int found = 1;
    for (; found < want; found++) {
        int far = farthest(b, perm, first, count);
        if (b->near[far] == 0.0)
            break;
        centres[found] = perm[far];
        assign(b, perm, first, count, centres[found], found, threads);
        if (monitor_poll(mon, 0.0))
            return 0;
    }
    tour(b, found, centres, child);
    for (int c = 0; c < found; c++) {
        out->centre[child[c]] = centres[c];
        out->points[c] = 0;
        out->radius[c] = 0.0;
    }
    for (int i = first; i < first + count; i++) {
        int c = b->which[i] = child[b->which[i]];
        out->points[c]++;
        out->radius[c] = b->near[i] > out->radius[c] ? b->near[i] : out->radius[c];
    }
    for (int c = 0; c < found; c++) {
        out->first[c] = at[c] = c ? out->first[c - 1] + out->points[c - 1] : first;
        out->radius[c] = sqrt(out->radius[c]);
    }
    for (int i = first; i < first + count; i++)
        b->moved[at[b->which[i]]++] = perm[i];
    memcpy(perm + first, b->moved + first, (size_t)count * sizeof(int));
    out->count = found;
    return 1;
}

static int grow(tree *t, size_t capacity)
{
    int **fields[] = {&t->first, &t->count, &t->parent, &t->child, &t->children, &t->centre, &t->level};
    for (size_t f = 0; f < sizeof(fields) / sizeof(*fields); f++) {
        int *more = scratch_resize(*fields[f], capacity, sizeof(int));
        if (!more)
            return 0;
        *fields[f] = more;
    }
    double *radius = scratch_resize(t->radius, capacity, sizeof(double));
    if (!radius)
        return 0;
    t->radius = radius;
    return 1;
}

void tree_free(tree *t)
{
    SCRATCH_FREE(t->perm, t->first, t->count, t->parent, t->child, t->children, t->centre, t->level, t->radius);
    memset(t, 0, sizeof(*t));
}

/* The point nearest to the mean, and the largest distance from it. */
static int root_centre(int d, size_t n, const double *x, double *radius)
{
    double best = INFINITY, far = 0.0;
    int centre = 0;
    double *mean = scratch_zeros(d, sizeof(double));
    if (!mean)
        return -1;
    for (size_t i = 0; i < n; i++)
        for (int u = 0; u < d; u++)
            mean[u] += x[i * d + u] / (double)n;
    for (size_t i = 0; i < n; i++) {
        double s2 = linalg_distance2(d, x + i * d, mean);
        if (s2 < best) {
            best = s2;
            centre = (int)i;
        }
    }
    for (size_t i = 0; i < n; i++) {
        double s2 = squared(d, x, (int)i, centre);
        far = s2 > far ? s2 : far;
    }
    scratch_free(mean);
    *radius = sqrt(far);
    return centre;
}

static int is_leaf(const tree *t, int node) { return t->count[node] <= TREE_LEAF || t->radius[node] == 0.0; }

status tree_build(int d, size_t n, const double *x, int threads, const monitor *mon, tree *out)
{
    size_t capacity = 64;
    memset(out, 0, sizeof(*out));
    build b = {.d = d, .x = x};
    siblings *all = NULL;
    out->n = n;
    status result = status_fail(STATUS_MEMORY);
    if (!SCRATCH_ALL(SCRATCH_FOR(b.near, n), SCRATCH_FOR(b.which, n), SCRATCH_FOR(b.moved, n),
                     SCRATCH_FOR(out->perm, n)) ||
        !grow(out, capacity))
        goto done;
    for (size_t i = 0; i < n; i++)
        out->perm[i] = (int)i;
    out->nodes = 1;
    out->first[0] = out->level[0] = out->child[0] = out->children[0] = 0;
    out->count[0] = (int)n;
    out->parent[0] = -1;
    out->centre[0] = root_centre(d, n, x, &out->radius[0]);
    if (out->centre[0] < 0)
        goto done;

    for (int begin = 0, end = 1; begin < end; begin = end, end = out->nodes) { /* level by level */
        int width = end - begin;
        siblings *more = scratch_resize(all, (size_t)width, sizeof(siblings));
        if (!more)
            goto done;
        all = more;
        for (int v = begin; v < end; v++) /* large nodes one by one, their points in parallel */
            if (!is_leaf(out, v) && out->count[v] > PARALLEL_POINTS &&
                !split(&b, out->perm, out->first[v], out->count[v], out->centre[v], threads, mon, &all[v - begin])) {
                result = status_fail(STATUS_INTERRUPTED);
                goto done;
            }
        pace p = pace_over(mon, width, 8 * (size_t)threads);
        while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
            for (int v = begin + (int)p.first; v < begin + (int)p.last; v++) {
                if (is_leaf(out, v))
                    boxes_rising(out->perm + out->first[v], out->count[v]);
                else if (out->count[v] <= PARALLEL_POINTS)
                    split(&b, out->perm, out->first[v], out->count[v], out->centre[v], 1, NULL, &all[v - begin]);
            }
        }
        if (p.stopped) {
            result = pace_end(&p);
            goto done;
        }
        for (int v = begin; v < end; v++) {
            out->child[v] = out->nodes;
            out->children[v] = is_leaf(out, v) ? 0 : all[v - begin].count;
            if ((size_t)out->nodes + out->children[v] > capacity) {
                capacity = 2 * capacity;
                if (!grow(out, capacity))
                    goto done;
            }
            for (int c = 0; c < out->children[v]; c++) {
                const siblings *f = &all[v - begin];
                int node = out->nodes++;
                out->first[node] = f->first[c];
                out->count[node] = f->points[c];
                out->parent[node] = v;
                out->centre[node] = f->centre[c];
                out->level[node] = out->level[v] + 1;
                out->radius[node] = f->radius[c];
                out->child[node] = out->children[node] = 0;
            }
        }
    }
    result = status_ok();
done:
    SCRATCH_FREE(b.near, b.which, b.moved, all);
    if (result.code)
        tree_free(out);
    return result;
}

enum { PERM, FIRST, COUNT, PARENT, CHILD, CHILDREN, CENTRE, LEVEL, RADIUS, NOTHING };

static int node_fault(const tree *t, int v)
{
    int64_t n = (int64_t)t->n, first = t->first[v], count = t->count[v], child = t->child[v], children = t->children[v],
            parent = t->parent[v];
    if (first < 0 || first >= n)
        return FIRST;
    if (count < 1 || first + count > n)
        return COUNT;
    if (v ? parent < 0 || parent >= v : parent != -1)
        return PARENT;
    if (children < 0 || children > t->nodes)
        return CHILDREN;
    if (child < 0 || child + children > t->nodes || (children && child <= v))
        return CHILD;
    if (v && (v < t->child[parent] || v - t->child[parent] >= t->children[parent]))
        return PARENT;
    if (t->centre[v] < 0 || t->centre[v] >= n)
        return CENTRE;
    if (t->level[v] != (v ? t->level[parent] + 1 : 0))
        return LEVEL;
    return t->radius[v] >= 0.0 ? NOTHING : RADIUS;
}

int tree_fault(const tree *t)
{
    if (t->first[0] != 0)
        return FIRST;
    if ((size_t)t->count[0] != t->n)
        return COUNT;
    for (int v = 0; v < t->nodes; v++) {
        int fault = node_fault(t, v);
        if (fault != NOTHING)
            return fault;
    }
    return NOTHING;
}

int tree_check(const tree *t, int d, const double *x, double slack)
{
    for (int v = 0; v < t->nodes; v++) {
        int at = t->first[v], nested = t->children[v] == 0;
        double widest = 0.0, far = 0.0;
        for (int i = 0; i < t->count[v]; i++) {
            double s2 = squared(d, x, t->perm[t->first[v] + i], t->centre[v]);
            far = s2 > far ? s2 : far;
            if (!t->children[v] && i && t->perm[t->first[v] + i - 1] >= t->perm[t->first[v] + i])
                return 1;
        }
        for (int c = t->child[v]; c < t->child[v] + t->children[v]; c++) {
            if (t->parent[c] != v || t->first[c] != at || t->count[c] < 1)
                return 1;
            at += t->count[c];
            nested |= t->centre[c] == t->centre[v];
            widest = t->radius[c] > widest ? t->radius[c] : widest;
        }
        if (t->children[v] && at != t->first[v] + t->count[v])
            return 1;
        if (!nested)
            return 2;
        if (!(fabs(sqrt(far) - t->radius[v]) <= slack * t->radius[v]))
            return 3;
        for (int a = t->child[v]; a < t->child[v] + t->children[v]; a++)
            for (int b = t->child[v]; b < a; b++)
                if (sqrt(squared(d, x, t->centre[a], t->centre[b])) < widest * (1.0 - slack))
                    return 4;
        if (t->children[v] == 1)
            return 5;
    }
    return 0;
}
