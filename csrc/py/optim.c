/* optim.c - optimiser steps on NumPy arrays:
 *
 *     adamw_step(p, g, m, v, segments, beta1, beta2, eps, step, grad_scale, weights=())
 *     sgd_step(p, g, m, segments, momentum, nesterov, grad_scale, weights=())
 *     sum_squares(x, spans) -> float
 *
 * Segments are tuples (begin, end, lr, weight_decay), spans are tuples (begin, end), and weights, whose packed forms are
 * renewed, are tuples (begin, rows, columns, pack, version). */
#include "py.h"

/* The data of a flat float32 array of the given size (any size: -1); NULL with an exception. */
static float *flat(PyObject *object, const char *function, const char *name, int64_t *size, bool writable)
{
    PyArrayObject *a = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(a) != NPY_FLOAT32 || PyArray_NDIM(a) != 1 ||
        !PyArray_IS_C_CONTIGUOUS(a) || !PyArray_ISALIGNED(a) || !PyArray_ISNOTSWAPPED(a)) {
        PyErr_Format(PyExc_TypeError, "%s: %s must be a one-dimensional contiguous float32 array", function, name);
        return NULL;
    }
    if (writable && !PyArray_ISWRITEABLE(a)) {
        PyErr_Format(PyExc_ValueError, "%s: %s is read-only", function, name);
        return NULL;
    }
    if (*size >= 0 && PyArray_SIZE(a) != *size) {
        PyErr_Format(PyExc_ValueError, "%s: %s has %zd values, expected %lld, as many as p", function, name,
                     (Py_ssize_t)PyArray_SIZE(a), (long long)*size);
        return NULL;
    }
    *size = PyArray_SIZE(a);
    return PyArray_DATA(a);
}

/* Fills a new array of segments from a sequence of tuples; free it with PyMem_Free. Comes before the arrays are looked
 * at, since numbers may be Python code, which may give an array other memory. */
static pl_segment *segments_of(PyObject *object, const char *function, bool spans, int64_t *count)
{
    if (!PyList_Check(object) && !PyTuple_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s: segments is %.100s, expected a list of tuples", function,
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    PyObject *list = PySequence_Tuple(object); /* a copy: a list could change under such code too */
    if (!list) return NULL;
    const Py_ssize_t n = PyTuple_GET_SIZE(list);
    pl_segment *segments = PyMem_Calloc((size_t)n + 1, sizeof *segments);
    if (!segments) PyErr_NoMemory();
    for (Py_ssize_t i = 0; segments && i < n; i++) {
        PyObject *row = PyTuple_GET_ITEM(list, i);
        long long begin, end;
        pl_segment *s = &segments[i];
        if (!PyTuple_Check(row) || !(spans ? PyArg_ParseTuple(row, "LL", &begin, &end)
                                           : PyArg_ParseTuple(row, "LLdd", &begin, &end, &s->lr, &s->weight_decay))) {
            PyErr_Clear();
            PyErr_Format(PyExc_TypeError, "%s: segments[%zd] is %R, expected a tuple (begin, end%s)", function, i, row,
                         spans ? "" : ", lr, weight_decay");
            PyMem_Free(segments);
            segments = NULL;
            break;
        }
        s->begin = begin;
        s->end = end;
    }
    Py_DECREF(list);
    *count = n;
    return segments;
}

/* The same of weights, from a sequence of tuples or NULL; the caller holds on to the list, and so to the packs. */
static pl_weight *weights_of(PyObject *list, const char *function)
{
    const Py_ssize_t n = list ? PyTuple_GET_SIZE(list) : 0;
    pl_weight *weights = PyMem_Calloc((size_t)n + 1, sizeof *weights);
    if (!weights) PyErr_NoMemory();
    for (Py_ssize_t i = 0; weights && i < n; i++) {
        PyObject *row = PyTuple_GET_ITEM(list, i), *pack = NULL;
        long long begin, rows, columns;
        unsigned long long version;
        pl_weight *w = &weights[i];
        if (PyTuple_Check(row) && PyArg_ParseTuple(row, "LLLOK", &begin, &rows, &columns, &pack, &version) &&
            (w->pack = py_pack_of(pack))) {
            w->begin = begin, w->rows = rows, w->columns = columns, w->version = version;
            continue;
        }
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: weights[%zd] is %R, expected a tuple (begin, rows, columns, pack, version)",
                     function, i, row);
        PyMem_Free(weights);
        weights = NULL;
    }
    return weights;
}

/* What both steps are told of the arena. */
typedef struct parts {
    pl_segment *segments;
    pl_weight *weights;
    PyObject *packs; /* the tuples that weights came from */
    int64_t count, weight_count;
} parts;

static void parts_free(parts *p)
{
    PyMem_Free(p->segments);
    PyMem_Free(p->weights);
    Py_CLEAR(p->packs);
}

static int parts_of(PyObject *segments, PyObject *weights, const char *function, parts *p)
{
    *p = (parts){0};
    if (weights && !(p->packs = PySequence_Tuple(weights))) return -1;
    p->weight_count = weights ? PyTuple_GET_SIZE(p->packs) : 0;
    if ((p->segments = segments_of(segments, function, false, &p->count)) && (p->weights = weights_of(p->packs, function)))
        return 0;
    parts_free(p);
    return -1;
}

static PyObject *finish(parts *p, pl_status status)
{
    parts_free(p);
    if (status) return py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *abandon(parts *p)
{
    parts_free(p);
    return NULL;
}

static PyObject *adamw_step(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *po, *go, *mo, *vo, *so, *wo = NULL;
    double beta1, beta2, eps, grad_scale;
    long long step;
    int64_t size = -1;
    parts a;
    if (!PyArg_ParseTuple(args, "OOOOOdddLd|O:adamw_step", &po, &go, &mo, &vo, &so, &beta1, &beta2, &eps, &step,
                          &grad_scale, &wo))
        return NULL;
    if (parts_of(so, wo, "adamw_step", &a) < 0) return NULL;
    float *p = flat(po, "adamw_step", "p", &size, true), *g = p ? flat(go, "adamw_step", "g", &size, false) : NULL;
    float *m = g ? flat(mo, "adamw_step", "m", &size, true) : NULL;
    float *v = m ? flat(vo, "adamw_step", "v", &size, true) : NULL;
    if (!v) return abandon(&a);
    pl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = pl_adamw_step(py_context, size, p, g, m, v, a.segments, a.count, a.weights, a.weight_count, beta1, beta2,
                           eps, step, grad_scale);
    Py_END_ALLOW_THREADS
    return finish(&a, status);
}

static PyObject *sgd_step(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *po, *go, *mo, *so, *wo = NULL;
    double momentum, grad_scale;
    int nesterov;
    int64_t size = -1;
    parts a;
    if (!PyArg_ParseTuple(args, "OOOOdpd|O:sgd_step", &po, &go, &mo, &so, &momentum, &nesterov, &grad_scale, &wo))
        return NULL;
    if (parts_of(so, wo, "sgd_step", &a) < 0) return NULL;
    float *p = flat(po, "sgd_step", "p", &size, true), *m = NULL;
    float *g = p ? flat(go, "sgd_step", "g", &size, false) : NULL;
    if (!g || (mo != Py_None && !(m = flat(mo, "sgd_step", "m", &size, true)))) return abandon(&a);
    pl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = pl_sgd_step(py_context, size, p, g, m, a.segments, a.count, a.weights, a.weight_count, momentum, nesterov,
                         grad_scale);
    Py_END_ALLOW_THREADS
    return finish(&a, status);
}

static PyObject *sum_squares(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *xo, *so;
    double sum = 0;
    int64_t size = -1, count;
    if (!PyArg_ParseTuple(args, "OO:sum_squares", &xo, &so)) return NULL;
    pl_segment *segments = segments_of(so, "sum_squares", true, &count);
    if (!segments) return NULL;
    float *x = flat(xo, "sum_squares", "x", &size, false);
    pl_status status = PL_STATUS_OK;
    if (!x) {
        PyMem_Free(segments);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = pl_sum_squares(py_context, size, x, segments, count, &sum);
    Py_END_ALLOW_THREADS
    PyMem_Free(segments);
    return status ? py_raise(status) : PyFloat_FromDouble(sum);
}

PyMethodDef py_optim_methods[] = {
    {"adamw_step", adamw_step, METH_VARARGS,
     "adamw_step(p, g, m, v, segments, beta1, beta2, eps, step, grad_scale, weights=()): segments are (begin, end, lr,\n"
     "decay), weights are (begin, rows, columns, pack, version)."},
    {"sgd_step", sgd_step, METH_VARARGS, 
     "sgd_step(p, g, m, segments, momentum, nesterov, grad_scale, weights=()): m may be None."},
    {"sum_squares", sum_squares, METH_VARARGS, "sum_squares(x, spans): sum of x^2 over (begin, end) spans, in double."},
    {0}};
