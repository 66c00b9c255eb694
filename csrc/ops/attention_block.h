/* attention_block.h - the attention sublayer: what its checks and its work (attention_block.c) share. */
#ifndef PL_ATTENTION_BLOCK_H
#define PL_ATTENTION_BLOCK_H

#include "attention.h"
#include "block.h"

enum { X, OFFSETS, NORM_W, NORM_B, W, B, OUT_W, OUT_B, C, C_OFFSETS, C_W, C_B, N_IN };
enum { MEAN, RSTD, QKV, KV, HEADS, LSE, SUM, N_SAVED }; /* KV: of the context; SUM: what post-norm read */

/* Sizes that follow from the inputs. */
typedef struct pl__block_sizes {
    int64_t rows, width, batch, head, queries, projected, context_rows, context_width, kv_width;
    bool cross;
} pl__block_sizes;

pl__block_sizes pl__block_sizes_of(const pl_call *call);

/* What the projections multiply in, where they and what attention makes of them are rows of bfloat16; else float32. */
pl_dtype pl__block_half(const pl_call *call);

pl_status pl__attention_block_forward(const pl_call *call);
pl_status pl__attention_block_backward(const pl_call *call);

#endif
