"""Finds the pictures below a folder."""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Found", "find_pictures", "plain_error", "print_some"]

_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff")
_SHOWN = 20


@dataclass
class Found:
    """Pictures and what could not be looked at, by their paths relative to the folder, with "/" between the parts."""

    pictures: dict  # path -> (bytes, time of the last change in seconds since 1970)
    broken: dict  # path -> what is wrong; a folder's path ends with "/"


def find_pictures(folder) -> Found:
    """All pictures below a folder by the endings of their names, sorted.

    Files and folders whose names begin with a dot are left out. Links are followed, but no folder is walked twice, so
    that links in a circle do no harm.
    """
    root = Path(folder)
    if not root.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not root.is_dir():
        raise NotADirectoryError(f"{folder}: expected a folder of pictures, got a file")
    seen: set = set()
    found = Found({}, {})
    later = [(root, "")]  # links to folders: after the real ones, so that those give the names
    while later:
        folders, later = later, []
        for path, prefix in folders:
            later += _walk(path, prefix, found, seen)
    return Found(dict(sorted(found.pictures.items())), dict(sorted(found.broken.items())))


def _walk(top, prefix, found, seen):
    """Adds what is below a folder; gives the links to folders that were met."""
    waiting, links = [(top, prefix)], []
    while waiting:
        path, prefix = waiting.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                entries = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            found.broken[prefix or "./"] = error.strerror
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = prefix + entry.name
            try:
                status = entry.stat()
            except OSError as error:  # a link to nowhere, or to itself
                if _is_picture(entry.name):
                    found.broken[name] = error.strerror
                continue
            if stat.S_ISDIR(status.st_mode):
                (links if entry.is_symlink() else waiting).append((entry.path, name + "/"))
            elif stat.S_ISREG(status.st_mode) and _is_picture(entry.name):
                if name.isprintable():  # neither control characters nor bytes that are no UTF-8
                    found.pictures[name] = (status.st_size, round(status.st_mtime, 3))
                else:
                    found.broken[name] = "its name has characters that cannot be printed"
    return links


def _is_picture(name):
    return name.lower().endswith(_ENDINGS)


def plain_error(error, root="") -> str:
    """What was wrong with a picture: its path, below `root`, and the reason, without what only programmers ask for."""
    text = re.sub(r"^\w+: images\[\d+\]: ", "", str(error))
    text = re.sub(r"^\[Errno \d+\] (.*): '(.*)'$", r"\2: \1", text)
    return text.removeprefix(os.path.join(root, "")) if root else text


def print_some(lines) -> None:
    """The first of what may be many lines, on the error stream."""
    for line in lines[:_SHOWN]:
        print(f"  {line if line.isprintable() else ascii(line)}", file=sys.stderr)
    if len(lines) > _SHOWN:
        print(f"  and {len(lines) - _SHOWN:,} more", file=sys.stderr)
