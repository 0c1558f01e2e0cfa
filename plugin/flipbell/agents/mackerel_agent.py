"""mackerel-agent's `action`: status and message are in the environment.

The agent runs it after every check, changed or not, and names neither the check nor the host.
MACKEREL_PREVIOUS_STATUS is empty after the agent has restarted, so it is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given


def read(given: Given) -> list[CheckResult]:
    """Read the result that the action was run for."""
    check = required(given.check, "--check NAME: mackerel-agent does not tell it")
    word = required(given.environ.get("MACKEREL_STATUS"), "MACKEREL_STATUS in the environment")
    try:
        status = Status.parse(word)
    except ValueError as error:
        raise FormatError(f"MACKEREL_STATUS: {error}") from None
    output = given.environ.get("MACKEREL_CHECK_MESSAGE", "")
    return [CheckResult(given.host or given.this_host, check, status, output, given.time)]
