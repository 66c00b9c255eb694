/* op_patch_embed.c - pictures to rows: a linear layer on patches that do not overlap, which is a convolution whose
 * stride is its kernel. Pictures are NHWC; a patch is the vector (c, ph, pw), as weights are laid out in PyTorch. */
#include "ops.h"

enum { IMAGES, W, BIAS, N_IN };

static const pl_port ports[N_IN] = {
    {"images", PL_DTYPE_F32, 0}, {"weight", PL_DTYPE_F32, 0}, {"bias", PL_DTYPE_F32, PL_PORT_OPTIONAL}};

typedef struct sizes {
    int64_t batch, down, across, channels, ph, pw; /* patches down and across a picture, and their height and width */
    int64_t rows, k, width;
} sizes;

static sizes sizes_of(const pl_call *call)
{
    const int64_t *x = call->in[IMAGES].shape, *w = call->in[W].shape;
    sizes s = {.batch = x[0], .down = x[1] / w[2], .across = x[2] / w[3], .channels = x[3], .ph = w[2], .pw = w[3]};
    s.rows = s.batch * s.down * s.across;
    s.k = s.channels * s.ph * s.pw;
    s.width = w[0];
    return s;
}

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_patch_embed;
    PL__CHECK(pl__check_ports(op, call));
    PL__CHECK(pl__check_rank(op, call, IMAGES, 4));
    PL__CHECK(pl__check_rank(op, call, W, 4));
    const int64_t *x = call->in[IMAGES].shape, *w = call->in[W].shape;
    PL__CHECK(pl__check_shape(op, call, W, 4, (int64_t[]){-1, x[3], -1, -1}, "(D, C, Ph, Pw) with the C of images"));
    PL__CHECK(pl__check_shape(op, call, BIAS, 1, w, "the first dimension of weight"));
    if (w[0] < 1 || w[1] < 1 || w[2] < 1 || w[3] < 1)
        return pl__fail(PL_STATUS_VALUE, "patch_embed: weight has shape (%lld, %lld, %lld, %lld), expected no zeros",
                        (long long)w[0], (long long)w[1], (long long)w[2], (long long)w[3]);
    if (x[1] % w[2] || x[2] % w[3])
        return pl__fail(PL_STATUS_VALUE, "patch_embed: images are %lld x %lld pixels, expected multiples of the patch, "
                        "%lld x %lld", (long long)x[1], (long long)x[2], (long long)w[2], (long long)w[3]);
    const sizes s = sizes_of(call);
    return pl__shape2(&call->out[0], PL_DTYPE_F32, s.rows, s.width);
}

typedef struct job {
    sizes s;
    const float *from;
    float *to;
    bool add;
} job;

/* One line of one patch: (pw, c) to (c, pw). The usual numbers of channels are constants to the compiler. */
static inline __attribute__((always_inline)) void split_line(const float *from, float *to, int64_t pw, int64_t channels,
                                                             int64_t plane)
{
    for (int64_t i = 0; i < pw; i++)
        for (int64_t c = 0; c < channels; c++) to[c * plane + i] = from[i * channels + c];
}

static inline __attribute__((always_inline)) void join_line(const float *from, float *to, int64_t pw, int64_t channels,
                                                            int64_t plane, bool add)
{
    for (int64_t i = 0; i < pw; i++)
        for (int64_t c = 0; c < channels; c++) {
            const float value = from[c * plane + i];
            to[i * channels + c] = add ? to[i * channels + c] + value : value;
        }
}

/* Lines of pictures [first, last): pixels to patches. A line crosses all patches of its band. */
static void gather_lines(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const sizes *s = &j->s;
    const int64_t run = s->pw * s->channels, plane = s->ph * s->pw;
    for (int64_t line = first; line < last; line++) {
        const float *from = j->from + line * s->across * run;
        float *to = j->to + line / s->ph * s->across * s->k + line % s->ph * s->pw;
        for (int64_t a = 0; a < s->across; a++, from += run, to += s->k) {
            if (s->channels == 1)
                split_line(from, to, s->pw, 1, plane);
            else if (s->channels == 3)
                split_line(from, to, s->pw, 3, plane);
            else
                split_line(from, to, s->pw, s->channels, plane);
        }
    }
}

static void scatter_lines(void *arg, int64_t first, int64_t last)
{
    const job *j = arg;
    const sizes *s = &j->s;
    const int64_t run = s->pw * s->channels, plane = s->ph * s->pw;
    for (int64_t line = first; line < last; line++) {
        float *to = j->to + line * s->across * run;
        const float *from = j->from + line / s->ph * s->across * s->k + line % s->ph * s->pw;
        for (int64_t a = 0; a < s->across; a++, from += s->k, to += run) {
            if (s->channels == 1)
                join_line(from, to, s->pw, 1, plane, j->add);
            else if (s->channels == 3)
                join_line(from, to, s->pw, 3, plane, j->add);
            else
                join_line(from, to, s->pw, s->channels, plane, j->add);
        }
    }
}

static void run_lines(const pl_context *ctx, job *j, pl__range_fn fn)
{
    const int64_t lines = j->s.rows ? j->s.batch * j->s.down * j->s.ph : 0;
    pl__parallel_ranges(ctx, lines, pl__grain(0.5 * (double)(j->s.across * j->s.pw * j->s.channels)), fn, j);
}

static pl_status gather(const pl_call *call, const sizes *s, float **patches)
{
    PL__CHECK(pl__scratch(patches, (size_t)s->rows * (size_t)s->k, sizeof **patches));
    job j = {.s = *s, .from = call->in[IMAGES].data, .to = *patches};
    run_lines(call->ctx, &j, gather_lines);
    return PL_STATUS_OK;
}

static pl_status forward(const pl_call *call)
{
    const sizes s = sizes_of(call);
    pl_status status = PL_STATUS_OK;
    float *patches = NULL;
    PL__TRY(gather(call, &s, &patches));
    PL__TRY(pl__linear_forward(call->ctx, s.rows, s.k, s.width, patches, call->in[W].data, pl__pack(call, W),
                               call->in[BIAS].data, PL_ACT_NONE, NULL, call->out[0].data));
done:
    pl_buffer_put(patches);
    return status;
}

static pl_status backward(const pl_call *call)
{
    const sizes s = sizes_of(call);
    pl_status status = PL_STATUS_OK;
    float *patches = NULL, *dpatches = NULL;
    if (call->din[W].data) PL__TRY(gather(call, &s, &patches));
    if (call->din[IMAGES].data)
        PL__TRY(pl__scratch(&dpatches, (size_t)s.rows * (size_t)s.k, sizeof *dpatches));
    PL__TRY(pl__linear_backward(call->ctx, s.rows, s.k, s.width, patches, call->in[W].data, pl__pack(call, W),
                                call->dout[0].data, dpatches, false, call->din[W].data, pl__adds(call, W),
                                call->din[BIAS].data, pl__adds(call, BIAS)));
    if (dpatches) {
        job j = {.s = s, .from = dpatches, .to = call->din[IMAGES].data, .add = pl__adds(call, IMAGES)};
        run_lines(call->ctx, &j, scatter_lines);
    }
done:
    pl_buffer_put(patches);
    pl_buffer_put(dpatches);
    return status;
}

const pl_op pl_op_patch_embed = {"patch_embed", 0, ports, N_IN, 1, 0, infer, forward, backward, 0};
