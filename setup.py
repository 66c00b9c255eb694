"""Builds plait._core against oneDNN and puts the library beside it.

Switches (environment):
  PLAIT_SYSTEM_ONEDNN=1   link the system's oneDNN (>= 3.2), found by the compiler, and copy nothing
  PLAIT_ONEDNN_ROOT=DIR   headers and library under DIR/include and DIR/lib, in place of the build requirements'
  PLAIT_DEBUG=1           no optimisation, poisoned buffers      PLAIT_WERROR=1    warnings are errors
  PLAIT_SANITIZE=1        address and undefined-behaviour sanitizers      PLAIT_COVERAGE=1  gcov counters
"""

import glob
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HEADER = "include/oneapi/dnnl/dnnl_version.h"
HELP = (
    "install onednn-devel-cpu-gomp and onednn-cpu-gomp 2023.2.0, name a folder that holds include and lib with "
    "PLAIT_ONEDNN_ROOT, or set PLAIT_SYSTEM_ONEDNN=1"
)


def switch(name):
    return os.environ.get(name, "") not in ("", "0")


def onednn_root():
    """The folder that holds include/oneapi/dnnl and lib/libdnnl.so.3: wherever pip put the build requirement."""
    given = os.environ.get("PLAIT_ONEDNN_ROOT")
    roots = [Path(given).absolute()] if given else [Path(sys.prefix)]
    if not given:
        for found in metadata.distributions(name="onednn-devel-cpu-gomp"):
            headers = [Path(found.locate_file(f)).resolve() for f in found.files or () if str(f).endswith(HEADER)]
            roots = [h.parents[3] for h in headers] + roots
    for root in roots:
        if (root / HEADER).exists() and (root / "lib/libdnnl.so.3").exists():
            return root
    raise SystemExit(f"error: oneDNN was not found{' in ' + given if given else ''}: {HELP}")


def check_version(compiler, root):
    """Asks the compiler's preprocessor, so that the system's oneDNN is found where the compiler finds it."""
    command = [*compiler, *([f"-I{root}/include"] if root else []), "-E", "-dM", "-x", "c", "-"]
    source = "#include <oneapi/dnnl/dnnl_version.h>\n"
    try:
        done = subprocess.run(command, input=source, capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"error: a C compiler is needed to build plait: {error}") from None
    words = [line.split() for line in done.stdout.splitlines()]
    version = {w[1]: w[2] for w in words if len(w) == 3 and w[1].startswith("DNNL_VERSION_")}
    if done.returncode or "DNNL_VERSION_MAJOR" not in version:
        raise SystemExit(f"error: the compiler did not find oneapi/dnnl/dnnl_version.h: {HELP}")
    major, minor = int(version["DNNL_VERSION_MAJOR"]), int(version["DNNL_VERSION_MINOR"])
    if major != 3 or minor < 2:
        raise SystemExit(f"error: oneDNN {major}.{minor} was found, expected 3.2 or a later 3.x: {HELP}")


class BuildWithOneDNN(build_ext):
    """Compiles, then copies libdnnl.so.3 and its licence to plait/lib, where the run path looks."""

    def build_extensions(self):
        self.root = None if switch("PLAIT_SYSTEM_ONEDNN") else onednn_root()
        check_version(self.compiler.compiler_so, self.root)
        (core,) = self.extensions
        core.include_dirs += [str(self.root / "include")] if self.root else []
        core.extra_link_args += [str(self.root / "lib/libdnnl.so.3")] if self.root else ["-ldnnl"]
        self.parallel = os.cpu_count()
        super().build_extensions()

    def run(self):
        super().run()  # and only then is it known whether this is an editable install
        target = Path(self.get_ext_fullpath("plait._core")).parent / "lib"
        shutil.rmtree(target, ignore_errors=True)
        if self.root:
            target.mkdir(parents=True)
            shutil.copy2(self.root / "lib/libdnnl.so.3", target)
            for path in (self.root / "share/doc/onednn").glob("[LT]*"):  # LICENSE, THIRD-PARTY-PROGRAMS
                shutil.copy2(path, target / f"oneDNN-{path.name}")


flags = ["-std=gnu11", "-fopenmp", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", "-ffp-contract=fast"]
flags += ["-O0", "-g", "-DPL_POISON"] if switch("PLAIT_DEBUG") else ["-O3", "-g0"]
flags += ["-Werror"] if switch("PLAIT_WERROR") else []
link = ["-fopenmp", "-Wl,-rpath,$ORIGIN/lib"]
both = ["-fsanitize=address,undefined", "-g"] if switch("PLAIT_SANITIZE") else []
both += ["--coverage", "-O0"] if switch("PLAIT_COVERAGE") else []
sources, headers = sorted(glob.glob("csrc/*/*.c")), sorted(glob.glob("csrc/**/*.h", recursive=True))
core = Extension("plait._core", sources, depends=headers, include_dirs=["csrc/include", numpy.get_include()],
                 extra_compile_args=flags + both, extra_link_args=link + both)
setup(ext_modules=[core], cmdclass={"build_ext": BuildWithOneDNN})
