/* mlp.c - the two-layer perceptron on raw pointers. */
#include "mlp.h"

/* Both layers in fewer bits: what is between them never fills memory in float32, unless it is to be kept. */
static pl_status forward_low(const pl_context *ctx, const pl__mlp *m, const pl__rounded *in, const float *residual,
                             float *pre, float *y)
{
    pl_status status;
    pl__rounded h = {0};
    pl__product first = pl__linear_product(m->rows, m->width, m->hidden, NULL, m->w1, m->pack1, m->b1,
                                           pre ? PL_ACT_NONE : (pl_activation)m->activation, NULL, pre);
    pl__product second = pl__linear_product(m->rows, m->hidden, m->width_out, NULL, m->w2, m->pack2, m->b2, PL_ACT_NONE,
                                            residual, y);
    PL__TRY(pl__rounded_get(in->dtype, m->rows, m->hidden, &h));
    PL__TRY(pl__linear_rounded(ctx, &first, in, pre ? NULL : &h));
    if (pre) pl__activation_bf16(ctx, m->activation, pre, &h);
    PL__TRY(pl__linear_rounded(ctx, &second, &h, NULL));
done:
    pl__rounded_free(&h);
    return status;
}

pl_dtype pl__mlp_dtype(const pl__mlp *m, const float *pre)
{
    const pl_dtype dtype = pl_pack_dtype(m->pack1);
    return dtype == pl_pack_dtype(m->pack2) && !(pre && dtype == PL_DTYPE_S8) ? dtype : PL_DTYPE_F32;
}

pl_status pl__mlp_forward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                          const float *residual, float *pre, float *y)
{
    pl_status status;
    float *h = NULL;
    const pl_dtype dtype = pl__mlp_dtype(m, pre);
    if (rounded) return forward_low(ctx, m, rounded, residual, pre, y);
    if (dtype != PL_DTYPE_F32) {
        pl__rounded in;
        PL__CHECK(pl__rounded_of(ctx, dtype, m->rows, m->width, x, &in));
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

pl_status pl__mlp_backward(const pl_context *ctx, const pl__mlp *m, const float *x, const float *pre, const float *dy,
                           const pl__mlp_gradients *g)
{
    pl_status status = PL_STATUS_OK;
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
