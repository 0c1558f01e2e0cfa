"""Channels that are renamed, dropped, or left with open incidents: no recovery may be lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sqlite3
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from conftest import FLIPBELL, Process, until
from flipbell import orders, spool
from flipbell._database import _SCRIPTS
from flipbell.ledger import Ledger
from flipbell.orders import Dismissal, Order
from flipbell.roster import Entry
from flipbell.succession import Names, plan
from hipchat_room import Answer, HipChatRoom

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatServer

ROOM = ("hipchat", "https://h/v2/room/1/notification")
OTHER = ("hipchat", "https://h/v2/room/2/notification")


def _entry(name: str, identity: tuple[str, str] | None = ROOM, **keys: Any) -> Entry:
    return Entry(name, *(identity or (None, None)), **keys)


def _names(*, settled: bool = True, complete: bool = True, **identities: Any) -> Names:
    return Names(identities, settled, complete)


NEW = _entry("new", None, is_new=True)


def test_the_only_one_that_vanished_is_the_only_one_that_appeared() -> None:
    decided = plan([_entry("old"), NEW], _names(new=ROOM))

    assert decided.renames == [("old", "new")]
    assert (decided.starts, decided.leaves, decided.held) == ([], [], set())
    assert decided.is_final


def test_one_that_left_a_short_while_ago_is_taken_over() -> None:
    entries = [_entry("old", gone_at=1e9), NEW]

    assert plan(entries, _names(new=ROOM), now=1e9 + 3599).renames == [("old", "new")]
    assert plan(entries, _names(new=ROOM), now=1e9 + 3601).starts == ["new"]
    assert plan(entries[:1], _names(), now=1e9 + 1).leaves == []


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([_entry("old"), NEW], _names(new=OTHER)),
        ([_entry("old"), NEW], _names(new=("other", ROOM[1]))),
        ([_entry("old"), NEW], _names(old=ROOM, new=ROOM)),
        ([_entry("old", gone_at=-4000.0), NEW], _names(new=ROOM)),
        ([_entry("old", None), NEW], _names(new=ROOM)),
        ([_entry("old"), _entry("older"), NEW], _names(new=ROOM)),
        ([NEW], _names(new=ROOM)),
    ],
    ids=["room", "type", "nothing vanished", "long gone", "unknown room", "two vanished", "first"],
)
def test_what_is_no_renaming(entries: list[Entry], names: Names) -> None:
    decided = plan(entries, names)

    assert decided.renames == []
    assert decided.starts == ["new"]


def test_two_that_appeared_for_one_room_are_named_and_start_new() -> None:
    newer = _entry("newer", None, is_new=True)

    decided = plan([_entry("old"), NEW, newer], _names(new=ROOM, newer=ROOM))

    assert decided.unclear == [(["old"], ["new", "newer"])]
    assert decided.starts == ["new", "newer"]
    assert decided.leaves == ["old"]


def test_renamings_in_two_rooms_at_once_are_told_apart() -> None:
    entries = [_entry("a"), _entry("b", OTHER), NEW, _entry("newer", None, is_new=True)]

    assert plan(entries, _names(new=OTHER, newer=ROOM)).renames == [("b", "new"), ("a", "newer")]


@pytest.mark.parametrize(
    "names", [_names(settled=False, new=ROOM), _names(complete=False, new=ROOM)]
)
def test_nothing_is_decided_in_the_middle_of_an_edit(names: Names) -> None:
    decided = plan([_entry("old"), NEW], names)

    assert decided.held == {"new"}
    assert (decided.renames, decided.starts, decided.leaves) == ([], [], [])
    assert decided.is_final is names.is_settled


def test_one_that_does_not_work_yet_may_be_the_one_that_was_renamed() -> None:
    broken = plan([_entry("old"), NEW], _names(new=None))

    assert (broken.leaves, broken.starts) == ([], [])
    assert plan([_entry("old"), NEW], _names(new=ROOM)).renames == [("old", "new")]


def test_a_new_one_that_vanishes_in_the_middle_of_an_edit_keeps_its_place() -> None:
    assert plan([NEW], _names(settled=False)).removed == []
    assert plan([NEW], _names()).removed == ["new"]


@pytest.mark.parametrize(
    "order", [Order("ops", "on call"), Order("büro", ""), Dismissal("büro", 17)]
)
def test_an_order_is_a_line_that_an_older_courier_leaves_out(order: Order | Dismissal) -> None:
    line = orders.encode(order, 1e9)

    assert line.endswith(b"\n")
    assert orders.decode(line[:-1]) == order
    assert spool.decode(line[:-1]) is None


@pytest.mark.parametrize(
    "line",
    [
        spool.encode(b"rename", b"drop", 2, b"rename", 1e9)[:-1],
        b"1\trename\tops",
        b"x\trename\tops\tnew\t",
        b"1\trename\tops\t\t",
        b"1\tdrop\tops\tnew\t",
        b"",
    ],
)
def test_any_other_line_is_no_order(line: bytes) -> None:
    assert orders.decode(line) is None


@pytest.fixture
def quiet(site: Site) -> Site:
    """A site whose fronts start no courier."""
    site.environ["FLIPBELL_COURIER"] = "off"
    return site


def _rename(site: Site, old: str, new: str) -> None:
    (site.config / f"{old}.yaml").rename(site.config / f"{new}.yaml")
    content = json.loads((site.config / f"{new}.yaml").read_text())
    content["channels"] = {new: content["channels"][old]}
    (site.config / f"{new}.yaml").write_text(json.dumps(content))


def _names_of(site: Site) -> list[str]:
    return [channel["name"] for channel in site.status()["channels"]]


def _is_the_only_one(site: Site, name: str) -> bool:
    return _names_of(site) == [name]


def test_a_renamed_channel_tells_the_recovery(quiet: Site, hipchat_room: HipChatRoom) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    _rename(quiet, "ops", "oncall")

    checked = quiet.flipbell("check-config").stdout.decode()
    quiet.run("disk", 0)
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert "channel oncall takes over from ops: it was renamed\n" in checked
    assert _names_of(quiet) == ["oncall"]
    took_over = "channel oncall took over from ops (renamed in the configuration)"
    assert took_over in quiet.flipbell("history").stdout.decode()
    assert took_over in quiet.flipbell("check-config").stdout.decode()


def test_a_renamed_channel_delivers_what_waited_for_it(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(401)
    quiet.run("disk", 2)
    assert quiet.flipbell("flush").returncode == 1
    hipchat_room.otherwise = Answer()
    _rename(quiet, "ops", "oncall")

    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]


def test_a_dead_letter_and_the_counters_go_with_the_name(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(400)]
    quiet.run("disk", 2)
    quiet.flipbell("flush")
    _rename(quiet, "ops", "oncall")
    quiet.deliver()

    (letter,) = quiet.flipbell("dead", "list", "--json").stdout.splitlines()
    assert json.loads(letter)["channel"] == "oncall"
    metrics = quiet.flipbell("status", "--format", "prometheus").stdout.decode()
    assert 'channel="oncall"' in metrics
    assert 'channel="ops"' not in metrics


def test_a_channel_that_got_another_room_sends_it_no_recovery_of_the_old_one(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    for check in ("disk", "load"):
        quiet.run(check, 2)
    quiet.deliver()
    # The same room by another address of its server, and then another room.
    quiet.channel(hipchat_room.url.replace("127.0.0.1", "localhost"))
    quiet.run("disk", 0)
    quiet.deliver()
    quiet.channel(hipchat_room.url, room="7")
    quiet.run("load", 0)
    quiet.run("load", 1)
    quiet.deliver()

    heard = [(each.room, each.status) for each in hipchat_room.heard]
    assert heard == [("4242", "CRITICAL"), ("4242", "CRITICAL"), ("4242", "OK"), ("7", "WARNING")]


def test_a_channel_that_is_renamed_in_two_steps_loses_nothing(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    content = (quiet.config / "ops.yaml").read_text()
    (quiet.config / "ops.yaml").unlink()
    quiet.run("load", 1)
    with Process([FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.DEVNULL):
        until(lambda: not quiet.status()["untaken"])
        until(lambda: _gone(quiet) == ["ops"])
        (quiet.config / "new.yaml").write_text(content.replace('"ops"', '"oncall"'))
        quiet.run("disk", 0)
        hipchat_room.wait_for(3)

    assert hipchat_room.statuses == ["CRITICAL", "WARNING", "OK"]


def _gone(site: Site) -> list[str]:
    """Return the channels that a courier has seen leave."""
    with contextlib.closing(sqlite3.connect(site.state / "ledger")) as connection:
        rows = connection.execute("SELECT name FROM channels WHERE gone_at NOT NULL").fetchall()
    return [name for (name,) in rows]


def test_a_channel_is_renamed_and_renamed_back_under_a_courier_at_work(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    with Process([FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.DEVNULL):
        quiet.run("disk", 2)
        hipchat_room.wait_for(1)
        for old, new, code in (("ops", "oncall", 1), ("oncall", "ops", 0)):
            _rename(quiet, old, new)
            quiet.run("disk", code)
            until(partial(_is_the_only_one, quiet, new))
        hipchat_room.wait_for(3)

    assert hipchat_room.statuses == ["CRITICAL", "WARNING", "OK"]


def test_a_channel_is_renamed_while_a_request_is_under_way(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    with Process([FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.DEVNULL):
        quiet.run("disk", 2)
        until(lambda: hipchat_room.requests)
        _rename(quiet, "ops", "oncall")
        quiet.run("disk", 0)
        until(lambda: "oncall" in _names_of(quiet))
        gate.set()
        hipchat_room.wait_for(2)
        until(lambda: _names_of(quiet) == ["oncall"])

    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_courier_that_is_killed_in_the_middle_loses_no_recovery(
    quiet: Site, hipchat_room: HipChatRoom, *, is_long: bool
) -> None:
    quiet.channel(hipchat_room.url, per_minute=0)  # each change by itself, no digest
    quiet.run("disk", 2)
    quiet.deliver()
    names = ["ops", "oncall"] * (40 if is_long else 3)
    for step, (old, new) in enumerate(itertools.pairwise(names)):
        _rename(quiet, old, new)
        quiet.run("disk", 1 if step % 2 == 0 else 2)
        with Process(
            [FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.DEVNULL
        ) as courier:
            # At another moment each time: before, in and after the decision.
            threading.Event().wait(0.1 + step % 9 * 0.07)
            courier.send_signal(signal.SIGKILL)
    quiet.run("disk", 0)
    quiet.deliver()

    heard = [str(status) for status in hipchat_room.statuses]
    assert heard[-1] == "OK"
    assert heard.count("OK") == 1
    assert {*_names_of(quiet)} == {names[-1]}


def test_two_that_swap_their_names_take_nothing_over(
    quiet: Site, hipchat_server: HipChatServer, hipchat_room: HipChatRoom
) -> None:
    other = hipchat_server.room()
    quiet.channel(hipchat_room.url, "a")
    quiet.channel(other.url, "b", match=[{"check": "none"}])
    quiet.run("disk", 2)
    quiet.deliver()

    _rename(quiet, "a", "c")
    _rename(quiet, "b", "a")
    _rename(quiet, "c", "b")
    quiet.deliver()

    assert _names_of(quiet) == ["a", "b"]
    assert quiet.flipbell("history").stdout.count(b"took over") == 0


def test_an_unclear_renaming_starts_new_and_names_both(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    _rename(quiet, "ops", "day")
    quiet.channel(hipchat_room.url, "night", match=[{"check": "none"}])

    checked = quiet.flipbell("check-config")
    assert b"gone from the configuration: ops; new for the same room: day, night" in checked.stdout
    assert checked.returncode == 0
    quiet.deliver()
    checked = quiet.flipbell("check-config")
    assert b"flipbell channels rename ops NEW" in checked.stdout
    assert b"disk on web-01 (CRITICAL)" in checked.stdout

    assert quiet.flipbell("channels", "rename", "ops", "day").returncode == 0
    quiet.run("disk", 0)
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert b"channel day took over from ops (by hand)" in quiet.flipbell("history").stdout
    assert b"warning" not in quiet.flipbell("check-config").stdout


@pytest.mark.parametrize("has_sent", [False, True], ids=["idle", "at work"])
def test_a_recovery_that_was_passed_by_is_told_once_a_name_is_put_right(
    quiet: Site, hipchat_room: HipChatRoom, *, has_sent: bool
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.run("load", 1)
    quiet.deliver()
    (quiet.config / "ops.yaml").unlink()
    quiet.deliver()
    with contextlib.closing(sqlite3.connect(quiet.state / "ledger")) as connection:
        connection.execute("UPDATE channels SET gone_at = gone_at - 4000")
        connection.commit()
    quiet.channel(hipchat_room.url, "oncall")
    quiet.deliver()
    if has_sent:
        quiet.run("swap", 1)
    quiet.run("disk", 0)
    quiet.deliver()
    assert "OK" not in hipchat_room.statuses

    quiet.flipbell("channels", "rename", "ops", "oncall")
    quiet.run("load", 0)
    quiet.deliver()

    assert hipchat_room.statuses[-2:] == ["OK", "OK"]
    assert len(hipchat_room.statuses) == 4 + has_sent
    assert _names_of(quiet) == ["oncall"]


def test_a_channel_that_was_dropped_leaves_the_status(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(400), Answer()]
    quiet.run("disk", 2)
    quiet.run("load", 2)
    quiet.flipbell("flush")
    (quiet.config / "ops.yaml").unlink()
    quiet.deliver()
    listed = quiet.flipbell("channels")
    assert listed.returncode == 1
    assert b"not configured any more; 1 given up; 1 open in its room" in listed.stdout
    assert _names_of(quiet) == ["ops"]

    done = quiet.flipbell("channels", "drop", "ops")
    assert done.returncode == 0
    assert done.stdout.endswith(b"left open: a courier does it within seconds\n")
    quiet.deliver()

    assert _names_of(quiet) == []
    assert quiet.flipbell("channels").stdout == b""
    assert quiet.flipbell("dead", "list").stdout == b""
    assert b"channel ops was dropped" in quiet.flipbell("history").stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["drop", "ops"], "channel ops is configured; first rename or remove it there"),
        (["drop", "none"], "no channel none is known; see flipbell channels"),
        (["rename", "ops"], "channels rename: expected OLD NEW"),
        (["rename", "gone", "none"], "no channel none is configured in "),
        (["list", "ops"], "channels list: expected no name"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    quiet: Site, hipchat_room: HipChatRoom, words: list[str], error: str
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.channel(hipchat_room.url, "gone")
    quiet.run("disk", 0)
    quiet.deliver()
    (quiet.config / "gone.yaml").unlink()
    quiet.deliver()

    done = quiet.flipbell("channels", *words)

    assert done.returncode == 2
    assert error in done.stderr.decode()


def test_an_order_that_makes_no_sense_any_more_is_not_carried_out(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 0)
    quiet.deliver()
    line = orders.encode(Order("ops", ""), time.time()) + orders.encode(Order("no", "ops"), 1.0)
    spool.append(str(quiet.state), line)

    quiet.deliver()

    assert _names_of(quiet) == ["ops"]
    ledger = Ledger.view(str(quiet.state))
    assert ledger is not None
    assert [each.successor for each in ledger.roster()] == [None]
    ledger.close()


def test_a_match_that_leaves_out_an_open_incident_is_warned_of(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    quiet.channel(hipchat_room.url, exclude=[{"check": "disk"}])

    checked = quiet.flipbell("check-config").stdout.decode()

    assert "warning: channel ops: its room was told of disk on web-01 (CRITICAL)" in checked


def test_a_second_channel_for_a_room_begins_with_what_happens_next(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    quiet.channel(hipchat_room.url, "more")

    quiet.run("load", 2)
    quiet.deliver()

    assert sorted(hipchat_room.statuses) == ["CRITICAL"] * 3
    assert quiet.status()["fine"]


def test_a_file_that_moves_and_a_name_that_changes_at_once(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    content = (quiet.config / "ops.yaml").read_text()
    with Process([FLIPBELL, "courier"], env=quiet.environ, stderr=subprocess.DEVNULL):
        quiet.run("load", 2)
        hipchat_room.wait_for(2)
        (quiet.config / "all.yaml").write_text(content.replace('"ops"', '"oncall"'))
        (quiet.config / "ops.yaml").unlink()
        quiet.run("load", 0)
        quiet.run("disk", 0)
        hipchat_room.wait_for(4)

    assert sorted(hipchat_room.statuses) == ["CRITICAL", "CRITICAL", "OK", "OK"]


def test_a_new_channel_waits_while_the_old_one_may_be_in_a_file_that_cannot_be_read(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.run("disk", 2)
    quiet.deliver()
    (quiet.config / "broken.yaml").write_text("[")
    _rename(quiet, "ops", "oncall")
    quiet.run("disk", 0)
    assert quiet.flipbell("flush").returncode == 1
    assert hipchat_room.statuses == ["CRITICAL"]
    assert b"channel oncall waits until every file can be read" in quiet.flipbell("status").stdout

    (quiet.config / "broken.yaml").unlink()
    quiet.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_ledger_of_an_older_version_is_read_as_it_is(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    quiet.channel(hipchat_room.url)
    quiet.state.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(quiet.state / "ledger")) as connection:
        connection.executescript("".join(_SCRIPTS[:-1]))
        connection.execute("INSERT INTO channels (name, cursor) VALUES ('ops', 0)")
        connection.execute(f"PRAGMA user_version={len(_SCRIPTS) - 1}")
        connection.commit()

    for words in (["channels"], ["check-config"], ["history"], ["status"]):
        assert quiet.flipbell(*words).stderr == b""
