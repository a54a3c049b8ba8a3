/* Glue: what every routine that R calls needs to unpack its arguments, to raise an R error from a status, and to poll
 * for interrupts. Objects are the package's S3 lists (see R/kernel.R and R/residual.R). Memory that is returned here is
 * R_alloc'd: R frees it when the routine returns or jumps. */
#ifndef VECCHIANN_R_GLUE_H
#define VECCHIANN_R_GLUE_H

#include "base/status.h"
#include "model/kernel.h"
#include "model/metric.h"
#include "vif/batch.h"

#include <Rinternals.h>

/* The element of a list by its name, or R_NilValue. */
SEXP r_element(SEXP list, const char *name);
/* The address of an external pointer that has this tag. */
void *r_pointer(SEXP object, const char *tag);
/* A list of `count` elements, all NULL, with names. */
SEXP r_list(int count, const char *const *names);
/* The values of a double vector; an error unless its length is the one given (-1: any). */
const double *r_doubles(SEXP object, const char *what, R_xlen_t length);
/* 1-based rows from R to 0-based ones; NULL stays NULL and means all. */
const int *r_rows(SEXP rows, size_t n);
int r_threads(SEXP threads);

kernel r_kernel(SEXP kern);
/* A value for each of d columns, from one for all or from d. */
double *r_spread(const double *value, R_xlen_t length, int d);

/* Geometric anisotropy of a kernel in the plane of the first two columns: the direction of largest correlation,
 * clockwise from the second column, and by how much correlations reach less far across it. */
typedef struct {
    int there;
    double sine, cosine, ratio;
} anisotropy;

/* From c(angle in degrees, ratio); none from NULL. */
anisotropy r_anisotropy(SEXP values);
/* Scaled points (d x n) in the coordinates along and across, in place; the coordinate across in units of its own
 * lengthscale. */
void r_turn(const anisotropy *turn, int d, size_t n, double *points);

/* Everything that scaling needs: lengthscales spread over the columns, and the centre of gp$x; anisotropy; and the unit
 * of features, whose square is the unit of variances. */
typedef struct {
    kernel kern;
    int d;
    const double *lengthscale, *centre; /* the mean of the points, or what their attribute "centre" says */
    anisotropy turn;
    double unit;
} scaling;

scaling r_scaling(SEXP x, SEXP kern);
/* The same in a unit in which the kernel's variance is neither huge nor tiny, for what does not depend on the variance:
 * searches would lose squares and single-precision numbers to over- and underflow. The unit is a power of two, so that
 * changing to it rounds nothing, and 1 for usual variances, whose features are then used where they stand. */
scaling r_scaling_in_units(SEXP x, SEXP kern);
/* Memory that R frees at the end of a call, in large pages where it is large. */
void *r_memory(size_t count, size_t size);
/* values * factor, in place. */
void r_scale(double *values, size_t count, double factor);
/* Doubles of a known length times a power of two: themselves if that is 1, a copy in memory that R frees otherwise. */
const double *r_in_units(SEXP object, const char *what, R_xlen_t length, double factor);
/* Scaled points (d x n) of a matrix. */
double *r_scaled(const scaling *sc, SEXP x);
/* Points (d x n) in units of the lengthscales, for what does not depend on the kernel; `turn` is an anisotropy or
 * NULL. */
double *r_lengthscale_scaled(const kernel *unit, SEXP x, SEXP lengthscale, SEXP turn, int *d);
/* The points of a residual_gp, or of list(x, V, variance) for new ones, in the unit of the scaling. */
metric_points r_points(const scaling *sc, SEXP holder, double nugget);

/* Turns a status into an R error; returns only if all is well. After STATUS_INTERRUPTED R goes on with the jump that a
 * poll held: an interrupt, a time limit, or whatever else R wanted. */
void r_raise(status outcome);

/* What a monitor shows, and when it looks next. */
typedef struct {
    int show, shown;
    double next;
} progress_line;

/* A monitor that lets R in a few times a second, to draw the line and to see interrupts and time limits. A jump out of
 * R is held until r_raise, so that the core can free its memory. */
monitor r_monitor(progress_line *line, int show);
/* The same without a line, for all work that has none. */
const monitor *r_interrupts(void);

/* The same for approximations of n points, whose failures are those of a point or of the whole. */
void r_raise_vif(status outcome, size_t n);
/* A table of neighbours of so many rows. */
const int *r_ids(SEXP id, size_t rows);
/* The points of a residual_gp, or of list(x, V, variance), with residual variance plus noise. */
vif_points r_vif_points(const scaling *sc, SEXP holder, SEXP noise);
/* The values of a new vector (cols < 0) or matrix in a list. */
double *r_new_values(SEXP list, int at, R_xlen_t rows, R_xlen_t cols);

/* The handler of R_tryCatchError for allocations: answers R_NilValue. */
SEXP r_allocation_failed(SEXP condition, void *unused);

#endif
