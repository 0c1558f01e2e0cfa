r"""Orders to the courier, as lines of the spool: what is to become of a channel or a message.

A line is `time rename OLD NEW `, `time drop NAME  ` or `time dismiss CHANNEL NUMBER `, parted by
tabs. There is a word in the place of the status, which a courier that does not know it takes for a
torn line and leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass

from flipbell import spool

_RENAME, _DROP, _DISMISS = b"rename", b"drop", b"dismiss"
DROPPED = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A channel is to go on under the name of its *successor*, or (DROPPED) to be dropped."""

    name: str
    successor: str


@dataclass(frozen=True, slots=True)
class Dismissal:
    """A message that was given up, by its channel and transition, is to leave the list."""

    channel: str
    transition: int


def encode(order: Order | Dismissal, now: float) -> bytes:
    """Return the spool's line; *now* is in seconds since the epoch."""
    if isinstance(order, Dismissal):
        word, name, value = _DISMISS, order.channel, str(order.transition)
    else:
        word = _DROP if order.successor == DROPPED else _RENAME
        name, value = order.name, order.successor
    plain = spool.encode(name.encode(), value.encode(), 0, b"", now)
    time, _, rest = plain.split(b"\t", 2)
    return b"\t".join((time, word, rest))


def decode(line: bytes) -> Order | Dismissal | None:
    """Return the order that a line holds, or None for any other line."""
    time, _, rest = line.partition(b"\t")
    word, _, rest = rest.partition(b"\t")
    if word not in (_RENAME, _DROP, _DISMISS):
        return None
    result = spool.decode(b"\t".join((time, b"0", rest)))
    if result is None:
        return None
    name, value = result[2], result[3]
    if word == _DISMISS:
        return Dismissal(name, int(value)) if value.isdecimal() else None
    return Order(name, value) if (value == DROPPED) is (word == _DROP) else None
