/* low.c - a linear layer whose weight is packed in fewer bits: rows are rounded before, and scaled again after. */
#include "low.h"

typedef struct rounding {
    const pl_simd *simd;
    pl_dtype dtype;
    int64_t width;
    const float *x;
    pl__rounded *to;
} rounding;

#define ROUND_NS 0.15

static void round_rows(void *arg, int64_t begin, int64_t end)
{
    const rounding *r = arg;
    if (r->dtype == PL_DTYPE_BF16) {
        r->simd->to_bf16(r->x + begin * r->width, (uint16_t *)r->to->data + begin * r->width, (end - begin) * r->width);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        r->simd->quantize_row(r->x + i * r->width, r->width, (int8_t *)r->to->data + i * r->width, &r->to->scales[i]);
}

pl_status pl__rounded_make(const pl_context *ctx, pl_dtype dtype, int64_t rows, int64_t width, const float *x,
                           pl__rounded *to)
{
    const int64_t all = (rows + 7) & ~(int64_t)7, size = dtype == PL_DTYPE_BF16 ? 2 : 1;
    pl_status status;
    *to = (pl__rounded){0};
    PL__TRY(pl__scratch(&to->data, (size_t)(all * width), (size_t)size));
    memset((char *)to->data + rows * width * size, 0, (size_t)((all - rows) * width * size));
    if (dtype == PL_DTYPE_S8) PL__TRY(pl__scratch(&to->scales, (size_t)all, sizeof *to->scales));
    if (x) {
        rounding r = {ctx->simd, dtype, width, x, to};
        pl__parallel_ranges(ctx, rows, pl__grain(ROUND_NS * (double)width), round_rows, &r);
    }
    return PL_STATUS_OK;
done:
    pl__rounded_free(to);
    return status;
}

void pl__rounded_free(pl__rounded *r)
{
    pl_buffer_put(r->scales);
    pl_buffer_put(r->data);
    *r = (pl__rounded){0};
}

typedef struct finishing {
    const pl_context *ctx;
    const pl__product *p;
    const float *row_scales, *scales;
    const int32_t *sums;
    int64_t begin;
} finishing;

static void finish_rows(void *arg, int64_t begin, int64_t end)
{
    const finishing *f = arg;
    const pl__product *p = f->p;
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = f->begin + i;
        f->ctx->simd->dequantize_row(f->sums + i * p->n, p->n, f->row_scales[row], f->scales, p->bias,
                                     (int)p->activation, p->residual ? p->residual + row * p->residual_row : NULL,
                                     p->c + row * p->c_row);
    }
}

static void finish(void *arg, int64_t begin, int64_t rows, const int32_t *sums, const float *scales)
{
    finishing *f = arg;
    f->begin = begin, f->sums = sums, f->scales = scales;
    const double ns = (f->p->activation == PL_ACT_NONE ? 0.2 : 0.7) * (double)f->p->n;
    pl__parallel_ranges(f->ctx, rows, pl__grain(ns), finish_rows, f);
}

pl_status pl__linear_rounded(const pl_context *ctx, pl__product *p, const pl__rounded *x, uint16_t *c16)
{
    finishing f = {.ctx = ctx, .p = p, .row_scales = x->scales};
    const pl__low low = {.a = x->data, .c16 = c16, .finish = finish, .arg = &f};
    p->low = &low;
    return pl__product_run(ctx, p);
}

pl_status pl__linear_low(const pl_context *ctx, pl__product *p)
{
    pl__rounded x;
    PL__CHECK(pl__rounded_make(ctx, pl_pack_dtype(p->pack), p->m, p->k, p->a, &x));
    const pl_status status = pl__linear_rounded(ctx, p, &x, NULL);
    pl__rounded_free(&x);
    return status;
}
