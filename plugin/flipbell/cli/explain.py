"""`flipbell explain`: which channels would be told of a result, and why or why not."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from flipbell import spool
from flipbell.binding import config_for
from flipbell.cli import CommandError, add_command, known_state
from flipbell.cli.tables import table
from flipbell.config import load
from flipbell.explain import explain
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.log import escaped
from flipbell.model import Status
from flipbell.wording import shown, suggestion

if TYPE_CHECKING:
    import argparse

    from flipbell.config import Config
    from flipbell.explain import Explanation

_FIRST = "This is what its first result would do:"


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
    """Explain; return 0 if a room would be told, 1 if none would."""
    try:
        status = Status.parse(options.status)
    except ValueError:
        got = shown(options.status)
        raise CommandError(
            f"expected OK, WARNING, CRITICAL, UNKNOWN or a number, got {got}"
        ) from None
    directory = known_state(options.state)
    extensions = Extensions.load()
    config = load(config_for(directory, options.config), extensions.channel_types())
    ledger = Ledger.view(directory)
    try:
        result = (options.host, options.check, status)
        explanations = explain(config.channels.values(), ledger, extensions, result, time.time())
        unseen = _unseen(directory, ledger, options.host, options.check)
    finally:
        if ledger is not None:
            ledger.close()
    if options.json:
        print(json.dumps([{**asdict(each), "seen": unseen is None} for each in explanations]))
    else:
        _show(explanations, config, unseen)
    return 0 if any(each.send for each in explanations) else 1


def _show(explanations: list[Explanation], config: Config, unseen: str | None) -> None:
    if unseen is not None:
        print(unseen)
    if explanations:
        rows = [(each.channel, _word(each.send, each.notify), each.reason) for each in explanations]
        print(table(rows))
    elif not config.errors:
        print(f"{config.directory}: no channels; flipbell init makes a first one")
    for problem in config.errors:
        print(problem)


def _unseen(directory: str, ledger: Ledger | None, host: str, check: str) -> str | None:
    """Return what to know of a check that has no result yet; None if it has one."""
    if ledger is not None and ledger.check(host, check) is not None:
        return None
    name = escaped(f"{check} on {host}")
    position = spool.START if ledger is None else ledger.position()
    if not spool.Reader(directory, position).is_at_end():
        return f"{name} was not seen yet, but results wait: run flipbell flush. {_FIRST}"
    similar = [] if ledger is None else ledger.similar(host, check)
    hint = suggestion(f"{check} on {host}", [f"{name} on {home}" for home, name in similar])
    return f"{name} was never seen{hint or '.'} {_FIRST}"


def _word(send: bool, notify: bool) -> str:
    if not send:
        return "not told"
    return "told, rings" if notify else "told, silently"
