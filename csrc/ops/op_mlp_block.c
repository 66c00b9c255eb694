/* op_mlp_block.c - the MLP sublayer: norm, two linear layers, dropout, residual. */
#include "block.h"
#include "mlp.h"

enum { X, NORM_W, NORM_B, W1, B1, W2, B2, N_IN };
enum { MEAN, RSTD, PRE, SUM, N_SAVED }; /* SUM: what the norm of post-norm read */

static const pl_port ports[N_IN] = {
    {"x", PL_DTYPE_F32, 0},
    {"norm_weight", PL_DTYPE_F32, 0},
    {"norm_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"weight1", PL_DTYPE_F32, 0},
    {"bias1", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"weight2", PL_DTYPE_F32, 0},
    {"bias2", PL_DTYPE_F32, PL_PORT_OPTIONAL},
};

static pl__mlp mlp_of(const pl_call *call)
{
    const pl_attr_mlp_block *attr = call->attr;
    const pl_tensor *in = call->in;
    return (pl__mlp){.rows = in[X].shape[0], .width = in[X].shape[1], .hidden = in[W1].shape[0],
                     .width_out = in[W2].shape[0], .activation = attr->activation,
                     .dtype = pl__mlp_dtype(call, W1, &call->saved[PRE]), .w1 = in[W1].data,
                     .b1 = in[B1].data, .w2 = in[W2].data, .b2 = in[B2].data, .pack1 = pl__pack(call, W1),
                     .pack2 = pl__pack(call, W2)};
}

static pl__sublayer sublayer_of(const pl_call *call)
{
    const pl_attr_mlp_block *attr = call->attr;
    const pl_tensor *in = call->in;
    return (pl__sublayer){.ctx = call->ctx, .rows = in[X].shape[0], .width = in[X].shape[1],
                          .pre_norm = attr->pre_norm, .rms = attr->norm, .eps = attr->eps,
                          .dropout = attr->residual_dropout, .key = call->key, .counter = call->counter,
                          .weight = in[NORM_W].data, .bias = in[NORM_B].data, .mean = call->saved[MEAN].data,
                          .rstd = call->saved[RSTD].data};
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_mlp_block;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_mlp_block *attr = call->attr;
    PL__CHECK(pl__mlp_check(op, call, W1, attr->activation, true));
    PL__CHECK(pl__sublayer_check(op, call, NORM_W, attr->norm, attr->eps, attr->residual_dropout));
    const int64_t rows = call->in[X].shape[0], width = call->in[X].shape[1];
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, rows, width));
    for (int i = 0; i < N_SAVED; i++) pl__no_tensor(&call->saved[i]);
    if (!call->want) return PL_STATUS_OK;
    if (!attr->norm) PL__CHECK(pl__shape1(&call->saved[MEAN], PL_DTYPE_F32, rows));
    PL__CHECK(pl__shape1(&call->saved[RSTD], PL_DTYPE_F32, rows));
    if (!attr->pre_norm) PL__CHECK(pl__shape2(&call->saved[SUM], PL_DTYPE_F32, rows, width));
    return pl__mlp_infer_pre(call, rows, call->in[W1].shape[0], W1, &call->saved[PRE]);
}

static pl_status forward(const pl_call *call)
{
    const pl__sublayer s = sublayer_of(call);
    const pl__mlp m = mlp_of(call);
    const float *x = call->in[X].data;
    float *y = call->out[0].data, *sum = y;
    void *pre = call->saved[PRE].data;
    pl__normed normed = {0};
    pl_status status = PL_STATUS_OK;
    if (s.pre_norm)
        PL__TRY(pl__sublayer_normed(&s, m.dtype, x, &normed));
    else if (call->saved[SUM].data)
        sum = call->saved[SUM].data;
    const float *input = s.pre_norm ? normed.y : x, *residual = s.dropout > 0 ? NULL : x;
    PL__TRY(pl__mlp_forward(s.ctx, &m, input, normed.rounded.data ? &normed.rounded : NULL, residual, pre, sum));
    if (s.dropout > 0) pl__sublayer_join(&s, x, sum, sum);
    if (!s.pre_norm) pl__sublayer_norm(&s, sum, y);
done:
    pl__normed_free(&normed);
    return status;
}

static pl_status backward(const pl_call *call)
{
    const pl__sublayer s = sublayer_of(call);
    const pl__mlp m = mlp_of(call);
    const float *x = call->in[X].data, *dy = call->dout[0].data, *dbranch;
    const size_t n = (size_t)(s.rows * s.width);
    float *dx = call->din[X].data, *dnormed = NULL, *dsum = NULL, *masked = NULL;
    pl__normed normed = {0};
    float *dw = call->din[NORM_W].data, *db = call->din[NORM_B].data;
    pl__mlp_gradients g = {0};
    pl_status status = PL_STATUS_OK;
    for (int i = 0; i < 4; i++) g.d[i] = call->din[W1 + i].data, g.add[i] = pl__adds(call, W1 + i);

    if (!s.pre_norm) { /* through the norm first */
        PL__TRY(pl__scratch(&dsum, n, sizeof *dsum));
        PL__TRY(pl__sublayer_norm_backward(&s, call->saved[SUM].data, dy, NULL, dsum, false, dw, pl__adds(call, NORM_W),
                                           db, pl__adds(call, NORM_B)));
        dy = dsum;
    }
    dbranch = dy;
    if (s.dropout > 0) {
        PL__TRY(pl__scratch(&masked, n, sizeof *masked));
        pl__sublayer_mask(&s, dy, masked);
        dbranch = masked;
    }
    if (s.pre_norm) {
        PL__TRY(pl__scratch(&dnormed, n, sizeof *dnormed));
        PL__TRY(pl__sublayer_normed_again(&s, m.dtype == PL_DTYPE_BF16, x, &normed));
        g.dx = dx || dw || db ? dnormed : NULL;
        PL__TRY(pl__mlp_backward(s.ctx, &m, normed.y, normed.y ? NULL : &normed.rounded, call->saved[PRE].data, dbranch,
                                 &g));
        if (g.dx)
            PL__TRY(pl__sublayer_norm_backward(&s, x, dnormed, dy, dx, pl__adds(call, X), dw, pl__adds(call, NORM_W),
                                               db, pl__adds(call, NORM_B)));
    } else {
        if (dx) pl__copy_or_add(s.ctx, dy, dx, (int64_t)n, pl__adds(call, X));
        g.dx = dx, g.add_dx = true;
        PL__TRY(pl__mlp_backward(s.ctx, &m, x, NULL, call->saved[PRE].data, dbranch, &g));
    }
done:
    pl_buffer_put(masked);
    pl_buffer_put(dnormed);
    pl__normed_free(&normed);
    pl_buffer_put(dsum);
    return status;
}

const pl_op pl_op_mlp_block = {"mlp_block", sizeof(pl_attr_mlp_block), ports, N_IN, 1, N_SAVED, infer, forward,
                               backward, 1};
