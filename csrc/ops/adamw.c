/* adamw.c - optimiser steps over one flat arena, and the sum of squares that clipping by global norm needs.
 *
 * Not operators: they write their arguments and have no gradient. */
#include <math.h>

#include "arena.h"

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
    float *p, *m, *v;
    const float *g;
    double correction1, correction2; /* 1 - beta^step */
    float beta1, rest1, beta2, rest2, eps, grad_scale;
} adamw;

static void adamw_update(const void *arg, const pl_segment *s, int64_t at, int64_t rows, int64_t stride, int64_t n)
{
    const adamw *a = arg;
    const pl__adamw_factors f = {
        .keep = (float)(1.0 - s->lr * s->weight_decay), .rate = (float)(s->lr / a->correction1),
        .root = (float)(1.0 / sqrt(a->correction2)), .beta1 = a->beta1, .rest1 = a->rest1, .beta2 = a->beta2,
        .rest2 = a->rest2, .eps = a->eps, .grad_scale = a->grad_scale};
    for (int64_t i = 0; i < rows; i++, at += stride)
        a->simd->adamw_update(&f, a->p + at, a->g + at, a->m + at, a->v + at, n);
}

pl_status pl_adamw_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m, float *v,
                        const pl_segment *segments, int64_t count, const pl_weight *weights, int64_t weight_count,
                        double beta1, double beta2, double eps, int64_t step, double grad_scale)
{
    const pl__arena arena = {"adamw_step", size, segments, count, weights, weight_count};
    PL__CHECK(pl__arena_check(&arena, true));
    PL__CHECK(check_number("adamw_step", "beta1", beta1, 1));
    PL__CHECK(check_number("adamw_step", "beta2", beta2, 1));
    PL__CHECK(check_number("adamw_step", "eps", eps, INFINITY));
    PL__CHECK(check_number("adamw_step", "grad_scale", grad_scale, INFINITY));
    if (step < 1)
        return pl__fail(PL_STATUS_VALUE, "adamw_step: step is %lld, expected at least 1", (long long)step);
    const adamw a = {.simd = ctx->simd, .p = p, .g = g, .m = m, .v = v, .correction1 = 1.0 - pow(beta1, (double)step),
                     .correction2 = 1.0 - pow(beta2, (double)step), .beta1 = (float)beta1,
                     .rest1 = (float)(1.0 - beta1), .beta2 = (float)beta2, .rest2 = (float)(1.0 - beta2),
                     .eps = (float)eps, .grad_scale = (float)grad_scale};
    return pl__arena_run(ctx, &arena, p, adamw_update, &a);
}

/* ---------------------------------------------------------------- SGD */

typedef struct sgd {
    const pl_simd *simd;
    float *p, *m;
    const float *g;
    float momentum, grad_scale;
    int nesterov;
} sgd;

static void sgd_update(const void *arg, const pl_segment *s, int64_t at, int64_t rows, int64_t stride, int64_t n)
{
    const sgd *a = arg;
    const pl__sgd_factors f = {.lr = (float)s->lr, .weight_decay = (float)s->weight_decay, .momentum = a->momentum,
                               .grad_scale = a->grad_scale, .nesterov = a->nesterov};
    for (int64_t i = 0; i < rows; i++, at += stride)
        a->simd->sgd_update(&f, a->p + at, a->g + at, a->m ? a->m + at : NULL, n);
}

pl_status pl_sgd_step(const pl_context *ctx, int64_t size, float *p, const float *g, float *m,
                      const pl_segment *segments, int64_t count, const pl_weight *weights, int64_t weight_count,
                      double momentum, int nesterov, double grad_scale)
{
    const pl__arena arena = {"sgd_step", size, segments, count, weights, weight_count};
    PL__CHECK(pl__arena_check(&arena, true));
    PL__CHECK(check_number("sgd_step", "momentum", momentum, 1));
    PL__CHECK(check_number("sgd_step", "grad_scale", grad_scale, INFINITY));
    if (momentum > 0 && !m) return pl__fail(PL_STATUS_VALUE, "sgd_step: m is absent, but momentum is %g", momentum);
    const sgd a = {.simd = ctx->simd, .p = p, .g = g, .m = momentum > 0 ? m : NULL, .momentum = (float)momentum,
                   .grad_scale = (float)grad_scale, .nesterov = nesterov};
    return pl__arena_run(ctx, &arena, p, sgd_update, &a);
}

/* ---------------------------------------------------------------- sum of squares */

typedef struct squares {
    const pl_simd *simd;
    const pl__piece *pieces;
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
    pl__piece *pieces = NULL;
    double *sums = NULL;
    const pl__arena arena = {.name = "sum_squares", .size = size, .segments = segments, .count = count};
    int64_t n;
    *sum = 0;
    PL__CHECK(pl__arena_check(&arena, false));
    PL__TRY(pl__arena_cut(&arena, &pieces, &n));
    PL__TRY(pl__scratch(&sums, (size_t)n, sizeof *sums));
    squares s = {.simd = ctx->simd, .pieces = pieces, .x = x, .sums = sums};
    pl__parallel_ranges(ctx, n, 2, squares_range, &s);
    for (int64_t i = 0; i < n; i++) *sum += sums[i];
done:
    pl_buffer_put(sums);
    pl_buffer_put(pieces);
    return status;
}
