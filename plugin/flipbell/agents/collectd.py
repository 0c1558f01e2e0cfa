"""collectd: a notification on stdin, as the exec plugin writes it.

Header lines, an empty line, the message. collectd knows three severities; a value that is missing
is a FAILURE. What a threshold does not notify (its hits and hysteresis) cannot be seen here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_SEVERITIES = {"OKAY": Status.OK, "WARNING": Status.WARNING, "FAILURE": Status.CRITICAL}


def read(given: Given) -> list[CheckResult]:
    """Read the notification."""
    content = given.read_stdin().decode("utf-8", "surrogateescape")
    head, _, message = content.partition("\n\n")
    header = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    severity = required(header.get("Severity"), "a notification of collectd on stdin")
    if severity not in _SEVERITIES:
        raise FormatError(f"Severity: expected OKAY, WARNING or FAILURE, got {severity!r}")
    host = given.host or header.get("Host") or given.this_host
    check = given.check or required(_identifier(header), "--check, or a Plugin")
    return [CheckResult(host, check, _SEVERITIES[severity], message, _time(given, header))]


def _identifier(header: dict[str, str]) -> str:
    """Return collectd's own name for what was watched: `plugin-instance/type-instance`."""
    parts = []
    for part in ("Plugin", "Type"):
        words = (header.get(part), header.get(f"{part}Instance"))
        parts.append("-".join(word for word in words if word))
    return "/".join(part for part in parts if part)


def _time(given: Given, header: dict[str, str]) -> float:
    stamp = header.get("Time", "")
    is_number = stamp.replace(".", "", 1).isdecimal()
    return float(stamp) if given.occurred_at is None and is_number else given.time
