/* body_quantize.h - to fewer bits and back, by rows. */

static void to_bf16(const float *x, uint16_t *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        const uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
        y[i] = (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded);
    }
}

static void quantize_row(const float *x, int64_t n, int8_t *q, float *scale)
{
    float largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        largest = magnitude > largest ? magnitude : largest;
    }
    *scale = largest > 0 ? largest / 127 : 1;
    const float factor = 1 / *scale;
    for (int64_t i = 0; i < n; i++) {
        /* adding and taking away 1.5 2^23 rounds to the nearest whole number; NaN becomes some number */
        const float whole = (x[i] * factor + 12582912.0f) - 12582912.0f;
        q[i] = (int8_t)(int32_t)(whole > 127 ? 127 : whole > -127 ? whole : -127);
    }
}

static void dequantize_row(const int32_t *sum, int64_t n, float row, const float *col, const float *bias, int activation,
                           const float *residual, float *y)
{
    for (int64_t j = 0; j < n; j++) y[j] = (float)sum[j] * (row * col[j]) + (bias ? bias[j] : 0);
    if (activation != PL_ACT_NONE) act_forward(activation, y, y, n);
    if (residual)
        for (int64_t j = 0; j < n; j++) y[j] += residual[j];
}
