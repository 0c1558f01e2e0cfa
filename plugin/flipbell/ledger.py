"""The ledger: the SQLite file that the courier alone writes.

It holds each check's status, the transitions (which are also the history), the outbox of every
channel, and how much of the spool was taken. What belongs together is one transaction, so a line
is taken exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell import stored
from flipbell._database import LedgerError
from flipbell.model import Kind, Status
from flipbell.pages import Pages
from flipbell.rates import Rates
from flipbell.roster import Roster
from flipbell.spool import FORGET, REVIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flipbell.spool import Line, Position

__all__ = ["Ledger", "LedgerError"]

KEPT_FOR = 30 * 86400.0  # seconds that history is kept
RESET = (
    "flipbell's state file was corrupt and has been reset (old file: {}). "
    "Some alerts may be repeated and some recoveries missed."
)
_PRUNED_AT_ONCE = 1000
_SHOWN_OUTPUT = 500  # characters


def _is_before(occurred_at: float, since: float) -> bool:
    """Return whether a time is before another; one of whole seconds is any moment of its second."""
    return occurred_at < (since // 1 if occurred_at % 1 == 0 else since)


class Ledger(Pages, Roster, Rates):
    """Everything that is known."""

    def position(self) -> Position:
        """Return how far the spool was taken."""
        return stored.text(self.setting("spool")), stored.whole(self.setting("offset"))

    def take(self, lines: Iterable[Line], position: Position, now: float) -> None:
        """Take lines up to a position in the spool."""
        kind = Kind.REPLAYED if self._is_replaying() else Kind.PLAIN
        for line in lines:
            self._take(line, now, kind)
        self.set("spool", position[0])
        self.set("offset", position[1])

    def _is_replaying(self) -> bool:
        """Return whether the next lines may have been taken before the state was reset."""
        name, offset = self.position()
        is_same = name == self.setting("replay")
        return is_same and offset < stored.whole(self.setting("replay_to"))

    def _take(self, line: Line, now: float, kind: Kind) -> None:
        occurred_at, code, host, check, output, is_dated = line
        if code == FORGET:
            self._forget(host, check, min(occurred_at, now))
            return
        if code == REVIVE:
            if check.isdecimal():
                self.revive(host, int(check))
            return
        status = Status.from_exit_status(code)
        occurred_at = min(occurred_at, now)
        known = self._one(
            "SELECT status, since FROM checks WHERE host = ? AND name = ?", (host, check)
        )
        if known is not None:
            # A stored time in the future was written by a wrong clock: it must not win for ever.
            # A time of the front's own clock orders nothing, for that clock may have been wrong.
            if is_dated and _is_before(occurred_at, stored.number(known[1])) and known[1] <= now:
                self.set("late", stored.whole(self.setting("late")) + 1)
                return
            if known[0] == status.value:
                return
        self._db.execute(
            "INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?)",
            (host, check, status.value, occurred_at),
        )
        if known is None and status is Status.OK:
            return  # nothing has changed: this is how it was found
        previous, since = known or (None, None)
        self._insert((host, check, previous, status.value, output, occurred_at, since, kind.value))

    def _insert(self, transition: tuple[object, ...]) -> None:
        """Insert a transition's columns, in the order of its table and without its number."""
        self._db.execute(
            "INSERT INTO transitions (host, name, previous, status, output, occurred_at,"
            " previous_since, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            transition,
        )

    def note_reset(self, host: str, aside: str, spool: tuple[Position, int], now: float) -> None:
        """Tell every channel, once, that what was known is gone.

        *spool* is where the spool begins, and the offset at which it ends: up to there its lines
        may have been taken before.
        """
        begin, end = spool
        text, status = RESET.format(aside), Status.UNKNOWN.value
        self._insert((host, "flipbell", None, status, text, now, None, Kind.NOTICE.value))
        for name, value in (("reset", aside), ("replay", begin[0]), ("replay_to", end)):
            self.set(name, value)
        self.set("spool", begin[0])
        self.set("offset", begin[1])

    def expect_repeats(self, end: Position) -> None:
        """Mark what comes up to a position as repeats: a damaged spool is read from its begin."""
        for name, value in (("spool", end[0]), ("offset", 0), ("replay", end[0])):
            self.set(name, value)
        self.set("replay_to", end[1])

    def prune(self, now: float, names: Iterable[str]) -> int:
        """Drop old history that no channel waits for; return how many transitions went.

        *names* are the channels that count. What was not delivered stays, and so does what says
        since when a check is not OK.
        """
        wanted = set(names)
        cursors = [state.cursor for state in self.channels() if state.name in wanted]
        reached = min([*cursors, *self.unread().values(), self.last_transition()])
        rows = self._db.execute(
            "SELECT id FROM transitions AS t WHERE id <= ? AND occurred_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE transition = t.id"
            " AND state IN ('sending', 'waiting', 'dead'))"
            " AND NOT EXISTS (SELECT 1 FROM checks WHERE host = t.host AND name = t.name"
            " AND status > 0 AND since = t.occurred_at) LIMIT ?",
            (reached, now - KEPT_FOR, _PRUNED_AT_ONCE),
        ).fetchall()
        self._db.executemany("DELETE FROM deliveries WHERE transition = ?", rows)
        self._db.executemany("DELETE FROM transitions WHERE id = ?", rows)
        return len(rows)

    def _forget(self, host: str, check: str, occurred_at: float) -> None:
        """Forget a check. What rooms were told of it goes in their turn, after what waits."""
        known = self._one(
            "SELECT status, since FROM checks WHERE host = ? AND name = ?", (host, check)
        )
        if known is None:
            return
        self._db.execute("DELETE FROM checks WHERE host = ? AND name = ?", (host, check))
        self._insert(
            (
                host,
                check,
                known[0],
                Status.OK.value,
                "",
                occurred_at,
                known[1],
                Kind.FORGOTTEN.value,
            )
        )

    # For people

    def check(self, host: str, name: str) -> tuple[Status, float] | None:
        """Return a check's status and since when it has it; None if it was never seen."""
        row = self._one(
            "SELECT status, since FROM checks WHERE host = ? AND name = ?", (host, name)
        )
        return None if row is None else (stored.status(row[0]), stored.moment(row[1]))

    def similar(self, host: str, name: str) -> list[tuple[str, str]]:
        """Return the host's checks or, if it has none, the checks of that name on other hosts."""
        rows = self._db.execute("SELECT host, name FROM checks WHERE host = ?", (host,)).fetchall()
        rows = (
            rows
            or self._db.execute("SELECT host, name FROM checks WHERE name = ?", (name,)).fetchall()
        )
        return [(stored.text(host), stored.text(name)) for host, name in rows]

    def output_at(self, host: str, name: str, since: float) -> str:
        """Return the begin of what a check reported when it took its status; empty if unknown."""
        row = self._one(
            "SELECT substr(output, 1, ?) FROM transitions WHERE occurred_at = ? AND host = ?"
            " AND name = ? ORDER BY id DESC LIMIT 1",
            (_SHOWN_OUTPUT, since, host, name),
        )
        return "" if row is None else stored.text(row[0])

    # Figures

    def count(self, channel: str, name: str, by: int = 1) -> None:
        """Add to one of a channel's counters, which outlive the history."""
        self._db.execute(
            "INSERT INTO counters VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (channel, name, by),
        )

    def counters(self) -> dict[tuple[str, str], int]:
        """Return every counter by channel and name."""
        rows = self._db.execute("SELECT channel, name, value FROM counters ORDER BY channel, name")
        return {
            (stored.text(channel), stored.text(name)): stored.whole(value)
            for channel, name, value in rows
        }
