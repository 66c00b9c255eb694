/* attention.h - what the attention kernels work on. Raw pointers with row strides, so that queries, keys and values may
 * be columns of one (N, (H + 2 Hkv) D) matrix.
 *
 * Sample b has query rows q_begin[b] to q_end[b]; an array of offsets o serves as o and o + 1. It reads the first
 * kv_length[b] rows of key segment kv_index[b] (NULL: the whole segment; NULL: segment b). Segments must not overlap
 * when gradients of keys or values are asked for; several samples may read one segment, and their gradients add up in
 * the order of the samples.
 *
 * Head h reads key head h / (heads / kv_heads), and in rows of q, columns h * dk to (h + 1) * dk. */
#ifndef PL_ATTENTION_H
#define PL_ATTENTION_H

#include "../core/core.h"

#define PL__QUERY_BLOCK 64 /* queries of one task: they stand side by side in vectors */
#define PL__KEY_BLOCK 256  /* keys at a time: what is kept of the scores is one block, never Tq x Tk */

typedef struct pl__attention {
    int64_t samples, segments, heads, kv_heads, dk, dv;
    const int64_t *q_begin, *q_end;   /* (samples) */
    const int64_t *kv_begin, *kv_end; /* (segments) */
    const int64_t *kv_length, *kv_index; /* (samples) or NULL */
    const void *q, *k, *v; /* float, or bfloat16 where `half` says so */
    int64_t q_row, k_row, v_row;
    float scale;
    bool bf16;                          /* operands of products are rounded to bfloat16; all else is float32 */
    bool half;                          /* with bf16: rows that are read and written are bfloat16, gradients too */
    bool causal;                        /* aligned at the ends: query i sees keys j <= i + (Tk - Tq) */
    const int64_t *q_time, *kv_time;    /* with causal, in place of positions: kv_time <= q_time; one a row, or NULL */
    double dropout;                     /* on the weights; the mask depends on (key, counter, row of q, head, j) */
    uint64_t key, counter;
    /* What is added to the scaled scores: any of three, or NULL. */
    const float *table;                 /* (heads, table_rows, table_columns), its leading corner */
    int64_t table_rows, table_columns;
    const float *relative;              /* (heads, relative_size), at relative_index (.., index_columns) */
    const int64_t *relative_index;
    int64_t relative_size, index_columns;
    const float *pairs;                 /* (pair_heads, pair_count): sample b has Tq Tk from pair_begin[b] on */
    const int64_t *pair_begin;
    int64_t pair_heads, pair_count;     /* 1 or heads */
} pl__attention;

/* What forward leaves. lse: log of the sum of e^score, (rows, heads), infinity where no key is seen; NULL: not kept. */
typedef struct pl__attention_result {
    void *out;
    int64_t out_row;
    float *copy; /* a second, dense copy of out (rows, heads * dv), or NULL; not with `half` */
    float *lse;
} pl__attention_result;

/* Gradients; NULL = not wanted. `add`: to what is there; not with `half`. */
typedef struct pl__attention_gradient {
    const void *out; /* NULL is allowed where no sample reads more than PL__KEY_BLOCK keys */
    int64_t out_row;
    const float *lse;
    const void *dout;
    int64_t dout_row;
    void *dq, *dk, *dv;
    int64_t dq_row, dk_row, dv_row;
    bool add_dq, add_dk, add_dv;
    float *dtable, *drelative;
    bool add_dtable, add_drelative;
    const int64_t *order, *first; /* samples that read segment s: order[first[s]] to order[first[s + 1]] */
} pl__attention_gradient;

typedef struct pl__attention_task {
    int64_t sample, query, count; /* queries [query, query + count) of the sample */
} pl__attention_task;

static inline int64_t pl__attention_queries(const pl__attention *a, int64_t b) { return a->q_end[b] - a->q_begin[b]; }
static inline int64_t pl__attention_segment(const pl__attention *a, int64_t b)
{
    return a->kv_index ? a->kv_index[b] : b;
}
static inline int64_t pl__attention_keys(const pl__attention *a, int64_t b)
{
    const int64_t s = pl__attention_segment(a, b);
    return a->kv_length ? a->kv_length[b] : a->kv_end[s] - a->kv_begin[s];
}

/* Cuts n into blocks of at most `limit`, of nearly equal numbers of `unit`s: where block i begins. */
static inline int64_t pl__block_count(int64_t n, int64_t limit) { return (n + limit - 1) / limit; }
static inline int64_t pl__block_begin(int64_t n, int64_t limit, int64_t unit, int64_t i)
{
    const int64_t at = (n + unit - 1) / unit * i / pl__block_count(n, limit) * unit;
    return at < n ? at : n;
}

/* Floats of scratch that one task needs, whatever the vector length. */
static inline int64_t pl__attention_pad(int64_t n) { return (n + 15) / 16 * 16; }
static inline int64_t pl__attention_forward_floats(const pl__attention *a)
{
    const int64_t dk = pl__attention_pad(a->dk), dv = pl__attention_pad(a->dv);
    return PL__QUERY_BLOCK * (dk + dv + PL__KEY_BLOCK + 3) + PL__KEY_BLOCK * (dk + dv);
}
static inline int64_t pl__attention_backward_floats(const pl__attention *a, int64_t max_keys)
{
    const int64_t dk = pl__attention_pad(a->dk), dv = pl__attention_pad(a->dv);
    return PL__QUERY_BLOCK * (3 * dk + 2 * dv + 3 * PL__KEY_BLOCK + 2) + max_keys * (2 * dk + dv) +
           (a->bf16 ? PL__QUERY_BLOCK * PL__KEY_BLOCK + max_keys * (dk + dv) : 0) +
           (a->half ? (PL__QUERY_BLOCK + 1) * (dk > dv ? dk : dv) : 0);
}

#endif
