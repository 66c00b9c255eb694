/* plait.h - multimodal operators, forward and backward, on oneDNN.
 *
 * This header is the whole public C interface: if something is not here, it is not API.
 * Read it from top to bottom; it needs about ten minutes.
 *
 * THE MODEL IN ONE PAGE
 *
 * Rows and segments. A batch of sequences is one matrix of rows (N, D) and an int64 array of offsets (B + 1) that
 * says which rows belong to which sample. There is no padding anywhere: a linear layer works on real rows only, and a
 * sample that lacks a modality is a sample with no rows.
 *
 * Operators. An operator is three functions. `infer` does every check and fills in the shapes of outputs and saved
 * tensors; `forward` computes; `backward` computes gradients. What backward needs is a named output of forward (a
 * "saved" tensor): there is no hidden state. The caller owns all memory that is listed in the call; an operator
 * takes scratch from the pool and gives it back before it returns.
 *
 * The call. One struct, pl_call, carries everything: attributes, inputs, packs, outputs, saved tensors, `want`,
 * gradients, and the random key. A typical use:
 *
 *     pl_tensor in[3] = {x, w, b}, out[1], saved[1];
 *     pl_attr_linear attr = {.activation = PL_ACT_NONE};
 *     pl_call call = {.ctx = ctx, .attr = &attr, .in = in, .n_in = 3, .out = out, .n_out = 1,
 *                     .saved = saved, .n_saved = 1, .want = 0};
 *     pl_status st = pl_op_linear.infer(&call);          // fills out[0].shape, saved[0].shape
 *     out[0].data = my_buffer;                           // the caller allocates
 *     if (!st) st = pl_op_linear.forward(&call);
 *     if (st) puts(pl_error_message());
 *
 * Absence. An optional input is absent when its data is NULL; one without elements needs a pointer all the same. A saved tensor that is not needed has ndim -1. In
 * backward, a gradient that is not wanted has data NULL. Attending to nothing and pooling nothing give zeros and a
 * zero gradient.
 *
 * Randomness. Dropout takes its bits from Philox4x32-10 keyed by (call.key, call.counter, element), so that the
 * same call gives the same mask whatever the number of threads, and backward can draw it again.
 *
 * Threads. Any thread may run any operator at any time. Each operator uses at most the context's number of threads.
 *
 * LEGEND   B samples   N rows   D width   H heads   K inputs of a product   T rows of one sample
 *          din, dout: gradients with respect to inputs and outputs
 */
#ifndef PLAIT_H
#define PLAIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PL_VERSION_STRING "0.1.0"
#define PL_ONEDNN_MAJOR 3 /* the library found at run time must have this major ... */
#define PL_ONEDNN_MINOR 2 /* ... and at least this minor version */

/* ---------------------------------------------------------------- status */

/* One row a status: name, text, Python exception. */
#define PL_STATUS_LIST(X)                                              \
    X(OK, "success", NULL)                                             \
    X(VALUE, "invalid value", "ValueError")                            \
    X(TYPE, "wrong type", "TypeError")                                 \
    X(INDEX, "index out of range", "IndexError")                       \
    X(MEMORY, "out of memory", "MemoryError")                          \
    X(OVERFLOW, "size too large", "OverflowError")                     \
    X(UNSUPPORTED, "not supported", "NotImplementedError")             \
    X(RUNTIME, "internal failure", "RuntimeError")

typedef enum pl_status {
#define PL__X(name, text, exception) PL_STATUS_##name,
    PL_STATUS_LIST(PL__X)
#undef PL__X
} pl_status;

/* Text of the last failure on this thread, naming operator, argument, what was got and what was expected. */
const char *pl_error_message(void);
const char *pl_status_text(pl_status status);

/* ---------------------------------------------------------------- tensors */

#define PL_MAX_DIMS 6
#define PL_MAX_IN 24
#define PL_MAX_OUT 12
#define PL_MAX_SAVED 12

typedef enum pl_dtype { PL_DTYPE_F32, PL_DTYPE_BF16, PL_DTYPE_S8, PL_DTYPE_U8, PL_DTYPE_I64, PL_DTYPE_COUNT } pl_dtype;

/* A view by value: owns nothing. Strides count elements. Operators take C-contiguous, aligned, native tensors. */
typedef struct pl_tensor {
    void *data;
    pl_dtype dtype;
    int32_t ndim; /* -1: this tensor does not exist */
    int64_t shape[PL_MAX_DIMS];
    int64_t strides[PL_MAX_DIMS];
} pl_tensor;

size_t pl_dtype_size(pl_dtype dtype);

/* Fills a contiguous view; PL_STATUS_OVERFLOW for a negative dimension or when the bytes do not fit in 63 bits. */
pl_status pl_tensor_init(pl_tensor *tensor, void *data, pl_dtype dtype, int ndim, const int64_t *shape);

/* Bytes of a contiguous tensor (0 for one that does not exist). */
size_t pl_tensor_bytes(const pl_tensor *tensor);

/* ---------------------------------------------------------------- context */

typedef enum pl_isa { PL_ISA_NONE, PL_ISA_AVX2, PL_ISA_AVX512, PL_ISA_AVX512_BF16, PL_ISA_AMX } pl_isa;

/* Threads and instruction set. The environment variable PLAIT_MAX_ISA (avx2, avx512, avx512_bf16, amx) lowers the
 * instruction set of plait's kernels and of oneDNN. */
typedef struct pl_context pl_context;
pl_status pl_context_create(pl_context **context); /* threads: OMP_NUM_THREADS or the CPUs that this process may use */
void pl_context_destroy(pl_context *context);
pl_status pl_context_set_threads(pl_context *context, int threads);
int pl_context_threads(const pl_context *context); /* 1 in a forked child */
pl_isa pl_context_isa(const pl_context *context);
/* Whether products of packs of this dtype are faster here than float32: BF16 and S8 need instructions of their own. */
int pl_context_has(const pl_context *context, pl_dtype dtype);
const char *pl_isa_name(pl_isa isa);
pl_status pl_onednn_version(int *major, int *minor, int *patch);
const char *pl_onednn_path(void); /* file the library was loaded from */

/* ---------------------------------------------------------------- memory */

/* Counters of the allocator front and of the layers above it; monotonic unless said otherwise. */
typedef struct pl_counters {
    int64_t live_blocks;        /* blocks taken from the system and not given back, now */
    int64_t live_bytes;
    int64_t allocations;
    int64_t pool_free_bytes;    /* kept by the pool for reuse, now */
    int64_t pool_used_bytes;    /* handed out by the pool, now */
    int64_t pool_used_buffers;
    int64_t primitives_created;
    int64_t primitives_cached;  /* now */
    int64_t packs_filled;
    int64_t crowded; /* times that threads waited for others of the machine */
} pl_counters;
void pl_counters_get(pl_counters *counters);

/* Makes the nth allocation from now (1 = next) fail, and with `persistent` all later ones too; 0 switches off. */
void pl_memory_fail_at(int64_t nth, int persistent);

/* Recycled buffers, 64-byte aligned; huge pages are asked for from 2 MiB. Any thread may give a buffer back. */
pl_status pl_buffer_get(size_t bytes, void **data);
void pl_buffer_put(void *data); /* NULL is fine */
void pl_pool_trim(void);        /* gives unused buffers back to the system */
void pl_pool_set_cap(size_t bytes);

/* ---------------------------------------------------------------- packs */

/* Packed forms of one constant operand (a weight), in the layouts that the fast products want. Forms are made when
 * first needed and reused until the owner raises the version. A pack belongs to its operand: never share one. */
typedef struct pl_pack pl_pack;
pl_status pl_pack_create(pl_pack **pack);
/* Forms in fewer bits. PL_DTYPE_S8, for inference: of products x w^T, with a scale for each row of w; x is rounded as
 * well, row by row to 8 bits, and sums are exact. PL_DTYPE_BF16: of all three products of a linear layer, backward too,
 * whose operands are rounded to bfloat16; sums are float32. Results and gradients are float32. PL_DTYPE_F32 switches
 * back. */
pl_status pl_pack_set_dtype(pl_pack *pack, pl_dtype dtype);
pl_dtype pl_pack_dtype(const pl_pack *pack);
/* Whether the operand lies in a private mapping of a file and nothing was written to it: its pages then go back to the
 * system once a form is made, and come from the file again when somebody reads them. */
void pl_pack_set_mapped(pl_pack *pack, int mapped);
int pl_pack_mapped(const pl_pack *pack);
/* A weight that is going to be trained: drops its forms, and keeps none after its use until those of one version are
 * used twice. Whoever trains renews once a step, and what a step uses once is memory for nothing. */
void pl_pack_spare(pl_pack *pack);
void pl_pack_renew(pl_pack *pack, uint64_t version); /* forms of other versions are stale from now on */
void pl_pack_destroy(pl_pack *pack);
size_t pl_pack_bytes(pl_pack *pack);

/* ---------------------------------------------------------------- the call */

typedef struct pl_call {
    const pl_context *ctx;
    const void *attr;          /* the operator's pl_attr_* */
    const pl_tensor *in;       /* inputs; data NULL = absent */
    pl_pack *const *pack;      /* beside each input its packed forms or NULL; the array itself may be NULL */
    int n_in;
    pl_tensor *out;
    int n_out;                 /* infer sets it for operators with a variable number */
    pl_tensor *saved;
    int n_saved;
    uint32_t want;             /* bit i: input i needs a gradient; decides what is saved, 0 = nothing is */
    const pl_tensor *dout;     /* backward: gradients of outputs; data NULL = zero */
    pl_tensor *din;            /* backward: gradients of inputs; data NULL = not wanted */
    uint32_t accumulate;       /* bit i: add to din[i] in place of overwriting it */
    uint64_t key, counter;     /* random bits of this call */
} pl_call;

enum { PL_PORT_OPTIONAL = 1, PL_PORT_REPEATED = 2 /* the list of ports repeats as often as inputs are given */ };

typedef struct pl_port {
    const char *name;
    pl_dtype dtype;
    int flags;
} pl_port;

typedef struct pl_op {
    const char *name;
    size_t attr_size;
    const pl_port *ports; /* one an input */
    int n_ports;
    int n_out;            /* maximum */
    int n_saved;
    pl_status (*infer)(pl_call *call);
    pl_status (*forward)(const pl_call *call);
    pl_status (*backward)(const pl_call *call);
    int random; /* 1: takes bits from call.key and call.counter */
} pl_op;

/* ---------------------------------------------------------------- operators
 *
 * Every operator is named in PL_OP_LIST and exported as `const pl_op pl_op_<name>`. Positions of inputs, outputs and
 * saved tensors are given here; the formula is in the operator's file and in plait.reference.<name>. */

#define PL_OP_LIST(X) \
    X(linear)              \
    X(mlp)                 \
    X(attention)           \
    X(mlp_block)           \
    X(attention_block)     \
    X(activation)          \
    X(layer_norm)          \
    X(rms_norm)            \
    X(l2_normalize)        \
    X(dropout)             \
    X(embedding)           \
    X(add_positions)       \
    X(rope)                \
    X(regression_loss)     \
    X(stream_concat)       \
    X(stream_split)        \
    X(pool)                \
    X(attention_pool)      \
    X(patch_embed)         \
    X(info_nce)            \
    X(sigmoid_contrastive) \
    X(cross_entropy)

typedef enum pl_activation {
    PL_ACT_NONE, PL_ACT_RELU, PL_ACT_GELU, PL_ACT_GELU_TANH, PL_ACT_QUICK_GELU, PL_ACT_SILU, PL_ACT_TANH,
    PL_ACT_SIGMOID, PL_ACT_COUNT
} pl_activation;

/* y = act(x w^T + b).  in: x (N, K), weight (D, K), bias (D) or absent.  out: y (N, D).
 * saved: the sum before the activation (N, D), if there is an activation. */
typedef struct pl_attr_linear { int activation; } pl_attr_linear;

/* y = act(x w1^T + b1) w2^T + b2.  in: x (N, K), weight1 (F, K), bias1 (F) or absent, weight2 (D, F), bias2 (D) or
 * absent.  out: y (N, D).  saved: the sum before the activation (N, F). */
typedef struct pl_attr_mlp { int activation; } pl_attr_mlp;

/* Fused sublayers: y = x + drop(branch(norm(x))) with pre_norm, else y = norm(x + drop(branch(x))); norm 0 is layer
 * norm, 1 RMS norm. mlp_block in: x (N, D), norm_weight (D), norm_bias (D) or absent, then weights as of mlp. */
typedef struct pl_attr_mlp_block {
    int activation, pre_norm, norm;
    double eps, residual_dropout;
} pl_attr_mlp_block;

/* in: x (N, D), offsets (B + 1), norm_weight (D), norm_bias (D) or absent, weight ((heads + 2 kv_heads) Dh, D), bias,
 * out_weight (D, heads Dh), out_bias; with a context: context (M, C), context_offsets (B + 1),
 * context_weight (2 kv_heads Dh, C), context_bias, and weight (heads Dh, D). scale 0 is 1 / sqrt(Dh). */
typedef struct pl_attr_attention_block {
    int heads, kv_heads, causal, pre_norm, norm;
    double scale, dropout, eps, residual_dropout;
} pl_attr_attention_block;

/* out = softmax(scale q k^T + bias) v, sample by sample and head by head; head h reads key head h / (heads / kv_heads).
 * in: q (Nq, heads Dk), k (Nk, kv_heads Dk), v (Nk, kv_heads Dv), q_offsets (B + 1), kv_offsets (S + 1), and if wanted
 * kv_lengths (B): how many rows of its segment a sample reads; kv_index (B): which segment, else S = B and segment b;
 * q_times (Nq), kv_times (Nk), in any unit: with causal, key j is seen if its time is not after the query's;
 * bias (heads, Tq, Tk): its leading corner serves each sample; relative_bias (heads, R) at relative_index (Tq, Tk);
 * pair_bias (heads or 1, P) with pair_offsets (B + 1): Tq Tk values a sample.
 * causal: query i sees keys j <= i + Tk - Tq. A query that sees nothing gives zeros. dropout is on the weights.
 * bf16: operands of products are rounded to bfloat16, backward too; sums and softmax are float32.
 * out: (Nq, heads Dv).  saved: log of the sum of e^score (Nq, heads); the output, if a sample reads over 256 keys. */
typedef struct pl_attr_attention {
    int64_t heads, kv_heads;
    double scale, dropout;
    int causal, bf16;
} pl_attr_attention;

/* y = f(x) by element.  in: x of any shape.  out: y. */
typedef struct pl_attr_activation { int kind; /* pl_activation */ } pl_attr_activation;

/* y = (x - mean) / sqrt(variance + eps) weight + bias over the last dimension.
 * in: x (..., D), weight (D) or absent, bias (D) or absent.  out: y (..., D).
 * saved: mean, 1 / sqrt(variance + eps). */
typedef struct pl_attr_layer_norm { double eps; } pl_attr_layer_norm;

/* y = x / sqrt(mean(x^2) + eps) weight over the last dimension.
 * in: x (..., D), weight (D) or absent.  out: y (..., D).  saved: 1 / sqrt(mean(x^2) + eps). */
typedef struct pl_attr_rms_norm { double eps; } pl_attr_rms_norm;

/* y = x / |x| over the last dimension; rows with |x| <= eps give 0 and no gradient.
 * in: x (..., D).  out: y (..., D).  saved: 1 / |x|. */
typedef struct pl_attr_l2_normalize { double eps; } pl_attr_l2_normalize;

/* y = x / (1 - p) with probability 1 - p, else 0; y = x when not training. Element e is dropped when word e of the
 * stream is below p 2^32.  in: x of any shape.  out: y. */
typedef struct pl_attr_dropout { double p; int training; } pl_attr_dropout;

/* y[i] = weight[ids[i]].  in: ids of any shape, weight (V, D).  out: y, the shape of ids and D. Rows of padding_idx
 * (-1: none) bring no gradient. */
typedef struct pl_attr_embedding { int64_t padding_idx; } pl_attr_embedding;

/* add_positions: y = x + table[position], or sinusoids where table is absent: sin(position w_i) in column 2i and cos in
 * column 2i + 1, w_i = 10000^(-2i / D). The position is the row's place in its sample plus start.
 * in: x (N, D), offsets (B + 1), table (P, D) or absent, start (B) or absent: 0.  out: y (N, D). */

/* Columns (i, R/2 + i) of each head, or (2i, 2i + 1) if interleaved, turned by position base^(-2i / R), i < R/2, where
 * R = rotary_dim; other columns pass. The position is a row's time, or counts rows as in add_positions.
 * in: x (N, H D), offsets (B + 1), times (2, N) or absent: seconds and what rounding left of them, start (B) or absent.
 * out: y (N, H D). */
typedef struct pl_attr_rope { int heads; int interleaved; double base; int64_t rotary_dim; } pl_attr_rope;

/* Of d = prediction - target: d^2, |d|, or d^2 / 2 where |d| <= delta and delta (|d| - delta / 2) elsewhere. A row's
 * elements are multiplied with its weight; rows of weight 0 count as absent whatever they hold. `mean` divides the sum
 * by the elements, counted with their weights; without any it is 0.
 * in: prediction, target of the same shape (N, ...), present (N) or absent: 1.  out: (), or all losses for `none`. */
typedef enum pl_regression {
    PL_REGRESSION_MSE, PL_REGRESSION_L1, PL_REGRESSION_HUBER, PL_REGRESSION_COUNT
} pl_regression;
typedef enum pl_reduction { PL_REDUCTION_MEAN, PL_REDUCTION_SUM, PL_REDUCTION_NONE, PL_REDUCTION_COUNT } pl_reduction;
typedef struct pl_attr_regression_loss { int kind; int reduction; double delta; } pl_attr_regression_loss;

/* Per sample the segments of several streams, in order.  in, repeated: rows (N_i, D), offsets (B + 1) or absent: a
 * matrix whose rows every sample gets.  out: rows (N, D), whose offsets are the sum of all offsets. */
typedef struct pl_attr_stream_concat { int64_t samples; /* -1: from the offsets */ } pl_attr_stream_concat;

/* stream_split: the inverse.  in: x (N, D), offsets (B + 1), parts (P, B + 1): the offsets of each part.
 * out: rows (N_i, D), P times. */

/* One row a sample, zeros where it has no rows.  in: x (N, D), offsets (B + 1).  out: y (B, D).
 * saved: the row within its sample that was the largest (B, D) int64, for max. */
typedef enum pl_pool_mode { PL_POOL_MEAN, PL_POOL_MAX, PL_POOL_FIRST, PL_POOL_LAST, PL_POOL_COUNT } pl_pool_mode;
typedef struct pl_attr_pool { int mode; } pl_attr_pool;

/* attention_pool: the weighted mean of a sample's rows by head.  in: x (N, D), offsets (B + 1), scores (N, H).
 * out: y (B, D).  saved: the weights, the softmax of the scores within the sample (H, N). */

/* patch_embed: pictures to rows of patches.  in: images (B, Y, X, C), weight (D, C, P, Q), bias (D) or absent.
 * out: rows (B Y/P X/Q, D). */

/* Symmetric InfoNCE: the mean over pairs of the cross entropies of logits = exp(logit_scale) a b^T along rows and down
 * columns, halved. Pairs that are not present are left out of both; without any the loss is 0. label_smoothing is the
 * share of each label that is spread over all pairs.
 * in: a (N, D), b (N, D), logit_scale () or (1), present (N) of 0 and 1, or absent.  out: loss ().
 * saved: maximum and 1 / sum of exponentials, of rows and of columns (4, N rounded up to 16). */
typedef struct pl_attr_info_nce { double label_smoothing; } pl_attr_info_nce;

/* The pairwise sigmoid loss: sum over all i, j of log(1 + exp(-z l)), l = exp(logit_scale) a_i . b_j + logit_bias,
 * z = 1 where i = j, else -1; divided by the number of pairs.  in: as info_nce, with logit_bias () or (1) before
 * present.  out: loss (). */

/* Cross entropy of softmax(logits) with labels. Rows whose label is ignore_index do not count. label_smoothing is the
 * share of each label that is spread over all classes; weight is one a class, 0 or more. The mean divides by the
 * weights of the labels that count, and is 0 without any.
 * in: logits (N, C), labels (N), weight (C) or absent (not differentiable).  out: loss (), or (N) for no reduction.
 * saved: maximum and 1 / sum of exponentials of each row (2, N). */
typedef struct pl_attr_cross_entropy {
    double label_smoothing;
    int64_t ignore_index;
    int reduction;
} pl_attr_cross_entropy;

#define PL__X(name) extern const pl_op pl_op_##name;
PL_OP_LIST(PL__X)
#undef PL__X

/* All operators, in the order of the list. */
extern const pl_op *const pl_op_table[];
extern const int pl_op_count;

/* ---------------------------------------------------------------- optimisers
 *
 * Values p, gradients g and moments m, v are flat arrays of `size` floats (an arena). A step updates the segments
 * only, which ascend and do not overlap; g is multiplied by grad_scale first (clipping). */

typedef struct pl_segment {
    int64_t begin, end;
    double lr, weight_decay;
} pl_segment;

/* A matrix in the arena, and its pack. Where a segment holds all of it, the pack is at `version` afterwards, and forms
 * that were used since the one before are packed anew in the same pass. Weights ascend and do not overlap. */
typedef struct pl_weight {
    int64_t begin, rows, columns;
    pl_pack *pack;
    uint64_t version;
} pl_weight;

/* AdamW, Loshchilov & Hutter, arXiv 1711.05101:  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
 * p = (1 - lr decay) p - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps);  step counts from 1. */
pl_status pl_adamw_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m, float *v,
                        const pl_segment *segments, int64_t count, const pl_weight *weights, int64_t weight_count,
                        double beta1, double beta2, double eps, int64_t step, double grad_scale);

/* d = g + decay p,  m = momentum m + d,  p = p - lr m;  with nesterov p = p - lr (d + momentum m). m starts as zeros,
 * and may be NULL when momentum is 0. */
pl_status pl_sgd_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m,
                      const pl_segment *segments, int64_t count, const pl_weight *weights, int64_t weight_count,
                      double momentum, int nesterov, double grad_scale);

/* *sum = sum of x^2 over the segments, in double: the square of the global gradient norm. The same bits for any number
 * of threads; segments may come in any order. */
pl_status pl_sum_squares(const pl_context *ctx, int64_t size, const float *x, const pl_segment *segments, int64_t count,
                         double *sum);

#ifdef __cplusplus
}
#endif
#endif
