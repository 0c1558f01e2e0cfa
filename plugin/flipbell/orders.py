r"""Orders to the courier about channels, as lines of the spool.

A line is `time rename OLD NEW ` or `time drop NAME  `, parted by tabs. There is a word in the
place of the status, which a courier that does not know it takes for a torn line and leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

from flipbell import spool

_RENAME, _DROP = b"rename", b"drop"
DROPPED = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A channel is to go on under the name of its *successor*, or (DROPPED) to be dropped."""

    name: str
    successor: str


def encode(order: Order, now: float) -> bytes:
    """Return the spool's line; *now* is in seconds since the epoch."""
    plain = spool.encode(order.name.encode(), order.successor.encode(), 0, b"", now)
    time, _, rest = plain.split(b"\t", 2)
    return b"\t".join((time, _DROP if order.successor == DROPPED else _RENAME, rest))


def decode(line: bytes) -> Order | None:
    """Return the order that a line holds, or None for any other line."""
    time, _, rest = line.partition(b"\t")
    word, _, rest = rest.partition(b"\t")
    if word not in (_RENAME, _DROP):
        return None
    result = spool.decode(b"\t".join((time, b"0", rest)))
    if result is None or (result[3] == DROPPED) is not (word == _DROP):
        return None
    return Order(result[2], result[3])
