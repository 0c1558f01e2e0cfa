"""Whether a ledger is beyond use although the disk and the rights to it are fine.

Not judged by what SQLite says of it, which for one damaged byte may be anything from "readonly" to
"disk is full": a copy of it is used, between two new ledgers at the same place that have to work.
"""

from __future__ import annotations

import enum
import fcntl
import os
import shutil
import sqlite3
import tempfile

from flipbell import spool, state
from flipbell.ledger import Ledger, LedgerError

_PREFIX = "trial-"
_SUFFIXES = ("", "-journal", "-wal")
_ROOM = 1 << 20  # bytes that a new ledger has to take
# The bytes that SQLite locks; a process that reads or writes has some of them.
_LOCKED_FROM = 0x40000000
_LOCKED_BYTES = 512


class Verdict(enum.Enum):
    """What a trial has shown."""

    SOUND = "a copy works"
    BROKEN = "a copy fails where a new ledger works"
    UNSURE = "the disk, the rights or another program may be the cause"


def judge(directory: str) -> Verdict:
    """Try a copy of the ledger. The caller holds the courier's lock, and has the ledger closed."""
    _clear(directory)
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=directory) as scratch:
            _copy(directory, scratch)
            _use_new(f"{scratch}/before")
            if _works(directory, scratch):
                return Verdict.SOUND
            _use_new(f"{scratch}/after")
    except (OSError, sqlite3.Error, LedgerError):
        return Verdict.UNSURE
    return Verdict.BROKEN


def _clear(directory: str) -> None:
    """Remove what a courier left that died in the middle of a trial."""
    for name in os.listdir(directory):
        if name.startswith(_PREFIX):
            shutil.rmtree(f"{directory}/{name}", ignore_errors=True)


def _copy(directory: str, scratch: str) -> None:
    """Copy the ledger with its journal, while no other program writes it. Raises OSError."""
    ledger = state.open_private(directory, state.LEDGER, os.O_RDWR)
    try:
        fcntl.lockf(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCKED_BYTES, _LOCKED_FROM)
        for suffix in _SUFFIXES:
            if os.path.exists(f"{directory}/{state.LEDGER}{suffix}"):
                name = f"{state.LEDGER}{suffix}"
                shutil.copyfile(f"{directory}/{name}", f"{scratch}/{name}")
    finally:
        os.close(ledger)


def _use_new(directory: str) -> None:
    os.mkdir(directory, state.DIRECTORY_MODE)
    ledger = Ledger.open(directory)
    try:
        with ledger.transaction():
            ledger.set("trial", "x" * _ROOM)
    finally:
        ledger.close()


def _works(directory: str, scratch: str) -> bool:
    """Return whether the copy opens, is in order and can be written. Raises OSError."""
    try:
        ledger = Ledger.open(scratch)
        try:
            with ledger.transaction():
                ledger.inspect(spool.end(directory))
                ledger.note_reset("", "", (spool.START, 0), 0.0)
            return ledger.is_whole()
        finally:
            ledger.close()
    except LedgerError:  # a newer one
        return True
    except sqlite3.Error:
        return False
