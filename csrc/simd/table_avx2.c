/* table_avx2.c - the kernels for avx2. */
#include <immintrin.h>
#include <math.h>

#include "../core/random.h"
#include "simd.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define PL_VL 8
#define PL_TABLE pl__simd_avx2
#define PL_TABLE_ISA PL_ISA_AVX2
extern const pl_simd PL_TABLE;

#include "vec.h"
#include "bodies.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
