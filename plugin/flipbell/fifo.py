"""The FIFO by which others wake the courier, and by which they see that one lives."""

from __future__ import annotations

import os

from flipbell import state

FLUSH = b"!"  # asks the courier to try everything now


def wake(directory: str, message: bytes = b"\n") -> bool:
    """Wake the courier; return whether one was there to hear it."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        opened = os.open(f"{directory}/{state.WAKE}", flags)
    except OSError:  # nobody reads it: whoever starts next looks at the spool first
        return False
    try:
        os.write(opened, message)
    except BlockingIOError:
        pass  # full of reasons to wake up already
    finally:
        os.close(opened)
    return True


def is_heard(directory: str) -> bool:
    """Return whether a courier listens. Probing its lock instead could hide that there is none."""
    return wake(directory, b"")


def listen(directory: str) -> int:
    """Open the FIFO for the courier, and return it; -1 where there can be none."""
    from flipbell import log

    try:
        opened = _open(f"{directory}/{state.WAKE}")
    except OSError as error:
        log.warning(f"state directory {directory}: {state.WAKE}: {error}")
        return -1
    state.give_to_owner(directory, opened)
    return opened


def _open(name: str) -> int:
    import stat

    if not os.path.lexists(name):
        os.mkfifo(name, 0o600)
        os.chmod(name, 0o600)
    # Opened for writing too, so that it has no end when the last writer leaves.
    opened = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError("is no FIFO; remove it")
    return opened


def drain(source: int) -> bytes:
    """Return what was written to a FIFO or pipe that does not block."""
    try:
        return os.read(source, 65536)
    except BlockingIOError:
        return b""
