/* op_linear.c - y = act(x w^T + b). */
#include "ops.h"

enum { X, W, B, N_IN };
enum { PRE, N_SAVED };

static const pl_port ports[N_IN] = {
    {"x", PL_DTYPE_F32, 0}, {"weight", PL_DTYPE_F32, 0}, {"bias", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_linear;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_linear *attr = call->attr;
    PL__CHECK(pl__check_rank(op, call, X, 2));
    PL__CHECK(pl__check_rank(op, call, W, 2));
    PL__CHECK(pl__check_enum(op, "activation", attr->activation, PL_ACT_COUNT));
    const pl_tensor *x = &call->in[X], *w = &call->in[W];
    const int64_t rows = x->shape[0], width = w->shape[0];
    if (x->shape[1] < 1) return pl__fail(PL_STATUS_VALUE, "linear: x has width 0, expected at least 1");
    PL__CHECK(pl__check_shape(op, call, W, 2, (int64_t[]){-1, x->shape[1]}, "the last dimension of x"));
    PL__CHECK(pl__check_shape(op, call, B, 1, &width, "the first dimension of weight"));
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, rows, width));
    /* the derivative of the activation needs the sum before it */
    if (call->want && attr->activation != PL_ACT_NONE) return pl__shape2(&call->saved[PRE], PL_DTYPE_F32, rows, width);
    pl__no_tensor(&call->saved[PRE]);
    return PL_STATUS_OK;
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_linear *attr = call->attr;
    const pl_tensor *x = &call->in[X], *y = &call->out[0], *pre = &call->saved[PRE];
    const bool keep = pre->ndim >= 0;
    PL__CHECK(pl__linear_forward(call->ctx, x->shape[0], x->shape[1], y->shape[1], x->data, call->in[W].data,
                                 pl__pack(call, W), call->in[B].data, keep ? PL_ACT_NONE : attr->activation, NULL,
                                 keep ? pre->data : y->data));
    if (keep) pl__activation_run(call->ctx, attr->activation, pre->data, y->data, pl__count(y));
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_attr_linear *attr = call->attr;
    const pl_tensor *x = &call->in[X], *w = &call->in[W];
    const int64_t rows = x->shape[0], width = w->shape[0];
    pl_status status = PL_STATUS_OK;
    float *dpre = NULL;
    const float *dy = call->dout[0].data;
    if (attr->activation != PL_ACT_NONE) {
        PL__TRY(pl__scratch(&dpre, (size_t)(rows * width), sizeof *dpre));
        pl__activation_back(call->ctx, attr->activation, call->saved[PRE].data, dy, dpre, NULL, rows * width);
        dy = dpre;
    }
    PL__TRY(pl__linear_backward(call->ctx, rows, x->shape[1], width, x->data, w->data, pl__pack(call, W), dy,
                                call->din[X].data, pl__adds(call, X), call->din[W].data, pl__adds(call, W),
                                call->din[B].data, pl__adds(call, B)));
done:
    pl_buffer_put(dpre);
    return status;
}

const pl_op pl_op_linear = {"linear", sizeof(pl_attr_linear), ports, N_IN, 1, N_SAVED, infer, forward, backward, 0};
