/* arena.h - passes over an arena of values in pieces, for optimisers. */
#ifndef PL_ARENA_H
#define PL_ARENA_H

#include "ops.h"

/* What a step does: `rows` runs of n values, the first at `at`, each `stride` behind the one before. */
typedef void (*pl__update)(const void *arg, const pl_segment *segment, int64_t at, int64_t rows, int64_t stride,
                           int64_t n);

typedef struct pl__arena {
    const char *name; /* of the function, for messages */
    int64_t size;
    const pl_segment *segments;
    int64_t count;
    const pl_weight *weights; /* or NULL */
    int64_t weight_count;
} pl__arena;

/* `apart`: segments ascend and do not overlap. */
pl_status pl__arena_check(const pl__arena *a, bool apart);
/* Updates all segments of `values`, and packed forms of weights in the same pass. */
pl_status pl__arena_run(const pl_context *ctx, const pl__arena *a, const float *values, pl__update update,
                        const void *arg);

/* A run of values, or a tile of a weight. */
typedef struct pl__piece {
    int64_t begin, end, segment;
    int64_t weight, row, column; /* -1: a run */
} pl__piece;

/* Pieces of all segments; the caller gives them back. Their places depend on the segments and weights alone, so that
 * sums over pieces do not depend on the number of threads. */
pl_status pl__arena_cut(const pl__arena *a, pl__piece **pieces, int64_t *n);

#endif
