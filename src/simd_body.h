/* The vector kernels, included by simd.c once for each instruction set with
 *   ISA           suffix of the names
 *   VECTOR_BYTES  width of a vector
 *   TILE_ROWS     rows of the double-precision tile; its columns are two vectors
 *   HAVE_FMA      whether the target has fused multiply-add
 * Vectors are the compilers' own vector types; intrinsics appear only where these have no operator. */

#define NAME(x) JOIN(x, ISA)
#define LANES (VECTOR_BYTES / (int)sizeof(double))
#define COLS (2 * LANES)
#define vd NAME(vd)
#define vi NAME(vi)
#define vd_any NAME(vd_any)

typedef double vd __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t vi __attribute__((vector_size(VECTOR_BYTES)));
typedef double vd_any __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));

#define LOAD(p) ((vd) * (const vd_any *)(p))
#define STORE(p, x) (*(vd_any *)(p) = (x))
#define SPLAT(x) ((x) - (vd){0})

#if !defined(HAVE_FMA)
#define FMA(a, b, c) ((a) * (b) + (c))
#define FMA1(a, b, c) ((a) * (b) + (c))
#elif VECTOR_BYTES == 64
#define FMA(a, b, c) ((vd)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define FMA1(a, b, c) __builtin_fma(a, b, c)
#else
#define FMA(a, b, c) ((vd)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define FMA1(a, b, c) __builtin_fma(a, b, c)
#endif

static inline vd NAME(square_root)(vd x)
{
#if VECTOR_BYTES == 64
    return (vd)_mm512_sqrt_pd((__m512d)x);
#elif VECTOR_BYTES == 32
    return (vd)_mm256_sqrt_pd((__m256d)x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = sqrt(x[i]);
    return x;
#endif
}

/* exp(-s) for s >= 0: relative error below 2 ulp, exactly 1 at 0, and 0 from s = 708 on, where the
 * result would leave the normal range. The argument is reduced by multiples of log 2 (in two parts);
 * the polynomial interpolates exp at Chebyshev nodes of [-log(2)/2, log(2)/2], relative error 4e-18. */
static inline vd NAME(exp_minus)(vd s)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    vd x = -s;
    vi inside = s < SPLAT(708.0);
    x = (vd)((vi)x & inside);
    vd t = FMA(x, SPLAT(1.4426950408889634), SPLAT(shift));
    vd n = t - SPLAT(shift);
    vd y = FMA(n, SPLAT(-0.693147180369123816490), x);
    y = FMA(n, SPLAT(-1.90821492927058770002e-10), y);
    vd p = SPLAT(2.5110037605963777e-08);
    p = FMA(p, y, SPLAT(2.763263963904103e-07));
    p = FMA(p, y, SPLAT(2.755724091857897e-06));
    p = FMA(p, y, SPLAT(2.4801485482328494e-05));
    p = FMA(p, y, SPLAT(0.00019841269890047113));
    p = FMA(p, y, SPLAT(0.0013888888952314775));
    p = FMA(p, y, SPLAT(0.008333333333319601));
    p = FMA(p, y, SPLAT(0.0416666666664881));
    p = FMA(p, y, SPLAT(0.1666666666666668));
    p = FMA(p, y, SPLAT(0.5000000000000019));
    p = FMA(p, y, SPLAT(1.0));
    p = FMA(p, y, SPLAT(1.0));
    p = (vd)((vi)p + ((vi)t << 52));
    return (vd)((vi)p & inside);
}

static inline vd NAME(radial_vector)(const radial *rad, vd s2)
{
    if (rad->form == RADIAL_GAUSSIAN)
        return SPLAT(rad->variance) * NAME(exp_minus)(s2);
    vd s = NAME(square_root)(s2);
    vd p = FMA(FMA(SPLAT(rad->c2), s, SPLAT(rad->c1)), s, SPLAT(1.0));
    return SPLAT(rad->variance) * p * NAME(exp_minus)(s);
}

static void NAME(radial_values)(const radial *rad, size_t count, const double *s2, double *out)
{
    size_t i = 0;
    if (rad->form == RADIAL_FUNCTION) {
        for (; i < count; i++)
            out[i] = rad->variance * rad->function(rad->context, s2[i]);
        return;
    }
    for (; i + COLS <= count; i += COLS) {
        vd a = NAME(radial_vector)(rad, LOAD(s2 + i));
        vd b = NAME(radial_vector)(rad, LOAD(s2 + i + LANES));
        STORE(out + i, a);
        STORE(out + i + LANES, b);
    }
    for (; i < count; i += LANES) {
        double part[LANES] = {0};
        size_t left = count - i < LANES ? count - i : LANES;
        memcpy(part, s2 + i, left * sizeof(double));
        STORE(part, NAME(radial_vector)(rad, LOAD(part)));
        memcpy(out + i, part, left * sizeof(double));
    }
}

static void NAME(dot_tile)(int m, const double *a, const double *b, double *c)
{
    vd sum[TILE_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        sum[i][0] = sum[i][1] = SPLAT(0.0);
    for (int u = 0; u < m; u++, a += TILE_ROWS, b += COLS) {
        vd b0 = LOAD(b), b1 = LOAD(b + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            vd ai = SPLAT(a[i]);
            sum[i][0] = FMA(ai, b0, sum[i][0]);
            sum[i][1] = FMA(ai, b1, sum[i][1]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++) {
        STORE(c + i * COLS, sum[i][0]);
        STORE(c + i * COLS + LANES, sum[i][1]);
    }
}

static void NAME(distance_tile)(int d, const double *a, const double *b, double *s2)
{
    for (int i = 0; i < TILE_ROWS; i++) {
        vd sum0 = SPLAT(0.0), sum1 = sum0;
        for (int u = 0; u < d; u++) {
            vd ai = SPLAT(a[u * TILE_ROWS + i]);
            vd diff0 = ai - LOAD(b + u * COLS), diff1 = ai - LOAD(b + u * COLS + LANES);
            sum0 = FMA(diff0, diff0, sum0);
            sum1 = FMA(diff1, diff1, sum1);
        }
        STORE(s2 + i * COLS, sum0);
        STORE(s2 + i * COLS + LANES, sum1);
    }
}

static void NAME(panel_norms)(int m, const double *b, double *norms)
{
    vd sum0 = SPLAT(0.0), sum1 = sum0;
    for (int u = 0; u < m; u++, b += COLS) {
        vd b0 = LOAD(b), b1 = LOAD(b + LANES);
        sum0 = FMA(b0, b0, sum0);
        sum1 = FMA(b1, b1, sum1);
    }
    STORE(norms, sum0);
    STORE(norms + LANES, sum1);
}

static void NAME(residual_tile)(const radial *rad, int d, const double *ax, const double *bx, int m,
                                const double *av, const double *bv, double *r)
{
    double dots[TILE_ROWS * COLS] __attribute__((aligned(64)));
    NAME(distance_tile)(d, ax, bx, r);
    NAME(radial_values)(rad, TILE_ROWS * COLS, r, r);
    if (m == 0)
        return;
    NAME(dot_tile)(m, av, bv, dots);
    for (int i = 0; i < TILE_ROWS * COLS; i += LANES)
        STORE(r + i, LOAD(r + i) - LOAD(dots + i));
}

static uint32_t NAME(reach)(const double *r, const double *scale, double threshold)
{
    uint32_t mask = 0;
    for (int half = 0; half < 2; half++) {
        vd value = LOAD(r + half * LANES);
        value = (vd)((vi)value & INT64_MAX) * LOAD(scale + half * LANES);
#if VECTOR_BYTES == 64
        uint32_t bits = _mm512_cmp_pd_mask((__m512d)value, _mm512_set1_pd(threshold), _CMP_GE_OQ);
#elif VECTOR_BYTES == 32
        uint32_t bits = (uint32_t)_mm256_movemask_pd(
            _mm256_cmp_pd((__m256d)value, _mm256_set1_pd(threshold), _CMP_GE_OQ));
#else
        uint32_t bits = 0;
        for (int j = 0; j < LANES; j++)
            bits |= (uint32_t)(value[j] >= threshold) << j;
#endif
        mask |= bits << (half * LANES);
    }
    return mask;
}

/* Eight chains at a time hide the latency that one sequential sum would pay. */
static void NAME(dot_list)(int m, const double *q, const double *v, const int *ids, size_t count,
                           double *out)
{
    for (size_t c = 0; c < count; c += 8) {
        const double *p[8];
        double sum[8] = {0};
        for (int j = 0; j < 8; j++)
            p[j] = v + (size_t)ids[c + j < count ? c + j : count - 1] * (size_t)m;
        for (int u = 0; u < m; u++) {
            double qu = q[u];
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++)
                sum[j] = FMA1(qu, p[j][u], sum[j]);
        }
        for (int j = 0; j < 8 && c + j < count; j++)
            out[c + j] = sum[j];
    }
}

static void NAME(distance_list)(int d, const double *q, const double *x, const int *ids,
                                size_t count, double *out)
{
    for (size_t c = 0; c < count; c++) {
        const double *p = x + (size_t)ids[c] * (size_t)d;
        double sum = 0.0;
        for (int u = 0; u < d; u++) {
            double diff = q[u] - p[u];
            sum = FMA1(diff, diff, sum);
        }
        out[c] = sum;
    }
}

static const simd_table NAME(table) = {
    .name = NAME_TEXT(ISA),
    .rows = TILE_ROWS,
    .cols = COLS,
    .radial_values = NAME(radial_values),
    .dot_tile = NAME(dot_tile),
    .distance_tile = NAME(distance_tile),
    .panel_norms = NAME(panel_norms),
    .residual_tile = NAME(residual_tile),
    .reach = NAME(reach),
    .dot_list = NAME(dot_list),
    .distance_list = NAME(distance_list),
};

#undef NAME
#undef LANES
#undef COLS
#undef vd
#undef vi
#undef vd_any
#undef LOAD
#undef STORE
#undef SPLAT
#undef FMA
#undef FMA1
#undef ISA
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef HAVE_FMA
