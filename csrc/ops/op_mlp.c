/* op_mlp.c - y = act(x w1^T + b1) w2^T + b2. */
#include "mlp.h"

enum { X, W1, B1, W2, B2, N_IN };
enum { PRE, N_SAVED };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0},
                                    {"weight1", PL_DTYPE_F32, 0},
                                    {"bias1", PL_DTYPE_F32, PL_PORT_OPTIONAL},
                                    {"weight2", PL_DTYPE_F32, 0},
                                    {"bias2", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

pl_status pl__mlp_check(const pl_op *op, const pl_call *call, int w1, int activation, bool residual)
{
    const pl_tensor *x = &call->in[0];
    PL__CHECK(pl__check_rank(op, call, 0, 2));
    PL__CHECK(pl__check_enum(op, "activation", activation, PL_ACT_COUNT));
    if (x->shape[1] < 1) return pl__fail(PL_STATUS_VALUE, "%s: x has width 0, expected at least 1", op->name);
    PL__CHECK(pl__check_shape(op, call, w1, 2, (int64_t[]){-1, x->shape[1]}, "the last dimension of x"));
    const int64_t hidden = call->in[w1].shape[0];
    if (hidden < 1) return pl__fail(PL_STATUS_VALUE, "%s: weight1 has 0 rows, expected at least 1", op->name);
    PL__CHECK(pl__check_shape(op, call, w1 + 1, 1, &hidden, "the first dimension of weight1"));
    pl_tensor scratch; /* forward and backward make some of this shape */
    PL__CHECK(pl__shape2(&scratch, PL_DTYPE_F32, x->shape[0], hidden));
    if (residual)
        PL__CHECK(pl__check_shape(op, call, w1 + 2, 2, (int64_t[]){x->shape[1], -1}, "the width of x, for the residual"));
    PL__CHECK(pl__check_shape(op, call, w1 + 2, 2, (int64_t[]){-1, hidden}, "the first dimension of weight1"));
    return pl__check_shape(op, call, w1 + 3, 1, &call->in[w1 + 2].shape[0], "the first dimension of weight2");
}

static pl__mlp view_of(const pl_call *call)
{
    const pl_attr_mlp *attr = call->attr;
    const pl_tensor *in = call->in;
    return (pl__mlp){.rows = in[X].shape[0], .width = in[X].shape[1], .hidden = in[W1].shape[0],
                     .width_out = in[W2].shape[0], .activation = attr->activation,
                     .dtype = pl__mlp_dtype(call, W1, &call->saved[PRE]), .w1 = in[W1].data,
                     .b1 = in[B1].data, .w2 = in[W2].data, .b2 = in[B2].data, .pack1 = pl__pack(call, W1),
                     .pack2 = pl__pack(call, W2)};
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_mlp;
    PL__CHECK(pl__check_ports(op, call));
    PL__CHECK(pl__mlp_check(op, call, W1, ((const pl_attr_mlp *)call->attr)->activation, false));
    const int64_t rows = call->in[X].shape[0];
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, rows, call->in[W2].shape[0]));
    return pl__mlp_infer_pre(call, rows, call->in[W1].shape[0], W1, &call->saved[PRE]);
}

static pl_status forward(const pl_call *call)
{
    const pl__mlp m = view_of(call);
    return pl__mlp_forward(call->ctx, &m, call->in[X].data, NULL, NULL, call->saved[PRE].data, call->out[0].data);
}

static pl_status backward(const pl_call *call)
{
    const pl__mlp m = view_of(call);
    pl__mlp_gradients g = {.dx = call->din[X].data, .add_dx = pl__adds(call, X)};
    for (int i = 0; i < 4; i++) g.d[i] = call->din[W1 + i].data, g.add[i] = pl__adds(call, W1 + i);
    return pl__mlp_backward(call->ctx, &m, call->in[X].data, NULL, call->saved[PRE].data, call->dout[0].data, &g);
}

const pl_op pl_op_mlp = {"mlp", sizeof(pl_attr_mlp), ports, N_IN, 1, N_SAVED, infer, forward, backward, 0};
