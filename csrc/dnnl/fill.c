/* fill.c - makes a packed form: panels of our own where the library's layout is that of simd/body_pack.h, which is
 * quicker than its reorder, and else the reorder. */
#include "../simd/simd.h"
#include "cache.h"

#define PANEL PL__PANEL_COLUMNS

typedef struct filling {
    const pl_simd *simd;
    const pl__product *p;
    pl__packed *packed;
    int64_t panel_bytes, units; /* units: 32-bit words of a column */
    int failed;
} filling;

/* Columns of B that are rows of the weight, in the units of the panel; float32 needs no copy. */
static const float *columns_in_units(const filling *f, int64_t first, int64_t columns, float *scratch, int64_t *row)
{
    const pl__product *p = f->p;
    const float *w = p->b + first * p->b_col;
    *row = p->b_col;
    if (f->packed->dtype == PL_DTYPE_F32) return w;
    *row = f->units;
    for (int64_t j = 0; j < columns; j++, w += p->b_col) {
        float *to = scratch + j * f->units;
        to[f->units - 1] = 0; /* what is behind the last number */
        if (f->packed->dtype == PL_DTYPE_BF16)
            f->simd->to_bf16(w, (uint16_t *)to, p->k);
        else {
            float *scale = f->packed->scales + first + j, sum;
            f->simd->quantize_weight(w, p->k, (int8_t *)to, scale, &sum);
            scale[p->n] = *scale * sum;
        }
    }
    return scratch;
}

static void fill_panels(void *arg, int64_t begin, int64_t end)
{
    filling *f = arg;
    const pl__product *p = f->p;
    float *scratch = NULL;
    if (p->form == PL__FORM_TRANSPOSED && f->packed->dtype != PL_DTYPE_F32 &&
        pl__scratch(&scratch, (size_t)(PANEL * f->units), sizeof *scratch)) {
        __atomic_store_n(&f->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i * PANEL, columns = p->n - first < PANEL ? p->n - first : PANEL;
        float *to = (float *)((char *)f->packed->data + i * f->panel_bytes);
        if (p->form == PL__FORM_TRANSPOSED) {
            int64_t row;
            const float *x = columns_in_units(f, first, columns, scratch, &row);
            f->simd->pack_columns(x, row, 0, columns, PANEL, f->units, to);
        } else
            f->simd->pack_rows(p->b + first, p->b_row, p->k, columns, f->packed->dtype == PL_DTYPE_BF16, to);
    }
    pl_buffer_put(scratch);
}

static pl_status fill_own(const pl_context *ctx, const pl__product *p, pl__packed *packed)
{
    const int64_t unit = packed->dtype == PL_DTYPE_F32 ? 1 : packed->dtype == PL_DTYPE_BF16 ? 2 : 4;
    const int64_t panels = (p->n + PANEL - 1) / PANEL;
    filling f = {.simd = ctx->simd, .p = p, .packed = packed, .panel_bytes = (int64_t)packed->bytes / panels,
                 .units = (p->k + unit - 1) / unit};
    pl__parallel_ranges(ctx, panels, pl__grain(0.3 * PANEL * (double)p->k), fill_panels, &f);
    return f.failed ? pl__fail(PL_STATUS_MEMORY, "out of memory: packing a weight") : PL_STATUS_OK;
}

#define D__TRY(call) PL__TRY(pl__dnnl_status((call), "packing a weight"))

/* `data`: p->b, or what it became, columns one behind the other. */
static pl_status reorder(const pl__product *p, const void *data, pl__packed *packed)
{
    pl_status status;
    dnnl_engine_t engine;
    dnnl_stream_t stream = NULL;
    dnnl_memory_desc_t plain = NULL;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    const bool whole = packed->dtype == PL_DTYPE_S8;
    const dnnl_dims_t dims = {p->k, p->n}, strides = {whole ? 1 : p->b_row, whole ? p->k : p->b_col};
    PL__TRY(pl__dnnl_engine(&engine));
    D__TRY(dnnl_memory_desc_create_with_strides(&plain, 2, dims, whole ? dnnl_s8 : dnnl_f32, strides));
    D__TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    D__TRY(dnnl_memory_create(&from, plain, engine, (void *)data));
    D__TRY(dnnl_memory_create(&to, packed->layout, engine, packed->data));
    D__TRY(dnnl_reorder_primitive_desc_create(&desc, plain, engine, packed->layout, engine, NULL));
    D__TRY(dnnl_primitive_create(&primitive, desc));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    D__TRY(dnnl_primitive_execute(primitive, stream, 2, args));
done:
    if (primitive) dnnl_primitive_destroy(primitive);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (to) dnnl_memory_destroy(to);
    if (from) dnnl_memory_destroy(from);
    if (plain) dnnl_memory_desc_destroy(plain);
    if (stream) dnnl_stream_destroy(stream);
    return status;
}

static pl_status fill_by_library(const pl_context *ctx, const pl__product *p, pl__packed *packed)
{
    int8_t *whole;
    if (packed->dtype != PL_DTYPE_S8) return reorder(p, p->b, packed);
    PL__CHECK(pl__scratch(&whole, (size_t)(p->k * p->n), 1));
    for (int64_t j = 0; j < p->n; j++) {
        float *scale = packed->scales + j, sum;
        ctx->simd->quantize_weight(p->b + j * p->b_col, p->k, whole + j * p->k, scale, &sum);
        scale[p->n] = *scale * sum;
    }
    const pl_status status = reorder(p, whole, packed);
    pl_buffer_put(whole);
    return status;
}

pl_status pl__pack_fill(const pl_context *ctx, const pl__product *p, pl_dtype dtype, pl__packed **out)
{
    pl_status status;
    pl__packed *packed = pl__small_alloc(sizeof *packed);
    *out = NULL;
    if (!packed) return pl__fail(PL_STATUS_MEMORY, "out of memory: a packed weight");
    packed->references = 1;
    packed->k = p->k, packed->n = p->n, packed->dtype = dtype;
    if (dtype == PL_DTYPE_S8) PL__TRY(pl__scratch(&packed->scales, (size_t)p->n * 2, sizeof *packed->scales));
    const bool own = pl__panels_serve(ctx, dtype);
    if (!own) PL__TRY(pl__packed_layout(p->k, p->n, dtype, &packed->layout));
    packed->bytes = own ? pl__panels_bytes(p) : dnnl_memory_desc_get_size(packed->layout);
    PL__TRY(pl_buffer_get(packed->bytes, &packed->data));
    packed->panels = own || pl__layout_of_panels(packed->layout, dtype, p->k, p->n);
    if (packed->panels)
        PL__TRY(fill_own(ctx, p, packed));
    else
        PL__TRY(fill_by_library(ctx, p, packed));
    PL__COUNT(packs_filled, 1);
    *out = packed;
    return PL_STATUS_OK;
done:
    pl__pack_release(packed);
    return status;
}
