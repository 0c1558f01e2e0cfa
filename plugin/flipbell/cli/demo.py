"""`flipbell demo`: the whole thing in one command, against a room that it opens itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flipbell.cli import add_command, seconds
from flipbell.cli.room import require_extra
from flipbell.cli.tables import colored
from flipbell.model import Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from flipbell.room.store import Message, Store

_ROOM = "ops"
_PAUSE = 4.0  # seconds between results, so that a person can follow
_STORY = (
    ("web-01", "disk", Status.OK, "DISK OK - 40% free"),
    ("web-01", "disk", Status.WARNING, "DISK WARNING - 15% free"),
    ("db-01", "backup", Status.UNKNOWN, "BACKUP UNKNOWN - no answer"),
    ("web-01", "disk", Status.CRITICAL, "DISK CRITICAL - 3% free"),
    ("web-01", "disk", Status.CRITICAL, "DISK CRITICAL - 2% free"),
    ("db-01", "backup", Status.OK, "BACKUP OK - done in 4 min"),
    ("web-01", "disk", Status.OK, "DISK OK - 38% free"),
)
_CHANNEL = """\
channels:
  ops:
    url: {url}
    room: ops
    token_file: {base}/token
    notify: {{warning: false}}   # heard of, without a ring
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "demo",
        command,
        summary="show checks that flip and a room that hears of it, all on this machine",
        example="flipbell demo",
        places="",
    )
    parser.add_argument(
        "--headless",
        action="store_true",
        help="do not wait for anybody to watch (as where stdout is no terminal)",
    )
    parser.add_argument(
        "--pause",
        metavar="SECONDS",
        type=seconds,
        default=_PAUSE,
        help=f"between results, for whoever watches (default: {_PAUSE:g})",
    )


@dataclass(frozen=True, slots=True)
class _Site:
    """A room that listens, and an environment in which flipbell knows of it."""

    url: str
    store: Store
    environ: dict[str, str]

    def flipbell(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-I", "-m", "flipbell", *arguments]
        return subprocess.run(command, env=self.environ, check=False, capture_output=True)  # noqa: S603  itself


def command(options: argparse.Namespace) -> int:
    """Run checks that flip; return 0 if the room heard of each change once."""
    require_extra()
    is_watched = sys.stdout.isatty() and not options.headless
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with _site() as site:
        print(f"The room's page: {site.url}/")
        print("The channel ops posts to it. Everything is told, WARNING and OK without a ring.\n")
        sys.stdout.flush()
        is_right = True
        for number, result in enumerate(_STORY):
            over.wait(options.pause if is_watched and number else 0)
            is_right &= _tell(site, *result)
        heard = site.store.after(0, len(_STORY))
        rings = sum(message.notify for message in heard)
        print(f"{len(_STORY)} results, {len(heard)} messages: one for each change, none between.")
        print(f"{rings} of them rang.")
        if is_watched:
            _stay(site)
    return 0 if is_right else 1


def _stay(site: _Site) -> None:
    """Leave the page open until a person has seen enough."""
    try:
        print(f"The page stays open: {site.url}/  Ctrl-C ends it.", flush=True)
        while True:
            time.sleep(1)  # not for ever: a signal just before a long wait would not end it
    except KeyboardInterrupt:
        print()


@contextmanager
def _site() -> Iterator[_Site]:
    from flipbell.room.app import App
    from flipbell.room.keys import Keys
    from flipbell.room.limits import Limits
    from flipbell.room.opening import new_token
    from flipbell.room.server import RoomServer
    from flipbell.room.store import Store

    store, keys, token = Store(), Keys(), new_token()
    keys.give(store.room(_ROOM), token)
    app = App(store, keys, Limits(), names=["localhost"])
    server = RoomServer(app, store, ("127.0.0.1", 0))
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="flipbell-demo-") as base:
            yield _Site(server.url, store, _written(base, server.url, token))
    finally:
        server.stop()


def _written(base: str, url: str, token: str) -> dict[str, str]:
    """Write a configuration; return the environment that names it."""
    os.mkdir(f"{base}/conf.d")
    for name, content in (
        ("token", token),
        ("conf.d/ops.yaml", _CHANNEL.format(url=url, base=base)),
    ):
        made = os.open(f"{base}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(made, "w", encoding="utf-8") as file:
            file.write(content)
    return {
        **os.environ,
        "FLIPBELL_CONFIG": f"{base}/conf.d",
        "FLIPBELL_STATE": f"{base}/state",
        "FLIPBELL_COURIER": "off",  # so that each message is seen before the next result
    }


def _tell(site: _Site, host: str, check: str, status: Status, output: str) -> bool:
    """Run a check and say what the room heard; return whether that is what it had to hear."""
    expected = _explained(site, host, check, status)
    plugin = ["sh", "-c", f"echo '{output}'; exit {status.value}"]
    done = site.flipbell("run", "--host", host, "--check", check, "--", *plugin)
    before = site.store.newest
    site.flipbell("flush")
    heard = site.store.after(before, len(_STORY))
    answer = colored(done.stdout.decode().strip(), status)
    print(f"flipbell run --host {host} --check {check} -- …  →  {answer}, exit {done.returncode}")
    for message in heard:
        print(f"    the room hears{_manner(message)}: {_text(message)}")
    if not heard:
        print("    the room hears nothing")
    print(f"    why: {expected['reason']}\n", flush=True)
    return len(heard) == expected["send"] and done.returncode == status.value


def _explained(site: _Site, host: str, check: str, status: Status) -> dict[str, Any]:
    """Return what `flipbell explain` says of a result before it comes."""
    said = site.flipbell("explain", host, check, status.name, "--json").stdout
    explanation: dict[str, Any] = json.loads(said)[0]
    return explanation


def _manner(message: Message) -> str:
    return f", in {message.color}" + (", and rings" if message.notify else "")


def _text(message: Message) -> str:
    from flipbell.room import sanitise

    return sanitise.text(message.message).replace("\n", " | ")
