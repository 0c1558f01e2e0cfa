"""The command line: what it takes, what it exits with, and the boundary for its errors."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

from flipbell import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]

USAGE = 2
_LONGEST = 10_000_000  # seconds
_MODULES = {
    "report": "report",
    "stream": "stream",
    "init": "init",
    "check-config": "check_config",
    "test": "check_config",
    "channels": "channels",
    "explain": "explain",
    "status": "status",
    "history": "history",
    "courier": "courier",
    "flush": "courier",
    "forget": "forget",
    "dead": "dead",
    "hooks": "hooks",
    "room": "room",
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
    from flipbell.child import fill_standard_descriptors

    fill_standard_descriptors()  # an agent may have closed them
    sys.stdout = _writable(sys.stdout)
    sys.stderr = _writable(sys.stderr)
    try:
        return _carry_out(arguments)
    except CommandError as error:
        return _fail(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # as in `flipbell history | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 0
        return _fail(str(error))
    except Exception as error:
        import sqlite3

        if not isinstance(error, sqlite3.Error):
            raise
        is_busy = "locked" in str(error)
        said = "busy, as another program keeps it open; try again" if is_busy else str(error)
        return _fail(f"the ledger cannot be read: {said}")
    except KeyboardInterrupt:
        return 130


def _fail(said: str) -> int:
    """Say what is wrong; that nobody reads it does not change the exit status, which it returns."""
    with contextlib.suppress(BrokenPipeError):
        print(f"flipbell: {said}", file=sys.stderr)
    _flush()
    return USAGE


def _writable(stream: TextIO | None) -> TextIO:
    """Return a stream that takes any text, whatever the locale, or swallows it if there is none."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace", write_through=False)
    return stream


def _carry_out(arguments: Sequence[str]) -> int:
    try:
        options = _parser(arguments[:1]).parse_args(arguments)
        command: Command = options.command
        status = command(options)
    except SystemExit:  # argparse has said its word
        _flush()
        raise
    _flush()
    return status


def _flush() -> None:
    """Write what is left to say; that nobody reads it does not change how the command ended."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def seconds(text: str) -> float:
    """Read an option's number of seconds."""
    number = float(text)
    if not 0 <= number <= _LONGEST:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to {_LONGEST}, got {text}")
    return number


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
