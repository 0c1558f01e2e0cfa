"""Whose turn it is: what each channel says next, and what follows when it was said.

A channel takes the transitions in order. Whether its room is told of one is decided when the
message before it has ended, for only then is it known what the room was told.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flipbell import message, retry, routing
from flipbell.model import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from flipbell.channels import Sender
    from flipbell.extensions import Extensions
    from flipbell.ledger import ChannelState, Ledger
    from flipbell.model import Channel, Notification, Outcome, Transition
    from flipbell.rooms import Rooms


@dataclass(frozen=True, slots=True)
class Job:
    """One request to one room."""

    channel: str
    transition: Transition
    notification: Notification
    sender: Sender
    begun: float = field(default_factory=time.monotonic)


class Turns:
    """The queues of all channels; every call belongs inside a transaction of the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        rooms: Rooms,
        extensions: Extensions,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._extensions = extensions
        self._chance = chance

    def next_jobs(self, busy: Collection[str], now: float) -> list[Job]:
        """Return what can be sent now, marked as being sent; *busy* channels are left alone."""
        jobs = []
        for channel in self._rooms.channels.values():
            if channel.name not in busy:
                job = self._next_job(channel, now)
                if job is not None:
                    jobs.append(job)
        return jobs

    def _next_job(self, channel: Channel, now: float) -> Job | None:
        while True:
            found = self._head(channel.name)
            if found is None or self._ready_at(channel, found[0], now) > now:
                return None
            transition = found[1]
            told = self._ledger.told(channel.name, transition)
            decision = routing.decide(transition, channel, told)
            veto = self._extensions.veto(transition, channel.name) if decision.send else None
            if decision.send and veto is None:
                return self._begin(channel, transition, decision, now)
            self._ledger.drop(channel.name, transition.id)
            if veto is not None:
                self._ledger.veto(channel.name, transition.id, veto, now)
            self._end_turn(channel.name, transition, delivered=False)

    def _head(self, channel: str) -> tuple[ChannelState, Transition] | None:
        state = self._ledger.channel(channel)
        transition = self._ledger.head(state) if state is not None else None
        return (state, transition) if state is not None and transition is not None else None

    def _begin(
        self, channel: Channel, transition: Transition, decision: routing.Decision, now: float
    ) -> Job:
        earlier = self._ledger.delivery(channel.name, transition.id)
        mark = message.REPEAT if earlier is not None and earlier.unknown else ""
        self._ledger.begin_try(
            channel.name,
            transition.id,
            notify=decision.notify,
            reason=decision.reason.value,
            room=self._rooms.room(channel),
            now=now,
        )
        notification = message.notification(
            transition, channel, notify=decision.notify, now=now, mark=mark
        )
        return Job(channel.name, transition, notification, self._rooms.sender(channel))

    def settle(self, channel: str, transition: Transition, outcome: Outcome, now: float) -> Stage:
        """Write down how a request ended; return the stage that its message has reached."""
        delivery = self._ledger.delivery(channel, transition.id)
        state = self._ledger.channel(channel)
        assert delivery is not None, "begin_try made it"
        assert state is not None, "a channel has its cursor before its first turn"
        step = retry.follow(
            outcome,
            unknown=delivery.unknown,
            failures=state.failures,
            tried_for=now - delivery.first_try,
            chance=self._chance(),
        )
        self._ledger.end_try(delivery, step.stage, outcome)
        if step.stage is Stage.DELIVERED:
            self._ledger.succeed(channel, now)
        else:
            self._ledger.fail(channel, outcome.reason, step, now)
        if step.ends_turn:
            self._end_turn(channel, transition, delivered=step.stage.is_told)
        return step.stage

    def _end_turn(self, channel: str, transition: Transition, *, delivered: bool) -> None:
        told = self._ledger.told(channel, transition)
        told = routing.told_after(transition, told, delivered=delivered)
        self._ledger.end_turn(channel, transition, told)

    def _ready_at(self, channel: Channel, state: ChannelState, now: float) -> float:
        """Return when a channel may speak: after its back-off, within its room's limit."""
        waits = [at for at in (state.next_try, state.closed_until) if at - now <= retry.MAX_CLOSED]
        room = self._rooms.room(channel)
        return max([*waits, self._ledger.room_free_at(room, channel.per_minute, now)])

    def next_at(self, busy: Collection[str], now: float) -> float | None:
        """Return when the next channel may speak; None where all are silent or busy."""
        times = [
            self._ready_at(channel, found[0], now)
            for channel in self._rooms.channels.values()
            if channel.name not in busy and (found := self._head(channel.name)) is not None
        ]
        return min(times, default=None)

    def undelivered(self) -> set[str]:
        """Return the channels, and unreadable files, that transitions wait for."""
        last = self._ledger.last_transition()
        names = {
            state.name
            for state in self._ledger.channels()
            if state.cursor < last and self._rooms.concerns(state.name)
        }
        return names | {path for path, cursor in self._ledger.unread().items() if cursor < last}
