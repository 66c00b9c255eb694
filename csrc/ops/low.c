/* low.c - a linear layer whose weight is packed in fewer bits: rows are rounded before, and scaled again after. */
#include "low.h"

typedef struct rounding {
    const pl_simd *simd;
    const float *x;
    const uint16_t *half; /* in place of x */
    const pl__rounded *to;
} rounding;

#define ROUND_NS 0.1

static void round_range(void *arg, int64_t begin, int64_t end)
{
    const rounding *r = arg;
    for (int64_t i = begin; i < end; i++) pl__rounded_set(r->simd, r->to, i, r->x + i * r->to->width);
}

void pl__round_rows(const pl_context *ctx, const float *x, const pl__rounded *to)
{
    rounding r = {.simd = ctx->simd, .x = x, .to = to};
    pl__parallel_ranges(ctx, to->rows, pl__grain(ROUND_NS * (double)to->width), round_range, &r);
}

void pl__rounded_clear(const pl__rounded *r)
{
    const int64_t row = r->width * (r->dtype == PL_DTYPE_BF16 ? 2 : 1);
    memset((char *)r->data + r->rows * row, 0, (size_t)((pl__rounded_rows(r->rows) - r->rows) * row));
}

pl_status pl__rounded_get(pl_dtype dtype, int64_t rows, int64_t width, pl__rounded *to)
{
    const int64_t all = pl__rounded_rows(rows);
    pl_status status;
    *to = (pl__rounded){.dtype = dtype, .rows = rows, .width = width};
    PL__TRY(pl__scratch(&to->data, (size_t)(all * width), dtype == PL_DTYPE_BF16 ? 2 : 1));
    pl__rounded_clear(to);
    if (dtype == PL_DTYPE_S8) PL__TRY(pl__scratch(&to->scales, (size_t)all * 2, sizeof *to->scales));
    return PL_STATUS_OK;
done:
    pl__rounded_free(to);
    return status;
}

static void round_half_range(void *arg, int64_t begin, int64_t end)
{
    const rounding *r = arg;
    const int64_t width = r->to->width;
    float x[PL__HALF_WIDTH];
    for (int64_t i = begin; i < end; i++) {
        r->simd->from_bf16(r->half + i * width, x, width);
        pl__rounded_set(r->simd, r->to, i, x);
    }
}

pl_status pl__rounded_of_half(const pl_context *ctx, pl_dtype dtype, const pl__rounded *x, pl__rounded *to)
{
    PL__CHECK(pl__rounded_get(dtype, x->rows, x->width, to));
    rounding r = {.simd = ctx->simd, .half = x->data, .to = to};
    pl__parallel_ranges(ctx, x->rows, pl__grain(2 * ROUND_NS * (double)x->width), round_half_range, &r);
    return PL_STATUS_OK;
}

pl_status pl__rounded_of(const pl_context *ctx, pl_dtype dtype, int64_t rows, int64_t width, const float *x,
                         pl__rounded *to)
{
    PL__CHECK(pl__rounded_get(dtype, rows, width, to));
    pl__round_rows(ctx, x, to);
    return PL_STATUS_OK;
}

void pl__rounded_free(pl__rounded *r)
{
    pl_buffer_put(r->scales);
    pl_buffer_put(r->data);
    *r = (pl__rounded){0};
}

#define CHUNK 1024 /* elements that are float32 in the first-level cache only */

typedef struct activating {
    const pl_simd *simd;
    int activation;
    const uint16_t *x;
    uint16_t *dy, *h;
} activating;

static void activate_range(void *arg, int64_t begin, int64_t end)
{
    const activating *a = arg;
    float x[CHUNK];
    for (int64_t i = begin; i < end; i += CHUNK) {
        const int64_t n = end - i < CHUNK ? end - i : CHUNK;
        a->simd->from_bf16(a->x + i, x, n);
        a->simd->act_forward(a->activation, x, x, n);
        a->simd->to_bf16(x, a->h + i, n);
    }
}

static void activate_back_range(void *arg, int64_t begin, int64_t end)
{
    const activating *a = arg;
    float x[CHUNK], dy[CHUNK], h[CHUNK];
    for (int64_t i = begin; i < end; i += CHUNK) {
        const int64_t n = end - i < CHUNK ? end - i : CHUNK;
        a->simd->from_bf16(a->x + i, x, n);
        a->simd->from_bf16(a->dy + i, dy, n);
        a->simd->act_backward(a->activation, x, dy, dy, h, n);
        a->simd->to_bf16(dy, a->dy + i, n);
        a->simd->to_bf16(h, a->h + i, n);
    }
}

static int64_t activation_grain(void) { return (pl__grain(0.6) + CHUNK - 1) / CHUNK * CHUNK; }

void pl__activation_bf16(const pl_context *ctx, int activation, const uint16_t *x, const pl__rounded *to)
{
    activating a = {.simd = ctx->simd, .activation = activation, .x = x, .h = to->data};
    pl__parallel_ranges(ctx, to->rows * to->width, activation_grain(), activate_range, &a);
}

void pl__activation_back_bf16(const pl_context *ctx, int activation, const uint16_t *x, const pl__rounded *dy,
                              const pl__rounded *h)
{
    activating a = {.simd = ctx->simd, .activation = activation, .x = x, .dy = dy->data, .h = h->data};
    pl__parallel_ranges(ctx, h->rows * h->width, activation_grain(), activate_back_range, &a);
}

typedef struct summing {
    const pl_simd *simd;
    const pl__rounded *x;
    float *out;
    bool accumulate;
} summing;

#define SUM_ROWS 16 /* that are float32 in the first-level cache only */
#define SUM_COLUMNS 128

static void sum_columns(void *arg, int64_t begin, int64_t end)
{
    const summing *s = arg;
    const int64_t rows = s->x->rows, width = s->x->width;
    float block[SUM_ROWS * SUM_COLUMNS];
    for (int64_t c = begin; c < end; c += SUM_COLUMNS) {
        const int64_t n = end - c < SUM_COLUMNS ? end - c : SUM_COLUMNS;
        if (!s->accumulate) memset(s->out + c, 0, (size_t)n * sizeof *s->out);
        for (int64_t i = 0; i < rows; i += SUM_ROWS) {
            const int64_t m = rows - i < SUM_ROWS ? rows - i : SUM_ROWS;
            for (int64_t r = 0; r < m; r++)
                s->simd->from_bf16((const uint16_t *)s->x->data + (i + r) * width + c, block + r * SUM_COLUMNS, n);
            s->simd->column_sums(block, m, SUM_COLUMNS, 0, n, s->out + c, true);
        }
    }
}

/* Threads share the columns, as in pl__column_sums. */
void pl__column_sums_rounded(const pl_context *ctx, const pl__rounded *x, float *out, bool accumulate)
{
    summing s = {.simd = ctx->simd, .x = x, .out = out, .accumulate = accumulate};
    const int64_t grain = pl__grain(0.15 * (double)x->rows);
    pl__parallel_ranges(ctx, x->width, (grain + SUM_COLUMNS - 1) / SUM_COLUMNS * SUM_COLUMNS, sum_columns, &s);
}

typedef struct finishing {
    const pl_context *ctx;
    const pl__product *p;
    const pl__rounded *x, *to;
    const float *scales;
    int32_t *sums;
    int64_t begin;
} finishing;

static void finish_rows(void *arg, int64_t begin, int64_t end)
{
    const finishing *f = arg;
    const pl__product *p = f->p;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = f->begin + i;
        int32_t *sums = f->sums + i * p->n;
        float *y = f->to ? (float *)sums : p->c + row * p->c_row; /* what is rounded again stays in the cache */
        const bool half = f->to && f->to->dtype == PL_DTYPE_BF16, whole = f->to && !half;
        f->ctx->simd->dequantize_row(sums, p->n, f->x->scales[2 * row], f->x->scales[2 * row + 1], f->scales,
                                     f->scales + p->n, p->bias, (int)p->activation,
                                     p->residual ? p->residual + row * p->residual_row : NULL, y,
                                     whole ? (uint8_t *)f->to->data + row * p->n : NULL,
                                     whole ? f->to->scales + 2 * row : NULL);
        if (half) f->ctx->simd->to_bf16(y, (uint16_t *)f->to->data + row * p->n, p->n);
    }
}

static void finish(void *arg, int64_t begin, int64_t rows, int32_t *sums, const float *scales)
{
    finishing *f = arg;
    f->begin = begin, f->sums = sums, f->scales = scales;
    const double ns = (f->p->activation == PL_ACT_NONE ? 0.2 : 0.7) * (double)f->p->n;
    pl__parallel_ranges(f->ctx, rows, pl__grain(ns), finish_rows, f);
}

pl_status pl__linear_rounded(const pl_context *ctx, pl__product *p, const pl__rounded *x, const pl__rounded *to)
{
    finishing f = {.ctx = ctx, .p = p, .x = x, .to = to};
    const bool whole = to && to->dtype == PL_DTYPE_S8;
    const pl__low low = {.dtype = x->dtype, .a = x->data, .c16 = to && !whole ? to->data : NULL,
                         .row_scales = x->scales, .c8 = whole ? to->data : NULL, .c8_scales = whole ? to->scales : NULL,
                         .finish = finish, .arg = &f};
    p->low = &low;
    return pl__product_run(ctx, p);
}

pl_status pl__linear_low(const pl_context *ctx, pl_dtype dtype, pl__product *p)
{
    pl__rounded x;
    PL__CHECK(pl__rounded_of(ctx, dtype, p->m, p->k, p->a, &x));
    const pl_status status = pl__linear_rounded(ctx, p, &x, NULL);
    pl__rounded_free(&x);
    return status;
}
