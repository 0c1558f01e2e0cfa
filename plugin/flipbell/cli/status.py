"""`flipbell status`: what is failing, undelivered or broken, and where it looked."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from fnmatch import fnmatchcase

from flipbell import look
from flipbell.cli import add_command, seconds
from flipbell.cli.metrics import as_prometheus
from flipbell.cli.tables import (
    clock,
    colored,
    columns,
    fitted,
    name_columns,
    padded,
    table,
    time_of_day,
    whole_line,
    width,
)
from flipbell.log import escaped
from flipbell.message import duration, first_lines
from flipbell.model import Status
from flipbell.retry import MAX_CLOSED
from flipbell.unit import is_borrowed
from flipbell.wording import shown

# Seconds that recorded results may wait: for a courier at work, and without one.
_STUCK = 60.0
_FORSAKEN = 10.0
_LONG_FORSAKEN = 300.0

_LEAST_COLUMNS = 20
_USUAL_COLUMNS = 160
_NARROW = 140  # columns; with fewer, a line says for how long and not since when
_UNKNOWN = "not known"
_NO_CHANNEL = "no usable channel: no notification can be sent"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "status",
        command,
        summary="show what is failing, undelivered or broken",
        example="flipbell status",
    )
    parser.add_argument("--host", metavar="GLOB", default="*", help="only checks of these hosts")
    parser.add_argument("--check", metavar="GLOB", default="*", help="only these checks")
    parser.add_argument(
        "--status",
        metavar="STATUS",
        type=_problem,
        action="append",
        help="only checks with this status: WARNING, CRITICAL or UNKNOWN; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--format", choices=["text", "json", "prometheus"], default="text", help="how to print it"
    )
    parser.add_argument(
        "--plugin", action="store_true", help="be a check plugin that watches flipbell itself"
    )
    parser.add_argument(
        "--limit",
        metavar="SECONDS",
        type=seconds,
        default=900.0,
        help="with --plugin: how long a change may wait (default: 900)",
    )


def _problem(text: str) -> Status:
    expected = "expected WARNING, CRITICAL or UNKNOWN"
    try:
        status = Status.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{expected}, got {shown(text)}") from None
    if status is Status.OK:
        raise argparse.ArgumentTypeError(f"{expected}: only checks that are not OK are listed")
    return status


def command(options: argparse.Namespace) -> int:
    """Show the survey; return 0 only if nothing needs a person."""
    seen = look.survey(options.state, options.config)
    if options.plugin:
        status, text = as_plugin(seen, options.limit, time.time())
        print(f"FLIPBELL {status.name} - {text}")
        return status.value
    if options.format == "prometheus":
        print(as_prometheus(seen, time.time()), end="")
        return 0
    checks = _checks(seen)
    seen = replace(seen, failing=tuple(each for each in seen.failing if _is_shown(each, options)))
    is_json = options.json or options.format == "json"
    print(json.dumps(_as_json(seen)) if is_json else _as_text(seen, checks))
    return 0 if seen.is_fine else 1


def _is_shown(failing: look.Failing, options: argparse.Namespace) -> bool:
    return (
        fnmatchcase(failing.host, options.host)
        and fnmatchcase(failing.check, options.check)
        and (options.status is None or failing.status in options.status)
    )


def _as_json(seen: look.Survey) -> dict[str, object]:
    return {
        "state": seen.state,
        "config": seen.config,
        "config_reason": seen.config_reason,
        "fine": seen.is_fine,
        "known": seen.is_known,
        "faults": list(seen.faults),
        "notes": list(seen.notes),
        "warnings": list(seen.warnings),
        "problems": [str(problem) for problem in seen.problems],
        "courier": seen.is_courier_alive,
        "killed_couriers": seen.killed[0],
        "untaken": seen.untaken,
        "untaken_since": seen.untaken_since,
        "checks": seen.checks,
        "late": seen.late,
        "failing": [{**asdict(failing), "status": failing.status.name} for failing in seen.failing],
        "channels": [
            {
                **asdict(view.state),
                "waiting": view.waiting,
                "dead": view.dead,
                "perhaps": view.perhaps,
                "closed_until": view.closed_until,
                "fault": view.fault,
            }
            for view in seen.channels
        ],
    }


def as_plugin(seen: look.Survey, limit: float, now: float) -> tuple[Status, str]:
    """Return the status of flipbell itself, and what is wrong in one line with metrics.

    *limit* is how long a change may wait (seconds); *now* is in seconds since the epoch.
    """
    critical = _critical(seen, limit, now)
    warning = [text for text in _warnings(seen, now) if text not in critical]
    status = Status.CRITICAL if critical else Status.WARNING if warning else Status.OK
    text = escaped("; ".join(critical + warning)).replace("|", "/")
    if not seen.is_known:
        return Status.UNKNOWN, text
    configured = sum(view.is_configured for view in seen.channels)
    return status, f"{text or _counted(configured, 'channel')} | {_metrics(seen, now)}"


def _critical(seen: look.Survey, limit: float, now: float) -> list[str]:
    paused = [view for view in seen.channels if view.state.paused]
    late = [view for view in seen.waiting if view.oldest is not None and now - view.oldest > limit]
    is_stuck = seen.is_courier_alive and seen.untaken_for(now) > limit
    return [
        *seen.faults,
        *(f"channel {view.state.name} is paused: {view.state.last_error}" for view in paused),
        *(f"channel {view.state.name}: a change waits for too long" for view in late),
        *(["recorded results wait for a courier for too long"] if is_stuck else []),
        *([_forsaken(seen, now)] if _is_forsaken(seen, min(limit, _LONG_FORSAKEN), now) else []),
    ]


def _warnings(seen: look.Survey, now: float) -> list[str]:
    dead, perhaps = (
        sum(view.dead for view in seen.channels),
        sum(view.perhaps for view in seen.channels),
    )
    return [
        *(str(problem) for problem in seen.problems if not problem.is_warning),
        *([f"{_counted(dead, 'message')} given up"] if dead else []),
        *([f"{_counted(perhaps, 'message')} perhaps delivered"] if perhaps else []),
        *([_killed(*seen.killed)] if seen.has_killed_couriers else []),
        *seen.warnings,
        *([] if seen.has_channels else [_NO_CHANNEL]),
        *([_forsaken(seen, now)] if _is_forsaken(seen, _FORSAKEN, now) else []),
        *([_stuck(seen, now)] if _is_stuck(seen, now) else []),
    ]


def _metrics(seen: look.Survey, now: float) -> str:
    waiting = sum(view.waiting for view in seen.channels)
    oldest = max((now - view.oldest for view in seen.waiting if view.oldest), default=0.0)
    dead = sum(view.dead for view in seen.channels)
    spool = int(seen.untaken_for(now))
    return f"waiting={waiting} oldest={max(0, int(oldest))}s dead={dead} spool={spool}s"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _is_forsaken(seen: look.Survey, longest: float, now: float) -> bool:
    """Return whether results have waited that long (seconds) without a courier."""
    return not seen.is_courier_alive and seen.untaken_for(now) > longest


def _forsaken(seen: look.Survey, now: float) -> str:
    waited = duration(seen.untaken_for(now))
    way_out = "run flipbell flush, or start the courier's service"
    return f"recorded results wait for a courier ({waited} so far): {way_out}"


def _is_stuck(seen: look.Survey, now: float) -> bool:
    return seen.is_courier_alive and seen.untaken_for(now) > _STUCK


def _stuck(seen: look.Survey, now: float) -> str:
    waited = duration(seen.untaken_for(now))
    return f"recorded results wait for {waited} although a courier is at work: is it stopped?"


def _checks(seen: look.Survey) -> str:
    return f"{seen.checks} seen, {len(seen.failing)} not OK" if seen.is_known else _UNKNOWN


def _as_text(seen: look.Survey, checks: str) -> str:
    now = time.time()
    parts = [
        table(
            [
                ("state", seen.state),
                ("config", f"{seen.config} ({seen.config_reason})"),
                ("courier", _courier(seen)),
                ("checks", checks),
            ]
        )
    ]
    parts += [f"broken: {fault}" for fault in seen.faults]
    parts += [str(problem) for problem in seen.problems]
    parts += [f"warning: {escaped(warning)}" for warning in seen.warnings]
    parts += [f"note: {note}" for note in seen.notes]
    parts += [_killed(*seen.killed)] if seen.has_killed_couriers else []
    parts += [_failing_line(failing, line) for failing, line in _with_lines(seen.failing, now)]
    if seen.channels:
        parts.append(table([_channel(view, now) for view in seen.channels]))
    if not seen.has_channels:
        parts.append(_NO_CHANNEL)
    if _is_forsaken(seen, 0.0, now):
        parts.append(_forsaken(seen, now))
    elif _is_stuck(seen, now):
        parts.append(_stuck(seen, now))
    return "\n".join(parts)


def _courier(seen: look.Survey) -> str:
    if not seen.is_known:
        return _UNKNOWN
    if seen.is_courier_alive:
        return "at work"
    return "not needed now" if seen.is_all_delivered else "not at work, though something waits"


def _killed(count: int, unit: str) -> str:
    ended = f"the last {count} couriers ended before they had delivered everything"
    if not is_borrowed(unit):
        return f"{ended}: find out what kills them"
    return (
        f"{ended}, the last one in {unit}: systemd ends what a unit has started when the unit "
        "ends, so let systemd start the courier (flipbell hooks systemd)"
    )


def _with_lines(failing: tuple[look.Failing, ...], now: float) -> list[tuple[look.Failing, str]]:
    """Return each check with its line so far, all of one width."""
    if not failing:
        return []
    room = name_columns(_USUAL_COLUMNS, 4)
    rows = [
        (
            each.status.name,
            f"{fitted(each.check, room)} on {fitted(each.host, room)}",
            _lasting(each.since, now),
        )
        for each in failing
    ]
    lines = table(rows).split("\n")
    widest = max(map(width, lines))
    return [(each, padded(line, widest)) for each, line in zip(failing, lines, strict=True)]


def _lasting(since: float, now: float) -> str:
    lasting = f"for {duration(now - since)}"
    return lasting if columns(_USUAL_COLUMNS) < _NARROW else f"since {clock(since)}, {lasting}"


def _failing_line(failing: look.Failing, begin: str) -> str:
    """Return a check's line with what the check reported, as far as the terminal has room."""
    room = max(_LEAST_COLUMNS, columns(_USUAL_COLUMNS) - width(begin) - 2)
    output = fitted(first_lines(failing.output).partition("\n")[0], room)
    return colored(whole_line(f"{begin}  {output}".rstrip()), failing.status)


def _channel(view: look.ChannelView, now: float) -> tuple[str, ...]:
    facts = []
    if view.waiting:
        facts.append(f"{view.waiting} waiting")
    if view.dead:
        facts.append(f"{view.dead} given up")
    if view.perhaps:
        facts.append(f"{view.perhaps} perhaps delivered")
    if view.state.paused:
        facts.append("paused")
    if view.state.last_error:
        facts.append(view.state.last_error)
    if view.waiting:
        facts += _next_try(view, now)
    if view.fault:
        facts.append(view.fault)
    is_used = view.state.last_success_at is not None
    nothing = "all delivered" if is_used else "nothing sent yet"
    return ("channel", view.state.name, "; ".join(facts) or nothing)


def _next_try(view: look.ChannelView, now: float) -> list[str]:
    """Return when a channel that something waits for is tried next, unless that is now."""
    closed, own = view.closed_until or 0.0, view.state.next_try
    if closed > now and closed >= own:
        return [f"waits until {time_of_day(closed)} (the room asked)"]
    # A time that is further ahead was written by a wrong clock, and the courier does not heed it.
    return [f"next try at {time_of_day(own)}"] if 0 < own - now <= MAX_CLOSED else []
