/* table_avx512.c - the kernels for avx512. */
#include <immintrin.h>
#include <math.h>

#include "../core/random.h"
#include "simd.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
#endif

#define PL_VL 16
#define PL_TABLE pl__simd_avx512
#define PL_TABLE_ISA PL_ISA_AVX512
extern const pl_simd PL_TABLE;

#include "vec.h"
#include "bodies.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
