"""What an agent gives, and what reads it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flipbell.model import CheckResult


@dataclass(frozen=True, slots=True)
class Given:
    """What an agent gives: options, environment, and stdin, which is read only when asked for."""

    host: str | None = None
    check: str | None = None
    status: str | None = None
    output: str | None = None
    event: str | None = None  # what the agent calls the occasion, as Nagios' NOTIFICATIONTYPE
    state_type: str | None = None  # SOFT if the agent is about to check again
    occurred_at: float | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    read_stdin: Callable[[], bytes] = bytes
    this_host: str = ""
    # The time of a result that the agent gave none for; left out, its CheckResult takes its own.
    now: float = math.nan

    @property
    def clock(self) -> float:
        """Now, for a format that reckons with it."""
        return time.time() if math.isnan(self.now) else self.now

    @property
    def time(self) -> float:
        """When it was: as an option says, else now."""
        return self.now if self.occurred_at is None else self.occurred_at


class AgentFormat(Protocol):
    """Turns what an agent gives into check results."""

    def __call__(self, given: Given) -> list[CheckResult]:
        """Return the results; none if the call tells of no result. Raises FormatError."""
        ...
