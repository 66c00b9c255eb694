/* body_panels_low.h - rounded rows times one panel of a packed weight, with all that comes after the sum. Where the
 * processor multiplies bfloat16; 8-bit products have their instruction there too. Each sum has one order, whatever rows
 * come together. */
#ifdef PL_BF16

enum { LOW_ROWS = 6, LOW_VECTORS = PL__PANEL_COLUMNS / PL_VL };

/* Assembly: GCC (12) keeps copies of accumulators in memory for the intrinsics. */
INLINE __m512i low_add(bool whole, __m512i sum, __m512i x, __m512i y)
{
    if (whole)
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    else
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}

/* `whole` and `rows` are constants wherever this is inlined; units are 32 bits wide. */
INLINE void low_tile(bool whole, int rows, int64_t units, const int32_t *a, int64_t a_row, const int32_t *panel,
                     const int32_t *next, float *sums)
{
    __m512i sum[LOW_ROWS][LOW_VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < LOW_VECTORS; v++) sum[r][v] = _mm512_setzero_si512();
    for (int64_t u = 0; u < units; u++, panel += PL__PANEL_COLUMNS, next += PL__PANEL_COLUMNS) {
        _mm_prefetch(next, _MM_HINT_T1);
        __m512i b[LOW_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < LOW_VECTORS; v++) b[v] = _mm512_loadu_si512(panel + v * PL_VL);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const __m512i x = _mm512_set1_epi32(a[r * a_row + u]);
#pragma GCC unroll 4
            for (int v = 0; v < LOW_VECTORS; v++) sum[r][v] = low_add(whole, sum[r][v], x, b[v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < LOW_VECTORS; v++) _mm512_storeu_si512(sums + r * PL__PANEL_COLUMNS + v * PL_VL, sum[r][v]);
}

/* A function a size, so that each has its own registers. */
#define LOW_TILE(kind, whole, rows)                                                                               \
    static __attribute__((noinline)) void kind##_tile_##rows(int64_t units, const int32_t *a, int64_t a_row,      \
                                                             const int32_t *panel, const int32_t *next,           \
                                                             float *sums)                                         \
    {                                                                                                             \
        low_tile(whole, rows, units, a, a_row, panel, next, sums);                                                \
    }
#define LOW_TILES(kind, whole)                                                        \
    LOW_TILE(kind, whole, 1) LOW_TILE(kind, whole, 2) LOW_TILE(kind, whole, 3)        \
    LOW_TILE(kind, whole, 4) LOW_TILE(kind, whole, 5) LOW_TILE(kind, whole, 6)        \
    static void (*const kind##_tiles[])(int64_t, const int32_t *, int64_t, const int32_t *, const int32_t *,     \
                                       float *) = {                                                               \
        NULL, kind##_tile_1, kind##_tile_2, kind##_tile_3, kind##_tile_4, kind##_tile_5, kind##_tile_6};
LOW_TILES(bf16, false)
LOW_TILES(s8, true)

static void coarse_forward(int act, float *x, int64_t n)
{
    switch (act) {
#define CASE(a)                                                                                     \
    case a:                                                                                         \
        for (int64_t i = 0; i < n; i += PL_VL) vstore(x + i, coarse_act(a, vload(x + i)));          \
        break;
        FOR_EACH_ACT(CASE)
#undef CASE
    }
}

/* Rows of sums, PL__PANEL_COLUMNS apart, before the activation: what they are, + bias. */
static void low_sums(const pl__low_end *e, int64_t first, int64_t rows, int64_t columns, float *sums)
{
    vf bias[LOW_VECTORS], col[LOW_VECTORS], col_sum[LOW_VECTORS];
    for (int v = 0; v < LOW_VECTORS; v++) {
        const int64_t j = v * PL_VL, left = columns - j < 0 ? 0 : columns - j;
        bias[v] = e->bias ? vload_upto(e->bias + j, left) : (vf){0};
        if (e->row_scales) col[v] = vload_upto(e->col + j, left), col_sum[v] = vload_upto(e->col_sum + j, left);
    }
    for (int64_t r = 0; r < rows; r++, sums += PL__PANEL_COLUMNS) {
        const float row = e->row_scales ? e->row_scales[2 * (first + r)] : 1;
        const float low = e->row_scales ? e->row_scales[2 * (first + r) + 1] : 0;
        for (int v = 0; v < LOW_VECTORS; v++) {
            float *at = sums + v * PL_VL;
            if (e->row_scales)
                vstore(at, __builtin_convertvector((vi)vload(at), vf) * (row * col[v]) + low * col_sum[v] + bias[v]);
            else
                vstore(at, vload(at) + bias[v]);
        }
    }
}

static void low_out(const pl__low_end *e, int64_t first, int64_t rows, int64_t columns, const float *sums)
{
    for (int64_t r = first; r < first + rows; r++, sums += PL__PANEL_COLUMNS) {
        if (e->c16) {
            to_bf16(sums, e->c16 + r * e->c_row, columns);
            continue;
        }
        float *c = e->c + r * e->c_row;
        const float *residual = e->residual ? e->residual + r * e->residual_row : NULL;
        for (int64_t j = 0; j < columns; j += PL_VL) {
            const vf v = vload(sums + j);
            vstore_upto(c + j, residual ? v + vload_upto(residual + j, columns - j) : v, columns - j);
        }
    }
}

/* Each of the first tiles asks for one vector in LOW_VECTORS of the next panel. With fewer tiles nothing does: processors
 * see by themselves what is read in order, unless they find a part of it there already. */
INLINE const int32_t *next_line(const void *panel, const void *next, int64_t tile)
{
    return tile < LOW_VECTORS && next ? (const int32_t *)next + tile * PL_VL : panel;
}

static void panel_product_low(int64_t rows, int64_t units, const void *a, int64_t a_row, const void *panel,
                              const void *next, int64_t columns, const pl__low_end *end)
{
    float sums[PL__PANEL_GROUP * PL__PANEL_COLUMNS];
    const pl__low_end e = *end;
    const bool whole = e.row_scales != NULL;
    if (rows <= (LOW_VECTORS - 1) * LOW_ROWS) next = NULL;
    for (int64_t i = 0; i < rows; i += PL__PANEL_GROUP) {
        const int64_t n = rows - i < PL__PANEL_GROUP ? rows - i : PL__PANEL_GROUP;
        for (int64_t r = 0, tile; r < n; r += tile) {
            tile = n - r < LOW_ROWS ? n - r : LOW_ROWS;
            const int32_t *ahead = next_line(panel, next, (i + r) / LOW_ROWS);
            (whole ? s8_tiles : bf16_tiles)[tile](units, (const int32_t *)a + (i + r) * a_row, a_row, panel, ahead,
                                                  sums + r * PL__PANEL_COLUMNS);
        }
        if (whole || e.bias) low_sums(&e, i, n, columns, sums);
        if (e.activation != PL_ACT_NONE) {
            if (whole)
                coarse_forward(e.activation, sums, n * PL__PANEL_COLUMNS);
            else
                act_forward(e.activation, sums, sums, n * PL__PANEL_COLUMNS);
        }
        low_out(&e, i, n, columns, sums);
    }
}

#else
enum { panel_product_low }; /* 0, a null pointer */
#endif
