/* pairs.h - the products of every row of a with every row of b, tile by tile: what contrastive losses are made of.
 *
 * Of the matrix of products 64 MB at most are kept for backward, the rest is multiplied again. Absent pairs are left
 * out of rows and columns before the product, so what looks at tiles counts present pairs only. */
#ifndef PL_PAIRS_H
#define PL_PAIRS_H

#include "ops.h"

typedef struct pl__pairs {
    const pl_context *ctx;
    int64_t total, count, width; /* rows, those that are present, values in a row */
    int64_t *index;              /* where the present rows stand, or NULL: all are present */
    const float *a, *b;
} pl__pairs;

/* One tile: s[i, j] is the product of the present rows r0 + i of a and c0 + j of b. Rows of s are `row` apart, a
 * multiple of 16, and readable up to there: behind the last column and below the last row are zeros. Backward writes
 * the gradient with respect to s, with the same zeros, to g, which may be s. */
typedef struct pl__tile {
    const float *s;
    float *g;
    int64_t row, r0, rows, c0, cols;
} pl__tile;

typedef void (*pl__tile_fn)(void *arg, const pl__tile *tile);

/* Ports a, b (N, D), logit_scale, and more scalars up to the port of present (N). */
pl_status pl__pairs_check(const pl_op *op, const pl_call *call, int present);
/* e^logit_scale. */
float pl__pairs_scale(const pl_call *call);
/* Length of arrays that hold one value a present row and are read in whole vectors. */
static inline int64_t pl__pairs_padded(int64_t rows) { return (rows + 15) & ~(int64_t)15; }

pl_status pl__pairs_open(pl__pairs *pairs, const pl_call *call, int present);
void pl__pairs_close(pl__pairs *pairs);

/* The saved tensor of products that infer asks for. */
pl_status pl__pairs_infer_kept(const pl_call *call, int present, pl_tensor *kept);

/* Calls fn on every tile, always in the same order; products of the first tiles are left in `kept` (may be NULL). */
pl_status pl__pairs_forward(const pl__pairs *pairs, pl__tile_fn fn, void *arg, const pl_tensor *kept);
/* The same with gradients: da = g b and db = g^T a are summed (over what stands there, if add_*). */
pl_status pl__pairs_backward(const pl__pairs *pairs, pl__tile_fn fn, void *arg, const pl_tensor *kept, float *da,
                             bool add_da, float *db, bool add_db);

#endif
