"""The messages of all rooms, in SQLite: a message that is in here survives whatever ends the room.

One process writes, through one connection: a rollback journal with synchronous=EXTRA, so that a
commit is on disk when it returns. Tokens are not in here.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flipbell._database import transaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_APPLICATION = 0x666C6972  # "flir"
VERSION = 2
_BUSY_SECONDS = 1.0  # for another program, as one that makes a backup
_SCRIPT = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE rooms (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order in which they were taken
    uuid TEXT NOT NULL UNIQUE,              -- what HipChat calls the id
    room INTEGER NOT NULL REFERENCES rooms, at REAL NOT NULL,
    sender TEXT NOT NULL, color TEXT NOT NULL, notify INTEGER NOT NULL,
    format TEXT NOT NULL, message TEXT NOT NULL,
    card TEXT, attach_to TEXT
);
CREATE INDEX messages_by_room ON messages (room, id);
CREATE INDEX messages_by_time ON messages (at);
"""
_WRITTEN = "uuid, room, at, sender, color, notify, format, message, card, attach_to"
_COLUMNS = f"id, {_WRITTEN}"


class StoreError(Exception):
    """The messages cannot be kept; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """A room, as clients name it."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Message:
    """A notification that was taken; *at* in seconds since the epoch."""

    id: int
    uuid: str
    room: int
    at: float
    sender: str
    color: str
    notify: bool
    format: str
    message: str
    card: Mapping[str, Any] | None
    attach_to: str | None


class Store:
    """An open file of messages, or one in memory. Threads may share it."""

    def __init__(self, path: str = ":memory:") -> None:
        """Open *path*. Raises StoreError."""
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._is_closed = False
        self._db = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._db.execute("PRAGMA journal_mode=PERSIST")
            self._db.execute("PRAGMA synchronous=EXTRA")
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"{path}: {error}; move it aside, or name another place") from None
        except StoreError:
            self._db.close()
            raise
        self.name = str(self._one("SELECT value FROM setting WHERE name = 'name'")[0])
        self.newest = int(self._one("SELECT coalesce(max(id), 0) FROM messages")[0])

    def _prepare(self) -> None:
        (version,) = self._one("PRAGMA user_version")
        if version > VERSION:
            raise StoreError(f"a newer flipbell wrote version {version} of it; upgrade flipbell")
        if version == VERSION:
            return
        with transaction(self._db):
            # Version 1 has two more columns, of statuses guessed from texts: they are left unused.
            if version == 0:
                self._create()
            self._db.execute(f"PRAGMA user_version={VERSION}")

    def _create(self) -> None:
        for statement in _SCRIPT.split(";\n"):
            self._db.execute(statement)
        # Tells one store from another, so that a page knows when all has changed.
        self._db.execute("INSERT INTO setting VALUES ('name', ?)", [secrets.token_hex(6)])
        self._db.execute(f"PRAGMA application_id={_APPLICATION}")

    def close(self) -> None:
        """Close the file; a request that waits for messages gets none."""
        self.stop_waiting()
        with self._lock:
            self._db.close()

    def stop_waiting(self) -> None:
        """Let everyone go who waits for messages, now and later."""
        with self._arrived:
            self._is_closed = True
            self._arrived.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come."""
        return self._is_closed

    def _one(self, statement: str, values: Iterable[Any] = ()) -> Any:  # noqa: ANN401  a row
        with self._lock:
            return self._db.execute(statement, tuple(values)).fetchone()

    def _all(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(statement, tuple(values)).fetchall()

    def room(self, name: str) -> RoomRecord:
        """Return the room of a name, and make it where there is none."""
        with self._lock, transaction(self._db):
            self._db.execute("INSERT OR IGNORE INTO rooms (name) VALUES (?)", [name])
        return RoomRecord(*self._one("SELECT id, name FROM rooms WHERE name = ?", [name]))

    def rooms(self) -> list[RoomRecord]:
        """Return all rooms, the oldest first."""
        return [RoomRecord(*row) for row in self._all("SELECT id, name FROM rooms ORDER BY id")]

    def add(self, room: int, body: Mapping[str, Any], *, sender: str, at: float) -> int:
        """Keep a message; it is on disk when this returns its number."""
        card = body.get("card")
        values = [
            *(str(uuid.uuid4()), room, at, sender, body["color"]),
            *(bool(body["notify"]), body["message_format"], body["message"]),
            json.dumps(card) if card else None,
            body.get("attach_to") or None,
        ]
        places = ", ".join("?" * len(values))
        with self._lock, transaction(self._db):
            statement = f"INSERT INTO messages ({_WRITTEN}) VALUES ({places})"  # noqa: S608  ours
            number = int(self._db.execute(statement, values).lastrowid or 0)
        with self._arrived:
            self.newest = max(self.newest, number)
            self._arrived.notify_all()
        return number

    def wait(self, after: int, timeout: float) -> None:
        """Wait until there is a message after a number, or for so many seconds."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._is_closed or self.newest > after, timeout)

    def after(self, number: int, most: int) -> list[Message]:
        """Return the first messages of all rooms after a number."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM messages WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608  ours
            [number, most],
        )
        return [_message(row) for row in rows]

    def before(self, room: int, number: int | None, most: int) -> list[Message]:
        """Return a room's last messages before a number, or its last ones, the oldest first."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM messages WHERE room = ? AND id < ? "  # noqa: S608  ours
            "ORDER BY id DESC LIMIT ?",
            [room, (1 << 62) if number is None else number, most],
        )
        return [_message(row) for row in reversed(rows)]

    def following(self, room: int, number: int, most: int) -> list[Message]:
        """Return a room's first messages after a number, the oldest first."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM messages WHERE room = ? AND id > ? "  # noqa: S608  ours
            "ORDER BY id LIMIT ?",
            [room, number, most],
        )
        return [_message(row) for row in rows]

    def until(self, room: int, at: float, skipped: int, most: int) -> list[Message]:
        """Return a room's messages up to a time, the newest first, after so many are skipped."""
        rows = self._all(
            f"SELECT {_COLUMNS} FROM messages WHERE room = ? AND at <= ? "  # noqa: S608  ours
            "ORDER BY id DESC LIMIT ? OFFSET ?",
            [room, at, most, skipped],
        )
        return [_message(row) for row in rows]

    def number_of(self, uuid_of_message: str) -> int | None:
        """Return a message's number by its HipChat id."""
        row = self._one("SELECT id FROM messages WHERE uuid = ?", [uuid_of_message])
        return int(row[0]) if row else None

    def forget(self, before: float) -> int:
        """Forget what is older than a time; return how many messages it was."""
        with self._lock, transaction(self._db):
            return self._db.execute("DELETE FROM messages WHERE at < ?", [before]).rowcount


def _message(row: tuple[Any, ...]) -> Message:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    card = json.loads(values["card"]) if values["card"] else None
    return Message(**{**values, "notify": bool(values["notify"]), "card": card})
