"""The ledger: the SQLite file that the courier alone writes.

It holds each check's status, the transitions (which are also the history), how far each channel
has come in them, what each room was last told, what became of each delivery, and how much of the
spool was taken. What belongs together is one transaction, so a line is taken exactly once.

A rollback journal with synchronous=EXTRA: a commit is on disk when it returns, and the versions
of SQLite that are in use can corrupt a write-ahead log that several processes write.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flipbell import state
from flipbell.model import Stage, Status, Transition, Verdict
from flipbell.spool import FORGET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flipbell.model import Outcome
    from flipbell.retry import Step
    from flipbell.spool import Line, Position

VERSION = 1
_APPLICATION = 0x666C6970  # "flip"
_BUSY_SECONDS = 10.0
_RATE_WINDOW = 60.0

_SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE checks (
    host TEXT NOT NULL, name TEXT NOT NULL, status INTEGER NOT NULL,
    since REAL NOT NULL,                    -- when it took this status
    PRIMARY KEY (host, name)
) WITHOUT ROWID;
CREATE TABLE transitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL, name TEXT NOT NULL,
    previous INTEGER,                       -- NULL on first sight
    status INTEGER NOT NULL, output TEXT NOT NULL,
    occurred_at REAL NOT NULL, previous_since REAL
);
CREATE TABLE channels (
    name TEXT PRIMARY KEY,
    cursor INTEGER NOT NULL,                -- the last transition whose turn has ended
    next_try REAL NOT NULL DEFAULT 0,       -- our own back-off
    closed_until REAL NOT NULL DEFAULT 0,   -- what the server asked for
    failures INTEGER NOT NULL DEFAULT 0,    -- in a row
    paused INTEGER NOT NULL DEFAULT 0,
    last_error TEXT, last_error_at REAL, last_success_at REAL
) WITHOUT ROWID;
CREATE TABLE unread (                       -- files that could not be read, and since when
    path TEXT PRIMARY KEY, cursor INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE told (
    channel TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL, status INTEGER NOT NULL,
    PRIMARY KEY (channel, host, name)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    channel TEXT NOT NULL, transition INTEGER NOT NULL,
    state TEXT NOT NULL,                    -- a Stage
    notify INTEGER NOT NULL, reason TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, unknown INTEGER NOT NULL DEFAULT 0,
    first_try REAL NOT NULL, last_try REAL NOT NULL, error TEXT,
    PRIMARY KEY (channel, transition)
) WITHOUT ROWID;
CREATE TABLE requests (room TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX requests_by_room ON requests (room, at);
"""


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How far a channel has come, and how its room has answered; times are epoch seconds."""

    name: str
    cursor: int
    next_try: float
    closed_until: float
    failures: int
    paused: bool
    last_error: str | None
    last_error_at: float | None
    last_success_at: float | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The message at the head of a channel's queue."""

    channel: str
    transition: int
    unknown: int  # tries whose outcome is unknown
    first_try: float


class Ledger:
    """An open ledger. Errors of SQLite itself are raised as they are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, directory: str) -> Ledger:
        """Open for writing; the caller holds the courier's lock. Raises LedgerError."""
        os.close(state.open_private(directory, state.LEDGER, os.O_RDWR))
        connection = sqlite3.connect(
            f"{directory}/{state.LEDGER}", timeout=_BUSY_SECONDS, isolation_level=None
        )
        ledger = cls(connection)
        try:
            connection.execute("PRAGMA journal_mode=PERSIST")
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA secure_delete=ON")
            ledger._migrate()
        except BaseException:
            connection.close()
            raise
        return ledger

    @classmethod
    def view(cls, directory: str) -> Ledger | None:
        """Open for reading; None where nothing was recorded yet."""
        path = f"{directory}/{state.LEDGER}"
        if not os.path.exists(path) or os.path.getsize(path) == 0:
            return None
        quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(
            f"file:{quoted}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        return cls(connection)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _migrate(self) -> None:
        with self.transaction():
            (version,) = self._one("PRAGMA user_version")
            if version == VERSION:
                return
            if version > VERSION:
                raise LedgerError(
                    f"the ledger has version {version}, this flipbell reads {VERSION}; "
                    "upgrade flipbell"
                )
            for statement in _SCHEMA.split(";\n"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={VERSION}")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See the ledger as it is at one moment, whatever the courier writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            self.last_transition()  # only a first read takes the lock
            yield
        finally:
            self._db.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done inside, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _one(self, statement: str, values: Iterable[Any] = ()) -> Any:  # noqa: ANN401  a row
        return self._db.execute(statement, tuple(values)).fetchone()

    # Settings and the spool

    def setting(self, name: str) -> Any:  # noqa: ANN401  text or number, as it was put
        """Return a setting, None where it was never made."""
        row = self._one("SELECT value FROM setting WHERE name = ?", [name])
        return row[0] if row else None

    def set(self, name: str, value: str | float) -> None:
        """Make or change a setting."""
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    def position(self) -> Position:
        """Return how far the spool was taken."""
        return self.setting("spool") or "", self.setting("offset") or 0

    def take(self, lines: Iterable[Line], position: Position, now: float) -> None:
        """Take lines up to a position in the spool."""
        for line in lines:
            self._take(line, now)
        self.set("spool", position[0])
        self.set("offset", position[1])

    def _take(self, line: Line, now: float) -> None:
        occurred_at, code, host, check, output = line
        if code == FORGET:
            self._forget(host, check)
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
            " previous_since) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (host, check, previous, status.value, output, occurred_at, since),
        )

    def _forget(self, host: str, check: str) -> None:
        self._db.execute("DELETE FROM checks WHERE host = ? AND name = ?", (host, check))
        self._db.execute("DELETE FROM told WHERE host = ? AND name = ?", (host, check))

    # Channels

    def last_transition(self) -> int:
        """Return the newest transition's number, 0 where there is none."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM transitions")[0])

    def channel(self, name: str) -> ChannelState | None:
        """Return a channel's state."""
        row = self._one("SELECT * FROM channels WHERE name = ?", [name])
        return None if row is None else _channel_state(row)

    def channels(self) -> list[ChannelState]:
        """Return every channel that was ever configured."""
        rows = self._db.execute("SELECT * FROM channels ORDER BY name")
        return [_channel_state(row) for row in rows]

    def register(self, name: str, cursor: int) -> None:
        """Let a channel that is new start after a transition."""
        self._db.execute(
            "INSERT OR IGNORE INTO channels (name, cursor) VALUES (?, ?)", (name, cursor)
        )

    def unread(self) -> dict[str, int]:
        """Return the files that could not be read, each with the transition since when."""
        return dict(self._db.execute("SELECT path, cursor FROM unread"))

    def set_unread(self, path: str, cursor: int) -> None:
        """Remember from where on the channels of an unreadable file have missed their turn."""
        self._db.execute("INSERT OR IGNORE INTO unread VALUES (?, ?)", (path, cursor))

    def clear_unread(self, path: str) -> None:
        """Forget a file that can be read again, or is gone."""
        self._db.execute("DELETE FROM unread WHERE path = ?", (path,))

    def forget_back_off(self) -> None:
        """Let every channel be tried now, unless its server asked to be left alone."""
        self._db.execute("UPDATE channels SET next_try = 0")

    # The queue of a channel

    def head(self, channel: ChannelState) -> Transition | None:
        """Return the transition whose turn it is in a channel."""
        row = self._one(
            "SELECT * FROM transitions WHERE id > ? ORDER BY id LIMIT 1", [channel.cursor]
        )
        return None if row is None else _transition(row)

    def waiting_for(self, channel: ChannelState, of: Transition) -> list[Transition]:
        """Return the transitions of a check that a channel has yet to look at."""
        rows = self._db.execute(
            "SELECT * FROM transitions WHERE id > ? AND host = ? AND name = ? ORDER BY id",
            (channel.cursor, of.host, of.check),
        )
        return [_transition(row) for row in rows]

    def oldest_waiting(self, channel: ChannelState) -> float | None:
        """Return when the oldest change that a channel has yet to look at occurred."""
        head = self.head(channel)
        return None if head is None else head.occurred_at

    def waiting(self, channel: ChannelState) -> int:
        """Return how many transitions a channel has yet to look at."""
        return int(self._one("SELECT count(*) FROM transitions WHERE id > ?", [channel.cursor])[0])

    def told(self, channel: str, transition: Transition) -> Status | None:
        """Return what a room was last told of a check in this incident."""
        row = self._one(
            "SELECT status FROM told WHERE channel = ? AND host = ? AND name = ?",
            (channel, transition.host, transition.check),
        )
        return None if row is None else Status(row[0])

    def end_turn(self, channel: str, transition: Transition, told: Status | None) -> None:
        """Go on to the next transition, remembering what the room was told of this check."""
        key = (channel, transition.host, transition.check)
        if told is None:
            self._db.execute("DELETE FROM told WHERE channel = ? AND host = ? AND name = ?", key)
        else:
            self._db.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", (*key, told.value))
        self._db.execute("UPDATE channels SET cursor = ? WHERE name = ?", (transition.id, channel))

    # Deliveries

    def transition_of(self, delivery: Delivery) -> Transition:
        """Return what a delivery tells."""
        return _transition(
            self._one("SELECT * FROM transitions WHERE id = ?", [delivery.transition])
        )

    def delivery(self, channel: str, transition: int) -> Delivery | None:
        """Return what was tried so far of a message."""
        row = self._one(
            "SELECT channel, transition, unknown, first_try FROM deliveries"
            " WHERE channel = ? AND transition = ?",
            (channel, transition),
        )
        return None if row is None else Delivery(*row)

    def begin_try(
        self, channel: str, transition: int, *, notify: bool, reason: str, room: str, now: float
    ) -> None:
        """Mark a message as being sent, so that a crash in the middle is recognised."""
        self._db.execute(
            "INSERT INTO deliveries (channel, transition, state, notify, reason, tries, first_try,"
            " last_try) VALUES (?1, ?2, 'sending', ?3, ?4, 1, ?5, ?5)"
            " ON CONFLICT DO UPDATE SET state = 'sending', tries = tries + 1, last_try = ?5,"
            " notify = ?3, reason = ?4",
            (channel, transition, notify, reason, now),
        )
        self._db.execute("INSERT INTO requests VALUES (?, ?)", (room, now))
        self._db.execute("DELETE FROM requests WHERE at < ?", (now - _RATE_WINDOW,))

    def end_try(self, delivery: Delivery, stage: Stage, outcome: Outcome) -> None:
        """Write down how a try ended."""
        is_unknown = outcome.verdict is Verdict.UNKNOWN
        self._db.execute(
            "UPDATE deliveries SET state = ?, error = ?, unknown = unknown + ?"
            " WHERE channel = ? AND transition = ?",
            (
                stage.value,
                _storable(outcome.reason) or None,
                is_unknown,
                delivery.channel,
                delivery.transition,
            ),
        )

    def drop(self, channel: str, transition: int) -> None:
        """Write down that a message that was tried is no longer wanted."""
        self._db.execute(
            "UPDATE deliveries SET state = 'dropped' WHERE channel = ? AND transition = ?",
            (channel, transition),
        )

    def veto(self, channel: str, transition: int, reason: str, now: float) -> None:
        """Write down why an extension kept a room from hearing of something."""
        self._db.execute(
            "INSERT OR REPLACE INTO deliveries (channel, transition, state, notify, reason,"
            " first_try, last_try, error) VALUES (?1, ?2, 'vetoed', 0, '', ?3, ?3, ?4)",
            (channel, transition, now, _storable(reason)),
        )

    def succeed(self, channel: str, now: float) -> None:
        """Write down that a channel's room has answered."""
        self._db.execute(
            "UPDATE channels SET next_try = 0, closed_until = 0, failures = 0, paused = 0,"
            " last_error = NULL, last_error_at = NULL, last_success_at = ? WHERE name = ?",
            (now, channel),
        )

    def fail(self, channel: str, error: str, step: Step, now: float) -> None:
        """Write down that a channel's room could not be told, and when to try again."""
        self._db.execute(
            "UPDATE channels SET next_try = ?, closed_until = ?, failures = failures + 1,"
            " paused = ?, last_error = ?, last_error_at = ? WHERE name = ?",
            (now + step.delay, now + step.closed_for, step.paused, _storable(error), now, channel),
        )

    def interrupted(self) -> list[Delivery]:
        """Return the messages in the middle of whose sending a courier died."""
        rows = self._db.execute(
            "SELECT channel, transition, unknown, first_try FROM deliveries WHERE state = 'sending'"
        )
        return [Delivery(*row) for row in rows]

    def room_free_at(self, room: str, per_minute: int, now: float) -> float:
        """Return when a room may be told next, so that it never gets more than its share."""
        if per_minute == 0:
            return now
        row = self._one(
            "SELECT at FROM requests WHERE room = ? AND at > ? AND at <= ?"
            " ORDER BY at DESC LIMIT 1 OFFSET ?",
            (room, now - _RATE_WINDOW, now, per_minute - 1),
        )
        return now if row is None else float(row[0]) + _RATE_WINDOW

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
        return [(found, self._deliveries(found.id)) for found in map(_transition, rows)]

    def _deliveries(self, transition: int) -> list[tuple[str, str, str | None]]:
        return self._db.execute(
            "SELECT channel, state, error FROM deliveries WHERE transition = ? ORDER BY channel",
            (transition,),
        ).fetchall()

    def count_dead(self, channel: str) -> int:
        """Return how many messages to a channel were given up."""
        return int(
            self._one(
                "SELECT count(*) FROM deliveries WHERE channel = ? AND state = 'dead'", [channel]
            )[0]
        )


def _storable(text: str) -> str:
    """Return text without lone surrogates, which SQLite refuses; a server may send any."""
    return text.encode("utf-8", "replace").decode()


def _transition(row: tuple[Any, ...]) -> Transition:
    number, host, check, previous, status, output, occurred_at, since = row
    return Transition(
        id=number,
        host=host,
        check=check,
        previous=None if previous is None else Status(previous),
        status=Status(status),
        output=output,
        occurred_at=occurred_at,
        previous_since=since,
    )


def _channel_state(row: tuple[Any, ...]) -> ChannelState:
    name, cursor, next_try, closed_until, failures, paused, *rest = row
    return ChannelState(name, cursor, next_try, closed_until, failures, bool(paused), *rest)
