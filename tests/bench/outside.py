"""What an agent pays for a wrapped check: processes, against the floors and the peers."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row, interleaved, process
from scratch import CHECK
from servers import Server, every_kind, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from measure import Subject, Table
    from scratch import Scratch

BARE, ISOLATED, OURS = "python -IS -c pass", "python -I -c pass", "flipbell run, unchanged"
PEERS = Path(__file__).parent / "peers"
STORM, DRIZZLE, FEW = 200, 20, 10  # changes at once; fewer where there are few rounds
_PAUSE = 0.1  # seconds in which the couriers of other subjects finish: a check comes each minute


def floors(scratch: Scratch) -> dict[str, Subject]:
    """Return what nothing can be faster than."""
    return {
        BARE: process([scratch.python, "-IS", "-c", "pass"], scratch.environ),
        ISOLATED: process([scratch.python, "-I", "-c", "pass"], scratch.environ),
        "/bin/true": process(["/bin/true"], scratch.environ),
        "check_dummy alone": process(CHECK, scratch.environ),
    }


def unchanged(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure the quiet path, and the peers that do as much."""
    subjects = floors(scratch)
    bars: dict[str, tuple[str, float]] = {}
    with serving(Server()) as url:
        site = scratch.site("unchanged", url)
        settle(scratch, site)
        subjects[OURS] = process(scratch.wrapped(), site)
        waiting = scratch.site("waiting", "http://127.0.0.1:1")
        with courier(scratch, waiting):
            for status in (0, 2):
                subprocess.run(
                    scratch.wrapped(status), env=waiting, check=False, capture_output=True
                )
            until_stamped(waiting, "2")
            name = f"{OURS}, while something is undelivered"
            subjects[name] = process(scratch.wrapped(2), waiting)
            bars[name] = (BARE, 1.25)
            for peer, (subject, bar) in peers(scratch, url).items():
                subjects[peer] = subject
                if bar is not None:
                    bars[peer] = (OURS, bar)
            found = interleaved(subjects, rounds, "unchanged")
    for name in subjects:
        if name == OURS:
            table.add(found.row(name, BARE, 1.20))
            table.add(Row("", "", found.ratio(name, ISOLATED), ISOLATED, 1.00))
        elif name in bars and bars[name][0] == OURS:
            table.add(found.row(name))
            table.add(Row(f"{OURS}", "", found.ratio(OURS, name), name, bars[name][1]))
        else:
            base, bar = bars.get(name, (BARE, None))
            table.add(found.row(name, "" if name == BARE else base, bar))


def peers(scratch: Scratch, url: str) -> dict[str, tuple[Subject, float | None]]:
    """Return other people's programs, each with what ours may take of its time."""
    found: dict[str, tuple[Subject, float | None]] = {}
    environ = {**scratch.environ, "STATE": str(scratch.base / "peer state"), "URL": url}
    if shutil.which("curl"):
        always = ["/bin/sh", str(PEERS / "always.sh"), *CHECK]
        found["sh and curl, which posts every result"] = (process(always, environ), None)
    python = scratch.peer("peers", "nagiosplugin", "apprise")
    if python is not None:
        cookie = [python, "-I", str(PEERS / "cookie.py")]
        found["nagiosplugin with a cookie"] = (process(cookie, environ), 0.35)
        command = [str(Path(python).parent / "apprise"), "--version"]
        found["apprise, its start alone"] = (process(command, environ), 0.10)
    python = scratch.peer("sensu", "sensu-plugin", "setuptools<81")
    if python is not None:
        event = str(PEERS / "event.json")
        handler = [
            "/bin/sh",
            "-c",
            'exec "$0" -I "$1" <"$2"',
            python,
            str(PEERS / "handler.py"),
            event,
        ]
        found["sensu-plugin's handler"] = (process(handler, environ), 0.12)
    return found


def changed(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure a change as the agent sees it, whatever HipChat does."""
    with every_kind() as urls:
        subjects = {ISOLATED: floors(scratch)[ISOLATED]}
        for kind, url in urls.items():
            site = scratch.site(f"changed {kind}", url)
            subprocess.run(scratch.wrapped(), env=site, check=False, capture_output=True)
            subjects[f"a change, HipChat {kind}"] = alternating(scratch, site)
        started = scratch.site("started", urls["up"])
        settle(scratch, started)
        first = "a change, courier to be started"
        subjects[first] = alternating(scratch, started, lambda: until_courier_ended(started))
        with couriers(scratch, [f"changed {kind}" for kind in urls]):
            found = interleaved(subjects, rounds, "changed")
        until_courier_ended(started)
    up = "a change, HipChat up"
    for name in subjects:
        bar = None if name == ISOLATED else 1.6 if name == first else 1.25
        table.add(found.row(name, "" if name == ISOLATED else ISOLATED, bar))
    for name in subjects:
        if name not in (ISOLATED, up, first):
            table.add(Row(name, "", found.ratio(name, up), up, 1.2))


def alternating(
    scratch: Scratch, site: Mapping[str, str], after: Callable[[], None] | None = None
) -> Subject:
    """Return a subject whose check has another status each time."""
    statuses = itertools.cycle([1, 2])

    def work() -> float:
        time.sleep(_PAUSE)
        took = process(scratch.wrapped(next(statuses)), site)()
        if after is not None:
            after()
        return took

    return work


def storm(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure many changes at once, until all are delivered, against a request in each process."""
    server, count = Server(), STORM if rounds >= FEW else DRIZZLE
    with serving(server) as url:

        def ours() -> float:
            site = scratch.site("storm", url)
            commands = [[*scratch.wrapped(2)] for _ in range(count)]
            for number, command in enumerate(commands):
                command[5] = f"check-{number}"
            return two_at_a_time(commands, site, server)

        def inline() -> float:
            script = [scratch.python, "-I", str(PEERS / "inline.py"), url]
            return two_at_a_time([script] * count, scratch.environ, server)

        names = f"{count} changes, all delivered", f"{count} Python scripts with requests"
        subjects = dict(zip(names, (ours, inline), strict=True))
        found = interleaved(subjects, max(2, rounds // 10), "storm")
    table.add(found.row(names[1]))
    table.add(found.row(names[0], names[1], 0.30))


def two_at_a_time(commands: list[list[str]], environ: Mapping[str, str], server: Server) -> float:
    """Run commands, two beside each other; return when all that they have to say was accepted."""
    before, begun = server.accepted, time.perf_counter()
    running: list[subprocess.Popen[bytes]] = []
    for command in commands:
        if len(running) > 1:
            running.pop(0).wait()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running.append(subprocess.Popen(command, env=environ, **quiet))  # type: ignore[call-overload]
    for process_ in running:
        process_.wait()
    server.wait_for(before + len(commands))
    return time.perf_counter() - begun


def instructions(scratch: Scratch, table: Table, _: int) -> None:
    """Count instructions, which no other work on the machine disturbs."""
    if not shutil.which("valgrind"):
        table.add(Row("instructions", "not counted: valgrind is not installed"))
        return
    with serving(Server()) as url:
        site = scratch.site("instructions", url)
        settle(scratch, site)
        bare = counted([scratch.python, "-IS", "-c", "pass"], site)
        ours = counted(scratch.wrapped(), site)
    table.add(Row(f"instructions of {BARE}", f"{bare / 1e6:.2f} million"))
    named = f"instructions of {OURS}"
    table.add(Row(named, f"{ours / 1e6:.2f} million", ours / bare, BARE, 1.06))


def counted(command: list[str], environ: Mapping[str, str]) -> int:
    """Return the instructions of a command, the launcher's shell included, the check's not."""
    options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
    done = subprocess.run(
        ["valgrind", *options, f"--trace-children-skip={CHECK[0]}", *command],
        env={**environ, "FLIPBELL_COURIER": "off"},
        check=False,
        capture_output=True,
    )
    return sum(map(int, re.findall(rb"Collected : (\d+)", done.stderr)))


# The state of a site, seen from outside


def settle(scratch: Scratch, site: Mapping[str, str]) -> None:
    """Have the check known and everything delivered."""
    subprocess.run(scratch.wrapped(), env=site, check=False, capture_output=True)
    until_stamped(site, "0")
    until_courier_ended(site)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.005)


def until_stamped(site: Mapping[str, str], status: str) -> None:
    """Wait until the check's status is settled."""
    state = Path(site["FLIPBELL_STATE"])

    def is_stamped() -> bool:
        stamps = [home / "web-01,dummy" for home in state.glob("quiet.*")]
        return any(stamp.is_symlink() and os.readlink(stamp) == status for stamp in stamps)

    until(is_stamped, f"{state}: no stamp")


def until_courier_ended(site: Mapping[str, str]) -> None:
    """Wait until no courier holds its lock; only while no front is at work."""
    with (Path(site["FLIPBELL_STATE"]) / "courier.lock").open("rb") as lock:

        def is_free() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(lock, fcntl.LOCK_UN)
            return True

        until(is_free, f"{lock.name}: the courier does not end")


@contextmanager
def courier(scratch: Scratch, site: Mapping[str, str]) -> Iterator[None]:
    """Have a courier at work, as a service would."""
    process_ = subprocess.Popen([scratch.flipbell, "courier"], env=dict(site))
    try:
        until((Path(site["FLIPBELL_STATE"]) / "ledger").exists, "the courier does not start")
        yield
    finally:
        process_.send_signal(signal.SIGTERM)
        process_.wait()


@contextmanager
def couriers(scratch: Scratch, names: list[str]) -> Iterator[None]:
    """See that what was started for sites that deliver slowly or never ends with the measuring."""
    try:
        yield
    finally:
        for name in names:
            state = str(scratch.base / f"site {name}" / "state")
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                except OSError:
                    continue
                if state in words and "courier" in words:
                    os.kill(int(pid), signal.SIGTERM)
