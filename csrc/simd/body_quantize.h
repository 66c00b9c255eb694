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
INLINE void store_whole(int8_t *to, vf x, int64_t n) /* rounded; |x| <= 127, or anything where x is NaN */
{
    _mm512_mask_cvtsepi32_storeu_epi8(to, n >= PL_VL ? (__mmask16)-1 : LANES_BELOW(n), _mm512_cvtps_epi32((__m512)x));
}
#else
INLINE void store_bf16(uint16_t *to, vi bits, int64_t n)
{
    for (int64_t i = 0; i < PL_VL && i < n; i++) to[i] = (uint16_t)bits[i];
}
INLINE void store_whole(int8_t *to, vf x, int64_t n)
{
    const vi whole = (vi)_mm256_cvtps_epi32((__m256)x);
    for (int64_t i = 0; i < PL_VL && i < n; i++) to[i] = (int8_t)whole[i];
}
#endif

static void to_bf16(const float *x, uint16_t *y, int64_t n)
{
    for (int64_t j = 0; j < n; j += PL_VL) store_bf16(y + j, bf16_bits(vload_upto(x + j, n - j)), n - j);
}

/* A row with infinity or NaN gets such a scale, and so do all results that it has a part in. */
static void quantize_row(const float *x, int64_t n, int8_t *q, float *scale)
{
    vi most[2] = {{0}}; /* bits of magnitudes are in order as whole numbers, NaN above all */
    int64_t j = 0;
    for (; j + 2 * PL_VL <= n; j += 2 * PL_VL)
        for (int u = 0; u < 2; u++) {
            const vi bits = (vi)vload(x + j + u * PL_VL) & 0x7FFFFFFF, more = bits > most[u];
            most[u] = (bits & more) | (most[u] & ~more);
        }
    for (; j < n; j += PL_VL) {
        const vi bits = (vi)vload_upto(x + j, n - j) & 0x7FFFFFFF, more = bits > most[0];
        most[0] = (bits & more) | (most[0] & ~more);
    }
    int32_t top = 0;
    for (int i = 0; i < PL_VL; i++) {
        top = most[0][i] > top ? most[0][i] : top;
        top = most[1][i] > top ? most[1][i] : top;
    }
    float largest;
    memcpy(&largest, &top, sizeof largest);
    if (largest < 1e-30f) largest = 127; /* as good as zeros, whose reciprocal would not be a number */
    *scale = largest / 127;
    const vf factor = vset(127 / largest);
    for (j = 0; j < n; j += PL_VL) store_whole(q + j, vload_upto(x + j, n - j) * factor, n - j);
}

static void dequantize_row(const int32_t *sum, int64_t n, float row, const float *col, const float *bias, int activation,
                           const float *residual, float *y)
{
    const float *plus = activation == PL_ACT_NONE ? residual : NULL;
    for (int64_t j = 0; j < n; j += PL_VL) {
        const int64_t left = n - j;
        const vi whole = (vi)vload_upto((const float *)sum + j, left); /* bits, whatever they mean */
        vf v = __builtin_convertvector(whole, vf) * (row * vload_upto(col + j, left));
        if (bias) v += vload_upto(bias + j, left);
        if (plus) v += vload_upto(plus + j, left);
        vstore_upto(y + j, v, left);
    }
    if (activation == PL_ACT_NONE) return;
    act_forward(activation, y, y, n);
    if (residual) add(y, residual, y, n);
}
