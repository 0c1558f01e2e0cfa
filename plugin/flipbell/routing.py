"""Whether a room hears of a transition, and why: pure decisions, no I/O."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flipbell.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flipbell.model import Channel, Pattern, Transition


class Reason(enum.Enum):
    """Why a room hears of a transition, or does not."""

    PROBLEM = "a new problem"
    CHANGED = "the problem changed"
    RECOVERED = "all is well again"
    NO_MATCH = "the channel does not match this host and check"
    EXCLUDED = "the channel excludes this host and check"
    NOT_WANTED = "the channel does not send this status"
    ALREADY_TOLD = "the room was told of this status already"
    NO_PROBLEM_TOLD = "the room has not been told of a problem"
    VETOED = "an extension vetoed it"
    NOTICE = "it is about flipbell itself"
    FORGOTTEN = "the operator had the check forgotten"
    ONCE_MORE = "the operator asked for it once more"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the room hears (*send*), whether it rings (*notify*), and why."""

    send: bool
    notify: bool
    reason: Reason


def decide(transition: Transition, channel: Channel, told: Status | None) -> Decision:
    """Decide whether a room hears of a transition.

    *told* is the status that the room was last told of in this incident; None if it was told
    of nothing since all was well.
    """
    if transition.is_notice:
        return Decision(send=True, notify=False, reason=Reason.NOTICE)
    if transition.is_forgotten and told is not None:
        return Decision(send=True, notify=False, reason=Reason.FORGOTTEN)
    reason = _why_not(transition, channel, told)
    if reason is not None:
        return Decision(send=False, notify=False, reason=reason)
    return Decision(
        send=True,
        notify=transition.status in channel.notify,
        reason=_why(transition.status, told),
    )


def _why_not(transition: Transition, channel: Channel, told: Status | None) -> Reason | None:
    if not _matches(transition, channel.match):
        return Reason.NO_MATCH
    if _matches(transition, channel.exclude):
        return Reason.EXCLUDED
    if transition.status is Status.OK and told is None:
        return Reason.NO_PROBLEM_TOLD
    if transition.status not in channel.send:
        return Reason.NOT_WANTED
    if transition.status is told:
        return Reason.ALREADY_TOLD
    return None


def _why(status: Status, told: Status | None) -> Reason:
    if status is Status.OK:
        return Reason.RECOVERED
    return Reason.PROBLEM if told is None else Reason.CHANGED


def _matches(transition: Transition, patterns: Iterable[Pattern]) -> bool:
    return any(
        fnmatchcase(transition.host, pattern.host) and fnmatchcase(transition.check, pattern.check)
        for pattern in patterns
    )


def told_after(transition: Transition, told: Status | None, *, delivered: bool) -> Status | None:
    """Return what the room was told in this incident once its turn has ended.

    An OK ends the incident for every room, whether it was wanted, vetoed or sent. What was not
    delivered leaves what was told as it was.
    """
    if transition.ends_incident or transition.is_notice:
        return None
    return transition.status if delivered else told
