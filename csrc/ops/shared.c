/* shared.c - what operator files share. */
#include "low.h"

pl__product pl__linear_product(int64_t rows, int64_t width_in, int64_t width_out, const float *x, const float *weight,
                               pl_pack *pack, const float *bias, pl_activation activation, const float *residual,
                               float *y)
{
    return (pl__product){.m = rows, .n = width_out, .k = width_in, .a = x, .a_row = width_in, .a_col = 1, .b = weight,
                         .b_row = 1, .b_col = width_in, .pack = pack, .form = PL__FORM_TRANSPOSED, .bias = bias,
                         .residual = residual, .residual_row = width_out, .activation = activation, .c = y,
                         .c_row = width_out, .long_dim = PL__LONG_M};
}

pl_status pl__linear_run(const pl_context *ctx, pl__product *p)
{
    const pl_dtype dtype = pl_pack_dtype(p->pack);
    return dtype == PL_DTYPE_F32 ? pl__product_run(ctx, p) : pl__linear_low(ctx, dtype, p);
}

pl_status pl__linear_forward(const pl_context *ctx, int64_t rows, int64_t width_in, int64_t width_out, const float *x,
                             const float *weight, pl_pack *pack, const float *bias, pl_activation activation,
                             const float *residual, float *y)
{
    pl__product p = pl__linear_product(rows, width_in, width_out, x, weight, pack, bias, activation, residual, y);
    return pl__linear_run(ctx, &p);
}

/* dx = dy w */
static pl__product dx_product(int64_t rows, int64_t width_in, int64_t width_out, const float *weight, pl_pack *pack,
                              const float *dy, float *dx, bool add)
{
    return (pl__product){.m = rows, .n = width_in, .k = width_out, .a = dy, .a_row = width_out, .a_col = 1, .b = weight,
                         .b_row = width_in, .b_col = 1, .pack = pack, .form = PL__FORM_PLAIN, .c = dx,
                         .c_row = width_in, .accumulate = add, .long_dim = PL__LONG_M};
}

/* dw = dy^T x: the rows are the inner dimension */
static pl__product dw_product(int64_t rows, int64_t width_in, int64_t width_out, const float *x, const float *dy,
                              float *dweight, bool add)
{
    return (pl__product){.m = width_out, .n = width_in, .k = rows, .a = dy, .a_row = 1, .a_col = width_out, .b = x,
                         .b_row = width_in, .b_col = 1, .c = dweight, .c_row = width_in, .accumulate = add,
                         .long_dim = PL__LONG_K};
}

pl_status pl__dx_rounded(const pl_context *ctx, const float *weight, pl_pack *pack, int64_t width_in,
                         const pl__rounded *dy, float *dx, bool add, const pl__rounded *to)
{
    pl__product p = dx_product(dy->rows, width_in, dy->width, weight, pack, NULL, dx, add);
    PL__CHECK(pl__linear_rounded(ctx, &p, dy, to));
    if (to) pl__rounded_clear(to);
    return PL_STATUS_OK;
}

pl_status pl__dw_rounded(const pl_context *ctx, const pl__rounded *dy, const pl__rounded *x, float *dweight, bool add)
{
    pl__product p = dw_product(dy->rows, x->width, dy->width, NULL, NULL, dweight, add);
    const pl__low low = {.dtype = PL_DTYPE_BF16, .a = dy->data, .b = x->data};
    p.low = &low;
    return pl__product_run(ctx, &p);
}

static pl_status backward_bf16(const pl_context *ctx, int64_t rows, int64_t width_in, int64_t width_out, const float *x,
                               const float *weight, pl_pack *pack, const float *dy, float *dx, bool add_dx,
                               float *dweight, bool add_dw)
{
    pl_status status;
    pl__rounded r = {0}, rx = {0};
    PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, rows, width_out, dy, &r));
    if (dx) PL__TRY(pl__dx_rounded(ctx, weight, pack, width_in, &r, dx, add_dx, NULL));
    if (dweight) {
        PL__TRY(pl__rounded_of(ctx, PL_DTYPE_BF16, rows, width_in, x, &rx));
        PL__TRY(pl__dw_rounded(ctx, &r, &rx, dweight, add_dw));
    }
done:
    pl__rounded_free(&rx);
    pl__rounded_free(&r);
    return status;
}

pl_status pl__linear_backward(const pl_context *ctx, int64_t rows, int64_t width_in, int64_t width_out, const float *x,
                              const float *weight, pl_pack *pack, const float *dy, float *dx, bool add_dx,
                              float *dweight, bool add_dw, float *dbias, bool add_db)
{
    if (pl_pack_dtype(pack) == PL_DTYPE_BF16) {
        if (dx || dweight)
            PL__CHECK(backward_bf16(ctx, rows, width_in, width_out, x, weight, pack, dy, dx, add_dx, dweight, add_dw));
    } else {
        const pl__product to_x = dx_product(rows, width_in, width_out, weight, pack, dy, dx, add_dx);
        const pl__product to_w = dw_product(rows, width_in, width_out, x, dy, dweight, add_dw);
        if (dx) PL__CHECK(pl__product_run(ctx, &to_x));
        if (dweight) PL__CHECK(pl__product_run(ctx, &to_w));
    }
    if (dbias) pl__column_sums(ctx, dy, rows, width_out, dbias, add_db);
    return PL_STATUS_OK;
}

typedef struct elementwise {
    const pl_simd *simd;
    int activation;
    const float *x, *dy;
    float *dx, *y;
} elementwise;

static void activation_range(void *arg, int64_t begin, int64_t end)
{
    const elementwise *e = arg;
    e->simd->act_forward(e->activation, e->x + begin, e->y + begin, end - begin);
}

static void activation_back_range(void *arg, int64_t begin, int64_t end)
{
    const elementwise *e = arg;
    e->simd->act_backward(e->activation, e->x + begin, e->dy + begin, e->dx + begin, e->y ? e->y + begin : NULL,
                          end - begin);
}

static void activation_add_range(void *arg, int64_t begin, int64_t end)
{
    const elementwise *e = arg;
    e->simd->act_backward_add(e->activation, e->x + begin, e->dy + begin, e->dx + begin, end - begin);
}

#define ELEMENT_NS 0.5 /* an activation costs about this an element */

void pl__activation_run(const pl_context *ctx, int activation, const float *x, float *y, int64_t n)
{
    elementwise e = {.simd = ctx->simd, .activation = activation, .x = x, .y = y};
    pl__parallel_ranges(ctx, n, (pl__grain(ELEMENT_NS) + 63) / 64 * 64, activation_range, &e);
}

void pl__activation_back(const pl_context *ctx, int activation, const float *x, const float *dy, float *dx, float *y,
                         int64_t n)
{
    elementwise e = {.simd = ctx->simd, .activation = activation, .x = x, .dy = dy, .dx = dx, .y = y};
    pl__parallel_ranges(ctx, n, (pl__grain(ELEMENT_NS) + 63) / 64 * 64, activation_back_range, &e);
}

void pl__activation_back_add(const pl_context *ctx, int activation, const float *x, const float *dy, float *dx,
                             int64_t n)
{
    elementwise e = {.simd = ctx->simd, .activation = activation, .x = x, .dy = dy, .dx = dx};
    pl__parallel_ranges(ctx, n, (pl__grain(ELEMENT_NS) + 63) / 64 * 64, activation_add_range, &e);
}

typedef struct sums {
    const pl_simd *simd;
    const float *x;
    int64_t rows, row;
    float *out;
    bool accumulate;
} sums;

static void sums_range(void *arg, int64_t begin, int64_t end)
{
    const sums *s = arg;
    s->simd->column_sums(s->x, s->rows, s->row, begin, end, s->out, s->accumulate);
}

/* Threads share the columns, not the rows, so the order of the sum does not depend on their number. */
void pl__strided_sums(const pl_context *ctx, const float *x, int64_t rows, int64_t row, int64_t width, float *out,
                      bool accumulate)
{
    sums s = {.simd = ctx->simd, .x = x, .rows = rows, .row = row, .out = out, .accumulate = accumulate};
    const int64_t grain = pl__grain(0.1 * (double)rows);
    pl__parallel_ranges(ctx, width, (grain + 63) / 64 * 64, sums_range, &s);
}

void pl__column_sums(const pl_context *ctx, const float *x, int64_t rows, int64_t width, float *out, bool accumulate)
{
    pl__strided_sums(ctx, x, rows, width, width, out, accumulate);
}
