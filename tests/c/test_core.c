/* test_core.c - the C core without Python: status, tensors, memory, context. Exit status 1 when a check failed. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../csrc/core/core.h" /* checked sizes */
#include "check.h"

/* ---------------------------------------------------------------- status and messages */

static void status_texts_follow_the_table(void)
{
    static const char *const due[] = {
#define PL__X(name, text, exception) [PL_STATUS_##name] = text,
        PL_STATUS_LIST(PL__X)
#undef PL__X
    };
    for (size_t i = 0; i < sizeof due / sizeof *due; i++) CHECK(!strcmp(pl_status_text((pl_status)i), due[i]));
    CHECK(PL_STATUS_OK == 0);
    CHECK(!strcmp(pl_status_text((pl_status)999), "unknown status"));
    CHECK(!strcmp(pl_status_text((pl_status)-1), "unknown status"));
}

static void *fail_elsewhere(void *seen)
{
    pl_tensor t;
    strcpy(seen, pl_error_message()); /* nothing has failed on this thread */
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, -3, NULL) == PL_STATUS_VALUE);
    CHECK(says("-3 dimensions"));
    return NULL;
}

static void a_message_belongs_to_its_thread(void)
{
    pl_tensor t;
    pthread_t thread;
    char seen[512] = "unset";
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, 99, NULL) == PL_STATUS_VALUE);
    CHECK(says("99 dimensions"));
    if (!CHECK(!pthread_create(&thread, NULL, fail_elsewhere, seen))) return;
    pthread_join(thread, NULL);
    CHECK(!strcmp(seen, ""));
    CHECK(says("99 dimensions"));
}

/* ---------------------------------------------------------------- tensors and sizes */

static void tensors_are_contiguous(void)
{
    float data[24];
    pl_tensor t;
    CHECK(!pl_tensor_init(&t, data, PL_DTYPE_F32, 3, (int64_t[]){2, 3, 4}));
    CHECK(t.data == data && t.ndim == 3 && t.shape[0] == 2 && t.shape[2] == 4);
    CHECK(t.strides[0] == 12 && t.strides[1] == 4 && t.strides[2] == 1);
    CHECK(pl_tensor_bytes(&t) == sizeof data);
    CHECK(!pl_tensor_init(&t, data, PL_DTYPE_I64, 0, NULL));
    CHECK(pl_tensor_bytes(&t) == 8);
    CHECK(!pl_tensor_init(&t, NULL, PL_DTYPE_U8, 2, (int64_t[]){0, 5}));
    CHECK(pl_tensor_bytes(&t) == 0);
    t.ndim = -1;
    CHECK(pl_tensor_bytes(&t) == 0);
    CHECK(pl_dtype_size(PL_DTYPE_BF16) == 2 && pl_dtype_size(PL_DTYPE_S8) == 1);
    CHECK(pl_dtype_size(PL_DTYPE_COUNT) == 0 && pl_dtype_size((pl_dtype)-1) == 0);
}

static void tensors_refuse_what_cannot_be(void)
{
    pl_tensor t;
    const int64_t big = (int64_t)1 << 40, most = INT64_MAX;
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, PL_MAX_DIMS + 1, NULL) == PL_STATUS_VALUE);
    CHECK(says("7 dimensions") && says("0 to 6"));
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, 2, (int64_t[]){big, big}) == PL_STATUS_OVERFLOW);
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, 1, &most) == PL_STATUS_OVERFLOW); /* elements fit, bytes do not */
    CHECK(!pl_tensor_init(&t, NULL, PL_DTYPE_U8, 1, &most));
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, 3, (int64_t[]){big, big, 0}) == PL_STATUS_OVERFLOW);
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_F32, 2, (int64_t[]){-1, 2}) != PL_STATUS_OK);
    CHECK(pl_tensor_init(&t, NULL, PL_DTYPE_COUNT, 1, (int64_t[]){2}) == PL_STATUS_TYPE);
}

static void sizes_are_checked(void)
{
    int64_t n = 0;
    void *data = &n;
    CHECK(pl__mul(3, 5, &n) && n == 15);
    CHECK(pl__mul(INT64_MAX, 1, &n) && n == INT64_MAX);
    CHECK(!pl__mul(INT64_MAX, 2, &n) && !pl__mul(-1, 2, &n) && !pl__mul(2, -1, &n));
    CHECK(pl__add(INT64_MAX - 1, 1, &n) && n == INT64_MAX);
    CHECK(!pl__add(INT64_MAX, 1, &n));
    CHECK(pl__scratch(&data, SIZE_MAX / 2, 4) == PL_STATUS_OVERFLOW);
    CHECK(pl_buffer_get(SIZE_MAX, &data) == PL_STATUS_MEMORY && !data);
    CHECK(says("18446744073709551615 bytes"));
    CHECK(pl_buffer_get((size_t)1 << 46, &data) == PL_STATUS_MEMORY && !data); /* more than an address space has */
}

/* ---------------------------------------------------------------- memory */

static void one_allocation_fails(void)
{
    pl_pack *first = NULL, *second = NULL, *third = NULL;
    const pl_counters before = counters();
    pl_memory_fail_at(2, 0);
    CHECK(!pl_pack_create(&first) && first);
    CHECK(pl_pack_create(&second) == PL_STATUS_MEMORY && !second);
    CHECK(says("out of memory"));
    CHECK(!pl_pack_create(&third) && third);
    pl_pack_destroy(first);
    pl_pack_destroy(third);
    /* A buffer is asked for again once the pool has given back what it keeps, so one failure is survived. */
    void *data = NULL;
    pl_pool_trim();
    pl_memory_fail_at(1, 0);
    CHECK(!pl_buffer_get(1000, &data) && data);
    pl_buffer_put(data);
    pl_pool_trim();
    CHECK(counters().live_blocks == before.live_blocks && counters().allocations == before.allocations + 3);
}

static void all_allocations_fail_until_switched_off(void)
{
    pl_pack *pack = NULL;
    pl_context *other = NULL;
    void *data = NULL;
    pl_pool_trim();
    pl_memory_fail_at(1, 1);
    for (int i = 0; i < 3; i++) {
        CHECK(pl_pack_create(&pack) == PL_STATUS_MEMORY && !pack);
        CHECK(pl_context_create(&other) == PL_STATUS_MEMORY && !other);
        CHECK(pl_buffer_get(1000, &data) == PL_STATUS_MEMORY && !data);
    }
    CHECK(says("1000 bytes"));
    pl_memory_fail_at(0, 0);
    CHECK(!pl_pack_create(&pack) && pack);
    pl_pack_destroy(pack);
}

static void pool_reuses_buffers_of_a_class(void)
{
    void *a = NULL, *b = NULL;
    pl_pool_trim();
    CHECK(!pl_buffer_get(1000, &a));
    CHECK((uintptr_t)a % 64 == 0);
    memset(a, 1, 1000);
    pl_buffer_put(a);
    const pl_counters before = counters();
    CHECK(!pl_buffer_get(1024, &b) && b == a); /* 897 to 1024 bytes are one class */
    pl_buffer_put(b);
    CHECK(!pl_buffer_get(896, &b) && b != a);
    pl_buffer_put(b);
    CHECK(counters().allocations == before.allocations + 1);
    CHECK(counters().pool_used_buffers == before.pool_used_buffers);
}

static void size_classes_waste_little(void)
{
    for (size_t bytes = 0; bytes < (size_t)8 << 20; bytes = bytes * 9 / 8 + 1) {
        void *data = NULL;
        const pl_counters before = counters();
        if (!CHECK(!pl_buffer_get(bytes, &data))) return;
        const size_t used = (size_t)(counters().pool_used_bytes - before.pool_used_bytes);
        CHECK((uintptr_t)data % 64 == 0);
        CHECK(used >= bytes && (used <= 256 || used <= bytes * 5 / 4));
        if (bytes) ((char *)data)[0] = ((char *)data)[bytes - 1] = 1;
        pl_buffer_put(data);
        CHECK(counters().pool_used_bytes == before.pool_used_bytes);
    }
}

static void pool_has_a_cap_and_can_be_trimmed(void)
{
    void *data[4];
    pl_pool_trim();
    const pl_counters empty = counters();
    CHECK(empty.pool_free_bytes == 0);
    for (int i = 0; i < 4; i++) CHECK(!pl_buffer_get(4096, &data[i]));
    CHECK(counters().live_blocks == empty.live_blocks + 4);
    pl_pool_set_cap(2 * 4096);
    for (int i = 0; i < 4; i++) pl_buffer_put(data[i]);
    CHECK(counters().pool_free_bytes == 2 * 4096); /* two are kept, two went back at once */
    CHECK(counters().live_blocks == empty.live_blocks + 2);
    pl_pool_set_cap(4096); /* less than the pool keeps now */
    CHECK(counters().pool_free_bytes <= 4096);
    pl_pool_trim();
    CHECK(counters().pool_free_bytes == 0);
    CHECK(counters().live_blocks == empty.live_blocks && counters().live_bytes == empty.live_bytes);
    pl_pool_set_cap((size_t)4 << 30);
    pl_buffer_put(NULL);
}

static void a_second_put_is_survived(void)
{
    void *data = NULL, *a = NULL, *b = NULL;
    char said[256] = "";
    FILE *file = tmpfile();
    const int console = dup(2);
    if (!CHECK(file && console >= 0)) return;
    CHECK(!pl_buffer_get(3000, &data));
    pl_buffer_put(data);
    const pl_counters before = counters();
    fflush(stderr);
    dup2(fileno(file), 2);
    pl_buffer_put(data);
    fflush(stderr);
    dup2(console, 2);
    close(console);
    rewind(file);
    CHECK(fgets(said, sizeof said, file) && strstr(said, "given back twice"));
    fclose(file);
    CHECK(counters().pool_used_buffers == before.pool_used_buffers);
    CHECK(counters().pool_free_bytes == before.pool_free_bytes);
    CHECK(!pl_buffer_get(3000, &a) && !pl_buffer_get(3000, &b)); /* it is in the list once */
    CHECK(a != b);
    pl_buffer_put(a);
    pl_buffer_put(b);
}

static void *put_elsewhere(void *data)
{
    pl_buffer_put(data);
    return NULL;
}

static void any_thread_may_give_a_buffer_back(void)
{
    void *data = NULL, *again = NULL;
    pthread_t thread;
    CHECK(!pl_buffer_get(5000, &data));
    if (!CHECK(!pthread_create(&thread, NULL, put_elsewhere, data))) return;
    pthread_join(thread, NULL);
    CHECK(!pl_buffer_get(5000, &again) && again == data);
    pl_buffer_put(again);
}

/* ---------------------------------------------------------------- context */

static char *with_environment(const char *name, const char *value)
{
    char *before = getenv(name) ? strdup(getenv(name)) : NULL;
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    return before;
}

static void context_keeps_its_threads(void)
{
    pl_context *c = NULL;
    CHECK(!pl_context_create(&c) && c);
    CHECK(!pl_context_set_threads(c, 3) && pl_context_threads(c) == 3);
    CHECK(pl_context_set_threads(c, 0) == PL_STATUS_VALUE && says("is 0, expected 1 to 1024"));
    CHECK(pl_context_set_threads(c, -1) == PL_STATUS_VALUE);
    CHECK(pl_context_set_threads(c, 1025) == PL_STATUS_VALUE);
    CHECK(pl_context_threads(c) == 3);
    pl_context_destroy(c);
    pl_context_destroy(NULL);
}

static void context_reads_the_environment(void)
{
    pl_context *c = NULL;
    char *threads = with_environment("OMP_NUM_THREADS", "5"), *isa = with_environment("PLAIT_MAX_ISA", "avx2");
    CHECK(!pl_context_create(&c) && pl_context_threads(c) == 5);
    CHECK(pl_context_isa(c) == PL_ISA_AVX2);
    pl_context_destroy(c);
    setenv("OMP_NUM_THREADS", "many", 1);
    setenv("PLAIT_MAX_ISA", "sse2", 1);
    CHECK(pl_context_create(&c) == PL_STATUS_VALUE && !c);
    CHECK(says("PLAIT_MAX_ISA is 'sse2'"));
    unsetenv("PLAIT_MAX_ISA");
    CHECK(!pl_context_create(&c) && pl_context_threads(c) >= 1);
    pl_context_destroy(c);
    free(with_environment("OMP_NUM_THREADS", threads));
    free(with_environment("PLAIT_MAX_ISA", isa));
    free(threads);
    free(isa);
}

static void onednn_is_named(void)
{
    int major = 0, minor = 0, patch = -1;
    CHECK(!pl_onednn_version(&major, &minor, &patch));
    CHECK(major == PL_ONEDNN_MAJOR && minor >= PL_ONEDNN_MINOR && patch >= 0);
    CHECK(access(pl_onednn_path(), R_OK) == 0);
    CHECK(!strcmp(pl_isa_name(PL_ISA_AVX512_BF16), "avx512_bf16") && !strcmp(pl_isa_name((pl_isa)77), "unknown"));
}

/* ---------------------------------------------------------------- a crowded machine */

static int64_t clock_ns = 1000000000000;
static void pass_ms(int64_t ms) { pl__set_now(clock_ns += ms * 1000000); }

/* A region that ends now. */
static void late(int64_t waited)
{
    pass_ms(waited / 1000000 + 1);
    pl__team_waited(waited, 10000);
}

static void small_work_stays_on_one_thread_while_others_are_late(void)
{
    pass_ms(0);
    CHECK(!pl__alone_is_better(2, 1e4));
    late(100000); /* a tenth of a millisecond is nothing */
    for (int i = 0; i < 2; i++, pass_ms(6)) pl__team_waited(3000000, 2500000); /* and so is waiting as one worked */
    CHECK(!pl__alone_is_better(2, 1e4));
    late(4000000);
    CHECK(!pl__alone_is_better(2, 1e4)); /* an accident */
    pl__product_took(PL_DTYPE_F32, 1e5, 4015000);
    CHECK(!pl__alone_is_better(2, 1e4)); /* the same one: the product of that region */
    pass_ms(101);
    late(4000000);
    CHECK(!pl__alone_is_better(2, 1e4)); /* and another one */
    late(1000); /* in time */
    late(4000000);
    CHECK(pl__alone_is_better(2, 1e4));
    CHECK(!pl__alone_is_better(2, 1e7)); /* large work gains from a second thread all the same */
    pass_ms(19);
    CHECK(pl__alone_is_better(2, 1e4));
    pass_ms(1);
    CHECK(!pl__alone_is_better(2, 1e4)); /* tried again */
    late(1000);
    late(4000000);
    pass_ms(39);
    CHECK(pl__alone_is_better(2, 1e4)); /* late again: a longer pause */
    CHECK(!pl__alone_is_better(2, 4e5)); /* but not for what loses more */
    pass_ms(1);
    CHECK(!pl__alone_is_better(2, 1e4));
    late(20000000);
    CHECK(pl__alone_is_better(2, 3e7) && !pl__alone_is_better(2, 5e7)); /* as long as less is saved than waited for */
    CHECK(pl__alone_is_better(16, 2e7) && !pl__alone_is_better(16, 3e7));
    for (int i = 0; i < 5; i++) late(4000000);
    pass_ms(159);
    CHECK(pl__alone_is_better(2, 1e4)); /* the longest pause */
    pass_ms(1);
    CHECK(!pl__alone_is_better(2, 1e4));
    pass_ms(600);
    late(4000000);
    CHECK(!pl__alone_is_better(2, 1e4)); /* long ago: an accident again, then a short pause */
    late(4000000);
    pass_ms(19);
    CHECK(pl__alone_is_better(2, 1e4));
    pass_ms(1);
    CHECK(!pl__alone_is_better(2, 1e4));
}

static void products_are_late_by_the_best_rate_of_their_kind(void)
{
    pass_ms(700);
    pl__product_took(PL_DTYPE_F32, 1e9, 10000000);
    pl__product_took(PL_DTYPE_F32, 1e9, 15000000);
    pl__product_took(PL_DTYPE_F32, 1e5, 1000000);
    pl__product_took(PL_DTYPE_S8, 1e9, 90000000); /* the first of its kind */
    pl__product_took(PL_DTYPE_S8, 1e9, 5000000);
    pl__product_took(PL_DTYPE_F32, 1e9, 55000000); /* shapes differ */
    CHECK(!pl__alone_is_better(2, 1e4));
    pl_counters before, after;
    pl_counters_get(&before);
    pl__product_took(PL_DTYPE_F32, 1e9, 90000000);
    CHECK(!pl__alone_is_better(2, 1e4));
    pass_ms(5);
    pl__product_took(PL_DTYPE_F32, 1e5, 4000000); /* small ones, too */
    pl_counters_get(&after);
    CHECK(pl__alone_is_better(2, 1e4) && after.crowded == before.crowded + 1);
    pl__ignore_crowd(true);
    CHECK(!pl__alone_is_better(2, 1e4));
    pl__ignore_crowd(false);
    CHECK(pl__alone_is_better(2, 1e4));
    pass_ms(700);
    pl__product_took(PL_DTYPE_BF16, 1e6, 90000000); /* the first of its kind, but no processor is so slow */
    pass_ms(91);
    pl__product_took(PL_DTYPE_BF16, 1e6, 90000000);
    CHECK(pl__alone_is_better(2, 1e4));
    pl__set_now(0);
}

/* Who waits for the longest of a few tasks has not been kept waiting. */
static pthread_t caller;
static void long_for_others(void *arg, int64_t begin, int64_t end)
{
    (void)arg, (void)begin, (void)end;
    const struct timespec t = {0, pthread_equal(pthread_self(), caller) ? 1000000 : 20000000};
    nanosleep(&t, NULL);
}

static void unequal_tasks_are_no_crowd(void)
{
    pl_context ctx = {.threads = 2};
    pl_counters before, after;
    int tries = 0;
    caller = pthread_self();
    do { /* again, since other processes may really come between */
        pl_counters_get(&before);
        for (int i = 0; i < 4; i++) pl__parallel_tasks(&ctx, 2, 1e9, long_for_others, NULL);
        pl_counters_get(&after);
    } while (after.crowded != before.crowded && ++tries < 8);
    CHECK(after.crowded == before.crowded);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(120); /* a hang is a failure */
    RUN(status_texts_follow_the_table);
    RUN(a_message_belongs_to_its_thread);
    RUN(tensors_are_contiguous);
    RUN(tensors_refuse_what_cannot_be);
    RUN(sizes_are_checked);
    RUN(one_allocation_fails);
    RUN(all_allocations_fail_until_switched_off);
    RUN(pool_reuses_buffers_of_a_class);
    RUN(size_classes_waste_little);
    RUN(pool_has_a_cap_and_can_be_trimmed);
    RUN(a_second_put_is_survived);
    RUN(any_thread_may_give_a_buffer_back);
    RUN(context_keeps_its_threads);
    RUN(context_reads_the_environment);
    RUN(small_work_stays_on_one_thread_while_others_are_late);
    RUN(products_are_late_by_the_best_rate_of_their_kind);
    RUN(unequal_tasks_are_no_crowd);
    RUN(onednn_is_named);
    pl_pool_trim();
    CHECK(counters().live_blocks == 0 && counters().live_bytes == 0);
    CHECK(counters().pool_used_buffers == 0 && counters().pool_used_bytes == 0);
    return failures != 0;
}
