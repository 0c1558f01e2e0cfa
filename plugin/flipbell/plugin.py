"""The in-process plugin: `attach` for an agent with a pluggy host, `start` for one without.

A call returns before anything touches disk or network. One thread writes what has changed to the
spool; another is the courier, while there is something to deliver.
"""

from __future__ import annotations

import atexit
import inspect
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING

import pluggy

from flipbell import log, places, recorder, state
from flipbell.hookspecs import AgentSpecs
from flipbell.memory import Memory
from flipbell.model import CheckResult

if TYPE_CHECKING:
    from typing_extensions import Self

    from flipbell.courier import Courier
    from flipbell.look import Lookout
    from flipbell.rooms import Rooms

_LOOK = 1.0  # seconds between looks at what other processes recorded
_UNWRITTEN_LIMIT = 10_000  # results kept while the state directory cannot be written
_TO_DELIVER = 2.0  # seconds that the end of a `with` block takes at most
_LEFT_TO_OTHERS = 60.0  # seconds until this process tries again after it could not write
_AT_EXIT = 0.5  # seconds, where the agent ends without a word
_SHORTEST = 0.05  # seconds that recording has in any case
_LAST_WORDS = 1.0  # seconds that a stopped courier has
_NAME = "flipbell"
_HOOKS = tuple(name for name in vars(AgentSpecs) if name.startswith("flipbell_"))


class AttachError(Exception):
    """The host has a hook of the same name with other arguments."""


def attach(host: pluggy.PluginManager) -> Flipbell:
    """Register flipbell in an agent's plugin manager, under the host's own project name.

    pluggy looks only at marks of the host's project, so both specifications and implementations
    get them. May be called again, as after a reload. Raises AttachError.
    """
    earlier = host.get_plugin(_NAME)
    if isinstance(earlier, Flipbell):
        return earlier
    if earlier is not None:  # from before a reload of the module
        host.unregister(earlier)
        earlier.stop(0.0)
    for name in _HOOKS:
        _refuse_other_hook(host, name)
    spec = pluggy.HookspecMarker(host.project_name)
    implementation = pluggy.HookimplMarker(host.project_name)
    missing = {name: spec(getattr(AgentSpecs, name)) for name in _HOOKS if not _has(host, name)}
    if missing:
        host.add_hookspecs(type("AgentSpecs", (), missing))
    for name in _HOOKS:
        implementation(getattr(Flipbell, name))
    flipbell = start(host.project_name)
    host.register(flipbell, _NAME)
    return flipbell


def _refuse_other_hook(host: pluggy.PluginManager, name: str) -> None:
    """Raise AttachError where the host has specified a hook of our name without our argument."""
    ours = inspect.signature(getattr(AgentSpecs, name)).parameters.keys() - {"self"}
    spec = getattr(getattr(host.hook, name, None), "spec", None)
    if spec is not None and not ours <= set(spec.argnames):
        raise AttachError(
            f"{host.project_name} has a hook {name} of its own, with {', '.join(spec.argnames)};"
            f" flipbell's has {', '.join(ours)}"
        )


def _has(host: pluggy.PluginManager, name: str) -> bool:
    caller = getattr(host.hook, name, None)
    return caller is not None and caller.has_spec()


def start(agent: str) -> Flipbell:
    """Return a running flipbell for an agent without pluggy: call `report`, and `stop` at its end.

    State and configuration are where FLIPBELL_STATE and FLIPBELL_CONFIG say, or in their usual
    places. An agent that runs as root must own its state directory: a process with threads cannot
    become another user, so another user's directory is refused, which is logged.
    """
    return Flipbell(agent)


class Flipbell:
    """Takes an agent's results. Thread-safe; no call raises, waits or touches a disk."""

    def __init__(self, agent: str) -> None:
        # Loaded before the agent's loop runs: later it would stall that for milliseconds.
        import requests  # noqa: F401

        from flipbell import courier  # noqa: F401
        from flipbell.extensions import Extensions

        self._agent = agent
        self._directory = places.find_state(None, os.environ)
        self._config = places.said_config(None, os.environ)  # before a daemon goes elsewhere
        self._memory = Memory(self._directory)
        self._statuses = self._memory.statuses  # a look-up less for each result
        self._extensions = Extensions.load()
        self._rooms: Rooms | None = None
        self._read_rooms()
        self._lookout: Lookout | None = None
        self._begin()
        this = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forked(this))
        atexit.register(_exiting, this)

    def _begin(self) -> None:
        """Have no threads: they start with the first change, and again after a fork."""
        self._lock = threading.RLock()  # a signal handler may call `stop` in the middle of a report
        self._changes: queue.SimpleQueue[CheckResult | None] = queue.SimpleQueue()
        self._unwritten: list[CheckResult] = []
        self._writer: threading.Thread | None = None
        self._tries_again_at = 0.0
        self._delivery: threading.Thread | None = None
        self._courier: Courier | None = None
        self._complained = False
        self._recorded = self._delivered = 0  # how often something was; unequal: look for a courier

    def begin_in_child(self) -> None:
        """Begin anew in a forked process; the parent may die before it writes what it knows."""
        self._memory.statuses.clear()
        if self._delivery is not None:  # which may have been in the middle of reading it
            self._rooms = None
        elif self._rooms is not None:
            self._rooms.drop_senders()
        self._begin()
        state.let_go(self._directory)

    # What the agent calls

    def flipbell_agent_started(self, agent: str) -> None:
        """Look whether something is undelivered from before."""
        self._agent = agent
        with self._lock:
            self._start_writer()

    def flipbell_check_result(self, result: CheckResult) -> None:
        """Take a result."""
        try:
            if self._statuses[result.check][result.host] is result.status:
                return
        except (KeyError, AttributeError, TypeError):  # new, or no CheckResult at all
            pass
        self._change(result)

    def flipbell_agent_stopping(self, timeout: float) -> None:
        """Record and deliver for at most *timeout* seconds."""
        self.stop(timeout)

    def report(self, result: CheckResult) -> None:
        """Take a result of a check, changed or not."""
        self.flipbell_check_result(result)

    def _change(self, result: CheckResult) -> None:
        if not _is_sound(result):  # the agent must not suffer from its own mistake
            log.error(f"{self._agent}: expected a CheckResult with names, got {type(result)}")
            return
        with self._lock:  # memory must not change in another order than the queue
            self._changes.put(result)
            self._memory.learn(result)
            try:
                self._start_writer()
            except RuntimeError as error:  # no thread to be had: the next result tries again
                self._memory.forget(result.host, result.check)
                log.error(f"{self._agent}: not recorded yet: {error}")

    def stop(self, timeout: float) -> None:
        """Record what is in memory and deliver for at most *timeout* seconds.

        What is left is delivered by a courier process. A later report starts anew.
        """
        until = time.monotonic() + timeout
        with self._lock:
            writer = self._writer
            if writer is None:
                return
            self._changes.put(None)
        writer.join(max(_SHORTEST, until - time.monotonic()))
        self._wait_for_delivery(until)

    def _wait_for_delivery(self, until: float) -> None:
        """Deliver, or wait for the courier that does; leave the rest to a process of its own."""
        while time.monotonic() < until and not self._is_all_delivered():
            self._rouse()
            delivery = self._delivery
            if delivery is not None and delivery.is_alive():
                delivery.join(max(0.0, until - time.monotonic()))
            else:
                time.sleep(_SHORTEST)
        if self._delivery is not None and self._delivery.is_alive():
            assert self._courier is not None, "it is made before its thread"
            self._courier.stop()
            self._delivery.join(_LAST_WORDS)
        if not self._is_all_delivered():
            recorder.rouse(self._directory, self._config)

    def _is_all_delivered(self) -> bool:
        from flipbell.look import Lookout

        if self._recorded == self._delivered:
            return True
        if self._lookout is None:
            config = self._read_rooms().directory
            self._lookout = Lookout(self._directory, config, self._extensions)
        return self._lookout.is_all_delivered()

    def __enter__(self) -> Self:
        """Return flipbell itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, with time to deliver."""
        self.stop(_TO_DELIVER)

    # The writing thread

    def _start_writer(self) -> None:
        if self._writer is None or not self._writer.is_alive():
            self._writer = threading.Thread(target=self._write, name="flipbell", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        self._recorded += 1  # something may be undelivered from before
        self._rouse()
        while True:
            is_last = not self._write_next()
            with self._lock:
                if is_last and self._changes.empty():
                    self._writer = None
                    return

    def _write_next(self) -> bool:
        """Write what has changed; return False at the end."""
        batch, is_last = self._next_batch()
        self._unwritten += batch
        try:
            if self._unwritten:
                self._memory.record(self._unwritten)
                self._unwritten = []
                self._recorded += 1
            else:
                self._memory.look()
            if self._recorded != self._delivered:  # also if another process's courier was killed
                self._rouse()
        except OSError as error:
            self._complain(error)
        except Exception as error:  # noqa: BLE001  one odd result must not end all recording
            self._complain(error)
            self._drop(len(self._unwritten))
        else:
            self._complained = False
        return not is_last

    def _next_batch(self) -> tuple[list[CheckResult], bool]:
        """Return the changes that wait, or none after a while; and whether to end."""
        batch: list[CheckResult] = []
        try:
            change = self._changes.get(timeout=_LOOK)
            while change is not None:
                batch.append(change)
                change = self._changes.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            log.error(f"{self._agent}: not recorded yet, trying again: {error}")
            self._complained = True
        self._drop(len(self._unwritten) - _UNWRITTEN_LIMIT)

    def _drop(self, count: int) -> None:
        """Give results up; the next ones of their checks are recorded again."""
        for lost in self._unwritten[: max(0, count)]:
            self._memory.forget(lost.host, lost.check)
        del self._unwritten[: max(0, count)]

    # The courier's thread

    def _rouse(self) -> None:
        """See to a courier: this process's own, where no other lives."""
        try:
            self._see_to_courier()
        except Exception as error:  # noqa: BLE001  what is recorded is safe, and this comes again
            self._complain(error)

    def _see_to_courier(self) -> None:
        state.prepare(self._directory)
        if os.environ.get("FLIPBELL_COURIER") == "off":
            recorder.rouse(self._directory, self._config)
            return
        held = None
        if time.monotonic() >= self._tries_again_at:
            held = state.try_lock(self._directory, state.COURIER_LOCK)
        if held is None:
            recorder.rouse(self._directory, self._config)
            return
        try:
            self._start_courier(held)
        except BaseException:
            state.unlock(held)  # or no courier could ever start while this agent lives
            raise

    def _read_rooms(self) -> Rooms:
        """Return the configuration, which is read once, unless the state was bound to another."""
        from flipbell.binding import config_for
        from flipbell.rooms import Rooms

        config = config_for(self._directory, self._config)
        if self._rooms is None or self._rooms.directory != config:
            self._rooms = Rooms(config, self._extensions.channel_types(), log.warning)
            self._rooms.refresh()
        return self._rooms

    def _start_courier(self, held: int) -> None:
        from flipbell.courier import Courier

        rooms = self._read_rooms()
        courier = Courier(self._directory, rooms, self._extensions, lock=held)
        delivery = threading.Thread(
            target=self._deliver, args=(courier,), name="flipbell-courier", daemon=True
        )
        self._courier, self._delivery = courier, delivery
        delivery.start()

    def _deliver(self, courier: Courier) -> None:
        from flipbell.ledger import LedgerError

        recorded = self._recorded
        try:
            if courier.run(stay=False):
                self._delivered = recorded
            elif courier.complaint:  # a process of its own can raise limits, which the agent keeps
                self._tries_again_at = time.monotonic() + _LEFT_TO_OTHERS
        except LedgerError as error:
            log.error(str(error))
        except Exception as error:  # noqa: BLE001  the thread's end must not print a traceback
            log.error(f"the courier failed: {type(error).__name__}: {error}")


def _is_sound(result: object) -> bool:
    return (
        isinstance(result, CheckResult)
        and type(result.host) is str
        and type(result.check) is str
        and isinstance(result.occurred_at, (int, float))
    )


def _forked(this: weakref.ref[Flipbell]) -> None:
    flipbell = this()
    if flipbell is not None:
        flipbell.begin_in_child()


def _exiting(this: weakref.ref[Flipbell]) -> None:
    flipbell = this()
    if flipbell is not None:
        flipbell.stop(_AT_EXIT)
