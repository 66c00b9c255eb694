/* body_pool.h - kernels of pooling: down the rows of one segment, columns [c0, c1). */

static void add_into(const float *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) vstore(y + i, vload(y + i) + vload(x + i));
    if (i < n) vstore_n(y + i, vload_n(y + i, n - i) + vload_n(x + i, n - i), n - i);
}

/* The first of equal rows wins; NaN beats every number, so that it is not hidden. */
INLINE void max_step(vf value, int64_t i, vf *best, vi *at)
{
    const vi better = (value > *best) | ((value != value) & (*best == *best));
    *best = vselect(better, value, *best);
    *at = (better & (int32_t)i) | (~better & *at);
}

static void pool_max(const float *x, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out, int64_t *index)
{
    int64_t j = c0;
    for (; j + 4 * PL_VL <= c1; j += 4 * PL_VL) {
        vf best[4];
        vi at[4] = {{0}};
        for (int u = 0; u < 4; u++) best[u] = vload(x + j + u * PL_VL);
        for (int64_t i = 1; i < rows; i++)
            for (int u = 0; u < 4; u++) max_step(vload(x + i * row + j + u * PL_VL), i, &best[u], &at[u]);
        for (int u = 0; u < 4; u++) {
            vstore(out + j + u * PL_VL, best[u]);
            for (int64_t l = 0; index && l < PL_VL; l++) index[j + u * PL_VL + l] = at[u][l];
        }
    }
    for (; j < c1; j += PL_VL) {
        const int64_t n = c1 - j < PL_VL ? c1 - j : PL_VL;
        vf best = vload_upto(x + j, n);
        vi at = {0};
        for (int64_t i = 1; i < rows; i++) max_step(vload_upto(x + i * row + j, n), i, &best, &at);
        vstore_upto(out + j, best, n);
        for (int64_t l = 0; index && l < n; l++) index[j + l] = at[l];
    }
}

/* out[i, j] (+)= scale * g[j] */
static void pool_spread(const float *g, float scale, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out,
                        int add)
{
    for (int64_t i = 0; i < rows; i++) {
        float *to = out + i * row;
        int64_t j = c0;
        for (; j + PL_VL <= c1; j += PL_VL) {
            const vf value = vload(g + j) * scale;
            vstore(to + j, add ? vload(to + j) + value : value);
        }
        if (j < c1) {
            const vf value = vload_n(g + j, c1 - j) * scale;
            vstore_n(to + j, add ? vload_n(to + j, c1 - j) + value : value, c1 - j);
        }
    }
}

/* Scores of minus infinity take no part; where all do, so do the weights. */
static void pool_softmax(const float *score, int64_t stride, int64_t n, float *weight)
{
    float most = -__builtin_inff(), total = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        weight[i] = score[i * stride];
        most = weight[i] > most || weight[i] != weight[i] ? weight[i] : most;
    }
    if (most == -__builtin_inff()) {
        for (int64_t i = 0; i < n; i++) weight[i] = 0.0f;
        return;
    }
    vf sums = {0};
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) {
        const vf e = vexp(vload(weight + i) - most);
        sums += e;
        vstore(weight + i, e);
    }
    for (total = vsum(sums); i < n; i++) {
        const float e = vexp(vset(weight[i] - most))[0];
        total += e;
        weight[i] = e;
    }
    const float inverse = 1.0f / total;
    for (i = 0; i < n; i++) weight[i] *= inverse;
}

/* out[j] = sum over i of weight[i] * x[i, j] */
static void pool_weighted(const float *x, const float *weight, int64_t rows, int64_t row, int64_t c0, int64_t c1,
                          float *out)
{
    int64_t j = c0;
    for (; j + 4 * PL_VL <= c1; j += 4 * PL_VL) {
        vf s[4] = {{0}};
        for (int64_t i = 0; i < rows; i++)
            for (int u = 0; u < 4; u++) s[u] += vload(x + i * row + j + u * PL_VL) * weight[i];
        for (int u = 0; u < 4; u++) vstore(out + j + u * PL_VL, s[u]);
    }
    for (; j < c1; j += PL_VL) {
        vf s = {0};
        for (int64_t i = 0; i < rows; i++) s += vload_upto(x + i * row + j, c1 - j) * weight[i];
        vstore_upto(out + j, s, c1 - j);
    }
}

/* The way back: dx[i, j] (+)= weight[i] * g[j] and dweight[i] = sum over j of g[j] * x[i, j]; either may be NULL. */
static void pool_weighted_back(const float *x, const float *weight, const float *g, int64_t rows, int64_t row,
                               int64_t c0, int64_t c1, float *dx, int add, float *dweight)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *from = x + i * row;
        float *to = dx ? dx + i * row : NULL;
        vf sum = {0};
        for (int64_t j = c0; j < c1; j += PL_VL) {
            const vf slope = vload_upto(g + j, c1 - j);
            if (dweight) sum += vload_upto(from + j, c1 - j) * slope;
            if (!to) continue;
            const vf flow = slope * weight[i];
            vstore_upto(to + j, add ? vload_upto(to + j, c1 - j) + flow : flow, c1 - j);
        }
        if (dweight) dweight[i] = vsum(sum);
    }
}
