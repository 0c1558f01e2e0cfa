"""`flipbell hooks`: the drop-ins, with this installation's own path filled in."""

from __future__ import annotations

import json
import os
import shlex
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from flipbell.cli import CommandError, add_command
from flipbell.cli.shipped import shipped
from flipbell.cli.tables import table
from flipbell.wording import suggestion, without_token

if TYPE_CHECKING:
    import argparse

_QUOTED = '"/usr/local/bin/flipbell"'  # one word of a list
_BARE = "/usr/local/bin/flipbell"  # a word that a shell splits, or an agent as a shell does
_SHIPPED = "/usr/local/share/flipbell/hooks"


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
    parser.add_argument("file", nargs="?", help="one of its files (default: all)")
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
        names = f"{', '.join(folders)}{suggestion(options.agent, folders)}"
        raise CommandError(f"no hook for {without_token(options.agent)}; there are: {names}")
    files = _files(folders[options.agent], options.file)
    if options.install:
        _install(Path(options.install), files)
    else:
        print("\n".join(map(filled_in, files)), end="")
    return 0


def _files(folder: Path, wanted: str | None) -> list[Path]:
    """Return a folder's drop-ins, or the one that is wanted."""
    found = [file for file in sorted(folder.iterdir()) if file.is_file()]
    found = [file for file in found if file.name != "README.md"]
    chosen = [file for file in found if wanted in (None, file.name)]
    if not chosen:
        names = ", ".join(file.name for file in found)
        raise CommandError(f"{folder.name} has no {wanted}; there are: {names}")
    return chosen


def _about(folder: Path) -> str:
    title = (folder / "README.md").read_text(encoding="utf-8").split("\n", 1)[0]
    return title.removeprefix("# ")


def filled_in(file: Path) -> str:
    """Return the text with the whole path of this flipbell, for an agent's PATH is short."""
    text = file.read_text(encoding="utf-8")
    launcher = _launcher()
    text = text.replace(_QUOTED, json.dumps(launcher, ensure_ascii=False))
    text = text.replace(_BARE, shlex.quote(launcher))
    return text.replace(_SHIPPED, str(shipped("hooks")))


def _launcher() -> str:
    """Return flipbell's path as it was called: a link to it stays the same after an upgrade."""
    launcher = os.path.join(sysconfig.get_path("scripts"), "flipbell")
    called = os.path.abspath(sys.argv[0])
    is_link = os.path.exists(called) and os.path.realpath(called) == os.path.realpath(launcher)
    return called if is_link else launcher


def _install(directory: Path, files: list[Path]) -> None:
    if not directory.is_dir():
        raise CommandError(f"{directory}: no such directory; make it first")
    for file in files:
        if (directory / file.name).exists():
            raise CommandError(f"{directory / file.name} exists; nothing was written")
    for file in files:
        content = filled_in(file)
        with (directory / file.name).open("x", encoding="utf-8") as written:
            written.write(content)
        if content.startswith("#!"):
            os.chmod(directory / file.name, 0o755)  # noqa: S103  an agent of any user runs it
        print(f"wrote {directory / file.name}", file=sys.stderr)
