"""flipbell's own JSON: one result, or a list of them.

    {"host": "web-01", "check": "disk", "status": "CRITICAL", "output": "…",
     "occurred_at": "2026-11-23T02:00:00Z"}

*host* is this host unless given, *occurred_at* now; the latter may be a number of seconds since
the epoch. The status may be an exit status.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flipbell.agents import FormatError
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_FAR = 1e12  # seconds
KEYS = ("host", "check", "status", "output", "occurred_at")
_PLAIN = frozenset({"id", "host", "check", "status", "output"})
_STATUSES = {status.name: status for status in Status}
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # typeshed leaves it out


def read(given: Given) -> list[CheckResult]:
    """Read the results on stdin.

    Options fill in what they lack; an explicit time wins over theirs, as with every format.
    """
    value = parse(given.read_stdin())
    items = value if isinstance(value, list) else [value]
    results = [
        result(item, given.now, host=given.host or given.this_host, check=given.check)
        for item in items
    ]
    if given.occurred_at is None:
        return results
    return [replace(result, occurred_at=given.occurred_at) for result in results]


def glance(text: str) -> tuple[dict[str, Any], Status] | None:
    """Return a result and its status where all of it is plain, as most of a stream is.

    None says only that it has to be looked at closely.
    """
    try:
        item, end = _scan(text, 0)
        status = _STATUSES[item["status"]]
        is_plain = end == len(text) and item.keys() <= _PLAIN and item["check"] != ""
        for key in ("host", "check", "output"):
            is_plain = is_plain and type(item.get(key, "")) is str
    except (StopIteration, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (item, status) if is_plain else None


def parse(content: str | bytes) -> object:
    """Parse JSON. Raises FormatError."""
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise FormatError(
            f"expected JSON, or --status: got none ({error.msg} at {place})"
        ) from None
    except (RecursionError, ValueError):
        raise FormatError("JSON that is nested too deep or holds too long a number") from None
    return value


def result(item: object, now: float, *, host: str, check: str | None = None) -> CheckResult:
    """Read one result. Raises FormatError."""
    if not isinstance(item, dict):
        raise FormatError("expected an object with check and status")
    unknown = sorted(str(key) for key in item if key not in (*KEYS, "id"))
    if unknown:
        raise FormatError(f"unknown key {unknown[0]!r}, expected {', '.join(KEYS)}")
    name = _text(item, "check", check or "")
    if not name:
        raise FormatError("check: expected a name")
    if "status" not in item:
        raise FormatError("status: expected OK, WARNING, CRITICAL, UNKNOWN or a number")
    try:
        status = Status.parse(item["status"])
    except ValueError as error:
        raise FormatError(f"status: {error}") from None
    return CheckResult(
        _text(item, "host", host) or host, name, status, _text(item, "output", ""), _time(item, now)
    )


def _text(item: dict[str, object], key: str, default: str) -> str:
    value = item.get(key, default)
    if not isinstance(value, str):
        raise FormatError(f"{key}: expected text, got {value!r}")
    return value


def _time(item: dict[str, object], now: float) -> float:
    value = item.get("occurred_at")
    if value is None:
        return now
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if -_FAR <= value <= _FAR:
            return float(value)
        raise FormatError(f"occurred_at: expected seconds since the epoch, got {str(value)[:40]}")
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise FormatError(
            f"occurred_at: expected 2026-11-23T02:00:00Z or seconds since the epoch, got {value!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
