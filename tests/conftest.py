"""Paths and marks that every test file shares."""

import signal
import sys
import warnings
from pathlib import Path

import pytest

from plait import _core

sys.path.insert(0, str(Path(__file__).parent))

# Threads, primitives and allocations of a test do not depend on what else the machine does.
_core.ignore_crowd(True)

# A job in the background of a script is deaf to Ctrl-C, and so are its children; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def quiet_twin():
    """Rows run their twins on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="float64 input runs")
        yield
