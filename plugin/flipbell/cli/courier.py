"""`flipbell courier` and `flipbell flush`: deliver, for as long as there is need or once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from flipbell import fifo, log, look, places, state, summon, unit
from flipbell.cli import CommandError, add_command, known_state, seconds
from flipbell.ledger import Ledger, LedgerError
from flipbell.log import escaped

if TYPE_CHECKING:
    import argparse
    import threading
    from collections.abc import Callable, Iterator

    from flipbell.courier import Courier

_LOOK = 0.1  # seconds
_ASK_AGAIN = 5.0  # seconds: each time wakes a courier that may not be one that yields
_TELL = 0.5  # seconds between words on the progress


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    import argparse

    parser = add_command(
        commands,
        "courier",
        run,
        summary="deliver in the foreground until stopped, for a service manager",
        example="flipbell courier --config /etc/flipbell/conf.d",
    )
    parser.add_argument(
        "--until-idle", action="store_true", help="end when everything is delivered"
    )
    parser.add_argument("--handed-over", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--in-scope", action="store_true", help=argparse.SUPPRESS)
    parser = add_command(
        commands,
        "flush",
        flush,
        summary="try everything undelivered now, and wait for it",
        example="flipbell flush --timeout 60",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="wait at most (default: 60)",
    )


def run(options: argparse.Namespace) -> int:
    """Be the courier."""
    directory = places.find_state(options.state, os.environ)
    options.config = places.said_config(options.config, os.environ)
    os.chdir("/")  # the agent's directory may be unmounted one day
    os.umask(0o077)
    if options.handed_over:
        return _run_handed_over(directory, options)
    state.prepare(directory)
    courier = _courier(directory, options.config, _take_over(directory))
    _on_end_signals(courier.wind_up if options.until_idle else courier.stop)
    try:
        courier.run(stay=not options.until_idle)
    except LedgerError as error:
        raise CommandError(str(error)) from None
    return 0


def _run_handed_over(directory: str, options: argparse.Namespace) -> int:
    """Be the courier that a front has started: stderr is not shown, so errors go to the log."""
    try:
        if not options.in_scope and unit.leave(summon.HANDED_OVER):
            return 0
        courier = _courier(directory, options.config, summon.HANDED_OVER)
        os.set_inheritable(summon.HANDED_OVER, False)
        if options.in_scope:
            # A SIGTERM that came before belonged to the unit that was left: ignoring drops it.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _on_end_signals(courier.wind_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return 0 if courier.run(stay=False, yields=True) else 1
    except LedgerError as error:
        log.error(str(error))
        return 1
    except Exception as error:  # noqa: BLE001  a courier's death must be heard of
        log.error(f"the courier failed: {type(error).__name__}: {error}")
        return 1


def _courier(directory: str, config: str | None, lock: int) -> Courier:
    from flipbell.binding import config_for
    from flipbell.courier import Courier
    from flipbell.extensions import Extensions
    from flipbell.rooms import Rooms

    extensions = Extensions.load()
    rooms = Rooms(config_for(directory, config), extensions.channel_types(), log.warning)
    return Courier(directory, rooms, extensions, lock=lock)


def _take_over(directory: str) -> int:
    """Take the courier's lock, waiting for another courier to end for as long as that takes.

    A service manager would only start this one again and again. A SIGTERM ends the wait.
    """
    lock = state.try_lock(directory, state.COURIER_LOCK)
    if lock is None:
        notice = f"another courier is at work for {directory}; waiting until it ends"
        log.warning(notice)
        print(f"flipbell: {escaped(notice)}", file=sys.stderr, flush=True)
    ask_at = 0.0
    while lock is None:
        if time.monotonic() > ask_at and fifo.wake(directory, fifo.YIELD):
            ask_at = time.monotonic() + _ASK_AGAIN
        time.sleep(_LOOK)
        lock = state.try_lock(directory, state.COURIER_LOCK)
    return lock


def _on_end_signals(end: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end())


def flush(options: argparse.Namespace) -> int:
    """Have everything tried; return 0 only when nothing is left."""
    directory = known_state(options.state)
    state.check(directory)
    if not os.path.isdir(directory):
        return 0  # nothing was ever recorded
    state.prepare(directory)
    lock = state.try_lock(directory, state.COURIER_LOCK)
    if lock is not None:
        courier = _courier(directory, options.config, lock)
        _stop_after(courier, options.timeout)
        try:
            with progress(directory, options.config):
                is_empty = courier.flush()
            if courier.complaint:
                raise CommandError(f"{courier.complaint}; mend it, or move the directory aside")
        except LedgerError as error:
            raise CommandError(str(error)) from None
    else:
        with progress(directory, options.config):
            is_empty = _wait_for_other(directory, options)
    if not is_empty:
        print("flipbell: something is still undelivered; see flipbell status", file=sys.stderr)
    return 0 if is_empty else 1


@contextlib.contextmanager
def progress(directory: str, config: str | None) -> Iterator[None]:
    """Tell a terminal how much is left, once it takes longer than a moment."""
    import threading

    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(directory, config, over))
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _tell(directory: str, config: str | None, over: threading.Event) -> None:
    has_told = False
    while not over.wait(_TELL):
        seen = look.survey(directory, config)
        parts = [f"{view.waiting} for {view.state.name}" for view in seen.waiting]
        left = ", ".join(parts) or "results to be taken"
        print(f"\r\033[Kwaiting: {escaped(left)}", end="", file=sys.stderr, flush=True)
        has_told = True
    if has_told:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _stop_after(courier: Courier, seconds: float) -> None:
    import threading

    timer = threading.Timer(seconds, courier.stop)
    timer.daemon = True
    timer.start()


def _wait_for_other(directory: str, options: argparse.Namespace) -> bool:
    """Ask the living courier to try everything, and watch it."""
    _refuse_mismatch(directory, options.config)
    begun = time.time()
    until = time.monotonic() + options.timeout
    fifo.wake(directory, fifo.FLUSH)
    while time.monotonic() < until:
        time.sleep(_LOOK)
        seen = look.survey(directory, options.config)
        if seen.is_all_delivered:
            return True
        # A ledger that the courier is about to set aside cannot be read for a moment.
        is_taken = seen.is_known and not seen.untaken
        if is_taken and all(_failed_since(channel, begun) for channel in seen.waiting):
            return False
    return False


def _refuse_mismatch(directory: str, config: str | None) -> None:
    """Raise CommandError if the living courier delivers for another configuration."""
    import sqlite3

    from flipbell.binding import config_for, mismatch

    ledger = Ledger.view(directory)
    if ledger is None:
        return
    try:
        fault = mismatch(ledger, config_for(directory, config))
    except sqlite3.Error:
        # The courier is about to set a broken ledger aside.
        return
    finally:
        ledger.close()
    if fault is not None:
        raise CommandError(fault)


def _failed_since(channel: look.ChannelView, begun: float) -> bool:
    """Return whether a channel has failed in a try that was made since, not one under way then."""
    failed_at = channel.state.last_error_at
    has_failed = failed_at is not None and failed_at >= begun <= channel.last_try
    return channel.fault is not None or has_failed
