"""Start a courier where none lives.

A front that starts a courier takes the courier's lock first and hands it over, so that two hundred
changes at once start one.
"""

import _signal  # type: ignore[import-not-found]  # `signal` adds enums, which cost more than a run
import sys

from flipbell import places, state, unfinished, unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HANDED_OVER = 3  # the descriptor on which a courier finds its lock
_OUT_OF_THE_WAY = 10
_HEARD = ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD")


def summon(directory: str, config: str | None) -> int | None:
    """Start a courier, unless one is about to listen; return its process where it was started now.

    Raises OSError where none can be started.
    """
    import os

    _note(directory, unfinished.expect)
    if os.environ.get("FLIPBELL_COURIER") == "off" or not sys.executable:
        return None
    from flipbell import detach

    if detach.is_hopeless(directory):
        return None
    held = state.try_lock(directory, state.COURIER_LOCK)
    if held is None:  # it starts just now, and looks at the spool first
        return None
    try:
        # Not left to the courier: systemd may kill it before Python has loaded flipbell.
        _note(directory, lambda place: unfinished.count(place, unit.of()))
        return _start(held, directory, config)
    finally:
        os.close(held)


def _note(directory: str, write: "Callable[[str], None]") -> None:
    """Write down what concerns a courier; that it fails must not keep one from starting."""
    try:
        write(directory)
    except OSError as error:
        from flipbell import log

        log.warning(f"state directory {directory}: {state.UNFINISHED}: {error}")


def _start(held: int, directory: str, config: str | None) -> int:
    import fcntl
    import os

    main = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    command = [sys.executable, "-I", main, "courier", "--handed-over", "--state", directory]
    config = places.said_config(config, os.environ)
    if config is not None:
        command += ["--config", config]
    lock = fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    try:
        return os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            setsid=True,
            file_actions=_descriptors(lock),
            # Whatever the agent blocks; a SIGTERM waits until the courier can handle it.
            setsigmask=[_signal.SIGTERM],
            setsigdef=[signal for name, signal in vars(_signal).items() if name in _HEARD],
        )
    finally:
        os.close(lock)


def _descriptors(lock: int) -> list[tuple[int | str, ...]]:
    """Give the courier its lock and nothing of the agent's, which may wait for a pipe to close."""
    import os

    leaked = [fd for fd, _ in state.open_descriptors() if os.get_inheritable(fd)]
    return [
        *((os.POSIX_SPAWN_CLOSE, fd) for fd in leaked),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
        (os.POSIX_SPAWN_DUP2, lock, HANDED_OVER),
    ]
