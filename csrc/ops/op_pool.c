/* op_pool.c - one row a sample: mean, maximum, first or last of its rows; zeros where it has none. */
#include "ops.h"

enum { X, OFFSETS, N_IN };
enum { ARGMAX, N_SAVED };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}, {"offsets", PL_DTYPE_I64, 0}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_pool;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_pool *attr = call->attr;
    PL__CHECK(pl__check_rank(op, call, X, 2));
    PL__CHECK(pl__check_offsets(op, call, OFFSETS, call->in[X].shape[0], "x"));
    PL__CHECK(pl__check_enum(op, "mode", attr->mode, PL_POOL_COUNT));
    const int64_t samples = call->in[OFFSETS].shape[0] - 1, width = call->in[X].shape[1];
    const int64_t *offsets = call->in[OFFSETS].data;
    if (attr->mode == PL_POOL_MAX) /* the kernel counts rows in 32 bits */
        for (int64_t b = 0; b < samples; b++)
            if (offsets[b + 1] - offsets[b] > INT32_MAX)
                return pl__fail(PL_STATUS_UNSUPPORTED, "pool: sample %lld has %lld rows, expected below 2^31 for max",
                                (long long)b, (long long)(offsets[b + 1] - offsets[b]));
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, samples, width));
    if (call->want && attr->mode == PL_POOL_MAX)
        return pl__shape2(&call->saved[ARGMAX], PL_DTYPE_I64, samples, width);
    pl__no_tensor(&call->saved[ARGMAX]);
    return PL_STATUS_OK;
}

/* Work is dealt out in units of one sample and a block of columns, so that few long samples use all threads too. */
#define BLOCK 256

typedef struct job {
    const pl_call *call;
    int mode;
    int64_t width, blocks;
} job;

typedef struct unit {
    int64_t sample, begin, rows, c0, c1;
} unit;

static unit unit_of(const job *j, int64_t u)
{
    const int64_t *offsets = j->call->in[OFFSETS].data, b = u / j->blocks, c0 = u % j->blocks * BLOCK;
    return (unit){b, offsets[b], offsets[b + 1] - offsets[b], c0, c0 + BLOCK < j->width ? c0 + BLOCK : j->width};
}

static void pool_units(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const pl_simd *simd = j->call->ctx->simd;
    const pl_tensor *argmax = &j->call->saved[ARGMAX];
    for (int64_t i = first; i < last; i++) {
        const unit u = unit_of(j, i);
        const float *x = (const float *)j->call->in[X].data + u.begin * j->width;
        float *y = (float *)j->call->out[0].data + u.sample * j->width;
        if (!u.rows)
            memset(y + u.c0, 0, (size_t)(u.c1 - u.c0) * sizeof *y);
        else if (j->mode == PL_POOL_MEAN) {
            simd->column_sums(x, u.rows, j->width, u.c0, u.c1, y, 0);
            for (int64_t c = u.c0; c < u.c1; c++) y[c] /= (float)u.rows;
        } else if (j->mode == PL_POOL_MAX)
            simd->pool_max(x, u.rows, j->width, u.c0, u.c1, y,
                           argmax->ndim >= 0 ? (int64_t *)argmax->data + u.sample * j->width : NULL);
        else
            memcpy(y + u.c0, x + (j->mode == PL_POOL_LAST ? u.rows - 1 : 0) * j->width + u.c0,
                   (size_t)(u.c1 - u.c0) * sizeof *y);
    }
}

static void unpool_units(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const bool add = pl__adds(j->call, X);
    for (int64_t i = first; i < last; i++) {
        const unit u = unit_of(j, i);
        const float *dy = (const float *)j->call->dout[0].data + u.sample * j->width;
        float *dx = (float *)j->call->din[X].data + u.begin * j->width;
        if (!u.rows) continue;
        if (j->mode == PL_POOL_MEAN) {
            j->call->ctx->simd->pool_spread(dy, 1.0f / (float)u.rows, u.rows, j->width, u.c0, u.c1, dx, add);
            continue;
        }
        if (!add)
            for (int64_t r = 0; r < u.rows; r++)
                memset(dx + r * j->width + u.c0, 0, (size_t)(u.c1 - u.c0) * sizeof *dx);
        const int64_t *argmax = (const int64_t *)j->call->saved[ARGMAX].data + u.sample * j->width;
        const int64_t one = j->mode == PL_POOL_LAST ? u.rows - 1 : 0;
        for (int64_t c = u.c0; c < u.c1; c++) dx[(j->mode == PL_POOL_MAX ? argmax[c] : one) * j->width + c] += dy[c];
    }
}

static void run(const pl_call *call, pl__range_fn fn)
{
    const pl_attr_pool *attr = call->attr;
    const int64_t samples = call->in[OFFSETS].shape[0] - 1, width = call->in[X].shape[1];
    job j = {.call = call, .mode = attr->mode, .width = width, .blocks = (width + BLOCK - 1) / BLOCK};
    const int64_t units = samples * j.blocks;
    const double cost = 0.2 * (double)pl__count(&call->in[X]); /* nanoseconds */
    pl__parallel_ranges(call->ctx, units, pl__grain(cost / (double)(units ? units : 1)), fn, &j);
}

static pl_status forward(const pl_call *call)
{
    run(call, pool_units);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    if (call->din[X].data) run(call, unpool_units);
    return PL_STATUS_OK;
}

const pl_op pl_op_pool = {"pool", sizeof(pl_attr_pool), ports, N_IN, 1, N_SAVED, infer, forward, backward, 0};
