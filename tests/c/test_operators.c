/* test_operators.c - operators through the C interface: the table, one operator in depth, packs, failing allocations,
 * threads, fork. Exit status 1 when a check failed. The numbers of all other operators are tested in Python. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../csrc/core/core.h"       /* threads for small work */
#include "../../csrc/dnnl/dnnl_layer.h" /* the cache of primitives */
#include "check.h"

static pl_context *ctx;

/* ---------------------------------------------------------------- operators */

static void every_operator_is_whole(void)
{
    static const char *const due[] = {
#define PL__X(name) #name,
        PL_OP_LIST(PL__X)
#undef PL__X
    };
    CHECK(pl_op_count == (int)(sizeof due / sizeof *due));
    for (int i = 0; i < pl_op_count; i++) {
        const pl_op *op = pl_op_table[i];
        if (!CHECK(op != NULL)) continue;
        CHECK(!strcmp(op->name, due[i]));
        CHECK(op->infer && op->forward && op->backward);
        CHECK(op->ports && op->n_ports >= 1 && op->n_ports <= PL_MAX_IN);
        CHECK(op->n_out >= 1 && op->n_out <= PL_MAX_OUT && op->n_saved >= 0 && op->n_saved <= PL_MAX_SAVED);
        for (int p = 0; p < op->n_ports; p++) {
            CHECK(op->ports[p].name && *op->ports[p].name && pl_dtype_size(op->ports[p].dtype) > 0);
            for (int q = 0; q < p; q++) CHECK(strcmp(op->ports[p].name, op->ports[q].name) != 0);
        }
    }
}

/* Whatever else is wrong: inputs that are not there or of another dtype are refused before they are looked at. */
static void every_operator_checks_its_ports(void)
{
    for (int i = 0; i < pl_op_count; i++) {
        const pl_op *op = pl_op_table[i];
        pl_tensor in[PL_MAX_IN] = {0}, out[PL_MAX_OUT], saved[PL_MAX_SAVED];
        void *attr = calloc(1, op->attr_size + 1);
        char due[128];
        pl_call call = {.ctx = ctx, .attr = attr, .in = in, .n_in = op->n_ports, .out = out, .n_out = op->n_out,
                        .saved = saved, .n_saved = op->n_saved};
        snprintf(due, sizeof due, "%s: %s is missing", op->name, op->ports[0].name);
        CHECK(op->infer(&call) == PL_STATUS_VALUE && !strcmp(pl_error_message(), due));
        call.n_in = op->n_ports + 1;
        snprintf(due, sizeof due, "%s: %d input", op->name, call.n_in);
        if (op->n_ports > 1 || !(op->ports[0].flags & PL_PORT_REPEATED))
            CHECK(op->infer(&call) == PL_STATUS_VALUE && says(due));
        call.n_in = op->n_ports;
        for (int p = 0; p < op->n_ports; p++) CHECK(!pl_tensor_init(&in[p], out, op->ports[p].dtype, 1, (int64_t[]){1}));
        const int last = op->n_ports - 1;
        in[last].dtype = in[last].dtype == PL_DTYPE_F32 ? PL_DTYPE_I64 : PL_DTYPE_F32;
        snprintf(due, sizeof due, "%s: %s has dtype ", op->name, op->ports[last].name);
        CHECK(op->infer(&call) == PL_STATUS_TYPE && says(due));
        free(attr);
    }
}

/* A linear layer (n, k) -> (n, d) with arrays of exactly its sizes, so that the address sanitizer sees every step
 * beyond them. */
enum { X, W, B, N_IN };

typedef struct linear {
    int64_t n, k, d;
    float *x, *w, *b, *y, *pre, *dy, *grad[N_IN];
    pl_tensor in[N_IN], out[1], saved[1], dout[1], din[N_IN];
    pl_pack *pack[N_IN];
    pl_attr_linear attr;
    pl_call call;
} linear;

static uint64_t noise_state;
static float *noise(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; x && i < n; i++) {
        noise_state = noise_state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(int32_t)(noise_state >> 32) / 2147483648.0f;
    }
    return x;
}

/* On the heap since the call points into it. `packed`: the weight gets a pack. */
static linear *linear_new(int64_t n, int64_t k, int64_t d, int activation, bool bias, bool packed)
{
    linear *l = calloc(1, sizeof *l);
    const int64_t shape_x[] = {n, k}, shape_w[] = {d, k};
    noise_state = 7;
    l->n = n, l->k = k, l->d = d;
    l->x = noise(n * k), l->w = noise(d * k), l->b = bias ? noise(d) : NULL;
    l->y = noise(n * d), l->pre = noise(n * d), l->dy = noise(n * d);
    l->grad[X] = noise(n * k), l->grad[W] = noise(d * k), l->grad[B] = bias ? noise(d) : NULL;
    CHECK(!pl_tensor_init(&l->in[X], l->x, PL_DTYPE_F32, 2, shape_x));
    CHECK(!pl_tensor_init(&l->in[W], l->w, PL_DTYPE_F32, 2, shape_w));
    CHECK(!pl_tensor_init(&l->in[B], l->b, PL_DTYPE_F32, 1, &d));
    l->attr.activation = activation;
    if (packed) CHECK(!pl_pack_create(&l->pack[W]));
    l->call = (pl_call){.ctx = ctx, .attr = &l->attr, .in = l->in, .pack = l->pack, .n_in = N_IN, .out = l->out,
                        .n_out = 1, .saved = l->saved, .n_saved = 1, .want = bias ? 7 : 3, .dout = l->dout,
                        .din = l->din};
    return l;
}

static void linear_free(linear *l)
{
    float *all[] = {l->x, l->w, l->b, l->y, l->pre, l->dy, l->grad[X], l->grad[W], l->grad[B]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    pl_pack_destroy(l->pack[W]);
    free(l);
}

static pl_status linear_forward(linear *l)
{
    PL__CHECK(pl_op_linear.infer(&l->call));
    CHECK(l->out[0].shape[0] == l->n && l->out[0].shape[1] == l->d && l->out[0].dtype == PL_DTYPE_F32);
    l->out[0].data = l->y;
    if (l->saved[0].ndim >= 0) l->saved[0].data = l->pre;
    return pl_op_linear.forward(&l->call);
}

static pl_status linear_backward(linear *l)
{
    l->dout[0] = l->out[0];
    l->dout[0].data = l->dy;
    for (int i = 0; i < N_IN; i++) {
        l->din[i] = l->in[i];
        l->din[i].data = l->call.want >> i & 1 ? l->grad[i] : NULL;
    }
    return pl_op_linear.backward(&l->call);
}

/* ---- the same by loops, in double */

static double activate(int kind, double z)
{
    if (kind == PL_ACT_RELU) return z > 0 ? z : 0;
    if (kind == PL_ACT_GELU) return z / 2 * (1 + erf(z / sqrt(2)));
    return z;
}

static double slope(int kind, double z)
{
    if (kind == PL_ACT_RELU) return z > 0;
    if (kind == PL_ACT_GELU) return (1 + erf(z / sqrt(2))) / 2 + z * exp(-z * z / 2) / sqrt(2 * M_PI);
    return 1;
}

static bool near(float got, double due) { return fabs(got - due) <= 1e-5 * (1 + fabs(due)); }

static float *const overwritten[N_IN] = {NULL}; /* no gradient accumulates */

/* Compares with what is in l; `before` is what a gradient that accumulates held, else NULL. */
static void compare_with_loops(const linear *l, float *const before[N_IN])
{
    double *z = calloc((size_t)(l->n * l->d), sizeof *z);
    int64_t wrong_y = 0, wrong[N_IN] = {0};
    for (int64_t i = 0; i < l->n; i++)
        for (int64_t j = 0; j < l->d; j++) {
            double sum = l->b ? l->b[j] : 0;
            for (int64_t c = 0; c < l->k; c++) sum += (double)l->x[i * l->k + c] * l->w[j * l->k + c];
            wrong_y += !near(l->y[i * l->d + j], activate(l->attr.activation, sum));
            z[i * l->d + j] = l->dy[i * l->d + j] * slope(l->attr.activation, sum); /* the gradient of the sum */
        }
    for (int64_t i = 0; i < l->n; i++)
        for (int64_t c = 0; c < l->k; c++) {
            double sum = before[X] ? before[X][i * l->k + c] : 0;
            for (int64_t j = 0; j < l->d; j++) sum += z[i * l->d + j] * l->w[j * l->k + c];
            wrong[X] += !near(l->grad[X][i * l->k + c], sum);
        }
    for (int64_t j = 0; j < l->d; j++) {
        double bias = before[B] ? before[B][j] : 0;
        for (int64_t i = 0; i < l->n; i++) bias += z[i * l->d + j];
        if (l->b) wrong[B] += !near(l->grad[B][j], bias);
        for (int64_t c = 0; c < l->k; c++) {
            double sum = before[W] ? before[W][j * l->k + c] : 0;
            for (int64_t i = 0; i < l->n; i++) sum += z[i * l->d + j] * l->x[i * l->k + c];
            wrong[W] += !near(l->grad[W][j * l->k + c], sum);
        }
    }
    free(z);
    if (!CHECK(!wrong_y && !wrong[X] && !wrong[W] && !wrong[B]))
        fprintf(stderr, "    (%lld, %lld) -> %lld, activation %d, bias %d, pack %d, accumulate %u: wrong are %lld of y, "
                "%lld of dx, %lld of dweight, %lld of dbias\n", (long long)l->n, (long long)l->k, (long long)l->d,
                l->attr.activation, l->b != NULL, l->pack[W] != NULL, l->call.accumulate, (long long)wrong_y,
                (long long)wrong[X], (long long)wrong[W], (long long)wrong[B]);
}

static void forward_and_backward(const linear *model, int activation, bool bias, bool packed, uint32_t accumulate)
{
    linear *l = linear_new(model->n, model->k, model->d, activation, bias, packed);
    float *before[N_IN] = {NULL};
    for (int i = 0; i < N_IN; i++) {
        if (!(accumulate >> i & 1) || !l->grad[i]) continue;
        before[i] = malloc(pl_tensor_bytes(&l->in[i]));
        memcpy(before[i], l->grad[i], pl_tensor_bytes(&l->in[i]));
    }
    l->call.accumulate = accumulate;
    if (CHECK(!linear_forward(l)) && CHECK(!linear_backward(l))) compare_with_loops(l, before);
    CHECK((l->saved[0].ndim >= 0) == (activation != PL_ACT_NONE));
    for (int i = 0; i < N_IN; i++) free(before[i]);
    linear_free(l);
}

static void linear_equals_loops(void)
{
    static const linear sizes[] = {{.n = 1, .k = 1, .d = 1},   {.n = 2, .k = 3, .d = 5},    {.n = 7, .k = 17, .d = 33},
                                   {.n = 65, .k = 9, .d = 31}, {.n = 64, .k = 64, .d = 64}, {.n = 203, .k = 40, .d = 1}};
    static const int kinds[] = {PL_ACT_NONE, PL_ACT_RELU, PL_ACT_GELU};
    static const uint32_t masks[] = {0, 1u << X, 1u << W, 1u << B, 7};
    const int64_t used = counters().pool_used_buffers;
    pl__set_thread_worth(1); /* small work on all threads too */
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t a = 0; a < sizeof kinds / sizeof *kinds; a++)
            for (size_t m = 0; m < sizeof masks / sizeof *masks; m++)
                for (int bits = 0; bits < 4; bits++)
                    forward_and_backward(&sizes[s], kinds[a], bits & 1, bits & 2, masks[m]);
    pl__set_thread_worth(0);
    CHECK(counters().pool_used_buffers == used); /* scratch was given back */
}

static void linear_without_rows(void)
{
    linear *l = linear_new(0, 5, 3, PL_ACT_GELU, true, false);
    CHECK(!linear_forward(l) && !linear_backward(l));
    for (int i = 0; i < 15; i++) CHECK(l->grad[W][i] == 0);
    for (int i = 0; i < 3; i++) CHECK(l->grad[B][i] == 0);
    linear_free(l);
}

static void unwanted_gradients_are_left_alone(void)
{
    linear *l = linear_new(6, 5, 4, PL_ACT_NONE, true, false);
    const float x0 = l->grad[X][0], b0 = l->grad[B][0], w0 = l->grad[W][0];
    l->call.want = 1u << W;
    CHECK(!linear_forward(l) && !linear_backward(l));
    CHECK(l->grad[X][0] == x0 && l->grad[B][0] == b0 && l->grad[W][0] != w0);
    linear_free(l);
}

static void infer_names_what_is_wrong(void)
{
    linear *l = linear_new(4, 6, 5, PL_ACT_NONE, true, false);
    l->in[W].shape[1] = 7;
    CHECK(pl_op_linear.infer(&l->call) == PL_STATUS_VALUE);
    CHECK(!strcmp(pl_error_message(), "linear: weight has shape (5, 7), expected (*, 6), the last dimension of x"));
    l->in[W].shape[1] = 6, l->in[B].shape[0] = 4;
    CHECK(pl_op_linear.infer(&l->call) == PL_STATUS_VALUE && says("linear: bias has shape (4,), expected (5,)"));
    l->in[B].shape[0] = 5, l->attr.activation = PL_ACT_COUNT;
    CHECK(pl_op_linear.infer(&l->call) == PL_STATUS_VALUE && says("activation is 8"));
    l->attr.activation = 0, l->in[X].ndim = 1;
    CHECK(pl_op_linear.infer(&l->call) == PL_STATUS_VALUE && says("x has 1 dimension, expected 2"));
    linear_free(l);
}

/* ---------------------------------------------------------------- packs */

static void packs_are_filled_once_and_renewed(void)
{
    linear *l = linear_new(64, 48, 40, PL_ACT_NONE, true, true);
    pl_pack *pack = l->pack[W];
    const pl_counters before = counters();
    CHECK(pl_pack_bytes(pack) == 0);
    CHECK(!linear_forward(l));
    const size_t bytes = pl_pack_bytes(pack);
    CHECK(bytes >= 48 * 40 * sizeof(float) && counters().packs_filled == before.packs_filled + 1);
    CHECK(!linear_forward(l));
    CHECK(pl_pack_bytes(pack) == bytes && counters().packs_filled == before.packs_filled + 1);
    CHECK(!linear_backward(l)); /* the gradient of x needs the other form */
    CHECK(pl_pack_bytes(pack) > bytes && counters().packs_filled == before.packs_filled + 2);
    compare_with_loops(l, overwritten);
    pl_pack_renew(pack, 0); /* the version it has: nothing is stale */
    CHECK(pl_pack_bytes(pack) > bytes);
    for (int64_t i = 0; i < l->d * l->k; i++) l->w[i] = -2 * l->w[i];
    pl_pack_renew(pack, 1);
    CHECK(pl_pack_bytes(pack) == 0);
    CHECK(!linear_forward(l) && !linear_backward(l));
    CHECK(counters().packs_filled == before.packs_filled + 4);
    compare_with_loops(l, overwritten);
    linear_free(l);
    CHECK(counters().pool_used_buffers == before.pool_used_buffers);
    pl_pack_destroy(NULL);
}

/* ---------------------------------------------------------------- failing allocations */

/* From nothing cached: every allocation that a pass can make, it makes. */
static pl_status cold_pass(linear *l)
{
    static uint64_t version;
    pl__dnnl_drop_cache();
    pl_pack_renew(l->pack[W], ++version);
    pl_pool_trim();
    const pl_status status = linear_forward(l);
    return status ? status : linear_backward(l);
}

static void every_allocation_may_fail(void)
{
    linear *l = linear_new(64, 24, 16, PL_ACT_GELU, true, true);
    const int threads = pl_context_threads(ctx);
    CHECK(!pl_context_set_threads(ctx, 1)); /* so that the number of allocations is always the same */
    CHECK(!cold_pass(l));
    const pl_counters before = counters();
    CHECK(!cold_pass(l));
    const int64_t needed = counters().allocations - before.allocations;
    CHECK(needed >= 6);
    CHECK(counters().live_blocks == before.live_blocks);
    for (int persistent = 0; persistent < 2; persistent++)
        for (int64_t nth = 1; nth <= needed; nth++) {
            const pl_counters start = counters();
            pl_memory_fail_at(nth, persistent);
            const pl_status status = cold_pass(l);
            pl_memory_fail_at(0, 0);
            CHECK(status == PL_STATUS_MEMORY || (!persistent && status == PL_STATUS_OK));
            if (status) CHECK(says("out of memory"));
            CHECK(counters().pool_used_buffers <= start.pool_used_buffers); /* a pack that was not filled is missing */
            CHECK(!cold_pass(l));
            compare_with_loops(l, overwritten);
            CHECK(counters().live_blocks == before.live_blocks && counters().live_bytes == before.live_bytes);
        }
    CHECK(!pl_context_set_threads(ctx, threads));
    linear_free(l);
}

/* ---------------------------------------------------------------- threads and fork */

enum { ROUNDS = 50 };

/* Rows that many threads run against one weight and one pack, each with an output of its own. */
static void *run_rounds(void *layer)
{
    linear *l = layer;
    float *first = malloc((size_t)(l->n * l->d) * sizeof *first);
    CHECK(!linear_forward(l));
    memcpy(first, l->y, (size_t)(l->n * l->d) * sizeof *first);
    for (int round = 0; round < ROUNDS; round++) {
        memset(l->y, 0, (size_t)(l->n * l->d) * sizeof *l->y);
        CHECK(!linear_forward(l));
        CHECK(!memcmp(first, l->y, (size_t)(l->n * l->d) * sizeof *first));
    }
    free(first);
    return NULL;
}

static void two_threads_share_a_pack(void)
{
    linear *l[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        l[i] = linear_new(100, 72, 56, PL_ACT_NONE, true, i == 0);
        l[i]->call.want = 0;
    }
    l[1]->in[W] = l[0]->in[W]; /* one weight ... */
    l[1]->pack[W] = l[0]->pack[W]; /* ... and its pack */
    pl__dnnl_drop_cache();
    for (int i = 0; i < 2; i++)
        if (!CHECK(!pthread_create(&threads[i], NULL, run_rounds, l[i]))) return;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK(!memcmp(l[0]->y, l[1]->y, (size_t)(l[0]->n * l[0]->d) * sizeof(float)));
    CHECK(pl_pack_bytes(l[0]->pack[W]) > 0);
    l[1]->pack[W] = NULL;
    linear_free(l[0]);
    linear_free(l[1]);
}

/* Runs `child` in a forked process; its status must be 0. */
static void in_a_child(int (*child)(void))
{
    fflush(stdout);
    fflush(stderr);
    const pid_t pid = fork();
    if (!CHECK(pid >= 0)) return;
    if (pid == 0) {
        alarm(60); /* a hang ends the child */
        _exit(child());
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int compute_something(void)
{
    const int before = failures;
    linear *l = linear_new(300, 64, 48, PL_ACT_GELU, true, true);
    CHECK(!linear_forward(l) && !linear_backward(l));
    compare_with_loops(l, overwritten);
    linear_free(l);
    return failures != before;
}

static int compute_in_child(void)
{
    CHECK(pl_context_threads(ctx) == 1);
    return compute_something();
}

static void a_forked_child_computes(void)
{
    const int threads = pl_context_threads(ctx);
    pl__set_thread_worth(1);
    compute_something(); /* a team of threads exists, which the child will not have */
    in_a_child(compute_in_child);
    pl__set_thread_worth(0);
    CHECK(pl_context_threads(ctx) == threads);
}

static void see_implementation(void *arg, const char *name, int64_t m, int64_t n, int64_t k)
{
    (void)m, (void)n, (void)k;
    int *seen = arg;
    seen[0]++;
    seen[1] += strstr(name, "avx512") != NULL || strstr(name, "amx") != NULL;
    seen[2] += !strncmp(name, "ref", 3);
}

static int run_on_avx2(void)
{
    int seen[3] = {0};
    setenv("PLAIT_MAX_ISA", "avx2", 1);
    if (!CHECK(!pl_context_create(&ctx))) return 1;
    linear *l = linear_new(64, 64, 64, PL_ACT_RELU, true, false);
    CHECK(!linear_forward(l) && !linear_backward(l));
    compare_with_loops(l, overwritten);
    linear_free(l);
    pl__dnnl_each_implementation(see_implementation, seen);
    CHECK(seen[0] > 0 && seen[1] == 0 && seen[2] == 0);
    return failures != 0;
}

/* Before anything else, since oneDNN's instruction set can be lowered until its first primitive only. */
static void the_environment_lowers_onednn_too(void) { in_a_child(run_on_avx2); }

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(240); /* a hang is a failure */
    RUN(the_environment_lowers_onednn_too);
    if (!CHECK(!pl_context_create(&ctx))) return 1;
    CHECK(!pl_context_set_threads(ctx, 3));
    RUN(every_operator_is_whole);
    RUN(every_operator_checks_its_ports);
    RUN(linear_equals_loops);
    RUN(linear_without_rows);
    RUN(unwanted_gradients_are_left_alone);
    RUN(infer_names_what_is_wrong);
    RUN(packs_are_filled_once_and_renewed);
    RUN(every_allocation_may_fail);
    RUN(two_threads_share_a_pack);
    RUN(a_forked_child_computes);
    pl_context_destroy(ctx);
    pl__dnnl_drop_cache();
    pl_pool_trim();
    CHECK(counters().live_blocks == 0 && counters().live_bytes == 0 && counters().pool_used_buffers == 0);
    CHECK(counters().primitives_cached == 0 && counters().primitives_created > 0);
    return failures != 0;
}
