/* pack.c - packed forms of one constant operand.
 *
 * A form is made when first needed, is shared by reference while executions use it, and is dropped when the version
 * rises. The packed layout does not depend on the number of rows, so one form serves every batch. */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "cache.h"

struct pl_pack {
    uint64_t version;
    pl_dtype dtype;
    bool mapped;
    bool trained, spare[PL__FORM_COUNT]; /* see pl_pack_spare: learned anew from each version that was used */
    int64_t uses[PL__FORM_COUNT]; /* of this version */
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
    if (pack->version != version) {
        drop_forms(pack);
        for (int i = 0; i < PL__FORM_COUNT; i++) {
            if (pack->trained && pack->uses[i]) pack->spare[i] = pack->uses[i] == 1;
            pack->uses[i] = 0;
        }
    }
    pack->version = version;
    pl__table_unlock();
}

/* Whether a form stays after its first use. Where memory is to be spared, the one in bfloat16 that forward reads does:
 * it is an eighth of what a trained weight takes anyway, and the optimiser packs it in its own pass. */
static bool keeps(const pl_pack *pack, pl__form form, pl_dtype dtype)
{
    return !pack->spare[form] || (form == PL__FORM_TRANSPOSED && dtype == PL_DTYPE_BF16);
}

pl__packed **pl__pack_used_form(pl_pack *pack, pl__form form)
{
    return pack->forms[form] && pack->uses[form] ? &pack->forms[form] : NULL;
}

bool pl__pack_put_form(pl_pack *pack, uint64_t version, pl__form form, pl__packed *packed)
{
    pl__table_lock();
    const bool fits = pack->version == version && !pack->forms[form] && keeps(pack, form, packed->dtype) &&
                      pl__pack_form_dtype(pack, form) == packed->dtype;
    if (fits) pack->forms[form] = packed;
    pl__table_unlock();
    return fits;
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

void pl_pack_spare(pl_pack *pack)
{
    pl__table_lock();
    drop_forms(pack);
    pack->trained = true;
    for (int i = 0; i < PL__FORM_COUNT; i++) pack->spare[i] = true, pack->uses[i] = 0;
    pl__table_unlock();
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

/* A form of another shape is of another weight, which had the pack before; what it holds cannot serve. */
static pl__packed *take(pl_pack *pack, const pl__product *p, uint64_t *version, pl_dtype *dtype)
{
    pl__table_lock();
    pl__packed *packed = pack->forms[p->form];
    if (packed && (packed->k != p->k || packed->n != p->n)) {
        pl__pack_release(packed);
        packed = pack->forms[p->form] = NULL;
    }
    if (packed) __atomic_add_fetch(&packed->references, 1, __ATOMIC_RELAXED), pack->uses[p->form]++;
    *version = pack->version;
    *dtype = pl__pack_form_dtype(pack, p->form);
    pl__table_unlock();
    return packed;
}

pl_status pl__pack_hold(const pl_context *ctx, pl_pack *pack, const pl__product *p, pl__packed **packed)
{
    uint64_t version;
    pl_dtype dtype;
    *packed = take(pack, p, &version, &dtype);
    if (*packed) return PL_STATUS_OK;
    pl__making_lock();
    pl_status status = PL_STATUS_OK;
    *packed = take(pack, p, &version, &dtype); /* another thread may have been faster */
    if (!*packed) {
        status = pl__pack_fill(ctx, p, dtype, packed);
        if (!status && pl_pack_mapped(pack)) give_pages_back(p);
        pl__table_lock();
        const bool same = pack->version == version && pl__pack_form_dtype(pack, p->form) == dtype;
        const bool keep = pack->uses[p->form] || keeps(pack, p->form, dtype);
        pack->uses[p->form]++;
        /* where it is not the same, the weight was written to meanwhile: good for this call only */
        if (!status && same && keep && !pack->forms[p->form]) {
            pack->forms[p->form] = *packed;
            __atomic_add_fetch(&(*packed)->references, 1, __ATOMIC_RELAXED);
        }
        pl__table_unlock();
    }
    pl__making_unlock();
    return status;
}
