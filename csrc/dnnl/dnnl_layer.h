/* dnnl_layer.h - what operators may ask of oneDNN. No dnnl type appears here.
 *
 * A product C = act(A B + bias) [+ residual] or C += A B, float32. Strides count elements; one stride of A and one of B
 * is 1; C has unit column stride. Row counts vary with every batch and a new shape costs oneDNN 0.25 to 1.5 ms, so
 * `long_dim` names the dimension that varies (rows): it is cut into pieces of 64 * 2^k plus a tail rounded up to 8
 * through scratch. A number of rows m that comes for the third time gets a primitive of its own; sums over k do not,
 * since their bits would then depend on what ran before. A row's bits do not depend on m, nor any on threads. */
#ifndef PL_DNNL_LAYER_H
#define PL_DNNL_LAYER_H

#include "../core/core.h"

typedef enum pl__long_dim { PL__LONG_M, PL__LONG_K } pl__long_dim;

/* Forms of a packed weight (D, K): the operand B of x w^T is (K, D), that of dy w is (D, K). */
typedef enum pl__form { PL__FORM_TRANSPOSED, PL__FORM_PLAIN, PL__FORM_COUNT } pl__form;

/* Operands in fewer bits, which the caller rounded; strides stay those of the product.
 *
 * long_dim M, for a pack of that dtype: rows of A are dense, up to a multiple of 8, whose results nobody needs.
 * bfloat16: C is float32, or dense c16 with room for those rows. 8 bits: `finish` gets the exact sums of rows [begin,
 * begin + rows), to work in, what the columns of B were divided by, and behind those (n) numbers the sums of what the
 * columns became; bias, activation and residual are its business.
 *
 * long_dim K: bfloat16, and zeros behind both operands up to a multiple of 8 rows. */
typedef struct pl__low {
    pl_dtype dtype;
    const void *a;
    const uint16_t *b; /* long_dim K only */
    uint16_t *c16;
    const float *row_scales; /* 8 bits: scale and low of each row of A ... */
    uint8_t *c8;             /* ... and where the result is rounded again: rows, and scale and low of each */
    float *c8_scales;
    void (*finish)(void *arg, int64_t begin, int64_t rows, int32_t *sums, const float *scales);
    void *arg;
} pl__low;

typedef struct pl__product {
    int64_t m, n, k;
    const float *a;
    int64_t a_row, a_col; /* strides of A (m, k) */
    const float *b;
    int64_t b_row, b_col; /* strides of B (k, n) */
    pl_pack *pack;        /* packed forms of the array that B views, or NULL */
    pl__form form;        /* the one that B is; strides do not tell where a weight has one column */
    const float *bias;    /* (n) or NULL */
    const float *residual; /* (m, n), added after the activation, or NULL */
    int64_t residual_row;
    pl_activation activation;
    float *c;
    int64_t c_row;
    bool accumulate; /* C += ; no bias, residual or activation then */
    const pl__low *low;
    pl__long_dim long_dim;
} pl__product;

pl_status pl__product_run(const pl_context *ctx, const pl__product *product);

/* Forms of a pack that is written to, which were used since it last was. `take` lends them, false: there are none; each
 * tile of the weight is packed after it was written, and `end` gives them back, with the pack at the new version, or
 * drops them where that was not `done`. Tiles begin at multiples of so many rows and columns. */
enum { PL__TILE_ROWS = 32, PL__TILE_COLUMNS = 1024 };
typedef struct pl__renewal {
    struct pl__packed *forms[PL__FORM_COUNT];
    int64_t columns; /* of the weight */
} pl__renewal;
bool pl__renewal_take(pl_pack *pack, int64_t rows, int64_t columns, pl__renewal *r);
void pl__renewal_tile(const pl_context *ctx, const pl__renewal *r, const float *weight, int64_t row, int64_t rows,
                      int64_t column, int64_t columns);
void pl__renewal_end(pl_pack *pack, uint64_t version, pl__renewal *r, bool done);

/* Names of implementations chosen so far, one call of `visit` each: tests refuse reference loops. */
pl_status pl__dnnl_each_implementation(void (*visit)(void *arg, const char *name, int64_t m, int64_t n, int64_t k),
                                       void *arg);
void pl__dnnl_drop_cache(void);

#endif
