"""Results at a glance: the plain calls that agents make for every result.

Each function here knows a part of what its format's own module knows, and never more: None says
only that the call has to be read by that module. It has no use for the output or the time, because
a result that is known already needs neither. `report` loads this for every result, so it imports
nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Words = Mapping[str, str]
    """Options without their dashes, or the environment."""

    Result = tuple[str, str, int]
    """Host, check and status; the host is empty for this one."""

_EXIT_STATUSES = {"0": 0, "1": 1, "2": 2, "3": 3}
_STATUSES = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3, **_EXIT_STATUSES}
_STATES = {**_STATUSES, "UP": 0, "DOWN": 2, "UNREACHABLE": 3}
_EVENTS_OF_PROGRAMS = ("Status failed", "Status succeeded", "Status changed")


def glance(name: str, options: "Words", environ: "Words") -> "Result | None":
    """Return the one result that a call in the format of that *name* is plainly about, or None."""
    look = _FORMATS.get(name)
    return look(options, environ) if look is not None else None


def _of_states(prefix: str) -> "Callable[[Words, Words], Result | None]":
    def look(options: "Words", environ: "Words") -> "Result | None":
        service = environ.get(f"{prefix}SERVICEDESC")
        check = options.get("check") or service or "host"
        kind = "SERVICE" if service or check != "host" else "HOST"
        host = options.get("host") or environ.get(f"{prefix}HOSTNAME")
        occasion = options.get("type", environ.get(f"{prefix}NOTIFICATIONTYPE", ""))
        state_type = options.get("state-type") or environ.get(f"{prefix}{kind}STATETYPE", "")
        status = _STATES.get(options.get("status") or environ.get(f"{prefix}{kind}STATE", ""))
        if occasion not in ("", "PROBLEM", "RECOVERY") or state_type not in ("", "HARD"):
            return None
        return None if not host or status is None else (host, check, status)

    return look


def _mackerel_agent(options: "Words", environ: "Words") -> "Result | None":
    check = options.get("check")
    status = _STATUSES.get(environ.get("MACKEREL_STATUS", ""))
    return None if not check or status is None else (options.get("host", ""), check, status)


def _monit(options: "Words", environ: "Words") -> "Result | None":
    check = options.get("check") or environ.get("MONIT_SERVICE")
    event = options.get("type") or environ.get("MONIT_EVENT")
    status = _EXIT_STATUSES.get(environ.get("MONIT_PROGRAM_STATUS", ""))
    if not environ.get("MONIT_SERVICE") or event not in _EVENTS_OF_PROGRAMS:
        return None
    host = options.get("host") or environ.get("MONIT_HOST", "")
    return None if not check or status is None else (host, check, status)


def _plain(options: "Words", _: "Words") -> "Result | None":
    check, status = options.get("check"), _STATUSES.get(options.get("status", ""))
    if not check or status is None or "output" not in options:
        return None
    return options.get("host", ""), check, status


_FORMATS = {
    "icinga2": _of_states("ICINGA_"),
    "mackerel-agent": _mackerel_agent,
    "monit": _monit,
    "nagios": _of_states("NAGIOS_"),
    "plain": _plain,
}
