"""The SQLite file behind the ledger: how it is opened, migrated, and set aside when it is broken.

A rollback journal with synchronous=EXTRA: a commit is on disk when it returns, and the versions
of SQLite that are in use can corrupt a write-ahead log that several processes write.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import stat
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from flipbell import state, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Self

    Schema = frozenset[tuple[object, ...]]
    """Each table and index with each of its columns."""

_APPLICATION = 0x666C6970  # "flip"
_FARTHEST_AHEAD = 1000  # versions
_BUSY_SECONDS = 10.0
_BUSY_CODES = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
_FILES = ("", "-journal", "-wal", "-shm")

# Each script takes a ledger from one version to the next; a new one goes through all of them. What
# is released stays as it is, and each script changes a table or an index: a damaged schema, or
# version number, is known by comparison.
_SCRIPTS = (
    """
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
""",
    """
-- a Kind
ALTER TABLE transitions ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
-- the first transition of the digest that it is part of
ALTER TABLE deliveries ADD COLUMN digest INTEGER;
-- a dead letter that is sent once more
ALTER TABLE deliveries ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
-- seconds of trying
ALTER TABLE deliveries ADD COLUMN tried_for REAL NOT NULL DEFAULT 0;
CREATE INDEX deliveries_by_transition ON deliveries (transition);
CREATE INDEX deliveries_by_digest ON deliveries (channel, digest) WHERE digest IS NOT NULL;
CREATE INDEX deliveries_late ON deliveries (channel, transition) WHERE late;
CREATE INDEX deliveries_dead ON deliveries (channel, transition) WHERE state = 'dead';
CREATE INDEX deliveries_sending ON deliveries (channel, transition) WHERE state = 'sending';
CREATE INDEX requests_by_time ON requests (at);
CREATE TABLE rooms (                        -- what a server asked for, for all channels of a room
    name TEXT PRIMARY KEY, closed_until REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE counters (
    channel TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL,
    PRIMARY KEY (channel, name)
) WITHOUT ROWID;
""",
    """
-- an outcome is unknown, and the room was not seen to work since
ALTER TABLE channels ADD COLUMN doubtful INTEGER NOT NULL DEFAULT 0;
-- whose request is under way; NULL once it has ended
ALTER TABLE requests ADD COLUMN channel TEXT;
CREATE INDEX requests_under_way ON requests (channel) WHERE channel IS NOT NULL;
CREATE INDEX deliveries_unknown ON deliveries (channel, transition)
    WHERE state = 'waiting' AND unknown > 0;
CREATE INDEX deliveries_perhaps ON deliveries (channel, transition) WHERE state = 'perhaps';
-- for the newest of a long history
CREATE INDEX transitions_by_time ON transitions (occurred_at);
-- by which a channel is recognised under another name: its type, its room's public name
ALTER TABLE channels ADD COLUMN type TEXT;
ALTER TABLE channels ADD COLUMN room TEXT;
-- it may be another channel under a new name
ALTER TABLE channels ADD COLUMN is_new INTEGER NOT NULL DEFAULT 0;
-- since when it is out of the configuration
ALTER TABLE channels ADD COLUMN gone_at REAL;
-- what the operator asked for: the channel that takes over, or an empty text to drop it
ALTER TABLE channels ADD COLUMN successor TEXT;
CREATE TABLE renames (                      -- an empty new name: the channel was dropped
    at REAL NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL, by_hand INTEGER NOT NULL
);
""",
)
VERSION = len(_SCRIPTS)


class LedgerError(Exception):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerDamage(sqlite3.DatabaseError):
    """The ledger's own content shows that it is damaged."""


class _Connection(sqlite3.Connection):
    """A connection that reads damaged text, and whose errors are all of SQLite's kind."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  sqlite3's own
        super().__init__(*arguments, **options)
        self.text_factory = stored.decoded

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401  sqlite3's own
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:
            # A message or a column name with bytes of a damaged schema in it.
            raise LedgerDamage("the schema is not UTF-8") from error


class Database:
    """An open ledger file. Errors of SQLite itself are raised as they are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, directory: str) -> Self:
        """Open for writing; the caller holds the courier's lock. Raises LedgerError."""
        os.close(state.open_private(directory, state.LEDGER, os.O_RDWR))
        connection = sqlite3.connect(
            f"{directory}/{state.LEDGER}",
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            factory=_Connection,
        )
        ledger = cls(connection)
        try:
            connection.execute("PRAGMA journal_mode=PERSIST")
            connection.execute("PRAGMA synchronous=EXTRA")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA secure_delete=ON")
            ledger.migrate()
        except BaseException:
            connection.close()
            raise
        return ledger

    @classmethod
    def view(cls, directory: str) -> Self | None:
        """Open for reading; None if nothing was recorded yet. Raises StateError."""
        state.check(directory)
        path = f"{directory}/{state.LEDGER}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        # Looked at, not opened: closing it would free the locks that SQLite has in this process.
        if not stat.S_ISREG(found.st_mode):
            raise state.StateError(f"{path}: not a file; remove it")
        return cls(_as_of_now(_read_only(path))) if found.st_size else None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def migrate(self) -> None:
        """Bring the tables to this version. Raises LedgerError, LedgerDamage."""
        with self.transaction():
            (claimed,) = self._one("PRAGMA user_version")
            if claimed == VERSION:
                return
            for script in _SCRIPTS[self._version(claimed) :]:
                for statement in script.split(";\n"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={VERSION}")

    def _version(self, claimed: int) -> int:
        """Return the version of the tables; the number that the file claims may be damaged.

        Raises LedgerError for a newer version, LedgerDamage for tables of no version.
        """
        schemas, schema = _schemas(), _schema(self._db)
        if claimed > VERSION and schema not in schemas:
            (application,) = self._one("PRAGMA application_id")
            is_ours = application == _APPLICATION and claimed - VERSION <= _FARTHEST_AHEAD
            if is_ours and self.is_whole():
                raise LedgerError(
                    f"the ledger has version {claimed}, this flipbell reads {VERSION}; "
                    "upgrade flipbell"
                )
        known = max(number for number, each in enumerate(schemas) if each <= schema)
        if known == 0 and (schema or claimed):
            raise LedgerDamage(f"its tables are of no version of flipbell, it claims {claimed}")
        return known

    def is_complete(self) -> bool:
        """Return whether the tables, indexes and columns are those of this version."""
        return _schemas()[VERSION] <= _schema(self._db)

    def is_whole(self) -> bool:
        """Return whether SQLite finds every page, row and index in order."""
        return bool(self._one("PRAGMA integrity_check(1)")[0] == "ok")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See the ledger as it is at one moment, whatever the courier writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            self._one("SELECT count(*) FROM setting")  # only a first read takes the lock
            yield
        finally:
            self._db.execute("ROLLBACK")

    def transaction(self) -> AbstractContextManager[None]:
        """Commit what is done inside, or nothing of it."""
        return transaction(self._db)

    def _one(self, statement: str, values: Iterable[Any] = ()) -> Any:  # noqa: ANN401  a row
        return self._db.execute(statement, tuple(values)).fetchone()

    def setting(self, name: str) -> Any:  # noqa: ANN401  text or number, as it was put
        """Return a setting, None if it was never made."""
        row = self._one("SELECT value FROM setting WHERE name = ?", [name])
        return row[0] if row else None

    def inspect(self, spool: tuple[str, int]) -> None:
        """Refuse a ledger that works and would do harm: it has other tables, or is ahead.

        With another default in a column a room would be told for ever, and a ledger ahead of what
        it counts would pass over what comes next. *spool* is the name of the spool, and where it
        ends. Raises LedgerDamage.
        """
        if not self.is_complete():
            raise LedgerDamage("its tables are not those of its version")
        name, offset = self.setting("spool"), stored.whole(self.setting("offset"))
        if name == spool[0] and not 0 <= offset <= spool[1]:
            raise LedgerDamage(f"it has taken {offset} bytes of a spool of {spool[1]}")
        last = "SELECT max(coalesce((SELECT max(id) FROM transitions), 0),"
        last += " coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'transitions'), 0))"
        if self._one(f"SELECT 1 FROM channels WHERE cursor < 0 OR cursor > ({last})"):  # noqa: S608
            raise LedgerDamage("a channel has passed more than there ever was")

    def set(self, name: str, value: str | float) -> None:
        """Make or change a setting."""
        self._db.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what is done inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read_only(path: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode=ro",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        factory=_Connection,
    )


def _as_of_now(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a connection to the tables of this version, also if the ledger is an older one.

    The next courier migrates the file; until then, readers have a copy in memory. What cannot be
    copied is left as it is, and fails when it is read.
    """
    try:
        (claimed,) = connection.execute("PRAGMA user_version").fetchone()
        if claimed >= VERSION or not _schema(connection):
            return connection
        copy = sqlite3.connect(":memory:", isolation_level=None, factory=_Connection)
        connection.backup(copy)
        Database(copy).migrate()
    except (sqlite3.Error, LedgerError):
        return connection
    connection.close()
    return copy


def is_busy(error: Exception) -> bool:
    """Return whether another program keeps the ledger locked."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # before Python 3.11
        return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
    return code & 0xFF in _BUSY_CODES


def is_corrupt(directory: str) -> bool:
    """Return whether SQLite finds pages out of order, or takes the file for none of its own."""
    try:
        with closing(_read_only(f"{directory}/{state.LEDGER}")) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # which may also mean the disk, or rights
        return False
    except sqlite3.DatabaseError:
        return True
    return bool(found != "ok")


def _schema(connection: sqlite3.Connection) -> Schema:
    """Return the tables, indexes and columns, apart from SQLite's own."""
    return frozenset(
        connection.execute(
            "SELECT m.type, m.name, CASE m.type WHEN 'index' THEN m.sql END, c.name, c.type,"
            ' c."notnull", c.dflt_value, c.pk'
            " FROM sqlite_master m LEFT JOIN pragma_table_info(m.name) c"
            " WHERE m.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        )
    )


@functools.cache
def _schemas() -> tuple[Schema, ...]:
    """Return the schema of every version, beginning with that of an empty file."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schemas = [_schema(connection)]
        for script in _SCRIPTS:
            connection.executescript(script)
            schemas.append(_schema(connection))
    return tuple(schemas)


def last_set_aside(directory: str) -> str | None:
    """Return the newest ledger that was set aside, if any."""
    begin = f"{state.LEDGER}.broken-"
    found = [
        name
        for name in os.listdir(directory)
        if name.startswith(begin) and name.removeprefix(begin).isdecimal()
    ]
    return max(found, default=None)


def set_aside(directory: str, now: float) -> str:
    """Move a broken ledger out of the way; return its new path. The caller holds the lock."""
    path = f"{directory}/{state.LEDGER}"
    aside = f"{path}.broken-{int(now)}"
    for suffix in reversed(_FILES):  # the journal goes with the file that it belongs to
        if os.path.lexists(path + suffix):
            os.rename(path + suffix, aside + suffix)
    state.sync_directory(directory)
    return aside
