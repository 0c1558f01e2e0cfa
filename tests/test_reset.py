"""A ledger that is broken: set aside, said once to each room, and what was recorded is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import unmeasured
from flipbell import state
from flipbell._database import LedgerDamage
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.reset import Cause, Doubt
from flipbell.rooms import Rooms
from flipbell.stamps import Stamps
from flipbell.trial import Verdict, judge
from hipchat_room import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Site
    from hipchat_room import HipChatRoom, HipChatServer

REPEAT = "(repeat: an earlier try may have arrived) "


def _garbage(ledger: Path) -> None:
    ledger.write_bytes(os.urandom(45056))


def _torn(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:5000])


def _page(ledger: Path) -> None:
    content = bytearray(ledger.read_bytes())
    for offset in range(4096, len(content) - 8192, 4096):
        content[offset : offset + 64] = os.urandom(64)
    ledger.write_bytes(content)


def _schema(ledger: Path) -> None:
    ledger.write_bytes(
        ledger.read_bytes().replace(b"CREATE TABLE checks", b"CREATE TABLE ch\xf5cks")
    )


def _column(ledger: Path) -> None:
    """Have SQLite find everything in order, and a column missing."""
    ledger.write_bytes(ledger.read_bytes().replace(b"status INTEGER", b"stotus INTEGER"))


def _read_only(ledger: Path) -> None:
    """Have SQLite refuse to write to a file that it may write to."""
    content = bytearray(ledger.read_bytes())
    content[18] = 7
    ledger.write_bytes(content)


def _never_free(ledger: Path) -> None:
    """Have SQLite say that a disk with room on it is full."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = ?", [(1 << 63) - 1])
        connection.commit()


def _impossible_row(ledger: Path) -> None:
    """Have a message under way that is about nothing."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute(
            "INSERT INTO deliveries (channel, transition, state, notify, reason, first_try,"
            " last_try) VALUES ('ops', 77, 'sending', 1, '', 0, 0)"
        )
        connection.commit()


DAMAGES = [_garbage, _torn, _page, _schema, _column, _read_only, _never_free, _impossible_row]


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_room_is_told_once_and_nothing_recorded_is_lost(
    site: Site,
    hipchat_server: HipChatServer,
    hipchat_room: HipChatRoom,
    damage: Callable[[Path], None],
) -> None:
    other = hipchat_server.room()
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.channel(other.url, "other", send=["critical"])
    site.run("disk", 2)
    site.deliver()
    damage(site.state / "ledger")
    site.run("load", 2)

    site.deliver()
    site.run("net", 2)
    site.deliver()

    for room in (hipchat_room, other):
        first, notice, *rest = [str(heard.body["message"]) for heard in room.heard]
        assert first.startswith("<b>CRITICAL</b>: disk")
        assert "flipbell on " in notice
        assert "has been reset" in notice
        assert [message.partition(" on ")[0] for message in rest] == [
            f"{REPEAT}<b>CRITICAL</b>: disk",
            f"{REPEAT}<b>CRITICAL</b>: load",  # was it told before? nobody knows
            "<b>CRITICAL</b>: net",
        ]
    assert [name for name in os.listdir(site.state) if name.startswith("ledger.broken-")]
    assert site.status()["fine"]


def test_a_ledger_that_is_only_locked_or_newer_is_not_set_aside(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    (site.state / "ledger").mkdir()

    site.flipbell("flush")

    assert not [name for name in os.listdir(site.state) if "broken" in name]


def test_an_answer_that_comes_after_a_reset_is_not_of_the_new_ledger(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    lock = state.try_lock(str(site.state), state.COURIER_LOCK)
    assert lock is not None
    rooms = Rooms(str(site.config), Extensions().channel_types())
    courier = Courier(str(site.state), rooms, Extensions(), lock=lock)
    thread = threading.Thread(target=courier.run, kwargs={"stay": False})
    thread.start()
    hipchat_room.wait_for_requests(1)
    _garbage(site.state / "ledger")

    gate.set()
    thread.join(30)

    assert not thread.is_alive()
    assert [str(heard.body["message"]).partition(" on ")[0] for heard in hipchat_room.heard] == [
        "<b>CRITICAL</b>: disk",
        "<b>UNKNOWN</b>: flipbell",
        f"{REPEAT}<b>CRITICAL</b>: disk",
    ]
    assert site.status()["fine"]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    path = str(tmp_path / "state")
    state.prepare(path)
    ledger = Ledger.open(path)
    with ledger.transaction():
        ledger.enroll("ops", 0)
        ledger.take([(1.0, 2, "web-01", "disk", "", False)], ("spool", 10), 1.0)
    ledger.close()
    return path


def _doubt(directory: str) -> Doubt:
    return Doubt(directory, Stamps(directory))


def _is_there(directory: str) -> bool:
    return not [name for name in os.listdir(directory) if "broken" in name or "trial" in name]


def _locked(path: str) -> None:
    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path, 0)) as second:
        first.execute("BEGIN EXCLUSIVE")
        second.execute("BEGIN EXCLUSIVE")


def _full(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA max_page_count=1")
        connection.execute("INSERT INTO setting VALUES ('x', zeroblob(1000000))")


def _not_writable(path: str) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("INSERT INTO setting VALUES ('x', 1)")


def _not_there(path: str) -> None:
    with closing(sqlite3.connect(f"file:{path}/nothing?mode=rw", uri=True)) as connection:
        connection.execute("SELECT 1 FROM setting")


def _failed(path: str) -> None:
    raise OSError(5, "Input/output error", path)


@pytest.mark.parametrize("fault", [_locked, _full, _not_writable, _not_there, _failed])
def test_a_fault_of_the_system_never_resets_a_ledger(
    directory: str, fault: Callable[[str], None]
) -> None:
    doubt = _doubt(directory)

    for _ in range(9):
        with pytest.raises((sqlite3.OperationalError, OSError)) as caught:
            fault(f"{directory}/{state.LEDGER}")
        cause = doubt.consider(caught.value, time.time())

    assert cause in (Cause.ELSEWHERE, Cause.UNSURE)
    assert _is_there(directory)


def test_failures_that_are_not_in_a_row_are_no_reason_to_doubt(directory: str) -> None:
    doubt = _doubt(directory)
    _read_only(Path(directory) / state.LEDGER)
    error = sqlite3.OperationalError("attempt to write a readonly database")

    for _ in range(5):
        assert [doubt.consider(error, 0.0) for _ in range(2)] == [Cause.UNSURE] * 2
        doubt.end()

    assert [doubt.consider(error, 0.0) for _ in range(3)][-1] is Cause.RESET
    assert not _is_there(directory)


def test_a_mistake_elsewhere_is_not_blamed_on_the_ledger(directory: str) -> None:
    with pytest.raises(ValueError, match="an extension's"):
        _doubt(directory).consider(ValueError("an extension's"), 0.0)


def test_a_reset_that_did_not_help_is_not_tried_again_and_again(directory: str) -> None:
    ledger = Ledger.open(directory)
    with pytest.raises(TypeError) as caught:
        ledger.transition(77)
    ledger.close()
    now = 1.7e9

    def causes(at: float) -> set[Cause]:
        doubt = _doubt(directory)
        return {doubt.consider(caught.value, at) for _ in range(3)}

    assert Cause.RESET in causes(now)
    Ledger.open(directory).close()
    assert Cause.RESET not in causes(now + 3600)
    assert Cause.RESET in causes(now + 100_000)


def test_what_the_ledger_itself_shows_needs_no_second_try(directory: str) -> None:
    assert _doubt(directory).consider(LedgerDamage("ahead"), 0.0) is Cause.RESET


def test_a_sound_ledger_passes_its_trial_and_is_left_as_it_was(directory: str) -> None:
    before = (Path(directory) / state.LEDGER).read_bytes()

    assert judge(directory) is Verdict.SOUND
    assert (Path(directory) / state.LEDGER).read_bytes() == before
    assert _is_there(directory)


_JUDGE_LIMITED = """
import resource, sys
from flipbell.trial import judge
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
print(judge(sys.argv[1]).name)
"""


@pytest.mark.parametrize("limit", [1000, 100_000, 1_100_000])
def test_a_broken_ledger_on_a_full_disk_waits_for_room(directory: str, limit: int) -> None:
    _read_only(Path(directory) / state.LEDGER)

    command = [sys.executable, "-c", _JUDGE_LIMITED, directory, str(limit)]
    # Coverage's own file would be cut short by the limit, and break the sum of all.
    environ = unmeasured(os.environ)
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)

    assert done.stdout == "UNSURE\n"
    assert judge(directory) is Verdict.BROKEN


def test_a_ledger_that_another_program_writes_is_not_judged(directory: str) -> None:
    path = f"{directory}/{state.LEDGER}"
    code = "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
    code += "connection.execute('BEGIN IMMEDIATE'); print(flush=True); input()"
    command = [sys.executable, "-c", code, path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()

        assert judge(directory) is Verdict.UNSURE

        other.communicate("\n")
    assert judge(directory) is Verdict.SOUND


def test_what_a_courier_left_that_died_in_a_trial_is_removed(directory: str) -> None:
    (Path(directory) / "trial-left").mkdir()

    assert judge(directory) is Verdict.SOUND
    assert _is_there(directory)
