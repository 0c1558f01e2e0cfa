"""`flipbell demo`: the whole thing in one command, against a room that it starts itself."""

from __future__ import annotations

import html
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from flipbell.cli import add_command
from flipbell.cli.tables import colored
from flipbell.model import Status

if TYPE_CHECKING:
    import argparse

_HEARD: list[dict[str, Any]] = []
_STORY = (
    (Status.OK, "DISK OK - 40% free", "all was well from the start"),
    (Status.WARNING, "DISK WARNING - 15% free", ""),
    (Status.CRITICAL, "DISK CRITICAL - 3% free", ""),
    (Status.CRITICAL, "DISK CRITICAL - 2% free", "nothing has changed"),
    (Status.OK, "DISK OK - 38% free", ""),
)
_CHANNEL = """\
channels:
  ops:
    url: {url}
    room: 4242
    token_env: DEMO_TOKEN
    notify: {{warning: false}}
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    add_command(
        commands,
        "demo",
        command,
        summary="show a check that flips and a room that hears of it, all on this machine",
        example="flipbell demo",
        places="",
    )


def command(_: argparse.Namespace) -> int:
    """Run a check that flips; return 0 where the room heard each change once."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Room)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    print(f"A room listens at {url} until this ends. It rings for CRITICAL and UNKNOWN.\n")
    with tempfile.TemporaryDirectory(prefix="flipbell-demo-") as base:
        environ = _site(base, url)
        for status, output, silence in _STORY:
            _tell(environ, status, output, silence)
    server.shutdown()
    print(f"{len(_STORY)} results, {len(_HEARD)} messages: one for each change, none between.")
    return 0 if len(_HEARD) == sum(not silence for _, _, silence in _STORY) else 1


def _site(base: str, url: str) -> dict[str, str]:
    """Write a configuration; return the environment that names it."""
    os.mkdir(f"{base}/conf.d")
    with open(f"{base}/conf.d/ops.yaml", "w", encoding="utf-8") as file:
        file.write(_CHANNEL.format(url=url))
    return {
        **os.environ,
        "FLIPBELL_CONFIG": f"{base}/conf.d",
        "FLIPBELL_STATE": f"{base}/state",
        "FLIPBELL_COURIER": "off",  # so that each message is seen before the next result
        "DEMO_TOKEN": "made-up-for-the-demo",
    }


def _tell(environ: dict[str, str], status: Status, output: str, silence: str) -> None:
    check = ["sh", "-c", f"echo '{output}'; exit {status.value}"]
    wrapped = ["run", "--host", "web-01", "--check", "disk", "--", *check]
    done = _flipbell(environ, wrapped)
    answer = colored(done.stdout.decode().strip(), status)
    print(f"flipbell run --check disk -- …  →  {answer}, exit status {done.returncode}")
    before = len(_HEARD)
    _flipbell(environ, ["flush"])
    for body in _HEARD[before:]:
        rings = "and rings" if body["notify"] else "silently"
        text = html.unescape(re.sub("<[^>]*>", "", body["message"].replace("<br>", " | ")))
        print(f"    the room hears, {rings}, in {body['color']}: {text}")
    if len(_HEARD) == before:
        print(f"    the room hears nothing: {silence or 'and that is wrong'}")
    print()


def _flipbell(environ: dict[str, str], arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-m", "flipbell", *arguments]
    return subprocess.run(command, env=environ, check=False, capture_output=True)  # noqa: S603  itself


class _Room(http.server.BaseHTTPRequestHandler):
    """Hears what is posted to it, as HipChat would."""

    def do_POST(self) -> None:
        """Take a notification."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        _HEARD.append(json.loads(content))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet: the demo tells what was heard."""
