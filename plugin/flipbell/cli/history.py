"""`flipbell history`: what happened, and what was sent."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from flipbell import places
from flipbell.cli import add_command
from flipbell.cli.tables import clock, colored, table
from flipbell.ledger import Ledger

if TYPE_CHECKING:
    import argparse

    from flipbell.model import Transition


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "history",
        command,
        summary="show what happened, and what was sent",
        example="flipbell history --limit 20",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, default=50, help="the newest N changes (default: 50)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def command(options: argparse.Namespace) -> int:
    """Show the newest changes, oldest first."""
    ledger = Ledger.view(places.find_state(options.state, os.environ))
    if ledger is None:
        return 0
    try:
        found = ledger.history(options.limit)
    finally:
        ledger.close()
    if options.json:
        for transition, deliveries in found:
            print(json.dumps(_as_json(transition, deliveries)))
    elif found:
        lines = table([_row(*entry) for entry in found]).split("\n")
        for line, (transition, _) in zip(lines, found, strict=True):
            print(colored(line, transition.status))
    return 0


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
