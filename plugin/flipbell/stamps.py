"""The courier's side of the quiet path: stamps for what it has taken, once that is still true.

Only under the spool's lock, and where all of the spool was taken, is what the ledger says of a
check surely the last that was recorded of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from typing import TYPE_CHECKING

from flipbell import log, quiet, state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flipbell.ledger import Ledger
    from flipbell.spool import Line, Reader

_AT_ONCE = 1000  # checks, for recorders wait meanwhile
_AT_A_STRETCH = 0.2  # seconds, for rooms wait meanwhile


class Stamps:
    """The checks that were taken from the spool and have no stamp yet."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._statuses: dict[tuple[str, str], int] = {}  # by host and check

    def take(self, ledger: Ledger, lines: Iterable[Line]) -> None:
        """Remember the checks of lines that the ledger has taken, as it knows them now."""
        for _, _, host, check, *_ in lines:
            known = ledger.check(host, check)
            if known is None:
                self._statuses.pop((host, check), None)
            else:
                self._statuses[host, check] = known[0].value

    def forget(self) -> None:
        """Believe nothing of a transaction that failed."""
        self._statuses.clear()

    def make(self, reader: Reader, *, is_idle: bool) -> bool:
        """Make the stamps that are due; return False if it has to be tried again soon.

        A process that holds the spool's lock is not waited for, as it may be stopped.
        """
        if not self._statuses and (not is_idle or _is_idle(self._directory)):
            return True
        until = time.monotonic() + _AT_A_STRETCH
        while True:
            held = state.try_lock(self._directory, state.APPEND_LOCK)
            if held is None:
                return False
            try:
                if not reader.is_at_end():
                    return False
                is_last = self._make_some(is_idle=is_idle)
            finally:
                state.unlock(held)
            if is_last or time.monotonic() >= until:
                return is_last

    def _make_some(self, *, is_idle: bool) -> bool:
        some = dict(itertools.islice(self._statuses.items(), _AT_ONCE))
        is_last = len(some) == len(self._statuses)
        try:
            _settle(self._directory, some, idle=is_idle and is_last)
        except OSError as error:  # a full disk: without stamps, only time is lost
            log.warning(f"state directory {self._directory}: no stamps: {error}")
            self._statuses.clear()
            return True
        for check in some:
            del self._statuses[check]
        return is_last

    def clear(self) -> None:
        """Remove all stamps, before the ledger is replaced. Raises OSError."""
        if not any(name.startswith(quiet.PREFIX) for name in os.listdir(self._directory)):
            return  # and only a courier makes any, so the lock is not needed to see that
        held = state.lock(self._directory, state.APPEND_LOCK)
        try:
            _clear(self._directory)
        finally:
            state.unlock(held)


def _is_idle(directory: str) -> bool:
    return os.path.lexists(f"{quiet.home(directory)}/{quiet.IDLE}")


def _settle(directory: str, statuses: Mapping[tuple[str, str], int], *, idle: bool) -> None:
    """Make the stamps of checks, and the sign of idleness."""
    home = quiet.home(directory)
    if home.endswith(quiet.PREFIX):  # no boot id, so a power cut could bring removed stamps back
        return
    if os.path.islink(home) or not os.path.isdir(home):
        _clear(directory)
        os.mkdir(home, state.DIRECTORY_MODE)
    for (host, check), status in statuses.items():
        stamp = quiet.stamp(home, host, check)
        quiet.remove(stamp)
        os.symlink(str(status), stamp)
    if idle:
        _make_idle(f"{home}/{quiet.IDLE}")


def _make_idle(path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, flags, 0o600))


def _clear(directory: str) -> None:
    """Remove every stamp, also those of earlier boots."""
    for name in os.listdir(directory):
        home = f"{directory}/{name}"
        if name.startswith(quiet.PREFIX) and (os.path.islink(home) or not os.path.isdir(home)):
            os.unlink(home)
        elif name.startswith(quiet.PREFIX):
            shutil.rmtree(home)
