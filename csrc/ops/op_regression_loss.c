/* op_regression_loss.c - squares, absolute values or Huber's function of differences; weighted by rows, and summed. */
#include <math.h>

#include "ops.h"

enum { PREDICTION, TARGET, PRESENT, N_IN };

static const pl_port ports[N_IN] = {{"prediction", PL_DTYPE_F32, 0},
                                    {"target", PL_DTYPE_F32, 0},
                                    {"present", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_regression_loss;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_regression_loss *attr = call->attr;
    const pl_tensor *x = &call->in[PREDICTION], *present = &call->in[PRESENT];
    PL__CHECK(pl__check_enum(op, "kind", attr->kind, PL_REGRESSION_COUNT));
    PL__CHECK(pl__check_enum(op, "reduction", attr->reduction, PL_REDUCTION_COUNT));
    PL__CHECK(pl__check_positive(op, "delta", attr->delta));
    PL__CHECK(pl__check_shape(op, call, TARGET, x->ndim, x->shape, "the shape of prediction"));
    if (pl__present(present) && x->ndim < 1)
        return pl__fail(PL_STATUS_VALUE, "regression_loss: prediction has no rows, expected no present");
    PL__CHECK(pl__check_shape(op, call, PRESENT, 1, x->shape, "the rows of prediction"));
    const float *weights = present->data;
    for (int64_t i = 0; weights && i < present->shape[0]; i++)
        if (!(weights[i] >= 0 && isfinite(weights[i])))
            return pl__fail(PL_STATUS_VALUE, "regression_loss: present[%lld] is %g, expected a finite weight, at least "
                            "0", (long long)i, (double)weights[i]);
    if (pl__wants(call, PRESENT)) return pl__fail(PL_STATUS_UNSUPPORTED, "regression_loss: present has no gradient");
    if (attr->reduction == PL_REDUCTION_NONE) return pl__shape_like(&call->out[0], x);
    return pl_tensor_init(&call->out[0], NULL, PL_DTYPE_F32, 0, NULL);
}

#define CHUNK 4096 /* elements whose losses are added in float; chunks are added in double, in order */

typedef struct regression {
    const pl_simd *simd;
    pl__regression how;
    const float *prediction, *target, *weights, *douts;
    int64_t count, inner; /* elements, elements of a row */
    double *sums;
    float *out, *dprediction, *dtarget;
    bool add_dp, add_dt;
} regression;

static double piece(const regression *a, const pl__regression *how, int64_t at, int64_t n)
{
    double sum = 0;
    const float *x = a->prediction + at, *t = a->target + at;
    if (a->sums)
        a->simd->regression_sum(how, x, t, n, &sum);
    else if (a->out)
        a->simd->regression_each(how, x, t, n, a->out + at);
    else
        a->simd->regression_back(how, x, t, n, a->dprediction ? a->dprediction + at : NULL, a->add_dp,
                                 a->dtarget ? a->dtarget + at : NULL, a->add_dt);
    return sum;
}

/* One weight for all, one an element, or one for each row that the chunk meets. */
static double chunk(const regression *a, int64_t begin, int64_t end)
{
    pl__regression how = a->how;
    if (!a->weights || a->inner == 1) {
        if (a->weights) how.weights = a->weights + begin;
        if (a->douts) how.douts = a->douts + begin;
        return piece(a, &how, begin, end - begin);
    }
    double sum = 0;
    for (int64_t i = begin; i < end;) {
        const int64_t row = i / a->inner, next = (row + 1) * a->inner < end ? (row + 1) * a->inner : end;
        how.weight = a->weights[row];
        if (a->douts) how.douts = a->douts + i;
        sum += piece(a, &how, i, next - i);
        i = next;
    }
    return sum;
}

static void chunks_range(void *arg, int64_t begin, int64_t end)
{
    const regression *a = arg;
    for (int64_t i = begin; i < end; i += CHUNK) {
        const double sum = chunk(a, i, i + CHUNK < end ? i + CHUNK : end);
        if (a->sums) a->sums[i / CHUNK] = sum;
    }
}

static void run(const pl_context *ctx, regression *a)
{
    const int64_t grain = (pl__grain(0.4) + CHUNK - 1) / CHUNK * CHUNK;
    pl__parallel_ranges(ctx, a->count, grain, chunks_range, a);
}

static regression arguments(const pl_call *call)
{
    const pl_attr_regression_loss *attr = call->attr;
    const pl_tensor *x = &call->in[PREDICTION];
    const int64_t count = pl__count(x), rows = x->ndim ? x->shape[0] : 1;
    return (regression){.simd = call->ctx->simd,
                        .how = {.kind = attr->kind, .delta = (float)attr->delta, .weight = 1, .scale = 1},
                        .prediction = x->data, .target = call->in[TARGET].data, .weights = call->in[PRESENT].data,
                        .count = count, .inner = rows ? count / rows : 1};
}

/* What the sum of all losses is multiplied with: 1, or 1 / (weights of the rows x elements of a row), 0 without any. */
static double factor(const pl_call *call, const regression *a)
{
    const pl_attr_regression_loss *attr = call->attr;
    if (attr->reduction != PL_REDUCTION_MEAN) return 1;
    double total = (double)a->count;
    if (a->weights) {
        total = 0;
        for (int64_t i = 0; i < call->in[PRESENT].shape[0]; i++) total += (double)a->weights[i];
        total *= (double)a->inner;
    }
    return total > 0 ? 1 / total : 0;
}

static pl_status forward(const pl_call *call)
{
    const pl_attr_regression_loss *attr = call->attr;
    regression a = arguments(call);
    if (attr->reduction == PL_REDUCTION_NONE) {
        a.out = call->out[0].data;
        run(call->ctx, &a);
        return PL_STATUS_OK;
    }
    const int64_t chunks = (a.count + CHUNK - 1) / CHUNK;
    PL__CHECK(pl__scratch(&a.sums, (size_t)chunks, sizeof *a.sums));
    run(call->ctx, &a);
    double sum = 0;
    for (int64_t i = 0; i < chunks; i++) sum += a.sums[i];
    *(float *)call->out[0].data = (float)(sum * factor(call, &a));
    pl_buffer_put(a.sums);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_attr_regression_loss *attr = call->attr;
    regression a = arguments(call);
    const float *dout = call->dout[0].data;
    a.dprediction = call->din[PREDICTION].data;
    a.dtarget = call->din[TARGET].data;
    a.add_dp = pl__adds(call, PREDICTION);
    a.add_dt = pl__adds(call, TARGET);
    if (attr->reduction == PL_REDUCTION_NONE)
        a.douts = dout;
    else
        a.how.scale = (float)(factor(call, &a) * (double)*dout);
    run(call->ctx, &a);
    return PL_STATUS_OK;
}

const pl_op pl_op_regression_loss = {"regression_loss", sizeof(pl_attr_regression_loss), ports, N_IN, 1, 0, infer,
                                     forward, backward, 0};
