/* body_reduce.h - sums down the columns of a matrix. */

static void column_sums(const float *x, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out, int accumulate)
{
    int64_t j = c0;
    for (; j + 4 * PL_VL <= c1; j += 4 * PL_VL) {
        vf s[4];
        for (int u = 0; u < 4; u++) s[u] = accumulate ? vload(out + j + u * PL_VL) : vset(0.0f);
        for (int64_t i = 0; i < rows; i++)
            for (int u = 0; u < 4; u++) s[u] += vload(x + i * row + j + u * PL_VL);
        for (int u = 0; u < 4; u++) vstore(out + j + u * PL_VL, s[u]);
    }
    for (; j < c1; j++) {
        float s = accumulate ? out[j] : 0.0f;
        for (int64_t i = 0; i < rows; i++) s += x[i * row + j];
        out[j] = s;
    }
}
