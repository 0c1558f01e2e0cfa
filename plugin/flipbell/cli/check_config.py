"""`flipbell check-config`: every problem at once, before an incident finds it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flipbell import config
from flipbell.cli import add_command
from flipbell.cli.tables import table
from flipbell.courier import config_for
from flipbell.extensions import Extensions
from flipbell.model import Status
from flipbell.places import find_state

if TYPE_CHECKING:
    import argparse

    from flipbell.model import Channel


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    add_command(
        commands,
        "check-config",
        command,
        summary="show every problem of the configuration, or what each channel hears",
        example="flipbell check-config --config /etc/flipbell/conf.d",
    )


def command(options: argparse.Namespace) -> int:
    """Show problems and channels; return 0 only where every channel works."""
    directory = config_for(find_state(options.state, os.environ), options.config)
    read = config.load(directory, Extensions.load().channel_types())
    for problem in read.problems:
        print(problem)
    for channel in read.channels.values():
        print(_described(channel))
    if not read.channels and not read.problems:
        print(f"{directory}: no channels; write one as in the README")
    return 1 if read.errors or not read.channels else 0


def _described(channel: Channel) -> str:
    rows = [("status", "heard", "rings", "colour")]
    for status in Status:
        heard = status in channel.send
        rows.append(
            (
                status.name,
                "yes" if heard else "-",
                "yes" if heard and status in channel.notify else "-",
                channel.color[status] if heard else "-",
            )
        )
    lines = table(rows).replace("\n", "\n  ")
    return f"channel {channel.name}\n  {lines}"
