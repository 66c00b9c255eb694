/* tiles.h - AMX's instructions: eight registers hold a tile each, 16 rows of 64 bytes here.
 *
 * Numbers of tiles are literals, rows of memory are `row` floats apart. TILE_DOT(c, a, b) adds to a tile of 16 x 16
 * floats the product of 16 x 16 pairs of bfloat16 and 16 pairs of rows with 16 columns. Written as assembly since the
 * intrinsics of GCC do not say that they read memory: it would drop what was stored for them. */
#ifndef PL_TILES_H
#define PL_TILES_H

/* What LDTILECFG reads. All tiles are alike, so that one configuration serves every product. */
typedef struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

#define AMX_CONFIGURE(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(shapes))
#define AMX_RELEASE() __asm__ volatile("tilerelease")
#define AMX_ZERO(t) __asm__ volatile("tilezero %%tmm" #t :::)
#define AMX_LOAD(t, from, row)                                                                            \
    __asm__ volatile("tileloadd (%0,%1,4), %%tmm" #t ::"r"((const float *)(from)), "r"((int64_t)(row)) : "memory")
#define AMX_STORE(t, to, row)                                                                             \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,4)" ::"r"((float *)(to)), "r"((int64_t)(row)) : "memory")
#define AMX_DOT(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c :::)

#ifndef TILE_LOAD /* tests/c/test_tiles.c has functions in their place, for processors without tiles */
#define TILE_CONFIGURE AMX_CONFIGURE
#define TILE_RELEASE AMX_RELEASE
#define TILE_ZERO AMX_ZERO
#define TILE_LOAD AMX_LOAD
#define TILE_STORE AMX_STORE
#define TILE_DOT AMX_DOT
#endif

#endif
