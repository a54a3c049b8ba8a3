#include "partition/order.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "partition/boxes.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LEAF_POINTS = 32, POLL_EVERY = 4096 };

#define SPACE_BITS 32
#define SPACE_AXES 8

/* An inner node has what is known of both its children, the left one first: whoever comes by needs all of it. */
typedef struct {
    double gap[2];         /* largest squared distance of the points to the chosen ones; -1 when all are chosen */
    int farthest[2];       /* tree position of the point that has it */
    int first[2], last[2]; /* the points, [first, last) */
    int child[2];          /* the inner node; 0 for a leaf */
    double box[];          /* lower corner, upper corner of each */
} node;

/* Where a node stands with its parent. */
typedef struct {
    int self, parent, side;
} visit;

typedef struct {
    int d;
    int count;      /* inner nodes made so far; the root is the first */
    char *nodes;    /* every leaf but those of a lone root holds more than LEAF_POINTS / 2 points */
    size_t stride;  /* bytes of a node with its boxes */
    double *points; /* in tree order: coordinates, and squared distance to the chosen ones, -1 once chosen */
    int *index;     /* original index of each point */
    visit *visited; /* nodes of a traversal */
    visit *leaves;
} gap_tree;

static inline node *node_at(const gap_tree *tree, int self)
{
    return (node *)(void *)(tree->nodes + (size_t)self * tree->stride);
}

static int build(gap_tree *tree, const double *x, int first, int last);

/* One side of a node. */
static void build_child(gap_tree *tree, const double *x, node *at, int side, int first, int last)
{
    int d = tree->d;
    double *box = at->box + (size_t)side * 2 * d;
    boxes_measure(d, x, tree->index + first, last - first, box, box + d);
    at->gap[side] = first < last ? DBL_MAX : -1;
    at->farthest[side] = first < last ? first : 0;
    at->first[side] = first;
    at->last[side] = last;
    at->child[side] = last - first > LEAF_POINTS ? build(tree, x, first, last) : 0;
}

static int build(gap_tree *tree, const double *x, int first, int last)
{
    int self = tree->count++, middle = last;
    node *at = node_at(tree, self);
    if (last - first > LEAF_POINTS) {
        double side;
        int widest = boxes_widest(tree->d, x, tree->index + first, last - first, &side);
        middle = first + (last - first) / 2;
        boxes_lowest(tree->d, x, widest, tree->index + first, last - first, middle - first);
    }
    build_child(tree, x, at, 0, first, middle);
    build_child(tree, x, at, 1, middle, last);
    return self;
}

/* Lowers the gaps of a leaf's points, which are nearer to the chosen point now. */
static inline void lower(int d, const gap_tree *tree, const visit *leaf, const double *point)
{
    node *at = node_at(tree, leaf->parent);
    int side = leaf->side, first = at->first[side], last = at->last[side], farthest = first;
    double most = -1;
    for (int i = first; i < last; i++) {
        double *own = tree->points + (size_t)i * (d + 1), distance = linalg_distance2(d, own, point);
        double gap = distance < own[d] ? distance : own[d];
        own[d] = gap;
        if (gap > most || (gap == most && tree->index[i] < tree->index[farthest])) {
            most = gap;
            farthest = i;
        }
    }
    at->gap[side] = most;
    at->farthest[side] = farthest;
}

/* The side that has the farthest point. */
static inline int farther(const gap_tree *tree, const node *at)
{
    return at->gap[1] > at->gap[0] ||
           (at->gap[1] == at->gap[0] && tree->index[at->farthest[1]] < tree->index[at->farthest[0]]);
}

/* Lowers the gaps of all points that are nearer to the one at tree position `chosen` than to those before it, level by
 * level, so that memory is on its way before it is read; returns the farthest then. */
static inline __attribute__((always_inline)) int choose(int d, const gap_tree *tree, int chosen)
{
    double *point = tree->points + (size_t)chosen * (d + 1);
    int count = 1, leaves = 0;
    tree->visited[0] = (visit){0, 0, 0};
    point[d] = -1;
    for (int v = 0; v < count; v++) {
        int self = tree->visited[v].self;
        const node *at = node_at(tree, self);
        for (int side = 0; side < 2; side++) {
            const double *box = at->box + (size_t)side * 2 * d;
            if (boxes_gap(d, box, box + d, point, point) >= at->gap[side])
                continue;
            visit below = {at->child[side], self, side};
            if (below.self) {
                scratch_fetch(node_at(tree, below.self), sizeof(node) + 4 * (size_t)d * sizeof(double));
                tree->visited[count++] = below;
            } else {
                scratch_fetch(tree->points + (size_t)at->first[side] * (d + 1),
                              LEAF_POINTS / 2 * (d + 1) * sizeof(double));
                tree->leaves[leaves++] = below;
            }
        }
    }
    for (int v = 0; v < leaves; v++)
        lower(d, tree, tree->leaves + v, point);
    for (int v = count - 1; v > 0; --v) { /* children come after their parents */
        const visit *own = tree->visited + v;
        const node *at = node_at(tree, own->self);
        node *parent = node_at(tree, own->parent);
        int side = farther(tree, at);
        parent->gap[own->side] = at->gap[side];
        parent->farthest[own->side] = at->farthest[side];
    }
    const node *root = node_at(tree, 0);
    return root->farthest[farther(tree, root)];
}

static status traverse(gap_tree *tree, size_t n, const double *centre, const monitor *mon, int *order)
{
    int d = tree->d, next = 0;
    double nearest = DBL_MAX;
    for (int i = 0; i < (int)n; i++) {
        double distance = linalg_distance2(d, tree->points + (size_t)i * (d + 1), centre);
        if (distance < nearest || (distance == nearest && tree->index[i] < tree->index[next])) {
            nearest = distance;
            next = i;
        }
    }
    size_t chosen = 0;
    while (chosen < n) {
        order[chosen++] = tree->index[next];
        /* the compiler unrolls small numbers of coordinates */
        next = d == 2 ? choose(2, tree, next) : d == 3 ? choose(3, tree, next) : choose(d, tree, next);
        if (!(tree->points[(size_t)next * (d + 1) + d] > 0))
            break;
        if (chosen % POLL_EVERY == 0 && monitor_poll(mon, (double)chosen / n))
            return status_fail(STATUS_INTERRUPTED);
    }
    /* only duplicates are left: gap 0, in index order */
    if (chosen < n) {
        size_t left = chosen;
        unsigned char *taken = scratch_zeros(n, 1);
        if (!taken)
            return status_fail(STATUS_MEMORY);
        for (size_t t = 0; t < chosen; t++)
            taken[order[t]] = 1;
        for (size_t i = 0; i < n; i++)
            if (!taken[i])
                order[left++] = (int)i;
        scratch_free(taken);
    }
    return status_ok();
}

status order_maxmin(int d, size_t n, const double *x, const double *centre, const monitor *mon, int *order)
{
    if (n == 0)
        return status_ok();
    size_t most = n / (LEAF_POINTS / 2) + 1, width = d + 1;
    gap_tree tree = {.d = d, .stride = sizeof(node) + 4 * (size_t)d * sizeof(double)};
    status result = status_fail(STATUS_MEMORY);
    if (SCRATCH_ALL(SCRATCH_FOR(tree.nodes, most * tree.stride), SCRATCH_FOR(tree.points, n * width),
                    SCRATCH_FOR(tree.index, n), SCRATCH_FOR(tree.visited, most), SCRATCH_FOR(tree.leaves, most + 1))) {
        for (size_t i = 0; i < n; i++)
            tree.index[i] = (int)i;
        build(&tree, x, 0, (int)n);
        for (size_t i = 0; i < n; i++) {
            memcpy(tree.points + i * width, x + (size_t)tree.index[i] * d, d * sizeof(double));
            tree.points[i * width + d] = DBL_MAX;
        }
        result = traverse(&tree, n, centre, mon, order);
    }
    SCRATCH_FREE(tree.nodes, tree.points, tree.index, tree.visited, tree.leaves);
    return result;
}

/* ---- places that are near ------------------------------------------------------------------- */

/* The widest coordinates, at most SPACE_AXES, and where they start; the largest width. */
static int widest_axes(int d, size_t n, const double *x, int *axes, double *low, double *width)
{
    int count = 0;
    double range[SPACE_AXES];
    *width = 0;
    for (int l = 0; l < d; l++) {
        double least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            least = fmin(least, x[i * d + l]);
            most = fmax(most, x[i * d + l]);
        }
        double own = most - least;
        if (!(own > 0))
            continue;
        int at = count < SPACE_AXES ? count++ : SPACE_AXES;
        for (; at > 0 && own > range[at - 1]; --at)
            if (at < SPACE_AXES) {
                axes[at] = axes[at - 1];
                low[at] = low[at - 1];
                range[at] = range[at - 1];
            }
        if (at < SPACE_AXES) {
            axes[at] = l;
            low[at] = least;
            range[at] = own;
        }
    }
    for (int a = 0; a < count; a++)
        if (range[a] < 0.125 * range[0])
            count = a;
    *width = count ? range[0] : 1;
    return count;
}

status order_space(int d, size_t n, const double *x, int *order)
{
    int axes[SPACE_AXES];
    double low[SPACE_AXES], width;
    int count = widest_axes(d, n, x, axes, low, &width);
    int bits = count ? SPACE_BITS / count : 0;
    if (bits > 20)
        bits = 20;
    uint32_t *key = scratch_alloc(2 * n + 1, sizeof(uint32_t));
    int *other = scratch_alloc(n + 1, sizeof(int));
    if (!key || !other) {
        scratch_free(key);
        scratch_free(other);
        return status_fail(STATUS_MEMORY);
    }
    double cells = bits ? (double)((uint32_t)1 << bits) : 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = 0, cell[SPACE_AXES];
        for (int a = 0; a < count; a++) {
            double at = (x[i * d + axes[a]] - low[a]) / width * cells;
            cell[a] = at < cells - 1 ? (uint32_t)at : (uint32_t)cells - 1;
        }
        for (int bit = bits - 1; bit >= 0; --bit)
            for (int a = 0; a < count; a++)
                code = code << 1 | (cell[a] >> bit & 1);
        key[i] = code;
        order[i] = (int)i;
    }
    uint32_t *from_key = key, *to_key = key + n;
    int *from = order, *to = other;
    for (int shift = 0; shift < 32; shift += 8) { /* an even number of passes ends in `order` */
        size_t start[257] = {0};
        for (size_t i = 0; i < n; i++)
            start[(from_key[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++)
            start[b + 1] += start[b];
        for (size_t i = 0; i < n; i++) {
            size_t at = start[from_key[i] >> shift & 255]++;
            to_key[at] = from_key[i];
            to[at] = from[i];
        }
        uint32_t *held_key = from_key;
        int *held = from;
        from_key = to_key;
        from = to;
        to_key = held_key;
        to = held;
    }
    scratch_free(key);
    scratch_free(other);
    return status_ok();
}
