/* op_add_positions.c - adds to each row what its position in the sample says: a learned row, or sinusoids. */
#include "positions.h"

enum { X, OFFSETS, TABLE, START, N_IN };

static const pl_port ports[N_IN] = {{"x", PL_DTYPE_F32, 0},
                                    {"offsets", PL_DTYPE_I64, 0},
                                    {"table", PL_DTYPE_F32, PL_PORT_OPTIONAL},
                                    {"start", PL_DTYPE_I64, PL_PORT_OPTIONAL}};

static pl_status infer(pl_call *call)
{
    const pl_op *op = &pl_op_add_positions;
    PL__CHECK(pl__check_ports(op, call));
    const pl_tensor *x = &call->in[X], *table = &call->in[TABLE];
    PL__CHECK(pl__check_rank(op, call, X, 2));
    PL__CHECK(pl__check_positions(op, call, X, OFFSETS, START));
    PL__CHECK(pl__check_shape(op, call, TABLE, 2, (int64_t[]){-1, x->shape[1]}, "the last dimension of x"));
    const int64_t *offsets = call->in[OFFSETS].data, *start = call->in[START].data;
    for (int64_t b = 0; pl__present(table) && b + 1 < call->in[OFFSETS].shape[0]; b++) {
        const int64_t rows = offsets[b + 1] - offsets[b], first = start ? start[b] : 0;
        if (rows > 0 && first + rows > table->shape[0])
            return pl__fail(PL_STATUS_VALUE, "add_positions: sample %lld has %lld rows from position %lld on, expected "
                            "at most %lld positions, the rows of table", (long long)b, (long long)rows,
                            (long long)first, (long long)table->shape[0]);
    }
    return pl__shape_like(&call->out[0], x);
}

typedef struct add_positions {
    const pl_simd *simd;
    pl__positions positions;
    int64_t rows, width, entries;
    const double *frequency;
    const float *x, *table;
    float *y;
    int64_t *index;
    bool add;
} add_positions;

static void sinusoid_range(void *arg, int64_t begin, int64_t end)
{
    const add_positions *a = arg;
    int64_t sample = pl__sample_of(a->positions.offsets, a->positions.samples, begin);
    for (int64_t i = begin; i < end; i++)
        a->simd->sinusoid_row((double)pl__position_index(&a->positions, i, &sample), a->frequency, a->width,
                              a->x + i * a->width, a->y + i * a->width);
}

static void table_range(void *arg, int64_t begin, int64_t end)
{
    const add_positions *a = arg;
    int64_t sample = pl__sample_of(a->positions.offsets, a->positions.samples, begin);
    for (int64_t i = begin; i < end; i++)
        a->simd->add(a->x + i * a->width, a->table + pl__position_index(&a->positions, i, &sample) * a->width,
                     a->y + i * a->width, a->width);
}

static add_positions arguments(const pl_call *call)
{
    const pl_tensor *x = &call->in[X], *offsets = &call->in[OFFSETS], *table = &call->in[TABLE];
    return (add_positions){.simd = call->ctx->simd,
                           .positions = {.offsets = offsets->data, .samples = offsets->shape[0] - 1,
                                         .start = call->in[START].data},
                           .rows = x->shape[0], .width = x->shape[1],
                           .entries = pl__present(table) ? table->shape[0] : 0, .x = x->data, .table = table->data};
}

static pl_status forward(const pl_call *call)
{
    add_positions a = arguments(call);
    a.y = call->out[0].data;
    if (!a.width) return PL_STATUS_OK;
    if (a.table) {
        pl__parallel_ranges(call->ctx, a.rows, pl__grain(10 + 0.3 * (double)a.width), table_range, &a);
        return PL_STATUS_OK;
    }
    double *frequency;
    PL__CHECK(pl__frequencies(10000.0, a.width, &frequency));
    a.frequency = frequency;
    pl__parallel_ranges(call->ctx, a.rows, pl__grain(10 + 1.0 * (double)a.width), sinusoid_range, &a);
    pl_buffer_put(frequency);
    return PL_STATUS_OK;
}

/* Each thread has some columns of the whole table, and takes the rows in their order. */
static void table_back_range(void *arg, int64_t begin, int64_t end)
{
    const add_positions *a = arg;
    if (!a->add)
        for (int64_t i = 0; i < a->entries; i++)
            memset(a->y + i * a->width + begin, 0, (size_t)(end - begin) * sizeof *a->y);
    int64_t sample = 0;
    for (int64_t i = 0; i < a->rows; i++) {
        float *to = a->y + pl__position_index(&a->positions, i, &sample) * a->width + begin;
        a->simd->add(to, a->x + i * a->width + begin, to, end - begin);
    }
}

static void copy_range(void *arg, int64_t begin, int64_t end)
{
    const add_positions *a = arg;
    if (a->add)
        a->simd->add(a->y + begin, a->x + begin, a->y + begin, end - begin);
    else
        memcpy(a->y + begin, a->x + begin, (size_t)(end - begin) * sizeof *a->y);
}

static pl_status backward(const pl_call *call)
{
    add_positions a = arguments(call);
    a.x = call->dout[0].data;
    if (call->din[X].data) { /* the gradient passes */
        a.y = call->din[X].data;
        a.add = pl__adds(call, X);
        pl__parallel_ranges(call->ctx, a.rows * a.width, (pl__grain(0.2) + 15) / 16 * 16, copy_range, &a);
    }
    if (call->din[TABLE].data) {
        a.y = call->din[TABLE].data;
        a.add = pl__adds(call, TABLE);
        const double column_ns = 0.3 * (double)a.rows + (a.add ? 0 : 0.1 * (double)a.entries);
        pl__parallel_ranges(call->ctx, a.width, (pl__grain(column_ns) + 15) / 16 * 16, table_back_range, &a);
    }
    return PL_STATUS_OK;
}

const pl_op pl_op_add_positions = {"add_positions", 0, ports, N_IN, 1, 0, infer, forward, backward, 0};
