"""Shows versions, the oneDNN in use, instruction set, threads, and optional packages."""

from __future__ import annotations

import json

NAME = "info"
HELP = "versions, instruction set, threads"
EXAMPLES = """examples:
  plait info
  plait info --json"""


def add_arguments(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments):
    from plait.config import show_config

    config = show_config()
    if arguments.json:
        print(json.dumps(config, indent=2))
        return
    packages = config.pop("packages")
    names = {"version": "plait", "onednn": "oneDNN", "onednn_path": "oneDNN file", "isa": "instruction set"}
    for key, value in config.items():
        print(f"{names.get(key, key):16} {value}")
    print(f"{'packages':16} {', '.join(f'{name} {version}' for name, version in packages.items()) or 'none'}")
