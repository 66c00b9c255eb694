/* mlp.c - the two-layer perceptron on raw pointers. */
#include "low.h"
#include "mlp.h"

/* Both layers in bfloat16: what is between them is never anything else. */
static pl_status forward_bf16(const pl_context *ctx, const pl__mlp *m, const float *x, const float *residual, float *y)
{
    pl_status status;
    pl__rounded in = {0}, h = {0};
    pl__product first = pl__linear_product(m->rows, m->width, m->hidden, x, m->w1, m->pack1, m->b1,
                                           (pl_activation)m->activation, NULL, NULL);
    pl__product second = pl__linear_product(m->rows, m->hidden, m->width_out, NULL, m->w2, m->pack2, m->b2, PL_ACT_NONE,
                                            residual, y);
    PL__TRY(pl__rounded_make(ctx, PL_DTYPE_BF16, m->rows, m->width, x, &in));
    PL__TRY(pl__rounded_make(ctx, PL_DTYPE_BF16, m->rows, m->hidden, NULL, &h));
    PL__TRY(pl__linear_rounded(ctx, &first, &in, h.data));
    PL__TRY(pl__linear_rounded(ctx, &second, &h, NULL));
done:
    pl__rounded_free(&h);
    pl__rounded_free(&in);
    return status;
}

pl_status pl__mlp_forward(const pl_context *ctx, const pl__mlp *m, const float *x, const float *residual, float *pre,
                          float *y)
{
    pl_status status;
    float *h = NULL;
    if (!pre && pl_pack_dtype(m->pack1) == PL_DTYPE_BF16 && pl_pack_dtype(m->pack2) == PL_DTYPE_BF16)
        return forward_bf16(ctx, m, x, residual, y);
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
