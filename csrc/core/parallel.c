/* parallel.c - the only file with OpenMP pragmas. Nothing newer than GOMP 4.5, since PyTorch ships an older copy of
 * the runtime under the same name and whichever loads first serves both. */
#include <omp.h>

#include "core.h"

/* A region costs about a microsecond when the machine is idle and milliseconds when another process is busy, so work
 * below this many nanoseconds a thread stays on the calling thread. */
#define WORTH_A_THREAD 8000.0
static double worth_a_thread = WORTH_A_THREAD;

void pl__set_thread_worth(double nanoseconds) { worth_a_thread = nanoseconds > 0 ? nanoseconds : WORTH_A_THREAD; }

int64_t pl__grain(double nanoseconds)
{
    const double rows = worth_a_thread / (nanoseconds > 0.01 ? nanoseconds : 0.01);
    return rows < 1 ? 1 : (int64_t)rows;
}

static int threads_for(const pl_context *ctx, int64_t pieces, double nanoseconds)
{
    int threads = pl_context_threads(ctx);
    if (omp_in_parallel()) threads = 1;
    if (pieces < threads) threads = (int)(pieces < 1 ? 1 : pieces);
    return threads > 1 && pl__alone_is_better(threads, nanoseconds) ? 1 : threads;
}

int pl__parallel_ranges(const pl_context *ctx, int64_t n, int64_t grain, pl__range_fn fn, void *arg)
{
    if (n <= 0) return 1;
    if (grain < 1) grain = 1;
    const int64_t pieces = (n + grain - 1) / grain;
    const int threads = threads_for(ctx, pieces, (double)pieces * worth_a_thread);
    if (threads == 1) {
        fn(arg, 0, n);
        return 1;
    }
    int64_t begun = 0, done = 0; /* of the calling thread */
#pragma omp parallel num_threads(threads)
    {
        const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
        const int64_t begin = pieces * me / team * grain;
        int64_t end = pieces * (me + 1) / team * grain;
        if (end > n) end = n;
        if (me == 0) begun = pl__now();
        if (begin < end) fn(arg, begin, end);
        if (me == 0) done = pl__now();
    }
    pl__team_waited(pl__now() - done, done - begun);
    return threads;
}

void pl__parallel_tasks(const pl_context *ctx, int64_t n, double cost, pl__range_fn fn, void *arg)
{
    if (n <= 0) return;
    const double threads_worth = cost / worth_a_thread;
    const int64_t worth = threads_worth < (double)n ? (int64_t)threads_worth : n;
    const int threads = threads_for(ctx, worth, cost);
    if (threads == 1) {
        for (int64_t i = 0; i < n; i++) fn(arg, i, i + 1);
        return;
    }
    const int64_t begun = pl__now();
    int64_t latest = 0, done = 0, next = 0;
#pragma omp parallel num_threads(threads)
    {
        /* tasks differ: who waits for a long one is not late, who begins when the others are done is */
        const int64_t late = pl__now() - begun;
        for (int64_t i; (i = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED)) < n;) fn(arg, i, i + 1);
        if (omp_get_thread_num() == 0) done = pl__now();
        for (int64_t seen = __atomic_load_n(&latest, __ATOMIC_RELAXED); late > seen;)
            if (__atomic_compare_exchange_n(&latest, &seen, late, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) break;
    }
    pl__team_waited(latest, done - begun);
}

int pl__threads_enter(const pl_context *ctx, int *threads)
{
    const int previous = omp_get_max_threads(), due = omp_in_parallel() ? 1 : pl_context_threads(ctx);
    if (previous != due) omp_set_num_threads(due);
    *threads = due;
    return previous;
}

void pl__threads_leave(int previous)
{
    if (omp_get_max_threads() != previous) omp_set_num_threads(previous);
}
