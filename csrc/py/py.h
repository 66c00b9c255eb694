/* py.h - shared by the binding's files; the only folder that includes Python.h and NumPy. */
#ifndef PL_PY_H
#define PL_PY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL plait_array_api
#ifndef PL_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "../core/core.h"

extern pl_context *py_context; /* the process-wide one */

/* status -> exception, with the thread's message; returns NULL. */
PyObject *py_raise(pl_status status);

/* array.c */
int py_array_init(PyObject *module);
/* A C-contiguous, aligned, native array of the port's dtype: the object itself when it is one, else a copy. */
PyArrayObject *py_intake(PyObject *object, pl_dtype dtype, const char *op, const char *name);
void py_view(PyArrayObject *array, pl_dtype dtype, pl_tensor *view);
/* A new array over a pool buffer, of a tensor's dtype and shape; fills tensor->data. */
PyArrayObject *py_new_array(pl_tensor *tensor);

/* lock.c: while an array is locked it is read-only. False: it was not writable anyway, so unlock it not. */
int py_lock_init(PyObject *module);
bool py_lock(PyArrayObject *array);
void py_unlock(PyArrayObject *array);

/* attrs.c: fills an attribute struct from a dict of keywords. 0, or -1 with an exception. */
int py_attrs(const pl_op *op, PyObject *keywords, void *attr);

/* call.c */
int py_call_init(PyObject *module);
extern PyMethodDef py_call_methods[];

/* optim.c */
extern PyMethodDef py_optim_methods[];

/* pack.c */
int py_pack_init(PyObject *module);
pl_pack *py_pack_of(PyObject *object); /* NULL for None; NULL with an exception for anything else */

#endif
