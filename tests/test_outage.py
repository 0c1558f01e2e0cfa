"""A room that fails for a while with unknown outcomes: nothing is lost, and little repeated."""

from __future__ import annotations

import collections
import itertools
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from conftest import until
from flipbell import fifo, log, message, recorder, spool, state
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.look import survey
from flipbell.rooms import Rooms
from hipchat_room import Answer, HipChatRoom

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug import Request, Response

    from conftest import Site
    from hipchat_room import HipChatServer

HOUR = 3600.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class FailingRoom(HipChatRoom):
    """Fails every request, probes among them, until a time on the test's clock."""

    clock: Clock
    until = 0.0
    failure = Answer()

    def answer(self, request: Request, uri: str) -> Response:
        """Fail, or answer as usual."""
        self.otherwise = self.failure if self.clock() < self.until else Answer()
        return super().answer(request, uri)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(hipchat_server: HipChatServer, clock: Clock) -> FailingRoom:
    made = hipchat_server.add(FailingRoom)
    made.clock = clock
    return made


def _record(site: Site, numbers: range) -> None:
    """Record changes, each of a check of its own."""
    lines = [spool.encode(b"h", b"c%d" % n, 2, b"n%d." % n, time.time()) for n in numbers]
    recorder.append(str(site.state), lines)


def _courier(site: Site, clock: Clock) -> Courier:
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    extensions = Extensions()
    rooms = Rooms(str(site.config), extensions.channel_types(), log.warning)
    return Courier(str(site.state), rooms, extensions, lock=lock, clock=clock, chance=lambda: 0.0)


def _pass_time(
    site: Site, clock: Clock, step: float, is_over: Callable[[], Any] = lambda: False
) -> None:
    """Have a courier work while the clock moves, until it leaves or all is over."""
    courier = _courier(site, clock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()

    def has_ended() -> bool:
        clock.now += step
        fifo.wake(str(site.state))
        return bool(is_over()) or not thread.is_alive()

    until(has_ended, timeout=120)
    courier.stop()
    thread.join(10)


def _heard(room: HipChatRoom) -> dict[int, int]:
    """Return how often each change was heard; all but one of the copies have to say so."""
    copies: collections.Counter[int] = collections.Counter()
    first: collections.Counter[int] = collections.Counter()
    for heard in room.heard:
        text = str(heard.body["message"])
        numbers = [int(digits) for digits in re.findall(r"\bn(\d+)\.", text)]
        copies.update(numbers)
        first.update([] if text.startswith(message.REPEAT) else numbers)
    assert set(first.values()) <= {1}
    return dict(copies)


FAILURES = {"500": Answer(500), "502": Answer(502), "504": Answer(504), "silence": Answer(500)}


@dataclass(frozen=True)
class Outage:
    """How a room fails, for how many seconds, and what happens meanwhile."""

    failure: str
    lasts: float
    changes: int
    per_minute: int

    def __str__(self) -> str:
        return f"{self.failure}-{self.lasts:.0f}s-{self.changes}-{self.per_minute}"


OUTAGES = [
    Outage(*case)
    for case in itertools.product(FAILURES, (20.0, HOUR, 24 * HOUR), (1, 3, 100), (0, 30))
]
SOME = {*OUTAGES[::7], Outage("502", 20.0, 3, 30), Outage("502", 20.0, 100, 30)}


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
def test_an_outage_loses_nothing(
    site: Site, room: FailingRoom, clock: Clock, outage: Outage, *, is_long: bool
) -> None:
    if not is_long and outage not in SOME:
        pytest.skip("one of many; all are tried with --long")
    is_silent = outage.failure == "silence"
    over = threading.Event()
    room.failure = Answer(500, gate=over) if is_silent else FAILURES[outage.failure]
    site.channel(room.url, per_minute=outage.per_minute, timeout=0.1 if is_silent else 10)
    room.until = clock.now + outage.lasts
    state.prepare(str(site.state))
    _record(site, range(outage.changes))

    _pass_time(site, clock, outage.lasts / 40, lambda: clock.now > room.until)
    over.set()
    _pass_time(site, clock, 10.0)

    copies = _heard(room)
    assert sorted(copies) == [*range(outage.changes)]
    assert max(copies.values()) <= 3
    (channel,) = survey(str(site.state), str(site.config)).channels
    assert (channel.waiting, channel.dead, channel.perhaps) == (0, 0, 0)


def test_a_room_that_accepts_and_fails_for_ever_hears_a_message_once(
    site: Site, room: FailingRoom, clock: Clock
) -> None:
    room.until = clock.now + 365 * 24 * HOUR
    room.failure = Answer(500, accept=True)
    site.channel(room.url)
    state.prepare(str(site.state))
    _record(site, range(1))

    _pass_time(site, clock, 0.9 * HOUR)

    assert _heard(room) == {0: 1}
    (channel,) = survey(str(site.state), str(site.config)).channels
    assert (channel.waiting, channel.dead, channel.perhaps) == (0, 0, 1)


class DeafRoom(HipChatRoom):
    """Works, as its probes say, and has every message, but answers it badly or too late."""

    is_deaf = True
    failure = Answer(500, accept=True)

    def answer(self, request: Request, uri: str) -> Response:
        """Answer a probe well and a message badly."""
        is_bad = self.is_deaf and "auth_test" not in uri
        self.otherwise = self.failure if is_bad else Answer()
        return super().answer(request, uri)


@pytest.mark.parametrize("changes", [1, 3, 100])
@pytest.mark.parametrize("is_late", [False, True], ids=["500", "late"])
def test_a_room_that_takes_everything_and_never_says_so_hears_it_three_times_at_most(
    site: Site,
    hipchat_server: HipChatServer,
    clock: Clock,
    changes: int,
    *,
    is_late: bool,
    is_long: bool,
) -> None:
    if is_late and changes > 10 and not is_long:
        pytest.skip("each request waits for its time-out: takes --long")
    room = hipchat_server.add(DeafRoom)
    gate = threading.Event()
    if is_late:
        room.failure = Answer(204, gate=gate)
    site.channel(room.url, timeout=0.1)
    state.prepare(str(site.state))
    _record(site, range(changes))

    _pass_time(site, clock, 10.0)
    gate.set()
    until(lambda: len(_heard(room)) == changes)

    assert max(_heard(room).values()) <= 3
    (channel,) = survey(str(site.state), str(site.config)).channels
    assert (channel.waiting, channel.dead, channel.perhaps) == (0, 0, changes)


def test_what_is_perhaps_delivered_stays_in_sight_and_can_be_resent(
    site: Site, hipchat_server: HipChatServer, clock: Clock
) -> None:
    room = hipchat_server.add(DeafRoom)
    site.channel(room.url)
    state.prepare(str(site.state))
    _record(site, range(1))
    _pass_time(site, clock, 5.0)

    assert _heard(room) == {0: 3}
    status, listed = site.flipbell("status"), site.flipbell("dead", "list")
    assert (status.returncode, listed.returncode) == (1, 1)
    assert b"1 perhaps delivered" in status.stdout
    assert b"perhaps" in listed.stdout
    assert b"ops: perhaps" in site.flipbell("history").stdout
    site.environ["FLIPBELL_COURIER"] = "off"
    done = site.flipbell("dead", "retry", "--all")
    assert (done.returncode, done.stderr) == (
        0,
        b"one message will be sent once more, marked as late\n",
    )
    room.is_deaf = False
    site.deliver()

    assert str(room.heard[-1].body["message"]).startswith(message.LATE_REPEAT)
    assert site.status()["channels"][0]["perhaps"] == 0


def test_what_was_given_up_can_be_dismissed(
    site: Site, hipchat_server: HipChatServer, clock: Clock
) -> None:
    room = hipchat_server.add(DeafRoom)
    site.channel(room.url)
    state.prepare(str(site.state))
    _record(site, range(2))
    _pass_time(site, clock, 5.0)
    site.environ["FLIPBELL_COURIER"] = "off"

    assert site.flipbell("dead", "dismiss").returncode == 2
    assert (
        site.flipbell("dead", "dismiss", "1").stderr == b"one message will be taken off the list\n"
    )
    site.deliver()
    (left,) = site.flipbell("dead", "list").stdout.decode().splitlines()
    assert left.startswith("2 ")
    site.flipbell("dead", "dismiss", "--all")
    site.deliver()

    assert site.flipbell("dead", "list").returncode == 0
    assert site.status()["channels"][0]["perhaps"] == 0
    assert b"ops: dismissed" in site.flipbell("history").stdout
    assert len(room.heard) == 6
