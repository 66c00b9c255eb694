/* body_optim.h - optimiser updates, one pass over the arena, and sums of squares. */

/* k lanes at p, g, m, v; k is a constant in the loops below, so that full vectors take no mask. */
INLINE void adamw_lanes(const pl__adamw_factors *f, float *p, const float *g, float *m, float *v, int64_t k)
{
    const vf grad = vload_n(g, k) * f->grad_scale;
    const vf first = f->beta1 * vload_n(m, k) + f->rest1 * grad;
    const vf second = f->beta2 * vload_n(v, k) + f->rest2 * grad * grad;
    const vf value = f->keep * vload_n(p, k) - f->rate * first / (f->root * vsqrt(second) + f->eps);
    vstore_n(m, first, k);
    vstore_n(v, second, k);
    vstore_n(p, value, k);
}

static void adamw_update(const pl__adamw_factors *factors, float *p, const float *g, float *m, float *v, int64_t n)
{
    const pl__adamw_factors f = *factors;
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) adamw_lanes(&f, p + i, g + i, m + i, v + i, PL_VL);
    if (i < n) adamw_lanes(&f, p + i, g + i, m + i, v + i, n - i);
}

INLINE void sgd_lanes(const pl__sgd_factors *f, float *p, const float *g, float *m, int64_t k)
{
    const vf value = vload_n(p, k);
    vf d = vload_n(g, k) * f->grad_scale + f->weight_decay * value;
    if (m) {
        const vf velocity = f->momentum * vload_n(m, k) + d;
        vstore_n(m, velocity, k);
        d = f->nesterov ? d + f->momentum * velocity : velocity;
    }
    vstore_n(p, value - f->lr * d, k);
}

static void sgd_update(const pl__sgd_factors *factors, float *p, const float *g, float *m, int64_t n)
{
    const pl__sgd_factors f = *factors;
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) sgd_lanes(&f, p + i, g + i, m ? m + i : NULL, PL_VL);
    if (i < n) sgd_lanes(&f, p + i, g + i, m ? m + i : NULL, n - i);
}

/* Sixteen partial sums on every instruction set, so that the result has the same bits on all of them. */
static void sum_squares(const float *x, int64_t n, double *sum)
{
    double s[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) s[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++) s[j] += (double)x[i] * (double)x[i];
    for (int w = 8; w; w /= 2)
        for (int j = 0; j < w; j++) s[j] += s[j + w];
    *sum = s[0];
}
