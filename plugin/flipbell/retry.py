"""What follows from the outcome of a request: pure, with the clock and the dice passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell.model import Stage, Verdict

if TYPE_CHECKING:
    from flipbell.model import Outcome

GIVE_UP_AFTER = 72 * 3600.0  # seconds of trying
UNKNOWN_LIMIT = 3  # a server that accepts and answers late must not get a message for ever
MAX_CLOSED = 3600.0  # seconds that a server may ask to be left alone
_FIRST_DELAY = 1.0
_RETRY_CAP = 60.0
_FIRST_PAUSE = 30.0
_PAUSE_CAP = 900.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: the message's stage, and how long its channel waits (seconds).

    *delay* is our own back-off, *closed_for* what the server asked for.
    """

    stage: Stage
    delay: float = 0.0
    closed_for: float = 0.0
    paused: bool = False

    @property
    def ends_turn(self) -> bool:
        """Whether the channel goes on to its next transition."""
        return self.stage is not Stage.WAITING


def follow(
    outcome: Outcome, *, unknown: int, failures: int, tried_for: float, chance: float
) -> Step:
    """Say what follows from an outcome.

    *unknown* counts the earlier tries of this message whose outcome is unknown, *failures* the
    channel's failures in a row, *tried_for* the seconds of trying to deliver the message;
    *chance* is from 0 to 1.
    """
    verdict = outcome.verdict
    closed_for = min(outcome.retry_after, MAX_CLOSED)
    if verdict is Verdict.DELIVERED:
        return Step(Stage.DELIVERED, closed_for=closed_for)
    if verdict is Verdict.REFUSED:
        return Step(Stage.DEAD)
    if verdict is Verdict.UNKNOWN and unknown + 1 >= UNKNOWN_LIMIT:
        return Step(Stage.PERHAPS)
    if tried_for > GIVE_UP_AFTER:
        return Step(Stage.DEAD)
    if verdict is Verdict.PAUSE:
        delay = _back_off(_FIRST_PAUSE, _PAUSE_CAP, failures, chance)
        return Step(Stage.WAITING, delay, closed_for, paused=True)
    return Step(Stage.WAITING, _back_off(_FIRST_DELAY, _RETRY_CAP, failures, chance), closed_for)


def _back_off(first: float, most: float, failures: int, chance: float) -> float:
    """Double the delay with each failure; half of it is left to chance, so that hosts spread."""
    full = min(most, first * 2.0 ** min(failures, 20))
    return full * (0.5 + 0.5 * chance)
