/* Entry: the routines that R calls. This folder is the only one that sees a SEXP.
 *
 * Each unpacks its arguments, allocates R-owned results, calls the core and turns a status into an R
 * error. R has checked the arguments for meaning; here only types and lengths are checked again.
 * gp.c has processes, features and orders, known.c what is known to be sound of them, tree.c trees and their index,
 * search.c neighbours, select.c conditioning sets and predictions from them, vif.c likelihoods, laplace.c those of
 * other families, shard.c those of the workers of a cluster. glue.c has the conversions of all, problem.c those of a
 * search. */
#ifndef VECCHIANN_ENTRY_H
#define VECCHIANN_ENTRY_H

#include <Rinternals.h>

SEXP threads_info(SEXP threads);
SEXP threads_limit(void);
/* d k / d log lengthscale at scaled distances r, for tests. */
SEXP kernel_slopes(SEXP kern, SEXP r);
SEXP select_inducing(SEXP x, SEXP lengthscale, SEXP m, SEXP selection, SEXP uniforms, SEXP threads);
SEXP residual_gp(SEXP x, SEXP kern, SEXP inducing, SEXP jitter, SEXP threads);
SEXP residual_features(SEXP gp, SEXP newdata, SEXP threads);
SEXP residual_correlation(SEXP gp, SEXP i, SEXP j, SEXP fresh, SEXP threads);
SEXP cover_tree(SEXP x, SEXP lengthscale, SEXP turn, SEXP threads);
SEXP tree_index(SEXP gp, SEXP tree_list, SEXP threads, SEXP form);
SEXP kernel_names(void);
SEXP form_laws(SEXP tree_list, SEXP k, SEXP fresh, SEXP predecessors, SEXP one_by_one);
SEXP tree_index_fields(SEXP gp, SEXP tree_list);
SEXP scratch_buffers(SEXP nth);
SEXP numbers_print(SEXP object);
SEXP gp_known(SEXP gp);
SEXP gp_remember(SEXP gp);
SEXP gp_damage(SEXP gp, SEXP threads);
SEXP tree_known(SEXP tree_list);
SEXP tree_remember(SEXP tree_list);
SEXP tree_damage(SEXP tree_list);
SEXP tree_seal(SEXP index);
SEXP tree_invariant(SEXP list, SEXP x, SEXP lengthscale);
SEXP residual_knn(SEXP gp, SEXP tree_list, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors, SEXP method,
                  SEXP budget, SEXP distances, SEXP threads, SEXP progress);

SEXP selected_sets(SEXP gp, SEXP noises, SEXP pools, SEXP k, SEXP queries, SEXP memory, SEXP threads);
SEXP conditioning_sets(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors,
                       SEXP threads, SEXP progress);

/* Ordering and the VIF approximation; see order.h and vif.h. */
SEXP order_points(SEXP x, SEXP centre);
SEXP vif_regression(SEXP gp, SEXP noise, SEXP id, SEXP children, SEXP child_noise, SEXP threads);
SEXP vif_contrasts(SEXP id, SEXP coef, SEXP parents, SEXP children, SEXP threads);
SEXP vif_norm(SEXP L, SEXP W, SEXP threads);
SEXP vif_likelihood(SEXP gp, SEXP noise, SEXP nugget, SEXP id, SEXP values, SEXP gradient, SEXP information, SEXP axes,
                    SEXP memory, SEXP threads);
SEXP vif_memory(void);
SEXP vif_prediction(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP centred, SEXP b, SEXP root,
                    SEXP sets, SEXP threads);

/* A likelihood in steps over the shards of several processes; see steps.h. */
SEXP points_centre(SEXP x, SEXP kern);
SEXP shard_open(SEXP gp, SEXP noise, SEXP nugget, SEXP id, SEXP values, SEXP shard, SEXP wanted, SEXP axes, SEXP memory,
                SEXP threads);
SEXP shard_step(SEXP pointer, SEXP step, SEXP known);
SEXP shard_rows(SEXP pointer, SEXP what, SEXP points, SEXP rows);
SEXP shard_state(SEXP pointer);
SEXP shard_finish(SEXP sizes_vector, SEXP step, SEXP known, SEXP sums);
SEXP shard_close(SEXP pointer);

/* Non-Gaussian responses; see laplace.h. */
SEXP laplace_regression(SEXP gp, SEXP noise, SEXP id, SEXP with_root, SEXP threads);
SEXP laplace_derivative(SEXP gp, SEXP noise, SEXP id, SEXP state, SEXP threads);
SEXP laplace_features(SEXP gp, SEXP vbar, SEXP threads);
SEXP laplace_inducing(SEXP gp, SEXP A, SEXP threads);
SEXP laplace_solves(SEXP id, SEXP coef, SEXP X, SEXP transposed);
SEXP laplace_collects(SEXP id, SEXP coef, SEXP X);
SEXP laplace_crossproduct(SEXP A, SEXP B, SEXP weight, SEXP threads);
SEXP laplace_combination(SEXP C, SEXP V, SEXP threads);
SEXP laplace_pair_sums(SEXP id, SEXP weight, SEXP L, SEXP H, SEXP RL, SEXP RH, SEXP threads);

#endif
