"""What follows when a request has ended: stages, back-off, and what the room counts as told.

Every call belongs inside a transaction of the ledger.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import retry, routing
from flipbell.model import Outcome, Stage, Verdict
from flipbell.outbox import Late

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from flipbell.ledger import Ledger
    from flipbell.model import Transition
    from flipbell.outbox import ChannelState, Delivery
    from flipbell.rooms import Rooms

INTERRUPTED = Outcome(Verdict.UNKNOWN, "flipbell died while it was sending")


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request ended: the stage of each transition that it was about."""

    stage: Stage
    transitions: list[Transition]


class Settling:
    """Writes down how requests have ended."""

    def __init__(
        self, ledger: Ledger, rooms: Rooms, chance: Callable[[], float] = random.random
    ) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._chance = chance

    def settle(
        self,
        channel: str,
        transition: Transition,
        outcome: Outcome,
        now: float,
        *,
        can_probe: bool = True,
    ) -> Settled:
        """Write down how a message's request ended."""
        delivery, state = self._before(channel, transition)
        self._ledger.end_request(channel, now)
        parts = [part for part in self._ledger.parts(delivery) if part.is_sending]
        step = retry.follow(outcome, self._trial(parts, state, can_probe=can_probe))
        for part in parts:
            self._ledger.end_try(part, step.stage, outcome, leaves_digest=step.split)
        self._write_down(channel, step, outcome, len(parts), now)
        return self._end(delivery, state, parts, step)

    def settle_probe(
        self, channel: str, transition: Transition, outcome: Outcome, now: float
    ) -> Settled:
        """Write down how a probe ended, and what that means for the message in doubt."""
        delivery, state = self._before(channel, transition)
        self._ledger.end_request(channel, now)
        parts = self._ledger.parts(delivery)
        step = retry.follow_probe(outcome, self._trial(parts, state, can_probe=True))
        if step.ends_doubt:
            self._ledger.end_doubt(channel)
        else:
            self._ledger.fail(channel, outcome.reason, step, now)
        self._close_room(channel, step, now)
        if step.ends_turn:
            self._ledger.count(channel, f"notifications {step.stage.value}", len(parts))
            for part in parts:
                self._ledger.give_up(part, step.stage)
        return self._end(delivery, state, parts, step)

    def recover(self, ours: Collection[tuple[str, int]], now: float) -> list[tuple[str, Settled]]:
        """Settle what a courier was sending when it died, unless it is *ours* (channel, number)."""
        settled = []
        for delivery in self._ledger.interrupted():
            if (delivery.channel, delivery.transition) not in ours:
                transition = self._ledger.transition(delivery.transition)
                outcome = self.settle(delivery.channel, transition, INTERRUPTED, now)
                settled.append((delivery.channel, outcome))
        for channel in set(self._ledger.under_way()) - {name for name, _ in ours}:
            self._ledger.end_request(channel, now)
        return settled

    def _before(self, channel: str, transition: Transition) -> tuple[Delivery, ChannelState]:
        delivery = self._ledger.delivery(channel, transition.id)
        state = self._ledger.channel(channel)
        assert delivery is not None, "begin_try made it"
        assert state is not None, "a channel has its cursor before its first turn"
        return delivery, state

    def _trial(self, parts: list[Delivery], state: ChannelState, *, can_probe: bool) -> retry.Trial:
        return retry.Trial(
            unknown=max(part.unknown for part in parts),
            failures=state.failures,
            tried_for=max(part.tried_for for part in parts),
            chance=self._chance(),
            can_probe=can_probe,
            is_digest=len(parts) > 1,
        )

    def _end(
        self, delivery: Delivery, state: ChannelState, parts: list[Delivery], step: retry.Step
    ) -> Settled:
        """End the turns of all up to the last that was told, the unwanted among them too."""
        numbers = {part.transition for part in parts}
        if step.ends_turn and delivery.late is Late.NO:
            queue = self._ledger.queue(state, max(numbers))
            end_turns(self._ledger, state, queue, numbers if step.stage.is_told else ())
        return Settled(step.stage, [self._ledger.transition(number) for number in sorted(numbers)])

    def _write_down(
        self, channel: str, step: retry.Step, outcome: Outcome, parts: int, now: float
    ) -> None:
        """Write down what a request says of its channel and its room."""
        self._ledger.count(channel, "requests")
        if step.stage is Stage.DELIVERED:
            self._ledger.succeed(channel, now)
        elif outcome is INTERRUPTED:
            # Not the room's failure, so no reason to wait.
            self._ledger.doubt(channel)
        else:
            self._ledger.fail(channel, outcome.reason, step, now)
            self._ledger.count(channel, f"failed {outcome.verdict.name.lower()}")
        if step.ends_turn:
            self._ledger.count(channel, f"notifications {step.stage.value}", parts)
        self._close_room(channel, step, now)

    def _close_room(self, channel: str, step: retry.Step, now: float) -> None:
        known = self._rooms.channels.get(channel)
        if step.closed_for and known is not None:
            self._ledger.close_room(self._rooms.room(known), now + step.closed_for)


def end_turns(
    ledger: Ledger,
    channel: ChannelState,
    transitions: Iterable[Transition],
    delivered: Collection[int],
) -> None:
    """End the turns of transitions in a channel, of which the *delivered* count as told."""
    last = channel.cursor
    for transition in transitions:
        before = ledger.told(channel.name, transition)
        is_delivered = transition.id in delivered
        after = routing.told_after(transition, before, delivered=is_delivered)
        if after is not before:
            ledger.set_told(channel.name, transition, after)
        last = transition.id
    ledger.move_on(channel.name, last)
