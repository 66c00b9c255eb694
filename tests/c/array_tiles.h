/* array_tiles.h - a table of kernels like that of AMX, with tiles that are arrays: for processors that have none. Where
 * they are there, `real` says which. Included once, by test_tiles.c. */
#include <float.h>
#include <immintrin.h>
#include <math.h>

#include "../../csrc/core/random.h"
#include "../../csrc/simd/simd.h"
#include "../../csrc/simd/tiles.h"

static bool real; /* AMX's instructions, not the arrays */

#ifdef __clang__
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#endif

static __thread struct {
    bool configured;
    uint32_t value[8][16][16];
} tiles;

static void configure(const tile_shapes *shapes)
{
    CHECK(!tiles.configured && sizeof *shapes == 64 && shapes->palette == 1 && shapes->start_row == 0);
    for (int t = 0; t < 8; t++) CHECK(shapes->rows[t] == 16 && shapes->row_bytes[t] == 64);
    memset(tiles.value, 0, sizeof tiles.value);
    tiles.configured = true;
}

static void release(void)
{
    CHECK(tiles.configured);
    tiles.configured = false;
}

static void zero(int t) { memset(tiles.value[t], 0, sizeof tiles.value[t]); }

static void load(int t, const float *from, int64_t row)
{
    CHECK(tiles.configured);
    for (int i = 0; i < 16; i++) memcpy(tiles.value[t][i], from + i * row, sizeof tiles.value[t][i]);
}

static void store(int t, float *to, int64_t row)
{
    CHECK(tiles.configured);
    for (int i = 0; i < 16; i++) memcpy(to + i * row, tiles.value[t][i], sizeof tiles.value[t][i]);
}

/* What is too small for a normal number counts as zero. */
static inline float flushed(float x) { return fabsf(x) < FLT_MIN ? copysignf(0.0f, x) : x; }

static inline float number(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return flushed(x);
}

/* As TDPBF16PS is documented: first and second numbers of the pairs are added up apart, in order, from zero; then both
 * together, and that to C. */
static void dot(int c, int a, int b)
{
    CHECK(tiles.configured);
    for (int i = 0; i < 16; i++) {
        float first[16] = {0}, second[16] = {0};
        for (int l = 0; l < 16; l++) {
            const uint32_t x = tiles.value[a][i][l];
            for (int j = 0; j < 16; j++) {
                const uint32_t y = tiles.value[b][l][j];
                first[j] = flushed(fmaf(number(x << 16), number(y << 16), first[j]));
                second[j] = flushed(fmaf(number(x & 0xFFFF0000), number(y & 0xFFFF0000), second[j]));
            }
        }
        for (int j = 0; j < 16; j++) {
            const float sum = flushed(number(tiles.value[c][i][j]) + flushed(first[j] + second[j]));
            memcpy(&tiles.value[c][i][j], &sum, sizeof sum);
        }
    }
}

#undef TILE_CONFIGURE
#undef TILE_RELEASE
#undef TILE_ZERO
#undef TILE_LOAD
#undef TILE_STORE
#undef TILE_DOT
#define EITHER(amx, array) \
    do {                   \
        if (real) amx;     \
        else array;        \
    } while (0)
#define TILE_CONFIGURE(shapes) EITHER(AMX_CONFIGURE(shapes), configure(&(shapes)))
#define TILE_RELEASE() EITHER(AMX_RELEASE(), release())
#define TILE_ZERO(t) EITHER(AMX_ZERO(t), zero(t))
#define TILE_LOAD(t, from, row) EITHER(AMX_LOAD(t, from, row), load(t, from, row))
#define TILE_STORE(t, to, row) EITHER(AMX_STORE(t, to, row), store(t, to, row))
#define TILE_DOT(c, a, b) EITHER(AMX_DOT(c, a, b), dot(c, a, b))

#define PL_VL 16
#define PL_BF16
#define PL_AMX
#define PL_TABLE tile_table
#define PL_TABLE_ISA PL_ISA_AMX
extern const pl_simd PL_TABLE;

#include "../../csrc/simd/vec.h"
#include "../../csrc/simd/bodies.h"

/* The product under test, with what must be around it. */
static void multiply(bool by_columns, int64_t m, int64_t n, TILE_ARGS)
{
    tiles_begin(true);
    gemm_pairs(by_columns, m, n, TILE_PASS);
    tiles_end(true);
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
