"""The courier: takes results from the spool, decides who hears of them, and delivers.

There is one for each state directory, and only it writes the ledger. Its own thread does all of
that; requests to rooms run in threads of theirs.
"""

from __future__ import annotations

import math
import os
import random
import select
import sqlite3
import time
from typing import TYPE_CHECKING

from flipbell import fifo, log, orders, reset, spool, state, unfinished, unit
from flipbell.binding import claim_config
from flipbell.dispatch import Dispatch
from flipbell.ledger import Ledger
from flipbell.model import Stage, Verdict
from flipbell.settling import Settling
from flipbell.stamps import Stamps
from flipbell.turns import Turns, can_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipbell.extensions import Extensions
    from flipbell.model import Outcome
    from flipbell.rooms import Rooms
    from flipbell.settling import Settled
    from flipbell.turns import Job

_TROUBLE = (sqlite3.Error, OSError, *reset.BAD_VALUES)
_ROTATE_AT = 1 << 18  # bytes
_LOOK = 2.0  # seconds between looks at the configuration while something is undelivered
_REST = 60.0  # seconds that a courier sleeps at most
_SOON = 0.1  # seconds until another look at a configuration, or a spool, that is being written
_AFTER_ERROR = 2.0
_GIVES_WAY_AFTER = 30.0  # seconds in which the state could not be written
_PRUNE_EVERY = 3600.0
_SHORTEST = 0.01
_LAST_WORDS = 0.8  # seconds that requests under way have when the courier is told to stop
_WIND_UP = 4.0  # seconds that a courier which is told to end delivers what is due, before those


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
        self._dispatch = Dispatch(rooms, self._poke)
        self._failed: set[str] = set()
        self._left: set[str] = set()
        self._stamps = Stamps(directory)
        self._doubt = reset.Doubt(directory, self._stamps)
        self._is_stamped = False
        self._impatient = False
        self._stopping = False
        self._yields = False
        self._ends_at = math.inf
        self._has_left = False
        self.complaint = ""  # why the state cannot be used, as last tried
        self._failing_since: float | None = None
        self._is_flush = False
        self._stays = False
        self._registered = False
        self._fifo = -1
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self, *, stay: bool, yields: bool = False) -> bool:
        """Deliver until nothing is undelivered, or until `stop` where the courier is to *stay*.

        One that *yields* was started, and counted, by a front; it winds up if a service's courier
        asks for its place. One that is not to stay also leaves if it cannot write the state for
        half a minute, as another process may be able to. Return whether it left because all was
        done. Raises LedgerError if the state directory is not for this configuration or version.
        """
        self._stays = stay
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
                if self.complaint and (self._is_flush or self._gives_way()):
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
            self._dispatch.abandon()
            if self._ledger is not None:
                self._ledger.close()
            for descriptor in (self._fifo, self._lock, self._woken, self._waker):
                if descriptor >= 0:
                    os.close(descriptor)

    def _gives_way(self) -> bool:
        """Return whether another process should try, which may not have the same limits."""
        if self._stays or self._failing_since is None:
            return False
        # A clock that went back counts as well: giving way costs no more than a start.
        return not 0 <= self._clock() - self._failing_since < _GIVES_WAY_AFTER

    def _is_in_place(self) -> bool:
        """Return whether the lock that is held is still the state directory's."""
        try:
            there = os.stat(f"{self._directory}/{state.COURIER_LOCK}")
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._lock))

    def _is_wound_up(self, pause: float) -> bool:
        """Return whether a courier that was told to end has nothing to do now."""
        return self._ends_at < math.inf and pause > 0 and not self._dispatch.is_active

    def _is_idle(self) -> bool:
        """Return whether nothing of what was taken is outstanding.

        A channel that is missing from a file which was just written may be there in a moment.
        """
        return not self._dispatch.is_active and self._rooms.is_at_rest and not self._undelivered()

    def _may_leave(self, is_done: Callable[[], bool]) -> bool:
        """Free the courier's lock if all is done and nothing was recorded meanwhile."""
        if self._ledger is None or self._dispatch.is_active or not self._is_stamped:
            return False
        if self._rooms.is_deciding:
            return False
        try:
            return is_done() and self._leave()
        except _TROUBLE as error:
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
        # A full or failing disk, or a damaged ledger: what is recorded waits.
        except _TROUBLE as error:
            self._reopen()
            return self._after(error)
        self._doubt.end()
        self._complain("")
        return pause

    def _after(self, error: Exception) -> float:
        """Reset a ledger that cannot be used; return how long to wait before the next try."""
        try:
            cause = self._doubt.consider(error, self._clock())
        except OSError as failed:
            cause, error = reset.Cause.ELSEWHERE, failed
        if cause is reset.Cause.RESET:
            # Only the ledger before the reset knew of them.
            self._dispatch.abandon()
            return 0.0
        if cause is reset.Cause.UNSURE:
            return _SOON
        self._complain(f"state directory {self._directory}: {error}")
        return _AFTER_ERROR

    def _complain(self, complaint: str) -> None:
        if complaint and complaint != self.complaint:
            log.error(complaint)
        self.complaint = complaint
        if not complaint:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = self._clock()

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
            ledger.inspect(spool.end(self._directory))
            if ledger.position() == spool.START:  # new: stamps are those of another
                self._stamps.clear()
            with ledger.transaction():
                claim_config(ledger, self._rooms.directory)
                self._turns = Turns(ledger, self._rooms, self._extensions)
                self._settling = Settling(ledger, self._rooms, self._chance)
                self._recover()
        except BaseException:
            ledger.close()
            raise
        self._reader = spool.Reader(self._directory, ledger.position())
        return ledger

    def _recover(self) -> None:
        """Settle what a courier before this one was sending when it died."""
        ours = {(job.channel, job.transition.id) for job in self._dispatch.jobs}
        for channel, settled in self._settling.recover(ours, self._clock()):
            self._report(channel, settled)

    def _work(self, ledger: Ledger) -> float:
        """Settle what was answered, take what was recorded, send what can be sent."""
        now = self._clock()
        if self._rooms.refresh():
            self._registered = False
        self._dispatch.collect()
        lines = list(self._reader.lines())
        if lines:
            spool.sync(self._directory)
        with ledger.transaction():
            if not self._registered:
                self._register(ledger, now)
            if self._impatient:
                ledger.forget_back_off()
            settled = self._settle_all(now)
            if lines:
                self._take(ledger, lines, now)
            jobs = self._turns.next_jobs(self._busy(), now)
        self._registered, self._impatient = not self._rooms.is_deciding, False
        self._report_all(settled)
        for job in jobs:
            self._dispatch.send(job)
        return 0.0 if lines else self._pause(now)

    def _register(self, ledger: Ledger, now: float) -> None:
        """Bring the ledger in line with the configuration as it was read."""
        self._rooms.register(ledger, {job.channel for job in self._dispatch.jobs}, now)
        reset.note(self._directory, ledger, now)

    def _busy(self) -> set[str]:
        """Return the channels that send nothing more now."""
        return {*self._dispatch.busy, *self._rooms.held}

    def _settle_all(self, now: float) -> list[tuple[str, Settled]]:
        """Write down every request that has ended; return what became of it, by channel."""
        return [
            (job.channel, self._settle(job, outcome, now))
            for job, outcome in self._dispatch.unsettled
        ]

    def _report_all(self, settled: list[tuple[str, Settled]]) -> None:
        """Tell extensions what became of requests, once that is committed."""
        self._dispatch.unsettled.clear()
        for channel, became in settled:
            self._report(channel, became)

    def _settle(self, job: Job, outcome: Outcome, now: float) -> Settled:
        if job.is_probe:
            settled = self._settling.settle_probe(job.channel, job.transition, outcome, now)
        else:
            settled = self._settling.settle(
                job.channel, job.transition, outcome, now, can_probe=can_probe(job.sender)
            )
        if settled.stage.is_told or outcome.verdict is Verdict.DELIVERED:
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
            if spool.is_damaged(self._reader.position[0]):
                ledger.expect_repeats(spool.end(self._directory))
        results = [spool.decode(line) for line in lines]
        whole = [result for result in results if result is not None]
        ordered = [order for order in map(orders.decode, lines) if order is not None]
        torn = len(results) - len(whole) - len(ordered)
        if torn:
            log.warning(f"spool: {torn} torn lines were left out")
        ledger.take(whole, self._reader.position, now)
        for order in ordered:
            if isinstance(order, orders.Dismissal):
                ledger.dismiss(order.channel, order.transition)
            else:
                ledger.set_successor(order.name, order.successor)
                self._rooms.is_deciding = True
        self._stamps.take(ledger, whole)

    def _undelivered(self) -> set[str]:
        self._left = self._turns.undelivered()
        return self._left

    def _out_of_reach(self) -> set[str]:
        """Return what waits for the configuration to be mended."""
        return self._left - (set(self._rooms.channels) - self._rooms.held)

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
        if self._rooms.is_deciding or not (self._rooms.is_at_rest and self._is_stamped):
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
        while self._dispatch.is_waiting and time.monotonic() < until:
            events = select.poll()
            events.register(self._woken, select.POLLIN)
            events.poll(max(0.0, until - time.monotonic()) * 1000)
            fifo.drain(self._woken)
            self._dispatch.collect()
        if self._ledger is None or not self._dispatch.unsettled:
            return
        try:
            with self._ledger.transaction():
                settled = self._settle_all(self._clock())
            self._report_all(settled)
        except _TROUBLE as error:
            self._complain(f"state directory {self._directory}: {error}")
