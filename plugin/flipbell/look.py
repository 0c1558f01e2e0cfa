"""What an outsider sees: the state directory and the configuration, read and left as they are."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from flipbell import fifo, places, spool, state, stored, surroundings, unclosed, unfinished
from flipbell.binding import config_for, mismatch, reason_for
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.model import WORST_FIRST, Stage
from flipbell.outbox import ChannelState
from flipbell.ownership import hidden_state
from flipbell.retry import MAX_CLOSED
from flipbell.rooms import Rooms
from flipbell.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flipbell._yaml import Problem
    from flipbell.model import Status

_LOW_DISK = 1 << 16  # bytes
_IN_A_ROW = 2  # killed couriers that are more than an accident
_ONE_LINE = 1 << 14  # bytes


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel: how its room has answered, and what waits for it."""

    state: ChannelState
    waiting: int  # transitions that it has yet to look at
    oldest: float | None  # when the first of them occurred
    dead: int  # messages that were given up
    perhaps: int  # messages that were given up, though the room may have them
    closed_until: float | None  # until when its server asked to be left alone, if it did
    is_configured: bool
    fault: str | None  # why nothing is delivered, if the configuration is the reason
    last_try: float = 0.0  # when the oldest message that waits was last tried; 0: never

    @property
    def is_troubled(self) -> bool:
        """Whether it needs a person; one that was removed does not."""
        trouble = self.dead or self.perhaps or self.state.last_error or self.fault
        return self.is_configured and bool(trouble)


@dataclass(frozen=True, slots=True)
class Failing:
    """A check that is not OK, since when (epoch seconds), and what it reported then."""

    host: str
    check: str
    status: Status
    since: float
    output: str


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything that `status` tells."""

    state: str
    config: str
    problems: tuple[Problem, ...]
    has_channels: bool  # whether any channel works
    faults: tuple[str, ...] = ()  # what keeps the state directory from being used
    is_known: bool = True  # whether the state could be read: without it, all that follows is empty
    is_courier_alive: bool = False
    killed: tuple[int, str] = (0, "")  # couriers in a row that did not finish; the last one's unit
    untaken_since: float | None = None  # when the first result that waits in the spool was
    failing: tuple[Failing, ...] = ()  # the worst first
    checks: int = 0
    config_reason: str = ""  # why this is the configuration that is used
    notes: tuple[str, ...] = ()  # what is not wrong, but could be better
    warnings: tuple[str, ...] = ()  # what the operator has to decide about channels that left
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

    def untaken_for(self, now: float) -> float:
        """Return for how long results have waited to be taken (seconds); 0 if none do.

        A time in the future, by a clock that was put back since, counts by its distance.
        """
        return 0.0 if self.untaken_since is None else abs(now - self.untaken_since)

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
        troubled = troubled or bool(self.warnings)
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
        config_reason=reason_for(config, config_said),
        notes=surroundings.notes(directory),
    )
    hidden = hidden_state(state_said, directory)
    try:
        state.check(directory)
        is_made = os.path.isdir(directory)
    except OSError as error:
        return replace(seen, is_known=False, faults=(str(error),))
    if not is_made:
        # Nothing was recorded yet, unless the checks of this host are another user's.
        if hidden is not None:
            return replace(seen, is_known=False, faults=(hidden,))
        return replace(seen, channels=_unused(rooms))
    if hidden is not None:
        seen = replace(seen, notes=(*seen.notes, hidden))
    try:
        seen = replace(
            seen,
            faults=_faults(directory),
            is_courier_alive=fifo.is_heard(directory),
            killed=_killed(directory),
        )
        return _survey_ledger(seen, rooms)
    except (sqlite3.Error, OSError) as error:
        return replace(seen, is_known=False, faults=(f"{directory}/{state.LEDGER}: {error}",))


def _faults(directory: str) -> tuple[str, ...]:
    if not os.access(directory, os.W_OK):
        return (f"state directory {directory}: not writable",)
    free = os.statvfs(directory)
    if free.f_bavail * free.f_frsize < _LOW_DISK:
        return (f"state directory {directory}: its disk is full",)
    return ()


def _killed(directory: str) -> tuple[int, str]:
    """Return how many couriers in a row have ended before all was delivered, and where."""
    starts, unit = unfinished.counted(directory)
    return max(0, starts - fifo.is_heard(directory)), unit


def _survey_ledger(seen: Survey, rooms: Rooms) -> Survey:
    ledger = Ledger.view(seen.state)
    if ledger is None:
        return replace(seen, untaken_since=_untaken_since(seen.state), channels=_unused(rooms))
    try:
        given_up = {stage: ledger.count_given_up(stage) for stage in (Stage.DEAD, Stage.PERHAPS)}
        # Only what has to fit together is of one moment: the courier cannot commit meanwhile.
        with ledger.snapshot():
            seen = replace(
                seen,
                faults=(*seen.faults, *filter(None, [mismatch(ledger, seen.config)])),
                untaken_since=_untaken_since(seen.state, ledger.position()),
                late=stored.whole(ledger.setting("late")),
                channels=_views(ledger, rooms, given_up),
                counters=ledger.counters(),
            )
        return replace(
            seen,
            notes=(*seen.notes, *unclosed.renamings(ledger, rooms.names())),
            warnings=tuple(unclosed.warnings(ledger, rooms.names(), rooms.channels)),
            failing=_failing(ledger),
            checks=ledger.count_checks(),
        )
    finally:
        ledger.close()


def _failing(ledger: Ledger) -> tuple[Failing, ...]:
    failing = (
        Failing(host, check, status, since, ledger.output_at(host, check, since))
        for host, check, status, since in ledger.problems()
    )
    return tuple(sorted(failing, key=lambda each: WORST_FIRST.index(each.status)))


def _untaken_since(directory: str, position: spool.Position = spool.START) -> float | None:
    """Return since when the first result that waits in the spool has waited; None if none does.

    One that waits alone has waited since the spool was written to, even if its agent gave another
    time.
    """
    lines = spool.Reader(directory, position).lines(_ONE_LINE)
    line = next(lines, None)
    if line is None:
        return None
    result = spool.decode(line)
    if result is None or next(lines, None) is None:
        return os.stat(f"{directory}/{state.SPOOL}").st_mtime
    return result[0]


def _is_taken(directory: str, ledger: Ledger) -> bool:
    return spool.Reader(directory, ledger.position()).is_at_end()


def _views(
    ledger: Ledger, rooms: Rooms, given_up: Mapping[Stage, Mapping[str, int]]
) -> tuple[ChannelView, ...]:
    channels, last = ledger.channels(), ledger.last_transition()
    oldest = {
        cursor: ledger.occurred_after(cursor) for cursor in {each.cursor for each in channels}
    }
    views = []
    for channel in channels:
        is_configured = rooms.concerns(channel.name)
        # What a removed channel has missed is not waiting. Nothing else is pruned before it is
        # delivered and no number is left out, so there is no need to count rows.
        waiting = max(0, last - channel.cursor) if is_configured else 0
        dead, perhaps = (given_up[stage].get(channel.name, 0) for stage in given_up)
        views.append(
            ChannelView(
                channel,
                waiting,
                oldest[channel.cursor] if waiting else None,
                dead,
                perhaps,
                _closed_until(ledger, rooms, channel.name),
                is_configured,
                _fault(rooms, channel.name),
                ledger.last_try(channel) if waiting else 0.0,
            )
        )
    views += _unused(rooms, {channel.name for channel in channels})
    return tuple(sorted(views, key=lambda view: view.state.name))


def _fault(rooms: Rooms, name: str) -> str | None:
    """Return why nothing is delivered to a channel, if the configuration is the reason."""
    if not rooms.concerns(name):
        return "not configured any more"
    if name not in rooms.channels:
        return "its file has a problem: a courier at work goes on as before, a new one waits"
    return None


def _closed_until(ledger: Ledger, rooms: Rooms, name: str) -> float | None:
    """Return until when a channel's server asked to be left alone; None if it may be asked now."""
    channel = rooms.channels.get(name)
    until = 0.0 if channel is None else ledger.room_closed_until(rooms.room(channel))
    # A time that is further ahead was written by a wrong clock, and the courier does not heed it.
    return until if 0 < until - time.time() <= MAX_CLOSED else None


def _unused(rooms: Rooms, known: Collection[str] = ()) -> tuple[ChannelView, ...]:
    """Return the channels that are configured and not *known* to the ledger yet."""
    return tuple(
        ChannelView(
            ChannelState(name, 0, 0.0, 0, False, False, None, None, None),  # noqa: FBT003
            waiting=0,
            oldest=None,
            dead=0,
            perhaps=0,
            closed_until=None,
            is_configured=True,
            fault=_fault(rooms, name),
        )
        for name in sorted(rooms.names().identities)
        if name not in known
    )


class Lookout:
    """Watches, from outside, whether a courier has anything left to do."""

    def __init__(self, directory: str, config: str, extensions: Extensions) -> None:
        self._directory = directory
        self._extensions = extensions
        self._rooms = Rooms(config, extensions.channel_types())

    def is_all_delivered(self) -> bool:
        """Return whether nothing is left; also if there is no directory to look into."""
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
