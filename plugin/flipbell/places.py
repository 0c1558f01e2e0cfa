"""Where the configuration and the state are: chosen by what is said, what exists and who owns it.

Never by what fails, so that state cannot split in two, and never the working directory, for
agents run with any. It is loaded for every check, so `os` is loaded where a path is not plain.
"""

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NAME_LIMIT = 1024  # bytes that the name of a host or a check may have
SYSTEM_CONFIG = "/etc/flipbell/conf.d"
SYSTEM_STATE = "/var/lib/flipbell"
_KIND, _LINK = 0o170000, 0o120000  # as `stat` has them, which fronts do not load
_OVERFLOW = 65534  # also the number of the user `nobody`
_LONGEST_WALK = 4096  # names, for links may lead in a circle


def find_state(option: str | None, environ: "Mapping[str, str]") -> str:
    """Return the state directory: as said, else the system's where it is ours, else the user's.

    Root looks after the system's directory, no matter who owns it, and makes it if it is missing.
    """
    said = option or environ.get("FLIPBELL_STATE")
    if said:
        return _absolute(said)
    me = posix.geteuid()
    if me == 0 or _owner(SYSTEM_STATE) == me:
        return SYSTEM_STATE
    return _of_user(environ, "XDG_STATE_HOME", ".local/state") + "/flipbell"


def find_config(option: str | None, environ: "Mapping[str, str]") -> str:
    """Return the configuration directory: as said, else the user's own if there is one.

    Else it is the system's. Without HOME, as many agents run, the system's comes first.
    """
    said = said_config(option, environ)
    if said:
        return said
    if posix.geteuid() == 0:
        return SYSTEM_CONFIG
    at_home = (environ.get("XDG_CONFIG_HOME") or environ.get("HOME") or "").startswith("/")
    if not at_home and _owner(f"{SYSTEM_CONFIG}/") is not None:
        return SYSTEM_CONFIG
    own = own_config(environ)
    return own if _owner(f"{own}/") is not None else SYSTEM_CONFIG


def own_config(environ: "Mapping[str, str]") -> str:
    """Return where this user's own configuration belongs; root's is the system's."""
    if posix.geteuid() == 0:
        return SYSTEM_CONFIG
    return _of_user(environ, "XDG_CONFIG_HOME", ".config") + "/flipbell/conf.d"


def said_config(option: str | None, environ: "Mapping[str, str]") -> str | None:
    """Return the configuration directory that was named, whole: a courier works elsewhere."""
    said = option or environ.get("FLIPBELL_CONFIG")
    return _absolute(said) if said else None


def keeper(path: str) -> int:
    """Return the first user other than root who owns a part of an absolute path, or 0.

    That user decides what the path leads to, so root must not use it with root's rights. If all
    that exists of it is root's, links and their targets among it, no other user can change that.
    """
    above, names = "", path.split("/")[::-1]
    for _ in range(_LONGEST_WALK):
        if not names:
            break
        name = names.pop()
        if name == "..":
            above = above.rpartition("/")[0]
        if name in ("", ".", ".."):
            continue
        try:
            entry = posix.lstat(f"{above}/{name}")
            if entry.st_uid != 0 and _is_mapped(entry.st_uid):
                return entry.st_uid
            if entry.st_mode & _KIND != _LINK:
                above = f"{above}/{name}"
                continue
            target = posix.readlink(f"{above}/{name}")
        except OSError:  # not there yet, or no directory
            break
        above = "" if target.startswith("/") else above
        names += target.split("/")[::-1]
    return 0


def _is_mapped(user: int) -> bool:
    """Return False for the number that stands for every user unknown to this user namespace."""
    if user != _OVERFLOW:
        return True
    try:
        with open("/proc/self/uid_map", "rb") as file:
            ranges = [[int(number) for number in line.split()] for line in file]
    except (OSError, ValueError):
        return True
    return any(first <= user < first + count for first, _, count in ranges)


def _absolute(path: str) -> str:
    if path.startswith("/") and not {"", ".", ".."}.intersection(path.split("/")[1:]):
        return path
    import os

    try:
        return os.path.abspath(path)
    except FileNotFoundError:  # relative to a working directory that is gone
        return path


def _owner(path: str) -> int | None:
    try:
        return posix.stat(path).st_uid
    except OSError:
        return None


def _of_user(environ: "Mapping[str, str]", variable: str, below_home: str) -> str:
    base = environ.get(variable, "")
    if base.startswith("/"):
        return base
    return f"{_home(environ)}/{below_home}"


def _home(environ: "Mapping[str, str]") -> str:
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return home
    import pwd  # agents often unset HOME; the user still has one

    try:
        return pwd.getpwuid(posix.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"
