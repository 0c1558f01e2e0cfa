"""The quiet path: what a front finds by two looks where a result changes nothing.

`quiet.<boot id>` in the state directory holds a link for each settled check. Its name says host
and check, its target the status. A file named `idle` stands beside the stamps while nothing is
outstanding.

Stamps are a cache of the ledger, and err in one direction: one that is missing only costs time.
So, under the lock of the spool, a recorder removes a check's stamp before it appends, and the
courier makes one only when it has taken the spool to its end. Removals are not made durable; the
boot id in the directory's name keeps a power cut from bringing a removed stamp back. Systems that
tell no boot id have no stamps.
"""

import posix
import sys

from flipbell import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CHANGED, WAITING, DELIVERED = range(3)  # what `look` finds
PREFIX = "quiet."
IDLE = "idle"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Whatever a file system may fold, as upper case, is escaped.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_. ")
_LONGEST = 255  # bytes of a file's name
_KIND, _LINK = 0o170000, 0o120000  # as `stat` has them, which fronts do not load


def home(directory: str) -> str:
    """Return the directory of the stamps; one that never exists where there is no boot id."""
    try:
        opened = posix.open(_BOOT_ID, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return f"{directory}/{PREFIX}"
    try:
        return f"{directory}/{PREFIX}{posix.read(opened, 64).decode().strip()}"
    finally:
        posix.close(opened)


def stamp(home: str, host: str, check: str) -> str:
    """Return the path of a check's stamp; no two checks have the same."""
    name = f"{_escaped(host)},{_escaped(check)}"
    if len(name) <= _LONGEST:
        return f"{home}/{name}"
    from hashlib import sha256  # costs more than all the rest, and few names are that long

    return f"{home}/,,{sha256(name.encode()).hexdigest()}"


def _escaped(name: str) -> str:
    """Return a name in which nothing but lower case, digits and four signs are left as they are."""
    if _PLAIN.issuperset(name):
        return name
    letters = map(chr, name.encode("utf-8", "surrogatepass"))
    return "".join(letter if letter in _PLAIN else f"%{ord(letter):02x}" for letter in letters)


def look(stamp: str, status: int) -> int:
    """Return CHANGED if a result has to be recorded; else whether something else is WAITING.

    Reads nothing but the names of files; what cannot be looked at counts as changed.
    """
    try:
        if posix.readlink(stamp) != str(status):
            return CHANGED
        posix.lstat(f"{stamp.rpartition('/')[0]}/{IDLE}")
    except FileNotFoundError as error:
        return CHANGED if error.filename == stamp else WAITING
    except OSError:
        return CHANGED
    return DELIVERED


class Check:
    """A wrapped check, whose result will come: what can be found out while it runs."""

    def __init__(self, options: "Mapping[str, str]", environ: "Mapping[str, str]") -> None:
        self.host = _bytes(options.get("host") or posix.uname().nodename)
        self.name = _bytes(options["check"])
        self.state = places.find_state(options.get("state"), environ)
        self.config = options.get("config")
        names = _known_as(self.host), _known_as(self.name)
        self._stamp = stamp(home(self.state), *names)

    def has(self, status: int) -> bool:
        """Return whether it is known to have a status, so that nothing has to be recorded."""
        found = look(self._stamp, status)
        if found == WAITING and not self._is_anothers():
            from flipbell import fifo

            return fifo.is_heard(self.state)
        return found == DELIVERED

    def _is_anothers(self) -> bool:
        """Return whether root has to become the state's owner before it opens anything there."""
        return posix.geteuid() == 0 and places.keeper(self.state) != 0


def _bytes(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def _known_as(name: bytes) -> str:
    """Return the name of a host or a check as the ledger knows it."""
    return name.decode("utf-8", "replace")


def disturb(directory: str, checks: "Iterable[tuple[str, str]]") -> None:
    """Remove the stamps of checks (host, name), and the sign of idleness.

    For a recorder that holds the spool's lock. Raises OSError: what is recorded
    while its stamp stays could be hidden.
    """
    stamps = home(directory)
    try:
        kind = posix.lstat(stamps).st_mode & _KIND
    except FileNotFoundError:  # and only a courier that holds the lock makes it
        return
    if kind == _LINK:  # no courier makes it one: what it leads to is not ours
        remove(stamps)
        return
    remove(f"{stamps}/{IDLE}")
    for host, check in checks:
        remove(stamp(stamps, host, check))


def remove(path: str) -> None:
    """Remove a stamp, if it is there. Raises OSError."""
    try:
        posix.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
