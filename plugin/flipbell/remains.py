"""What a command may leave behind: output that something holds open, and a death by a signal."""

import _signal  # type: ignore[import-not-found]  # as relay has it
import posix

from flipbell.child import PASSED_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from select import poll
    from typing import NoReturn

    from flipbell.relay import Relay

_SIGNAL_STATUS = 128


def pass_on(relay: "Relay", readable: "poll") -> None:
    """Leave a child behind for the output of what an ended command left running.

    The agent would see the command end now and its output later, so it does. *readable* waits for
    that output.
    """
    try:
        child = posix.fork()
    except OSError:  # no room for another process: then the answer has to wait for the output
        _pass_all(relay, readable)
        return
    if child:
        return
    for number in PASSED_ON:
        _signal.signal(number, _signal.SIG_DFL)
    posix.close(0)
    posix.close(2)
    _pass_all(relay, readable)
    posix._exit(0)


def _pass_all(relay: "Relay", readable: "poll") -> None:
    while readable.poll() and relay.pass_block():
        pass


def die_of(number: int) -> "NoReturn":
    """Die of a signal, as the command did."""
    import resource  # the core would be ours, not the command's

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
    posix.kill(posix.getpid(), number)
    posix._exit(_SIGNAL_STATUS + number)  # where a signal does not end a process
