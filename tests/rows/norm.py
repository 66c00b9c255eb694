"""Rows of layer norm, RMS norm and L2 norm: widths around the vector lengths, and row counts around the row blocks."""

from cases import Case


def inputs(*shape, weight=True, bias=True, mean=0.0):
    def make(rng):
        arrays = {"x": rng.standard_normal(shape) + mean, "weight": rng.standard_normal(shape[-1]) if weight else None}
        if bias is not None:
            arrays["bias"] = rng.standard_normal(shape[-1]) if bias else None
        return arrays

    return make


def layer(name, *shape, options=None, errors=(), tolerance=1e-5, **which):
    make = inputs(*shape, **which)
    return Case(f"layer_norm-{name}", "ops.layer_norm", make, options or {}, ("x", "weight", "bias"), errors, tolerance)


def rms(name, *shape, options=None, errors=(), **which):
    make = inputs(*shape, bias=None, **which)
    return Case(f"rms_norm-{name}", "ops.rms_norm", make, options or {}, ("x", "weight"), errors)


def l2(name, *shape, zero=(), scale=1.0, options=None, errors=()):
    def make(rng):
        x = rng.standard_normal(shape) * scale
        x[list(zero)] = 0
        return {"x": x}

    return Case(f"l2_normalize-{name}", "ops.l2_normalize", make, options or {}, ("x",), errors)


LAYER_ERRORS = (
    ({"weight": "float:3"}, ValueError, "layer_norm: weight has shape (3,), expected (33,), the last dimension of x"),
    ({"bias": "float:1,33"}, ValueError, "layer_norm: bias has shape (1, 33), expected (33,)"),
    ({"x": "float:"}, ValueError, "layer_norm: x has 0 dimensions, expected at least 1"),
    ({"x": "float:4,0"}, ValueError, "layer_norm: x has width 0, expected at least 1"),
    ({"x": "int:13,33"}, TypeError, "layer_norm: x has dtype int64, expected a floating dtype"),
    ({"eps": 0.0}, ValueError, "layer_norm: eps is 0, expected a finite number above 0"),
    ({"eps": "small"}, TypeError, "layer_norm: eps is 'small', expected a number"),
)
RMS_ERRORS = (
    ({"weight": "float:3"}, ValueError, "rms_norm: weight has shape (3,), expected (33,), the last dimension of x"),
    ({"x": "float:4,0"}, ValueError, "rms_norm: x has width 0, expected at least 1"),
    ({"eps": -1.0}, ValueError, "rms_norm: eps is -1, expected a finite number above 0"),
)

L2_ERRORS = (
    ({"x": "float:4,0"}, ValueError, "l2_normalize: x has width 0, expected at least 1"),
    ({"x": "int:4,5"}, TypeError, "l2_normalize: x has dtype int64, expected a floating dtype"),
    ({"eps": float("nan")}, ValueError, "l2_normalize: eps is nan, expected a finite number above 0"),
)

ROWS = [
    layer("33", 13, 33, errors=LAYER_ERRORS),
    *[layer(f"{n}x{d}", n, d) for n, d in ((1, 17), (3, 3), (6, 16), (200, 40), (2, 769))],
    layer("one-wide", 5, 1, options={"eps": 0.5}, tolerance=1e-3),  # dx is 0, and only rounding is left
    layer("no-rows", 0, 16),
    layer("one-row-alone", 17),
    layer("pictures", 2, 3, 5, 12),
    layer("no-bias", 9, 24, bias=False),
    layer("no-weight", 9, 24, weight=False),
    layer("plain", 9, 24, weight=False, bias=False),
    layer("eps", 7, 20, options={"eps": 0.5}),
    layer("mean", 9, 200, mean=3.0),
    rms("33", 13, 33, errors=RMS_ERRORS),
    *[rms(f"{n}x{d}", n, d) for n, d in ((1, 17), (6, 16), (70, 64))],
    rms("one-wide", 5, 1, options={"eps": 0.5}),  # with a small eps dx is 0 but for rounding
    rms("no-rows", 0, 16),
    rms("pictures", 2, 3, 5, 12),
    rms("plain", 9, 24, weight=False),
    rms("eps", 7, 20, options={"eps": 0.5}),
    l2("33", 13, 33, errors=L2_ERRORS),
    *[l2(f"{n}x{d}", n, d) for n, d in ((1, 17), (3, 3), (6, 16), (2, 769))],
    l2("no-rows", 0, 16),
    l2("pictures", 2, 3, 5, 12),
    l2("eps", 9, 20, options={"eps": 4.0}),  # some rows are shorter
    l2("long", 5, 20, scale=1e25),
]
