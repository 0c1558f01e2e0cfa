"""Record a result aside from the agent: in a child, which can be left behind where it takes long.

A stuck lock or a dying disk can block a system call for minutes; the agent waits two seconds.
"""

import posix
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flipbell.quiet import Check

LIMIT = 2000  # milliseconds by which recording may delay the check's answer


def record(check: "Check", status: int, output: bytes) -> None:
    """Record the result of a check that has just ended, and see to a courier.

    Whatever goes wrong is logged: the check's answer is sacred.
    """
    occurred_at = time.time()
    try:
        done, doing = posix.pipe()
        child = posix.fork()
    except OSError:  # no room for another process: better late than lost
        _record(check, status, output, occurred_at)
        return
    if child == 0:
        try:
            _leave_the_agent()
            _record(check, status, output, occurred_at)
        finally:
            posix._exit(0)
    posix.close(doing)
    ended = select.poll()
    ended.register(done, select.POLLIN)
    if ended.poll(LIMIT):
        posix.waitpid(child, 0)  # or an agent that is its own init would gather the dead


def _leave_the_agent() -> None:
    """Hold nothing that the agent waits for, and do not die with the check's process group."""
    posix.setsid()
    posix.umask(posix.umask(0o077) & 0o077)  # one that takes our own rights away is of no use
    _raise_soft_limits()
    null = posix.open("/dev/null", posix.O_RDWR)
    for descriptor in (0, 1, 2):
        posix.dup2(null, descriptor)


def _raise_soft_limits() -> None:
    """Let no soft limit of the check keep its result from being recorded."""
    import resource

    for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_NOFILE):
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (hard, hard))


def _record(check: "Check", status: int, output: bytes, occurred_at: float) -> None:
    try:
        from flipbell import recorder, spool

        if posix.geteuid() == 0:
            from flipbell import identity

            identity.become_owner(check.state)
        line = spool.encode(check.host, check.name, status, output, occurred_at)
        recorder.record(check.state, check.config, [line])
    except Exception as error:  # noqa: BLE001  whatever broke here must not reach the agent
        import os

        from flipbell import log

        host, name = os.fsdecode(check.host), os.fsdecode(check.name)
        log.error(f"not recorded: {name} on {host}: {error}")
