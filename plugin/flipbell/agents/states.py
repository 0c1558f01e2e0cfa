r"""The words that Nagios gave to all who followed: states, occasions, and `\n` for a newline.

Nagios and Naemon, Icinga 2 and Checkmk share them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from flipbell.agents import FormatError, required
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from flipbell.agents import Given

HOST_CHECK = "host"
# While a check flaps or is in downtime, its agent notifies of no change; the end of that comes with
# the true state. All other occasions (an acknowledgement, the start of a downtime) are no results.
_ENDS_OF_FLAPPING = ("FLAPPINGSTOP", "FLAPPINGEND", "FLAPPINGDISABLED")
_ENDS_OF_DOWNTIME = ("DOWNTIMEEND", "DOWNTIMECANCELLED", "DOWNTIMEREMOVED")
_OCCASIONS = ("", "PROBLEM", "RECOVERY", *_ENDS_OF_FLAPPING, *_ENDS_OF_DOWNTIME)
_HOST_STATES = {
    "UP": Status.OK,
    "DOWN": Status.CRITICAL,
    "UNREACHABLE": Status.UNKNOWN,
    "UNREACH": Status.UNKNOWN,  # Checkmk's word
}
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def is_result(occasion: str | None, state_type: str | None) -> bool:
    """Return whether a call tells of a result that is final.

    Soft states are not: the agent is about to check again.
    """
    return (occasion or "").upper() in _OCCASIONS and (state_type or "").upper() != "SOFT"


def status(word: str | None, source: str) -> Status:
    """Read the state of a host or a service. Raises FormatError, which names the *source*."""
    word = required(word, source).upper()
    if word in _HOST_STATES:
        return _HOST_STATES[word]
    try:
        return Status.parse(word)
    except ValueError:
        raise FormatError(f"{source}: expected a state, got {word!r}") from None


def output(first: str, rest: str = "", newline: str = "\\n") -> str:
    r"""Join the output's lines; *newline* is how the agent writes one in the long output."""
    return f"{first}\n{rest}".replace(newline, "\n").strip()


def from_environment(given: Given, prefix: str, newline: str = "\\n") -> list[CheckResult]:
    """Read what an agent calls for, from options and, where those are silent, its environment.

    *prefix* is that of the agent's variables. A host's check is a check named `host`.
    """
    environ = given.environ

    def variable(name: str) -> str | None:
        return environ.get(prefix + name)

    host = given.host or variable("HOSTNAME")
    check = given.check or variable("SERVICEDESC") or HOST_CHECK
    kind = "SERVICE" if variable("SERVICEDESC") or check != HOST_CHECK else "HOST"
    occasion = variable("NOTIFICATIONTYPE") if given.event is None else given.event
    if not is_result(occasion, given.state_type or variable(f"{kind}STATETYPE")):
        return []
    said = given.output
    if said is None:
        said = f"{variable(f'{kind}OUTPUT') or ''}\n{variable(f'LONG{kind}OUTPUT') or ''}"
    return [
        CheckResult(
            required(host, f"--host or {prefix}HOSTNAME"),
            check,
            status(given.status or variable(f"{kind}STATE"), f"--status or {prefix}{kind}STATE"),
            output(said, newline=newline),
            _time(given, variable(f"LAST{kind}CHECK"), variable("TIMET")),
        )
    ]


def _time(given: Given, *stamps: str | None) -> float:
    """Return when the result was made: as said, by the best of the agent's stamps, or now.

    Of two results in a second, the commands may start in any order; their checks did not. A stamp
    of 0 is a check that never ran.
    """
    if given.occurred_at:
        return given.occurred_at
    numbers = [float(stamp) for stamp in stamps if stamp and _NUMBER.fullmatch(stamp)]
    return next(filter(None, numbers), given.now)
