"""The systemd unit that this process belongs to, and how root's courier leaves it.

When a unit ends, systemd ends every process in its control group. A courier that was started in a
unit that ends after each check would die before its message is delivered.
"""

from __future__ import annotations

import os
import sys
import time

_OURS = "flipbell.service"
_SERVICE = ".service"
_BOOTED = "/run/systemd/system"  # exists where systemd is the system's service manager
_LIMIT = 5.0  # seconds that systemd-run may take
_LOOK = 0.01  # seconds


def of(process: int | str = "self") -> str:
    """Return the service or scope that a process belongs to; empty if there is none."""
    try:
        with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="replace") as file:
            return unit_in(file.read())
    except OSError:  # not Linux, or the process has ended
        return ""


def unit_in(cgroups: str) -> str:
    """Return the unit that the lines of a cgroup file name.

    systemd keeps its units in a hierarchy named after it, or in that of version 2.
    """
    paths = {}
    for line in cgroups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers] = path
    names = f"{paths.get('', '')}/{paths.get('name=systemd', '')}".split("/")
    units = [name for name in names if name.endswith((_SERVICE, ".scope"))]
    return units[-1] if units else ""


def is_systemd_host() -> bool:
    """Return whether systemd manages this host."""
    return os.path.isdir(_BOOTED)


def is_borrowed(unit: str) -> bool:
    """Return whether a unit is another program's, so that its end would end a courier in it.

    A session's scope is not: systemd leaves it alone when the user logs out.
    """
    return unit.endswith(_SERVICE) and unit != _OURS


def leave(lock: int) -> bool:
    """Start this program again in a scope of its own; return whether it runs there now.

    Only root can, in another program's service, under systemd. The new process inherits the
    environment, so that no token gets into an argument, and the courier's *lock*.
    """
    unit = of()
    if os.getuid() != 0 or not is_systemd_host() or not is_borrowed(unit):
        return False
    import subprocess  # fronts do without

    command = ["systemd-run", "--scope", "--collect", "--quiet", "--description=flipbell courier"]
    command += ["--", sys.executable, *sys.orig_argv[1:], "--in-scope"]
    try:
        process = subprocess.Popen(command, pass_fds=[lock], user=0, group=0)  # noqa: S603  itself
    except OSError:  # not there, or no room for a process: better a courier here than none
        return False
    until = time.monotonic() + _LIMIT
    while process.poll() is None and time.monotonic() < until:
        if of(process.pid) not in ("", unit):
            return True
        time.sleep(_LOOK)
    process.kill()
    return process.wait() == 0
