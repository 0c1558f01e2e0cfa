"""Netdata: the health notification script's arguments, as options.

UNINITIALIZED, which Netdata only passes through, is no result. REMOVED (a container or a disk is
gone) ends the alarm's incident, because Netdata will never report a recovery of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import NO_LONGER_CHECKED, FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_STATUSES = {
    "CLEAR": Status.OK,
    "WARNING": Status.WARNING,
    "CRITICAL": Status.CRITICAL,
    "UNDEFINED": Status.UNKNOWN,
}
_REMOVED = "REMOVED"
_UNINITIALIZED = "UNINITIALIZED"


def read(given: Given) -> list[CheckResult]:
    """Read the alarm that the script was called for."""
    word = required(given.status, "--status, the script's argument 10")
    if word == _UNINITIALIZED:
        return []
    if word not in (*_STATUSES, _REMOVED):
        raise FormatError(f"--status: expected {', '.join(_STATUSES)}, got {word!r}")
    host = required(given.host, "--host, the script's argument 2")
    check = required(given.check, "--check, the script's arguments 8 and 7")
    if word == _REMOVED:
        return [CheckResult(host, check, Status.OK, NO_LONGER_CHECKED, given.time)]
    return [CheckResult(host, check, _STATUSES[word], given.output or "", given.time)]
