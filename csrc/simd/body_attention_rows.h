/* body_attention_rows.h - rows that attention reads and writes: floats, or bfloat16 between layers that are packed so. */

/* Where element i of rows of queries, keys, values, results or their gradients lies. */
INLINE void *element(const pl__attention *a, const void *x, int64_t i)
{
    return (char *)x + i * (int64_t)(a->half ? sizeof(uint16_t) : sizeof(float));
}

/* Rows as floats: where they lie, or in `scratch` one behind the other; *row becomes how far they lie apart. */
static const float *as_floats(const pl__attention *a, const void *x, int64_t *row, int64_t rows, int64_t d,
                              float *scratch)
{
    if (!a->half) return x;
    for (int64_t r = 0; r < rows; r++) from_bf16((const uint16_t *)x + r * *row, scratch + r * d, d);
    *row = d;
    return scratch;
}

/* Keys or values in pairs along the head (y_row: half the padded head), and in pairs of rows. */
static void pairs_along(const pl__attention *a, const void *x, int64_t x_row, int64_t rows, int64_t d, float *y)
{
    const int64_t y_row = pl__attention_pad(d) / 2;
    if (a->half)
        pair_columns_half(x, x_row, rows, d, y, y_row);
    else
        pair_columns(x, x_row, rows, d, y, y_row);
}

static void pairs_of_rows(const pl__attention *a, const void *x, int64_t x_row, int64_t rows, int64_t d, float *y,
                          int64_t y_row)
{
    if (a->half)
        pair_rows_up_half(x, x_row, rows, d, y, y_row);
    else
        pair_rows_up(x, x_row, rows, d, 1.0f, y, y_row);
}

/* y = or += x * scale; x is scratch, and may change. */
static void rows_out(const pl__attention *a, float *x, int64_t x_row, int64_t rows, int64_t d, float scale, void *y,
                     int64_t y_row, bool add)
{
    if (!a->half) {
        return_rows(x, x_row, rows, d, scale, y, y_row, add);
        return;
    }
    for (int64_t r = 0; r < rows; r++, x += x_row) {
        return_rows(x, x_row, 1, d, scale, x, x_row, false);
        to_bf16(x, (uint16_t *)y + r * y_row, d);
    }
}
