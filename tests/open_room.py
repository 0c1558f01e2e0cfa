"""`flipbell room` as a process of its own, and a client that speaks to it over a socket."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import requests

from conftest import FLIPBELL
from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import Self

OTHER_TOKEN = "made-up-token-of-another-room"


class OpenRoom:
    """A room of two, `ops` and `web team`, each with its token; ends with its `with` block."""

    def __init__(self, base: Path, *options: str) -> None:
        self.base = base
        self._options = options
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]  # a fixed one, so that it can open there again
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.session = requests.Session()
        self.session.trust_env = False
        self.tokens = {"ops": TOKEN, "web team": OTHER_TOKEN}
        for name, token in self.tokens.items():
            file = base / f"{name}.token"
            file.write_text(f"{token}\n")
            file.chmod(0o600)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.kill()

    def open(self) -> None:
        """Start the room, again at the same port."""
        rooms = [f"--room={name}={self.base / name}.token" for name in self.tokens]
        place = () if "--memory" in self._options else (f"--state={self.base / 'room'}",)
        command = [FLIPBELL, "room", f"--port={self._port}", *rooms, *place, *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = self._first_line()
        found = re.search(r"https?://\S+:\d+", said)
        assert found, said
        self.url = found[0]

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the room as a person or a service manager does; return its exit status."""
        os.kill(self.pid, number)
        return self._ended()

    def kill(self) -> None:
        """End the room as a power cut does."""
        assert self._process is not None
        self._process.kill()
        self._ended()

    def _ended(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        status = self._process.wait(timeout=20)
        self._process.stdout.close()
        return status

    def post(self, room: str = "ops", **body: Any) -> requests.Response:
        """Post a notification with the room's token."""
        token = self.tokens[room]
        return self.session.post(
            f"{self.url}/v2/room/{room.replace(' ', '%20')}/notification",
            data=json.dumps({"message": "made up", **body}),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=20,
        )

    def take(self, room: str = "ops", **body: Any) -> None:
        """Post a notification, and see that it was taken."""
        answer = self.post(room, **body)
        assert answer.status_code == 204, answer.text

    def get(self, path: str) -> Any:
        """Return what the room says to a page."""
        answer = self.session.get(f"{self.url}{path}", timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def history(self, room: str = "ops", **query: str) -> list[Mapping[str, Any]]:
        """Return a room's history as a client sees it, the newest last."""
        answer = self.session.get(
            f"{self.url}/v2/room/{room.replace(' ', '%20')}/history/latest",
            params={"max-results": "1000", **query},
            headers={"Authorization": f"Bearer {self.tokens[room]}"},
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        items: list[Mapping[str, Any]] = answer.json()["items"]
        return items
