#include "partition/order.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "partition/boxes.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { LEAF_POINTS = 16, POLL_EVERY = 4096 };

#define SPACE_BITS 32
#define SPACE_AXES 8

/* Nodes in preorder: the left child follows its parent. Points lie in tree order. */
typedef struct {
    size_t first, last; /* its points, [first, last) */
    size_t right;       /* right child; 0 for a leaf */
    size_t farthest;    /* tree position of the point with the largest gap */
    double gap;         /* that point's squared distance to the chosen ones; -1 when all are chosen */
} node;

typedef struct {
    int d;
    size_t count;   /* nodes made so far */
    node *nodes;    /* every leaf but a lone root holds more than LEAF_POINTS / 2 points */
    double *box;    /* 2 d a node: lower corner, upper corner */
    double *points; /* d x n in tree order */
    double *gap;    /* squared distance of each point to the chosen ones; -1 once chosen */
    int *index;     /* original index of each point */
} gap_tree;

static int lies_before(const gap_tree *tree, size_t a, size_t b)
{
    return tree->gap[a] > tree->gap[b] || (tree->gap[a] == tree->gap[b] && tree->index[a] < tree->index[b]);
}

static size_t build(gap_tree *tree, const double *x, size_t first, size_t last)
{
    int d = tree->d;
    size_t self = tree->count++;
    double *box = tree->box + self * 2 * d;
    boxes_measure(d, x, tree->index + first, last - first, box, box + d);
    node *at = tree->nodes + self;
    *at = (node){first, last, 0, first, DBL_MAX};
    if (last - first > LEAF_POINTS) {
        int widest = 0;
        for (int l = 1; l < d; l++)
            if (box[d + l] - box[l] > box[d + widest] - box[widest])
                widest = l;
        size_t middle = first + (last - first) / 2;
        boxes_lowest(d, x, widest, tree->index + first, (int)(last - first), (int)(middle - first));
        build(tree, x, first, middle);
        at->right = build(tree, x, middle, last);
    }
    return self;
}

/* Lowers the gaps of all points of node `self` that are nearer to the chosen point at tree position
 * `chosen`, and brings the node's own summary up to date. */
static void choose(gap_tree *tree, size_t self, const double *point, size_t chosen)
{
    node *at = tree->nodes + self;
    const double *box = tree->box + self * 2 * tree->d;
    if (boxes_gap(tree->d, box, box + tree->d, point, point) >= at->gap)
        return;
    if (at->right) {
        choose(tree, self + 1, point, chosen);
        choose(tree, at->right, point, chosen);
        size_t left = tree->nodes[self + 1].farthest, right = tree->nodes[at->right].farthest;
        at->farthest = lies_before(tree, right, left) ? right : left;
    } else {
        for (size_t i = at->first; i < at->last; i++) {
            double distance = linalg_distance2(tree->d, tree->points + i * tree->d, point);
            if (distance < tree->gap[i])
                tree->gap[i] = distance;
        }
        if (at->first <= chosen && chosen < at->last)
            tree->gap[chosen] = -1;
        at->farthest = at->first;
        for (size_t i = at->first + 1; i < at->last; i++)
            if (lies_before(tree, i, at->farthest))
                at->farthest = i;
    }
    at->gap = tree->gap[at->farthest];
}

static status traverse(gap_tree *tree, size_t n, const double *centre, const monitor *mon, int *order)
{
    size_t next = 0;
    double nearest = DBL_MAX;
    for (size_t i = 0; i < n; i++) {
        double distance = linalg_distance2(tree->d, tree->points + i * tree->d, centre);
        if (distance < nearest || (distance == nearest && tree->index[i] < tree->index[next])) {
            nearest = distance;
            next = i;
        }
    }
    size_t chosen = 0;
    while (chosen < n) {
        order[chosen++] = tree->index[next];
        choose(tree, 0, tree->points + next * tree->d, next);
        next = tree->nodes[0].farthest;
        if (!(tree->gap[next] > 0))
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
    size_t most = n / (LEAF_POINTS / 2) * 2 + 1;
    gap_tree tree = {.d = d};
    status result = status_fail(STATUS_MEMORY);
    if (SCRATCH_ALL(SCRATCH_FOR(tree.nodes, most), SCRATCH_FOR(tree.box, most * 2 * d), SCRATCH_FOR(tree.points, n * d),
                    SCRATCH_FOR(tree.gap, n), SCRATCH_FOR(tree.index, n))) {
        for (size_t i = 0; i < n; i++)
            tree.index[i] = (int)i;
        build(&tree, x, 0, n);
        for (size_t i = 0; i < n; i++) {
            memcpy(tree.points + i * d, x + (size_t)tree.index[i] * d, d * sizeof(double));
            tree.gap[i] = DBL_MAX;
        }
        result = traverse(&tree, n, centre, mon, order);
    }
    SCRATCH_FREE(tree.nodes, tree.box, tree.points, tree.gap, tree.index);
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
