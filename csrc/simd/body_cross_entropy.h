/* body_cross_entropy.h - one row of logits. Formulas: plait.reference.cross_entropy. */

static void cross_entropy_row(const float *x, int64_t n, const float *weight, int smooth, float *max, float *sum,
                              float *below)
{
    const int64_t whole = n / PL_VL * PL_VL, rest = n - whole;
    vf m = vset(-__builtin_inff()), total = vset(0.0f), gap = vset(0.0f);
    for (int64_t j = 0; j < whole; j += PL_VL) m = vmax(m, vload(x + j));
    if (rest) m = vmax(m, first_lanes(vload_n(x + whole, rest), rest, -__builtin_inff()));
    const float top = vmaximum(m);
    for (int64_t j = 0; j < whole; j += PL_VL) total += vexp(vload(x + j) - top);
    if (rest) total += first_lanes(vexp(vload_n(x + whole, rest) - top), rest, 0.0f);
    if (smooth) {
        for (int64_t j = 0; j < whole; j += PL_VL)
            gap += weight ? vload(weight + j) * (top - vload(x + j)) : top - vload(x + j);
        if (rest) {
            const vf w = weight ? vload_n(weight + whole, rest) : vset(1.0f);
            gap += first_lanes(w * (top - vload_n(x + whole, rest)), rest, 0.0f);
        }
    }
    *max = top;
    *sum = vsum(total);
    *below = vsum(gap);
}

INLINE void cross_entropy_lanes(const float *x, const float *weight, float top, float softmax, float uniform, float *dx,
                                int add, int64_t k)
{
    vf d = softmax * vexp(vload_n(x, k) - top);
    d -= weight ? uniform * vload_n(weight, k) : vset(uniform);
    vstore_n(dx, add ? vload_n(dx, k) + d : d, k);
}

static void cross_entropy_back(const float *x, int64_t n, const float *weight, float max, float softmax, float uniform,
                               float *dx, int add)
{
    int64_t j = 0;
    for (; j + PL_VL <= n; j += PL_VL)
        cross_entropy_lanes(x + j, weight ? weight + j : NULL, max, softmax, uniform, dx + j, add, PL_VL);
    if (j < n) cross_entropy_lanes(x + j, weight ? weight + j : NULL, max, softmax, uniform, dx + j, add, n - j);
}
