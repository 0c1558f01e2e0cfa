"""Whose turn it is: what each channel says next.

A channel takes the transitions in order. Whether its room is told of one is decided when the
message before it has ended, for only then is it known what the room was told. When more waits
than a room may get in a minute, the oldest are folded into a digest. While the outcome of a
request is unknown, the room is probed before the message is repeated.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flipbell import message, retry, routing
from flipbell.digest import MOST_PARTS, Digest, wanted
from flipbell.outbox import Late
from flipbell.settling import end_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from flipbell.channels import Sender
    from flipbell.extensions import Extensions
    from flipbell.ledger import Ledger
    from flipbell.model import Channel, Notification, Status, Transition
    from flipbell.outbox import ChannelState
    from flipbell.rooms import Rooms
    from flipbell.routing import Decision

# Transitions that are read at most to see how many are wanted: a request must not cost more
# because more waits behind it.
_WINDOW = 1000
_LATE_MARKS = {Late.UNHEARD: message.LATE_LETTER, Late.PERHAPS_HEARD: message.LATE_REPEAT}


@dataclass(frozen=True, slots=True)
class Job:
    """One request to one room; a digest goes by its first transition.

    Without a *notification* it is a probe, about the transition whose outcome is unknown.
    """

    channel: str
    transition: Transition
    notification: Notification | None
    sender: Sender
    begun: float = field(default_factory=time.monotonic)

    @property
    def is_probe(self) -> bool:
        """Whether it only asks if the room works."""
        return self.notification is None


class Turns:
    """The queues of all channels; every call belongs inside a transaction of the ledger."""

    def __init__(self, ledger: Ledger, rooms: Rooms, extensions: Extensions) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._extensions = extensions

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
            if state.doubtful:
                probe = self._probe(channel, now)
                if probe is not None:
                    return probe
                continue
            head = self._ledger.head(state)
            if head is None:
                return self._late_job(channel, now)
            decision = routing.decide(head, channel, self._ledger.told(channel.name, head))
            if decision.send and not self._is_vetoed(channel, head, now):
                return self._begin(channel, state, (head, decision), now)
            self._ledger.drop(channel.name, head.id)
            end_turns(self._ledger, state, [head], delivered=())

    def _probe(self, channel: Channel, now: float) -> Job | None:
        """Ask the room of a doubtful channel whether it works; None if nothing is in doubt."""
        message_in_doubt = self._ledger.in_doubt(channel.name)
        sender = self._rooms.sender(channel)
        if message_in_doubt is None or not can_probe(sender):
            self._ledger.end_doubt(channel.name)
            return None
        for part in self._ledger.parts(message_in_doubt):
            self._ledger.try_on(part, now)
        self._ledger.begin_request(channel.name, self._rooms.room(channel), now)
        transition = self._ledger.transition(message_in_doubt.transition)
        return Job(channel.name, transition, None, sender)

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
        tried = self._ledger.delivery(channel.name, head[0].id)
        earlier = [] if tried is None else [each.transition for each in self._ledger.parts(tried)]
        last = max(earlier) if earlier else self._last_to_fold(channel, state, head[0], now)
        if last == head[0].id:
            return self._send(channel, [head], None, now)
        digest = Digest(channel)
        queue = self._ledger.queue(state, last)
        told = self._told_by(channel)
        # The head was let pass just now.
        for part in wanted(
            queue, channel, told, lambda one: one != head[0] and self._is_vetoed(channel, one, now)
        ):
            if not digest.add(*part):
                break
        self._drop_unwanted(channel, earlier, digest)
        is_alone = len(digest.parts) == 1
        return self._send(channel, digest.parts, None if is_alone else digest, now)

    def _last_to_fold(
        self, channel: Channel, state: ChannelState, head: Transition, now: float
    ) -> int:
        """Return the last transition to fold into one message, so that the rest fits the limit."""
        if channel.per_minute == 0:
            return head.id
        free = self._ledger.free_slots(self._rooms.room(channel), channel.per_minute, now)
        queue = self._ledger.queue(state, most=_WINDOW)
        waiting = [
            transition.id
            for transition, _ in itertools.islice(
                wanted(queue, channel, self._told_by(channel)), free + MOST_PARTS
            )
        ]
        return waiting[len(waiting) - free] if len(waiting) > free else head.id

    def _drop_unwanted(self, channel: Channel, earlier: list[int], digest: Digest) -> None:
        """Drop what was in the *earlier* try of this digest, and is no longer wanted."""
        parts = {transition.id for transition, _ in digest.parts}
        for number in set(earlier) - parts:
            if number <= max(parts):
                self._ledger.drop(channel.name, number)

    def _told_by(self, channel: Channel) -> Callable[[Transition], Status | None]:
        return lambda transition: self._ledger.told(channel.name, transition)

    def _late_job(self, channel: Channel, now: float) -> Job | None:
        """Send once more what was given up, as there is nothing newer to tell."""
        late = self._ledger.next_late(channel.name)
        if late is None:
            return None
        transition = self._ledger.transition(late.transition)
        notify = transition.status in channel.notify
        decision = routing.Decision(send=True, notify=notify, reason=routing.Reason.ONCE_MORE)
        return self._send(channel, [(transition, decision)], None, now, _LATE_MARKS[late.late])

    def _send(
        self,
        channel: Channel,
        parts: list[tuple[Transition, Decision]],
        digest: Digest | None,
        now: float,
        mark: str = "",
    ) -> Job:
        first, decision = parts[0]
        for transition, why in parts:
            earlier = self._ledger.delivery(channel.name, transition.id)
            if transition.is_replayed or (earlier is not None and earlier.unknown):
                mark = message.REPEAT
            self._ledger.begin_try(
                channel.name,
                transition.id,
                notify=why.notify,
                reason=why.reason.value,
                digest=first.id if digest is not None else None,
                now=now,
            )
        self._ledger.begin_request(channel.name, self._rooms.room(channel), now)
        if digest is not None:
            notification = digest.notification(mark)
        else:
            notification = message.notification(
                first, channel, notify=decision.notify, now=now, mark=mark
            )
        return Job(channel.name, first, notification, self._rooms.sender(channel))

    def _ready_at(self, channel: Channel, state: ChannelState, now: float) -> float:
        """Return when a channel may speak: after its back-off, within its room's limits."""
        room = self._rooms.room(channel)
        stated = (state.next_try, self._ledger.room_closed_until(room))
        waits = [at for at in stated if at - now <= retry.MAX_CLOSED]  # else a clock went back
        return max([*waits, self._ledger.room_free_at(room, channel.per_minute, now)])

    def next_at(self, busy: Collection[str], now: float) -> float | None:
        """Return when the next channel may speak; None if all are silent or busy."""
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


def can_probe(sender: Sender) -> bool:
    """Return whether a room can be asked if it works, without telling it anything."""
    return getattr(sender, "ask", None) is not None
