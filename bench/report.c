/* The ideas of the report, one switch each, on one engine that is exact: for bench/report.R.
 *
 * Level-synchronous search of a cover tree in double precision. Blocks of 64 queries that stand together
 * descend one level at a time. A child is skipped for the queries that the angle bound rules out: with
 * theta = acos |rho| and Theta the largest angle from the child's centre to one of its points,
 *     |rho(q, y)| <= cos(theta(q, centre) - Theta),
 * and the points of leaves are evaluated in tiles of the package's own vector routines. Switches:
 *   ALLOCATE  each query allocates and fills a cache of n doubles (the correlations with centres) and a
 *             mask of n bytes (the points seen), as the report's first engine did, and writes to them
 *   UNFUSED   products, kernel and comparison pass one after the other over buffers of all pairs of a
 *             level, not tile by tile
 *   FIXED     each leaf has tiles of its own; otherwise tiles are filled from the queue of leaves
 *   BYTES     which queries a node may serve: 64 bytes, not 64 bits */
#include "base/bitset.h"
#include "search/query.h"
#include "base/scratch.h"
#include "partition/tree.h"

#include <R.h>
#include <Rinternals.h>
#include <string.h>

#define BLOCK 64
#define LEAF 10
#define SEEDS 512 /* points around a block that give it its first thresholds */
#define WIDEN 3e-4 /* of an angle, for rounding: see nodes.h */
#define LEAST_VARIANCE 1e-8

enum { ALLOCATE = 1, UNFUSED = 2, FIXED = 4, BYTES = 8 };

typedef struct {
    const kernel *kern;
    const metric_points *points;
    tree cover;
    double *cosine, *sine; /* of Theta, by node */
    int k, switches;
    /* the block */
    int count, row[BLOCK];
    double *query_x, *query_v, cut[BLOCK]; /* |rho| below the cut is of no use */
    kbest best[BLOCK];
    double *dist;
    int *id;
    double *cache[BLOCK];
    unsigned char *seen[BLOCK];
    /* the level: columns of tiles, a point and an owner (whose mask holds for it) each */
    int columns, *column, *owner;
    double *panel_x, *panel_v, *dots, *values;
    /* masks, bits or bytes, of the nodes and of whole panels */
    uint64_t *bits, *panel_bits;
    unsigned char *bytes, *panel_bytes;
    double evaluated;
} search;

/* ---- masks ---------------------------------------------------------------------------------- */

static int next_active(const search *s, int node, int q, int end)
{
    if (s->switches & BYTES) {
        while (q < end && !s->bytes[(size_t)node * BLOCK + q])
            q++;
        return q;
    }
    uint64_t left = q < BLOCK ? s->bits[node] >> q : 0;
    int next = left ? q + __builtin_ctzll(left) : end;
    return next < end ? next : end;
}

static void mark(search *s, int node, int q)
{
    if (s->switches & BYTES)
        s->bytes[(size_t)node * BLOCK + q] = 1;
    else
        s->bits[node] |= (uint64_t)1 << q;
}

static void clear(search *s, int node)
{
    if (s->switches & BYTES)
        memset(s->bytes + (size_t)node * BLOCK, 0, BLOCK);
    else
        s->bits[node] = 0;
}

/* The queries of a panel: those of any of its columns. */
static void gather_panel(search *s, int panel)
{
    int cols = simd->cols, last = -1;
    if (s->switches & BYTES)
        memset(s->panel_bytes + (size_t)panel * BLOCK, 0, BLOCK);
    else
        s->panel_bits[panel] = 0;
    for (int j = panel * cols; j < (panel + 1) * cols; j++) {
        int owner = s->owner[j];
        if (owner < 0 || owner == last)
            continue;
        last = owner;
        if (s->switches & BYTES)
            for (int q = 0; q < BLOCK; q++)
                s->panel_bytes[(size_t)panel * BLOCK + q] |= s->bytes[(size_t)owner * BLOCK + q];
        else
            s->panel_bits[panel] |= s->bits[owner];
    }
}

static int strip_active(const search *s, int panel, int first, int end)
{
    if (s->switches & BYTES) {
        for (int q = first; q < end; q++)
            if (s->panel_bytes[(size_t)panel * BLOCK + q])
                return 1;
        return 0;
    }
    uint64_t width = end - first < 64 ? ((uint64_t)1 << (end - first)) - 1 : ~(uint64_t)0;
    return (s->panel_bits[panel] >> first & width) != 0;
}

/* ---- tiles ---------------------------------------------------------------------------------- */

typedef void consume(search *s, int q, int column, double r);

static void use_tile(search *s, consume *use, int panel, int first, const double *r)
{
    int cols = simd->cols, end = first + simd->rows < s->count ? first + simd->rows : s->count;
    for (int j = 0; j < cols; j++) {
        int at = panel * cols + j, owner = s->owner[at];
        if (owner < 0)
            continue;
        for (int q = next_active(s, owner, first, end); q < end; q = next_active(s, owner, q + 1, end))
            use(s, q, at, r[(q - first) * cols + j]);
    }
}

/* Evaluates the columns of the level with the block. */
static void evaluate(search *s, consume *use)
{
    const metric_points *p = s->points;
    const radial rad = kernel_radial(s->kern);
    int rows = simd->rows, cols = simd->cols, d = p->d, m = p->m;
    int panels = (s->columns + cols - 1) / cols, strips = (s->count + rows - 1) / rows;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64)));
    for (int at = s->columns; at < panels * cols; at++) {
        s->column[at] = s->column[s->columns - 1];
        s->owner[at] = -1;
    }
    size_t size = (size_t)rows * cols;
    int passes = s->switches & UNFUSED ? 4 : 1;
    for (int pass = 0; pass < passes; pass++)
        for (int panel = 0; panel < panels; panel++) {
            if (pass == 0) {
                gather_panel(s, panel);
                simd->pack_rows(m, cols, cols, p->v, s->column + panel * cols, s->panel_v);
            }
            if (pass == (passes > 1))
                simd->pack_rows(d, cols, cols, p->x, s->column + panel * cols, s->panel_x);
            for (int strip = 0; strip < strips; strip++) {
                int first = strip * rows;
                int end = first + rows < s->count ? first + rows : s->count;
                const double *x = s->query_x + (size_t)first * d, *v = s->query_v + (size_t)first * m;
                if (!strip_active(s, panel, first, end))
                    continue;
                s->evaluated += pass == 0 ? (double)(end - first) * cols : 0.0;
                if (passes == 1) {
                    simd->residual_tile(&rad, d, x, s->panel_x, m, v, s->panel_v, tile);
                    use_tile(s, use, panel, first, tile);
                    continue;
                }
                double *dots = s->dots + ((size_t)panel * strips + strip) * size;
                double *values = s->values + ((size_t)panel * strips + strip) * size;
                if (pass == 0) {
                    simd->dot_tile(m, v, s->panel_v, dots);
                } else if (pass == 1) {
                    simd->distance_tile(d, x, s->panel_x, values);
                } else if (pass == 2) {
                    simd->radial_values(&rad, size, values, values);
                } else {
                    for (size_t i = 0; i < size; i++)
                        values[i] -= dots[i];
                    use_tile(s, use, panel, first, values);
                }
            }
        }
}

static void add_column(search *s, int point, int owner)
{
    s->column[s->columns] = point;
    s->owner[s->columns++] = owner;
}

/* Fixed tiles: the next leaf starts a panel of its own. */
static void end_panel(search *s)
{
    while (s->columns % simd->cols)
        add_column(s, s->column[s->columns - 1], -1);
}

/* ---- what becomes of a correlation ---------------------------------------------------------- */

static void raise_cut(search *s, int q)
{
    if (!kbest_full(&s->best[q]) || s->points->variance[s->row[q]] < LEAST_VARIANCE * s->kern->variance)
        return;
    double cut = 1.0 - s->best[q].dist[0] * s->best[q].dist[0] - METRIC_SLACK;
    s->cut[q] = cut > s->cut[q] ? cut : s->cut[q];
}

static void offer(search *s, int q, int column, double r)
{
    const metric_points *p = s->points;
    int id = s->column[column], row = s->row[q];
    if (s->switches & ALLOCATE) {
        if (s->seen[q][id])
            return;
        s->seen[q][id] = 1;
    }
    if (id == row || fabs(r) * p->scale[row] * p->scale[id] < s->cut[q] - METRIC_SLACK)
        return;
    double rho = metric_correlation(r, p->variance[row], p->variance[id]);
    if (kbest_push(&s->best[q], metric_distance(rho), id))
        raise_cut(s, q);
}

/* The column is the centre of a node, its owner the parent. Keeps the node where, with cos alpha = cut,
 * theta - Theta <= alpha. */
static int *candidate; /* the node of each column */

static void bound(search *s, int q, int column, double r)
{
    const metric_points *p = s->points;
    int node = candidate[column], centre = s->column[column], row = s->row[q];
    double rho = fabs(metric_correlation(r, p->variance[row], p->variance[centre]));
    if (s->switches & ALLOCATE)
        s->cache[q][centre] = rho;
    double cut = s->cut[q], rest = sqrt(1.0 - cut * cut);
    if (rho >= cut * s->cosine[node] - rest * s->sine[node])
        mark(s, node, q);
}

/* ---- search --------------------------------------------------------------------------------- */

static void search_block(search *s, int *frontier, int *next, int first)
{
    const tree *t = &s->cover;
    const metric_points *p = s->points;
    int n = (int)p->n, size = 1;
    s->count = n - first < BLOCK ? n - first : BLOCK;
    for (int q = 0; q < s->count; q++) {
        s->row[q] = t->perm[first + q];
        s->cut[q] = -1.0;
        s->best[q] = (kbest){s->k, 0, s->dist + (size_t)q * s->k, s->id + (size_t)q * s->k};
        if (s->switches & ALLOCATE) {
            s->cache[q] = malloc(n * sizeof(double));
            s->seen[q] = calloc(n, 1);
            for (int i = 0; i < n; i++)
                s->cache[q][i] = INFINITY;
        }
    }
    simd->pack_rows(p->d, simd->rows, s->count, p->x, s->row, s->query_x);
    simd->pack_rows(p->m, simd->rows, s->count, p->v, s->row, s->query_v);
    clear(s, 0);
    for (int q = 0; q < s->count; q++)
        mark(s, 0, q);

    /* thresholds from the surroundings, which are evaluated again when their turn comes */
    int low = first + BLOCK / 2 - SEEDS / 2, switches = s->switches;
    low = low + SEEDS > n ? n - SEEDS : low;
    low = low < 0 ? 0 : low;
    s->columns = 0;
    for (int i = low; i < low + SEEDS && i < n; i++)
        add_column(s, t->perm[i], 0);
    s->switches &= ~ALLOCATE;
    evaluate(s, offer);
    s->switches = switches;
    for (int q = 0; q < s->count; q++)
        s->best[q].size = 0;

    for (frontier[0] = 0; size;) {
        int kept = 0;
        s->columns = 0;
        for (int f = 0; f < size; f++)
            for (int c = 0; c < t->children[frontier[f]]; c++) {
                int child = t->child[frontier[f]] + c;
                clear(s, child);
                candidate[s->columns] = child;
                add_column(s, t->centre[child], frontier[f]);
            }
        int centres = s->columns;
        if (centres)
            evaluate(s, bound);
        for (int c = 0; c < centres; c++)
            if (next_active(s, candidate[c], 0, s->count) < s->count)
                next[kept++] = candidate[c];
        s->columns = 0;
        for (int f = 0; f < size; f++) {
            int leaf = frontier[f];
            for (int i = 0; i < t->count[leaf] && !t->children[leaf]; i++)
                add_column(s, t->perm[t->first[leaf] + i], leaf);
            if (s->switches & FIXED)
                end_panel(s);
        }
        if (s->columns)
            evaluate(s, offer);
        int *swap = frontier;
        frontier = next;
        next = swap;
        size = kept;
    }
    for (int q = 0; q < s->count && s->switches & ALLOCATE; q++) {
        free(s->cache[q]);
        free(s->seen[q]);
    }
}

/* Theta of every node, from the correlations of its centre with its points. */
static void measure_nodes(search *s)
{
    const tree *t = &s->cover;
    const metric_points *p = s->points;
    double *rho = scratch_alloc(p->n, sizeof(double));
    for (int node = 0; node < t->nodes; node++) {
        const int *ids = t->perm + t->first[node];
        double least = 1.0;
        int usable = 1;
        metric_list(s->kern, p, t->centre[node], p, ids, t->count[node], rho);
        for (int i = 0; i < t->count[node]; i++) {
            usable &= p->variance[ids[i]] >= LEAST_VARIANCE * s->kern->variance;
            least = ids[i] != t->centre[node] && fabs(rho[i]) < least ? fabs(rho[i]) : least;
        }
        double angle = acos(least) + WIDEN;
        s->cosine[node] = usable && angle < M_PI_2 ? cos(angle) : 0.0;
        s->sine[node] = usable && angle < M_PI_2 ? sin(angle) : 1.0;
    }
    scratch_free(rho);
}

static SEXP element(SEXP list, const char *name)
{
    SEXP names = getAttrib(list, R_NamesSymbol);
    for (R_xlen_t i = 0; i < XLENGTH(list); i++)
        if (strcmp(CHAR(STRING_ELT(names, i)), name) == 0)
            return VECTOR_ELT(list, i);
    error("no %s", name);
}

/* A search over a residual_gp, made ready: what does not depend on the switches is not timed. */
static search ready;
static kernel ready_kernel;
static metric_points ready_points;
static int *frontiers[2];

SEXP report_prepare(SEXP gp, SEXP k)
{
    SEXP x = element(gp, "x"), V = element(gp, "V"), kern = element(gp, "kernel");
    size_t n = nrows(x);
    int d = ncols(x), m = nrows(V), rbf = strcmp(CHAR(asChar(element(kern, "family"))), "rbf") == 0;
    simd_init(NULL);
    ready_kernel = (kernel){rbf ? KERNEL_RBF : KERNEL_MATERN32, 0.0, asReal(element(kern, "variance"))};
    double centre[16] = {0.0}, lengthscale[16];
    for (int u = 0; u < d; u++)
        lengthscale[u] = asReal(element(kern, "lengthscale"));
    double *points = scratch_alloc(n * d, sizeof(double)), *variance = scratch_alloc(2 * n, sizeof(double));
    kernel_scale(&ready_kernel, REAL(x), n, d, lengthscale, centre, points);
    metric_variances(&ready_kernel, n, REAL(element(gp, "variance")), 0.0, variance, variance + n);
    ready_points = (metric_points){n, d, m, points, REAL(V), variance, variance + n};
    search *s = &ready;
    memset(s, 0, sizeof(*s));
    s->kern = &ready_kernel;
    s->points = &ready_points;
    s->k = asInteger(k);
    tree_build(d, n, points, LEAF, 1, &s->cover);
    size_t nodes = s->cover.nodes, rows = SIMD_MAX_ROWS, cols = SIMD_MAX_COLS;
    size_t most = n + nodes * cols + SEEDS + cols; /* fixed tiles pad every leaf */
    size_t pairs = (BLOCK + rows) * (n + SEEDS + cols);
    s->cosine = scratch_alloc(nodes, sizeof(double));
    s->sine = scratch_alloc(nodes, sizeof(double));
    s->query_x = scratch_alloc((BLOCK + rows) * d, sizeof(double));
    s->query_v = scratch_alloc((BLOCK + rows) * m, sizeof(double));
    s->dist = scratch_alloc(BLOCK * s->k, sizeof(double));
    s->id = scratch_alloc(BLOCK * s->k, sizeof(int));
    s->column = scratch_alloc(most, sizeof(int));
    s->owner = scratch_alloc(most, sizeof(int));
    s->panel_x = scratch_alloc(cols * d, sizeof(double));
    s->panel_v = scratch_alloc(cols * m, sizeof(double));
    s->dots = scratch_alloc(pairs, sizeof(double));
    s->values = scratch_alloc(pairs, sizeof(double));
    s->bits = scratch_alloc(nodes, sizeof(uint64_t));
    s->bytes = scratch_alloc(nodes * BLOCK, 1);
    s->panel_bits = scratch_alloc(most, sizeof(uint64_t));
    s->panel_bytes = scratch_alloc(most * BLOCK / 4, 1);
    candidate = scratch_alloc(nodes + cols, sizeof(int));
    frontiers[0] = scratch_alloc(nodes, sizeof(int));
    frontiers[1] = scratch_alloc(nodes, sizeof(int));
    measure_nodes(s);
    return R_NilValue;
}

/* Blocks 0, every, 2 every, ..: list of the rows searched (1-based), their neighbours, pairs evaluated. */
SEXP report_search(SEXP switches, SEXP every)
{
    search *s = &ready;
    int n = (int)ready_points.n, step = asInteger(every) * BLOCK, queries = 0;
    for (int first = 0; first < n; first += step)
        queries += n - first < BLOCK ? n - first : BLOCK;
    SEXP out = PROTECT(allocVector(VECSXP, 3));
    SET_VECTOR_ELT(out, 0, allocVector(INTSXP, queries));
    SET_VECTOR_ELT(out, 1, allocMatrix(INTSXP, s->k, queries));
    s->switches = asInteger(switches);
    s->evaluated = 0.0;
    for (int first = 0, done = 0; first < n; first += step) {
        search_block(s, frontiers[0], frontiers[1], first);
        for (int q = 0; q < s->count; q++, done++) {
            kbest_sort(&s->best[q]);
            INTEGER(VECTOR_ELT(out, 0))[done] = s->row[q] + 1;
            for (int j = 0; j < s->k; j++)
                INTEGER(VECTOR_ELT(out, 1))[(size_t)done * s->k + j] =
                    j < s->best[q].size ? s->best[q].id[j] + 1 : NA_INTEGER;
        }
    }
    SET_VECTOR_ELT(out, 2, ScalarReal(s->evaluated));
    UNPROTECT(1);
    return out;
}
