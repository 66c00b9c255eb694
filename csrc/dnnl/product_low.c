/* product_low.c - a product of rounded rows with a pack in fewer bits, cut into sizes that oneDNN has seen.
 *
 * oneDNN multiplies 8-bit numbers exactly. What rows of A were divided by comes in again in a pass of the caller: as a
 * post-op, a factor for each row has only a reference implementation (3.2). */
#include "cache.h"

/* p is the whole product but for m: rows from `begin` on, up to a multiple of 8, of which `rows` are real.
 * Float results go through scratch, from which the real ones are taken. */
static pl_status run_tail(const pl__product *p, const pl__packed *packed, const void *a, int64_t begin, int64_t rows,
                          int threads)
{
    pl_status status;
    float *c = NULL, *residual = NULL;
    const int64_t padded = p->m;
    pl__product q = *p;
    q.c_row = q.residual_row = p->n;
    PL__TRY(pl__scratch(&c, (size_t)(padded * p->n), sizeof *c));
    if (p->accumulate) {
        memset(c + rows * p->n, 0, (size_t)((padded - rows) * p->n) * sizeof *c);
        for (int64_t i = 0; i < rows; i++)
            memcpy(c + i * p->n, p->c + (begin + i) * p->c_row, (size_t)p->n * sizeof *c);
    }
    if (p->residual) {
        PL__TRY(pl__scratch(&residual, (size_t)(padded * p->n), sizeof *residual));
        memset(residual + rows * p->n, 0, (size_t)((padded - rows) * p->n) * sizeof *residual);
        for (int64_t i = 0; i < rows; i++)
            memcpy(residual + i * p->n, p->residual + (begin + i) * p->residual_row, (size_t)p->n * sizeof *residual);
        q.residual = residual;
    }
    PL__TRY(pl__product_execute(&q, packed, PL_DTYPE_F32, a, c, threads));
    for (int64_t i = 0; i < rows; i++)
        memcpy(p->c + (begin + i) * p->c_row, c + i * p->n, (size_t)p->n * sizeof *c);
done:
    pl_buffer_put(residual);
    pl_buffer_put(c);
    return status;
}

static pl_status run_whole(const pl__product *p, const pl__packed *packed, const void *a, int64_t begin, int64_t rows,
                           int threads)
{
    int32_t *sums;
    pl__product q = *p;
    q.bias = q.residual = NULL, q.activation = PL_ACT_NONE, q.c_row = p->n;
    PL__CHECK(pl__scratch(&sums, (size_t)(p->m * p->n), sizeof *sums));
    const pl_status status = pl__product_execute(&q, packed, PL_DTYPE_S8, a, sums, threads);
    if (!status) p->low->finish(p->low->arg, begin, rows, sums, packed->scales);
    pl_buffer_put(sums);
    return status;
}

pl_status pl__product_low(const pl__product *p, const pl__packed *packed, int threads)
{
    const bool whole = packed->dtype == PL_DTYPE_S8;
    const pl_dtype result = whole ? PL_DTYPE_S8 : p->low->c16 ? PL_DTYPE_BF16 : PL_DTYPE_F32;
    const pl__key key = pl__product_key(p, packed, result, threads);
    const bool again = p->m > 1 && pl__comes_again(&key); /* then all rows at once, and no row for nothing */
    int64_t rows;
    for (int64_t begin = 0; begin < p->m; begin += rows) {
        rows = again ? p->m : pl__next_rows(p->m - begin);
        const int64_t padded = again ? p->m : (rows + 7) & ~(int64_t)7;
        const void *a = (const char *)p->low->a + begin * p->k * (whole ? 1 : 2);
        pl__product q = *p;
        pl_status status;
        q.m = padded, q.a_row = p->k, q.a_col = 1;
        if (whole)
            status = run_whole(&q, packed, a, begin, rows, threads);
        else if (p->low->c16)
            status = pl__product_execute(&q, packed, PL_DTYPE_BF16, a, p->low->c16 + begin * p->c_row, threads);
        else if (padded > rows)
            status = run_tail(&q, packed, a, begin, rows, threads);
        else {
            if (p->residual) q.residual = p->residual + begin * p->residual_row;
            status = pl__product_execute(&q, packed, PL_DTYPE_F32, a, p->c + begin * p->c_row, threads);
        }
        if (status) return status;
    }
    return PL_STATUS_OK;
}
