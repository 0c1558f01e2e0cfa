"""`flipbell hooks`: the drop-ins, with this installation's own path filled in."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from flipbell.cli import CommandError, add_command
from flipbell.cli.shipped import shipped
from flipbell.cli.tables import table

if TYPE_CHECKING:
    import argparse

_PLACEHOLDERS = ('"flipbell"', "/usr/local/bin/flipbell")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "hooks",
        command,
        summary="list the drop-in hooks, print one ready to paste, or write it",
        example="flipbell hooks mackerel-agent",
        places="",
    )
    parser.add_argument("agent", nargs="?")
    parser.add_argument("--install", metavar="DIR", help="write the files there; never overwrites")


def command(options: argparse.Namespace) -> int:
    """List, print or write drop-ins."""
    found = sorted(shipped("hooks").iterdir())
    folders = {folder.name: folder for folder in found if folder.is_dir()}
    if options.agent is None and options.install:
        raise CommandError(f"--install: expected an agent, one of {', '.join(folders)}")
    if options.agent is None:
        print(table([(name, _about(folder)) for name, folder in folders.items()]))
        return 0
    if options.agent not in folders:
        raise CommandError(f"no hook for {options.agent}; there are: {', '.join(folders)}")
    files = {
        file.name: _filled_in(file.read_text(encoding="utf-8"))
        for file in sorted(folders[options.agent].iterdir())
        if file.is_file() and file.name != "README.md"
    }
    if options.install:
        _install(Path(options.install), files)
    else:
        print("\n".join(files.values()), end="")
    return 0


def _about(folder: Path) -> str:
    title = (folder / "README.md").read_text(encoding="utf-8").split("\n", 1)[0]
    return title.removeprefix("# ")


def _filled_in(text: str) -> str:
    """Write the whole path of this flipbell, for an agent's PATH is short."""
    launcher = _launcher()
    for placeholder in _PLACEHOLDERS:
        path = f'"{launcher}"' if placeholder.startswith('"') else launcher
        text = text.replace(placeholder, path)
    return text


def _launcher() -> str:
    """Return flipbell's path as it was called: a link to it stays the same after an upgrade."""
    launcher = os.path.join(sysconfig.get_path("scripts"), "flipbell")
    called = os.path.abspath(sys.argv[0])
    is_link = os.path.exists(called) and os.path.realpath(called) == os.path.realpath(launcher)
    return called if is_link else launcher


def _install(directory: Path, files: dict[str, str]) -> None:
    if not directory.is_dir():
        raise CommandError(f"{directory}: no such directory; make it first")
    for name in files:
        if (directory / name).exists():
            raise CommandError(f"{directory / name} exists; nothing was written")
    for name, content in files.items():
        with (directory / name).open("x", encoding="utf-8") as file:
            file.write(content)
        print(f"wrote {directory / name}", file=sys.stderr)
