/* cache.c - a bounded cache of matmul primitives with the handles they execute with.
 *
 * Creating a primitive that oneDNN has cached costs 2 to 18 us and four memory handles 0.6 to 3 us, so both are kept.
 * One lock guards the table, another one the making of what goes into it. An entry that was evicted while in use dies
 * with its last user. */
#include <pthread.h>
#include <stdio.h>

#include "cache.h"

#define BUCKETS 1024
#define LIMIT 768      /* primitives kept */
#define SEEN_SLOTS 4096
#define RECENT 4096    /* products; a ragged batch's row count recurs too, but seldom: no primitive of its own then */

static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER, table = PTHREAD_MUTEX_INITIALIZER;
static pl__entry *buckets[BUCKETS];
static pl__entry *oldest, *newest;
static int64_t cached;
static uint64_t seen[SEEN_SLOTS];
static dnnl_engine_t engine;

pl_status pl__dnnl_status(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success) return PL_STATUS_OK;
    if (status == dnnl_out_of_memory) return pl__fail(PL_STATUS_MEMORY, "out of memory in oneDNN: %s", what);
    return pl__fail(PL_STATUS_RUNTIME, "oneDNN refused: %s (status %d)", what, (int)status);
}
#define D__TRY(call, what) PL__TRY(pl__dnnl_status((call), (what)))

pl_status pl__dnnl_engine(dnnl_engine_t *e)
{
    *e = __atomic_load_n(&engine, __ATOMIC_ACQUIRE);
    if (*e) return PL_STATUS_OK;
    PL__CHECK(pl__dnnl_status(dnnl_engine_create(e, dnnl_cpu, 0), "engine"));
    __atomic_store_n(&engine, *e, __ATOMIC_RELEASE);
    return PL_STATUS_OK;
}

void pl__table_lock(void) { pthread_mutex_lock(&table); }
void pl__table_unlock(void) { pthread_mutex_unlock(&table); }

static void before_fork(void)
{
    pthread_mutex_lock(&making);
    pthread_mutex_lock(&table);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&table);
    pthread_mutex_unlock(&making);
}

static void register_fork_handler(void) { pthread_atfork(before_fork, after_fork, after_fork); }

void pl__making_lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    pthread_mutex_lock(&making);
}

void pl__making_unlock(void) { pthread_mutex_unlock(&making); }

static uint64_t hash(const pl__key *key)
{
    const uint64_t *words = (const uint64_t *)key;
    uint64_t h = 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < sizeof *key / sizeof *words; i++) {
        h = (h ^ words[i]) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

static void destroy_handles(pl__handles *h)
{
    dnnl_memory_t all[] = {h->a, h->b, h->bias, h->residual, h->c, h->scratchpad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) dnnl_memory_destroy(all[i]);
    if (h->stream) dnnl_stream_destroy(h->stream);
    pl__small_free(h);
}

static void destroy_entry(pl__entry *e)
{
    while (e->spare) {
        pl__handles *next = e->spare->next;
        destroy_handles(e->spare);
        e->spare = next;
    }
    if (e->primitive) dnnl_primitive_destroy(e->primitive);
    if (e->owned_desc) dnnl_primitive_desc_destroy(e->owned_desc);
    pl__small_free(e);
}

static pl_status typed_md(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t row, int64_t col,
                          dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {rows, cols}, strides = {row, col};
    return pl__dnnl_status(dnnl_memory_desc_create_with_strides(md, 2, dims, type, strides), "memory descriptor");
}

static pl_status plain_md(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t row, int64_t col)
{
    return typed_md(md, rows, cols, row, col, dnnl_f32);
}

const dnnl_data_type_t pl__operand_types[PL_DTYPE_COUNT] = {
    [PL_DTYPE_F32] = dnnl_f32, [PL_DTYPE_BF16] = dnnl_bf16, [PL_DTYPE_S8] = dnnl_s8};

static const struct {
    dnnl_alg_kind_t kind;
    float alpha;
} eltwise[PL_ACT_COUNT] = {
    [PL_ACT_RELU] = {dnnl_eltwise_relu, 0},          [PL_ACT_GELU] = {dnnl_eltwise_gelu_erf, 0},
    [PL_ACT_GELU_TANH] = {dnnl_eltwise_gelu_tanh, 0}, [PL_ACT_QUICK_GELU] = {dnnl_eltwise_swish, 1.702f},
    [PL_ACT_SILU] = {dnnl_eltwise_swish, 1},         [PL_ACT_TANH] = {dnnl_eltwise_tanh, 0},
    [PL_ACT_SIGMOID] = {dnnl_eltwise_logistic, 0},
};

pl_status pl__matmul_desc(const pl__key *key, const_dnnl_memory_desc_t layout, dnnl_primitive_desc_t *desc)
{
    pl_status status;
    dnnl_engine_t e;
    dnnl_memory_desc_t a = NULL, b = NULL, bias = NULL, c = NULL, residual = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    PL__TRY(pl__dnnl_engine(&e));
    PL__TRY(typed_md(&a, key->m, key->k, key->a_row, key->a_col,
                    key->operands == PL_DTYPE_S8 ? dnnl_u8 : pl__operand_types[key->operands]));
    if (!key->packed) PL__TRY(typed_md(&b, key->k, key->n, key->b_row, key->b_col, pl__operand_types[key->operands]));
    if (key->bias) PL__TRY(plain_md(&bias, 1, key->n, key->n, 1));
    const dnnl_data_type_t result = key->result == PL_DTYPE_S8 ? dnnl_s32 : pl__operand_types[key->result];
    PL__TRY(typed_md(&c, key->m, key->n, key->c_row, 1, result));
    D__TRY(dnnl_primitive_attr_create(&attr), "attributes");
    D__TRY(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "scratchpad mode");
    D__TRY(dnnl_post_ops_create(&ops), "post-ops");
    if (key->accumulate) D__TRY(dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef), "sum post-op");
    if (key->activation)
        D__TRY(dnnl_post_ops_append_eltwise(ops, eltwise[key->activation].kind, eltwise[key->activation].alpha, 0),
               "activation post-op");
    if (key->residual) {
        PL__TRY(plain_md(&residual, key->m, key->n, key->residual_row, 1));
        D__TRY(dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual), "residual post-op");
    }
    D__TRY(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops");
    D__TRY(dnnl_matmul_primitive_desc_create(desc, e, a, key->packed ? layout : b, bias, c, attr), "matmul");
done:
    if (ops) dnnl_post_ops_destroy(ops);
    if (attr) dnnl_primitive_attr_destroy(attr);
    dnnl_memory_desc_t all[] = {a, b, bias, c, residual};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) dnnl_memory_desc_destroy(all[i]);
    return status;
}

static pl_status create_entry(const pl__key *key, const_dnnl_memory_desc_t layout, pl__entry **entry)
{
    pl_status status;
    const char *name = NULL;
    pl__entry *e = pl__small_alloc(sizeof *e);
    *entry = NULL;
    if (!e) return pl__fail(PL_STATUS_MEMORY, "out of memory: a cached primitive");
    e->key = *key;
    PL__TRY(pl__matmul_desc(key, layout, &e->owned_desc));
    D__TRY(dnnl_primitive_create(&e->primitive, e->owned_desc), "matmul primitive");
    e->desc = e->owned_desc;
    const_dnnl_memory_desc_t scratch = dnnl_primitive_desc_query_md(e->desc, dnnl_query_scratchpad_md, 0);
    e->scratchpad_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    D__TRY(dnnl_primitive_desc_query(e->desc, dnnl_query_impl_info_str, 0, &name), "implementation name");
    snprintf(e->implementation, sizeof e->implementation, "%s", name ? name : "?");
    PL__COUNT(primitives_created, 1);
    *entry = e;
    return PL_STATUS_OK;
done:
    destroy_entry(e);
    return status;
}

static pl_status create_handles(const pl__entry *e, pl__handles **handles)
{
    pl_status status;
    dnnl_engine_t eng;
    pl__handles *h = pl__small_alloc(sizeof *h);
    *handles = NULL;
    if (!h) return pl__fail(PL_STATUS_MEMORY, "out of memory: handles of a primitive");
    PL__TRY(pl__dnnl_engine(&eng));
    D__TRY(dnnl_stream_create(&h->stream, eng, dnnl_stream_default_flags), "stream");
#define HANDLE(field, query, index) \
    D__TRY(dnnl_memory_create(&h->field, dnnl_primitive_desc_query_md(e->desc, query, index), eng, NULL), "memory")
    HANDLE(a, dnnl_query_src_md, 0);
    HANDLE(b, dnnl_query_weights_md, 0);
    HANDLE(c, dnnl_query_dst_md, 0);
    if (e->key.bias) HANDLE(bias, dnnl_query_weights_md, 1);
    HANDLE(scratchpad, dnnl_query_scratchpad_md, 0);
#undef HANDLE
    if (e->key.residual) {
        dnnl_memory_desc_t md = NULL;
        PL__TRY(plain_md(&md, e->key.m, e->key.n, e->key.residual_row, 1));
        status = pl__dnnl_status(dnnl_memory_create(&h->residual, md, eng, NULL), "memory");
        dnnl_memory_desc_destroy(md);
        if (status) goto done;
    }
    *handles = h;
    return PL_STATUS_OK;
done:
    destroy_handles(h);
    return status;
}

static void unlink_age(pl__entry *e)
{
    if (e->older) e->older->newer = e->newer; else oldest = e->newer;
    if (e->newer) e->newer->older = e->older; else newest = e->older;
    e->older = e->newer = NULL;
}

static void link_newest(pl__entry *e)
{
    e->older = newest;
    if (newest) newest->newer = e; else oldest = e;
    newest = e;
}

static void count_cached(int change)
{
    cached += change;
    __atomic_store_n(&pl__counters.primitives_cached, cached, __ATOMIC_RELAXED);
}

static pl__entry *find(const pl__key *key)
{
    pl__entry *e = buckets[hash(key) % BUCKETS];
    while (e && memcmp(&e->key, key, sizeof *key)) e = e->next;
    return e;
}

/* Takes the oldest entry out of the table; returns it when nobody uses it, for destruction outside the mutex. */
static pl__entry *evict_oldest(void)
{
    pl__entry *e = oldest, **link = &buckets[hash(&e->key) % BUCKETS];
    while (*link != e) link = &(*link)->next;
    *link = e->next;
    unlink_age(e);
    count_cached(-1);
    e->evicted = true;
    return e->users ? NULL : e;
}

pl_status pl__entry_get(const pl__key *key, const_dnnl_memory_desc_t layout, pl__entry **entry, pl__handles **handles)
{
    pl_status status = PL_STATUS_OK;
    pl__entry *dead = NULL, *fresh = NULL;
    pl__table_lock();
    pl__entry *e = find(key);
    if (!e) {
        pl__table_unlock();
        pl__making_lock();
        status = create_entry(key, layout, &fresh);
        pl__making_unlock();
        PL__CHECK(status);
        pl__table_lock();
        e = find(key); /* another thread may have been faster */
        if (!e) {
            if (cached >= LIMIT) dead = evict_oldest();
            e = fresh;
            fresh = NULL;
            const uint64_t bucket = hash(key) % BUCKETS;
            e->next = buckets[bucket];
            buckets[bucket] = e;
            count_cached(1);
            link_newest(e);
        }
    }
    if (e != newest) {
        unlink_age(e);
        link_newest(e);
    }
    e->users++;
    pl__handles *h = e->spare;
    if (h) e->spare = h->next;
    pl__table_unlock();
    if (fresh) destroy_entry(fresh);
    if (dead) destroy_entry(dead);
    if (!h) status = create_handles(e, &h);
    if (status) {
        pl__entry_put(e, NULL);
        return status;
    }
    *entry = e;
    *handles = h;
    return PL_STATUS_OK;
}

void pl__entry_put(pl__entry *e, pl__handles *handles)
{
    pl__table_lock();
    if (handles) {
        handles->next = e->spare;
        e->spare = handles;
    }
    const bool dead = --e->users == 0 && e->evicted;
    pl__table_unlock();
    if (dead) destroy_entry(e);
}

bool pl__comes_again(const pl__key *key)
{
    static uint32_t clock;
    /* A slot holds 39 bits of the hash, whether the key came twice, and when it came last. */
    const uint64_t h = hash(key), tag = h >> 25 << 25, twice = (uint64_t)1 << 24, time = twice - 1;
    const uint64_t now = __atomic_add_fetch(&clock, 1, __ATOMIC_RELAXED) & time;
    uint64_t *slot = &seen[h % SEEN_SLOTS];
    const uint64_t before = __atomic_load_n(slot, __ATOMIC_RELAXED);
    const bool again = before >> 25 << 25 == tag && ((now - before) & time) < RECENT;
    __atomic_store_n(slot, tag | (again ? twice : 0) | now, __ATOMIC_RELAXED);
    return again && before & twice;
}

/* What `visit` does may come back here, or wait for who waits for the lock: it sees copies. */
pl_status pl__dnnl_each_implementation(void (*visit)(void *arg, const char *name, int64_t m, int64_t n, int64_t k),
                                       void *arg)
{
    struct {
        char name[sizeof((pl__entry *)0)->implementation];
        int64_t m, n, k;
    } *rows;
    PL__CHECK(pl__scratch(&rows, LIMIT, sizeof *rows));
    int64_t count = 0;
    pl__table_lock();
    for (const pl__entry *e = oldest; e && count < LIMIT; e = e->newer, count++) {
        memcpy(rows[count].name, e->implementation, sizeof rows[count].name);
        rows[count].m = e->key.m, rows[count].n = e->key.n, rows[count].k = e->key.k;
    }
    pl__table_unlock();
    for (int64_t i = 0; i < count; i++) visit(arg, rows[i].name, rows[i].m, rows[i].n, rows[i].k);
    pl_buffer_put(rows);
    return PL_STATUS_OK;
}

void pl__dnnl_drop_cache(void)
{
    for (int i = 0; i < SEEN_SLOTS; i++) __atomic_store_n(&seen[i], 0, __ATOMIC_RELAXED); /* as in a new process */
    for (;;) {
        pl__table_lock();
        const bool any = oldest != NULL;
        pl__entry *dead = any ? evict_oldest() : NULL;
        pl__table_unlock();
        if (!any) return;
        if (dead) destroy_entry(dead);
    }
}
