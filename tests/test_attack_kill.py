"""kill -9 at random: of fronts, couriers and an agent, several at once, while the server is flaky.

Every change that reached the spool must reach the room, in order, and whatever is told twice must
say so. The kills are counted by the phase that they hit, and each phase must be hit.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from conftest import FLIPBELL, unmeasured, until
from flipbell import spool
from hipchat_room import Answer, HipChatRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug import Request, Response

    from conftest import Site
    from hipchat_room import HipChatServer

WORKERS = 3
_MOST = 15  # times as many kills as wanted, until each phase was hit
PHASES = (
    "before the commit",
    "between commit and courier",
    "in the request",
    "between answer and commit",
)
AGENT = """
import flipbell, sys, time
bell = flipbell.start("attacked")
check, *outputs = sys.argv[1:]
for number, output in enumerate(outputs):
    bell.report(flipbell.CheckResult("h", check, flipbell.Status(1 + number % 2), output))
    time.sleep(0.01)
time.sleep(20)
"""


class FlakyRoom(HipChatRoom):
    """Accepts most messages, says no to some, and lies about a few."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._random = random.Random(7)
        self.is_flaky = True
        self.open = 0
        self.arrived = threading.Semaphore(0)
        self.answered = threading.Semaphore(0)

    def answer(self, request: Request, uri: str) -> Response:
        """Take a request, in its own time."""
        self.open += 1
        self.arrived.release()
        if self.is_flaky:
            time.sleep(self._random.random() * 0.02)
            accepted = Answer(accept=True)
            odd = [Answer(503), Answer(500, accept=True), accepted, accepted, accepted, accepted]
            self.otherwise = self._random.choice(odd)
        else:
            self.otherwise = Answer()
        response = super().answer(request, uri)
        response.call_on_close(self._close)
        return response

    def _close(self) -> None:
        self.open -= 1
        self.answered.release()


class Attack:
    """Starts things, and kills them."""

    def __init__(self, site: Site, room: FlakyRoom) -> None:
        self._site = site
        self._room = room
        self._numbers = iter(range(1_000_000))
        self._environ = unmeasured(site.environ)
        self._lock = threading.Lock()
        self.phases: collections.Counter[str] = collections.Counter()
        self.kills = 0

    def round(self, seed: int) -> None:
        """Kill one thing at some moment."""
        dice = random.Random(seed)
        check = f"check-{seed % WORKERS}-{seed % 7}"
        fronts = [self._kill_front, self._kill_front_that_has_recorded]
        others = [
            *(self._kill_courier, self._kill_courier),
            *(self._kill_courier_that_cannot_commit, self._kill_agent),
        ]
        dice.choice([*fronts, *others])(check, dice)
        self.kills += 1

    @property
    def _ledger(self) -> str:
        return f"{self._site.state}/ledger"

    def _new(self, check: str) -> str:
        """Return a check that was never seen, so that most of its results are told."""
        return f"{check}-{next(self._numbers)}"

    def _output(self) -> str:
        return f"n{next(self._numbers)}"

    def _front(self, check: str, dice: random.Random) -> tuple[subprocess.Popen[bytes], str]:
        output = self._output()
        script = f"echo {output}; exit {dice.randrange(4)}"
        wrapped = ["--host", "h", "--check", check, "--", "sh", "-c", script]
        command = [FLIPBELL, "run", *wrapped]
        process = subprocess.Popen(
            command, env=self._environ, stdout=subprocess.DEVNULL, start_new_session=True
        )
        return process, output

    def _kill_front(self, check: str, dice: random.Random) -> None:
        process, output = self._front(check, dice)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(dice.random() * 0.1)
        self._kill_now(process, output)

    def _kill_front_that_has_recorded(self, check: str, dice: random.Random) -> None:
        process, output = self._front(check, dice)
        while process.poll() is None and not self._is_recorded(output):
            pass
        self._kill_now(process, output)

    def _kill_now(self, process: subprocess.Popen[bytes], output: str) -> None:
        """Kill a front with the child that records for it."""
        was_alive = process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if was_alive:
            self.phases[PHASES[1] if self._is_recorded(output) else PHASES[0]] += 1

    def _is_recorded(self, output: str) -> bool:
        return f"\t{output}\\n".encode() in self._spool()

    def _kill_courier(self, check: str, dice: random.Random) -> None:
        moment = dice.choice([self._room.arrived, self._room.answered])
        while moment.acquire(blocking=False):
            pass
        # A look for couriers takes longer than from an answer to its commit.
        known = self._site.couriers()
        process, _ = self._front(self._new(check), dice)
        until = time.monotonic() + 0.5
        while not moment.acquire(timeout=0.005) and time.monotonic() < until:
            known = self._site.couriers() or known
        time.sleep(dice.random() * 0.002)
        with self._lock:
            still = [pid for pid in known if self._site._is_courier(pid)]
            for pid in still or self._site.couriers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._count_sending()
        process.wait(30)

    def _kill_courier_that_cannot_commit(self, check: str, dice: random.Random) -> None:
        """Kill a courier that has its answer, and waits for a reader to write it down."""
        for moment in (self._room.arrived, self._room.answered):
            while moment.acquire(blocking=False):
                pass
        process, _ = self._front(self._new(check), dice)
        if self._room.arrived.acquire(timeout=0.5):
            with self._lock, contextlib.suppress(sqlite3.OperationalError):
                with contextlib.closing(sqlite3.connect(self._ledger, timeout=1)) as reader:
                    reader.execute("BEGIN")
                    reader.execute("SELECT count(*) FROM setting").fetchone()
                    self._room.answered.acquire(timeout=0.5)
                    for pid in self._site.couriers():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                self._count_sending()
        process.wait(30)

    def _count_sending(self) -> None:
        is_open = self._room.open > 0
        if self._sending():
            self.phases[PHASES[2] if is_open else PHASES[3]] += 1

    def _sending(self) -> bool:
        """Return whether the courier died with a message on its way."""
        if self._site.couriers():
            return False
        query = "SELECT count(*) FROM deliveries WHERE state = 'sending'"
        with contextlib.closing(sqlite3.connect(self._ledger, timeout=5)) as ledger:
            try:
                return bool(ledger.execute(query).fetchone()[0])
            except sqlite3.OperationalError:  # killed before it was made
                return False

    def _kill_agent(self, check: str, dice: random.Random) -> None:
        outputs = [self._output() for _ in range(4)]
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, f"agent-{check}", *outputs], env=self._environ
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1 + dice.random() * 0.4)
        process.kill()
        process.wait()

    def _spool(self) -> bytes:
        try:
            return (self._site.state / "spool").read_bytes()
        except FileNotFoundError:
            return b""


def _expected(site: Site) -> dict[str, list[str]]:
    """Return the outputs that each check's room must hear of, from the spool alone."""
    known: dict[str, tuple[int, float]] = {}
    told: dict[str, list[str]] = collections.defaultdict(list)
    for line in spool.Reader(str(site.state)).lines():
        found = spool.decode(line)
        if found is None:
            continue
        at, status, _, check, output, _ = found
        before = known.get(check)
        if before is not None and (at < before[1] or before[0] == status):
            continue
        known[check] = (status, at)
        if before is not None or status:
            told[check].append(output.strip())
    return told


def _three_times_unknown(site: Site) -> set[str]:
    """Return what counts as perhaps delivered, as the outcome of three tries is unknown."""
    with contextlib.closing(sqlite3.connect(site.state / "ledger")) as ledger:
        rows = ledger.execute(
            "SELECT output FROM transitions JOIN deliveries ON transition = id"
            " WHERE state = 'perhaps' AND unknown >= 3"
        ).fetchall()
    return {output.strip() for (output,) in rows}


def _heard(room: HipChatRoom) -> Iterator[tuple[str, str, bool]]:
    for heard in room.heard:
        found = re.search(r"</b>: (\S+) on h.*<br>(n\d+)", str(heard.body["message"]))
        assert found, heard.body
        yield found[1], found[2], heard.is_repeat


def test_nothing_is_lost_and_every_repeat_says_so(
    site: Site, hipchat_server: HipChatServer, figures: list[str], *, is_long: bool
) -> None:
    room = hipchat_server.add(FlakyRoom)
    site.channel(room.url, per_minute=0)
    attack = Attack(site, room)
    with ThreadPoolExecutor(WORKERS) as pool:
        wanted = 2000 if is_long else 200
        list(pool.map(attack.round, range(wanted)))
        while set(attack.phases) != set(PHASES) and attack.kills < _MOST * wanted:
            list(pool.map(attack.round, range(attack.kills, attack.kills + wanted)))
    room.is_flaky = False
    until(lambda: site.flipbell("flush").returncode == 0, timeout=60)

    told: dict[str, list[str]] = collections.defaultdict(list)
    repeats = 0
    for check, output, is_repeat in _heard(room):
        if output not in told[check]:
            told[check].append(output)
        else:
            assert is_repeat, f"{check} {output} was told twice without a word"
            repeats += 1
    expected = _expected(site)
    unheard = _three_times_unknown(site) - {output for found in told.values() for output in found}
    for check, outputs in expected.items():
        expected[check] = [output for output in outputs if output not in unheard]
    figures.append(
        f"kill -9: {attack.kills} kills, {sum(map(len, told.values()))} changes told,"
        f" {repeats} repeats, all labelled, {len(unheard)} killed three times before they were"
        f" heard; by phase: {dict(attack.phases)}"
    )
    assert told == expected
    assert len(unheard) <= attack.kills // 50
    assert set(attack.phases) == set(PHASES)
    assert room.faults == []
