"""What an outsider sees: the state directory and the configuration, read and left as they are."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flipbell import fifo, places, spool, state, surroundings, unfinished
from flipbell.binding import config_for
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.rooms import Rooms
from flipbell.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell._yaml import Problem
    from flipbell.model import Status
    from flipbell.outbox import ChannelState

_LOW_DISK = 1 << 16  # bytes
_IN_A_ROW = 2  # killed couriers that are more than an accident


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel: how its room has answered, and what waits for it."""

    state: ChannelState
    waiting: int  # transitions that it has yet to look at
    oldest: float | None  # when the first of them occurred
    dead: int
    is_configured: bool
    fault: str | None  # why nothing is delivered, where the configuration is the reason

    @property
    def is_troubled(self) -> bool:
        """Whether it needs a person; one that was removed does not."""
        trouble = self.dead or self.state.last_error or self.fault
        return self.is_configured and bool(trouble)


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that `status` tells."""

    state: str
    config: str
    problems: tuple[Problem, ...]
    has_channels: bool  # whether any channel works
    faults: tuple[str, ...] = ()  # what keeps the state directory from being used
    is_courier_alive: bool = False
    killed: tuple[int, str] = (0, "")  # couriers in a row that did not finish; the last one's unit
    untaken_since: float | None = None  # when the first result that waits in the spool was
    failing: tuple[tuple[str, str, Status, float], ...] = ()  # host, check, status, since
    checks: int = 0
    notes: tuple[str, ...] = ()  # what is not wrong, but could be better
    late: int = 0  # results that were ignored, being older than the check's last change
    channels: tuple[ChannelView, ...] = ()
    counters: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def waiting(self) -> list[ChannelView]:
        """The channels that something waits for."""
        return [channel for channel in self.channels if channel.waiting]

    @property
    def untaken(self) -> bool:
        """Whether recorded results wait for a courier to take them."""
        return self.untaken_since is not None

    @property
    def has_killed_couriers(self) -> bool:
        """Whether something ends couriers before they have delivered everything."""
        return self.killed[0] >= _IN_A_ROW

    @property
    def is_all_delivered(self) -> bool:
        """Whether nothing waits anywhere."""
        return self.untaken_since is None and not self.waiting and not self.faults

    @property
    def is_fine(self) -> bool:
        """Whether nothing needs a person."""
        errors = any(not problem.is_warning for problem in self.problems)
        forsaken = self.untaken and not self.is_courier_alive
        forsaken = forsaken or self.has_killed_couriers
        troubled = any(view.is_troubled for view in self.channels)
        return self.has_channels and not (self.faults or errors or forsaken or troubled)


def survey(state_said: str | None, config_said: str | None) -> Survey:
    """Look at everything, changing nothing."""
    directory = places.find_state(state_said, os.environ)
    config = config_for(directory, config_said)
    rooms = Rooms(config, Extensions.load().channel_types())
    rooms.refresh()
    seen = Survey(
        directory,
        config,
        rooms.problems,
        bool(rooms.channels),
        _faults(directory),
        notes=surroundings.notes(directory),
    )
    if seen.faults or not os.path.isdir(directory):
        return seen
    try:
        seen = replace(seen, is_courier_alive=fifo.is_heard(directory), killed=_killed(directory))
        return _survey_ledger(seen, rooms)
    except (sqlite3.Error, OSError) as error:
        return replace(seen, faults=(f"{directory}/{state.LEDGER}: {error}",))


def _faults(directory: str) -> tuple[str, ...]:
    try:
        found = os.stat(directory)
        state.check_private(directory, found)
        if not os.access(directory, os.W_OK):
            return (f"state directory {directory}: not writable",)
        free = os.statvfs(directory)
        if free.f_bavail * free.f_frsize < _LOW_DISK:
            return (f"state directory {directory}: its disk is full",)
    except FileNotFoundError:
        return ()  # nothing was recorded yet
    except OSError as error:
        return (str(error),)
    return ()


def _killed(directory: str) -> tuple[int, str]:
    """Return how many couriers in a row have ended before all was delivered, and where."""
    starts, unit = unfinished.counted(directory)
    return max(0, starts - fifo.is_heard(directory)), unit


def _survey_ledger(seen: Survey, rooms: Rooms) -> Survey:
    ledger = Ledger.view(seen.state)
    if ledger is None:
        since = _untaken_since(spool.Reader(seen.state))
        return replace(seen, untaken_since=since)
    try:
        with ledger.snapshot():
            return replace(
                seen,
                untaken_since=_untaken_since(spool.Reader(seen.state, ledger.position())),
                failing=tuple(ledger.problems()),
                checks=ledger.count_checks(),
                late=ledger.setting("late") or 0,
                channels=tuple(_view(ledger, rooms, channel) for channel in ledger.channels()),
                counters=ledger.counters(),
            )
    finally:
        ledger.close()


def _untaken_since(reader: spool.Reader) -> float | None:
    """Return the time of the first result that waits in the spool; None where none does."""
    line = next(reader.lines(), None)
    if line is None:
        return None
    result = spool.decode(line)
    return time.time() if result is None else result[0]


def _is_taken(directory: str, ledger: Ledger) -> bool:
    return spool.Reader(directory, ledger.position()).is_at_end()


def _view(ledger: Ledger, rooms: Rooms, channel: ChannelState) -> ChannelView:
    is_configured = rooms.concerns(channel.name)
    fault = None
    if not is_configured:
        fault = "not configured any more"
    elif channel.name not in rooms.channels:
        fault = "its file has a problem: a courier at work goes on as before, a new one waits"
    # What a removed channel has missed waits for nobody.
    waiting = ledger.waiting(channel) if is_configured else 0
    oldest = ledger.oldest_waiting(channel) if waiting else None
    dead = ledger.count_dead(channel.name)
    return ChannelView(channel, waiting, oldest, dead, is_configured, fault)


class Lookout:
    """Watches, from outside, whether a courier has anything left to do."""

    def __init__(self, directory: str, config: str, extensions: Extensions) -> None:
        self._directory = directory
        self._extensions = extensions
        self._rooms = Rooms(config, extensions.channel_types())

    def is_all_delivered(self) -> bool:
        """Return whether nothing is left; also where there is no directory to look into."""
        try:
            ledger = Ledger.view(self._directory)
            if ledger is None:
                return spool.Reader(self._directory).is_at_end()
            self._rooms.refresh()
            try:
                with ledger.snapshot():
                    left = Turns(ledger, self._rooms, self._extensions).undelivered()
                    return not left and _is_taken(self._directory, ledger)
            finally:
                ledger.close()
        except sqlite3.Error:  # being made, or left half made by a courier that died
            return False
        except OSError:
            return True
