"""Zabbix: an alert script's message, whose template is the drop-in's.

Zabbix gives a script only what somebody wrote into the message, so the template has a line
`name: value` for each thing, an empty line, and text for people. An update of a problem
(acknowledged, commented, …) is no result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

_RESOLVED, _PROBLEM = "0", "1"  # {EVENT.VALUE}
# {EVENT.NSEVERITY}, from "not classified" to "disaster".
_SEVERITIES = (Status.UNKNOWN, Status.WARNING, Status.WARNING, *[Status.CRITICAL] * 3)


def read(given: Given) -> list[CheckResult]:
    """Read the message, which is `--output`."""
    message = required(given.output, "--output MESSAGE").replace("\r\n", "\n")
    head, _, text = message.partition("\n\n")
    header = dict(line.split(": ", 1) for line in head.split("\n") if ": " in line)
    if header.get("update") == "1":
        return []
    host = required(given.host or header.get("host"), "a line `host: {HOST.HOST}` in the message")
    check = required(given.check or header.get("check"), "a line `check: {TRIGGER.NAME.ORIG}`")
    return [CheckResult(host, check, _status(header), text, given.time)]


def _status(header: dict[str, str]) -> Status:
    value, severity = header.get("value", ""), header.get("severity", "")
    if value == _RESOLVED:
        return Status.OK
    if value != _PROBLEM:
        raise FormatError(f"value: expected {{EVENT.VALUE}}, which is 0 or 1, got {value!r}")
    if not severity.isdecimal() or int(severity) >= len(_SEVERITIES):
        raise FormatError(f"severity: expected {{EVENT.NSEVERITY}}, 0 to 5, got {severity!r}")
    return _SEVERITIES[int(severity)]
