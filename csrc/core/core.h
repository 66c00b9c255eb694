/* core.h - what every layer above the core may use. Knows only the C library (and OpenMP inside parallel.c). */
#ifndef PL_CORE_H
#define PL_CORE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "plait.h"

#define PL_LIKELY(x) __builtin_expect(!!(x), 1)

/* ---- status.c: sets the thread's message and returns the status, so that `return pl__fail(...)` reads well. */
pl_status pl__fail(pl_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Leaves the enclosing function through `done` when an expression fails; needs `pl_status status` and a label. */
#define PL__TRY(expression)                            \
    do {                                               \
        status = (expression);                         \
        if (status != PL_STATUS_OK) goto done;         \
    } while (0)

/* Returns at once when an expression fails. */
#define PL__CHECK(expression)                                  \
    do {                                                       \
        pl_status pl__st = (expression);                       \
        if (pl__st != PL_STATUS_OK) return pl__st;             \
    } while (0)

/* ---- tensor.c: checked sizes. */
bool pl__mul(int64_t a, int64_t b, int64_t *product); /* false: overflow, or a negative factor */
bool pl__add(int64_t a, int64_t b, int64_t *sum);

/* Product of the first `n` dimensions; tensors that passed infer cannot overflow. */
int64_t pl__count(const pl_tensor *t);
static inline bool pl__present(const pl_tensor *t) { return t->data != NULL; }

/* Output or saved tensor number `t` of a call gets a shape. Fails on overflow. */
pl_status pl__shape1(pl_tensor *t, pl_dtype dtype, int64_t a);
pl_status pl__shape2(pl_tensor *t, pl_dtype dtype, int64_t a, int64_t b);
pl_status pl__shape_like(pl_tensor *t, const pl_tensor *other); /* dtype float32 */
void pl__no_tensor(pl_tensor *t);

/* A tensor of any rank >= 1 as rows of its last dimension. */
static inline int64_t pl__width(const pl_tensor *t) { return t->shape[t->ndim - 1]; }
static inline int64_t pl__rows(const pl_tensor *t)
{
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->ndim; i++) rows *= t->shape[i];
    return rows;
}

/* ---- check.c: checks of inputs. Messages read "layer_norm: weight has shape (512,), expected (768,), <why>". */
const char *pl__port_name(const pl_op *op, int input, char *buffer, size_t size);
/* First in every infer: as many inputs as there are ports, required ones present, all of their port's dtype. */
pl_status pl__check_ports(const pl_op *op, const pl_call *call);
pl_status pl__check_rank(const pl_op *op, const pl_call *call, int input, int rank);
/* -1 in `expected` accepts any size; absent optional inputs pass. `why` says where the expectation is from. */
pl_status pl__check_shape(const pl_op *op, const pl_call *call, int input, int rank, const int64_t *expected,
                          const char *why);
/* At least one dimension, the last not empty. Fills in the number of rows and their width. */
pl_status pl__check_rows(const pl_op *op, const pl_call *call, int input, int64_t *rows, int64_t *width);
/* Offsets: int64, at least one, first 0, ascending, last equal to `rows`. */
pl_status pl__check_offsets(const pl_op *op, const pl_call *call, int input, int64_t rows, const char *rows_name);
/* Indices: int64 in [0, limit), any shape. */
pl_status pl__check_indices(const pl_op *op, const pl_call *call, int input, int64_t limit, const char *what);
/* A probability attribute in [0, 1). */
pl_status pl__check_rate(const pl_op *op, const char *name, double value);
/* A finite attribute above zero. */
pl_status pl__check_positive(const pl_op *op, const char *name, double value);
/* An attribute in [0, count). */
pl_status pl__check_enum(const pl_op *op, const char *name, int value, int count);

/* ---- memory.c: the only file that calls malloc. Zero bytes give a valid pointer. NULL: out of memory. */
void *pl__alloc(size_t bytes);                 /* 64-byte aligned */
void pl__free(void *data, size_t bytes);
void *pl__small_alloc(size_t bytes);           /* zeroed; remembers its size */
void pl__small_free(void *data);

extern pl_counters pl__counters;               /* updated atomically */
#define PL__COUNT(field, amount) __atomic_add_fetch(&pl__counters.field, (amount), __ATOMIC_RELAXED)

/* ---- pool.c: scratch of an operator. `pl__scratch` sets the message. */
pl_status pl__scratch(void *pointer_to_pointer, size_t count, size_t item);
void pl__pool_lock(void); /* around fork only */
void pl__pool_unlock(void);

/* ---- context.c */
struct pl_simd; /* the table of row kernels, see simd/simd.h */
struct pl_context {
    int threads;
    pl_isa isa;
    bool vnni; /* 8-bit products have their instructions */
    const struct pl_simd *simd;
};
bool pl__forked(void); /* true in a child made by fork after the library was used */
/* simd/ registers how to find its tables, so that core does not include it. */
const struct pl_simd *pl__simd_table(pl_isa isa);
/* dnnl/ likewise: refuses a library that is too old and lowers its instruction set, until its first primitive only. */
pl_status pl__dnnl_start(pl_isa limit);

/* ---- crowd.c: what a team of threads does when other processes take the processors. */
int64_t pl__now(void); /* nanoseconds */
void pl__set_now(int64_t nanoseconds); /* for tests: the time from now on; 0: that of the clock */
bool pl__alone_is_better(int threads, double nanoseconds); /* than so many threads; what one takes */
void pl__ignore_crowd(bool ignore); /* for tests, which count primitives and allocations */
void pl__team_waited(int64_t waited, int64_t worked); /* of the calling thread, in a region of several */
/* A product on several threads: how many multiplications each of them had, and how long they took. */
void pl__product_took(pl_dtype operands, double multiplications, int64_t nanoseconds);

/* ---- parallel.c: the only file with OpenMP pragmas. */
typedef void (*pl__range_fn)(void *arg, int64_t begin, int64_t end);
/* Calls fn on contiguous ranges that cover [0, n), split on multiples of `grain`: one range a thread at most, one in
 * all when n <= grain. Which range a row falls in must not change its result. Gives the number of threads. */
int pl__parallel_ranges(const pl_context *ctx, int64_t n, int64_t grain, pl__range_fn fn, void *arg);
/* Calls fn(arg, i, i + 1) for i in [0, n), dealt out one at a time in order (first = dearest). `cost` in
 * nanoseconds of the whole: below a threshold it runs on one thread. */
void pl__parallel_tasks(const pl_context *ctx, int64_t n, double cost, pl__range_fn fn, void *arg);
/* Rows that are worth a thread of their own when a row costs `nanoseconds`. */
int64_t pl__grain(double nanoseconds);
/* For tests: work that is worth a thread, so that small inputs are split too; 0 = as usual. */
void pl__set_thread_worth(double nanoseconds);

/* Threads as oneDNN sees them: sets the calling thread's OpenMP count, returns the previous one. */
int pl__threads_enter(const pl_context *ctx, int *threads);
void pl__threads_leave(int previous);

#endif
