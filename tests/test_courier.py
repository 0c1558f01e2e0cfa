"""The courier: order, patience, several rooms, and what a death in the middle leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from conftest import FLIPBELL, Process, until
from flipbell import log, state
from flipbell.cli.courier import _take_over
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger, LedgerError
from flipbell.look import survey
from flipbell.rooms import Rooms
from hipchat_room import Answer, HipChatRoom

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatServer


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quiet(site: Site) -> Site:
    """A site whose fronts start no courier: the test is the only one."""
    site.environ["FLIPBELL_COURIER"] = "off"
    return site


def _courier(site: Site, clock: Any = time.time) -> Courier:
    state.prepare(str(site.state))
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    extensions = Extensions()
    rooms = Rooms(site.environ["FLIPBELL_CONFIG"], extensions.channel_types(), log.warning)
    return Courier(str(site.state), rooms, extensions, lock=lock, clock=clock, chance=lambda: 0.0)


def test_a_room_that_hangs_delays_no_other(
    site: Site, hipchat_server: HipChatServer, hipchat_room: HipChatRoom
) -> None:
    other = hipchat_server.room()
    gate = threading.Event()
    other.otherwise = Answer(gate=gate)
    site.channel(other.url, "hanging")
    site.channel(hipchat_room.url, "good")

    for code in (1, 2, 0):
        site.run("disk", code)

    assert [heard.status for heard in hipchat_room.wait_for(3)] == ["WARNING", "CRITICAL", "OK"]
    assert other.heard == []
    gate.set()
    other.otherwise = Answer()
    assert [heard.status for heard in other.wait_for(3)] == ["WARNING", "CRITICAL", "OK"]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 302])
def test_a_channel_that_needs_a_person_is_paused_and_keeps_everything(
    quiet: Site, hipchat_room: HipChatRoom, status: int
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(status)
    for code in (1, 2):
        quiet.run("disk", code)

    assert quiet.flipbell("flush").returncode == 1
    (channel,) = quiet.status()["channels"]
    assert (channel["paused"], channel["waiting"]) == (True, 2)
    assert f"HTTP {status}" in channel["last_error"]
    assert len(hipchat_room.requests) == 1
    hipchat_room.otherwise = Answer()
    quiet.deliver()

    assert hipchat_room.statuses == ["WARNING", "CRITICAL"]
    assert quiet.status()["fine"]


def test_a_dead_letter_leaves_what_was_told_as_it_was(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(400), Answer(204), Answer(204)]

    for code in (2, 0, 2, 0):  # the first problem is refused, so its recovery is not told
        quiet.run("disk", code)
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert len(hipchat_room.requests) == 3
    assert quiet.status()["channels"][0]["dead"] == 1


def test_an_unknown_outcome_is_repeated_and_says_so_three_times_in_all(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    bad, works = Answer(500, accept=True), Answer()
    # A probe, which is answered well, comes before each repeat and before the next message.
    hipchat_room.answers = [bad, works, bad, works, bad, works]
    for code in (2, 0):
        quiet.run("disk", code)

    results = [quiet.flipbell("flush").returncode for _ in range(4)]

    assert results == [1, 1, 1, 0]
    assert hipchat_room.statuses == ["CRITICAL", "CRITICAL", "CRITICAL", "OK"]
    assert [heard.is_repeat for heard in hipchat_room.heard] == [False, True, True, False]


def test_a_courier_killed_while_sending_repeats_and_says_so(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)
    (courier,) = site.couriers()

    os.kill(courier, signal.SIGKILL)
    gate.set()
    hipchat_room.wait_for(1)  # though nobody hears that it was accepted
    until(lambda: not site.couriers())
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "CRITICAL"]
    assert [heard.is_repeat for heard in hipchat_room.heard] == [False, True]


def test_a_flush_waits_for_the_courier_that_goes_on_after_a_killed_one(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)
    (courier,) = site.couriers()
    os.kill(courier, signal.SIGKILL)
    gate.set()
    until(lambda: not site.couriers())

    site.run("load", 2)  # starts the next courier, which finds the request of the first
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "CRITICAL", "CRITICAL"]
    assert [heard.is_repeat for heard in hipchat_room.heard] == [False, True, False]


def test_what_a_killed_courier_left_is_delivered_by_the_next_front(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    for code in (1, 2):
        site.run("disk", code)
    hipchat_room.wait_for_requests(1)
    for courier in site.couriers():
        os.kill(courier, signal.SIGKILL)
    until(lambda: not site.couriers())
    hipchat_room.otherwise = Answer()

    site.run("disk", 2)  # unchanged

    assert [heard.status for heard in hipchat_room.wait_for(2)] == ["WARNING", "CRITICAL"]


def test_no_more_than_its_share_in_a_minute(
    quiet: Site, hipchat_room: HipChatRoom, clock: Clock
) -> None:
    quiet.channel(hipchat_room.url, per_minute=3)
    for number in range(3):
        quiet.run(f"check-{number}", 2)
    quiet.deliver()
    for number in range(3, 5):
        quiet.run(f"check-{number}", 2)
    clock.now = time.time()
    courier = _courier(quiet, clock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()

    until(lambda: quiet.status()["channels"][0]["waiting"] == 2)
    courier.stop()
    thread.join(10)
    assert len(hipchat_room.requests) == 3
    clock.now += 61
    _courier(quiet, clock).run(stay=False)

    assert len(hipchat_room.heard) == 5


def test_channels_of_one_room_share_its_limit(
    quiet: Site, hipchat_room: HipChatRoom, clock: Clock
) -> None:
    for name in ("one", "two"):
        quiet.channel(hipchat_room.url, name, per_minute=3)
    for number in range(2):
        quiet.run(f"check-{number}", 2)
    courier = _courier(quiet, clock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()

    hipchat_room.wait_for(3)
    courier.stop()
    thread.join(10)

    assert len(hipchat_room.requests) == 3


def test_the_server_is_left_alone_until_the_time_it_stated(
    quiet: Site, hipchat_room: HipChatRoom, clock: Clock
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(429, headers={"Retry-After": "100"})]
    quiet.run("disk", 2)
    courier = _courier(quiet, clock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()
    hipchat_room.wait_for_requests(1)
    courier.stop()
    thread.join(10)

    quiet.flipbell("flush", "--timeout", "0.3")  # ignores our back-off, not what the server said
    assert len(hipchat_room.requests) == 1
    clock.now += 101
    _courier(quiet, clock).run(stay=False)

    assert hipchat_room.statuses == ["CRITICAL"]


def test_gives_up_after_three_days_of_trying(
    quiet: Site, hipchat_room: HipChatRoom, clock: Clock
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    hipchat_room.otherwise = Answer(503)

    tries = 0
    while not any(view.dead for view in survey(str(quiet.state), str(quiet.config)).channels):
        _courier(quiet, clock).flush()
        clock.now += 3600
        tries += 1

    assert tries == 74  # the first, one after each of 72 hours, and the one that is too late
    assert hipchat_room.heard == []


@pytest.mark.parametrize("jump", [30 * 86400, 365 * 86400, -365 * 86400, -3600])
def test_a_clock_that_jumps_gives_nothing_up(
    quiet: Site, hipchat_room: HipChatRoom, clock: Clock, jump: int
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    hipchat_room.answers = [Answer(503), Answer(503)]
    for _ in range(3):
        _courier(quiet, clock).flush()
        clock.now += jump

    assert hipchat_room.statuses == ["CRITICAL"]
    assert quiet.status()["channels"][0]["dead"] == 0


def test_a_new_channel_starts_at_what_happens_next(
    quiet: Site, hipchat_server: HipChatServer, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    other = hipchat_server.room()

    quiet.channel(other.url, "new")
    quiet.deliver()
    quiet.run("disk", 3)
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "UNKNOWN"]
    assert other.statuses == ["UNKNOWN"]


def test_a_broken_file_silences_its_own_channel_only_and_loses_nothing(
    quiet: Site, hipchat_server: HipChatServer, hipchat_room: HipChatRoom
) -> None:
    other = hipchat_server.room()
    quiet.channel(hipchat_room.url)
    quiet.channel(other.url, "other")
    quiet.run("disk", 0)
    quiet.deliver()

    (quiet.config / "other.yaml").write_text("channels: {other: {colour: red}}")
    quiet.run("disk", 2)
    quiet.flipbell("flush", "--timeout", "1")
    assert (hipchat_room.statuses, other.statuses) == (["CRITICAL"], [])
    (quiet.config / "other.yaml").write_text("[")
    quiet.run("disk", 0)
    quiet.flipbell("flush", "--timeout", "1")
    quiet.channel(other.url, "other")
    quiet.deliver()

    assert hipchat_room.statuses == other.statuses == ["CRITICAL", "OK"]


def test_a_running_courier_goes_on_with_the_last_good_configuration(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    with Process([FLIPBELL, "courier"], env=quiet.environ) as process:
        quiet.run("disk", 2)
        hipchat_room.wait_for(1)
        (quiet.config / "ops.yaml").write_text("[")
        quiet.run("disk", 0)
        hipchat_room.wait_for(2)
        process.terminate()
        assert process.wait(10) == 0


def test_a_removed_channel_waits_for_nobody(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 0)
    quiet.deliver()
    (quiet.config / "ops.yaml").unlink()
    quiet.run("disk", 2)

    quiet.deliver()

    assert hipchat_room.heard == []


def test_two_configurations_on_one_state_are_refused(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    second = quiet.base / "second"
    second.mkdir()

    done = quiet.flipbell("courier", "--config", str(second))

    assert done.returncode == 2
    assert f"belongs to the configuration {quiet.config}" in done.stderr.decode()
    first = quiet.config
    quiet.config = first.rename(quiet.base / "moved")
    quiet.environ["FLIPBELL_CONFIG"] = str(quiet.config)
    quiet.run("disk", 0)
    quiet.deliver()  # a configuration that has moved is taken over
    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_service_ends_within_a_second(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.otherwise = Answer(gate=gate)
    with Process([FLIPBELL, "courier"], env=quiet.environ) as process:
        quiet.run("disk", 2)
        hipchat_room.wait_for_requests(1)
        process.terminate()
        assert process.wait(10) == 0
    gate.set()


def test_a_service_takes_over_from_a_short_lived_courier(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.run("disk", 2)

    with Process([FLIPBELL, "courier"], env=site.environ) as process:
        hipchat_room.wait_for(1)
        until(lambda: not site.couriers() and site.status()["courier"])
        site.run("disk", 0)  # wakes it, though it sleeps for a minute
        hipchat_room.wait_for(2)
        process.terminate()
        process.wait(10)


def test_a_service_waits_for_another_courier_as_long_as_it_takes(
    quiet: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(quiet.state)
    state.prepare(directory)
    held = state.try_lock(directory, state.COURIER_LOCK)
    assert held is not None
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if sum(waits) > 3600:
            state.unlock(held)

    monkeypatch.setattr("flipbell.cli.courier.time.sleep", wait)

    os.close(_take_over(directory))

    assert capsys.readouterr().err.splitlines() == [
        f"flipbell: another courier is at work for {directory}; waiting until it ends"
    ]


def test_a_service_that_waits_for_another_courier_ends_of_sigterm(quiet: Site) -> None:
    state.prepare(str(quiet.state))
    held = state.try_lock(str(quiet.state), state.COURIER_LOCK)
    assert held is not None
    with Process([FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"another courier is at work" in process.stderr.readline()

        process.terminate()

        assert process.wait(10) == -signal.SIGTERM
    state.unlock(held)


def test_flush_asks_a_living_courier(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(404)
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)  # and now it waits for a person, half a minute at least

    assert site.flipbell("flush").returncode == 1
    assert len(hipchat_room.requests) == 2
    hipchat_room.otherwise = Answer()
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]


def test_a_ledger_that_cannot_be_opened_keeps_the_lines(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    (quiet.state / "ledger").mkdir()
    courier = _courier(quiet)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()

    until(lambda: courier.complaint)
    (quiet.state / "ledger").rmdir()
    thread.join(20)

    assert hipchat_room.statuses == ["CRITICAL"]


def test_a_channel_type_that_raises_harms_no_other(
    quiet: Site, hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flipbell.channels.hipchat import HipChatSender

    def broken(*_: object) -> None:
        raise RuntimeError

    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    monkeypatch.setattr(HipChatSender, "send", broken)
    assert not _courier(quiet).flush()
    monkeypatch.undo()
    quiet.deliver()

    assert [heard.is_repeat for heard in hipchat_room.heard] == [True]


@pytest.fixture
def newer(quiet: Site) -> Site:
    """A state directory that a newer flipbell has left."""
    state.prepare(str(quiet.state))
    ledger = Ledger.open(str(quiet.state))
    ledger._db.execute("CREATE TABLE news (x)")
    ledger._db.execute("PRAGMA user_version=99")
    ledger.close()
    return quiet


def test_a_newer_ledger_ends_the_courier_with_its_reason(newer: Site) -> None:
    with pytest.raises(LedgerError, match="version 99"):
        _courier(newer).run(stay=True)


def test_the_spool_is_rotated_when_all_is_taken(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    with (quiet.state / "spool").open("a") as file:
        file.write("not a line of ours\n" * 20_000)

    quiet.deliver()
    quiet.run("disk", 0)
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert (quiet.state / "spool").stat().st_size < 1000


def test_what_a_server_says_cannot_stop_the_courier(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(400, '{"error": {"message": "\\ud800"}}')]
    quiet.run("disk", 2)
    quiet.deliver()
    quiet.run("load", 2)
    quiet.deliver()

    assert len(hipchat_room.requests) == 2
    assert quiet.status()["channels"][0]["dead"] == 1


def test_a_file_that_becomes_readable_is_noticed(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    rooms = Rooms(str(quiet.config), Extensions().channel_types())
    rooms.refresh()

    (quiet.config / "ops.yaml").chmod(0o640)

    assert rooms.refresh()
    assert not rooms.refresh()


def test_a_courier_does_not_leave_a_line_behind_that_was_recorded_meanwhile(quiet: Site) -> None:
    courier = _courier(quiet)

    quiet.run("disk", 2)  # after the courier had seen that all was done

    assert not courier._leave()
    assert list(courier._reader.lines())
    assert courier._leave()
    lock = state.try_lock(str(quiet.state), state.COURIER_LOCK)
    assert lock is not None
    state.unlock(lock)


def test_flush_stopped_by_its_limit_claims_nothing(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url, per_minute=1)
    for number in range(2):
        quiet.run(f"check-{number}", 2)
        last = quiet.flipbell("flush", "--timeout", "1")

    assert last.returncode == 1


def test_flush_does_not_claim_what_a_broken_configuration_keeps_back(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 0)
    quiet.deliver()
    (quiet.config / "ops.yaml").write_text("channels: {ops: {}}")
    quiet.run("disk", 2)

    done = quiet.flipbell("flush", "--timeout", "20")

    assert done.returncode == 1
    assert b"still undelivered" in done.stderr


def test_a_courier_whose_state_directory_is_gone_ends(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    import shutil

    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)
    assert site.couriers()

    shutil.rmtree(site.state)

    until(lambda: not site.couriers())


def test_a_ledger_that_is_no_database_is_said_in_a_line(quiet: Site) -> None:
    quiet.run("disk", 2)
    (quiet.state / "ledger").write_text("not a database, but long enough to be read" * 50)

    for command in ("history", "status"):
        done = quiet.flipbell(command)
        assert done.returncode in (1, 2)
        assert b"not a database" in done.stdout + done.stderr
        assert b"Traceback" not in done.stderr
