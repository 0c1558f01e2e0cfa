"""The command line: what it takes, what it exits with, and the boundary for its errors."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from flipbell import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]

USAGE = 2


class CommandError(Exception):
    """A command cannot be carried out; the message says why and what to do."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with a usage error."""
        self.exit(USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> int:
    """Carry out a command; return the exit status."""
    from flipbell.ledger import LedgerError
    from flipbell.relay import fill_standard_descriptors
    from flipbell.state import StateError

    fill_standard_descriptors()  # an agent may have closed stdin
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except (CommandError, LedgerError, StateError) as error:
        print(f"flipbell: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `flipbell history | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _parser() -> argparse.ArgumentParser:
    from flipbell.cli import check_config, courier, demo, history, report, status, stream

    parser = _Parser(
        prog="flipbell",
        description="Tell a HipChat room when a check's status changes, and only then.",
    )
    parser.add_argument("--version", action="version", version=f"flipbell {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("run", help="run a check plugin and record its result", add_help=False)
    for module in (report, stream, check_config, status, history, courier, demo):
        module.add_to(commands)
    return parser


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Command,
    *,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command with its example and the options that every command has."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary.capitalize()}.", epilog=f"example: {example}"
    )
    parser.add_argument("--state", metavar="DIR", help="where flipbell keeps its state")
    parser.add_argument("--config", metavar="DIR", help="where the channels are configured")
    parser.set_defaults(command=command)
    return parser
