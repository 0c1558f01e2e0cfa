"""The quiet path: an unchanged result costs two looks, and hides nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import FLIPBELL, Process, until
from flipbell import quiet, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Site
    from hipchat_room import HipChatRoom

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
pytestmark = pytest.mark.skipif(not BOOT_ID.exists(), reason="no boot id, so no stamps")


@pytest.fixture
def settled(site: Site, hipchat_room: HipChatRoom) -> Site:
    """A site whose check `disk` is CRITICAL, told, and stamped."""
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    until((_home(site) / "idle").exists)
    return site


def _home(site: Site) -> Path:
    return site.state / f"quiet.{BOOT_ID.read_text().strip()}"


def _stamps(site: Site) -> dict[str, str]:
    return {file.name: os.readlink(file) for file in _home(site).iterdir() if file.is_symlink()}


def _spooled(site: Site) -> int:
    return (site.state / "spool").read_bytes().count(b"\n") - 1


def _trace(site: Site, strace: str, *arguments: str) -> list[str]:
    """Return the system calls of a flipbell, and of its children, on what is in the state."""
    trace = site.base / "trace"
    command = [strace, "-f", "-qq", "-y", "-o", str(trace), *site.command, *arguments]
    subprocess.run(command, env=site.environ, check=False, capture_output=True)
    lines = [re.sub(r"^\d+ +", "", line) for line in trace.read_text().splitlines()]
    return [line for line in lines if f"{site.state}/" in line]


WRAPPED = ["run", "--host", "web-01", "--check", "disk", "--", "sh", "-c", "exit 2"]


def test_an_unchanged_check_looks_twice_and_ends(settled: Site, tool: Callable[[str], str]) -> None:
    calls = _trace(settled, tool("strace"), *WRAPPED)

    assert [call.split("(")[0] for call in calls] == ["readlink", "newfstatat"]
    assert _spooled(settled) == 1


def _imported(site: Site, command: str, *arguments: str) -> set[str]:
    """Return the modules that an unchanged result loads, by the launcher's own line of Python."""
    launcher = Path(FLIPBELL).read_text()
    code = re.findall(rf"^_flipbell_{command}='(.*?)'$", launcher, re.MULTILINE | re.DOTALL)[0]
    options = ["-IS", *(["-X", "utf8"] if command == "run" else []), "-X", "importtime"]
    home = str(Path(quiet.__file__).parent.parent)

    def loaded(*words: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, *options, "-c", *words],
            env=site.environ,
            check=False,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.stdout == ""
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    return loaded(code, home, "", FLIPBELL, command, *arguments) - loaded("pass")


def test_an_unchanged_check_imports_next_to_nothing(settled: Site) -> None:
    names = ["run", "child", "places", "relay", "quiet"]

    extra = _imported(settled, *WRAPPED)

    ours = {"flipbell", *(f"flipbell.{name}" for name in names)}
    assert extra - {"fcntl", "select", "_signal"} == ours


# The calls that agents make for each result, about the check `disk` of `settled`.
PLAIN = ["--host=web-01", "--check", "disk"]
FOR_EACH_RESULT: dict[str, tuple[list[str], dict[str, str]]] = {
    "nagios": (
        [*PLAIN, "--status=CRITICAL", "--state-type=HARD", "--type=", "--time=1", "--output=o\\n"],
        {},
    ),
    "nagios, environment": (
        [],
        {
            "NAGIOS_HOSTNAME": "web-01",
            "NAGIOS_SERVICEDESC": "disk",
            "NAGIOS_SERVICESTATE": "CRITICAL",
            "NAGIOS_SERVICESTATETYPE": "HARD",
        },
    ),
    "icinga2": (
        [],
        {
            "ICINGA_HOSTNAME": "web-01",
            "ICINGA_SERVICEDESC": "disk",
            "ICINGA_SERVICESTATE": "CRITICAL",
            "ICINGA_NOTIFICATIONTYPE": "",
        },
    ),
    "mackerel-agent": (PLAIN, {"MACKEREL_STATUS": "CRITICAL"}),
    "monit": (
        ["--host=web-01"],
        {
            "MONIT_SERVICE": "disk",
            "MONIT_EVENT": "Status failed",
            "MONIT_PROGRAM_STATUS": "2",
        },
    ),
    "plain": ([*PLAIN, "--status", "2", "--output", "DISK CRITICAL"], {}),
}


@pytest.mark.parametrize("way", FOR_EACH_RESULT)
def test_an_unchanged_report_imports_next_to_nothing(settled: Site, way: str) -> None:
    arguments, environ = FOR_EACH_RESULT[way]
    settled.environ.update(environ)

    extra = _imported(settled, "report", f"--from={way.partition(',')[0]}", *arguments)

    names = ["report", "places", "agents", "agents.glance", "quiet"]
    assert extra == {"flipbell", *(f"flipbell.{name}" for name in names)}
    assert _spooled(settled) == 1


@pytest.mark.parametrize("way", FOR_EACH_RESULT)
def test_a_report_of_a_change_is_recorded(settled: Site, way: str) -> None:
    arguments, environ = FOR_EACH_RESULT[way]
    replaced = {"CRITICAL": "WARNING", "--status=CRITICAL": "--status=WARNING", "2": "1"}
    settled.environ.update({name: replaced.get(word, word) for name, word in environ.items()})
    arguments = [replaced.get(word, word) for word in arguments]

    done = settled.flipbell("report", f"--from={way.partition(',')[0]}", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    line = (settled.state / "spool").read_text().splitlines()[-1]
    assert line.split("\t")[1:4] == ["1", "web-01", "disk"]


def test_a_change_removes_the_stamp_before_its_line(
    settled: Site, tool: Callable[[str], str]
) -> None:
    settled.environ["FLIPBELL_COURIER"] = "off"
    calls = _trace(settled, tool("strace"), *WRAPPED[:-1], "exit 1")

    steps = [r"flock\(\d+<.*append.lock>, LOCK_EX\)", r"unlink\(.*/idle", r"unlink\(.*web-01,disk"]
    steps += [r"write\(\d+<.*spool>", r"fdatasync\(\d+<.*spool>", r"flock\(.*append.lock>, LOCK_UN"]
    places = [[n for n, call in enumerate(calls) if re.match(step, call)] for step in steps]
    assert all(len(found) == 1 for found in places), calls
    assert places == sorted(places)
    assert _stamps(settled) == {}


def test_the_ledger_is_never_ahead_of_what_a_power_cut_leaves(
    site: Site, hipchat_room: HipChatRoom, tool: Callable[[str], str]
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    calls = _trace(site, tool("strace"), "flush")

    synced = [n for n, call in enumerate(calls) if re.match(r"fdatasync\(\d+<.*spool>", call)]
    written = [n for n, call in enumerate(calls) if re.match(r"pwrite64\(\d+<.*ledger>", call)]
    taken = [n for n, call in enumerate(calls) if re.match(r"pread64\(\d+<.*spool>", call)]
    commits = [n for n in written if n > taken[1]]
    assert synced
    assert synced[0] < commits[0]


def test_every_change_is_told_although_the_same_statuses_come_back(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    statuses = [2, 2, 1, 1, 2, 2, 0, 0, 0, 2, 2, 0]

    for number, status in enumerate(statuses):
        site.run("disk", status)
        if number % 2:
            site.deliver()
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "WARNING", "CRITICAL", "OK", "CRITICAL", "OK"]


def test_an_unchanged_result_starts_a_courier_again_that_was_killed(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel("http://127.0.0.1:1")
    site.run("disk", 2)
    until(lambda: _home(site).exists() and _stamps(site) == {"web-01,disk": "2"})
    (courier,) = until(site.couriers)
    os.kill(courier, signal.SIGKILL)
    until(lambda: not site.couriers())
    site.channel(hipchat_room.url)

    site.run("disk", 2)

    assert [heard.status for heard in hipchat_room.wait_for(1)] == ["CRITICAL"]
    assert _spooled(site) == 1


def test_while_something_waits_an_unchanged_result_only_looks_for_the_courier(
    site: Site, tool: Callable[[str], str]
) -> None:
    site.channel("http://127.0.0.1:1")
    site.run("disk", 2)
    until(lambda: _home(site).exists() and _stamps(site) == {"web-01,disk": "2"})

    calls = _trace(site, tool("strace"), *WRAPPED)

    assert [call.split("(")[0] for call in calls[:3]] == ["readlink", "newfstatat", "openat"]
    assert not (_home(site) / "idle").exists()
    assert _spooled(site) == 1


def test_a_file_in_the_place_of_the_fifo_is_no_courier(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    del site.environ["FLIPBELL_COURIER"]
    (site.state / "wake").write_text("")

    site.run("disk", 2)

    assert len(hipchat_room.wait_for(1)) == 1


def test_report_is_quiet_too(settled: Site, tool: Callable[[str], str]) -> None:
    said = ["--host", "web-01", "--check", "disk", "--status", "CRITICAL"]
    calls = _trace(settled, tool("strace"), "report", *said)

    assert [call.split("(")[0] for call in calls] == ["readlink", "newfstatat"]


def test_a_stamp_of_an_earlier_boot_is_not_believed(settled: Site) -> None:
    _home(settled).rename(settled.state / "quiet.11111111-2222-3333-4444-555555555555")

    settled.run("disk", 2)
    settled.deliver()

    assert _spooled(settled) == 2
    assert [file.name for file in settled.state.glob("quiet.*")] == [_home(settled).name]


def _stamp_by_hand(site: Site, check: str, status: int) -> None:
    """Leave a stamp of a check that neither spool nor ledger knows."""
    os.symlink(str(status), _home(site) / f"web-01,{check}")


def test_a_new_ledger_clears_the_stamps(settled: Site, hipchat_room: HipChatRoom) -> None:
    _stamp_by_hand(settled, "ghost", 2)
    for file in settled.state.glob("ledger*"):
        file.unlink()
    settled.run("other", 2)  # what starts the courier
    settled.deliver()

    assert set(_stamps(settled)) == {"web-01,disk", "web-01,other"}
    settled.run("disk", 0)
    settled.deliver()
    with contextlib.closing(sqlite3.connect(settled.state / "ledger")) as ledger:
        assert ledger.execute("SELECT status FROM checks WHERE name = 'disk'").fetchone() == (0,)
    assert hipchat_room.statuses[-1] == "OK"


def test_a_broken_ledger_clears_the_stamps(settled: Site) -> None:
    _stamp_by_hand(settled, "ghost", 2)
    (settled.state / "ledger").write_bytes(b"no database" * 1000)

    settled.run("disk", 2)  # found quiet: nobody has looked at the ledger yet
    settled.run("other", 1)
    settled.deliver()

    assert "web-01,ghost" not in _stamps(settled)
    settled.run("ghost", 2)
    settled.deliver()
    said = settled.flipbell("history", "--json").stdout.splitlines()
    assert "ghost" in {json.loads(line)["check"] for line in said}


def test_a_forgotten_check_is_not_quiet(settled: Site) -> None:
    settled.flipbell("forget", "web-01", "disk")
    settled.deliver()
    assert _stamps(settled) == {}

    settled.run("disk", 2)
    settled.deliver()

    assert settled.status()["failing"][0]["check"] == "disk"


def test_a_recorder_that_is_stopped_with_the_lock_does_not_stop_deliveries(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    with (site.state / "append.lock").open("r+") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with Process([FLIPBELL, "courier"], env=site.environ):
            assert len(hipchat_room.wait_for(1)) == 1
            assert not _home(site).exists()
            fcntl.flock(stopped, fcntl.LOCK_UN)
            until(lambda: _home(site).exists() and (_home(site) / "idle").exists())
    assert _stamps(site) == {"web-01,disk": "2"}


def test_what_stands_in_the_way_of_the_stamps_is_removed(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.state.mkdir(mode=0o700)
    _home(site).write_text("in the way")

    for status in (2, 2, 0):
        site.run("disk", status)
        site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert _stamps(site) == {"web-01,disk": "0"}


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(first=st.tuples(names, names), second=st.tuples(names, names))
def test_no_two_checks_share_a_stamp(first: tuple[str, str], second: tuple[str, str]) -> None:
    stamps = [os.path.basename(quiet.stamp("/h", *check)) for check in (first, second)]

    assert (stamps[0] == stamps[1]) == (first == second)
    assert all(
        len(stamp) <= 255 and stamp == stamp.lower() and "\0" not in stamp for stamp in stamps
    )
    assert all(stamp.isascii() and stamp not in ("idle", ".", "..") for stamp in stamps)


@pytest.mark.parametrize("pair", [("A", "a"), ("é", "e\u0301"), ("a,b", "a%2cb"), ("%41", "A")])
def test_names_that_a_file_system_may_fold_stay_apart(pair: tuple[str, str]) -> None:
    first, second = (quiet.stamp("/h", "host", check).casefold() for check in pair)

    assert first != second


def test_names_that_are_no_utf_8_are_one_check_as_in_the_ledger(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    for check, status in ((b"\xff", "2"), (b"\xfe", "0"), (b"\xff", "2"), (b"\xff", "2")):
        command = [FLIPBELL, "run", "--host", "h", "--check", os.fsdecode(check), "--"]
        subprocess.run([*command, "sh", "-c", f"exit {status}"], env=site.environ, check=False)
        site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK", "CRITICAL"]
    assert _spooled(site) == 3


def _settle(state: Path, *, idle: bool) -> quiet.Check:
    """Return a check whose stamp says CRITICAL, in a state that is made by hand."""
    home = Path(quiet.home(str(state)))
    home.mkdir(parents=True)
    os.symlink("2", quiet.stamp(str(home), "web-01", "disk"))
    if idle:
        (home / quiet.IDLE).touch()
    return quiet.Check({"host": "web-01", "check": "disk", "state": str(state)}, {})


def test_a_stamp_hides_its_own_status_only(tmp_path: Path) -> None:
    check = _settle(tmp_path / "state", idle=True)

    assert [status for status in range(4) if check.has(status)] == [2]


def test_a_stamp_hides_nothing_while_something_waits_for_no_courier(tmp_path: Path) -> None:
    check = _settle(tmp_path / "state", idle=False)

    assert not any(check.has(status) for status in range(4))


@pytest.mark.parametrize(
    ("call", "is_unchanged"),
    [
        (["--check", "disk", "--status", "CRITICAL"], True),
        (["--check", "disk", "--status", "WARNING"], False),
        (["--check", "new", "--status", "CRITICAL"], False),
        (["--check", "x" * 100_000, "--status", "CRITICAL"], False),
        (["--check", "disk", "--status", "nonsense"], False),
        (["--check", "disk", "--status", "CRITICAL", "--echo"], False),
        (["--check", "disk", "--status", "CRITICAL", "--time", "5"], True),
        (["--check", "disk", "--status", "CRITICAL", "--time", "soon"], False),
        (["--check", "disk", "--from", "nothing"], False),
    ],
)
def test_the_short_cut_of_report_leaves_a_change_to_the_command_line(
    tmp_path: Path, call: list[str], *, is_unchanged: bool
) -> None:
    _settle(tmp_path / "state", idle=True)
    place = ["--state", str(tmp_path / "state"), "--host", "web-01", "--output=text"]

    assert report.is_unchanged([*place, *call]) == is_unchanged


def test_a_link_in_the_place_of_the_stamps_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / quiet.IDLE).touch()
    home = Path(quiet.home(str(tmp_path)))
    home.symlink_to("elsewhere")

    quiet.disturb(str(tmp_path), [("h", "c")])

    assert not home.is_symlink()
    assert (tmp_path / "elsewhere" / quiet.IDLE).exists()
