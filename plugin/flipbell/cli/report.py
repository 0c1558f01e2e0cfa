"""`flipbell report`: one result, as an agent's notifier gives it."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from flipbell import identity, log, places, recorder, relay
from flipbell.agents import BUILT_IN, NO_LONGER_CHECKED, FormatError, Given, built_in
from flipbell.cli import CommandError, add_command, epoch
from flipbell.model import CheckResult, Status
from flipbell.wording import suggestion, without_token

if TYPE_CHECKING:
    import argparse

    from flipbell.agents import AgentFormat

STDIN_LIMIT = 1 << 24  # bytes; a watch of Consul gives all checks of a cluster at once
_BLOCK = 1 << 16
STDIN_TIME = 10.0  # seconds; some agents leave stdin open for ever
_COULD_NOT_CHECK = 3


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        command,
        summary="record one result from stdin, arguments or environment",
        example='df / | flipbell report --check disk --status "$status"',
    )
    parser.add_argument(
        "--from",
        dest="format",
        metavar="FORMAT",
        help=f"{', '.join(BUILT_IN)}; plain is the default with --status, json without",
    )
    parser.add_argument("--host", help="the host that was checked (default: this one)")
    parser.add_argument("--check", metavar="NAME", help="the check's name")
    parser.add_argument("--status", help="OK, WARNING, CRITICAL, UNKNOWN or an exit status")
    parser.add_argument("--output", metavar="TEXT", help="the check's output (default: stdin)")
    parser.add_argument(
        "--type", metavar="TYPE", help="the agent's word for it, as $NOTIFICATIONTYPE$"
    )
    parser.add_argument(
        "--state-type",
        metavar="TYPE",
        help="$SERVICESTATETYPE$; SOFT is no result",
    )
    parser.add_argument(
        "--time",
        metavar="SECONDS",
        help="when it was, since the epoch; wins over the agent's own time",
        type=epoch,
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="the list holds every check of this state: what is missing is no longer checked",
    )
    parser.add_argument(
        "--echo", action="store_true", help="print the output and exit with the check's status"
    )
    # With --echo, a fault of flipbell must stay out of the check's answer: see _record.
    parser.set_defaults(as_owner=False)


def command(options: argparse.Namespace) -> int:
    """Record a result; print nothing, unless asked to echo."""
    try:
        results = _format(options)(_given(options))
    except FormatError as error:
        if options.echo:
            print(f"UNKNOWN - flipbell: {error}")
            return _COULD_NOT_CHECK
        log.error(f"report: {error}")  # what a notifier says on stderr is seldom read
        raise CommandError(str(error)) from None
    _record(options, results)
    if options.complete and results:
        # An empty list is what an agent without the right to read gives: it ends nothing.
        _record(options, _missing(options, results))
    return _echo(options, results) if options.echo else 0


def _format(options: argparse.Namespace) -> AgentFormat:
    name = options.format or ("plain" if options.status else "json")
    found = built_in(name)
    if found is not None:
        return found
    from flipbell.extensions import Extensions  # they cost time, so they are asked last

    others = Extensions.load().agent_formats()
    if name not in others:
        names = sorted({*BUILT_IN, *others})
        hint = suggestion(name, names)
        raise CommandError(
            f"--from {without_token(name)}: expected one of {', '.join(names)}{hint}"
        )
    return others[name]


def _given(options: argparse.Namespace) -> Given:
    return Given(
        host=options.host,
        check=options.check,
        status=options.status,
        output=options.output,
        occurred_at=options.time,
        event=options.type,
        state_type=options.state_type,
        environ=os.environ,
        read_stdin=read_stdin,
        this_host=os.uname().nodename,
    )


def read_stdin() -> bytes:
    """Read stdin to its end, or as far as its size and time limits let it."""
    content = bytearray()
    until = time.monotonic() + STDIN_TIME
    readable = select.poll()
    readable.register(0, select.POLLIN)
    while len(content) < STDIN_LIMIT:
        ready = readable.poll(max(0.0, until - time.monotonic()) * 1000)
        block = os.read(0, min(_BLOCK, STDIN_LIMIT - len(content))) if ready else b""
        if not block:
            break
        content += block
    return bytes(content)


def _missing(options: argparse.Namespace, results: list[CheckResult]) -> list[CheckResult]:
    """Return an OK for each open problem that a complete list does not hold."""
    from flipbell.open_problems import open_problems

    listed = {(result.host, result.check) for result in results}
    directory = places.find_state(options.state, os.environ)
    try:
        missing = [check for check in open_problems(directory) if check not in listed]
    except (OSError, ValueError) as error:
        log.error(f"report --complete: {error}")
        raise CommandError(f"--complete: {error}") from None
    now = time.time()
    return [
        CheckResult(host, check, Status.OK, NO_LONGER_CHECKED, now)
        for host, check in sorted(missing)
    ]


def _record(options: argparse.Namespace, results: list[CheckResult]) -> None:
    """Record results. With `--echo` a fault stays out of the check's answer."""
    if not results:
        return
    directory = places.find_state(options.state, os.environ)
    try:
        identity.become_owner(directory)
        recorder.record(directory, options.config, [recorder.line(result) for result in results])
    except OSError as error:
        log.error(f"not recorded: {results[0].check} on {results[0].host}: {error}")
        if options.echo:
            return
        raise CommandError(f"not recorded: {error}") from None


def _echo(options: argparse.Namespace, results: list[CheckResult]) -> int:
    for result in results:
        output = result.output.encode("utf-8", "surrogateescape")
        # The status counts, also for an agent that has stopped reading.
        relay.write(1, output if output.endswith(b"\n") else output + b"\n")
    said = str(options.status or "")
    if said.isdecimal() and int(said) <= 255:  # noqa: PLR2004  the raw exit status
        return int(said)
    return results[-1].status.value if results else Status.UNKNOWN.value
