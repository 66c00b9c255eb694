/* body_pack.h - the panels that products read weights from: 64 columns wide, blocks of 16 rows of units one below the
 * other. A unit is a float, two bfloat16 or four 8-bit numbers that lie next to each other along the inner dimension,
 * and zeros fill the last block. */

/* Column first + j of the panel is x[j * x_row], already in units, and those from first + columns to `end` are zeros:
 * squares are turned, bits stay as they are. `first` and `end` are multiples of 16. */
static void pack_columns(const float *x, int64_t x_row, int64_t first, int64_t columns, int64_t end, int64_t units,
                         float *to)
{
    for (int64_t u = 0; u < units; u += PL__PANEL_ROWS, to += PL__PANEL_ROWS * PL__PANEL_COLUMNS)
        for (int64_t j = 0; j < end - first; j += PL_VL)
            for (int64_t i = 0; i < PL__PANEL_ROWS; i += PL_VL) {
                const int64_t left = units - u - i < 0 ? 0 : units - u - i, have = columns - j;
                const float *from = x + j * x_row + u + i;
                vf square[PL_VL];
                if (have >= PL_VL && left >= PL_VL) {
#pragma GCC unroll 16
                    for (int r = 0; r < PL_VL; r++) square[r] = vload(from + r * x_row);
                } else {
                    for (int r = 0; r < PL_VL; r++)
                        square[r] = r < have && left > 0 ? vload_upto(from + r * x_row, left) : (vf){0};
                }
                transpose_square(square);
#pragma GCC unroll 16
                for (int c = 0; c < PL_VL; c++) vstore(to + (i + c) * PL__PANEL_COLUMNS + first + j, square[c]);
            }
}

/* Row k of the panel is x[k * x_row], floats, to be taken two at a time with `pairs`. */
static void pack_rows(const float *x, int64_t x_row, int64_t rows, int64_t columns, int pairs, float *to)
{
    const int64_t step = PL__PANEL_ROWS * (pairs ? 2 : 1);
    for (int64_t k = 0; k < rows; k += step, to += PL__PANEL_ROWS * PL__PANEL_COLUMNS) {
        const int64_t n = rows - k < step ? rows - k : step;
        if (n < step || columns < PL__PANEL_COLUMNS) memset(to, 0, PL__PANEL_ROWS * PL__PANEL_COLUMNS * sizeof *to);
        if (pairs)
            pair_rows_up(x + k * x_row, x_row, n, columns, 1.0f, to, PL__PANEL_COLUMNS);
        else
            copy_rows(x + k * x_row, x_row, n, columns, 1.0f, to, PL__PANEL_COLUMNS);
    }
}

/* A weight's row to whole numbers from -127 to 127: x = q scale; sum: that of q. Infinity and NaN come out again. */
static void quantize_weight(const float *x, int64_t n, int8_t *q, float *scale, float *sum)
{
    vf most = {0}, none = {0};
    for (int64_t j = 0; j < n; j += PL_VL) {
        const vf v = vload_upto(x + j, n - j);
        most = vmax(vabs(v), most);
        none += v * 0.0f;
    }
    float largest = 0;
    for (int i = 0; i < PL_VL; i++) largest = most[i] > largest ? most[i] : largest;
    if (largest < 1e-30f) largest = 127; /* as good as zeros, whose reciprocal would not be a number */
    const vf factor = vset(127 / largest);
    int64_t total = 0;
    for (int64_t j = 0; j < n; j += PL_VL) {
        const vf scaled = vload_upto(x + j, n - j) * factor + 12582912.0f; /* whole, and low bits say which */
        const vi whole = (vi)scaled - 0x4B400000;
        for (int64_t i = 0; i < PL_VL && j + i < n; i++) {
            q[j + i] = (int8_t)whole[i];
            total += q[j + i];
        }
    }
    *scale = largest / 127 + vsum(none);
    *sum = (float)total;
}
