"""What an outsider sees: the state directory and the configuration, read and left as they are."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import places, spool, state, summon
from flipbell.courier import config_for
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.rooms import Rooms

if TYPE_CHECKING:
    from flipbell._yaml import Problem
    from flipbell.ledger import ChannelState
    from flipbell.model import Status


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel: how its room has answered, and what waits for it."""

    state: ChannelState
    waiting: int  # transitions that it has yet to look at
    oldest: float | None  # when the first of them occurred
    dead: int
    fault: str | None  # why nothing is delivered, where the configuration is the reason


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that `status` tells."""

    state: str
    config: str
    faults: tuple[str, ...]  # what keeps the state directory from being used
    problems: tuple[Problem, ...]
    is_courier_alive: bool = False
    untaken: bool = False  # whether recorded lines wait in the spool
    failing: tuple[tuple[str, str, Status, float], ...] = ()  # host, check, status, since
    checks: int = 0
    channels: tuple[ChannelView, ...] = ()

    @property
    def waiting(self) -> list[ChannelView]:
        """The channels that something waits for."""
        return [channel for channel in self.channels if channel.waiting]

    @property
    def is_all_delivered(self) -> bool:
        """Whether nothing waits anywhere."""
        return not self.untaken and not self.waiting and not self.faults

    @property
    def is_fine(self) -> bool:
        """Whether nothing needs a person."""
        errors = any(not problem.is_warning for problem in self.problems)
        troubled = any(
            view.dead or view.state.last_error or (view.waiting and view.fault)
            for view in self.channels
        )
        return not (self.faults or errors or troubled)


def survey(state_said: str | None, config_said: str | None) -> Survey:
    """Look at everything, changing nothing."""
    directory = places.find_state(state_said, os.environ)
    config = config_for(directory, config_said)
    rooms = Rooms(config, Extensions.load().channel_types())
    rooms.refresh()
    faults = _faults(directory)
    if faults or not os.path.isdir(directory):
        return Survey(directory, config, faults, rooms.problems)
    try:
        return _survey_ledger(directory, config, rooms)
    except (sqlite3.Error, OSError) as error:
        faults = (f"{directory}/{state.LEDGER}: {error}",)
        return Survey(directory, config, faults, rooms.problems)


def is_all_delivered(directory: str) -> bool:
    """Return whether a courier has nothing left to do; also where nobody can do anything."""
    try:
        ledger = Ledger.view(directory)
        if ledger is None:
            return spool.Reader(directory).is_at_end()
        try:
            last = ledger.last_transition()
            is_taken = spool.Reader(directory, ledger.position()).is_at_end()
            return is_taken and all(channel.cursor == last for channel in ledger.channels())
        finally:
            ledger.close()
    except (sqlite3.Error, OSError):
        return True


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


_LOW_DISK = 1 << 16  # bytes


def _survey_ledger(directory: str, config: str, rooms: Rooms) -> Survey:
    alive = summon.is_courier_alive(directory)
    ledger = Ledger.view(directory)
    if ledger is None:
        untaken = not spool.Reader(directory).is_at_end()
        return Survey(directory, config, (), rooms.problems, alive, untaken)
    try:
        return Survey(
            directory,
            config,
            (),
            rooms.problems,
            alive,
            not spool.Reader(directory, ledger.position()).is_at_end(),
            tuple(ledger.checks(only_problems=True)),
            ledger.count_checks(),
            tuple(_view(ledger, rooms, channel) for channel in ledger.channels()),
        )
    finally:
        ledger.close()


def _view(ledger: Ledger, rooms: Rooms, channel: ChannelState) -> ChannelView:
    fault = None
    if channel.name not in rooms.channels:
        broken = rooms.may_return(channel.name)
        fault = "its configuration has a problem" if broken else "not configured any more"
    # What a removed channel has missed waits for nobody.
    is_live = fault is None or rooms.may_return(channel.name)
    waiting = ledger.waiting(channel) if is_live else 0
    oldest = ledger.oldest_waiting(channel) if waiting else None
    return ChannelView(channel, waiting, oldest, ledger.count_dead(channel.name), fault)
