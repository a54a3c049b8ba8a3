/* Vector kernels of many small systems, included by simd_body.h: one system in each lane, and rows that
 * are read where they stand. A lower triangle of order `size` is packed by rows: entry (p, q), q <= p, is
 * vector TRIANGLE(p) + q. Contracts are in simd.h. */

#define TRIANGLE(p) ((size_t)(p) * ((size_t)(p) + 1) / 2)
#define AT(base, index) ((base) + (size_t)(index)*LANES)

static inline double NAME(sum_lanes)(vd x)
{
#if VECTOR_BYTES == 64
    return _mm512_reduce_add_pd((__m512d)x);
#elif VECTOR_BYTES == 32
    __m128d pair = _mm_add_pd(_mm256_castpd256_pd128((__m256d)x), _mm256_extractf128_pd((__m256d)x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
#else
    return x[0] + x[1];
#endif
}

/* The sums of LANES vectors, a lane each. */
static inline vd NAME(sum_vectors)(const vd *x)
{
#if VECTOR_BYTES == 64
    __m512d pair[4], four[2];
    for (int h = 0; h < 4; h++) {
        __m512d low = (__m512d)x[2 * h], high = (__m512d)x[2 * h + 1];
        pair[h] = _mm512_add_pd(_mm512_unpacklo_pd(low, high), _mm512_unpackhi_pd(low, high));
    }
    for (int h = 0; h < 2; h++) {
        __m512d low = pair[2 * h], high = pair[2 * h + 1];
        four[h] = _mm512_add_pd(_mm512_shuffle_f64x2(low, high, 0x88), _mm512_shuffle_f64x2(low, high, 0xdd));
    }
    return (vd)_mm512_add_pd(_mm512_shuffle_f64x2(four[0], four[1], 0x88),
                             _mm512_shuffle_f64x2(four[0], four[1], 0xdd));
#elif VECTOR_BYTES == 32
    __m256d low = _mm256_hadd_pd((__m256d)x[0], (__m256d)x[1]);
    __m256d high = _mm256_hadd_pd((__m256d)x[2], (__m256d)x[3]);
    return (vd)_mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x20), _mm256_permute2f128_pd(low, high, 0x31));
#else
    return (vd){x[0][0] + x[0][1], x[1][0] + x[1][1]};
#endif
}

/* As many rows by as many columns as leave registers for the sums, and for AVX-512 as divide most sizes. */
#define GRAM (VECTOR_BYTES == 64 ? 4 : 3)
#define GRAM_SUMS ((GRAM * GRAM + LANES - 1) / LANES * LANES)

static void NAME(gram_rows)(int m, int count, const double *const *rows, double *out)
{
    for (int p = 0; p < count; p += GRAM)
        for (int q = 0; q <= p; q += GRAM) {
            const double *a[GRAM], *b[GRAM];
            vd sum[GRAM_SUMS];
            double total[GRAM_SUMS];
            int u = 0;
            UNROLLED(e, GRAM_SUMS)
                sum[e] = SPLAT(0.0);
            UNROLLED(i, GRAM) {
                a[i] = rows[p + i < count ? p + i : p];
                b[i] = rows[q + i < count ? q + i : q];
            }
            for (; u + LANES <= m; u += LANES) {
                vd right[GRAM];
                UNROLLED(j, GRAM)
                    right[j] = LOAD(b[j] + u);
                UNROLLED(i, GRAM) {
                    vd left = LOAD(a[i] + u);
                    UNROLLED(j, GRAM)
                        sum[i * GRAM + j] = FMA(left, right[j], sum[i * GRAM + j]);
                }
            }
            if (u < m) {
                UNROLLED(i, GRAM) {
                    vd left = NAME(load_part)(a[i] + u, m - u);
                    UNROLLED(j, GRAM)
                        sum[i * GRAM + j] = FMA(left, NAME(load_part)(b[j] + u, m - u), sum[i * GRAM + j]);
                }
            }
#pragma GCC unroll 16
            for (int e = 0; e < GRAM_SUMS; e += LANES)
                STORE(total + e, NAME(sum_vectors)(sum + e));
            for (int i = 0; i < GRAM && p + i < count; i++)
                for (int j = 0; j < GRAM && q + j <= p + i; j++)
                    out[TRIANGLE(p + i) + q + j] = total[i * GRAM + j];
        }
}

static inline vd NAME(load_some)(const double *p, int count)
{
    return count == LANES ? LOAD(p) : NAME(load_part)(p, count);
}

static inline void NAME(store_some)(double *p, int count, vd x)
{
    if (count == LANES)
        STORE(p, x);
    else
        NAME(store_part)(p, count, x);
}

/* `vectors` of `sums` sums at once. */
INLINED void NAME(combine_some)(int vectors, int sums, int count, const double *const *weight,
                                const double *const *rows, int u, double *const *out)
{
    vd sum[8];
    UNROLLED(h, sums * vectors)
        sum[h] = SPLAT(0.0);
    for (int j = 0; j < count; j++) {
        const double *row = rows[j] + u;
        vd value[8];
        UNROLLED(h, vectors)
            value[h] = LOAD(row + h * LANES);
        UNROLLED(s, sums) {
            vd by = SPLAT(weight[s][j]);
            UNROLLED(h, vectors)
                sum[s * vectors + h] = FMA(by, value[h], sum[s * vectors + h]);
        }
    }
    UNROLLED(s, sums)
        UNROLLED(h, vectors)
            STORE(out[s] + u + h * LANES, sum[s * vectors + h]);
}

static void NAME(combine_rows)(int m, int count, int sums, const double *const *weight, const double *const *rows,
                               double *const *out)
{
    for (int s = 0; s < sums;) {
        int some = sums - s < 4 ? sums - s : 4, u = 0;
        const double *const *w = weight + s;
        double *const *to = out + s;
        if (some == 1)
            for (; u + 8 * LANES <= m; u += 8 * LANES)
                NAME(combine_some)(8, 1, count, w, rows, u, to);
        for (; u + 2 * LANES <= m; u += 2 * LANES)
            switch (some) {
            case 1:
                NAME(combine_some)(2, 1, count, w, rows, u, to);
                break;
            case 2:
                NAME(combine_some)(2, 2, count, w, rows, u, to);
                break;
            case 3:
                NAME(combine_some)(2, 3, count, w, rows, u, to);
                break;
            default:
                NAME(combine_some)(2, 4, count, w, rows, u, to);
            }
        for (; u < m; u += LANES) {
            int part = m - u < LANES ? m - u : LANES;
            for (int a = 0; a < some; a++) {
                vd sum = SPLAT(0.0);
                for (int j = 0; j < count; j++)
                    sum = FMA(SPLAT(w[a][j]), NAME(load_some)(rows[j] + u, part), sum);
                NAME(store_some)(to[a] + u, part, sum);
            }
        }
        s += some;
    }
}

/* Two vectors of each of `sets` sets at once: what is added stays in registers. `u` is where these begin in a row. */
INLINED void NAME(spread_some)(int sets, int stride, int count, const double *a, const double *x,
                               const double *const *b, const double *y, size_t u, double *const *rows)
{
    vd from[8], y0 = LOAD(y), y1 = LOAD(y + LANES);
    UNROLLED(s, sets) {
        from[2 * s] = LOAD(x + s * stride);
        from[2 * s + 1] = LOAD(x + s * stride + LANES);
    }
    for (int j = 0; j < count; j++) {
        vd by_a = SPLAT(a[j]);
        double *row = rows[j] + u;
#pragma GCC unroll 4
        for (int s = 0; s < sets; s++, row += stride) {
            vd by_b = SPLAT(b[s][j]);
            STORE(row, FMA(by_a, from[2 * s], FMA(by_b, y0, LOAD(row))));
            STORE(row + LANES, FMA(by_a, from[2 * s + 1], FMA(by_b, y1, LOAD(row + LANES))));
        }
    }
}

static void NAME(spread_rows)(int m, int sets, int stride, int count, const double *a, const double *x,
                              const double *const *b, const double *y, double *const *rows)
{
    for (int s = 0; s < sets; s += 4, b += 4) {
        int some = sets - s < 4 ? sets - s : 4, u = 0;
        size_t first = (size_t)s * stride;
        const double *from = x + first;
        for (; u + 2 * LANES <= m; u += 2 * LANES)
            switch (some) {
            case 1:
                NAME(spread_some)(1, stride, count, a, from + u, b, y + u, first + u, rows);
                break;
            case 2:
                NAME(spread_some)(2, stride, count, a, from + u, b, y + u, first + u, rows);
                break;
            case 3:
                NAME(spread_some)(3, stride, count, a, from + u, b, y + u, first + u, rows);
                break;
            default:
                NAME(spread_some)(4, stride, count, a, from + u, b, y + u, first + u, rows);
            }
        for (; u < m; u += LANES) {
            int part = m - u < LANES ? m - u : LANES;
            vd other = NAME(load_some)(y + u, part);
            for (int c = 0; c < some; c++) {
                vd own = NAME(load_some)(from + c * stride + u, part);
                for (int j = 0; j < count; j++) {
                    double *row = rows[j] + first + c * stride + u;
                    vd sum = FMA(SPLAT(b[c][j]), other, NAME(load_some)(row, part));
                    NAME(store_some)(row, part, FMA(SPLAT(a[j]), own, sum));
                }
            }
        }
    }
}

/* Four rows at a time, two chains for each. */
static void NAME(dot_few)(int m, const double *q, int count, const double *const *rows, double *out)
{
    for (int c = 0; c < count; c += 4) {
        const double *p[4];
        vd sum[4][2];
        int u = 0;
        UNROLLED(j, 4) {
            p[j] = rows[c + j < count ? c + j : c];
            sum[j][0] = sum[j][1] = SPLAT(0.0);
        }
        for (; u + COLS <= m; u += COLS) {
            vd x0 = LOAD(q + u), x1 = LOAD(q + u + LANES);
            UNROLLED(j, 4) {
                sum[j][0] = FMA(x0, LOAD(p[j] + u), sum[j][0]);
                sum[j][1] = FMA(x1, LOAD(p[j] + u + LANES), sum[j][1]);
            }
        }
        for (int h = 0; h < 2; h++, u += LANES)
            if (u < m) {
                int part = m - u < LANES ? m - u : LANES;
                vd x = NAME(load_part)(q + u, part);
                UNROLLED(j, 4)
                    sum[j][h] = FMA(x, NAME(load_part)(p[j] + u, part), sum[j][h]);
            }
        for (int j = 0; j < 4 && c + j < count; j++)
            out[c + j] = NAME(sum_lanes)(sum[j][0] + sum[j][1]);
    }
}

static void NAME(dot_rows)(int m, const double *q, int count, const double *const *rows, double *out)
{
    int c = 0;
#if VECTOR_BYTES == 64
    for (; c + LANES <= count; c += LANES) {
        const double *p[LANES];
        vd sum[LANES];
        int u = 0;
        UNROLLED(j, LANES) {
            p[j] = rows[c + j];
            sum[j] = SPLAT(0.0);
        }
        for (; u + LANES <= m; u += LANES) {
            vd x = LOAD(q + u);
            UNROLLED(j, LANES)
                sum[j] = FMA(x, LOAD(p[j] + u), sum[j]);
        }
        if (u < m) {
            vd x = NAME(load_part)(q + u, m - u);
            UNROLLED(j, LANES)
                sum[j] = FMA(x, NAME(load_part)(p[j] + u, m - u), sum[j]);
        }
        STORE(out + c, NAME(sum_vectors)(sum));
    }
#endif
    NAME(dot_few)(m, q, count - c, rows + c, out + c);
}

static void NAME(nearest_rows)(int d, int count, const double *a, const double *b, int *which)
{
    vd least0 = SPLAT((double)INFINITY), least1 = least0; /* as all squares may be: then the first is as near as any */
    vi which0 = {0}, which1 = {0};
    for (int i = 0; i < count; i++, a += d) {
        vd sum0 = SPLAT(0.0), sum1 = sum0;
        for (int u = 0; u < d; u++) {
            vd diff0 = SPLAT(a[u]) - LOAD(b + u * COLS), diff1 = SPLAT(a[u]) - LOAD(b + u * COLS + LANES);
            sum0 = FMA(diff0, diff0, sum0);
            sum1 = FMA(diff1, diff1, sum1);
        }
        vi less0 = sum0 < least0, less1 = sum1 < least1, at = (vi){0} + i;
        least0 = (vd)(((vi)sum0 & less0) | ((vi)least0 & ~less0));
        least1 = (vd)(((vi)sum1 & less1) | ((vi)least1 & ~less1));
        which0 = (at & less0) | (which0 & ~less0);
        which1 = (at & less1) | (which1 & ~less1);
    }
    for (int j = 0; j < LANES; j++) {
        which[j] = (int)which0[j];
        which[LANES + j] = (int)which1[j];
    }
}

/* `vectors` of the features from u on, of which the last has `part`. */
INLINED void NAME(contrast_some)(int vectors, int u, int part, int count, const double *weight,
                                 const double *const *rows, const double *const *changes, double *w, double *dw,
                                 double *sums)
{
#define FEATURE(base, h) (part == LANES ? LOAD((base) + u + (h)*LANES) : NAME(load_part)((base) + u + (h)*LANES, part))
    vd own[4], change[4];
    UNROLLED(h, vectors)
        own[h] = change[h] = SPLAT(0.0);
    for (int p = 0; p < count; p++) {
        vd by = SPLAT(weight[p]);
        const double *row = rows[p], *moved = changes[p];
        UNROLLED(h, vectors) {
            own[h] = FMA(by, FEATURE(row, h), own[h]);
            change[h] = FMA(by, FEATURE(moved, h), change[h]);
        }
    }
    UNROLLED(h, vectors) {
        NAME(store_part)(w + u + h * LANES, part, own[h]);
        NAME(store_part)(dw + u + h * LANES, part, change[h]);
    }
    for (int p = 0; p < count; p++) {
        const double *row = rows[p], *moved = changes[p];
        vd sum = LOAD(AT(sums, p)), other = SPLAT(0.0);
        UNROLLED(h, vectors) {
            sum = FMA(change[h], FEATURE(row, h), sum);
            other = FMA(own[h], FEATURE(moved, h), other);
        }
        STORE(AT(sums, p), sum + other);
    }
#undef FEATURE
}

static void NAME(contrast_rows)(int m, int count, const double *weight, const double *const *rows,
                                const double *const *changes, double *w, double *dw, double *sums, double *out)
{
    int u = 0, padded = (count + LANES - 1) / LANES * LANES;
    memset(sums, 0, (size_t)padded * LANES * sizeof(double));
    for (; u + 4 * LANES <= m; u += 4 * LANES)
        NAME(contrast_some)(4, u, LANES, count, weight, rows, changes, w, dw, sums);
    for (; u + LANES <= m; u += LANES)
        NAME(contrast_some)(1, u, LANES, count, weight, rows, changes, w, dw, sums);
    if (u < m)
        NAME(contrast_some)(1, u, m - u, count, weight, rows, changes, w, dw, sums);
    for (int p = 0; p < count; p += LANES) {
        vd sum[LANES];
        for (int j = 0; j < LANES; j++)
            sum[j] = LOAD(AT(sums, p + j));
        vd total = NAME(sum_vectors)(sum);
        if (p + LANES <= count)
            STORE(out + p, total);
        else
            NAME(store_part)(out + p, count - p, total);
    }
}

static void NAME(strided_tile)(size_t steps, const double *a, size_t a_row, size_t a_step, const double *b,
                               size_t b_step, double *c)
{
    if (a_row == 1)
        NAME(tile_steps)(steps, a, 1, a_step, b, b_step, c);
    else
        NAME(tile_steps)(steps, a, a_row, 1, b, b_step, c);
}

/* radial and -s d radial / ds at a vector of s2. */
static inline vd NAME(slope_vector)(const radial *rad, vd s2, vd *value)
{
    vd variance = SPLAT(rad->variance);
    if (rad->kind == RADIAL_GAUSSIAN) {
        *value = variance * NAME(exp_minus)(s2);
        return (s2 + s2) * *value;
    }
    vd s = NAME(square_root)(s2), e = variance * NAME(exp_minus)(s);
    vd c1 = SPLAT(rad->c1), c2 = SPLAT(rad->c2), one = SPLAT(1.0);
    *value = FMA(FMA(c2, s, c1), s, one) * e;
    return FMA(FMA(c2, s, c1 - c2 - c2), s, one - c1) * s * e;
}

static void NAME(radial_slopes)(const radial *rad, size_t count, const double *s2, double *value, double *slope)
{
    size_t i = 0;
    for (; i + COLS <= count; i += COLS) { /* two at once, as each is a long chain */
        vd k0, k1, first = NAME(slope_vector)(rad, LOAD(s2 + i), &k0);
        vd second = NAME(slope_vector)(rad, LOAD(s2 + i + LANES), &k1);
        STORE(value + i, k0);
        STORE(value + i + LANES, k1);
        STORE(slope + i, first);
        STORE(slope + i + LANES, second);
    }
    for (; i < count; i += LANES) {
        int part = count - i < LANES ? (int)(count - i) : LANES;
        vd k, last = NAME(slope_vector)(rad, NAME(load_part)(s2 + i, part), &k);
        NAME(store_part)(value + i, part, k);
        NAME(store_part)(slope + i, part, last);
    }
}

static void NAME(lane_distances)(int d, int size, const double *x, double *s2)
{
    for (int p = 0; p < size; p++)
        for (int q = 0; q <= p; q++, s2 += LANES) {
            const double *a = AT(x, p * d), *b = AT(x, q * d);
            vd sum = SPLAT(0.0);
            for (int l = 0; l < d; l++) {
                vd diff = LOAD(AT(a, l)) - LOAD(AT(b, l));
                sum = FMA(diff, diff, sum);
            }
            STORE(s2, sum);
        }
}

static void NAME(lane_axis)(int d, int l, int size, const double *x, const double *A, double *out)
{
    for (int p = 0; p < size; p++)
        for (int q = 0; q <= p; q++, A += LANES, out += LANES) {
            vd diff = LOAD(AT(x, p * d + l)) - LOAD(AT(x, q * d + l));
            STORE(out, LOAD(A) * diff * diff);
        }
}

/* Where a pivot is not positive 1 is taken in its place, and the lane is noted. */
static inline vd NAME(lane_pivot)(vd pivot, vi *good)
{
    vi positive = pivot > SPLAT(0.0);
    *good &= positive;
    vd one = SPLAT(1.0);
    return NAME(square_root)((vd)(((vi)pivot & positive) | ((vi)one & ~positive)));
}

/* Columns j and j + 1 of `height` rows from p on, of which p = j holds the pivots. */
INLINED void NAME(lane_columns)(int height, int j, int p, double *R, double *inverse, vi *good)
{
    const double *first = AT(R, TRIANGLE(j)), *second = AT(R, TRIANGLE(j + 1));
    double *row[4];
    vd sum[4][2];
    UNROLLED(a, height) {
        row[a] = AT(R, TRIANGLE(p + a));
        sum[a][0] = sum[a][1] = SPLAT(0.0);
    }
    for (int u = 0; u < j; u++) {
        vd l0 = LOAD(AT(first, u)), l1 = LOAD(AT(second, u));
        UNROLLED(a, height) {
            vd r = LOAD(AT(row[a], u));
            sum[a][0] = FMA(r, l0, sum[a][0]);
            sum[a][1] = FMA(r, l1, sum[a][1]);
        }
    }
    int start = 0;
    vd one = SPLAT(1.0), below, inverse0, inverse1;
    if (p == j) {
        vd pivot = NAME(lane_pivot)(LOAD(AT(row[0], j)) - sum[0][0], good);
        inverse0 = one / pivot;
        below = (LOAD(AT(row[1], j)) - sum[1][0]) * inverse0;
        vd next = NAME(lane_pivot)(LOAD(AT(row[1], j + 1)) - sum[1][1] - below * below, good);
        inverse1 = one / next;
        STORE(AT(row[0], j), pivot);
        STORE(AT(row[1], j), below);
        STORE(AT(row[1], j + 1), next);
        STORE(AT(inverse, j), inverse0);
        STORE(AT(inverse, j + 1), inverse1);
        start = 2;
    } else {
        inverse0 = LOAD(AT(inverse, j));
        inverse1 = LOAD(AT(inverse, j + 1));
        below = LOAD(AT(second, j));
    }
    UNROLLED(a, height)
        if (a >= start) {
            vd x0 = (LOAD(AT(row[a], j)) - sum[a][0]) * inverse0;
            vd x1 = (LOAD(AT(row[a], j + 1)) - sum[a][1] - x0 * below) * inverse1;
            STORE(AT(row[a], j), x0);
            STORE(AT(row[a], j + 1), x1);
        }
}

static unsigned NAME(lane_factor)(int size, double *R, double *inverse)
{
    vi good = ~(vi){0};
    for (int j = 0; j < size; j += 2) {
        int p = j;
        for (; p + 4 <= size; p += 4)
            NAME(lane_columns)(4, j, p, R, inverse, &good);
        if (p < size)
            NAME(lane_columns)(2, j, p, R, inverse, &good);
    }
    unsigned failed = 0;
    for (int lane = 0; lane < LANES; lane++)
        failed |= (unsigned)(good[lane] == 0) << lane;
    return failed;
}

static void NAME(lane_solve)(int size, const double *L, const double *inverse, double *b)
{
    for (int p = 0; p < size; p++) {
        const double *row = AT(L, TRIANGLE(p));
        vd sum0 = SPLAT(0.0), sum1 = sum0;
        int u = 0;
        for (; u + 2 <= p; u += 2) {
            sum0 = FMA(LOAD(AT(row, u)), LOAD(AT(b, u)), sum0);
            sum1 = FMA(LOAD(AT(row, u + 1)), LOAD(AT(b, u + 1)), sum1);
        }
        if (u < p)
            sum0 = FMA(LOAD(AT(row, u)), LOAD(AT(b, u)), sum0);
        STORE(AT(b, p), (LOAD(AT(b, p)) - sum0 - sum1) * LOAD(AT(inverse, p)));
    }
}

static void NAME(lane_solve_back)(int size, const double *L, const double *inverse, double *b)
{
    for (int p = size - 1; p >= 0; --p) {
        const double *row = AT(L, TRIANGLE(p));
        vd x = LOAD(AT(b, p)) * LOAD(AT(inverse, p));
        STORE(AT(b, p), x);
        x = -x;
        for (int q = 0; q < p; q++)
            STORE(AT(b, q), FMA(LOAD(AT(row, q)), x, LOAD(AT(b, q))));
    }
}

static void NAME(lane_multiply)(int size, const double *A, const double *alpha, double *out)
{
    for (int p = 0; p < size; p++) {
        vd sum = SPLAT(0.0), own = LOAD(AT(alpha, p));
        const double *row = AT(A, TRIANGLE(p));
        for (int q = 0; q < p; q++) {
            vd entry = LOAD(AT(row, q));
            sum = FMA(entry, LOAD(AT(alpha, q)), sum);
            STORE(AT(out, q), FMA(entry, own, LOAD(AT(out, q))));
        }
        STORE(AT(out, p), sum);
    }
}

#undef TRIANGLE
#undef AT
#undef GRAM
#undef GRAM_SUMS
