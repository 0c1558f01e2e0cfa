"""Mackerel's webhook: the body that its servers send, on stdin.

Only an `alert` is a result; a sample, or a host that is registered or retires, is none. An alert
that a person closed by hand is one: Mackerel says no more of it, and the next one is a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError
from flipbell.agents.json_result import parse
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given


def read(given: Given) -> list[CheckResult]:
    """Read the alert; its host is the service's or the organization's name where it has none."""
    body = parse(given.read_stdin())
    if not isinstance(body, dict) or not isinstance(body.get("event"), str):
        raise FormatError("expected the body of a Mackerel webhook: an object with an event")
    if body["event"] != "alert":
        return []
    alert = body.get("alert")
    if not isinstance(alert, dict):
        raise FormatError("alert: expected an object")
    check = given.check or _text(alert, "monitorName")
    if not check:
        raise FormatError("alert.monitorName: expected a name")
    owners = (_text(body.get("host"), "name"), _text(body.get("service"), "name"))
    host = given.host or next(filter(None, (*owners, _text(body, "orgName"))), given.this_host)
    return [CheckResult(host, check, _status(alert), _output(body, alert), given.time)]


def _status(alert: dict[str, object]) -> Status:
    if alert.get("isOpen") is False:
        return Status.OK
    try:
        return Status.parse(alert.get("status"))
    except ValueError as error:
        raise FormatError(f"alert.status: {error}") from None


def _output(body: dict[str, object], alert: dict[str, object]) -> str:
    lines = (_text(body, "message"), _text(body, "memo"), _text(alert, "url"))
    return "\n".join(filter(None, lines))


def _text(thing: object, key: str) -> str:
    value = thing.get(key) if isinstance(thing, dict) else None
    return value if isinstance(value, str) else ""
