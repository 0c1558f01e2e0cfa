"""Random histories of several checks, told by messages and digests that fail in every way.

Unwanted statuses, limits, retries, kills, vetoes and forgotten checks at once. The judge reads the
promise: it sees what was recorded, each request's text and how that request ended, and no more.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from flipbell import digest as digests
from flipbell import routing, state
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.model import Channel, Outcome, Status, Transition, Verdict
from flipbell.settling import Settling
from flipbell.spool import FORGET
from flipbell.turns import Turns
from test_histories import OneRoom
from test_routing import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from flipbell.turns import Job

OK, WARNING, CRITICAL, UNKNOWN = Status
SENDS = [frozenset(some) for size in (1, 2, 3, 4) for some in itertools.combinations(Status, size)]
PER_MINUTE = (0, 1, 2, 3)
KILLED = "killed"
"""Not an outcome: the courier dies while it is sending, and another one goes on."""
SPLIT = "split"
"""A digest was refused, and its changes are told one by one."""

END = (Verdict.DELIVERED, Verdict.DELIVERED, Verdict.DELIVERED, Verdict.REFUSED)
TRY = (*END, Verdict.RETRY, Verdict.UNKNOWN, Verdict.PAUSE, KILLED)


@dataclass
class Change:
    """A recorded change, and what the room was asked to hear of it."""

    check: str
    status: Status | None
    """None if the operator had the check forgotten."""

    is_vetoed: bool
    requests: list[tuple[bool, Verdict | str]] = field(default_factory=list)
    """Each request that told it: whether it said that it may be a repeat, and how it ended.

    The refusal of a digest is none of its changes' end.
    """

    @property
    def is_perhaps(self) -> bool:
        """Whether three requests had an unknown outcome."""
        return sum(end in (Verdict.UNKNOWN, KILLED) for _, end in self.requests) >= 3

    @property
    def is_told(self) -> bool:
        """Whether it counts as told."""
        return self.is_perhaps or any(end is Verdict.DELIVERED for _, end in self.requests)


def faults(changes: Sequence[Change], send: frozenset[Status]) -> Iterator[str]:
    """Yield what breaks the promise in the changes of one check, in the order of their recording.

    Told if the room wants the status and it differs from what the room was last told in this
    incident; an OK ends the incident, told or not; a recovery only if the problem was told; a
    check that is forgotten closes what was told of it.
    """
    told: Status | None = None
    for number, change in enumerate(changes):
        for fault in _faults_of(change, _is_due(change, told, send)):
            yield f"change {number}: {fault}"
        if change.status in (OK, None):
            told = None
        elif change.is_told:
            told = change.status


def _is_due(change: Change, told: Status | None, send: frozenset[Status]) -> bool:
    if change.is_vetoed:
        return False
    if change.status is None:
        return told is not None
    differs = told is not None if change.status is OK else told is not change.status
    return differs and change.status in send


def _faults_of(change: Change, is_due: bool) -> Iterator[str]:
    ends = [end for _, end in change.requests]
    if not is_due and ends and ends[-1] is not SPLIT:
        yield "told, though the room does not want it"
    if is_due and not ends:
        yield "never told"
    if is_due and ends and not (change.is_told or ends[-1] is Verdict.REFUSED):
        yield "tried, and then dropped"
    if len(ends) > 1 and any(end in (Verdict.DELIVERED, Verdict.REFUSED) for end in ends[:-1]):
        yield "told again, though its end was known"
    if sum(end in (Verdict.UNKNOWN, KILLED) for end in ends) > 3:
        yield "a fourth request with an unknown outcome"
    for number, (is_repeat, _) in enumerate(change.requests):
        if not is_repeat and any(end in (Verdict.UNKNOWN, KILLED) for end in ends[:number]):
            yield "a repeat without its label"


def _most_in_a_minute(arrivals: Sequence[float]) -> int:
    """Return how many requests reached the room within any one minute."""
    return max((sum(0 <= other - time < 60 for other in arrivals) for time in arrivals), default=0)


class Site:
    """One ledger in which one history after another is played, each with checks of its own."""

    def __init__(self, directory: str, dice: random.Random) -> None:
        self.ledger = Ledger.open(directory)
        self._dice = dice
        self._time = 1e9
        self._changes: dict[int, Change] = {}
        self._arrivals: list[float] = []
        self._vetoes = _Vetoes(self._changes)

    def play(self, number: int) -> list[str]:
        """Play a history; return what broke the promise."""
        dice = self._dice
        send = dice.choice(SENDS)
        channel = replace(
            CHANNEL,
            name=f"channel-{number}",
            send=send,
            per_minute=dice.choice(PER_MINUTE),
            format="text",
            color=dict.fromkeys(Status, "red"),
        )
        self._changes.clear()
        self._arrivals.clear()
        with self.ledger.transaction():
            self.ledger.enroll(channel.name, self.ledger.last_transition())
            waiting = self._history(number)
            while waiting:
                some = [waiting.pop(0) for _ in range(min(len(waiting), dice.randint(1, 12)))]
                self._record(some)
                self._deliver(channel, requests=dice.randint(0, 6), ends=TRY)
            self._deliver(channel, requests=1000, ends=END)
            left = self.ledger.channel(channel.name)
            assert left is not None
            assert self.ledger.head(left) is None
            self.ledger._db.execute("DELETE FROM channels WHERE name = ?", (channel.name,))
        most = _most_in_a_minute(self._arrivals)
        too_many = [f"{most} requests in a minute"] if 0 < channel.per_minute < most else []
        return too_many + [
            f"{fault}: {change_list}"
            for _, change_list in self._by_check().items()
            for fault in faults(change_list, send)
        ]

    def _history(self, number: int) -> list[tuple[str, int]]:
        """Return results of up to four checks in their order, as check and code."""
        checks = [f"check-{number}-{which}" for which in range(self._dice.randint(1, 4))]
        codes = (0, 0, 1, 2, 2, 3, FORGET)
        return [
            (self._dice.choice(checks), self._dice.choice(codes))
            for _ in range(self._dice.randint(1, 25))
        ]

    def _record(self, results: Sequence[tuple[str, int]]) -> None:
        for check, code in results:
            self._time += 1
            last = self.ledger.last_transition()
            line = (self._time, code, "h", check, f"n{last + 1}.", False)
            self.ledger.take([line], ("spool", int(self._time)), self._time)
            if self.ledger.last_transition() > last:
                status = None if code == FORGET else Status(code)
                is_vetoed = self._dice.random() < 0.1
                self._changes[last + 1] = Change(check, status, is_vetoed)

    def _by_check(self) -> dict[str, list[Change]]:
        checks: dict[str, list[Change]] = {}
        for change in self._changes.values():
            checks.setdefault(change.check, []).append(change)
        return checks

    def _deliver(self, channel: Channel, requests: int, ends: Sequence[Any]) -> None:
        """Make requests, each of which ends by chance."""
        room: Any = OneRoom(channel)
        turns = Turns(self.ledger, room, self._vetoes)
        settling = Settling(self.ledger, room, lambda: 0.0)
        for _ in range(requests):
            self._time += self._dice.choice((0.0, 30.0, 70.0, 4000.0))
            jobs = turns.next_jobs((), self._time)
            if jobs:
                self._end(settling, jobs[0], self._dice.choice(ends))
            elif not turns.undelivered():
                return

    def _end(self, settling: Settling, job: Job, end: Verdict | str) -> None:
        begin = self._time
        self._time += self._dice.choice((0.0, 0.1, 5.0, 20.0))
        self._arrivals.append(self._dice.uniform(begin, self._time))
        if job.notification is not None:
            is_repeat = "(repeat" in job.notification.message
            numbers = self._told_by(job)
            is_split = len(numbers) > 1 and end is Verdict.REFUSED
            for number in numbers:
                self._changes[number].requests.append((is_repeat, SPLIT if is_split else end))
        if end == KILLED:
            settling.recover((), self._time)
        elif job.is_probe:
            outcome = Outcome(Verdict(end), "why")
            settling.settle_probe(job.channel, job.transition, outcome, self._time)
        else:
            settling.settle(job.channel, job.transition, Outcome(Verdict(end), "why"), self._time)

    def _told_by(self, job: Job) -> Sequence[int]:
        """Return the changes that a message tells, by its text; a forgotten check has no output."""
        assert job.notification is not None
        text = job.notification.message
        numbers = [int(digits) for digits in re.findall(r"\bn(\d+)\.", text)]
        if "(forgotten)" in text:
            return [job.transition.id]
        for heading, lines in re.findall(r"(?m)^(check-\S+) on h\n((?:.*UTC  .*\n?)+)", text):
            gone = [
                number
                for number, change in self._changes.items()
                if change.check == heading and change.status is None
            ]
            count = lines.count("FORGOTTEN")
            if count:
                numbers += self._forgotten_in(job, gone, count)
        return numbers

    def _forgotten_in(self, job: Job, gone: Sequence[int], count: int) -> list[int]:
        """Return which of a check's forgettings a digest tells: the ledger marks them."""
        parts = {part.transition for part in self.ledger.in_digest(job.channel, job.transition.id)}
        told = [number for number in gone if number in parts]
        assert len(told) == count
        return told


class _Vetoes(Extensions):
    def __init__(self, changes: dict[int, Change]) -> None:
        super().__init__()
        self._changes = changes

    def veto(self, transition: Transition, channel: str) -> str | None:  # noqa: ARG002
        """Veto what the dice said."""
        change = self._changes.get(transition.id)
        return "the dice said so" if change is not None and change.is_vetoed else None


def _defects(directory: Path, count: int, seed: int) -> list[str]:
    directory.mkdir(exist_ok=True)
    place = directory / str(seed)
    state.prepare(str(place))
    site = Site(str(place), random.Random(seed))
    site.ledger._db.execute("PRAGMA synchronous=OFF")
    try:
        for number in range(count):
            defects = site.play(number)
            if defects:
                return [f"seed {seed}, history {number}: {defect}" for defect in defects]
        return []
    finally:
        site.ledger.close()


def test_random_histories_keep_the_promise(
    tmp_path: Path, figures: list[str], *, is_long: bool
) -> None:
    blocks, count = (200, 500) if is_long else (6, 500)

    defects = [
        defect for seed in range(blocks) for defect in _defects(tmp_path / "sites", count, seed)
    ]

    assert defects == []
    figures.append(f"random histories: {blocks * count} with digests, kills and vetoes, 0 defects")


def _blind_to_unwanted(
    queue: Any, channel: Channel, told: Any, is_vetoed: Any = lambda _: False
) -> Iterator[Any]:
    """Fold as if what the room does not want had never been."""
    some = (one for one in queue if one.status in channel.send or one.is_forgotten)
    return digests.wanted(some, channel, told, is_vetoed)


def _blind_to_vetoes(queue: Any, channel: Channel, told: Any, _: Any = None) -> Iterator[Any]:
    return digests.wanted(queue, channel, told)


def _counted_when_begun(self: Ledger, channel: str, _: float) -> None:
    """Count a request when it begins, though it reaches the room later."""
    self._db.execute("UPDATE requests SET channel = NULL WHERE channel = ?", (channel,))


def _sticky(transition: Transition, told: Status | None, *, delivered: bool) -> Status | None:
    """Keep what was told over an OK that was not sent."""
    if transition.ends_incident and not delivered:
        return told
    return ORIGINAL(transition, told, delivered=delivered)


ORIGINAL = routing.told_after
MUTANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "a fold that does not see what is unwanted": ("flipbell.turns.wanted", _blind_to_unwanted),
    "a fold that is not vetoed": ("flipbell.turns.wanted", _blind_to_vetoes),
    "a limit that counts beginnings": (
        "flipbell.ledger.Ledger.end_request",
        _counted_when_begun,
    ),
    "an unsent OK that ends nothing": ("flipbell.routing.told_after", _sticky),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_line_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])

    assert any(_defects(tmp_path / "sites", 300, seed) for seed in range(4))


def test_the_judge_knows_a_lost_second_incident() -> None:
    lost = [
        Change("c", CRITICAL, False, [(False, Verdict.RETRY), (False, Verdict.DELIVERED)]),
        Change("c", OK, False),
        Change("c", CRITICAL, False),
    ]

    assert [*faults(lost, frozenset({CRITICAL}))] == ["change 2: never told"]
