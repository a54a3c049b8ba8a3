#include "r/known.h"

#include "search/index.h"

#include <R.h>
#include <string.h>

#define KNOWN 16   /* objects of each kind, the latest */
#define ARRAYS 4   /* of a process: x, V, inducing, chol */
#define SAMPLED 64 /* doubles of an array or an index that are compared each time */

const char *const r_tree_fields[] = {"perm",     "first",  "count", "parent", "child",
                                     "children", "centre", "level", "radius", NULL};

typedef struct {
    SEXP array[ARRAYS]; /* where they stand; they may be gone */
    uint64_t rest;      /* of all but them */
    uint64_t fingerprint;
    int used, printed;
} process;

typedef struct {
    SEXP V, index;
    uint64_t rest;
    int used;
} structure;

static process processes[KNOWN];
static structure structures[KNOWN];
static int next_process = 0, next_structure = 0;

/* The dims that are held: ARRAYS for each process, then one for each structure. */
static SEXP held(void)
{
    static SEXP dims = NULL;
    if (!dims) {
        dims = allocVector(VECSXP, KNOWN * (ARRAYS + 1));
        R_PreserveObject(dims);
    }
    return dims;
}

static SEXP dim(SEXP array) { return getAttrib(array, R_DimSymbol); }

static int is_matrix(SEXP x, R_xlen_t rows, R_xlen_t columns)
{
    return TYPEOF(x) == REALSXP && isMatrix(x) && (rows < 0 || nrows(x) == rows) &&
           (columns < 0 || ncols(x) == columns);
}

static int is_number(SEXP x) { return TYPEOF(x) == REALSXP && XLENGTH(x) == 1; }

int known_gp_shape(SEXP gp)
{
    if (TYPEOF(gp) != VECSXP)
        return 0;
    SEXP x = r_element(gp, "x"), V = r_element(gp, "V"), kern = r_element(gp, "kernel"), z = r_element(gp, "inducing"),
         L = r_element(gp, "chol"), variance = r_element(gp, "variance");
    if (!is_matrix(x, -1, -1) || !is_matrix(V, -1, nrows(x)) || TYPEOF(kern) != VECSXP ||
        !inherits(kern, "gp_kernel") || TYPEOF(variance) != REALSXP || XLENGTH(variance) != nrows(x) ||
        !is_number(r_element(gp, "nugget")))
        return 0;
    SEXP family = r_element(kern, "family"), lengthscale = r_element(kern, "lengthscale"),
         smoothness = r_element(kern, "smoothness"), turn = r_element(kern, "anisotropy");
    if (TYPEOF(family) != STRSXP || XLENGTH(family) != 1 || !is_number(r_element(kern, "variance")) ||
        TYPEOF(lengthscale) != REALSXP || (XLENGTH(lengthscale) != 1 && XLENGTH(lengthscale) != ncols(x)) ||
        (smoothness != R_NilValue && !is_number(smoothness)) ||
        (turn != R_NilValue && (TYPEOF(turn) != REALSXP || XLENGTH(turn) != 2 || ncols(x) < 2)))
        return 0;
    kernel made;
    if (!kernel_make(CHAR(STRING_ELT(family, 0)), 1.0, smoothness == R_NilValue ? 0.0 : asReal(smoothness), &made))
        return 0;
    if (z == R_NilValue)
        return L == R_NilValue && r_element(gp, "jitter") == R_NilValue;
    return is_matrix(z, nrows(V), ncols(x)) && is_matrix(L, nrows(V), nrows(V)) && is_number(r_element(gp, "jitter"));
}

static void arrays_of(SEXP gp, SEXP *out)
{
    static const char *names[] = {"x", "V", "inducing", "chol"};
    for (int a = 0; a < ARRAYS; a++)
        out[a] = r_element(gp, names[a]);
}

/* The anisotropy of a kernel, or of what a tree was built for. */
static uint64_t add_turn(uint64_t fingerprint, SEXP holder)
{
    anisotropy turn = r_anisotropy(r_element(holder, "anisotropy"));
    const double values[] = {turn.sine, turn.cosine, turn.ratio};
    return turn.there ? index_fingerprint(fingerprint, 3, values) : fingerprint;
}

/* Some values of an array: another one may come to stand where it stood, and arithmetic hands its dim on. */
static uint64_t add_sample(uint64_t fingerprint, SEXP array)
{
    R_xlen_t size = array == R_NilValue ? 0 : XLENGTH(array), stride = size / SAMPLED + 1;
    for (R_xlen_t at = 0; at < size; at += stride)
        fingerprint = index_fingerprint(fingerprint, 1, REAL(array) + at);
    return fingerprint;
}

/* Sizes and some values of the arrays, and all else. */
static uint64_t rest_of(SEXP gp)
{
    SEXP kern = r_element(gp, "kernel"), lengthscale = r_element(kern, "lengthscale"),
         variance = r_element(gp, "variance"), x = r_element(gp, "x");
    kernel values = r_kernel(kern);
    const double settings[] = {
        (double)values.family,           values.smoothness, values.variance,  asReal(r_element(gp, "jitter")),
        asReal(r_element(gp, "nugget")), (double)nrows(x),  (double)ncols(x), (double)nrows(r_element(gp, "V"))};
    SEXP array[ARRAYS];
    arrays_of(gp, array);
    uint64_t fingerprint = index_fingerprint(0, sizeof(settings) / sizeof(*settings), settings);
    for (int a = 0; a < ARRAYS; a++)
        fingerprint = add_sample(fingerprint, array[a]);
    fingerprint = index_fingerprint(fingerprint, XLENGTH(lengthscale), REAL(lengthscale));
    fingerprint = add_turn(fingerprint, kern);
    return index_fingerprint(fingerprint, XLENGTH(variance), REAL(variance));
}

static process *find_process(SEXP gp)
{
    SEXP array[ARRAYS];
    arrays_of(gp, array);
    uint64_t rest = 0;
    for (int p = 0; p < KNOWN; p++) {
        int same = processes[p].used;
        for (int a = 0; a < ARRAYS && same; a++)
            same = processes[p].array[a] == array[a] && VECTOR_ELT(held(), p * ARRAYS + a) == dim(array[a]);
        if (same && !rest)
            rest = rest_of(gp);
        if (same && processes[p].rest == rest)
            return &processes[p];
    }
    return NULL;
}

/* The process that was last found, for the one question that follows a check. */
static SEXP latest_gp = NULL;
static process *latest = NULL;

int known_gp(SEXP gp)
{
    latest = known_gp_shape(gp) ? find_process(gp) : NULL;
    latest_gp = latest ? gp : NULL;
    return latest != NULL;
}

void known_gp_add(SEXP gp)
{
    int p = next_process++ % KNOWN;
    processes[p] = (process){.rest = rest_of(gp), .used = 1};
    arrays_of(gp, processes[p].array);
    for (int a = 0; a < ARRAYS; a++) {
        SEXP array = processes[p].array[a];
        SET_VECTOR_ELT(held(), p * ARRAYS + a, dim(array));
        if (array != R_NilValue)
            MARK_NOT_MUTABLE(array);
    }
}

uint64_t known_fingerprint(SEXP gp)
{
    process *known = gp == latest_gp ? latest : find_process(gp);
    latest_gp = NULL;
    if (known && known->printed)
        return known->fingerprint;
    SEXP array[ARRAYS];
    arrays_of(gp, array);
    uint64_t fingerprint = rest_of(gp);
    for (int a = 0; a < ARRAYS; a++)
        if (array[a] != R_NilValue)
            fingerprint = index_fingerprint(fingerprint, XLENGTH(array[a]), REAL(array[a]));
    if (known) {
        known->fingerprint = fingerprint;
        known->printed = 1;
    }
    return fingerprint;
}

/* Bytes as whole doubles, and what is left of them in one more. */
static uint64_t add_bytes(uint64_t fingerprint, size_t bytes, const void *memory)
{
    double left = 0.0;
    size_t whole = bytes / sizeof(double);
    memcpy(&left, (const char *)memory + whole * sizeof(double), bytes - whole * sizeof(double));
    fingerprint = index_fingerprint(fingerprint, whole, memory);
    return index_fingerprint(fingerprint, 1, &left);
}

uint64_t known_numbers(SEXP object, uint64_t fingerprint)
{
    SEXP dims = getAttrib(object, R_DimSymbol);
    const double shape[] = {(double)TYPEOF(object), (double)xlength(object), (double)xlength(dims)};
    fingerprint = index_fingerprint(fingerprint, 3, shape);
    if (dims != R_NilValue)
        fingerprint = known_numbers(dims, fingerprint);
    switch (TYPEOF(object)) {
    case VECSXP:
        for (R_xlen_t i = 0; i < XLENGTH(object); i++)
            fingerprint = known_numbers(VECTOR_ELT(object, i), fingerprint);
        return fingerprint;
    case REALSXP:
        return add_bytes(fingerprint, XLENGTH(object) * sizeof(double), REAL(object));
    case INTSXP:
    case LGLSXP:
        return add_bytes(fingerprint, XLENGTH(object) * sizeof(int), DATAPTR_RO(object));
    case STRSXP:
        for (R_xlen_t i = 0; i < XLENGTH(object); i++) {
            const char *text = CHAR(STRING_ELT(object, i));
            size_t bytes = strlen(text), plain = 0;
            while (plain < bytes && (unsigned char)text[plain] < 128)
                plain++;
            if (plain == bytes) /* the bytes of other text are not the same in every session */
                fingerprint = add_bytes(fingerprint, bytes, text);
        }
        return fingerprint;
    default:
        return fingerprint;
    }
}

/* The structure, and of the index its start and a sample. */
static uint64_t rest_of_tree(SEXP list)
{
    SEXP lengthscale = r_element(list, "lengthscale"), index = r_element(list, "index");
    uint64_t fingerprint = index_fingerprint(1, XLENGTH(lengthscale), REAL(lengthscale));
    fingerprint = add_turn(fingerprint, list);
    for (int f = 0; f < R_TREE_FIELDS; f++)
        fingerprint = known_numbers(r_element(list, r_tree_fields[f]), fingerprint);
    if (TYPEOF(index) != RAWSXP)
        return fingerprint;
    size_t bytes = (size_t)XLENGTH(index), stride = bytes / SAMPLED / 8 * 8;
    fingerprint = add_bytes(fingerprint, bytes < 256 ? bytes : 256, RAW(index));
    for (int s = 1; s < SAMPLED && stride; s++)
        fingerprint = index_fingerprint(fingerprint, 1, (const double *)(const void *)(RAW(index) + s * stride));
    return index_fingerprint(fingerprint, 1, &(double){(double)bytes});
}

static int tree_shape(SEXP list)
{
    if (TYPEOF(list) != VECSXP || TYPEOF(r_element(list, "gp")) != VECSXP ||
        TYPEOF(r_element(list, "lengthscale")) != REALSXP)
        return 0;
    SEXP turn = r_element(list, "anisotropy");
    if (turn != R_NilValue && (TYPEOF(turn) != REALSXP || XLENGTH(turn) != 2))
        return 0;
    for (int f = 0; f < R_TREE_FIELDS; f++) {
        int type = TYPEOF(r_element(list, r_tree_fields[f]));
        if (type != INTSXP && type != REALSXP)
            return 0;
    }
    return 1;
}

static int find_structure(SEXP list)
{
    SEXP V = r_element(r_element(list, "gp"), "V"), index = r_element(list, "index");
    uint64_t rest = rest_of_tree(list);
    for (int s = 0; s < KNOWN; s++)
        if (structures[s].used && structures[s].V == V && structures[s].index == index && structures[s].rest == rest &&
            VECTOR_ELT(held(), KNOWN * ARRAYS + s) == dim(V))
            return 1;
    return 0;
}

int known_tree(SEXP list) { return tree_shape(list) && find_structure(list); }

void known_tree_add(SEXP list)
{
    int s = next_structure++ % KNOWN;
    SEXP V = r_element(r_element(list, "gp"), "V"), index = r_element(list, "index");
    structures[s] = (structure){V, index, rest_of_tree(list), 1};
    SET_VECTOR_ELT(held(), KNOWN * ARRAYS + s, dim(V));
    if (index != R_NilValue)
        MARK_NOT_MUTABLE(index);
}
