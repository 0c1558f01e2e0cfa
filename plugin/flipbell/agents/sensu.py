"""Sensu Core and Sensu Go: the event that a handler gets on stdin.

Core calls for every result that is not OK and once when it is resolved, Go for every result. Which
of them is a change is not taken from `occurrences` or `history`. While a check is flapping Sensu
only says that it is; a silenced problem is left alone, but a silenced recovery ends the incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError
from flipbell.agents.json_result import parse
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given


def read(given: Given) -> list[CheckResult]:
    """Read the event; one that carries only metrics is no result."""
    event = parse(given.read_stdin())
    if not isinstance(event, dict):
        raise FormatError("expected an event of Sensu: an object")
    check = event.get("check")
    if check is None and "metrics" in event:
        return []
    if not isinstance(check, dict) or type(check.get("status")) is not int:
        raise FormatError("check: expected an object with a status, an integer")
    status = Status.from_exit_status(check["status"])
    is_silenced = event.get("silenced") is True or check.get("is_silenced") is True
    is_flapping = event.get("action") == "flapping" or check.get("state") == "flapping"
    if is_flapping or (is_silenced and status is not Status.OK):
        return []
    host = given.host or _name(event.get("client")) or _name(event.get("entity"))
    name = given.check or _name(check)
    if not host or not name:
        raise FormatError("expected the names of a client or an entity, and of a check")
    output = check.get("output")
    return [CheckResult(host, name, status, str(output or ""), _time(given, check))]


def _name(thing: object) -> str:
    """Return a thing's name, which Go keeps in its metadata."""
    if not isinstance(thing, dict):
        return ""
    metadata = thing.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else thing.get("name")
    return name if isinstance(name, str) else ""


def _time(given: Given, check: dict[str, object]) -> float:
    """Return when the check ended."""
    begun, took = check.get("executed"), check.get("duration", 0)
    if given.occurred_at is None and isinstance(begun, (int, float)) and begun > 0:
        return float(begun) + (float(took) if isinstance(took, (int, float)) else 0.0)
    return given.time
