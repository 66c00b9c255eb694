/* check.c - checks of inputs, with messages that name operator, argument, got and expected. */
#include <math.h>
#include <stdio.h>

#include "core.h"

static void write_shape(char *buffer, size_t size, int rank, const int64_t *shape)
{
    size_t used = (size_t)snprintf(buffer, size, "(");
    for (int i = 0; i < rank && used < size; i++) {
        if (shape[i] < 0)
            used += (size_t)snprintf(buffer + used, size - used, i + 1 < rank ? "*, " : "*");
        else
            used += (size_t)snprintf(buffer + used, size - used, i + 1 < rank ? "%lld, " : "%lld", (long long)shape[i]);
    }
    if (used < size) snprintf(buffer + used, size - used, rank == 1 ? ",)" : ")");
}

const char *pl__port_name(const pl_op *op, int input, char *buffer, size_t size)
{
    if (input < op->n_ports) return op->ports[input].name;
    snprintf(buffer, size, "%s[%d]", op->ports[input % op->n_ports].name, input / op->n_ports);
    return buffer;
}

static const char *dtype_name(pl_dtype dtype)
{
    static const char *const names[PL_DTYPE_COUNT] = {"float32", "bfloat16", "int8", "uint8", "int64"};
    return (unsigned)dtype < PL_DTYPE_COUNT ? names[dtype] : "unknown";
}

pl_status pl__check_ports(const pl_op *op, const pl_call *call)
{
    const bool repeated = op->ports[0].flags & PL_PORT_REPEATED;
    const int n = call->n_in;
    if (repeated ? n < 1 || n > PL_MAX_IN || n % op->n_ports : n != op->n_ports)
        return pl__fail(PL_STATUS_VALUE, "%s: %d inputs, expected %s%d", op->name, n,
                        repeated ? "at most 24 and a multiple of " : "", op->n_ports);
    for (int i = 0; i < n; i++) {
        const pl_tensor *t = &call->in[i];
        const pl_port *port = &op->ports[i % op->n_ports];
        char name[64];
        if (!pl__present(t) && port->flags & PL_PORT_OPTIONAL) continue;
        if (!pl__present(t))
            return pl__fail(PL_STATUS_VALUE, "%s: %s is missing", op->name, pl__port_name(op, i, name, sizeof name));
        if (t->dtype != port->dtype)
            return pl__fail(PL_STATUS_TYPE, "%s: %s has dtype %s, expected %s", op->name,
                            pl__port_name(op, i, name, sizeof name), dtype_name(t->dtype), dtype_name(port->dtype));
    }
    return PL_STATUS_OK;
}

pl_status pl__check_rank(const pl_op *op, const pl_call *call, int input, int rank)
{
    const pl_tensor *t = &call->in[input];
    char name[64];
    if (!pl__present(t) || t->ndim == rank) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "%s: %s has %d dimension%s, expected %d", op->name,
                    pl__port_name(op, input, name, sizeof name), t->ndim, t->ndim == 1 ? "" : "s", rank);
}

pl_status pl__check_shape(const pl_op *op, const pl_call *call, int input, int rank, const int64_t *expected,
                          const char *why)
{
    const pl_tensor *t = &call->in[input];
    if (!pl__present(t)) return PL_STATUS_OK;
    bool same = t->ndim == rank;
    for (int i = 0; same && i < rank; i++) same = expected[i] < 0 || t->shape[i] == expected[i];
    if (same) return PL_STATUS_OK;
    char got[160], due[160], name[64];
    write_shape(got, sizeof got, t->ndim, t->shape);
    write_shape(due, sizeof due, rank, expected);
    return pl__fail(PL_STATUS_VALUE, "%s: %s has shape %s, expected %s%s%s", op->name,
                    pl__port_name(op, input, name, sizeof name), got, due, why ? ", " : "", why ? why : "");
}

pl_status pl__check_rows(const pl_op *op, const pl_call *call, int input, int64_t *rows, int64_t *width)
{
    const pl_tensor *t = &call->in[input];
    char name[64];
    if (t->ndim < 1)
        return pl__fail(PL_STATUS_VALUE, "%s: %s has 0 dimensions, expected at least 1", op->name,
                        pl__port_name(op, input, name, sizeof name));
    *rows = pl__rows(t);
    *width = pl__width(t);
    if (*width > 0) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "%s: %s has width 0, expected at least 1", op->name,
                    pl__port_name(op, input, name, sizeof name));
}

pl_status pl__check_offsets(const pl_op *op, const pl_call *call, int input, int64_t rows, const char *rows_name)
{
    PL__CHECK(pl__check_rank(op, call, input, 1));
    const pl_tensor *t = &call->in[input];
    char buffer[64];
    const char *name = pl__port_name(op, input, buffer, sizeof buffer);
    const int64_t n = t->shape[0], *offsets = t->data;
    if (n < 1) return pl__fail(PL_STATUS_VALUE, "%s: %s is empty, expected samples + 1 entries", op->name, name);
    if (offsets[0] != 0)
        return pl__fail(PL_STATUS_VALUE, "%s: %s[0] is %lld, expected 0", op->name, name, (long long)offsets[0]);
    for (int64_t i = 1; i < n; i++)
        if (offsets[i] < offsets[i - 1])
            return pl__fail(PL_STATUS_VALUE, "%s: %s[%lld] is %lld, below the %lld before it; offsets must ascend",
                            op->name, name, (long long)i, (long long)offsets[i], (long long)offsets[i - 1]);
    if (offsets[n - 1] != rows)
        return pl__fail(PL_STATUS_VALUE, "%s: %s ends at %lld, expected %lld, the number of rows of %s", op->name, name,
                        (long long)offsets[n - 1], (long long)rows, rows_name);
    return PL_STATUS_OK;
}

pl_status pl__check_indices(const pl_op *op, const pl_call *call, int input, int64_t limit, const char *what)
{
    const pl_tensor *t = &call->in[input];
    const int64_t n = pl__count(t), *index = t->data;
    int64_t bad = 0;
    while (bad < n && (uint64_t)index[bad] < (uint64_t)limit) bad++;
    if (bad == n) return PL_STATUS_OK;
    char name[64], place[160] = "";
    size_t used = 0;
    int64_t block = n, rest = bad;
    for (int d = 0; d < t->ndim && used < sizeof place; d++) {
        block /= t->shape[d];
        used += (size_t)snprintf(place + used, sizeof place - used, d ? ", %lld" : "%lld", (long long)(rest / block));
        rest %= block;
    }
    return pl__fail(PL_STATUS_INDEX, "%s: %s[%s] is %lld, expected 0 to %lld, %s", op->name,
                    pl__port_name(op, input, name, sizeof name), place, (long long)index[bad], (long long)limit - 1,
                    what);
}

pl_status pl__check_rate(const pl_op *op, const char *name, double value)
{
    if (value >= 0 && value < 1) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "%s: %s is %g, expected at least 0 and below 1", op->name, name, value);
}

pl_status pl__check_positive(const pl_op *op, const char *name, double value)
{
    if (value > 0 && isfinite(value)) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "%s: %s is %g, expected a finite number above 0", op->name, name, value);
}

pl_status pl__check_enum(const pl_op *op, const char *name, int value, int count)
{
    if (value >= 0 && value < count) return PL_STATUS_OK;
    return pl__fail(PL_STATUS_VALUE, "%s: %s is %d, expected 0 to %d", op->name, name, value, count - 1);
}
