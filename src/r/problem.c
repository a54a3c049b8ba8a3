#include "r/problem.h"

#include "r/glue.h"
#include "r/known.h"

#include <string.h>

/* Reads the structure; returns what is wrong with it, or NULL. Numbers out of range wrap and are then seen. */
static const char *read_tree(SEXP list, size_t n, tree *out)
{
    static const unsigned shift[] = {1, 1, 0, 1, 1, 0, 1, 0};
    SEXP radius = r_element(list, "radius");
    *out = (tree){.n = n, .nodes = (int)XLENGTH(r_element(list, "first"))};
    int **to[] = {&out->perm,  &out->first,    &out->count,  &out->parent,
                  &out->child, &out->children, &out->centre, &out->level};
    for (int f = 0; f < 8; f++) {
        SEXP field = r_element(list, r_tree_fields[f]);
        size_t length = f ? (size_t)out->nodes : n;
        if (!isInteger(field) || (size_t)XLENGTH(field) != length || !length)
            return r_tree_fields[f];
        const int *from = INTEGER(field);
        int *copy = *to[f] = (int *)R_alloc(length, sizeof(int));
        for (size_t i = 0; i < length; i++)
            copy[i] = (int)((unsigned)from[i] - shift[f]);
    }
    if (!isReal(radius) || XLENGTH(radius) != out->nodes)
        return "radius";
    out->radius = REAL(radius);
    char *seen = R_alloc(n, 1);
    memset(seen, 0, n);
    for (size_t i = 0; i < n; i++) {
        if (out->perm[i] < 0 || (size_t)out->perm[i] >= n || seen[out->perm[i]])
            return "perm";
        seen[out->perm[i]] = 1;
    }
    return r_tree_fields[tree_fault(out)];
}

const char *r_tree_damage(SEXP list, size_t n, int d, const double *points, double slack)
{
    tree read;
    const char *field = read_tree(list, n, &read);
    if (field)
        return field;
    switch (tree_check(&read, d, points, slack)) {
    case 0:
        return NULL;
    case 1:
        return "perm, first, count, parent or child";
    default: /* where a node stands, and how far it reaches */
        return "perm, centre, radius, children or lengthscale";
    }
}

tree r_tree(SEXP list, size_t n)
{
    tree out;
    const char *field = read_tree(list, n, &out);
    if (field)
        error("the tree does not fit its points: '%s' is damaged; cover_tree(tree$gp) makes it again", field);
    return out;
}

void r_problem(SEXP gp, SEXP tree_list, search_problem *out)
{
    SEXP V = r_element(gp, "V"), inducing = r_element(gp, "inducing");
    out->sc = r_scaling_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    double inverse = 1.0 / out->sc.unit;
    out->stored = (index_pack){NULL, 0, 0};
    if (tree_list != R_NilValue) {
        SEXP kept = r_element(tree_list, "index");
        out->stored.fingerprint = known_fingerprint(gp);
        if (TYPEOF(kept) == RAWSXP) {
            out->stored.memory = RAW(kept);
            out->stored.bytes = (size_t)XLENGTH(kept);
        }
    }
    out->points = (metric_points){.n = nrows(r_element(gp, "x")), .d = out->sc.d, .m = nrows(V)};
    if (index_points(out->stored, &out->points)) {
        out->points.v = r_in_units(V, "V", (R_xlen_t)out->points.n * out->points.m, inverse);
    } else {
        out->points = r_points(&out->sc, gp, asReal(r_element(gp, "nugget")));
    }
    out->source = (metric_source){&out->sc.kern, NULL, NULL, asReal(r_element(gp, "jitter"))};
    if (inducing != R_NilValue) {
        out->source.z = r_scaled(&out->sc, inducing);
        out->source.L = r_in_units(r_element(gp, "chol"), "chol", (R_xlen_t)out->points.m * out->points.m, inverse);
    }
}
