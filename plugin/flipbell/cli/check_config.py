"""`flipbell check-config` and `flipbell test`: find a mistake before an incident does."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from flipbell import config, identity, message, unclosed
from flipbell.binding import config_for
from flipbell.channels.token import Token, TokenError
from flipbell.cli import CommandError, add_command
from flipbell.cli.tables import clock, table
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.log import escaped
from flipbell.model import Status, Transition, Verdict
from flipbell.places import find_state
from flipbell.rooms import Rooms
from flipbell.wording import is_token_like, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from flipbell.channels import ChannelType
    from flipbell.model import Channel, Outcome


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    parser = add_command(
        commands,
        "check-config",
        check_config,
        summary="show every problem of the configuration, or what each channel hears",
        example="flipbell check-config --online",
    )
    parser.add_argument(
        "--online", action="store_true", help="ask each room whether it would take a notification"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser = add_command(
        commands,
        "test",
        test,
        summary="send one real notification, marked as a test",
        example="flipbell test ops --status WARNING",
    )
    parser.add_argument("channel")
    parser.add_argument("--status", default="CRITICAL", help="the status to tell (CRITICAL)")


_RECENT = 7 * 86400.0


def _read(options: argparse.Namespace) -> tuple[config.Config, Mapping[str, ChannelType]]:
    directory = config_for(find_state(options.state, os.environ), options.config)
    identity.become_owner(directory)
    types = Extensions.load().channel_types()
    return config.load(directory, types), types


def _notes(state: str, config: str, types: Mapping[str, ChannelType]) -> list[str]:
    """Return what the ledger knows of channels that came and went; nothing if it cannot tell."""
    rooms = Rooms(config, types)
    rooms.refresh()
    try:
        ledger = Ledger.view(state)
        if ledger is None:
            return []
        try:
            recent = ledger.renames(since=time.time() - _RECENT)
            return [
                *(f"{clock(each.at)}: {each}" for each in recent),
                *unclosed.renamings(ledger, rooms.names()),
                *(
                    f"warning: {text}"
                    for text in unclosed.warnings(ledger, rooms.names(), rooms.channels)
                ),
            ]
        finally:
            ledger.close()
    except (sqlite3.Error, OSError):
        return []


def _tokens_of_environment(read: config.Config) -> Iterator[tuple[str, bool]]:
    """Yield what is wrong with a token that the environment holds, and if that is sure.

    If this environment lacks it, that of the courier may still have it.
    """
    for channel in read.channels.values():
        token = getattr(channel.settings, "token", None)
        if isinstance(token, Token) and token.variable is not None:
            try:
                token.read(os.environ)
            except TokenError as error:
                is_sure = token.variable in os.environ
                kind = "cannot send" if is_sure else "warning"
                yield f"channel {channel.name}: {kind}: {error}", is_sure


def check_config(options: argparse.Namespace) -> int:
    """Show problems and channels; return 0 only if every channel works."""
    read, types = _read(options)
    notes = _notes(find_state(options.state, os.environ), read.directory, types)
    faults = [*_tokens_of_environment(read)]
    notes += [text for text, _ in faults]
    answers: dict[str, Outcome] = {}
    if options.online:
        for channel in read.channels.values():
            answers[channel.name] = types[channel.type].open(channel).ask()
    if options.json:
        print(json.dumps({**_as_json(read, answers), "notes": notes}))
    else:
        _print(read, answers)
        for note in notes:
            print(escaped(note))
    refused = any(answer.verdict is not Verdict.DELIVERED for answer in answers.values())
    cannot_send = bool(read.obstacles) or any(is_sure for _, is_sure in faults)
    return 1 if read.errors or cannot_send or refused or not read.channels else 0


def _print(read: config.Config, answers: dict[str, Outcome]) -> None:
    for problem in read.problems:
        text = str(problem)
        print(text.replace(": warning: ", ": cannot send: ", 1) if problem.blocks else text)
    for channel in read.channels.values():
        print(_described(channel))
        if channel.name in answers:
            print(f"  online: {_answered(answers[channel.name])}")
    if not read.channels and not read.problems:
        print(f"{escaped(read.directory)}: no channels; flipbell init makes a first one")


def _described(channel: Channel) -> str:
    rows = [("status", "heard", "rings", "colour")]
    for status in Status:
        heard = status in channel.send
        rings = heard and status in channel.notify
        color = channel.color[status] if heard else "-"
        rows.append((status.name, "yes" if heard else "-", "yes" if rings else "-", color))
    lines = table(rows).replace("\n", "\n  ")
    matched = ", ".join(f"{pattern.check} on {pattern.host}" for pattern in channel.match)
    excluded = ", ".join(f"{pattern.check} on {pattern.host}" for pattern in channel.exclude)
    of = f"{matched}, but not {excluded}" if excluded else matched
    return f"channel {channel.name}: checks {of}\n  {lines}"


def _answered(outcome: Outcome) -> str:
    is_fine = outcome.verdict is Verdict.DELIVERED
    return "the room takes notifications" if is_fine else outcome.reason


def _as_json(read: config.Config, answers: dict[str, Outcome]) -> dict[str, object]:
    return {
        "config": read.directory,
        "problems": [
            {
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "key": problem.key,
                "message": problem.message,
                "warning": problem.is_warning and not problem.blocks,
            }
            for problem in read.problems
        ],
        "channels": {
            channel.name: {
                "send": sorted(status.name for status in channel.send),
                "notify": sorted(status.name for status in channel.notify),
                "color": {status.name: color for status, color in channel.color.items()},
                "online": _answered(answers[channel.name]) if channel.name in answers else None,
            }
            for channel in read.channels.values()
        },
    }


def _named(channel: str) -> str:
    return "of that name" if is_token_like(channel) else repr(channel)


def test(options: argparse.Namespace) -> int:
    """Send a test; return 0 if the room has it."""
    try:
        status = Status.parse(options.status)
    except ValueError:
        expected = "expected OK, WARNING, CRITICAL, UNKNOWN or a number"
        raise CommandError(f"--status: {expected}, got {shown(options.status)}") from None
    read, types = _read(options)
    channel = read.channels.get(options.channel)
    if channel is None:
        known = ", ".join(sorted(read.channels)) or "none"
        raise CommandError(
            f"no usable channel {_named(options.channel)} in {read.directory} (usable: {known}); "
            "see flipbell check-config"
        )
    now = time.time()
    transition = Transition(
        id=0,
        host=os.uname().nodename,
        check="flipbell test",
        previous=None,
        status=status,
        output="This is a test notification; nothing is wrong.",
        occurred_at=now,
    )
    notify = status in channel.notify
    notification = message.notification(
        transition, channel, notify=notify, now=now, mark=message.TEST
    )
    outcome = types[channel.type].open(channel).send(notification)
    if outcome.verdict is Verdict.DELIVERED:
        rings = "rings" if notify else "does not ring"
        print(f"channel {channel.name} accepted the test message, and {rings}")
        return 0
    print(f"channel {channel.name}: {outcome.reason}")
    return 1
