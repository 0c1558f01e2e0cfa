"""Values as the ledger holds them, read so that a damaged one blocks nothing.

A flipped bit on a disk may turn text into bytes that are no UTF-8, a status into a number that
stands for none, or one type into another. SQLite returns what it finds.
"""

from __future__ import annotations

import math

from flipbell.model import Kind, Status

_LATEST = 253_402_300_799.0  # the last second of the year 9999
_KINDS = {kind.value: kind for kind in Kind}


def decoded(raw: bytes) -> str:
    """Return stored text; bytes that are no UTF-8 become U+FFFD."""
    return raw.decode("utf-8", "replace")


def text(value: object) -> str:
    """Return text, whatever type it is stored as; NULL is empty."""
    if isinstance(value, bytes):
        return decoded(value)
    return "" if value is None else str(value)


def whole(value: object) -> int:
    """Return a whole number; 0 for a value of another type."""
    return value if isinstance(value, int) else 0


def number(value: object) -> float:
    """Return a finite number; 0.0 for any other value."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def moment(value: object) -> float:
    """Return a time in epoch seconds that a calendar can show; 0.0 for any other value."""
    seconds = number(value)
    return seconds if 0 <= seconds <= _LATEST else 0.0


def status(value: object) -> Status:
    """Return a status; UNKNOWN for a value that stands for none."""
    return Status.from_exit_status(value) if isinstance(value, int) else Status.UNKNOWN


def kind(value: object) -> Kind:
    """Return what a transition is about; PLAIN for a value that stands for no kind."""
    return _KINDS.get(value, Kind.PLAIN) if isinstance(value, int) else Kind.PLAIN
