"""`flipbell status`: what is failing, undelivered or broken, and where it looked."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from flipbell import look
from flipbell.cli import add_command, seconds
from flipbell.cli.metrics import as_prometheus
from flipbell.cli.tables import colored, table
from flipbell.log import escaped
from flipbell.message import duration
from flipbell.model import Status
from flipbell.unit import is_borrowed

if TYPE_CHECKING:
    import argparse

_STUCK = 60.0  # seconds


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "status",
        command,
        summary="show what is failing, undelivered or broken",
        example="flipbell status",
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


def command(options: argparse.Namespace) -> int:
    """Show the survey; return 0 only where nothing needs a person."""
    seen = look.survey(options.state, options.config)
    if options.plugin:
        status, said = as_plugin(seen, options.limit, time.time())
        print(f"FLIPBELL {status.name} - {said}")
        return status.value
    if options.format == "prometheus":
        print(as_prometheus(seen, time.time()), end="")
        return 0
    is_json = options.json or options.format == "json"
    print(json.dumps(_as_json(seen)) if is_json else _as_text(seen))
    return 0 if seen.is_fine else 1


def _as_json(seen: look.Survey) -> dict[str, object]:
    return {
        "state": seen.state,
        "config": seen.config,
        "fine": seen.is_fine,
        "faults": list(seen.faults),
        "notes": list(seen.notes),
        "problems": [str(problem) for problem in seen.problems],
        "courier": seen.is_courier_alive,
        "killed_couriers": seen.killed[0],
        "untaken": seen.untaken,
        "checks": seen.checks,
        "late": seen.late,
        "failing": [
            {"host": host, "check": check, "status": status.name, "since": since}
            for host, check, status, since in seen.failing
        ],
        "channels": [
            {**asdict(view.state), "waiting": view.waiting, "dead": view.dead, "fault": view.fault}
            for view in seen.channels
        ],
    }


def as_plugin(seen: look.Survey, limit: float, now: float) -> tuple[Status, str]:
    """Return the status of flipbell itself, and what is wrong in one line with metrics."""
    late = [view for view in seen.waiting if view.oldest is not None and now - view.oldest > limit]
    paused = [view for view in seen.channels if view.state.paused]
    is_stuck = seen.untaken_since is not None and now - seen.untaken_since > limit
    errors = [problem for problem in seen.problems if not problem.is_warning]
    dead = sum(view.dead for view in seen.channels)
    critical = [
        *seen.faults,
        *(f"channel {view.state.name} is paused: {view.state.last_error}" for view in paused),
        *(f"channel {view.state.name}: a change waits for too long" for view in late),
        *(["recorded results wait for a courier for too long"] if is_stuck else []),
    ]
    warning = [*map(str, errors), *([f"{dead} messages were given up"] if dead else [])]
    status = Status.CRITICAL if critical else Status.WARNING if warning else Status.OK
    said = escaped("; ".join(critical + warning)).replace("|", "/")
    waiting = sum(view.waiting for view in seen.channels)
    oldest = max((now - view.oldest for view in seen.waiting if view.oldest), default=0.0)
    metrics = f"waiting={waiting} oldest={max(0, int(oldest))}s dead={dead}"
    return status, f"{said or f'{len(seen.channels)} channels'} | {metrics}"


def _as_text(seen: look.Survey) -> str:
    parts = [
        table(
            [
                ("state", seen.state),
                ("config", seen.config),
                ("courier", _courier(seen)),
                ("checks", f"{seen.checks} seen, {len(seen.failing)} not OK"),
            ]
        )
    ]
    parts += [f"broken: {fault}" for fault in seen.faults]
    parts += [str(problem) for problem in seen.problems]
    parts += [f"note: {note}" for note in seen.notes]
    parts += [_killed(*seen.killed)] if seen.has_killed_couriers else []
    if seen.failing:
        parts.append(_failing(seen))
    if seen.channels:
        parts.append(table([_channel(view) for view in seen.channels]))
    if not seen.has_channels:
        parts.append("no channel works: nobody would be told of anything")
    if seen.untaken and not seen.is_courier_alive:
        parts.append("recorded results wait for a courier: run flipbell flush")
    elif seen.untaken_since is not None and time.time() - seen.untaken_since > _STUCK:
        parts.append("recorded results wait although a courier is at work: is it stopped?")
    return "\n".join(parts)


def _courier(seen: look.Survey) -> str:
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


def _failing(seen: look.Survey) -> str:
    now = time.time()
    rows = [
        (status.name, f"{check} on {host}", f"for {duration(now - since)}")
        for host, check, status, since in seen.failing
    ]
    lines = table(rows).split("\n")
    return "\n".join(
        colored(line, found[2]) for line, found in zip(lines, seen.failing, strict=True)
    )


def _channel(view: look.ChannelView) -> tuple[str, ...]:
    said = []
    if view.waiting:
        said.append(f"{view.waiting} waiting")
    if view.dead:
        said.append(f"{view.dead} given up")
    if view.state.paused:
        said.append("paused")
    if view.state.last_error:
        said.append(view.state.last_error)
    if view.fault:
        said.append(view.fault)
    return ("channel", view.state.name, "; ".join(said) or "all delivered")
