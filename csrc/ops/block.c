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

void pl__sublayer_norm_again(const pl__sublayer *s, const float *x, float *y)
{
    if (s->rms)
        pl__rms_norm_again(s->ctx, s->rows, s->width, x, s->weight, s->rstd, y);
    else
        pl__layer_norm_again(s->ctx, s->rows, s->width, x, s->weight, s->bias, s->mean, s->rstd, y);
}

typedef struct join {
    const pl__sublayer *s;
    const float *x, *branch;
    float *y;
} join;

static void join_range(void *arg, int64_t begin, int64_t end)
{
    const join *j = arg;
    const int64_t at = begin * j->s->width, n = (end - begin) * j->s->width;
    const float *branch = j->branch + at;
    if (j->s->dropout > 0) {
        j->s->ctx->simd->dropout(branch, j->y + at, at, n, j->s->dropout, j->s->key, j->s->counter);
        branch = j->y + at;
    }
    j->s->ctx->simd->add(j->x + at, branch, j->y + at, n);
}

#define JOIN_NS 0.3 /* an element costs about this */

void pl__sublayer_join(const pl__sublayer *s, const float *x, const float *branch, float *y)
{
    join j = {s, x, branch, y};
    pl__parallel_ranges(s->ctx, s->rows, pl__grain(JOIN_NS * (double)s->width), join_range, &j);
}

static void mask_range(void *arg, int64_t begin, int64_t end)
{
    const join *j = arg;
    const int64_t at = begin * j->s->width, n = (end - begin) * j->s->width;
    j->s->ctx->simd->dropout(j->x + at, j->y + at, at, n, j->s->dropout, j->s->key, j->s->counter);
}

void pl__sublayer_mask(const pl__sublayer *s, const float *dy, float *dbranch)
{
    join j = {s, dy, NULL, dbranch};
    pl__parallel_ranges(s->ctx, s->rows, pl__grain(JOIN_NS * (double)s->width), mask_range, &j);
}

pl_status pl__sublayer_norm_backward(const pl__sublayer *s, const float *x, const float *dy, const float *plus,
                                     float *dx, bool add_dx, float *dweight, bool add_dw, float *dbias, bool add_db)
{
    /* "plus" is one array: when the caller's gradient is to be added as well, it takes what was there first */
    if (dx && add_dx && plus) {
        pl__sublayer plain = *s;
        plain.dropout = 0;
        pl__sublayer_join(&plain, dx, plus, dx);
        plus = dx;
    } else if (add_dx)
        plus = dx;
    if (s->rms)
        return pl__rms_norm_backward(s->ctx, s->rows, s->width, x, s->weight, s->rstd, dy, plus, dx, dweight, add_dw);
    return pl__layer_norm_backward(s->ctx, s->rows, s->width, x, s->weight, s->mean, s->rstd, dy, plus, dx, dweight,
                                   add_dw, dbias, add_db);
}
