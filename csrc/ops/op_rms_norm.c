/* op_rms_norm.c - y = x / sqrt(mean(x^2) + eps) * weight, over the last dimension. */
#include "ops.h"

enum { X, W, N_IN };
enum { RSTD, N_SAVED };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}, {"weight", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_rms_norm;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_rms_norm *attr = call->attr;
    int64_t rows, width;
    PL__CHECK(pl__check_positive(op, "eps", attr->eps));
    PL__CHECK(pl__check_rows(op, call, X, &rows, &width));
    PL__CHECK(pl__check_shape(op, call, W, 1, &width, "the last dimension of x"));
    PL__CHECK(pl__shape_like(&call->out[0], &call->in[X]));
    if (call->want) return pl__shape1(&call->saved[RSTD], PL_DTYPE_F32, rows);
    pl__no_tensor(&call->saved[RSTD]);
    return PL_STATUS_OK;
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_rms_norm *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    pl__rms_norm_forward(call->ctx, pl__rows(x), pl__width(x), x->data, call->in[W].data, attr->eps,
                         call->out[0].data, call->saved[RSTD].data);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_tensor *x = &call->in[X];
    float *dx = call->din[X].data;
    return pl__rms_norm_backward(call->ctx, pl__rows(x), pl__width(x), x->data, call->in[W].data,
                                 call->saved[RSTD].data, call->dout[0].data, pl__adds(call, X) ? dx : NULL, dx,
                                 call->din[W].data, pl__adds(call, W));
}

const pl_op pl_op_rms_norm = {"rms_norm", sizeof(pl_attr_rms_norm), ports, N_IN, 1, N_SAVED, infer, forward, backward,
                              0};
