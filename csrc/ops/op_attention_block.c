/* op_attention_block.c - the attention sublayer: norm, projections, attention, output projection, dropout, residual.
 *
 * Self-attention makes queries, keys and values in one product and attends to views of its result: no copies. */
#include <math.h>

#include "attention_block.h"

static const pl_port ports[N_IN] = {
    {"x", PL_DTYPE_F32, 0},
    {"offsets", PL_DTYPE_I64, 0},
    {"norm_weight", PL_DTYPE_F32, 0},
    {"norm_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"weight", PL_DTYPE_F32, 0},
    {"bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"out_weight", PL_DTYPE_F32, 0},
    {"out_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"context", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"context_offsets", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"context_weight", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"context_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
};

pl__block_sizes pl__block_sizes_of(const pl_call *call)
{
    const pl_attr_attention_block *attr = call->attr;
    const pl_tensor *in = call->in;
    pl__block_sizes z = {.rows = in[X].shape[0], .width = in[X].shape[1], .batch = in[OFFSETS].shape[0] - 1,
               .projected = in[W].shape[0], .cross = pl__present(&in[C])};
    z.head = z.projected / (attr->heads + (z.cross ? 0 : 2 * attr->kv_heads));
    z.queries = z.head * attr->heads;
    z.kv_width = 2 * z.head * attr->kv_heads;
    if (z.cross) z.context_rows = in[C].shape[0], z.context_width = in[C].shape[1];
    return z;
}

static pl_status check_heads(const pl_op *op, const pl_attr_attention_block *attr)
{
    if (attr->heads < 1 || attr->heads > 65536)
        return pl__fail(PL_STATUS_VALUE, "%s: heads is %d, expected 1 to 65536", op->name, attr->heads);
    if (attr->kv_heads < 1 || attr->heads % attr->kv_heads)
        return pl__fail(PL_STATUS_VALUE, "%s: kv_heads is %d, expected a divisor of heads, %d", op->name,
                        attr->kv_heads, attr->heads);
    if (!isfinite(attr->scale)) return pl__fail(PL_STATUS_VALUE, "%s: scale is %g, expected a finite number", op->name,
                                                attr->scale);
    return pl__check_rate(op, "dropout", attr->dropout);
}

static pl_status check_context(const pl_op *op, const pl_call *call, const pl_attr_attention_block *attr)
{
    const pl_tensor *in = call->in;
    const bool cross = pl__present(&in[C]);
    if (cross != pl__present(&in[C_OFFSETS]) || cross != pl__present(&in[C_W]) || (pl__present(&in[C_B]) && !cross))
        return pl__fail(PL_STATUS_VALUE, "%s: context, context_offsets and context_weight go together", op->name);
    const int64_t parts = attr->heads + (cross ? 0 : 2 * (int64_t)attr->kv_heads);
    PL__CHECK(pl__check_shape(op, call, W, 2, (int64_t[]){-1, in[X].shape[1]}, "the last dimension of x"));
    if (in[W].shape[0] < 1 || in[W].shape[0] % parts)
        return pl__fail(PL_STATUS_VALUE, "%s: weight has %lld rows, expected a multiple of %s, %lld", op->name,
                        (long long)in[W].shape[0], cross ? "heads" : "heads + 2 kv_heads", (long long)parts);
    const pl__block_sizes z = pl__block_sizes_of(call);
    PL__CHECK(pl__check_shape(op, call, B, 1, &z.projected, "the first dimension of weight"));
    PL__CHECK(pl__check_shape(op, call, OUT_W, 2, (int64_t[]){z.width, z.queries}, "the width of x and heads * head width"));
    PL__CHECK(pl__check_shape(op, call, OUT_B, 1, &z.width, "the width of x"));
    if (!cross) return PL_STATUS_OK;
    PL__CHECK(pl__check_rank(op, call, C, 2));
    if (z.context_width < 1) return pl__fail(PL_STATUS_VALUE, "%s: context has width 0, expected at least 1", op->name);
    PL__CHECK(pl__check_offsets(op, call, C_OFFSETS, z.context_rows, "context"));
    PL__CHECK(pl__check_shape(op, call, C_OFFSETS, 1, &in[OFFSETS].shape[0], "as long as offsets"));
    PL__CHECK(pl__check_shape(op, call, C_W, 2, (int64_t[]){z.kv_width, z.context_width},
                              "2 kv_heads * head width and the width of context"));
    return pl__check_shape(op, call, C_B, 1, &z.kv_width, "the first dimension of context_weight");
}

pl_dtype pl__block_half(const pl_call *call)
{
    const pl_dtype dtype = pl_pack_dtype(pl__pack(call, W));
    const bool same = pl_pack_dtype(pl__pack(call, OUT_W)) == dtype &&
                      (!pl__present(&call->in[C]) || pl_pack_dtype(pl__pack(call, C_W)) == dtype);
    /* 8 bits are for inference, and heads are rounded to them once more */
    const bool whole = dtype == PL_DTYPE_S8 && !call->want && pl_context_has(call->ctx, PL_DTYPE_BF16) &&
                       call->in[OUT_W].shape[1] <= PL__HALF_WIDTH;
    return same && (dtype == PL_DTYPE_BF16 || whole) ? dtype : PL_DTYPE_F32;
}

static pl_status shape_of_rows(pl_tensor *t, bool half, int64_t rows, int64_t width)
{
    return pl__shape2(t, half ? PL_DTYPE_BF16 : PL_DTYPE_F32, half ? pl__rounded_rows(rows) : rows, width);
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_attention_block;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_attention_block *attr = call->attr;
    PL__CHECK(check_heads(op, attr));
    PL__CHECK(pl__sublayer_check(op, call, NORM_W, attr->norm, attr->eps, attr->residual_dropout));
    if (call->in[X].shape[1] < 1) return pl__fail(PL_STATUS_VALUE, "%s: x has width 0, expected at least 1", op->name);
    PL__CHECK(pl__check_offsets(op, call, OFFSETS, call->in[X].shape[0], "x"));
    PL__CHECK(check_context(op, call, attr));
    const pl__block_sizes z = pl__block_sizes_of(call);
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, z.rows, z.width));
    for (int i = 0; i < N_SAVED; i++) pl__no_tensor(&call->saved[i]);
    /* scratch where nothing is saved */
    const bool half = pl__block_half(call) != PL_DTYPE_F32;
    PL__CHECK(shape_of_rows(&call->saved[QKV], half, z.rows, z.projected));
    if (z.cross) PL__CHECK(shape_of_rows(&call->saved[KV], half, z.context_rows, z.kv_width));
    PL__CHECK(shape_of_rows(&call->saved[HEADS], half, z.rows, z.queries));
    if (!call->want) {
        for (int i = 0; i < N_SAVED; i++) pl__no_tensor(&call->saved[i]);
        return PL_STATUS_OK;
    }
    if (!attr->norm) PL__CHECK(pl__shape1(&call->saved[MEAN], PL_DTYPE_F32, z.rows));
    PL__CHECK(pl__shape1(&call->saved[RSTD], PL_DTYPE_F32, z.rows));
    PL__CHECK(pl__shape2(&call->saved[LSE], PL_DTYPE_F32, z.rows, attr->heads));
    if (!attr->pre_norm) return pl__shape2(&call->saved[SUM], PL_DTYPE_F32, z.rows, z.width);
    return PL_STATUS_OK;
}

const pl_op pl_op_attention_block = {"attention_block", sizeof(pl_attr_attention_block), ports, N_IN, 1, N_SAVED,
                                     infer, pl__attention_block_forward,
                                     pl__attention_block_backward, 1};
