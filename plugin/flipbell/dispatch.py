"""Requests under way: each in a thread of its own, so that a room that hangs delays no other."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from flipbell.channels import not_begun
from flipbell.model import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipbell.rooms import Rooms
    from flipbell.turns import Job

    Answer = tuple[Job, Outcome]

_PATIENCE = 180.0  # seconds that one request may take, whatever the channel's own limit
_ENDLESS = Outcome(Verdict.UNKNOWN, "no end of the answer in three minutes")


class Dispatch:
    """Makes requests and collects their answers, which the caller settles."""

    def __init__(self, rooms: Rooms, wake: Callable[[], None]) -> None:
        """Call *wake*, from another thread, when an answer has come."""
        self._rooms = rooms
        self._wake = wake
        self._under_way: dict[str, Job] = {}
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.unsettled: list[Answer] = []

    @property
    def is_active(self) -> bool:
        """Whether a request is under way, or has ended and is not settled."""
        return bool(self._under_way or self.unsettled)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._under_way)

    @property
    def busy(self) -> set[str]:
        """The channels with a request under way."""
        return set(self._under_way)

    @property
    def jobs(self) -> list[Job]:
        """Every request that is under way or not settled."""
        return [*self._under_way.values(), *(job for job, _ in self.unsettled)]

    def send(self, job: Job) -> None:
        """Make a request."""
        self._under_way[job.channel] = job
        try:
            threading.Thread(target=self._deliver, args=(job,), daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            self._answers.put((job, not_begun(error)))
            self._wake()

    def _deliver(self, job: Job) -> None:
        try:
            outcome: object = (
                job.sender.ask() if job.notification is None else job.sender.send(job.notification)
            )
        except (ImportError, MemoryError) as error:
            outcome = not_begun(error)
        except Exception as error:  # noqa: BLE001  a channel type's mistake must not end all others
            outcome = f"the channel type failed ({type(error).__name__})"
        if not isinstance(outcome, Outcome):
            outcome = Outcome(Verdict.UNKNOWN, f"no outcome: {outcome}")
        self._answers.put((job, outcome))
        self._wake()

    def collect(self) -> None:
        """Move what was answered to *unsettled*, and what takes too long as well."""
        while not self._answers.empty():
            job, outcome = self._answers.get()
            # Not one that was given up meanwhile.
            if self._under_way.get(job.channel) is job:
                self._end(job, outcome)
        for job in [*self._under_way.values()]:
            # A server may answer a byte at a time.
            if time.monotonic() - job.begun > _PATIENCE:
                self._rooms.drop_sender(job.channel)
                self._end(job, _ENDLESS)

    def _end(self, job: Job, outcome: Outcome) -> None:
        del self._under_way[job.channel]
        self.unsettled.append((job, outcome))

    def abandon(self) -> None:
        """Expect no more answers. A thread may use its connection still, so that is left to it."""
        for channel in self._under_way:
            self._rooms.drop_sender(channel)
        self._under_way.clear()
        self.unsettled.clear()
