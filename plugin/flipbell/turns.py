"""Whose turn it is: what each channel says next, and what follows when it was said.

A channel takes the transitions in order. Whether its room is told of one is decided when the
message before it has ended, for only then is it known what the room was told. Where more waits
than a room may get in a minute, the oldest are folded into a digest.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flipbell import message, retry, routing
from flipbell.digest import Digest, wanted
from flipbell.model import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from flipbell.channels import Sender
    from flipbell.extensions import Extensions
    from flipbell.ledger import Ledger
    from flipbell.model import Channel, Notification, Outcome, Status, Transition
    from flipbell.outbox import ChannelState, Delivery
    from flipbell.rooms import Rooms
    from flipbell.routing import Decision


@dataclass(frozen=True, slots=True)
class Job:
    """One request to one room; a digest goes by its first transition."""

    channel: str
    transition: Transition
    notification: Notification
    sender: Sender
    begun: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request ended: the stage of each transition that it told."""

    stage: Stage
    transitions: list[Transition]


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
            state = self._ledger.channel(channel.name)
            if state is None or self._ready_at(channel, state, now) > now:
                return None
            head = self._ledger.head(state)
            if head is None:
                return self._late_job(channel, now)
            decision = routing.decide(head, channel, self._ledger.told(channel.name, head))
            if decision.send and not self._is_vetoed(channel, head, now):
                return self._begin(channel, state, (head, decision), now)
            self._ledger.drop(channel.name, head.id)
            self._end_turn(channel.name, head, delivered=False)

    def _is_vetoed(self, channel: Channel, transition: Transition, now: float) -> bool:
        veto = self._extensions.veto(transition, channel.name)
        if veto is not None:
            self._ledger.veto(channel.name, transition.id, veto, now)
        return veto is not None

    def _begin(
        self,
        channel: Channel,
        state: ChannelState,
        head: tuple[Transition, Decision],
        now: float,
    ) -> Job:
        digest = Digest(channel)
        digest.add(*head)
        for transition, decision in self._to_fold(channel, state, head[0], now)[1:]:
            if self._is_vetoed(channel, transition, now):
                continue
            if not digest.add(transition, decision):
                break
        if len(digest.parts) == 1:
            return self._send(channel, [head], None, now)
        return self._send(channel, digest.parts, digest, now)

    def _to_fold(
        self, channel: Channel, state: ChannelState, head: Transition, now: float
    ) -> list[tuple[Transition, Decision]]:
        """Return the changes for one digest: as it was tried before, or what does not fit."""
        tried = self._ledger.delivery(channel.name, head.id)
        if tried is not None:
            numbers = {part.transition for part in self._parts(tried)}
            queue = self._ledger.queue(state, max(numbers))
            queue = [each for each in queue if each.id in numbers]
            still = wanted(queue, channel, self._told_by(channel))
            for number in numbers - {each.id for each, _ in still}:
                self._ledger.drop(channel.name, number)
            return still
        if channel.per_minute == 0:
            return []
        free = self._ledger.free_slots(self._rooms.room(channel), channel.per_minute, now)
        if not self._ledger.is_longer(state, free):
            return []
        found = wanted(self._ledger.queue(state), channel, self._told_by(channel))
        return found[: len(found) - free + 1] if len(found) > free else []

    def _told_by(self, channel: Channel) -> Callable[[Transition], Status | None]:
        return lambda transition: self._ledger.told(channel.name, transition)

    def _parts(self, delivery: Delivery) -> list[Delivery]:
        """Return the deliveries of one request: those of a digest, or the one."""
        if delivery.digest is None or delivery.is_late:
            return [delivery]
        return self._ledger.in_digest(delivery.channel, delivery.digest)

    def _late_job(self, channel: Channel, now: float) -> Job | None:
        """Send a dead letter once more, as there is nothing newer to tell."""
        late = self._ledger.next_late(channel.name)
        if late is None:
            return None
        transition = self._ledger.transition(late.transition)
        notify = transition.status in channel.notify
        decision = routing.Decision(send=True, notify=notify, reason=routing.Reason.ONCE_MORE)
        return self._send(channel, [(transition, decision)], None, now, mark=message.LATE_LETTER)

    def _send(
        self,
        channel: Channel,
        parts: list[tuple[Transition, Decision]],
        digest: Digest | None,
        now: float,
        mark: str = "",
    ) -> Job:
        first = parts[0][0]
        for transition, decision in parts:
            earlier = self._ledger.delivery(channel.name, transition.id)
            if transition.is_replayed or (earlier is not None and earlier.unknown):
                mark = message.REPEAT
            self._ledger.begin_try(
                channel.name,
                transition.id,
                notify=decision.notify,
                reason=decision.reason.value,
                digest=first.id if digest is not None else None,
                now=now,
            )
        self._ledger.count_request(self._rooms.room(channel), now)
        if digest is not None:
            notification = digest.notification(mark)
        else:
            notify = parts[0][1].notify
            notification = message.notification(first, channel, notify=notify, now=now, mark=mark)
        return Job(channel.name, first, notification, self._rooms.sender(channel))

    def settle(self, channel: str, transition: Transition, outcome: Outcome, now: float) -> Settled:
        """Write down how a request ended; return what that means for each change it told."""
        delivery = self._ledger.delivery(channel, transition.id)
        state = self._ledger.channel(channel)
        assert delivery is not None, "begin_try made it"
        assert state is not None, "a channel has its cursor before its first turn"
        parts = [part for part in self._parts(delivery) if part.is_sending]
        step = retry.follow(
            outcome,
            unknown=max(part.unknown for part in parts),
            failures=state.failures,
            tried_for=max(part.tried_for for part in parts),
            chance=self._chance(),
        )
        for part in parts:
            self._ledger.end_try(part, step.stage, outcome)
        self._write_down(channel, step, outcome, len(parts), now)
        if step.ends_turn and not delivery.is_late:
            self._end_turns(state, {part.transition for part in parts}, step.stage)
        return Settled(step.stage, [self._ledger.transition(part.transition) for part in parts])

    def _write_down(
        self, channel: str, step: retry.Step, outcome: Outcome, parts: int, now: float
    ) -> None:
        """Write down what a request says of its channel and its room."""
        self._ledger.count(channel, "requests")
        if step.stage is Stage.DELIVERED:
            self._ledger.succeed(channel, now)
        else:
            self._ledger.fail(channel, outcome.reason, step, now)
            self._ledger.count(channel, f"failed {outcome.verdict.name.lower()}")
        if step.ends_turn:
            self._ledger.count(channel, f"notifications {step.stage.value}", parts)
        known = self._rooms.channels.get(channel)
        if step.closed_for and known is not None:
            self._ledger.close_room(self._rooms.room(known), now + step.closed_for)

    def _end_turns(self, state: ChannelState, numbers: set[int], stage: Stage) -> None:
        """End the turns of all up to the last that was told, the unwanted among them too."""
        for transition in self._ledger.queue(state, max(numbers)):
            delivered = stage.is_told and transition.id in numbers
            self._end_turn(state.name, transition, delivered=delivered)

    def _end_turn(self, channel: str, transition: Transition, *, delivered: bool) -> None:
        told = self._ledger.told(channel, transition)
        told = routing.told_after(transition, told, delivered=delivered)
        self._ledger.end_turn(channel, transition, told)

    def _ready_at(self, channel: Channel, state: ChannelState, now: float) -> float:
        """Return when a channel may speak: after its back-off, within its room's limits."""
        room = self._rooms.room(channel)
        stated = (state.next_try, self._ledger.room_closed_until(room))
        waits = [at for at in stated if at - now <= retry.MAX_CLOSED]  # else a clock went back
        return max([*waits, self._ledger.room_free_at(room, channel.per_minute, now)])

    def next_at(self, busy: Collection[str], now: float) -> float | None:
        """Return when the next channel may speak; None where all are silent or busy."""
        late = self._ledger.with_late_letters()
        times = [
            self._ready_at(channel, state, now)
            for channel in self._rooms.channels.values()
            if channel.name not in busy
            and (state := self._ledger.channel(channel.name)) is not None
            and (channel.name in late or self._ledger.head(state) is not None)
        ]
        return min(times, default=None)

    def undelivered(self) -> set[str]:
        """Return the channels, and unreadable files, that transitions wait for."""
        last, late = self._ledger.last_transition(), self._ledger.with_late_letters()
        names = {
            state.name
            for state in self._ledger.channels()
            if (state.cursor < last or state.name in late) and self._rooms.concerns(state.name)
        }
        return names | {path for path, cursor in self._ledger.unread().items() if cursor < last}
