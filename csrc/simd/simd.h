/* simd.h - plait's own kernels: one body, compiled once per instruction set, one table of functions each.
 *
 * A kernel is serial and works on a range that the caller chose: threads are the business of ops/. Bodies are written
 * with vector types of PL_VL floats (vec.h), so that AVX2 (8) and AVX-512 (16) share every line. To add a kernel: a
 * line in this list, a `static` function of that name in a body_*.h file. */
#ifndef PL_SIMD_H
#define PL_SIMD_H

#include "../core/core.h"

#define PL_SIMD_LIST(K)                                                                                       \
    /* y = act(x), n elements; x == y is allowed */                                                           \
    K(act_forward, (int act, const float *x, float *y, int64_t n))                                            \
    /* dx = dy * act'(x); dx == dy is allowed; y = act(x) too when y is not NULL */                           \
    K(act_backward, (int act, const float *x, const float *dy, float *dx, float *y, int64_t n))               \
    /* out[j] (+)= sum over rows i of x[i, j], columns [c0, c1) */                                            \
    K(column_sums, (const float *x, int64_t rows, int64_t row, int64_t c0, int64_t c1, float *out, int accumulate))

typedef struct pl_simd {
    pl_isa isa;
#define PL__X(name, args) void (*name) args;
    PL_SIMD_LIST(PL__X)
#undef PL__X
} pl_simd;

#endif
