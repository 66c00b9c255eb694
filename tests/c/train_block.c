/* train_block.c - a transformer block, trained in C.
 *
 * The example of the C interface: it includes the public header and nothing else of plait. A batch of sequences of
 * unlike lengths goes through an attention sublayer and an MLP sublayer; each row learns the mean of the rows of its
 * sample, which it can only know by attending to them. The program fails unless the loss falls below a tenth.
 *
 *     make -C tests/c        builds and runs it
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <plait.h>

enum { SAMPLES = 16, WIDTH = 32, HEADS = 4, HIDDEN = 64, LONGEST = 12, STEPS = 60 };

/* Every function of plait that can fail returns a status; the message says what was wrong. */
static void need(pl_status status, const char *what)
{
    if (status == PL_STATUS_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, pl_status_text(status), pl_error_message());
    exit(1);
}

/* Memory of the pool: aligned, and recycled when it is given back. */
static void *buffer(size_t bytes)
{
    void *data;
    need(pl_buffer_get(bytes, &data), "buffer");
    memset(data, 0, bytes);
    return data;
}

/* A small generator, so that every run is the same: uniform in [-1, 1). */
static float uniform(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(state >> 32) / 2147483648.0f;
}

/* ---------------------------------------------------------------- data: rows and offsets */

typedef struct batch {
    int64_t rows, offsets[SAMPLES + 1]; /* sample b has the rows offsets[b] to offsets[b + 1] - 1: no padding */
    float *x, *target;                  /* (rows, WIDTH) */
} batch;

static batch make_batch(void)
{
    batch d = {0};
    for (int b = 0; b < SAMPLES; b++) d.offsets[b + 1] = d.offsets[b] + 3 + b * 5 % (LONGEST - 2);
    d.rows = d.offsets[SAMPLES];
    d.x = buffer((size_t)(d.rows * WIDTH) * sizeof *d.x);
    d.target = buffer((size_t)(d.rows * WIDTH) * sizeof *d.target);
    for (int b = 0; b < SAMPLES; b++)
        for (int j = 0; j < WIDTH; j++) {
            const int64_t begin = d.offsets[b], end = d.offsets[b + 1];
            const float centre = uniform();
            float mean = 0;
            for (int64_t i = begin; i < end; i++) mean += d.x[i * WIDTH + j] = centre + uniform();
            for (int64_t i = begin; i < end; i++) d.target[i * WIDTH + j] = mean / (float)(end - begin);
        }
    return d;
}

/* ---------------------------------------------------------------- parameters: one flat arena */

typedef struct arena {
    int64_t size, used;
    float *p, *g, *m, *v; /* values, gradients, the two moments of AdamW */
} arena;

static arena make_arena(int64_t size)
{
    const size_t bytes = (size_t)size * sizeof(float);
    return (arena){.size = size, .p = buffer(bytes), .g = buffer(bytes), .m = buffer(bytes), .v = buffer(bytes)};
}

/* ---------------------------------------------------------------- a layer: one call that is made again and again */

typedef struct layer {
    const pl_op *op;
    pl_tensor in[PL_MAX_IN], out[1], saved[PL_MAX_SAVED], dout[1], din[PL_MAX_IN];
    pl_pack *pack[PL_MAX_IN];
    pl_call call;
} layer;

/* Operators are in a table, in the order of PL_OP_LIST; a program that knows the name when it is compiled may write
 * pl_op_attention_block as well. */
static const pl_op *find_op(const char *name)
{
    for (int i = 0; i < pl_op_count; i++)
        if (!strcmp(pl_op_table[i]->name, name)) return pl_op_table[i];
    fprintf(stderr, "no operator is named %s\n", name);
    exit(1);
}

static int port(const layer *l, const char *name)
{
    for (int i = 0; i < l->op->n_ports; i++)
        if (!strcmp(l->op->ports[i].name, name)) return i;
    fprintf(stderr, "%s has no input %s\n", l->op->name, name);
    exit(1);
}

static void set_input(layer *l, const char *name, void *data, int ndim, const int64_t *shape)
{
    const int i = port(l, name);
    need(pl_tensor_init(&l->in[i], data, l->op->ports[i].dtype, ndim, shape), name);
}

/* Input `name` becomes a parameter: values and gradients are places in the arena, and `want` asks for the gradient.
 * Matrices start as noise and get a pack, vectors start as `start`. */
static void add_parameter(layer *l, arena *a, const char *name, int ndim, const int64_t *shape, float start)
{
    const int i = port(l, name);
    float *values = a->p + a->used;
    set_input(l, name, values, ndim, shape);
    l->din[i] = l->in[i];
    l->din[i].data = a->g + a->used;
    l->call.want |= 1u << i;
    const int64_t n = ndim == 2 ? shape[0] * shape[1] : shape[0];
    const float scale = ndim == 2 ? sqrtf(3.0f / (float)shape[1]) : 0;
    for (int64_t k = 0; k < n; k++) values[k] = start + scale * uniform();
    if (ndim == 2) need(pl_pack_create(&l->pack[i]), name);
    a->used += n;
}

/* Infer checks the inputs and says which outputs and saved tensors there are; the caller allocates them. */
static void allocate(layer *l)
{
    need(l->op->infer(&l->call), "infer");
    l->out[0].data = buffer(pl_tensor_bytes(&l->out[0]));
    for (int i = 0; i < l->op->n_saved; i++)
        if (l->saved[i].ndim >= 0) l->saved[i].data = buffer(pl_tensor_bytes(&l->saved[i]));
    l->dout[0] = l->out[0];
    l->dout[0].data = buffer(pl_tensor_bytes(&l->out[0]));
}

static void make_layer(layer *l, const pl_context *ctx, const char *name, const void *attr)
{
    memset(l, 0, sizeof *l);
    l->op = find_op(name);
    l->call = (pl_call){.ctx = ctx, .attr = attr, .in = l->in, .pack = l->pack, .n_in = l->op->n_ports, .out = l->out,
                        .n_out = 1, .saved = l->saved, .n_saved = l->op->n_saved, .dout = l->dout, .din = l->din};
}

static void release(layer *l)
{
    for (int i = 0; i < l->op->n_ports; i++) pl_pack_destroy(l->pack[i]); /* NULL is fine */
    for (int i = 0; i < l->op->n_saved; i++) pl_buffer_put(l->saved[i].data);
    pl_buffer_put(l->dout[0].data);
    pl_buffer_put(l->out[0].data);
}

/* ---------------------------------------------------------------- the block */

static void make_block(layer *attention, layer *mlp, const pl_context *ctx, batch *d, arena *a)
{
    static const pl_attr_attention_block attention_attr = {
        .heads = HEADS, .kv_heads = HEADS, .pre_norm = 1, .eps = 1e-5};
    static const pl_attr_mlp_block mlp_attr = {.activation = PL_ACT_GELU, .pre_norm = 1, .eps = 1e-5};
    const int64_t x[] = {d->rows, WIDTH}, offsets[] = {SAMPLES + 1}, width[] = {WIDTH}, hidden[] = {HIDDEN};

    make_layer(attention, ctx, "attention_block", &attention_attr);
    set_input(attention, "x", d->x, 2, x); /* no gradient: x is data */
    set_input(attention, "offsets", d->offsets, 1, offsets);
    add_parameter(attention, a, "norm_weight", 1, width, 1);
    add_parameter(attention, a, "norm_bias", 1, width, 0);
    add_parameter(attention, a, "weight", 2, (int64_t[]){3 * WIDTH, WIDTH}, 0); /* queries, keys, values */
    add_parameter(attention, a, "bias", 1, (int64_t[]){3 * WIDTH}, 0);
    add_parameter(attention, a, "out_weight", 2, (int64_t[]){WIDTH, WIDTH}, 0);
    add_parameter(attention, a, "out_bias", 1, width, 0);
    allocate(attention);

    make_layer(mlp, ctx, "mlp_block", &mlp_attr);
    set_input(mlp, "x", attention->out[0].data, 2, x); /* the output of one layer is the input of the next, ... */
    mlp->din[port(mlp, "x")] = attention->dout[0];     /* ... and its gradient the other way round */
    mlp->call.want |= 1u << port(mlp, "x");
    add_parameter(mlp, a, "norm_weight", 1, width, 1);
    add_parameter(mlp, a, "norm_bias", 1, width, 0);
    add_parameter(mlp, a, "weight1", 2, (int64_t[]){HIDDEN, WIDTH}, 0);
    add_parameter(mlp, a, "bias1", 1, hidden, 0);
    add_parameter(mlp, a, "weight2", 2, (int64_t[]){WIDTH, HIDDEN}, 0);
    add_parameter(mlp, a, "bias2", 1, width, 0);
    allocate(mlp);
}

/* The mean of (y - target)^2, and its gradient. */
static double mean_squared_error(const batch *d, const float *y, float *dy)
{
    const int64_t n = d->rows * WIDTH;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const float difference = y[i] - d->target[i];
        sum += (double)difference * difference;
        dy[i] = 2 * difference / (float)n;
    }
    return sum / (double)n;
}

int main(void)
{
    pl_context *ctx;
    need(pl_context_create(&ctx), "context");
    printf("plait %s, %d threads, %s\n", PL_VERSION_STRING, pl_context_threads(ctx),
           pl_isa_name(pl_context_isa(ctx)));

    batch data = make_batch();
    arena a = make_arena(4 * WIDTH + 3 * WIDTH * (WIDTH + 1) + WIDTH * (WIDTH + 1) + HIDDEN * (WIDTH + 1) +
                         WIDTH * (HIDDEN + 1));
    layer attention, mlp;
    make_block(&attention, &mlp, ctx, &data, &a);
    if (a.used != a.size) {
        fprintf(stderr, "the arena has room for %lld values, the parameters are %lld\n", (long long)a.size,
                (long long)a.used);
        return 1;
    }
    /* One segment of the arena: all parameters have one rate and one decay. */
    const pl_segment all = {.begin = 0, .end = a.size, .lr = 1e-2, .weight_decay = 0};

    double first = 0, loss = 0;
    for (int step = 1; step <= STEPS; step++) {
        need(attention.op->forward(&attention.call), "forward");
        need(mlp.op->forward(&mlp.call), "forward");
        loss = mean_squared_error(&data, mlp.out[0].data, mlp.dout[0].data);
        if (step == 1) first = loss;
        if (step == 1 || step % 10 == 0) printf("step %2d   loss %.5f\n", step, loss);
        /* Backward in the opposite order; gradients overwrite the last step's, since `accumulate` is 0. */
        need(mlp.op->backward(&mlp.call), "backward");
        need(attention.op->backward(&attention.call), "backward");
        need(pl_adamw_step(ctx, a.size, a.p, a.g, a.m, a.v, &all, 1, NULL, 0, 0.9, 0.999, 1e-8, step, 1), "adamw");
        /* The weights are new: packed forms of the old ones are stale. */
        for (int i = 0; i < PL_MAX_IN; i++) {
            if (attention.pack[i]) pl_pack_renew(attention.pack[i], (uint64_t)step);
            if (mlp.pack[i]) pl_pack_renew(mlp.pack[i], (uint64_t)step);
        }
    }

    release(&mlp);
    release(&attention);
    float *const rest[] = {a.p, a.g, a.m, a.v, data.x, data.target};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) pl_buffer_put(rest[i]);
    pl_context_destroy(ctx);
    pl_counters counters;
    pl_counters_get(&counters);
    pl_pool_trim();
    if (counters.pool_used_buffers) {
        fprintf(stderr, "%lld buffers were not given back\n", (long long)counters.pool_used_buffers);
        return 1;
    }
    if (!(loss < first / 10)) { /* also when it is NaN */
        fprintf(stderr, "the loss went from %g to %g, expected below a tenth\n", first, loss);
        return 1;
    }
    return 0;
}
