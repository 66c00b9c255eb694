/* op_attention.c - out = softmax(scale q k^T + bias) v, sample by sample, head by head. */
#include <math.h>

#include "attention.h"

enum {
    Q, K, V, Q_OFFSETS, KV_OFFSETS, KV_LENGTHS, KV_INDEX, Q_TIMES, KV_TIMES,
    BIAS, RELATIVE_BIAS, RELATIVE_INDEX, PAIR_BIAS, PAIR_OFFSETS, N_IN
};
enum { LSE, OUT_COPY, N_SAVED };

static const pl_port ports[N_IN] = {
    {"q", PL_DTYPE_F32, 0},
    {"k", PL_DTYPE_F32, 0},
    {"v", PL_DTYPE_F32, 0},
    {"q_offsets", PL_DTYPE_I64, 0},
    {"kv_offsets", PL_DTYPE_I64, 0},
    {"kv_lengths", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"kv_index", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"q_times", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"kv_times", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"relative_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"relative_index", PL_DTYPE_I64, PL_PORT_OPTIONAL},
    {"pair_bias", PL_DTYPE_F32, PL_PORT_OPTIONAL},
    {"pair_offsets", PL_DTYPE_I64, PL_PORT_OPTIONAL},
};

/* ---------------------------------------------------------------- checks */

static pl_status check_together(const pl_call *call, int a, int b)
{
    const bool has_a = pl__present(&call->in[a]), has_b = pl__present(&call->in[b]);
    if (has_a == has_b) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "attention: %s is given without %s", ports[has_a ? a : b].name,
                    ports[has_a ? b : a].name);
}

static pl_status check_widths(const pl_op *op, const pl_call *call, const pl_attr_attention *attr)
{
    for (int i = Q; i <= V; i++) PL__CHECK(pl__check_rank(op, call, i, 2));
    const int64_t heads = attr->heads, kv_heads = attr->kv_heads, q = call->in[Q].shape[1];
    if (heads < 1 || heads > 65536)
        return pl__fail(PL_STATUS_VALUE, "attention: heads is %lld, expected 1 to 65536", (long long)heads);
    if (kv_heads < 1 || heads % kv_heads)
        return pl__fail(PL_STATUS_VALUE, "attention: kv_heads is %lld, expected a divisor of heads, %lld",
                        (long long)kv_heads, (long long)heads);
    if (q < 1 || q % heads)
        return pl__fail(PL_STATUS_VALUE, "attention: q has width %lld, expected a multiple of heads, %lld",
                        (long long)q, (long long)heads);
    const int64_t v = call->in[V].shape[1], rows = call->in[K].shape[0];
    PL__CHECK(pl__check_shape(op, call, K, 2, (int64_t[]){-1, q / heads * kv_heads},
                              "kv_heads times the width of a head of q"));
    if (v < 1 || v % kv_heads)
        return pl__fail(PL_STATUS_VALUE, "attention: v has width %lld, expected a multiple of kv_heads, %lld",
                        (long long)v, (long long)kv_heads);
    return pl__check_shape(op, call, V, 2, (int64_t[]){rows, -1}, "as many rows as k");
}

static pl_status check_segments(const pl_op *op, const pl_call *call)
{
    const pl_tensor *in = call->in;
    PL__CHECK(pl__check_offsets(op, call, Q_OFFSETS, in[Q].shape[0], "q"));
    PL__CHECK(pl__check_offsets(op, call, KV_OFFSETS, in[K].shape[0], "k"));
    const int64_t samples = in[Q_OFFSETS].shape[0] - 1, segments = in[KV_OFFSETS].shape[0] - 1;
    if (!pl__present(&in[KV_INDEX]) && samples != segments)
        return pl__fail(PL_STATUS_VALUE, "attention: kv_offsets has %lld samples, expected %lld like q_offsets",
                        (long long)segments, (long long)samples);
    PL__CHECK(pl__check_shape(op, call, KV_LENGTHS, 1, &samples, "one a sample"));
    PL__CHECK(pl__check_shape(op, call, KV_INDEX, 1, &samples, "one a sample"));
    if (pl__present(&in[KV_INDEX]))
        PL__CHECK(pl__check_indices(op, call, KV_INDEX, segments, "the segments of kv_offsets"));
    if (!pl__present(&in[KV_LENGTHS])) return PL_STATUS_OK;
    const int64_t *lengths = in[KV_LENGTHS].data, *offsets = in[KV_OFFSETS].data, *index = in[KV_INDEX].data;
    for (int64_t b = 0; b < samples; b++) {
        const int64_t s = index ? index[b] : b, room = offsets[s + 1] - offsets[s];
        if (lengths[b] < 0 || lengths[b] > room)
            return pl__fail(PL_STATUS_VALUE,
                            "attention: kv_lengths[%lld] is %lld, expected 0 to %lld, the rows of its segment",
                            (long long)b, (long long)lengths[b], (long long)room);
    }
    return PL_STATUS_OK;
}

static pl_status check_times(const pl_op *op, const pl_call *call, const pl_attr_attention *attr)
{
    PL__CHECK(check_together(call, Q_TIMES, KV_TIMES));
    if (pl__present(&call->in[Q_TIMES]) && !attr->causal)
        return pl__fail(PL_STATUS_VALUE, "attention: q_times is given, but causal is False");
    PL__CHECK(pl__check_shape(op, call, Q_TIMES, 1, &call->in[Q].shape[0], "one a row of q"));
    return pl__check_shape(op, call, KV_TIMES, 1, &call->in[K].shape[0], "one a row of k");
}

static void describe(const pl_call *call, pl__attention *a);

#define FIRST_IS_HEADS "the first dimension is heads"

/* The last two dimensions must reach the longest sample; `first` is the size of the dimension before, or 0. */
static pl_status check_reach(const pl_op *op, const pl_call *call, int input, const pl__attention *a, int64_t first)
{
    const pl_tensor *t = &call->in[input];
    const int lead = first > 0;
    PL__CHECK(pl__check_rank(op, call, input, 2 + lead));
    if (lead) PL__CHECK(pl__check_shape(op, call, input, 3, (int64_t[]){first, -1, -1}, FIRST_IS_HEADS));
    int64_t queries = 0, keys = pl__attention_most_keys(a);
    for (int64_t b = 0; b < a->samples; b++)
        if (pl__attention_queries(a, b) > queries) queries = pl__attention_queries(a, b);
    if (t->shape[lead] >= queries && t->shape[lead + 1] >= keys) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE,
                    "attention: %s reaches %lld queries and %lld keys, the longest sample has %lld and %lld",
                    ports[input].name, (long long)t->shape[lead], (long long)t->shape[lead + 1], (long long)queries,
                    (long long)keys);
}

static pl_status check_bias(const pl_op *op, const pl_call *call)
{
    const pl_tensor *in = call->in;
    pl__attention a;
    describe(call, &a);
    if (pl__present(&in[BIAS])) PL__CHECK(check_reach(op, call, BIAS, &a, a.heads));
    PL__CHECK(check_together(call, RELATIVE_BIAS, RELATIVE_INDEX));
    if (pl__present(&in[RELATIVE_BIAS])) {
        PL__CHECK(pl__check_shape(op, call, RELATIVE_BIAS, 2, (int64_t[]){a.heads, -1}, FIRST_IS_HEADS));
        PL__CHECK(check_reach(op, call, RELATIVE_INDEX, &a, 0));
        PL__CHECK(pl__check_indices(op, call, RELATIVE_INDEX, in[RELATIVE_BIAS].shape[1],
                                    "the second dimension of relative_bias"));
    }
    PL__CHECK(check_together(call, PAIR_BIAS, PAIR_OFFSETS));
    if (!pl__present(&in[PAIR_BIAS])) return PL_STATUS_OK;
    if (pl__wants(call, PAIR_BIAS)) return pl__fail(PL_STATUS_UNSUPPORTED, "attention: pair_bias has no gradient");
    PL__CHECK(pl__check_rank(op, call, PAIR_BIAS, 2));
    if (in[PAIR_BIAS].shape[0] != 1)
        PL__CHECK(pl__check_shape(op, call, PAIR_BIAS, 2, (int64_t[]){a.heads, -1}, FIRST_IS_HEADS " or 1"));
    const int64_t entries = a.samples + 1, *offsets = in[PAIR_OFFSETS].data;
    PL__CHECK(pl__check_shape(op, call, PAIR_OFFSETS, 1, &entries, "samples + 1"));
    PL__CHECK(pl__check_offsets(op, call, PAIR_OFFSETS, in[PAIR_BIAS].shape[1], "pairs in pair_bias"));
    for (int64_t b = 0; b < a.samples; b++) {
        const int64_t queries = pl__attention_queries(&a, b), keys = pl__attention_keys(&a, b);
        int64_t due;
        if (!pl__mul(queries, keys, &due) || offsets[b + 1] - offsets[b] != due)
            return pl__fail(PL_STATUS_VALUE,
                            "attention: pair_offsets gives sample %lld %lld pairs, expected %lld x %lld", (long long)b,
                            (long long)(offsets[b + 1] - offsets[b]), (long long)queries, (long long)keys);
    }
    return PL_STATUS_OK;
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_attention;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_attention *attr = call->attr;
    PL__CHECK(check_widths(op, call, attr));
    PL__CHECK(check_segments(op, call));
    PL__CHECK(check_times(op, call, attr));
    PL__CHECK(check_bias(op, call));
    PL__CHECK(pl__check_rate(op, "dropout", attr->dropout));
    if (!isfinite(attr->scale))
        return pl__fail(PL_STATUS_VALUE, "attention: scale is %g, expected a finite number", attr->scale);
    const int64_t rows = call->in[Q].shape[0];
    int64_t streams, width;
    if (!pl__mul(rows, attr->heads, &streams) || (attr->dropout > 0 && streams > UINT32_MAX))
        return pl__fail(PL_STATUS_OVERFLOW, "attention: %lld rows of %lld heads are too many", (long long)rows,
                        (long long)attr->heads);
    if (!pl__mul(call->in[V].shape[1] / attr->kv_heads, attr->heads, &width))
        return pl__fail(PL_STATUS_OVERFLOW, "attention: the output is too wide");
    PL__CHECK(pl__shape2(&call->out[0], PL_DTYPE_F32, rows, width));
    pl__no_tensor(&call->saved[LSE]);
    pl__no_tensor(&call->saved[OUT_COPY]);
    if (!call->want) return PL_STATUS_OK;
    PL__CHECK(pl__shape2(&call->saved[LSE], PL_DTYPE_F32, rows, attr->heads));
    pl__attention a;
    describe(call, &a);
    if (pl__attention_most_keys(&a) <= PL__KEY_BLOCK) return PL_STATUS_OK;
    return pl__shape2(&call->saved[OUT_COPY], PL_DTYPE_F32, rows, width);
}

/* ---------------------------------------------------------------- forward, backward */

static void describe(const pl_call *call, pl__attention *a)
{
    const pl_attr_attention *attr = call->attr;
    const pl_tensor *in = call->in;
    const int64_t *q_offsets = in[Q_OFFSETS].data, *kv_offsets = in[KV_OFFSETS].data;
    *a = (pl__attention){
        .samples = in[Q_OFFSETS].shape[0] - 1, .segments = in[KV_OFFSETS].shape[0] - 1,
        .heads = attr->heads, .kv_heads = attr->kv_heads,
        .dk = in[Q].shape[1] / attr->heads, .dv = in[V].shape[1] / attr->kv_heads,
        .q_begin = q_offsets, .q_end = q_offsets + 1, .kv_begin = kv_offsets, .kv_end = kv_offsets + 1,
        .kv_length = in[KV_LENGTHS].data, .kv_index = in[KV_INDEX].data,
        .q = in[Q].data, .k = in[K].data, .v = in[V].data,
        .q_row = in[Q].shape[1], .k_row = in[K].shape[1], .v_row = in[V].shape[1],
        .scale = (float)attr->scale, .causal = attr->causal, .bf16 = attr->bf16, .q_time = in[Q_TIMES].data, .kv_time = in[KV_TIMES].data,
        .dropout = attr->dropout, .key = call->key, .counter = call->counter,
        .table = in[BIAS].data, .table_rows = in[BIAS].shape[1], .table_columns = in[BIAS].shape[2],
        .relative = in[RELATIVE_BIAS].data, .relative_index = in[RELATIVE_INDEX].data,
        .relative_size = in[RELATIVE_BIAS].shape[1], .index_columns = in[RELATIVE_INDEX].shape[1],
        .pairs = in[PAIR_BIAS].data, .pair_begin = in[PAIR_OFFSETS].data,
        .pair_heads = in[PAIR_BIAS].shape[0], .pair_count = in[PAIR_BIAS].shape[1]};
}

static pl_status forward(const pl_call *call)
{
    pl__attention a;
    describe(call, &a);
    const pl__attention_result r = {.out = call->out[0].data, .out_row = call->out[0].shape[1],
                                    .copy = call->want ? call->saved[OUT_COPY].data : NULL,
                                    .lse = call->want ? call->saved[LSE].data : NULL};
    return pl__attention_forward(call->ctx, &a, &r);
}

static pl_status backward(const pl_call *call)
{
    pl__attention a;
    describe(call, &a);
    const pl_tensor *din = call->din;
    pl__attention_gradient g = {
        .out = call->saved[OUT_COPY].data, .out_row = a.heads * a.dv, .lse = call->saved[LSE].data,
        .dout = call->dout[0].data, .dout_row = a.heads * a.dv,
        .dq = din[Q].data, .dk = din[K].data, .dv = din[V].data,
        .dq_row = a.q_row, .dk_row = a.k_row, .dv_row = a.v_row,
        .add_dq = pl__adds(call, Q), .add_dk = pl__adds(call, K), .add_dv = pl__adds(call, V),
        .dtable = din[BIAS].data, .drelative = din[RELATIVE_BIAS].data,
        .add_dtable = pl__adds(call, BIAS), .add_drelative = pl__adds(call, RELATIVE_BIAS)};
    return pl__attention_backward(call->ctx, &a, &g);
}

const pl_op pl_op_attention = {"attention", sizeof(pl_attr_attention), ports, N_IN, 1, N_SAVED,
                               infer, forward, backward, 1};
