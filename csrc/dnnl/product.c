/* product.c - one product, cut into sizes that oneDNN has seen. */
#include <stdlib.h>

#include "cache.h"

#define LARGEST_PIECE 8192
#define MULTIPLY_NS 0.02 /* a multiplication and addition on one thread */

pl__key pl__product_key(const pl__product *p, const pl__packed *packed, pl_dtype result, int threads)
{
    pl__key key;
    memset(&key, 0, sizeof key);
    key.m = p->m, key.n = p->n, key.k = p->k;
    key.a_row = p->a_row, key.a_col = p->a_col;
    if (!packed) key.b_row = p->b_row, key.b_col = p->b_col;
    key.c_row = p->c_row;
    key.residual_row = p->residual ? p->residual_row : 0;
    key.packed = packed != NULL;
    key.bias = p->bias != NULL;
    key.residual = p->residual != NULL;
    key.activation = p->activation;
    key.accumulate = p->accumulate;
    key.threads = threads;
    key.operands = packed ? packed->dtype : p->low ? p->low->dtype : PL_DTYPE_F32;
    key.result = result;
    return key;
}

pl_status pl__product_execute(const pl__product *p, const pl__packed *packed, pl_dtype result, const void *a, void *c,
                              int threads)
{
    const pl__key key = pl__product_key(p, packed, result, threads);
    pl__entry *entry;
    pl__handles *h;
    void *scratchpad = NULL;
    PL__CHECK(pl__entry_get(&key, packed ? packed->layout : NULL, &entry, &h));
    pl_status status = PL_STATUS_OK;
    if (entry->scratchpad_bytes) PL__TRY(pl_buffer_get(entry->scratchpad_bytes, &scratchpad));
    dnnl_memory_set_data_handle(h->a, (void *)a);
    dnnl_memory_set_data_handle(h->b, packed ? packed->data : p->low ? (void *)p->low->b : (void *)p->b);
    dnnl_memory_set_data_handle(h->c, c);
    dnnl_memory_set_data_handle(h->scratchpad, scratchpad);
    dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, h->a},
                               {DNNL_ARG_WEIGHTS, h->b},
                               {DNNL_ARG_DST, h->c},
                               {DNNL_ARG_SCRATCHPAD, h->scratchpad}};
    int n = 4;
    if (p->bias) {
        dnnl_memory_set_data_handle(h->bias, (void *)p->bias);
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, h->bias};
    }
    if (p->residual) {
        dnnl_memory_set_data_handle(h->residual, (void *)p->residual);
        const int position = p->activation != PL_ACT_NONE;
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(position) | DNNL_ARG_SRC_1, h->residual};
    }
    const int64_t begun = threads > 1 ? pl__now() : 0;
    status = pl__dnnl_status(dnnl_primitive_execute(entry->primitive, h->stream, n, args), "executing a matmul");
    if (threads > 1)
        pl__product_took((pl_dtype)key.operands, (double)p->m * (double)p->n * (double)p->k / threads, pl__now() - begun);
done:
    pl_buffer_put(scratchpad);
    pl__entry_put(entry, h);
    return status;
}

static pl_status execute(const pl__product *p, const pl__packed *packed, int threads)
{
    return pl__product_execute(p, packed, PL_DTYPE_F32, p->a, p->c, threads);
}

void pl__copy_rows(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t from_col, int64_t rows,
                   int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) to[i * to_row + j] = from[i * from_row + j * from_col];
}

/* m rows as `padded` ones: through scratch with zero rows below. */
static pl_status run_tail_m(const pl__product *p, const pl__packed *packed, int threads, int64_t padded)
{
    pl_status status;
    pl__product q = *p;
    float *a = NULL, *c = NULL, *r = NULL;
    q.m = padded;
    PL__TRY(pl__scratch(&a, (size_t)(q.m * q.k), sizeof *a));
    PL__TRY(pl__scratch(&c, (size_t)(q.m * q.n), sizeof *c));
    memset(a + p->m * q.k, 0, (size_t)((q.m - p->m) * q.k) * sizeof *a);
    pl__copy_rows(a, q.k, p->a, p->a_row, p->a_col, p->m, q.k);
    q.a = a, q.a_row = q.k, q.a_col = 1;
    q.c = c, q.c_row = q.n;
    if (p->accumulate) {
        pl__copy_rows(c, q.n, p->c, p->c_row, 1, p->m, q.n);
        memset(c + p->m * q.n, 0, (size_t)((q.m - p->m) * q.n) * sizeof *c);
    }
    if (p->residual) {
        PL__TRY(pl__scratch(&r, (size_t)(q.m * q.n), sizeof *r));
        pl__copy_rows(r, q.n, p->residual, p->residual_row, 1, p->m, q.n);
        memset(r + p->m * q.n, 0, (size_t)((q.m - p->m) * q.n) * sizeof *r);
        q.residual = r, q.residual_row = q.n;
    }
    PL__TRY(execute(&q, packed, threads));
    pl__copy_rows(p->c, p->c_row, c, q.n, 1, p->m, q.n);
done:
    pl_buffer_put(r);
    pl_buffer_put(c);
    pl_buffer_put(a);
    return status;
}

/* Rows to compute next: most numbers of rows need two or three pieces. */
int64_t pl__next_rows(int64_t left)
{
    if (left < 64) return left;
    int64_t piece = 64;
    while (piece * 2 <= left && piece < LARGEST_PIECE) piece *= 2;
    return piece;
}

static pl_status run_pieces(const pl__product *p, const pl__packed *packed, int threads)
{
    pl__product q = *p;
    int64_t done_so_far = 0;
    while (done_so_far < p->m) {
        const int64_t piece = pl__next_rows(p->m - done_so_far), padded = (piece + 7) & ~(int64_t)7;
        q.m = piece;
        q.a = p->a + done_so_far * p->a_row;
        q.c = p->c + done_so_far * p->c_row;
        q.residual = p->residual ? p->residual + done_so_far * p->residual_row : NULL;
        PL__CHECK(padded > piece ? run_tail_m(&q, packed, threads, padded) : execute(&q, packed, threads));
        done_so_far += piece;
    }
    return PL_STATUS_OK;
}

/* Without a pack, below AVX-512: oneDNN's kernel rounds by the number of rows and threads there, unless it runs on one
 * thread, on blocks of rows whose number is a multiple of 24 and at most 192 (measured: 11 shapes, 1 to 2,048 rows). So
 * threads share blocks there, and a row's bits do not depend on its mates. */
#define BLOCK_ROWS 192
#define BLOCK_UNIT 24

typedef struct blocks {
    pl_context one_thread;
    const pl__product *product;
    int64_t rows; /* of a block */
    int status;
} blocks;

static void run_block(void *arg, int64_t begin, int64_t end)
{
    blocks *b = arg;
    const pl__product *p = b->product;
    pl__product q = *p;
    int threads;
    const int previous = pl__threads_enter(&b->one_thread, &threads);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row = i * b->rows;
        q.m = p->m - row < b->rows ? p->m - row : b->rows;
        q.a = p->a + row * p->a_row;
        q.c = p->c + row * p->c_row;
        q.residual = p->residual ? p->residual + row * p->residual_row : NULL;
        const int64_t padded = (q.m + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
        const pl_status status = padded > q.m ? run_tail_m(&q, NULL, 1, padded) : execute(&q, NULL, 1);
        if (status) __atomic_store_n(&b->status, (int)status, __ATOMIC_RELAXED);
    }
    pl__threads_leave(previous);
}

static pl_status run_blocks(const pl_context *ctx, const pl__product *p, int threads)
{
    int64_t rows = ((p->m + threads - 1) / threads + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
    if (rows > BLOCK_ROWS) rows = BLOCK_ROWS;
    blocks b = {.one_thread = *ctx, .product = p, .rows = rows};
    b.one_thread.threads = 1;
    const double nanoseconds = (double)p->m * (double)p->n * (double)p->k / 20;
    pl__parallel_tasks(ctx, (p->m + rows - 1) / rows, nanoseconds, run_block, &b);
    /* The message of a failure stayed on the thread that failed. */
    return b.status ? pl__fail((pl_status)b.status, "%s: a block of a product", pl_status_text((pl_status)b.status))
                    : PL_STATUS_OK;
}

/* As many threads as the context has, or one where others take the processors: bits do not depend on it. */
pl_context pl__product_context(const pl_context *ctx, const pl__product *p)
{
    pl_context own = *ctx;
    if (pl__alone_is_better(own.threads, (double)p->m * (double)p->n * (double)p->k * MULTIPLY_NS)) own.threads = 1;
    return own;
}

pl_status pl__product_run(const pl_context *ctx, const pl__product *p)
{
    if (p->m == 0 || p->n == 0) return PL_STATUS_OK;
    if (p->long_dim == PL__LONG_K) return pl__product_sum(ctx, p);
    int threads;
    const pl_context own = pl__product_context(ctx, p);
    const int previous = pl__threads_enter(&own, &threads);
    pl__packed *packed = NULL;
    pl_status status = PL_STATUS_OK;
    /* A form in fewer bits is for rounded rows only. */
    const pl_dtype dtype = p->low ? p->low->dtype : PL_DTYPE_F32;
    if (p->pack && pl__pack_form_dtype(p->pack, p->form) == dtype)
        PL__TRY(pl__pack_hold(ctx, p->pack, p, &packed));
    if (packed && packed->dtype != dtype) { /* another thread changed it since */
        pl__pack_release(packed);
        packed = NULL;
    }
    if (p->low) {
        if (!packed)
            status = pl__fail(PL_STATUS_RUNTIME, "the precision of a weight was changed (train, to) between forward and "
                                                 "backward, or while another thread used it");
        else
            status = pl__panels_low_serve(ctx, p, packed) ? pl__panels_low_run(&own, p, packed)
                                                          : pl__product_low(p, packed, threads);
        goto done;
    }
    if (packed && !packed->layout) {
        pl__panels_run(&own, p, packed);
        goto done;
    }
    const bool power = p->m >= 64 && (p->m & (p->m - 1)) == 0;
    const pl__key key = pl__product_key(p, packed, PL_DTYPE_F32, threads);
    if (ctx->isa < PL_ISA_AVX512) {
        status = run_blocks(ctx, p, threads);
        goto done;
    }
    /* One row is computed as several: oneDNN's kernel for one row rounds differently. */
    if (p->m > 1 && (power || pl__comes_again(&key)))
        status = execute(p, packed, threads);
    else
        status = run_pieces(p, packed, threads);
done:
    pl__pack_release(packed);
    pl__threads_leave(previous);
    return status;
}
