/* attention_block.c - the attention sublayer at work, forward and backward. Between layers that are packed in bfloat16,
 * projections, heads and their gradients are rows of bfloat16; else they are floats. */
#include <math.h>

#include "attention_block.h"

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

/* Columns from the given one on. */
static void *columns(bool half, void *x, int64_t first)
{
    return x ? (char *)x + first * (int64_t)(half ? sizeof(uint16_t) : sizeof(float)) : NULL;
}

/* Queries are the first columns of qkv; keys and values follow them, or fill kv. */
static pl__attention attention_of(const pl_call *call, const pl__block_sizes *z, bool half, void *qkv, void *kv)
{
    const pl_attr_attention_block *attr = call->attr;
    const pl_tensor *in = call->in;
    void *keys = z->cross ? kv : columns(half, qkv, z->queries);
    const int64_t row = z->cross ? z->kv_width : z->projected;
    const int64_t *q_offsets = in[OFFSETS].data, *kv_offsets = in[z->cross ? C_OFFSETS : OFFSETS].data;
    return (pl__attention){
        .samples = z->batch, .segments = z->batch, .heads = attr->heads, .kv_heads = attr->kv_heads, .dk = z->head,
        .dv = z->head, .q_begin = q_offsets, .q_end = q_offsets + 1, .kv_begin = kv_offsets, .kv_end = kv_offsets + 1,
        .q = qkv, .q_row = z->projected, .k = keys, .k_row = row, .v = columns(half, keys, z->kv_width / 2),
        .v_row = row, .causal = attr->causal, .half = half,
        .bf16 = half || pl__low_attention(call->ctx, pl__pack(call, W)),
        .scale = attr->scale != 0 ? (float)attr->scale : 1.0f / sqrtf((float)z->head),
        .dropout = attr->dropout, .key = call->key, .counter = call->counter};
}

/* Rows of samples without keys: their branch is nothing, so they get `from`'s rows, or zeros. */
static void fill_absent(const pl_call *call, const pl__block_sizes *z, const float *from, float *to)
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

static bool any_absent(const pl_call *call, const pl__block_sizes *z)
{
    const int64_t *kv = call->in[C_OFFSETS].data;
    for (int64_t b = 0; z->cross && b < z->batch; b++)
        if (kv[b + 1] == kv[b]) return true;
    return false;
}

/* What forward makes on its way, kept or scratch: floats, or rows of bfloat16. */
typedef struct made {
    pl_dtype dtype; /* as pl__block_half says */
    bool half;
    void *qkv, *kv, *heads;
} made;

static pl_status made_get(const pl_call *call, const pl__block_sizes *z, made *m)
{
    pl_status status = PL_STATUS_OK;
    const bool keep = call->want != 0;
    const pl_dtype dtype = keep ? call->saved[QKV].dtype : pl__block_half(call);
    const bool half = dtype != PL_DTYPE_F32;
    const size_t size = half ? sizeof(uint16_t) : sizeof(float);
    const int64_t rows = half ? pl__rounded_rows(z->rows) : z->rows;
    const int64_t context_rows = half ? pl__rounded_rows(z->context_rows) : z->context_rows;
    *m = (made){dtype, half, call->saved[QKV].data, call->saved[KV].data, call->saved[HEADS].data};
    if (keep) return PL_STATUS_OK;
    PL__TRY(pl__scratch(&m->qkv, (size_t)(rows * z->projected), size));
    if (z->cross) PL__TRY(pl__scratch(&m->kv, (size_t)(context_rows * z->kv_width), size));
    PL__TRY(pl__scratch(&m->heads, (size_t)(rows * z->queries), size));
done:
    return status;
}

static pl__rounded half_rows(int64_t rows, int64_t width, void *data)
{
    return (pl__rounded){.dtype = PL_DTYPE_BF16, .rows = rows, .width = width, .data = data};
}

/* y = x w^T + b, to floats or, where it is to be a product of `low`, to bfloat16. */
static pl_status project(const pl_call *call, int64_t rows, int64_t width, int64_t width_out, const pl__normed *x,
                         int w, int b, pl_dtype low, void *y)
{
    const bool half = low != PL_DTYPE_F32;
    const pl__rounded to = half_rows(rows, width_out, y);
    pl__product p = pl__linear_product(rows, width, width_out, x->y, call->in[w].data, pl__pack(call, w),
                                       call->in[b].data, PL_ACT_NONE, NULL, half ? NULL : y);
    pl__rounded own = {0};
    if (x->y && !half) return pl__linear_run(call->ctx, &p);
    if (x->y) PL__CHECK(pl__rounded_of(call->ctx, low, rows, width, x->y, &own));
    const pl_status status = pl__linear_rounded(call->ctx, &p, x->y ? &own : &x->rounded, half ? &to : NULL);
    pl__rounded_free(&own);
    return status;
}

pl_status pl__attention_block_forward(const pl_call *call)
{
    const pl__block_sizes z = pl__block_sizes_of(call);
    const pl__sublayer s = sublayer_of(call);
    const pl_tensor *in = call->in;
    const bool keep = call->want != 0;
    const float *x = in[X].data;
    float *y = call->out[0].data, *sum = s.pre_norm || !keep ? y : call->saved[SUM].data;
    pl__normed normed = {0}; /* what projections read */
    pl__rounded whole = {0}; /* heads in 8 bits */
    made m = {0};
    pl_status status = PL_STATUS_OK;
    PL__TRY(made_get(call, &z, &m));
    if (s.pre_norm) PL__TRY(pl__sublayer_normed(&s, pl_pack_dtype(pl__pack(call, W)), x, &normed));
    PL__TRY(project(call, z.rows, z.width, z.projected, s.pre_norm ? &normed : &(pl__normed){.y = (float *)x}, W, B,
                    m.dtype, m.qkv));
    if (z.cross)
        PL__TRY(project(call, z.context_rows, z.context_width, z.kv_width, &(pl__normed){.y = in[C].data}, C_W, C_B,
                        m.dtype, m.kv));
    const pl__attention a = attention_of(call, &z, m.half, m.qkv, m.kv);
    const pl__attention_result result = {.out = m.heads, .out_row = z.queries, .lse = call->saved[LSE].data};
    PL__TRY(pl__attention_forward(s.ctx, &a, &result));
    const float *residual = s.dropout > 0 ? NULL : x;
    pl__product out = pl__linear_product(z.rows, z.queries, z.width, m.half ? NULL : m.heads, in[OUT_W].data,
                                         pl__pack(call, OUT_W), in[OUT_B].data, PL_ACT_NONE, residual, sum);
    if (m.half) {
        const pl__rounded heads = half_rows(z.rows, z.queries, m.heads);
        pl__rounded_clear(&heads);
        if (m.dtype == PL_DTYPE_S8) PL__TRY(pl__rounded_of_half(s.ctx, PL_DTYPE_S8, &heads, &whole));
        PL__TRY(pl__linear_rounded(s.ctx, &out, whole.data ? &whole : &heads, NULL));
    } else
        PL__TRY(pl__linear_run(s.ctx, &out));
    if (s.dropout > 0) pl__sublayer_join(&s, x, sum, sum);
    fill_absent(call, &z, x, sum);
    if (!s.pre_norm) pl__sublayer_norm(&s, sum, y);
done:
    if (!keep) {
        pl_buffer_put(m.heads);
        pl_buffer_put(m.kv);
        pl_buffer_put(m.qkv);
    }
    pl__rounded_free(&whole);
    pl__normed_free(&normed);
    return status;
}

static pl__attention_gradient gradient_of(const pl_call *call, const pl__block_sizes *z, const pl__attention *a,
                                          const void *dheads, void *dqkv, void *dkv)
{
    /* gradients have the layout of their values */
    void *dkeys = z->cross ? dkv : columns(a->half, dqkv, z->queries);
    return (pl__attention_gradient){.out = call->saved[HEADS].data, .out_row = z->queries,
                                    .lse = call->saved[LSE].data, .dout = dheads, .dout_row = z->queries, .dq = dqkv,
                                    .dk = dkeys, .dv = columns(a->half, dkeys, z->kv_width / 2), .dq_row = a->q_row,
                                    .dk_row = a->k_row, .dv_row = a->v_row};
}

/* Gradients of a projection of x from that of its result. */
static pl_status project_back_half(const pl_call *call, const pl__rounded *dy, int64_t width, const pl__normed *x,
                                   int w, int b, float *dx, bool add_dx)
{
    const pl_context *ctx = call->ctx;
    float *dw = call->din[w].data, *db = call->din[b].data;
    pl__rounded own = {0};
    pl_status status = PL_STATUS_OK;
    if (dx) PL__TRY(pl__dx_rounded(ctx, call->in[w].data, pl__pack(call, w), width, dy, dx, add_dx, NULL));
    if (dw && x->y) PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, dy->rows, width, x->y, &own));
    if (dw) PL__TRY(pl__dw_rounded(ctx, dy, x->y ? &own : &x->rounded, dw, pl__adds(call, w)));
    if (db) pl__column_sums_rounded(ctx, dy, db, pl__adds(call, b));
done:
    pl__rounded_free(&own);
    return status;
}

/* branch_backward where forward kept bfloat16. */
static pl_status branch_backward_half(const pl_call *call, const pl__block_sizes *z, const pl__normed *input,
                                      const float *dbranch, bool inner, float *dinput, bool add_dinput)
{
    const pl_context *ctx = call->ctx;
    const pl_tensor *in = call->in, *din = call->din;
    const pl__rounded heads = half_rows(z->rows, z->queries, call->saved[HEADS].data);
    pl__rounded dout = {0}, dheads = {0}, dqkv = {0}, dkv = {0};
    pl_status status;
    PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, z->rows, z->width, dbranch, &dout));
    if (din[OUT_W].data) PL__TRY(pl__dw_rounded(ctx, &dout, &heads, din[OUT_W].data, pl__adds(call, OUT_W)));
    if (din[OUT_B].data)
        pl__column_sums(ctx, dbranch, z->rows, z->width, din[OUT_B].data, pl__adds(call, OUT_B));
    if (!inner) goto done;
    PL__TRY(pl__rounded_get(PL_DTYPE_BF16, z->rows, z->queries, &dheads));
    PL__TRY(pl__dx_rounded(ctx, in[OUT_W].data, pl__pack(call, OUT_W), z->queries, &dout, NULL, false, &dheads));
    PL__TRY(pl__rounded_get(PL_DTYPE_BF16, z->rows, z->projected, &dqkv));
    if (z->cross) PL__TRY(pl__rounded_get(PL_DTYPE_BF16, z->context_rows, z->kv_width, &dkv));
    const pl__attention a = attention_of(call, z, true, call->saved[QKV].data, call->saved[KV].data);
    pl__attention_gradient g = gradient_of(call, z, &a, dheads.data, dqkv.data, dkv.data);
    PL__TRY(pl__attention_backward(ctx, &a, &g));
    PL__TRY(project_back_half(call, &dqkv, z->width, input, W, B, dinput, add_dinput));
    if (z->cross)
        PL__TRY(project_back_half(call, &dkv, z->context_width, &(pl__normed){.y = in[C].data}, C_W, C_B, din[C].data,
                                  pl__adds(call, C)));
done:
    pl__rounded_free(&dkv);
    pl__rounded_free(&dqkv);
    pl__rounded_free(&dheads);
    pl__rounded_free(&dout);
    return status;
}

/* The branch: from its gradient to those of its input (added to dinput), its weights and the context. */
static pl_status branch_backward(const pl_call *call, const pl__block_sizes *z, const pl__normed *input,
                                 const float *dbranch, float *dinput, bool add_dinput)
{
    const pl_context *ctx = call->ctx;
    const pl_tensor *in = call->in, *din = call->din;
    float *dheads = NULL, *dqkv = NULL, *dkv = NULL;
    pl_status status;
    const bool inner = dinput || din[W].data || din[B].data || din[C].data || din[C_W].data || din[C_B].data;
    if (call->saved[QKV].dtype == PL_DTYPE_BF16)
        return branch_backward_half(call, z, input, dbranch, inner, dinput, add_dinput);
    if (inner) PL__TRY(pl__scratch(&dheads, (size_t)(z->rows * z->queries), sizeof *dheads));
    PL__TRY(pl__linear_backward(ctx, z->rows, z->queries, z->width, call->saved[HEADS].data, in[OUT_W].data,
                                pl__pack(call, OUT_W), dbranch, dheads, false, din[OUT_W].data, pl__adds(call, OUT_W),
                                din[OUT_B].data, pl__adds(call, OUT_B)));
    if (!inner) goto done;
    PL__TRY(pl__scratch(&dqkv, (size_t)(z->rows * z->projected), sizeof *dqkv));
    if (z->cross) PL__TRY(pl__scratch(&dkv, (size_t)(z->context_rows * z->kv_width), sizeof *dkv));
    const pl__attention a = attention_of(call, z, false, call->saved[QKV].data, call->saved[KV].data);
    pl__attention_gradient g = gradient_of(call, z, &a, dheads, dqkv, dkv);
    PL__TRY(pl__attention_backward(ctx, &a, &g));
    PL__TRY(pl__linear_backward(ctx, z->rows, z->width, z->projected, input->y, in[W].data, pl__pack(call, W), dqkv,
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

pl_status pl__attention_block_backward(const pl_call *call)
{
    const pl__block_sizes z = pl__block_sizes_of(call);
    const pl__sublayer s = sublayer_of(call);
    const float *x = call->in[X].data, *dy = call->dout[0].data, *dbranch;
    const size_t n = (size_t)(z.rows * z.width);
    float *dx = call->din[X].data, *dw = call->din[NORM_W].data, *db = call->din[NORM_B].data;
    float *dnormed = NULL, *dsum = NULL, *masked = NULL;
    pl__normed normed = {0};
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
        PL__TRY(pl__sublayer_normed_again(&s, call->saved[QKV].dtype == PL_DTYPE_BF16, x, &normed));
        if (inner) PL__TRY(pl__scratch(&dnormed, n, sizeof *dnormed));
        PL__TRY(branch_backward(call, &z, &normed, dbranch, dnormed, false));
        if (inner)
            PL__TRY(pl__sublayer_norm_backward(&s, x, dnormed, dy, dx, pl__adds(call, X), dw, pl__adds(call, NORM_W),
                                               db, pl__adds(call, NORM_B)));
    } else {
        if (dx) pl__copy_or_add(s.ctx, dy, dx, (int64_t)n, pl__adds(call, X));
        PL__TRY(branch_backward(call, &z, &(pl__normed){.y = (float *)x}, dbranch, dx, true));
    }
done:
    pl_buffer_put(masked);
    pl_buffer_put(dsum);
    pl_buffer_put(dnormed);
    pl__normed_free(&normed);
    return status;
}
