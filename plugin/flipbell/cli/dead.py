"""`flipbell dead`: messages that were given up, to be sent once more or dismissed."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from flipbell import orders, recorder, spool
from flipbell.cli import CommandError, add_command, known_state, whole_number
from flipbell.cli.tables import clock, table
from flipbell.ledger import Ledger
from flipbell.orders import Dismissal

if TYPE_CHECKING:
    import argparse

    from flipbell.outbox import DeadLetter

_LARGEST = (1 << 63) - 1
# What becomes of the messages, by the action.
_DONE = {"retry": "sent once more, marked as late", "dismiss": "taken off the list"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "dead",
        command,
        summary="list the messages that were given up, send them once more, or dismiss them",
        example="flipbell dead retry --channel ops 17 18",
    )
    parser.add_argument(
        "action", choices=["list", *_DONE], help="show them, send them, or take them off the list"
    )
    number = whole_number(1, _LARGEST)
    parser.add_argument(
        "id", nargs="*", default=[], type=number, help="only these, as the list numbers them"
    )
    parser.add_argument("--channel", metavar="NAME", help="only those of this channel")
    parser.add_argument("--all", action="store_true", help="with retry or dismiss: all of them")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def command(options: argparse.Namespace) -> int:
    """List, revive or dismiss; return 1 if the list is not empty."""
    directory = known_state(options.state)
    letters = _letters(directory, options)
    if options.action == "list":
        _show(letters, as_json=options.json)
        return 1 if letters else 0
    if not options.id and not options.all:
        raise CommandError(
            f"dead {options.action}: expected numbers from flipbell dead list, or --all"
        )
    missing = set(options.id) - {letter.transition.id for letter in letters}
    if missing:
        numbers = ", ".join(map(str, sorted(missing)))
        raise CommandError(f"no dead letter {numbers}; see flipbell dead list")
    if letters:
        line = _revival if options.action == "retry" else _dismissal
        recorder.append(directory, map(line, letters))
        recorder.rouse(directory, options.config)
    count = "one message" if len(letters) == 1 else f"{len(letters)} messages"
    print(f"{count} will be {_DONE[options.action]}", file=sys.stderr)
    return 0


def _letters(directory: str, options: argparse.Namespace) -> list[DeadLetter]:
    ledger = Ledger.view(directory)
    if ledger is None:
        return []
    try:
        return [
            letter
            for letter in ledger.dead_letters()
            if options.channel in (None, letter.channel)
            and (not options.id or letter.transition.id in options.id)
        ]
    finally:
        ledger.close()


def _revival(letter: DeadLetter) -> bytes:
    channel, number = os.fsencode(letter.channel), b"%d" % letter.transition.id
    return spool.encode(channel, number, spool.REVIVE, b"", time.time())


def _dismissal(letter: DeadLetter) -> bytes:
    return orders.encode(Dismissal(letter.channel, letter.transition.id), time.time())


def _show(letters: list[DeadLetter], *, as_json: bool) -> None:
    if as_json:
        for letter in letters:
            print(json.dumps(_as_json(letter)))
    elif letters:
        print(table([_row(letter) for letter in letters]))


def _as_json(letter: DeadLetter) -> dict[str, object]:
    transition = letter.transition
    return {
        "id": transition.id,
        "channel": letter.channel,
        "occurred_at": transition.occurred_at,
        "host": transition.host,
        "check": transition.check,
        "status": transition.word,
        "state": letter.stage.value,
        "tried_at": letter.last_try,
        "error": letter.error,
    }


def _row(letter: DeadLetter) -> tuple[str, ...]:
    transition = letter.transition
    return (
        str(transition.id),
        letter.channel,
        letter.stage.value,
        clock(transition.occurred_at),
        transition.word,
        f"{transition.check} on {transition.host}",
        letter.error,
    )
