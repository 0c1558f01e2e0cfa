"""The file `unfinished`: it exists while work may be left, and counts couriers that were killed.

A front makes it when a courier is needed, each start of a courier is counted in it, and a courier
that leaves because everything is delivered removes it. So a path unit of systemd that starts a
courier while the file exists misses no change, and `status` can say how many couriers in a row did
not finish, and in which unit the last one ran.
"""

import contextlib
import posix

from flipbell import state

_LONGEST = 512  # bytes


def expect(directory: str) -> None:
    """Make the file, for a service manager that watches for it. Raises OSError."""
    posix.close(state.open_private(directory, state.UNFINISHED, posix.O_WRONLY))


def count(directory: str, unit: str, starts: int = 1) -> None:
    """Count a courier that starts in a unit; its caller holds the courier's lock.

    A courier that was counted before it was started names its unit with no *starts*. Raises
    OSError.
    """
    file = state.open_private(directory, state.UNFINISHED, posix.O_RDWR)
    try:
        content = b"%d %b\n" % (_counted(file)[0] + starts, unit.encode("utf-8", "replace"))
        posix.ftruncate(file, posix.pwrite(file, content, 0))
    finally:
        posix.close(file)


def clear(directory: str) -> None:
    """Remove the file. Raises OSError.

    The caller holds the lock of the spool, so that no change recorded meanwhile goes unnoticed.
    """
    with contextlib.suppress(FileNotFoundError):
        posix.unlink(f"{directory}/{state.UNFINISHED}")


def counted(directory: str) -> tuple[int, str]:
    """Return how many couriers were started since one finished, and the unit of the last.

    Raises OSError.
    """
    try:
        file = state.open_existing(directory, state.UNFINISHED)
    except FileNotFoundError:
        return 0, ""
    try:
        return _counted(file)
    finally:
        posix.close(file)


def _counted(file: int) -> tuple[int, str]:
    number, _, unit = posix.pread(file, _LONGEST, 0).strip().partition(b" ")
    return int(number) if number.isdigit() else 0, unit.decode("utf-8", "replace")
