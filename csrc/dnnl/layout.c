/* layout.c - how oneDNN wants weights packed. */
#include "cache.h"

#define SLOTS 256

/* Asking costs a quarter of a millisecond and more, and weights that are trained are packed in each step. */
typedef struct slot {
    int64_t k, n;
    pl_dtype dtype;
    dnnl_memory_desc_t layout;
} slot;
static slot slots[SLOTS];

/* The library's choice for a tall product. */
static pl_status ask(int64_t k, int64_t n, pl_dtype dtype, dnnl_memory_desc_t *layout)
{
    pl_status status;
    dnnl_memory_desc_t any = NULL;
    dnnl_primitive_desc_t desc = NULL;
    const pl__key key = {.m = 512, .n = n, .k = k, .a_row = k, .a_col = 1, .c_row = n, .packed = 1, .operands = dtype,
                         .result = dtype == PL_DTYPE_S8 ? PL_DTYPE_S8 : PL_DTYPE_F32};
    const dnnl_dims_t dims = {k, n};
    *layout = NULL;
#define D__TRY(call) PL__TRY(pl__dnnl_status((call), "the layout of a packed weight"))
    D__TRY(dnnl_memory_desc_create_with_tag(&any, 2, dims, pl__operand_types[dtype], dnnl_format_tag_any));
    PL__TRY(pl__matmul_desc(&key, any, &desc));
    D__TRY(dnnl_memory_desc_clone(layout, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0)));
done:
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (any) dnnl_memory_desc_destroy(any);
    return status;
}

pl_status pl__packed_layout(int64_t k, int64_t n, pl_dtype dtype, dnnl_memory_desc_t *layout)
{
    slot *s = &slots[((uint64_t)k * 31 + (uint64_t)n * 7 + dtype) % SLOTS];
    pl_status status = PL_STATUS_OK;
    *layout = NULL;
    if (!s->layout || s->k != k || s->n != n || s->dtype != dtype) {
        if (s->layout) dnnl_memory_desc_destroy(s->layout);
        *s = (slot){.k = k, .n = n, .dtype = dtype};
        PL__TRY(ask(k, n, dtype, &s->layout));
    }
    D__TRY(dnnl_memory_desc_clone(layout, s->layout));
done:
    return status;
}

bool pl__layout_of_panels(const_dnnl_memory_desc_t layout, pl_dtype dtype, int64_t k, int64_t n)
{
    const int64_t unit = dtype == PL_DTYPE_F32 ? 1 : dtype == PL_DTYPE_BF16 ? 2 : 4;
    const int64_t blocks = (k + 16 * unit - 1) / (16 * unit), panels = (n + 63) / 64;
    const int64_t sizes[] = {16, 64, unit}, dims[] = {0, 1, 0};
    int count;
    dnnl_dims_t *inner, *which, *strides;
    if (dnnl_memory_desc_query(layout, dnnl_query_inner_nblks_s32, &count) || count != (unit == 1 ? 2 : 3) ||
        dnnl_memory_desc_query(layout, dnnl_query_inner_blks, &inner) ||
        dnnl_memory_desc_query(layout, dnnl_query_inner_idxs, &which) ||
        dnnl_memory_desc_query(layout, dnnl_query_strides, &strides))
        return false;
    for (int i = 0; i < count; i++)
        if ((*inner)[i] != sizes[i] || (*which)[i] != dims[i]) return false;
    /* one block below the other; the stride of what there is one of says nothing */
    return (blocks == 1 || (*strides)[0] == 1024 * unit) && (panels == 1 || (*strides)[1] == 1024 * unit * blocks) &&
           dnnl_memory_desc_get_size(layout) == (size_t)(blocks * panels * 4096);
}
