/* low.h - rows in fewer bits, for weights that are packed so. */
#ifndef PL_LOW_H
#define PL_LOW_H

#include "ops.h"

/* Dense rows up to a multiple of 8, as bfloat16, or as numbers q of 8 bits: x = q scale + low. */
typedef struct pl__rounded {
    pl_dtype dtype;
    int64_t rows, width;
    void *data;
    float *scales; /* 8 bits only: scale and low of each row */
} pl__rounded;

static inline int64_t pl__rounded_rows(int64_t rows) { return (rows + 7) & ~(int64_t)7; }

/* Scratch of the pool, for pl__rounded_set; pl__rounded_of fills it from x. */
pl_status pl__rounded_get(pl_dtype dtype, int64_t rows, int64_t width, pl__rounded *to);
pl_status pl__rounded_of(const pl_context *ctx, pl_dtype dtype, int64_t rows, int64_t width, const float *x,
                         pl__rounded *to);
/* The same of rows that are bfloat16, at most so wide. */
enum { PL__HALF_WIDTH = 4096 };
pl_status pl__rounded_of_half(const pl_context *ctx, pl_dtype dtype, const pl__rounded *x, pl__rounded *to);
void pl__rounded_free(pl__rounded *r);
void pl__rounded_clear(const pl__rounded *r); /* zeros in the rows behind the last one, for sums over rows */
void pl__round_rows(const pl_context *ctx, const float *x, const pl__rounded *to);
/* bfloat16: to = act(x). */
void pl__activation_bf16(const pl_context *ctx, int activation, const uint16_t *x, const pl__rounded *to);
/* bfloat16: h = act(x), and dy becomes the gradient of x. */
void pl__activation_back_bf16(const pl_context *ctx, int activation, const uint16_t *x, const pl__rounded *dy,
                              const pl__rounded *h);
/* norm.c: the norm of rows, rounded; kind as in simd.h. */
pl_status pl__norm_rounded(const pl_context *ctx, int kind, int64_t rows, int64_t width, const float *x,
                           const float *weight, const float *bias, double eps, float *mean, float *rstd,
                           const pl__rounded *to);

static inline void pl__rounded_set(const pl_simd *simd, const pl__rounded *r, int64_t row, const float *x)
{
    if (r->dtype == PL_DTYPE_BF16)
        simd->to_bf16(x, (uint16_t *)r->data + row * r->width, r->width);
    else
        simd->quantize_row(x, r->width, (uint8_t *)r->data + row * r->width, &r->scales[2 * row],
                          &r->scales[2 * row + 1]);
}

/* Attention between layers of fewer bits multiplies in bfloat16, with 8 bits only where that is fast. */
static inline bool pl__low_attention(const pl_context *ctx, const pl_pack *pack)
{
    const pl_dtype dtype = pl_pack_dtype(pack);
    return dtype == PL_DTYPE_BF16 || (dtype == PL_DTYPE_S8 && pl_context_has(ctx, PL_DTYPE_BF16));
}

/* The product x w^T of a pack, A being in p->a and rounded as the pack says. */
pl_status pl__linear_run(const pl_context *ctx, pl__product *p);
pl_status pl__linear_low(const pl_context *ctx, pl_dtype dtype, pl__product *p); /* of that dtype, not float32 */
/* The same, A being in `x`. The result goes to `to`, rounded the same way or to bfloat16, where that is not NULL. */
pl_status pl__linear_rounded(const pl_context *ctx, pl__product *p, const pl__rounded *x, const pl__rounded *to);
/* shared.c: dx (+)= dy w in bfloat16, or in `to`, and dw (+)= dy^T x. */
pl_status pl__dx_rounded(const pl_context *ctx, const float *weight, pl_pack *pack, int64_t width_in,
                         const pl__rounded *dy, float *dx, bool add, const pl__rounded *to);
pl_status pl__dw_rounded(const pl_context *ctx, const pl__rounded *dy, const pl__rounded *x, float *dweight, bool add);
/* out[j] (+)= sum over rows of x, which are bfloat16. */
void pl__column_sums_rounded(const pl_context *ctx, const pl__rounded *x, float *out, bool accumulate);

#endif
