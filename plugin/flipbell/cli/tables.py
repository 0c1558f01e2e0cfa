"""Aligned columns and coloured words for people."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from flipbell.log import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flipbell.model import Status

_COLORS = {"OK": "32", "WARNING": "33", "CRITICAL": "31", "UNKNOWN": "35"}


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows with their columns aligned, two spaces apart."""
    lines = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def colored(text: str, status: Status) -> str:
    """Return text in a status's colour, on a terminal that wants colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return text.replace(status.name, f"\033[{_COLORS[status.name]}m{status.name}\033[0m", 1)


def clock(epoch: float) -> str:
    """Return a time as the history shows it, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch))
