/* simd.h - plait's own kernels: one body, compiled once per instruction set, one table of functions each.
 *
 * A kernel is serial and works on a range that the caller chose: threads are the business of ops/. Bodies are written
 * with vector types of PL_VL floats (vec.h), so that AVX2 (8) and AVX-512 (16) share every line. To add a kernel: a
 * line in this list, a `static` function of that name in a body_*.h file. */
#ifndef PL_SIMD_H
#define PL_SIMD_H

#include "../core/core.h"
#include "attention.h"

/* What an update of one segment multiplies with; step numbers are worked in already. */
typedef struct pl__adamw_factors {
    float keep, rate, root; /* 1 - lr decay;  lr / (1 - beta1^t);  1 / sqrt(1 - beta2^t) */
    float beta1, rest1, beta2, rest2, eps, grad_scale;
} pl__adamw_factors;

typedef struct pl__sgd_factors {
    float lr, weight_decay, momentum, grad_scale;
    int nesterov;
} pl__sgd_factors;

/* A loss of differences: kind and delta as in the operator, one weight or one an element, and for gradients what they
 * are multiplied with: a number, and the gradient of each element's loss or NULL. */
typedef struct pl__regression {
    int kind;
    float delta, weight, scale;
    const float *weights, *douts;
} pl__regression;

/* The norms that share a kernel. */
enum { PL__NORM_LAYER, PL__NORM_RMS, PL__NORM_L2 };

/* Packed weights, see body_pack.h: columns of a panel, rows of one of its blocks, and how many rows are multiplied with
 * one at a time. */
enum { PL__PANEL_COLUMNS = 64, PL__PANEL_ROWS = 16, PL__PANEL_GROUP = 48 };

/* What becomes of the sums of a product, by columns of a panel and rows from the first on: + bias, act, + residual. */
typedef struct pl__panel_end {
    int activation;
    const float *bias, *residual;
    int64_t residual_row, c_row;
    float *c;
} pl__panel_end;

/* The same of rounded rows. 8 bits: x = q scale + low of each row, what the columns of the weight were divided by, and
 * the sums of what those became; NULL: bfloat16. To float32 or, where c16 is not NULL, to bfloat16. */
typedef struct pl__low_end {
    int activation;
    const float *bias, *residual;
    int64_t residual_row, c_row;
    float *c;
    uint16_t *c16;
    const float *row_scales, *col, *col_sum;
} pl__low_end;

#define PL_SIMD_LIST(K)                                                                                       \
    /* y = act(x), n elements; x == y is allowed */                                                           \
    K(act_forward, (int act, const float *x, float *y, int64_t n))                                            \
    /* dx = dy * act'(x); dx == dy is allowed; y = act(x) too when y is not NULL */                           \
    K(act_backward, (int act, const float *x, const float *dy, float *dx, float *y, int64_t n))               \
    /* dx += dy * act'(x) */                                                                                  \
    K(act_backward_add, (int act, const float *x, const float *dy, float *dx, int64_t n))                     \
    /* y = (x - mean) rstd weight + bias by rows, where only PL__NORM_LAYER has a mean, and rstd is 1 / |x| or   \
       0 for PL__NORM_L2; weight, bias, mean, rstd may be NULL; y == x is allowed */                          \
    K(norm_forward, (int kind, int64_t rows, int64_t width, const float *x, const float *weight,              \
                     const float *bias, float eps, float *y, float *mean, float *rstd))                       \
    /* the same y again, from what was saved */                                                               \
    K(norm_again, (int64_t rows, int64_t width, const float *x, const float *weight, const float *bias,       \
                   const float *mean, const float *rstd, float *y))                                           \
    /* dx = plus + gradient, if dx is not NULL; plus may be NULL; dx == dy and dx == plus are allowed.        \
       dweight += and dbias += both, if dweight is not NULL */                                                \
    K(norm_backward, (int kind, int64_t rows, int64_t width, const float *x, const float *weight,             \
                      const float *mean, const float *rstd, const float *dy, const float *plus, float *dx,    \
                      float *dweight, float *dbias))                                                          \
    /* y = plus + x * scale where the element's word is not below `below`, else plus (NULL: 0); element 0 has  \
       word 0 of `block`; y == x and y == plus are allowed */                                                 \
    K(dropout, (uint64_t key, uint64_t counter, uint64_t block, uint32_t below, float scale, const float *x,  \
                const float *plus, float *y, int64_t n))                                                      \
    /* y = a + b; y may be one of them */                                                                     \
    K(add, (const float *a, const float *b, float *y, int64_t n))                                             \
    /* y = x + sinusoids of a position, one row; `frequency` has whole vectors */                             \
    K(sinusoid_row, (double position, const double *frequency, int64_t width, const float *x, float *y))      \
    /* pairs among the first `rotary` columns of each head turned by position * frequency, one row; `direction`\
       1 or -1; y += if `add`; y == x is allowed */                                                           \
    K(rope_row, (double position, float direction, const double *frequency, int64_t rotary, int interleaved,  \
                 int64_t heads, int64_t width, const float *x, float *y, int add))                            \
    /* of the differences a - b: the sum of losses, each loss, gradients of a and b (either may be NULL) */   \
    K(regression_sum, (const pl__regression *r, const float *a, const float *b, int64_t n, double *sum))      \
    K(regression_each, (const pl__regression *r, const float *a, const float *b, int64_t n, float *out))      \
    K(regression_back, (const pl__regression *r, const float *a, const float *b, int64_t n, float *da,        \
                        int add_a, float *db, int add_b))                                                     \
    /* y[i] = table[index[i]] */                                                                              \
    K(rows_gather, (const int64_t *index, int64_t n, int64_t width, const float *table, float *y))            \
    /* dtable[index[i]] += dy[i] in columns [c0, c1), but for the index `skip` */                             \
    K(rows_scatter_add, (const int64_t *index, int64_t n, int64_t width, int64_t c0, int64_t c1, int64_t skip,\
                         const float *dy, float *dtable))                                                     \
    /* y += x */                                                                                              \
    K(add_into, (const float *x, float *y, int64_t n))                                                        \
    /* n floats to bfloat16, to the nearest, ties to even */                                                  \
    K(to_bf16, (const float *x, uint16_t *y, int64_t n))                                                      \
    K(from_bf16, (const uint16_t *x, float *y, int64_t n))                                                    \
    /* a row to whole numbers: x = q scale + low; n > 0 */                                                    \
    K(quantize_row, (const float *x, int64_t n, uint8_t *q, float *scale, float *low))                        \
    /* y[j] = act(sum[j] row col[j] + low col_sum[j] + bias[j]) + residual[j], the activation roughly; bias and   \
       residual may be NULL; y and sum may be the same memory. With q that row is quantised too, scale[0] and \
       scale[1] being scale and low */                                                                        \
    K(dequantize_row, (const int32_t *sum, int64_t n, float row, float low, const float *col,                 \
                       const float *col_sum, const float *bias, int activation, const float *residual,        \
                       float *y, uint8_t *q, float *scale))                                                   \
    /* panels of packed weights, see body_pack.h */                                                           \
    K(pack_columns, (const float *x, int64_t x_row, int64_t first, int64_t columns, int64_t end,             \
                     int64_t units, float *to))                                                             \
    K(pack_rows, (const float *x, int64_t x_row, int64_t rows, int64_t columns, int pairs, float *to))        \
    /* rows of k floats, a_row apart, times the first `columns` columns of a panel */                         \
    K(panel_product, (int64_t rows, int64_t k, const float *a, int64_t a_row, const float *panel,             \
                      int64_t columns, const pl__panel_end *end))                                             \
    /* the same of rounded rows, all in units of 32 bits; `next`: the panel that is wanted then, or NULL. There \
       is none below AVX512_BF16 */                                                                           \
    K(panel_product_low, (int64_t rows, int64_t units, const void *a, int64_t a_row, const void *panel,       \
                          const void *next, int64_t columns, const pl__low_end *end))                         \
    /* a weight's row to whole numbers: x = q scale, and the sum of q */                                      \
    K(quantize_weight, (const float *x, int64_t n, int8_t *q, float *scale, float *sum))                      \
    /* one block of queries of one sample, one head */                                                        \
    K(attention_forward, (const pl__attention *a, const pl__attention_task *t, int64_t head,                  \
                          const pl__attention_result *r, float *scratch))                                     \
    /* all samples that read one key segment, one key head */                                                 \
    K(attention_backward, (const pl__attention *a, int64_t segment, int64_t kv_head,                          \
                           const pl__attention_gradient *g, float *scratch))                                  \
    /* pooling of the rows of one segment, columns [c0, c1), see body_pool.h; index may be NULL */            \
    K(pool_max, (const float *x, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out, int64_t *index))\
    K(pool_spread, (const float *g, float scale, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out,\
                    int add))                                                                                 \
    K(pool_softmax, (const float *score, int64_t stride, int64_t n, float *weight))                           \
    K(pool_weighted, (const float *x, const float *weight, int64_t rows, int64_t row, int64_t c0, int64_t c1, \
                      float *out))                                                                            \
    K(pool_weighted_back, (const float *x, const float *weight, const float *g, int64_t rows, int64_t row,    \
                           int64_t c0, int64_t c1, float *dx, int add, float *dweight))                       \
    /* out[j] (+)= sum over rows i of x[i, j], columns [c0, c1) */                                            \
    K(column_sums, (const float *x, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out, int accumulate)) \
    /* one optimiser step on n values; SGD without momentum has m NULL */                                     \
    K(adamw_update, (const pl__adamw_factors *f, float *p, const float *g, float *m, float *v, int64_t n))    \
    K(sgd_update, (const pl__sgd_factors *f, float *p, const float *g, float *m, int64_t n))                  \
    /* *sum = sum of x^2 in double */                                                                         \
    K(sum_squares, (const float *x, int64_t n, double *sum))                                               \
    /* InfoNCE on a tile of products s: running maximum, and sum of exp(scale (s - maximum)), along rows and */ \
    /* down columns [c0, c1), whole vectors */                                                                \
    K(nce_rows, (const float *s, int64_t rows, int64_t cols, int64_t row, float scale, float *max, float *sum)) \
    K(nce_cols, (const float *s, int64_t rows, int64_t row, int64_t c0, int64_t c1, float scale, float *max,  \
                 float *sum))                                                                                 \
    /* g = weight (row softmax + column softmax - shift), less 2 (1 - smoothing) weight at the pairs,\
       s[i, diagonal + i] (none: -1); stats are maxima and, `stats` behind them, 1 / sums;                 \
       moments[i] = d loss / d log scale of row i */                                                       \
    K(nce_back, (const float *s, float *g, int64_t rows, int64_t cols, int64_t row, float scale,           \
                 float weight, float smoothing, float shift, const float *row_stats,                       \
                 const float *col_stats, int64_t stats, int64_t diagonal, double *moments))                \
    /* a row of logits: maximum, sum of exp(x - maximum), and with `smooth` the sum of weight (maximum - x) */\
    K(cross_entropy_row, (const float *x, int64_t n, const float *weight, int smooth, float *max, float *sum,\
                          float *below))                                                                   \
    /* dx (+)= softmax exp(x - max) - uniform weight */                                                    \
    K(cross_entropy_back, (const float *x, int64_t n, const float *weight, float max, float softmax,       \
                           float uniform, float *dx, int add))                                             \
    /* pairwise sigmoid on a tile: sums[i] = sum over j of log(1 + e^l), l = scale s + bias, negated at the pairs */ \
    K(pair_rows, (const float *s, int64_t rows, int64_t cols, int64_t row, float scale, float bias,           \
                  int64_t diagonal, double *sums))                                                            \
    /* g = weight times the derivative; moments[2 i], [2 i + 1]: d / d log scale and d / d bias of row i */ \
    K(pair_back, (const float *s, float *g, int64_t rows, int64_t cols, int64_t row, float scale, float bias, \
                  float weight, int64_t diagonal, double *moments))

typedef struct pl_simd {
    pl_isa isa;
#define PL__X(name, args) void (*name) args;
    PL_SIMD_LIST(PL__X)
#undef PL__X
} pl_simd;

#endif
