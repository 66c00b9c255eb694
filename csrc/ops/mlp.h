/* mlp.h - the two-layer perceptron on raw pointers, for the operator and for the fused block. */
#ifndef PL_MLP_H
#define PL_MLP_H

#include "low.h"

typedef struct pl__mlp {
    int64_t rows, width, hidden, width_out;
    int activation;
    const float *w1, *b1, *w2, *b2;
    pl_pack *pack1, *pack2;
} pl__mlp;

typedef struct pl__mlp_gradients {
    float *dx;
    bool add_dx;
    float *d[4]; /* w1, b1, w2, b2; NULL = not wanted */
    bool add[4];
} pl__mlp_gradients;

/* Checks of x (input 0) and of weight1, bias1, weight2, bias2 from input w1 on. */
pl_status pl__mlp_check(const pl_op *op, const pl_call *call, int w1, int activation, bool residual);

/* What x is rounded to: that of both packs, or float32. */
pl_dtype pl__mlp_dtype(const pl__mlp *m, const float *pre);
/* y = mlp(x) [+ residual]; `pre` (rows, hidden) keeps the sum before the activation, or is NULL. x may come rounded to
 * pl__mlp_dtype, and is NULL then. */
pl_status pl__mlp_forward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                          const float *residual, float *pre, float *y);
pl_status pl__mlp_backward(const pl_context *ctx, const pl__mlp *m, const float *x, const float *pre, const float *dy,
                           const pl__mlp_gradients *g);

#endif
