/* attrs.c - one row a keyword: its name, kind and place in the operator's attribute struct. */
#include "py.h"

typedef enum kind { K_INT, K_LONG, K_FLOAT, K_BOOL, K_ENUM } kind;

typedef struct keyword {
    const char *name;
    kind kind;
    size_t offset;
    const char *const *names; /* of an enum's values, NULL at the end */
} keyword;

static const char *const activations[] = {"none", "relu", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh",
                                          "sigmoid", NULL};

static const char *const norms[] = {"layer", "rms", NULL};
static const char *const regressions[] = {"mse", "l1", "huber", NULL};
static const char *const reductions[] = {"mean", "sum", "none", NULL};

#define ATTR(op, field, kind_) {#field, kind_, offsetof(pl_attr_##op, field), NULL}
#define ATTR_ENUM(op, field, names_) {#field, K_ENUM, offsetof(pl_attr_##op, field), names_}
#define ROWS(op, ...) static const keyword op##_keywords[] = {__VA_ARGS__, {NULL, 0, 0, NULL}};

static const char *const pool_modes[] = {"mean", "max", "first", "last", NULL};

ROWS(linear, ATTR_ENUM(linear, activation, activations))
ROWS(mlp, ATTR_ENUM(mlp, activation, activations))
ROWS(mlp_block, ATTR_ENUM(mlp_block, activation, activations), ATTR(mlp_block, pre_norm, K_BOOL),
     ATTR_ENUM(mlp_block, norm, norms), ATTR(mlp_block, eps, K_FLOAT), ATTR(mlp_block, residual_dropout, K_FLOAT))
ROWS(activation, ATTR_ENUM(activation, kind, activations))
ROWS(cross_entropy, ATTR(cross_entropy, label_smoothing, K_FLOAT), ATTR(cross_entropy, ignore_index, K_LONG),
     ATTR_ENUM(cross_entropy, reduction, reductions))
ROWS(info_nce, ATTR(info_nce, label_smoothing, K_FLOAT))
ROWS(attention_block, ATTR(attention_block, heads, K_INT), ATTR(attention_block, kv_heads, K_INT),
     ATTR(attention_block, causal, K_BOOL), ATTR(attention_block, scale, K_FLOAT),
     ATTR(attention_block, dropout, K_FLOAT), ATTR(attention_block, pre_norm, K_BOOL),
     ATTR_ENUM(attention_block, norm, norms), ATTR(attention_block, eps, K_FLOAT),
     ATTR(attention_block, residual_dropout, K_FLOAT))
ROWS(layer_norm, ATTR(layer_norm, eps, K_FLOAT))
ROWS(rms_norm, ATTR(rms_norm, eps, K_FLOAT))
ROWS(l2_normalize, ATTR(l2_normalize, eps, K_FLOAT))
ROWS(dropout, ATTR(dropout, p, K_FLOAT), ATTR(dropout, training, K_BOOL))
ROWS(embedding, ATTR(embedding, padding_idx, K_LONG))
ROWS(regression_loss, ATTR_ENUM(regression_loss, kind, regressions),
     ATTR_ENUM(regression_loss, reduction, reductions), ATTR(regression_loss, delta, K_FLOAT))
ROWS(rope, ATTR(rope, heads, K_INT), ATTR(rope, interleaved, K_BOOL), ATTR(rope, base, K_FLOAT),
     ATTR(rope, rotary_dim, K_LONG))
ROWS(stream_concat, ATTR(stream_concat, samples, K_LONG))
ROWS(pool, ATTR_ENUM(pool, mode, pool_modes))
ROWS(attention, ATTR(attention, heads, K_LONG), ATTR(attention, kv_heads, K_LONG), ATTR(attention, scale, K_FLOAT),
     ATTR(attention, dropout, K_FLOAT), ATTR(attention, causal, K_BOOL), ATTR(attention, bf16, K_BOOL))

static const struct {
    const pl_op *op;
    const keyword *keywords;
} table[] = {
#define BIND(name) {&pl_op_##name, name##_keywords},
    BIND(linear)
    BIND(mlp)
    BIND(mlp_block)
    BIND(attention_block)
    BIND(activation)
    BIND(cross_entropy)
    BIND(info_nce)
    BIND(layer_norm)
    BIND(rms_norm)
    BIND(l2_normalize)
    BIND(dropout)
    BIND(embedding)
    BIND(regression_loss)
    BIND(rope)
    BIND(stream_concat)
    BIND(pool)
    BIND(attention)
};

static int set_enum(const pl_op *op, const keyword *k, PyObject *value, int *to)
{
    const char *text = value == Py_None ? "none" : PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    if (PyErr_Occurred()) PyErr_Clear();
    for (int i = 0; text && k->names[i]; i++)
        if (!strcmp(text, k->names[i])) {
            *to = i;
            return 0;
        }
    char known[256];
    size_t used = 0;
    for (int i = 0; k->names[i] && used < sizeof known; i++)
        used += (size_t)PyOS_snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", k->names[i]);
    PyErr_Format(PyExc_ValueError, "%s: %s is %R, expected one of %s", op->name, k->name, value, known);
    return -1;
}

/* Python refuses to write numbers of thousands of digits, so those are not written. */
static int out_of_range(const pl_op *op, const keyword *k, PyObject *value)
{
    PyErr_Clear();
    PyObject *text = PyObject_Repr(value);
    if (!text) PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: %s is %V, which is out of range", op->name, k->name, text, "a very long number");
    Py_XDECREF(text);
    return -1;
}

static int set_number(const pl_op *op, const keyword *k, PyObject *value, char *place)
{
    if (k->kind == K_FLOAT) {
        const double number = PyFloat_AsDouble(value);
        if (number == -1.0 && PyErr_Occurred()) goto wrong;
        memcpy(place, &number, sizeof number);
        return 0;
    }
    if (k->kind == K_BOOL) {
        const int truth = PyObject_IsTrue(value);
        memcpy(place, &truth, sizeof truth);
        return truth < 0 ? -1 : 0;
    }
    int overflow = 0;
    const long long number = PyFloat_Check(value) ? -1 : PyLong_AsLongLongAndOverflow(value, &overflow);
    if (PyFloat_Check(value) || (number == -1 && PyErr_Occurred())) goto wrong;
    if (overflow || (k->kind == K_INT && number != (int)number)) {
        return out_of_range(op, k, value);
    }
    if (k->kind == K_INT) {
        const int small = (int)number;
        memcpy(place, &small, sizeof small);
    } else {
        const int64_t wide = number;
        memcpy(place, &wide, sizeof wide);
    }
    return 0;
wrong:
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_OverflowError)) return out_of_range(op, k, value);
    if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: %s is %R, expected %s", op->name, k->name, value,
                     k->kind == K_FLOAT ? "a number" : "a whole number");
    }
    return -1;
}

int py_attrs(const pl_op *op, PyObject *keywords, void *attr)
{
    const keyword *row = NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].op == op) row = table[i].keywords;
    memset(attr, 0, op->attr_size);
    if (!row) return 0;
    Py_ssize_t known = 0;
    for (; row->name; row++, known++) {
        PyObject *value = keywords && keywords != Py_None ? PyDict_GetItemString(keywords, row->name) : NULL;
        if (!value) {
            PyErr_Format(PyExc_TypeError, "%s: keyword %s is missing", op->name, row->name);
            return -1;
        }
        char *place = (char *)attr + row->offset;
        int failed, enum_value = 0;
        Py_INCREF(value); /* what turns it into a number may be Python code, which may change the dict */
        if (row->kind == K_ENUM) {
            failed = set_enum(op, row, value, &enum_value);
            memcpy(place, &enum_value, sizeof enum_value);
        } else
            failed = set_number(op, row, value, place);
        Py_DECREF(value);
        if (failed < 0) return -1;
    }
    if (keywords && keywords != Py_None && PyDict_GET_SIZE(keywords) != known) {
        PyErr_Format(PyExc_TypeError, "%s: unknown keyword among %R", op->name, keywords);
        return -1;
    }
    return 0;
}
