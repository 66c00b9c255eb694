/* body_attention.h - one block of queries against all keys of its sample, forward.
 *
 * Softmax in pieces: M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867; blocks
 * that never leave the cache: T. Dao et al., "FlashAttention", arXiv 2205.14135. Scores are kept keys by queries: a
 * vector holds queries, so that maximum and sum of a softmax need no sum across lanes, keys need no padding, and K and
 * V are read as they lie. Scores are counted in powers of 2: they are multiplied by log2(e) on their way in. */

/* One head and one block of queries of one sample. */
typedef struct score_view {
    int64_t sample, head, row; /* row: of q, of the first query */
    int64_t query, count, lanes; /* first query within the sample, queries, queries rounded up to vectors */
    int64_t keys, visible, first_key; /* keys of the sample, how many of them the block may see, row of the first */
    int64_t shift;             /* causal: query i sees keys j <= i + shift */
    const void *q, *k, *v;
} score_view;

static score_view score_view_of(const pl__attention *a, const pl__attention_task *t, int64_t head)
{
    const int64_t group = head / (a->heads / a->kv_heads), row = a->q_begin[t->sample] + t->query;
    const int64_t keys = pl__attention_keys(a, t->sample);
    score_view w = {.sample = t->sample, .head = head, .row = row, .query = t->query, .count = t->count,
                    .lanes = (t->count + PL_VL - 1) / PL_VL * PL_VL, .keys = keys, .visible = keys,
                    .first_key = a->kv_begin[pl__attention_segment(a, t->sample)],
                    .shift = keys - pl__attention_queries(a, t->sample)};
    if (a->causal && !a->q_time) {
        const int64_t end = t->query + t->count + w.shift;
        w.visible = end < 0 ? 0 : end < keys ? end : keys;
    }
    w.q = element(a, a->q, row * a->q_row + head * a->dk);
    w.k = element(a, a->k, w.first_key * a->k_row + group * a->dk);
    w.v = element(a, a->v, w.first_key * a->v_row + group * a->dv);
    return w;
}

/* ---------------------------------------------------------------- masks, bias */

/* Scores of keys [j0, j0 + nj) that a query may not see become -infinity. */
static void mask_scores(const pl__attention *a, const score_view *w, int64_t j0, int64_t nj, float *s)
{
    if (a->q_time) {
        const int64_t *now = a->q_time + w->row, *when = a->kv_time + w->first_key + j0;
        for (int64_t j = 0; j < nj; j++)
            for (int64_t i = 0; i < w->count; i++)
                s[j * w->lanes + i] = when[j] <= now[i] ? s[j * w->lanes + i] : -INFINITY;
        return;
    }
    /* key j0 + j is hidden from the first j - first + 1 queries of the block */
    const int64_t first = w->query + w->shift - j0 + 1;
    for (int64_t j = first > 0 ? first : 0; j < nj; j++) {
        const int32_t hidden = (int32_t)(j - first + 1 < w->lanes ? j - first + 1 : w->lanes);
        for (int32_t i = 0; i < hidden; i += PL_VL) {
            float *at = s + j * w->lanes + i;
            vstore(at, vselect(lane_numbers() + i < hidden, vset(-INFINITY), vload(at)));
        }
    }
}

/* s = the biases of a block, in powers of 2; false when there are none. */
static bool bias_scores(const pl__attention *a, const score_view *w, int64_t j0, int64_t nj, float *s)
{
    transpose_mode mode = TRANSPOSE_PAD;
    if (a->table) {
        transpose(mode, a->table + (w->head * a->table_rows + w->query) * a->table_columns + j0, a->table_columns,
                  w->count, nj, LOG2_E, s, w->lanes);
        mode = TRANSPOSE_PAD_ADD;
    }
    if (a->pairs) {
        const float *from = a->pairs + (a->pair_heads == 1 ? 0 : w->head) * a->pair_count + a->pair_begin[w->sample];
        transpose(mode, from + w->query * w->keys + j0, w->keys, w->count, nj, LOG2_E, s, w->lanes);
        mode = TRANSPOSE_PAD_ADD;
    }
    if (a->relative) {
        const float *values = a->relative + w->head * a->relative_size;
        if (mode == TRANSPOSE_PAD) memset(s, 0, (size_t)(nj * w->lanes) * sizeof *s);
        for (int64_t i = 0; i < w->count; i++) {
            const int64_t *index = a->relative_index + (w->query + i) * a->index_columns + j0;
            for (int64_t j = 0; j < nj; j++) s[j * w->lanes + i] += values[index[j]] * LOG2_E;
        }
        mode = TRANSPOSE_PAD_ADD;
    }
    return mode != TRANSPOSE_PAD;
}

/* The queries or gradients of a block, scaled, side by side, in pairs along the head with bfloat16. */
static void side_by_side(const pl__attention *a, const score_view *w, const float *x, int64_t x_row, int64_t d,
                         float scale, float *xt)
{
    transpose(TRANSPOSE_PAD, x, x_row, w->count, d, scale, xt, w->lanes);
    if (a->bf16) pair_rows_up(xt, w->lanes, d, w->lanes, 1.0f, xt, w->lanes);
}

/* c (nj, lanes) = or += the product of rows of keys or values with what stands side by side. pairs: the rows again, as
 * pairs of bfloat16 along the head, for that case. */
static void times_block(const pl__attention *a, const score_view *w, int64_t nj, int64_t d, const float *rows,
                        int64_t row, const float *pairs, const float *xt, float *c, bool add)
{
    if (a->bf16)
        gemm_pairs(false, nj, w->lanes, (d + 1) / 2, pairs, pl__attention_pad(d) / 2, xt, w->lanes, c, w->lanes, add);
    else
        gemm(false, nj, w->lanes, d, rows, row, xt, w->lanes, c, w->lanes, add);
}

/* s (nj, lanes) = log2(e) (k q^T + bias), masked; qt: the queries side by side, scaled so; pairs: as in times_block. */
static void score_block(const pl__attention *a, const score_view *w, int64_t j0, int64_t nj, const float *pairs,
                        const float *qt, float *s)
{
    const bool biased = bias_scores(a, w, j0, nj, s);
    times_block(a, w, nj, a->dk, element(a, w->k, j0 * a->k_row), a->k_row, pairs, qt, s, biased);
    if (a->causal) mask_scores(a, w, j0, nj, s);
}

/* ---------------------------------------------------------------- dropout */

enum { DROP_KEYS = 8 }; /* keys of a block of random words; blocks of keys begin at multiples */

/* y = x times 0 or 1 / (1 - rate), and `also` in place where it is given. Sixteen bits decide: key j of the query in
 * row r of q has half j % 2, the lower one first, of word j / 2 % 4 of block j / 8 + 2^32 (r H + head), whatever the
 * cut into blocks. */
static void drop_scores(const pl__attention *a, const score_view *w, int64_t j0, int64_t nj, const float *x, float *y,
                        float *also)
{
    const uint32_t limit = pl__drop_below_16(a->dropout);
    const vu below = (vu){0} + (limit << 16);
    const vf kept = vset(65536.0f / (float)(65536 - limit));
    for (int64_t i = 0; i < w->lanes; i += PL_VL) {
        const vu high = ((vu)lane_numbers() + (uint32_t)(w->row + i)) * (uint32_t)a->heads + (uint32_t)w->head;
        for (int64_t j = 0; j < nj; j += DROP_KEYS) {
            vu words[4];
            vphilox_lanes(a->key, a->counter, (uint32_t)((j0 + j) / DROP_KEYS), high, words);
            for (int64_t u = 0; u < DROP_KEYS && j + u < nj; u++) {
                const int64_t at = (j + u) * w->lanes + i;
                const vu bits = u % 2 ? words[u / 2] : words[u / 2] << 16; /* what lies below them decides nothing */
                const vf factor = vselect((vi)(bits >= below), kept, vset(0.0f));
                vstore(y + at, vload(x + at) * factor);
                if (also) vstore(also + at, vload(also + at) * factor);
            }
        }
    }
}

/* ---------------------------------------------------------------- forward */

/* s = 2^(s - maximum) by columns; maximum and sum run on from block to block, `correction` is what the sums so far were
 * multiplied by. pairs: two keys become a pair of bfloat16 in one row. */
INLINE void softmax_columns(bool pairs, bool coarse, int64_t lanes, int64_t nj, float *s, float *maximum, float *sum,
                            float *correction)
{
    for (int64_t i = 0; i < lanes; i += PL_VL) {
        float *column = s + i;
        const vf before = vload(maximum + i);
        vf top = before, other = before;
        int64_t j = 0;
        for (; j + 2 <= nj; j += 2) {
            top = vmax(top, vload(column + j * lanes));
            other = vmax(other, vload(column + (j + 1) * lanes));
        }
        if (j < nj) top = vmax(top, vload(column + j * lanes));
        top = vmax(top, other);
        const vf base = vselect(top == -INFINITY, vset(0.0f), top); /* nothing seen: 2^(-inf - 0) = 0, not NaN */
        vf total = vset(0.0f), more = vset(0.0f);
        for (j = 0; j + 2 <= nj; j += 2) {
            const vf p = vexp2_negative(vload(column + j * lanes) - base, coarse);
            const vf q = vexp2_negative(vload(column + (j + 1) * lanes) - base, coarse);
            if (pairs)
                vstore(column + j / 2 * lanes, pair_of(p, q));
            else
                vstore(column + j * lanes, p), vstore(column + (j + 1) * lanes, q);
            total += p;
            more += q;
        }
        if (j < nj) {
            const vf p = vexp2_negative(vload(column + j * lanes) - base, coarse);
            vstore(column + (pairs ? j / 2 : j) * lanes, pairs ? pair_of(p, (vf){0}) : p);
            total += p;
        }
        const vf factor = vexp2_negative(before - base, false);
        vstore(correction + i, factor);
        vstore(sum + i, vload(sum + i) * factor + (total + more));
        vstore(maximum + i, top);
    }
}

static void softmax_block(const pl__attention *a, int64_t lanes, int64_t nj, float *s, float *maximum, float *sum,
                          float *correction)
{
    if (a->bf16 && !(a->dropout > 0))
        softmax_columns(true, true, lanes, nj, s, maximum, sum, correction);
    else if (a->bf16)
        softmax_columns(false, true, lanes, nj, s, maximum, sum, correction);
    else
        softmax_columns(false, false, lanes, nj, s, maximum, sum, correction);
}

/* out = o / sum, lse = maximum + log(sum), in powers of e again. */
static void finish_queries(const pl__attention *a, const score_view *w, float *o, int64_t o_row, const float *maximum,
                           float *sum, const pl__attention_result *r)
{
    for (int64_t i = 0; i < w->lanes; i += PL_VL) {
        const vf total = vload(sum + i);
        const vi none = total == 0.0f;
        if (r->lse) {
            float lse[PL_VL];
            vstore(lse, vselect(none, vset(INFINITY), vload(maximum + i) * LN_2 + vlog(total)));
            for (int64_t u = 0; u < PL_VL && i + u < w->count; u++)
                r->lse[(w->row + i + u) * a->heads + w->head] = lse[u];
        }
        vstore(sum + i, vselect(none, vset(0.0f), 1.0f / total));
    }
    for (int64_t i = 0; i < w->count; i++) {
        void *out = element(a, r->out, (w->row + i) * r->out_row + w->head * a->dv);
        rows_out(a, o + i * o_row, o_row, 1, a->dv, sum[i], out, 0, false);
        if (r->copy)
            memcpy(r->copy + ((w->row + i) * a->heads + w->head) * a->dv, out, (size_t)a->dv * sizeof(float));
    }
}

/* Results of narrow heads are summed with queries side by side, too: d rows of them are fewer vectors than rows of
 * queries padded to whole ones. Every element is the same sum in the same order. */
INLINE bool is_narrow(const pl__attention *a, const score_view *w, int64_t d)
{
    return !a->bf16 && 4 * d * w->lanes < 3 * w->count * ((d + PL_VL - 1) / PL_VL * PL_VL);
}

/* sums (d, lanes) = or += the transpose of s (nj, lanes) times rows of keys or values. */
static void add_narrow(const score_view *w, int64_t d, int64_t nj, const float *rows, int64_t row, const float *s,
                       float *sums, bool add)
{
    gemm(true, d, w->lanes, nj, rows, row, s, w->lanes, sums, w->lanes, add);
}

static float *carve(float **scratch, int64_t rows, int64_t width)
{
    float *at = *scratch;
    *scratch += pl__attention_pad(rows * width);
    return at;
}

static void attention_forward(const pl__attention *a, const pl__attention_task *t, int64_t head,
                              const pl__attention_result *r, float *scratch)
{
    const score_view w = score_view_of(a, t, head);
    const int64_t dv = (a->dv + PL_VL - 1) / PL_VL * PL_VL, blocks = pl__block_count(w.visible, PL__KEY_BLOCK);
    float *maximum = carve(&scratch, 1, PL__QUERY_BLOCK), *sum = carve(&scratch, 1, PL__QUERY_BLOCK);
    float *correction = carve(&scratch, 1, PL__QUERY_BLOCK);
    float *qt = carve(&scratch, a->dk, w.lanes), *s = carve(&scratch, PL__KEY_BLOCK, w.lanes);
    float *o = carve(&scratch, w.count, dv), *values = carve(&scratch, PL__KEY_BLOCK, dv);
    float *keys = carve(&scratch, PL__KEY_BLOCK, pl__attention_pad(a->dk));
    /* values in one piece: padded, and free of the cache conflicts of long strides; not worth it for few queries */
    const bool narrow = is_narrow(a, &w, a->dv);
    const bool gather = !narrow && (dv != a->dv || (a->v_row != a->dv && w.count > 8));
    float *sums = values; /* of a narrow head, whose values are read where they lie */

    tiles_begin(a->bf16);
    for (int64_t i = 0; i < w.lanes; i++) maximum[i] = -INFINITY, sum[i] = 0.0f;
    if (!blocks) memset(o, 0, (size_t)(w.count * dv) * sizeof *o);
    else {
        int64_t row = a->q_row;
        const float *q = as_floats(a, w.q, &row, w.count, a->dk, keys); /* before there are keys */
        side_by_side(a, &w, q, row, a->dk, a->scale * LOG2_E, qt);
    }
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t j0 = pl__block_begin(w.visible, PL__KEY_BLOCK, DROP_KEYS, block);
        const int64_t nj = pl__block_begin(w.visible, PL__KEY_BLOCK, DROP_KEYS, block + 1) - j0;
        const void *v = element(a, w.v, j0 * a->v_row);
        if (a->bf16) {
            pairs_along(a, element(a, w.k, j0 * a->k_row), a->k_row, nj, a->dk, keys);
            pairs_of_rows(a, v, a->v_row, nj, a->dv, values, dv);
        } else if (gather)
            copy_rows(v, a->v_row, nj, a->dv, 1.0f, values, dv);
        score_block(a, &w, j0, nj, keys, qt, s);
        softmax_block(a, w.lanes, nj, s, maximum, sum, correction);
        if (a->dropout > 0) drop_scores(a, &w, j0, nj, s, s, NULL);
        if (narrow) {
            for (int64_t i = 0; block && i < a->dv * w.lanes; i += PL_VL)
                vstore(sums + i, vload(sums + i) * vload(correction + i % w.lanes));
            add_narrow(&w, a->dv, nj, v, a->v_row, s, sums, block > 0);
            continue;
        }
        for (int64_t i = 0; block && i < w.count; i++)
            for (int64_t c = 0; c < dv; c += PL_VL) vstore(o + i * dv + c, vload(o + i * dv + c) * correction[i]);
        if (a->bf16) {
            if (a->dropout > 0) pair_rows_up(s, w.lanes, nj, w.lanes, 1.0f, s, w.lanes);
            gemm_pairs(true, w.count, dv, (nj + 1) / 2, s, w.lanes, values, dv, o, dv, block > 0);
        } else
            gemm(true, w.count, dv, nj, s, w.lanes, gather ? values : v, gather ? dv : a->v_row, o, dv, block > 0);
    }
    tiles_end(a->bf16);
    if (narrow && blocks) transpose(TRANSPOSE_PAD, sums, w.lanes, a->dv, w.count, 1.0f, o, dv);
    finish_queries(a, &w, o, dv, maximum, sum, r);
}
