"""System calls that fail, or at which the process is killed, one at a time.

strace injects the fault. An uninjected run shows the points: every call that touches the state
directory, and every call of the courier that touches the network.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import random
import re
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom

    Point = tuple[str, int]

FILES = ["", "/spool", "/append.lock", "/courier.lock", "/wake", "/ledger", "/ledger-journal"]
NETWORK = "connect,sendto,recvfrom"
FAULTS = ["error=EIO", "error=ENOSPC", "error=EINTR", "error=EACCES", "signal=SIGKILL"]
KILL = FAULTS[-1]


class Tracer:
    """Runs flipbell under strace."""

    def __init__(self, strace: str, site: Site, scratch: Path) -> None:
        self._strace = strace
        self._site = site
        self._trace = scratch / "trace"
        self._paths = [word for name in FILES for word in ("-P", f"{site.state}{name}")]
        self.is_of_network = False

    def run(self, arguments: Sequence[str], fault: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run flipbell, with a fault or without."""
        calls = ["-e", f"trace={NETWORK}"] if self.is_of_network else self._paths
        inject = ["-e", f"inject={fault}"] if fault else []
        command = [self._strace, "-f", "-qq", "-o", str(self._trace), *calls, *inject]
        return subprocess.run(
            [*command, FLIPBELL, *arguments],
            env=unmeasured(self._site.environ),
            check=False,
            timeout=60,
            capture_output=True,
        )

    def points(self) -> list[Point]:
        """Return each call of the last run, numbered within its process and name."""
        counts: collections.Counter[tuple[str, str]] = collections.Counter()
        for process, name in re.findall(r"^(\d+) +(\w+)\(", self._trace.read_text(), re.MULTILINE):
            counts[process, name] += 1
        most: dict[str, int] = {}
        for (_, name), count in counts.items():
            most[name] = max(count, most.get(name, 0))
        return [(name, number + 1) for name, count in most.items() for number in range(count)]

    def was_injected(self) -> bool:
        """Return whether the last run met its fault."""
        trace = self._trace.read_text()
        return "(INJECTED)" in trace or "killed by SIGKILL" in trace


@pytest.fixture
def tracer(
    site: Site, hipchat_room: HipChatRoom, tmp_path: Path, tool: Callable[[str], str]
) -> Tracer:
    """A tracer of a site whose only couriers are those that the test starts."""
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url, per_minute=0)
    return Tracer(tool("strace"), site, tmp_path)


def _picked(points: list[Point], *, is_long: bool, short: int) -> list[tuple[Point, str]]:
    """Return every point with every fault, or some of them that are spread over all calls."""
    everything = list(itertools.product(points, FAULTS))
    return everything if is_long else random.Random(5).sample(everything, short)


def _inject(
    tracer: Tracer, picked: list[tuple[Point, str]], attempt: Callable[[str, str], None]
) -> int:
    """Try each point; return how many were met."""
    met = 0
    for (name, number), fault in picked:
        attempt(f"{name}:{fault}:when={number}", fault)
        met += tracer.was_injected()
    return met


def test_a_front_whose_calls_fail(
    site: Site, hipchat_room: HipChatRoom, tracer: Tracer, figures: list[str], *, is_long: bool
) -> None:
    statuses = itertools.cycle([1, 2])

    def check() -> tuple[int, list[str]]:
        code = next(statuses)
        script = f"echo out; echo err >&2; exit {code}"
        return code, ["run", "--host", "h", "--check", "c", "--", "sh", "-c", script]

    def attempt(fault: str, kind: str) -> None:
        code, arguments = check()
        done = tracer.run(arguments, fault)
        if not (kind == KILL and done.returncode < 0):  # killed itself: there is no answer
            assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n"), fault
        site.flipbell(*arguments)  # the next result heals what could not be recorded

    for _ in range(2):  # the first makes the state directory
        tracer.run(check()[1])
    points = tracer.points()
    picked = _picked(points, is_long=is_long, short=12)
    met = _inject(tracer, picked, attempt)
    site.deliver()

    figures.append(f"faults in a front: {met} met of {len(picked)} tried, {len(points)} calls")
    names = itertools.cycle(["WARNING", "CRITICAL"])
    assert hipchat_room.statuses == list(itertools.islice(names, len(picked) + 2))
    assert met == len(picked)


def test_a_courier_whose_calls_fail(
    site: Site, hipchat_room: HipChatRoom, tracer: Tracer, figures: list[str], *, is_long: bool
) -> None:
    statuses = itertools.cycle([1, 2])
    site.run("c", 0)
    site.deliver()
    tried = met = calls = 0

    def attempt(fault: str, _: str) -> None:
        before = len(hipchat_room.heard)
        site.run("c", next(statuses))
        tracer.run(["flush", "--timeout", "5"], fault)
        site.deliver()
        new = hipchat_room.heard[before:]
        assert [heard.is_repeat for heard in new].count(False) <= 1, fault
        assert len({heard.status for heard in new}) == 1, fault
        with contextlib.closing(sqlite3.connect(site.state / "ledger")) as ledger:
            assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",), fault

    for is_of_network in (False, True):
        tracer.is_of_network = is_of_network
        site.run("c", next(statuses))
        tracer.run(["flush"])
        points = tracer.points()
        picked = _picked(points, is_long=is_long, short=3 if is_of_network else 8)
        met += _inject(tracer, picked, attempt)
        tried, calls = tried + len(picked), calls + len(points)

    figures.append(f"faults in a courier: {met} met of {tried} tried, {calls} calls")
    heard = [status for status, _ in itertools.groupby(hipchat_room.statuses)]
    assert heard == list(itertools.islice(itertools.cycle(["WARNING", "CRITICAL"]), tried + 2))
    assert met >= tried * 9 // 10  # what fails early makes later calls go away
