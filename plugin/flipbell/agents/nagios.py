"""Nagios and Naemon: a result by arguments, or by NAGIOS_* environment macros.

Acknowledgements, downtimes and flapping notices are no results, nor are soft states, which Nagios
is about to check again. A host check is a check named
`host`; DOWN is CRITICAL, UNREACHABLE is UNKNOWN. The last state that Nagios tells is that of the
check before, not of what was notified, so it is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

HOST_CHECK = "host"
_RESULTS = ("", "PROBLEM", "RECOVERY")
_HOST_STATES = {"UP": Status.OK, "DOWN": Status.CRITICAL, "UNREACHABLE": Status.UNKNOWN}


def read(given: Given) -> list[CheckResult]:
    """Read the result that Nagios called for; options come before the environment."""
    environ = given.environ
    event = given.event or environ.get("NAGIOS_NOTIFICATIONTYPE", "")
    if event not in _RESULTS:
        return []
    host = required(given.host or environ.get("NAGIOS_HOSTNAME"), "--host or NAGIOS_HOSTNAME")
    check = given.check or environ.get("NAGIOS_SERVICEDESC") or HOST_CHECK
    kind = "HOST" if check == HOST_CHECK else "SERVICE"
    if environ.get(f"NAGIOS_{kind}STATETYPE") == "SOFT":
        return []
    word = given.status or environ.get(f"NAGIOS_{kind}STATE")
    status = _status(required(word, f"--status or NAGIOS_{kind}STATE"))
    output = given.output
    if output is None:
        rest = environ.get(f"NAGIOS_LONG{kind}OUTPUT", "")
        output = _output(environ.get(f"NAGIOS_{kind}OUTPUT", ""), rest)
    return [CheckResult(host, check, status, output, _time(given))]


def _status(word: str) -> Status:
    if word in _HOST_STATES:
        return _HOST_STATES[word]
    try:
        return Status.parse(word)
    except ValueError:
        raise FormatError(f"expected a state of Nagios, got {word!r}") from None


def _output(first: str, rest: str) -> str:
    r"""Join the output's lines; Nagios writes the newlines of the long output as `\n`."""
    return f"{first}\n{rest}".replace("\\n", "\n").strip()


def _time(given: Given) -> float:
    if given.occurred_at is not None:
        return given.occurred_at
    stamp = given.environ.get("NAGIOS_TIMET", "")
    return float(stamp) if stamp.isdecimal() else given.now
