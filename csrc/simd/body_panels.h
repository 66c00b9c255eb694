/* body_panels.h - rows times one panel of a packed weight (body_pack.h), with all that comes after the sum: where the
 * library's kernels are slow. Each sum has one order, whatever rows come together. */
static void panel_product(int64_t rows, int64_t k, const float *a, int64_t a_row, const float *panel, int64_t columns,
                          const pl__panel_end *end)
{
    enum { GROUP = PL__PANEL_GROUP, WIDTH = PL__PANEL_COLUMNS, CHUNK = 1024 }; /* rows of a panel for a group */
    const pl__panel_end e = *end; /* a copy: stores might change the other, for all that the compiler knows */
    const int64_t width = (columns + PL_VL - 1) / PL_VL * PL_VL;
    float sums[GROUP * WIDTH];
    for (int64_t i = 0; i < rows; i += GROUP, a += GROUP * a_row) {
        const int64_t n = rows - i < GROUP ? rows - i : GROUP;
        for (int64_t l = 0; l < k; l += CHUNK)
            gemm(false, n, width, k - l < CHUNK ? k - l : CHUNK, a + l, a_row, panel + l * WIDTH, WIDTH, sums, WIDTH,
                 l > 0);
        for (int64_t r = 0; r < n; r++) {
            float *at = sums + r * WIDTH, *c = e.c + (i + r) * e.c_row;
            const float *residual = e.residual ? e.residual + (i + r) * e.residual_row : NULL;
            if (e.bias)
                for (int64_t j = 0; j < columns; j += PL_VL)
                    vstore(at + j, vload(at + j) + vload_upto(e.bias + j, columns - j));
            if (e.activation != PL_ACT_NONE) act_forward(e.activation, at, at, width);
            for (int64_t j = 0; j < columns; j += PL_VL) {
                const vf v = vload(at + j);
                vstore_upto(c + j, residual ? v + vload_upto(residual + j, columns - j) : v, columns - j);
            }
        }
    }
}
