/* op_stream_split.c - each sample's rows dealt out to several streams, in order: the inverse of stream_concat. */
#include "ops.h"

enum { X, OFFSETS, PARTS, N_IN };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0}, {"offsets", PL_DTYPE_I64, 0}, {"parts", PL_DTYPE_I64, 0}};

/* Offsets of one part. */
static inline const int64_t *part_of(const pl_call *call, int64_t part)
{
    return (const int64_t *)call->in[PARTS].data + part * call->in[PARTS].shape[1];
}

static pl_status check_part(const pl_call *call, int64_t p)
{
    const int64_t *part = part_of(call, p);
    if (part[0] != 0)
        return pl__fail(PL_STATUS_VALUE, "stream_split: parts[%lld] starts at %lld, expected 0", (long long)p,
                        (long long)part[0]);
    for (int64_t b = 1; b < call->in[PARTS].shape[1]; b++)
        if (part[b] < part[b - 1])
            return pl__fail(PL_STATUS_VALUE,
                            "stream_split: parts[%lld][%lld] is %lld, below the %lld before it; offsets must ascend",
                            (long long)p, (long long)b, (long long)part[b], (long long)part[b - 1]);
    return PL_STATUS_OK;
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_stream_split;
    PL__CHECK(pl__check_ports(op, call));
    PL__CHECK(pl__check_rank(op, call, X, 2));
    PL__CHECK(pl__check_offsets(op, call, OFFSETS, call->in[X].shape[0], "x"));
    const int64_t samples = call->in[OFFSETS].shape[0] - 1, *offsets = call->in[OFFSETS].data;
    PL__CHECK(pl__check_shape(op, call, PARTS, 2, (int64_t[]){-1, samples + 1}, "one row of offsets for each part"));
    const int64_t count = call->in[PARTS].shape[0];
    if (count < 1 || count > PL_MAX_OUT)
        return pl__fail(PL_STATUS_VALUE, "stream_split: parts has %lld entries, expected 1 to %d", (long long)count,
                        PL_MAX_OUT);
    for (int64_t p = 0; p < count; p++) PL__CHECK(check_part(call, p));
    for (int64_t b = 0; b < samples; b++) {
        int64_t rows = 0;
        for (int64_t p = 0; p < count; p++)
            if (!pl__add(rows, part_of(call, p)[b + 1] - part_of(call, p)[b], &rows)) {
                rows = INT64_MAX;
                break;
            }
        if (rows != offsets[b + 1] - offsets[b])
            return pl__fail(PL_STATUS_VALUE,
                            "stream_split: parts take %lld rows of sample %lld, expected %lld, all that it has",
                            (long long)rows, (long long)b, (long long)(offsets[b + 1] - offsets[b]));
    }
    call->n_out = (int)count;
    for (int64_t p = 0; p < count; p++)
        PL__CHECK(pl__shape2(&call->out[p], PL_DTYPE_F32, part_of(call, p)[samples], call->in[X].shape[1]));
    return PL_STATUS_OK;
}

static void copy_samples(void *arg, int64_t first, int64_t last)
{
    const pl_call *call = arg;
    const int64_t width = call->in[X].shape[1], *offsets = call->in[OFFSETS].data;
    const float *from = (const float *)call->in[X].data + offsets[first] * width;
    for (int64_t b = first; b < last; b++)
        for (int p = 0; p < call->n_out; p++) {
            const int64_t *part = part_of(call, p), n = (part[b + 1] - part[b]) * width;
            memcpy((float *)call->out[p].data + part[b] * width, from, (size_t)n * sizeof *from);
            from += n;
        }
}

static void join_samples(void *arg, int64_t first, int64_t last)
{
    const pl_call *call = arg;
    const int64_t width = call->in[X].shape[1], *offsets = call->in[OFFSETS].data;
    const bool add = pl__adds(call, X);
    float *to = (float *)call->din[X].data + offsets[first] * width;
    for (int64_t b = first; b < last; b++)
        for (int p = 0; p < call->n_out; p++) {
            const int64_t *part = part_of(call, p), n = (part[b + 1] - part[b]) * width;
            const float *from = call->dout[p].data;
            if (!from && !add)
                memset(to, 0, (size_t)n * sizeof *to);
            else if (from && add)
                call->ctx->simd->add_into(from + part[b] * width, to, n);
            else if (from)
                memcpy(to, from + part[b] * width, (size_t)n * sizeof *to);
            to += n;
        }
}

#define COPY_NS 0.3 /* an element */

static void run(const pl_call *call, pl__range_fn fn)
{
    const int64_t samples = call->in[OFFSETS].shape[0] - 1;
    const double elements = (double)pl__count(&call->in[X]);
    pl__parallel_ranges(call->ctx, samples, pl__grain(COPY_NS * elements / (double)(samples ? samples : 1)), fn,
                        (void *)call);
}

static pl_status forward(const pl_call *call)
{
    run(call, copy_samples);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    if (call->din[X].data) run(call, join_samples);
    return PL_STATUS_OK;
}

const pl_op pl_op_stream_split = {"stream_split", 0, ports, N_IN, PL_MAX_OUT, 0, infer, forward, backward, 0};
