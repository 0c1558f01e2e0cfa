"""The command line: what it takes, what it exits with, and the boundary for its errors."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn, TextIO

from flipbell import __version__
from flipbell.wording import listed, shown, suggestion, user_name, without_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]

USAGE = 2
_ABOUT = "Tell a HipChat room when a check's status changes, and only then."
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
    """Reports a wrong call in one line, with what was probably meant.

    What may be a token is not repeated.
    """

    def error(self, message: str) -> NoReturn:
        """Exit with a usage error, also if stderr is not read."""
        message = re.sub(r"(?s)(ignored explicit argument) .*", r"\1", message)
        with contextlib.suppress(BrokenPipeError):
            print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE)

    def refuse(self, arguments: Sequence[str]) -> NoReturn:
        """Exit with a usage error about arguments that no command takes."""
        options = [word.partition("=")[0] for word in arguments if word.startswith("-")]
        hints = (suggestion(option, self._option_string_actions) for option in options)
        hint = next(filter(None, hints), "")
        self.error(f"unrecognized arguments: {' '.join(map(without_token, arguments))}{hint}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            message = (
                f"expected {listed(words)}, got {shown(str(value))}{suggestion(str(value), words)}"
            )
            raise argparse.ArgumentError(action, message)


class _TopParser(_Parser):
    """The parser of the whole program, whose help shows the commands in groups."""

    commands: argparse._SubParsersAction[argparse.ArgumentParser]

    def format_help(self) -> str:
        """Return the grouped help."""
        from flipbell.cli.help import grouped

        summaries = {name: each.description for name, each in self.commands.choices.items()}
        return grouped({name: about or "" for name, about in summaries.items()}, _ABOUT)


def main(arguments: Sequence[str]) -> int:
    """Carry out a command; return the exit status."""
    from flipbell.child import fill_standard_descriptors

    fill_standard_descriptors()  # an agent may have closed them
    os.umask(os.umask(0o077) & 0o077)  # one that takes our own rights away is of no use
    # `check-config` says what `verify: false` means; urllib3 would repeat it for each request.
    warnings.filterwarnings("ignore", "Unverified HTTPS request")
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
        from flipbell._database import is_busy

        said = str(error)
        if is_busy(error):
            said = "busy, as another program keeps it open; try again"
        return _fail(f"the ledger cannot be read: {said}")
    except KeyboardInterrupt:
        return 130


def _fail(said: str) -> int:
    """Say what is wrong; a closed pipe does not change the exit status, which it returns."""
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
        status = _dispatch(arguments)
    except SystemExit:  # argparse has said its word
        _flush()
        raise
    _flush()
    return status


def _dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name."""
    word = arguments[0] if arguments else ""
    if word == "version":
        print(f"flipbell {__version__}")
        return 0
    if word == "help":
        return _help(arguments[1:])
    if word and not word.startswith("-"):
        _refuse_unknown_command(word)
    parser = _parser(arguments[:1])
    options, rest = parser.parse_known_args(arguments)
    if rest:
        getattr(options, "parser", parser).refuse(rest)
    if "command" not in options:
        # Not 0: an agent that was given no command must not take this for a check that is OK.
        print(parser.format_help(), end="")
        return USAGE
    command: Command = options.command
    if options.as_owner:
        act_as_owner(options)
    return command(options)


def _help(names: Sequence[str]) -> int:
    """Print the help of one command, or of all in groups."""
    if not names:
        print(_parser([]).format_help(), end="")
        return 0
    if names[0] == "run":
        from flipbell import run

        run.main(["--help"])
    return _dispatch([names[0], "--help"])


def _refuse_unknown_command(word: str) -> None:
    """Raise CommandError for a command that does not exist."""
    known = ["run", *_MODULES, "help", "version"]
    if word not in known:
        hint = suggestion(word, known) or "; flipbell help lists them"
        raise CommandError(f"no command {shown(word)}{hint}")


def act_as_owner(options: argparse.Namespace) -> None:
    """As root, become the owner of the state that a command is about, for good.

    Raises CommandError, StateError.
    """
    from flipbell import identity, places

    state = places.find_state(options.state, os.environ)
    if not identity.become_owner(state):
        return
    options.state = state
    for needed in (sys.executable, os.__file__, __file__):
        if not os.access(needed, os.R_OK):
            raise CommandError(
                f"{state} belongs to {user_name()}, who cannot read {needed}; "
                "install flipbell where that user can use it"
            )


def known_state(option: str | None) -> str:
    """Return the state directory of a command whose answer depends on what is in it.

    Raises CommandError if that of this host's checks is another user's and this user has none:
    an answer from an empty state would be wrong.
    """
    from flipbell import ownership, places

    directory = places.find_state(option, os.environ)
    reason = ownership.hidden_state(option, directory)
    if reason is not None and not os.path.lexists(directory):
        raise CommandError(reason)
    return directory


def _flush() -> None:
    """Write what is left to say; a closed pipe does not change how the command ended."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def seconds(text: str) -> float:
    """Read an option's number of seconds. Raises ArgumentTypeError."""
    expected = f"seconds from 0 to {_LONGEST}"
    number = _number(text, expected)
    if not 0 <= number <= _LONGEST:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text)}")
    return number


def epoch(text: str) -> float:
    """Read an option's time, which may be any number. Raises ArgumentTypeError."""
    return _number(text, "seconds since the epoch")


def _number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text)}") from None


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what reads an option's whole number in a range. It raises ArgumentTypeError."""

    def read(text: str) -> int:
        is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
        if not (is_number and least <= int(text) <= most):
            expected = f"expected a whole number from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{expected}, got {shown(text)}")
        return int(text)

    return read


def _parser(asked: Sequence[str]) -> _TopParser:
    """Return a parser that knows the command asked for, or all if it is none of them."""
    parser = _TopParser(prog="flipbell", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"flipbell {__version__}")
    commands = parser.commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=_Parser
    )
    commands.add_parser(
        "run", description="Run a check plugin and record its result.", add_help=False
    )
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
    """Add a command with its example and the options that say where things are.

    As root, a command with such options runs as the owner of the state directory.
    """
    parser = commands.add_parser(
        name,
        # An abbreviation, as `--token`, would take a secret for the path that the option expects.
        allow_abbrev=False,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: {example}",
    )
    for place in places.split():
        parser.add_argument(f"--{place}", metavar="DIR", help=_PLACES[place])
    parser.set_defaults(command=command, parser=parser, as_owner=bool(places))
    return parser
