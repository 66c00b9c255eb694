/* op_attention_pool.c - a weighted mean of each sample's rows; head h weighs its D / H columns by the softmax of the
 * scores of column h over the sample's rows. */
#include "ops.h"

enum { X, OFFSETS, SCORES, N_IN };
enum { WEIGHTS, N_SAVED };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}, {"offsets", PL_DTYPE_I64, 0}, {"scores", PL_DTYPE_F32, 0}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_attention_pool;
    PL__CHECK(pl__check_ports(op, call));
    PL__CHECK(pl__check_rank(op, call, X, 2));
    const int64_t rows = call->in[X].shape[0], width = call->in[X].shape[1];
    PL__CHECK(pl__check_offsets(op, call, OFFSETS, rows, "x"));
    PL__CHECK(pl__check_shape(op, call, SCORES, 2, (int64_t[]){rows, -1}, "a row of scores for each row of x"));
    const int64_t heads = call->in[SCORES].shape[1];
    if (heads < 1 || heads > width || width % heads)
        return pl__fail(PL_STATUS_VALUE, "attention_pool: scores has %lld heads, expected a divisor of %lld, "
                        "the width of x", (long long)heads, (long long)width);
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, call->in[OFFSETS].shape[0] - 1, width));
    /* head by head, so that a segment's weights lie together */
    if (call->want) return pl__shape2(&call->saved[WEIGHTS], PL_DTYPE_F32, heads, rows);
    pl__no_tensor(&call->saved[WEIGHTS]);
    return PL_STATUS_OK;
}

typedef struct job {
    const pl_call *call;
    float *weights, *dweights;
    int64_t rows, width, heads;
} job;

static void pool_units(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const pl_simd *simd = j->call->ctx->simd;
    const int64_t *offsets = j->call->in[OFFSETS].data, part = j->width / j->heads;
    for (int64_t u = first; u < last; u++) {
        const int64_t b = u / j->heads, h = u % j->heads, begin = offsets[b], n = offsets[b + 1] - begin;
        float *w = j->weights + h * j->rows + begin, *y = (float *)j->call->out[0].data + b * j->width;
        simd->pool_softmax((const float *)j->call->in[SCORES].data + begin * j->heads + h, j->heads, n, w);
        simd->pool_weighted((const float *)j->call->in[X].data + begin * j->width, w, n, j->width, h * part,
                            (h + 1) * part, y);
    }
}

static void score_gradient(const job *j, const float *w, const float *dw, int64_t n, float *dscore)
{
    const bool add = pl__adds(j->call, SCORES);
    float mean = 0.0f;
    for (int64_t i = 0; i < n; i++) mean += w[i] * dw[i];
    for (int64_t i = 0; i < n; i++) {
        const float d = w[i] * (dw[i] - mean);
        dscore[i * j->heads] = add ? dscore[i * j->heads] + d : d;
    }
}

static void unpool_units(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const pl_simd *simd = j->call->ctx->simd;
    const int64_t *offsets = j->call->in[OFFSETS].data, part = j->width / j->heads;
    float *dx = j->call->din[X].data, *dscores = j->call->din[SCORES].data;
    for (int64_t u = first; u < last; u++) {
        const int64_t b = u / j->heads, h = u % j->heads, begin = offsets[b], n = offsets[b + 1] - begin;
        const float *w = j->weights + h * j->rows + begin, *dy = (const float *)j->call->dout[0].data + b * j->width;
        float *dw = dscores ? j->dweights + h * j->rows + begin : NULL;
        simd->pool_weighted_back((const float *)j->call->in[X].data + begin * j->width, w, dy, n, j->width, h * part,
                                 (h + 1) * part, dx ? dx + begin * j->width : NULL, pl__adds(j->call, X), dw);
        if (dw) score_gradient(j, w, dw, n, dscores + begin * j->heads + h);
    }
}

static job make_job(const pl_call *call)
{
    return (job){.call = call, .weights = call->saved[WEIGHTS].data, .rows = call->in[X].shape[0],
                 .width = call->in[X].shape[1], .heads = call->in[SCORES].shape[1]};
}

static void run(job *j, pl__range_fn fn)
{
    const int64_t units = (j->call->in[OFFSETS].shape[0] - 1) * j->heads;
    const double cost = 0.4 * (double)pl__count(&j->call->in[X]); /* nanoseconds */
    pl__parallel_ranges(j->call->ctx, units, pl__grain(cost / (double)(units ? units : 1)), fn, j);
}

static pl_status forward(const pl_call *call)
{
    pl_status status = PL_STATUS_OK;
    job j = make_job(call);
    float *scratch = NULL;
    if (!j.weights) {
        PL__TRY(pl__scratch(&scratch, (size_t)(j.rows * j.heads), sizeof *scratch));
        j.weights = scratch;
    }
    run(&j, pool_units);
done:
    pl_buffer_put(scratch);
    return status;
}

static pl_status backward(const pl_call *call)
{
    pl_status status = PL_STATUS_OK;
    job j = make_job(call);
    if (call->din[SCORES].data) PL__TRY(pl__scratch(&j.dweights, (size_t)(j.rows * j.heads), sizeof *j.dweights));
    run(&j, unpool_units);
done:
    pl_buffer_put(j.dweights);
    return status;
}

const pl_op pl_op_attention_pool = {"attention_pool", 0, ports, N_IN, 1, N_SAVED, infer, forward, backward, 0};
