"""The check-plugin mode: run a check, pass on exactly what it says, record the result.

Whatever is broken in flipbell, the agent gets the check's own bytes, exit status and timing.
This module is loaded for every check, so it imports `posix` and little else; what is needed only
after the check has started is loaded while it runs.
"""

import posix
import sys

from flipbell import child, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from flipbell.quiet import Check

UNKNOWN = 3
USAGE = (
    "flipbell run [--host HOST] --check NAME [--stdin] [--state DIR] [--config DIR]"
    " -- COMMAND [ARGUMENT ...]"
)
_HELP = f"""usage: {USAGE}

Run a check plugin: its output and exit status are passed on as they are, and its status is
recorded, so that a room is told when it changes.

  --host HOST    the host that is checked (default: this one)
  --check NAME   the check's name, unique for its host
  --stdin        let the check read flipbell's stdin (default: /dev/null)
  --state DIR    where flipbell keeps its state
  --config DIR   where the channels are configured

example: flipbell run --check disk -- /usr/lib/nagios/plugins/check_disk -w 20% -c 10% -p /
"""


class UsageError(Exception):
    """The command line is wrong; the message says how."""


class HelpAsked(Exception):  # noqa: N818  no error
    """The operator wants to know how to call it."""


class Call:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.stdin = False
        self.command: list[str] = []
        self.options: dict[str, str] = {}


def parse(arguments: list[str]) -> Call:
    """Read the command line; argparse would cost more than all the rest of an unchanged run.

    Raises UsageError and HelpAsked.
    """
    call = Call()
    words = iter(arguments)
    for word in words:
        if word == "--stdin":
            call.stdin = True
        elif word != "--" and word.startswith("-"):
            _option(call, word, words)
        else:
            call.command = list(words) if word == "--" else [word, *words]
    if "check" not in call.options:
        raise UsageError(f"expected --check NAME in: {USAGE}")
    if not call.command:
        raise UsageError(f"expected a command at the end of: {USAGE}")
    return call


def _option(call: Call, word: str, words: "Iterator[str]") -> None:
    if word in ("--help", "-h"):
        raise HelpAsked
    name, equals, value = word.removeprefix("--").partition("=")
    if name not in ("host", "check", "state", "config"):
        raise UsageError(f"unknown option {word}, expected: {USAGE}")
    if not equals:
        value = next(words, "")
    if not value:
        raise UsageError(f"{word} needs a value in: {USAGE}")
    if name in ("host", "check") and len(_bytes(value)) > places.NAME_LIMIT:
        raise UsageError(f"--{name} is longer than {places.NAME_LIMIT} bytes")
    call.options[name] = value


def main(arguments: list[str], before: str = "") -> "NoReturn":
    """Run a check and end as it ended.

    *before* is what /proc/self/stat said of the launcher's shell, empty if there was none.
    """
    try:
        call = parse(arguments)
    except HelpAsked:
        _answer(_HELP, 0)
    except UsageError as error:
        _answer(f"UNKNOWN - flipbell: {error}\n", UNKNOWN)
    environ = {_text(name): _text(value) for name, value in posix.environ.items()}
    config = places.find_config(call.options.get("config"), environ)
    given = _environment(environ, config, before)
    try:
        started = child.start(call.command, given, with_stdin=call.stdin)
    except OSError as error:
        from flipbell import quiet

        reason = f"cannot start {call.command[0]}: {error.strerror}"
        _record(quiet.Check(call.options, environ), UNKNOWN, _bytes(reason))
        _answer(f"UNKNOWN - flipbell: {reason}\n", UNKNOWN)
    from flipbell import quiet, relay  # and what they need: the check runs meanwhile

    relayed = relay.Relay(started)
    check = quiet.Check(call.options, environ)
    status, output = relayed.finish()
    _record(check, _check_status(status), output)
    relay.end_as(status)


def _environment(environ: dict[str, str], config: str, before: str) -> dict[str, str]:
    """Return the check's environment; root reads another user's configuration as that user."""
    user = places.keeper(config) if posix.geteuid() == 0 else 0
    if user:
        from flipbell import identity

        try:
            with identity.ActingAs(user):
                return child.environment(environ, config, before)
        except OSError:  # root without the right to become another user: the check counts
            pass
    return child.environment(environ, config, before)


def _text(value: bytes) -> str:
    return value.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _bytes(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _answer(said: str, status: int) -> "NoReturn":
    from flipbell import relay

    relay.write(1, _bytes(said))
    posix._exit(status)


def _record(check: "Check", status: int, output: bytes) -> None:
    """Record the check's result, unless it says what is known."""
    if not check.has(status):
        from flipbell import aside

        aside.record(check, status, output)


def _check_status(status: int) -> int:
    """Return the check's status for a process's wait status: what is not 0 to 3 is UNKNOWN."""
    if posix.WIFEXITED(status) and posix.WEXITSTATUS(status) <= UNKNOWN:
        return posix.WEXITSTATUS(status)
    return UNKNOWN
