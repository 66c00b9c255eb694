"""Builds plait._core against oneDNN and puts the library beside it.

Switches (environment):
  PLAIT_SYSTEM_ONEDNN=1   link the system's oneDNN (>= 3.2) and copy nothing
  PLAIT_ONEDNN_ROOT=DIR   headers and library under DIR/include and DIR/lib
  PLAIT_DEBUG=1           no optimisation, poisoned buffers      PLAIT_WERROR=1    warnings are errors
  PLAIT_SANITIZE=1        address and undefined-behaviour sanitizers      PLAIT_COVERAGE=1  gcov counters
"""

import glob
import os
import shutil
import sys
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent


def switch(name):
    return os.environ.get(name, "") not in ("", "0")


def onednn_root():
    """The folder that holds include/oneapi/dnnl/dnnl.h and lib/libdnnl.so.3."""
    given = os.environ.get("PLAIT_ONEDNN_ROOT")
    # An isolated build installs the oneDNN wheels into a prefix of its own, which leads sys.path.
    near = [Path(p).parents[2] for p in sys.path if p.endswith("site-packages")]
    for root in [Path(given)] if given else [Path(sys.prefix), *near]:
        if (root / "include/oneapi/dnnl/dnnl.h").exists() and (root / "lib/libdnnl.so.3").exists():
            return root
    raise SystemExit(
        f"oneDNN was not found{' in ' + given if given else ''}: install onednn-devel-cpu-gomp and onednn-cpu-gomp "
        "2023.2.0, name a folder with PLAIT_ONEDNN_ROOT, or set PLAIT_SYSTEM_ONEDNN=1"
    )


class BuildWithOneDNN(build_ext):
    """Compiles, then copies libdnnl.so.3 and its licence to plait/lib, where the run path looks."""

    def run(self):
        self.parallel = os.cpu_count()
        super().run()
        if switch("PLAIT_SYSTEM_ONEDNN"):
            return
        root = onednn_root()
        target = Path(self.get_ext_fullpath("plait._core")).parent / "lib"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / "lib/libdnnl.so.3", target)
        for name in ("LICENSE", "THIRD-PARTY-PROGRAMS"):
            shutil.copy2(root / "share/doc/onednn" / name, target / f"oneDNN-{name}")


flags = ["-std=gnu11", "-fopenmp", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", "-ffp-contract=fast"]
flags += ["-O0", "-g", "-DPL_POISON"] if switch("PLAIT_DEBUG") else ["-O3", "-g0"]
link = ["-fopenmp", "-Wl,-rpath,$ORIGIN/lib"]
if switch("PLAIT_WERROR"):
    flags += ["-Werror"]
if switch("PLAIT_SANITIZE"):
    flags += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
    link += ["-fsanitize=address,undefined"]
if switch("PLAIT_COVERAGE"):
    flags += ["--coverage", "-O0"]
    link += ["--coverage"]

system = switch("PLAIT_SYSTEM_ONEDNN")
building = not {"sdist", "egg_info", "dist_info", "--version"} & set(sys.argv)
root = None if system or not building else onednn_root()
core = Extension(
    "plait._core",
    sorted(os.path.relpath(p, HERE) for p in glob.glob(str(HERE / "csrc/*/*.c"))),
    depends=sorted(os.path.relpath(p, HERE) for p in glob.glob(str(HERE / "csrc/**/*.h"), recursive=True)),
    include_dirs=["csrc/include", numpy.get_include(), *([str(root / "include")] if root else [])],
    extra_compile_args=flags,
    extra_link_args=[*link, *([str(root / "lib/libdnnl.so.3")] if root else ["-ldnnl"])],
)
setup(ext_modules=[core], cmdclass={"build_ext": BuildWithOneDNN})
