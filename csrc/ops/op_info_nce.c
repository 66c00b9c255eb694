/* op_info_nce.c - symmetric InfoNCE over the products of all pairs, in tiles. */
#include <math.h>

#include "pairs.h"

enum { A, B, LOGIT_SCALE, PRESENT, N_IN };
enum { STATS, PRODUCTS, N_SAVED };
enum { ROW_MAX, ROW_SUM, COL_MAX, COL_SUM, N_STATS }; /* backward: one over the sum */

static const pl_port ports[N_IN] = {{"a", PL_DTYPE_F32, 0},
                                    {"b", PL_DTYPE_F32, 0},
                                    {"logit_scale", PL_DTYPE_F32, 0},
                                    {"present", PL_DTYPE_I64, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    PL__CHECK(pl__check_ports(&pl_op_info_nce, call));
    const pl_attr_info_nce *attr = call->attr;
    PL__CHECK(pl__check_rate(&pl_op_info_nce, "label_smoothing", attr->label_smoothing));
    PL__CHECK(pl__pairs_check(&pl_op_info_nce, call, PRESENT));
    PL__CHECK(pl_tensor_init(&call->out[0], NULL, PL_DTYPE_F32, 0, NULL));
    pl__no_tensor(&call->saved[STATS]);
    pl__no_tensor(&call->saved[PRODUCTS]);
    if (!call->want) return PL_STATUS_OK;
    PL__CHECK(pl__shape2(&call->saved[STATS], PL_DTYPE_F32, N_STATS, pl__pairs_padded(call->in[A].shape[0])));
    return pl__pairs_infer_kept(call, PRESENT, &call->saved[PRODUCTS]);
}

typedef struct state {
    const pl_context *ctx;
    const pl__tile *tile;
    float scale, weight, smoothing, shift; /* shift: what smoothing takes from every pair */
    float *stats; /* (N_STATS, length) */
    int64_t length;
    float *own;      /* forward: products of the pairs themselves */
    double *moments; /* backward: a sum for each row of a tile */
    double total;
} state;

#define UNIT 16    /* rows or columns that one thread takes at a time */
#define NS_EACH 0.2 /* an exponential and what goes with it */

static int64_t grain(const pl__tile *t)
{
    return pl__grain(NS_EACH * UNIT * (double)(t->rows < t->cols ? t->rows : t->cols));
}

static int64_t units(int64_t n) { return (n + UNIT - 1) / UNIT; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---------------------------------------------------------------- forward */

/* Units of rows first, then units of columns: neither depends on the other. */
static void statistics_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    const pl__tile *t = s->tile;
    const pl_simd *simd = s->ctx->simd;
    const int64_t row_units = units(t->rows);
    float *max = s->stats + t->r0, *sum = max + s->length;
    if (begin < row_units) {
        const int64_t i = begin * UNIT, n = least(least(end, row_units) * UNIT, t->rows) - i;
        simd->nce_rows(t->s + i * t->row, n, t->cols, t->row, s->scale, max + i, sum + i);
    }
    max = s->stats + COL_MAX * s->length + t->c0, sum = max + s->length;
    if (end > row_units)
        simd->nce_cols(t->s, t->rows, t->row, (begin > row_units ? begin - row_units : 0) * UNIT,
                       (end - row_units) * UNIT, s->scale, max, sum);
}

static void forward_tile(void *arg, const pl__tile *t)
{
    state *s = arg;
    s->tile = t;
    pl__parallel_ranges(s->ctx, units(t->rows) + units(t->cols), grain(t), statistics_range, s);
    if (t->r0 == t->c0)
        for (int64_t i = 0; i < t->rows; i++) s->own[t->r0 + i] = t->s[i * t->row + i];
}

/* Sum of the present rows of x, run by run. */
static void sum_of_rows(const pl__pairs *pairs, const float *x, float *sum)
{
    memset(sum, 0, (size_t)pairs->width * sizeof *sum);
    for (int64_t i = 0, n; i < pairs->count; i += n) {
        const int64_t row = pairs->index ? pairs->index[i] : i;
        n = pairs->index ? 1 : pairs->count;
        while (i + n < pairs->count && pairs->index[i + n] == row + n) n++;
        pl__column_sums(pairs->ctx, x + row * pairs->width, n, pairs->width, sum, true);
    }
}

/* The sum of all products is the product of the sums. */
static pl_status sum_of_products(const pl__pairs *pairs, double *sum)
{
    float *a;
    PL__CHECK(pl__scratch(&a, (size_t)pairs->width, 2 * sizeof *a));
    float *b = a + pairs->width;
    sum_of_rows(pairs, pairs->a, a);
    sum_of_rows(pairs, pairs->b, b);
    *sum = 0;
    for (int64_t j = 0; j < pairs->width; j++) *sum += (double)a[j] * b[j];
    pl_buffer_put(a);
    return PL_STATUS_OK;
}

static pl_status forward(const pl_call *call)
{
    pl_status status;
    pl__pairs pairs = {0};
    const int64_t length = pl__pairs_padded(call->in[A].shape[0]);
    float *scratch = NULL, *loss = call->out[0].data;
    const double smoothing = ((const pl_attr_info_nce *)call->attr)->label_smoothing;
    state s = {.ctx = call->ctx, .scale = pl__pairs_scale(call), .length = length};
    PL__TRY(pl__pairs_open(&pairs, call, PRESENT));
    PL__TRY(pl__scratch(&scratch, (size_t)length, (1 + N_STATS) * sizeof *scratch));
    s.own = scratch;
    s.stats = call->saved[STATS].ndim >= 0 ? call->saved[STATS].data : scratch + length;
    for (int64_t i = 0; i < length; i++) {
        s.stats[i] = s.stats[COL_MAX * length + i] = -INFINITY;
        s.stats[ROW_SUM * length + i] = s.stats[COL_SUM * length + i] = 0;
    }
    PL__TRY(pl__pairs_forward(&pairs, forward_tile, &s, &call->saved[PRODUCTS]));
    double total = 0, own = 0, all = 0;
    if (smoothing > 0) PL__TRY(sum_of_products(&pairs, &all));
    for (int64_t i = 0; i < pairs.count; i++)
        for (int side = ROW_MAX; side < N_STATS; side += 2) {
            float *sum = &s.stats[(side + 1) * length + i];
            total += (double)s.scale * ((double)s.stats[side * length + i] - s.own[i]) + log(*sum);
            *sum = 1.0f / *sum;
            own += s.own[i];
        }
    if (pairs.count) total += smoothing * s.scale * (own - 2 * all / (double)pairs.count);
    *loss = pairs.count ? (float)(total / (2.0 * (double)pairs.count)) : 0.0f;
done:
    pl_buffer_put(scratch);
    pl__pairs_close(&pairs);
    return status;
}

/* ---------------------------------------------------------------- backward */

static void gradient_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    const pl__tile *t = s->tile;
    const int64_t at = begin * t->row;
    s->ctx->simd->nce_back(t->s + at, t->g + at, end - begin, t->cols, t->row, s->scale, s->weight, s->smoothing,
                           s->shift, s->stats + t->r0 + begin, s->stats + COL_MAX * s->length + t->c0, s->length,
                           t->r0 == t->c0 ? begin : -1, s->moments + begin);
}

static void backward_tile(void *arg, const pl__tile *t)
{
    state *s = arg;
    s->tile = t;
    pl__parallel_ranges(s->ctx, t->rows, pl__grain(2 * NS_EACH * (double)t->cols), gradient_range, s);
    for (int64_t i = 0; i < t->rows; i++) s->total += s->moments[i];
}

static pl_status backward(const pl_call *call)
{
    pl_status status;
    pl__pairs pairs = {0};
    const double dloss = *(const float *)call->dout[0].data;
    const int64_t length = pl__pairs_padded(call->in[A].shape[0]);
    float *dscale = call->din[LOGIT_SCALE].data;
    state s = {.ctx = call->ctx, .scale = pl__pairs_scale(call), .stats = call->saved[STATS].data, .length = length};
    PL__TRY(pl__pairs_open(&pairs, call, PRESENT));
    PL__TRY(pl__scratch(&s.moments, (size_t)length, sizeof *s.moments));
    const double share = pairs.count ? dloss / (2.0 * (double)pairs.count) : 0;
    s.weight = (float)(share * s.scale);
    s.smoothing = (float)((const pl_attr_info_nce *)call->attr)->label_smoothing;
    s.shift = pairs.count ? 2.0f * s.smoothing / (float)pairs.count : 0;
    PL__TRY(pl__pairs_backward(&pairs, backward_tile, &s, &call->saved[PRODUCTS], call->din[A].data,
                               pl__adds(call, A), call->din[B].data, pl__adds(call, B)));
    if (dscale) *dscale = (pl__adds(call, LOGIT_SCALE) ? *dscale : 0) + (float)(share * s.total);
done:
    pl_buffer_put(s.moments);
    pl__pairs_close(&pairs);
    return status;
}

const pl_op pl_op_info_nce = {"info_nce", sizeof(pl_attr_info_nce), ports, N_IN, 1, N_SAVED, infer, forward, backward,
                              0};
