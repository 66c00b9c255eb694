/* panels_low.c - products of rounded rows with wide packed weights by kernels of our own (simd/body_panels_low.h): what
 * comes after a sum is done while it is in the first-level cache, and a row stays with its thread. Narrow layers are
 * quicker with the library, whose blocks follow the shape, and so is everything on processors with tiles. */
#include "../simd/simd.h"
#include "cache.h"

#define PANEL PL__PANEL_COLUMNS
#define WIDE 512
#define FEW_ROWS 96 /* threads share columns, else rows */

typedef struct work {
    const pl_simd *simd;
    const pl__product *p;
    const pl__packed *packed;
    int64_t panels, units;
    float *floats; /* few rows to 8 bits: all of C before it is rounded */
    int failed;
} work;

bool pl__panels_low_serve(const pl_context *ctx, const pl__product *p, const pl__packed *packed)
{
    const int64_t unit = packed->dtype == PL_DTYPE_S8 ? 4 : 2;
    return ctx->isa == PL_ISA_AVX512_BF16 && packed->panels && p->k >= WIDE && p->n >= WIDE && p->k % unit == 0;
}

/* Rows [r0, r1) times panels [p0, p1); `floats`: where row r0 goes in place of C. */
static void multiply(const work *w, int64_t r0, int64_t r1, int64_t p0, int64_t p1, float *floats)
{
    const pl__product *p = w->p;
    const pl__low *low = p->low;
    const int64_t panel_bytes = (int64_t)w->packed->bytes / w->panels;
    const int32_t *a = (const int32_t *)low->a + r0 * w->units;
    for (int64_t i = p0; i < p1; i++) {
        const int64_t at = i * PANEL, left = p->n - at;
        pl__low_end e = {.activation = p->activation, .bias = p->bias ? p->bias + at : NULL, .c_row = p->c_row};
        if (w->packed->dtype == PL_DTYPE_S8)
            e.row_scales = low->row_scales + 2 * r0, e.col = w->packed->scales + at, e.col_sum = e.col + p->n;
        if (p->residual) e.residual = p->residual + r0 * p->residual_row + at, e.residual_row = p->residual_row;
        if (floats)
            e.c = floats + at, e.c_row = p->n;
        else if (low->c16)
            e.c16 = low->c16 + r0 * p->n + at, e.c_row = p->n;
        else
            e.c = p->c + r0 * p->c_row + at;
        if (p->accumulate) e.residual = e.c, e.residual_row = e.c_row;
        const char *panel = (const char *)w->packed->data + i * panel_bytes;
        w->simd->panel_product_low(r1 - r0, w->units, a, w->units, panel, i + 1 < p1 ? panel + panel_bytes : NULL,
                                   left < PANEL ? left : PANEL, &e);
    }
}

static void round_rows(const work *w, const float *x, int64_t r0, int64_t r1)
{
    const pl__low *low = w->p->low;
    const int64_t n = w->p->n;
    for (int64_t r = r0; r < r1; r++, x += n)
        w->simd->quantize_row(x, n, low->c8 + r * n, low->c8_scales + 2 * r, low->c8_scales + 2 * r + 1);
}

static void run_panels(void *arg, int64_t begin, int64_t end)
{
    const work *w = arg;
    multiply(w, 0, w->p->m, begin, end, w->floats);
}

static void round_range(void *arg, int64_t begin, int64_t end)
{
    const work *w = arg;
    round_rows(w, w->floats + begin * w->p->n, begin, end);
}

/* A group of rows at a time, so that they stay in the cache while panels pass by. */
static void run_rows(void *arg, int64_t begin, int64_t end)
{
    work *w = arg;
    float *floats = NULL;
    if (w->p->low->c8 && pl__scratch(&floats, (size_t)(PL__PANEL_GROUP * w->p->n), sizeof *floats)) {
        __atomic_store_n(&w->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    for (int64_t r0 = begin; r0 < end; r0 += PL__PANEL_GROUP) {
        const int64_t r1 = r0 + PL__PANEL_GROUP < end ? r0 + PL__PANEL_GROUP : end;
        multiply(w, r0, r1, 0, w->panels, floats);
        if (floats) round_rows(w, floats, r0, r1);
    }
    pl_buffer_put(floats);
}

pl_status pl__panels_low_run(const pl_context *ctx, const pl__product *p, const pl__packed *packed)
{
    pl_status status = PL_STATUS_OK;
    work w = {.simd = ctx->simd, .p = p, .packed = packed, .panels = (p->n + PANEL - 1) / PANEL};
    w.units = p->k / (packed->dtype == PL_DTYPE_S8 ? 4 : 2);
    const double ns = (packed->dtype == PL_DTYPE_S8 ? 0.005 : 0.01) * (double)p->m * (double)p->n * (double)p->k;
    if (p->m > FEW_ROWS) {
        pl__panels_share(ctx, p, packed->dtype, p->m, (pl__grain(ns / (double)p->m) + 5) / 6 * 6, run_rows, &w);
        return w.failed ? pl__fail(PL_STATUS_MEMORY, "out of memory: a product in 8 bits") : status;
    }
    if (p->low->c8) PL__TRY(pl__scratch(&w.floats, (size_t)(p->m * p->n), sizeof *w.floats));
    pl__panels_share(ctx, p, packed->dtype, w.panels, pl__grain(ns / (double)w.panels), run_panels, &w);
    if (w.floats) pl__parallel_ranges(ctx, p->m, pl__grain(0.3 * (double)p->n), round_range, &w);
done:
    pl_buffer_put(w.floats);
    return status;
}
