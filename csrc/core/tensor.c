/* tensor.c - views and checked sizes. */
#include "core.h"

static const size_t dtype_sizes[PL_DTYPE_COUNT] = {
    [PL_DTYPE_F32] = 4, [PL_DTYPE_BF16] = 2, [PL_DTYPE_S8] = 1, [PL_DTYPE_U8] = 1, [PL_DTYPE_I64] = 8,
};

size_t pl_dtype_size(pl_dtype dtype) { return (unsigned)dtype < PL_DTYPE_COUNT ? dtype_sizes[dtype] : 0; }

bool pl__mul(int64_t a, int64_t b, int64_t *product)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, product);
}

bool pl__add(int64_t a, int64_t b, int64_t *sum) { return !__builtin_add_overflow(a, b, sum); }

pl_status pl_tensor_init(pl_tensor *tensor, void *data, pl_dtype dtype, int ndim, const int64_t *shape)
{
    if (ndim < 0 || ndim > PL_MAX_DIMS)
        return pl__fail(PL_STATUS_VALUE, "tensor: %d dimensions, expected 0 to %d", ndim, PL_MAX_DIMS);
    if ((unsigned)dtype >= PL_DTYPE_COUNT)
        return pl__fail(PL_STATUS_TYPE, "tensor: dtype is %d, expected 0 to %d", (int)dtype, PL_DTYPE_COUNT - 1);
    tensor->data = data;
    tensor->dtype = dtype;
    tensor->ndim = ndim;
    int64_t stride = 1, bytes;
    for (int i = ndim - 1; i >= 0; i--) {
        tensor->shape[i] = shape[i];
        tensor->strides[i] = stride;
        /* A zero dimension must not hide an overflow of the others' strides. */
        if (!pl__mul(stride, shape[i] > 0 ? shape[i] : shape[i] == 0 ? 1 : -1, &stride))
            return pl__fail(PL_STATUS_OVERFLOW, "tensor: dimension %d of size %lld makes the tensor too large", i,
                            (long long)shape[i]);
    }
    if (!pl__mul(stride, (int64_t)pl_dtype_size(dtype), &bytes))
        return pl__fail(PL_STATUS_OVERFLOW, "tensor: more than 2^63 bytes");
    return PL_STATUS_OK;
}

int64_t pl__count(const pl_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return t->ndim < 0 ? 0 : n;
}

size_t pl_tensor_bytes(const pl_tensor *tensor) { return (size_t)pl__count(tensor) * pl_dtype_size(tensor->dtype); }

pl_status pl__shape1(pl_tensor *t, pl_dtype dtype, int64_t a) { return pl_tensor_init(t, NULL, dtype, 1, &a); }

pl_status pl__shape2(pl_tensor *t, pl_dtype dtype, int64_t a, int64_t b)
{
    int64_t shape[2] = {a, b};
    return pl_tensor_init(t, NULL, dtype, 2, shape);
}

pl_status pl__shape_like(pl_tensor *t, const pl_tensor *other)
{
    return pl_tensor_init(t, NULL, PL_DTYPE_F32, other->ndim, other->shape);
}

void pl__no_tensor(pl_tensor *t)
{
    memset(t, 0, sizeof *t);
    t->ndim = -1;
}
