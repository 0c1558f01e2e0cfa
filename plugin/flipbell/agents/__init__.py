"""Agent formats: one module for each agent, which alone knows how that agent tells a result."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flipbell.model import CheckResult

# By the name that `report --from` gives them. A notifier is called for every result, so only the
# module that is asked for is loaded.
_MODULES = {
    "alertmanager": "alertmanager",
    "checkmk": "checkmk",
    "collectd": "collectd",
    "consul": "consul",
    "icinga2": "icinga2",
    "json": "json_result",
    "mackerel-agent": "mackerel_agent",
    "mackerel-webhook": "mackerel_webhook",
    "mon": "mon",
    "monit": "monit",
    "nagios": "nagios",
    "netdata": "netdata",
    "plain": "plain",
    "sensu": "sensu",
    "zabbix": "zabbix",
}
BUILT_IN = tuple(_MODULES)
NO_LONGER_CHECKED = "no longer checked"
"""The output of the OK that ends the incident of a check that its agent has stopped checking."""


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
    state_type: str | None = None  # SOFT where the agent is about to check again
    occurred_at: float | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    read_stdin: Callable[[], bytes] = bytes
    this_host: str = ""
    # The time of a result that the agent gave none for; left out, its CheckResult takes its own.
    now: float = math.nan

    @property
    def time(self) -> float:
        """When it was: as an option says, else now."""
        return self.now if self.occurred_at is None else self.occurred_at


class AgentFormat(Protocol):
    """Turns what an agent gives into check results."""

    def __call__(self, given: Given) -> list[CheckResult]:
        """Return the results; none where the call tells of no result. Raises FormatError."""
        ...


def built_in(name: str) -> AgentFormat | None:
    """Return the format of that name that comes with flipbell, or None."""
    if name not in _MODULES:
        return None
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    return cast("AgentFormat", module.read)


def required(value: str | None, option: str) -> str:
    """Return what must be given. Raises FormatError."""
    if not value:
        raise FormatError(f"expected {option}")
    return value
