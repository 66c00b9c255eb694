/* panels.c - products with packed weights below AVX-512, by kernels of our own (simd/body_panels.h).
 *
 * The library's kernels round by the number of rows and threads there, unless they run on one thread on blocks of many
 * rows, which leaves the other threads without work where there are few. Measured on two cores of Zen 4, limited to
 * AVX2: 2.8 to 3.2 times as fast at 16 rows, 1.9 at 50, 0.9 to 1.35 from 400 on. Threads share columns where there are
 * few rows, else rows. With AVX-512 these kernels were tried and gained 1 to 3 % on wide layers, but lost 5 to 10 % on
 * narrow ones. */
#include "../simd/simd.h"
#include "cache.h"

#define PANEL PL__PANEL_COLUMNS
#define BLOCK_FLOATS 65536 /* of A: times a panel at a time, parts of which stay in the second-level cache with it */
#define FEW_ROWS 192

typedef struct work {
    const pl_simd *simd;
    const pl__product *p;
    const pl__packed *packed;
    bool few;
    int64_t panels, rows; /* rows of a block */
} work;

bool pl__panels_serve(const pl_context *ctx, pl_dtype dtype)
{
    return dtype == PL_DTYPE_F32 && ctx->isa < PL_ISA_AVX512;
}

size_t pl__panels_bytes(const pl__product *p)
{
    const int64_t rows = (p->k + PL__PANEL_ROWS - 1) / PL__PANEL_ROWS * PL__PANEL_ROWS;
    return (size_t)((p->n + PANEL - 1) / PANEL * rows) * PANEL * sizeof(float);
}

/* Rows [r0, r1) times panels [p0, p1). */
static void multiply(const work *w, int64_t r0, int64_t r1, int64_t p0, int64_t p1)
{
    const pl__product *p = w->p;
    const int64_t panel = (int64_t)(w->packed->bytes / sizeof(float)) / w->panels;
    for (int64_t i = p0; i < p1; i++) {
        const int64_t at = i * PANEL, left = p->n - at;
        pl__panel_end e = {.activation = p->activation, .c = p->c + r0 * p->c_row + at, .c_row = p->c_row};
        e.bias = p->bias ? p->bias + at : NULL;
        if (p->residual) e.residual = p->residual + r0 * p->residual_row + at, e.residual_row = p->residual_row;
        if (p->accumulate) e.residual = e.c, e.residual_row = e.c_row;
        const float *b = (const float *)w->packed->data + i * panel;
        w->simd->panel_product(r1 - r0, p->k, p->a + r0 * p->a_row, p->a_row, b, left < PANEL ? left : PANEL, &e);
    }
}

#define ROWS_THAT_TELL 16 /* fewer wait for the memory that holds the weight */

void pl__panels_share(const pl_context *ctx, const pl__product *p, pl_dtype dtype, int64_t n, int64_t grain,
                      pl__range_fn fn, void *arg)
{
    const int64_t begun = pl__now(), threads = pl__parallel_ranges(ctx, n, grain, fn, arg);
    const int64_t pieces = (n + grain - 1) / grain, largest = (pieces + threads - 1) / threads * grain;
    if (threads > 1 && p->m >= ROWS_THAT_TELL)
        pl__product_took(dtype, (double)p->m * (double)p->n * (double)p->k * (double)largest / (double)n,
                         pl__now() - begun);
}

/* Of panels, or of blocks of rows. */
static void run_range(void *arg, int64_t begin, int64_t end)
{
    const work *w = arg;
    if (w->few) {
        multiply(w, 0, w->p->m, begin, end);
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        const int64_t r0 = i * w->rows, r1 = r0 + w->rows;
        multiply(w, r0, r1 < w->p->m ? r1 : w->p->m, 0, w->panels);
    }
}

void pl__panels_run(const pl_context *ctx, const pl__product *p, const pl__packed *packed)
{
    work w = {.simd = ctx->simd, .p = p, .packed = packed, .few = p->m <= FEW_ROWS};
    w.panels = (p->n + PANEL - 1) / PANEL;
    const int64_t fit = BLOCK_FLOATS / (p->k + 1) / 6 * 6; /* six rows share registers */
    w.rows = fit < 6 ? 6 : fit > PL__PANEL_GROUP ? PL__PANEL_GROUP : fit;
    const int64_t tasks = w.few ? w.panels : (p->m + w.rows - 1) / w.rows;
    const double ns = 0.02 * (double)p->m * (double)p->n * (double)p->k;
    pl__panels_share(ctx, p, PL_DTYPE_F32, tasks, pl__grain(ns / (double)tasks), run_range, &w);
}
