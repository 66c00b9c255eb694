/* body_attention_back.h - gradients of attention for all samples that read one key segment, one key head.
 *
 * The weights are computed again from the saved lse: P = e^(S - lse), by way of powers of 2, dP = dO V^T,
 * dS = P (dP - delta), where delta = sum over keys of P dP = dO . O. Then dV = P^T dO, dK = dS^T Q, dQ = dS K. One task
 * owns dk and dv of its segment and dq of its samples, so nothing is shared and every sum has one order. */

typedef struct back_scratch {
    float *qt, *q, *dot, *dout, *dq; /* a block of queries, side by side (t) and in rows, and of output gradients */
    float *s, *dp, *dropped, *lse, *delta;
    float *k, *dk, *dv;              /* all keys of the segment, in padded rows; k in pairs of rows with bfloat16 */
    float *k_pairs, *v_pairs, *pairs; /* bfloat16: keys and values in pairs along the head, slopes along queries */
    float *rows, *out; /* a block of queries or of output gradients, and a row of results, that were bfloat16 */
    int64_t k_width, v_width;
} back_scratch;

/* delta = dO . O, where the output was kept. */
static void delta_from_output(const pl__attention *a, const score_view *w, const pl__attention_gradient *g,
                              const float *dout, int64_t dout_row, float *scratch, float *delta)
{
    for (int64_t i = 0; i < w->count; i++) {
        int64_t row = g->out_row;
        const void *from = element(a, g->out, (w->row + i) * row + w->head * a->dv);
        const float *x = as_floats(a, from, &row, 1, a->dv, scratch);
        const float *y = dout + i * dout_row;
        vf sum = vset(0.0f);
        int64_t c = 0;
        for (; c + PL_VL <= a->dv; c += PL_VL) sum += vload(x + c) * vload(y + c);
        if (c < a->dv) sum += vload_n(x + c, a->dv - c) * vload_n(y + c, a->dv - c);
        delta[i] = vsum(sum);
    }
}

/* s: scores -> weights, dp -> gradient of the scores. With dropout, `dropped` are the weights that met the values. */
static void gradient_of_scores(const pl__attention *a, const score_view *w, bool know_delta, int64_t j0, int64_t nj,
                               back_scratch *b)
{
    const int64_t lanes = w->lanes;
    for (int64_t i = 0; i < lanes; i += PL_VL) {
        const vf lse = vload(b->lse + i);
        for (int64_t j = 0; j < nj; j++) {
            float *at = b->s + j * lanes + i;
            vstore(at, vexp2_negative(vload(at) - lse, a->bf16));
        }
    }
    if (a->dropout > 0) drop_scores(a, w, j0, nj, b->s, b->dropped, b->dp);
    for (int64_t i = 0; i < lanes; i += PL_VL) {
        vf delta = vload(b->delta + i);
        if (!know_delta) {
            delta = vset(0.0f);
            for (int64_t j = 0; j < nj; j++) delta += vload(b->s + j * lanes + i) * vload(b->dp + j * lanes + i);
        }
        for (int64_t j = 0; j < nj; j++) {
            float *at = b->dp + j * lanes + i;
            vstore(at, vload(b->s + j * lanes + i) * (vload(at) - delta));
        }
    }
}

/* The same for products of bfloat16, where nobody needs the results in float32: weights and gradients of scores become
 * pairs along the queries, and the latter in place pairs along the keys as well. */
static void gradient_of_scores_in_pairs(const score_view *w, bool know_delta, int64_t nj, back_scratch *b)
{
    const int64_t lanes = w->lanes;
    uint16_t *weights = (uint16_t *)b->dropped, *slopes = (uint16_t *)b->pairs;
    for (int64_t i = 0; i < lanes; i += PL_VL) {
        const vf lse = vload(b->lse + i);
        vf delta = vload(b->delta + i), other = {0};
        if (!know_delta) {
            delta = vset(0.0f);
            int64_t j = 0;
            for (; j + 2 <= nj; j += 2) {
                float *at = b->s + j * lanes + i;
                const vf p = vexp2_negative(vload(at) - lse, true), q = vexp2_negative(vload(at + lanes) - lse, true);
                vstore(at, p), vstore(at + lanes, q);
                delta += p * vload(b->dp + j * lanes + i);
                other += q * vload(b->dp + (j + 1) * lanes + i);
            }
            if (j < nj) {
                const vf p = vexp2_negative(vload(b->s + j * lanes + i) - lse, true);
                vstore(b->s + j * lanes + i, p);
                delta += p * vload(b->dp + j * lanes + i);
            }
            delta += other;
        }
        for (int64_t j = 0; j < nj; j += 2) {
            vf slope[2] = {{0}, {0}};
            for (int64_t u = 0; u < 2 && j + u < nj; u++) {
                const int64_t at = (j + u) * lanes + i;
                const vf s = vload(b->s + at), p = know_delta ? vexp2_negative(s - lse, true) : s;
                slope[u] = p * (vload(b->dp + at) - delta);
                store_as_bf16(weights + 2 * (at - i) + i, p);
                store_as_bf16(slopes + 2 * (at - i) + i, slope[u]);
            }
            vstore(b->dp + j / 2 * lanes + i, pair_of(slope[0], slope[1]));
        }
    }
}

/* dp (nj, lanes) is added to the gradients of the biases. */
static void gradient_of_bias(const pl__attention *a, const score_view *w, const pl__attention_gradient *g, int64_t j0,
                             int64_t nj, const float *dp)
{
    if (g->dtable)
        transpose(TRANSPOSE_ADD, dp, w->lanes, nj, w->count, 1.0f,
                  g->dtable + (w->head * a->table_rows + w->query) * a->table_columns + j0, a->table_columns);
    if (g->drelative) {
        float *values = g->drelative + w->head * a->relative_size;
        for (int64_t i = 0; i < w->count; i++) {
            const int64_t *index = a->relative_index + (w->query + i) * a->index_columns + j0;
            for (int64_t j = 0; j < nj; j++) values[index[j]] += dp[j * w->lanes + i];
        }
    }
}

/* y (nj, width) += x (nj, lanes) times rows of queries (count, width). */
static void add_to_keys(const pl__attention *a, const score_view *w, int64_t nj, const float *x, const float *rows,
                        int64_t width, float *y)
{
    if (a->bf16)
        gemm_pairs(false, nj, width, (w->count + 1) / 2, x, w->lanes, rows, width, y, width, true);
    else
        gemm(false, nj, width, w->count, x, w->lanes, rows, width, y, width, true);
}

/* Makes the pairs of gradient_of_scores_in_pairs of what stands there in float32, those of the weights in place. */
static void into_pairs(const score_view *w, int64_t nj, float *weights, back_scratch *b)
{
    pair_columns(weights, w->lanes, nj, w->lanes, weights, w->lanes);
    pair_columns(b->dp, w->lanes, nj, w->lanes, b->pairs, w->lanes);
    pair_rows_up(b->dp, w->lanes, nj, w->lanes, 1.0f, b->dp, w->lanes);
}

/* Rows of queries or gradients as add_to_keys wants them. */
static void rows_of_block(const pl__attention *a, const score_view *w, const float *x, int64_t x_row, int64_t d,
                          float scale, float *y, int64_t width)
{
    if (a->bf16)
        pair_rows_up(x, x_row, w->count, d, scale, y, width);
    else
        copy_rows(x, x_row, w->count, d, scale, y, width);
}

static void backward_block(const pl__attention *a, const score_view *w, const pl__attention_gradient *g,
                           back_scratch *b)
{
    const int64_t blocks = pl__block_count(w->visible, PL__KEY_BLOCK), lanes = w->lanes;
    const int64_t k_pad = pl__attention_pad(a->dk) / 2, v_pad = pl__attention_pad(a->dv) / 2;
    const bool narrow = g->dq && blocks && is_narrow(a, w, a->dk);
    const bool scores = g->dq || g->dk || g->dtable || g->drelative; /* else only dv is wanted */
    if (blocks) {
        int64_t q_row = a->q_row, dout_row = g->dout_row;
        const float *q = as_floats(a, w->q, &q_row, w->count, a->dk, b->rows);
        side_by_side(a, w, q, q_row, a->dk, a->scale * LOG2_E, b->qt);
        rows_of_block(a, w, q, q_row, a->dk, a->scale, b->q, b->k_width);
        const float *dout = as_floats(a, element(a, g->dout, w->row * dout_row + w->head * a->dv), &dout_row, w->count,
                                      a->dv, b->rows);
        side_by_side(a, w, dout, dout_row, a->dv, 1.0f, b->dot);
        rows_of_block(a, w, dout, dout_row, a->dv, 1.0f, b->dout, b->v_width);
        for (int64_t i = 0; i < lanes; i++) {
            b->lse[i] = i < w->count ? g->lse[(w->row + i) * a->heads + w->head] * LOG2_E : INFINITY;
            b->delta[i] = 0.0f;
        }
        if (g->out) delta_from_output(a, w, g, dout, dout_row, b->out, b->delta);
    } else
        memset(b->dq, 0, (size_t)(w->count * b->k_width) * sizeof *b->dq);
    const bool plain = a->bf16 && !(a->dropout > 0) && !g->dtable && !g->drelative;
    float *weights = plain || a->dropout > 0 ? b->dropped : b->s;
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t j0 = pl__block_begin(w->visible, PL__KEY_BLOCK, DROP_KEYS, block);
        const int64_t nj = pl__block_begin(w->visible, PL__KEY_BLOCK, DROP_KEYS, block + 1) - j0;
        score_block(a, w, j0, nj, b->k_pairs + j0 * k_pad, b->qt, b->s);
        if (scores)
            times_block(a, w, nj, a->dv, element(a, w->v, j0 * a->v_row), a->v_row, b->v_pairs + j0 * v_pad, b->dot,
                        b->dp, false);
        else memset(b->dp, 0, (size_t)(nj * lanes) * sizeof *b->dp);
        if (plain) {
            gradient_of_scores_in_pairs(w, g->out != NULL, nj, b);
        } else {
            gradient_of_scores(a, w, g->out != NULL, j0, nj, b);
            gradient_of_bias(a, w, g, j0, nj, b->dp);
            if (a->bf16) into_pairs(w, nj, weights, b);
        }
        if (g->dv) add_to_keys(a, w, nj, weights, b->dout, b->v_width, b->dv + j0 * b->v_width);
        if (g->dk) add_to_keys(a, w, nj, a->bf16 ? b->pairs : b->dp, b->q, b->k_width, b->dk + j0 * b->k_width);
        if (g->dq && a->bf16) { /* j0 is even */
            gemm_pairs(true, w->count, b->k_width, (nj + 1) / 2, b->dp, lanes, b->k + j0 / 2 * b->k_width, b->k_width,
                       b->dq, b->k_width, block > 0);
        } else if (narrow)
            add_narrow(w, a->dk, nj, b->k + j0 * b->k_width, b->k_width, b->dp, b->dq, block > 0);
        else if (g->dq)
            gemm(true, w->count, b->k_width, nj, b->dp, lanes, b->k + j0 * b->k_width, b->k_width, b->dq, b->k_width,
                 block > 0);
    }
    if (narrow) transpose(TRANSPOSE_PAD, b->dq, lanes, a->dk, w->count, 1.0f, b->s, b->k_width);
    if (g->dq)
        rows_out(a, narrow ? b->s : b->dq, b->k_width, w->count, a->dk, a->scale,
                 element(a, g->dq, w->row * g->dq_row + w->head * a->dk), g->dq_row, g->add_dq);
}

/* Rows of dk or dv of a whole segment; keys behind the last one read get zeros. */
static void return_segment(const pl__attention *a, float *x, int64_t width, int64_t keys, int64_t all, int64_t d,
                           void *y, int64_t y_row, bool add)
{
    rows_out(a, x, width, keys, d, 1.0f, y, y_row, add);
    for (int64_t j = keys; !add && j < all; j++)
        memset(element(a, y, j * y_row), 0, (size_t)d * (a->half ? sizeof(uint16_t) : sizeof(float)));
}

static void attention_backward(const pl__attention *a, int64_t segment, int64_t kv_head,
                               const pl__attention_gradient *g, float *scratch)
{
    const int64_t group = a->heads / a->kv_heads, begin = a->kv_begin[segment], all = a->kv_end[segment] - begin;
    int64_t keys = 0;
    for (int64_t n = g->first[segment]; n < g->first[segment + 1]; n++) {
        const int64_t more = pl__attention_keys(a, g->order[n]);
        keys = more > keys ? more : keys;
    }
    back_scratch b = {.k_width = (a->dk + PL_VL - 1) / PL_VL * PL_VL, .v_width = (a->dv + PL_VL - 1) / PL_VL * PL_VL};
    b.lse = carve(&scratch, 1, PL__QUERY_BLOCK);
    b.delta = carve(&scratch, 1, PL__QUERY_BLOCK);
    b.qt = carve(&scratch, a->dk, PL__QUERY_BLOCK);
    b.dot = carve(&scratch, a->dv, PL__QUERY_BLOCK);
    b.q = carve(&scratch, PL__QUERY_BLOCK, b.k_width);
    b.dq = carve(&scratch, PL__QUERY_BLOCK, b.k_width);
    b.dout = carve(&scratch, PL__QUERY_BLOCK, b.v_width);
    b.s = carve(&scratch, PL__KEY_BLOCK, PL__QUERY_BLOCK);
    b.dp = carve(&scratch, PL__KEY_BLOCK, PL__QUERY_BLOCK);
    b.dropped = carve(&scratch, PL__KEY_BLOCK, PL__QUERY_BLOCK);
    b.k = carve(&scratch, keys, b.k_width);
    b.dk = carve(&scratch, keys, b.k_width);
    b.dv = carve(&scratch, keys, b.v_width);
    const void *k = element(a, a->k, begin * a->k_row + kv_head * a->dk);
    const void *v = element(a, a->v, begin * a->v_row + kv_head * a->dv);
    if (a->half) {
        const int64_t width = b.k_width > b.v_width ? b.k_width : b.v_width;
        b.rows = carve(&scratch, PL__QUERY_BLOCK, width);
        b.out = carve(&scratch, 1, width);
    }
    if (a->bf16) {
        const int64_t k_pad = pl__attention_pad(a->dk) / 2, v_pad = pl__attention_pad(a->dv) / 2;
        b.pairs = carve(&scratch, PL__KEY_BLOCK, PL__QUERY_BLOCK);
        b.k_pairs = carve(&scratch, keys, k_pad);
        b.v_pairs = carve(&scratch, keys, v_pad);
        pairs_along(a, k, a->k_row, keys, a->dk, b.k_pairs);
        pairs_along(a, v, a->v_row, keys, a->dv, b.v_pairs);
        if (g->dq) pairs_of_rows(a, k, a->k_row, keys, a->dk, b.k, b.k_width);
    } else if (g->dq)
        copy_rows(k, a->k_row, keys, a->dk, 1.0f, b.k, b.k_width);
    if (g->dk) memset(b.dk, 0, (size_t)(keys * b.k_width) * sizeof *b.dk);
    if (g->dv) memset(b.dv, 0, (size_t)(keys * b.v_width) * sizeof *b.dv);

    tiles_begin(a->bf16);
    for (int64_t n = g->first[segment]; n < g->first[segment + 1]; n++) {
        const int64_t sample = g->order[n], queries = pl__attention_queries(a, sample);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            for (int64_t i = 0; i < pl__block_count(queries, PL__QUERY_BLOCK); i++) {
                pl__attention_task t = {.sample = sample, .query = pl__block_begin(queries, PL__QUERY_BLOCK, 16, i)};
                t.count = pl__block_begin(queries, PL__QUERY_BLOCK, 16, i + 1) - t.query;
                const score_view w = score_view_of(a, &t, head);
                backward_block(a, &w, g, &b);
            }
    }
    tiles_end(a->bf16);
    if (g->dk)
        return_segment(a, b.dk, b.k_width, keys, all, a->dk, element(a, g->dk, begin * g->dk_row + kv_head * a->dk),
                       g->dk_row, g->add_dk);
    if (g->dv)
        return_segment(a, b.dv, b.v_width, keys, all, a->dv, element(a, g->dv, begin * g->dv_row + kv_head * a->dv),
                       g->dv_row, g->add_dv);
}
