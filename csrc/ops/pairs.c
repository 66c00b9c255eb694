/* pairs.c - products of all rows with all rows, tile by tile. */
#include "pairs.h"

#include <math.h>

#define TILE 512 /* rows and columns: a tile of products and its operands stay in the caches */
#define KEPT 64  /* tiles, of 1 MB: 8 by 8 */

enum { A, B, LOGIT_SCALE };

/* ---------------------------------------------------------------- checks */

/* Scalars have shape () or (1). */
static pl_status check_scalar(const pl_op *op, const pl_call *call, int input, double limit, const char *what)
{
    const pl_tensor *t = &call->in[input];
    char name[64];
    pl__port_name(op, input, name, sizeof name);
    if (pl__count(t) != 1 || t->ndim > 1)
        return pl__check_shape(op, call, input, 0, NULL, "a scalar");
    const float value = *(const float *)t->data;
    if (fabsf(value) <= limit) return PL_STATUS_OK; /* false for NaN */
    return pl__fail(PL_STATUS_VALUE, "%s: %s is %g, expected %s", op->name, op->ports[input].name, value, what);
}

pl_status pl__pairs_check(const pl_op *op, const pl_call *call, int present)
{
    const pl_tensor *a = &call->in[A];
    PL__CHECK(pl__check_rank(op, call, A, 2));
    if (a->shape[1] < 1) return pl__fail(PL_STATUS_VALUE, "%s: a has width 0, expected at least 1", op->name);
    PL__CHECK(pl__check_shape(op, call, B, 2, a->shape, "the shape of a"));
    PL__CHECK(check_scalar(op, call, LOGIT_SCALE, 80, "-80 to 80, the logarithm of the scale"));
    for (int i = LOGIT_SCALE + 1; i < present; i++) PL__CHECK(check_scalar(op, call, i, 3e38, "a finite number"));
    PL__CHECK(pl__check_shape(op, call, present, 1, a->shape, "the rows of a"));
    const int64_t *flags = call->in[present].data;
    for (int64_t i = 0; flags && i < a->shape[0]; i++)
        if (flags[i] != 0 && flags[i] != 1)
            return pl__fail(PL_STATUS_VALUE, "%s: present[%lld] is %lld, expected 0 or 1", op->name, (long long)i,
                            (long long)flags[i]);
    return PL_STATUS_OK;
}

float pl__pairs_scale(const pl_call *call) { return expf(*(const float *)call->in[LOGIT_SCALE].data); }

static int64_t count_present(const pl_call *call, int present)
{
    const int64_t *flags = call->in[present].data, n = call->in[A].shape[0];
    int64_t count = flags ? 0 : n;
    for (int64_t i = 0; flags && i < n; i++) count += flags[i];
    return count;
}

pl_status pl__pairs_open(pl__pairs *p, const pl_call *call, int present)
{
    const pl_tensor *a = &call->in[A];
    const int64_t *flags = call->in[present].data;
    *p = (pl__pairs){.ctx = call->ctx, .total = a->shape[0], .count = a->shape[0], .width = a->shape[1],
                     .a = a->data, .b = call->in[B].data};
    if (!flags) return PL_STATUS_OK;
    p->count = count_present(call, present);
    if (p->count == p->total) return PL_STATUS_OK;
    PL__CHECK(pl__scratch(&p->index, (size_t)p->count, sizeof *p->index));
    for (int64_t i = 0, j = 0; i < p->total; i++)
        if (flags[i]) p->index[j++] = i;
    return PL_STATUS_OK;
}

void pl__pairs_close(pl__pairs *p) { pl_buffer_put(p->index); }

/* ---------------------------------------------------------------- tiles */

/* Sizes of products: few, so that oneDNN needs few primitives, and all of them good ones, so that none is cut:
 * products name k as the dimension that varies, whose pieces do not depend on what ran before. */
static int64_t padded(int64_t n) { return n < 64 ? (n + 15) & ~(int64_t)15 : (n + 63) & ~(int64_t)63; }

/* Whether rows [begin, begin + n) can be used where they are. */
static bool in_place(const pl__pairs *p, int64_t n) { return !p->index && padded(n) == n; }

static int64_t place(const pl__pairs *p, int64_t i) { return p->index ? p->index[i] : i; }

/* Present rows [begin, begin + n) of x, zeros below them: x itself or a copy in `copy`. */
static const float *take(const pl__pairs *p, const float *x, int64_t begin, int64_t n, float *copy)
{
    const int64_t d = p->width;
    if (in_place(p, n)) return x + begin * d;
    for (int64_t i = 0; i < n; i++) memcpy(copy + i * d, x + place(p, begin + i) * d, (size_t)d * sizeof *copy);
    memset(copy + n * d, 0, (size_t)((padded(n) - n) * d) * sizeof *copy);
    return copy;
}

/* A gradient that is summed over tiles: where it stands, or in `sum` until `give` takes it there. */
typedef struct gradient {
    float *out, *sum;
    bool add;
} gradient;

static void give(const pl__pairs *p, const gradient *g, int64_t begin, int64_t n, bool add)
{
    const int64_t d = p->width;
    for (int64_t i = 0; i < n; i++) {
        float *to = g->out + place(p, begin + i) * d;
        const float *from = g->sum + i * d;
        if (add)
            for (int64_t j = 0; j < d; j++) to[j] += from[j];
        else
            memcpy(to, from, (size_t)d * sizeof *to);
    }
}

/* Rows [begin, begin + n) of the gradient += s x, where x are the k rows of the other operand; `flip`: s^T x. */
static pl_status add_product(const pl__pairs *p, const gradient *g, const pl__tile *t, bool flip, const float *x,
                             bool first)
{
    const int64_t begin = flip ? t->c0 : t->r0, n = flip ? t->cols : t->rows, k = flip ? t->rows : t->cols;
    const bool here = in_place(p, n), add = g->add || !first;
    const pl__product q = {.m = padded(n), .n = p->width, .k = padded(k), .a = t->g, .a_row = flip ? 1 : t->row,
                           .a_col = flip ? t->row : 1, .b = x, .b_row = p->width, .b_col = 1,
                           .c = here ? g->out + begin * p->width : g->sum, .c_row = p->width,
                           .accumulate = here && add, .long_dim = PL__LONG_K};
    PL__CHECK(pl__product_run(p->ctx, &q));
    if (!here) give(p, g, begin, n, add);
    return PL_STATUS_OK;
}

static int64_t side_of(int64_t n) { return padded(n < TILE ? n : TILE); }

pl_status pl__pairs_infer_kept(const pl_call *call, int present, pl_tensor *kept)
{
    const int64_t n = count_present(call, present), side = side_of(n), tiles = (n + TILE - 1) / TILE;
    return pl__shape2(kept, PL_DTYPE_F32, tiles < 8 ? tiles * tiles : KEPT, side * side);
}

/* What a sweep works with: its own copies of operands and gradients, where it cannot use them in place. */
typedef struct sweep {
    const pl__pairs *p;
    float *s, *a_copy, *b_copy;
    gradient da, db;
} sweep;

static pl_status open_sweep(sweep *w)
{
    const int64_t d = w->p->width, side = side_of(w->p->count);
    pl_status status;
    PL__TRY(pl__scratch(&w->s, (size_t)(side * side), sizeof *w->s));
    if (!w->p->index && padded(w->p->count % TILE) == w->p->count % TILE) return PL_STATUS_OK;
    PL__TRY(pl__scratch(&w->a_copy, (size_t)side, (size_t)d * sizeof *w->a_copy));
    PL__TRY(pl__scratch(&w->b_copy, (size_t)side, (size_t)d * sizeof *w->b_copy));
    if (w->da.out || w->db.out) PL__TRY(pl__scratch(&w->da.sum, (size_t)side, (size_t)d * sizeof *w->da.sum));
    w->db.sum = w->da.sum;
done:
    return status;
}

static void close_sweep(sweep *w)
{
    pl_buffer_put(w->da.sum);
    pl_buffer_put(w->b_copy);
    pl_buffer_put(w->a_copy);
    pl_buffer_put(w->s);
}

static pl_status multiply(const pl__pairs *p, const pl__tile *t, const float *a, const float *b, float *s)
{
    const int64_t d = p->width;
    const pl__product q = {.m = padded(t->rows), .n = padded(t->cols), .k = d, .a = a, .a_row = d, .a_col = 1, .b = b,
                           .b_row = 1, .b_col = d, .c = s, .c_row = t->row, .long_dim = PL__LONG_K};
    return pl__product_run(p->ctx, &q);
}

/* What a product with rows of zeros would have left behind columns and below rows. */
static void clear_margins(const pl__tile *t)
{
    const size_t behind = (size_t)(t->row - t->cols), below = (size_t)((padded(t->rows) - t->rows) * t->row);
    for (int64_t i = 0; i < t->rows; i++) memset(t->g + i * t->row + t->cols, 0, behind * sizeof *t->g);
    memset(t->g + t->rows * t->row, 0, below * sizeof *t->g);
}

static pl_status run_sweep(sweep *w, pl__tile_fn fn, void *arg, const pl_tensor *kept, bool backward)
{
    const pl__pairs *p = w->p;
    const int64_t n = p->count, size = kept && kept->data ? kept->shape[1] : 0;
    const int64_t keep = size ? kept->shape[0] : 0;
    int64_t tile = 0;
    for (int64_t r0 = 0; r0 < n; r0 += TILE) {
        const int64_t rows = n - r0 < TILE ? n - r0 : TILE;
        const float *a = take(p, p->a, r0, rows, w->a_copy);
        for (int64_t c0 = 0; c0 < n; c0 += TILE, tile++) {
            const int64_t cols = n - c0 < TILE ? n - c0 : TILE;
            const float *b = take(p, p->b, c0, cols, w->b_copy);
            float *s = tile < keep ? (float *)kept->data + tile * size : w->s;
            const pl__tile t = {.s = s, .g = w->s, .row = padded(cols), .r0 = r0, .rows = rows, .c0 = c0, .cols = cols};
            if (!backward || tile >= keep)
                PL__CHECK(multiply(p, &t, a, b, s));
            else
                clear_margins(&t);
            fn(arg, &t);
            if (w->da.out) PL__CHECK(add_product(p, &w->da, &t, false, b, c0 == 0));
            if (w->db.out) PL__CHECK(add_product(p, &w->db, &t, true, a, r0 == 0));
        }
    }
    return PL_STATUS_OK;
}

pl_status pl__pairs_forward(const pl__pairs *p, pl__tile_fn fn, void *arg, const pl_tensor *kept)
{
    sweep w = {.p = p};
    pl_status status = p->count ? open_sweep(&w) : PL_STATUS_OK;
    if (!status) status = run_sweep(&w, fn, arg, kept, false);
    close_sweep(&w);
    return status;
}

pl_status pl__pairs_backward(const pl__pairs *p, pl__tile_fn fn, void *arg, const pl_tensor *kept, float *da,
                             bool add_da, float *db, bool add_db)
{
    sweep w = {.p = p, .da = {.out = da, .add = add_da}, .db = {.out = db, .add = add_db}};
    const size_t bytes = (size_t)(p->total * p->width) * sizeof *da;
    /* absent rows have no gradient */
    if (da && !add_da && p->count < p->total) memset(da, 0, bytes);
    if (db && !add_db && p->count < p->total) memset(db, 0, bytes);
    pl_status status = p->count ? open_sweep(&w) : PL_STATUS_OK;
    if (!status) status = run_sweep(&w, fn, arg, kept, true);
    close_sweep(&w);
    return status;
}
