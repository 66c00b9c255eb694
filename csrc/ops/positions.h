/* positions.h - which position a row has: its place in its sample plus where the sample starts, or its time. */
#ifndef PL_POSITIONS_H
#define PL_POSITIONS_H

#include "ops.h"

typedef struct pl__positions {
    const int64_t *offsets; /* (samples + 1) */
    int64_t samples;
    const int64_t *start; /* (samples), NULL: 0 */
    const float *times;   /* (rows), NULL: positions count rows */
    const float *rest;    /* (rows), what float left of a time, or NULL */
} pl__positions;

/* The sample that a row is in. */
static inline int64_t pl__sample_of(const int64_t *offsets, int64_t samples, int64_t row)
{
    int64_t low = 0, high = samples; /* offsets[low] <= row < offsets[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (offsets[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Walks rows in order: `*sample` is that of the row before, or of this one. */
static inline int64_t pl__position_index(const pl__positions *p, int64_t row, int64_t *sample)
{
    while (row >= p->offsets[*sample + 1]) ++*sample;
    return row - p->offsets[*sample] + (p->start ? p->start[*sample] : 0);
}

/* frequency[i] = base^(-2i / width), i < width / 2 (rounded up), and zeros to fill the last vector: scratch. */
pl_status pl__frequencies(double base, int64_t width, double **frequency);

/* Checks offsets and start. A start stays so far below 2^53 that a position is exact in double. */
pl_status pl__check_positions(const pl_op *op, const pl_call *call, int x, int offsets, int start);

/* x (rows, heads * width) turned by its positions, or back with direction -1. x == y is allowed. */
typedef struct pl__rope {
    int64_t heads, width, rotary;
    bool interleaved;
    double base;
    float direction;
} pl__rope;
pl_status pl__rope_run(const pl_context *ctx, const pl__rope *rope, const pl__positions *positions, int64_t rows,
                       const float *x, float *y, bool add);

#endif
