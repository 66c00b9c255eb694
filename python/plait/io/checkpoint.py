"""Training checkpoints: folders that are whole or absent, of which the last few are kept.

``<folder>/step-00001000/`` holds ``state.json`` (numbers, and size and SHA-256 of the other files) and one safetensors
file a group of tensors (``model``, ``optimizer``, ...). It gets its name once everything is on the disk.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from . import strictjson
from .files import atomic_folder, open_regular, read_file
from .tensors import load_tensors, save_tensors

__all__ = ["Checkpoint", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT, _VERSION = "plait checkpoint", 1
_NAME = re.compile(r"step-([0-9]{8,12})")
_GROUP = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_STATE = 64 << 20


class Checkpoint(NamedTuple):
    """What ``load_checkpoint`` returns: the step, the groups of arrays, and the JSON state."""

    step: int
    tensors: dict
    state: dict


def save_checkpoint(folder, step: int, tensors, state, keep: int = 2) -> Path:
    """Writes a checkpoint and removes all but the last ones.

    Parameters
    ----------
    folder : path-like
        Made if absent.
    step : int
    tensors : dict of str to dict of str to array
        Groups, such as ``{"model": model.state_dict(), "optimizer": optimizer.state_dict()}``.
    state : dict
        Anything that JSON can hold.
    keep : int
        How many of the latest checkpoints stay, this one included.

    Returns
    -------
    pathlib.Path
        Of the new checkpoint.

    Examples
    --------
    >>> import numpy as np, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for step in (10, 20, 30):
    ...         _ = plait.io.save_checkpoint(folder, step, {"model": {"w": np.ones(2)}}, {"note": "a"})
    ...     plait.io.load_checkpoint(folder).step
    30
    """
    if keep < 1:
        raise ValueError(f"save_checkpoint: keep is {keep}, expected at least 1")
    if not 0 <= step < 10**12:
        raise ValueError(f"save_checkpoint: step is {step}, expected 0 to 10**12")
    for group in tensors:
        if not _GROUP.fullmatch(group):
            raise ValueError(f"save_checkpoint: a group is named {group!r}, expected lower-case letters, digits and _")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:08d}"
    # A folder of this name in this place is an older checkpoint of the same step, all of it.
    older = [entry.name for entry in target.iterdir()] if target.is_dir() else []
    with atomic_folder(target, replaces=older) as new:
        files = {}
        for group, arrays in tensors.items():
            file = new / f"{group}.safetensors"
            save_tensors(file, arrays)
            files[group] = {"size": file.stat().st_size, "sha256": _digest(file)}
        header = {"format": _FORMAT, "version": _VERSION, "step": step, "files": files, "state": state}
        (new / "state.json").write_bytes(strictjson.dumps(header, "save_checkpoint: state"))
    for _, old in _found(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def latest_checkpoint(folder) -> Path | None:
    """The checkpoint of the highest step below `folder`, or None.

    Examples
    --------
    >>> import plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = plait.io.save_checkpoint(folder, 10, {}, {})
    ...     plait.io.latest_checkpoint(folder).name
    'step-00000010'
    """
    found = _found(Path(folder))
    return found[-1][1] if found else None


def load_checkpoint(folder) -> Checkpoint:
    """Reads the latest checkpoint of a folder, or the one that `folder` itself is.

    Raises
    ------
    FileNotFoundError
        There is none, or a file of it is missing.
    ValueError
        A file is damaged; the message names it.

    Examples
    --------
    >>> import numpy as np, plait, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = plait.io.save_checkpoint(folder, 10, {"model": {"w": np.ones(2)}}, {"note": "a"})
    ...     plait.io.load_checkpoint(folder)
    Checkpoint(step=10, tensors={'model': {'w': array([1., 1.])}}, state={'note': 'a'})
    """
    folder = Path(folder)
    path = folder if (folder / "state.json").exists() else latest_checkpoint(folder)
    if path is None:
        raise FileNotFoundError(f"{folder}: no checkpoint in this folder")
    header = strictjson.loads(read_file(path / "state.json", _MAX_STATE), str(path / "state.json"))
    where = f"{path}/state.json"
    if not isinstance(header, dict) or set(header) != {"format", "version", "step", "files", "state"}:
        raise ValueError(f"{where}: expected format, version, step, files and state")
    if header["format"] != _FORMAT or header["version"] != _VERSION:
        raise ValueError(
            f"{where}: {header['format']!r} version {header['version']!r}, expected {_FORMAT!r} {_VERSION}"
        )
    step, files, state = header["step"], header["files"], header["state"]
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"{where}: step is {step!r}, expected a whole number")
    if not isinstance(files, dict) or not isinstance(state, dict):
        raise ValueError(f"{where}: files and state are expected to be objects")
    tensors = {}
    for group, entry in files.items():
        if not _GROUP.fullmatch(group) or not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise ValueError(f"{where}: files holds {group[:40]!r}, expected a group with size and sha256")
        file = path / f"{group}.safetensors"
        if _digest(file) != entry["sha256"]:
            raise ValueError(f"{file}: damaged, its SHA-256 differs from the one in state.json")
        tensors[group] = load_tensors(file)
    return Checkpoint(step, tensors, state)


def _digest(file):
    with open(open_regular(file), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _found(folder):
    try:
        entries = list(folder.iterdir())
    except FileNotFoundError:
        return []
    matches = ((_NAME.fullmatch(e.name), e) for e in entries)
    return sorted((int(m[1]), e) for m, e in matches if m and e.is_dir() and not e.is_symlink())
