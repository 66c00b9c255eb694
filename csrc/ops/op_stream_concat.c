/* op_stream_concat.c - per sample, the segments of several streams one after the other.
 * A stream without offsets is a matrix whose rows every sample gets. */
#include "ops.h"

enum { ROWS, OFFSETS, N_PORTS };

static const pl_port ports[N_PORTS] = {{"rows", PL_DTYPE_F32, PL_PORT_REPEATED},
                                       {"offsets", PL_DTYPE_I64, PL_PORT_REPEATED | PL_PORT_OPTIONAL}};

static inline const pl_tensor *rows_of(const pl_call *call, int part) { return &call->in[part * N_PORTS + ROWS]; }
static inline const int64_t *offsets_of(const pl_call *call, int part)
{
    return call->in[part * N_PORTS + OFFSETS].data;
}
static inline int parts_of(const pl_call *call) { return call->n_in / N_PORTS; }

/* The number of samples is an attribute, or that of the streams that have offsets. */
static pl_status count_samples(const pl_call *call, int64_t *samples)
{
    const pl_attr_stream_concat *attr = call->attr;
    if (attr->samples < -1)
        return pl__fail(PL_STATUS_VALUE, "stream_concat: samples is %lld, expected at least 0",
                        (long long)attr->samples);
    *samples = attr->samples;
    for (int p = 0; p < parts_of(call); p++) {
        const pl_tensor *t = &call->in[p * N_PORTS + OFFSETS];
        char name[64];
        if (!pl__present(t)) continue;
        PL__CHECK(pl__check_offsets(&pl_op_stream_concat, call, p * N_PORTS + OFFSETS, rows_of(call, p)->shape[0],
                                    pl__port_name(&pl_op_stream_concat, p * N_PORTS, name, sizeof name)));
        if (*samples < 0) *samples = t->shape[0] - 1;
        if (*samples != t->shape[0] - 1)
            return pl__fail(PL_STATUS_VALUE, "stream_concat: %s has %lld samples, expected %lld, %s",
                            pl__port_name(&pl_op_stream_concat, p * N_PORTS + OFFSETS, name, sizeof name),
                            (long long)t->shape[0] - 1, (long long)*samples,
                            attr->samples < 0 ? "as the streams before it" : "the argument `samples`");
    }
    if (*samples < 0)
        return pl__fail(PL_STATUS_VALUE, "stream_concat: samples is missing, and no stream has offsets to tell it");
    return PL_STATUS_OK;
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_stream_concat;
    PL__CHECK(pl__check_ports(op, call));
    int64_t samples = 0, total = 0;
    for (int p = 0; p < parts_of(call); p++) {
        PL__CHECK(pl__check_rank(op, call, p * N_PORTS + ROWS, 2));
        PL__CHECK(pl__check_shape(op, call, p * N_PORTS + ROWS, 2, (int64_t[]){-1, rows_of(call, 0)->shape[1]},
                                  "the width of the first stream"));
    }
    PL__CHECK(count_samples(call, &samples));
    for (int p = 0; p < parts_of(call); p++) {
        int64_t rows = rows_of(call, p)->shape[0];
        if ((!offsets_of(call, p) && !pl__mul(rows, samples, &rows)) || !pl__add(total, rows, &total))
            return pl__fail(PL_STATUS_OVERFLOW, "stream_concat: the streams together have too many rows");
    }
    return pl__shape2(&call->out[0], PL_DTYPE_F32, total, rows_of(call, 0)->shape[1]);
}

typedef struct job {
    const pl_call *call;
    int part; /* of a shared matrix */
    int64_t samples, width;
} job;

static job make_job(const pl_call *call)
{
    job j = {.call = call, .width = rows_of(call, 0)->shape[1]};
    const pl_attr_stream_concat *attr = call->attr;
    j.samples = attr->samples;
    for (int p = 0; p < parts_of(call); p++)
        if (offsets_of(call, p)) j.samples = call->in[p * N_PORTS + OFFSETS].shape[0] - 1;
    return j;
}

/* Where a part's rows of sample b lie in its own matrix, and how many they are. */
static int64_t segment(const pl_call *call, int part, int64_t b, int64_t *begin)
{
    const int64_t *offsets = offsets_of(call, part);
    *begin = offsets ? offsets[b] : 0;
    return offsets ? offsets[b + 1] - offsets[b] : rows_of(call, part)->shape[0];
}

/* First row of sample b in the output, or of one of its parts. */
static int64_t out_row(const pl_call *call, int part, int64_t b)
{
    int64_t row = 0, begin;
    for (int p = 0; p < parts_of(call); p++) {
        const int64_t *offsets = offsets_of(call, p);
        row += offsets ? offsets[b] : b * rows_of(call, p)->shape[0];
    }
    for (int p = 0; p < part; p++) row += segment(call, p, b, &begin);
    return row;
}

static void copy_samples(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const size_t row_bytes = (size_t)j->width * sizeof(float);
    float *to = (float *)j->call->out[0].data + out_row(j->call, 0, first) * j->width;
    for (int64_t b = first; b < last; b++)
        for (int p = 0; p < parts_of(j->call); p++) {
            int64_t begin;
            const int64_t n = segment(j->call, p, b, &begin);
            memcpy(to, (const float *)rows_of(j->call, p)->data + begin * j->width, (size_t)n * row_bytes);
            to += n * j->width;
        }
}

/* Gradients of the streams with offsets: the way back of the copy. */
static void spread_samples(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const pl_call *call = j->call;
    const float *from = (const float *)call->dout[0].data + out_row(call, 0, first) * j->width;
    for (int64_t b = first; b < last; b++)
        for (int p = 0; p < parts_of(call); p++) {
            int64_t begin;
            const int64_t n = segment(call, p, b, &begin);
            float *to = call->din[p * N_PORTS + ROWS].data;
            if (to && offsets_of(call, p)) {
                to += begin * j->width;
                if (pl__adds(call, p * N_PORTS + ROWS))
                    call->ctx->simd->add_into(from, to, n * j->width);
                else
                    memcpy(to, from, (size_t)(n * j->width) * sizeof *to);
            }
            from += n * j->width;
        }
}

/* Gradient of a shared matrix, elements [first, last): summed in the order of the samples. */
static void sum_shared(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const pl_call *call = j->call;
    const float *from = call->dout[0].data;
    float *to = call->din[j->part * N_PORTS + ROWS].data;
    if (!pl__adds(call, j->part * N_PORTS + ROWS)) memset(to + first, 0, (size_t)(last - first) * sizeof *to);
    for (int64_t b = 0; b < j->samples; b++)
        call->ctx->simd->add_into(from + out_row(call, j->part, b) * j->width + first, to + first, last - first);
}

#define COPY_NS 0.3 /* an element */

static int64_t sample_grain(const job *j, int64_t elements)
{
    return pl__grain(COPY_NS * (double)elements / (double)(j->samples ? j->samples : 1));
}

static pl_status forward(const pl_call *call)
{
    job j = make_job(call);
    const int64_t elements = pl__count(&call->out[0]); /* none: there may be any number of samples */
    if (elements) pl__parallel_ranges(call->ctx, j.samples, sample_grain(&j, elements), copy_samples, &j);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    job j = make_job(call);
    const int64_t elements = pl__count(&call->out[0]);
    bool any = false;
    for (int p = 0; p < parts_of(call); p++) any |= offsets_of(call, p) && call->din[p * N_PORTS + ROWS].data;
    if (any && elements) pl__parallel_ranges(call->ctx, j.samples, sample_grain(&j, elements), spread_samples, &j);
    for (j.part = 0; j.part < parts_of(call); j.part++)
        if (!offsets_of(call, j.part) && call->din[j.part * N_PORTS + ROWS].data)
            pl__parallel_ranges(call->ctx, pl__count(rows_of(call, j.part)),
                                (pl__grain(COPY_NS * (double)j.samples) + 63) / 64 * 64, sum_shared, &j);
    return PL_STATUS_OK;
}

const pl_op pl_op_stream_concat = {
    "stream_concat", sizeof(pl_attr_stream_concat), ports, N_PORTS, 1, 0, infer, forward, backward, 0};
