/* op_embedding.c - rows of a table by index. */
#include "ops.h"

enum { IDS, W, N_IN };

static const pl_port ports[N_IN] = {{"ids", PL_DTYPE_I64, 0}, {"weight", PL_DTYPE_F32, 0}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_embedding;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_embedding *attr = call->attr;
    const pl_tensor *ids = &call->in[IDS], *w = &call->in[W];
    PL__CHECK(pl__check_rank(op, call, W, 2));
    if (ids->ndim >= PL_MAX_DIMS)
        return pl__fail(PL_STATUS_VALUE, "embedding: ids has %d dimensions, expected at most %d", ids->ndim,
                        PL_MAX_DIMS - 1);
    if (attr->padding_idx < -1 || attr->padding_idx >= w->shape[0])
        return pl__fail(PL_STATUS_VALUE, "embedding: padding_idx is %lld, expected 0 to %lld, the rows of weight",
                        (long long)attr->padding_idx, (long long)w->shape[0] - 1);
    PL__CHECK(pl__check_indices(op, call, IDS, w->shape[0], "the rows of weight"));
    int64_t shape[PL_MAX_DIMS];
    for (int i = 0; i < ids->ndim; i++) shape[i] = ids->shape[i];
    shape[ids->ndim] = w->shape[1];
    return pl_tensor_init(&call->out[0], NULL, PL_DTYPE_F32, ids->ndim + 1, shape);
}

typedef struct embedding {
    const pl_simd *simd;
    const int64_t *ids;
    int64_t n, entries, width, skip;
    const float *from;
    float *to;
    bool add;
} embedding;

static void gather_range(void *arg, int64_t begin, int64_t end)
{
    const embedding *e = arg;
    e->simd->rows_gather(e->ids + begin, end - begin, e->width, e->from, e->to + begin * e->width);
}

/* Each thread has some columns of the whole table, and takes the rows in their order. */
static void scatter_range(void *arg, int64_t begin, int64_t end)
{
    const embedding *e = arg;
    if (!e->add)
        for (int64_t i = 0; i < e->entries; i++)
            memset(e->to + i * e->width + begin, 0, (size_t)(end - begin) * sizeof *e->to);
    e->simd->rows_scatter_add(e->ids, e->n, e->width, begin, end, e->skip, e->from, e->to);
}

static pl_status forward(const pl_call *call)
{
    const pl_tensor *ids = &call->in[IDS], *w = &call->in[W];
    embedding e = {.simd = call->ctx->simd, .ids = ids->data, .width = w->shape[1], .from = w->data,
                   .to = call->out[0].data};
    pl__parallel_ranges(call->ctx, pl__count(ids), pl__grain(20 + 0.2 * (double)e.width), gather_range, &e);
    return PL_STATUS_OK;
}

static pl_status backward(const pl_call *call)
{
    const pl_attr_embedding *attr = call->attr;
    const pl_tensor *ids = &call->in[IDS], *w = &call->in[W];
    embedding e = {.simd = call->ctx->simd, .ids = ids->data, .n = pl__count(ids), .entries = w->shape[0],
                   .width = w->shape[1], .skip = attr->padding_idx, .from = call->dout[0].data,
                   .to = call->din[W].data, .add = pl__adds(call, W)};
    if (!e.to) return PL_STATUS_OK;
    const double column_ns = 0.3 * (double)e.n + (e.add ? 0 : 0.1 * (double)e.entries);
    pl__parallel_ranges(call->ctx, e.width, (pl__grain(column_ns) + 15) / 16 * 16, scatter_range, &e);
    return PL_STATUS_OK;
}

const pl_op pl_op_embedding = {"embedding", sizeof(pl_attr_embedding), ports, N_IN, 1, 0, infer, forward, backward, 0};
