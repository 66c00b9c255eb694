/* body_regression.h - losses of differences, element by element. Formulas: plait.reference.regression_loss. */

/* Loss of a difference, and its derivative. `kind` is a constant wherever this is inlined. */
INLINE vf regression_value(int kind, float delta, vf d, vf *slope)
{
    const vf size = vabs(d), sign = vselect(d > 0.0f, vset(1.0f), vselect(d < 0.0f, vset(-1.0f), d)); /* NaN stays */
    switch (kind) {
    case PL_REGRESSION_MSE:
        *slope = 2.0f * d;
        return d * d;
    case PL_REGRESSION_L1:
        *slope = sign;
        return size;
    default: /* Huber */
        *slope = vselect(size <= delta, d, delta * sign);
        return vselect(size <= delta, 0.5f * d * d, delta * (size - 0.5f * delta));
    }
}

/* Of lanes without weight nothing is left, not even NaN. */
INLINE vf regression_weigh(const pl__regression *r, vf value, int64_t i, int64_t n)
{
    if (!r->weights) return value * r->weight;
    const vf w = vload_upto(r->weights + i, n);
    return vselect(w == 0.0f, vset(0.0f), value * w);
}

INLINE void regression_sum_loop(int kind, const pl__regression *r, const float *a, const float *b, int64_t n,
                                double *sum)
{
    vf slope, s[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * PL_VL <= n; i += 4 * PL_VL)
        for (int u = 0; u < 4; u++) {
            const int64_t at = i + u * PL_VL;
            const vf value = regression_value(kind, r->delta, vload(a + at) - vload(b + at), &slope);
            s[u] += regression_weigh(r, value, at, PL_VL);
        }
    for (; i < n; i += PL_VL) { /* lanes behind the end have a difference of 0 */
        const vf value = regression_value(kind, r->delta, vload_upto(a + i, n - i) - vload_upto(b + i, n - i), &slope);
        s[0] += regression_weigh(r, value, i, n - i);
    }
    *sum = (double)vsum((s[0] + s[1]) + (s[2] + s[3]));
}

INLINE void regression_each_loop(int kind, const pl__regression *r, const float *a, const float *b, int64_t n,
                                 float *out)
{
    vf slope;
    for (int64_t i = 0; i < n; i += PL_VL) {
        const vf value = regression_value(kind, r->delta, vload_upto(a + i, n - i) - vload_upto(b + i, n - i), &slope);
        vstore_upto(out + i, regression_weigh(r, value, i, n - i), n - i);
    }
}

INLINE void regression_back_loop(int kind, const pl__regression *r, const float *a, const float *b, int64_t n,
                                 float *da, int add_a, float *db, int add_b)
{
    vf slope;
    for (int64_t i = 0; i < n; i += PL_VL) {
        const int64_t k = n - i;
        regression_value(kind, r->delta, vload_upto(a + i, k) - vload_upto(b + i, k), &slope);
        vf g = regression_weigh(r, slope, i, k) * r->scale;
        if (r->douts) g *= vload_upto(r->douts + i, k);
        if (da) vstore_upto(da + i, add_a ? vload_upto(da + i, k) + g : g, k);
        if (db) vstore_upto(db + i, add_b ? vload_upto(db + i, k) - g : -g, k);
    }
}

#define FOR_EACH_REGRESSION(CASE) CASE(PL_REGRESSION_MSE) CASE(PL_REGRESSION_L1) CASE(PL_REGRESSION_HUBER)

static void regression_sum(const pl__regression *r, const float *a, const float *b, int64_t n, double *sum)
{
    *sum = 0;
    if (!r->weights && r->weight == 0) return;
    switch (r->kind) {
#define CASE(k) case k: regression_sum_loop(k, r, a, b, n, sum); break;
        FOR_EACH_REGRESSION(CASE)
#undef CASE
    }
}

static void regression_each(const pl__regression *r, const float *a, const float *b, int64_t n, float *out)
{
    if (!r->weights && r->weight == 0) {
        memset(out, 0, (size_t)n * sizeof *out);
        return;
    }
    switch (r->kind) {
#define CASE(k) case k: regression_each_loop(k, r, a, b, n, out); break;
        FOR_EACH_REGRESSION(CASE)
#undef CASE
    }
}

static void regression_back(const pl__regression *r, const float *a, const float *b, int64_t n, float *da, int add_a,
                            float *db, int add_b)
{
    if (!r->weights && r->weight == 0) {
        if (da && !add_a) memset(da, 0, (size_t)n * sizeof *da);
        if (db && !add_b) memset(db, 0, (size_t)n * sizeof *db);
        return;
    }
    switch (r->kind) {
#define CASE(k) case k: regression_back_loop(k, r, a, b, n, da, add_a, db, add_b); break;
        FOR_EACH_REGRESSION(CASE)
#undef CASE
    }
}
