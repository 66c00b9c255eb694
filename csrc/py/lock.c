/* lock.c - arrays that are read-only while a record needs them.
 *
 * What backward reads must be what forward read, so a record takes the write permission of the arrays that it keeps
 * and gives it back when it goes. Several records may keep one array, hence the counts: a small hash table from array
 * to number of locks, guarded by the GIL. A locked array is kept alive by its lock, so an address means one array.
 *
 *     lock = plait._core.Lock(a, b)      the same for the functions in Python: read-only while the lock lives */
#include "py.h"

typedef struct slot {
    PyArrayObject *array; /* NULL: free */
    size_t count;
} slot;

static slot *table;
static size_t capacity, used; /* capacity is a power of two, at most half of it is used */

static size_t home_of(const PyArrayObject *array)
{
    return ((uintptr_t)array >> 4) * 0x9E3779B97F4A7C15ull >> 20 & (capacity - 1);
}

/* The slot of an array, or the free slot where it would go. */
static slot *find(const PyArrayObject *array)
{
    size_t i = home_of(array);
    while (table[i].array && table[i].array != array) i = (i + 1) & (capacity - 1);
    return &table[i];
}

static bool grow(void)
{
    slot *old = table;
    const size_t n = capacity;
    slot *bigger = PyMem_Calloc(n ? n * 2 : 64, sizeof *bigger);
    if (!bigger) return false;
    table = bigger;
    capacity = n ? n * 2 : 64;
    for (size_t i = 0; i < n; i++)
        if (old[i].array) *find(old[i].array) = old[i];
    PyMem_Free(old);
    return true;
}

/* Linear probing without tombstones: what follows in the run moves up when its home lies at or before the hole. */
static void vacate(slot *s)
{
    size_t hole = (size_t)(s - table);
    for (size_t i = (hole + 1) & (capacity - 1); table[i].array; i = (i + 1) & (capacity - 1)) {
        const size_t home = home_of(table[i].array);
        if (((i - home) & (capacity - 1)) >= ((i - hole) & (capacity - 1))) {
            table[hole] = table[i];
            hole = i;
        }
    }
    table[hole].array = NULL;
    used--;
}

bool py_lock(PyArrayObject *array)
{
    if (used * 2 >= capacity && !grow()) return false; /* no memory: unprotected, and no reason to fail a call */
    slot *s = find(array);
    if (!s->array) {
        if (!PyArray_ISWRITEABLE(array)) return false;
        *s = (slot){array, 0};
        used++;
    }
    s->count++;
    PyArray_CLEARFLAGS(array, NPY_ARRAY_WRITEABLE);
    return true;
}

void py_unlock(PyArrayObject *array)
{
    slot *s = find(array);
    if (!s->array || --s->count) return;
    vacate(s);
    PyArray_ENABLEFLAGS(array, NPY_ARRAY_WRITEABLE);
}

/* ---- the object */

typedef struct Lock {
    PyObject_VAR_HEAD
    PyArrayObject *arrays[1]; /* those that this lock locked */
} Lock;

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (keywords) return PyErr_Format(PyExc_TypeError, "Lock takes no keywords");
    const Py_ssize_t n = PyTuple_GET_SIZE(args);
    for (Py_ssize_t i = 0; i < n; i++)
        if (!PyArray_Check(PyTuple_GET_ITEM(args, i)))
            return PyErr_Format(PyExc_TypeError, "Lock: argument %zd is no array", i);
    Lock *self = (Lock *)type->tp_alloc(type, n);
    if (!self) return NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyArrayObject *array = (PyArrayObject *)PyTuple_GET_ITEM(args, i);
        if (py_lock(array)) self->arrays[i] = (PyArrayObject *)Py_NewRef(array);
    }
    return (PyObject *)self;
}

static void lock_dealloc(PyObject *object)
{
    Lock *self = (Lock *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (Py_ssize_t i = 0; i < Py_SIZE(object); i++)
        if (self->arrays[i]) {
            py_unlock(self->arrays[i]);
            Py_DECREF(self->arrays[i]);
        }
    type->tp_free(object);
    Py_DECREF(type);
}

static PyType_Slot lock_slots[] = {{Py_tp_new, lock_new},
                                   {Py_tp_dealloc, lock_dealloc},
                                   {Py_tp_doc, "Lock(*arrays): they are read-only while it lives."},
                                   {0, NULL}};
static PyType_Spec lock_spec = {"plait._core.Lock", offsetof(Lock, arrays), sizeof(PyArrayObject *),
                                Py_TPFLAGS_DEFAULT, lock_slots};

int py_lock_init(PyObject *module)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&lock_spec);
    const int status = type ? PyModule_AddType(module, type) : -1;
    Py_XDECREF(type);
    return status;
}
