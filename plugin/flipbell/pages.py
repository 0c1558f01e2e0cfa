"""Reading much of the ledger: in pages, so that the courier's next commit waits for one at most.

SQLite lets nothing be committed while a statement is being read. So each page is one statement,
fetched at once, and the next goes on from the last row's key.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from flipbell import stored
from flipbell.model import Stage
from flipbell.outbox import DeadLetter, Outbox, transition_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flipbell.model import Status, Transition
    from flipbell.outbox import ChannelState

    Sent = tuple[str, str, str | None]
    """What became of a message: channel, stage, error."""

    Entry = tuple[Transition, list[Sent]]
    """A line of the history."""

_PAGE = 250  # transitions, or dead letters
_KEYS = 2000  # rows that are only counted or filtered
_LAST = (1 << 63) - 1
_GIVEN_UP = {
    Stage.DEAD: "INDEXED BY deliveries_dead WHERE state = 'dead'",
    Stage.PERHAPS: "INDEXED BY deliveries_perhaps WHERE state = 'perhaps'",
}


class Pages(Outbox):
    """What people and programs read of a ledger that the courier writes meanwhile."""

    # The history

    def newest(
        self,
        accept: Callable[[Transition], bool],
        *,
        limit: int,
        since: float = 0.0,
        channel: str | None = None,
    ) -> Sequence[int]:
        """Return the numbers of the newest transitions that are accepted, the oldest first.

        Only those at or after *since* (epoch seconds) and, with *channel*, only those that a
        message to it told or was to tell, or that wait for it.
        """
        numbers, floor = array("q"), 0
        before = _LAST
        while page := self._transitions_before(before, channel):
            before = page[-1].id
            kept = [each for each in page if each.occurred_at >= since]
            numbers.extend(each.id for each in kept if accept(each))
            if len(kept) < len(page) and not floor:
                floor = self._first_since(since)
            if len(numbers) >= limit or before <= floor:
                break
        return numbers[:limit][::-1]

    def _transitions_before(self, number: int, channel: str | None) -> list[Transition]:
        if channel is None:
            return self._transitions_down(0, number)
        return self._transitions_down(self._cursor(channel), number) or self._told_before(
            number, channel
        )

    def _cursor(self, channel: str) -> int:
        """Return the last transition that a channel has looked at; if it left, the last of all."""
        row = self._one("SELECT cursor FROM channels WHERE name = ? AND gone_at IS NULL", [channel])
        return _LAST if row is None else stored.whole(row[0])

    def _transitions_down(self, after: int, before: int) -> list[Transition]:
        rows = self._db.execute(
            "SELECT * FROM transitions WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?",
            (after, before, _PAGE),
        )
        return [transition_from(row) for row in rows.fetchall()]

    def _told_before(self, number: int, channel: str) -> list[Transition]:
        rows = self._db.execute(
            "SELECT t.* FROM deliveries d CROSS JOIN transitions t ON t.id = d.transition"
            " WHERE d.channel = ? AND d.transition < ? ORDER BY d.transition DESC LIMIT ?",
            (channel, number, _PAGE),
        )
        return [transition_from(row) for row in rows.fetchall()]

    def _first_since(self, moment: float) -> int:
        """Return the first transition at or after a moment; those before it are all older."""
        # With "+", the index on times is used: without, SQLite looks at each row from the first.
        row = self._one("SELECT min(+id) FROM transitions WHERE occurred_at >= ?", [moment])
        return _LAST if row[0] is None else int(row[0])

    def entries(self, numbers: Sequence[int]) -> Iterator[list[Entry]]:
        """Yield pages of transitions, given by number in order, with what became of messages."""
        for start in range(0, len(numbers), _PAGE):
            wanted = numbers[start : start + _PAGE]
            rows = self._db.execute(
                f"SELECT * FROM transitions WHERE id IN ({', '.join('?' * len(wanted))})"  # noqa: S608
                " ORDER BY id",
                tuple(wanted),
            ).fetchall()
            yield self._with_deliveries([transition_from(row) for row in rows])

    def entries_after(self, number: int, up_to: int = _LAST) -> Iterator[list[Entry]]:
        """Yield pages of the transitions after one, the oldest first."""
        while page := self._transitions_between(number, up_to):
            number = page[-1].id
            yield self._with_deliveries(page)

    def _transitions_between(self, after: int, up_to: int) -> list[Transition]:
        rows = self._db.execute(
            "SELECT * FROM transitions WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (after, up_to, _PAGE),
        ).fetchall()
        return [transition_from(row) for row in rows]

    def _with_deliveries(self, transitions: Iterable[Transition]) -> list[Entry]:
        """Return transitions with their messages, also those that a channel has yet to look at."""
        rows = self._db.execute(
            "SELECT name, cursor FROM channels WHERE gone_at IS NULL"
        ).fetchall()
        cursors = {stored.text(name): stored.whole(cursor) for name, cursor in rows}
        entries = []
        for each in transitions:
            sent = {delivery[0]: delivery for delivery in self._deliveries(each.id)}
            for channel, cursor in cursors.items():
                if cursor < each.id:
                    sent.setdefault(channel, (channel, Stage.WAITING.value, None))
            entries.append((each, [sent[channel] for channel in sorted(sent)]))
        return entries

    def _deliveries(self, transition: int) -> list[Sent]:
        rows = self._db.execute(
            "SELECT channel, state, error FROM deliveries WHERE transition = ? ORDER BY channel",
            (transition,),
        ).fetchall()
        return [
            (
                stored.text(channel),
                stored.text(stage),
                None if error is None else stored.text(error),
            )
            for channel, stage, error in rows
        ]

    def history(self) -> list[Entry]:
        """Return every transition, oldest first; for a short history."""
        return [entry for page in self.entries_after(0) for entry in page]

    # Checks

    def problems(self) -> list[tuple[str, str, Status, float]]:
        """Return host, check, status and since when, of each check that is not OK."""
        return [
            (stored.text(host), stored.text(name), stored.status(status), stored.moment(since))
            for page in self._check_pages("host, name, status, since", "AND status > 0")
            for host, name, status, since in page
        ]

    def count_checks(self) -> int:
        """Return how many checks were ever seen."""
        return sum(count for page in self._check_pages("count(*)") for (count,) in page)

    def _check_pages(self, columns: str, condition: str = "") -> Iterator[list[Any]]:
        """Yield what is selected of the checks, page by page."""
        last: tuple[object, object] | None = ("", "")
        while last is not None:
            first = last
            last = self._one(
                "SELECT host, name FROM checks WHERE (host, name) > (?, ?)"
                " ORDER BY host, name LIMIT 1 OFFSET ?",
                (*first, _KEYS),
            )
            if last == first:  # a damaged name, which is read otherwise than it is sorted
                last = None
            until = "AND (host, name) <= (?, ?)" if last is not None else ""
            yield self._db.execute(
                f"SELECT {columns} FROM checks WHERE (host, name) > (?, ?)"  # noqa: S608
                f" {until} {condition}",
                (*first, *(last or ())),
            ).fetchall()

    # Channels

    def count_given_up(self, stage: Stage) -> dict[str, int]:
        """Return how many messages were given up, as DEAD or as PERHAPS, by channel."""
        counts: dict[str, int] = {}
        name = ""
        while row := self._one(
            f"SELECT channel FROM deliveries {_GIVEN_UP[stage]}"  # noqa: S608
            " AND channel > ? ORDER BY channel LIMIT 1",
            [name],
        ):
            name = stored.text(row[0])
            if name in counts:  # a damaged name, which is read otherwise than it is sorted
                break
            counts[name] = sum(self._counts_given_up(name, stage))
        return counts

    def _counts_given_up(self, channel: str, stage: Stage) -> Iterator[int]:
        number = 0
        while number is not None:
            count, number = self._one(
                "SELECT count(*), max(transition) FROM (SELECT transition"  # noqa: S608
                f" FROM deliveries {_GIVEN_UP[stage]}"
                " AND channel = ? AND transition > ? ORDER BY transition LIMIT ?)",
                (channel, number, _KEYS),
            )
            yield count

    def occurred_after(self, number: int) -> float | None:
        """Return when the first transition after one occurred; None if there is none."""
        row = self._one(
            "SELECT occurred_at FROM transitions WHERE id > ? ORDER BY id LIMIT 1", [number]
        )
        return None if row is None else stored.moment(row[0])

    def waiting_for(self, channel: ChannelState, of: Transition) -> list[Transition]:
        """Return the transitions of a check that a channel has yet to look at."""
        found: list[Transition] = []
        last = self.last_transition()
        for start in range(channel.cursor, last, _KEYS):
            rows = self._db.execute(
                "SELECT * FROM transitions WHERE id > ? AND id <= ? AND host = ? AND name = ?"
                " ORDER BY id",
                (start, start + _KEYS, of.host, of.check),
            ).fetchall()
            found += map(transition_from, rows)
        return found

    def dead_letters(self) -> list[DeadLetter]:
        """Return every message that was given up, the oldest first."""
        letters = [
            DeadLetter(
                channel, transition_from(row), stage, stored.moment(last_try), stored.text(error)
            )
            for stage in _GIVEN_UP
            for channel in self.count_given_up(stage)
            for last_try, error, *row in self._given_up(channel, stage)
        ]
        return sorted(letters, key=lambda letter: (letter.transition.id, letter.channel))

    def _given_up(self, channel: str, stage: Stage) -> Iterator[list[Any]]:
        number = 0
        while page := self._db.execute(
            "SELECT last_try, error, t.* FROM (SELECT last_try, error, transition"  # noqa: S608
            f" FROM deliveries {_GIVEN_UP[stage]}"
            " AND channel = ? AND transition > ? ORDER BY transition LIMIT ?) d"
            " CROSS JOIN transitions t ON t.id = d.transition ORDER BY t.id",
            (channel, number, _PAGE),
        ).fetchall():
            yield from page
            number = page[-1][2]
