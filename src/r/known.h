/* Known: residual processes and trees that this session has made or checked.
 *
 * An object may come from a file or have been edited, so it is checked before it is first used, and remembered. What is
 * remembered of a large array is where it stands, together with its `dim`, which is held, and some of its values: R
 * copies a known array before it changes it, and what comes to stand at its place later has another `dim`, or other
 * values where arithmetic has handed the `dim` on. All else is compared by a fingerprint. */
#ifndef VECCHIANN_R_KNOWN_H
#define VECCHIANN_R_KNOWN_H

#include "r/glue.h"

/* The fields of a tree in R, in this order, and NULL; indices are 1-based there, and 0 is none. */
#define R_TREE_FIELDS 9
extern const char *const r_tree_fields[R_TREE_FIELDS + 1];

/* Whether all elements have the types and lengths that the routines of this folder rely on. */
int known_gp_shape(SEXP gp);
int known_gp(SEXP gp);
void known_gp_add(SEXP gp);

/* The same of the tree's own vectors, once its process is known. */
int known_tree(SEXP tree_list);
void known_tree_add(SEXP tree_list);

/* The fingerprint of all numbers, and text in ASCII, in a list and the lists in it. */
uint64_t known_numbers(SEXP object, uint64_t fingerprint);

/* The fingerprint of a process by all its numbers, for the index that is made for it; made once for a known process. */
uint64_t known_fingerprint(SEXP gp);

#endif
