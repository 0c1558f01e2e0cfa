"""Run by the benchmark in flipbell's own environment: the CPU of one request, by what waits."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

from flipbell import state
from flipbell.channels.hipchat import HipChatSender, HipChatSettings
from flipbell.channels.token import Token
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.model import Channel, Outcome, Status, Verdict
from flipbell.settling import Settling
from flipbell.turns import Turns

CHANNEL = Channel(
    name="ops",
    type="hipchat",
    send=frozenset(Status),
    notify=frozenset(),
    color=dict.fromkeys(Status, "red"),
    mention={},
)
REQUESTS = 15


class Room:
    """The one room, to which nothing is sent."""

    channels = {"ops": CHANNEL}  # noqa: RUF012  as the configuration has it

    def room(self, _: Channel) -> str:
        """Return its name."""
        return "room"

    def sender(self, _: Channel) -> HipChatSender:
        """Return what would send."""
        return HipChatSender(HipChatSettings("http://127.0.0.1:1", "1", Token(inline="x")))

    def concerns(self, _: str) -> bool:
        """Return whether the channel is configured."""
        return True


def costs(waiting: int) -> list[float]:
    """Return the CPU seconds of requests, each a digest, while so many changes wait."""
    directory = f"{tempfile.mkdtemp()}/state"
    state.prepare(directory)
    ledger = Ledger.open(directory)
    room: Any = Room()
    turns, settling = Turns(ledger, room, Extensions()), Settling(ledger, room)
    now = 2e9
    with ledger.transaction():
        ledger.enroll("ops", 0)
        _fill(ledger, waiting)
    times = []
    for _ in range(REQUESTS):
        now += 100
        with ledger.transaction():
            left = ledger.last_transition() - ledger.channels()[0].cursor
            _fill(ledger, waiting - left)
        begun = time.process_time()
        with ledger.transaction():
            (job,) = turns.next_jobs((), now)
        turns.next_at((), now)
        turns.undelivered()
        with ledger.transaction():
            settling.settle("ops", job.transition, Outcome(Verdict.DELIVERED), now)
        times.append(time.process_time() - begun)
    ledger.close()
    return times


def _fill(ledger: Ledger, count: int) -> None:
    """Record as many changes of a thousand checks."""
    first = ledger.last_transition()
    lines = [
        (1e9 + n, 1 + n // 1000 % 2, f"h{n % 50}", f"c{n // 50 % 20}", "some output " * 5, False)
        for n in range(first, first + count)
    ]
    ledger.take(lines, ("spool", first + count), now=2e9)


if __name__ == "__main__":
    print(json.dumps({size: costs(int(size)) for size in sys.argv[1:]}))
