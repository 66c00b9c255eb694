/* op_attention_block.c - the attention sublayer: norm, projections, attention, output projection, dropout, residual.
 *
 * Self-attention makes queries, keys and values in one product and attends to views of its result: no copies. */
#include <math.h>

#include "attention.h"
#include "block.h"

enum { X, OFFSETS, NORM_W, NORM_B, W, B, OUT_W, OUT_B, C, C_OFFSETS, C_W, C_B, N_IN };
enum { MEAN, RSTD, QKV, KV, HEADS, LSE, SUM, N_SAVED }; /* KV: of the context; SUM: what post-norm read */

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

/* Sizes that follow from the inputs. */
typedef struct sizes {
    int64_t rows, width, batch, head, queries, projected, context_rows, context_width, kv_width;
    bool cross;
} sizes;

static sizes sizes_of(const pl_call *call)
{
    const pl_attr_attention_block *attr = call->attr;
    const pl_tensor *in = call->in;
    sizes z = {.rows = in[X].shape[0], .width = in[X].shape[1], .batch = in[OFFSETS].shape[0] - 1,
               .projected = in[W].shape[0], .cross = pl__present(&in[C])};
    z.head = z.projected / (attr->heads + (z.cross ? 0 : 2 * attr->kv_heads));
    z.queries = z.head * attr->heads;
    z.kv_width = 2 * z.head * attr->kv_heads;
    if (z.cross) z.context_rows = in[C].shape[0], z.context_width = in[C].shape[1];
    return z;
}

static pl__sublayer sublayer_of(const pl_call *call)
{
    const pl_attr_attention_block *attr = call->attr;
    const pl_tensor *in = call->in;
    return (pl__sublayer){.ctx = call->ctx, .rows = in[X].shape[0], .width = in[X].shape[1],
                          .pre_norm = attr->pre_norm, .rms = attr->norm, .eps = attr->eps,
                          .dropout = attr->residual_dropout, .key = call->key, .counter = call->counter + 1,
                          .weight = in[NORM_W].data, .bias = in[NORM_B].data, .mean = call->saved[MEAN].data,
                          .rstd = call->saved[RSTD].data};
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
    const sizes z = sizes_of(call);
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
    const sizes z = sizes_of(call);
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, z.rows, z.width));
    for (int i = 0; i < N_SAVED; i++) pl__no_tensor(&call->saved[i]);
    /* scratch where nothing is saved */
    PL__CHECK(pl__shape2(&call->saved[QKV], PL_DTYPE_F32, z.rows, z.projected));
    if (z.cross) PL__CHECK(pl__shape2(&call->saved[KV], PL_DTYPE_F32, z.context_rows, z.kv_width));
    PL__CHECK(pl__shape2(&call->saved[HEADS], PL_DTYPE_F32, z.rows, z.queries));
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

/* Queries are the first columns of qkv; keys and values follow them, or fill kv. */
static pl__attention attention_of(const pl_call *call, const sizes *z, float *qkv, float *kv)
{
    const pl_attr_attention_block *attr = call->attr;
    const pl_tensor *in = call->in;
    float *keys = z->cross ? kv : qkv + z->queries;
    const int64_t row = z->cross ? z->kv_width : z->projected;
    const int64_t *q_offsets = in[OFFSETS].data, *kv_offsets = in[z->cross ? C_OFFSETS : OFFSETS].data;
    return (pl__attention){
        .samples = z->batch, .segments = z->batch, .heads = attr->heads, .kv_heads = attr->kv_heads, .dk = z->head,
        .dv = z->head, .q_begin = q_offsets, .q_end = q_offsets + 1, .kv_begin = kv_offsets, .kv_end = kv_offsets + 1,
        .q = qkv, .q_row = z->projected, .k = keys, .k_row = row, .v = keys + z->kv_width / 2, .v_row = row,
        .causal = attr->causal, .bf16 = pl__low_attention(call->ctx, pl__pack(call, W)),
        .scale = attr->scale != 0 ? (float)attr->scale : 1.0f / sqrtf((float)z->head),
        .dropout = attr->dropout, .key = call->key, .counter = call->counter};
}

/* Rows of samples without keys: their branch is nothing, so they get `from`'s rows, or zeros. */
static void fill_absent(const pl_call *call, const sizes *z, const float *from, float *to)
{
    if (!z->cross) return;
    const int64_t *q = call->in[OFFSETS].data, *kv = call->in[C_OFFSETS].data;
    for (int64_t b = 0; b < z->batch; b++) {
        if (kv[b + 1] > kv[b]) continue;
        const int64_t at = q[b] * z->width;
        const size_t bytes = (size_t)((q[b + 1] - q[b]) * z->width) * sizeof *to;
        if (from)
            memcpy(to + at, from + at, bytes);
        else
            memset(to + at, 0, bytes);
    }
}

static bool any_absent(const pl_call *call, const sizes *z)
{
    const int64_t *kv = call->in[C_OFFSETS].data;
    for (int64_t b = 0; z->cross && b < z->batch; b++)
        if (kv[b + 1] == kv[b]) return true;
    return false;
}

static pl_status forward(const pl_call *call)
{
    const sizes z = sizes_of(call);
    const pl__sublayer s = sublayer_of(call);
    const pl_tensor *in = call->in;
    const bool keep = call->want != 0;
    const float *x = in[X].data;
    float *y = call->out[0].data, *sum = s.pre_norm || !keep ? y : call->saved[SUM].data;
    float *qkv = call->saved[QKV].data, *kv = call->saved[KV].data, *heads = call->saved[HEADS].data;
    pl__normed normed = {0};
    pl_status status = PL_STATUS_OK;
    if (s.pre_norm) PL__TRY(pl__sublayer_normed(&s, pl_pack_dtype(pl__pack(call, W)), x, &normed));
    if (!keep) {
        PL__TRY(pl__scratch(&qkv, (size_t)(z.rows * z.projected), sizeof *qkv));
        if (z.cross) PL__TRY(pl__scratch(&kv, (size_t)(z.context_rows * z.kv_width), sizeof *kv));
        PL__TRY(pl__scratch(&heads, (size_t)(z.rows * z.queries), sizeof *heads));
    }
    pl__product project = pl__linear_product(z.rows, z.width, z.projected, s.pre_norm ? normed.y : x, in[W].data,
                                             pl__pack(call, W), in[B].data, PL_ACT_NONE, NULL, qkv);
    PL__TRY(normed.rounded.data ? pl__linear_rounded(s.ctx, &project, &normed.rounded, NULL)
                                : pl__linear_run(s.ctx, &project));
    if (z.cross)
        PL__TRY(pl__linear_forward(s.ctx, z.context_rows, z.context_width, z.kv_width, in[C].data, in[C_W].data,
                                   pl__pack(call, C_W), in[C_B].data, PL_ACT_NONE, NULL, kv));
    const pl__attention a = attention_of(call, &z, qkv, kv);
    const pl__attention_result result = {.out = heads, .out_row = z.queries, .lse = call->saved[LSE].data};
    PL__TRY(pl__attention_forward(s.ctx, &a, &result));
    PL__TRY(pl__linear_forward(s.ctx, z.rows, z.queries, z.width, heads, in[OUT_W].data, pl__pack(call, OUT_W),
                               in[OUT_B].data, PL_ACT_NONE, s.dropout > 0 ? NULL : x, sum));
    if (s.dropout > 0) pl__sublayer_join(&s, x, sum, sum);
    fill_absent(call, &z, x, sum);
    if (!s.pre_norm) pl__sublayer_norm(&s, sum, y);
done:
    if (!keep) {
        pl_buffer_put(heads);
        pl_buffer_put(kv);
        pl_buffer_put(qkv);
    }
    pl__normed_free(&normed);
    return status;
}

/* The branch: from its gradient to those of its input (added to dinput), its weights and the context. */
static pl_status branch_backward(const pl_call *call, const sizes *z, const float *input, const float *dbranch,
                                 float *dinput, bool add_dinput)
{
    const pl_context *ctx = call->ctx;
    const pl_tensor *in = call->in, *din = call->din;
    float *heads = call->saved[HEADS].data, *qkv = call->saved[QKV].data, *kv = call->saved[KV].data;
    float *dheads = NULL, *dqkv = NULL, *dkv = NULL;
    pl_status status;
    const bool inner = dinput || din[W].data || din[B].data || din[C].data || din[C_W].data || din[C_B].data;
    if (inner) PL__TRY(pl__scratch(&dheads, (size_t)(z->rows * z->queries), sizeof *dheads));
    PL__TRY(pl__linear_backward(ctx, z->rows, z->queries, z->width, heads, in[OUT_W].data, pl__pack(call, OUT_W),
                                dbranch, dheads, false, din[OUT_W].data, pl__adds(call, OUT_W), din[OUT_B].data,
                                pl__adds(call, OUT_B)));
    if (!inner) goto done;
    PL__TRY(pl__scratch(&dqkv, (size_t)(z->rows * z->projected), sizeof *dqkv));
    if (z->cross) PL__TRY(pl__scratch(&dkv, (size_t)(z->context_rows * z->kv_width), sizeof *dkv));
    const pl__attention a = attention_of(call, z, qkv, kv);
    /* gradients have the layout of their values */
    float *dkeys = z->cross ? dkv : dqkv + z->queries;
    pl__attention_gradient g = {.out = heads, .out_row = z->queries, .lse = call->saved[LSE].data, .dout = dheads,
                                .dout_row = z->queries, .dq = dqkv};
    g.dk = dkeys, g.dv = dkeys + z->kv_width / 2;
    g.dq_row = a.q_row, g.dk_row = a.k_row, g.dv_row = a.v_row;
    PL__TRY(pl__attention_backward(ctx, &a, &g));
    PL__TRY(pl__linear_backward(ctx, z->rows, z->width, z->projected, input, in[W].data, pl__pack(call, W), dqkv,
                                dinput, add_dinput, din[W].data, pl__adds(call, W), din[B].data, pl__adds(call, B)));
    if (z->cross)
        PL__TRY(pl__linear_backward(ctx, z->context_rows, z->context_width, z->kv_width, in[C].data, in[C_W].data,
                                    pl__pack(call, C_W), dkv, din[C].data, pl__adds(call, C), din[C_W].data,
                                    pl__adds(call, C_W), din[C_B].data, pl__adds(call, C_B)));
done:
    pl_buffer_put(dkv);
    pl_buffer_put(dqkv);
    pl_buffer_put(dheads);
    return status;
}

static pl_status backward(const pl_call *call)
{
    const sizes z = sizes_of(call);
    const pl__sublayer s = sublayer_of(call);
    const float *x = call->in[X].data, *dy = call->dout[0].data, *dbranch;
    const size_t n = (size_t)(z.rows * z.width);
    float *dx = call->din[X].data, *dw = call->din[NORM_W].data, *db = call->din[NORM_B].data;
    float *normed = NULL, *dnormed = NULL, *dsum = NULL, *masked = NULL;
    const bool absent = any_absent(call, &z);
    pl_status status = PL_STATUS_OK;

    if (!s.pre_norm) { /* through the norm first */
        PL__TRY(pl__scratch(&dsum, n, sizeof *dsum));
        PL__TRY(pl__sublayer_norm_backward(&s, call->saved[SUM].data, dy, NULL, dsum, false, dw, pl__adds(call, NORM_W),
                                           db, pl__adds(call, NORM_B)));
        dy = dsum;
    }
    dbranch = dy;
    if (s.dropout > 0 || absent) {
        PL__TRY(pl__scratch(&masked, n, sizeof *masked));
        if (s.dropout > 0)
            pl__sublayer_mask(&s, dy, masked);
        else
            memcpy(masked, dy, n * sizeof *dy);
        fill_absent(call, &z, NULL, masked);
        dbranch = masked;
    }
    if (s.pre_norm) {
        const bool inner = dx || dw || db;
        PL__TRY(pl__scratch(&normed, n, sizeof *normed));
        if (inner) PL__TRY(pl__scratch(&dnormed, n, sizeof *dnormed));
        pl__sublayer_norm_again(&s, x, normed);
        PL__TRY(branch_backward(call, &z, normed, dbranch, dnormed, false));
        if (inner)
            PL__TRY(pl__sublayer_norm_backward(&s, x, dnormed, dy, dx, pl__adds(call, X), dw, pl__adds(call, NORM_W),
                                               db, pl__adds(call, NORM_B)));
    } else {
        if (dx) pl__copy_or_add(s.ctx, dy, dx, (int64_t)n, pl__adds(call, X));
        PL__TRY(branch_backward(call, &z, x, dbranch, dx, true));
    }
done:
    pl_buffer_put(masked);
    pl_buffer_put(dsum);
    pl_buffer_put(dnormed);
    pl_buffer_put(normed);
    return status;
}

const pl_op pl_op_attention_block = {"attention_block", sizeof(pl_attr_attention_block), ports, N_IN, 1, N_SAVED,
                                     infer, forward, backward, 1};
