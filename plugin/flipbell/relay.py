"""Stand between a command and the agent as if nothing did, and keep the start of its output.

Its stdout goes on byte for byte as it comes. Where the agent gives one file for stdout and
stderr, both go through one pipe, so that their order stays. Signals that ask to end are passed
on. The command dies with us, also when we are killed.

This is loaded for every check, while it already runs: `posix` has what is needed of `os`, which
costs as much as all the rest of an unchanged run.
"""

import _signal  # type: ignore[import-not-found]  # `signal` adds enums, which cost more than a run
import fcntl
import posix
import select

from flipbell.child import PASSED_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from flipbell.child import Child

_KEPT = 4096  # bytes of output that are kept
_BLOCK = 1 << 16
_FITS = 4096  # bytes that a pipe takes without waiting once it takes any
_MUCH = 1 << 20  # bytes of output after which a command counts as one that writes much


class Relay:
    """Stands between a command that was just started and the agent."""

    def __init__(self, child: "Child") -> None:
        leash, self._leash = child.leash
        _tie(leash, child.pid)
        posix.close(leash)
        self._source = child.source
        self._command = child.pid
        self._output = b""
        self._passed = 0
        self._fits = _FITS
        self._move: Callable[[int, int], int] | None = None
        self._status: int | None = None
        self._is_interrupted = False
        self._woken = self._take_signals()
        self._agent = select.poll()
        self._agent.register(1, select.POLLOUT)
        self._agent.register(self._woken, select.POLLIN)
        # Blocked by the agent, the command's death would wake no process.
        _signal.pthread_sigmask(_signal.SIG_SETMASK, {*child.mask} - {_signal.SIGCHLD})

    def _take_signals(self) -> int:
        """Pass signals on to the command; return what its death makes readable."""
        woken, waker = posix.pipe()
        posix.set_blocking(woken, False)
        posix.set_blocking(waker, False)
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in PASSED_ON:
            if _signal.getsignal(number) != _signal.SIG_IGN:  # as nohup has it
                _signal.signal(number, self._pass_on)
        return woken

    def _pass_on(self, number: int, _frame: object) -> None:
        self._is_interrupted = True
        try:
            if self._command:
                posix.kill(self._command, number)
        except OSError:  # it is just ending, or has become a user whom we may not disturb
            return

    def finish(self) -> tuple[int, bytes]:
        """Pass on what the command writes until it ends.

        Return its wait status and the start of its output.
        """
        events = select.poll()
        events.register(self._woken, select.POLLIN)
        events.register(self._source, select.POLLIN)
        is_open = True
        self._look()
        while self._status is None:
            for descriptor, _ in events.poll():
                if descriptor == self._woken:
                    self._look()
                elif not self.pass_block():
                    events.unregister(self._source)
                    posix.close(self._source)
                    is_open = False
        if is_open:
            self._pass_rest()
        posix.close(self._leash)
        return self._status, self._output

    def _pass_rest(self) -> None:
        """Pass on what an ended command left in its pipe."""
        readable = select.poll()
        readable.register(self._source, select.POLLIN)
        while readable.poll(0):
            if not self.pass_block():
                break
        else:  # something that it left running may write more
            from flipbell import remains

            remains.pass_on(self, readable)
        posix.close(self._source)

    def _look(self) -> None:
        """Look whether the command has ended."""
        try:
            while posix.read(self._woken, _BLOCK):
                pass
        except BlockingIOError:
            pass
        if self._status is None:
            pid, status = posix.waitpid(self._command, posix.WNOHANG)
            if pid:
                self._command = 0  # its number may belong to another process from now on
                self._status = status

    def pass_block(self) -> bool:
        """Pass on what the command has written; return False if there is no more, or no reader.

        It is called only when there is something to read, or the end of it.
        """
        # Once the agent's end is closed, so is ours of the command's pipe: the command learns it.
        if self._move is not None:
            return self._pass_by(self._move)
        block = posix.read(self._source, _BLOCK)
        if len(self._output) < _KEPT:
            self._output = (self._output + block)[:_KEPT]
        self._passed += len(block)
        if self._passed - len(block) < _MUCH <= self._passed:
            self._expect_much()
        return bool(block) and self._write(block)

    def _expect_much(self) -> None:
        """Prepare for a command that goes on writing much."""
        from flipbell import flood

        flood.widen(self._source)
        if flood.can_splice(1):
            self._move = flood.splice
        if flood.never_waits(1):
            self._fits = _BLOCK

    def _pass_by(self, move: "Callable[[int, int], int]") -> bool:
        """Have the kernel move the command's output to the agent, while there is any."""
        try:
            while self._is_writable():
                if not move(self._source, 1):
                    return False
                if self._status is not None:
                    return True
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        except OSError:  # not between these two, as to a file that is only appended to
            self._move = None
            return self.pass_block()
        return False

    def _write(self, block: bytes) -> bool:
        """Write to the agent; return False if it does not read, or no longer needs to."""
        while block:
            if not self._is_writable():
                return False
            try:
                block = block[posix.write(1, block[: self._fits]) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    def _is_writable(self) -> bool:
        """Wait until the agent takes output, or has closed its end.

        Return False once the agent has interrupted the command, and that has ended: what does not
        fit is left, because the command would have died with it.
        """
        while True:
            is_over = self._status is not None and self._is_interrupted
            ready = dict(self._agent.poll(0 if is_over else None))
            if self._woken in ready:
                self._look()
            if 1 in ready:
                return True
            if is_over:
                return False


def _tie(leash: int, pid: int) -> None:
    """Have the kernel kill the command when the leash's other end, which only we hold, closes.

    The command holds this end, so it stays open after our death, however that came. Where the
    system has no F_SETSIG, a wrapper that is killed leaves its check running.
    """
    if hasattr(fcntl, "F_SETSIG") or posix.uname().sysname == "Linux":
        fcntl.fcntl(leash, fcntl.F_SETOWN, pid)
        fcntl.fcntl(leash, getattr(fcntl, "F_SETSIG", 10), _signal.SIGKILL)
        flags = fcntl.fcntl(leash, fcntl.F_GETFL)
        fcntl.fcntl(leash, fcntl.F_SETFL, flags | posix.O_ASYNC)


def write(file: int, content: bytes) -> bool:
    """Write all of it, also to a file that does not block; return False if no process reads it."""
    while content:
        try:
            content = content[posix.write(file, content) :]
        except BlockingIOError:
            writable = select.poll()
            writable.register(file, select.POLLOUT)
            writable.poll()
        except OSError:
            return False
    return True


def end_as(status: int) -> "NoReturn":
    """End as the command ended: by the same exit status or of the same signal."""
    if posix.WIFSIGNALED(status):
        from flipbell import remains

        remains.die_of(posix.WTERMSIG(status))
    posix._exit(posix.WEXITSTATUS(status))
