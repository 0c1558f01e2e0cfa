"""The values that flow through flipbell: no I/O, nothing to configure."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(enum.Enum):
    """A check's status; the value is the exit status that a check plugin reports it by.

    Not ordered: UNKNOWN's 3 does not make it worse than CRITICAL's 2.
    """

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @classmethod
    def from_exit_status(cls, code: int) -> Status:
        """Return the status of a plugin's exit status; what is not 0 to 3 is UNKNOWN."""
        return _BY_CODE.get(code, cls.UNKNOWN)

    @classmethod
    def parse(cls, value: object) -> Status:
        """Read a status as people and agents write it: a word in any case, or an exit status.

        Raises ValueError for a word that is none of the four.
        """
        if isinstance(value, Status):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return cls.from_exit_status(value)
        word = str(value).strip()
        if word.upper() in cls.__members__:
            return cls[word.upper()]
        if word.removeprefix("-").isdecimal():
            return cls.from_exit_status(int(word))
        raise ValueError(f"expected OK, WARNING, CRITICAL, UNKNOWN or a number, got {value!r}")


_BY_CODE = {status.value: status for status in Status}
WORST_FIRST = (Status.CRITICAL, Status.UNKNOWN, Status.WARNING, Status.OK)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one run of a check reported.

    *occurred_at* is when the check ended, in seconds since the epoch; without it, now. A status
    that is a number or a word is accepted; one that is neither counts as UNKNOWN, for an agent's
    own mistake must not silence a check.
    """

    host: str
    check: str
    status: Status
    output: str = ""
    occurred_at: float = math.nan
    is_dated: bool = field(init=False, compare=False, repr=False, default=True)
    """Whether the agent gave the time: only then can a result be older than one before it."""

    def __post_init__(self) -> None:
        if self.occurred_at != self.occurred_at:  # only not-a-number differs from itself
            object.__setattr__(self, "occurred_at", time.time())
            object.__setattr__(self, "is_dated", False)
        if type(self.status) is not Status:
            object.__setattr__(self, "status", _lenient(self.status))
        if type(self.output) is not str:
            object.__setattr__(self, "output", _text(self.output))


def _lenient(value: object) -> Status:
    try:
        return Status.parse(value)
    except ValueError:
        return Status.UNKNOWN


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


class Kind(enum.IntEnum):
    """What a transition is about."""

    # A check's status changed.
    PLAIN = 0
    # About flipbell itself.
    NOTICE = 1
    # Taken once more after a reset: rooms may have been told of it before.
    REPLAYED = 2
    # The operator had the check forgotten. Its status is OK, as it ends the incident.
    FORGOTTEN = 3


@dataclass(frozen=True, slots=True)
class Transition:
    """A check's status changed: what rooms are told of, and what the history keeps.

    *previous* is None if the check was seen for the first time, *previous_since* the time at
    which it had taken its previous status. Times are seconds since the epoch; *id* orders
    transitions as they were recorded.
    """

    id: int
    host: str
    check: str
    previous: Status | None
    status: Status
    output: str
    occurred_at: float
    previous_since: float | None = None
    kind: Kind = Kind.PLAIN

    @property
    def is_notice(self) -> bool:
        """Whether it is about flipbell itself."""
        return self.kind is Kind.NOTICE

    @property
    def is_replayed(self) -> bool:
        """Whether rooms may have been told of it before the state was reset."""
        return self.kind is Kind.REPLAYED

    @property
    def is_forgotten(self) -> bool:
        """Whether the operator had the check forgotten: no result, though it ends the incident."""
        return self.kind is Kind.FORGOTTEN

    @property
    def word(self) -> str:
        """What happened, in a word: the status, unless it is no result."""
        return "FORGOTTEN" if self.is_forgotten else self.status.name

    @property
    def ends_incident(self) -> bool:
        """Whether all is well again, for every room."""
        return self.status is Status.OK


@dataclass(frozen=True, slots=True)
class Pattern:
    """Shell globs, case-sensitive, that a host and a check must both match."""

    host: str = "*"
    check: str = "*"


@dataclass(frozen=True, slots=True)
class Channel:
    """One configured room: what it hears, how that looks, and how it is reached.

    *send* are the statuses that the room hears of at all, *notify* those that ring; *timezone* is
    an IANA name or `local`; *settings* belongs to the channel's type.
    """

    name: str
    type: str
    send: frozenset[Status]
    notify: frozenset[Status]
    color: Mapping[Status, str]
    mention: Mapping[Status, str]
    match: tuple[Pattern, ...] = (Pattern(),)
    exclude: tuple[Pattern, ...] = ()
    format: str = "html"
    message: str | None = None
    sender: str = "flipbell"
    timezone: str = "UTC"
    per_minute: int = 30
    settings: object = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What one request tells one room; *notify* is whether the room rings."""

    message: str
    format: str
    color: str
    notify: bool
    sender: str


class Verdict(enum.Enum):
    """What became of one request to a room."""

    DELIVERED = "delivered"
    RETRY = "not accepted, will be tried again"
    UNKNOWN = "outcome unknown, will be repeated"
    REFUSED = "refused for good"
    PAUSE = "the channel needs a person"


class Stage(enum.Enum):
    """How far a message to a room has come."""

    SENDING = "sending"
    WAITING = "waiting"
    DELIVERED = "delivered"
    # Given up after an unknown outcome: the room may have it, so it counts as told.
    PERHAPS = "perhaps"
    # Given up, and not told.
    DEAD = "dead"
    # No longer wanted when its turn came again.
    DROPPED = "dropped"
    VETOED = "vetoed"
    # Given up, and dismissed by the operator.
    DISMISSED = "dismissed"

    @property
    def is_told(self) -> bool:
        """Whether the room counts as told."""
        return self in (Stage.DELIVERED, Stage.PERHAPS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, why, and how long the server asked to be left alone (seconds; 0: it did not)."""

    verdict: Verdict
    reason: str = ""
    retry_after: float = 0.0
