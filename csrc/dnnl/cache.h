/* cache.h - primitives by shape, inside dnnl/ only. */
#ifndef PL_DNNL_CACHE_H
#define PL_DNNL_CACHE_H

#include <oneapi/dnnl/dnnl.h>

#include "dnnl_layer.h"

/* Everything that tells two matmul primitives apart. Zeroed before it is filled: compared as bytes. */
typedef struct pl__key {
    int64_t m, n, k, a_row, a_col, b_row, b_col, c_row, residual_row;
    int32_t packed, bias, residual, activation, accumulate, threads;
    int32_t operands, result; /* pl_dtype of B and so of A, and of C; S8: A has no signs, C 32 bits */
} pl__key;

/* The handles that one execution needs; a primitive lends a set to one thread at a time. */
typedef struct pl__handles {
    struct pl__handles *next;
    dnnl_stream_t stream;
    dnnl_memory_t a, b, bias, residual, c, scratchpad;
} pl__handles;

typedef struct pl__entry {
    struct pl__entry *next, *older, *newer; /* bucket chain, age list */
    pl__key key;
    dnnl_primitive_t primitive;
    const_dnnl_primitive_desc_t desc;
    dnnl_primitive_desc_t owned_desc;
    size_t scratchpad_bytes;
    pl__handles *spare;
    int users;
    bool evicted;
    char implementation[64];
} pl__entry;

pl_status pl__dnnl_status(dnnl_status_t status, const char *what);
pl_status pl__dnnl_engine(dnnl_engine_t *engine); /* its first call needs pl__making_lock */

/* Held while oneDNN makes an engine, a primitive or a layout, and while a pack is filled: slow and rare. fork waits for
 * it, since oneDNN's own locks must be free in a child. The table lock comes after it, never before. */
void pl__making_lock(void);
void pl__making_unlock(void);
/* Held for a few instructions: the table of primitives and the forms of packs. */
void pl__table_lock(void);
void pl__table_unlock(void);

extern const dnnl_data_type_t pl__operand_types[PL_DTYPE_COUNT];
pl_status pl__matmul_desc(const pl__key *key, const_dnnl_memory_desc_t layout, dnnl_primitive_desc_t *desc);

/* layout.c: that of packed weights (k, n), needs pl__making_lock; and whether it is the one of simd/body_pack.h. */
pl_status pl__packed_layout(int64_t k, int64_t n, pl_dtype dtype, dnnl_memory_desc_t *layout);
bool pl__layout_of_panels(const_dnnl_memory_desc_t layout, pl_dtype dtype, int64_t k, int64_t n);

/* The primitive for a key, created when missing; `layout` is the packed layout when key.packed. Give it back. */
pl_status pl__entry_get(const pl__key *key, const_dnnl_memory_desc_t layout, pl__entry **entry, pl__handles **handles);
void pl__entry_put(pl__entry *entry, pl__handles *handles);

/* True from the third time on that this key was asked for within a few thousand products. */
bool pl__comes_again(const pl__key *key);

/* A packed form of an operand, shared by reference. */
typedef struct pl__packed {
    int references;
    int64_t k, n; /* of the operand that it was made from */
    pl_dtype dtype;
    float *scales; /* S8: (n) what a column of B was divided by, (n) the sum of what it became */
    dnnl_memory_desc_t layout; /* NULL: for panels.c */
    bool panels;               /* as in simd/body_pack.h */
    void *data;
    size_t bytes;
} pl__packed;

/* pack.c: the form of B that a product takes, filled when missing. Release it when the execution is over. */
pl_dtype pl__pack_form_dtype(const pl_pack *pack, pl__form form);
pl_status pl__pack_hold(const pl_context *ctx, pl_pack *pack, const pl__product *product, pl__packed **packed);
void pl__pack_release(pl__packed *packed);
/* For renew.c: where a form is that this version's products used, or NULL, under the table lock; and a form for a
 * version, false where the pack has moved on. */
pl__packed **pl__pack_used_form(pl_pack *pack, pl__form form);
bool pl__pack_put_form(pl_pack *pack, uint64_t version, pl__form form, pl__packed *packed);
/* fill.c: makes one. */
pl_status pl__pack_fill(const pl_context *ctx, const pl__product *p, pl_dtype dtype, pl__packed **out);

/* product.c: the key of one execution, and the execution, of what is at `a` and `c` in place of p->a and p->c. */
pl__key pl__product_key(const pl__product *p, const pl__packed *packed, pl_dtype result, int threads);
pl_status pl__product_execute(const pl__product *p, const pl__packed *packed, pl_dtype result, const void *a, void *c,
                              int threads);
pl_context pl__product_context(const pl_context *ctx, const pl__product *p);
/* Rows of a strided matrix to or from a dense one. */
void pl__copy_rows(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t from_col, int64_t rows,
                   int64_t cols);
/* Rows to compute next of those that are left. */
int64_t pl__next_rows(int64_t left);
/* panels.c: whether kernels of our own multiply with such a form, the size of it, and the product. */
bool pl__panels_serve(const pl_context *ctx, pl_dtype dtype);
size_t pl__panels_bytes(const pl__product *p);
void pl__panels_run(const pl_context *ctx, const pl__product *p, const pl__packed *packed);
/* Ranges of [0, n) that are equal parts of a product; how long they took is told to crowd.c. */
void pl__panels_share(const pl_context *ctx, const pl__product *p, pl_dtype dtype, int64_t n, int64_t grain,
                      pl__range_fn fn, void *arg);
/* product_low.c: products of fewer bits. */
pl_status pl__product_low(const pl__product *p, const pl__packed *packed, int threads);
/* panels_low.c: the same by kernels of our own, where they serve. */
bool pl__panels_low_serve(const pl_context *ctx, const pl__product *p, const pl__packed *packed);
pl_status pl__panels_low_run(const pl_context *ctx, const pl__product *p, const pl__packed *packed);
/* sums.c: products that sum over rows. */
pl_status pl__product_sum(const pl_context *ctx, const pl__product *p);

#endif
