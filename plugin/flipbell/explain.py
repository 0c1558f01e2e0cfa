"""What would happen: which channels would be told of a result, and why or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import routing
from flipbell.model import Status, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flipbell.extensions import Extensions
    from flipbell.ledger import Ledger
    from flipbell.model import Channel

UNCHANGED = "status unchanged"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one channel would do."""

    channel: str
    send: bool
    notify: bool
    reason: str


def explain(
    channels: Iterable[Channel],
    ledger: Ledger | None,
    extensions: Extensions,
    result: tuple[str, str, Status],
    now: float,
) -> list[Explanation]:
    """Say for each channel what a result (host, check, status) would lead to now."""
    host, check, status = result
    known = ledger.check(host, check) if ledger is not None else None
    previous = known[0] if known is not None else None
    transition = Transition(
        id=0,
        host=host,
        check=check,
        previous=previous,
        status=status,
        output="",
        occurred_at=now,
        previous_since=known[1] if known is not None else None,
    )
    if status is previous:
        return [
            Explanation(channel.name, send=False, notify=False, reason=UNCHANGED)
            for channel in channels
        ]
    return [_explain(channel, ledger, extensions, transition) for channel in channels]


def _explain(
    channel: Channel, ledger: Ledger | None, extensions: Extensions, transition: Transition
) -> Explanation:
    told = _told(channel, ledger, transition)
    decision = routing.decide(transition, channel, told)
    reason = decision.reason.value
    if decision.send:
        veto = extensions.veto(transition, channel.name)
        if veto is not None:
            reason = f"{routing.Reason.VETOED.value}: {veto}"
            return Explanation(channel.name, send=False, notify=False, reason=reason)
    return Explanation(channel.name, decision.send, decision.notify, reason)


def _told(channel: Channel, ledger: Ledger | None, transition: Transition) -> Status | None:
    """Return what the room will have been told when what waits for it has been delivered."""
    if ledger is None:
        return None
    told = ledger.told(channel.name, transition)
    state = ledger.channel(channel.name)
    for waiting in ledger.waiting_for(state, transition) if state is not None else ():
        is_sent = routing.decide(waiting, channel, told).send
        told = routing.told_after(waiting, told, delivered=is_sent)
    return told
