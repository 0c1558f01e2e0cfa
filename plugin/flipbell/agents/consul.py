"""Consul: the checks that a watch handler gets on stdin, all of them at every change of any.

A node's or a service's maintenance is a check of Consul's own, and no result. A check that was
deregistered is missing from the list; `report --complete` ends its incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError
from flipbell.agents.json_result import parse
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_STATUSES = {"passing": Status.OK, "warning": Status.WARNING, "critical": Status.CRITICAL}
_MAINTENANCE = ("_node_maintenance", "_service_maintenance:")


def read(given: Given) -> list[CheckResult]:
    """Read the checks."""
    checks = parse(given.read_stdin())
    if checks is None:  # Consul's empty list
        return []
    if not isinstance(checks, list):
        raise FormatError("expected the list of checks that a watch of Consul gives")
    found = [_result(given, check) for check in checks]
    return [result for result in found if result is not None]


def _result(given: Given, check: object) -> CheckResult | None:
    if not isinstance(check, dict):
        raise FormatError("expected an object for each check")
    node, name, word = (check.get(key) for key in ("Node", "CheckID", "Status"))
    if not isinstance(node, str) or not isinstance(name, str) or not node or not name:
        raise FormatError("expected Node and CheckID in each check")
    if name.startswith(_MAINTENANCE) or word == "maintenance":
        return None
    if word not in _STATUSES:
        raise FormatError(f"Status of {name}: expected passing, warning or critical, got {word!r}")
    output = str(check.get("Output") or "")
    return CheckResult(given.host or node, name, _STATUSES[str(word)], output, given.time)
