"""Reading much of the ledger in pages: complete, and the courier can commit between any two."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from flipbell import pages, state
from flipbell.ledger import Ledger
from flipbell.model import Outcome, Stage, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flipbell.model import Transition

NOW = 1.7e9
CHANNELS = ("ops", "dev")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have few rows fill many pages."""
    monkeypatch.setattr(pages, "_PAGE", 7)
    monkeypatch.setattr(pages, "_KEYS", 5)


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    directory = str(tmp_path_factory.mktemp("pages") / "state")
    state.prepare(directory)
    opened = Ledger.open(directory)
    with opened.transaction():
        _fill(opened, random.Random(1))
    yield opened
    opened.close()


def _fill(ledger: Ledger, chance: random.Random) -> None:
    """Have 60 checks flip 200 times, at times that an agent gave; some messages are dead."""
    for name in CHANNELS:
        ledger.enroll(name, 0)
    for number in range(200):
        host, check = f"web-{chance.randrange(6)}", f"check-{chance.randrange(10)}"
        at = NOW + number * 10 - chance.choice([0, 0, 0, 500, 5000])
        line = (at, chance.choice([0, 1, 2, 3]), host, check, f"output {number}", True)
        ledger.take([line], ("spool", number), NOW + number * 10)
    for number in range(1, ledger.last_transition() + 1):
        if chance.random() < 0.3:
            stage = chance.choice([Stage.DEAD, Stage.PERHAPS])
            _give_up(ledger, chance.choice(CHANNELS), number, stage)


def _give_up(ledger: Ledger, channel: str, number: int, stage: Stage) -> None:
    ledger.begin_try(channel, number, notify=True, reason="", digest=None, now=NOW)
    delivery = ledger.delivery(channel, number)
    assert delivery is not None
    ledger.end_try(delivery, stage, Outcome(Verdict.REFUSED, "no"))


def _all(ledger: Ledger) -> list[Transition]:
    return [transition for transition, _ in ledger.history()]


def _commit_beside(ledger: Ledger) -> None:
    """Commit as a courier that would not wait a millisecond."""
    [(_, _, path)] = ledger._db.execute("PRAGMA database_list").fetchall()
    with closing(sqlite3.connect(path, timeout=0)) as courier:
        courier.execute("UPDATE channels SET failures = failures + 1")
        courier.commit()


@pytest.mark.parametrize("since", [0.0, NOW, NOW + 700, NOW + 1995, NOW + 1e6])
@pytest.mark.parametrize("limit", [1, 7, 20, 1000])
@pytest.mark.parametrize("host", ["web-3", ""])
def test_the_newest_are_complete_whatever_their_times(
    ledger: Ledger, since: float, limit: int, host: str
) -> None:
    expected = [each.id for each in _all(ledger) if each.occurred_at >= since and host in each.host]

    found = ledger.newest(lambda each: host in each.host, limit=limit, since=since)

    assert list(found) == expected[-limit:]


@pytest.mark.parametrize("since", [0.0, NOW + 700])
def test_the_newest_of_a_channel_are_those_it_has_a_message_of(
    ledger: Ledger, since: float
) -> None:
    expected = [
        transition.id
        for transition, sent in ledger.history()
        if transition.occurred_at >= since and "dev" in [channel for channel, _, _ in sent]
    ]

    assert list(ledger.newest(lambda _: True, limit=999, since=since, channel="dev")) == expected
    assert expected


@pytest.mark.parametrize(
    ("limit", "since", "pages_read", "times_searched"),
    [(3, 0.0, 1, 0), (10, 0.0, 2, 0), (999, NOW + 1950, 1, 1), (999, NOW + 1e6, 1, 1)],
)
def test_a_search_that_is_over_reads_no_further(
    ledger: Ledger, limit: int, since: float, pages_read: int, times_searched: int
) -> None:
    statements: list[str] = []
    ledger._db.set_trace_callback(statements.append)

    ledger.newest(lambda _: True, limit=limit, since=since)

    assert sum("ORDER BY id DESC" in statement for statement in statements) == pages_read
    assert sum("occurred_at >=" in statement for statement in statements) == times_searched


def test_entries_are_as_they_were_asked_for(ledger: Ledger) -> None:
    history = ledger.history()
    numbers: Sequence[int] = [entry[0].id for entry in history[3::2]]

    assert [entry for page in ledger.entries(numbers) for entry in page] == history[3::2]
    after = ledger.entries_after(numbers[0], up_to=numbers[-1])
    assert [entry[0].id for page in after for entry in page] == [
        *range(numbers[0] + 1, numbers[-1] + 1)
    ]


def test_checks_are_all_there(ledger: Ledger) -> None:
    last = {(each.host, each.check): each for each in _all(ledger)}
    expected = [
        (*key, each.status, each.occurred_at)
        for key, each in sorted(last.items())
        if each.status is not Status.OK
    ]

    assert ledger.problems() == expected
    (count,) = ledger._db.execute("SELECT count(*) FROM checks").fetchone()
    assert ledger.count_checks() == count


def test_dead_letters_are_all_there(ledger: Ledger) -> None:
    expected = [
        (transition.id, channel, stage)
        for transition, sent in ledger.history()
        for channel, stage, _ in sent
        if stage in ("dead", "perhaps")
    ]

    letters = ledger.dead_letters()

    assert [(each.transition.id, each.channel, each.stage.value) for each in letters] == expected
    for stage in (Stage.DEAD, Stage.PERHAPS):
        assert ledger.count_given_up(stage) == {
            name: sum((name, stage.value) == each[1:] for each in expected) for name in CHANNELS
        }


def test_what_waits_of_a_check_is_found_in_order(ledger: Ledger) -> None:
    channel = ledger.channel("ops")
    assert channel is not None
    of = _all(ledger)[-1]
    expected = [each for each in _all(ledger) if (each.host, each.check) == (of.host, of.check)]

    assert ledger.waiting_for(channel, of) == expected


def test_a_damaged_name_at_the_end_of_a_page_ends_the_search(ledger: Ledger) -> None:
    """Read with U+FFFD in it, it sorts before itself."""
    for number in range(20):
        name = f"CAST(x'f5{number:02x}' AS TEXT)"
        ledger._db.execute(f"INSERT INTO checks VALUES ({name}, {name}, 2, 5.0)")
        ledger._db.execute(
            "INSERT INTO deliveries (channel, transition, state, notify, reason, first_try,"
            f" last_try) VALUES ({name}, 1, 'dead', 0, '', 0, 0)"
        )

    assert len(ledger.problems()) >= 5
    assert ledger.dead_letters()


def test_the_courier_can_commit_while_the_history_is_read(ledger: Ledger) -> None:
    def accept(_: Transition) -> bool:
        _commit_beside(ledger)
        return True

    for page in ledger.entries(ledger.newest(accept, limit=30, since=NOW + 500)):
        assert page
        _commit_beside(ledger)
    for page in ledger.entries_after(0):
        assert page
        _commit_beside(ledger)


def test_the_courier_can_commit_while_checks_are_read(ledger: Ledger) -> None:
    count = 0
    for page in ledger._check_pages("host", "AND status > 0"):
        count += len(page)
        _commit_beside(ledger)

    assert count == len(ledger.problems())


def test_the_courier_can_commit_while_dead_letters_are_read(ledger: Ledger) -> None:
    for _ in ledger._given_up("ops", Stage.DEAD):
        _commit_beside(ledger)
