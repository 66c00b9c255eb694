/* body_rows.h - rows picked from a table by index, added back to it, or to each other. */

static void rows_gather(const int64_t *index, int64_t n, int64_t width, const float *table, float *y)
{
    for (int64_t i = 0; i < n; i++) memcpy(y + i * width, table + index[i] * width, (size_t)width * sizeof *y);
}

static void rows_scatter_add(const int64_t *index, int64_t n, int64_t width, int64_t c0, int64_t c1, int64_t skip,
                             const float *dy, float *dtable)
{
    for (int64_t i = 0; i < n; i++) {
        if (index[i] == skip) continue;
        const float *from = dy + i * width;
        float *to = dtable + index[i] * width;
        for (int64_t j = c0; j < c1; j += PL_VL)
            vstore_upto(to + j, vload_upto(to + j, c1 - j) + vload_upto(from + j, c1 - j), c1 - j);
    }
}

static void add(const float *a, const float *b, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) vstore(y + i, vload(a + i) + vload(b + i));
    if (i < n) vstore_n(y + i, vload_n(a + i, n - i) + vload_n(b + i, n - i), n - i);
}
