"""Couriers that are ended with the unit that started them, and the service that outlives those."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, Process, until
from flipbell import config, fifo, log, state, unfinished, unit
from flipbell.cli import CommandError, service
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.rooms import Rooms
from hipchat_room import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom

KILLED = "couriers ended before they had delivered everything"


def _end_couriers(site: Site, number: int) -> None:
    for courier in site.couriers():
        os.kill(courier, number)
    until(lambda: not site.couriers())


def _is_unfinished(site: Site) -> bool:
    return (site.state / "unfinished").exists()


def test_a_courier_that_is_told_to_end_delivers_what_is_due(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    # While the configuration is being edited, a courier does not take it for settled.
    until(lambda: config.age(config.signature(str(site.config))) > 0.5)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)
    site.run("load", 1)  # behind the request that hangs

    for courier in site.couriers():
        os.kill(courier, signal.SIGTERM)
    gate.set()
    until(lambda: not site.couriers())

    assert hipchat_room.statuses == ["CRITICAL", "WARNING"]
    assert not _is_unfinished(site)


def test_a_courier_that_is_told_to_end_waits_for_no_retry(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(429, headers={"Retry-After": "3600"})]
    site.run("disk", 2)
    until(lambda: any(channel["last_error"] for channel in site.status()["channels"]))

    _end_couriers(site, signal.SIGTERM)

    assert len(hipchat_room.requests) == 1
    assert site.status()["channels"][0]["waiting"] == 1
    assert _is_unfinished(site)


def test_a_courier_that_is_told_to_end_gives_a_room_that_hangs_up(
    site: Site, hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flipbell.courier._WIND_UP", 0.1)
    monkeypatch.setattr("flipbell.courier._LAST_WORDS", 0.1)
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url, timeout=30)
    site.run("disk", 2)
    gate = threading.Event()
    hipchat_room.otherwise = Answer(gate=gate)
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    extensions = Extensions()
    rooms = Rooms(str(site.config), extensions.channel_types(), log.warning)
    courier = Courier(str(site.state), rooms, extensions, lock=lock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()
    hipchat_room.wait_for_requests(1)

    courier.wind_up()

    until(lambda: not thread.is_alive())
    gate.set()
    assert _is_unfinished(site)


def test_a_courier_that_is_told_to_end_while_it_starts_still_delivers(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)

    site.run("disk", 2)
    _end_couriers(site, signal.SIGTERM)  # Python has not even loaded flipbell

    assert hipchat_room.statuses == ["CRITICAL"]


@pytest.mark.parametrize("option", ["--until-idle", None])
def test_a_services_courier_takes_over_from_one_that_a_front_has_started(
    site: Site, hipchat_room: HipChatRoom, option: str | None
) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)
    options = [option] if option else []

    with Process([FLIPBELL, "courier", *options, "--state", site.state], env=site.environ) as own:
        until(lambda: site.couriers() == [own.pid])
        hipchat_room.otherwise = Answer()
        assert [heard.status for heard in hipchat_room.wait_for(1)] == ["CRITICAL"]
        if option is None:
            until(lambda: list(site.state.glob("quiet.*/idle")))
            own.terminate()
        assert own.wait(15) == 0

    assert not _is_unfinished(site)


def test_a_services_courier_ends_when_nothing_is_left(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    assert _is_unfinished(site)  # for which a path unit looks

    done = site.flipbell("courier", "--until-idle")

    assert (done.returncode, done.stderr) == (0, b"")
    assert hipchat_room.statuses == ["CRITICAL"]
    assert not _is_unfinished(site)


def test_a_flush_that_leaves_something_does_not_hide_it_from_the_service(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    hipchat_room.otherwise = Answer(503)
    site.run("disk", 2)

    assert site.flipbell("flush").returncode == 1
    assert _is_unfinished(site)
    hipchat_room.otherwise = Answer()
    site.deliver()

    assert not _is_unfinished(site)


def test_status_tells_that_couriers_are_killed_until_one_finishes(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    for number in range(1, 4):
        site.run("disk", 2)  # unchanged from the second on, but nothing delivers the first
        until(lambda: unfinished.counted(str(site.state))[0] == number)  # noqa: B023  at once
        until(lambda: fifo.is_heard(str(site.state)))
        alive = site.flipbell("status").stdout.decode()
        assert (KILLED in alive) == (number == 3)  # the one at work is not among them
        _end_couriers(site, signal.SIGKILL)

    dead = site.flipbell("status")
    assert dead.returncode == 1
    assert f"the last 3 {KILLED}: find out what kills them\n" in dead.stdout.decode()
    assert site.status()["killed_couriers"] == 3
    hipchat_room.otherwise = Answer()
    site.deliver()

    assert KILLED not in site.flipbell("status").stdout.decode()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("check-mk-agent@7-[::1].service", "systemd ends what a unit has started"),
        ("session-3.scope", "find out what kills them"),
        ("flipbell.service", "find out what kills them"),
    ],
)
def test_status_names_the_unit_that_couriers_die_in(site: Site, name: str, cause: str) -> None:
    state.prepare(str(site.state))
    for _ in range(2):
        unfinished.count(str(site.state), name)

    printed = site.flipbell("status").stdout.decode()

    assert f"the last 2 {KILLED}" in printed
    assert cause in printed
    assert (name in printed) == cause.startswith("systemd")


def test_what_another_program_wrote_counts_as_nothing(site: Site) -> None:
    state.prepare(str(site.state))
    (site.state / "unfinished").write_bytes(b"\xff\0 \n\n")

    assert unfinished.counted(str(site.state))[0] == 0
    unfinished.count(str(site.state), "a.service")
    assert unfinished.counted(str(site.state)) == (1, "a.service")


@pytest.mark.parametrize(
    ("cgroups", "name"),
    [
        ("0::/system.slice/backup.service\n", "backup.service"),
        ("0::/system.slice/system-x.slice/x@1.service\n", "x@1.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/user.slice/user@7.service/app.slice/check.service\n", "check.service"),
        ("4:memory:/a.service\n1:name=systemd:/system.slice/b.service\n", "b.service"),
        ("9:name=systemd:/\n0::/system.slice/c.service/child\n", "c.service"),
        ("9:name=systemd:/d.service\n0::/old.service\n", "d.service"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_a_process_belongs_to_the_unit_in_its_control_group(cgroups: str, name: str) -> None:
    assert unit.unit_in(cgroups) == name


def test_only_another_programs_service_ends_a_courier() -> None:
    others = ["nagios.service", "flipbell-failed@backup.service"]
    harmless = ["flipbell.service", "session-1.scope", "run-r1.scope", ""]

    assert [name for name in others + harmless if unit.is_borrowed(name)] == others


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for units, on a host that systemd seems to manage."""
    if os.geteuid() != 0:
        pytest.skip("only root can install units")
    monkeypatch.setattr(service, "is_systemd_host", lambda: True)
    monkeypatch.setattr(service, "_UNITS", tmp_path)
    return tmp_path


def _plan(choice: bool | None, state: str = "/var/lib/flipbell") -> dict[Path, str]:
    return service.plan(choice, user="icinga", config="/opt/f/conf.d", state=state)


def test_units_carry_the_user_and_the_places_of_this_host(units: Path) -> None:
    planned = {path.name: text for path, text in _plan(True, "/srv/state").items()}

    assert sorted(planned) == ["flipbell.path", "flipbell.service", "flipbell.timer"]
    started = [line for line in planned["flipbell.service"].split("\n") if "ExecStart" in line]
    words = "courier --until-idle --state /srv/state --config /opt/f/conf.d"
    assert started[0].endswith(f"/flipbell {words}")
    assert "\nUser=icinga\n" in planned["flipbell.service"]
    assert "\nReadWritePaths=/srv/state\n" in planned["flipbell.service"]
    assert "\nPathExists=/srv/state/unfinished\n" in planned["flipbell.path"]
    assert "\nPathModified=/srv/state/spool\n" in planned["flipbell.path"]
    assert not any("/var/lib" in text for text in planned.values())
    assert list(units.iterdir()) == []


@pytest.mark.parametrize("place", ["/srv/my state", "/srv/%n", '/srv/"'])
def test_a_path_that_systemd_would_read_differently_is_refused(units: Path, place: str) -> None:
    with pytest.raises(CommandError, match="cannot stand in a unit"):
        _plan(True, place)
    assert list(units.iterdir()) == []


def test_units_that_differ_are_not_overwritten(units: Path) -> None:
    for path, text in _plan(True).items():
        path.write_text(text)
    assert len(_plan(True)) == 3
    (units / "flipbell.timer").write_text("# mine\n")

    with pytest.raises(CommandError, match=r"flipbell.timer exists and differs"):
        _plan(True)


def test_without_a_terminal_no_unit_is_installed_unless_asked_for(
    units: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _plan(None) == {}
    assert "--service" in capsys.readouterr().out
    assert _plan(False) == {}
    assert capsys.readouterr().out == ""
    assert list(units.iterdir()) == []


@pytest.mark.parametrize(("answer", "count"), [("\n", 3), ("y\n", 3), ("n\n", 0), ("\x04", 0)])
def test_on_a_terminal_init_asks(
    units: Path, monkeypatch: pytest.MonkeyPatch, answer: str, count: int
) -> None:
    master, slave = os.openpty()
    with open(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(master, answer.encode())

        assert len(_plan(None)) == count

    os.close(master)
    assert list(units.iterdir()) == []


@pytest.mark.skipif(unit.is_systemd_host(), reason="it would install units on this host")
def test_init_refuses_a_service_where_there_is_no_systemd(site: Site) -> None:
    site.config.rmdir()
    words = ["--url", "https://h", "--room", "1", "--token-from", str(site.token), "--service"]

    done = site.flipbell("init", *words)

    assert done.returncode == 2
    assert b"--service: only root can, on a host that systemd manages" in done.stderr
    assert not site.config.exists()
