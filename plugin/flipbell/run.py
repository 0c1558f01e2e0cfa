"""The check-plugin mode: run a check, pass on exactly what it says, record the result.

Whatever is broken in flipbell, the agent gets the check's own bytes, exit status and timing.
This module is loaded for every check, so it imports `os` and little else.
"""

from __future__ import annotations

import os
import select
import time

from flipbell import places, recorder, relay, spool, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

RECORDING_LIMIT = 2000  # milliseconds by which recording may delay the check's answer
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
    """Somebody wants to know how to call it."""


class Call:
    """What the command line asks for."""

    def __init__(self) -> None:
        self.stdin = False
        self.command: list[str] = []
        self.options: dict[str, str] = {}

    @property
    def host(self) -> str:
        """The host that is checked; this one, unless it was named."""
        return self.options.get("host") or os.uname().nodename

    @property
    def state(self) -> str:
        """The state directory."""
        return places.find_state(self.options.get("state"), os.environ)

    @property
    def config(self) -> str:
        """The configuration directory."""
        return places.find_config(self.options.get("config"), os.environ)


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


def _option(call: Call, word: str, words: Iterator[str]) -> None:
    if word in ("--help", "-h"):
        raise HelpAsked
    name, equals, value = word.removeprefix("--").partition("=")
    if name not in ("host", "check", "state", "config"):
        raise UsageError(f"unknown option {word}, expected: {USAGE}")
    if not equals:
        value = next(words, "")
    if not value:
        raise UsageError(f"{word} needs a value in: {USAGE}")
    if name in ("host", "check") and len(os.fsencode(value)) > spool.NAME_LIMIT:
        raise UsageError(f"--{name} is longer than {spool.NAME_LIMIT} bytes")
    call.options[name] = value


def main(arguments: list[str]) -> NoReturn:
    """Run a check and end as it ended."""
    try:
        call = parse(arguments)
    except HelpAsked:
        relay.write(1, _HELP.encode())
        os._exit(0)
    except UsageError as error:
        _could_not_check(str(error))
    environment = tokens.without(tokens.inherited(os.environ), call.config)
    try:
        status, output = relay.run(call.command, environment, with_stdin=call.stdin)
    except OSError as error:
        reason = f"cannot start {call.command[0]}: {error.strerror}"
        _record(call, UNKNOWN, os.fsencode(reason))
        _could_not_check(reason)
    _record(call, _check_status(status), output)
    relay.end_as(status)


def _could_not_check(reason: str) -> NoReturn:
    """Answer as a check plugin that could not check."""
    relay.write(1, os.fsencode(f"UNKNOWN - flipbell: {reason}\n"))
    os._exit(UNKNOWN)


def _check_status(status: int) -> int:
    """Return the check's status for a process's wait status: what is not 0 to 3 is UNKNOWN."""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) <= UNKNOWN:
        return os.WEXITSTATUS(status)
    return UNKNOWN


def _record(call: Call, status: int, output: bytes) -> None:
    """Record the result in a child, and wait for it no longer than the agent should.

    A stuck lock or a dying disk can block a system call for minutes; a child can be left behind.
    """
    occurred_at = time.time()
    try:
        done, doing = os.pipe()
        child = os.fork()
    except OSError:  # no room for another process: better late than lost
        _record_now(call, status, output, occurred_at)
        return
    if child == 0:
        try:
            _leave_the_agent()
            _record_now(call, status, output, occurred_at)
        finally:
            os._exit(0)
    os.close(doing)
    ended = select.poll()
    ended.register(done, select.POLLIN)
    ended.poll(RECORDING_LIMIT)


def _leave_the_agent() -> None:
    """Hold nothing that the agent waits for, and do not die with the check's process group."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _record_now(call: Call, status: int, output: bytes, occurred_at: float) -> None:
    try:
        line = spool.encode(
            os.fsencode(call.host),
            os.fsencode(call.options["check"]),
            status,
            output,
            occurred_at,
        )
        recorder.append(call.state, [line])
        recorder.rouse(call.state, call.options.get("config"))
    except Exception as error:  # noqa: BLE001  the check's answer is sacred, whatever broke here
        from flipbell import log

        log.error(f"not recorded: {call.options['check']} on {call.host}: {error}")
