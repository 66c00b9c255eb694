/* body_norm.h - layer norm, RMS norm and L2 norm of rows. Formulas: plait.reference.layer_norm, rms_norm,
 * l2_normalize.
 *
 * A row is read three times in forward, from the first-level cache: sum, squares of what is left, result. Taking the
 * mean out first keeps the variance right where the mean is large against it. */

/* Sum of (x - shift), and of its squares. The order of additions depends on the width alone. */
INLINE void row_sums(const float *x, int64_t n, float shift, float *sum, float *squares)
{
    vf s[4] = {{0}}, q[4] = {{0}};
    int64_t j = 0;
    for (; j + 4 * PL_VL <= n; j += 4 * PL_VL)
        for (int u = 0; u < 4; u++) {
            const vf d = vload(x + j + u * PL_VL) - shift;
            s[u] += d;
            q[u] += d * d;
        }
    for (; j < n; j += PL_VL) {
        const vf d = vkeep(vload_upto(x + j, n - j) - shift, n - j);
        s[0] += d;
        q[0] += d * d;
    }
    *sum = vsum((s[0] + s[1]) + (s[2] + s[3]));
    if (squares) *squares = vsum((q[0] + q[1]) + (q[2] + q[3]));
}

INLINE void row_normalise(const float *x, int64_t n, float mean, float rstd, const float *weight, const float *bias,
                          float *y)
{
    int64_t j = 0;
    for (; j + PL_VL <= n; j += PL_VL) {
        vf v = (vload(x + j) - mean) * rstd;
        if (weight) v *= vload(weight + j);
        if (bias) v += vload(bias + j);
        vstore(y + j, v);
    }
    if (j < n) {
        vf v = (vload_n(x + j, n - j) - mean) * rstd;
        if (weight) v *= vload_n(weight + j, n - j);
        if (bias) v += vload_n(bias + j, n - j);
        vstore_n(y + j, v, n - j);
    }
}

/* 1 / |x|, or 0 where |x| <= eps. Rows whose squares leave the range of float are scaled first. */
INLINE float row_reciprocal(const float *x, int64_t n, float eps)
{
    float s, q;
    row_sums(x, n, 0, &s, &q);
    float norm = sqrtf(q);
    if (!(q > 1e-30f && q < 1e37f)) { /* rare */
        float large = 0;
        for (int64_t j = 0; j < n; j++) large = fabsf(x[j]) > large ? fabsf(x[j]) : large;
        double sum = 0;
        for (int64_t j = 0; large > 0 && j < n; j++) sum += (double)(x[j] / large) * (x[j] / large);
        norm = q == q ? (float)(large * sqrt(sum)) : q;
    }
    return norm <= eps ? 0 : 1.0f / norm;
}

static void norm_forward(int kind, int64_t rows, int64_t width, const float *x, const float *weight,
                         const float *bias, float eps, float *y, float *mean, float *rstd)
{
    const float share = 1.0f / (float)width;
    for (int64_t i = 0; i < rows; i++, x += width, y += width) {
        float m = 0, r, s, q;
        if (kind == PL__NORM_LAYER) {
            row_sums(x, width, 0, &s, NULL);
            m = s * share;
        }
        if (kind == PL__NORM_L2) {
            r = row_reciprocal(x, width, eps);
        } else {
            row_sums(x, width, m, &s, &q);
            s = kind == PL__NORM_LAYER ? s * share : 0; /* what rounding left in the mean */
            q = q * share - s * s;
            r = 1.0f / sqrtf((q < 0 ? 0 : q) + eps); /* rounding may go below 0 */
            m += s;
        }
        if (mean) mean[i] = m;
        if (rstd) rstd[i] = r;
        row_normalise(x, width, m, r, weight, bias, y);
    }
}

static void norm_again(int64_t rows, int64_t width, const float *x, const float *weight, const float *bias,
                       const float *mean, const float *rstd, float *y)
{
    for (int64_t i = 0; i < rows; i++)
        row_normalise(x + i * width, width, mean ? mean[i] : 0, rstd[i], weight, bias, y + i * width);
}

typedef struct norm_rows {
    int64_t width;
    float share; /* of one element in the means: 1 / width */
    const float *x, *weight, *dy, *plus;
    float *dx, *dweight, *dbias;
    const float *mean, *rstd;
} norm_rows;

/* First visit of columns [j, j + n) of R rows: gradients of weight and bias, and the two sums that dx needs. */
INLINE void norm_back_sums(const norm_rows *p, int R, bool params, bool dx, int64_t j, int64_t n, vf *sum, vf *along)
{
    const vf w = p->weight && dx ? vload_upto(p->weight + j, n) : vset(1.0f);
    vf dw = {0}, db = {0};
    if (params) dw = vload_upto(p->dweight + j, n), db = vload_upto(p->dbias + j, n);
    for (int r = 0; r < R; r++) {
        const vf dy = vload_upto(p->dy + r * p->width + j, n);
        const vf hat = (vload_upto(p->x + r * p->width + j, n) - (p->mean ? p->mean[r] : 0)) * p->rstd[r];
        if (params) dw += dy * hat, db += dy;
        if (dx) {
            const vf g = dy * w;
            sum[r] += g;
            along[r] += g * hat;
        }
    }
    if (params) vstore_upto(p->dweight + j, dw, n), vstore_upto(p->dbias + j, db, n);
}

/* Second visit: dx = rstd (g - mean(g) - hat mean(g hat)), g = dy weight; a sum and no mean for the L2 norm. */
INLINE void norm_back_dx(const norm_rows *p, int R, int64_t j, int64_t n, const float *sum, const float *along)
{
    const vf w = p->weight ? vload_upto(p->weight + j, n) : vset(1.0f);
    for (int r = 0; r < R; r++) {
        const int64_t at = r * p->width + j;
        const vf hat = (vload_upto(p->x + at, n) - (p->mean ? p->mean[r] : 0)) * p->rstd[r];
        vf d = (vload_upto(p->dy + at, n) * w - sum[r] - hat * along[r]) * p->rstd[r];
        if (p->plus) d += vload_upto(p->plus + at, n);
        vstore_upto(p->dx + at, d, n);
    }
}

INLINE void norm_back_rows(const norm_rows *p, int R, bool params, bool dx)
{
    vf sums[4] = {{0}}, alongs[4] = {{0}};
    int64_t j = 0;
    for (; j + PL_VL <= p->width; j += PL_VL) norm_back_sums(p, R, params, dx, j, PL_VL, sums, alongs);
    if (j < p->width) norm_back_sums(p, R, params, dx, j, p->width - j, sums, alongs);
    if (!dx) return;
    float sum[4], along[4];
    for (int r = 0; r < R; r++) {
        sum[r] = p->mean ? vsum(sums[r]) * p->share : 0;
        along[r] = vsum(alongs[r]) * p->share;
    }
    for (j = 0; j + PL_VL <= p->width; j += PL_VL) norm_back_dx(p, R, j, PL_VL, sum, along);
    if (j < p->width) norm_back_dx(p, R, j, p->width - j, sum, along);
}

/* Four rows at a time: the gradients of weight and bias go through the cache a quarter as often. */
INLINE void norm_back_all(norm_rows p, int64_t rows, bool params, bool dx)
{
    int64_t i = 0;
    while (i < rows) {
        const int64_t step = rows - i >= 4 ? 4 : 1;
        if (step == 4)
            norm_back_rows(&p, 4, params, dx);
        else
            norm_back_rows(&p, 1, params, dx);
        i += step;
        p.x += step * p.width, p.dy += step * p.width, p.rstd += step;
        if (p.mean) p.mean += step;
        if (p.plus) p.plus += step * p.width;
        if (dx) p.dx += step * p.width;
    }
}

static void norm_backward(int kind, int64_t rows, int64_t width, const float *x, const float *weight,
                          const float *mean, const float *rstd, const float *dy, const float *plus, float *dx,
                          float *dweight, float *dbias)
{
    const float share = kind == PL__NORM_L2 ? 1.0f : 1.0f / (float)width;
    const norm_rows p = {width, share, x, weight, dy, plus, dx, dweight, dbias, mean, rstd};
    if (dweight && dx)
        norm_back_all(p, rows, true, true);
    else if (dweight)
        norm_back_all(p, rows, true, false);
    else if (dx)
        norm_back_all(p, rows, false, true);
}
