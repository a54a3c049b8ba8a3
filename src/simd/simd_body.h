/* The vector kernels, included by simd.c once for each instruction set with
 *   ISA           suffix of the names
 *   VECTOR_BYTES  width of a vector
 *   TILE_ROWS     rows of the double-precision tile; its columns are two vectors
 * Targets of wider vectors than 16 bytes have fused multiply-add. Vectors are the compilers' own vector types;
 * intrinsics appear only where these have no operator. What macros stand for follows from these three, and they may be
 * defined again; those of other text are undefined at the end. */

#define NAME(x) JOIN(x, ISA)
#define LANES (VECTOR_BYTES / (int)sizeof(double))
#define COLS (2 * LANES)
#define vd NAME(vd)
#define vi NAME(vi)
#define vd_any NAME(vd_any)

typedef double vd __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t vi __attribute__((vector_size(VECTOR_BYTES)));
typedef double vd_any __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));

#define FLANES (VECTOR_BYTES / (int)sizeof(float))
#define vf NAME(vf)
#define vs NAME(vs)
#define vf_any NAME(vf_any)
#define vs_any NAME(vs_any)

typedef float vf __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vs __attribute__((vector_size(VECTOR_BYTES)));
typedef float vf_any __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t vs_any __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

/* A function some of whose arguments are constants where it is inlined. */
#define INLINED static inline __attribute__((always_inline))

/* A loop whose count is a constant of at most 16 where it is compiled. */
#define UNROLLED(i, count) _Pragma("GCC unroll 16") for (int i = 0; i < (count); i++)

#define FLOAD(p) ((vf) * (const vf_any *)(p))
#define FSTORE(p, x) (*(vf_any *)(p) = (x))
#define SLOAD(p) ((vs) * (const vs_any *)(p))
#define SSTORE(p, x) (*(vs_any *)(p) = (x))
#define FSPLAT(x) ((x) - (vf){0})
#define INT_VECTORS (SCREEN_COLS / FLANES)
#define INT_ROWS (VECTOR_BYTES == 64 ? 8 : 2)
#define FLOAT_ROWS (VECTOR_BYTES == 64 ? 8 : VECTOR_BYTES == 32 ? 2 : 1)
#define LIST_ROWS (VECTOR_BYTES == 64 ? 8 : 4)
#define MULTIPLY_ROWS (VECTOR_BYTES == 16 ? 4 : 8)
#define LENGTH_ROWS (VECTOR_BYTES == 64 ? 8 : 4)
#define SUM_CHAINS (VECTOR_BYTES == 64 ? 8 : VECTOR_BYTES == 32 ? 4 : 2)
#define DOT_CHAINS 8 /* sums of one dot product */
#define DOT_VECTORS (DOT_CHAINS / LANES)
#define DOT_POINTS (VECTOR_BYTES == 64 ? 8 : VECTOR_BYTES == 32 ? 4 : 2)
#define DOT_FETCH 256

#define LOAD(p) ((vd) * (const vd_any *)(p))
#define STORE(p, x) (*(vd_any *)(p) = (x))
#define SPLAT(x) ((x) - (vd){0})

#define FMA1(a, b, c) (VECTOR_BYTES == 16 ? (a) * (b) + (c) : __builtin_fma(a, b, c))

#if VECTOR_BYTES == 16
#define FMA(a, b, c) ((a) * (b) + (c))
#define FMA32(a, b, c) ((a) * (b) + (c))
#elif VECTOR_BYTES == 64
#define FMA32(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
/* In assembly: compilers keep two copies of every sum when they see these as intrinsics in a loop. */
#define DOT(bits, sum, x, y)                                                                                           \
    do {                                                                                                               \
        if ((bits) == 8)                                                                                               \
            __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));                                               \
        else                                                                                                           \
            __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));                                               \
    } while (0)
#define FMA(a, b, c) ((vd)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#else
#define FMA32(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define DOT(bits, sum, x, y) ((sum) += (vs)_mm256_madd_epi16((__m256i)(x), (__m256i)(y)))
#define FMA(a, b, c) ((vd)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
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
    if (rad->kind == RADIAL_GAUSSIAN)
        return SPLAT(rad->variance) * NAME(exp_minus)(s2);
    vd s = NAME(square_root)(s2);
    vd p = FMA(FMA(SPLAT(rad->c2), s, SPLAT(rad->c1)), s, SPLAT(1.0));
    return SPLAT(rad->variance) * p * NAME(exp_minus)(s);
}

/* The first `count` < LANES elements of a vector, and zeros. */
static inline vd NAME(load_part)(const double *p, int count)
{
#if VECTOR_BYTES == 64
    return (vd)_mm512_maskz_loadu_pd((__mmask8)((1 << count) - 1), p);
#else
    vd x = SPLAT(0.0);
    for (int l = 0; l < count; l++)
        x[l] = p[l];
    return x;
#endif
}

static inline void NAME(store_part)(double *p, int count, vd x)
{
#if VECTOR_BYTES == 64
    _mm512_mask_storeu_pd(p, (__mmask8)((1 << count) - 1), (__m512d)x);
#else
    for (int l = 0; l < count; l++)
        p[l] = x[l];
#endif
}

static void NAME(radial_values)(const radial *rad, size_t count, const double *s2, double *out)
{
    size_t i = 0;
    if (rad->kind == RADIAL_FUNCTION) {
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
    for (; i + LANES <= count; i += LANES)
        STORE(out + i, NAME(radial_vector)(rad, LOAD(s2 + i)));
    if (i < count) {
        int left = (int)(count - i);
        NAME(store_part)(out + i, left, NAME(radial_vector)(rad, NAME(load_part)(s2 + i, left)));
    }
}

/* Elements u .. u + 7 of eight rows, transposed; row j of the result is element u + j. */
#if VECTOR_BYTES == 64
static inline void NAME(transpose8)(const double *const *rows, int u, double *out, size_t stride)
{
    __m512d r[8], t[8];
    for (int j = 0; j < 8; j++)
        r[j] = _mm512_loadu_pd(rows[j] + u);
    for (int j = 0; j < 8; j += 2) {
        t[j] = _mm512_unpacklo_pd(r[j], r[j + 1]);
        t[j + 1] = _mm512_unpackhi_pd(r[j], r[j + 1]);
    }
    for (int h = 0; h < 2; h++) { /* pairs of rows 0-3, then 4-7: elements h, 2 + h, 4 + h, 6 + h */
        __m512d a = _mm512_shuffle_f64x2(t[h], t[2 + h], 0x88), b = _mm512_shuffle_f64x2(t[h], t[2 + h], 0xdd);
        __m512d c = _mm512_shuffle_f64x2(t[4 + h], t[6 + h], 0x88), d = _mm512_shuffle_f64x2(t[4 + h], t[6 + h], 0xdd);
        _mm512_storeu_pd(out + h * stride, _mm512_shuffle_f64x2(a, c, 0x88));
        _mm512_storeu_pd(out + (2 + h) * stride, _mm512_shuffle_f64x2(b, d, 0x88));
        _mm512_storeu_pd(out + (4 + h) * stride, _mm512_shuffle_f64x2(a, c, 0xdd));
        _mm512_storeu_pd(out + (6 + h) * stride, _mm512_shuffle_f64x2(b, d, 0xdd));
    }
}
#else
static inline void NAME(transpose8)(const double *const *rows, int u, double *out, size_t stride)
{
    for (int e = 0; e < 8; e++)
        for (int j = 0; j < 8; j++)
            out[e * stride + j] = rows[j][u + e];
}
#endif

static void NAME(pack_rows)(int m, int width, size_t count, const double *rows, const int *ids, double *panels)
{
    const double *row[SIMD_MAX_COLS];
    for (size_t first = 0; first < count; first += width, panels += (size_t)m * width) {
        for (int j = 0; j < width; j++)
            row[j] = rows + (size_t)ids[first + ((size_t)j < count - first ? j : 0)] * m;
        int u = 0;
        for (; u + 8 <= m; u += 8) {
            int j = 0;
            for (; j + 8 <= width; j += 8)
                NAME(transpose8)(row + j, u, panels + (size_t)u * width + j, width);
            for (; j < width; j++)
                for (int e = u; e < u + 8; e++)
                    panels[(size_t)e * width + j] = row[j][e];
        }
        for (; u < m; u++)
            for (int j = 0; j < width; j++)
                panels[(size_t)u * width + j] = row[j][u];
    }
}

/* c[i] <- sum_t a[i * a_row + t * a_step] b[t * b_step ..], a row of the tile each; strides are constants where this is
 * inlined. */
INLINED void NAME(tile_steps)(size_t steps, const double *a, size_t a_row, size_t a_step, const double *b,
                              size_t b_step, double *c)
{
    vd sum[TILE_ROWS][2];
    UNROLLED(i, TILE_ROWS)
        sum[i][0] = sum[i][1] = SPLAT(0.0);
    for (size_t t = 0; t < steps; t++, a += a_step, b += b_step) {
        vd b0 = LOAD(b), b1 = LOAD(b + LANES);
        UNROLLED(i, TILE_ROWS) {
            vd ai = SPLAT(a[i * a_row]);
            sum[i][0] = FMA(ai, b0, sum[i][0]);
            sum[i][1] = FMA(ai, b1, sum[i][1]);
        }
    }
    UNROLLED(i, TILE_ROWS) {
        STORE(c + i * COLS, sum[i][0]);
        STORE(c + i * COLS + LANES, sum[i][1]);
    }
}

static void NAME(dot_tile)(int m, const double *a, const double *b, double *c)
{
    NAME(tile_steps)(m, a, 1, TILE_ROWS, b, COLS, c);
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

static void NAME(largest)(int count, const double *a, const double *gain, double *most)
{
    vd gain0 = LOAD(gain), gain1 = LOAD(gain + LANES);
    for (int i = 0; i < count; i++, a += COLS) {
        vd x = (vd)((vi)LOAD(a) & INT64_MAX) * gain0, y = (vd)((vi)LOAD(a + LANES) & INT64_MAX) * gain1;
        vi more = x > y;
        x = (vd)(((vi)x & more) | ((vi)y & ~more));
        double largest = x[0];
        for (int j = 1; j < LANES; j++)
            largest = x[j] > largest ? x[j] : largest;
        most[i] = largest;
    }
}

static void NAME(panel_norms)(int m, const double *b, double *norms)
{
    vd sum[DOT_CHAINS][2];
    for (int c = 0; c < DOT_CHAINS; c++)
        sum[c][0] = sum[c][1] = SPLAT(0.0);
    for (int u = 0; u < m; u++, b += COLS) {
        vd b0 = LOAD(b), b1 = LOAD(b + LANES), *chain = sum[u % DOT_CHAINS];
        chain[0] = FMA(b0, b0, chain[0]);
        chain[1] = FMA(b1, b1, chain[1]);
    }
    for (int step = 1; step < DOT_CHAINS; step *= 2)
        for (int c = 0; c < DOT_CHAINS; c += 2 * step) {
            sum[c][0] += sum[c + step][0];
            sum[c][1] += sum[c + step][1];
        }
    STORE(norms, sum[0][0]);
    STORE(norms + LANES, sum[0][1]);
}

static void NAME(residual_tile)(const radial *rad, int d, const double *ax, const double *bx, int m, const double *av,
                                const double *bv, double *r)
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

/* The first `count` of `rows` rows, a constant where this is inlined; idle ones repeat the first. */
INLINED void NAME(residual_few)(int rows, int count, const radial *rad, int d, const double *const *ax,
                                const double *bx, int m, const double *const *av, const double *bv, double *r)
{
    const double *row[LIST_ROWS];
    vd sum[LIST_ROWS][2];
    UNROLLED(i, rows) {
        int at = i < count ? i : 0;
        const double *x = ax[at];
        sum[i][0] = sum[i][1] = SPLAT(0.0);
        for (int u = 0; u < d; u++) {
            vd xu = SPLAT(x[u]), diff0 = xu - LOAD(bx + u * COLS), diff1 = xu - LOAD(bx + u * COLS + LANES);
            sum[i][0] = FMA(diff0, diff0, sum[i][0]);
            sum[i][1] = FMA(diff1, diff1, sum[i][1]);
        }
        STORE(r + i * COLS, sum[i][0]);
        STORE(r + i * COLS + LANES, sum[i][1]);
        row[i] = av[at];
        sum[i][0] = sum[i][1] = SPLAT(0.0);
    }
    NAME(radial_values)(rad, (size_t)rows * COLS, r, r);
    for (int u = 0; u < m; u++, bv += COLS) {
        vd b0 = LOAD(bv), b1 = LOAD(bv + LANES);
        UNROLLED(i, rows) {
            vd ai = SPLAT(row[i][u]);
            sum[i][0] = FMA(ai, b0, sum[i][0]);
            sum[i][1] = FMA(ai, b1, sum[i][1]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows && m; i++) {
        STORE(r + i * COLS, LOAD(r + i * COLS) - sum[i][0]);
        STORE(r + i * COLS + LANES, LOAD(r + i * COLS + LANES) - sum[i][1]);
    }
}

/* Rows wherever they stand, LIST_ROWS or half as many at a time; the sums run as in the tiles. */
static void NAME(residual_rows)(const radial *rad, int d, int count, const double *const *ax, const double *bx, int m,
                                const double *const *av, const double *bv, double *r)
{
    for (int first = 0; first < count; first += LIST_ROWS, r += LIST_ROWS * COLS) {
        int left = count - first;
        if (left > LIST_ROWS / 2)
            NAME(residual_few)
        (LIST_ROWS, left, rad, d, ax + first, bx, m, av + first, bv, r);
        else NAME(residual_few)(LIST_ROWS / 2, left, rad, d, ax + first, bx, m, av + first, bv, r);
    }
}

static void NAME(correlations)(const radial *rad, int d, int m, int count, const double *const *ax,
                               const double *const *av, const double *a_gain, const double *bx, const double *bv,
                               const double *b_gain, float *out, size_t stride)
{
    double tile[LIST_ROWS * COLS] __attribute__((aligned(64)));
    for (int first = 0; first < count; first += LIST_ROWS) {
        int filled = count - first < LIST_ROWS ? count - first : LIST_ROWS;
        NAME(residual_rows)(rad, d, filled, ax + first, bx, m, av + first, bv, tile);
        for (int i = 0; i < filled; i++, out += stride)
            for (int j = 0; j < COLS; j++)
                out[j] = (float)(tile[i * COLS + j] * (a_gain[first + i] * b_gain[j]));
    }
}

static inline uint32_t NAME(reaching)(vd x, vd threshold)
{
#if VECTOR_BYTES == 64
    return _mm512_cmp_pd_mask((__m512d)x, (__m512d)threshold, _CMP_GE_OQ);
#elif VECTOR_BYTES == 32
    return (uint32_t)_mm256_movemask_pd(_mm256_cmp_pd((__m256d)x, (__m256d)threshold, _CMP_GE_OQ));
#else
    uint32_t bits = 0;
    for (int j = 0; j < LANES; j++)
        bits |= (uint32_t)(x[j] >= threshold[j]) << j;
    return bits;
#endif
}

static uint32_t NAME(at_least)(const double *r, const double *gain, double threshold)
{
    uint32_t mask = 0;
    for (int j = 0; j < COLS; j += LANES) {
        vd size = (vd)((vi)LOAD(r + j) & INT64_MAX);
        mask |= NAME(reaching)(size * LOAD(gain + j), SPLAT(threshold)) << j;
    }
    return mask;
}

/* out[j] = the sum of the chains of point j, in pairs. */
static inline void NAME(add_chains)(vd sum[DOT_POINTS][DOT_VECTORS], int count, double *out)
{
#if VECTOR_BYTES == 64
    __m512d two[4], four[2];
    UNROLLED(j, 4) {
        __m512d a = (__m512d)sum[2 * j][0], b = (__m512d)sum[2 * j + 1][0];
        two[j] = _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
    }
    UNROLLED(j, 2)
        four[j] = _mm512_add_pd(_mm512_shuffle_f64x2(two[2 * j], two[2 * j + 1], 0x88),
                                _mm512_shuffle_f64x2(two[2 * j], two[2 * j + 1], 0xdd));
    __m512d all =
        _mm512_add_pd(_mm512_shuffle_f64x2(four[0], four[1], 0x88), _mm512_shuffle_f64x2(four[0], four[1], 0xdd));
    _mm512_mask_storeu_pd(out, (__mmask8)((1 << count) - 1), all);
#else
    for (int j = 0; j < count; j++) {
        double chain[DOT_CHAINS];
        for (int h = 0; h < DOT_VECTORS; h++)
            STORE(chain + h * LANES, sum[j][h]);
        for (int step = 1; step < DOT_CHAINS; step *= 2)
            for (int c = 0; c < DOT_CHAINS; c += 2 * step)
                chain[c] += chain[c + step];
        out[j] = chain[0];
    }
#endif
}

/* Some points at a time share the loads of q, and no sum waits for another. The rows of the next ones are fetched
 * meanwhile, because they stand anywhere in memory; longer ones would push each other out of the first cache. */
static void NAME(dot_list)(int m, const double *q, const double *v, const int *ids, size_t count, double *out)
{
    int fetch = m <= DOT_FETCH;
    for (size_t c = 0; c < count; c += DOT_POINTS) {
        const double *p[DOT_POINTS], *next[DOT_POINTS];
        int left = count - c < DOT_POINTS ? (int)(count - c) : DOT_POINTS, u = 0;
        vd sum[DOT_POINTS][DOT_VECTORS];
        UNROLLED(j, DOT_POINTS) {
            size_t after = c + DOT_POINTS + j;
            p[j] = v + (size_t)ids[j < left ? c + j : count - 1] * (size_t)m;
            next[j] = v + (size_t)ids[after < count ? after : count - 1] * (size_t)m;
            UNROLLED(h, DOT_VECTORS)
                sum[j][h] = SPLAT(0.0);
        }
        for (; u + DOT_CHAINS <= m; u += DOT_CHAINS) {
            UNROLLED(h, DOT_VECTORS) {
                vd x = LOAD(q + u + h * LANES);
                UNROLLED(j, DOT_POINTS)
                    sum[j][h] = FMA(x, LOAD(p[j] + u + h * LANES), sum[j][h]);
            }
            if (fetch)
                UNROLLED(j, DOT_POINTS)
                    __builtin_prefetch(next[j] + u);
        }
#pragma GCC unroll 4
        for (int h = 0; h < DOT_VECTORS; h++, u += LANES)
            if (u < m) {
                int part = m - u < LANES ? m - u : LANES;
                vd x = NAME(load_part)(q + u, part);
                UNROLLED(j, DOT_POINTS)
                    sum[j][h] = FMA(x, NAME(load_part)(p[j] + u, part), sum[j][h]);
            }
        NAME(add_chains)(sum, left, out + c);
    }
}

static void NAME(solve_corner)(int height, const double *corner, const double *tile, double *B)
{
    for (int a = 0; a < height; a++) {
        vd sum0 = LOAD(B + a * COLS) - LOAD(tile + a * COLS);
        vd sum1 = LOAD(B + a * COLS + LANES) - LOAD(tile + a * COLS + LANES);
        for (int b = 0; b < a; b++) {
            vd factor = SPLAT(-corner[a * TILE_ROWS + b]);
            sum0 = FMA(factor, LOAD(B + b * COLS), sum0);
            sum1 = FMA(factor, LOAD(B + b * COLS + LANES), sum1);
        }
        STORE(B + a * COLS, sum0 * SPLAT(corner[a * TILE_ROWS + a]));
        STORE(B + a * COLS + LANES, sum1 * SPLAT(corner[a * TILE_ROWS + a]));
    }
}

static void NAME(add_multiple)(int m, double factor, const double *x, double *y)
{
    int u = 0;
    for (; u + LANES <= m; u += LANES)
        STORE(y + u, FMA(SPLAT(factor), LOAD(x + u), LOAD(y + u)));
    for (; u < m; u++)
        y[u] += factor * x[u];
}

static double NAME(round_integers)(int m, double step, const double *f, int16_t *out)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    vd inverse = SPLAT(1.0 / step), sum = SPLAT(0.0);
    double total = 0.0;
    for (int u = 0; u < m; u += LANES) {
        vd x = LOAD(f + u), t = FMA(x, inverse, SPLAT(shift)), whole = t - SPLAT(shift);
        vd gap = FMA(SPLAT(-step), whole, x);
        sum = FMA(gap, gap, sum);
        vi integers = (vi)t;
        for (int j = 0; j < LANES; j++)
            out[u + j] = (int16_t)integers[j];
    }
    for (int j = 0; j < LANES; j++)
        total += sum[j];
    return total;
}

static double NAME(sizes)(int m, const double *f, double *norm2)
{
    vd sum = SPLAT(0.0), most = sum;
    double total = 0.0, largest = 0.0;
    for (int u = 0; u < m; u += LANES) {
        vd x = LOAD(f + u), size = (vd)((vi)x & INT64_MAX);
        vi more = size > most;
        sum = FMA(x, x, sum);
        most = (vd)(((vi)size & more) | ((vi)most & ~more));
    }
    for (int j = 0; j < LANES; j++) {
        total += sum[j];
        largest = most[j] > largest ? most[j] : largest;
    }
    *norm2 = total;
    return largest;
}

static void NAME(distance_list)(int d, const double *q, const double *x, const int *ids, size_t count, double *out)
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

static void NAME(mix)(size_t count, const double *values, uint64_t *lane)
{
    typedef uint64_t vu __attribute__((vector_size(VECTOR_BYTES)));
    enum { VECTORS = SIMD_MIXED / LANES };
    vu held[VECTORS];
    memcpy(held, lane, sizeof(held));
    for (size_t i = 0; i + SIMD_MIXED <= count; i += SIMD_MIXED)
        UNROLLED(h, VECTORS) {
            vu bits = (vu)LOAD(values + i + h * LANES);
            held[h] = (held[h] ^ bits ^ (bits >> 32)) * SIMD_MIX;
        }
    memcpy(lane, held, sizeof(held));
}

/* ---- single precision: screening ------------------------------------------------------------ */

static inline vf NAME(radial_piece)(const radial_pieces *pieces, vf s2)
{
    vs at = ((vs)s2 >> pieces->shift) - pieces->base;
#if VECTOR_BYTES == 64
    __m512i piece =
        _mm512_min_epi32(_mm512_max_epi32((__m512i)at, _mm512_setzero_si512()), _mm512_set1_epi32(RADIAL_PIECES - 1));
#define PIECE(of) (vf) _mm512_permutex2var_ps(_mm512_loadu_ps(of), piece, _mm512_loadu_ps(of + 16))
    vf value = PIECE(pieces->value), slope = PIECE(pieces->slope), curve = PIECE(pieces->curve),
       twist = PIECE(pieces->twist);
#undef PIECE
#else
    vf value, slope, curve, twist;
    for (int i = 0; i < FLANES; i++) {
        int piece = at[i] < 0 ? 0 : at[i] < RADIAL_PIECES ? at[i] : RADIAL_PIECES - 1;
        value[i] = pieces->value[piece];
        slope[i] = pieces->slope[piece];
        curve[i] = pieces->curve[piece];
        twist[i] = pieces->twist[piece];
    }
#endif
    return FMA32(FMA32(FMA32(twist, s2, curve), s2, slope), s2, value);
}

/* value_ij <- -step_i step_j sums_ij for vector h of the columns. */
static inline void NAME(scale_sums)(int i, int h, vs sums, const simd_rows *rows, const simd_columns *columns,
                                    float *value)
{
    vf step = FSPLAT(-rows->step[i]) * FLOAD(columns->step + h * FLANES);
    FSTORE(value + i * SCREEN_COLS + h * FLANES, step * __builtin_convertvector(sums, vf));
}

#if VECTOR_BYTES >= 32
/* For integers of 8 or 16 bits, a constant where this is inlined. */
INLINED void NAME(integer_tile)(int bits, int steps, const simd_rows *rows, const simd_columns *columns, float *value)
{
    for (int first = 0; first < SCREEN_ROWS; first += INT_ROWS) {
        vs sum[INT_ROWS][INT_VECTORS];
        const char *row[INT_ROWS], *column = columns->features;
        UNROLLED(i, INT_ROWS) {
            row[i] = rows->features[first + i];
            UNROLLED(h, INT_VECTORS)
                sum[i][h] = bits == 8 ? SLOAD(columns->start + h * FLANES) : (vs){0};
        }
        for (int u = 0; u < 4 * steps; u += 4, column += 4 * SCREEN_COLS) {
            vs y[INT_VECTORS];
            UNROLLED(h, INT_VECTORS)
                y[h] = SLOAD((const int32_t *)(const void *)column + h * FLANES);
            UNROLLED(i, INT_ROWS) {
                int32_t four;
                memcpy(&four, row[i] + u, sizeof(four));
                vs x = four - (vs){0};
                UNROLLED(h, INT_VECTORS)
                    DOT(bits, sum[i][h], x, y[h]);
            }
        }
        UNROLLED(i, INT_ROWS)
            UNROLLED(h, INT_VECTORS)
                NAME(scale_sums)(first + i, h, sum[i][h], rows, columns, value);
    }
}

#endif

static void NAME(dot_tile16)(int steps, const simd_rows *rows, const simd_columns *columns, float *value)
{
#if VECTOR_BYTES >= 32
    NAME(integer_tile)(16, steps, rows, columns, value);
#else
    for (int i = 0; i < SCREEN_ROWS; i++)
        for (int j = 0; j < SCREEN_COLS; j++) {
            const int16_t *a = rows->features[i], *b = columns->features;
            int32_t sum = 0;
            for (int u = 0; u < steps; u++)
                for (int e = 0; e < 2; e++)
                    sum += (int32_t)a[2 * u + e] * b[(u * SCREEN_COLS + j) * 2 + e];
            value[i * SCREEN_COLS + j] = -rows->step[i] * columns->step[j] * (float)sum;
        }
#endif
}

#if VECTOR_BYTES == 64
static void NAME(dot_tile8)(int steps, const simd_rows *rows, const simd_columns *columns, float *value)
{
    NAME(integer_tile)(8, steps, rows, columns, value);
}
#endif

static inline uint32_t NAME(reaching32)(vf x, vf threshold)
{
#if VECTOR_BYTES == 64
    return _mm512_cmp_ps_mask((__m512)x, (__m512)threshold, _CMP_GE_OQ);
#elif VECTOR_BYTES == 32
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)x, (__m256)threshold, _CMP_GE_OQ));
#else
    uint32_t bits = 0;
    for (int j = 0; j < FLANES; j++)
        bits |= (uint32_t)(x[j] >= threshold[j]) << j;
    return bits;
#endif
}

/* MULTIPLY_ROWS rows by `vectors` vectors, which is a constant where this is inlined. */
INLINED void NAME(multiply_block)(int vectors, int count, const float *const *a, int inner, const float *b, int stride,
                                  float *out)
{
    for (int first = 0; first < count; first += MULTIPLY_ROWS) {
        vf sum[MULTIPLY_ROWS][2];
        const float *row[MULTIPLY_ROWS], *column = b;
        UNROLLED(i, MULTIPLY_ROWS) {
            sum[i][0] = sum[i][1] = FSPLAT(0.0f);
            row[i] = a[first + i < count ? first + i : first];
        }
        for (int u = 0; u < inner; u++, column += stride) {
            vf b0 = FLOAD(column), b1 = vectors > 1 ? FLOAD(column + FLANES) : b0;
            UNROLLED(i, MULTIPLY_ROWS) {
                vf x = FSPLAT(row[i][u]);
                sum[i][0] = FMA32(x, b0, sum[i][0]);
                if (vectors > 1)
                    sum[i][1] = FMA32(x, b1, sum[i][1]);
            }
        }
        UNROLLED(i, MULTIPLY_ROWS)
            if (first + i < count) {
                float *to = out + (size_t)(first + i) * stride;
                FSTORE(to, sum[i][0]);
                if (vectors > 1)
                    FSTORE(to + FLANES, sum[i][1]);
            }
    }
}

static void NAME(multiply32)(int count, const float *const *a, int inner, const float *b, int stride, int width,
                             float *out)
{
    int j = 0;
    for (; j + 2 * FLANES <= width; j += 2 * FLANES)
        NAME(multiply_block)(2, count, a, inner, b + j, stride, out + j);
    if (j < width)
        NAME(multiply_block)(1, count, a, inner, b + j, stride, out + j);
}

static inline float NAME(sum32)(vf x)
{
#if VECTOR_BYTES == 64
    return _mm512_reduce_add_ps((__m512)x);
#else
    float total = 0.0f;
    for (int j = 0; j < FLANES; j++)
        total += x[j];
    return total;
#endif
}

static void NAME(squared_lengths)(int count, int stride, int width, const float *rows, float *lengths)
{
    for (int i = 0; i < count; i++, rows += stride) {
        vf sum = FSPLAT(0.0f);
        for (int u = 0; u < width; u += FLANES) {
            vf x = FLOAD(rows + u);
            sum = FMA32(x, x, sum);
        }
        lengths[i] = NAME(sum32)(sum);
    }
}

static void NAME(drop_short)(int count, int rank, const float *b, size_t stride, const float *P, int width, int to,
                             const float *least, uint64_t *active)
{
    const uint64_t both = ((uint64_t)1 << (2 * FLANES)) - 1;
    for (int q = 0; q < count; q += 2 * FLANES) {
        vf total0 = FSPLAT(0.0f), total1 = total0;
        if (!(active[q / 64] >> q % 64 & both))
            continue;
        for (int first = 0; first < to; first += LENGTH_ROWS) {
            vf sum[LENGTH_ROWS][2];
            const float *entry = P + first, *weights = b + q;
            UNROLLED(r, LENGTH_ROWS)
                sum[r][0] = sum[r][1] = FSPLAT(0.0f);
            for (int s = 0; s < rank; s++, entry += width, weights += stride) {
                vf b0 = FLOAD(weights), b1 = FLOAD(weights + FLANES);
                UNROLLED(r, LENGTH_ROWS) {
                    vf x = FSPLAT(entry[r]);
                    sum[r][0] = FMA32(x, b0, sum[r][0]);
                    sum[r][1] = FMA32(x, b1, sum[r][1]);
                }
            }
            UNROLLED(r, LENGTH_ROWS) {
                total0 = FMA32(sum[r][0], sum[r][0], total0);
                total1 = FMA32(sum[r][1], sum[r][1], total1);
            }
        }
        const vf up = FSPLAT(1.0001f);
        vf least0 = FLOAD(least + q), least1 = FLOAD(least + q + FLANES);
        uint64_t left = NAME(reaching32)(total0 * up, least0 * least0) |
                        (uint64_t)NAME(reaching32)(total1 * up, least1 * least1) << FLANES;
        active[q / 64] &= left << q % 64 | ~(both << q % 64);
    }
}

static inline vf NAME(root32)(vf x)
{
#if VECTOR_BYTES == 64
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif VECTOR_BYTES == 32
    return (vf)_mm256_sqrt_ps((__m256)x);
#else
    for (int i = 0; i < FLANES; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}

static void NAME(skip_lengths)(int count, const simd_skip *queries, const simd_skip_cell *cell, float *limit,
                               float *least)
{
    const vf zero = FSPLAT(0.0f), one = FSPLAT(1.0f), more = FSPLAT(1.001f);
    for (int q = 0; q < count; q += FLANES) {
        vf roundoff = FLOAD(queries->roundoff + q), tau = FLOAD(queries->tau + q);
        vf of_psi = more * FMA32(FSPLAT(cell->roundoff), roundoff, FSPLAT(cell->rounding));
        vf error = FMA32(roundoff, FSPLAT(cell->most),
                         FSPLAT(1.1f) * (of_psi + FSPLAT(cell->roundoff * cell->most + cell->dot)));
        vf length = FLOAD(queries->length + q);
        tau = (tau - error) * FSPLAT(0.99999f) / (length * FSPLAT(cell->length));
        vs low = tau < one;
        tau = (vf)(((vs)tau & low) | ((vs)one & ~low));
        vf reach = length * (FSPLAT(cell->cosine) * tau - FSPLAT(cell->sine) * NAME(root32)(one - tau * tau)) - of_psi -
                   FSPLAT(1e-4f); /* for the rounding of this line */
        vs can = (tau > FSPLAT(cell->sine)) & (reach > zero);
        reach = (vf)((vs)reach & can);
        vf away = FSPLAT(cell->roundoff) * FLOAD(queries->roundoff_sum + q);
        away = FLOAD(queries->tail + q) + more * FMA32(FSPLAT(cell->product), FLOAD(queries->size + q), away);
        away = reach - away;
        FSTORE(limit + q, reach);
        FSTORE(least + q, (vf)((vs)away & (away > zero)));
    }
}

/* How many keys are below each of `vectors` vectors of them, a constant where this is inlined. */
INLINED void NAME(count_below)(int vectors, int count, const float *keys, const float *own, int32_t *rank)
{
    vf held[4];
    vs below[4];
    UNROLLED(h, vectors) {
        held[h] = FLOAD(own + h * FLANES);
        below[h] = (vs){0};
    }
    for (int j = 0; j < count; j++) {
        vf other = FSPLAT(keys[j]);
        UNROLLED(h, vectors)
#if VECTOR_BYTES == 64
            below[h] = (vs)_mm512_mask_sub_epi32((__m512i)below[h],
                                                 _mm512_cmp_ps_mask((__m512)other, (__m512)held[h], _CMP_LT_OQ),
                                                 (__m512i)below[h], _mm512_set1_epi32(-1));
#else
            below[h] -= other < held[h];
#endif
    }
    UNROLLED(h, vectors)
        SSTORE(rank + h * FLANES, below[h]);
}

/* Ranks are counted in single precision, which keeps the order but for ties. */
static void NAME(order_pairs)(int count, const double *dist, const int *id, double *to_dist, int *to_id)
{
    float keys[ORDER_MOST + 4 * FLANES];
    int32_t rank[ORDER_MOST + 4 * FLANES];
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        keys[i] = (float)dist[i];
    for (int i = count; i < count + 4 * FLANES; i++)
        keys[i] = INFINITY;
    for (int i = 0, left; (left = count - i) > 0; i += 4 * FLANES)
        if (left > 3 * FLANES)
            NAME(count_below)(4, count, keys, keys + i, rank + i);
        else if (left > 2 * FLANES)
            NAME(count_below)(3, count, keys, keys + i, rank + i);
        else if (left > FLANES)
            NAME(count_below)(2, count, keys, keys + i, rank + i);
        else
            NAME(count_below)(1, count, keys, keys + i, rank + i);
    for (int i = 0; i < count; i++)
        total += rank[i];
    if (total != (int64_t)count * (count - 1) / 2) { /* there are ties, of which few hold more than two */
        int last[ORDER_MOST], before[ORDER_MOST];    /* of those that have the same rank */
        for (int i = 0; i < count; i++)
            last[i] = -1;
        for (int i = 0; i < count; i++) {
            before[i] = last[rank[i]];
            last[rank[i]] = i;
        }
        for (int first = 0; first < count; first++)
            for (int i = last[first]; i >= 0 && before[last[first]] >= 0; i = before[i])
                for (int j = last[first]; j >= 0; j = before[j])
                    rank[i] += dist[j] < dist[i] || (dist[j] == dist[i] && id[j] < id[i]);
    }
    for (int i = 0; i < count; i++) {
        to_dist[rank[i]] = dist[i];
        to_id[rank[i]] = id[i];
    }
}

static inline vd NAME(distance_vector)(vd r, vd p, vd q)
{
    vd one = SPLAT(1.0), rho = (vd)((vi)(r / NAME(square_root)(p * q)) & INT64_MAX);
    vi low = rho < one, there = (q > SPLAT(0.0)) & (p > SPLAT(0.0));
    rho = (vd)(((vi)rho & low) | ((vi)one & ~low));
    return NAME(square_root)(one - (vd)((vi)rho & there));
}

static void NAME(distances)(size_t count, const double *r, double p, const double *q, double *dist)
{
    size_t c = 0;
    for (; c + LANES <= count; c += LANES)
        STORE(dist + c, NAME(distance_vector)(LOAD(r + c), SPLAT(p), LOAD(q + c)));
    if (c < count) {
        int left = (int)(count - c);
        NAME(store_part)
        (dist + c, left, NAME(distance_vector)(NAME(load_part)(r + c, left), SPLAT(p), NAME(load_part)(q + c, left)));
    }
}

/* Sums are taken in several chains, so that no addition waits for the one before. */
static void NAME(box_bounds)(const radial *rad, int d, const double *low, const double *high, const double *lows,
                             const double *highs, const double *gain, int m, const float *weight, const float *reach,
                             float up, float *upper)
{
    double kernel[SIMD_WIDTH] __attribute__((aligned(64)));
    vf sum[SUM_CHAINS][SIMD_WIDTH / FLANES];
    for (int j = 0; j < SIMD_WIDTH; j += LANES) {
        vd s2 = SPLAT(0.0);
        for (int u = 0; u < d; u++) {
            vd below = LOAD(lows + u * SIMD_WIDTH + j) - SPLAT(high[u]),
               above = SPLAT(low[u]) - LOAD(highs + u * SIMD_WIDTH + j);
            below = (vd)((vi)below & (below > SPLAT(0.0))); /* at most one is above 0 */
            above = (vd)((vi)above & (above > SPLAT(0.0)));
            s2 = FMA(below + above, below + above, s2);
        }
        STORE(kernel + j, s2);
    }
    NAME(radial_values)(rad, SIMD_WIDTH, kernel, kernel);
    UNROLLED(c, SUM_CHAINS)
        UNROLLED(h, SIMD_WIDTH / FLANES)
            sum[c][h] = FSPLAT(0.0f);
    int u = 0;
    for (; u + SUM_CHAINS <= m; u += SUM_CHAINS)
        UNROLLED(c, SUM_CHAINS)
            UNROLLED(h, SIMD_WIDTH / FLANES)
                sum[c][h] = FMA32(FSPLAT(weight[u + c]), FLOAD(reach + (u + c) * SIMD_WIDTH + h * FLANES), sum[c][h]);
    for (; u < m; u++)
        for (int h = 0; h < SIMD_WIDTH / FLANES; h++)
            sum[0][h] = FMA32(FSPLAT(weight[u]), FLOAD(reach + u * SIMD_WIDTH + h * FLANES), sum[0][h]);
#pragma GCC unroll 8
    for (int c = 1; c < SUM_CHAINS; c++)
        UNROLLED(h, SIMD_WIDTH / FLANES)
            sum[0][h] += sum[c][h];
    for (int h = 0; h < SIMD_WIDTH / FLANES; h++)
        FSTORE(upper + h * FLANES, sum[0][h]);
    for (int j = 0; j < SIMD_WIDTH; j++)
        upper[j] = (upper[j] + (float)(gain[j] * kernel[j])) * up;
}

static float NAME(dot32)(int m, const float *a, const float *b)
{
    vf sum[4] = {{0}};
    int u = 0;
    for (; u + 4 * FLANES <= m; u += 4 * FLANES)
        for (int h = 0; h < 4; h++)
            sum[h] = FMA32(FLOAD(a + u + h * FLANES), FLOAD(b + u + h * FLANES), sum[h]);
    float total = NAME(sum32)((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; u < m; u++)
        total += a[u] * b[u];
    return total;
}

static void NAME(subspace_tile)(int rank, const float *const *rows, const float *row_tail, const float *limit,
                                const float *columns, const float *tail, float *value, uint32_t *mask)
{
    for (int first = 0; first < SCREEN_ROWS; first += FLOAT_ROWS) {
        vf sum[FLOAT_ROWS][INT_VECTORS];
        const float *row[FLOAT_ROWS], *column = columns;
        UNROLLED(i, FLOAT_ROWS) {
            row[i] = rows[first + i];
            UNROLLED(h, INT_VECTORS)
                sum[i][h] = FSPLAT(0.0f);
        }
        for (int u = 0; u < rank; u++, column += SCREEN_COLS) {
            vf y[INT_VECTORS];
            UNROLLED(h, INT_VECTORS)
                y[h] = FLOAD(column + h * FLANES);
            UNROLLED(i, FLOAT_ROWS) {
                vf x = FSPLAT(row[i][u]);
                UNROLLED(h, INT_VECTORS)
                    sum[i][h] = FMA32(x, y[h], sum[i][h]);
            }
        }
        UNROLLED(i, FLOAT_ROWS) {
            uint32_t reached = 0;
            UNROLLED(h, INT_VECTORS) {
                vf upper = (vf)((vs)sum[i][h] & INT32_MAX);
                upper = FMA32(FSPLAT(row_tail[first + i]), FLOAD(tail + h * FLANES), upper);
                reached |= NAME(reaching32)(upper, FSPLAT(limit[first + i])) << (h * FLANES);
                FSTORE(value + (first + i) * SCREEN_COLS + h * FLANES, sum[i][h]);
            }
            mask[first + i] = reached;
        }
    }
}

static int NAME(choose_terms)(int m, const float *weight, const float *reach, const int16_t *row_rank,
                              const int16_t *column_rank, float least, int *row_at, int *column_at, float *left)
{
    vf others = FSPLAT(0.0f);
    float rest = 0.0f;
    int count = 0, u = 0;
#if VECTOR_BYTES == 64
    for (; u < m; u += FLANES) {
        __mmask16 there = (__mmask16)(m - u < FLANES ? (1 << (m - u)) - 1 : 0xffff);
        __m512 product =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(there, weight + u), _mm512_maskz_loadu_ps(there, reach + u));
        __m512i row = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(there, row_rank + u)),
                column = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(there, column_rank + u));
        __mmask16 kept = (__mmask16)(there & _mm512_cmp_ps_mask(product, _mm512_set1_ps(least), _CMP_GE_OQ) &
                                     ~_mm512_movepi32_mask(_mm512_or_si512(row, column)));
        others = (vf)_mm512_mask_add_ps((__m512)others, (__mmask16)~kept, (__m512)others, product);
        _mm512_storeu_si512(row_at + count, _mm512_maskz_compress_epi32(kept, _mm512_slli_epi32(row, SCREEN_SHIFT)));
        _mm512_storeu_si512(column_at + count,
                            _mm512_maskz_compress_epi32(kept, _mm512_slli_epi32(column, SCREEN_SHIFT)));
        count += __builtin_popcount(kept);
    }
#else
    for (; u + FLANES <= m; u += FLANES) {
        vf product = FLOAD(weight + u) * FLOAD(reach + u);
        vs large = product >= FSPLAT(least);
        others += (vf)((vs)product & ~large);
        for (uint32_t left_over = NAME(reaching32)(product, FSPLAT(least)); left_over; left_over &= left_over - 1) {
            int at = u + __builtin_ctz(left_over);
            row_at[count] = row_rank[at] * SCREEN_COLS;
            column_at[count] = column_rank[at] * SCREEN_COLS;
            if (row_rank[at] >= 0 && column_rank[at] >= 0)
                count++;
            else
                rest += weight[at] * reach[at];
        }
    }
    for (; u < m; u++) {
        float product = weight[u] * reach[u];
        row_at[count] = row_rank[u] * SCREEN_COLS;
        column_at[count] = column_rank[u] * SCREEN_COLS;
        if (product >= least && row_rank[u] >= 0 && column_rank[u] >= 0)
            count++;
        else
            rest += product;
    }
#endif
    *left = NAME(sum32)(others) + rest;
    return count;
}

/* `count` rows, at most FLOAT_ROWS, from `first` on: a constant where this is inlined. */
INLINED void NAME(expansion_rows)(const radial_pieces *pieces, int count, int first, int d, int terms,
                                  const int *row_at, const int *column_at, const simd_rows *rows,
                                  const simd_columns *columns, float *value, uint32_t *mask)
{
    const float *features = columns->features, *row[FLOAT_ROWS];
    vf sum[FLOAT_ROWS][INT_VECTORS];
    UNROLLED(i, count) {
        row[i] = rows->features[first + i];
        UNROLLED(h, INT_VECTORS)
            sum[i][h] = FSPLAT(0.0f);
    }
    for (int u = 0; u < d; u++) {
        vf y[INT_VECTORS];
        UNROLLED(h, INT_VECTORS)
            y[h] = FLOAD(columns->x + u * SCREEN_COLS + h * FLANES);
        UNROLLED(i, count) {
            vf x = FSPLAT(rows->x[first + i][u]);
            UNROLLED(h, INT_VECTORS)
                sum[i][h] = FMA32(x - y[h], x - y[h], sum[i][h]);
        }
    }
    UNROLLED(i, count)
        UNROLLED(h, INT_VECTORS)
            sum[i][h] = FSPLAT(rows->gain[first + i]) * FLOAD(columns->gain + h * FLANES) *
                        NAME(radial_piece)(pieces, sum[i][h]);
    for (int t = 0; t < terms; t++) {
        const float *column = features + column_at[t];
        int at = row_at[t];
        vf y[INT_VECTORS];
        UNROLLED(h, INT_VECTORS)
            y[h] = FLOAD(column + h * FLANES);
        UNROLLED(i, count) {
            vf x = FSPLAT(row[i][at]);
            UNROLLED(h, INT_VECTORS)
                sum[i][h] -= x * y[h];
        }
    }
    UNROLLED(i, count) {
        uint32_t reached = 0;
        UNROLLED(h, INT_VECTORS) {
            vf size = (vf)((vs)sum[i][h] & INT32_MAX);
            reached |= NAME(reaching32)(size, FSPLAT(rows->tau[first + i])) << (h * FLANES);
            FSTORE(value + (first + i) * SCREEN_COLS + h * FLANES, sum[i][h]);
        }
        mask[first + i] = reached;
    }
}

#define FEW_ROWS (FLOAT_ROWS > 4 ? 4 : FLOAT_ROWS)

static void NAME(expansion_tile)(const radial_pieces *pieces, int count, int d, int terms, const int *row_at,
                                 const int *column_at, const simd_rows *rows, const simd_columns *columns, float *value,
                                 uint32_t *mask)
{
    const radial_pieces kept = *pieces;
    for (int first = 0; first < count; first += FLOAT_ROWS) {
        if (count - first > FEW_ROWS) {
            NAME(expansion_rows)
            (&kept, FLOAT_ROWS, first, d, terms, row_at, column_at, rows, columns, value, mask);
        } else {
            NAME(expansion_rows)
            (&kept, FEW_ROWS, first, d, terms, row_at, column_at, rows, columns, value, mask);
        }
    }
}

static float NAME(span_length)(int rank, const float *inverse, const float *value)
{
    vf sum[INT_VECTORS], most;
    UNROLLED(h, INT_VECTORS)
        sum[h] = FSPLAT(0.0f);
    for (int i = 0; i < rank; i++) {
        vf psi[INT_VECTORS];
        UNROLLED(h, INT_VECTORS)
            psi[h] = FSPLAT(0.0f);
        for (int u = 0; u <= i; u++) {
            vf x = FSPLAT(inverse[i * SCREEN_ROWS + u]);
            UNROLLED(h, INT_VECTORS)
                psi[h] = FMA32(x, FLOAD(value + u * SCREEN_COLS + h * FLANES), psi[h]);
        }
        UNROLLED(h, INT_VECTORS)
            sum[h] = FMA32(psi[h], psi[h], sum[h]);
    }
    most = sum[0];
#pragma GCC unroll 8
    for (int h = 1; h < INT_VECTORS; h++) {
        vs more = sum[h] > most;
        most = (vf)(((vs)sum[h] & more) | ((vs)most & ~more));
    }
#if VECTOR_BYTES == 64
    return _mm512_reduce_max_ps((__m512)most);
#else
    float largest = most[0];
    for (int l = 1; l < FLANES; l++)
        largest = most[l] > largest ? most[l] : largest;
    return largest;
#endif
}

static float NAME(bundle_limits)(simd_bundle *g)
{
    float smallest = INFINITY;
    for (int j = 0; j < SCREEN_COLS; j += FLANES) {
        const vf one = FSPLAT(1.0f), none = FSPLAT(-1.0f);
        vf need = FLOAD(g->tau + j) - FLOAD(g->roundoff + j);
        vs some = need > FSPLAT(0.0f), low = need < one;
        vf least = need * FLOAD(g->inverse + j);
        vf cosine = (vf)(((vs)need & low) | ((vs)one & ~low));
        vf must =
            FLOAD(g->cosine + j) * cosine - FLOAD(g->sine + j) * NAME(root32)(one - cosine * cosine) - FSPLAT(1e-6f);
        least = (vf)(((vs)least & some) | ((vs)none & ~some));
        FSTORE(g->least + j, least);
        FSTORE(g->must + j, (vf)(((vs)must & some) | ((vs)none & ~some)));
        for (int l = 0; l < FLANES; l++)
            smallest = least[l] < smallest ? least[l] : smallest;
    }
    return smallest;
}

static uint32_t NAME(within)(const float *values, float most)
{
    uint32_t bits = 0;
    UNROLLED(h, INT_VECTORS)
        bits |= NAME(reaching32)(FSPLAT(most), FLOAD(values + h * FLANES)) << (h * FLANES);
    return bits;
}

static void NAME(interval_tile)(const radial_pieces *pieces, int count, int d, const simd_rows *rows,
                                const simd_columns *columns, simd_intervals *out)
{
    const radial_pieces kept = *pieces;
    uint32_t reached = 0;
    for (int i = 0; i < count; i++) {
        uint32_t mask = 0, column_mask = 0;
        const float *x = rows->x[i];
        float slope = rows->error[i] + rows->gain[i] * columns->slack, base = rows->gain[i] * columns->slack_floor,
              limit = rows->tau[i] - base;
        out->slope[i] = slope;
        out->base[i] = base;
        for (int j = 0; j < SCREEN_COLS; j += 2 * FLANES) {
            vf s0 = FSPLAT(0.0f), s1 = s0;
            float *to = out->value + i * SCREEN_COLS + j;
            for (int u = 0; u < d; u++) {
                vf own = FSPLAT(x[u]);
                vf diff0 = own - FLOAD(columns->x + u * SCREEN_COLS + j),
                   diff1 = own - FLOAD(columns->x + u * SCREEN_COLS + j + FLANES);
                s0 = FMA32(diff0, diff0, s0);
                s1 = FMA32(diff1, diff1, s1);
            }
            vf gain = FSPLAT(rows->gain[i]);
            vf k0 = gain * FLOAD(columns->gain + j) * NAME(radial_piece)(&kept, s0);
            vf k1 = gain * FLOAD(columns->gain + j + FLANES) * NAME(radial_piece)(&kept, s1);
            FSTORE(out->kernel + i * SCREEN_COLS + j, k0);
            FSTORE(out->kernel + i * SCREEN_COLS + j + FLANES, k1);
            vf v0 = k0 + FLOAD(to), v1 = k1 + FLOAD(to + FLANES);
            FSTORE(to, v0);
            FSTORE(to + FLANES, v1);
            v0 = (vf)((vs)v0 & INT32_MAX);
            v1 = (vf)((vs)v1 & INT32_MAX);
            v0 = FMA32(FSPLAT(slope), FLOAD(columns->norm + j), v0);
            v1 = FMA32(FSPLAT(slope), FLOAD(columns->norm + j + FLANES), v1);
            v0 = FMA32(FSPLAT(rows->norm[i]), FLOAD(columns->error + j), v0);
            v1 = FMA32(FSPLAT(rows->norm[i]), FLOAD(columns->error + j + FLANES), v1);
            mask |= NAME(reaching32)(v0, FSPLAT(limit)) << j;
            mask |= NAME(reaching32)(v1, FSPLAT(limit)) << (j + FLANES);
            if (columns->tau) {
                vf t0 = FLOAD(columns->tau + j), t1 = FLOAD(columns->tau + j + FLANES);
                column_mask |= NAME(reaching32)(v0 + FSPLAT(base), t0) << j;
                column_mask |= NAME(reaching32)(v1 + FSPLAT(base), t1) << (j + FLANES);
            }
        }
        out->mask[i] = mask;
        out->column_mask[i] = column_mask;
        reached |= (uint32_t)((mask | column_mask) != 0) << i;
    }
    out->rows = reached;
}

#if VECTOR_BYTES == 64
static void NAME(refine_row)(int i, const simd_rows *rows, const simd_columns *columns, simd_intervals *out)
{
    int width = columns->fine_width;
    const int16_t *row = rows->fine[i];
    float slope = rows->fine_error[i] + rows->gain[i] * columns->slack, base = out->base[i];
    uint32_t left = out->mask[i] | out->column_mask[i], mask = 0, column_mask = 0;
    for (; left; left &= left - 1) {
        int j = __builtin_ctz(left);
        const int16_t *column = columns->fine + (size_t)j * width;
        __m512i sum = _mm512_setzero_si512();
        for (int u = 0; u < width; u += 32)
            DOT(16, sum, _mm512_loadu_si512(row + u), _mm512_loadu_si512(column + u));
        float value = out->kernel[i * SCREEN_COLS + j] -
                      rows->fine_step[i] * columns->fine_step[j] * (float)_mm512_reduce_add_epi32(sum);
        float upper = __builtin_fabsf(value) + slope * columns->norm[j] + rows->norm[i] * columns->fine_error[j];
        out->value[i * SCREEN_COLS + j] = value;
        mask |= (uint32_t)(upper >= rows->tau[i] - base) << j;
        if (columns->tau)
            column_mask |= (uint32_t)(upper + base >= columns->tau[j]) << j;
    }
    out->slope[i] = slope;
    out->mask[i] = mask;
    out->column_mask[i] = column_mask;
}
#endif

/* The members of a mask are written one after the other; whole vectors may be overwritten behind them. */
static int NAME(append_intervals)(uint32_t mask, const int *ids, int limit, int self, const simd_interval_row *row,
                                  int *id, float *low, float *high)
{
    int count = 0;
    for (int j = 0; j < SCREEN_COLS; j += FLANES) {
        vf error = FSPLAT(row->base), size = (vf)((vs)FLOAD(row->value + j) & INT32_MAX);
        error = FMA32(FSPLAT(row->slope), FLOAD(row->norm + j), error);
        error = FMA32(FSPLAT(row->row_norm), FLOAD(row->error + j), error);
        vf from = size - error, to = size + error;
        from = (vf)((vs)from & (from > FSPLAT(0.0f)));
#if VECTOR_BYTES == 64
        __m512i here = _mm512_loadu_si512(ids + j);
        uint32_t members = mask >> j & 0xffff;
        members &= _mm512_cmplt_epi32_mask(here, _mm512_set1_epi32(limit)) &
                   _mm512_cmpge_epi32_mask(here, _mm512_setzero_si512()) &
                   _mm512_cmpneq_epi32_mask(here, _mm512_set1_epi32(self));
        _mm512_storeu_si512(id + count, _mm512_maskz_compress_epi32((__mmask16)members, here));
        _mm512_storeu_ps(low + count, _mm512_maskz_compress_ps((__mmask16)members, (__m512)from));
        _mm512_storeu_ps(high + count, _mm512_maskz_compress_ps((__mmask16)members, (__m512)to));
        count += __builtin_popcount(members);
#else
        for (int l = 0; l < FLANES; l++) {
            int here = ids[j + l];
            id[count] = here;
            low[count] = from[l];
            high[count] = to[l];
            count += (mask >> (j + l) & 1) && here >= 0 && here < limit && here != self;
        }
#endif
    }
    return count;
}

static int NAME(drop_intervals)(int count, float threshold, int *id, float *low, float *high)
{
    int left = 0, i = 0;
#if VECTOR_BYTES == 64
    for (; i + FLANES <= count; i += FLANES) {
        __m512i here = _mm512_loadu_si512(id + i);
        __m512 from = _mm512_loadu_ps(low + i), to = _mm512_loadu_ps(high + i);
        __mmask16 live = _mm512_cmp_ps_mask(to, _mm512_set1_ps(threshold), _CMP_GE_OQ);
        _mm512_storeu_si512(id + left, _mm512_maskz_compress_epi32(live, here));
        _mm512_storeu_ps(low + left, _mm512_maskz_compress_ps(live, from));
        _mm512_storeu_ps(high + left, _mm512_maskz_compress_ps(live, to));
        left += __builtin_popcount(live);
    }
#endif
    for (; i < count; i++) {
        float from = low[i], to = high[i];
        id[left] = id[i];
        low[left] = from;
        high[left] = to;
        left += to >= threshold;
    }
    return left;
}

/* Quarters in place of halves, and no branches: what a step waits for is its predecessor. */
static float NAME(reached_by)(const float *values, int count, int k, float low)
{
    float quarter = 0.25f * (1.0f - low);
    for (int step = 0; step < 4; step++, quarter *= 0.25f) {
        int reached[3] = {0};
        for (int i = 0; i < count; i += FLANES) {
            vf value = FLOAD(values + i);
            UNROLLED(j, 3)
                reached[j] += __builtin_popcount(NAME(reaching32)(value, FSPLAT(low + (float)(j + 1) * quarter)));
        }
        low += quarter * (float)((reached[0] >= k) + (reached[1] >= k) + (reached[2] >= k));
    }
    return low;
}

#define NEARLY (1.0 - 0x1p-12) /* scores err by 2^-14, of two that are compared */
#define TINY 1e-200            /* reciprocals of less may not be finite */

static inline vd NAME(gather)(const double *values, const int *at)
{
#if VECTOR_BYTES == 64
    return (vd)_mm512_i32gather_pd(_mm256_loadu_si256((const __m256i *)at), values, 8);
#else
    vd out;
    for (int l = 0; l < LANES; l++)
        out[l] = values[at[l]];
    return out;
#endif
}

static inline vd NAME(quotient)(vd a, vd b)
{
#if VECTOR_BYTES == 64
    if (!_mm512_cmp_pd_mask((__m512d)b, _mm512_set1_pd(TINY), _CMP_NGE_UQ))
        return a * (vd)_mm512_rcp14_pd((__m512d)b);
#endif
    return a / b;
}

/* The first half of a step for a constant number of vectors of candidates, up to 4, from `first` on. */
INLINED vd NAME(select_some)(int vectors, int first, int done, const double *factor, size_t stride,
                             const double *weight, double scale, double pull, const double *least,
                             const double *covariance, const int *place, double *row, double *c, double *left,
                             double *score, vd best)
{
    vd sum[4];
    UNROLLED(i, vectors)
        sum[i] = NAME(gather)(covariance, place + first + i * LANES);
    const double *from = factor + first;
    for (int u = 0; u < done; u++, from += stride) {
        vd minus = SPLAT(-weight[u]);
        UNROLLED(i, vectors)
            sum[i] = FMA(minus, LOAD(from + i * LANES), sum[i]);
    }
    UNROLLED(i, vectors) {
        int at = first + i * LANES;
        vd value = sum[i] * SPLAT(scale), rest = FMA(-value, value, LOAD(left + at)),
           cross = FMA(SPLAT(-pull), value, LOAD(c + at));
        STORE(row + at, value);
        STORE(left + at, rest);
        STORE(c + at, cross);
        vi there = rest > LOAD(least + at);
        vd some = (vd)(((vi)rest & there) | ((vi)SPLAT(1.0) & ~there)), worth = NAME(quotient)(cross * cross, some);
        worth = (vd)(((vi)worth & there) | ((vi)SPLAT(-1.0) & ~there));
        STORE(score + at, worth);
        vi more = worth > best;
        best = (vd)(((vi)worth & more) | ((vi)best & ~more));
    }
    return best;
}

static int NAME(select_step)(int count, int done, const double *factor, size_t stride, const double *weight,
                             double scale, double pull, const double *least, const double *covariance, const int *place,
                             double *row, double *c, double *left, double *score, int *near)
{
#define SOME(vectors)                                                                                                  \
    best = NAME(select_some)(vectors, first, done, factor, stride, weight, scale, pull, least, covariance, place, row, \
                             c, left, score, best)
    vd best = SPLAT(-1.0);
    int first = 0;
    for (; first + 4 * LANES <= count; first += 4 * LANES)
        SOME(4);
    switch ((count - first) / LANES) {
    case 3:
        SOME(3);
        break;
    case 2:
        SOME(2);
        break;
    case 1:
        SOME(1);
    }
#undef SOME
    double most = best[0];
    for (int l = 1; l < LANES; l++)
        most = best[l] > most ? best[l] : most;
    int found = 0;
    most *= NEARLY;
    for (int j = 0; j < count && most >= 0.0; j += LANES)
        for (uint32_t some = NAME(reaching)(LOAD(score + j), SPLAT(most)); some; some &= some - 1)
            near[found++] = j + __builtin_ctz(some);
    return found;
}

#include "simd/simd_lanes.h"

static const simd_table NAME(table) = {
    .name = NAME_TEXT(ISA),
    .rows = TILE_ROWS,
    .cols = COLS,
    .radial_values = NAME(radial_values),
    .pack_rows = NAME(pack_rows),
    .dot_tile = NAME(dot_tile),
    .distance_tile = NAME(distance_tile),
    .nearest_rows = NAME(nearest_rows),
    .largest = NAME(largest),
    .panel_norms = NAME(panel_norms),
    .residual_tile = NAME(residual_tile),
    .residual_rows = NAME(residual_rows),
    .correlations = NAME(correlations),
    .at_least = NAME(at_least),
    .multiply32 = NAME(multiply32),
    .squared_lengths = NAME(squared_lengths),
    .drop_short = NAME(drop_short),
    .skip_lengths = NAME(skip_lengths),
    .order_pairs = NAME(order_pairs),
    .distances = NAME(distances),
    .box_bounds = NAME(box_bounds),
    .dot32 = NAME(dot32),
    .subspace_tile = NAME(subspace_tile),
    .choose_terms = NAME(choose_terms),
    .expansion_tile = NAME(expansion_tile),
    .span_length = NAME(span_length),
    .bundle_limits = NAME(bundle_limits),
    .within = NAME(within),
    .dot_list = NAME(dot_list),
    .solve_corner = NAME(solve_corner),
    .add_multiple = NAME(add_multiple),
    .round_integers = NAME(round_integers),
    .sizes = NAME(sizes),
    .distance_list = NAME(distance_list),
    .mix = NAME(mix),
#if VECTOR_BYTES == 64
    .dot_tile8 = NAME(dot_tile8),
    .refine_row = NAME(refine_row),
#endif
    .dot_tile16 = NAME(dot_tile16),
    .interval_tile = NAME(interval_tile),
    .append_intervals = NAME(append_intervals),
    .drop_intervals = NAME(drop_intervals),
    .reached_by = NAME(reached_by),
    .select_step = NAME(select_step),
    .lanes = LANES,
    .gram_rows = NAME(gram_rows),
    .combine_rows = NAME(combine_rows),
    .spread_rows = NAME(spread_rows),
    .dot_rows = NAME(dot_rows),
    .contrast_rows = NAME(contrast_rows),
    .strided_tile = NAME(strided_tile),
    .radial_slopes = NAME(radial_slopes),
    .lane_distances = NAME(lane_distances),
    .lane_axis = NAME(lane_axis),
    .lane_factor = NAME(lane_factor),
    .lane_solve = NAME(lane_solve),
    .lane_solve_back = NAME(lane_solve_back),
    .lane_multiply = NAME(lane_multiply),
};

#undef FMA
#undef FMA32
#undef DOT
#undef ISA
#undef VECTOR_BYTES
#undef TILE_ROWS
