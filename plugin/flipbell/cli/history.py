"""`flipbell history`: what happened, and what was sent."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flipbell import perfdata
from flipbell.cli import CommandError, add_command, known_state
from flipbell.cli.tables import (
    clock,
    colored,
    columns,
    fitted,
    name_columns,
    table,
    whole_line,
    width,
)
from flipbell.ledger import Ledger
from flipbell.wording import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipbell.model import Transition
    from flipbell.pages import Entry, Sent

_LOOK = 0.5  # seconds between looks with --follow
_LEAST_OUTPUT = 20  # columns for what the check reported, however narrow the terminal is
_WITHOUT_TERMINAL = 1000  # columns of a line that no terminal shows
_NARROW = 100  # columns; with fewer, a line is left without what matters least
_WITHOUT_OFFSET = len("2026-11-23 02:00:00")
_MOST = 1_000_000_000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "history",
        command,
        summary="show what happened, and what was sent",
        example="flipbell history --host 'web-*' --since 2h",
        places="state",
    )
    parser.add_argument("--host", metavar="GLOB", default="*", help="only these hosts")
    parser.add_argument("--check", metavar="GLOB", default="*", help="only these checks")
    parser.add_argument("--channel", metavar="NAME", help="only what went to this channel")
    parser.add_argument("--since", metavar="TIME", help="90s, 15m, 2h, 3d or 2026-11-23T02:00:00Z")
    parser.add_argument(
        "--limit", metavar="N", type=_count, default=50, help="the newest N changes (default: 50)"
    )
    parser.add_argument("--follow", action="store_true", help="go on with what happens next")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < _MOST):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {shown(text)}")
    return int(text)


def command(options: argparse.Namespace) -> int:
    """Show the newest changes, oldest first."""
    directory = known_state(options.state)
    since = _since(options.since, time.time())
    seen = _show_newest(directory, options, since)
    while options.follow:
        time.sleep(_LOOK)
        seen = _show_next(directory, options, since, seen)
    return 0


def _show_newest(directory: str, options: argparse.Namespace, since: float) -> int:
    """Show the newest changes; return the number of the last that was there."""
    ledger = Ledger.view(directory)
    if ledger is None:
        return 0
    try:
        last = ledger.last_transition()
        numbers = ledger.newest(
            _filter(options, since), limit=options.limit, since=since, channel=options.channel
        )
        # What is older than the first change shown was left out by the limit.
        first = ledger.occurred_after(numbers[0] - 1) if len(numbers) == options.limit else None
        _show_renames(ledger, options, since if first is None else max(since, first))
        for page in ledger.entries(numbers):
            _show(page, options)
    finally:
        ledger.close()
    return last


def _show_next(directory: str, options: argparse.Namespace, since: float, seen: int) -> int:
    """Show the changes after one; return the number of the last that was there."""
    ledger = Ledger.view(directory)
    if ledger is None:
        return 0
    try:
        last = ledger.last_transition()
        accept = _filter(options, since)
        # Numbers begin anew if the ledger was reset.
        for page in ledger.entries_after(seen if seen <= last else 0, up_to=last):
            _show(
                [entry for entry in page if accept(entry[0]) and _is_sent(entry, options)], options
            )
    finally:
        ledger.close()
    return last


def _filter(options: argparse.Namespace, since: float) -> Callable[[Transition], bool]:
    return lambda transition: (
        transition.occurred_at >= since
        and fnmatchcase(transition.host, options.host)
        and fnmatchcase(transition.check, options.check)
    )


def _is_sent(entry: Entry, options: argparse.Namespace) -> bool:
    """Return whether the channel that was asked for has a message about a change."""
    return options.channel is None or options.channel in {channel for channel, _, _ in entry[1]}


def _since(text: str | None, now: float) -> float:
    if text is None:
        return 0.0
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise CommandError(
            f"--since: expected 90s, 15m, 2h, 3d or 2026-11-23T02:00:00Z, got {shown(text)}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _show_renames(ledger: Ledger, options: argparse.Namespace, since: float) -> None:
    """Print which channels took over from others, or were dropped, unless checks were asked for."""
    if options.json or (options.host, options.check) != ("*", "*"):
        return
    for each in ledger.renames(since):
        if options.channel in (None, each.old, each.new):
            print(f"{clock(each.at)}  {each}")


def _show(entries: list[Entry], options: argparse.Namespace) -> None:
    if options.json:
        for entry in entries:
            print(json.dumps(_as_json(*entry)))
    elif entries:
        lines = table([_row(*entry) for entry in entries]).split("\n")
        for line, (transition, _) in zip(lines, entries, strict=True):
            print(colored(whole_line(_with_output(line, transition)), transition.status))
    sys.stdout.flush()


def _with_output(line: str, transition: Transition) -> str:
    """Return a line with the first line of what the check reported, as the terminal has room."""
    room = max(_LEAST_OUTPUT, columns(_WITHOUT_TERMINAL) - width(line) - 2)
    text, _ = perfdata.split(transition.output)
    first, _, _ = text.strip().partition("\n")
    return f"{line}  {fitted(first.rstrip(), room)}".rstrip()


def _as_json(transition: Transition, deliveries: list[Sent]) -> dict[str, object]:
    return {
        "id": transition.id,
        "occurred_at": transition.occurred_at,
        "host": transition.host,
        "check": transition.check,
        "previous": transition.previous.name if transition.previous else None,
        "status": transition.word,
        "output": transition.output,
        "deliveries": [
            {"channel": channel, "state": state, "error": error}
            for channel, state, error in deliveries
        ],
    }


def _row(transition: Transition, deliveries: list[Sent]) -> tuple[str, ...]:
    room = name_columns(_WITHOUT_TERMINAL, 6)
    name = f"{fitted(transition.check, room)} on {fitted(transition.host, room)}"
    sent = ", ".join(f"{channel}: {state}" for channel, state, _ in deliveries)
    sent = sent or "not told"
    if columns(_WITHOUT_TERMINAL) < _NARROW:
        return (clock(transition.occurred_at)[:_WITHOUT_OFFSET], transition.word, name, sent)
    before = f"was {transition.previous.name}" if transition.previous else "first seen"
    return (clock(transition.occurred_at), transition.word, name, before, sent)
