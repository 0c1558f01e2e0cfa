"""What a command that writes much needs: a larger pipe, and no copies.

It is loaded only after the first megabyte.
"""

import fcntl
import posix

_KIND = 0o170000
_FIFO, _FILE = 0o010000, 0o100000
_SET_PIPE_SIZE = 1031
_SIZE = 1 << 20  # bytes of the command's pipe, which any user may have on Linux


def widen(source: int) -> None:
    """Let the command write a megabyte before it has to wait, if the kernel allows that."""
    try:
        fcntl.fcntl(source, getattr(fcntl, "F_SETPIPE_SZ", _SET_PIPE_SIZE), _SIZE)
    except OSError:
        return


def never_waits(sink: int) -> bool:
    """Return whether a write never waits for a reader: to a file, or to /dev/null."""
    status = posix.fstat(sink)
    if status.st_mode & _KIND == _FILE:
        return True
    return status.st_rdev != 0 and status.st_rdev == posix.stat("/dev/null").st_rdev


def can_splice(sink: int) -> bool:
    """Return whether the kernel may move blocks there by itself, without waiting for a reader."""
    is_pipe = posix.fstat(sink).st_mode & _KIND == _FIFO
    return hasattr(posix, "splice") and (is_pipe or never_waits(sink))


def splice(source: int, sink: int) -> int:
    """Move what is in a pipe; return how many bytes, 0 at its end.

    Raises BlockingIOError if the sink takes none now, another OSError if it cannot be done.
    """
    return posix.splice(source, sink, _SIZE, flags=posix.SPLICE_F_NONBLOCK)
