"""The roster: the ledger's channels by name, and what happens to all that belongs to a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import stored
from flipbell._database import Database
from flipbell.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

# Columns of a transition that is entered once more.
_CHANGE = "host, name, previous, status, output, occurred_at, previous_since, kind"
DROPPED = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A channel that the ledger knows.

    *room* is the room's public name, None (as *type*) if the channel has never worked. A *new* one
    waits until it is known whether it is another one under a new name. *gone_at* is when it was
    found to have left the configuration (epoch seconds). *successor* is what the operator asked
    for: the channel that takes over, or DROPPED.
    """

    name: str
    type: str | None
    room: str | None
    is_new: bool = False
    gone_at: float | None = None
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Renaming:
    """A channel that went on under another name, or was dropped (*new* is DROPPED)."""

    at: float
    old: str
    new: str
    by_hand: bool

    def __str__(self) -> str:
        if self.new == DROPPED:
            return f"channel {self.old} was dropped"
        how = "by hand" if self.by_hand else "renamed in the configuration"
        return f"channel {self.new} took over from {self.old} ({how})"


class Roster(Database):
    """Channels by name. Whatever changes it belongs inside a transaction."""

    def roster(self) -> list[Entry]:
        """Return every channel that the ledger knows."""
        rows = self._db.execute(
            "SELECT name, type, room, is_new, gone_at, successor FROM channels ORDER BY name"
        )
        return [
            Entry(stored.text(name), type_, room, bool(is_new), gone_at, successor)
            for name, type_, room, is_new, gone_at, successor in rows
        ]

    def enroll(self, name: str, cursor: int) -> None:
        """Enter a channel, unless it is known: it is new, and starts after a transition."""
        self._db.execute(
            "INSERT OR IGNORE INTO channels (name, cursor, is_new) VALUES (?, ?, 1)", (name, cursor)
        )

    def identify(self, name: str, identity: tuple[str, str]) -> None:
        """Remember a channel's type and room, by which it is recognised under another name."""
        self._db.execute(
            "UPDATE channels SET type = ?, room = ? WHERE name = ? AND (type, room) IS NOT (?, ?)",
            (*identity, name, *identity),
        )

    def leave_room(self, name: str) -> None:
        """Forget what a channel's room was told, as the channel has another one now."""
        self._db.execute("DELETE FROM told WHERE channel = ?", (name,))

    def start(self, name: str) -> None:
        """Let a new channel begin, as it is no other one under a new name."""
        self._db.execute("UPDATE channels SET is_new = 0 WHERE name = ?", (name,))

    def set_gone(self, name: str, at: float | None) -> None:
        """Remember that a channel has left the configuration, or (None) that it is there again."""
        self._db.execute("UPDATE channels SET gone_at = ? WHERE name = ?", (at, name))

    def set_successor(self, name: str, successor: str | None) -> None:
        """Remember what the operator asked for; see Entry."""
        self._db.execute("UPDATE channels SET successor = ? WHERE name = ?", (successor, name))

    def remove_new(self, name: str) -> None:
        """Remove a channel that left the configuration before it began."""
        self._db.execute("DELETE FROM channels WHERE name = ? AND is_new", (name,))

    def rename(self, old: str, new: str, now: float, *, by_hand: bool) -> None:
        """Give a channel's place in the queue, and all that its room was told, to another name.

        If the other one has not sent anything yet, it goes on exactly where the first one stood.
        Else it keeps its own place: it takes over the open incidents, and a recovery that it has
        passed by is entered once more.
        """
        if self._has_sent(new):
            self._join(old, new)
        else:
            self._replace(old, new)
        self._move(old, new)
        self._db.execute("DELETE FROM channels WHERE name = ?", (old,))
        self._note(Renaming(now, old, new, by_hand))

    def _has_sent(self, name: str) -> bool:
        row = self._one(
            "SELECT 1 FROM deliveries WHERE channel = ? AND state NOT IN ('dropped', 'vetoed')",
            [name],
        )
        return row is not None

    def _replace(self, old: str, new: str) -> None:
        """Let a channel that has sent nothing stand where the old one stands."""
        for table in ("told", "deliveries", "counters"):
            self._db.execute(f"DELETE FROM {table} WHERE channel = ?", (new,))  # noqa: S608
        self._db.execute(
            "UPDATE channels SET (type, room) ="
            " (SELECT type, room FROM channels WHERE name = :new) WHERE name = :old",
            {"old": old, "new": new},
        )
        self._db.execute("DELETE FROM channels WHERE name = ?", (new,))
        self._db.execute(
            "UPDATE channels SET name = ?, is_new = 0, gone_at = NULL, successor = NULL"
            " WHERE name = ?",
            (new, old),
        )

    def _join(self, old: str, new: str) -> None:
        """Prepare what the old channel leaves for one that is already at work."""
        (cursor,) = self._one("SELECT cursor FROM channels WHERE name = ?", [new])
        # A message in the middle of being tried is sent as a late one.
        self._db.execute(
            "UPDATE deliveries SET late = 1 + (unknown > 0), digest = NULL"
            " WHERE channel = ? AND state = 'waiting' AND NOT late AND transition <= ?",
            (old, cursor),
        )
        # Only a room that was told of the problem hears a recovery, so all others pass over it.
        self._db.execute(
            f"INSERT INTO transitions ({_CHANGE}) SELECT {_CHANGE} FROM transitions WHERE id IN"  # noqa: S608
            " (SELECT max(t.id) FROM transitions AS t JOIN told ON told.host = t.host"
            " AND told.name = t.name AND told.channel = :old WHERE NOT EXISTS"
            " (SELECT 1 FROM told AS own WHERE own.channel = :new AND own.host = t.host"
            " AND own.name = t.name) GROUP BY t.host, t.name)"
            " AND status = :ok AND id <= :cursor ORDER BY id",
            {"old": old, "new": new, "ok": Status.OK.value, "cursor": cursor},
        )

    def _move(self, old: str, new: str) -> None:
        self._db.execute(
            "INSERT INTO counters SELECT ?, name, value FROM counters WHERE channel = ?"
            " ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (new, old),
        )
        self._db.execute("DELETE FROM counters WHERE channel = ?", (old,))
        for table in ("told", "deliveries"):
            self._db.execute(
                f"UPDATE OR IGNORE {table} SET channel = ? WHERE channel = ?",  # noqa: S608
                (new, old),
            )
            self._db.execute(f"DELETE FROM {table} WHERE channel = ?", (old,))  # noqa: S608

    def drop_channel(self, name: str, now: float) -> None:
        """Forget a channel; of its messages, those that were sent stay in the history."""
        self._db.execute(
            "UPDATE deliveries SET state = 'dropped', late = 0, digest = NULL WHERE channel = ?"
            " AND state IN ('waiting', 'sending', 'dead', 'perhaps')",
            (name,),
        )
        for table, column in (("told", "channel"), ("counters", "channel"), ("channels", "name")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))  # noqa: S608
        self._note(Renaming(now, name, DROPPED, by_hand=True))

    def _note(self, renaming: Renaming) -> None:
        self._db.execute(
            "INSERT INTO renames VALUES (?, ?, ?, ?)",
            (renaming.at, renaming.old, renaming.new, renaming.by_hand),
        )

    # For people

    def renames(self, since: float = 0.0) -> list[Renaming]:
        """Return what became of the names of channels since then (epoch seconds)."""
        rows = self._db.execute(
            "SELECT at, old, new, by_hand FROM renames WHERE at >= ? ORDER BY at", (since,)
        )
        return [
            Renaming(stored.moment(at), stored.text(old), stored.text(new), bool(by_hand))
            for at, old, new, by_hand in rows
        ]

    def open_incidents(self) -> Iterable[tuple[str, str, str, Status]]:
        """Yield channel, host, check, and the status that its room was told, of each incident."""
        rows = self._db.execute(
            "SELECT channel, host, name, status FROM told ORDER BY channel, host, name"
        )
        for channel, host, check, status in rows:
            yield (
                stored.text(channel),
                stored.text(host),
                stored.text(check),
                stored.status(status),
            )
