"""Agent formats: one module for each agent, which alone knows how that agent tells a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flipbell.model import CheckResult


class FormatError(ValueError):
    """The agent's call does not say what it should; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an agent gives: options, environment, and stdin, which is read only when asked for."""

    host: str | None = None
    check: str | None = None
    status: str | None = None
    output: str | None = None
    event: str | None = None  # what the agent calls the occasion, as Nagios' NOTIFICATIONTYPE
    occurred_at: float | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    read_stdin: Callable[[], bytes] = bytes
    this_host: str = ""
    now: float = 0.0


class AgentFormat(Protocol):
    """Turns what an agent gives into check results."""

    def __call__(self, given: Given) -> list[CheckResult]:
        """Return the results; none where the call tells of no result. Raises FormatError."""
        ...


def built_in() -> dict[str, AgentFormat]:
    """Return the formats that come with flipbell."""
    from flipbell.agents import json_result, mackerel_agent, nagios, plain

    return {
        "json": json_result.read,
        "mackerel-agent": mackerel_agent.read,
        "nagios": nagios.read,
        "plain": plain.read,
    }


def required(value: str | None, option: str) -> str:
    """Return what must be given. Raises FormatError."""
    if not value:
        raise FormatError(f"expected {option}")
    return value
