"""A ledger that cannot be used: it is set aside, and each room is told so once."""

from __future__ import annotations

import enum
import os
import sqlite3
import time
import traceback
from typing import TYPE_CHECKING

from flipbell import log, spool
from flipbell._database import LedgerDamage, is_busy, is_corrupt, last_set_aside, set_aside

if TYPE_CHECKING:
    from flipbell.ledger import Ledger
    from flipbell.stamps import Stamps

# What rows that cannot be, in a file that SQLite finds in order, lead to.
BAD_VALUES = (
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)
_READERS = (
    *("_database", "ledger", "outbox", "pages", "rates", "retry", "roster", "routing"),
    *("settling", "stored", "succession", "turns"),
)
_TRIES = 3  # in a row, before the ledger is doubted
_TRIAL_EVERY = 300.0  # seconds at least between two trials
_GUESS_EVERY = 86400.0  # seconds at least between two resets that no trial has proved right


class Cause(enum.Enum):
    """Why the ledger could not be used."""

    ELSEWHERE = "the disk, the rights, or another program"
    UNSURE = "not known yet: try again soon"
    RESET = "the ledger, which was set aside"


class Doubt:
    """Decides, from the tries that fail one after the other, whether the ledger is to be reset."""

    def __init__(self, directory: str, stamps: Stamps) -> None:
        self._directory = directory
        self._stamps = stamps
        self._failures = 0
        self._next_trial = float("-inf")

    def end(self) -> None:
        """Forget earlier failures, as the ledger has worked."""
        self._failures = 0

    def consider(self, error: Exception, now: float) -> Cause:
        """Find the cause of an error; set the ledger aside if it is the ledger itself.

        The caller holds the courier's lock, and has closed the ledger. An error that is not about
        the ledger is raised again. Raises OSError.
        """
        if isinstance(error, BAD_VALUES) and not _is_from_the_ledger(error):
            raise error
        if isinstance(error, OSError) or is_busy(error):
            return Cause.ELSEWHERE
        if not self._is_proof(error):
            self._failures += 1
            if self._failures < _TRIES:
                return Cause.UNSURE
            self._failures = 0
            if not self._is_convicted(error, now):
                return Cause.ELSEWHERE
        self._reset(error, now)
        return Cause.RESET

    def _is_proof(self, error: Exception) -> bool:
        if isinstance(error, sqlite3.OperationalError):  # the disk or the rights may be the cause
            return False
        return isinstance(error, LedgerDamage) or (
            isinstance(error, sqlite3.DatabaseError) and is_corrupt(self._directory)
        )

    def _is_convicted(self, error: Exception, now: float) -> bool:
        """Try a copy of the ledger, which costs time: not after every error of a full disk."""
        if time.monotonic() < self._next_trial:
            return False
        self._next_trial = time.monotonic() + _TRIAL_EVERY
        from flipbell.trial import Verdict, judge

        verdict = judge(self._directory)
        if verdict is Verdict.SOUND:
            return not isinstance(error, sqlite3.OperationalError) and self._may_guess(now)
        return verdict is Verdict.BROKEN

    def _may_guess(self, now: float) -> bool:
        """Return whether a reset may be tried: if it did not help lately, it will not now."""
        aside = last_set_aside(self._directory)
        return aside is None or not 0 <= now - int(aside.rpartition("-")[2]) < _GUESS_EVERY

    def _reset(self, error: Exception, now: float) -> None:
        self._stamps.clear()
        aside = set_aside(self._directory, now)
        log.error(
            f"the ledger could not be used ({type(error).__name__}: {error}) and was set aside as "
            f"{aside}: the state was reset"
        )


def _is_from_the_ledger(error: Exception) -> bool:
    """Return whether it was raised by what reads the ledger, not by a channel or an extension."""
    modules = [
        str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    ours = [name for name in modules if name.startswith("flipbell.")]
    return bool(ours) and ours[-1].removeprefix("flipbell.") in _READERS


def note(directory: str, ledger: Ledger, now: float) -> None:
    """Tell the rooms of a reset, also if a courier died before it could."""
    aside = last_set_aside(directory)
    if aside is not None and aside != ledger.setting("reset"):
        end = spool.end(directory)[1]
        where = (spool.begin(directory), end)
        ledger.note_reset(os.uname().nodename, aside, where, now)
