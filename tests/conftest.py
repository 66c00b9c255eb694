"""Paths and marks that every test file shares."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def quiet_twin():
    """Rows run their twins on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="float64 input runs")
        yield
