"""Run a command as if nobody stood between it and the agent, and keep the start of its output.

Its stdout goes on byte for byte as it comes. Where the agent gives one file for stdout and
stderr, both go through one pipe, so that their order stays. Signals that ask to end are passed
on. The command dies with us, also when we are killed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` adds enums, which cost more than a run
import errno
import fcntl
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

KEPT = 4096  # bytes of output that are kept
_BLOCK = 1 << 16
_PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_IGNORED_BY_PYTHON = ("SIGPIPE", "SIGXFSZ")  # the command shall not ignore them for that
_LEASH = (99, 10)  # where the command has its end of the leash: out of a script's way, if it can
_SIGNAL_STATUS = 128


def run(
    command: list[str], environment: Mapping[str, str], *, with_stdin: bool
) -> tuple[int, bytes]:
    """Run a command to its end; return its wait status and the start of its output.

    Its stdin is /dev/null unless *with_stdin*. Raises OSError where it cannot be started.
    """
    fill_standard_descriptors()
    signals = _Signals()
    source, sink = os.pipe()
    leash, leash_end = _leash()
    try:
        pid = _spawn(command, environment, _actions(sink, with_stdin=with_stdin))
        signals.command = pid
        _tie(leash, pid)
    finally:
        os.close(sink)
        os.close(leash)
    status, output = _relay(source, signals)
    os.close(leash_end)
    return status, output


def fill_standard_descriptors() -> None:
    """Keep our pipes from becoming stdin, stdout or stderr where an agent closed these."""
    while True:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened > 2:  # noqa: PLR2004  stderr
            os.close(opened)
            return


def _leash() -> tuple[int, int]:
    """Return both ends of a pipe; the command inherits the first."""
    low, end = os.pipe()
    for least in _LEASH:
        try:
            leash = fcntl.fcntl(low, fcntl.F_DUPFD, least)
        except OSError:  # the limit of open files is lower
            continue
        os.close(low)
        return leash, end
    os.set_inheritable(low, True)
    return low, end


def _actions(sink: int, *, with_stdin: bool) -> list[tuple[int | str, ...]]:
    actions: list[tuple[int | str, ...]] = [(os.POSIX_SPAWN_DUP2, sink, 1)]
    if os.path.samestat(os.fstat(1), os.fstat(2)):
        actions.append((os.POSIX_SPAWN_DUP2, sink, 2))
    if not with_stdin:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    return actions


def _spawn(
    command: list[str], environment: Mapping[str, str], actions: list[tuple[int | str, ...]]
) -> int:
    reset = [getattr(_signal, name) for name in _IGNORED_BY_PYTHON]
    try:
        return os.posix_spawnp(
            command[0], command, environment, file_actions=actions, setsigdef=reset
        )
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without a `#!` line, which execvp and every shell would give to sh.
    script = ["/bin/sh", *command]
    return os.posix_spawn(script[0], script, environment, file_actions=actions, setsigdef=reset)


def _tie(leash: int, pid: int) -> None:
    """Have the kernel kill the command when the leash's other end, which only we hold, closes.

    The command holds this end, so it stays open after our death, however that came. Where the
    system has no F_SETSIG, a wrapper that is killed leaves its check running.
    """
    if hasattr(fcntl, "F_SETSIG") or os.uname().sysname == "Linux":
        fcntl.fcntl(leash, fcntl.F_SETOWN, pid)
        fcntl.fcntl(leash, getattr(fcntl, "F_SETSIG", 10), _signal.SIGKILL)
        flags = fcntl.fcntl(leash, fcntl.F_GETFL)
        fcntl.fcntl(leash, fcntl.F_SETFL, flags | os.O_ASYNC)


class _Signals:
    """Passes signals on to the command, and makes its death readable beside its output."""

    def __init__(self) -> None:
        self.command: int | None = None
        self._early: list[int] = []
        self.woken, waker = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(waker, False)
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        for name in _PASSED_ON:
            number = getattr(_signal, name)
            if _signal.getsignal(number) != _signal.SIG_IGN:  # as nohup has it
                _signal.signal(number, self._pass_on)

    def _pass_on(self, number: int, _frame: object) -> None:
        if self.command is None:
            self._early.append(number)
        elif self.command:
            os.kill(self.command, number)

    def ended(self) -> int | None:
        """Return the command's wait status once it has ended."""
        assert self.command is not None
        while self._early:
            os.kill(self.command, self._early.pop())
        _drop(self.woken)
        pid, status = os.waitpid(self.command, os.WNOHANG)
        if not pid:
            return None
        self.command = 0  # its number may belong to another process from now on
        return status


def _relay(source: int, signals: _Signals) -> tuple[int, bytes]:
    """Write what the command writes, until it has ended and its output is written."""
    events = select.poll()
    events.register(signals.woken, select.POLLIN)
    events.register(source, select.POLLIN)
    output = b""
    is_open = True
    status = signals.ended()
    while status is None:
        for descriptor, _ in events.poll():
            if descriptor == signals.woken:
                status = signals.ended()
                continue
            block = _pass(source)
            output = _kept(output, block)
            if not block:
                events.unregister(source)
                os.close(source)
                is_open = False
    if is_open:
        output = _rest(source, output)
    return status, output


def _pass(source: int) -> bytes:
    """Write the next block of the command's output; return b"" where no more is to be had."""
    block = os.read(source, _BLOCK)
    if block and not write(1, block):
        return b""  # nobody reads it: with our end of its pipe closed, the command learns that
    return block


def _kept(output: bytes, block: bytes) -> bytes:
    return output if len(output) >= KEPT else (output + block)[:KEPT]


def _rest(source: int, output: bytes) -> bytes:
    """Write what an ended command left in its pipe.

    Something that it left running may hold the pipe's other end. The agent would see the command
    end now and its output later, so a child stays behind for that output.
    """
    os.set_blocking(source, False)
    while True:
        try:
            block = _pass(source)
        except BlockingIOError:
            break
        output = _kept(output, block)
        if not block:
            os.close(source)
            return output
    try:
        child = os.fork()
    except OSError:  # no room for another process: then the answer has to wait for the output
        child = None
    if not child:
        _linger(source, is_child=child == 0)
    os.close(source)
    return output


def _linger(source: int, *, is_child: bool) -> None:
    if is_child:
        for name in _PASSED_ON:
            _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
        os.close(0)
        os.close(2)
    os.set_blocking(source, True)
    while _pass(source):
        pass
    if is_child:
        os._exit(0)


def write(file: int, content: bytes) -> bool:
    """Write all of it, also to a file that does not block; return False where nobody reads it."""
    while content:
        try:
            content = content[os.write(file, content) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(file, select.POLLOUT)
            writable.poll()
        except OSError:
            return False
    return True


def _drop(file: int) -> None:
    try:
        while os.read(file, _BLOCK):
            pass
    except BlockingIOError:
        return


def end_as(status: int) -> NoReturn:
    """End as the command ended: by the same exit status or of the same signal."""
    if os.WIFSIGNALED(status):
        _die_of(os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _die_of(number: int) -> NoReturn:
    import resource  # the core would be ours, not the command's

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(_SIGNAL_STATUS + number)  # where a signal does not end a process
