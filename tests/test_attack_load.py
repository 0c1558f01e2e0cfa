"""Many processes, a long outage, a full disk: nothing is lost, told twice, or out of order."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, Process, until
from hipchat_room import Answer, HipChatRoom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from werkzeug import Request, Response

    from conftest import Site
    from hipchat_room import HipChatServer


def _changes(number: int, count: int) -> bytes:
    """Return as many changes of one check as JSON lines."""
    lines = [
        {"host": "h", "check": f"c{number}", "status": 1 + change % 2, "output": f"n{change}"}
        for change in range(count)
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _heard(room: HipChatRoom) -> dict[str, list[int]]:
    """Return the numbers that a room heard of each check, in its order."""
    told: dict[str, list[int]] = collections.defaultdict(list)
    for heard in room.heard:
        found = re.search(r"</b>: (\S+) on h.*<br>n(\d+)$", str(heard.body["message"]))
        assert found, heard.body
        told[found[1]].append(int(found[2]))
    return told


def test_many_processes_and_three_rooms(
    site: Site, hipchat_server: HipChatServer, figures: list[str], *, is_long: bool
) -> None:
    processes, results = (64, 200) if is_long else (16, 20)
    rooms = {name: hipchat_server.room() for name in ("one", "two", "three")}
    for name, room in rooms.items():
        site.channel(room.url, name, per_minute=0)

    def report(number: int) -> bytes:
        done = site.flipbell("stream", stdin=_changes(number, results), timeout=300)
        return done.stdout + done.stderr

    with ThreadPoolExecutor(processes) as pool:
        answers = b"".join(pool.map(report, range(processes)))
    assert answers.count(b'"recorded"') == processes * results
    assert b"error" not in answers
    until(lambda: site.flipbell("flush", timeout=300).returncode == 0, timeout=600)

    expected = {f"c{number}": [*range(results)] for number in range(processes)}
    for room in rooms.values():
        assert _heard(room) == expected
    figures.append(
        f"load: {processes} processes x {results} results x 3 rooms, each once, in order"
    )


class TimedRoom(HipChatRoom):
    """Knows when each request came."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.times: list[float] = []
        self.otherwise = Answer(503)

    def answer(self, request: Request, uri: str) -> Response:
        """Take a request."""
        self.times.append(time.time())
        return super().answer(request, uri)

    def most_in_a_minute(self, since: int) -> int:
        """Return how many requests came within any one minute, from the given one on."""
        times = self.times[since:]
        return max(sum(0 <= other - time < 60 for other in times) for time in times)


def test_a_day_of_outage(
    site: Site, hipchat_server: HipChatServer, figures: list[str], *, is_long: bool
) -> None:
    changes = 5000 if is_long else 1500
    room = hipchat_server.add(TimedRoom)
    site.channel(room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    begin = time.time() - 86400
    lines = [
        {
            "host": f"h{number % 10}",
            "check": "c",
            "status": 1 + number // 10 % 2,
            "occurred_at": begin + number * 86400 / changes,
            "output": f"n{number}",
        }
        for number in range(changes)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines)
    assert site.flipbell("stream", stdin=content).stdout.count(b"recorded") == changes

    with Process([FLIPBELL, "courier"], env=site.environ):
        room.wait_for_requests(2)
        room.otherwise = Answer()
        since = len(room.times)
        seen: list[int] = []

        def all_told() -> bool:
            text = "<br>".join(str(heard.body["message"]) for heard in room.heard)
            seen[:] = map(int, re.findall(r"(?:  |<br>)n(\d+)", text))
            return len(seen) >= changes

        until(all_told, timeout=400)
        until(lambda: site.status()["channels"][0]["waiting"] == 0)

    assert sorted(seen) == [*range(changes)]
    per_host = [[n for n in seen if n % 10 == host] for host in range(10)]
    assert per_host == [sorted(numbers) for numbers in per_host]
    assert room.most_in_a_minute(0) <= 30
    figures.append(
        f"outage: {changes} changes told by {len(room.heard)} messages,"
        f" at most {room.most_in_a_minute(since)} requests in a minute"
    )


@pytest.fixture
def small_disk(site: Site) -> Iterator[Path]:
    """A state directory on a file system of its own, of 12 MiB."""
    site.state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", str(site.state)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a tmpfs")
    yield site.state
    for pid in site.couriers():
        os.kill(pid, 9)
    subprocess.run(["umount", "-l", str(site.state)], check=True)


def _fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def test_a_full_disk_still_takes_some_hundred_changes(
    site: Site, small_disk: Path, hipchat_server: HipChatServer, figures: list[str]
) -> None:
    room = hipchat_server.room()
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(room.url, per_minute=0, format="text")
    site.run("first", 2)
    site.deliver()  # the courier sets the reserve aside
    filler = _fill(small_disk)
    big = "x" * 4000
    lines = "".join(
        json.dumps(
            {"id": n, "host": "h", "check": "c", "status": 1 + n % 2, "output": f"n{n} {big}"}
        )
        + "\n"
        for n in range(800)
    )

    answers = [
        json.loads(line) for line in site.flipbell("stream", stdin=lines).stdout.splitlines()
    ]
    filler.unlink()
    site.deliver()

    recorded = [answer["id"] for answer in answers if answer.get("result") == "recorded"]
    errors = {answer["error"] for answer in answers if "error" in answer}
    assert len(recorded) >= 200
    assert errors
    assert all("No space left on device" in error for error in errors), errors
    heard = [re.search(r"\nn(\d+) ", str(each.body["message"])) for each in room.heard[1:]]
    assert set(recorded) <= {int(found[1]) for found in heard if found}
    figures.append(f"full disk: {len(recorded)} changes of 4 kB recorded, then: {min(errors)}")


def test_a_server_that_states_a_reset_is_left_alone_until_then(
    site: Site, hipchat_server: HipChatServer
) -> None:
    room = hipchat_server.add(TimedRoom)
    site.channel(room.url, "one")
    site.channel(room.url, "two")  # the same room: what it asked for holds for both
    reset = int(time.time()) + 4
    limited = {"X-FloodControl-Remaining": "0", "X-FloodControl-Reset": str(reset)}
    room.answers = [Answer(429, headers=limited), Answer(429, headers=limited)]
    room.otherwise = Answer()
    site.run("disk", 2)

    room.wait_for(2)

    assert min(room.times[2:]) >= reset


def _is_being_written(ledger: Path) -> bool:
    """Return whether a courier is in the middle of a transaction."""
    with contextlib.closing(sqlite3.connect(ledger, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def test_a_reader_that_keeps_the_ledger_open_delays_and_doubles_nothing(
    site: Site, hipchat_server: HipChatServer
) -> None:
    room = hipchat_server.room()
    site.channel(room.url, per_minute=0)
    site.run("disk", 2)
    until(lambda: not site.couriers() and len(room.heard) == 1)
    with contextlib.closing(sqlite3.connect(site.state / "ledger")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM setting").fetchone()

        for code in (1, 0):  # recorded all the same, and at once
            site.run("disk", code)
        until(lambda: _is_being_written(site.state / "ledger"))
        assert len(room.heard) == 1
    room.wait_for(3, timeout=40)

    site.deliver()
    assert room.statuses == ["CRITICAL", "WARNING", "OK"]
