/* Inducing points: what the m inducing inputs Z explain of a Gaussian process.
 *
 *   L   lower Cholesky factor of k(Z, Z) + jitter * variance * I   (m x m, column-major)
 *   V   L^-1 k(Z, X), the whitened features                         (m x n, one column a point)
 *   r   k(x, x) - |v_x|^2, the residual variances                   (n)
 *   w   L^-T v, the kriging weights                                 (m x n)
 *
 * All in double; all poll a monitor, which may be NULL. The work is done by the package's own blocked code, so that
 * none of it depends on a fast BLAS. Banerjee et al. (2008), section 2; Gyger, Furrer and Sigrist (2025), section 2. */
#ifndef VECCHIANN_INDUCING_H
#define VECCHIANN_INDUCING_H

#include "model/kernel.h"
#include "base/status.h"

/* L (m x m, zero above the diagonal) from scaled inducing inputs z (d x m). On failure `where` is
 * the 0-based pivot. */
status inducing_factor(const kernel *kern, int d, int m, const double *z, double jitter, const monitor *mon, double *L);

/* V (m x n) and r (n) for n scaled points x (d x n). */
status inducing_features(const kernel *kern, int d, int m, const double *z, const double *L, size_t n, const double *x,
                         int threads, const monitor *mon, double *V, double *r);

/* What is said to be the features and residual variances of n points. Without L these are anybody's own, whose
 * variances are at least those that the features leave. */
typedef struct {
    size_t n;
    int m, d;
    const double *x, *z, *L, *V, *variance;
    double jitter;
} inducing_claim;

typedef enum { INDUCING_SOUND, INDUCING_FACTOR, INDUCING_FEATURES, INDUCING_VARIANCES } inducing_part;

/* Which part, if any, does not follow from the inputs, but for rounding. By one random combination of the inducing
 * inputs (Freivalds, 1977): m kernel values and 2 m products a point, where making the features takes m^2. */
status inducing_check(const kernel *kern, const inducing_claim *claim, int threads, const monitor *mon,
                      inducing_part *wrong);

/* W <- L^-1 V for n columns, or L^-T V, which makes weights of features (W may be V). */
status inducing_solve(int m, const double *L, int transposed, size_t n, const double *V, int threads,
                      const monitor *mon, double *W);

/* Seeded k-means++ with Lloyd steps: m centres (d x m) of n scaled points; uniforms has length m and
 * decides every random choice. Arthur and Vassilvitskii (2007). */
status inducing_kmeans(int d, size_t n, const double *x, int m, const double *uniforms, int threads, const monitor *mon,
                       double *centres);

/* First m rows of the maximin order that starts at row 0: each the farthest point from those before,
 * ties to the lower row. Farthest-point traversal, Gonzalez (1985). ids has length m. */
status inducing_maxmin(int d, size_t n, const double *x, int m, int threads, const monitor *mon, int *ids);

#endif
