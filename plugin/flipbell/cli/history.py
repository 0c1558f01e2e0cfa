"""`flipbell history`: what happened, and what was sent."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flipbell import places
from flipbell.cli import CommandError, add_command
from flipbell.cli.tables import clock, colored, table
from flipbell.ledger import Ledger

if TYPE_CHECKING:
    from flipbell.model import Transition

    Entry = tuple[Transition, list[tuple[str, str, str | None]]]

_LOOK = 0.5  # seconds between looks with --follow
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
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def command(options: argparse.Namespace) -> int:
    """Show the newest changes, oldest first."""
    directory = places.find_state(options.state, os.environ)
    since = _since(options.since, time.time())
    if not options.json:
        _show_renames(directory, options.channel, since)
    seen = _show(_entries(directory, options, since), options)
    while options.follow:
        time.sleep(_LOOK)
        entries = _entries(directory, options, since)
        seen = max(seen, _show([entry for entry in entries if entry[0].id > seen], options))
    return 0


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
            f"--since: expected 90s, 15m, 2h, 3d or 2026-11-23T02:00:00Z, got {text!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _entries(directory: str, options: argparse.Namespace, since: float) -> list[Entry]:
    ledger = Ledger.view(directory)
    if ledger is None:
        return []
    try:
        found = [
            entry
            for entry in ledger.history()
            if entry[0].occurred_at >= since
            and fnmatchcase(entry[0].host, options.host)
            and fnmatchcase(entry[0].check, options.check)
            and (options.channel is None or options.channel in {sent[0] for sent in entry[1]})
        ]
    finally:
        ledger.close()
    return found[-options.limit :]


def _show_renames(directory: str, channel: str | None, since: float) -> None:
    """Print which channels took over from others, or were dropped."""
    ledger = Ledger.view(directory)
    if ledger is None:
        return
    try:
        for each in ledger.renames(since):
            if channel in (None, each.old, each.new):
                print(f"{clock(each.at)}  {each}")
    finally:
        ledger.close()


def _show(entries: list[Entry], options: argparse.Namespace) -> int:
    """Print entries; return the number of the last."""
    if options.json:
        for entry in entries:
            print(json.dumps(_as_json(*entry)), flush=True)
    elif entries:
        lines = table([_row(*entry) for entry in entries]).split("\n")
        for line, (transition, _) in zip(lines, entries, strict=True):
            print(colored(line, transition.status), flush=True)
    return entries[-1][0].id if entries else 0


def _as_json(
    transition: Transition, deliveries: list[tuple[str, str, str | None]]
) -> dict[str, object]:
    return {
        "id": transition.id,
        "occurred_at": transition.occurred_at,
        "host": transition.host,
        "check": transition.check,
        "previous": transition.previous.name if transition.previous else None,
        "status": transition.status.name,
        "output": transition.output,
        "deliveries": [
            {"channel": channel, "state": state, "error": error}
            for channel, state, error in deliveries
        ],
    }


def _row(transition: Transition, deliveries: list[tuple[str, str, str | None]]) -> tuple[str, ...]:
    before = f"was {transition.previous.name}" if transition.previous else "first seen"
    said = ", ".join(f"{channel}: {state}" for channel, state, _ in deliveries)
    return (
        clock(transition.occurred_at),
        transition.status.name,
        f"{transition.check} on {transition.host}",
        before,
        said or "told nobody",
    )
