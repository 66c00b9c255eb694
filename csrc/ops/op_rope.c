/* op_rope.c - pairs of columns turned by an angle that grows with the row's position (rotary positions). */
#include "positions.h"

enum { X, OFFSETS, TIMES, START, N_IN };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0},
                                    {"offsets", PL_DTYPE_I64, 0},
                                    {"times", PL_DTYPE_F32, PL_PORT_OPTIONAL},
                                    {"start", PL_DTYPE_I64, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_rope;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_rope *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    PL__CHECK(pl__check_rank(op, call, X, 2));
    PL__CHECK(pl__check_positive(op, "base", attr->base));
    if (attr->heads < 1 || x->shape[1] < 1 || x->shape[1] % attr->heads)
        return pl__fail(PL_STATUS_VALUE, "rope: x has width %lld, expected a multiple of heads, which is %d",
                        (long long)x->shape[1], attr->heads);
    const int64_t width = x->shape[1] / attr->heads;
    if (attr->rotary_dim < 2 || attr->rotary_dim > width || attr->rotary_dim % 2)
        return pl__fail(PL_STATUS_VALUE, "rope: rotary_dim is %lld, expected an even number from 2 to %lld, the width "
                        "of a head", (long long)attr->rotary_dim, (long long)width);
    PL__CHECK(pl__check_positions(op, call, X, OFFSETS, START));
    PL__CHECK(pl__check_shape(op, call, TIMES, 2, (int64_t[]){2, x->shape[0]}, "times and what rounding left of them"));
    if (pl__present(&call->in[TIMES]) && pl__present(&call->in[START]))
        return pl__fail(PL_STATUS_VALUE, "rope: start was given beside times, expected one of them");
    if (pl__wants(call, TIMES)) return pl__fail(PL_STATUS_UNSUPPORTED, "rope: times has no gradient");
    return pl__shape_like(&call->out[0], x);
}

static pl_status turn(const pl_call *call, float direction, const float *from, float *to, bool add)
{
    const pl_attr_rope *attr = call->attr;
    const pl_tensor *x = &call->in[X];
    const pl__rope rope = {.heads = attr->heads, .width = x->shape[1] / attr->heads, .rotary = attr->rotary_dim,
                           .interleaved = attr->interleaved, .base = attr->base, .direction = direction};
    const float *times = call->in[TIMES].data;
    const pl__positions positions = {.offsets = call->in[OFFSETS].data, .samples = call->in[OFFSETS].shape[0] - 1,
                                     .start = call->in[START].data, .times = times,
                                     .rest = times ? times + x->shape[0] : NULL};
    return pl__rope_run(call->ctx, &rope, &positions, x->shape[0], from, to, add);
}

static pl_status forward(const pl_call *call) { return turn(call, 1, call->in[X].data, call->out[0].data, false); }

static pl_status backward(const pl_call *call)
{
    return turn(call, -1, call->dout[0].data, call->din[X].data, pl__adds(call, X));
}

const pl_op pl_op_rope = {"rope", sizeof(pl_attr_rope), ports, N_IN, 1, 0, infer, forward, backward, 0};
