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

static void to_bf16(const float *x, uint16_t *y, int64_t n)
{
    int64_t j = 0;
#ifdef PL_BF16
    for (; j + 2 * PL_VL <= n; j += 2 * PL_VL)
        _mm512_storeu_si512(y + j, (__m512i)_mm512_cvtne2ps_pbh((__m512)vload(x + j + PL_VL), (__m512)vload(x + j)));
#endif
    for (; j < n; j += PL_VL) store_bf16(y + j, bf16_bits(vload_upto(x + j, n - j)), n - j);
}

static void from_bf16(const uint16_t *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)x[i] << 16;
        memcpy(y + i, &bits, sizeof bits);
    }
}

/* x = q scale + low, where q is 0 at the least element and 255 at the greatest. A row with infinity or NaN gets such a
 * scale, and so do all results that it has a part in. */
static void quantize_row(const float *x, int64_t n, uint8_t *q, float *scale, float *low)
{
    vf least = vset(x[0]), most = least, none = {0};
    for (int64_t j = 0; j < n; j += PL_VL) {
        const int64_t left = n - j;
        const vf v = vload_upto(x + j, left);
        none += v * 0.0f;
        if (left >= PL_VL) {
            least = vmin(v, least), most = vmax(v, most);
        } else {
            const vi real = lane_numbers() < (int32_t)left;
            least = vselect(real, vmin(v, least), least), most = vselect(real, vmax(v, most), most);
        }
    }
    float from = x[0], to = x[0];
    for (int i = 0; i < PL_VL; i++) {
        from = least[i] < from ? least[i] : from;
        to = most[i] > to ? most[i] : to;
    }
    const float range = to - from > 1e-30f ? to - from : 255; /* constant, but for what a factor cannot tell apart */
    const vf factor = vset(255 / range);
    *scale = range / 255 + vsum(none);
    *low = from;
    for (int64_t j = 0; j < n; j += PL_VL) store_whole(q + j, (vload_upto(x + j, n - j) - from) * factor, n - j);
}

static void dequantize_row(const int32_t *sum, int64_t n, float row, float low, const float *col, const float *col_sum,
                           const float *bias, int activation, const float *residual, float *y)
{
    const float *plus = activation == PL_ACT_NONE ? residual : NULL;
    for (int64_t j = 0; j < n; j += PL_VL) {
        const int64_t left = n - j;
        const vi whole = (vi)vload_upto((const float *)sum + j, left); /* bits, whatever they mean */
        vf v = __builtin_convertvector(whole, vf) * (row * vload_upto(col + j, left));
        v += low * vload_upto(col_sum + j, left);
        if (bias) v += vload_upto(bias + j, left);
        if (plus) v += vload_upto(plus + j, left);
        vstore_upto(y + j, v, left);
    }
    if (activation == PL_ACT_NONE) return;
    act_forward(activation, y, y, n);
    if (residual) add(y, residual, y, n);
}
