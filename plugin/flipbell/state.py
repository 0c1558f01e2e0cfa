"""The state directory: made private, refused where it is not, and the files that stand in it."""

import fcntl
import posix
import stat

from flipbell import fifo

SPOOL = "spool"
LEDGER = "ledger"
APPEND_LOCK = "append.lock"  # held for one append, and by the courier while it gives up
COURIER_LOCK = "courier.lock"  # held for as long as a courier lives
UNFINISHED = "unfinished"  # exists while something may be left to do
_USUAL_DESCRIPTORS = 1024
DIRECTORY_MODE = 0o700


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
        raise StateError(f"state directory {directory}: {error.strerror}") from None
    check_private(directory, found)


def check_private(directory: str, found: "posix.stat_result", user: int | None = None) -> None:
    """Raise StateError unless *found* is the user's (ours), and nobody else can write to it."""
    me = posix.geteuid() if user is None else user
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"state directory {directory}: not a directory")
    if me not in (0, found.st_uid):
        raise StateError(
            f"state directory {directory}: belongs to user {found.st_uid}, and this is user {me}; "
            "run flipbell as its owner or name another directory with --state"
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
        raise StateError(
            f"state directory {directory}: cannot be made: {error.strerror}; make it, "
            f"owned by user {posix.geteuid()} with mode 700, or name another with --state"
        ) from None


def _refuse_anothers_place(directory: str) -> None:
    """Root looks after a user's state, but one that root makes there would lock its user out."""
    if posix.geteuid() != 0:
        return
    import os

    above = os.path.dirname(directory)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    owner = posix.stat(above).st_uid
    if owner != 0:
        raise StateError(
            f"state directory {directory}: not there yet, and {above} belongs to user {owner}; "
            "run flipbell as that user first, or flipbell init --user"
        )


def open_private(directory: str, name: str, flags: int) -> int:
    """Open a file of the state directory; a missing one is made for the directory's owner alone."""
    path = f"{directory}/{name}"
    flags |= posix.O_CLOEXEC | posix.O_NOFOLLOW
    try:
        return posix.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        made = posix.open(path, flags | posix.O_CREAT | posix.O_EXCL, 0o600)
    except FileExistsError:
        return posix.open(path, flags)
    posix.fchmod(made, 0o600)  # whatever the umask took away
    give_to_owner(directory, made)
    return made


def open_existing(directory: str, name: str) -> int:
    """Open a file of the state directory for reading; raises FileNotFoundError."""
    return posix.open(f"{directory}/{name}", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)


def give_to_owner(directory: str, file: int) -> None:
    """Let root leave nothing behind that the owner of the directory could not use."""
    if posix.geteuid() == 0:
        owner = posix.stat(directory)
        posix.fchown(file, owner.st_uid, owner.st_gid)


def lock(directory: str, name: str) -> int:
    """Take a lock, waiting for it; `unlock` frees it."""
    held = open_private(directory, name, posix.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    return held


def try_lock(directory: str, name: str) -> int | None:
    """Take a lock, or return None where somebody holds it."""
    held = open_private(directory, name, posix.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        posix.close(held)
        return None
    return held


def unlock(held: int) -> None:
    """Free a lock, also where a child that was forked meanwhile has a copy of the descriptor."""
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
