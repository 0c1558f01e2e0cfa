"""The FIFO by which others wake the courier, and by which they see that one lives."""

import posix

NAME = "wake"
FLUSH = b"!"  # asks the courier to try everything now
YIELD = b"?"  # asks a courier that a front has started to leave the work to a service's
_KIND, _FIFO = 0o170000, 0o010000  # as `stat` has them, which fronts do not load


def wake(directory: str, message: bytes = b"\n") -> bool:
    """Wake the courier; return whether one was there to hear it."""
    flags = posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOFOLLOW
    try:
        opened = posix.open(f"{directory}/{NAME}", flags)
    except OSError:  # no reader: the next courier looks at the spool first
        return False
    try:
        if not _is_fifo(opened):  # as a restored backup may have it
            return False
        posix.write(opened, message)
    except BlockingIOError:
        pass  # full of reasons to wake up already
    finally:
        posix.close(opened)
    return True


def _is_fifo(opened: int) -> bool:
    return posix.fstat(opened).st_mode & _KIND == _FIFO


def is_heard(directory: str) -> bool:
    """Return whether a courier listens. Probing its lock instead could hide that there is none."""
    return wake(directory, b"")


def listen(directory: str) -> int:
    """Open the FIFO for the courier, and return it; -1 where there can be none."""
    from flipbell import log

    try:
        return _open(f"{directory}/{NAME}")
    except OSError as error:
        log.warning(f"state directory {directory}: {NAME}: {error}")
        return -1


def _open(path: str) -> int:
    try:
        posix.mkfifo(path, 0o600)
        posix.chmod(path, 0o600)
    except FileExistsError:
        pass
    # Opened for writing too, so that it has no end when the last writer leaves.
    opened = posix.open(path, posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    if not _is_fifo(opened):
        posix.close(opened)
        raise OSError("is no FIFO; remove it")
    return opened


def drain(source: int) -> bytes:
    """Return what was written to a FIFO or pipe that does not block."""
    try:
        return posix.read(source, 65536)
    except BlockingIOError:
        return b""
