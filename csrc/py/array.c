/* array.c - arrays in and out: one place for conversions. */
#include "py.h"

/* ---- the base object of arrays that live in the pool */

typedef struct Buffer {
    PyObject_HEAD
    void *data;
} Buffer;

static void buffer_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pl_buffer_put(((Buffer *)self)->data);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot buffer_slots[] = {{Py_tp_dealloc, buffer_dealloc},
                                     {Py_tp_doc, "Memory of the pool; goes back to it with the last array over it."},
                                     {0, NULL}};
static PyType_Spec buffer_spec = {"plait._core.Buffer", sizeof(Buffer), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, buffer_slots};
static PyTypeObject *buffer_type;

int py_array_init(PyObject *module)
{
    buffer_type = (PyTypeObject *)PyType_FromSpec(&buffer_spec);
    return buffer_type ? PyModule_AddType(module, buffer_type) : -1;
}

static const int type_numbers[PL_DTYPE_COUNT] = {
    [PL_DTYPE_F32] = NPY_FLOAT32, [PL_DTYPE_BF16] = NPY_UINT16, [PL_DTYPE_S8] = NPY_INT8, [PL_DTYPE_U8] = NPY_UINT8,
    [PL_DTYPE_I64] = NPY_INT64};

PyArrayObject *py_new_array(pl_tensor *tensor)
{
    npy_intp dims[PL_MAX_DIMS];
    for (int i = 0; i < tensor->ndim; i++) dims[i] = tensor->shape[i];
    pl_status status = pl_buffer_get(pl_tensor_bytes(tensor), &tensor->data);
    if (status) return (PyArrayObject *)py_raise(status);
    Buffer *buffer = PyObject_New(Buffer, buffer_type);
    if (!buffer) {
        pl_buffer_put(tensor->data);
        tensor->data = NULL;
        return NULL;
    }
    buffer->data = tensor->data;
    PyObject *array = PyArray_New(&PyArray_Type, tensor->ndim, dims, type_numbers[tensor->dtype], NULL, tensor->data, 0,
                                  NPY_ARRAY_CARRAY, NULL);
    if (!array || PyArray_SetBaseObject((PyArrayObject *)array, (PyObject *)buffer) < 0) {
        if (!array) Py_DECREF(buffer);
        Py_XDECREF(array);
        tensor->data = NULL;
        return NULL;
    }
    return (PyArrayObject *)array;
}

/* ---- intake */

static bool is_ready(PyArrayObject *a, int type_number)
{
    return PyArray_TYPE(a) == type_number && PyArray_IS_C_CONTIGUOUS(a) && PyArray_ISALIGNED(a) &&
           PyArray_ISNOTSWAPPED(a) && PyArray_NDIM(a) <= PL_MAX_DIMS;
}

/* An array without elements may claim any shape; loops over its rows must end all the same. */
#define MOST_OF_NOTHING INT32_MAX

static int check_empty(PyArrayObject *a, const char *op, const char *name)
{
    if (PyArray_SIZE(a)) return 0;
    for (int i = 0; i < PyArray_NDIM(a); i++)
        if (PyArray_DIM(a, i) > MOST_OF_NOTHING) {
            PyErr_Format(PyExc_ValueError, "%s: %s has %zd entries in dimension %d and no elements, expected at most %d",
                         op, name, (Py_ssize_t)PyArray_DIM(a, i), i, MOST_OF_NOTHING);
            return -1;
        }
    return 0;
}

/* May a dtype of this kind become the port's dtype? Lists may hold whole numbers where floats are due. */
static bool kind_fits(PyArrayObject *a, pl_dtype dtype, bool was_array)
{
    PyArray_Descr *d = PyArray_DESCR(a);
    if (dtype == PL_DTYPE_I64) return d->kind == 'i' || d->kind == 'u' || (!was_array && PyArray_SIZE(a) == 0);
    if (d->kind == 'f') return true;
    if (d->kind == 'V' && d->typeobj && strstr(d->typeobj->tp_name, "bfloat16")) return true;
    return !was_array && (d->kind == 'i' || d->kind == 'u');
}

/* A subclass of ndarray with masked elements: the values under the mask mean nothing. */
static bool has_masked(PyObject *object)
{
    if (PyArray_CheckExact(object)) return false;
    PyObject *mask = PyObject_GetAttrString(object, "mask");
    PyObject *any = mask && PyArray_Check(mask) ? PyObject_CallMethod(mask, "any", NULL) : NULL;
    const bool masked = any && PyObject_IsTrue(any) == 1;
    Py_XDECREF(mask);
    Py_XDECREF(any);
    PyErr_Clear();
    return masked;
}

/* NumPy could not make an array of it, or the object's own __array__ failed: say which argument that was. */
static void complain(PyObject *object, const char *op, const char *name)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) return;
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_Format(PyExc_TypeError, "%s: %s is not an array: %.100s (%S)", op, name, Py_TYPE(object)->tp_name,
                 error ? error : Py_None);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
}

PyArrayObject *py_intake(PyObject *object, pl_dtype dtype, const char *op, const char *name)
{
    const int type_number = type_numbers[dtype];
    const bool was_array = PyArray_Check(object);
    if (was_array && PyArray_CheckExact(object) && PL_LIKELY(is_ready((PyArrayObject *)object, type_number)) &&
        dtype != PL_DTYPE_I64)
        return check_empty((PyArrayObject *)object, op, name) < 0 ? NULL : (PyArrayObject *)Py_NewRef(object);
    if (was_array && has_masked(object))
        return (PyArrayObject *)PyErr_Format(
            PyExc_TypeError, "%s: %s has masked elements, expected a plain array (see its .filled())", op, name);
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_OF(object, NPY_ARRAY_ENSUREARRAY);
    if (!any) {
        complain(object, op, name);
        return NULL;
    }
    PyArrayObject *ready = NULL;
    if (PyArray_NDIM(any) > PL_MAX_DIMS)
        PyErr_Format(PyExc_ValueError, "%s: %s has %d dimensions, expected at most %d", op, name, PyArray_NDIM(any),
                     PL_MAX_DIMS);
    else if (!kind_fits(any, dtype, was_array))
        PyErr_Format(PyExc_TypeError, "%s: %s has dtype %S, expected %s", op, name, (PyObject *)PyArray_DESCR(any),
                     dtype == PL_DTYPE_I64 ? "an integer dtype" : "a floating dtype");
    else if (check_empty(any, op, name) == 0)
        /* Offsets and indices are checked once and then trusted, in backward too. A flag says little about who may
         * still write to an array, so they are copied. */
        ready = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)any, type_number,
                                                  NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST | NPY_ARRAY_NOTSWAPPED |
                                                      (dtype == PL_DTYPE_I64 ? NPY_ARRAY_ENSURECOPY : 0));
    Py_DECREF(any);
    return ready;
}

void py_view(PyArrayObject *array, pl_dtype dtype, pl_tensor *view)
{
    int64_t shape[PL_MAX_DIMS];
    for (int i = 0; i < PyArray_NDIM(array); i++) shape[i] = PyArray_DIM(array, i);
    pl_tensor_init(view, PyArray_DATA(array), dtype, PyArray_NDIM(array), shape);
}
