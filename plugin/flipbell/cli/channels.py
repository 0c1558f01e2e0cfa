"""`flipbell channels`: every channel that is configured or known; rename one, or drop one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import orders, recorder
from flipbell.binding import config_for
from flipbell.cli import CommandError, add_command, known_state
from flipbell.cli.tables import table
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.rooms import Rooms

if TYPE_CHECKING:
    import argparse

_ARGUMENTS = {"list": 0, "rename": 2, "drop": 1}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "channels",
        command,
        summary="list the channels, or say that one was renamed or is no more",
        example="flipbell channels rename ops oncall",
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=[*_ARGUMENTS],
        default="list",
        help="list them (default); let another take over; or forget one",
    )
    parser.add_argument("name", nargs="*", default=[], help="rename: OLD NEW; drop: NAME")
    parser.add_argument("--json", action="store_true", help="with list: one JSON object a line")


@dataclass(frozen=True, slots=True)
class _View:
    """A channel as it is listed."""

    name: str
    room: str | None
    state: str
    waiting: int
    given_up: int
    incidents: int

    @property
    def needs_a_person(self) -> bool:
        return self.state == _GONE and bool(self.waiting or self.given_up or self.incidents)

    @property
    def row(self) -> tuple[str, ...]:
        counted = [(self.waiting, "waiting"), (self.given_up, "given up")]
        counted.append((self.incidents, "open in its room"))
        facts = [self.state, *(f"{count} {what}" for count, what in counted if count)]
        return (self.name, self.room or "-", "; ".join(facts))


_WORKS = "at work"
_BROKEN = "configured, with a problem: see flipbell check-config"
_UNREADABLE = "not known: a file of the configuration cannot be read"
_GONE = "not configured any more"
_FRESH = "new: begins with the next result"


def command(options: argparse.Namespace) -> int:
    """List, or record an order; return 1 if a channel that is gone has left something open."""
    if len(options.name) != _ARGUMENTS[options.action]:
        expected = {"list": "no name", "rename": "OLD NEW", "drop": "NAME"}[options.action]
        raise CommandError(f"channels {options.action}: expected {expected}")
    directory = known_state(options.state)
    rooms = Rooms(config_for(directory, options.config), Extensions.load().channel_types())
    rooms.refresh()
    ledger = Ledger.view(directory)
    try:
        if options.action == "list":
            return _show(_views(ledger, rooms), as_json=options.json)
        order = orders.Order(options.name[0], options.name[-1] if options.name[1:] else "")
        _check(order, ledger, rooms)
    finally:
        if ledger is not None:
            ledger.close()
    recorder.append(directory, [orders.encode(order, time.time())])
    recorder.rouse(directory, options.config)
    if order.successor:
        done = f"channel {order.successor} takes over what {order.name} was doing"
    else:
        done = f"channel {order.name} is dropped with all that it has left open"
    print(f"{done}: a courier does it within seconds")
    return 0


def _check(order: orders.Order, ledger: Ledger | None, rooms: Rooms) -> None:
    """Raise CommandError if the courier would refuse an order."""
    names = rooms.names()
    known = [each.name for each in ledger.roster()] if ledger is not None else []
    if not names.is_complete:
        raise CommandError(f"a file in {rooms.directory} cannot be read; see flipbell check-config")
    if order.name not in known:
        raise CommandError(f"no channel {order.name} is known; see flipbell channels")
    if order.name in names.identities:
        raise CommandError(f"channel {order.name} is configured; first rename or remove it there")
    if order.successor and order.successor not in names.identities:
        raise CommandError(f"no channel {order.successor} is configured in {rooms.directory}")


def _views(ledger: Ledger | None, rooms: Rooms) -> list[_View]:
    names = rooms.names()
    views = []
    entries = {each.name: each for each in ledger.roster()} if ledger is not None else {}
    open_in: dict[str, int] = {}
    for channel, *_ in ledger.open_incidents() if ledger is not None else ():
        open_in[channel] = open_in.get(channel, 0) + 1
    given_up: dict[str, int] = {}
    for letter in ledger.dead_letters() if ledger is not None else ():
        given_up[letter.channel] = given_up.get(letter.channel, 0) + 1
    for name in sorted({*entries, *names.identities}):
        identity = names.identities.get(name)
        entry = entries.get(name)
        room = entry.room if entry is not None else None
        if identity is not None:
            room = identity[1]
        counts = (_waiting(ledger, name), given_up.get(name, 0), open_in.get(name, 0))
        views.append(_View(name, room, _state(name, rooms, is_known=entry is not None), *counts))
    return views


def _waiting(ledger: Ledger | None, name: str) -> int:
    """Return how many transitions a channel has yet to look at."""
    state = ledger.channel(name) if ledger is not None else None
    if ledger is None or state is None:
        return 0
    return max(0, ledger.last_transition() - state.cursor)


def _state(name: str, rooms: Rooms, *, is_known: bool) -> str:
    names = rooms.names()
    if names.identities.get(name) is not None:
        return _WORKS if is_known else _FRESH
    if name in names.identities:
        return _BROKEN
    return _GONE if names.is_complete else _UNREADABLE


def _show(views: list[_View], *, as_json: bool) -> int:
    if as_json:
        for view in views:
            print(json.dumps(_as_json(view)))
    elif views:
        print(table([view.row for view in views]))
    return 1 if any(view.needs_a_person for view in views) else 0


def _as_json(view: _View) -> dict[str, object]:
    return {
        "name": view.name,
        "room": view.room,
        "state": view.state,
        "waiting": view.waiting,
        "given_up": view.given_up,
        "incidents": view.incidents,
    }
