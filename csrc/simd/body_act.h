/* body_act.h - activations and their derivatives. Formulas: plait.reference.activation. */

#define GELU_TANH_A 0.79788456f /* sqrt(2 / pi) */
#define GELU_TANH_B 0.044715f
#define INV_SQRT_2PI 0.39894228f

/* y = act(x); with `slope` the derivative too. `act` is a constant wherever this is inlined. */
INLINE vf act_apply(int act, vf x, vf *slope)
{
    vf y, g, s;
    switch (act) {
    case PL_ACT_RELU:
        *slope = vselect(x > 0.0f, vset(1.0f), vset(0.0f));
        return vselect(x < 0.0f, vset(0.0f), x); /* NaN stays NaN */
    case PL_ACT_GELU:
        s = vnormal_cdf(x, &g);
        *slope = s + x * g * INV_SQRT_2PI;
        return x * s;
    case PL_ACT_GELU_TANH:
        g = vtanh(GELU_TANH_A * (x + GELU_TANH_B * x * x * x));
        s = 0.5f * (1.0f + g);
        *slope = s + 0.5f * x * (1.0f - g * g) * GELU_TANH_A * (1.0f + 3.0f * GELU_TANH_B * x * x);
        return x * s;
    case PL_ACT_QUICK_GELU:
        s = vsigmoid(1.702f * x);
        *slope = s + 1.702f * x * s * (1.0f - s);
        return x * s;
    case PL_ACT_SILU:
        s = vsigmoid(x);
        *slope = s + x * s * (1.0f - s);
        return x * s;
    case PL_ACT_TANH:
        y = vtanh(x);
        *slope = 1.0f - y * y;
        return y;
    case PL_ACT_SIGMOID:
        y = vsigmoid(x);
        *slope = y * (1.0f - y);
        return y;
    default:
        *slope = vset(1.0f);
        return x;
    }
}

INLINE void act_forward_loop(int act, const float *x, float *y, int64_t n)
{
    vf slope;
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) vstore(y + i, act_apply(act, vload(x + i), &slope));
    if (i < n) vstore_n(y + i, act_apply(act, vload_n(x + i, n - i), &slope), n - i);
}

INLINE void act_backward_loop(int act, const float *x, const float *dy, float *dx, float *y, int64_t n)
{
    vf slope, value;
    int64_t i = 0;
    for (; i + PL_VL <= n; i += PL_VL) {
        value = act_apply(act, vload(x + i), &slope);
        vstore(dx + i, vload(dy + i) * slope);
        if (y) vstore(y + i, value);
    }
    if (i < n) {
        value = act_apply(act, vload_n(x + i, n - i), &slope);
        vstore_n(dx + i, vload_n(dy + i, n - i) * slope, n - i);
        if (y) vstore_n(y + i, value, n - i);
    }
}

INLINE void act_backward_add_loop(int act, const float *x, const float *dy, float *dx, int64_t n)
{
    vf slope;
    for (int64_t i = 0; i < n; i += PL_VL) {
        act_apply(act, vload_upto(x + i, n - i), &slope);
        vstore_upto(dx + i, vload_upto(dx + i, n - i) + vload_upto(dy + i, n - i) * slope, n - i);
    }
}

#define FOR_EACH_ACT(CASE)                                                                                     \
    CASE(PL_ACT_NONE) CASE(PL_ACT_RELU) CASE(PL_ACT_GELU) CASE(PL_ACT_GELU_TANH) CASE(PL_ACT_QUICK_GELU)        \
    CASE(PL_ACT_SILU) CASE(PL_ACT_TANH) CASE(PL_ACT_SIGMOID)

static void act_forward(int act, const float *x, float *y, int64_t n)
{
    switch (act) {
#define CASE(a) case a: act_forward_loop(a, x, y, n); break;
        FOR_EACH_ACT(CASE)
#undef CASE
    }
}

static void act_backward(int act, const float *x, const float *dy, float *dx, float *y, int64_t n)
{
    switch (act) {
#define CASE(a) case a: act_backward_loop(a, x, dy, dx, y, n); break;
        FOR_EACH_ACT(CASE)
#undef CASE
    }
}

static void act_backward_add(int act, const float *x, const float *dy, float *dx, int64_t n)
{
    switch (act) {
#define CASE(a) case a: act_backward_add_loop(a, x, dy, dx, n); break;
        FOR_EACH_ACT(CASE)
#undef CASE
    }
}
