/* pool.c - recycled buffers.
 *
 * Fresh memory costs page faults, 8 to 16 % of a tower's forward pass, so tape values, saved tensors and scratch come
 * from here. Size classes: four an octave from 256 bytes, so at most a fifth of a buffer is unused. A buffer carries a
 * 64-byte head with its class; the free list of a class is linked through the heads. One mutex guards the lists. */
#include <pthread.h>
#include <stdio.h>

#include "core.h"

/* Sanitizer builds: only the bytes that were asked for may be touched, and none of a buffer in a list. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define FORBID(data, bytes) ASAN_POISON_MEMORY_REGION(data, bytes)
#define PERMIT(data, bytes) ASAN_UNPOISON_MEMORY_REGION(data, bytes)
#else
#define FORBID(data, bytes) ((void)(data), (void)(bytes))
#define PERMIT(data, bytes) ((void)(data), (void)(bytes))
#endif

#define HEAD 64
#define FIRST_LOG2 8 /* 256 bytes */
#define CLASSES (4 * 40)

typedef struct head {
    struct head *next;
    uint32_t class_index;
    uint32_t magic;
} head;

#define MAGIC_USED 0x504c4255u
#define MAGIC_FREE 0x504c4246u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static head *free_list[CLASSES];
static size_t cap = (size_t)4 << 30;

static size_t class_bytes(uint32_t index)
{
    return ((size_t)(4 + index % 4) << (index / 4 + FIRST_LOG2)) / 4;
}

static bool class_of(size_t bytes, uint32_t *index)
{
    uint32_t i = 0;
    if (bytes > 256) {
        const uint32_t octave = 63u - (uint32_t)__builtin_clzll(bytes - 1) - FIRST_LOG2;
        i = octave * 4;
    }
    while (i < CLASSES && class_bytes(i) < bytes) i++;
    *index = i;
    return i < CLASSES;
}

pl_status pl_buffer_get(size_t bytes, void **data)
{
    uint32_t index;
    *data = NULL;
    if (!class_of(bytes, &index))
        return pl__fail(PL_STATUS_MEMORY, "out of memory: a buffer of %zu bytes was asked for", bytes);
    const size_t size = class_bytes(index);
    pthread_mutex_lock(&mutex);
    head *h = free_list[index];
    if (h) {
        free_list[index] = h->next;
        PL__COUNT(pool_free_bytes, -(int64_t)size);
    }
    pthread_mutex_unlock(&mutex);
    if (!h) {
        h = pl__alloc(size + HEAD);
        if (!h) { /* what the pool keeps may be what is missing */
            pl_pool_trim();
            h = pl__alloc(size + HEAD);
        }
        if (!h) return pl__fail(PL_STATUS_MEMORY, "out of memory: a buffer of %zu bytes was asked for", bytes);
        h->class_index = index;
    }
    h->magic = MAGIC_USED;
    PL__COUNT(pool_used_bytes, (int64_t)size);
    PL__COUNT(pool_used_buffers, 1);
    *data = (char *)h + HEAD;
    PERMIT(*data, size);
#ifdef PL_POISON
    memset(*data, 0xff, size); /* NaN as float32: a read before a write shows */
#endif
    FORBID((char *)*data + bytes, size - bytes);
    return PL_STATUS_OK;
}

void pl_buffer_put(void *data)
{
    if (!data) return;
    head *h = (head *)((char *)data - HEAD);
    if (h->magic != MAGIC_USED) { /* a double put would corrupt the lists; leaking is the lesser evil */
        fprintf(stderr, "plait: a buffer was given back twice\n");
        return;
    }
    const size_t size = class_bytes(h->class_index);
    PL__COUNT(pool_used_bytes, -(int64_t)size);
    PL__COUNT(pool_used_buffers, -1);
    PERMIT(data, size);
#ifdef PL_POISON
    memset(data, 0xff, size);
#endif
    FORBID(data, size);
    h->magic = MAGIC_FREE;
    pthread_mutex_lock(&mutex);
    const bool keep = (size_t)pl__counters.pool_free_bytes + size <= cap;
    if (keep) {
        h->next = free_list[h->class_index];
        free_list[h->class_index] = h;
        PL__COUNT(pool_free_bytes, (int64_t)size);
    }
    pthread_mutex_unlock(&mutex);
    if (keep) return;
    PERMIT(data, size);
    pl__free(h, size + HEAD);
}

void pl_pool_trim(void)
{
    for (uint32_t i = 0; i < CLASSES; i++) {
        pthread_mutex_lock(&mutex);
        head *list = free_list[i];
        free_list[i] = NULL;
        for (head *h = list; h; h = h->next) PL__COUNT(pool_free_bytes, -(int64_t)class_bytes(i));
        pthread_mutex_unlock(&mutex);
        while (list) {
            head *next = list->next;
            PERMIT((char *)list + HEAD, class_bytes(i));
            pl__free(list, class_bytes(i) + HEAD);
            list = next;
        }
    }
}

void pl_pool_set_cap(size_t bytes)
{
    pthread_mutex_lock(&mutex);
    cap = bytes;
    const bool over = (size_t)pl__counters.pool_free_bytes > cap;
    pthread_mutex_unlock(&mutex);
    if (over) pl_pool_trim();
}

pl_status pl__scratch(void *pointer_to_pointer, size_t count, size_t item)
{
    size_t bytes;
    void *data;
    if (__builtin_mul_overflow(count, item, &bytes))
        return pl__fail(PL_STATUS_OVERFLOW, "scratch of %zu x %zu bytes is too large", count, item);
    pl_status status = pl_buffer_get(bytes, &data);
    memcpy(pointer_to_pointer, &data, sizeof data);
    return status;
}

/* Around fork, so that a child finds the lists whole and the mutex free. */
void pl__pool_lock(void) { pthread_mutex_lock(&mutex); }
void pl__pool_unlock(void) { pthread_mutex_unlock(&mutex); }
