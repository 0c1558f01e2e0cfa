"""What follows from an outcome: every verdict, with the clock and the dice in hand."""

from __future__ import annotations

import pytest

from flipbell.model import Outcome, Verdict
from flipbell.retry import GIVE_UP_AFTER, MAX_CLOSED, Step, follow


def _follow(verdict: Verdict, **given: float) -> Step:
    values = {"unknown": 0, "failures": 0, "tried_for": 0.0, "chance": 1.0, "asked": 0.0, **given}
    outcome = Outcome(verdict, "reason", values.pop("asked"))
    return follow(outcome, **values)  # type: ignore[arg-type]


def test_delivered_is_told() -> None:
    step = _follow(Verdict.DELIVERED)

    assert (step.stage.value, step.stage.is_told, step.ends_turn) == ("delivered", True, True)


def test_refused_is_given_up_and_not_told() -> None:
    step = _follow(Verdict.REFUSED)

    assert (step.stage.value, step.stage.is_told, step.ends_turn) == ("dead", False, True)


def test_three_unknown_outcomes_count_as_perhaps_delivered() -> None:
    steps = [_follow(Verdict.UNKNOWN, unknown=unknown) for unknown in range(3)]

    assert [step.stage.value for step in steps] == ["waiting", "waiting", "perhaps"]
    assert steps[2].stage.is_told


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.UNKNOWN, Verdict.PAUSE])
def test_gives_up_after_three_days_of_trying(verdict: Verdict) -> None:
    assert _follow(verdict, tried_for=GIVE_UP_AFTER).stage.value == "waiting"
    assert _follow(verdict, tried_for=GIVE_UP_AFTER + 1).stage.value == "dead"


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
