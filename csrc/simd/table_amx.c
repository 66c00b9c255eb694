/* table_amx.c - the kernels for avx512 with products of bfloat16, in attention by tiles. */
#include <immintrin.h>
#include <math.h>

#include "../core/random.h"
#include "simd.h"

#ifdef __clang__
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#endif

#define PL_VL 16
#define PL_BF16
#define PL_AMX
#define PL_TABLE pl__simd_amx
#define PL_TABLE_ISA PL_ISA_AMX
extern const pl_simd PL_TABLE;

#include "vec.h"
#include "bodies.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
