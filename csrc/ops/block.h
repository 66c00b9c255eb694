/* block.h - what the fused sublayers share: a norm of either kind, dropout on the branch, the residual.
 *
 *     pre-norm    y = x + drop(branch(norm(x)))        post-norm    y = norm(x + drop(branch(x)))
 *
 * Equal to the composition of the operators; fused so that a sublayer is one record and its temporaries are scratch. */
#ifndef PL_BLOCK_H
#define PL_BLOCK_H

#include "low.h"

typedef struct pl__sublayer {
    const pl_context *ctx;
    int64_t rows, width;
    bool pre_norm, rms;
    double eps, dropout; /* of the branch */
    uint64_t key, counter;
    const float *weight, *bias; /* of the norm */
    float *mean, *rstd;         /* saved, or NULL */
} pl__sublayer;

/* Checks of norm_weight (input w) and norm_bias (w + 1) and of the attributes that all sublayers have. */
pl_status pl__sublayer_check(const pl_op *op, const pl_call *call, int w, int norm, double eps, double dropout);

void pl__sublayer_norm(const pl__sublayer *s, const float *x, float *y);
/* The norm in the precision of what reads it: `y` in float32, else `rounded`; both are scratch. */
typedef struct pl__normed {
    float *y;
    pl__rounded rounded;
} pl__normed;
pl_status pl__sublayer_normed(const pl__sublayer *s, pl_dtype dtype, const float *x, pl__normed *to);
void pl__normed_free(pl__normed *n);
/* The same once more in backward: `y`, from the saved statistics, or `rounded` to bfloat16. */
pl_status pl__sublayer_normed_again(const pl__sublayer *s, bool half, const float *x, pl__normed *to);
/* y = x + drop(branch); y == branch is allowed. */
void pl__sublayer_join(const pl__sublayer *s, const float *x, const float *branch, float *y);
/* dbranch = mask of the dropout * dy. */
void pl__sublayer_mask(const pl__sublayer *s, const float *dy, float *dbranch);
/* dx (+)= the norm's gradient of dy [+ plus]. dweight and dbias may be NULL. */
pl_status pl__sublayer_norm_backward(const pl__sublayer *s, const float *x, const float *dy, const float *plus,
                                     float *dx, bool add_dx, float *dweight, bool add_dw, float *dbias, bool add_db);

/* y = x, or y += x; n elements. */
void pl__copy_or_add(const pl_context *ctx, const float *x, float *y, int64_t n, bool add);

#endif
