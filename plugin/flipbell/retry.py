"""What follows from the outcome of a request: pure, with the clock and the dice passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flipbell.model import Stage, Verdict

if TYPE_CHECKING:
    from flipbell.model import Outcome

GIVE_UP_AFTER = 72 * 3600.0  # seconds of trying
# Requests with an unknown outcome; a server that accepts and answers late must not get a message
# for ever.
UNKNOWN_LIMIT = 3
MAX_CLOSED = 3600.0  # seconds that a server may ask to be left alone
# Seconds until a repeat to a room that cannot be probed, by the number of unknown outcomes.
_UNPROBED = (1.0, 60.0, 600.0, 3600.0)
# Seconds at least until a room that can be probed is, by the number of unknown outcomes: it may
# answer probes while it takes no messages.
_PROBED = (1.0, 20.0, 60.0)
_FIRST_DELAY = 1.0
_RETRY_CAP = 60.0
_FIRST_PAUSE = 30.0
_PAUSE_CAP = 900.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next: the message's stage, and how long its channel waits (seconds).

    *delay* is our own back-off, *closed_for* what the server asked for. A *doubtful* channel has
    its room probed before anything else is sent, until a probe *ends the doubt*. A digest that is
    *split* goes on as the messages of its changes.
    """

    stage: Stage
    delay: float = 0.0
    closed_for: float = 0.0
    paused: bool = False
    doubtful: bool = False
    ends_doubt: bool = False
    split: bool = False

    @property
    def ends_turn(self) -> bool:
        """Whether the channel goes on to its next transition."""
        return self.stage is not Stage.WAITING


@dataclass(frozen=True, slots=True)
class Trial:
    """What is known of a message and its channel when a request for it has ended.

    *unknown* counts the earlier requests whose outcome is unknown, *failures* the channel's
    failures in a row, *tried_for* the seconds of trying to deliver the message; *chance* is from
    0 to 1; *can_probe* is whether the room can be asked if it works, *is_digest* whether the
    message tells several changes.
    """

    unknown: int
    failures: int
    tried_for: float
    chance: float
    can_probe: bool = True
    is_digest: bool = False


def follow(outcome: Outcome, trial: Trial) -> Step:
    """Return what follows from the outcome of a message's request.

    An unknown outcome alone gives nothing up: the room may have been away all the time. Only when
    it works again is the message repeated, or left as perhaps delivered.
    """
    verdict = outcome.verdict
    closed_for = min(outcome.retry_after, MAX_CLOSED)
    if verdict is Verdict.DELIVERED:
        return Step(Stage.DELIVERED, closed_for=closed_for)
    if verdict is Verdict.REFUSED:
        # One change may be what the server cannot take: the others must not be lost with it.
        return Step(Stage.WAITING, split=True) if trial.is_digest else Step(Stage.DEAD)
    if verdict is Verdict.UNKNOWN:
        trial = replace(trial, unknown=trial.unknown + 1)
    return _wait(verdict, trial, closed_for)


def follow_probe(outcome: Outcome, trial: Trial) -> Step:
    """Return what follows from the outcome of a probe, for the message whose outcome is unknown.

    A server that refuses the probe itself, as one that knows none may, works as well.
    """
    closed_for = min(outcome.retry_after, MAX_CLOSED)
    if outcome.verdict in (Verdict.DELIVERED, Verdict.REFUSED):
        is_enough = trial.unknown >= UNKNOWN_LIMIT
        stage = Stage.PERHAPS if is_enough else Stage.WAITING
        return Step(stage, closed_for=closed_for, ends_doubt=True)
    return _wait(outcome.verdict, trial, closed_for)


def _wait(verdict: Verdict, trial: Trial, closed_for: float) -> Step:
    """Return how long to wait with a message, or give it up after three days of trying."""
    if trial.tried_for > GIVE_UP_AFTER:
        return Step(Stage.PERHAPS if trial.unknown else Stage.DEAD)
    if verdict is Verdict.PAUSE:
        delay = _back_off(_FIRST_PAUSE, _PAUSE_CAP, trial)
        return Step(Stage.WAITING, delay, closed_for, paused=True)
    delay = _back_off(_FIRST_DELAY, _RETRY_CAP, trial)
    if verdict is not Verdict.UNKNOWN:
        return Step(Stage.WAITING, delay, closed_for)
    if trial.can_probe:
        least = _at(_PROBED, trial.unknown) * (0.5 + 0.5 * trial.chance)
        return Step(Stage.WAITING, max(delay, least), closed_for, doubtful=True)
    return Step(Stage.WAITING, _at(_UNPROBED, trial.unknown), closed_for)


def _at(delays: tuple[float, ...], unknown: int) -> float:
    """Return the delay after so many unknown outcomes; the last one for any more."""
    return delays[min(unknown, len(delays)) - 1]


def _back_off(first: float, most: float, trial: Trial) -> float:
    """Double the delay with each failure; half of it is left to chance, so that hosts spread."""
    full = min(most, first * 2.0 ** min(trial.failures, 20))
    return full * (0.5 + 0.5 * trial.chance)
