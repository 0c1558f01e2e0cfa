"""Open incidents that no channel will close, and channels that came and went, for people."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import routing
from flipbell.model import Status, Transition
from flipbell.roster import Entry
from flipbell.succession import Names, plan, unclear

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flipbell.ledger import Ledger
    from flipbell.model import Channel
    from flipbell.succession import Plan

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Incident:
    """A problem that a room was told of, and whether its channel would tell the recovery."""

    channel: str
    host: str
    check: str
    status: Status
    is_closing: bool

    def __str__(self) -> str:
        return f"{self.check} on {self.host} ({self.status.name})"


def incidents(
    ledger: Ledger, channels: Mapping[str, Channel], configured: Iterable[str]
) -> list[Incident]:
    """Return every open incident of each channel.

    One of a channel that is configured and does not work now is closed once that is mended.
    """
    names = set(configured) - set(channels)
    return [
        Incident(
            name, host, check, told, name in names or _is_closing(channels.get(name), host, check)
        )
        for name, host, check, told in ledger.open_incidents()
    ]


def _is_closing(channel: Channel | None, host: str, check: str) -> bool:
    """Return whether a channel's patterns still cover a check that its room was told of."""
    if channel is None:
        return False
    recovery = Transition(0, host, check, Status.CRITICAL, Status.OK, "", 0.0)
    reason = routing.decide(recovery, channel, Status.CRITICAL).reason
    return reason not in (routing.Reason.NO_MATCH, routing.Reason.EXCLUDED)


def outlook(ledger: Ledger, names: Names) -> Plan:
    """Return what a courier would make of the configuration as it is now."""
    entries = ledger.roster()
    known = {each.name for each in entries}
    entries += [
        Entry(name, None, None, is_new=True) for name in sorted(names.identities.keys() - known)
    ]
    settled = Names(names.identities, is_settled=True, is_complete=names.is_complete)
    return plan(entries, settled, now=time.time())


def renamings(ledger: Ledger, names: Names) -> list[str]:
    """Return a line for each renaming that the next courier will carry out."""
    ahead = outlook(ledger, names)
    return [f"channel {new} takes over from {old}: it was renamed" for old, new in ahead.renames]


def warnings(ledger: Ledger, names: Names, channels: Mapping[str, Channel]) -> list[str]:
    """Return a line for each channel whose renaming is unclear, and for all that none will close.

    Each needs the operator.
    """
    ahead = outlook(ledger, names)
    lines = [unclear(vanished, appeared) for vanished, appeared in ahead.unclear]
    lines += [
        f"channel {name} waits until every file can be read: it may have had another name"
        for name in sorted(ahead.held)
    ]
    going_on = {old for old, _ in ahead.renames}
    if not names.is_complete:
        going_on.update(each.name for each in ledger.roster())
    by_channel: dict[str, list[Incident]] = {}
    for incident in incidents(ledger, channels, names.identities):
        if not incident.is_closing and incident.channel not in going_on:
            by_channel.setdefault(incident.channel, []).append(incident)
    for name, left in by_channel.items():
        lines.append(_left_out(name, left) if name in names.identities else _forsaken(name, left))
    return lines


def _forsaken(name: str, left: list[Incident]) -> str:
    return (
        f"channel {name} is not configured any more, and no channel will close what its room was "
        f"told: {listed(left)}; flipbell channels rename {name} NEW if it was renamed, else "
        f"flipbell channels drop {name}"
    )


def _left_out(name: str, left: list[Incident]) -> str:
    return (
        f"channel {name}: its room was told of {listed(left)}, and will hear of no recovery, for "
        "`match` or `exclude` leaves that out now"
    )


def listed(left: list[Incident]) -> str:
    """Return the first few incidents, and how many more there are."""
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return ", ".join(map(str, left[:_SHOWN])) + more
