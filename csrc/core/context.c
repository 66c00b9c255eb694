/* context.c - threads and instruction set, and what happens to them after fork. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core.h"

#define MAX_THREADS 1024

static bool forked;
bool pl__forked(void) { return __atomic_load_n(&forked, __ATOMIC_RELAXED); }

/* GNU OpenMP's team does not survive fork: the child's next parallel region would wait for ever. One thread works. */
static void after_fork_in_child(void)
{
    __atomic_store_n(&forked, true, __ATOMIC_RELAXED);
    pl__pool_unlock();
}

static void register_fork_handler(void) { pthread_atfork(pl__pool_lock, pl__pool_unlock, after_fork_in_child); }

static const char *const isa_names[] = {"none", "avx2", "avx512", "avx512_bf16", "amx"};
const char *pl_isa_name(pl_isa isa) { return (unsigned)isa <= PL_ISA_AMX ? isa_names[isa] : "unknown"; }

/* AMX: the processor has tiles, for bfloat16 and int8, and this process may use them. The system keeps tiles when it
 * switches threads, which the processor's XCR0 tells, but finds the 8 KB a thread for processes only that ask before
 * their first tile, and may refuse. */
static bool has_tiles(void)
{
    enum { BF16 = 22, TILES = 24, INT8 = 25 };                         /* of leaf 7 */
    enum { ASK_FOR_STATE = 0x1023, TILE_SHAPES = 17, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of <asm/prctl.h> */
    const uint32_t all = 1u << BF16 | 1u << TILES | 1u << INT8, both = 1u << TILE_SHAPES | 1u << TILE_DATA;
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & all) != all) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & both) == both && syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) == 0;
}

/* Nothing above `limit` is asked for. */
static pl_isa detect_isa(pl_isa limit)
{
    __builtin_cpu_init();
    pl_isa isa = PL_ISA_NONE;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isa = PL_ISA_AVX2;
    if (isa && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        isa = PL_ISA_AVX512;
        if (__builtin_cpu_supports("avx512bf16")) isa = PL_ISA_AVX512_BF16;
        if (isa == PL_ISA_AVX512_BF16 && limit >= PL_ISA_AMX && has_tiles()) isa = PL_ISA_AMX;
    }
    return isa < limit ? isa : limit;
}

static pl_status wanted_isa(pl_isa *isa)
{
    const char *text = getenv("PLAIT_MAX_ISA");
    *isa = PL_ISA_AMX;
    if (!text || !*text) return PL_STATUS_OK;
    for (int i = PL_ISA_AVX2; i <= PL_ISA_AMX; i++)
        if (!strcmp(text, isa_names[i])) {
            *isa = (pl_isa)i;
            return PL_STATUS_OK;
        }
    return pl__fail(PL_STATUS_VALUE, "PLAIT_MAX_ISA is '%s', expected avx2, avx512, avx512_bf16 or amx", text);
}

static int default_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    if (text) {
        const long n = strtol(text, NULL, 10);
        if (n >= 1 && n <= MAX_THREADS) return (int)n;
    }
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    return 1;
}

pl_status pl_context_create(pl_context **context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    *context = NULL;
    pl_isa limit;
    PL__CHECK(wanted_isa(&limit));
    const pl_isa isa = detect_isa(limit);
    if (!isa) return pl__fail(PL_STATUS_UNSUPPORTED, "plait needs a processor with AVX2 and FMA");
    PL__CHECK(pl__dnnl_start(limit)); /* not isa: what the library knows beyond it is welcome, VNNI for one */
    pl_context *c = pl__small_alloc(sizeof *c);
    if (!c) return pl__fail(PL_STATUS_MEMORY, "out of memory: a context was asked for");
    pthread_once(&once, register_fork_handler);
    c->threads = default_threads();
    c->isa = isa;
    c->vnni = isa >= PL_ISA_AVX512 && limit > PL_ISA_AVX512 && __builtin_cpu_supports("avx512vnni");
    c->simd = pl__simd_table(isa);
    *context = c;
    return PL_STATUS_OK;
}

void pl_context_destroy(pl_context *context) { pl__small_free(context); }

pl_status pl_context_set_threads(pl_context *context, int threads)
{
    if (threads < 1 || threads > MAX_THREADS)
        return pl__fail(PL_STATUS_VALUE, "set_num_threads: n is %d, expected 1 to %d", threads, MAX_THREADS);
    __atomic_store_n(&context->threads, threads, __ATOMIC_RELAXED);
    return PL_STATUS_OK;
}

int pl_context_threads(const pl_context *context)
{
    return pl__forked() ? 1 : __atomic_load_n(&context->threads, __ATOMIC_RELAXED);
}

pl_isa pl_context_isa(const pl_context *context) { return context->isa; }

int pl_context_has(const pl_context *context, pl_dtype dtype)
{
    if (dtype == PL_DTYPE_BF16) return context->isa >= PL_ISA_AVX512_BF16;
    if (dtype == PL_DTYPE_S8) return context->vnni;
    return dtype == PL_DTYPE_F32;
}
