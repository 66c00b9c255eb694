/* call.c - one operator call from Python, and the record that backward needs.
 *
 *     outputs, record = operator(inputs, want, attrs, key, counter, packs)
 *     gradients = record.backward(douts, dins, wanted, accumulate)
 *
 * `record` is None when want is 0. While a record lives, the arrays it holds are read-only: what backward reads is
 * what forward read. */
#include "py.h"

#include <structmember.h>

typedef struct Operator {
    PyObject_HEAD
    const pl_op *op;
    vectorcallfunc call;
} Operator;

typedef struct Record {
    PyObject_HEAD
    const pl_op *op;
    int n_in, n_out, running; /* running: calls that use what the record holds */
    uint32_t want, locked; /* locked: inputs that py_lock locked */
    uint64_t key, counter;
    PyObject *packs; /* tuple or NULL */
    PyObject **arrays;
    pl_tensor *in, *out, *saved; /* one block of memory, with arrays and attr behind */
    char *attr;
} Record;

static PyTypeObject *operator_type, *record_type;

/* ---------------------------------------------------------------- record */

static Record *record_new(const pl_op *op, int n_in, int n_out)
{
    const size_t tensors = (size_t)(n_in + n_out + op->n_saved);
    const size_t bytes = tensors * sizeof(pl_tensor) + (size_t)n_in * sizeof(PyObject *) + op->attr_size;
    Record *r = PyObject_New(Record, record_type);
    if (!r) return NULL;
    memset((char *)r + offsetof(Record, op), 0, sizeof *r - offsetof(Record, op));
    char *block = PyMem_Calloc(1, bytes);
    if (!block) {
        Py_DECREF(r);
        PyErr_NoMemory();
        return NULL;
    }
    r->op = op;
    r->n_in = n_in;
    r->n_out = n_out;
    r->in = (pl_tensor *)block;
    r->out = r->in + n_in;
    r->saved = r->out + n_out;
    r->arrays = (PyObject **)(r->saved + op->n_saved);
    r->attr = (char *)(r->arrays + n_in);
    return r;
}

/* Gives inputs and saved tensors back; what is left cannot run backward any more. */
static void record_clear(Record *r)
{
    pl_tensor *block = r->in;
    if (!block) return;
    r->in = NULL; /* first: the end of an array may run Python code that comes back here */
    for (int i = 0; i < r->n_in; i++) {
        if (r->locked >> i & 1) py_unlock((PyArrayObject *)r->arrays[i]);
        Py_CLEAR(r->arrays[i]);
    }
    for (int i = 0; i < r->op->n_saved; i++) pl_buffer_put(r->saved[i].data);
    Py_CLEAR(r->packs);
    PyMem_Free(block);
}

static void record_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    record_clear((Record *)self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *record_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (((Record *)self)->running) return PyErr_Format(PyExc_RuntimeError, "release: backward is running");
    record_clear((Record *)self);
    Py_RETURN_NONE;
}

static int fill_packs(PyObject *packs, int n, pl_pack **to)
{
    for (int i = 0; i < n; i++) to[i] = NULL;
    if (!packs || packs == Py_None) return 0;
    if (!PyTuple_Check(packs) || PyTuple_GET_SIZE(packs) != n) {
        PyErr_SetString(PyExc_TypeError, "packs: expected a tuple as long as the inputs");
        return -1;
    }
    for (int i = 0; i < n; i++) {
        to[i] = py_pack_of(PyTuple_GET_ITEM(packs, i));
        if (!to[i] && PyErr_Occurred()) return -1;
    }
    return 0;
}

/* One gradient array: the caller's (to be written in place) or a new one. */
static PyObject *gradient_array(const Record *r, int i, PyObject *given, pl_tensor *view)
{
    char name[64];
    *view = r->in[i];
    view->data = NULL;
    if (!given || given == Py_None) return (PyObject *)py_new_array(view);
    PyArrayObject *a = (PyArrayObject *)given;
    bool fits = PyArray_Check(given) && PyArray_TYPE(a) == NPY_FLOAT32 && PyArray_ISCARRAY(a) &&
                PyArray_NDIM(a) == view->ndim;
    for (int d = 0; fits && d < view->ndim; d++) fits = PyArray_DIM(a, d) == view->shape[d];
    if (!fits)
        return PyErr_Format(PyExc_ValueError,
                            "%s: the gradient of %s must be a writable C-contiguous float32 array of its shape",
                            r->op->name, pl__port_name(r->op, i, name, sizeof name));
    view->data = PyArray_DATA(a);
    return Py_NewRef(given);
}

static PyObject *record_backward(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    Record *r = (Record *)self;
    if (n != 4 || !PyTuple_Check(args[0]) || !PyTuple_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "backward(douts, dins, wanted, accumulate): wrong arguments");
    if (!r->in) return PyErr_Format(PyExc_RuntimeError, "%s: backward ran already and freed what it saved", r->op->name);
    const uint32_t wanted = (uint32_t)PyLong_AsUnsignedLongMask(args[2]) & r->want;
    const uint32_t accumulate = (uint32_t)PyLong_AsUnsignedLongMask(args[3]);
    if (PyErr_Occurred()) return NULL;
    if (PyTuple_GET_SIZE(args[0]) != r->n_out || PyTuple_GET_SIZE(args[1]) != r->n_in)
        return PyErr_Format(PyExc_ValueError, "%s: backward got %zd output gradients and %zd places, expected %d and %d",
                            r->op->name, PyTuple_GET_SIZE(args[0]), PyTuple_GET_SIZE(args[1]), r->n_out, r->n_in);
    pl_tensor dout[PL_MAX_OUT], din[PL_MAX_IN];
    pl_pack *packs[PL_MAX_IN];
    PyArrayObject *douts[PL_MAX_OUT] = {0};
    r->running++; /* from here on: conversions may run Python code, and other threads run without the GIL */
    PyObject *result = PyTuple_New(r->n_in);
    if (!result || fill_packs(r->packs, r->n_in, packs) < 0) goto fail;
    for (int i = 0; i < r->n_out; i++) {
        PyObject *given = PyTuple_GET_ITEM(args[0], i);
        memset(&dout[i], 0, sizeof dout[i]);
        if (given == Py_None && r->n_out > 1) continue;
        if (given == Py_None) {
            PyErr_Format(PyExc_TypeError, "%s: the gradient of the output is missing", r->op->name);
            goto fail;
        }
        douts[i] = py_intake(given, PL_DTYPE_F32, r->op->name, "gradient of the output");
        if (!douts[i]) goto fail;
        py_view(douts[i], PL_DTYPE_F32, &dout[i]);
        bool same = dout[i].ndim == r->out[i].ndim;
        for (int d = 0; same && d < dout[i].ndim; d++) same = dout[i].shape[d] == r->out[i].shape[d];
        if (!same) {
            PyErr_Format(PyExc_ValueError, "%s: the gradient of output %d has not the output's shape", r->op->name, i);
            goto fail;
        }
    }
    for (int i = 0; i < r->n_in; i++) {
        memset(&din[i], 0, sizeof din[i]);
        if (!(wanted >> i & 1)) {
            PyTuple_SET_ITEM(result, i, Py_NewRef(Py_None));
            continue;
        }
        PyObject *array = gradient_array(r, i, PyTuple_GET_ITEM(args[1], i), &din[i]);
        if (!array) goto fail;
        PyTuple_SET_ITEM(result, i, array);
    }
    const pl_call call = {.ctx = py_context, .attr = r->attr, .in = r->in, .pack = packs, .n_in = r->n_in,
                          .out = r->out, .n_out = r->n_out, .saved = r->saved, .n_saved = r->op->n_saved,
                          .want = r->want, .dout = dout, .din = din, .accumulate = accumulate,
                          .key = r->key, .counter = r->counter};
    pl_status status;
    Py_BEGIN_ALLOW_THREADS
    status = r->op->backward(&call);
    Py_END_ALLOW_THREADS
    if (status) {
        py_raise(status);
        goto fail;
    }
    r->running--;
    for (int i = 0; i < r->n_out; i++) Py_XDECREF(douts[i]);
    return result;
fail:
    r->running--;
    for (int i = 0; i < r->n_out; i++) Py_XDECREF(douts[i]);
    Py_XDECREF(result);
    return NULL;
}

/* Saved tensors by position, copied: for tests and the curious. */
static PyObject *record_saved(PyObject *self, void *closure)
{
    (void)closure;
    Record *r = (Record *)self;
    r->running++; /* an allocation may run finalizers */
    PyObject *list = PyList_New(0);
    for (int i = 0; list && r->in && i < r->op->n_saved; i++) {
        PyObject *item = Py_NewRef(Py_None);
        if (r->saved[i].data) {
            pl_tensor copy = r->saved[i];
            Py_SETREF(item, (PyObject *)py_new_array(&copy));
            if (item) memcpy(copy.data, r->saved[i].data, pl_tensor_bytes(&copy));
        }
        if (!item || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    r->running--;
    return list;
}

static PyMethodDef record_methods[] = {
    {"backward", (PyCFunction)(void (*)(void))record_backward, METH_FASTCALL,
     "backward(douts, dins, wanted, accumulate) -> gradients"},
    {"release", record_release, METH_NOARGS, "Frees inputs and saved tensors."},
    {0}};
static PyGetSetDef record_getset[] = {{"saved", record_saved, NULL, "Copies of the saved tensors.", NULL}, {0}};
static PyType_Slot record_slots[] = {{Py_tp_dealloc, record_dealloc},
                                     {Py_tp_methods, record_methods},
                                     {Py_tp_getset, record_getset},
                                     {Py_tp_doc, "What backward needs of one operator call."},
                                     {0, NULL}};
static PyType_Spec record_spec = {"plait._core.Record", sizeof(Record), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, record_slots};

/* ---------------------------------------------------------------- operator */

static void view_inputs(const pl_op *op, Record *r)
{
    for (int i = 0; i < r->n_in; i++)
        if (r->arrays[i]) py_view((PyArrayObject *)r->arrays[i], op->ports[i % op->n_ports].dtype, &r->in[i]);
}

static int take_inputs(const pl_op *op, PyObject *inputs, Record *r)
{
    for (int i = 0; i < r->n_in; i++) {
        const pl_port *port = &op->ports[i % op->n_ports];
        PyObject *object = PyTuple_GET_ITEM(inputs, i);
        char name[64];
        if (object == Py_None) {
            if (port->flags & PL_PORT_OPTIONAL) continue;
            PyErr_Format(PyExc_TypeError, "%s: %s is missing", op->name, pl__port_name(op, i, name, sizeof name));
            return -1;
        }
        r->arrays[i] = (PyObject *)py_intake(object, port->dtype, op->name, pl__port_name(op, i, name, sizeof name));
        if (!r->arrays[i]) return -1;
    }
    view_inputs(op, r); /* only now: a conversion may run Python code, which may give an array other memory */
    return 0;
}

/* Arrays that backward will read stay as they are until the record goes. */
static void lock_inputs(Record *r)
{
    for (int i = 0; i < r->n_in; i++)
        if (r->arrays[i] && py_lock((PyArrayObject *)r->arrays[i])) r->locked |= 1u << i;
}

/* A record for as many inputs as there are, if the operator takes so many. */
static Record *record_for(const pl_op *op, PyObject *inputs)
{
    const Py_ssize_t n_in = PyTuple_GET_SIZE(inputs);
    const bool repeated = op->ports[0].flags & PL_PORT_REPEATED;
    if (n_in > PL_MAX_IN || (repeated ? n_in == 0 || n_in % op->n_ports : n_in != op->n_ports))
        return (Record *)PyErr_Format(PyExc_TypeError, "%s: %zd inputs, expected %s%d", op->name, n_in,
                                      repeated ? "at most 24 and a multiple of " : "", op->n_ports);
    return record_new(op, (int)n_in, op->n_out);
}

/* The checks of a call without the call: the twins, which check nothing, stand behind it. */
static PyObject *operator_check(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    const pl_op *op = ((Operator *)self)->op;
    if (n != 2 || !PyTuple_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "%s.check(inputs, attrs): wrong arguments", op->name);
    Record *r = record_for(op, args[0]);
    if (!r) return NULL;
    PyObject *result = NULL;
    if (py_attrs(op, args[1], r->attr) == 0 && take_inputs(op, args[0], r) == 0) {
        pl_call call = {.ctx = py_context, .attr = r->attr, .in = r->in, .n_in = r->n_in, .out = r->out,
                        .n_out = op->n_out, .saved = r->saved, .n_saved = op->n_saved};
        const pl_status status = op->infer(&call);
        result = status ? py_raise(status) : Py_NewRef(Py_None);
    }
    Py_DECREF(r);
    return result;
}

static PyObject *operator_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    const pl_op *op = ((Operator *)self)->op;
    if (PyVectorcall_NARGS(nargsf) != 6 || names || !PyTuple_Check(args[0]))
        return PyErr_Format(PyExc_TypeError, "%s(inputs, want, attrs, key, counter, packs): wrong arguments", op->name);
    const uint32_t want = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    const uint64_t key = PyLong_AsUnsignedLongLongMask(args[3]), counter = PyLong_AsUnsignedLongLongMask(args[4]);
    if (PyErr_Occurred()) return NULL;

    pl_pack *packs[PL_MAX_IN];
    PyObject *outputs = NULL;
    Record *r = record_for(op, args[0]);
    if (!r) return NULL;
    r->want = want;
    r->key = key;
    r->counter = counter;
    if (fill_packs(args[5], r->n_in, packs) < 0) goto fail;
    if (args[5] != Py_None) r->packs = Py_NewRef(args[5]);
    if (py_attrs(op, args[2], r->attr) < 0 || take_inputs(op, args[0], r) < 0) goto fail;

    pl_call call = {.ctx = py_context, .attr = r->attr, .in = r->in, .pack = packs, .n_in = r->n_in, .out = r->out,
                    .n_out = op->n_out, .saved = r->saved, .n_saved = op->n_saved, .want = want,
                    .key = key, .counter = counter};
    pl_status status = op->infer(&call);
    if (status) {
        py_raise(status);
        goto fail;
    }
    r->n_out = call.n_out;
    outputs = PyTuple_New(call.n_out);
    if (!outputs) goto fail;
    for (int i = 0; i < call.n_out; i++) {
        PyObject *array = Py_NewRef(Py_None);
        if (r->out[i].ndim >= 0) Py_SETREF(array, (PyObject *)py_new_array(&r->out[i]));
        if (!array) goto fail;
        PyTuple_SET_ITEM(outputs, i, array);
    }
    for (int i = 0; want && i < op->n_saved; i++)
        if (r->saved[i].ndim >= 0) {
            status = pl_buffer_get(pl_tensor_bytes(&r->saved[i]), &r->saved[i].data);
            if (status) {
                py_raise(status);
                goto fail;
            }
        }
    Py_BEGIN_ALLOW_THREADS
    status = op->forward(&call);
    Py_END_ALLOW_THREADS
    if (status) {
        py_raise(status);
        goto fail;
    }
    for (int i = 0; i < call.n_out; i++) r->out[i].data = NULL; /* shapes stay: backward checks gradients by them */
    if (want) lock_inputs(r);
    PyObject *pair = PyTuple_Pack(2, outputs, want ? (PyObject *)r : Py_None);
    Py_DECREF(outputs);
    Py_DECREF(r);
    return pair;
fail:
    Py_XDECREF(outputs);
    Py_DECREF(r);
    return NULL;
}

/* ---------------------------------------------------------------- calls in a row */

typedef struct Link {
    Record *record;
    pl_pack *packs[PL_MAX_IN];
} Link;

/* One (operator, inputs, attrs, packs). */
static int link_open(Link *link, PyObject *item)
{
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 4 || !Py_IS_TYPE(PyTuple_GET_ITEM(item, 0), operator_type) ||
        !PyTuple_Check(PyTuple_GET_ITEM(item, 1))) {
        PyErr_SetString(PyExc_TypeError, "chain: expected a tuple (operator, inputs, attrs, packs) a call");
        return -1;
    }
    const pl_op *op = ((Operator *)PyTuple_GET_ITEM(item, 0))->op;
    PyObject *inputs = PyTuple_GET_ITEM(item, 1), *packs = PyTuple_GET_ITEM(item, 3);
    Record *r = link->record = record_for(op, inputs);
    if (!r || fill_packs(packs, r->n_in, link->packs) < 0) return -1;
    if (packs != Py_None) r->packs = Py_NewRef(packs);
    return py_attrs(op, PyTuple_GET_ITEM(item, 2), r->attr) < 0 || take_inputs(op, inputs, r) < 0 ? -1 : 0;
}

/* The checks, once the conversions of all inputs are over, which may run Python code: the output must be able to be the
 * next one's input 0. */
static int link_check(Link *link)
{
    Record *r = link->record;
    const pl_op *op = r->op;
    view_inputs(op, r);
    pl_call call = {.ctx = py_context, .attr = r->attr, .in = r->in, .pack = link->packs, .n_in = r->n_in,
                    .out = r->out, .n_out = op->n_out, .saved = r->saved, .n_saved = op->n_saved};
    const pl_status status = op->infer(&call);
    if (status) {
        py_raise(status);
        return -1;
    }
    const pl_tensor *x = &r->in[0], *y = &r->out[0];
    bool same = call.n_out == 1 && x->dtype == PL_DTYPE_F32 && y->dtype == PL_DTYPE_F32 && x->ndim == y->ndim;
    for (int d = 0; same && d < y->ndim; d++) same = x->shape[d] == y->shape[d];
    if (!same) PyErr_Format(PyExc_ValueError, "chain: %s has not one output in the shape of its first input", op->name);
    return same ? 0 : -1;
}

static pl_status run_links(Link *links, Py_ssize_t n, const float *x, float *scratch, float *y)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Record *r = links[i].record;
        r->in[0].data = (void *)x;
        r->out[0].data = (n - 1 - i) % 2 ? scratch : y;
        x = r->out[0].data;
        const pl_call call = {.ctx = py_context, .attr = r->attr, .in = r->in, .pack = links[i].packs, .n_in = r->n_in,
                              .out = r->out, .n_out = 1, .saved = r->saved, .n_saved = r->op->n_saved};
        PL__CHECK(r->op->forward(&call));
    }
    return PL_STATUS_OK;
}

static PyObject *chain(PyObject *self, PyObject *calls)
{
    (void)self;
    if (!PyTuple_Check(calls) || !PyTuple_GET_SIZE(calls))
        return PyErr_Format(PyExc_TypeError, "chain(calls): expected a tuple of at least one call");
    const Py_ssize_t n = PyTuple_GET_SIZE(calls);
    PyArrayObject *y = NULL;
    void *scratch = NULL;
    pl_status status = PL_STATUS_OK;
    Link *links = PyMem_Calloc((size_t)n, sizeof *links);
    if (!links) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        if (link_open(&links[i], PyTuple_GET_ITEM(calls, i)) < 0) goto done;
        if (links[i].record->arrays[0] != links[0].record->arrays[0]) {
            PyErr_SetString(PyExc_ValueError, "chain: the first input of every call must be the same float32 array");
            goto done;
        }
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (link_check(&links[i]) < 0) goto done;
    pl_tensor out = links[0].record->out[0];
    if (n > 1) status = pl_buffer_get(pl_tensor_bytes(&out), &scratch);
    if (status) {
        py_raise(status);
        goto done;
    }
    y = py_new_array(&out);
    if (!y) goto done;
    const float *x = links[0].record->in[0].data;
    Py_BEGIN_ALLOW_THREADS
    status = run_links(links, n, x, scratch, out.data);
    Py_END_ALLOW_THREADS
    if (status) {
        Py_CLEAR(y);
        py_raise(status);
    }
done:
    pl_buffer_put(scratch);
    for (Py_ssize_t i = 0; i < n; i++) Py_XDECREF(links[i].record);
    PyMem_Free(links);
    return (PyObject *)y;
}

PyMethodDef py_call_methods[] = {
    {"chain", chain, METH_O,
     "chain(calls): the output of calls (operator, inputs, attrs, packs) in a row, each on what the one before gave in\n"
     "place of its first input, which is the same array in all. Nothing is recorded."},
    {0}};

static PyObject *operator_name(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(((Operator *)self)->op->name);
}

static PyObject *operator_ports(PyObject *self, void *closure)
{
    (void)closure;
    const pl_op *op = ((Operator *)self)->op;
    PyObject *names = PyTuple_New(op->n_ports);
    for (int i = 0; names && i < op->n_ports; i++)
        PyTuple_SET_ITEM(names, i, Py_BuildValue("(sO)", op->ports[i].name,
                                                 op->ports[i].dtype == PL_DTYPE_I64 ? Py_False : Py_True));
    return names;
}

static PyObject *operator_random(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Operator *)self)->op->random);
}

static PyObject *operator_repeated(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((Operator *)self)->op->ports[0].flags & PL_PORT_REPEATED);
}

static void operator_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef operator_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Operator, call), READONLY, NULL}, {0}};
static PyMethodDef operator_methods[] = {
    {"check", (PyCFunction)(void (*)(void))operator_check, METH_FASTCALL, "check(inputs, attrs): raises what a call would."},
    {0}};
static PyGetSetDef operator_getset[] = {
    {"name", operator_name, NULL, "Name of the operator.", NULL},
    {"ports", operator_ports, NULL, "(name, is floating) of each input.", NULL},
    {"repeated", operator_repeated, NULL, "Whether the list of inputs repeats.", NULL},
    {"random", operator_random, NULL, "Whether it takes a key and a counter.", NULL},
    {0}};
static PyType_Slot operator_slots[] = {{Py_tp_dealloc, operator_dealloc}, {Py_tp_call, PyVectorcall_Call},
                                       {Py_tp_members, operator_members}, {Py_tp_getset, operator_getset},
                                       {Py_tp_methods, operator_methods},
                                       {Py_tp_doc, "One operator of the C core."},
                                       {0, NULL}};
static PyType_Spec operator_spec = {
    "plait._core.Operator", sizeof(Operator), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION, operator_slots};

int py_call_init(PyObject *module)
{
    operator_type = (PyTypeObject *)PyType_FromSpec(&operator_spec);
    record_type = (PyTypeObject *)PyType_FromSpec(&record_spec);
    if (!operator_type || !record_type || PyModule_AddType(module, operator_type) < 0 ||
        PyModule_AddType(module, record_type) < 0)
        return -1;
    PyObject *operators = PyDict_New();
    for (int i = 0; operators && i < pl_op_count; i++) {
        Operator *o = PyObject_New(Operator, operator_type);
        if (!o) return -1;
        o->op = pl_op_table[i];
        o->call = operator_call;
        if (PyDict_SetItemString(operators, o->op->name, (PyObject *)o) < 0) return -1;
        Py_DECREF(o);
    }
    return operators ? PyModule_AddObject(module, "operators", operators) : -1;
}
