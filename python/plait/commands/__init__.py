"""Subcommands of ``plait``. Each module has NAME, HELP, EXAMPLES, ``add_arguments(parser)`` and ``run(arguments)``."""

from . import bench, demo, embed, index, info, search

COMMANDS = (info, demo, index, search, embed, bench)
