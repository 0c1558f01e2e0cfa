"""Prometheus Alertmanager: the body of a webhook (version 4), on stdin.

An alert is what its labels say: a different severity is another alert, so all labels but those
that name the host are part of the check's name. The results' time is that of their arrival, for
`startsAt` of an alert that fires again can lie before the time at which it was resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError
from flipbell.agents.json_result import parse
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_HOST_LABELS = ("instance", "host", "node")
_MILD = ("warning", "warn", "minor", "info", "information", "notice")
_TEXTS = ("summary", "description", "message")


def read(given: Given) -> list[CheckResult]:
    """Read every alert of the group."""
    body = parse(given.read_stdin())
    alerts = body.get("alerts") if isinstance(body, dict) else None
    if not isinstance(alerts, list):
        raise FormatError("expected the body of an Alertmanager webhook: an object with alerts")
    return [_result(given, alert) for alert in alerts]


def _result(given: Given, alert: object) -> CheckResult:
    labels = _texts(alert, "labels")
    name = labels.pop("alertname", "")
    word = alert.get("status") if isinstance(alert, dict) else None
    if not name or word not in ("firing", "resolved"):
        raise FormatError("expected status firing or resolved, and the label alertname")
    severity = labels.get("severity", "").lower()
    host = given.host
    for label in _HOST_LABELS:
        host = host or labels.pop(label, None)
    rest = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
    check = f"{name}{{{rest}}}" if rest else name
    problem = Status.WARNING if severity in _MILD else Status.CRITICAL
    status = Status.OK if word == "resolved" else problem
    annotations = _texts(alert, "annotations")
    output = "\n".join(annotations[key] for key in _TEXTS if annotations.get(key))
    return CheckResult(host or given.this_host, check, status, output, given.time)


def _texts(alert: object, key: str) -> dict[str, str]:
    """Return an alert's labels or annotations."""
    found = alert.get(key, {}) if isinstance(alert, dict) else None
    if not isinstance(found, dict):
        raise FormatError(f"{key}: expected an object in each alert")
    return {str(label): str(value) for label, value in found.items()}
