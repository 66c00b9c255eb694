/* crowd.c - notices that other processes want the processors.
 *
 * A team of threads is as quick as its last one, and a thread whose processor is taken comes back after milliseconds:
 * a region of ten microseconds then takes five hundred times as long. So a region that had to wait so much more than it
 * worked sends those that save less than such a wait back to the calling thread for a while, and for longer each time
 * in a row. Products, whose regions are the library's, are held against the best rate seen, or a poor one at first.
 *
 * One late region is an accident, two of them soon after one another are not, whatever came in time between them: a
 * thread that was just given a processor is in time for as long as it keeps it. */
#define _GNU_SOURCE
#include <time.h>

#include "core.h"

#define LATE_NS 1500000      /* more than any hand-over of work takes when processors are free */
#define SOON_NS 100000000    /* between two late regions */
#define CALM_NS 600000000    /* without a late region: the next ones count anew */
#define SMALL_NS 200000.0    /* work that one thread does about as soon */
#define SHORT_WAIT 2000000
#define LONG_WAIT 30000000
#define FIRST_PAUSE 20000000
#define LONGEST_PAUSE 160000000
#define POOR_RATE 4.0        /* of products, far below that of any processor with these instructions */

static bool ignored;
static int64_t last_late = -CALM_NS, crowded_until, lately_until, pause, wait = SHORT_WAIT;
static double best_rates[PL_DTYPE_COUNT]; /* multiplications a nanosecond and thread, where there are several */

static int64_t told;
void pl__set_now(int64_t nanoseconds) { told = nanoseconds; }

int64_t pl__now(void)
{
    struct timespec t;
    if (told) return told;
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
    if (waited < LATE_NS || waited < 2 * worked) return;
    const int64_t now = pl__now(), since = now - __atomic_exchange_n(&last_late, now, __ATOMIC_RELAXED);
    if (since < waited) return; /* the same accident, told by another region that it came upon */
    int64_t length = since < CALM_NS ? __atomic_load_n(&pause, __ATOMIC_RELAXED) : 0;
    if (!length && since > SOON_NS) {
        __atomic_store_n(&pause, 0, __ATOMIC_RELAXED);
        return;
    }
    if (!length) length = FIRST_PAUSE;
    __atomic_store_n(&crowded_until, now + length, __ATOMIC_RELAXED);
    __atomic_store_n(&lately_until, now + FIRST_PAUSE, __ATOMIC_RELAXED);
    const int64_t seen = waited < LONG_WAIT ? waited : LONG_WAIT;
    __atomic_store_n(&wait, seen < SHORT_WAIT ? SHORT_WAIT : seen, __ATOMIC_RELAXED);
    PL__COUNT(crowded, 1);
    __atomic_store_n(&pause, length * 2 < LONGEST_PAUSE ? length * 2 : LONGEST_PAUSE, __ATOMIC_RELAXED);
}

void pl__product_took(pl_dtype operands, double multiplications, int64_t nanoseconds)
{
    if (nanoseconds < 1) return;
    double best, rate = multiplications / (double)nanoseconds;
    __atomic_load(&best_rates[operands], &best, __ATOMIC_RELAXED);
    if (best < POOR_RATE) best = POOR_RATE;
    if (rate > best) {
        if (multiplications >= 1e6) __atomic_store(&best_rates[operands], &rate, __ATOMIC_RELAXED); /* small ones vary */
        return;
    }
    /* shapes differ by less than that */
    const int64_t due = (int64_t)(2 * multiplications / best);
    pl__team_waited(nanoseconds - due, due);
}
