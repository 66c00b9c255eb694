/* pack.c - the Python object that owns a pl_pack; a parameter has one. */
#include "py.h"

#include "../ops/low.h"

typedef struct Pack {
    PyObject_HEAD
    pl_pack *pack;
} Pack;

static PyTypeObject *pack_type;

static PyObject *pack_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (PyTuple_GET_SIZE(args) || keywords) return PyErr_Format(PyExc_TypeError, "Pack takes no arguments");
    Pack *self = (Pack *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    pl_status status = pl_pack_create(&self->pack);
    if (status) {
        Py_DECREF(self);
        return py_raise(status);
    }
    return (PyObject *)self;
}

static void pack_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pl_pack_destroy(((Pack *)self)->pack);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *pack_renew(PyObject *self, PyObject *version)
{
    const unsigned long long v = PyLong_AsUnsignedLongLong(version);
    if (v == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    pl_pack_renew(((Pack *)self)->pack, v);
    Py_RETURN_NONE;
}

static PyObject *pack_nbytes(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromSize_t(pl_pack_bytes(((Pack *)self)->pack));
}

static PyObject *pack_dtype(PyObject *self, void *closure)
{
    (void)closure;
    const pl_dtype dtype = pl_pack_dtype(((Pack *)self)->pack);
    return PyUnicode_FromString(dtype == PL_DTYPE_BF16 ? "bf16" : dtype == PL_DTYPE_S8 ? "int8" : "f32");
}

static int pack_set_dtype(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    const char *name = value && PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    const pl_dtype dtype = !name ? PL_DTYPE_COUNT : !strcmp(name, "f32") ? PL_DTYPE_F32
                           : !strcmp(name, "bf16") ? PL_DTYPE_BF16 : !strcmp(name, "int8") ? PL_DTYPE_S8 : PL_DTYPE_COUNT;
    if (PyErr_Occurred()) return -1;
    if (dtype == PL_DTYPE_COUNT) {
        PyErr_Format(PyExc_ValueError, "Pack: dtype is %R, expected 'f32', 'bf16' or 'int8'", value ? value : Py_None);
        return -1;
    }
    const pl_status status = pl_pack_set_dtype(((Pack *)self)->pack, dtype);
    return status ? (py_raise(status), -1) : 0;
}

static PyObject *pack_attention(PyObject *self, void *closure)
{
    (void)closure;
    return PyUnicode_FromString(pl__low_attention(py_context, ((Pack *)self)->pack) ? "bf16" : "f32");
}

static PyObject *pack_mapped(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(pl_pack_mapped(((Pack *)self)->pack));
}

static int pack_set_mapped(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    const int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0) return -1;
    pl_pack_set_mapped(((Pack *)self)->pack, truth);
    return 0;
}

static PyObject *pack_spare(PyObject *self, PyObject *unused)
{
    (void)unused;
    pl_pack_spare(((Pack *)self)->pack);
    Py_RETURN_NONE;
}

static PyMethodDef pack_methods[] = {{"renew", pack_renew, METH_O, "Packed forms of other versions are stale now."},
                                     {"spare", pack_spare, METH_NOARGS,
                                      "Forms are not kept after their use, until one version's are used twice."},
                                     {0}};
static PyGetSetDef pack_getset[] = {{"nbytes", pack_nbytes, NULL, "Bytes of the packed forms made so far.", NULL},
                                    {"mapped", pack_mapped, pack_set_mapped,
                                     "Whether the weight is an untouched part of a mapped file: its memory is given back "
                                     "once it is packed.", NULL},
                                    {"dtype", pack_dtype, pack_set_dtype, "Of the forms: f32, bf16 or int8.", NULL},
                                    {"attention", pack_attention, NULL,
                                     "What attention between layers of such forms multiplies in: f32 or bf16.", NULL},
                                    {0}};
static PyType_Slot pack_slots[] = {{Py_tp_new, pack_new},         {Py_tp_dealloc, pack_dealloc},
                                   {Py_tp_methods, pack_methods}, {Py_tp_getset, pack_getset},
                                   {Py_tp_doc, "Packed forms of one weight, for the fast products."},
                                   {0, NULL}};
static PyType_Spec pack_spec = {"plait._core.Pack", sizeof(Pack), 0, Py_TPFLAGS_DEFAULT, pack_slots};

int py_pack_init(PyObject *module)
{
    pack_type = (PyTypeObject *)PyType_FromSpec(&pack_spec);
    return pack_type ? PyModule_AddType(module, pack_type) : -1;
}

pl_pack *py_pack_of(PyObject *object)
{
    if (object == Py_None) return NULL;
    if (Py_IS_TYPE(object, pack_type)) return ((Pack *)object)->pack;
    PyErr_Format(PyExc_TypeError, "a pack is due, got %.100s", Py_TYPE(object)->tp_name);
    return NULL;
}
