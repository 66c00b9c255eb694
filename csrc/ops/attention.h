/* attention.h - attention on raw pointers, for the operator and for fused blocks. The structures are in
 * simd/attention.h. Nothing is checked here. */
#ifndef PL_OPS_ATTENTION_H
#define PL_OPS_ATTENTION_H

#include "ops.h"

/* Writes every row of r->out that belongs to a sample. */
pl_status pl__attention_forward(const pl_context *ctx, const pl__attention *a, const pl__attention_result *r);

/* Writes or adds the gradients that `g` asks for; fills in order and first itself. Rows of dk and dv in no segment stay
 * as they are. The order of every sum is fixed, whatever the threads. */
pl_status pl__attention_backward(const pl_context *ctx, const pl__attention *a, pl__attention_gradient *g);

/* Keys of the sample that reads most: above PL__KEY_BLOCK, backward needs the output. */
int64_t pl__attention_most_keys(const pl__attention *a);

#endif
