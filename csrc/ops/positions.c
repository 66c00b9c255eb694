/* positions.c - what operators that tell rows their positions share. */
#include "positions.h"

#include <math.h>

pl_status pl__frequencies(double base, int64_t width, double **frequency)
{
    const int64_t n = (width + 1) / 2, room = (n + 15) / 16 * 16;
    PL__CHECK(pl__scratch(frequency, (size_t)room, sizeof **frequency));
    for (int64_t i = 0; i < n; i++) (*frequency)[i] = exp(-log(base) * (2.0 * (double)i / (double)width));
    for (int64_t i = n; i < room; i++) (*frequency)[i] = 0;
    return PL_STATUS_OK;
}

pl_status pl__check_positions(const pl_op *op, const pl_call *call, int x, int offsets, int start)
{
    PL__CHECK(pl__check_offsets(op, call, offsets, call->in[x].shape[0], "x"));
    const int64_t samples = call->in[offsets].shape[0] - 1;
    PL__CHECK(pl__check_shape(op, call, start, 1, &samples, "one a sample"));
    return pl__present(&call->in[start]) ? pl__check_indices(op, call, start, (int64_t)1 << 48, "a position")
                                         : PL_STATUS_OK;
}

typedef struct rope_run {
    const pl_simd *simd;
    const pl__rope *rope;
    const pl__positions *positions;
    const double *frequency;
    const float *x;
    float *y;
    bool add;
} rope_run;

static void rope_range(void *arg, int64_t begin, int64_t end)
{
    const rope_run *a = arg;
    const pl__rope *r = a->rope;
    const pl__positions *p = a->positions;
    const int64_t row_width = r->heads * r->width;
    int64_t sample = p->times ? 0 : pl__sample_of(p->offsets, p->samples, begin);
    for (int64_t i = begin; i < end; i++) {
        const double at = p->times ? (double)p->times[i] + (p->rest ? (double)p->rest[i] : 0.0)
                                   : (double)pl__position_index(p, i, &sample);
        a->simd->rope_row(at, r->direction, a->frequency, r->rotary, r->interleaved, r->heads, r->width,
                          a->x + i * row_width, a->y + i * row_width, a->add);
    }
}

pl_status pl__rope_run(const pl_context *ctx, const pl__rope *rope, const pl__positions *positions, int64_t rows,
                       const float *x, float *y, bool add)
{
    rope_run a = {.simd = ctx->simd, .rope = rope, .positions = positions, .x = x, .y = y, .add = add};
    double *frequency;
    PL__CHECK(pl__frequencies(rope->base, rope->rotary, &frequency));
    a.frequency = frequency;
    const double row_ns = 2.0 * (double)rope->rotary + 0.3 * (double)(rope->heads * rope->width);
    pl__parallel_ranges(ctx, rows, pl__grain(row_ns), rope_range, &a);
    pl_buffer_put(frequency);
    return PL_STATUS_OK;
}
