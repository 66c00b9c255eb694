/* op_l2_normalize.c - y = x / |x|, over the last dimension; rows with |x| <= eps give 0, and no gradient. */
#include "ops.h"

enum { X, N_IN };
enum { RECIPROCAL, N_SAVED };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_l2_normalize;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_l2_normalize *attr = call->attr;
    int64_t rows, width;
    PL__CHECK(pl__check_positive(op, "eps", attr->eps));
    PL__CHECK(pl__check_rows(op, call, X, &rows, &width));
    PL__CHECK(pl__shape_like(&call->out[0], &call->in[X]));
    if (call->want) return pl__shape1(&call->saved[RECIPROCAL], PL_DTYPE_F32, rows);
    pl__no_tensor(&call->saved[RECIPROCAL]);
    return PL_STATUS_OK;
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_l2_normalize *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    pl__l2_normalize_forward(call->ctx, pl__rows(x), pl__width(x), x->data, attr->eps, call->out[0].data,
                             call->saved[RECIPROCAL].data);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_tensor *x = &call->in[X];
    float *dx = call->din[X].data;
    pl__l2_normalize_backward(call->ctx, pl__rows(x), pl__width(x), x->data, call->saved[RECIPROCAL].data,
                              call->dout[0].data, pl__adds(call, X) ? dx : NULL, dx);
    return PL_STATUS_OK;
}

const pl_op pl_op_l2_normalize = {"l2_normalize", sizeof(pl_attr_l2_normalize), ports, N_IN, 1, N_SAVED, infer,
                                  forward, backward, 0};
