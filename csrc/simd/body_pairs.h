/* body_pairs.h - pairs of bfloat16 in the place of floats, for products whose sum takes two terms at a time.
 *
 * The two of a pair lie next to each other along the dimension that is summed over. Where the processor has no such
 * instruction the products are the same, only slow. */

INLINE vf pair_of(vf first, vf second)
{
#ifdef PL_BF16
    static const uint16_t zip[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    return (vf)_mm512_permutexvar_epi16(_mm512_loadu_si512(zip), both);
#else
    return (vf)((bf16_bits(first) & 0xFFFF) | (bf16_bits(second) << 16));
#endif
}

INLINE vf pair_everywhere(const float *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return (vf)((vi){0} + bits);
}

INLINE vf pair_add(vf sum, vf x, vf y)
{
#ifdef PL_BF16
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)y);
#else
    const int32_t high = (int32_t)0xFFFF0000;
    sum += (vf)((vi)x << 16) * (vf)((vi)y << 16);
    return sum + (vf)((vi)x & high) * (vf)((vi)y & high);
#endif
}

#ifdef PL_AMX
#define GEMM(name) name##_pairs_by_vectors /* body_tiles.h has gemm_pairs */
#else
#define GEMM(name) name##_pairs
#endif
#define GEMM_ONE(p) pair_everywhere(p)
#define GEMM_ADD(sum, x, y) pair_add(sum, x, y)
#include "body_gemm.h"

/* y[r, c] = (x[2 r, c], x[2 r + 1, c]) * scale; the last pair of an odd number of rows has a zero. Columns up to y_row,
 * a multiple of PL_VL, become zeros. x == y is allowed where y_row <= x_row. */
static void pair_rows_up(const float *x, int64_t x_row, int64_t rows, int64_t width, float scale, float *y, int64_t y_row)
{
    const vf factor = vset(scale);
    for (int64_t r = 0; r < rows; r += 2, x += 2 * x_row, y += y_row)
        for (int64_t c = 0; c < width; c += PL_VL) {
            const vf second = r + 1 < rows ? vload_upto(x + x_row + c, width - c) : (vf){0};
            vstore(y + c, pair_of(vload_upto(x + c, width - c) * factor, second * factor));
        }
}

/* y[r, c] = (x[r, 2 c], x[r, 2 c + 1]); the last pair of an odd width has a zero. Lanes behind the last pair are left.
 * x == y is allowed where y_row <= x_row. */
static void pair_columns(const float *x, int64_t x_row, int64_t rows, int64_t width, float *y, int64_t y_row)
{
    for (int64_t r = 0; r < rows; r++, x += x_row, y += y_row) {
        to_bf16(x, (uint16_t *)y, width);
        if (width & 1) ((uint16_t *)y)[width] = 0;
    }
}

/* The same two of rows that are bfloat16 already. */
static void pair_rows_up_half(const uint16_t *x, int64_t x_row, int64_t rows, int64_t width, float *y, int64_t y_row)
{
    for (int64_t r = 0; r < rows; r += 2, x += 2 * x_row, y += y_row)
        for (int64_t c = 0; c < width; c += PL_VL) {
            const vi second = r + 1 < rows ? load_bf16(x + x_row + c, width - c) << 16 : (vi){0};
            vstore(y + c, (vf)(load_bf16(x + c, width - c) | second));
        }
}

static void pair_columns_half(const uint16_t *x, int64_t x_row, int64_t rows, int64_t width, float *y, int64_t y_row)
{
    for (int64_t r = 0; r < rows; r++, x += x_row, y += y_row) {
        memcpy(y, x, (size_t)width * sizeof *x);
        if (width & 1) ((uint16_t *)y)[width] = 0;
    }
}
