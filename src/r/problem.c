#include "r/problem.h"

#include "r/glue.h"

/* The fields of a tree in R, in this order; indices are 1-based there, and 0 is none. */
const char *const r_tree_fields[] = {"perm",     "first",  "count", "parent", "child",
                                     "children", "centre", "level", "radius"};

tree r_tree(SEXP list, size_t n)
{
    static const int shift[] = {1, 1, 0, 1, 1, 0, 1, 0};
    tree out = {.n = n, .nodes = (int)XLENGTH(r_element(list, "first"))};
    int **to[] = {&out.perm,  &out.first,    &out.count,  &out.parent,
                  &out.child, &out.children, &out.centre, &out.level};
    for (int f = 0; f < 8; f++) {
        SEXP field = r_element(list, r_tree_fields[f]);
        size_t length = f ? (size_t)out.nodes : n;
        if (!isInteger(field) || (size_t)XLENGTH(field) != length)
            error("the tree does not fit its points: field '%s' has %lld elements, not %lld",
                  r_tree_fields[f], (long long)XLENGTH(field), (long long)length);
        const int *from = INTEGER(field);
        int *copy = *to[f] = (int *)R_alloc(length + 1, sizeof(int));
        for (size_t i = 0; i < length; i++)
            copy[i] = from[i] - shift[f];
    }
    for (size_t i = 0; i < n; i++)
        if (out.perm[i] < 0 || (size_t)out.perm[i] >= n)
            error("the tree does not fit its points: field 'perm' is no permutation");
    for (int v = 0; v < out.nodes; v++)
        if (out.first[v] < 0 || out.count[v] < 1 || (size_t)out.first[v] + out.count[v] > n ||
            out.parent[v] >= v || out.child[v] < 0 || out.children[v] < 0 ||
            out.child[v] + out.children[v] > out.nodes || out.centre[v] < 0 ||
            (size_t)out.centre[v] >= n)
            error("the tree does not fit its points: node %d is damaged", v + 1);
    out.radius = (double *)r_doubles(r_element(list, "radius"), "radius", out.nodes);
    return out;
}

#define PRINTED_ROWS 97 /* whose features are part of a fingerprint, of many points */

static uint64_t fingerprint(const frame *fr, SEXP gp)
{
    SEXP x = r_element(gp, "x"), V = r_element(gp, "V"), variance = r_element(gp, "variance");
    const double settings[] = {(double)fr->kern.family, fr->kern.smoothness, fr->kern.variance,
                               asReal(r_element(gp, "jitter")), asReal(r_element(gp, "nugget"))};
    size_t n = nrows(x), m = nrows(V), stride = n / PRINTED_ROWS + 1;
    uint64_t print = index_print(0, sizeof(settings) / sizeof(*settings), settings);
    print = index_print(print, fr->d, fr->lengthscale);
    print = index_print(print, fr->d, fr->centre);
    print = index_print(print, n * fr->d, REAL(x));
    print = index_print(print, n, r_doubles(variance, "variance", n));
    for (size_t i = 0; i < n; i += stride)
        print = index_print(print, m, r_doubles(V, "V", n * m) + i * m);
    return print;
}

/* The structure of a tree is read where its index does not serve, or if it is `wanted` all the same. */
void r_problem(SEXP gp, SEXP tree_list, int wanted, search_problem *out)
{
    SEXP V = r_element(gp, "V"), inducing = r_element(gp, "inducing");
    out->fr = r_frame_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    double inverse = 1.0 / out->fr.unit;
    out->kept = (index_pack){NULL, 0, 0};
    if (tree_list != R_NilValue) {
        SEXP kept = r_element(tree_list, "index");
        out->kept.print = fingerprint(&out->fr, gp);
        if (TYPEOF(kept) == RAWSXP) {
            out->kept.memory = RAW(kept);
            out->kept.bytes = (size_t)XLENGTH(kept);
        }
    }
    out->points = (metric_points){.n = nrows(r_element(gp, "x")), .d = out->fr.d, .m = nrows(V)};
    if (index_points(out->kept, &out->points)) {
        out->points.v = r_in_units(V, "V", (R_xlen_t)out->points.n * out->points.m, inverse);
    } else {
        out->points = r_points(&out->fr, gp, asReal(r_element(gp, "nugget")));
        wanted = 1;
    }
    out->source = (metric_source){&out->fr.kern, NULL, NULL, asReal(r_element(gp, "jitter"))};
    if (inducing != R_NilValue) {
        out->source.z = r_scaled(&out->fr, inducing);
        out->source.L = r_in_units(r_element(gp, "chol"), "chol",
                                   (R_xlen_t)out->points.m * out->points.m, inverse);
    }
    out->structure = (tree){0};
    if (tree_list != R_NilValue && wanted)
        out->structure = r_tree(tree_list, out->points.n);
}

#define SAMPLE_NEIGHBOURS 30 /* what an index is chosen for */
