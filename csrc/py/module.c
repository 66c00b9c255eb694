/* module.c - the module: operators, memory, threads, versions. */
#define PL_IMPORTS_NUMPY
#include "py.h"

#include "../dnnl/dnnl_layer.h"

pl_context *py_context;

PyObject *py_raise(pl_status status)
{
    static PyObject **const exceptions[] = {
        [PL_STATUS_VALUE] = &PyExc_ValueError,       [PL_STATUS_TYPE] = &PyExc_TypeError,
        [PL_STATUS_INDEX] = &PyExc_IndexError,       [PL_STATUS_MEMORY] = &PyExc_MemoryError,
        [PL_STATUS_OVERFLOW] = &PyExc_OverflowError, [PL_STATUS_UNSUPPORTED] = &PyExc_NotImplementedError,
        [PL_STATUS_RUNTIME] = &PyExc_RuntimeError,
    };
    PyErr_SetString(*exceptions[status], pl_error_message());
    return NULL;
}

static PyObject *m_set_threads(PyObject *self, PyObject *arg)
{
    (void)self;
    int overflow = 0;
    const long n = PyFloat_Check(arg) ? 0 : PyLong_AsLongAndOverflow(arg, &overflow);
    if (PyErr_Occurred() || PyFloat_Check(arg) || PyBool_Check(arg)) {
        PyErr_Clear();
        return PyErr_Format(PyExc_TypeError, "set_num_threads: n is %R, expected a whole number", arg);
    }
    pl_status status = pl_context_set_threads(py_context, overflow || n != (int)n ? -1 : (int)n);
    if (status) return py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *m_get_threads(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return PyLong_FromLong(pl_context_threads(py_context));
}

static PyObject *m_has(PyObject *self, PyObject *arg)
{
    (void)self;
    const char *name = PyUnicode_Check(arg) ? PyUnicode_AsUTF8(arg) : NULL;
    if (!name) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "has: a name of a precision is due");
    const pl_dtype dtype = !strcmp(name, "bf16") ? PL_DTYPE_BF16 : !strcmp(name, "int8") ? PL_DTYPE_S8 : PL_DTYPE_F32;
    return PyBool_FromLong(pl_context_has(py_context, dtype));
}

static PyObject *m_counters(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    pl_counters c;
    pl_counters_get(&c);
    return Py_BuildValue("{sLsLsLsLsLsLsLsLsLsL}", "live_blocks", (long long)c.live_blocks, "live_bytes",
                         (long long)c.live_bytes, "allocations", (long long)c.allocations, "pool_free_bytes",
                         (long long)c.pool_free_bytes, "pool_used_bytes", (long long)c.pool_used_bytes,
                         "pool_used_buffers", (long long)c.pool_used_buffers, "primitives_created",
                         (long long)c.primitives_created, "primitives_cached", (long long)c.primitives_cached,
                         "packs_filled", (long long)c.packs_filled, "crowded", (long long)c.crowded);
}

static PyObject *m_fail_at(PyObject *self, PyObject *args)
{
    (void)self;
    long long nth;
    int persistent = 0;
    if (!PyArg_ParseTuple(args, "L|p", &nth, &persistent)) return NULL;
    pl_memory_fail_at(nth, persistent);
    Py_RETURN_NONE;
}

static PyObject *m_ignore_crowd(PyObject *self, PyObject *arg)
{
    (void)self;
    const int truth = PyObject_IsTrue(arg);
    if (truth < 0) return NULL;
    pl__ignore_crowd(truth);
    Py_RETURN_NONE;
}

static PyObject *m_set_thread_worth(PyObject *self, PyObject *arg)
{
    (void)self;
    const double nanoseconds = PyFloat_AsDouble(arg);
    if (PyErr_Occurred()) return NULL;
    pl__set_thread_worth(nanoseconds);
    Py_RETURN_NONE;
}

static PyObject *m_empty_cache(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    pl_pool_trim();
    pl__dnnl_drop_cache();
    Py_RETURN_NONE;
}

static PyObject *m_set_pool_cap(PyObject *self, PyObject *arg)
{
    (void)self;
    const size_t bytes = PyLong_AsSize_t(arg);
    if (bytes == (size_t)-1 && PyErr_Occurred()) return NULL;
    pl_pool_set_cap(bytes);
    Py_RETURN_NONE;
}

static PyObject *m_empty(PyObject *self, PyObject *shape)
{
    (void)self;
    int64_t dims[PL_MAX_DIMS];
    pl_tensor t;
    if (!PyTuple_Check(shape) || PyTuple_GET_SIZE(shape) > PL_MAX_DIMS)
        return PyErr_Format(PyExc_TypeError, "empty(shape): expected a tuple of at most %d sizes", PL_MAX_DIMS);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shape); i++) {
        dims[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i));
        if (PyErr_Occurred()) return NULL;
    }
    pl_status status = pl_tensor_init(&t, NULL, PL_DTYPE_F32, (int)PyTuple_GET_SIZE(shape), dims);
    return status ? py_raise(status) : (PyObject *)py_new_array(&t);
}

static PyObject *m_config(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    int major, minor, patch;
    pl_onednn_version(&major, &minor, &patch);
    return Py_BuildValue("{sssNsssssi}", "version", PL_VERSION_STRING, "onednn",
                         PyUnicode_FromFormat("%d.%d.%d", major, minor, patch), "onednn_path", pl_onednn_path(), "isa",
                         pl_isa_name(pl_context_isa(py_context)), "threads", pl_context_threads(py_context));
}

static void visit(void *list, const char *name, int64_t m, int64_t n, int64_t k)
{
    PyObject *row = Py_BuildValue("(sLLL)", name, (long long)m, (long long)n, (long long)k);
    if (!row || PyList_Append(list, row) < 0) PyErr_Clear();
    Py_XDECREF(row);
}

static PyObject *m_implementations(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyObject *list = PyList_New(0);
    const pl_status status = list ? pl__dnnl_each_implementation(visit, list) : PL_STATUS_OK;
    if (!status) return list;
    Py_DECREF(list);
    return py_raise(status);
}

static PyMethodDef methods[] = {
    {"set_num_threads", m_set_threads, METH_O,
     "set_num_threads($module, n, /)\n--\n\nSets how many threads an operator may use, for all operators of the process.\n\n"
     "Parameters\n----------\nn : int\n    At least 1.\n\n"
     "Examples\n--------\n>>> import plait\n>>> plait.set_num_threads(1)\n>>> plait.get_num_threads()\n1\n"},
    {"get_num_threads", m_get_threads, METH_NOARGS,
     "get_num_threads($module, /)\n--\n\nThreads that an operator may use. Default: ``OMP_NUM_THREADS``, or the cores that the "
     "process may run on.\n\n"
     "Examples\n--------\n>>> import plait\n>>> plait.get_num_threads() >= 1\nTrue\n"},
    {"has", m_has, METH_O, "Whether products in a precision have instructions here."},
    {"counters", m_counters, METH_NOARGS, "Counters of memory, primitives and packs."},
    {"fail_at", m_fail_at, METH_VARARGS, "fail_at(nth, persistent=False): makes an allocation fail, for tests."},
    {"ignore_crowd", m_ignore_crowd, METH_O, "Work is shared by threads however busy the machine is, for tests."},
    {"set_thread_worth", m_set_thread_worth, METH_O, "Nanoseconds of work that are worth a thread, for tests."},
    {"empty_cache", m_empty_cache, METH_NOARGS,
     "empty_cache($module, /)\n--\n\nGives unused buffers of the pool and cached oneDNN primitives back to the system.\n\n"
     "Examples\n--------\n>>> import plait\n>>> plait.empty_cache()\n"},
    {"set_pool_cap", m_set_pool_cap, METH_O, "Bytes that the pool may keep."},
    {"empty", m_empty, METH_O, "empty(shape): a float32 array from the pool, not initialised."},
    {"config", m_config, METH_NOARGS, "Versions, instruction set, threads."},
    {"implementations", m_implementations, METH_NOARGS, "(name, m, n, k) of the cached oneDNN products."},
    {0}};

/* Once per process: the pool, the context and oneDNN are process-wide, and NumPy refuses sub-interpreters as well. */
static int exec_module(PyObject *module)
{
    import_array1(-1);
    if (!py_context) {
        if (pl_context_create(&py_context)) {
            PyErr_SetString(PyExc_ImportError, pl_error_message());
            return -1;
        }
    }
    if (PyModule_AddFunctions(module, py_optim_methods) < 0 || PyModule_AddFunctions(module, py_call_methods) < 0) return -1;
    if (py_array_init(module) < 0 || py_lock_init(module) < 0 || py_pack_init(module) < 0) return -1;
    return py_call_init(module);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030C0000
                                   {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
                                   {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "plait._core", "The C core of plait.", 0, methods, slots,
                                        NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }
