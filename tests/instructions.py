"""How many instructions the C core takes for a few operators, counted by valgrind: they do not waver, as times do.

    python tests/instructions.py            counts beside those of data/instructions.json
    python tests/instructions.py --renew    puts them there, for the compiler and the Python of this build

Only the core's own code counts: not Python's, not the C library's, and not what oneDNN makes while it runs. Valgrind
stops at AVX2. Other vector lengths have the same lines, but for packing into panels and for products of bfloat16, which
AVX-512 alone has instructions for: the former is not counted, and of the latter, which AVX2 imitates, attention's are.
"""

import gc
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import plait
from plait import _core, losses, ops

TABLE = Path(__file__).parent / "data/instructions.json"
MARK = "m_get_threads"  # the C function behind plait.get_num_threads, which nothing else here calls


def rows():
    """Name to function, in the order in which they run. Sizes leave remainders of vectors and of blocks."""
    rng = np.random.default_rng(0)
    made = {}

    def floats(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def both(name, call, *inputs):
        """Forward, and backward of what forward left; tensors are new ones, so that no gradient is added to."""
        left = []
        made[name + " forward"] = lambda: left.append(call(*[plait.Tensor(x, requires_grad=True) for x in inputs]))
        made[name + " backward"] = lambda: left.pop().sum().backward()

    offsets = np.array([0, 90, 131])

    def attention(precision):
        return lambda q, k, v: ops.attention(q, k, v, offsets, offsets, heads=2, causal=True, precision=precision)

    q, k, v = floats(3, 131, 60)
    both("attention", attention("f32"), q, k, v)
    both("attention in bfloat16", attention("bf16"), q, k, v)
    both("layer norm", ops.layer_norm, floats(75, 500), floats(500), floats(500))
    both("gelu", ops.gelu, floats(10003))
    both("InfoNCE", losses.info_nce, floats(75, 30), floats(75, 30), np.float32(2))

    p, g, m, v = floats(4, 10003)
    segments = [(0, len(p), 1e-3, 0.1)]
    made["AdamW step"] = lambda: _core.adamw_step(p, g, m, v * v, segments, 0.9, 0.99, 1e-8, 1, 1.0)

    # called without the layer, which would stay in float32 where products in int8 have no instructions of their own
    linear, x, weight, packs = _core.operators["linear"], floats(75, 131), floats(130, 131), []

    def linear_int8():
        linear((x, weight, None), 0, {"activation": "none"}, 0, 0, (None, packs[-1], None))

    def new_weight():
        packs.append(_core.Pack())
        packs[-1].dtype = "int8"
        linear_int8()

    made["linear in int8, packing"] = new_weight
    made["linear in int8, packed"] = linear_int8

    # rows of one vector: what is left is the binding
    norm, inputs, records = _core.operators["layer_norm"], (floats(1, 8), floats(8), floats(8)), []
    made["call"] = lambda: norm(inputs, 0, {"eps": 1e-5}, 0, 0, None)
    made["call with a record"] = lambda: records.append(norm(inputs, 7, {"eps": 1e-5}, 0, 0, None)[1])
    made["call of its backward"] = lambda: records.pop().backward((inputs[0],), (None, None, None), 7, 0)
    return made


def workload():
    """Every row once for what happens only once, then once, then twice; marks stand around them."""
    made = rows()
    gc.collect()
    gc.disable()
    for call in made.values():
        call()
    for times in (1, 2):
        for call in made.values():
            plait.get_num_threads()
            for _ in range(times):
                call()
    plait.get_num_threads()


def build():
    """What counts depend on: compiler and Python, whose macros are part of every call."""
    core = Path(_core.__file__).read_bytes()
    for name, pattern in (("clang", rb"clang version (\d+)"), ("GCC", rb"GCC: \([^)]*\) (\d+)")):
        if found := re.search(pattern, core):
            return f"{name} {found[1].decode()}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    return "an unknown compiler"


def unfit():
    """Why this build cannot be counted, or None."""
    core = Path(_core.__file__).read_bytes()
    if f"\0{MARK}\0".encode() not in core:
        return "the core was stripped of its symbols"
    if b"\0pl__present\0" in core or b"__asan_init" in core:  # the former is inlined wherever anything is
        return "the core is built without optimisation or with sanitizers"
    return None


def core_instructions(file):
    """Of one part of callgrind's output."""
    total, ours, skip = 0, False, False
    for line in file.read_text().splitlines():
        if line.startswith("ob="):
            ours = line.endswith("/" + Path(_core.__file__).name)
        elif line.startswith("calls="):
            skip = True  # the next line is what a called function took
        elif line[:1].isdigit():
            total += int(line.split()[1]) if ours and not skip else 0
            skip = False
    return total


def measure():
    """Counts by row, of the workload's rows once and twice."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.update(PLAIT_MAX_ISA="avx2", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "part"
        command = ["valgrind", "-q", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        command += ["--compress-strings=no", "--compress-pos=no", sys.executable, __file__, "--work"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        if done.returncode:
            raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
        names = list(rows())
        parts = [f"{out}.{i + 2}" for i in range(2 * len(names))]  # the first part ends at the first mark
        if not Path(parts[-1]).exists() or Path(f"{out}.{len(parts) + 2}").exists():
            raise RuntimeError(f"valgrind wrote {len(list(Path(folder).iterdir()))} parts for {len(names)} rows")
        counts = [core_instructions(Path(part)) for part in parts]
    once, twice = counts[: len(names)], counts[len(names) :]
    return dict(zip(names, once, strict=True)), dict(zip(names, twice, strict=True))


def main():
    if sys.argv[1:] == ["--work"]:
        return workload()
    if reason := unfit():
        raise SystemExit(reason)
    tables = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    counts, _ = measure()
    before = tables.get(build(), {})
    print(build())
    for row, count in counts.items():
        due = before.get(row)
        print(f"{row:32} {count:10,}" + (f" {due:10,} {100 * count / due - 100:+7.1f} %" if due else ""))
    if sys.argv[1:] == ["--renew"]:
        TABLE.write_text(json.dumps({**tables, build(): counts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
