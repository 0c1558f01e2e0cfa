"""`flipbell explain`: which channels would be told of a result, and why or why not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from flipbell import places
from flipbell.binding import config_for
from flipbell.cli import CommandError, add_command
from flipbell.cli.tables import table
from flipbell.config import load
from flipbell.explain import explain
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.model import Status

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "explain",
        command,
        summary="show which channels would be told of a result, and why or why not",
        example="flipbell explain web-01 disk CRITICAL",
    )
    parser.add_argument("host")
    parser.add_argument("check")
    parser.add_argument("status", help="OK, WARNING, CRITICAL, UNKNOWN or an exit status")
    parser.add_argument("--json", action="store_true", help="for programs")


def command(options: argparse.Namespace) -> int:
    """Explain; return 0 where a room would be told, 1 where none would."""
    try:
        status = Status.parse(options.status)
    except ValueError as error:
        raise CommandError(str(error)) from None
    directory = places.find_state(options.state, os.environ)
    extensions = Extensions.load()
    config = load(config_for(directory, options.config), extensions.channel_types())
    ledger = Ledger.view(directory)
    try:
        result = (options.host, options.check, status)
        found = explain(config.channels.values(), ledger, extensions, result, time.time())
    finally:
        if ledger is not None:
            ledger.close()
    if options.json:
        print(json.dumps([asdict(explanation) for explanation in found]))
    elif found:
        print(table([(each.channel, _word(each.send, each.notify), each.reason) for each in found]))
    elif not config.errors:
        print(f"{config.directory}: no channels; flipbell init makes a first one")
    for problem in config.errors:
        print(problem)
    return 0 if any(explanation.send for explanation in found) else 1


def _word(send: bool, notify: bool) -> str:
    if not send:
        return "not told"
    return "told, rings" if notify else "told, silently"
