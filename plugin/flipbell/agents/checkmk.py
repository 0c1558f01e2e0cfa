"""Checkmk: the notification script's NOTIFY_* environment.

The last states that Checkmk tells are not looked at: they are those of the monitoring core, not of
what was notified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import required, states
from flipbell.model import CheckResult

if TYPE_CHECKING:
    from flipbell.agents import Given


def read(given: Given) -> list[CheckResult]:
    """Read the result that the script was called for."""
    environ = given.environ
    what = required(environ.get("NOTIFY_WHAT"), "NOTIFY_WHAT in the environment")
    kind = "HOST" if what == "HOST" else "SERVICE"
    if not states.is_result(environ.get("NOTIFY_NOTIFICATIONTYPE"), None):
        return []
    host = required(given.host or environ.get("NOTIFY_HOSTNAME"), "NOTIFY_HOSTNAME")
    check = states.HOST_CHECK
    if kind == "SERVICE":
        check = required(given.check or environ.get("NOTIFY_SERVICEDESC"), "NOTIFY_SERVICEDESC")
    status = states.status(environ.get(f"NOTIFY_{kind}STATE"), f"NOTIFY_{kind}STATE")
    rest = environ.get(f"NOTIFY_LONG{kind}OUTPUT", "")
    output = states.output(environ.get(f"NOTIFY_{kind}OUTPUT", ""), rest)
    return [CheckResult(host, check, status, output, given.time)]
