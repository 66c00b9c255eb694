/* body_tiles.h - gemm_pairs by AMX's tiles: C (m, n) = or += A (m, k) B (k, n) in pairs of bfloat16, n a multiple of
 * 16. One instruction multiplies 16 rows of A, 16 pairs wide, with 16 columns of B, both as they lie for gemm_pairs.
 *
 * Two by two tiles of C stay in registers while k runs. Every tile has its full size: what is smaller, at an edge, is
 * copied with zeros around it, as is every tile of an A that is read by columns, turned. Pairs are added 16 at a time
 * from the first on, whatever the place in C, so which tiles C falls into never changes a bit. */

#ifdef PL_AMX
#include "tiles.h"

/* Rows and columns of a tile; how many tiles deep, and how many across, a product is at a time: so many tiles of A for
 * two tiles of rows, and so many of B's last ones, may need copies. */
enum { TILE = 16, TILE_STEPS = 8, TILE_STRIP = 8 };

/* Rows of C up to which vectors are as quick as tiles, which would mostly hold zeros. */
enum { ROWS_BY_VECTORS = 4 };

static const tile_shapes whole_tiles = {.palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                        .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* Around every use of gemm_pairs, on the thread that uses it: oneDNN's kernels have configurations of their own. */
INLINE void tiles_begin(bool wanted)
{
    if (wanted) TILE_CONFIGURE(whole_tiles);
}
INLINE void tiles_end(bool wanted)
{
    if (wanted) TILE_RELEASE();
}

typedef struct tile_at {
    const float *at;
    int64_t row;
} tile_at;

/* The corner of x, (rows, columns) of it there: in place if it fills a tile, else with zeros around in `copy`. */
INLINE tile_at tile_of(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *copy)
{
    if (rows >= TILE && columns >= TILE) return (tile_at){x, x_row};
    for (int i = 0; i < TILE; i++) vstore(copy + i * TILE, i < rows ? vload_upto(x + i * x_row, columns) : (vf){0});
    return (tile_at){copy, TILE};
}

/* The same of x^T; rows and columns are those of x. */
INLINE tile_at tile_of_turned(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *copy)
{
    vf square[TILE];
    if (rows >= TILE && columns >= TILE) {
#pragma GCC unroll 16
        for (int i = 0; i < TILE; i++) square[i] = vload(x + i * x_row);
    } else {
        for (int i = 0; i < TILE; i++) square[i] = i < rows ? vload_upto(x + i * x_row, columns) : (vf){0};
    }
    transpose_square(square);
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++) vstore(copy + i * TILE, square[i]);
    return (tile_at){copy, TILE};
}

/* Tile t starts with what is in C, of which `left` rows are there, and ends there. */
#define TILE_BEGIN(t, c, left)                                                   \
    do {                                                                         \
        if (add) {                                                               \
            const tile_at from = tile_of(c, c_row, left, TILE, edge);            \
            TILE_LOAD(t, from.at, from.row);                                     \
        } else                                                                   \
            TILE_ZERO(t);                                                        \
    } while (0)
#define TILE_END(t, c, left)                                                     \
    do {                                                                         \
        if ((left) >= TILE) {                                                    \
            TILE_STORE(t, c, c_row);                                             \
        } else {                                                                 \
            TILE_STORE(t, edge, TILE);                                           \
            for (int64_t i = 0; i < (left); i++) vstore((c) + i * c_row, vload(edge + i * TILE)); \
        }                                                                        \
    } while (0)

/* One tile of C, or two of them down, across, or both ways. */
static void tile_block(bool down, bool across, int64_t steps, const tile_at (*a)[2], const tile_at (*b)[2], float *c,
                       int64_t c_row, int64_t left, bool add)
{
    float edge[TILE * TILE] __attribute__((aligned(64))), *low = c + TILE * c_row;
    TILE_BEGIN(0, c, left);
    if (across) TILE_BEGIN(1, c + TILE, left);
    if (down) TILE_BEGIN(2, low, left - TILE);
    if (down && across) TILE_BEGIN(3, low + TILE, left - TILE);
    for (int64_t s = 0; s < steps; s++) {
        TILE_LOAD(4, a[s][0].at, a[s][0].row);
        TILE_LOAD(6, b[s][0].at, b[s][0].row);
        TILE_DOT(0, 4, 6);
        if (across) {
            TILE_LOAD(7, b[s][1].at, b[s][1].row);
            TILE_DOT(1, 4, 7);
        }
        if (down) {
            TILE_LOAD(5, a[s][1].at, a[s][1].row);
            TILE_DOT(2, 5, 6);
            if (across) TILE_DOT(3, 5, 7);
        }
    }
    TILE_END(0, c, left);
    if (across) TILE_END(1, c + TILE, left);
    if (down) TILE_END(2, low, left - TILE);
    if (down && across) TILE_END(3, low + TILE, left - TILE);
}

/* k <= TILE_STEPS * TILE, columns of one strip. */
static void gemm_tiles(bool by_columns, int64_t m, int64_t n, TILE_ARGS)
{
    float copies[TILE_STEPS][2][TILE * TILE] __attribute__((aligned(64)));
    float rest[TILE_STRIP][TILE * TILE] __attribute__((aligned(64)));
    tile_at a_at[TILE_STEPS][2], b_at[TILE_STEPS][2], last[TILE_STRIP];
    const int64_t steps = (k + TILE - 1) / TILE, tiles = n / TILE;
    for (int64_t t = 0, l = (steps - 1) * TILE; steps && t < tiles; t++)
        last[t] = tile_of(b + l * b_row + t * TILE, b_row, k - l, TILE, rest[t]);
    for (int64_t i = 0; i < m; i += 2 * TILE) {
        const bool down = m - i > TILE;
        for (int64_t s = 0; s < steps; s++)
            for (int64_t u = 0, l = s * TILE; u <= down; u++) {
                const int64_t r = i + u * TILE;
                a_at[s][u] = by_columns ? tile_of_turned(a + l * a_row + r, a_row, k - l, m - r, copies[s][u])
                                        : tile_of(a + r * a_row + l, a_row, m - r, k - l, copies[s][u]);
            }
        for (int64_t t = 0; t < tiles; t += 2) {
            const bool across = tiles - t > 1;
            for (int64_t s = 0; s < steps; s++)
                for (int64_t u = 0; u <= across; u++)
                    b_at[s][u] = s + 1 < steps ? (tile_at){b + s * TILE * b_row + (t + u) * TILE, b_row} : last[t + u];
            tile_block(down, across, steps, a_at, b_at, c + i * c_row + t * TILE, c_row, m - i, add);
        }
    }
}

static void gemm_pairs(bool by_columns, int64_t m, int64_t n, TILE_ARGS)
{
    if (m <= ROWS_BY_VECTORS) {
        gemm_pairs_by_vectors(by_columns, m, n, TILE_PASS);
        return;
    }
    int64_t l = 0;
    do {
        const int64_t depth = k - l < TILE_STEPS * TILE ? k - l : TILE_STEPS * TILE;
        for (int64_t j = 0; j < n; j += TILE_STRIP * TILE)
            gemm_tiles(by_columns, m, n - j < TILE_STRIP * TILE ? n - j : TILE_STRIP * TILE, depth,
                       a + l * (by_columns ? a_row : 1), a_row, b + l * b_row + j, b_row, c + j, c_row, add || l > 0);
        l += depth;
    } while (l < k);
}

#undef TILE_BEGIN
#undef TILE_END

#else
INLINE void tiles_begin(bool wanted) { (void)wanted; }
INLINE void tiles_end(bool wanted) { (void)wanted; }
#endif
