/* adamw.c - optimiser steps over one flat arena, and the sum of squares that clipping by global norm needs.
 *
 * Not operators: they write their arguments and have no gradient. The arena is cut into pieces whose places depend on
 * the segments alone, so that results do not depend on the number of threads. */
#include <math.h>

#include "ops.h"

#define PIECE 16384 /* floats; four arrays of them fit a second-level cache */

typedef struct piece {
    int64_t begin, end;
    int64_t segment;
} piece;

/* Pieces of all segments; the caller gives them back. */
static pl_status cut(const pl_segment *segments, int64_t count, piece **pieces, int64_t *n)
{
    int64_t total = 0;
    for (int64_t s = 0; s < count; s++) total += (segments[s].end - segments[s].begin + PIECE - 1) / PIECE;
    PL__CHECK(pl__scratch(pieces, (size_t)total, sizeof **pieces));
    *n = 0;
    for (int64_t s = 0; s < count; s++)
        for (int64_t i = segments[s].begin; i < segments[s].end; i += PIECE) {
            const int64_t end = i + PIECE < segments[s].end ? i + PIECE : segments[s].end;
            (*pieces)[(*n)++] = (piece){i, end, s};
        }
    return PL_STATUS_OK;
}

static pl_status check_segments(const char *name, int64_t size, const pl_segment *segments, int64_t count, bool apart)
{
    int64_t last = 0;
    for (int64_t s = 0; s < count; s++) {
        const pl_segment *g = &segments[s];
        if (g->begin < 0 || g->end < g->begin || g->end > size)
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] is %lld to %lld, expected to lie within 0 to %lld",
                            name, (long long)s, (long long)g->begin, (long long)g->end, (long long)size);
        if (apart && g->begin < last)
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] begins at %lld, before the end %lld of the one before",
                            name, (long long)s, (long long)g->begin, (long long)last);
        if (!isfinite(g->lr) || !isfinite(g->weight_decay))
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] has rate %g and decay %g, expected finite numbers",
                            name, (long long)s, g->lr, g->weight_decay);
        last = g->end;
    }
    return PL_STATUS_OK;
}

static pl_status check_number(const char *name, const char *argument, double value, double below)
{
    if (value >= 0 && value < below) return PL_STATUS_OK;
    if (isinf(below))
        return pl__fail(PL_STATUS_VALUE, "%s: %s is %g, expected a finite number of at least 0", name, argument, value);
    return pl__fail(PL_STATUS_VALUE, "%s: %s is %g, expected at least 0 and below %g", name, argument, value, below);
}

/* ---------------------------------------------------------------- AdamW */

typedef struct adamw {
    const pl_simd *simd;
    const piece *pieces;
    const pl_segment *segments;
    float *p, *m, *v;
    const float *g;
    double correction1, correction2; /* 1 - beta^step */
    float beta1, rest1, beta2, rest2, eps, grad_scale;
} adamw;

static void adamw_range(void *arg, int64_t begin, int64_t end)
{
    const adamw *a = arg;
    for (int64_t i = begin; i < end; i++) {
        const piece *c = &a->pieces[i];
        const pl_segment *s = &a->segments[c->segment];
        const pl__adamw_factors f = {
            .keep = (float)(1.0 - s->lr * s->weight_decay), .rate = (float)(s->lr / a->correction1),
            .root = (float)(1.0 / sqrt(a->correction2)), .beta1 = a->beta1, .rest1 = a->rest1, .beta2 = a->beta2,
            .rest2 = a->rest2, .eps = a->eps, .grad_scale = a->grad_scale};
        a->simd->adamw_update(&f, a->p + c->begin, a->g + c->begin, a->m + c->begin, a->v + c->begin,
                              c->end - c->begin);
    }
}

pl_status pl_adamw_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m, float *v,
                        const pl_segment *segments, int64_t count, double beta1, double beta2, double eps, int64_t step,
                        double grad_scale)
{
    pl_status status;
    piece *pieces = NULL;
    int64_t n;
    PL__CHECK(check_segments("adamw_step", size, segments, count, true));
    PL__CHECK(check_number("adamw_step", "beta1", beta1, 1));
    PL__CHECK(check_number("adamw_step", "beta2", beta2, 1));
    PL__CHECK(check_number("adamw_step", "eps", eps, INFINITY));
    PL__CHECK(check_number("adamw_step", "grad_scale", grad_scale, INFINITY));
    if (step < 1)
        return pl__fail(PL_STATUS_VALUE, "adamw_step: step is %lld, expected at least 1", (long long)step);
    PL__TRY(cut(segments, count, &pieces, &n));
    adamw a = {.simd = ctx->simd, .pieces = pieces, .segments = segments, .p = p, .g = g, .m = m, .v = v,
               .correction1 = 1.0 - pow(beta1, (double)step), .correction2 = 1.0 - pow(beta2, (double)step),
               .beta1 = (float)beta1, .rest1 = (float)(1.0 - beta1), .beta2 = (float)beta2,
               .rest2 = (float)(1.0 - beta2), .eps = (float)eps, .grad_scale = (float)grad_scale};
    pl__parallel_ranges(ctx, n, 1, adamw_range, &a);
done:
    pl_buffer_put(pieces);
    return status;
}

/* ---------------------------------------------------------------- SGD */

typedef struct sgd {
    const pl_simd *simd;
    const piece *pieces;
    const pl_segment *segments;
    float *p, *m;
    const float *g;
    float momentum, grad_scale;
    int nesterov;
} sgd;

static void sgd_range(void *arg, int64_t begin, int64_t end)
{
    const sgd *a = arg;
    for (int64_t i = begin; i < end; i++) {
        const piece *c = &a->pieces[i];
        const pl_segment *s = &a->segments[c->segment];
        const pl__sgd_factors f = {.lr = (float)s->lr, .weight_decay = (float)s->weight_decay, .momentum = a->momentum,
                                   .grad_scale = a->grad_scale, .nesterov = a->nesterov};
        a->simd->sgd_update(&f, a->p + c->begin, a->g + c->begin, a->m ? a->m + c->begin : NULL, c->end - c->begin);
    }
}

pl_status pl_sgd_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m,
                      const pl_segment *segments, int64_t count, double momentum, int nesterov, double grad_scale)
{
    pl_status status;
    piece *pieces = NULL;
    int64_t n;
    PL__CHECK(check_segments("sgd_step", size, segments, count, true));
    PL__CHECK(check_number("sgd_step", "momentum", momentum, 1));
    PL__CHECK(check_number("sgd_step", "grad_scale", grad_scale, INFINITY));
    if (momentum > 0 && !m) return pl__fail(PL_STATUS_VALUE, "sgd_step: m is absent, but momentum is %g", momentum);
    PL__TRY(cut(segments, count, &pieces, &n));
    sgd a = {.simd = ctx->simd, .pieces = pieces, .segments = segments, .p = p, .g = g, .m = momentum > 0 ? m : NULL,
             .momentum = (float)momentum, .grad_scale = (float)grad_scale, .nesterov = nesterov};
    pl__parallel_ranges(ctx, n, 1, sgd_range, &a);
done:
    pl_buffer_put(pieces);
    return status;
}

/* ---------------------------------------------------------------- sum of squares */

typedef struct squares {
    const pl_simd *simd;
    const piece *pieces;
    const float *x;
    double *sums;
} squares;

static void squares_range(void *arg, int64_t begin, int64_t end)
{
    const squares *s = arg;
    for (int64_t i = begin; i < end; i++)
        s->simd->sum_squares(s->x + s->pieces[i].begin, s->pieces[i].end - s->pieces[i].begin, &s->sums[i]);
}

pl_status pl_sum_squares(const pl_context *ctx, int64_t size, const float *x, const pl_segment *segments, int64_t count,
                         double *sum)
{
    pl_status status;
    piece *pieces = NULL;
    double *sums = NULL;
    int64_t n;
    *sum = 0;
    PL__CHECK(check_segments("sum_squares", size, segments, count, false));
    PL__TRY(cut(segments, count, &pieces, &n));
    PL__TRY(pl__scratch(&sums, (size_t)n, sizeof *sums));
    squares s = {.simd = ctx->simd, .pieces = pieces, .x = x, .sums = sums};
    pl__parallel_ranges(ctx, n, 2, squares_range, &s);
    for (int64_t i = 0; i < n; i++) *sum += sums[i];
done:
    pl_buffer_put(sums);
    pl_buffer_put(pieces);
    return status;
}
