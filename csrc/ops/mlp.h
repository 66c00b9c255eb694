/* mlp.h - the two-layer perceptron on raw pointers, for the operator and for the fused block. */
#ifndef PL_MLP_H
#define PL_MLP_H

#include "low.h"

typedef struct pl__mlp {
    int64_t rows, width, hidden, width_out;
    pl_dtype dtype; /* what both layers multiply; `pre` is bfloat16 where this is, else float32 */
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

/* `pre`, the sum before the activation: as infer leaves it, and the dtype that follows from it and from the packs. */
pl_status pl__mlp_infer_pre(const pl_call *call, int64_t rows, int64_t hidden, int w1, pl_tensor *pre);
pl_dtype pl__mlp_dtype(const pl_call *call, int w1, const pl_tensor *pre);

/* y = mlp(x) [+ residual]; `pre` is kept unless NULL. x may come rounded to m->dtype, and is NULL then. */
pl_status pl__mlp_forward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                          const float *residual, void *pre, float *y);
pl_status pl__mlp_backward(const pl_context *ctx, const pl__mlp *m, const float *x, const pl__rounded *rounded,
                           const void *pre, const float *dy, const pl__mlp_gradients *g);

#endif
