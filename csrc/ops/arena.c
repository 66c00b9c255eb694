/* arena.c - an arena of values cut into pieces, which threads share.
 *
 * Most pieces are runs of values. Weights whose packed forms are to be renewed are cut into tiles: what a tile became is
 * packed while it is in the cache, and not read again from memory when a product next needs the form. */
#include <math.h>

#include "arena.h"

#define RUN 16384 /* floats; four arrays of them fit a second-level cache, and so do tiles */

pl_status pl__arena_check(const pl__arena *a, bool apart)
{
    int64_t last = 0;
    for (int64_t s = 0; s < a->count; s++) {
        const pl_segment *g = &a->segments[s];
        if (g->begin < 0 || g->end < g->begin || g->end > a->size)
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] is %lld to %lld, expected to lie within 0 to %lld",
                            a->name, (long long)s, (long long)g->begin, (long long)g->end, (long long)a->size);
        if (apart && g->begin < last)
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] begins at %lld, before the end %lld of the one before",
                            a->name, (long long)s, (long long)g->begin, (long long)last);
        if (!isfinite(g->lr) || !isfinite(g->weight_decay))
            return pl__fail(PL_STATUS_VALUE, "%s: segments[%lld] has rate %g and decay %g, expected finite numbers",
                            a->name, (long long)s, g->lr, g->weight_decay);
        last = g->end;
    }
    last = 0;
    for (int64_t i = 0; i < a->weight_count; i++) {
        const pl_weight *w = &a->weights[i];
        int64_t values;
        if (w->begin < last || w->rows < 1 || w->columns < 1 || !pl__mul(w->rows, w->columns, &values) ||
            values > a->size - w->begin)
            return pl__fail(PL_STATUS_VALUE, "%s: weights[%lld] is %lld x %lld at %lld, expected to lie behind the one "
                            "before and within %lld values", a->name, (long long)i, (long long)w->rows,
                            (long long)w->columns, (long long)w->begin, (long long)a->size);
        last = w->begin + values;
    }
    return PL_STATUS_OK;
}

/* The cut is made twice: to count, and to fill. */
typedef struct cutting {
    pl__piece *pieces; /* NULL: count only */
    int64_t n;
} cutting;

static void add_piece(cutting *c, pl__piece piece)
{
    if (c->pieces) c->pieces[c->n] = piece;
    c->n++;
}

static void add_runs(cutting *c, int64_t segment, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i += RUN)
        add_piece(c, (pl__piece){i, i + RUN < end ? i + RUN : end, segment, -1, 0, 0});
}

static void cut(const pl__arena *a, cutting *c)
{
    int64_t next = 0;
    for (int64_t s = 0; s < a->count; s++) {
        const pl_segment *g = &a->segments[s];
        int64_t at = g->begin;
        while (next < a->weight_count && a->weights[next].begin < at) next++;
        for (; next < a->weight_count; next++) {
            const pl_weight *w = &a->weights[next];
            const int64_t end = w->begin + w->rows * w->columns;
            if (end > g->end) break;
            add_runs(c, s, at, w->begin);
            for (int64_t row = 0; row < w->rows; row += PL__TILE_ROWS)
                for (int64_t column = 0; column < w->columns; column += PL__TILE_COLUMNS)
                    add_piece(c, (pl__piece){w->begin, end, s, next, row, column});
            at = end;
        }
        add_runs(c, s, at, g->end);
    }
}

pl_status pl__arena_cut(const pl__arena *a, pl__piece **pieces, int64_t *n)
{
    cutting c = {0};
    cut(a, &c);
    PL__CHECK(pl__scratch(pieces, (size_t)c.n, sizeof **pieces));
    c = (cutting){.pieces = *pieces};
    cut(a, &c);
    *n = c.n;
    return PL_STATUS_OK;
}

typedef struct run {
    const pl_context *ctx;
    const pl__arena *arena;
    const pl__piece *pieces;
    pl__renewal *renewals;
    const float *values;
    pl__update update;
    const void *arg;
} run;

static void run_pieces(void *arg, int64_t begin, int64_t end)
{
    const run *r = arg;
    for (int64_t i = begin; i < end; i++) {
        const pl__piece *c = &r->pieces[i];
        const pl_segment *segment = &r->arena->segments[c->segment];
        if (c->weight < 0) {
            r->update(r->arg, segment, c->begin, 1, 0, c->end - c->begin);
            continue;
        }
        const pl_weight *w = &r->arena->weights[c->weight];
        const int64_t rows = w->rows - c->row < PL__TILE_ROWS ? w->rows - c->row : PL__TILE_ROWS;
        const int64_t n = w->columns - c->column < PL__TILE_COLUMNS ? w->columns - c->column : PL__TILE_COLUMNS;
        r->update(r->arg, segment, c->begin + c->row * w->columns + c->column, rows, w->columns, n);
        pl__renewal_tile(r->ctx, &r->renewals[c->weight], r->values + w->begin, c->row, rows, c->column, n);
    }
}

pl_status pl__arena_run(const pl_context *ctx, const pl__arena *given, const float *values, pl__update update,
                        const void *arg)
{
    pl_status status;
    pl__arena a = *given; /* with those weights that have forms to renew */
    pl__renewal *renewals = NULL;
    pl_weight *weights = NULL;
    pl__piece *pieces = NULL;
    int64_t n, taken = 0, s = 0, others = given->weight_count; /* weights without such forms, from there on */
    bool done = false;
    PL__TRY(pl__scratch(&renewals, (size_t)a.weight_count, sizeof *renewals));
    PL__TRY(pl__scratch(&weights, (size_t)a.weight_count, sizeof *weights));
    for (int64_t i = 0; i < given->weight_count; i++) {
        const pl_weight *w = &given->weights[i];
        while (s < a.count && a.segments[s].end < w->begin + w->rows * w->columns) s++;
        if (s == a.count || a.segments[s].begin > w->begin) continue;
        if (pl__renewal_take(w->pack, w->rows, w->columns, &renewals[taken]))
            weights[taken++] = *w;
        else
            weights[--others] = *w;
    }
    a.weights = weights, a.weight_count = taken;
    PL__TRY(pl__arena_cut(&a, &pieces, &n));
    run r = {ctx, &a, pieces, renewals, values, update, arg};
    pl__parallel_ranges(ctx, n, 1, run_pieces, &r);
    done = true;
done:
    for (int64_t i = 0; i < taken; i++) pl__renewal_end(weights[i].pack, weights[i].version, &renewals[i], done);
    for (int64_t i = others; done && i < given->weight_count; i++) pl_pack_renew(weights[i].pack, weights[i].version);
    pl_buffer_put(pieces);
    pl_buffer_put(weights);
    pl_buffer_put(renewals);
    return status;
}
