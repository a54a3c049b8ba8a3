/* Passes over the children of an evaluation: regressions and what they change by; the gradient (likelihood.h). */
#ifndef VECCHIANN_PASSES_H
#define VECCHIANN_PASSES_H

#include "vif/evaluation.h"

/* What both work with. */
typedef struct {
    batch *batches;
    struct workspace *all;
} passes;

/* Fills regressions, contrasts and their derivatives. */
status passes_first(evaluation *e, passes *own);

/* Adds to the sums of each chunk what its children say of the gradient and of tr(S^-1 dS). */
status passes_second(const evaluation *e, passes *own);

void passes_free(passes *own, int threads);

#endif
