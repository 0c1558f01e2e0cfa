"""What follows from an outcome: every verdict, with the clock and the dice in hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flipbell.model import Outcome, Verdict
from flipbell.retry import GIVE_UP_AFTER, MAX_CLOSED, Step, Trial, follow, follow_probe

TRIAL = Trial(unknown=0, failures=0, tried_for=0.0, chance=1.0)


def _follow(verdict: Verdict, asked: float = 0.0, **values: Any) -> Step:
    return follow(Outcome(verdict, "reason", asked), replace(TRIAL, **values))


def _probe(verdict: Verdict, **values: Any) -> Step:
    return follow_probe(Outcome(verdict, "reason"), replace(TRIAL, **values))


def test_delivered_is_told() -> None:
    step = _follow(Verdict.DELIVERED)

    assert (step.stage.value, step.stage.is_told, step.ends_turn) == ("delivered", True, True)


def test_refused_is_given_up_and_not_told() -> None:
    step = _follow(Verdict.REFUSED)

    assert (step.stage.value, step.stage.is_told, step.ends_turn) == ("dead", False, True)


def test_a_digest_that_is_refused_is_split() -> None:
    step = _follow(Verdict.REFUSED, is_digest=True)

    assert (step.stage.value, step.split, step.delay) == ("waiting", True, 0)


def test_an_unknown_outcome_alone_gives_nothing_up() -> None:
    steps = [_follow(Verdict.UNKNOWN, unknown=unknown) for unknown in range(5)]

    assert {(step.stage.value, step.doubtful) for step in steps} == {("waiting", True)}


def test_repeats_are_apart_as_a_room_may_answer_probes_and_take_no_message() -> None:
    steps = [_follow(Verdict.UNKNOWN, unknown=unknown) for unknown in range(4)]

    assert [step.delay for step in steps] == [1, 20, 60, 60]
    assert _follow(Verdict.UNKNOWN, failures=6).delay == 60


def test_three_unknown_outcomes_count_as_perhaps_once_the_room_works() -> None:
    steps = [_probe(Verdict.DELIVERED, unknown=unknown) for unknown in (1, 2, 3)]

    assert [step.stage.value for step in steps] == ["waiting", "waiting", "perhaps"]
    assert all(step.ends_doubt for step in steps)
    assert steps[2].stage.is_told
    assert _probe(Verdict.UNKNOWN, unknown=3).stage.value == "waiting"


def test_only_a_server_that_answers_ends_the_doubt() -> None:
    ends = {verdict: _probe(verdict, unknown=1).ends_doubt for verdict in Verdict}

    assert [verdict for verdict in ends if ends[verdict]] == [Verdict.DELIVERED, Verdict.REFUSED]


def test_a_room_that_cannot_be_probed_gets_a_repeat_after_longer_and_longer() -> None:
    steps = [_follow(Verdict.UNKNOWN, unknown=unknown, can_probe=False) for unknown in range(6)]

    assert [step.delay for step in steps] == [1, 60, 600, 3600, 3600, 3600]
    assert not any(step.doubtful for step in steps)


@pytest.mark.parametrize(
    ("verdict", "unknown", "stage"),
    [
        (Verdict.RETRY, 0, "dead"),
        (Verdict.PAUSE, 0, "dead"),
        (Verdict.RETRY, 1, "perhaps"),
        (Verdict.UNKNOWN, 0, "perhaps"),
    ],
)
def test_gives_up_after_three_days_of_trying(verdict: Verdict, unknown: int, stage: str) -> None:
    assert _follow(verdict, unknown=unknown, tried_for=GIVE_UP_AFTER).stage.value == "waiting"
    assert _follow(verdict, unknown=unknown, tried_for=GIVE_UP_AFTER + 1).stage.value == stage


def test_probes_give_up_after_three_days_as_well() -> None:
    assert _probe(Verdict.RETRY, unknown=1, tried_for=GIVE_UP_AFTER + 1).stage.value == "perhaps"


def test_backs_off_to_a_minute_half_of_it_by_chance() -> None:
    delays = [_follow(Verdict.RETRY, failures=failures).delay for failures in range(9)]

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert _follow(Verdict.RETRY, failures=3, chance=0.0).delay == 4
    assert _follow(Verdict.RETRY, failures=10_000).delay == 60


def test_a_pause_is_longer_and_says_so() -> None:
    step = _follow(Verdict.PAUSE, failures=2)

    assert (step.delay, step.paused) == (120, True)
    assert _follow(Verdict.PAUSE, failures=50).delay == 900


def test_the_server_is_left_alone_as_long_as_it_asks_within_reason() -> None:
    assert _follow(Verdict.RETRY, asked=17.0).closed_for == 17
    assert _follow(Verdict.RETRY, asked=9e9).closed_for == MAX_CLOSED
