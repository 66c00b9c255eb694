"""The rate of oneDNN's own packed matmul at a shape: the mark that plait's products are measured against.

Calls the library's C API through ctypes, so nothing of plait is in the way: packed weights, user scratchpad, warm
operands; float32, bfloat16 (to bfloat16) or int8 (to float32).
"""

from __future__ import annotations

import ctypes
import time
from ctypes import byref, c_int, c_int64, c_size_t, c_uint, c_void_p

import numpy as np

BF16, F32, S8 = 2, 3, 5  # dnnl_bf16, dnnl_f32, dnnl_s8
ANY, AB, CPU = 1, 3, 1  # dnnl_format_tag_any, dnnl_ab, dnnl_cpu
TYPES = {"f32": (F32, F32), "bf16": (BF16, BF16), "int8": (S8, F32)}  # of the operands, of the result
SRC, WEIGHTS, DST, SCRATCHPAD, FROM, TO = 1, 33, 17, 80, 1, 17
QUERY_WEIGHTS, QUERY_SCRATCHPAD = 129 + 2, 129 + 7  # dnnl_query_some_md = 128 heads the descriptor queries


class _Argument(ctypes.Structure):
    _fields_ = [("arg", c_int), ("memory", c_void_p)]


class Bare:
    """One library, one engine, one stream."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        for name in ("dnnl_primitive_desc_query_md",):
            getattr(self.lib, name).restype = c_void_p
        self.lib.dnnl_memory_desc_get_size.restype = c_size_t
        self.engine, self.stream = c_void_p(), c_void_p()
        self.call("dnnl_engine_create", byref(self.engine), c_int(CPU), c_size_t(0))
        self.call("dnnl_stream_create", byref(self.stream), self.engine, c_uint(1))

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status:
            raise RuntimeError(f"{name}: status {status}")

    def desc(self, rows, cols, tag, kind=F32):
        md = c_void_p()
        self.call("dnnl_memory_desc_create_with_tag", byref(md), c_int(2), (c_int64 * 2)(rows, cols), c_int(kind), tag)
        return md

    def memory(self, md, array):
        m = c_void_p()
        self.call("dnnl_memory_create", byref(m), md, self.engine, array.ctypes.data_as(c_void_p))
        return m

    def matmul(self, m, k, n, precision="f32"):
        """A function that runs one product (m, k) x (k, n)."""
        kind, into = TYPES[precision]
        a, a_read = operand((m, k), kind, 0)
        w, w_read = operand((k, n), kind, 1)
        c = np.zeros((m, n), np.uint16 if into == BF16 else np.float32)
        attr, desc = c_void_p(), c_void_p()
        self.call("dnnl_primitive_attr_create", byref(attr))
        self.call("dnnl_primitive_attr_set_scratchpad_mode", attr, c_int(1))
        da, dw, dc = self.desc(m, k, AB, kind), self.desc(k, n, ANY, kind), self.desc(m, n, AB, into)
        self.call("dnnl_matmul_primitive_desc_create", byref(desc), self.engine, da, dw, None, dc, attr)
        packed = c_void_p(self.lib.dnnl_primitive_desc_query_md(desc, c_int(QUERY_WEIGHTS), c_int(0)))
        scratch = c_void_p(self.lib.dnnl_primitive_desc_query_md(desc, c_int(QUERY_SCRATCHPAD), c_int(0)))
        buffer = np.zeros(self.lib.dnnl_memory_desc_get_size(packed) // 4 + 16, np.float32)
        pad = np.zeros(self.lib.dnnl_memory_desc_get_size(scratch) + 64, np.uint8)
        plain = self.desc(k, n, AB, kind)
        reorder_desc, reorder, primitive = c_void_p(), c_void_p(), c_void_p()
        self.call(
            "dnnl_reorder_primitive_desc_create", byref(reorder_desc), plain, self.engine, packed, self.engine, None
        )
        self.call("dnnl_primitive_create", byref(reorder), reorder_desc)
        mw = self.memory(packed, buffer)
        self.execute(reorder, [(FROM, self.memory(plain, w)), (TO, mw)])
        self.call("dnnl_primitive_create", byref(primitive), desc)
        args = [
            (SRC, self.memory(da, a)),
            (WEIGHTS, mw),
            (DST, self.memory(dc, c)),
            (SCRATCHPAD, self.memory(scratch, pad)),
        ]
        keep = (a, w, c, buffer, pad)
        packed_args = (_Argument * len(args))(*[_Argument(i, mem) for i, mem in args])
        run = self.lib.dnnl_primitive_execute
        run.argtypes = [c_void_p, c_void_p, c_int, c_void_p]

        def once(_keep=keep):
            run(primitive, self.stream, len(args), packed_args)

        once()
        got, due = widened(c[:2], into), a_read[:2] @ w_read
        if np.linalg.norm(got - due) > (1e-2 if precision == "bf16" else 1e-4) * np.linalg.norm(due):
            raise RuntimeError(f"the bare matmul of {m} x {k} x {n} in {precision} is wrong")
        return once

    def execute(self, primitive, args):
        packed = (_Argument * len(args))(*[_Argument(i, mem.value) for i, mem in args])
        self.call("dnnl_primitive_execute", primitive, self.stream, c_int(len(args)), packed)


def operand(shape, kind, seed):
    """An array in a data type of oneDNN, and what it holds as float32."""
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if kind == F32:
        return x, x
    if kind == S8:
        x = np.clip(np.rint(40 * x), -127, 127).astype(np.int8)
        return x, x.astype(np.float32)
    x = (x.view(np.uint32) >> 16).astype(np.uint16)  # the upper half of a float32 is a bfloat16
    return x, widened(x, BF16)


def widened(x, kind):
    """What an array holds, as float32."""
    return (x.astype(np.uint32) << 16).view(np.float32) if kind == BF16 else x


def median(function, seconds=0.4, least=5):
    """Median time of a call in seconds; two calls warm up."""
    function(), function()
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
