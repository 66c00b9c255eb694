/* op_sigmoid_contrastive.c - every pair of rows as a binary question of its own, in tiles. */
#include "pairs.h"

enum { A, B, LOGIT_SCALE, LOGIT_BIAS, PRESENT, N_IN };
enum { PRODUCTS, N_SAVED };

static const pl_port ports[N_IN] = {{"a", PL_DTYPE_F32, 0},
                                    {"b", PL_DTYPE_F32, 0},
                                    {"logit_scale", PL_DTYPE_F32, 0},
                                    {"logit_bias", PL_DTYPE_F32, 0},
                                    {"present", PL_DTYPE_I64, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    PL__CHECK(pl__check_ports(&pl_op_sigmoid_contrastive, call));
    PL__CHECK(pl__pairs_check(&pl_op_sigmoid_contrastive, call, PRESENT));
    pl__no_tensor(&call->saved[PRODUCTS]);
    if (call->want) PL__CHECK(pl__pairs_infer_kept(call, PRESENT, &call->saved[PRODUCTS]));
    return pl_tensor_init(&call->out[0], NULL, PL_DTYPE_F32, 0, NULL);
}

typedef struct state {
    const pl_context *ctx;
    const pl__tile *tile;
    float scale, bias, weight;
    double *sums; /* of each row of a tile: the loss, or the gradients with respect to log scale and bias */
    double total[2];
} state;

#define NS_EACH 0.3 /* an element of a tile */

static void forward_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    const pl__tile *t = s->tile;
    s->ctx->simd->pair_rows(t->s + begin * t->row, end - begin, t->cols, t->row, s->scale, s->bias,
                            t->r0 == t->c0 ? begin : -1, s->sums + begin);
}

static void forward_tile(void *arg, const pl__tile *t)
{
    state *s = arg;
    s->tile = t;
    pl__parallel_ranges(s->ctx, t->rows, pl__grain(NS_EACH * (double)t->cols), forward_range, s);
    for (int64_t i = 0; i < t->rows; i++) s->total[0] += s->sums[i];
}

static void backward_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    const pl__tile *t = s->tile;
    const int64_t at = begin * t->row;
    s->ctx->simd->pair_back(t->s + at, t->g + at, end - begin, t->cols, t->row, s->scale, s->bias, s->weight,
                            t->r0 == t->c0 ? begin : -1, s->sums + 2 * begin);
}

static void backward_tile(void *arg, const pl__tile *t)
{
    state *s = arg;
    s->tile = t;
    pl__parallel_ranges(s->ctx, t->rows, pl__grain(NS_EACH * (double)t->cols), backward_range, s);
    for (int64_t i = 0; i < t->rows; i++) {
        s->total[0] += s->sums[2 * i];
        s->total[1] += s->sums[2 * i + 1];
    }
}

static pl_status open(const pl_call *call, pl__pairs *pairs, state *s)
{
    *s = (state){.ctx = call->ctx, .scale = pl__pairs_scale(call), .bias = *(const float *)call->in[LOGIT_BIAS].data};
    PL__CHECK(pl__pairs_open(pairs, call, PRESENT));
    return pl__scratch(&s->sums, (size_t)pairs->count, 2 * sizeof *s->sums);
}

static void close(pl__pairs *pairs, state *s)
{
    pl_buffer_put(s->sums);
    pl__pairs_close(pairs);
}

static pl_status forward(const pl_call *call)
{
    pl_status status;
    pl__pairs pairs = {0};
    state s;
    PL__TRY(open(call, &pairs, &s));
    PL__TRY(pl__pairs_forward(&pairs, forward_tile, &s, &call->saved[PRODUCTS]));
    *(float *)call->out[0].data = pairs.count ? (float)(s.total[0] / (double)pairs.count) : 0.0f;
done:
    close(&pairs, &s);
    return status;
}

static void put_scalar(const pl_call *call, int input, double value)
{
    float *to = call->din[input].data;
    if (to) *to = (pl__adds(call, input) ? *to : 0) + (float)value;
}

static pl_status backward(const pl_call *call)
{
    pl_status status;
    pl__pairs pairs = {0};
    state s;
    PL__TRY(open(call, &pairs, &s));
    const double share = pairs.count ? *(const float *)call->dout[0].data / (double)pairs.count : 0;
    s.weight = (float)(share * s.scale);
    PL__TRY(pl__pairs_backward(&pairs, backward_tile, &s, &call->saved[PRODUCTS], call->din[A].data,
                               pl__adds(call, A), call->din[B].data, pl__adds(call, B)));
    put_scalar(call, LOGIT_SCALE, share * s.total[0]);
    put_scalar(call, LOGIT_BIAS, share * s.total[1]);
done:
    close(&pairs, &s);
    return status;
}

const pl_op pl_op_sigmoid_contrastive = {"sigmoid_contrastive", 0, ports, N_IN, 1, N_SAVED, infer, forward, backward,
                                         0};
