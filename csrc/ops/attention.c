/* attention.c - attention over threads: tasks of one block of queries forward, of one key segment backward. */
#include <stdlib.h>

#include "attention.h"

/* A worker owns a slice of scratch and takes tasks from a common counter until none is left. */
typedef struct job {
    const pl__attention *a;
    const pl__attention_result *r;
    const pl__attention_gradient *g;
    const struct item *items;
    int64_t count, next, heads; /* task t is item t / heads, head t % heads */
    float *scratch;
    int64_t scratch_floats;
    const pl_simd *simd;
} job;

/* Forward: a block of queries. Backward: key segments [segment, segments). */
typedef struct item {
    pl__attention_task task;
    int64_t segment, segments;
    double cost;
} item;

static void work(void *arg, int64_t begin, int64_t end)
{
    job *j = arg;
    for (int64_t worker = begin; worker < end; worker++) {
        float *scratch = j->scratch + worker * j->scratch_floats;
        for (;;) {
            const int64_t t = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
            if (t >= j->count) break;
            const item *it = &j->items[t / j->heads];
            const int64_t head = t % j->heads;
            if (j->r)
                j->simd->attention_forward(j->a, &it->task, head, j->r, scratch);
            else
                for (int64_t s = it->segment; s < it->segments; s++)
                    j->simd->attention_backward(j->a, s, head, j->g, scratch);
        }
    }
}

static int dearest_first(const void *x, const void *y)
{
    const double a = ((const item *)x)->cost, b = ((const item *)y)->cost;
    return (a < b) - (a > b);
}

#define MULTIPLY_NS 0.02 /* a multiplication and addition costs about this */
#define TASK_NS 300.0

/* Deals the tasks out; items are sorted only where one of them could make the others wait. */
static pl_status run(const pl_context *ctx, job *j, item *items, int64_t n, int64_t heads)
{
    double total = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        total += items[i].cost;
        most = items[i].cost > most ? items[i].cost : most;
    }
    const int64_t tasks = n * heads, threads = pl_context_threads(ctx), workers = tasks < threads ? tasks : threads;
    if (!workers) return PL_STATUS_OK;
    if (most * 4.0 * (double)threads > total * (double)heads) qsort(items, (size_t)n, sizeof *items, dearest_first);
    int64_t floats;
    if (!pl__mul(workers, j->scratch_floats, &floats))
        return pl__fail(PL_STATUS_OVERFLOW, "attention: %lld floats of scratch for each of %lld threads are too many",
                        (long long)j->scratch_floats, (long long)workers);
    PL__CHECK(pl__scratch(&j->scratch, (size_t)floats, sizeof *j->scratch));
    j->simd = ctx->simd;
    j->items = items;
    j->count = tasks;
    j->heads = heads;
    pl__parallel_tasks(ctx, workers, total * (double)heads, work, j);
    pl_buffer_put(j->scratch);
    return PL_STATUS_OK;
}

static double pair_cost(const pl__attention *a, double queries, double keys)
{
    return queries * keys * (double)(a->dk + a->dv + 16) * MULTIPLY_NS;
}

pl_status pl__attention_forward(const pl_context *ctx, const pl__attention *a, const pl__attention_result *r)
{
    int64_t n = 0;
    for (int64_t b = 0; b < a->samples; b++) n += pl__block_count(pl__attention_queries(a, b), PL__QUERY_BLOCK);
    item *items;
    PL__CHECK(pl__scratch(&items, (size_t)n, sizeof *items));
    n = 0;
    for (int64_t b = 0; b < a->samples; b++) {
        const int64_t queries = pl__attention_queries(a, b), keys = pl__attention_keys(a, b);
        for (int64_t i = 0; i < pl__block_count(queries, PL__QUERY_BLOCK); i++, n++) {
            const int64_t begin = pl__block_begin(queries, PL__QUERY_BLOCK, 16, i);
            const int64_t count = pl__block_begin(queries, PL__QUERY_BLOCK, 16, i + 1) - begin;
            const int64_t hidden = a->causal && !a->q_time ? queries - begin - count : 0;
            items[n] = (item){.task = {b, begin, count}};
            items[n].cost = TASK_NS + pair_cost(a, (double)count, (double)(keys > hidden ? keys - hidden : 0));
        }
    }
    job j = {.a = a, .r = r, .scratch_floats = pl__attention_forward_floats(a)};
    const pl_status status = run(ctx, &j, items, n, a->heads);
    pl_buffer_put(items);
    return status;
}

int64_t pl__attention_most_keys(const pl__attention *a)
{
    int64_t most = 0;
    for (int64_t b = 0; b < a->samples; b++) {
        const int64_t keys = pl__attention_keys(a, b);
        most = keys > most ? keys : most;
    }
    return most;
}

/* Samples grouped by the segment they read, in their order within a group. */
static void group_samples(const pl__attention *a, int64_t *order, int64_t *first)
{
    memset(first, 0, (size_t)(a->segments + 1) * sizeof *first);
    for (int64_t b = 0; b < a->samples; b++) first[pl__attention_segment(a, b)]++;
    for (int64_t s = 0, at = 0; s <= a->segments; s++) { /* where each group ends ... */
        at += s < a->segments ? first[s] : 0;
        first[s] = at;
    }
    for (int64_t b = a->samples; b-- > 0;) order[--first[pl__attention_segment(a, b)]] = b; /* ... then begins */
}

pl_status pl__attention_backward(const pl_context *ctx, const pl__attention *a, pl__attention_gradient *g)
{
    pl_status status = PL_STATUS_OK;
    int64_t *groups = NULL;
    item *items = NULL;
    PL__TRY(pl__scratch(&groups, (size_t)(a->samples + a->segments + 1), sizeof *groups));
    PL__TRY(pl__scratch(&items, (size_t)a->segments, sizeof *items));
    group_samples(a, groups, groups + a->samples);
    g->order = groups;
    g->first = groups + a->samples;
    for (int64_t s = 0; s < a->segments; s++) {
        items[s] = (item){.segment = s, .segments = s + 1, .cost = TASK_NS};
        for (int64_t n = g->first[s]; n < g->first[s + 1]; n++) {
            const int64_t b = g->order[n];
            items[s].cost += 2.5 * pair_cost(a, (double)(pl__attention_queries(a, b) * (a->heads / a->kv_heads)),
                                             (double)pl__attention_keys(a, b));
        }
    }
    int64_t n = a->segments;
    if (g->dtable || g->drelative) { /* gradients that all samples share: one task a key head */
        for (int64_t s = 1; s < a->segments; s++) items[0].cost += items[s].cost;
        if (n) items[0].segments = a->segments, n = 1;
        if (g->dtable && !g->add_dtable)
            memset(g->dtable, 0, (size_t)(a->heads * a->table_rows * a->table_columns) * sizeof *g->dtable);
        if (g->drelative && !g->add_drelative)
            memset(g->drelative, 0, (size_t)(a->heads * a->relative_size) * sizeof *g->drelative);
    }
    job j = {.a = a, .g = g, .scratch_floats = pl__attention_backward_floats(a, pl__attention_most_keys(a))};
    PL__TRY(run(ctx, &j, items, n, a->kv_heads));
done:
    pl_buffer_put(items);
    pl_buffer_put(groups);
    return status;
}
