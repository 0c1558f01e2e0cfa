"""Routing, judged by the sentence that promises it: a predicate over a whole history."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest

from flipbell import routing
from flipbell.model import Channel, Pattern, Status, Transition
from flipbell.routing import Decision, Reason, decide, told_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Decide = Callable[[Transition, Channel, "Status | None"], Decision]
    ToldAfter = Callable[..., "Status | None"]

OK, WARNING, CRITICAL, UNKNOWN = Status
CHANNEL = Channel(
    name="ops",
    type="hipchat",
    send=frozenset(Status),
    notify=frozenset({CRITICAL}),
    color={},
    mention={},
)


def _transition(status: Status, previous: Status | None = None) -> Transition:
    return Transition(1, "web-01", "disk", previous, status, "", 0.0)


def _histories() -> Iterator[tuple[tuple[Status, ...], frozenset[Status]]]:
    sends = [frozenset(some) for size in range(5) for some in combinations(Status, size)]
    yield from product(product(Status, repeat=4), sends)


def _messages(
    statuses: Sequence[Status],
    send: frozenset[Status],
    decide: Decide = decide,
    told_after: ToldAfter = told_after,
) -> list[bool]:
    """Return for each result of a check whether the room heard of it."""
    channel = replace(CHANNEL, send=send)
    told: Status | None = None
    previous: Status | None = None
    heard = []
    for status in statuses:
        is_heard = False
        if status is not previous:
            transition = _transition(status, previous)
            is_heard = decide(transition, channel, told).send
            told = told_after(transition, told, delivered=is_heard)
        heard.append(is_heard)
        previous = status
    return heard


def _is_allowed(statuses: Sequence[Status], send: frozenset[Status], heard: list[bool]) -> bool:
    """Say whether these messages are the ones that the promise allows, and all of them.

    Told iff wanted and different from what the room was last told in this incident; an OK ends
    the incident; a recovery only where the incident was told of.
    """
    for index, status in enumerate(statuses):
        before = statuses[:index]
        start = max((i + 1 for i, earlier in enumerate(before) if earlier is OK), default=0)
        told = [statuses[i] for i in range(start, index) if heard[i]]
        differs = bool(told) if status is OK else told[-1:] != [status]
        if heard[index] != (status in send and differs):
            return False
    return True


def test_all_histories_are_told_as_promised() -> None:
    histories = list(_histories())

    assert len(histories) == 4096
    assert [h for h in histories if not _is_allowed(*h, _messages(*h))] == []


def _by_previous_status(transition: Transition, channel: Channel, _: Status | None) -> Decision:
    return decide(transition, channel, transition.previous)


def _without(reason: Reason) -> Decide:
    def mutant(transition: Transition, channel: Channel, told: Status | None) -> Decision:
        decision = decide(transition, channel, told)
        return replace(decision, send=decision.send or decision.reason is reason)

    return mutant


def _ok_ends_nothing(transition: Transition, told: Status | None, *, delivered: bool) -> object:
    return transition.status if delivered else told


def _ok_ends_only_if_told(
    transition: Transition, told: Status | None, *, delivered: bool
) -> object:
    return told_after(transition, told, delivered=delivered) if delivered else told


def _unwanted_counts_as_told(transition: Transition, *_: object, delivered: bool) -> object:
    del delivered
    return told_after(transition, None, delivered=True)


MUTANTS = {
    "compares with the check's previous status": (_by_previous_status, told_after),
    "sends a recovery of what was not told": (_without(Reason.NO_PROBLEM_TOLD), told_after),
    "repeats what was told": (_without(Reason.ALREADY_TOLD), told_after),
    "ignores what the room wants": (_without(Reason.NOT_WANTED), told_after),
    "lets an OK end no incident": (decide, _ok_ends_nothing),
    "lets only an OK that is sent end the incident": (decide, _ok_ends_only_if_told),
    "takes what was not sent for told": (decide, _unwanted_counts_as_told),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_routing_dies(name: str) -> None:
    mutant_decide, mutant_told_after = MUTANTS[name]

    broken = [
        history
        for history in _histories()
        if not _is_allowed(*history, _messages(*history, mutant_decide, mutant_told_after))  # type: ignore[arg-type]
    ]

    assert broken


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (CRITICAL, None, Reason.PROBLEM),
        (CRITICAL, WARNING, Reason.CHANGED),
        (OK, WARNING, Reason.RECOVERED),
        (CRITICAL, CRITICAL, Reason.ALREADY_TOLD),
        (OK, None, Reason.NO_PROBLEM_TOLD),
    ],
)
def test_gives_the_reason(status: Status, told: Status | None, reason: Reason) -> None:
    assert decide(_transition(status), CHANNEL, told).reason is reason


def test_notify_is_whether_it_rings_not_whether_it_is_sent() -> None:
    assert decide(_transition(CRITICAL), CHANNEL, None) == Decision(True, True, Reason.PROBLEM)
    assert decide(_transition(WARNING), CHANNEL, None) == Decision(True, False, Reason.PROBLEM)


@pytest.mark.parametrize(
    ("match", "exclude", "reason"),
    [
        ([Pattern("web-*", "*")], [], Reason.PROBLEM),
        ([Pattern("db-*", "*"), Pattern("*", "disk")], [], Reason.PROBLEM),
        ([Pattern("WEB-*", "*")], [], Reason.NO_MATCH),
        ([Pattern("web-*", "cpu")], [], Reason.NO_MATCH),
        ([Pattern()], [Pattern("*", "d[hi]sk")], Reason.EXCLUDED),
    ],
)
def test_matches_host_and_check_by_case_sensitive_globs(
    match: list[Pattern], exclude: list[Pattern], reason: Reason
) -> None:
    channel = replace(CHANNEL, match=tuple(match), exclude=tuple(exclude))

    assert decide(_transition(CRITICAL), channel, None).reason is reason


def test_a_dead_letter_leaves_what_was_told_as_it_was() -> None:
    assert routing.told_after(_transition(CRITICAL), WARNING, delivered=False) is WARNING
    assert routing.told_after(_transition(OK), WARNING, delivered=False) is None
