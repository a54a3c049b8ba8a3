#include "r/entry.h"

#include "base/scratch.h"
#include "r/glue.h"
#include "r/known.h"
#include "r/problem.h"
#include "search/distinct.h"

#include <R.h>
#include <string.h>

static SEXP allocate_tree(void *built)
{
    const tree *t = built;
    SEXP out = PROTECT(r_list(R_TREE_FIELDS, r_tree_fields));
    for (int f = 0; f < R_TREE_FIELDS; f++)
        SET_VECTOR_ELT(out, f, allocVector(f < 8 ? INTSXP : REALSXP, f ? t->nodes : (int)t->n));
    UNPROTECT(1);
    return out;
}

SEXP cover_tree(SEXP x, SEXP lengthscale, SEXP turn, SEXP threads)
{
    kernel unit = {.family = KERNEL_MATERN12, .variance = 1.0};
    tree built;
    int d;
    double *points = r_lengthscale_scaled(&unit, x, lengthscale, turn, &d);
    r_raise(tree_build(d, nrows(x), points, r_threads(threads), r_interrupts(), &built));
    const int *from[] = {built.perm,  built.first,    built.count,  built.parent,
                         built.child, built.children, built.centre, built.level};
    static const int shift[] = {1, 1, 0, 1, 1, 0, 1, 0};
    /* R may jump when it allocates: what it may lose is the tree, so that goes into R's memory first */
    SEXP out = PROTECT(R_tryCatchError(allocate_tree, &built, r_allocation_failed, NULL));
    if (out == R_NilValue) {
        tree_free(&built);
        r_raise(status_fail(STATUS_MEMORY));
    }
    for (int f = 0; f < 8; f++) {
        int *to = INTEGER(VECTOR_ELT(out, f));
        for (R_xlen_t i = 0; i < XLENGTH(VECTOR_ELT(out, f)); i++)
            to[i] = from[f][i] + shift[f];
    }
    memcpy(REAL(VECTOR_ELT(out, 8)), built.radius, built.nodes * sizeof(double));
    tree_free(&built);
    UNPROTECT(1);
    return out;
}

SEXP tree_invariant(SEXP list, SEXP x, SEXP lengthscale)
{
    kernel unit = {.family = KERNEL_MATERN12, .variance = 1.0};
    int d;
    double *points = r_lengthscale_scaled(&unit, x, lengthscale, r_element(list, "anisotropy"), &d);
    tree structure = r_tree(list, nrows(x));
    return ScalarInteger(tree_check(&structure, d, points, 0.0));
}

#define BUILT_ELSEWHERE 1e-12 /* share of a radius that rounding may differ by */

/* Takes a tree that was just made as one that needs no check. */
SEXP tree_remember(SEXP tree_list)
{
    known_tree_add(tree_list);
    return R_NilValue;
}

SEXP tree_known(SEXP tree_list) { return ScalarLogical(known_tree(tree_list)); }

/* What is damaged of a tree whose process is sound, or NULL, and then the tree is known. */
SEXP tree_damage(SEXP tree_list)
{
    kernel unit = {.family = KERNEL_MATERN12, .variance = 1.0};
    SEXP x = r_element(r_element(tree_list, "gp"), "x"), index = r_element(tree_list, "index");
    int d;
    double *points =
        r_lengthscale_scaled(&unit, x, r_element(tree_list, "lengthscale"), r_element(tree_list, "anisotropy"), &d);
    const char *field = r_tree_damage(tree_list, nrows(x), d, points, BUILT_ELSEWHERE);
    if (!field && TYPEOF(index) == RAWSXP && !index_sound((index_pack){RAW(index), (size_t)XLENGTH(index), 0}))
        field = "index";
    if (field)
        return mkString(field);
    known_tree_add(tree_list);
    return R_NilValue;
}

/* A copy of an index whose checksum is that of what it holds, for tests that damage it on purpose. */
SEXP tree_seal(SEXP index)
{
    SEXP out = PROTECT(duplicate(index));
    index_seal(RAW(out), (size_t)XLENGTH(out));
    UNPROTECT(1);
    return out;
}

#define SAMPLE_NEIGHBOURS 30 /* what an index is chosen for */

static SEXP allocate_index(void *built) { return allocVector(RAWSXP, (R_xlen_t)index_packed_bytes(built)); }

#define INDEX_PLACES 8

/* Memory for an index, or R_NilValue. R promises 16 bytes, but vectors that cross lines of the cache cost up to 7 % of
 * a search (problem C): of a few places the first that is aligned to a line, or the last. Sizes of 16 more than a
 * multiple of 64 make the next place another one with common allocators. */
static SEXP place_index(index_search *built)
{
    SEXP out = PROTECT(R_tryCatchError(allocate_index, built, r_allocation_failed, NULL));
    int places = 1;
    while (out != R_NilValue && (uintptr_t)RAW(out) % SCRATCH_ALIGN && places < INDEX_PLACES) {
        SEXP other = PROTECT(R_tryCatchError(allocate_index, built, r_allocation_failed, NULL));
        places++;
        if (other == R_NilValue)
            break;
        out = other;
    }
    UNPROTECT(places);
    return out;
}

/* `form` is NULL, or the name of one that tests want. */
SEXP tree_index(SEXP gp, SEXP tree_list, SEXP threads, SEXP form)
{
    search_problem problem;
    index_search built;
    r_problem(gp, tree_list, &problem);
    query_task task = {
        .kern = &problem.sc.kern,
        .points = &problem.points,
        .from = &problem.points,
        .k = SAMPLE_NEIGHBOURS,
        .threads = r_threads(threads),
        .budget = INFINITY,
        .source = &problem.source,
        .mon = r_interrupts(),
    };
    if (form == R_NilValue) {
        r_raise(distinct_index(&task, 1, &built));
    } else {
        const screening_form *wanted = index_form_named(CHAR(asChar(form)));
        if (!wanted)
            error("internal: no screening form is called '%s'", CHAR(asChar(form)));
        r_raise(index_build(&problem.source, &problem.points, wanted, task.threads, task.mon, &built));
        if (built.form) /* else it serves no cells here, and brute force stays the cheapest */
            built.cost = 0.0;
    }
    SEXP out = PROTECT(place_index(&built));
    if (out != R_NilValue) {
        scratch_advise(RAW(out), (size_t)XLENGTH(out));
        index_packed_write(&built, problem.stored.fingerprint, RAW(out));
    }
    index_free(&built);
    if (out == R_NilValue)
        r_raise(status_fail(STATUS_MEMORY));
    UNPROTECT(1);
    return out;
}

#define FIELDS_MOST 128

/* Fields of a tree's index: names, first bytes, lengths. */
typedef struct {
    int count;
    const char *name[FIELDS_MOST];
    double at[FIELDS_MOST], bytes[FIELDS_MOST];
} field_list;

static void list_field(void *context, const char *name, size_t at, size_t bytes)
{
    field_list *list = context;
    if (list->count == FIELDS_MOST)
        return;
    list->name[list->count] = name;
    list->at[list->count] = (double)at;
    list->bytes[list->count++] = (double)bytes;
}

/* The form of screening that an index serves, NULL for none, and its arrays. NULL where there is no index, or one of
 * another process. */
SEXP tree_index_fields(SEXP gp, SEXP tree_list)
{
    static const char *names[] = {"name", "at", "bytes", "form"};
    search_problem problem;
    index_search index;
    field_list list = {.count = 0};
    r_problem(gp, tree_list, &problem);
    r_raise(index_open(&problem.source, &problem.points, problem.stored, &index));
    int opened = index.opened;
    const char *form = index.form ? index.form->name : NULL;
    if (opened)
        index_packed_list(&index, list_field, &list);
    index_free(&index); /* before R allocates, and may jump */
    if (!opened)
        return R_NilValue;
    SEXP out = PROTECT(r_list(4, names));
    if (form)
        SET_VECTOR_ELT(out, 3, mkString(form));
    for (int f = 0; f < 3; f++)
        SET_VECTOR_ELT(out, f, allocVector(f ? REALSXP : STRSXP, list.count));
    for (int i = 0; i < list.count; i++) {
        SET_STRING_ELT(VECTOR_ELT(out, 0), i, mkChar(list.name[i]));
        REAL(VECTOR_ELT(out, 1))[i] = list.at[i];
        REAL(VECTOR_ELT(out, 2))[i] = list.bytes[i];
    }
    UNPROTECT(1);
    return out;
}
