/* op_cross_entropy.c - cross entropy of softmax(logits) with labels, smoothed labels, or weighted classes. */
#include <math.h>

#include "ops.h"

enum { LOGITS, LABELS, WEIGHT, N_IN };
enum { STATS, N_SAVED }; /* maximum and 1 / sum of exponentials of each row */

static const pl_port ports[N_IN] = {{"logits", PL_DTYPE_F32, 0},
                                    {"labels", PL_DTYPE_I64, 0},
                                    {"weight", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

static pl_status check_values(const pl_call *call, const pl_attr_cross_entropy *attr)
{
    const int64_t rows = call->in[LOGITS].shape[0], classes = call->in[LOGITS].shape[1];
    const int64_t *labels = call->in[LABELS].data;
    const float *weight = call->in[WEIGHT].data;
    for (int64_t i = 0; i < rows; i++)
        if ((uint64_t)labels[i] >= (uint64_t)classes && labels[i] != attr->ignore_index)
            return pl__fail(PL_STATUS_INDEX, "cross_entropy: labels[%lld] is %lld, expected 0 to %lld or %lld, which is"
                            " ignored", (long long)i, (long long)labels[i], (long long)classes - 1,
                            (long long)attr->ignore_index);
    for (int64_t c = 0; weight && c < classes; c++)
        if (!(weight[c] >= 0 && isfinite(weight[c])))
            return pl__fail(PL_STATUS_VALUE, "cross_entropy: weight[%lld] is %g, expected a finite weight, 0 or more",
                            (long long)c, (double)weight[c]);
    return PL_STATUS_OK;
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_cross_entropy;
    PL__CHECK(pl__check_ports(op, call));
    const pl_attr_cross_entropy *attr = call->attr;
    const pl_tensor *logits = &call->in[LOGITS];
    PL__CHECK(pl__check_rank(op, call, LOGITS, 2));
    if (logits->shape[1] < 1) return pl__fail(PL_STATUS_VALUE, "cross_entropy: logits has no classes");
    PL__CHECK(pl__check_shape(op, call, LABELS, 1, logits->shape, "the rows of logits"));
    PL__CHECK(pl__check_shape(op, call, WEIGHT, 1, &logits->shape[1], "the classes of logits"));
    PL__CHECK(pl__check_rate(op, "label_smoothing", attr->label_smoothing));
    PL__CHECK(pl__check_enum(op, "reduction", attr->reduction, PL_REDUCTION_COUNT));
    PL__CHECK(check_values(call, attr));
    if (pl__wants(call, WEIGHT)) return pl__fail(PL_STATUS_UNSUPPORTED, "cross_entropy: weight has no gradient");
    PL__CHECK(pl_tensor_init(&call->out[0], NULL, PL_DTYPE_F32, attr->reduction == PL_REDUCTION_NONE, logits->shape));
    if (call->want) return pl__shape2(&call->saved[STATS], PL_DTYPE_F32, 2, logits->shape[0]);
    pl__no_tensor(&call->saved[STATS]);
    return PL_STATUS_OK;
}

typedef struct state {
    const pl_simd *simd;
    const float *logits, *weight;
    const int64_t *labels;
    int64_t classes, ignored;
    double smoothing, spread; /* spread: the share of a label that each class gets */
    double all;               /* weights of all classes */
    float *max, *share;       /* NULL: not saved */
    double *losses;
    const float *dout;
    double factor; /* 1 / total weight of the rows, for the mean */
    bool each;     /* dout has one value a row */
    float *dlogits;
    bool add;
} state;

static state arguments(const pl_call *call)
{
    const pl_attr_cross_entropy *attr = call->attr;
    const pl_tensor *logits = &call->in[LOGITS], *stats = &call->saved[STATS];
    const int64_t rows = logits->shape[0], classes = logits->shape[1];
    state s = {.simd = call->ctx->simd, .logits = logits->data, .labels = call->in[LABELS].data,
               .weight = call->in[WEIGHT].data, .classes = classes, .ignored = attr->ignore_index,
               .smoothing = attr->label_smoothing, .spread = attr->label_smoothing / (double)classes,
               .all = (double)classes, .factor = 1, .each = attr->reduction == PL_REDUCTION_NONE};
    if (call->want) s.max = stats->data, s.share = s.max + rows;
    if (s.weight) {
        s.all = 0;
        for (int64_t c = 0; c < classes; c++) s.all += (double)s.weight[c];
    }
    if (attr->reduction == PL_REDUCTION_MEAN) {
        double total = 0;
        for (int64_t i = 0; i < rows; i++)
            if (s.labels[i] != s.ignored) total += s.weight ? (double)s.weight[s.labels[i]] : 1.0;
        s.factor = total > 0 ? 1 / total : 0;
    }
    return s;
}

static double own_weight(const state *s, int64_t label) { return s->weight ? (double)s->weight[label] : 1.0; }

static void forward_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t label = s->labels[i];
        float max = 0, sum = 1, below = 0;
        double loss = 0;
        if (label != s->ignored) {
            const float *x = s->logits + i * s->classes;
            s->simd->cross_entropy_row(x, s->classes, s->weight, s->smoothing > 0, &max, &sum, &below);
            const double log_sum = log((double)sum);
            loss = (1 - s->smoothing) * own_weight(s, label) * ((double)max - (double)x[label] + log_sum);
            if (s->smoothing > 0) loss += s->spread * ((double)below + log_sum * s->all);
        }
        s->losses[i] = loss;
        if (s->max) s->max[i] = max, s->share[i] = 1.0f / sum;
    }
}

static int64_t grain_of(const state *s) { return pl__grain(40 + 0.5 * (double)s->classes); }

static pl_status forward(const pl_call *call)
{
    const int64_t rows = call->in[LOGITS].shape[0];
    float *out = call->out[0].data;
    state s = arguments(call);
    PL__CHECK(pl__scratch(&s.losses, (size_t)rows, sizeof *s.losses));
    pl__parallel_ranges(call->ctx, rows, grain_of(&s), forward_range, &s);
    double total = 0;
    for (int64_t i = 0; i < rows; i++) {
        total += s.losses[i];
        if (s.each) out[i] = (float)s.losses[i];
    }
    if (!s.each) *out = (float)(total * s.factor);
    pl_buffer_put(s.losses);
    return PL_STATUS_OK;
}

static void backward_range(void *arg, int64_t begin, int64_t end)
{
    const state *s = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t label = s->labels[i];
        float *dx = s->dlogits + i * s->classes;
        if (label == s->ignored) {
            if (!s->add) memset(dx, 0, (size_t)s->classes * sizeof *dx);
            continue;
        }
        const double d = s->factor * (double)s->dout[s->each ? i : 0];
        const double own = d * (1 - s->smoothing) * own_weight(s, label), uniform = d * s->spread;
        const double softmax = (own + uniform * s->all) * (double)s->share[i];
        s->simd->cross_entropy_back(s->logits + i * s->classes, s->classes, s->weight, s->max[i], (float)softmax,
                                    (float)uniform, dx, s->add);
        dx[label] -= (float)own;
    }
}

static pl_status backward(const pl_call *call)
{
    state s = arguments(call);
    s.dout = call->dout[0].data;
    s.dlogits = call->din[LOGITS].data;
    s.add = pl__adds(call, LOGITS);
    if (s.dlogits) pl__parallel_ranges(call->ctx, call->in[LOGITS].shape[0], grain_of(&s), backward_range, &s);
    return PL_STATUS_OK;
}

const pl_op pl_op_cross_entropy = {"cross_entropy", sizeof(pl_attr_cross_entropy), ports, N_IN, 1, N_SAVED, infer,
                                   forward, backward, 0};
