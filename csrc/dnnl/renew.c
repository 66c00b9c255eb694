/* renew.c - packed forms of a weight that an optimiser writes to, filled again tile by tile in the same pass. */
#include "../simd/simd.h"
#include "cache.h"

#define PANEL PL__PANEL_COLUMNS
#define BLOCK_BYTES (PL__PANEL_ROWS * PANEL * (int64_t)sizeof(float))

static bool serves(const pl__packed *p, pl__form form, int64_t rows, int64_t columns)
{
    const bool fits = form == PL__FORM_TRANSPOSED ? p->k == columns && p->n == rows : p->k == rows && p->n == columns;
    return fits && p->panels && p->dtype != PL_DTYPE_S8 && p->references == 1;
}

bool pl__renewal_take(pl_pack *pack, int64_t rows, int64_t columns, pl__renewal *r)
{
    *r = (pl__renewal){.columns = columns};
    bool any = false;
    pl__table_lock();
    for (int i = 0; i < PL__FORM_COUNT; i++) {
        pl__packed **form = pl__pack_used_form(pack, (pl__form)i);
        if (!form || !serves(*form, (pl__form)i, rows, columns)) continue;
        r->forms[i] = *form;
        *form = NULL; /* nobody multiplies with it meanwhile */
        any = true;
    }
    pl__table_unlock();
    return any;
}

#define PART 256 /* columns at a time, which scratch holds in pairs */

static void transposed(const pl_simd *simd, const pl__packed *p, const float *w, int64_t w_row, int64_t row,
                       int64_t rows, int64_t column, int64_t columns)
{
    const int64_t panels = (p->n + PANEL - 1) / PANEL, panel_bytes = (int64_t)p->bytes / panels;
    const int64_t first = row % PANEL, end = (first + rows + 15) & ~(int64_t)15;
    char *to = (char *)p->data + row / PANEL * panel_bytes;
    if (p->dtype == PL_DTYPE_F32) {
        float *block = (float *)(to + column / PL__PANEL_ROWS * BLOCK_BYTES);
        simd->pack_columns(w, w_row, first, rows, end, columns, block);
        return;
    }
    float pairs[PL__TILE_ROWS * PART / 2];
    for (int64_t c = 0; c < columns; c += PART) {
        const int64_t n = columns - c < PART ? columns - c : PART, units = (n + 1) / 2;
        for (int64_t i = 0; i < rows; i++) {
            uint16_t *x = (uint16_t *)(pairs + i * units);
            simd->to_bf16(w + i * w_row + c, x, n);
            if (n & 1) x[n] = 0;
        }
        float *block = (float *)(to + (column + c) / (2 * PL__PANEL_ROWS) * BLOCK_BYTES);
        simd->pack_columns(pairs, units, first, rows, end, units, block);
    }
}

static void plain(const pl_simd *simd, const pl__packed *p, const float *w, int64_t w_row, int64_t row, int64_t rows,
                  int64_t column, int64_t columns)
{
    const bool pairs = p->dtype == PL_DTYPE_BF16;
    const int64_t panels = (p->n + PANEL - 1) / PANEL, panel_bytes = (int64_t)p->bytes / panels;
    const int64_t block = row / (PL__PANEL_ROWS * (pairs ? 2 : 1)) * BLOCK_BYTES;
    for (int64_t c = 0; c < columns; c += PANEL)
        simd->pack_rows(w + c, w_row, rows, columns - c < PANEL ? columns - c : PANEL, pairs,
                        (float *)((char *)p->data + (column + c) / PANEL * panel_bytes + block));
}

void pl__renewal_tile(const pl_context *ctx, const pl__renewal *r, const float *weight, int64_t row, int64_t rows,
                      int64_t column, int64_t columns)
{
    const float *w = weight + row * r->columns + column;
    const pl__packed *t = r->forms[PL__FORM_TRANSPOSED], *p = r->forms[PL__FORM_PLAIN];
    if (t) transposed(ctx->simd, t, w, r->columns, row, rows, column, columns);
    if (p) plain(ctx->simd, p, w, r->columns, row, rows, column, columns);
}

void pl__renewal_end(pl_pack *pack, uint64_t version, pl__renewal *r, bool done)
{
    if (done) pl_pack_renew(pack, version);
    for (int i = 0; i < PL__FORM_COUNT; i++)
        if (r->forms[i] && !(done && pl__pack_put_form(pack, version, (pl__form)i, r->forms[i])))
            pl__pack_release(r->forms[i]);
}
