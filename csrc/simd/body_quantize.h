/* body_quantize.h - to fewer bits and back, by rows. */

/* To the nearest, ties to even; NaN stays NaN. */
INLINE vi bf16_bits(vf x)
{
    const vi bits = (vi)x, odd = (bits >> 16) & 1, nan = x != x;
    return (((bits + 0x7FFF + odd) & ~nan) | ((bits | 0x400000) & nan)) >> 16;
}

#if PL_VL == 16
INLINE void store_bf16(uint16_t *to, vi bits, int64_t n)
{
    if (n >= PL_VL)
        _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16((__m512i)bits));
    else
        _mm512_mask_cvtepi32_storeu_epi16(to, LANES_BELOW(n), (__m512i)bits);
}
INLINE void store_whole(uint8_t *to, vf x, int64_t n) /* rounded; 0 to 255, or anything where x is NaN */
{
    const __mmask16 lanes = n >= PL_VL ? (__mmask16)-1 : LANES_BELOW(n);
    _mm512_mask_cvtepi32_storeu_epi8(to, lanes, _mm512_cvtps_epi32((__m512)x));
}
#else
INLINE void store_bf16(uint16_t *to, vi bits, int64_t n)
{
    for (int64_t i = 0; i < PL_VL && i < n; i++) to[i] = (uint16_t)bits[i];
}
INLINE void store_whole(uint8_t *to, vf x, int64_t n)
{
    const vi whole = (vi)_mm256_cvtps_epi32((__m256)x);
    for (int64_t i = 0; i < PL_VL && i < n; i++) to[i] = (uint8_t)whole[i];
}
#endif

/* Whole vectors, by the processor's own rounding where it has one. */
INLINE void store_as_bf16(uint16_t *to, vf x)
{
#ifdef PL_BF16
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    store_bf16(to, bf16_bits(x), PL_VL);
#endif
}

static void to_bf16(const float *x, uint16_t *y, int64_t n)
{
    int64_t j = 0;
#ifdef PL_BF16
    for (; j + 2 * PL_VL <= n; j += 2 * PL_VL)
        _mm512_storeu_si512(y + j, (__m512i)_mm512_cvtne2ps_pbh((__m512)vload(x + j + PL_VL), (__m512)vload(x + j)));
#endif
    for (; j < n; j += PL_VL) store_bf16(y + j, bf16_bits(vload_upto(x + j, n - j)), n - j);
}

/* Bits of bfloat16 numbers, zeros behind the first n. */
#if PL_VL == 16
INLINE vi load_bf16(const uint16_t *p, int64_t n)
{
    const __m256i x = n >= PL_VL ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(LANES_BELOW(n), p);
    return (vi)_mm512_cvtepu16_epi32(x);
}
#else
INLINE vi load_bf16(const uint16_t *p, int64_t n)
{
    uint16_t x[PL_VL] = {0};
    if (n >= PL_VL) memcpy(x, p, sizeof x);
    for (int64_t i = 0; n < PL_VL && i < n; i++) x[i] = p[i];
    return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
}
#endif

static void from_bf16(const uint16_t *x, float *y, int64_t n)
{
    for (int64_t j = 0; j < n; j += PL_VL) vstore_upto(y + j, (vf)(load_bf16(x + j, n - j) << 16), n - j);
}

/* Least and greatest of what passes by, and 0, or NaN once something passed that is no finite number. */
typedef struct range_seen {
    vf least, most, none;
} range_seen;

INLINE range_seen range_from(float x) { return (range_seen){vset(x), vset(x), {0}}; }

INLINE void range_see(range_seen *r, vf v, int64_t left)
{
    r->none += v * 0.0f;
    const vf less = vmin(v, r->least), more = vmax(v, r->most);
    const vi real = lane_numbers() < (int32_t)(left < PL_VL ? left : PL_VL);
    r->least = left >= PL_VL ? less : vselect(real, less, r->least);
    r->most = left >= PL_VL ? more : vselect(real, more, r->most);
}

/* x = q scale + low, where q is 0 at the least element and 255 at the greatest. A row with infinity or NaN gets such a
 * scale, and so do all results that it has a part in. */
static void quantize_in(const range_seen *r, const float *x, int64_t n, uint8_t *q, float *scale, float *low)
{
    float from = r->least[0], to = r->most[0];
    for (int i = 1; i < PL_VL; i++) {
        from = r->least[i] < from ? r->least[i] : from;
        to = r->most[i] > to ? r->most[i] : to;
    }
    const float range = to - from > 1e-30f ? to - from : 255; /* constant, but for what a factor cannot tell apart */
    const vf factor = vset(255 / range);
    *scale = range / 255 + vsum(r->none);
    *low = from;
    for (int64_t j = 0; j < n; j += PL_VL) store_whole(q + j, (vload_upto(x + j, n - j) - from) * factor, n - j);
}

static void quantize_row(const float *x, int64_t n, uint8_t *q, float *scale, float *low)
{
    range_seen r = range_from(x[0]);
    for (int64_t j = 0; j < n; j += PL_VL) range_see(&r, vload_upto(x + j, n - j), n - j);
    quantize_in(&r, x, n, q, scale, low);
}

/* Activations for results of 8-bit products, whose own steps are far coarser: GELU is off by 2e-4 at most (a minimax
 * polynomial of the normal distribution on [-4, 4]), what has a sigmoid by some 4e-4 of itself. */
INLINE vf coarse_sigmoid(vf x)
{
    const vf away = vabs(x) * -LOG2_E, e = vexp2_negative(away, true);
#if PL_VL == 16
    const vf below = (vf)_mm512_rcp14_ps((__m512)(1.0f + e));
#else
    const vf below = (vf)_mm256_rcp_ps((__m256)(1.0f + e));
#endif
    return vselect(x < 0.0f, e * below, below);
}

INLINE vf coarse_act(int act, vf x)
{
    vf slope;
    if (act == PL_ACT_QUICK_GELU) return x * coarse_sigmoid(1.702f * x);
    if (act == PL_ACT_SILU) return x * coarse_sigmoid(x);
    if (act != PL_ACT_GELU) return act_apply(act, x, &slope);
    const vf z = vmin(vmax(x, vset(-4.0f)), vset(4.0f)), s = z * z;
    vf p = vset(2.27808399e-8f);
    p = p * s - 1.59857204e-6f;
    p = p * s + 4.79549272e-5f;
    p = p * s - 8.14009833e-4f;
    p = p * s + 8.77236148e-3f;
    p = p * s - 6.4573053e-2f;
    p = p * s + 3.97883309e-1f;
    return x * vmin(vmax(p * z + 0.5f, vset(0.0f)), vset(1.0f));
}

typedef struct finished {
    const int32_t *sum;
    int64_t n;
    float row, low;
    const float *col, *col_sum, *bias, *residual;
    float *y;
} finished;

INLINE range_seen finish_row(int act, bool seen, const finished *f)
{
    range_seen r = range_from(0); /* set below */
    for (int64_t j = 0; j < f->n; j += PL_VL) {
        const int64_t left = f->n - j;
        const vi whole = (vi)vload_upto((const float *)f->sum + j, left); /* bits, whatever they mean */
        vf v = __builtin_convertvector(whole, vf) * (f->row * vload_upto(f->col + j, left));
        v += f->low * vload_upto(f->col_sum + j, left);
        if (f->bias) v += vload_upto(f->bias + j, left);
        v = coarse_act(act, v);
        if (f->residual) v += vload_upto(f->residual + j, left);
        if (seen && j == 0) r = range_from(v[0]);
        if (seen) range_see(&r, v, left);
        vstore_upto(f->y + j, v, left);
    }
    return r;
}

static void dequantize_row(const int32_t *sum, int64_t n, float row, float low, const float *col, const float *col_sum,
                           const float *bias, int activation, const float *residual, float *y, uint8_t *q, float *scale)
{
    const finished f = {sum, n, row, low, col, col_sum, bias, residual, y};
    range_seen r = range_from(0);
    switch (activation) {
#define CASE(a)                                                           \
    case a:                                                               \
        if (q)                                                            \
            r = finish_row(a, true, &f);                                  \
        else                                                              \
            finish_row(a, false, &f);                                     \
        break;
        FOR_EACH_ACT(CASE)
#undef CASE
    }
    if (q) quantize_in(&r, y, n, q, scale, scale + 1);
}
