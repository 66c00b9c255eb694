/* crowd.c - notices that other processes want the processors.
 *
 * A team of threads is as quick as its last one, and a thread whose processor is taken comes back after milliseconds:
 * a region of ten microseconds then takes five hundred times as long. So a region that had to wait so much more than it
 * worked sends small ones back to the calling thread for a while, and for longer each time in a row. */
#define _GNU_SOURCE
#include <time.h>

#include "core.h"

#define LATE_NS 1500000      /* more than any hand-over of work takes when processors are free */
#define SMALL_NS 2000000.0   /* work that loses little on one thread */
#define FIRST_PAUSE 20000000
#define LONGEST_PAUSE 320000000

static int64_t crowded_until, pause = FIRST_PAUSE;

int64_t pl__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bool pl__alone_is_better(double nanoseconds)
{
    const int64_t until = __atomic_load_n(&crowded_until, __ATOMIC_RELAXED);
    return until && nanoseconds < SMALL_NS && pl__now() < until;
}

void pl__team_waited(int64_t waited, int64_t worked)
{
    if (waited < LATE_NS || waited < 2 * worked) {
        if (waited < LATE_NS / 10) __atomic_store_n(&pause, FIRST_PAUSE, __ATOMIC_RELAXED);
        return;
    }
    const int64_t now = __atomic_load_n(&pause, __ATOMIC_RELAXED);
    __atomic_store_n(&crowded_until, pl__now() + now, __ATOMIC_RELAXED);
    __atomic_store_n(&pause, now * 2 < LONGEST_PAUSE ? now * 2 : LONGEST_PAUSE, __ATOMIC_RELAXED);
}
