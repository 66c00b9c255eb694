/* body_gemm.h - small products for attention: C (m, n) = or += A (m, k) B (k, n), n a multiple of PL_VL. Included once for
 * floats and once for pairs of bfloat16 (body_pairs.h): GEMM(name) names the copy, GEMM_ONE(p) is an element in all
 * lanes, GEMM_ADD(sum, x, y) is sum + x y.
 *
 * A tile of C stays in registers while k runs: a row of B is loaded as vectors, each element of A is broadcast. A is
 * read as it lies, by rows (a[i * a_row + l]) or by columns (a[l * a_row + i]), so that one score block serves as P and
 * as P^T. Every element of C is one sum in the order of k whatever the tile, so tiling never changes a bit. */

#ifndef TILE_VECTORS
/* Rows of a tile by its number of vectors: accumulators, vectors of B and a broadcast fit in the registers. */
#if PL_VL == 16
#define TILE_VECTORS 4
#define TILE_ROWS(vectors) ((vectors) == 4 ? 6 : (vectors) == 3 ? 8 : 12)
#define TILE_CASES(X, vectors) \
    X(1, vectors) X(2, vectors) X(3, vectors) X(4, vectors) X(5, vectors) X(6, vectors) X(7, vectors) X(8, vectors) \
    X(9, vectors) X(10, vectors) X(11, vectors) X(12, vectors)
#define TILE_VECTOR_CASES(X) X(1) X(2) X(3) X(4)
#else
#define TILE_VECTORS 2
#define TILE_ROWS(vectors) ((vectors) == 2 ? 6 : 10)
#define TILE_CASES(X, vectors) \
    X(1, vectors) X(2, vectors) X(3, vectors) X(4, vectors) X(5, vectors) X(6, vectors) X(7, vectors) X(8, vectors) \
    X(9, vectors) X(10, vectors)
#define TILE_VECTOR_CASES(X) X(1) X(2)
#endif

#define TILE_ARGS                                                                                           \
    int64_t k, const float *a, int64_t a_row, const float *b, int64_t b_row, float *c, int64_t c_row, bool add
#define TILE_PASS k, a, a_row, b, b_row, c, c_row, add
#endif

/* rows, vectors and by_columns are constants wherever this is inlined. */
INLINE void GEMM(gemm_tile)(int rows, int vectors, bool by_columns, int64_t k, const float *a, int64_t a_row, const float *b,
                      int64_t b_row, float *c, int64_t c_row, bool add)
{
    vf sum[12][TILE_VECTORS], y[TILE_VECTORS];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int u = 0; u < vectors; u++) sum[i][u] = add ? vload(c + i * c_row + u * PL_VL) : (vf){0};
    for (int64_t l = 0; l < k; l++) {
#pragma GCC unroll 4
        for (int u = 0; u < vectors; u++) y[u] = vload(b + u * PL_VL);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const vf x = GEMM_ONE(a + (by_columns ? i : i * a_row));
#pragma GCC unroll 4
            for (int u = 0; u < vectors; u++) sum[i][u] = GEMM_ADD(sum[i][u], x, y[u]);
        }
        a += by_columns ? a_row : 1;
        b += b_row;
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int u = 0; u < vectors; u++) vstore(c + i * c_row + u * PL_VL, sum[i][u]);
}

/* All rows of C for one group of vectors. */
INLINE void GEMM(gemm_strip)(int vectors, bool by_columns, int64_t m, TILE_ARGS)
{
    const int full = TILE_ROWS(vectors);
    for (; m >= full; m -= full) {
        GEMM(gemm_tile)(full, vectors, by_columns, TILE_PASS);
        a += full * (by_columns ? 1 : a_row);
        c += full * c_row;
    }
#define TILE_CASE(r, v)                                               \
    case r:                                                           \
        if (r < TILE_ROWS(v)) GEMM(gemm_tile)(r, v, by_columns, TILE_PASS); \
        break;
#define TILE_REST(v) \
    if (vectors == v) switch (m) { TILE_CASES(TILE_CASE, v) }
    TILE_VECTOR_CASES(TILE_REST)
}

/* A strip a function, so that each has its own registers. */
#define STRIP_FUNCTION(name, vectors, by_columns)                            \
    static __attribute__((noinline)) void name(int64_t m, TILE_ARGS)         \
    {                                                                        \
        GEMM(gemm_strip)(vectors, by_columns, m, TILE_PASS);                 \
    }
#define STRIP(v) STRIP_FUNCTION(GEMM(gemm_rows_##v), v, false) STRIP_FUNCTION(GEMM(gemm_columns_##v), v, true)
TILE_VECTOR_CASES(STRIP)

static void GEMM(gemm)(bool by_columns, int64_t m, int64_t n, TILE_ARGS)
{
    for (int64_t left = n / PL_VL; left > 0;) {
        /* groups of nearly equal size: five vectors are 3 + 2 */
        const int64_t groups = (left + TILE_VECTORS - 1) / TILE_VECTORS, vectors = (left + groups - 1) / groups;
        switch (vectors) {
#define GROUP(v)                                    \
    case v:                                         \
        if (by_columns)                             \
            GEMM(gemm_columns_##v)(m, TILE_PASS);   \
        else                                        \
            GEMM(gemm_rows_##v)(m, TILE_PASS);      \
        break;
            TILE_VECTOR_CASES(GROUP)
        }
        b += vectors * PL_VL;
        c += vectors * PL_VL;
        left -= vectors;
    }
}

#undef TILE_CASE
#undef TILE_REST
#undef STRIP_FUNCTION
#undef STRIP
#undef GROUP
#undef GEMM
#undef GEMM_ONE
#undef GEMM_ADD
