/* op_activation.c - y = f(x), element by element, for f by name. */
#include "ops.h"

enum { X, N_IN };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}};

static pl_status infer(pl_call *call)
{
    PL__CHECK(pl__check_ports(&pl_op_activation, call));
    const pl_attr_activation *attr = call->attr;
    PL__CHECK(pl__check_enum(&pl_op_activation, "kind", attr->kind, PL_ACT_COUNT));
    return pl__shape_like(&call->out[0], &call->in[X]);
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_activation *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    pl__activation_run(call->ctx, attr->kind, x->data, call->out[0].data, pl__count(x));
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_attr_activation *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    if (pl__adds(call, X))
        pl__activation_back_add(call->ctx, attr->kind, x->data, call->dout[0].data, call->din[X].data, pl__count(x));
    else
        pl__activation_back(call->ctx, attr->kind, x->data, call->dout[0].data, call->din[X].data, NULL, pl__count(x));
    return PL_STATUS_OK;
}

const pl_op pl_op_activation = {"activation", sizeof(pl_attr_activation), ports, N_IN, 1, 0, infer, forward, backward,
                                0};
