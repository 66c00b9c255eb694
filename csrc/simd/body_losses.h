/* body_losses.h - softmax statistics and gradients on tiles of products. Formulas: plait.reference.losses. */

/* The first n lanes of x (all, if n is larger), `other` behind them. */
INLINE vf first_lanes(vf x, int64_t n, float other)
{
    return n >= PL_VL ? x : vselect(lane_numbers() < (int32_t)n, x, vset(other));
}

/* ---------------------------------------------------------------- InfoNCE */

/* Maxima are those of the products, before the scale, which is positive. */
static void nce_rows(const float *s, int64_t rows, int64_t cols, int64_t row, float scale, float *max, float *sum)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *x = s + i * row;
        vf m = vset(max[i]), total = vset(0.0f);
        for (int64_t j = 0; j < cols; j += PL_VL) m = vmax(m, first_lanes(vload(x + j), cols - j, -__builtin_inff()));
        const float top = vmaximum(m);
        for (int64_t j = 0; j < cols; j += PL_VL)
            total += vexp(scale * (first_lanes(vload(x + j), cols - j, -__builtin_inff()) - top));
        sum[i] = sum[i] * expf(scale * (max[i] - top)) + vsum(total);
        max[i] = top;
    }
}

INLINE void nce_cols_block(const float *s, int64_t rows, int64_t row, float scale, float *max, float *sum, int vectors)
{
    vf m[4], total[4];
    for (int u = 0; u < vectors; u++) m[u] = vload(max + u * PL_VL), total[u] = vset(0.0f);
    for (int64_t i = 0; i < rows; i++)
        for (int u = 0; u < vectors; u++) m[u] = vmax(m[u], vload(s + i * row + u * PL_VL));
    for (int64_t i = 0; i < rows; i++)
        for (int u = 0; u < vectors; u++) total[u] += vexp(scale * (vload(s + i * row + u * PL_VL) - m[u]));
    for (int u = 0; u < vectors; u++) {
        const vf before = vexp(scale * (vload(max + u * PL_VL) - m[u]));
        vstore(sum + u * PL_VL, vload(sum + u * PL_VL) * before + total[u]);
        vstore(max + u * PL_VL, m[u]);
    }
}

static void nce_cols(const float *s, int64_t rows, int64_t row, int64_t c0, int64_t c1, float scale, float *max,
                     float *sum)
{
    int64_t j = c0;
    for (; j + 4 * PL_VL <= c1; j += 4 * PL_VL) nce_cols_block(s + j, rows, row, scale, max + j, sum + j, 4);
    for (; j < c1; j += PL_VL) nce_cols_block(s + j, rows, row, scale, max + j, sum + j, 1);
}

static void nce_back(const float *s, float *g, int64_t rows, int64_t cols, int64_t row, float scale, float weight,
                     float smoothing, float shift, const float *row_stats, const float *col_stats, int64_t stats,
                     int64_t diagonal, double *moments)
{
    const float *col_max = col_stats, *col_share = col_stats + stats;
    for (int64_t i = 0; i < rows; i++) {
        const float *x = s + i * row;
        float *dx = g + i * row;
        const float top = row_stats[i], share = row_stats[stats + i];
        const float own = diagonal >= 0 ? x[diagonal + i] : 0.0f;
        vf moment = vset(0.0f), plain = vset(0.0f);
        for (int64_t j = 0; j < cols; j += PL_VL) {
            /* -100: the exponential is 0 there */
            const vf v = vload(x + j);
            const vf er = first_lanes(scale * (v - top), cols - j, -100.0f);
            const vf ec = first_lanes(scale * (v - vload(col_max + j)), cols - j, -100.0f);
            const vf pr = vexp(er) * share, pc = vexp(ec) * vload(col_share + j);
            moment += pr * er + pc * ec;
            plain += first_lanes(v, cols - j, 0.0f);
            vstore(dx + j, first_lanes(weight * (pr + pc - shift), cols - j, 0.0f));
        }
        moments[i] = vsum(moment) - (double)scale * shift * vsum(plain);
        if (diagonal >= 0) {
            dx[diagonal + i] -= 2.0f * (1.0f - smoothing) * weight;
            moments[i] -= (double)scale * ((own - top) + (own - col_max[diagonal + i]) - 2.0f * smoothing * own);
        }
    }
}

/* ---------------------------------------------------------------- pairwise sigmoid */

/* log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)) by its series. */
INLINE vf vlog1p(vf e)
{
    const vf t = e / (2.0f + e), q = t * t;
    vf p = vset(1.0f / 13.0f);
    p = p * q + 1.0f / 11.0f;
    p = p * q + 1.0f / 9.0f;
    p = p * q + 1.0f / 7.0f;
    p = p * q + 1.0f / 5.0f;
    p = p * q + 1.0f / 3.0f;
    return 2.0f * (t + t * q * p);
}

/* log(1 + e^x); NaN stays. */
INLINE vf vsoftplus(vf x) { return vmax(vset(0.0f), x) + vlog1p(vexp(-vabs(x))); }

/* Logits of PL_VL pairs from column j, negated where row and column belong together; -100, which counts for nothing,
 * behind the last column. `own` is the column that belongs to the row, or -1. */
INLINE vf pair_logits(const float *x, int64_t j, int64_t cols, float scale, float bias, int64_t own, vi *is_own)
{
    const vf l = scale * vload(x + j) + bias;
    *is_own = own >= 0 ? lane_numbers() == (int32_t)(own - j) : (vi){0};
    return first_lanes(vselect(*is_own, -l, l), cols - j, -100.0f);
}

static void pair_rows(const float *s, int64_t rows, int64_t cols, int64_t row, float scale, float bias,
                      int64_t diagonal, double *sums)
{
    for (int64_t i = 0; i < rows; i++) {
        const int64_t own = diagonal < 0 ? -1 : diagonal + i;
        vf total = vset(0.0f);
        vi is_own;
        for (int64_t j = 0; j < cols; j += PL_VL)
            total += vsoftplus(pair_logits(s + i * row, j, cols, scale, bias, own, &is_own));
        sums[i] = vsum(total);
    }
}

static void pair_back(const float *s, float *g, int64_t rows, int64_t cols, int64_t row, float scale, float bias,
                      float weight, int64_t diagonal, double *moments)
{
    for (int64_t i = 0; i < rows; i++) {
        const float *x = s + i * row;
        const int64_t own = diagonal < 0 ? -1 : diagonal + i;
        vf by_scale = vset(0.0f), by_bias = vset(0.0f);
        vi is_own;
        for (int64_t j = 0; j < cols; j += PL_VL) {
            const vf l = pair_logits(x, j, cols, scale, bias, own, &is_own);
            vf d = vsigmoid(l);
            d = vselect(is_own, -d, d);
            by_scale += d * vload(x + j);
            by_bias += d;
            vstore(g + i * row + j, weight * d);
        }
        moments[2 * i] = (double)scale * vsum(by_scale);
        moments[2 * i + 1] = vsum(by_bias);
    }
}
