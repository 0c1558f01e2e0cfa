"""The protocol of stamps, idle file, spool and courier's lock, searched in all its schedules.

A model of one check: fronts, a courier and the files that they share, one step at a time. Every
process may be killed between any two steps, the power may fail (which undoes what was not made
durable), and the ledger may break. The steps are those of `spool.append`, `stamps` and `courier`,
whose order `test_quiet` sees in the system calls of the real program.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

OK, BAD = 0, 2
_ENOUGH = 100  # steps in which one result is reported, taken and delivered
APPEND, COURIER = "append lock", "courier lock"


@dataclass(frozen=True)
class Front:
    """A front: the results that it has yet to report, and where it is in the first of them."""

    results: tuple[int, ...]
    at: str = "begin"


@dataclass(frozen=True)
class World:
    """Everything that is shared, and where each process is."""

    fronts: tuple[Front, ...]
    courier: str = "none"  # where it is; "none" where no process is one
    seen: int = 0  # lines of the spool that this courier has read
    # files
    stamp: int | None = OK
    idle: bool = True
    spool: tuple[int, ...] = ()
    durable: int = 0  # lines of it that a power cut leaves
    undone: int | None = None  # a stamp whose removal a power cut may undo
    # the ledger
    status: int | None = OK
    taken: int = 0
    delivered: int = 0
    is_broken: bool = False
    # who holds what; fronts by number, the courier by -1
    append_lock: int | None = None
    courier_lock: int | None = None
    # what may still go wrong
    kills: int = 0
    cuts: int = 0
    breaks: int = 0

    @property
    def last(self) -> int | None:
        """The status that the ledger will know once it has taken all."""
        return self.spool[-1] if len(self.spool) > self.taken else self.status

    @property
    def is_outstanding(self) -> bool:
        """Whether a recorded line was not told."""
        return self.delivered < len(self.spool)

    @property
    def is_heard(self) -> bool:
        """Whether a courier has the FIFO open."""
        return self.courier not in ("none", "starting", "left")


class Search:
    """Goes through all schedules; *wrong* names the steps that are done in a wrong order."""

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.seen: set[World] = set()

    def steps(self, world: World) -> Iterator[World]:
        """Yield every world that may come next."""
        for number, front in enumerate(world.fronts):
            if front.results:
                yield from self._front(world, number, front)
                if world.kills:
                    yield self._killed(world, number)
        if world.courier != "none":
            yield from self._courier(world)
            if world.kills:
                dead = replace(world, kills=world.kills - 1, courier="none")
                yield _freed(dead, -1)
        if world.cuts:
            yield from self._power_cut(world)
        if world.breaks and world.courier != "stamping":
            yield replace(world, breaks=world.breaks - 1, is_broken=True)

    def _killed(self, world: World, number: int) -> World:
        world = replace(world, kills=world.kills - 1)
        return _freed(_next_result(world, number), number)

    def _power_cut(self, world: World) -> Iterator[World]:
        """Everything dies, and what was not synced is as it was; the next boot has no stamps."""
        rest = replace(
            world,
            cuts=world.cuts - 1,
            fronts=tuple(_after_death(front) for front in world.fronts),
            courier="none",
            append_lock=None,
            courier_lock=None,
            spool=world.spool[: world.durable],
            undone=None,
        )
        yield replace(rest, stamp=None, idle=False)
        if self.wrong == "a stamp outlives its boot":
            yield replace(rest, stamp=world.stamp if world.undone is None else world.undone)

    # A front: look, record, see to a courier. A method for each place where it can be.

    def _front(self, world: World, number: int, front: Front) -> Iterator[World]:
        step = getattr(self, "_front_" + front.at.replace(" ", "_"))
        yield step(world, number, front.results[0])

    def _front_begin(self, world: World, number: int, status: int) -> World:
        if world.stamp != status:
            return _at(world, number, "locking")
        is_blind = self.wrong == "an unchanged result looks for no courier"
        if world.idle or world.is_heard or is_blind:
            return _next_result(world, number)
        return _at(world, number, "rousing")

    def _front_locking(self, world: World, number: int, _: int) -> World:
        if self.wrong == "a stamp is removed outside the lock":
            return _at(_disturbed(world), number, "waiting")
        if world.append_lock is not None:
            return world
        first = "appending" if self.wrong == "the line before the stamp" else "disturbing"
        return _at(replace(world, append_lock=number), number, first)

    def _front_waiting(self, world: World, number: int, _: int) -> World:
        if world.append_lock is not None:
            return world
        return _at(replace(world, append_lock=number), number, "appending")

    def _front_disturbing(self, world: World, number: int, _: int) -> World:
        is_kept = self.wrong == "the idle file stays" and world.idle
        return _at(replace(_disturbed(world), idle=is_kept), number, "appending")

    def _front_appending(self, world: World, number: int, status: int) -> World:
        return _at(replace(world, spool=(*world.spool, status)), number, "syncing")

    def _front_syncing(self, world: World, number: int, _: int) -> World:
        is_late = self.wrong == "the line before the stamp"
        world = replace(world, durable=len(world.spool))
        return _at(world, number, "disturbing late" if is_late else "unlocking")

    def _front_disturbing_late(self, world: World, number: int, _: int) -> World:
        return _at(_disturbed(world), number, "unlocking")

    def _front_unlocking(self, world: World, number: int, _: int) -> World:
        return _at(_freed(world, number), number, "rousing")

    def _front_rousing(self, world: World, number: int, _: int) -> World:
        if world.is_heard:
            return _next_result(world, number)
        if world.courier_lock is None:  # taken, and handed over with the start
            world = replace(world, courier_lock=-1, courier="starting", seen=0)
        return _next_result(world, number)

    # The courier: take, deliver, stamp, leave. Likewise.

    def _courier(self, world: World) -> Iterator[World]:
        if world.is_broken and world.courier == "working":
            yield self._reset(world)
            return
        yield getattr(self, "_courier_" + world.courier.replace(" ", "_"))(world)
        if world.courier == "working":
            yield replace(world, courier="locking")  # stamps need no delivery

    def _courier_starting(self, world: World) -> World:
        return replace(world, courier="working", seen=world.taken)

    def _courier_working(self, world: World) -> World:
        if world.seen < len(world.spool):
            return replace(world, courier="committing", seen=len(world.spool))
        return replace(world, courier="delivering" if world.is_outstanding else "locking")

    def _courier_committing(self, world: World) -> World:
        if self.wrong != "the ledger is ahead of the spool":
            world = replace(world, durable=max(world.durable, world.seen))
        status = world.spool[world.seen - 1]
        return replace(world, courier="working", taken=world.seen, status=status)

    def _courier_delivering(self, world: World) -> World:
        return replace(world, courier="working", delivered=world.taken)

    def _courier_locking(self, world: World) -> World:
        if self.wrong == "a stamp is made outside the lock":
            at_end = world.seen == len(world.spool)
            return replace(world, courier="stamping" if at_end else "working")
        if world.append_lock is not None:
            return world
        return replace(world, courier="looking", append_lock=-1)

    def _courier_looking(self, world: World) -> World:
        at_end = world.seen == len(world.spool) or self.wrong == "the end is not looked for"
        return replace(world, courier="stamping" if at_end else "unlocking")

    def _courier_stamping(self, world: World) -> World:
        is_idle = world.delivered == world.taken == world.seen
        done = replace(world, stamp=world.status, idle=is_idle, undone=None)
        return replace(done, courier="unlocking")

    def _courier_unlocking(self, world: World) -> World:
        return replace(_freed(world, -1, APPEND), courier="resting")

    def _courier_resting(self, world: World) -> World:
        if world.seen < len(world.spool) or world.is_outstanding or world.is_broken:
            return replace(world, courier="working")
        if self.wrong == "the courier's lock is freed outside the spool's":
            return replace(world, courier="leaving unlocked")
        if world.append_lock is not None:
            return world
        return replace(world, courier="leaving", append_lock=-1)

    def _courier_leaving(self, world: World) -> World:
        if world.seen < len(world.spool):
            return replace(world, courier="unlocking")
        return replace(_freed(world, -1, COURIER), courier="left")

    def _courier_leaving_unlocked(self, world: World) -> World:
        return replace(_freed(world, -1, COURIER), courier="left")

    def _courier_left(self, world: World) -> World:
        is_late = self.wrong == "the FIFO is closed after the locks"
        return replace(_freed(world, -1, APPEND), courier="closing" if is_late else "none")

    def _courier_closing(self, world: World) -> World:
        return replace(world, courier="none")

    def _reset(self, world: World) -> World:
        """Set a broken ledger aside: stamps first. What was taken before is known no more."""
        fresh = replace(
            world,
            status=None,
            taken=0,
            delivered=0,
            seen=0,
            is_broken=False,
            courier="starting",
            spool=world.spool[world.taken :],
            durable=max(0, world.durable - world.taken),
        )
        if self.wrong == "the ledger is replaced before the stamps":
            return fresh
        if world.append_lock is not None:
            return world
        return replace(fresh, stamp=None, idle=False, undone=None)

    def faults(self, start: World) -> Iterator[str]:
        """Yield everything that goes wrong in any schedule."""
        self.seen = {start}
        queue, healed = deque([start]), set[World]()
        while queue:
            world = queue.popleft()
            yield from _faults(world)
            if not any(front.results for front in world.fronts) and world.courier == "none":
                if world.is_outstanding and _harm(world) == _harm(start):
                    yield "a line is left, though nothing has died"
                healing = replace(world, fronts=(), kills=0, cuts=0, breaks=0)
                if healing not in healed:
                    yield from self._healing_faults(healing)
                    healed.add(healing)
            fresh = set(self.steps(world)) - self.seen
            self.seen |= fresh
            queue += fresh

    def _healing_faults(self, world: World) -> Iterator[str]:
        """See that any next result, also one that changes nothing, has all delivered."""
        if world.is_broken or world.last is None:
            return
        world = replace(world, fronts=(Front((world.last,)),))
        for _ in range(_ENOUGH):
            world = next((each for each in self.steps(world) if each != world), world)
        if world.is_outstanding:
            yield "a recorded line is left with nobody to deliver it"


def _harm(world: World) -> tuple[int, int, int]:
    """Return what may still go wrong."""
    return world.kills, world.cuts, world.breaks


def _faults(world: World) -> Iterator[str]:
    if world.stamp is not None and world.stamp != world.last and not world.is_broken:
        yield "a stamp hides a change"
    if world.taken > max(world.durable, 0):
        yield "a power cut would leave the ledger ahead of the spool"
    if world.idle and world.is_outstanding and not world.is_broken:
        yield "idle, and a line is not delivered"


def _at(world: World, number: int, at: str) -> World:
    fronts = list(world.fronts)
    fronts[number] = replace(fronts[number], at=at)
    return replace(world, fronts=tuple(fronts))


def _next_result(world: World, number: int) -> World:
    fronts = list(world.fronts)
    fronts[number] = Front(fronts[number].results[1:])
    return replace(world, fronts=tuple(fronts))


def _after_death(front: Front) -> Front:
    return front if front.at == "begin" else Front(front.results[1:])


def _disturbed(world: World) -> World:
    gone = world.stamp if world.stamp is not None else world.undone
    return replace(world, stamp=None, idle=False, undone=gone)


def _freed(world: World, holder: int, *locks: str) -> World:
    if APPEND in (locks or (APPEND,)) and world.append_lock == holder:
        world = replace(world, append_lock=None)
    if COURIER in (locks or (COURIER,)) and world.courier_lock == holder:
        world = replace(world, courier_lock=None)
    return world


SCENES = {
    "three kills": World((Front((BAD, OK)), Front((OK, BAD))), kills=2),
    "a power cut": World((Front((BAD, OK)), Front((OK,))), kills=1, cuts=1),
    "a reset": World((Front((BAD, OK)), Front((OK,))), kills=1, breaks=1),
}
WRONG = [
    "a stamp is removed outside the lock",
    "the line before the stamp",
    "the idle file stays",
    "a stamp outlives its boot",
    "an unchanged result looks for no courier",
    "a stamp is made outside the lock",
    "the end is not looked for",
    "the courier's lock is freed outside the spool's",
    "the ledger is replaced before the stamps",
    "the ledger is ahead of the spool",
    "the FIFO is closed after the locks",
]


@pytest.mark.parametrize("scene", SCENES)
def test_no_schedule_hides_a_change_or_leaves_a_line(
    scene: str, figures: list[str], *, is_long: bool
) -> None:
    world = SCENES[scene]
    if is_long:
        world = replace(world, kills=world.kills + 1, fronts=(*world.fronts, Front((BAD,))))
    search = Search()

    assert next(search.faults(world), None) is None
    figures.append(f"protocol, {scene}: {len(search.seen)} states, no fault")


@pytest.mark.parametrize("wrong", WRONG)
def test_each_wrong_order_is_caught(wrong: str) -> None:
    found = (fault for world in SCENES.values() for fault in Search(wrong).faults(world))

    assert next(found, None) is not None
