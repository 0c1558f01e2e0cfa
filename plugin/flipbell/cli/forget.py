"""`flipbell forget`: a check that is no more; it is forgotten in its turn, like any result."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flipbell import recorder, spool
from flipbell.cli import CommandError, add_command, known_state
from flipbell.ledger import Ledger

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "forget",
        command,
        summary="forget a check: its next result is a first one",
        example="flipbell forget web-01 disk",
    )
    parser.add_argument("host")
    parser.add_argument("check")


def _is_known(directory: str, host: str, check: str) -> bool:
    """Return whether a check was seen, or may be in what the courier has yet to take."""
    ledger = Ledger.view(directory)
    if ledger is None:
        return not spool.Reader(directory).is_at_end()
    try:
        is_taken = spool.Reader(directory, ledger.position()).is_at_end()
        return not is_taken or ledger.check(host, check) is not None
    finally:
        ledger.close()


def command(options: argparse.Namespace) -> int:
    """Record that a check is to be forgotten."""
    directory = known_state(options.state)
    if not _is_known(directory, options.host, options.check):
        raise CommandError(f"{options.check} on {options.host} was never seen; see flipbell status")
    host, check = os.fsencode(options.host), os.fsencode(options.check)
    line = spool.encode(host, check, spool.FORGET, b"", time.time())
    recorder.append(directory, [line])
    recorder.rouse(directory, options.config)
    return 0
