/* test_tiles.c - products of pairs of bfloat16 by tiles, and attention on them. With arrays in place of AMX's tiles
 * every processor with AVX512_BF16 checks what surrounds the instructions; one that has tiles does all with them as
 * well, and both must give the same bits. Exit status 1 when a check failed. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../csrc/core/core.h"
#include "../../csrc/ops/attention.h"
#include "check.h"

#include "array_tiles.h"

static pl_isa isa; /* of this machine */

static bool able(void)
{
    if (isa < PL_ISA_AVX512_BF16) puts("     nothing was checked: this processor has no AVX512_BF16");
    return isa >= PL_ISA_AVX512_BF16;
}

/* ---------------------------------------------------------------- memory that ends where it ends */

enum { GARBAGE = 0x7fc17fc1 }; /* a float and a pair of bfloat16 that are NaN */

typedef struct block {
    float *at;
    void *pages;
    size_t bytes;
} block;

/* n floats of garbage; the page behind them faults, as does an instruction that the sanitizers do not see. */
static block block_of(int64_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), used = ((size_t)n * sizeof(float) + page - 1) / page * page;
    block b = {.bytes = used + page};
    b.pages = mmap(NULL, b.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.pages == MAP_FAILED || mprotect((char *)b.pages + used, page, PROT_NONE)) {
        perror("mmap");
        _exit(1);
    }
    b.at = (float *)((char *)b.pages + used) - n;
    const int32_t garbage = GARBAGE;
    for (int64_t i = 0; i < n; i++) memcpy(b.at + i, &garbage, sizeof garbage);
    return b;
}

static void block_free(block b) { munmap(b.pages, b.bytes); }

static bool is_garbage(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits == GARBAGE;
}

static uint64_t noise_state = 7;
static float noise(void)
{
    noise_state = noise_state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(noise_state >> 32) / 2147483648.0f;
}

/* ---------------------------------------------------------------- products */

typedef struct shape {
    int64_t m, n, k;
    bool by_columns, add;
} shape;

/* Two numbers of bfloat16 in the place of a float, and both of them. */
static float noisy_pair(void)
{
    uint32_t first, second;
    const float x = noise(), y = noise();
    memcpy(&first, &x, sizeof first);
    memcpy(&second, &y, sizeof second);
    second = (second & 0xFFFF0000) | first >> 16;
    float pair;
    memcpy(&pair, &second, sizeof pair);
    return pair;
}

static double one_of(float pair, int which)
{
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    bits = which ? bits & 0xFFFF0000 : bits << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Rows lie a little further apart than they are wide, and between them is garbage, which no sum takes in and
 * which stays. */
static void compare_product(const shape *s)
{
    const int64_t a_row = (s->by_columns ? s->m : s->k) + 3, b_row = s->n + 5, c_row = s->n + 7;
    const int64_t a_rows = s->by_columns ? s->k : s->m, a_width = a_row - 3;
    const block a = block_of((a_rows - 1) * a_row + a_width), b = block_of((s->k - 1) * b_row + s->n);
    const block c = block_of((s->m - 1) * c_row + s->n), first = block_of((s->m - 1) * c_row + s->n);
    const size_t bytes = (size_t)((s->m - 1) * c_row + s->n) * sizeof(float);
    for (int64_t i = 0; i < a_rows; i++)
        for (int64_t l = 0; l < a_width; l++) a.at[i * a_row + l] = noisy_pair();
    for (int64_t l = 0; l < s->k; l++)
        for (int64_t j = 0; j < s->n; j++) b.at[l * b_row + j] = noisy_pair();
    float *before = malloc((size_t)(s->m * s->n) * sizeof *before);
    for (int64_t i = 0; i < s->m * s->n; i++) before[i] = noise();

    for (int kind = 0; kind <= (isa >= PL_ISA_AMX); kind++) {
        int64_t wrong = 0, spoilt = 0;
        real = kind;
        for (int64_t i = 0; i < s->m && s->add; i++)
            memcpy(c.at + i * c_row, before + i * s->n, (size_t)s->n * sizeof *before);
        multiply(s->by_columns, s->m, s->n, s->k, a.at, a_row, b.at, b_row, c.at, c_row, s->add);
        for (int64_t i = 0; i < s->m; i++) {
            for (int64_t j = 0; j < s->n; j++) {
                double sum = s->add ? before[i * s->n + j] : 0, size = fabs(sum);
                for (int64_t l = 0; l < s->k; l++)
                    for (int half = 0; half < 2; half++) {
                        const float x = a.at[s->by_columns ? l * a_row + i : i * a_row + l];
                        const double product = one_of(x, half) * one_of(b.at[l * b_row + j], half);
                        sum += product, size += fabs(product);
                    }
                wrong += !(fabs(c.at[i * c_row + j] - sum) <= (double)(s->k + 4) * 0x1p-24 * size);
            }
            for (int64_t j = s->n; i + 1 < s->m && j < c_row; j++) spoilt += !is_garbage(c.at[i * c_row + j]);
        }
        if (!kind) memcpy(first.at, c.at, bytes);
        if (!CHECK(!wrong && !spoilt && !memcmp(first.at, c.at, bytes)))
            fprintf(stderr, "    %s: (%lld, %lld) = A (k = %lld) B, by columns %d, add %d: %lld wrong, %lld spoilt\n",
                    real ? "tiles" : "arrays", (long long)s->m, (long long)s->n, (long long)s->k, s->by_columns, s->add,
                    (long long)wrong, (long long)spoilt);
    }
    free(before);
    block_free(a), block_free(b), block_free(c), block_free(first);
}

static void products_equal_loops(void)
{
    static const int64_t ms[] = {1, 4, 5, 15, 16, 17, 31, 32, 33, 50, 64, 77};
    static const int64_t ns[] = {16, 32, 48, 64, 80, 96, 144, 272};
    static const int64_t ks[] = {1, 2, 3, 4, 8, 15, 16, 17, 20, 32, 39, 48, 99, 128, 129, 150};
    if (!able()) return;
    for (size_t i = 0, turn = 0; i < sizeof ms / sizeof *ms; i++)
        for (size_t l = 0; l < sizeof ks / sizeof *ks; l++)
            for (int bits = 0; bits < 4; bits++, turn++) {
                const int64_t n = ns[turn / 4 % (l % 4 ? 4 : sizeof ns / sizeof *ns)]; /* wide ones now and then */
                compare_product(&(shape){.m = ms[i], .n = n, .k = ks[l], .by_columns = bits & 1, .add = bits & 2});
            }
}

/* ---------------------------------------------------------------- attention */

typedef struct sizes {
    int64_t queries, keys, heads, kv_heads, dk, dv;
    bool causal, biased;
    double dropout;
} sizes;

/* Everything that attention reads and writes, for two samples; the second one is smaller. */
enum { Q, K, V, TABLE, DOUT, OUT, LSE, DQ, DK, DV, DTABLE, ARRAYS };
typedef struct attention {
    block array[ARRAYS];
    int64_t count[ARRAYS], q_offsets[3], kv_offsets[3];
    pl__attention a;
} attention;

static void attention_new(attention *t, const sizes *s)
{
    const int64_t q = s->queries, k = s->keys, gap = 3;
    *t = (attention){.q_offsets = {0, q, q + (q + 1) / 2}, .kv_offsets = {0, k, k + (k + 1) / 2}};
    const int64_t rows[2] = {t->q_offsets[2], t->kv_offsets[2]};
    const int64_t q_row = s->heads * s->dk + gap, out_row = s->heads * s->dv, k_row = s->kv_heads * s->dk + gap;
    const int64_t v_row = s->kv_heads * s->dv + gap, table = s->biased ? s->heads * q * k : 0;
    const int64_t count[ARRAYS] = {rows[0] * q_row - gap, rows[1] * k_row - gap, rows[1] * v_row - gap, table,
                                   rows[0] * out_row, rows[0] * out_row, rows[0] * s->heads, rows[0] * q_row - gap,
                                   rows[1] * k_row - gap, rows[1] * v_row - gap, table};
    for (int i = 0; i < ARRAYS; i++) t->count[i] = count[i], t->array[i] = block_of(count[i]);
    const int64_t row[] = {q_row, k_row, v_row}, width[] = {q_row - gap, k_row - gap, v_row - gap};
    for (int i = 0; i < 3; i++)
        for (int64_t at = 0; at < count[i]; at++)
            if (at % row[i] < width[i]) t->array[i].at[at] = 2 * noise(); /* and garbage between rows */
    for (int64_t at = 0; at < count[TABLE]; at++) t->array[TABLE].at[at] = noise();
    for (int64_t at = 0; at < count[DOUT]; at++) t->array[DOUT].at[at] = noise();
    t->a = (pl__attention){
        .samples = 2, .segments = 2, .heads = s->heads, .kv_heads = s->kv_heads, .dk = s->dk, .dv = s->dv,
        .q_begin = t->q_offsets, .q_end = t->q_offsets + 1, .kv_begin = t->kv_offsets, .kv_end = t->kv_offsets + 1,
        .q = t->array[Q].at, .k = t->array[K].at, .v = t->array[V].at, .q_row = q_row, .k_row = k_row, .v_row = v_row,
        .scale = 1.0f / sqrtf((float)s->dk), .bf16 = true, .causal = s->causal, .dropout = s->dropout, .key = 5,
        .table = s->biased ? t->array[TABLE].at : NULL, .table_rows = q, .table_columns = k};
}

/* Forward and backward by a table; copies of the results, one behind the other, are the caller's. */
static float *attention_results(attention *t, const pl_simd *simd, int64_t *n)
{
    const pl_context ctx = {.threads = 2, .isa = simd->isa, .simd = simd};
    float *const *at = (float *const[]){t->array[OUT].at, t->array[LSE].at};
    const pl__attention_result r = {.out = at[0], .out_row = t->a.heads * t->a.dv, .lse = at[1]};
    pl__attention_gradient g = {
        .out = at[0], .out_row = r.out_row, .lse = at[1], .dout = t->array[DOUT].at, .dout_row = r.out_row,
        .dq = t->array[DQ].at, .dk = t->array[DK].at, .dv = t->array[DV].at, .dq_row = t->a.q_row,
        .dk_row = t->a.k_row, .dv_row = t->a.v_row, .dtable = t->a.table ? t->array[DTABLE].at : NULL};
    CHECK(!pl__attention_forward(&ctx, &t->a, &r));
    CHECK(!pl__attention_backward(&ctx, &t->a, &g));
    *n = 0;
    for (int i = OUT; i < ARRAYS; i++) *n += t->count[i];
    float *all = malloc((size_t)*n * sizeof *all), *to = all;
    for (int i = OUT; i < ARRAYS; i++) {
        memcpy(to, t->array[i].at, (size_t)t->count[i] * sizeof *to);
        to += t->count[i];
    }
    return all;
}

/* The largest difference of each result over its largest value; garbage between rows must be in both. */
static double largest_difference(const attention *t, const float *x, const float *y)
{
    double worst = 0;
    for (int i = OUT; i < ARRAYS; i++) {
        double difference = 0, size = 1e-30;
        for (int64_t j = 0; j < t->count[i]; j++, x++, y++) {
            if (is_garbage(*x) && is_garbage(*y)) continue;
            if (*x == INFINITY && *y == INFINITY) continue; /* the lse of no key */
            if (!(fabsf(*x - *y) < INFINITY)) return INFINITY;
            difference = fmax(difference, fabsf(*x - *y));
            size = fmax(size, fabsf(*y));
        }
        worst = fmax(worst, difference / size);
    }
    return worst;
}

static void compare_attention(const sizes *s)
{
    attention t;
    int64_t n;
    attention_new(&t, s);
    float *due = attention_results(&t, pl__simd_table(PL_ISA_AVX2), &n);
    real = false;
    float *arrays = attention_results(&t, &tile_table, &n);
    const double difference = largest_difference(&t, arrays, due);
    bool fine = CHECK(difference < 0x1p-8); /* a sum in another order may be rounded to another bfloat16 */
    if (isa >= PL_ISA_AMX) {
        real = true;
        float *here = attention_results(&t, &tile_table, &n), *house = attention_results(&t, pl__simd_table(isa), &n);
        fine &= CHECK(!memcmp(here, arrays, (size_t)n * sizeof *here));
        fine &= CHECK(!memcmp(house, arrays, (size_t)n * sizeof *here));
        free(here), free(house);
    }
    if (!fine)
        fprintf(stderr, "    (%lld, %lld) to (%lld, %lld), %lld heads of %lld, causal %d, bias %d, dropout %g: %g\n",
                (long long)s->queries, (long long)s->dk, (long long)s->keys, (long long)s->dv, (long long)s->heads,
                (long long)s->kv_heads, s->causal, s->biased, s->dropout, difference);
    free(due), free(arrays);
    for (int i = 0; i < ARRAYS; i++) block_free(t.array[i]);
}

static void attention_equals_another_table(void)
{
    static const sizes all[] = {
        {.queries = 50, .keys = 50, .heads = 2, .kv_heads = 2, .dk = 64, .dv = 64},
        {.queries = 50, .keys = 77, .heads = 2, .kv_heads = 1, .dk = 40, .dv = 96, .causal = true},
        {.queries = 9, .keys = 197, .heads = 1, .kv_heads = 1, .dk = 64, .dv = 64, .dropout = 0.2},
        {.queries = 70, .keys = 300, .heads = 1, .kv_heads = 1, .dk = 8, .dv = 5, .causal = true},
        {.queries = 20, .keys = 33, .heads = 2, .kv_heads = 2, .dk = 5, .dv = 8, .biased = true},
        {.queries = 1, .keys = 197, .heads = 3, .kv_heads = 3, .dk = 64, .dv = 64},
        {.queries = 77, .keys = 1, .heads = 1, .kv_heads = 1, .dk = 64, .dv = 48},
        {.queries = 3, .keys = 2, .heads = 2, .kv_heads = 1, .dk = 1, .dv = 1, .causal = true},
        {.queries = 18, .keys = 40, .heads = 1, .kv_heads = 1, .dk = 272, .dv = 144, .biased = true, .dropout = 0.1}};
    if (!able()) return;
    pl__set_thread_worth(1); /* tiles on every thread */
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) compare_attention(&all[i]);
    pl__set_thread_worth(0);
}

/* oneDNN's kernels may leave a configuration of their own, and ours leave none. */
static void float32_needs_no_tiles(void)
{
    attention t;
    int64_t n;
    if (!able()) return;
    attention_new(&t, &(sizes){.queries = 7, .keys = 9, .heads = 1, .kv_heads = 1, .dk = 16, .dv = 16});
    t.a.bf16 = real = false;
    float *due = attention_results(&t, pl__simd_table(PL_ISA_AVX2), &n), *got = attention_results(&t, &tile_table, &n);
    CHECK(largest_difference(&t, got, due) < 1e-5 && !tiles.configured);
    free(due), free(got);
    for (int i = 0; i < ARRAYS; i++) block_free(t.array[i]);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(240); /* a hang is a failure */
    pl_context *ctx;
    if (!CHECK(!pl_context_create(&ctx))) return 1;
    isa = pl_context_isa(ctx);
    pl_context_destroy(ctx);
    printf("     tiles are %s here\n", isa >= PL_ISA_AMX ? "arrays, and AMX's" : "arrays");
    RUN(products_equal_loops);
    RUN(attention_equals_another_table);
    RUN(float32_needs_no_tiles);
    return failures != 0;
}
