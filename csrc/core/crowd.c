/* crowd.c - notices that other processes want the processors.
 *
 * A team of threads is as quick as its last one, and a thread whose processor is taken comes back after milliseconds:
 * a region of ten microseconds then takes five hundred times as long. So a region that had to wait so much more than it
 * worked sends those that save less than such a wait back to the calling thread for a while, and for longer each time
 * in a row. Products, whose regions are the library's, are held against the best rate seen.
 *
 * It takes two late regions one after the other: a thread that slept meanwhile may come late to one. */
#define _GNU_SOURCE
#include <time.h>

#include "core.h"

#define LATE_NS 1500000      /* more than any hand-over of work takes when processors are free */
#define SMALL_NS 200000.0    /* work that one thread does about as soon */
#define SHORT_WAIT 2000000
#define LONG_WAIT 30000000
#define FIRST_PAUSE 20000000
#define LONGEST_PAUSE 160000000

static bool ignored;
static int late; /* regions in a row */
static int64_t crowded_until, lately_until, pause = FIRST_PAUSE, wait = SHORT_WAIT;
static double best_rates[PL_DTYPE_COUNT]; /* multiplications a nanosecond and thread, where there are several */

int64_t pl__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void pl__ignore_crowd(bool ignore) { __atomic_store_n(&ignored, ignore, __ATOMIC_RELAXED); }

bool pl__alone_is_better(int threads, double nanoseconds)
{
    /* what loses much on one thread tries again soon */
    const int64_t until = __atomic_load_n(nanoseconds < SMALL_NS ? &crowded_until : &lately_until, __ATOMIC_RELAXED);
    if (!until || __atomic_load_n(&ignored, __ATOMIC_RELAXED)) return false;
    const double saved = nanoseconds - nanoseconds / threads; /* by the team, if it did not wait */
    return saved < (double)__atomic_load_n(&wait, __ATOMIC_RELAXED) && pl__now() < until;
}

void pl__team_waited(int64_t waited, int64_t worked)
{
    if (waited < LATE_NS || waited < 2 * worked) {
        __atomic_store_n(&late, 0, __ATOMIC_RELAXED);
        if (waited < LATE_NS / 10) __atomic_store_n(&pause, FIRST_PAUSE, __ATOMIC_RELAXED);
        return;
    }
    if (__atomic_add_fetch(&late, 1, __ATOMIC_RELAXED) < 2) return;
    __atomic_store_n(&late, 0, __ATOMIC_RELAXED);
    const int64_t now = __atomic_load_n(&pause, __ATOMIC_RELAXED);
    __atomic_store_n(&crowded_until, pl__now() + now, __ATOMIC_RELAXED);
    __atomic_store_n(&lately_until, pl__now() + FIRST_PAUSE, __ATOMIC_RELAXED);
    const int64_t seen = waited < LONG_WAIT ? waited : LONG_WAIT;
    __atomic_store_n(&wait, seen < SHORT_WAIT ? SHORT_WAIT : seen, __ATOMIC_RELAXED);
    PL__COUNT(crowded, 1);
    __atomic_store_n(&pause, now * 2 < LONGEST_PAUSE ? now * 2 : LONGEST_PAUSE, __ATOMIC_RELAXED);
}

void pl__product_took(pl_dtype operands, double multiplications, int64_t nanoseconds)
{
    if (multiplications < 1e6 || nanoseconds < 1) return; /* small ones tell nothing */
    double best, rate = multiplications / (double)nanoseconds;
    __atomic_load(&best_rates[operands], &best, __ATOMIC_RELAXED);
    if (rate > best) {
        __atomic_store(&best_rates[operands], &rate, __ATOMIC_RELAXED);
        return;
    }
    /* shapes differ by less than that */
    const int64_t due = (int64_t)(2 * multiplications / best);
    pl__team_waited(nanoseconds - due, due);
}
