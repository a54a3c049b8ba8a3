/* Registration of the routines of entry.h, and the set-up of threads and SIMD at load. */
#include "r/entry.h"
#include "simd/simd.h"
#include "base/threads.h"

#include <R_ext/Rdynload.h>
#include <stdlib.h>

/* The cast in between says to compilers that the change of type is meant. */
#define CALLDEF(name, count)                                                                       \
    {                                                                                              \
#name, (DL_FUNC)(void (*)(void))name, count                                                \
    }

static const R_CallMethodDef routines[] = {
    CALLDEF(threads_info, 1),
    CALLDEF(threads_limit, 0),
    CALLDEF(kernel_slopes, 2),
    CALLDEF(select_inducing, 6),
    CALLDEF(residual_gp, 5),
    CALLDEF(residual_features, 3),
    CALLDEF(residual_correlation, 5),
    CALLDEF(cover_tree, 4),
    CALLDEF(tree_index, 4),
    CALLDEF(form_laws, 5),
    CALLDEF(kernel_names, 0),
    CALLDEF(tree_index_fields, 2),
    CALLDEF(scratch_buffers, 1),
    CALLDEF(numbers_print, 1),
    CALLDEF(gp_known, 1),
    CALLDEF(gp_remember, 1),
    CALLDEF(gp_damage, 2),
    CALLDEF(tree_known, 1),
    CALLDEF(tree_remember, 1),
    CALLDEF(tree_damage, 1),
    CALLDEF(tree_seal, 1),
    CALLDEF(tree_invariant, 3),
    CALLDEF(residual_knn, 11),
    CALLDEF(conditioning_sets, 9),
    CALLDEF(selected_sets, 7),
    CALLDEF(order_points, 2),
    CALLDEF(vif_regression, 6),
    CALLDEF(vif_contrasts, 5),
    CALLDEF(vif_norm, 3),
    CALLDEF(vif_likelihood, 10),
    CALLDEF(vif_memory, 0),
    CALLDEF(vif_prediction, 11),
    CALLDEF(points_centre, 2),
    CALLDEF(shard_open, 10),
    CALLDEF(shard_step, 3),
    CALLDEF(shard_rows, 4),
    CALLDEF(shard_state, 1),
    CALLDEF(shard_finish, 4),
    CALLDEF(shard_close, 1),
    CALLDEF(laplace_derivative, 5),
    CALLDEF(laplace_regression, 5),
    CALLDEF(laplace_features, 3),
    CALLDEF(laplace_inducing, 3),
    CALLDEF(laplace_solves, 4),
    CALLDEF(laplace_collects, 3),
    CALLDEF(laplace_combination, 3),
    CALLDEF(laplace_crossproduct, 4),
    CALLDEF(laplace_pair_sums, 7),
    {NULL, NULL, 0},
};

void R_init_vecchiann(DllInfo *dll)
{
    threads_init();
    simd_init(getenv("VECCHIANN_SIMD"));
    R_registerRoutines(dll, NULL, routines, NULL, NULL);
    R_useDynamicSymbols(dll, FALSE);
    R_forceSymbols(dll, TRUE);
}
