/* op_dropout.c - y = x / (1 - p) where the element's random word says so, else 0. Backward draws the words again. */
#include "../core/random.h"
#include "ops.h"

enum { X, N_IN };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}};

typedef struct dropout {
    const pl_simd *simd;
    uint64_t key, counter, block;
    uint32_t below;
    float scale;
    const float *x, *plus;
    float *y;
} dropout;

static void dropout_range(void *arg, int64_t begin, int64_t end)
{
    const dropout *d = arg;
    d->simd->dropout(d->key, d->counter, d->block + (uint64_t)begin / 4, d->below, d->scale, d->x + begin,
                     d->plus ? d->plus + begin : NULL, d->y + begin, end - begin);
}

#define ELEMENT_NS 1.0 /* an element costs about this, its word included */

void pl__dropout_run(const pl_context *ctx, uint64_t key, uint64_t counter, uint64_t block, double rate, const float *x,
                     const float *plus, float *y, int64_t n)
{
    dropout d = {.simd = ctx->simd, .key = key, .counter = counter, .block = block, .below = pl__drop_below(rate),
                 .scale = (float)(1.0 / (1.0 - rate)), .x = x, .plus = plus, .y = y};
    pl__parallel_ranges(ctx, n, (pl__grain(ELEMENT_NS) + 63) / 64 * 64, dropout_range, &d);
}

static pl_status infer(pl_call *call)
{
    PL__CHECK(pl__check_ports(&pl_op_dropout, call));
    const pl_attr_dropout *attr = call->attr;
    PL__CHECK(pl__check_rate(&pl_op_dropout, "p", attr->p));
    return pl__shape_like(&call->out[0], &call->in[X]);
}

static double rate_of(const pl_call *call)
{
    const pl_attr_dropout *attr = call->attr;
    return attr->training ? attr->p : 0.0;
}

static pl_status forward(const pl_call *call)
{
    const pl_tensor *x = &call->in[X];
    pl__dropout_run(call->ctx, call->key, call->counter, 0, rate_of(call), x->data, NULL, call->out[0].data,
                    pl__count(x));
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    float *dx = call->din[X].data;
    pl__dropout_run(call->ctx, call->key, call->counter, 0, rate_of(call), call->dout[0].data,
                    pl__adds(call, X) ? dx : NULL, dx, pl__count(&call->in[X]));
    return PL_STATUS_OK;
}

const pl_op pl_op_dropout = {"dropout", sizeof(pl_attr_dropout), ports, N_IN, 1, 0, infer, forward, backward, 1};
