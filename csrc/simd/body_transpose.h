/* body_transpose.h - rows to columns: attention puts queries side by side in vectors. */

#if PL_VL == 16
INLINE void transpose_square(vf x[PL_VL])
{
    __m512 t[16], u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps((__m512)x[i], (__m512)x[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps((__m512)x[i], (__m512)x[i + 1]);
    }
#define PAIRS(half, a, b) \
    (__m512) _mm512_unpack##half##_pd((__m512d)t[a], (__m512d)t[b])
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        u[i] = PAIRS(lo, i, i + 2);
        u[i + 1] = PAIRS(hi, i, i + 2);
        u[i + 2] = PAIRS(lo, i + 1, i + 3);
        u[i + 3] = PAIRS(hi, i + 1, i + 3);
    }
#undef PAIRS
    /* u[4 g + c]: its four quarters hold rows 4 g to 4 g + 3 of columns c, 4 + c, 8 + c, 12 + c */
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        const __m512 even0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0x88);
        const __m512 odd0 = _mm512_shuffle_f32x4(u[c], u[4 + c], 0xdd);
        const __m512 even1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0x88);
        const __m512 odd1 = _mm512_shuffle_f32x4(u[8 + c], u[12 + c], 0xdd);
        x[c] = (vf)_mm512_shuffle_f32x4(even0, even1, 0x88);
        x[4 + c] = (vf)_mm512_shuffle_f32x4(odd0, odd1, 0x88);
        x[8 + c] = (vf)_mm512_shuffle_f32x4(even0, even1, 0xdd);
        x[12 + c] = (vf)_mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}
#else
INLINE void transpose_square(vf x[PL_VL])
{
    __m256 t[8], u[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps((__m256)x[i], (__m256)x[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps((__m256)x[i], (__m256)x[i + 1]);
    }
#define PAIRS(half, a, b) \
    (__m256) _mm256_unpack##half##_pd((__m256d)t[a], (__m256d)t[b])
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        u[i] = PAIRS(lo, i, i + 2);
        u[i + 1] = PAIRS(hi, i, i + 2);
        u[i + 2] = PAIRS(lo, i + 1, i + 3);
        u[i + 3] = PAIRS(hi, i + 1, i + 3);
    }
#undef PAIRS
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        x[c] = (vf)_mm256_permute2f128_ps(u[c], u[4 + c], 0x20);
        x[4 + c] = (vf)_mm256_permute2f128_ps(u[c], u[4 + c], 0x31);
    }
}
#endif

typedef enum transpose_mode {
    TRANSPOSE_PAD,     /* y[c * y_row + r] = x[r * x_row + c] * scale, then zeros to the end of the last vector */
    TRANSPOSE_PAD_ADD, /* the same, added to y */
    TRANSPOSE_ADD      /* added to y; exactly `rows` elements of a row of y are touched */
} transpose_mode;

static void transpose(transpose_mode mode, const float *x, int64_t x_row, int64_t rows, int64_t columns, float scale,
                      float *y, int64_t y_row)
{
    const vf factor = vset(scale);
    for (int64_t r = 0; r < rows; r += PL_VL) {
        const int64_t nr = rows - r < PL_VL ? rows - r : PL_VL;
        for (int64_t c = 0; c < columns; c += PL_VL) {
            const int64_t nc = columns - c < PL_VL ? columns - c : PL_VL;
            const float *from = x + r * x_row + c;
            float *to = y + c * y_row + r;
            vf square[PL_VL];
            if (nr == PL_VL && nc == PL_VL) {
#pragma GCC unroll 16
                for (int i = 0; i < PL_VL; i++) square[i] = vload(from + i * x_row);
            } else {
                for (int i = 0; i < PL_VL; i++) square[i] = i < nr ? vload_n(from + i * x_row, nc) : (vf){0};
            }
            transpose_square(square);
            if (mode == TRANSPOSE_PAD && nc == PL_VL) {
#pragma GCC unroll 16
                for (int i = 0; i < PL_VL; i++) vstore(to + i * y_row, square[i] * factor);
            } else if (mode == TRANSPOSE_ADD) {
                for (int i = 0; i < nc; i++)
                    vstore_n(to + i * y_row, vload_n(to + i * y_row, nr) + square[i] * factor, nr);
            } else {
                for (int i = 0; i < nc; i++) {
                    const vf old = mode == TRANSPOSE_PAD ? (vf){0} : vload(to + i * y_row);
                    vstore(to + i * y_row, old + square[i] * factor);
                }
            }
        }
    }
}

/* y[r, :] = x[r, :] * scale, padded with zeros to y_row, a multiple of PL_VL. */
static void copy_rows(const float *x, int64_t x_row, int64_t rows, int64_t width, float scale, float *y, int64_t y_row)
{
    const vf factor = vset(scale);
    for (int64_t r = 0; r < rows; r++, x += x_row, y += y_row) {
        int64_t c = 0;
        for (; c + PL_VL <= width; c += PL_VL) vstore(y + c, vload(x + c) * factor);
        if (c < width) vstore(y + c, vload_n(x + c, width - c) * factor);
    }
}

/* y[r, :width] = or += x[r, :width] * scale: the way back. */
static void return_rows(const float *x, int64_t x_row, int64_t rows, int64_t width, float scale, float *y,
                        int64_t y_row, bool add)
{
    const vf factor = vset(scale);
    for (int64_t r = 0; r < rows; r++, x += x_row, y += y_row) {
        int64_t c = 0;
        for (; c + PL_VL <= width; c += PL_VL)
            vstore(y + c, (add ? vload(y + c) : (vf){0}) + vload(x + c) * factor);
        if (c < width) vstore_n(y + c, (add ? vload_n(y + c, width - c) : (vf){0}) + vload(x + c) * factor, width - c);
    }
}
