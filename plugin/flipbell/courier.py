"""The courier: takes results from the spool, decides who hears of them, and delivers.

There is one for each state directory, and only it writes the ledger. Its own thread does all of
that; each request to a room runs in a thread of its own, so that a room that hangs delays nobody.
"""

from __future__ import annotations

import math
import os
import queue
import random
import select
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from flipbell import fifo, log, reset, spool, state, unfinished, unit
from flipbell.binding import claim_config
from flipbell.ledger import Ledger
from flipbell.model import Outcome, Stage, Verdict
from flipbell.stamps import Stamps
from flipbell.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipbell.extensions import Extensions
    from flipbell.rooms import Rooms
    from flipbell.turns import Job, Settled

_ROTATE_AT = 1 << 18  # bytes
_LOOK = 2.0  # seconds between looks at the configuration while something is undelivered
_REST = 60.0  # seconds that a courier sleeps at most
_SOON = 0.1  # seconds until another look at a configuration, or a spool, that is being written
_AFTER_ERROR = 2.0
_PRUNE_EVERY = 3600.0
_SHORTEST = 0.01
_LAST_WORDS = 0.8  # seconds that requests under way have when the courier is told to stop
_WIND_UP = 4.0  # seconds that a courier which is told to end delivers what is due, before those
_PATIENCE = 180.0  # seconds that one request may take, whatever the channel's own limit
_ENDLESS = Outcome(Verdict.UNKNOWN, "no end of the answer in three minutes")
_INTERRUPTED = Outcome(Verdict.UNKNOWN, "flipbell died while it was sending")


class Courier:
    """Delivers for one state directory. The caller holds the courier's lock, and hands it over."""

    def __init__(
        self,
        directory: str,
        rooms: Rooms,
        extensions: Extensions,
        *,
        lock: int,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._directory = directory
        self._extensions = extensions
        self._rooms = rooms
        self._lock = lock
        self._clock = clock
        self._chance = chance
        self._ledger: Ledger | None = None
        self._reader = spool.Reader(directory)
        self._under_way: dict[str, Job] = {}
        self._answers: queue.SimpleQueue[tuple[Job, Outcome]] = queue.SimpleQueue()
        self._unsettled: list[tuple[Job, Outcome]] = []
        self._failed: set[str] = set()
        self._left: set[str] = set()
        self._stamps = Stamps(directory)
        self._is_stamped = False
        self._impatient = False
        self._stopping = False
        self._yields = False
        self._ends_at = math.inf
        self._has_left = False
        self.complaint = ""  # why the state cannot be used, as last tried
        self._is_flush = False
        self._registered = False
        self._fifo = -1
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self, *, stay: bool, yields: bool = False) -> bool:
        """Deliver until nothing is undelivered, or until `stop` where the courier is to *stay*.

        One that *yields* was started, and counted, by a front; it winds up if a service's courier
        asks for its place. Return whether it left because all was done. Raises LedgerError where
        the state directory is not for this configuration or version.
        """
        self._yields = yields
        self._count_itself()
        self._live(lambda: not stay and self._is_idle())
        return self._has_left

    def flush(self) -> bool:
        """Try everything now, ignoring our own back-off; return whether nothing is left."""
        self._impatient = self._is_flush = True
        self._live(lambda: self._undelivered() <= self._failed | self._out_of_reach())
        return not self._stopping and not self._left and not self.complaint

    def stop(self) -> None:
        """Make `run` return within a second; for any thread and any signal handler."""
        self._stopping = True
        self._poke()

    def wind_up(self) -> None:
        """Make `run` deliver what is due and return within five seconds; as `stop`, for any thread.

        What cannot be sent yet is left to the next courier.
        """
        self._ends_at = min(self._ends_at, time.monotonic() + _WIND_UP)
        self._poke()

    def _count_itself(self) -> None:
        try:
            unfinished.count(self._directory, unit.of(), 0 if self._yields else 1)
        except OSError as error:  # the disk is full; the courier may still deliver
            log.warning(f"state directory {self._directory}: {state.UNFINISHED}: {error}")

    def _poke(self) -> None:
        try:
            os.write(self._waker, b"\n")
        except (BlockingIOError, OSError):  # full, or the courier has ended already
            return

    def _live(self, is_done: Callable[[], bool]) -> None:
        try:
            self._fifo = fifo.listen(self._directory)
            while not self._stopping and self._is_in_place():
                pause = self._try_to_work()
                if self._is_flush and self.complaint:
                    return
                if pause > 0 and self._may_leave(is_done):
                    return
                time_left = self._ends_at - time.monotonic()
                if time_left <= 0 or self._is_wound_up(pause):
                    break
                self._sleep(min(pause, time_left))
            self._close_fifo()
            self._say_last_words()
            if self._is_in_place():
                self._may_leave(self._is_idle)
        finally:
            for channel in self._under_way:  # its thread may use the connection still
                self._rooms.drop_sender(channel)
            if self._ledger is not None:
                self._ledger.close()
            for descriptor in (self._fifo, self._lock, self._woken, self._waker):
                if descriptor >= 0:
                    os.close(descriptor)

    def _is_in_place(self) -> bool:
        """Return whether the lock that is held is still the state directory's."""
        try:
            there = os.stat(f"{self._directory}/{state.COURIER_LOCK}")
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._lock))

    def _is_wound_up(self, pause: float) -> bool:
        """Return whether a courier that was told to end has nothing to do now."""
        return self._ends_at < math.inf and pause > 0 and not self._is_sending

    @property
    def _is_sending(self) -> bool:
        return bool(self._under_way or self._unsettled)

    def _is_idle(self) -> bool:
        """Return whether nothing of what was taken is outstanding.

        A channel that is missing from a file which was just written may be there in a moment.
        """
        return not self._is_sending and self._rooms.is_at_rest and not self._undelivered()

    def _may_leave(self, is_done: Callable[[], bool]) -> bool:
        """Free the courier's lock if all is done and nothing was recorded meanwhile."""
        if self._ledger is None or self._is_sending or not self._is_stamped:
            return False
        try:
            return is_done() and self._leave()
        except (sqlite3.Error, OSError) as error:
            self._complain(f"state directory {self._directory}: {error}")
            return False

    def _leave(self) -> bool:
        """Free the lock under that of the spool: who records next finds this courier or none."""
        held = state.lock(self._directory, state.APPEND_LOCK)
        try:
            if not self._reader.is_at_end():
                return False
            self._close_fifo()  # or a recorder might wake what no longer looks
            if not self._left:
                unfinished.clear(self._directory)
            state.unlock(self._lock)
            self._lock = -1
            self._has_left = True
        finally:
            state.unlock(held)
        return True

    def _close_fifo(self) -> None:
        if self._fifo >= 0:
            os.close(self._fifo)
            self._fifo = -1

    def _try_to_work(self) -> float:
        """Work once; return how long there is nothing to do (seconds)."""
        try:
            if self._ledger is None:
                self._ledger = self._open()
            pause = self._work(self._ledger)
        except (sqlite3.Error, OSError) as error:  # a full or failing disk: what is recorded waits
            self._reopen()
            return self._after(error)
        self._complain("")
        return pause

    def _after(self, error: Exception) -> float:
        """Reset a ledger that is broken; return how long to wait before the next try."""
        try:
            if reset.was_due(self._directory, error, self._stamps, self._clock()):
                return 0.0
        except OSError as failed:
            error = failed
        self._complain(f"state directory {self._directory}: {error}")
        return _AFTER_ERROR

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self.complaint:
            log.error(complaint)
        self.complaint = complaint

    def _reopen(self) -> None:
        """Believe nothing of a transaction that failed: the next try reads it again."""
        self._registered = False
        self._stamps.forget()
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None

    def _open(self) -> Ledger:
        ledger = Ledger.open(self._directory)
        try:
            if ledger.position() == spool.START:  # new: stamps are those of another
                self._stamps.clear()
            with ledger.transaction():
                claim_config(ledger, self._rooms.directory)
                self._turns = Turns(ledger, self._rooms, self._extensions, self._chance)
                self._recover(ledger)
        except BaseException:
            ledger.close()
            raise
        self._reader = spool.Reader(self._directory, ledger.position())
        return ledger

    def _recover(self, ledger: Ledger) -> None:
        """Settle what a courier before this one was sending when it died."""
        jobs = [*self._under_way.values(), *(job for job, _ in self._unsettled)]
        ours = {(job.channel, job.transition.id) for job in jobs}
        for delivery in ledger.interrupted():
            if (delivery.channel, delivery.transition) not in ours:
                transition, now = ledger.transition(delivery.transition), self._clock()
                settled = self._turns.settle(delivery.channel, transition, _INTERRUPTED, now)
                self._report(delivery.channel, settled)

    def _work(self, ledger: Ledger) -> float:
        """Settle what was answered, take what was recorded, send what can be sent."""
        now = self._clock()
        if self._rooms.refresh():
            self._registered = False
        self._collect_answers()
        lines = list(self._reader.lines())
        if lines:
            spool.sync(self._directory)
        with ledger.transaction():
            if not self._registered:
                self._rooms.register(ledger)
                reset.note(self._directory, ledger, self._clock())
            if self._impatient:
                ledger.forget_back_off()
            settled = [(job, self._settle(job, outcome, now)) for job, outcome in self._unsettled]
            if lines:
                self._take(ledger, lines, now)
            jobs = self._turns.next_jobs(self._busy(), now)
        self._registered, self._impatient = True, False
        self._unsettled.clear()
        for job, became in settled:
            self._report(job.channel, became)
        for job in jobs:
            self._send(job)
        return 0.0 if lines else self._pause(now)

    def _busy(self) -> set[str]:
        return set(self._under_way)

    def _collect_answers(self) -> None:
        while not self._answers.empty():
            job, outcome = self._answers.get()
            if self._under_way.get(job.channel) is job:  # not one that was given up meanwhile
                self._end(job, outcome)
        for job in [*self._under_way.values()]:
            if time.monotonic() - job.begun > _PATIENCE:  # a server that answers a byte at a time
                self._rooms.drop_sender(job.channel)
                self._end(job, _ENDLESS)

    def _end(self, job: Job, outcome: Outcome) -> None:
        del self._under_way[job.channel]
        self._unsettled.append((job, outcome))

    def _settle(self, job: Job, outcome: Outcome, now: float) -> Settled:
        settled = self._turns.settle(job.channel, job.transition, outcome, now)
        if settled.stage.is_told:
            self._failed.discard(job.channel)
        else:
            self._failed.add(job.channel)
        if outcome.reason:
            log.warning(f"channel {job.channel}: {settled.stage.value}: {outcome.reason}")
        return settled

    def _report(self, channel: str, settled: Settled) -> None:
        if settled.stage is not Stage.WAITING:
            for transition in settled.transitions:
                self._extensions.delivered(transition, channel, settled.stage.value)

    def _take(self, ledger: Ledger, lines: list[bytes], now: float) -> None:
        if self._reader.missed:
            self._reader.missed = False
            log.error(f"state directory {self._directory}: the spool was replaced; lines are gone")
        results = [spool.decode(line) for line in lines]
        whole = [result for result in results if result is not None]
        if len(whole) < len(results):
            log.warning(f"spool: {len(results) - len(whole)} torn lines were left out")
        ledger.take(whole, self._reader.position, now)
        self._stamps.take(ledger, whole)

    def _send(self, job: Job) -> None:
        self._under_way[job.channel] = job
        threading.Thread(target=self._deliver, args=(job,), daemon=True).start()

    def _deliver(self, job: Job) -> None:
        try:
            outcome: object = job.sender.send(job.notification)
        except Exception as error:  # noqa: BLE001  a channel type's mistake must not end all others
            outcome = f"the channel type failed ({type(error).__name__})"
        if not isinstance(outcome, Outcome):
            outcome = Outcome(Verdict.UNKNOWN, f"no outcome: {outcome}")
        self._answers.put((job, outcome))
        self._poke()

    def _undelivered(self) -> set[str]:
        self._left = self._turns.undelivered()
        return self._left

    def _out_of_reach(self) -> set[str]:
        """Return what waits for the configuration to be mended."""
        return self._left - set(self._rooms.channels)

    def _pause(self, now: float) -> float:
        """Return how long to sleep; rotate the spool, as there is time."""
        position = spool.rotate(self._directory, self._reader, _ROTATE_AT)
        if position != self._reader.position:
            self._reader = spool.Reader(self._directory, position)
        spool.reserve(self._directory)
        self._prune(now)
        self._is_stamped = self._stamps.make(self._reader, is_idle=self._is_idle())
        next_at = self._turns.next_at(self._busy(), now)
        pauses = [_REST if not self._undelivered() else _LOOK]
        if next_at is not None:
            pauses.append(max(_SHORTEST, next_at - now))
        if not (self._rooms.is_at_rest and self._is_stamped):
            pauses.append(_SOON)
        return min(pauses)

    def _prune(self, now: float) -> None:
        """Drop old history, once in a while, as there is time."""
        ledger = self._ledger
        assert ledger is not None, "the courier is at work"
        if 0 <= now - (ledger.setting("pruned") or 0) < _PRUNE_EVERY:
            return
        names = [each.name for each in ledger.channels() if self._rooms.concerns(each.name)]
        with ledger.transaction():
            if not ledger.prune(now, names):
                ledger.set("pruned", now)

    def _sleep(self, pause: float) -> None:
        events = select.poll()  # not select(), which cannot see the descriptors of a large agent
        for source in (self._fifo, self._woken):
            if source >= 0:
                events.register(source, select.POLLIN)
        for source, _ in events.poll(pause * 1000):
            message = fifo.drain(source)
            if fifo.FLUSH in message:
                self._impatient = True
            if fifo.YIELD in message and self._yields:
                self.wind_up()

    def _say_last_words(self) -> None:
        """Give requests under way a moment, so that fewer outcomes stay unknown."""
        until = time.monotonic() + _LAST_WORDS
        while self._under_way and time.monotonic() < until:
            events = select.poll()
            events.register(self._woken, select.POLLIN)
            events.poll(max(0.0, until - time.monotonic()) * 1000)
            fifo.drain(self._woken)
            self._collect_answers()
        if self._ledger is None or not self._unsettled:
            return
        try:
            with self._ledger.transaction():
                now = self._clock()
                settled = [(job, self._settle(job, out, now)) for job, out in self._unsettled]
            self._unsettled.clear()
            for job, became in settled:
                self._report(job.channel, became)
        except (sqlite3.Error, OSError) as error:
            self._complain(f"state directory {self._directory}: {error}")
