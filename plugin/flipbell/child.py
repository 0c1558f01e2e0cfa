"""Start a command as an agent would: its environment, its descriptors and its signals.

All of this comes before a check runs, so it is short, and uses `posix` and `_signal` alone.
"""

import _signal  # type: ignore[import-not-found]  # `signal` adds enums, which cost more than a run
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PASSED_ON = [
    getattr(_signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
]
_IGNORED_BY_PYTHON = [_signal.SIGPIPE, _signal.SIGXFSZ]  # the command shall not, for that
_NULL = "/dev/null"
_LEASH = (99, 98, 97)  # where the command has its end of the leash: out of a script's way
_ADDED = ("C.UTF-8", "C.utf8", "UTF-8")
_KEY = b"token_env"
_ENVIRON = "/proc/self/environ"
# Of the fields of /proc/self/stat behind the program's name: where its environment lies.
_ENV_START, _ENV_END = 47, 48
_USUAL, _MOST = 1 << 14, 1 << 20  # bytes of a configuration file
_SUFFIXES = (".yaml", ".yml")


class Child:
    """A command that runs: *source* is what it writes, *leash* what it and we hold of the leash.

    The signals that are to be passed on are blocked until `relay` takes care of them; *mask* is
    what was blocked before.
    """

    def __init__(self, pid: int, source: int, leash: tuple[int, int], mask: "set[int]") -> None:
        self.pid = pid
        self.source = source
        self.leash = leash
        self.mask = mask


def start(command: list[str], environment: "Mapping[str, str]", *, with_stdin: bool) -> Child:
    """Start a command.

    Its stdin is /dev/null unless *with_stdin*. Raises OSError where it cannot be started.
    """
    fill_standard_descriptors()
    _signal.signal(_signal.SIGCHLD, lambda *_: None)  # ignored, it would take the status with it
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, PASSED_ON)
    source, sink = posix.pipe()
    leash = _leash()
    try:
        pid = _spawn(command, environment, _actions(sink, with_stdin=with_stdin), mask)
    except OSError:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        raise
    finally:
        posix.close(sink)
    return Child(pid, source, leash, mask)


def fill_standard_descriptors() -> None:
    """Keep our pipes from becoming stdin, stdout or stderr where an agent closed these."""
    while True:
        opened = posix.open(_NULL, posix.O_RDWR)
        if opened > 2:  # noqa: PLR2004  stderr
            posix.close(opened)
            return


def _leash() -> tuple[int, int]:
    """Return both ends of a pipe; the command inherits the first."""
    low, end = posix.pipe()
    for number in _LEASH:
        try:
            posix.fstat(number)
        except OSError:  # free
            try:
                posix.dup2(low, number)
            except OSError:  # the limit of open files is lower
                break
            posix.close(low)
            return number, end
    posix.set_inheritable(low, True)
    return low, end


def _actions(sink: int, *, with_stdin: bool) -> list[tuple[int | str, ...]]:
    actions: list[tuple[int | str, ...]] = [(posix.POSIX_SPAWN_DUP2, sink, 1)]
    out, err = posix.fstat(1), posix.fstat(2)
    if (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino):
        actions.append((posix.POSIX_SPAWN_DUP2, sink, 2))
    if not with_stdin:
        actions.append((posix.POSIX_SPAWN_OPEN, 0, _NULL, posix.O_RDONLY, 0))
    return actions


def _spawn(
    command: list[str],
    environment: "Mapping[str, str]",
    actions: list[tuple[int | str, ...]],
    mask: "set[int]",
) -> int:
    try:
        return posix.posix_spawnp(
            command[0],
            command,
            environment,
            file_actions=actions,
            setsigdef=_IGNORED_BY_PYTHON,
            setsigmask=mask,
        )
    except OSError as error:
        import errno

        if error.errno != errno.ENOEXEC:
            raise
    # A script without a `#!` line, which execvp and every shell would give to sh.
    script = ["/bin/sh", _found(command[0], environment), *command[1:]]
    return _spawn(script, environment, actions, mask)


def _found(name: str, environment: "Mapping[str, str]") -> str:
    """Return the path of a program, which sh would not look for along PATH."""
    if "/" not in name:
        for directory in environment.get("PATH", "").split(":"):
            path = f"{directory or '.'}/{name}"
            if posix.access(path, posix.X_OK):
                return path
    return name


# The environment: as the agent gave it, but for the variables that hold a room's token. Only their
# names are looked for, as text, for `run` must not parse YAML, and a configuration with a mistake
# in it must not give a token away either.


def environment(environ: "Mapping[str, str]", config: str, before: str = "") -> dict[str, str]:
    """Return the environment for a command, by that of ours and the configuration directory.

    *before* is the line of /proc/self/stat of the shell that started us, or empty.
    """
    hidden = {*_token_names(config), *_added_by_python(environ), *_added_by_shell(environ, before)}
    return {name: value for name, value in environ.items() if name not in hidden}


def _added_by_python(environ: "Mapping[str, str]") -> "Iterator[str]":
    """Yield LC_CTYPE where Python added it, as it does where the agent has no locale."""
    if environ.get("LC_CTYPE") in _ADDED:
        given = b"\0" + _content(_ENVIRON)
        if b"\0LC_CTYPE=" not in given and given != b"\0":
            yield "LC_CTYPE"


def _added_by_shell(environ: "Mapping[str, str]", before: str) -> "Iterator[str]":
    """Yield PWD if the shell added it, as POSIX has shells do.

    That is so if its environment has grown by just this variable. If the shell changed more (bash
    sets SHLVL, and dash leaves out names that are none for it), what it added stays.
    """
    fields = before.rpartition(")")[2].split()
    if "PWD" not in environ or len(fields) <= _ENV_END:
        return
    size = int(fields[_ENV_END]) - int(fields[_ENV_START])
    added = len(f"PWD={environ['PWD']}\0".encode(errors="surrogateescape"))
    if len(_content(_ENVIRON)) == size + added:
        yield "PWD"


def _token_names(config: str) -> "Iterator[str]":
    try:
        files = [name for name in posix.listdir(config) if name.endswith(_SUFFIXES)]
    except OSError:  # no configuration names no variable
        return
    for name in files:
        yield from _names_in(_content(f"{config}/{name}"))


def _content(path: str) -> bytes:
    try:
        opened = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return b""
    try:
        content = posix.read(opened, _USUAL)
        return content if len(content) < _USUAL else content + posix.read(opened, _MOST)
    except OSError:  # a directory
        return b""
    finally:
        posix.close(opened)


def _names_in(content: bytes) -> "Iterator[str]":
    """Yield the word after each `token_env`, whatever quotes and punctuation stand between."""
    for piece in content.split(_KEY)[1:]:
        word = piece[:200].lstrip(b"\"' \t\r\n:>|-").split(maxsplit=1)
        if word:
            yield word[0].rstrip(b"\"',}").decode("ascii", "replace")
