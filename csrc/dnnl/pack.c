/* pack.c - packed forms of one constant operand.
 *
 * A form is made when first needed, is shared by reference while executions use it, and is dropped when the version
 * rises. The packed layout does not depend on the number of rows, so one form serves every batch. */
#define _GNU_SOURCE
#include <math.h>
#include <sys/mman.h>

#include "cache.h"

struct pl_pack {
    uint64_t version;
    pl_dtype dtype;
    bool mapped;
    pl__packed *forms[PL__FORM_COUNT];
};

pl_status pl_pack_create(pl_pack **pack)
{
    *pack = pl__small_alloc(sizeof **pack);
    if (!*pack) return pl__fail(PL_STATUS_MEMORY, "out of memory: a pack");
    return PL_STATUS_OK;
}

void pl__pack_release(pl__packed *packed)
{
    if (!packed || __atomic_sub_fetch(&packed->references, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (packed->layout) dnnl_memory_desc_destroy(packed->layout);
    pl_buffer_put(packed->scales);
    pl_buffer_put(packed->data);
    pl__small_free(packed);
}

static void drop_forms(pl_pack *pack)
{
    for (int i = 0; i < PL__FORM_COUNT; i++) {
        pl__pack_release(pack->forms[i]);
        pack->forms[i] = NULL;
    }
}

void pl_pack_renew(pl_pack *pack, uint64_t version)
{
    pl__table_lock();
    if (pack->version != version) drop_forms(pack);
    pack->version = version;
    pl__table_unlock();
}

void pl_pack_set_mapped(pl_pack *pack, int mapped)
{
    __atomic_store_n(&pack->mapped, mapped != 0, __ATOMIC_SEQ_CST);
}

int pl_pack_mapped(const pl_pack *pack) { return __atomic_load_n(&pack->mapped, __ATOMIC_SEQ_CST); }

/* Whole pages only: what else lies on the first and the last one stays. */
static void give_pages_back(const pl__product *p)
{
    const uintptr_t page = 4096, begin = (uintptr_t)p->b, bytes = (uintptr_t)(p->k * p->n) * sizeof(float);
    const uintptr_t from = (begin + page - 1) & ~(page - 1), to = (begin + bytes) & ~(page - 1);
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

pl_status pl_pack_set_dtype(pl_pack *pack, pl_dtype dtype)
{
    if (dtype != PL_DTYPE_F32 && dtype != PL_DTYPE_BF16 && dtype != PL_DTYPE_S8)
        return pl__fail(PL_STATUS_VALUE, "pack: dtype is %d, expected that of float32, bfloat16 or int8", (int)dtype);
    pl__table_lock();
    if (pack->dtype != dtype) drop_forms(pack);
    pack->dtype = dtype;
    pl__table_unlock();
    return PL_STATUS_OK;
}

pl_dtype pl_pack_dtype(const pl_pack *pack) { return pack ? pack->dtype : PL_DTYPE_F32; }

/* What 8 bits lose is too much for gradients. */
pl_dtype pl__pack_form_dtype(const pl_pack *pack, pl__form form)
{
    return form == PL__FORM_TRANSPOSED || pack->dtype == PL_DTYPE_BF16 ? pack->dtype : PL_DTYPE_F32;
}

void pl_pack_destroy(pl_pack *pack)
{
    if (!pack) return;
    drop_forms(pack);
    pl__small_free(pack);
}

size_t pl_pack_bytes(pl_pack *pack)
{
    size_t bytes = 0;
    pl__table_lock();
    for (int i = 0; i < PL__FORM_COUNT; i++) bytes += pack->forms[i] ? pack->forms[i]->bytes : 0;
    pl__table_unlock();
    return bytes;
}

/* B as 8-bit numbers (k, n), and what each column was divided by: its largest magnitude becomes 127. */
static void quantize_columns(const pl__product *p, int8_t *to, float *scales)
{
    for (int64_t j = 0; j < p->n; j++) {
        const float *b = p->b + j * p->b_col;
        float largest = 0;
        for (int64_t i = 0; i < p->k; i++) {
            const float magnitude = fabsf(b[i * p->b_row]);
            if (magnitude > largest || magnitude != magnitude) largest = magnitude; /* NaN stays, and comes out again */
        }
        if (largest < 1e-30f) largest = 127; /* as good as zeros, whose reciprocal would not be a number */
        scales[j] = largest / 127;
        const float factor = 127 / largest;
        int64_t sum = 0;
        for (int64_t i = 0; i < p->k; i++) {
            to[j * p->k + i] = (int8_t)lrintf(fmaxf(-127, fminf(127, b[i * p->b_row] * factor)));
            sum += to[j * p->k + i];
        }
        scales[p->n + j] = scales[j] * (float)sum;
    }
}

static pl_status fill(const pl__product *p, pl_dtype dtype, pl__packed **out)
{
    pl_status status;
    dnnl_engine_t engine;
    dnnl_stream_t stream = NULL;
    dnnl_memory_desc_t plain = NULL;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    const bool whole = dtype == PL_DTYPE_S8;
    const dnnl_dims_t dims = {p->k, p->n}, strides = {whole ? 1 : p->b_row, whole ? p->k : p->b_col};
    const void *data = p->b;
    int8_t *quantized = NULL;
    pl__packed *packed = pl__small_alloc(sizeof *packed);
    *out = NULL;
    if (!packed) return pl__fail(PL_STATUS_MEMORY, "out of memory: a packed weight");
    packed->references = 1;
    packed->k = p->k, packed->n = p->n, packed->dtype = dtype;
#define D__TRY(call) PL__TRY(pl__dnnl_status((call), "packing a weight"))
    PL__TRY(pl__dnnl_engine(&engine));
    if (whole) {
        PL__TRY(pl__scratch(&quantized, (size_t)(p->k * p->n), 1));
        PL__TRY(pl__scratch(&packed->scales, (size_t)p->n * 2, sizeof *packed->scales));
        quantize_columns(p, quantized, packed->scales);
        data = quantized;
    }
    PL__TRY(pl__packed_layout(p->k, p->n, dtype, &packed->layout));
    D__TRY(dnnl_memory_desc_create_with_strides(&plain, 2, dims, whole ? dnnl_s8 : dnnl_f32, strides));
    packed->bytes = dnnl_memory_desc_get_size(packed->layout);
    PL__TRY(pl_buffer_get(packed->bytes, &packed->data));
    D__TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    D__TRY(dnnl_memory_create(&from, plain, engine, (void *)data));
    D__TRY(dnnl_memory_create(&to, packed->layout, engine, packed->data));
    D__TRY(dnnl_reorder_primitive_desc_create(&desc, plain, engine, packed->layout, engine, NULL));
    D__TRY(dnnl_primitive_create(&reorder, desc));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    D__TRY(dnnl_primitive_execute(reorder, stream, 2, args));
#undef D__TRY
    PL__COUNT(packs_filled, 1);
    *out = packed;
    packed = NULL;
done:
    pl__pack_release(packed);
    pl_buffer_put(quantized);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (to) dnnl_memory_destroy(to);
    if (from) dnnl_memory_destroy(from);
    if (plain) dnnl_memory_desc_destroy(plain);
    if (stream) dnnl_stream_destroy(stream);
    return status;
}

/* A form of another shape is of another weight, which had the pack before; what it holds cannot serve. */
static pl__packed *take(pl_pack *pack, const pl__product *p, uint64_t *version, pl_dtype *dtype)
{
    pl__table_lock();
    pl__packed *packed = pack->forms[p->form];
    if (packed && (packed->k != p->k || packed->n != p->n)) {
        pl__pack_release(packed);
        packed = pack->forms[p->form] = NULL;
    }
    if (packed) __atomic_add_fetch(&packed->references, 1, __ATOMIC_RELAXED);
    *version = pack->version;
    *dtype = pl__pack_form_dtype(pack, p->form);
    pl__table_unlock();
    return packed;
}

pl_status pl__pack_hold(pl_pack *pack, const pl__product *p, pl__packed **packed)
{
    uint64_t version;
    pl_dtype dtype;
    *packed = take(pack, p, &version, &dtype);
    if (*packed) return PL_STATUS_OK;
    pl__making_lock();
    pl_status status = PL_STATUS_OK;
    *packed = take(pack, p, &version, &dtype); /* another thread may have been faster */
    if (!*packed) {
        status = fill(p, dtype, packed);
        if (!status && pl_pack_mapped(pack)) give_pages_back(p);
        pl__table_lock();
        const bool same = pack->version == version && pl__pack_form_dtype(pack, p->form) == dtype;
        if (!status && same && !pack->forms[p->form]) { /* else the weight was written to meanwhile: good for this call only */
            pack->forms[p->form] = *packed;
            __atomic_add_fetch(&(*packed)->references, 1, __ATOMIC_RELAXED);
        }
        pl__table_unlock();
    }
    pl__making_unlock();
    return status;
}
