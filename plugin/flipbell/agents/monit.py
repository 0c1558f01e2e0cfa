"""Monit: an `exec` action, whose event is in MONIT_* variables.

A program's exit status is told as it is. Other events know only failed and succeeded; each kind of
them is a check of its own, for one service has many. MONIT_DESCRIPTION tells the status before,
which is that of Monit's last cycle, so it is not looked at; nor is MONIT_DATE, which has no zone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell.agents import Given

_PROGRAM = "Status"
# How Monit's names of events end (its table of events, 5.33); the rest is the event's kind.
_ENDINGS = {
    "succeeded": Status.OK,
    "recovery": Status.OK,
    "ok": Status.OK,
    "up": Status.OK,
    "failed": Status.CRITICAL,
    "error": Status.CRITICAL,
    "matched": Status.CRITICAL,
    "exceeded": Status.CRITICAL,
    "down": Status.CRITICAL,
}
_WHOLE = {
    "Exists": ("Existence", Status.OK),
    "Does not exist": ("Existence", Status.CRITICAL),
    "Content match": ("Content", Status.CRITICAL),
    "Content doesn't match": ("Content", Status.OK),
    "Invalid type": ("Type", Status.CRITICAL),
    "Timeout": ("Timeout", Status.CRITICAL),
    "Data access succeeded": ("Data access", Status.OK),
}


def read(given: Given) -> list[CheckResult]:
    """Read the result that the action was run for; what only changed has no status."""
    environ = given.environ
    service = required(environ.get("MONIT_SERVICE"), "MONIT_SERVICE in the environment")
    event = required(given.event or environ.get("MONIT_EVENT"), "MONIT_EVENT in the environment")
    kind, status = _of_event(event)
    code = environ.get("MONIT_PROGRAM_STATUS", "")
    if kind == _PROGRAM and code.removeprefix("-").isdecimal():
        status = Status.from_exit_status(int(code))
    if status is None:
        return []
    host = given.host or environ.get("MONIT_HOST") or given.this_host
    check = given.check or (service if kind == _PROGRAM else f"{service} {kind.lower()}")
    return [CheckResult(host, check, status, _output(environ, kind), given.time)]


def _of_event(event: str) -> tuple[str, Status | None]:
    """Return an event's kind and status; None if it tells no status."""
    if event in _WHOLE:
        return _WHOLE[event]
    kind, _, ending = event.rpartition(" ")
    if kind.endswith(" not"):  # "… not changed"
        return kind.removesuffix(" not"), None
    return kind, _ENDINGS.get(ending)


def _output(environ: Mapping[str, str], kind: str) -> str:
    """Return what the program said, without Monit's words before it."""
    description = environ.get("MONIT_DESCRIPTION", "")
    _, separator, output = description.partition(" -- ")
    return output if separator and kind == _PROGRAM else description
