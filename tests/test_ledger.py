"""The ledger: what is a transition, taken once, and readable by others meanwhile."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import until
from flipbell import state
from flipbell._database import _SCRIPTS, VERSION, LedgerDamage
from flipbell.ledger import KEPT_FOR, Ledger, LedgerError
from flipbell.model import Kind, Outcome, Stage, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1000.0
POSITION = ("spool", 10)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    made = tmp_path / "state"
    state.prepare(str(made))
    return str(made)


@pytest.fixture
def ledger(directory: str) -> Iterator[Ledger]:
    opened = Ledger.open(directory)
    yield opened
    opened.close()


def _take(ledger: Ledger, *results: tuple[float, int], now: float = NOW) -> list[str]:
    """Take results of one check; return every transition so far, as `before-after`."""
    with ledger.transaction():
        lines = [(at, status, "web-01", "disk", "output", True) for at, status in results]
        ledger.take(lines, POSITION, now)
    return [
        f"{found.previous.name if found.previous else ''}-{found.status.name}"
        for found, _ in ledger.history()
    ]


def test_a_first_ok_is_no_transition(ledger: Ledger) -> None:
    assert _take(ledger, (1, 0), (2, 0)) == []
    assert ledger.count_checks() == 1


def test_a_first_problem_is_one(ledger: Ledger) -> None:
    assert _take(ledger, (1, 2)) == ["-CRITICAL"]


def test_each_change_is_one(ledger: Ledger) -> None:
    assert _take(ledger, (1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (6, 0)) == [
        "OK-WARNING",
        "WARNING-CRITICAL",
        "CRITICAL-UNKNOWN",
        "UNKNOWN-OK",
    ]


def test_a_result_older_than_the_last_change_is_ignored_and_counted(ledger: Ledger) -> None:
    assert _take(ledger, (5, 2), (4, 0)) == ["-CRITICAL"]
    assert ledger.setting("late") == 1


def test_a_time_of_the_fronts_own_clock_is_never_late(ledger: Ledger) -> None:
    with ledger.transaction():
        for at, status in ((5.0, 2), (4.0, 0)):
            ledger.take([(at, status, "h", "c", "", False)], POSITION, NOW)

    assert [each.status.value for each, _ in ledger.history()] == [2, 0]


def test_a_time_in_whole_seconds_is_any_moment_of_its_second(ledger: Ledger) -> None:
    assert _take(ledger, (5.7, 2), (5.0, 0), (5.0, 1)) == ["-CRITICAL", "CRITICAL-OK", "OK-WARNING"]
    assert _take(ledger, (5.6, 2), (4.0, 0))[3:] == ["WARNING-CRITICAL"]


def test_results_of_the_same_time_count_as_they_arrive(ledger: Ledger) -> None:
    assert _take(ledger, (5, 2), (5, 0)) == ["-CRITICAL", "CRITICAL-OK"]


def test_unchanged_results_leave_no_time(ledger: Ledger) -> None:
    assert _take(ledger, (5, 2), (9, 2), (7, 0)) == ["-CRITICAL", "CRITICAL-OK"]


def test_a_time_in_the_future_is_taken_for_now(ledger: Ledger) -> None:
    assert _take(ledger, (9e9, 2), (NOW, 0)) == ["-CRITICAL", "CRITICAL-OK"]
    assert ledger.history()[0][0].occurred_at == NOW


def test_a_stored_time_in_the_future_does_not_win_for_ever(ledger: Ledger) -> None:
    _take(ledger, (5000, 2), now=5000.0)

    assert _take(ledger, (NOW, 0), now=NOW) == ["-CRITICAL", "CRITICAL-OK"]  # the clock went back


def test_what_was_taken_and_how_far_are_one_transaction(ledger: Ledger) -> None:
    def die_in_the_middle() -> None:
        with ledger.transaction():
            ledger.take([(1, 2, "h", "c", "", True)], POSITION, NOW)
            raise KeyError

    with pytest.raises(KeyError):
        die_in_the_middle()

    assert ledger.history() == []
    assert ledger.position() == ("", 0)


def test_others_read_while_the_courier_has_it_open(ledger: Ledger, directory: str) -> None:
    _take(ledger, (1, 2))

    view = Ledger.view(directory)

    assert view is not None
    assert [found.status for found, _ in view.history()] == [Status.CRITICAL]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        view.set("x", 1)
    view.close()


def test_a_snapshot_is_of_one_moment(directory: str, ledger: Ledger) -> None:
    _take(ledger, (1, 2))
    view = Ledger.view(directory)
    assert view is not None
    with view.snapshot():
        writer = threading.Thread(target=_take_beside, args=(directory,))
        writer.start()
        until(lambda: os.path.getsize(f"{directory}/ledger-journal"))
        seen = view.last_transition(), view.position()
        writer.join(0.2)  # it waits for us
        assert (view.last_transition(), view.position()) == seen == (1, POSITION)
    writer.join(10)

    assert view.last_transition() == 2
    view.close()


def _take_beside(directory: str) -> None:
    other = Ledger.open(directory)
    _take(other, (2, 0))
    other.close()


def test_there_is_nothing_to_view_before_the_first_courier(directory: str) -> None:
    assert Ledger.view(directory) is None


def test_opens_again_as_it_was(directory: str) -> None:
    first = Ledger.open(directory)
    _take(first, (1, 2))
    first.close()

    second = Ledger.open(directory)

    assert _take(second, (2, 2), (3, 0)) == ["-CRITICAL", "CRITICAL-OK"]
    second.close()


def test_a_newer_ledger_is_refused(directory: str) -> None:
    Ledger.open(directory).close()
    _execute(directory, "CREATE TABLE news (x)", f"PRAGMA user_version={VERSION + 1}")

    with pytest.raises(LedgerError, match="upgrade flipbell"):
        Ledger.open(directory)


@pytest.mark.parametrize("number", [0, 1, VERSION + 1, VERSION + 256, 1 << 30, -1])
def test_a_damaged_version_number_is_put_right(directory: str, number: int) -> None:
    first = Ledger.open(directory)
    _take(first, (1, 2))
    first.close()
    _execute(directory, f"PRAGMA user_version={number}")

    second = Ledger.open(directory)

    assert _take(second, (2, 0)) == ["-CRITICAL", "CRITICAL-OK"]
    second.close()
    with closing(_open(directory)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)


@pytest.mark.parametrize(
    "statement",
    [
        f"PRAGMA user_version={VERSION + 5000}",  # never so far ahead
        "PRAGMA application_id=1",
    ],
)
def test_only_a_sound_ledger_of_flipbell_can_be_a_newer_one(directory: str, statement: str) -> None:
    Ledger.open(directory).close()
    _execute(directory, "CREATE TABLE news (x)", f"PRAGMA user_version={VERSION + 1}", statement)

    Ledger.open(directory).close()


def test_tables_of_no_version_are_damage(directory: str) -> None:
    Ledger.open(directory).close()
    _execute(directory, "DROP TABLE checks", "PRAGMA user_version=1")

    with pytest.raises(LedgerDamage, match="no version of flipbell"):
        Ledger.open(directory)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE setting SET value = 11 WHERE name = 'offset'", "11 bytes of a spool of 10"),
        ("UPDATE setting SET value = -1 WHERE name = 'offset'", "-1 bytes of a spool of 10"),
        ("UPDATE channels SET cursor = 2", "more than there ever was"),
        ("UPDATE channels SET cursor = 'a'", "more than there ever was"),
        ("UPDATE channels SET cursor = -1", "more than there ever was"),
    ],
)
def test_a_ledger_ahead_of_what_it_counts_is_damaged(
    directory: str, ledger: Ledger, statement: str, reason: str
) -> None:
    with ledger.transaction():
        ledger.enroll("ops", 0)
    _take(ledger, (1, 2))
    ledger.inspect(POSITION)
    _execute(directory, statement)

    with pytest.raises(LedgerDamage, match=reason):
        ledger.inspect(POSITION)


@pytest.mark.parametrize(
    ("column", "damaged"),
    [
        ("late INTEGER NOT NULL DEFAULT 0", "late INTEGER NOT NULL DEFAULT 1"),
        ("value INTEGER", "valve INTEGER"),
        ("WHERE state = 'dead'", "WHERE state = 'deaf'"),
        ("previous INTEGER", "previous INTEGES"),
    ],
)
def test_other_tables_than_its_version_has_are_damage(
    directory: str, column: str, damaged: str
) -> None:
    Ledger.open(directory).close()
    path = Path(directory) / "ledger"
    path.write_bytes(path.read_bytes().replace(column.encode(), damaged.encode()))

    ledger = Ledger.open(directory)
    with pytest.raises(LedgerDamage, match="not those of its version"):
        ledger.inspect(POSITION)
    ledger.close()


def test_a_damaged_value_is_read_as_well_as_it_can_be(directory: str, ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.enroll("ops", 0)
        ledger.take([(1, 2, "web-01", "disk", "full", False)], POSITION, NOW)
        ledger.begin_try("ops", 1, notify=True, reason="", digest=None, now=NOW)
    bad = "CAST(x'66f56c' AS TEXT)"
    _execute(
        directory,
        f"UPDATE transitions SET host = {bad}, output = {bad}, status = 9, previous = 'x',"
        " kind = 77, occurred_at = 9e999, previous_since = 'x', name = x'80'",
        f"UPDATE channels SET next_try = {bad}, failures = {bad}, last_error = {bad}",
        f"UPDATE deliveries SET unknown = {bad}, tried_for = {bad}, digest = {bad}, error = {bad}",
        f"INSERT INTO told VALUES ('ops', 'h', 'c', {bad})",
        f"INSERT INTO checks VALUES ({bad}, 'c', {bad}, {bad})",
        f"INSERT OR REPLACE INTO setting VALUES ('late', {bad})",
        f"INSERT INTO counters VALUES ({bad}, 'requests', {bad})",
        f"INSERT INTO unread VALUES ({bad}, {bad})",
        f"INSERT INTO rooms VALUES ('room', {bad})",
    )

    [(found, [(_, _, error)])] = ledger.history()
    assert (found.host, found.output, found.check, error) == (
        "f\ufffdl",
        "f\ufffdl",
        "\ufffd",
        error,
    )
    assert (found.status, found.previous, found.kind) == (
        Status.UNKNOWN,
        Status.UNKNOWN,
        Kind.PLAIN,
    )
    assert (found.occurred_at, found.previous_since) == (0.0, 0.0)
    [channel] = ledger.channels()
    assert (channel.next_try, channel.failures, channel.last_error) == (0.0, 0, "f\ufffdl")
    delivery = ledger.delivery("ops", 1)
    assert delivery is not None
    assert (delivery.unknown, delivery.tried_for, delivery.digest) == (0, 0.0, 0)
    assert ledger.problems() == [
        ("f\ufffdl", "c", Status.UNKNOWN, 0.0),
        ("web-01", "disk", Status.CRITICAL, 1.0),
    ]
    assert ledger.counters() == {("f\ufffdl", "requests"): 0}
    assert ledger.unread() == {"f\ufffdl": 0}
    assert ledger.room_closed_until("room") == 0.0
    assert ledger.told("ops", replace(found, host="h", check="c")) is Status.UNKNOWN
    assert _take(ledger, (5, 0))[1:] == ["CRITICAL-OK"]


@pytest.mark.parametrize("table", ["transitions", "channels"])
def test_a_table_that_lost_a_column_is_damage_to_a_reader_as_well(
    directory: str, ledger: Ledger, table: str
) -> None:
    with ledger.transaction():
        ledger.enroll("ops", 0)
    _take(ledger, (1, 2))
    column = "kind" if table == "transitions" else "last_error"
    _execute(directory, f"ALTER TABLE {table} DROP COLUMN {column}")

    with pytest.raises(sqlite3.DatabaseError, match="column"):
        ledger.history() if table == "transitions" else ledger.channels()


def _execute(directory: str, *statements: str) -> None:
    """Change the file as no flipbell does."""
    with closing(_open(directory)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_room_gets_no_more_than_its_share(ledger: Ledger) -> None:
    with ledger.transaction():
        for second in range(3):
            ledger.begin_request("ops", "room", NOW + second)
            ledger.end_request("ops", NOW + second)

    assert ledger.room_free_at("room", 3, NOW + 2) >= NOW + 60
    assert ledger.room_free_at("room", 4, NOW + 2) == NOW + 2
    assert ledger.room_free_at("room", 3, NOW + 65) == NOW + 65
    assert ledger.room_free_at("other", 3, NOW + 2) == NOW + 2
    assert ledger.room_free_at("room", 0, NOW + 2) == NOW + 2


def _open(directory: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{directory}/ledger", isolation_level=None)


def _first_version(directory: str) -> None:
    """Make a ledger as the first version made it, with a check that failed."""
    state.prepare(directory)
    os.close(state.open_private(directory, "ledger", os.O_RDWR))
    old = _open(directory)
    for statement in _SCRIPTS[0].split(";\n"):
        old.execute(statement)
    old.execute("INSERT INTO checks VALUES ('h', 'c', 2, 5.0)")
    old.execute(
        "INSERT INTO transitions (host, name, status, output, occurred_at)"
        " VALUES ('h', 'c', 2, 'o', 5.0)"
    )
    old.execute("INSERT INTO channels (name, cursor) VALUES ('ops', 0)")
    old.execute("PRAGMA user_version=1")
    old.close()


def test_a_ledger_of_the_first_version_is_read_until_a_courier_takes_it_over(
    directory: str,
) -> None:
    _first_version(directory)
    before = Path(directory, "ledger").read_bytes()

    view = Ledger.view(directory)

    assert view is not None
    assert [each.name for each in view.channels()] == ["ops"]
    assert [each.check for each, _ in view.history()] == ["c"]
    assert view.dead_letters() == []
    assert view.renames() == []
    with view.snapshot():
        assert view.problems() == [("h", "c", Status.CRITICAL, 5.0)]
    view.close()
    assert Path(directory, "ledger").read_bytes() == before


def test_a_ledger_of_the_first_version_is_taken_over(directory: str) -> None:
    _first_version(directory)

    ledger = Ledger.open(directory)

    channel = ledger.channel("ops")
    assert channel is not None
    head = ledger.head(channel)
    assert head is not None
    assert (head.check, head.status, head.kind) == ("c", Status.CRITICAL, Kind.PLAIN)
    ledger.inspect(POSITION)
    ledger.close()


def _prunable(ledger: Ledger, delivered: int) -> None:
    """Let a check flip four times, of which the channel has looked at some."""
    ledger.enroll("ops", 0)
    lines = [(NOW + n, status, "h", "c", "", True) for n, status in enumerate([2, 0, 2, 0])]
    ledger.take(lines, POSITION, NOW + 9)
    ledger.take([(NOW + 9, 2, "h", "failing", "", True)], POSITION, NOW + 9)
    for number in range(1, delivered + 1):
        ledger.move_on("ops", number)


def _left(ledger: Ledger) -> list[int]:
    return [transition.id for transition, _ in ledger.history()]


def test_old_history_is_pruned_but_nothing_that_is_not_ok(ledger: Ledger) -> None:
    with ledger.transaction():
        _prunable(ledger, delivered=5)
        assert ledger.prune(NOW + KEPT_FOR - 1, ["ops"]) == 0
        assert ledger.prune(NOW + KEPT_FOR + 60, ["ops"]) == 4

    assert _left(ledger) == [5]
    _take(ledger, (1e8, 1))
    assert _left(ledger) == [5, 6]  # numbers are not given twice


def test_what_waits_or_is_dead_is_not_pruned(ledger: Ledger) -> None:
    with ledger.transaction():
        _prunable(ledger, delivered=3)
        ledger.begin_try("ops", 1, notify=True, reason="", digest=None, now=NOW)
        found = ledger.delivery("ops", 1)
        assert found is not None
        ledger.end_try(found, Stage.DEAD, Outcome(Verdict.REFUSED, "no"))
        assert ledger.prune(NOW + KEPT_FOR + 60, ["ops"]) == 2

    assert _left(ledger) == [1, 4, 5]


def test_a_removed_channel_keeps_no_history(ledger: Ledger) -> None:
    with ledger.transaction():
        _prunable(ledger, delivered=0)
        assert ledger.prune(NOW + KEPT_FOR + 60, ["ops"]) == 0
        assert ledger.prune(NOW + KEPT_FOR + 60, []) == 4


@pytest.mark.parametrize("jump", [-3600.0, -365 * 86400.0, 3600.0, 365 * 86400.0])
def test_statuses_stay_sane_whatever_the_clock_does(ledger: Ledger, jump: float) -> None:
    """A clock jumps, and is set right again: each flip is seen all the same."""
    now = 1_800_000_000.0
    times = [now, now + 1, now + 2 + jump, now + 3 + jump, now + 4, now + 5]
    with ledger.transaction():
        for at, status in zip(times, [2, 0, 2, 0, 2, 0], strict=True):
            ledger.take([(at, status, "h", "c", "", True)], POSITION, at)

    assert [transition.status.value for transition, _ in ledger.history()] == [2, 0, 2, 0, 2, 0]
