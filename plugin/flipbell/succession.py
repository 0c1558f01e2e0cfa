"""Which channel takes over from one whose name has left the configuration.

If exactly one channel has vanished and exactly one has appeared for the same type and room, it was
renamed. That is decided when every file can be read and nothing was edited for a moment; until
then, a new channel of a room that is known already waits. The operator can say it, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flipbell.roster import DROPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from flipbell.roster import Entry, Roster

    Identity = tuple[str, str]
    """A channel's type, and its room's public name."""


# Seconds in which a channel may be away while it is renamed.
_SHORT_WHILE = 3600.0


@dataclass(frozen=True, slots=True)
class Names:
    """The channels that the configuration names.

    *identities* holds None for one that does not work. The names are *settled* if nothing was
    edited for a moment, and *complete* if every file can be read.
    """

    identities: Mapping[str, Identity | None]
    is_settled: bool
    is_complete: bool


@dataclass(slots=True)
class Plan:
    """What becomes of the channels that came and went.

    *held* are new ones that have to wait; *unclear* holds those that vanished and those that
    appeared for one room if it is not plain which is which. A plan is *final* unless time alone
    will bring another.
    """

    renames: list[tuple[str, str]] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    returns: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unclear: list[tuple[list[str], list[str]]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    is_final: bool = True


def plan(
    entries: Iterable[Entry], names: Names, busy: Collection[str] = (), *, now: float = 0.0
) -> Plan:
    """Return what becomes of each channel; *busy* ones have a request under way.

    Every name of the configuration has its entry. One that left a short while ago, by *now* in
    epoch seconds, counts as just vanished: people rename in two steps.
    """
    entries = list(entries)
    new = [each for each in entries if each.is_new and each.name in names.identities]
    known = [
        each
        for each in entries
        if not each.is_new and (each.gone_at is None or now - each.gone_at < _SHORT_WHILE)
    ]
    missing = [each for each in known if each.name not in names.identities]
    result = Plan()
    kept: set[str] = set()
    for identity, appeared in _by_identity(new, names).items():
        vanished = [each.name for each in missing if (each.type, each.room) == identity]
        if not any((each.type, each.room) == identity for each in known):
            result.starts += appeared
        elif not names.is_settled or (vanished and not names.is_complete):
            result.held.update(appeared)
            kept.update(vanished)
        elif len(vanished) == len(appeared) == 1:
            kept.update(vanished)
            if vanished[0] in busy:
                result.held.update(appeared)
                result.is_final = False
            else:
                result.renames.append((vanished[0], appeared[0]))
        else:
            result.starts += appeared
            if vanished:
                result.unclear.append((vanished, appeared))
    if names.is_settled and names.is_complete:
        # One that does not work yet may turn out to be the one that was renamed.
        if all(names.identities[each.name] is not None for each in new):
            result.leaves = [
                each.name for each in missing if each.gone_at is None and each.name not in kept
            ]
        result.removed = [e.name for e in entries if e.is_new and e.name not in names.identities]
    result.returns = [
        each.name for each in entries if each.gone_at is not None and each.name in names.identities
    ]
    if not names.is_settled and (result.held or missing):
        result.is_final = False
    return result


def _by_identity(new: Iterable[Entry], names: Names) -> dict[Identity, list[str]]:
    groups: dict[Identity, list[str]] = {}
    for each in new:
        identity = names.identities[each.name]
        if identity is not None:
            groups.setdefault(identity, []).append(each.name)
    return groups


class Succession:
    """Carries out what was decided; every call belongs inside a transaction of the ledger."""

    def __init__(self, roster: Roster, log: Callable[[str], None], now: float) -> None:
        self._roster = roster
        self._log = log
        self._now = now

    def settle(self, names: Names, busy: Collection[str]) -> Plan:
        """Bring the ledger's channels in line with the configuration; return what was decided."""
        self._identify(names)
        is_waiting = self._carry_out_orders(names, busy)
        decided = plan(self._roster.roster(), names, busy, now=self._now)
        for old, new in decided.renames:
            self._roster.rename(old, new, self._now, by_hand=False)
            self._log(f"channel {new} takes over from {old}: it was renamed")
        for name in decided.starts:
            self._roster.start(name)
        for name in decided.removed:
            self._roster.remove_new(name)
        for name in decided.leaves:
            self._roster.set_gone(name, self._now)
        for name in decided.returns:
            self._roster.set_gone(name, None)
        for vanished, appeared in decided.unclear:
            self._log(unclear(vanished, appeared))
        decided.is_final = decided.is_final and not is_waiting
        return decided

    def _identify(self, names: Names) -> None:
        """Remember the type and room of each channel; another room was told of nothing yet."""
        known = {each.name: each.room for each in self._roster.roster()}
        for name, identity in names.identities.items():
            if identity is None:
                continue
            before = known.get(name)
            if before is not None and _place(before) != _place(identity[1]):
                self._roster.leave_room(name)
                self._log(
                    f"channel {name} has another room now; incidents stay open in the old one"
                )
            self._roster.identify(name, identity)

    def _carry_out_orders(self, names: Names, busy: Collection[str]) -> bool:
        """Do what the operator asked for; return whether something of it has to wait."""
        orders = [each for each in self._roster.roster() if each.successor is not None]
        if not (names.is_settled and names.is_complete):
            return bool(orders) and names.is_complete
        is_waiting = False
        for order in orders:
            refusal = _refusal(order, names)
            if refusal is not None:
                self._log(f"channel {order.name}: {refusal}")
                self._roster.set_successor(order.name, None)
            elif order.name in busy or order.successor in busy:
                is_waiting = True
            else:
                self._carry_out(order)
        return is_waiting

    def _carry_out(self, order: Entry) -> None:
        if order.successor in (None, DROPPED):
            self._roster.drop_channel(order.name, self._now)
        else:
            self._roster.rename(order.name, str(order.successor), self._now, by_hand=True)


def _place(room: str) -> str:
    """Return what tells a room from others, though its server may move to another address."""
    return urlsplit(room).path if "://" in room else room


def _refusal(order: Entry, names: Names) -> str | None:
    """Return why an order cannot be carried out, if so."""
    if order.name in names.identities:
        return "it is configured, so it is neither renamed nor dropped"
    if order.successor not in (DROPPED, *names.identities):
        return f"no channel {order.successor} is configured to take over from it"
    return None


def unclear(vanished: Collection[str], appeared: Collection[str]) -> str:
    """Return a message that names the channels of one room of which some may have been renamed."""
    old, new = ", ".join(vanished), ", ".join(appeared)
    return (
        f"gone from the configuration: {old}; new for the same room: {new}; it is not clear which "
        f"took over from which, so each starts new; if one was renamed: "
        f"flipbell channels rename OLD NEW"
    )
