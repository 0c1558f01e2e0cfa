"""The systemd units that `flipbell init` enables: no courier dies with the unit of a check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flipbell.cli import CommandError
from flipbell.cli.hooks import filled_in
from flipbell.cli.shipped import shipped
from flipbell.unit import is_systemd_host

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

_UNITS = Path("/etc/systemd/system")
_ENABLED = ("flipbell.path", "flipbell.timer")
_SHIPPED = (*_ENABLED, "flipbell.service")
_USER = "User=nagios"
_STATE = "/var/lib/flipbell"
_COURIER = f"courier --until-idle --state {_STATE}"
_LIMIT = 60.0  # seconds
_HINT = (
    "note: systemd ends a courier with the unit that started it; if the agent's checks run in "
    "timers, sockets or OnFailure= units, do what flipbell hooks systemd says (or use --service)"
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--service",
        action="store_true",
        default=None,
        help="let systemd start couriers in a unit of their own (default: ask on a terminal)",
    )
    choice.add_argument(
        "--no-service", dest="service", action="store_false", help="install no units"
    )


def plan(choice: bool | None, *, user: str, config: str, state: str) -> dict[Path, str]:
    """Return the unit files to write, which are none unless the operator wants them.

    Without a terminal to ask on, nothing is installed: a program that sets hosts up should not
    enable units that its configuration does not name. Raises CommandError.
    """
    is_possible = os.geteuid() == 0 and is_systemd_host()
    if choice and not is_possible:
        raise CommandError("--service: only root can, on a host that systemd manages")
    if choice is None and is_possible:
        choice = _ask()
    if not choice:
        return {}
    for path in (config, state):
        if not re.fullmatch(r"[\w./@:+-]+", path):
            raise CommandError(f"--service: {path!r} cannot stand in a unit; see hooks/systemd")
    units = {
        _UNITS / name: _for_this_host(
            filled_in(shipped(f"hooks/systemd/{name}")), user, config, state
        )
        for name in _SHIPPED
    }
    for file, content in units.items():
        if file.exists() and file.read_text(encoding="utf-8") != content:
            raise CommandError(f"{file} exists and differs; nothing was written")
    return units


def _ask() -> bool:
    if not sys.stdin.isatty():
        print(_HINT)
        return False
    try:
        answer = input("Let systemd start couriers, so that none dies with a check's unit? [Y/n] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("", "y", "yes")


def _for_this_host(unit: str, user: str, config: str, state: str) -> str:
    unit = unit.replace(_USER, f"User={user}")
    unit = unit.replace(_COURIER, f"{_COURIER} --config {config}")
    return unit.replace(_STATE, state)


def enable(units: Mapping[Path, str]) -> None:
    """Write unit files and enable the path and the timer. Raises CommandError."""
    if not units:
        return
    for path, content in units.items():
        path.write_text(content, encoding="utf-8")
        path.chmod(0o644)
        print(f"made {path}")
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", *_ENABLED)
    print(f"enabled {' and '.join(_ENABLED)}")


def _systemctl(*arguments: str) -> None:
    command = ["systemctl", *arguments]
    try:
        done = subprocess.run(  # noqa: S603  no input of others
            command, check=False, capture_output=True, timeout=_LIMIT, encoding="utf-8"
        )
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        words = " ".join(command)
        raise CommandError(f"{words}: {problem}; all else is set up, so repeat this by hand")
