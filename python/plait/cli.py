"""The ``plait`` command: one module of ``plait.commands`` a subcommand."""

from __future__ import annotations

import argparse
import sys

from plait.commands import COMMANDS

__all__ = ["main"]


def _parser():
    parser = argparse.ArgumentParser(
        prog="plait",
        description="Multimodal deep learning for NumPy, in C, on oneDNN.",
        epilog="plait COMMAND --help tells more. To begin with: plait demo",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in COMMANDS:
        sub = subparsers.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv=None) -> int:
    """Runs a command line; gives the exit status: 0, 1 for an error, 2 for wrong arguments, 130 after Ctrl-C."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from plait._version import __version__

        print(f"plait {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return arguments.run(arguments) or 0
    except KeyboardInterrupt as stop:
        print(f"\nplait {arguments.command}: {stop or 'interrupted'}", file=sys.stderr)
        return 130
    except (ImportError, KeyError, OSError, ValueError) as error:
        if arguments.traceback:
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"plait {arguments.command}: error: {text}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
