/* block.c - what the fused sublayers share. */
#include "block.h"

pl_status pl__sublayer_check(const pl_op *op, const pl_call *call, int w, int norm, double eps, double dropout)
{
    PL__CHECK(pl__check_enum(op, "norm", norm, 2));
    PL__CHECK(pl__check_positive(op, "eps", eps));
    PL__CHECK(pl__check_rate(op, "residual_dropout", dropout));
    PL__CHECK(pl__check_rank(op, call, 0, 2));
    const int64_t width = call->in[0].shape[1];
    PL__CHECK(pl__check_shape(op, call, w, 1, &width, "the last dimension of x"));
    return pl__check_shape(op, call, w + 1, 1, &width, "the last dimension of x");
}

void pl__sublayer_norm(const pl__sublayer *s, const float *x, float *y)
{
    if (s->rms)
        pl__rms_norm_forward(s->ctx, s->rows, s->width, x, s->weight, s->eps, y, s->rstd);
    else
        pl__layer_norm_forward(s->ctx, s->rows, s->width, x, s->weight, s->bias, s->eps, y, s->mean, s->rstd);
}

pl_status pl__sublayer_normed(const pl__sublayer *s, pl_dtype dtype, const float *x, pl__normed *to)
{
    *to = (pl__normed){0};
    if (dtype == PL_DTYPE_F32) {
        PL__CHECK(pl__scratch(&to->y, (size_t)(s->rows * s->width), sizeof *to->y));
        pl__sublayer_norm(s, x, to->y);
        return PL_STATUS_OK;
    }
    PL__CHECK(pl__rounded_get(dtype, s->rows, s->width, &to->rounded));
    return pl__norm_rounded(s->ctx, s->rms ? PL__NORM_RMS : PL__NORM_LAYER, s->rows, s->width, x, s->weight,
                            s->rms ? NULL : s->bias, s->eps, s->mean, s->rstd, &to->rounded);
}

void pl__normed_free(pl__normed *n)
{
    pl_buffer_put(n->y);
    pl__rounded_free(&n->rounded);
}

pl_status pl__sublayer_normed_again(const pl__sublayer *s, bool half, const float *x, pl__normed *to)
{
    pl__sublayer again = *s;
    again.mean = again.rstd = NULL; /* kept already */
    if (half) return pl__sublayer_normed(&again, PL_DTYPE_BF16, x, to);
    *to = (pl__normed){0};
    PL__CHECK(pl__scratch(&to->y, (size_t)(s->rows * s->width), sizeof *to->y));
    if (s->rms)
        pl__rms_norm_again(s->ctx, s->rows, s->width, x, s->weight, s->rstd, to->y);
    else
        pl__layer_norm_again(s->ctx, s->rows, s->width, x, s->weight, s->bias, s->mean, s->rstd, to->y);
    return PL_STATUS_OK;
}

void pl__sublayer_join(const pl__sublayer *s, const float *x, const float *branch, float *y)
{
    pl__dropout_run(s->ctx, s->key, s->counter, 0, s->dropout, branch, x, y, s->rows * s->width);
}

void pl__sublayer_mask(const pl__sublayer *s, const float *dy, float *dbranch)
{
    pl__dropout_run(s->ctx, s->key, s->counter, 0, s->dropout, dy, NULL, dbranch, s->rows * s->width);
}

typedef struct sum {
    const float *x;
    float *y;
    bool add;
} sum;

static void sum_range(void *arg, int64_t begin, int64_t end)
{
    const sum *a = arg;
    if (!a->add)
        memcpy(a->y + begin, a->x + begin, (size_t)(end - begin) * sizeof *a->y);
    else
        for (int64_t i = begin; i < end; i++) a->y[i] += a->x[i];
}

void pl__copy_or_add(const pl_context *ctx, const float *x, float *y, int64_t n, bool add)
{
    sum a = {x, y, add};
    pl__parallel_ranges(ctx, n, pl__grain(0.3), sum_range, &a);
}

pl_status pl__sublayer_norm_backward(const pl__sublayer *s, const float *x, const float *dy, const float *plus,
                                     float *dx, bool add_dx, float *dweight, bool add_dw, float *dbias, bool add_db)
{
    /* "plus" is one array: when the caller's gradient is to be added as well, it takes what was there first */
    if (dx && add_dx && plus) {
        pl__copy_or_add(s->ctx, plus, dx, s->rows * s->width, true);
        plus = dx;
    } else if (add_dx)
        plus = dx;
    if (s->rms)
        return pl__rms_norm_backward(s->ctx, s->rows, s->width, x, s->weight, s->rstd, dy, plus, dx, dweight, add_dw);
    return pl__layer_norm_backward(s->ctx, s->rows, s->width, x, s->weight, s->mean, s->rstd, dy, plus, dx, dweight,
                                   add_dw, dbias, add_db);
}
