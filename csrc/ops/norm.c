/* norm.c - layer norm, RMS norm and L2 norm of rows over threads, for the operators and for fused blocks. */
#include "low.h"

#define NORM_NS 0.25 /* an element costs about this */

typedef struct norm {
    const pl_simd *simd;
    int kind;
    int64_t rows, width;
    const float *x, *weight, *bias;
    float eps;
    float *y, *mean_out, *rstd_out;
    const float *mean, *rstd, *dy, *plus;
    float *dx, *partial;
    const pl__rounded *to; /* in place of y */
} norm;

static int64_t grain_of(int64_t width) { return pl__grain(NORM_NS * (double)width); }

static void forward_range(void *arg, int64_t begin, int64_t end)
{
    const norm *a = arg;
    a->simd->norm_forward(a->kind, end - begin, a->width, a->x + begin * a->width, a->weight, a->bias, a->eps,
                          a->y + begin * a->width, a->mean_out ? a->mean_out + begin : NULL,
                          a->rstd_out ? a->rstd_out + begin : NULL);
}

#define STACK_ROW 4096

static void rounded_range(void *arg, int64_t begin, int64_t end)
{
    const norm *a = arg;
    float y[STACK_ROW];
    for (int64_t i = begin; i < end; i++) {
        a->simd->norm_forward(a->kind, 1, a->width, a->x + i * a->width, a->weight, a->bias, a->eps, y,
                              a->mean_out ? a->mean_out + i : NULL, a->rstd_out ? a->rstd_out + i : NULL);
        pl__rounded_set(a->simd, a->to, i, y);
    }
}

static void again_range(void *arg, int64_t begin, int64_t end)
{
    const norm *a = arg;
    a->simd->norm_again(end - begin, a->width, a->x + begin * a->width, a->weight, a->bias,
                        a->mean ? a->mean + begin : NULL, a->rstd + begin, a->y + begin * a->width);
}

/* Gradients of weight and bias are summed by chunks of this many rows and then over the chunks in order, so that they
 * do not depend on the number of threads. */
#define CHUNK 64

static void backward_range(void *arg, int64_t begin, int64_t end)
{
    const norm *a = arg;
    for (int64_t i = begin; i < end; i += CHUNK) {
        const int64_t rows = end - i < CHUNK ? end - i : CHUNK, at = i * a->width;
        float *dweight = a->partial ? a->partial + i / CHUNK * 2 * a->width : NULL;
        if (dweight) memset(dweight, 0, (size_t)(2 * a->width) * sizeof *dweight);
        a->simd->norm_backward(a->kind, rows, a->width, a->x + at, a->weight, a->mean ? a->mean + i : NULL, a->rstd + i,
                               a->dy + at, a->plus ? a->plus + at : NULL, a->dx ? a->dx + at : NULL, dweight,
                               dweight ? dweight + a->width : NULL);
    }
}

static pl_status run_backward(const pl_context *ctx, norm *a, float *dweight, bool add_dw, float *dbias, bool add_db)
{
    const int64_t chunks = (a->rows + CHUNK - 1) / CHUNK;
    if (dweight || dbias) PL__CHECK(pl__scratch(&a->partial, (size_t)(chunks * 2 * a->width), sizeof(float)));
    if (a->dx || a->partial) {
        const int64_t grain = (grain_of(2 * a->width) + CHUNK - 1) / CHUNK * CHUNK;
        pl__parallel_ranges(ctx, a->rows, grain, backward_range, a);
    }
    if (dweight) pl__strided_sums(ctx, a->partial, chunks, 2 * a->width, a->width, dweight, add_dw);
    if (dbias) pl__strided_sums(ctx, a->partial + a->width, chunks, 2 * a->width, a->width, dbias, add_db);
    pl_buffer_put(a->partial);
    return PL_STATUS_OK;
}

void pl__layer_norm_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                            const float *bias, double eps, float *y, float *mean, float *rstd)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_LAYER, .width = width, .x = x, .weight = weight, .bias = bias,
              .eps = (float)eps, .y = y, .mean_out = mean, .rstd_out = rstd};
    pl__parallel_ranges(ctx, rows, grain_of(width), forward_range, &a);
}

void pl__layer_norm_again(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                          const float *bias, const float *mean, const float *rstd, float *y)
{
    norm a = {.simd = ctx->simd, .width = width, .x = x, .weight = weight, .bias = bias, .mean = mean, .rstd = rstd,
              .y = y};
    pl__parallel_ranges(ctx, rows, grain_of(width), again_range, &a);
}

pl_status pl__norm_rounded(const pl_context *ctx, int kind, int64_t rows, int64_t width, const float *x,
                           const float *weight, const float *bias, double eps, float *mean, float *rstd,
                           const pl__rounded *to)
{
    norm a = {.simd = ctx->simd, .kind = kind, .width = width, .x = x, .weight = weight, .bias = bias,
              .eps = (float)eps, .mean_out = mean, .rstd_out = rstd, .to = to};
    if (width <= STACK_ROW) {
        pl__parallel_ranges(ctx, rows, grain_of(width), rounded_range, &a);
        return PL_STATUS_OK;
    }
    PL__CHECK(pl__scratch(&a.y, (size_t)(rows * width), sizeof *a.y));
    pl__parallel_ranges(ctx, rows, grain_of(width), forward_range, &a);
    pl__round_rows(ctx, a.y, to);
    pl_buffer_put(a.y);
    return PL_STATUS_OK;
}

pl_status pl__layer_norm_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                                  const float *weight, const float *mean, const float *rstd, const float *dy,
                                  const float *plus, float *dx, float *dweight, bool add_dw, float *dbias, bool add_db)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_LAYER, .rows = rows, .width = width, .x = x, .weight = weight,
              .mean = mean, .rstd = rstd, .dy = dy, .plus = plus, .dx = dx};
    return run_backward(ctx, &a, dweight, add_dw, dbias, add_db);
}

void pl__rms_norm_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                          double eps, float *y, float *rstd)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_RMS, .width = width, .x = x, .weight = weight, .eps = (float)eps,
              .y = y, .rstd_out = rstd};
    pl__parallel_ranges(ctx, rows, grain_of(width), forward_range, &a);
}

void pl__rms_norm_again(const pl_context *ctx, int64_t rows, int64_t width, const float *x, const float *weight,
                        const float *rstd, float *y)
{
    pl__layer_norm_again(ctx, rows, width, x, weight, NULL, NULL, rstd, y);
}

pl_status pl__rms_norm_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                                const float *weight, const float *rstd, const float *dy, const float *plus, float *dx,
                                float *dweight, bool add_dw)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_RMS, .rows = rows, .width = width, .x = x, .weight = weight,
              .rstd = rstd, .dy = dy, .plus = plus, .dx = dx};
    return run_backward(ctx, &a, dweight, add_dw, NULL, false);
}

void pl__l2_normalize_forward(const pl_context *ctx, int64_t rows, int64_t width, const float *x, double eps, float *y,
                              float *reciprocal)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_L2, .width = width, .x = x, .eps = (float)eps, .y = y,
              .rstd_out = reciprocal};
    pl__parallel_ranges(ctx, rows, grain_of(width), forward_range, &a);
}

void pl__l2_normalize_backward(const pl_context *ctx, int64_t rows, int64_t width, const float *x,
                               const float *reciprocal, const float *dy, const float *plus, float *dx)
{
    norm a = {.simd = ctx->simd, .kind = PL__NORM_L2, .rows = rows, .width = width, .x = x, .rstd = reciprocal,
              .dy = dy, .plus = plus, .dx = dx};
    pl__parallel_ranges(ctx, rows, grain_of(2 * width), backward_range, &a);
}
