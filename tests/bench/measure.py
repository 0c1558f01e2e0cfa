"""Measure in interleaved rounds: medians, spreads, and ratios of what ran side by side."""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Subject = Callable[[], float]
    """Does its work once; returns the seconds that it took."""


@dataclass
class Row:
    """A line of the table: *ratio* of *base*, and what it is to be at most (or at least)."""

    name: str
    value: str
    ratio: float | None = None
    base: str = ""
    bar: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Whether the bar is reached."""
        if self.bar is None or self.ratio is None:
            return ""
        reached = self.ratio >= self.bar if self.at_least else self.ratio <= self.bar
        return "reached" if reached else "missed"


@dataclass
class Table:
    """What was measured so far."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a line."""
        self.rows.append(row)

    def text(self) -> str:
        """Return the table, aligned."""
        lines = [("measure", "median (middle half)", "ratio", "of", "bar", "")]
        lines += map(_cells, self.rows)
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def _cells(row: Row) -> tuple[str, str, str, str, str, str]:
    ratio = (
        ""
        if row.ratio is None
        else f"{row.ratio:,.3g}"
        if row.ratio < 1000
        else f"{row.ratio:,.0f}"
    )
    bar = "" if row.bar is None else f"{'≥' if row.at_least else '≤'} {row.bar:,g}"
    return row.name, row.value, ratio, row.base, bar, row.verdict


class Rounds:
    """The times of several subjects, which took turns."""

    def __init__(self, times: Mapping[str, Sequence[float]]) -> None:
        self._times = times

    def shown(self, name: str) -> str:
        """Return the median and the middle half, in milliseconds."""
        low, middle, high = statistics.quantiles(self._times[name], n=4)
        return f"{middle * 1e3:.2f} ms ({low * 1e3:.2f}-{high * 1e3:.2f})"

    def median(self, name: str) -> float:
        """Return the median, in seconds."""
        return statistics.median(self._times[name])

    def ratio(self, name: str, base: str) -> float:
        """Return the median of the ratios, round by round."""
        pairs = zip(self._times[name], self._times[base], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def row(self, name: str, base: str = "", bar: float | None = None) -> Row:
        """Return a line of the table."""
        ratio = self.ratio(name, base) if base else None
        return Row(name, self.shown(name), ratio, base, bar)


def interleaved(subjects: Mapping[str, Subject], rounds: int, say: str) -> Rounds:
    """Let every subject work once a round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            took = subject()
            if number:
                times[name].append(took)
        _progress(f"{say}: {number} of {rounds} rounds")
    _progress("")
    return Rounds(times)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def process(
    command: list[str], environ: Mapping[str, str], before: Callable[[], None] | None = None
) -> Subject:
    """Return a subject that starts a command and waits for its end, with nothing to read."""

    def work() -> float:
        if before is not None:
            before()
        actions: list[tuple[int | str, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        begun = time.perf_counter()
        pid = os.posix_spawn(command[0], command, environ, file_actions=actions)
        os.waitpid(pid, 0)
        return time.perf_counter() - begun

    return work
