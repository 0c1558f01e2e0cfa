"""Netdata: the health notification script's arguments, as options.

A status that Netdata only passes through (UNINITIALIZED, REMOVED) is no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_STATUSES = {
    "CLEAR": Status.OK,
    "WARNING": Status.WARNING,
    "CRITICAL": Status.CRITICAL,
    "UNDEFINED": Status.UNKNOWN,
}
_NO_RESULTS = ("REMOVED", "UNINITIALIZED")


def read(given: Given) -> list[CheckResult]:
    """Read the alarm that the script was called for."""
    word = required(given.status, "--status, the script's argument 10")
    if word in _NO_RESULTS:
        return []
    if word not in _STATUSES:
        raise FormatError(f"--status: expected {', '.join(_STATUSES)}, got {word!r}")
    host = required(given.host, "--host, the script's argument 2")
    check = required(given.check, "--check, the script's arguments 8 and 7")
    return [CheckResult(host, check, _STATUSES[word], given.output or "", given.time)]
