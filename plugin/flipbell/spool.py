r"""The spool: an append-only file of check results that the courier has yet to take.

A line is `time status host check output`, parted by tabs: the time in microseconds since the
epoch, with a plus sign if the agent gave it, the status as a number, and backslash escapes for
backslash, tab, newline and NUL. Lines are bytes, because check output need not be UTF-8. A line
is recorded when its fdatasync has returned.

The first line names the file, and the file before it with the size at which that one ended, so
that a reader of the old one knows that it missed nothing. A last line that was torn (by a full
disk or a power cut) is closed by the next writer and dropped by the reader.
"""

import errno
import posix
import time

from flipbell import quiet, state
from flipbell.places import NAME_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Position = tuple[str, int]
    """The name of a spool file, and an offset in it."""

    Line = tuple[float, int, str, str, str, bool]
    """Time in seconds, status, host, check, output, and whether the agent gave the time."""

START: "Position" = ("", 0)
FORGET = 9  # in the place of a status: the check is to be forgotten
REVIVE = 8  # in its place: a dead letter (channel, transition) is to be sent once more
OUTPUT_LIMIT = 4096  # bytes kept of a check's output
LARGEST = 64 << 20  # bytes that wait for a courier at most: a disk is not for us to fill
_RESERVE = 2 << 20  # bytes
_BLOCK = 512  # bytes in which st_blocks counts
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE
_MAGIC = b"flipbell-spool 1 "
_FIELDS = 5
_DAMAGED = "damaged-"
_LATEST = 253_402_300_800.0  # the year 10000
_DIGITS = 20
_ESCAPES = {b"\\": b"\\\\", b"\t": b"\\t", b"\n": b"\\n", b"\0": b"\\0"}


def encode(
    host: bytes,
    check: bytes,
    status: int,
    output: bytes,
    occurred_at: float,
    *,
    is_dated: bool = False,
) -> bytes:
    """Return the spool's line for a result; *is_dated* is whether the agent gave the time.

    A time of the front's own clock orders nothing: that clock may be wrong, and put right.
    """
    fields = (
        b"%b%d" % (b"+" if is_dated else b"", _microseconds(occurred_at)),
        b"%d" % status,
        _escape(host[:NAME_LIMIT]),
        _escape(check[:NAME_LIMIT]),
        _escape(output[:OUTPUT_LIMIT]),
    )
    return b"\t".join(fields) + b"\n"


def _microseconds(occurred_at: float) -> int:
    """Return a time in microseconds; what cannot be one, or is in the future, is taken for now.

    Taken for now when it is recorded: what is recorded after it must not seem to be older.
    """
    now = time.time()
    if not 0 <= occurred_at <= now:  # not a number among them
        occurred_at = now
    return int(occurred_at * 1e6)


def _escape(value: bytes) -> bytes:
    for plain, escaped in _ESCAPES.items():
        value = value.replace(plain, escaped)
    return value


def decode(line: bytes) -> "Line | None":
    """Read a line, or return None for one that was torn or is not ours."""
    fields = line.split(b"\t")
    if len(fields) != _FIELDS or b"\0" in line:
        return None
    try:
        occurred_at, status = int(fields[0][:_DIGITS]) / 1e6, int(fields[1][:_DIGITS])
    except ValueError:
        return None
    if not 0 <= occurred_at < _LATEST:
        return None
    host, check, output = (_unescape(field).decode("utf-8", "replace") for field in fields[2:])
    return occurred_at, status, host, check, output, line.startswith(b"+")


def _unescape(value: bytes) -> bytes:
    if b"\\" not in value:
        return value
    pieces = value.split(_ESCAPES[b"\\"])  # what is left of a backslash starts an escape
    for plain, escaped in _ESCAPES.items():
        if plain != b"\\":
            pieces = [piece.replace(escaped, plain) for piece in pieces]
    return b"\\".join(pieces)


def append(directory: str, lines: bytes) -> "tuple[Position, Position]":
    """Record lines; return where they begin and where they end.

    Raises OSError where they could not be made durable, or where too much waits already. What was
    written of them before a disk was full stays: the courier may have read it already.
    """
    held = state.lock(directory, state.APPEND_LOCK)
    try:
        spool = state.open_private(directory, state.SPOOL, posix.O_RDWR | posix.O_APPEND)
        try:
            begin, torn = _end_of(directory, spool)
            if begin[1] > LARGEST:
                raise OSError(errno.EFBIG, "full, for no courier takes from it", state.SPOOL)
            quiet.disturb(directory, _checks(lines))
            _write(spool, b"\n" + lines if torn else lines)
            posix.fdatasync(spool)
            return begin, (begin[0], posix.fstat(spool).st_size)
        finally:
            posix.close(spool)
    finally:
        state.unlock(held)


def _checks(lines: bytes) -> "Iterator[tuple[str, str]]":
    for line in lines.split(b"\n"):
        known = decode(line)
        if known is not None:
            yield known[2], known[3]


def _end_of(directory: str, spool: int) -> "tuple[Position, bool]":
    """Return where the spool ends, and whether its last line was torn; a new one gets its name."""
    size = posix.fstat(spool).st_size
    if size == 0:
        size = _write(spool, header(START))
        posix.fsync(spool)
        state.sync_directory(directory)
    name, _, _ = _read_header(spool)
    return (name, size), posix.pread(spool, 1, size - 1) != b"\n"


def header(previous: "Position") -> bytes:
    """Return the first line of a new spool that follows *previous*."""
    name = posix.urandom(8).hex().encode()
    return _MAGIC + b"%b %b %d\n" % (name, previous[0].encode() or b"-", previous[1])


def _write(file: int, content: bytes) -> int:
    written = 0
    while written < len(content):
        written += posix.write(file, content[written:])
    return written


def reserve(directory: str) -> None:
    """Set disk space aside, so that a full disk still takes a few hundred changes.

    The courier calls it. Where a system or a file system cannot do it, nothing is set aside.
    """
    try:
        spool = state.open_existing(directory, state.SPOOL, posix.O_RDWR)
    except OSError:  # nothing was recorded yet
        return
    try:
        found = posix.fstat(spool)
        if found.st_blocks * _BLOCK - found.st_size < _RESERVE // 2:
            _allocate(spool, found.st_size)
    finally:
        posix.close(spool)


def _allocate(file: int, offset: int) -> bool:
    """Allocate the reserve behind a file's end; return whether the disk has room for it."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    allocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if allocate is None:  # not Linux
        return True
    allocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    failed = allocate(file, _KEEP_SIZE, offset, _RESERVE)
    return not failed or ctypes.get_errno() != errno.ENOSPC


def _read_header(spool: int) -> "tuple[str, Position, int]":
    """Return the spool's name, where the one before it ended, and where its lines begin.

    A header that is not ours makes a name of its own, so that what can be read is still taken.
    """
    first, newline, _ = posix.pread(spool, 128, 0).partition(b"\n")
    words = first.decode("ascii", "replace").split(" ")
    if newline and first.startswith(_MAGIC) and len(words) == _FIELDS and words[4].isdecimal():
        return words[2], (words[3], int(words[4])), len(first) + 1
    return f"{_DAMAGED}{posix.fstat(spool).st_ino}", START, 0


def is_damaged(name: str) -> bool:
    """Return whether a spool has lost its own name, so that it is read once more from its begin."""
    return name.startswith(_DAMAGED)


def begin(directory: str) -> "Position":
    """Return where the spool's lines begin; START where there is none."""
    try:
        spool = state.open_existing(directory, state.SPOOL)
    except FileNotFoundError:
        return START
    try:
        name, _, offset = _read_header(spool)
        return name, offset
    finally:
        posix.close(spool)


def end(directory: str) -> "Position":
    """Return where the spool ends now; START where there is none."""
    try:
        spool = state.open_existing(directory, state.SPOOL)
    except FileNotFoundError:
        return START
    try:
        return _read_header(spool)[0], posix.fstat(spool).st_size
    finally:
        posix.close(spool)


def sync(directory: str) -> None:
    """Make durable what can be read, before anybody remembers to have read it.

    A recorder may have been killed between its write and its sync, and a ledger that is ahead of
    the spool would pass over the next lines after a power cut.
    """
    spool = state.open_existing(directory, state.SPOOL)
    try:
        posix.fdatasync(spool)
    finally:
        posix.close(spool)


class Reader:
    """Reads the spool from a position on, as far as its lines are whole."""

    def __init__(self, directory: str, position: "Position" = START) -> None:
        self._directory = directory
        self.position = position
        self.missed = False  # whether lines between the position and the first read are gone

    def lines(self, limit: int = 1 << 20) -> "Iterator[bytes]":
        """Yield the next whole lines, without newline, at most about *limit* bytes of them."""
        try:
            spool = state.open_existing(self._directory, state.SPOOL)
        except FileNotFoundError:
            return
        try:
            self._enter(spool)
            yield from self._whole_lines(spool, limit)
        finally:
            posix.close(spool)

    def is_at_end(self) -> bool:
        """Return whether no whole line is left, without moving on."""
        position, missed = self.position, self.missed
        try:
            return next(self.lines(), None) is None
        finally:
            self.position, self.missed = position, missed

    def _enter(self, spool: int) -> None:
        name, previous, begin = _read_header(spool)
        if name == self.position[0]:
            return
        self.missed = self.missed or self.position not in (START, previous)
        self.position = (name, begin)

    def _whole_lines(self, spool: int, limit: int) -> "Iterator[bytes]":
        name, offset = self.position
        block = posix.pread(spool, limit, offset)
        if b"\n" not in block:  # one line may be longer than the limit
            block = posix.pread(spool, max(limit, posix.fstat(spool).st_size - offset), offset)
        for line in block.split(b"\n")[:-1]:
            offset += len(line) + 1
            self.position = (name, offset)
            yield line


def rotate(directory: str, reader: "Reader", larger_than: int) -> "Position":
    """Start a new spool where all of a large one was taken; return the position to go on from.

    The caller holds the courier's lock.
    """
    taken = reader.position
    if taken[1] <= larger_than:
        return taken
    held = state.try_lock(directory, state.APPEND_LOCK)
    if held is None:  # not waited for: its holder may be stopped
        return taken
    try:
        return _replace(directory, taken) if reader.is_at_end() else taken
    finally:
        state.unlock(held)


def _replace(directory: str, taken: "Position") -> "Position":
    fresh = f"{state.SPOOL}.new"
    made = state.open_private(directory, fresh, posix.O_RDWR)
    try:
        posix.ftruncate(made, 0)
        size = _write(made, header(taken))
        if not _allocate(made, size):  # the old one has its reserve: better no new one now
            posix.unlink(f"{directory}/{fresh}")
            return taken
        posix.fsync(made)
        posix.rename(f"{directory}/{fresh}", f"{directory}/{state.SPOOL}")
        state.sync_directory(directory)
        return _read_header(made)[0], size
    finally:
        posix.close(made)
