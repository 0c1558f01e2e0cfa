"""Plain text: the status is an option, the output is on stdin unless it is an option too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given


def read(given: Given) -> list[CheckResult]:
    """Read one result."""
    check = required(given.check, "--check NAME")
    word = required(given.status, "--status OK|WARNING|CRITICAL|UNKNOWN or an exit status")
    try:
        status = Status.parse(word)
    except ValueError as error:
        raise FormatError(f"--status: {error}") from None
    output = given.output
    if output is None:
        output = given.read_stdin().decode("utf-8", "surrogateescape")
    occurred_at = given.now if given.occurred_at is None else given.occurred_at
    return [CheckResult(given.host or given.this_host, check, status, output, occurred_at)]
