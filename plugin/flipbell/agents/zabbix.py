"""Zabbix: an alert script's message, whose template is the drop-in's.

Zabbix gives a script only what is in the message, so the template has a line `name: value` for each
thing, an empty line, and text for people. An update of a problem (acknowledged, commented, …) is no
result.

The check is the problem's name, in which Zabbix has expanded the macros when the problem began, and
which its recovery repeats; with the trigger's id, because two triggers of a host may share a name.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell.agents import Given

_RESOLVED, _PROBLEM = "0", "1"  # {EVENT.VALUE}
# {EVENT.NSEVERITY}, from "not classified" to "disaster".
_SEVERITIES = (Status.UNKNOWN, Status.WARNING, Status.WARNING, *[Status.CRITICAL] * 3)
_MOMENT = re.compile(r"(\d{4})\.(\d\d)\.(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
_MACRO = re.compile(r"\{[A-Z.]+\}|\*UNKNOWN\*")
# Offsets of time zones are multiples of it, in seconds.
_ZONE_STEP = 900


def read(given: Given) -> list[CheckResult]:
    """Read the message, which is `--output`."""
    message = required(given.output, "--output MESSAGE").replace("\r\n", "\n")
    head, _, text = message.partition("\n\n")
    header = dict(line.split(": ", 1) for line in head.split("\n") if ": " in line)
    # A macro that Zabbix could not expand says nothing.
    header = {key: value for key, value in header.items() if not _MACRO.fullmatch(value)}
    if header.get("update") == "1":
        return []
    host = required(given.host or header.get("host"), "a line `host: {HOST.HOST}` in the message")
    check = required(given.check or header.get("check"), "a line `check: {EVENT.NAME}`")
    if "trigger" in header and given.check is None:
        check = f"{check} #{header['trigger']}"
    return [CheckResult(host, check, _status(header), text, _time(given, header))]


def _status(header: Mapping[str, str]) -> Status:
    value, severity = header.get("value", ""), header.get("severity", "")
    if value == _RESOLVED:
        return Status.OK
    if value != _PROBLEM:
        raise FormatError(f"value: expected {{EVENT.VALUE}}, which is 0 or 1, got {value!r}")
    if not severity.isdecimal() or int(severity) >= len(_SEVERITIES):
        raise FormatError(f"severity: expected {{EVENT.NSEVERITY}}, 0 to 5, got {severity!r}")
    return _SEVERITIES[int(severity)]


def _time(given: Given, header: Mapping[str, str]) -> float:
    """Return when the event was; now if the message does not say.

    Zabbix runs several scripts at once, so that a recovery may overtake its problem. It writes
    times in the receiver's time zone, which the message's own time gives away.
    """
    moment = "ended" if header.get("value") == _RESOLVED else "started"
    sent, at = _seconds(header.get("now")), _seconds(header.get(moment))
    if given.occurred_at is not None or sent is None or at is None:
        return given.time
    now = given.clock
    offset = round((sent - now) / _ZONE_STEP) * _ZONE_STEP
    return min(at - offset, now)


def _seconds(text: str | None) -> float | None:
    """Read a date and a time of any zone, as if it were UTC; None if there is none."""
    match = _MOMENT.fullmatch(text or "")
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment.timestamp()
