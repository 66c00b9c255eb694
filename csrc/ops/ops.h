/* ops.h - what operator files share: products of a linear layer, elementwise passes over threads, sub-calls. */
#ifndef PL_OPS_H
#define PL_OPS_H

#include "../core/core.h"
#include "../dnnl/dnnl_layer.h"
#include "../simd/simd.h"

/* y = act(x weight^T + bias) + residual as a product. */
pl__product pl__linear_product(int64_t rows, int64_t width_in, int64_t width_out, const float *x, const float *weight,
                               pl_pack *pack, const float *bias, pl_activation activation, const float *residual,
                               float *y);
/* The three products of a linear layer, for fused operators too. weight is (width_out, width_in). */
pl_status pl__linear_forward(const pl_context *ctx, int64_t rows, int64_t width_in, int64_t width_out, const float *x,
                             const float *weight, pl_pack *pack, const float *bias, pl_activation activation,
                             const float *residual, float *y);
/* Any of dx, dweight, dbias may be NULL. `add_dx`, `add_dw`, `add_db`: accumulate. */
pl_status pl__linear_backward(const pl_context *ctx, int64_t rows, int64_t width_in, int64_t width_out, const float *x,
                              const float *weight, pl_pack *pack, const float *dy, float *dx, bool add_dx,
                              float *dweight, bool add_dw, float *dbias, bool add_db);

/* Elementwise over threads. */
void pl__activation_run(const pl_context *ctx, int activation, const float *x, float *y, int64_t n);
void pl__activation_back(const pl_context *ctx, int activation, const float *x, const float *dy, float *dx, float *y,
                         int64_t n);

void pl__activation_back_add(const pl_context *ctx, int activation, const float *x, const float *dy, float *dx,
                             int64_t n); /* dx += */

/* norm.c: norms of rows. weight and bias may be NULL; mean and rstd (rows) are what backward needs, NULL when nothing
 * is saved. `again` makes y anew from them. In backward dx = plus + gradient, where plus is NULL, dx itself
 * (accumulate) or the gradient that a residual brings; dx == dy is allowed; any of dx, dweight, dbias may be NULL. */
void pl__layer_norm_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                            const float *bias, double eps, float *y, float *mean, float *rstd);
void pl__layer_norm_again(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                          const float *bias, const float *mean, const float *rstd, float *y);
pl_status pl__layer_norm_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                                  const float *weight, const float *mean, const float *rstd, const float *dy,
                                  const float *plus, float *dx, float *dweight, bool add_dw, float *dbias, bool add_db);
void pl__rms_norm_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                          double eps, float *y, float *rstd);
void pl__rms_norm_again(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                        const float *rstd, float *y);
pl_status pl__rms_norm_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                                const float *weight, const float *rstd, const float *dy, const float *plus, float *dx,
                                float *dweight, bool add_dw);

/* y = x / |x| by rows; `reciprocal` (rows): 1 / |x|, 0 where |x| <= eps. */
void pl__l2_normalize_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, double eps, float *y,
                              float *reciprocal);
void pl__l2_normalize_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                               const float *reciprocal, const float *dy, const float *plus, float *dx);

/* op_dropout.c: y = plus + dropout(x), plus may be NULL; y == x and y == plus are allowed. Element e has word e % 4 of
 * block `block` + e / 4: an operator with several masks gives each its own range of blocks. */
void pl__dropout_run(const pl_context *ctx, uint64_t key, uint64_t counter, uint64_t block, double rate, const float *x,
                     const float *plus, float *y, int64_t n);

/* out[j] (+)= sum over rows of x (rows, width). */
void pl__column_sums(const pl_context *ctx, const float *x, int64_t rows, int64_t width, float *out, bool accumulate);
/* The same where rows lie `row` apart. */
void pl__strided_sums(const pl_context *ctx, const float *x, int64_t rows, int64_t row, int64_t width, float *out,
                      bool accumulate);

/* The pack beside input i, or NULL. */
static inline pl_pack *pl__pack(const pl_call *call, int i) { return call->pack ? call->pack[i] : NULL; }
static inline bool pl__wants(const pl_call *call, int i) { return call->want >> i & 1; }
static inline bool pl__adds(const pl_call *call, int i) { return call->accumulate >> i & 1; }

#endif
