"""mon: an alert script's MON_* environment.

Every problem is a `failure`, whatever its kind, so it is CRITICAL. What an `up` alert has on stdin
and in MON_LAST_SUMMARY is still the last failure's text; it is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_TYPES = {
    "failure": Status.CRITICAL,
    "traptimeout": Status.CRITICAL,
    "trap": Status.CRITICAL,
    "up": Status.OK,
}  # not startup, ack, disable, …


def read(given: Given) -> list[CheckResult]:
    """Read the alert; the host is mon's group of hosts."""
    environ = given.environ
    kind = required(given.event or environ.get("MON_ALERTTYPE"), "MON_ALERTTYPE")
    if kind not in _TYPES:
        return []
    host = required(given.host or environ.get("MON_GROUP"), "--host or MON_GROUP")
    check = required(given.check or environ.get("MON_SERVICE"), "--check or MON_SERVICE")
    output = "" if kind == "up" else environ.get("MON_LAST_SUMMARY", "")
    return [CheckResult(host, check, _TYPES[kind], output, given.time)]
