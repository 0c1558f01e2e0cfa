"""What a long-running front knows of each check, so that an unchanged result costs a look-up.

Other processes may record the same checks. What they wrote to the spool is read, and forgotten
here, so that the next result of such a check is recorded again: knowing too little costs a line,
knowing something wrong would cost a message.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from flipbell import recorder, spool, state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flipbell.model import CheckResult, Status


class Memory:
    """The statuses that were recorded; one thread calls `record` and `look`."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            state.check(directory)
            self._position = spool.end(directory)
        except OSError:  # recording will say what is wrong
            self._position = spool.START
        self._ledger = _identity(directory)
        self._newest = 0.0  # the latest time of any result
        self.statuses: dict[str, dict[str, Status]] = {}  # by check, then by host

    def knows(self, host: str, check: str, status: Status) -> bool:
        """Return whether a result changes nothing."""
        hosts = self.statuses.get(check)
        return hosts is not None and hosts.get(host) is status

    def learn(self, result: CheckResult) -> None:
        """Remember a result that is recorded, or surely will be.

        One that is older than what came before may be too late to count: it is forgotten instead.
        """
        now = time.time()
        self._newest = min(self._newest, now)  # a clock that was wrong must not count for ever
        if result.occurred_at >= self._newest or not result.is_dated:
            self._newest = min(max(self._newest, result.occurred_at), now)
            host = sys.intern(result.host)  # many checks of a host need its name once
            self.statuses.setdefault(result.check, {})[host] = result.status
        else:
            self.forget(result.host, result.check)

    def forget(self, host: str, check: str) -> None:
        """Forget a check, so that its next result is recorded whatever it says."""
        self.statuses.get(check, {}).pop(host, None)

    def record(self, results: Sequence[CheckResult]) -> None:
        """Make results durable. Raises OSError where they could not be."""
        self._notice_reset()
        begin, end = recorder.append(self._directory, map(recorder.line, results))
        self._forget_foreign(begin)
        self._position = end

    def look(self) -> None:
        """Forget what other processes have recorded meanwhile."""
        state.check(self._directory)
        self._notice_reset()
        end = spool.end(self._directory)
        self._forget_foreign(end)
        self._position = end

    def _notice_reset(self) -> None:
        """Forget all where the ledger was replaced, for the new one has to be told all anew."""
        before, self._ledger = self._ledger, _identity(self._directory)
        if before not in (None, self._ledger):
            self.statuses.clear()

    def _forget_foreign(self, end: spool.Position) -> None:
        if end == self._position:
            return
        reader = spool.Reader(self._directory, self._position)
        for line in self._lines(reader, end):
            result = spool.decode(line)
            if result is not None:
                self.forget(result[2], result[3])
        if reader.missed:
            self.statuses.clear()

    def _lines(self, reader: spool.Reader, end: spool.Position) -> Iterable[bytes]:
        """Yield the lines before a position."""
        while reader.position != end:
            before = reader.position
            for line in reader.lines():
                if reader.position[0] == end[0] and reader.position[1] > end[1]:
                    return
                yield line
            if reader.position == before:
                return


def _identity(directory: str) -> tuple[int, int] | None:
    """Return what tells a ledger from one that replaces it; None if there is none yet."""
    try:
        found = os.stat(f"{directory}/{state.LEDGER}")
    except OSError:
        return None
    return found.st_dev, found.st_ino
