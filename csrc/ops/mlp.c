/* mlp.c - the two-layer perceptron on raw pointers. */
#include "mlp.h"

static pl_dtype packs_dtype(const pl_call *call, int w1)
{
    const pl_dtype dtype = pl_pack_dtype(pl__pack(call, w1));
    return dtype == pl_pack_dtype(pl__pack(call, w1 + 2)) ? dtype : PL_DTYPE_F32;
}

pl_status pl__mlp_infer_pre(const pl_call *call, int64_t rows, int64_t hidden, int w1, pl_tensor *pre)
{
    if (!call->want) {
        pl__no_tensor(pre);
        return PL_STATUS_OK;
    }
    const bool low = packs_dtype(call, w1) == PL_DTYPE_BF16;
    return pl__shape2(pre, low ? PL_DTYPE_BF16 : PL_DTYPE_F32, low ? pl__rounded_rows(rows) : rows, hidden);
}

pl_dtype pl__mlp_dtype(const pl_call *call, int w1, const pl_tensor *pre)
{
    return pre->ndim >= 0 ? pre->dtype : packs_dtype(call, w1);
}

/* Both layers in fewer bits: what is between them never fills memory in float32. */
static pl_status forward_low(const pl_context *ctx, const pl__mlp *m, const pl__rounded *in, const float *residual,
                             void *pre, float *y)
{
    pl_status status;
    pl__rounded h = {0};
    pl__product first = pl__linear_product(m->rows, m->width, m->hidden, NULL, m->w1, m->pack1, m->b1,
                                           pre ? PL_ACT_NONE : (pl_activation)m->activation, NULL, NULL);
    pl__product second = pl__linear_product(m->rows, m->hidden, m->width_out, NULL, m->w2, m->pack2, m->b2, PL_ACT_NONE,
                                            residual, y);
    const pl__rounded kept = {.dtype = m->dtype, .rows = m->rows, .width = m->hidden, .data = pre};
    PL__TRY(pl__rounded_get(m->dtype, m->rows, m->hidden, &h));
    PL__TRY(pl__linear_rounded(ctx, &first, in, pre ? &kept : &h));
    if (pre) pl__activation_bf16(ctx, m->activation, pre, &h);
    PL__TRY(pl__linear_rounded(ctx, &second, &h, NULL));
done:
    pl__rounded_free(&h);
    return status;
}

pl_status pl__mlp_forward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                          const float *residual, void *pre, float *y)
{
    pl_status status;
    float *h = NULL;
    if (rounded) return forward_low(ctx, m, rounded, residual, pre, y);
    if (m->dtype != PL_DTYPE_F32) {
        pl__rounded in;
        PL__CHECK(pl__rounded_of(ctx, m->dtype, m->rows, m->width, x, &in));
        status = forward_low(ctx, m, &in, residual, pre, y);
        pl__rounded_free(&in);
        return status;
    }
    PL__TRY(pl__scratch(&h, (size_t)(m->rows * m->hidden), sizeof *h));
    PL__TRY(pl__linear_forward(ctx, m->rows, m->width, m->hidden, x, m->w1, m->pack1, m->b1,
                               pre ? PL_ACT_NONE : (pl_activation)m->activation, NULL, pre ? pre : h));
    if (pre) pl__activation_run(ctx, m->activation, pre, h, m->rows * m->hidden);
    PL__TRY(pl__linear_forward(ctx, m->rows, m->hidden, m->width_out, h, m->w2, m->pack2, m->b2, PL_ACT_NONE, residual,
                               y));
done:
    pl_buffer_put(h);
    return status;
}

static pl_status backward_bf16(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                               const uint16_t *pre, const float *dy, const pl__mlp_gradients *g)
{
    pl_status status;
    pl__rounded rx = {0}, rdy = {0}, rh = {0}, rdpre = {0};
    PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, m->rows, m->width_out, dy, &rdy));
    PL__TRY(pl__rounded_get(PL_DTYPE_BF16, m->rows, m->hidden, &rh));
    if (g->dx || g->d[0] || g->d[1]) {
        PL__TRY(pl__rounded_get(PL_DTYPE_BF16, m->rows, m->hidden, &rdpre));
        PL__TRY(pl__dx_rounded(ctx, m->w2, m->pack2, m->hidden, &rdy, NULL, false, &rdpre));
        pl__activation_back_bf16(ctx, m->activation, pre, &rdpre, &rh);
    } else
        pl__activation_bf16(ctx, m->activation, pre, &rh);
    if (g->d[2]) PL__TRY(pl__dw_rounded(ctx, &rdy, &rh, g->d[2], g->add[2]));
    if (g->d[3]) pl__column_sums(ctx, dy, m->rows, m->width_out, g->d[3], g->add[3]);
    if (g->dx) PL__TRY(pl__dx_rounded(ctx, m->w1, m->pack1, m->width, &rdpre, g->dx, g->add_dx, NULL));
    if (g->d[0]) {
        if (!rounded) PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, m->rows, m->width, x, &rx));
        PL__TRY(pl__dw_rounded(ctx, &rdpre, rounded ? rounded : &rx, g->d[0], g->add[0]));
    }
    if (g->d[1]) pl__column_sums_rounded(ctx, &rdpre, g->d[1], g->add[1]);
done:
    pl__rounded_free(&rdpre);
    pl__rounded_free(&rh);
    pl__rounded_free(&rdy);
    pl__rounded_free(&rx);
    return status;
}

pl_status pl__mlp_backward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                           const void *pre, const float *dy, const pl__mlp_gradients *g)
{
    if (m->dtype == PL_DTYPE_BF16) return backward_bf16(ctx, m, x, rounded, pre, dy, g);
    pl_status status;
    const int64_t n = m->rows * m->hidden;
    float *h = NULL, *dpre = NULL;
    const bool first = g->dx || g->d[0] || g->d[1];
    PL__TRY(pl__scratch(&h, (size_t)n, sizeof *h));
    if (first) {
        PL__TRY(pl__scratch(&dpre, (size_t)n, sizeof *dpre));
        PL__TRY(pl__linear_backward(ctx, m->rows, m->hidden, m->width_out, NULL, m->w2, m->pack2, dy, dpre, false, NULL,
                                    false, NULL, false));
        /* the activation again and its derivative, in one pass */
        pl__activation_back(ctx, m->activation, pre, dpre, dpre, h, n);
    } else
        pl__activation_run(ctx, m->activation, pre, h, n);
    PL__TRY(pl__linear_backward(ctx, m->rows, m->hidden, m->width_out, h, m->w2, m->pack2, dy, NULL, false, g->d[2],
                                g->add[2], g->d[3], g->add[3]));
    if (first)
        PL__TRY(pl__linear_backward(ctx, m->rows, m->width, m->hidden, x, m->w1, m->pack1, dpre, g->dx, g->add_dx,
                                    g->d[0], g->add[0], g->d[1], g->add[1]));
done:
    pl_buffer_put(dpre);
    pl_buffer_put(h);
    return status;
}
