/* memory.c - the allocator front: counters, and a switch that makes the nth allocation fail. */
#include <stdlib.h>
#include <sys/mman.h>

#include "core.h"

#define ALIGNMENT 64
#define HUGE_FROM ((size_t)2 << 20)

pl_counters pl__counters;
static int64_t fail_countdown; /* 0 = off */
static int fail_persistent;

void pl_memory_fail_at(int64_t nth, int persistent)
{
    __atomic_store_n(&fail_persistent, persistent, __ATOMIC_RELAXED);
    __atomic_store_n(&fail_countdown, nth, __ATOMIC_RELAXED);
}

static bool must_fail(void)
{
    if (PL_LIKELY(__atomic_load_n(&fail_countdown, __ATOMIC_RELAXED) <= 0)) return false;
    if (__atomic_sub_fetch(&fail_countdown, 1, __ATOMIC_RELAXED) > 0) return false;
    if (__atomic_load_n(&fail_persistent, __ATOMIC_RELAXED)) __atomic_store_n(&fail_countdown, 1, __ATOMIC_RELAXED);
    return true;
}

static void count(size_t bytes)
{
    PL__COUNT(live_blocks, 1);
    PL__COUNT(live_bytes, (int64_t)bytes);
    PL__COUNT(allocations, 1);
}

static void uncount(size_t bytes)
{
    PL__COUNT(live_blocks, -1);
    PL__COUNT(live_bytes, -(int64_t)bytes);
}

void *pl__alloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - HUGE_FROM || must_fail()) return NULL;
    bytes = bytes ? (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    const size_t alignment = bytes >= HUGE_FROM ? HUGE_FROM : ALIGNMENT;
    void *data = NULL;
    if (posix_memalign(&data, alignment, bytes)) return NULL;
    if (bytes >= HUGE_FROM) madvise(data, bytes, MADV_HUGEPAGE); /* a wish: failure changes nothing */
    count(bytes);
    return data;
}

void pl__free(void *data, size_t bytes)
{
    if (!data) return;
    bytes = bytes ? (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1) : ALIGNMENT;
    uncount(bytes);
    free(data);
}

void *pl__small_alloc(size_t bytes)
{
    size_t total;
    if (__builtin_add_overflow(bytes, ALIGNMENT, &total) || must_fail()) return NULL;
    char *data = calloc(1, total);
    if (!data) return NULL;
    memcpy(data, &total, sizeof total);
    count(total);
    return data + 16;
}

void pl__small_free(void *data)
{
    if (!data) return;
    size_t total;
    memcpy(&total, (char *)data - 16, sizeof total);
    uncount(total);
    free((char *)data - 16);
}

void pl_counters_get(pl_counters *counters)
{
    const int64_t *from = (const int64_t *)&pl__counters;
    int64_t *to = (int64_t *)counters;
    for (size_t i = 0; i < sizeof *counters / sizeof *to; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
