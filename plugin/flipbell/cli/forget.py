"""`flipbell forget`: a check that is no more; it is forgotten in its turn, like any result."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flipbell import places, recorder, spool
from flipbell.cli import add_command

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


def command(options: argparse.Namespace) -> int:
    """Record that a check is to be forgotten."""
    directory = places.find_state(options.state, os.environ)
    host, check = os.fsencode(options.host), os.fsencode(options.check)
    line = spool.encode(host, check, spool.FORGET, b"", time.time())
    recorder.append(directory, [line])
    recorder.rouse(directory, options.config)
    return 0
