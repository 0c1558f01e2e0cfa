"""Aligned columns, coloured words and local times for people."""

from __future__ import annotations

import os
import sys
import unicodedata
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flipbell.log import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flipbell.model import Status

_COLORS = {"OK": "32", "WARNING": "33", "CRITICAL": "31", "UNKNOWN": "35"}
_CUT = "…"
_LEAST_NAME, _LONGEST_NAME = 12, 40  # columns
_LEAST_TERMINAL = 60  # columns; lines are not cut to fewer
_WIDE = ("W", "F")
_WITHOUT_WIDTH = ("Mn", "Me", "Cf")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows with their columns aligned, two spaces apart."""
    lines = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(padded(cell, room) for cell, room in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a wide East Asian character."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in _WITHOUT_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1


def padded(text: str, columns: int) -> str:
    """Return a text with spaces up to that many columns."""
    return text + " " * (columns - width(text))


def fitted(text: str, columns: int) -> str:
    """Return at most that many columns of a text; what is cut ends in an ellipsis."""
    text = escaped(text)
    if width(text) <= columns:
        return text
    taken = 0
    for index, char in enumerate(text):
        taken += _columns(char)
        if taken > columns - 1:
            return text[:index].rstrip() + _CUT
    return text


def columns(default: int) -> int:
    """Return the width of the terminal, or *default* if stdout is none."""
    import shutil

    return shutil.get_terminal_size((default, 24)).columns if sys.stdout.isatty() else default


def name_columns(default: int, share: int) -> int:
    """Return how many columns the name of a check or host may take: one part in *share* of them.

    *default* is as for `columns`. Without a terminal, a program that reads the line gets all of it.
    """
    room = columns(default)
    if not sys.stdout.isatty():
        return room
    return max(_LEAST_NAME, min(_LONGEST_NAME, room // share))


def whole_line(line: str) -> str:
    """Return a line that fits the terminal, if that is not too narrow for any."""
    room = columns(0)
    return fitted(line, room) if room >= _LEAST_TERMINAL else line


def colored(text: str, status: Status) -> str:
    """Return text in a status's colour, on a terminal that wants colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return text.replace(status.name, f"\033[{_COLORS[status.name]}m{status.name}\033[0m", 1)


def clock(epoch: float) -> str:
    """Return a time in this host's time zone, with its offset from UTC."""
    moment = datetime.fromtimestamp(epoch, timezone.utc).astimezone()
    return moment.isoformat(" ", "seconds")


def time_of_day(epoch: float) -> str:
    """Return the hour, minute and second of a time that is near, in this host's time zone."""
    return f"{datetime.fromtimestamp(epoch, timezone.utc).astimezone():%H:%M:%S}"
