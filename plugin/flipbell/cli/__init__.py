"""The command line: what it takes, what it exits with, and the boundary for its errors."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from flipbell import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]

USAGE = 2
_MODULES = {
    "report": "report",
    "stream": "stream",
    "init": "init",
    "check-config": "check_config",
    "test": "check_config",
    "explain": "explain",
    "status": "status",
    "history": "history",
    "courier": "courier",
    "flush": "courier",
    "forget": "forget",
    "hooks": "hooks",
    "demo": "demo",
}

_PLACES = {
    "state": "where the state is (default: FLIPBELL_STATE, or its place)",
    "config": "where the channels are configured (default: FLIPBELL_CONFIG, or its place)",
}


class CommandError(Exception):
    """A command cannot be carried out; the message says why and what to do."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with a usage error."""
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Carry out a command; return the exit status."""
    from flipbell.relay import fill_standard_descriptors

    fill_standard_descriptors()  # an agent may have closed stdin
    try:
        return _carry_out(arguments)
    except CommandError as error:
        print(f"flipbell: {error}", file=sys.stderr)
        return USAGE
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # as in `flipbell history | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        print(f"flipbell: {error}", file=sys.stderr)
        return USAGE
    except Exception as error:
        import sqlite3

        if not isinstance(error, sqlite3.Error):
            raise
        print(f"flipbell: the ledger cannot be read: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130


def _carry_out(arguments: Sequence[str]) -> int:
    try:
        options = _parser(arguments[:1]).parse_args(arguments)
        command: Command = options.command
        return command(options)
    finally:
        sys.stdout.flush()  # here, where a closed pipe is handled


def _parser(asked: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser that knows the command asked for, or all where it is none of them."""
    parser = _Parser(
        prog="flipbell",
        description="Tell a HipChat room when a check's status changes, and only then.",
    )
    parser.add_argument("--version", action="version", version=f"flipbell {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("run", help="run a check plugin and record its result", add_help=False)
    # A notifier is called for every result, so `report` must not load what others need.
    for name in [_MODULES[word] for word in asked if word in _MODULES] or dict.fromkeys(
        _MODULES.values()
    ):
        importlib.import_module(f"flipbell.cli.{name}").add_to(commands)
    return parser


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Command,
    *,
    summary: str,
    example: str,
    places: str = "state config",
) -> argparse.ArgumentParser:
    """Add a command with its example and the options that say where things are."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
    )
    for place in places.split():
        parser.add_argument(f"--{place}", metavar="DIR", help=_PLACES[place])
    parser.set_defaults(command=command)
    return parser
