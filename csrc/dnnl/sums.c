/* sums.c - products that sum over rows, C (m, n) (+)= A B where the inner dimension varies: gradients of weights.
 *
 * The sum is cut into pieces whose lengths depend on its own alone, and every piece has the same bits on any number of
 * threads: oneDNN (3.2) deals terms out to threads where they are many and C is small, below AVX-512 always. So where C
 * is small threads take a piece each, and below AVX-512 rows of C each, on primitives for one thread. */
#include "cache.h"

#define LARGEST_PIECE 1536 /* oneDNN deals terms out from 2,048 on */
#define SMALL 32768        /* numbers of C: too few blocks for several threads */
#define SMALL_PIECE 512    /* of such a sum, for one thread */
#define BLOCK_ROWS 96      /* of C, below AVX-512 */

/* Four sizes an octave leave a rest below a fifth. */
static int64_t next_terms(int64_t left)
{
    if (left >= LARGEST_PIECE) return LARGEST_PIECE;
    if (left < 64) return left;
    int64_t piece = 64;
    while (piece * 2 <= left) piece *= 2;
    return piece + (left - piece) / (piece / 4) * (piece / 4);
}

/* k that is not a multiple of 8: both operands through scratch with zeros behind. */
static pl_status run_tail_k(const pl__product *p, int threads)
{
    pl_status status;
    pl__product q = *p;
    float *a = NULL, *b = NULL;
    q.k = (p->k + 7) & ~(int64_t)7;
    PL__TRY(pl__scratch(&a, (size_t)(q.k * q.m), sizeof *a));
    PL__TRY(pl__scratch(&b, (size_t)(q.k * q.n), sizeof *b));
    memset(a + p->k * q.m, 0, (size_t)((q.k - p->k) * q.m) * sizeof *a);
    memset(b + p->k * q.n, 0, (size_t)((q.k - p->k) * q.n) * sizeof *b);
    pl__copy_rows(a, q.m, p->a, p->a_col, p->a_row, p->k, q.m);
    pl__copy_rows(b, q.n, p->b, p->b_row, p->b_col, p->k, q.n);
    q.a = a, q.a_row = 1, q.a_col = q.m;
    q.b = b, q.b_row = q.n, q.b_col = 1;
    PL__TRY(pl__product_execute(&q, NULL, PL_DTYPE_F32, q.a, q.c, threads));
done:
    pl_buffer_put(b);
    pl_buffer_put(a);
    return status;
}

/* C (+)= the terms [begin, begin + length). */
static pl_status run_terms(const pl__product *p, int64_t begin, int64_t length, int threads)
{
    pl__product q = *p;
    const int64_t padded = (length + 7) & ~(int64_t)7;
    if (p->low) {
        pl__low low = *p->low;
        low.b += begin * p->b_row;
        q.low = &low, q.k = padded; /* there are zeros behind */
        return pl__product_execute(&q, NULL, PL_DTYPE_F32, (const uint16_t *)low.a + begin * p->a_col, p->c, threads);
    }
    q.k = length;
    q.a = p->a + begin * p->a_col;
    q.b = p->b + begin * p->b_row;
    return padded > length ? run_tail_k(&q, threads)
                           : pl__product_execute(&q, NULL, PL_DTYPE_F32, q.a, q.c, threads);
}

/* The terms [first, last), piece by piece. */
static pl_status run_in_turn(const pl__product *p, int64_t first, int64_t last, int threads)
{
    pl__product q = *p;
    for (int64_t begin = first, length; begin < last; begin += length) {
        length = next_terms(last - begin);
        PL__CHECK(run_terms(&q, begin, length, threads));
        q.accumulate = true;
    }
    return PL_STATUS_OK;
}

typedef struct tasks {
    pl_context one_thread;
    const pl__product *product;
    float *parts; /* C of each piece, or NULL: tasks are blocks of rows of C */
    int status;
} tasks;

static void run_task(void *arg, int64_t begin, int64_t end)
{
    tasks *t = arg;
    const pl__product *p = t->product;
    int threads;
    const int previous = pl__threads_enter(&t->one_thread, &threads);
    for (int64_t i = begin; i < end; i++) {
        pl__product q = *p;
        int64_t first = 0, last = p->k;
        if (t->parts) {
            first = i * SMALL_PIECE;
            last = p->k - first < SMALL_PIECE ? p->k : first + SMALL_PIECE;
            q.c = t->parts + i * p->m * p->n, q.c_row = p->n, q.accumulate = false;
        } else {
            const int64_t row = i * BLOCK_ROWS;
            q.m = p->m - row < BLOCK_ROWS ? p->m - row : BLOCK_ROWS;
            q.a += row * p->a_row, q.c += row * p->c_row;
        }
        const pl_status status = run_in_turn(&q, first, last, threads);
        if (status) __atomic_store_n(&t->status, (int)status, __ATOMIC_RELAXED);
    }
    pl__threads_leave(previous);
}

static pl_status run_tasks(const pl_context *ctx, const pl__product *p, int64_t n, float *parts)
{
    tasks t = {.one_thread = *ctx, .product = p, .parts = parts};
    t.one_thread.threads = 1;
    const double nanoseconds = (double)p->m * (double)p->n * (double)p->k / 20;
    pl__parallel_tasks(ctx, n, nanoseconds, run_task, &t);
    /* The message of a failure stayed on the thread that failed. */
    return t.status ? pl__fail((pl_status)t.status, "%s: a part of a product", pl_status_text((pl_status)t.status))
                    : PL_STATUS_OK;
}

/* A piece a task, and the parts added in their order. */
static pl_status run_pieces(const pl_context *ctx, const pl__product *p)
{
    const int64_t pieces = (p->k + SMALL_PIECE - 1) / SMALL_PIECE, size = p->m * p->n;
    float *parts;
    PL__CHECK(pl__scratch(&parts, (size_t)(pieces * size), sizeof *parts));
    const pl_status status = run_tasks(ctx, p, pieces, parts);
    for (int64_t i = 0; !status && i < pieces; i++)
        for (int64_t r = 0; r < p->m; r++) {
            float *c = p->c + r * p->c_row;
            const float *part = parts + i * size + r * p->n;
            if (i == 0 && !p->accumulate)
                memcpy(c, part, (size_t)p->n * sizeof *c);
            else
                for (int64_t j = 0; j < p->n; j++) c[j] += part[j];
        }
    pl_buffer_put(parts);
    return status;
}

pl_status pl__product_sum(const pl_context *ctx, const pl__product *p)
{
    if (p->k == 0) {
        for (int64_t i = 0; !p->accumulate && i < p->m; i++)
            memset(p->c + i * p->c_row, 0, (size_t)p->n * sizeof *p->c);
        return PL_STATUS_OK;
    }
    const bool small = p->m * p->n <= SMALL;
    if (small && p->k > SMALL_PIECE) return run_pieces(ctx, p);
    if (!small && ctx->isa < PL_ISA_AVX512) return run_tasks(ctx, p, (p->m + BLOCK_ROWS - 1) / BLOCK_ROWS, NULL);
    pl_context own = pl__product_context(ctx, p);
    if (small) own.threads = 1;
    int threads;
    const int previous = pl__threads_enter(&own, &threads);
    const pl_status status = run_in_turn(p, 0, p->k, threads);
    pl__threads_leave(previous);
    return status;
}
