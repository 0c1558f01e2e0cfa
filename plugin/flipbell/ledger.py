"""The ledger: the SQLite file that the courier alone writes.

It holds each check's status, the transitions (which are also the history), the outbox of every
channel, and how much of the spool was taken. What belongs together is one transaction, so a line
is taken exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell._database import LedgerError
from flipbell.model import Kind, Status, Transition
from flipbell.outbox import Outbox, transition_from
from flipbell.roster import Roster
from flipbell.spool import FORGET, REVIVE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flipbell.spool import Line, Position

__all__ = ["Ledger", "LedgerError"]

KEPT_FOR = 30 * 86400.0  # seconds that history is kept
RESET = (
    "The state was reset, for its file was broken (kept as {}). "
    "What was told before may be told again, and a recovery may go untold."
)
_PRUNED_AT_ONCE = 1000


class Ledger(Outbox, Roster):
    """Everything that is known."""

    def position(self) -> Position:
        """Return how far the spool was taken."""
        return self.setting("spool") or "", self.setting("offset") or 0

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
        return bool(name == self.setting("replay") and offset < self.setting("replay_to"))

    def _take(self, line: Line, now: float, kind: Kind) -> None:
        occurred_at, code, host, check, output = line
        if code == FORGET:
            self._forget(host, check)
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
            if occurred_at < known[1] <= now:
                self.set("late", (self.setting("late") or 0) + 1)
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
        self._db.execute(
            "INSERT INTO transitions (host, name, previous, status, output, occurred_at,"
            " previous_since, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (host, check, previous, status.value, output, occurred_at, since, kind.value),
        )

    def note_reset(self, host: str, aside: str, spool: tuple[Position, int], now: float) -> None:
        """Tell every channel, once, that what was known is gone.

        *spool* is where the spool begins, and the offset at which it ends: up to there its lines
        may have been taken before.
        """
        begin, end = spool
        self._db.execute(
            "INSERT INTO transitions (host, name, status, output, occurred_at, kind)"
            " VALUES (?, 'flipbell', ?, ?, ?, ?)",
            (host, Status.UNKNOWN.value, RESET.format(aside), now, Kind.NOTICE.value),
        )
        for name, value in (("reset", aside), ("replay", begin[0]), ("replay_to", end)):
            self.set(name, value)
        self.set("spool", begin[0])
        self.set("offset", begin[1])

    def prune(self, now: float, names: Iterable[str]) -> int:
        """Drop old history that nobody waits for; return how many transitions went.

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

    def _forget(self, host: str, check: str) -> None:
        self._db.execute("DELETE FROM checks WHERE host = ? AND name = ?", (host, check))
        self._db.execute("DELETE FROM told WHERE host = ? AND name = ?", (host, check))

    # For people

    def check(self, host: str, name: str) -> tuple[Status, float] | None:
        """Return a check's status and since when it has it; None where it was never seen."""
        row = self._one(
            "SELECT status, since FROM checks WHERE host = ? AND name = ?", (host, name)
        )
        return None if row is None else (Status(row[0]), row[1])

    def problems(self) -> list[tuple[str, str, Status, float]]:
        """Return host, check, status and since when, of each check that is not OK."""
        rows = self._db.execute(
            "SELECT host, name, status, since FROM checks WHERE status > 0 ORDER BY host, name"
        )
        return [(host, name, Status(status), since) for host, name, status, since in rows]

    def count_checks(self) -> int:
        """Return how many checks were ever seen."""
        return int(self._one("SELECT count(*) FROM checks")[0])

    def history(self) -> list[tuple[Transition, list[tuple[str, str, str | None]]]]:
        """Return every transition, oldest first, with (channel, state, error) of its deliveries."""
        rows = self._db.execute("SELECT * FROM transitions ORDER BY id")
        return [(found, self._deliveries(found.id)) for found in map(transition_from, rows)]

    def _deliveries(self, transition: int) -> list[tuple[str, str, str | None]]:
        return self._db.execute(
            "SELECT channel, state, error FROM deliveries WHERE transition = ? ORDER BY channel",
            (transition,),
        ).fetchall()

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
        rows: Iterable[tuple[str, str, int]] = self._db.execute(
            "SELECT channel, name, value FROM counters ORDER BY channel, name"
        )
        return {(channel, name): value for channel, name, value in rows}
