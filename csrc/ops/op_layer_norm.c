/* op_layer_norm.c - y = (x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension. */
#include "ops.h"

enum { X, W, B, N_IN };
enum { MEAN, RSTD, N_SAVED };

static const pl_port ports[N_IN] = {
    {"x", PL_DTYPE_F32, 0}, {"weight", PL_DTYPE_F32, PL_PORT_OPTIONAL}, {"bias", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_layer_norm;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_layer_norm *attr = call->attr;
    int64_t rows, width;
    PL__CHECK(pl__check_positive(op, "eps", attr->eps));
    PL__CHECK(pl__check_rows(op, call, X, &rows, &width));
    PL__CHECK(pl__check_shape(op, call, W, 1, &width, "the last dimension of x"));
    PL__CHECK(pl__check_shape(op, call, B, 1, &width, "the last dimension of x"));
    PL__CHECK(pl__shape_like(&call->out[0], &call->in[X]));
    pl__no_tensor(&call->saved[MEAN]);
    pl__no_tensor(&call->saved[RSTD]);
    if (!call->want) return PL_STATUS_OK;
    PL__CHECK(pl__shape1(&call->saved[MEAN], PL_DTYPE_F32, rows));
    return pl__shape1(&call->saved[RSTD], PL_DTYPE_F32, rows);
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_layer_norm *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    pl__layer_norm_forward(call->ctx, pl__rows(x), pl__width(x), x->data, call->in[W].data, call->in[B].data,
                           attr->eps, call->out[0].data, call->saved[MEAN].data, call->saved[RSTD].data);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_tensor *x = &call->in[X];
    float *dx = call->din[X].data;
    return pl__layer_norm_backward(call->ctx, pl__rows(x), pl__width(x), x->data, call->in[W].data,
                                   call->saved[MEAN].data, call->saved[RSTD].data, call->dout[0].data,
                                   pl__adds(call, X) ? dx : NULL, dx, call->din[W].data, pl__adds(call, W),
                                   call->din[B].data, pl__adds(call, B));
}

const pl_op pl_op_layer_norm = {"layer_norm", sizeof(pl_attr_layer_norm), ports, N_IN, 1, N_SAVED, infer, forward,
                                backward, 0};
