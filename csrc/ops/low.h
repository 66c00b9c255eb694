/* low.h - rows in fewer bits, for weights that are packed so. */
#ifndef PL_LOW_H
#define PL_LOW_H

#include "ops.h"

/* Dense rows up to a multiple of 8, as bfloat16, or as 8-bit numbers with what each row was divided by. */
typedef struct pl__rounded {
    void *data;
    float *scales; /* 8 bits only */
} pl__rounded;

/* Scratch of the pool, filled from x unless that is NULL. */
pl_status pl__rounded_make(const pl_context *ctx, pl_dtype dtype, int64_t rows, int64_t width, const float *x,
                           pl__rounded *to);
void pl__rounded_free(pl__rounded *r);

/* The product x w^T of a pack in fewer bits, A being in `p` or in `x`. c16: the result as bfloat16, dense, with room for
 * rows up to a multiple of 8; for packs of that dtype. */
pl_status pl__linear_low(const pl_context *ctx, pl__product *p);
pl_status pl__linear_rounded(const pl_context *ctx, pl__product *p, const pl__rounded *x, uint16_t *c16);

#endif
