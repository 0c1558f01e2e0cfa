"""The recorder: what every front calls. It makes a result durable and sees to a courier.

It reads no configuration and opens no database, so neither can lose a change.
"""

from flipbell import fifo, quiet, spool, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from flipbell.model import CheckResult
    from flipbell.spool import Position


def line(result: "CheckResult") -> bytes:
    """Return the spool's line for a result."""
    return spool.encode(
        _bytes(result.host),
        _bytes(result.check),
        result.status.value,
        # Of the output no more is kept, and encoding megabytes of it would take its time.
        _bytes(result.output[: spool.OUTPUT_LIMIT]),
        result.occurred_at,
        is_dated=result.is_dated,
    )


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "replace")


def record(directory: str, config: str | None, lines: list[bytes]) -> None:
    """Record results that say something new, and see to a courier while anything waits.

    Raises OSError (StateError among them) where they could not be recorded.
    """
    found = {_look(directory, line) for line in lines}
    if quiet.CHANGED in found:
        append(directory, lines)
    elif quiet.WAITING not in found or fifo.is_heard(directory):
        return
    rouse(directory, config)


def _look(directory: str, line: bytes) -> int:
    result = spool.decode(line)
    if result is None:
        return quiet.CHANGED
    _, status, host, check, *_ = result
    return quiet.look(quiet.stamp(quiet.home(directory), host, check), status)


def append(directory: str, lines: "Iterable[bytes]") -> "tuple[Position, Position]":
    """Make lines durable; return where in the spool they begin and end.

    Raises OSError (StateError among them) where they could not be recorded.
    """
    state.prepare(directory)
    return spool.append(directory, b"".join(lines))


def rouse(directory: str, config: str | None) -> int | None:
    """See to a courier; return its process where it was started now.

    That none can be started is logged: others will try again.
    """
    if fifo.wake(directory):  # a courier that leaves closes its FIFO first, under the spool's lock
        return None
    from flipbell import summon

    try:
        return summon.summon(directory, config)
    except OSError as error:
        from flipbell import log

        log.error(f"cannot start a courier for {directory}: {error}")
        return None
