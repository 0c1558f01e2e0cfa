"""A courier keeps nothing of the check that started it, or gives way to one that inherits less."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, unmeasured, until
from flipbell import detach, log, state
from flipbell.channels.hipchat import HipChatSender, HipChatSettings
from flipbell.channels.token import Token
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.model import Notification, Verdict
from flipbell.rooms import Rooms

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog


def _run_in(site: Site, surroundings: str, check: str = "limited") -> None:
    """Run a check that fails, in a shell that sets limits first."""
    script = f'{surroundings}; exec "$0" run --host h --check {check} -- sh -c "exit 2"'
    done = subprocess.run(
        ["sh", "-c", script, FLIPBELL], env=site.environ, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def _weakly(site: Site, limits: str, tool: Callable[[str], str], check: str = "limited") -> None:
    """Run a check under limits that its courier cannot raise, whoever runs the tests."""
    words = [FLIPBELL, "run", "--host", "h", "--check", check, "--", "sh", "-c", "exit 2"]
    if os.geteuid() == 0:
        words = [tool("setpriv"), "--bounding-set=-sys_resource,-sys_nice", *words]
    # Coverage's own file would be cut short by a limit of files, and break the sum of all.
    done = subprocess.run(
        ["sh", "-c", f'{limits}; exec "$@"', "sh", *words],
        env=unmeasured(site.environ) if limits == LIMITS[0] else site.environ,
        check=False,
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def _mark(site: Site) -> Path:
    return site.state / detach.UNFIT


LIMITS = ["ulimit -f 64", "ulimit -v 60000", "ulimit -n 20"]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_courier_that_cannot_work_gives_way_to_a_later_one(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str], limits: str
) -> None:
    site.channel(hipchat_room.url)

    _weakly(site, limits, tool)
    until(lambda: _mark(site).is_symlink() and not site.couriers())
    assert hipchat_room.heard == []
    assert "a courier could not work with the limits" in str(site.status()["notes"])
    site.run("free", 1)

    assert [heard.status for heard in hipchat_room.wait_for(2)] == ["CRITICAL", "WARNING"]
    assert all("repeat" not in str(heard.body["message"]) for heard in hipchat_room.heard)
    until(lambda: not _mark(site).is_symlink())


@pytest.mark.parametrize("limits", [limit.replace("ulimit", "ulimit -S") for limit in LIMITS])
def test_soft_limits_are_raised(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str], limits: str
) -> None:
    site.channel(hipchat_room.url)

    _weakly(site, limits, tool)

    assert len(hipchat_room.wait_for(1)) == 1
    assert not _mark(site).is_symlink()


@pytest.mark.parametrize("surroundings", ["umask 777", "renice -n 19 $$ >/dev/null"])
def test_what_only_makes_a_courier_slow_or_secretive_loses_nothing(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str], surroundings: str
) -> None:
    site.channel(hipchat_room.url)

    _weakly(site, surroundings, tool)

    assert len(hipchat_room.wait_for(1)) == 1


def test_fronts_with_the_same_limits_start_one_courier_a_minute(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str], syslog: Syslog
) -> None:
    site.channel(hipchat_room.url)
    _weakly(site, LIMITS[0], tool)
    until(_mark(site).is_symlink)
    tried_at = _mark(site).lstat().st_mtime_ns
    syslog.wait_for("gives way to one that inherits less: cannot write 1048576 bytes")

    for number in range(3):
        _weakly(site, LIMITS[0], tool, f"limited-{number}")
    until(lambda: not site.couriers())
    assert _mark(site).lstat().st_mtime_ns == tried_at

    minute_ago = time.time() - 61
    os.utime(_mark(site), (minute_ago, minute_ago), follow_symlinks=False)
    _weakly(site, LIMITS[0], tool, "limited-again")
    until(lambda: _mark(site).is_symlink() and _mark(site).lstat().st_mtime_ns > tried_at)

    assert syslog.text().count("gives way") == 1
    site.deliver()
    assert len(hipchat_room.heard) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a low priority back")
def test_nothing_of_the_check_is_left(site: Site, tool: Callable[[str], str]) -> None:
    site.channel("http://127.0.0.1:1")
    surroundings = f"{tool('renice')} -n 7 $$ >/dev/null; {tool('ionice')} -c 3 -p $$"
    surroundings += f"; {tool('chrt')} --idle -p 0 $$; echo 500 > /proc/self/oom_score_adj"
    surroundings += "; umask 777; ulimit -S -f 64; ulimit -S -n 40; ulimit -S -t 100"

    _run_in(site, surroundings)

    (courier,) = until(site.couriers)
    home = Path(f"/proc/{courier}")
    until(lambda: "Umask:\t0077" in (home / "status").read_text())
    until(lambda: (home / "oom_score_adj").read_text() == "0\n")
    limits = (home / "limits").read_text()
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max file size"][0] == rows["Max cpu time"][0] == "unlimited"
    assert int(rows["Max open files"][0]) >= 64
    assert os.getpriority(os.PRIO_PROCESS, courier) == 0
    assert os.sched_getscheduler(courier) == os.SCHED_OTHER
    said = subprocess.run([tool("ionice"), "-p", str(courier)], check=True, capture_output=True)
    assert said.stdout.startswith((b"none", b"best-effort"))


def test_what_cannot_be_shed_is_logged_once(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str], syslog: Syslog
) -> None:
    site.channel(hipchat_room.url)

    _weakly(site, "renice -n 19 $$ >/dev/null; ulimit -f 100000", tool)

    hipchat_room.wait_for(1)
    said = "the courier keeps what it was started with: RLIMIT_FSIZE 51200000, nice 19"
    syslog.wait_for(said)
    assert syslog.text().count(said) == 1


def test_no_core_holds_a_token() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
    try:
        detach.raise_soft_limits()
        assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def unwritable(site: Site, clock: _Clock) -> Courier:
    """A courier whose ledger cannot be opened."""
    state.prepare(str(site.state))
    (site.state / "ledger").mkdir()
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    extensions = Extensions()
    rooms = Rooms(str(site.config), extensions.channel_types(), log.warning)
    return Courier(str(site.state), rooms, extensions, lock=lock, clock=clock)


def test_a_courier_that_cannot_write_for_half_a_minute_gives_its_lock_up(
    site: Site, unwritable: Courier, clock: _Clock
) -> None:
    ends: list[bool] = []
    thread = threading.Thread(target=lambda: ends.append(unwritable.run(stay=False)))
    thread.start()
    until(lambda: unwritable.complaint)
    clock.now += 29
    unwritable._poke()
    assert thread.is_alive()

    clock.now += 2
    unwritable._poke()
    thread.join(10)

    assert ends == [False]
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    state.unlock(lock)


def test_a_service_does_not_give_way(unwritable: Courier, clock: _Clock) -> None:
    thread = threading.Thread(target=lambda: unwritable.run(stay=True))
    thread.start()
    until(lambda: unwritable.complaint)
    clock.now += 60
    unwritable._poke()
    thread.join(0.2)

    assert thread.is_alive()
    unwritable.stop()
    thread.join(10)


NOTIFICATION = Notification("message", "html", "red", notify=True, sender="flipbell")


def test_a_handshake_that_never_ends_is_no_unknown_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        settings = HipChatSettings(url, "1", Token(inline="t"), timeout=0.1)

        outcome = HipChatSender(settings).send(NOTIFICATION)

    assert outcome.verdict is Verdict.RETRY


def test_an_answer_that_never_comes_is_an_unknown_outcome() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = HipChatSettings(url, "1", Token(inline="t"), timeout=0.1)

        outcome = HipChatSender(settings).send(NOTIFICATION)

    assert outcome.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("error", [ImportError("no room for it"), MemoryError()])
def test_a_request_that_was_not_begun_is_tried_again(
    site: Site,
    hipchat_room: HipChatRoom,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    fails = iter([True, True, True, True])
    send = HipChatSender.send

    def failing(sender: HipChatSender, notification: Notification) -> object:
        if next(fails, False):
            raise error
        return send(sender, notification)

    monkeypatch.setattr(HipChatSender, "send", failing)
    _flush_some_times(site)

    (heard,) = hipchat_room.heard
    assert "repeat" not in str(heard.body["message"])


def test_a_thread_that_cannot_be_started_is_no_unknown_outcome(
    site: Site, hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    fails = iter([True, True, True, True])
    start = threading.Thread.start

    def failing(thread: threading.Thread) -> None:
        if "_deliver" in repr(thread) and next(fails, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)
    _flush_some_times(site)

    (heard,) = hipchat_room.heard
    assert "repeat" not in str(heard.body["message"])


def _flush_some_times(site: Site) -> None:
    extensions = Extensions()
    for _ in range(5):
        rooms = Rooms(str(site.config), extensions.channel_types(), log.warning)
        lock = state.try_lock(str(site.state), state.COURIER_LOCK)
        assert lock is not None
        Courier(str(site.state), rooms, extensions, lock=lock).flush()
