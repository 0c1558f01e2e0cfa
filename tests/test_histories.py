"""All histories of four results, with all outcomes of each request, against promise 2.

"A room is told when a check's status is one that the room wants and differs from what that room
was last told in this incident; an OK ends the incident for every room, told or not."
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from flipbell import state
from flipbell.channels.hipchat import HipChatSender
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.model import Outcome, Status, Verdict
from flipbell.settling import Settling
from flipbell.turns import Turns
from test_routing import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from flipbell.channels.hipchat import HipChatSettings
    from flipbell.model import Channel

OK, WARNING, CRITICAL, UNKNOWN = Status
DELIVERED = (Verdict.DELIVERED,)
RETRIED = (Verdict.RETRY, Verdict.PAUSE, Verdict.DELIVERED)
REPEATED = (Verdict.UNKNOWN, Verdict.DELIVERED)
REFUSED = (Verdict.REFUSED,)
PERHAPS = (Verdict.UNKNOWN,) * 3
FATES = (DELIVERED, RETRIED, REPEATED, REFUSED, PERHAPS)
SHORT = (DELIVERED, REFUSED)
WORKS = Outcome(Verdict.DELIVERED)


class OneRoom:
    """A room whose requests end as the test says."""

    def __init__(self, channel: Channel) -> None:
        self.channels = {channel.name: channel}

    def room(self, _: Channel) -> str:
        return "room"

    def sender(self, _: Channel) -> HipChatSender:
        return HipChatSender(cast("HipChatSettings", None))

    def concerns(self, _: str) -> bool:
        return True


def promised(
    history: Sequence[Status], send: frozenset[Status], fates: Sequence[tuple[Verdict, ...]]
) -> list[tuple[Status, int]]:
    """Return what the room is asked to hear, with the number of requests for each: the oracle."""
    asked: list[tuple[Status, int]] = []
    left = iter(fates)
    told: Status | None = None  # in this incident
    before: Status | None = None
    for status in history:
        if status is before:
            continue
        is_news = status is not told if told is not None else status is not OK
        if is_news and status in send:
            fate = next(left)
            asked.append((status, len(fate)))
            if fate is not REFUSED:
                told = status
        if status is OK:
            told = None
        before = status
    return asked


class Run:
    """Takes one history after another, each as a check of its own."""

    def __init__(self, directory: str, send: frozenset[Status]) -> None:
        colors = dict.fromkeys(Status, "red")
        channel = replace(CHANNEL, send=send, per_minute=0, color=colors)
        self.ledger = Ledger.open(directory)
        room: Any = OneRoom(channel)
        self._turns = Turns(self.ledger, room, Extensions())
        self._settling = Settling(self.ledger, room, lambda: 0.0)
        self._name = channel.name
        self._time = 1000.0
        self.ledger.enroll(channel.name, 0)

    def take(self, check: str, history: Sequence[Status]) -> None:
        """Record a history."""
        lines = []
        for status in history:
            self._time += 1
            lines.append((self._time, status.value, "h", check, "", True))
        self.ledger.take(lines, ("s", int(self._time)), self._time)

    def deliver(self, fates: Iterator[tuple[Verdict, ...]]) -> list[tuple[Status, int]]:
        """Have everything delivered, each message with the next fate."""
        asked: list[tuple[Status, int]] = []
        last = -1
        fate: Iterator[Verdict] = iter(())
        while True:
            self._time += 4000  # past every back-off
            jobs = self._turns.next_jobs((), self._time)
            if not jobs:
                return asked
            (job,) = jobs
            if job.notification is None:
                self._settling.settle_probe(self._name, job.transition, WORKS, self._time)
                continue
            if job.transition.id != last:
                last, fate = job.transition.id, iter(next(fates))
                asked.append((job.transition.status, 0))
            asked[-1] = (asked[-1][0], asked[-1][1] + 1)
            is_repeat = "(repeat" in job.notification.message
            assert is_repeat == (asked[-1][1] > 1 and self._was_unknown(job.transition.id))
            outcome = Outcome(next(fate), "r")
            self._settling.settle(self._name, job.transition, outcome, self._time)

    def _was_unknown(self, transition: int) -> bool:
        delivery = self.ledger.delivery(self._name, transition)
        return delivery is not None and delivery.unknown > 0


@pytest.mark.parametrize(
    "send",
    [frozenset(Status), frozenset({CRITICAL}), frozenset({OK, WARNING, CRITICAL})],
    ids=["all", "critical", "no unknown"],
)
def test_every_history_with_every_outcome(
    tmp_path: Path, figures: list[str], send: frozenset[Status], *, is_long: bool
) -> None:
    state.prepare(str(tmp_path / "state"))
    run = Run(str(tmp_path / "state"), send)
    fates = FATES if is_long else SHORT
    count = 0
    with run.ledger.transaction():
        for history in itertools.product(Status, repeat=4):
            most = len(promised(history, send, [DELIVERED] * 4))
            for outcomes in itertools.product(fates, repeat=most):
                padded = [*outcomes, *[DELIVERED] * 4]
                run.take(f"c{count}", history)
                assert run.deliver(iter(padded)) == promised(history, send, padded), (
                    history,
                    outcomes,
                )
                count += 1
    run.ledger.close()

    figures.append(f"histories: {count} of four results with their outcomes")
