"""The state directory: made private, refused where it is not, and the files that stand in it."""

import fcntl
import posix
import stat

from flipbell import fifo, places

SPOOL = "spool"
LEDGER = "ledger"
APPEND_LOCK = "append.lock"  # held for one append, and by the courier while it gives up
COURIER_LOCK = "courier.lock"  # held for as long as a courier lives
UNFINISHED = "unfinished"  # exists while something may be left to do
_USUAL_DESCRIPTORS = 1024
DIRECTORY_MODE = 0o700
# Follow no link, and wait for no other end of a FIFO.
_SAFELY = posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK


class StateError(OSError):
    """The state directory cannot be used; the message names it and says what to do."""


def prepare(directory: str) -> None:
    """Make the state directory if it is missing, and refuse one that others could write to.

    Raises StateError.
    """
    try:
        found = posix.stat(directory)
    except FileNotFoundError:
        _make(directory)
        found = posix.stat(directory)
    except OSError as error:
        raise _unreachable(directory, error) from None
    check_private(directory, found)


def _unreachable(directory: str, error: OSError) -> StateError:
    from flipbell.wording import user_name

    if isinstance(error, NotADirectoryError):
        return StateError(
            f"state directory {directory}: a part of this path is not a directory; "
            "name another with --state or FLIPBELL_STATE"
        )
    return StateError(
        f"state directory {directory}: {error.strerror} for {user_name()}; "
        "chmod or chown what is above it for that user"
    )


def check(directory: str) -> None:
    """Raise StateError if this process must not use the state directory; one may be missing."""
    try:
        found = posix.stat(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreachable(directory, error) from None
    check_private(directory, found)


def check_private(directory: str, found: "posix.stat_result") -> None:
    """Raise StateError unless *found* is this user's, and no other user can write to it.

    Root is no exception: see `identity`.
    """
    me, owner = posix.geteuid(), found.st_uid
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"state directory {directory}: not a directory")
    if me == owner == 0:
        owner = places.keeper(directory)
    if me != owner:
        from flipbell.wording import user_name

        raise StateError(
            f"state directory {directory}: belongs to {user_name(owner)}, and this is "
            f"{user_name(me)}; "
            "run flipbell as its owner or name another directory with --state or FLIPBELL_STATE"
        )
    if found.st_mode & 0o022:
        raise StateError(f"state directory {directory}: others can write to it; chmod 700 it")


def _make(directory: str) -> None:
    import os

    _refuse_anothers_place(directory)
    try:
        os.makedirs(directory, mode=DIRECTORY_MODE)
        posix.chmod(directory, DIRECTORY_MODE)
    except FileExistsError:
        return  # another process was faster
    except OSError as error:
        from flipbell.wording import user_name

        raise StateError(
            f"state directory {directory}: cannot be made: {error.strerror}; make it, "
            f"owned by {user_name()} with mode 700, or name another with --state"
        ) from None


def _refuse_anothers_place(directory: str) -> None:
    """Make nothing with root's rights if another user decides what the path leads to."""
    owner = places.keeper(directory) if posix.geteuid() == 0 else 0
    if owner != 0:
        from flipbell.wording import user_name

        raise StateError(
            f"state directory {directory}: not there yet, and what is above it belongs to "
            f"{user_name(owner)}; run flipbell as that user first, or flipbell init --user"
        )


def open_private(directory: str, name: str, flags: int) -> int:
    """Open a file of the state directory; a missing one is made for its owner alone.

    Raises StateError for anything that is no file.
    """
    path = f"{directory}/{name}"
    try:
        return _open_file(path, flags)
    except FileNotFoundError:
        pass
    try:
        made = posix.open(path, flags | _SAFELY | posix.O_CREAT | posix.O_EXCL, 0o600)
    except FileExistsError:
        return _open_file(path, flags)
    posix.fchmod(made, 0o600)  # whatever the umask took away
    return made


def open_existing(directory: str, name: str, flags: int = posix.O_RDONLY) -> int:
    """Open a file of the state directory. Raises FileNotFoundError, StateError."""
    return _open_file(f"{directory}/{name}", flags)


def _open_file(path: str, flags: int) -> int:
    opened = posix.open(path, flags | _SAFELY)
    if not stat.S_ISREG(posix.fstat(opened).st_mode):
        posix.close(opened)
        raise StateError(f"{path}: not a file; remove it")
    return opened


def lock(directory: str, name: str) -> int:
    """Take a lock, waiting for it; `unlock` frees it."""
    held = open_private(directory, name, posix.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def try_lock(directory: str, name: str) -> int | None:
    """Take a lock, or return None if another process holds it."""
    held = open_private(directory, name, posix.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        posix.close(held)
        return None
    return held


def unlock(held: int) -> None:
    """Free a lock, even if a child that was forked meanwhile has a copy of the descriptor."""
    fcntl.flock(held, fcntl.LOCK_UN)
    posix.close(held)


def let_go(directory: str) -> None:
    """Close every copy of the directory's locks and FIFO, in a process that was just forked.

    A child would otherwise hold a lock for as long as it lives. They are looked for by what they
    are, for the fork may have come just after one was opened.
    """
    ours = set()
    for name in (APPEND_LOCK, COURIER_LOCK, fifo.NAME):
        try:
            found = posix.stat(f"{directory}/{name}")
        except OSError:
            continue
        ours.add((found.st_dev, found.st_ino))
    for descriptor, found in open_descriptors():
        if (found.st_dev, found.st_ino) in ours:
            posix.close(descriptor)


def open_descriptors() -> list[tuple[int, posix.stat_result]]:
    """Return every descriptor of this process with what it is."""
    found = []
    try:
        numbers = [int(name) for name in posix.listdir("/dev/fd")]
    except OSError:  # not mounted here
        numbers = list(range(_USUAL_DESCRIPTORS))
    for descriptor in numbers:
        try:
            found.append((descriptor, posix.fstat(descriptor)))
        except OSError:  # the one that listed the directory
            continue
    return found


def sync_directory(directory: str) -> None:
    """Make the directory's entries durable: a new file is lost in a power cut without it."""
    opened = posix.open(directory, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        posix.fsync(opened)
    finally:
        posix.close(opened)
