"""Clients that send a byte now and then, or nothing: the room answers the others meanwhile."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest
import requests

from conftest import until
from flipbell.room import patience
from flipbell.room.app import App
from flipbell.room.keys import Keys
from flipbell.room.limits import Limits
from flipbell.room.patience import Connection, Guard
from flipbell.room.server import RoomServer
from flipbell.room.store import Store
from hipchat_room import TOKEN
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

POST = (
    f"POST /v2/room/1/notification HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
)
JSON = f"{POST}Content-Type: application/json\r\n"
# What is sent at first, and what is sent again and again.
DRIPS = {
    "nothing": ("", ""),
    "head": ("GET /api/rooms HTTP/1.1\r\nHost: localhost\r\n", "X-More: 1\r\n"),
    "first line": ("GET /", "a"),
    "body": (f'{JSON}Content-Length: 9999\r\n\r\n{{"message": "', "x"),
    "chunks": (f"{JSON}Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
    "chunk size": (f"{JSON}Transfer-Encoding: chunked\r\n\r\n", "1"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RoomServer]:
    store, keys = Store(), Keys()
    keys.give(store.room("ops"), TOKEN)
    opened = RoomServer(App(store, keys, Limits(is_off=True)), store, ("127.0.0.1", 0))
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def url(server: RoomServer) -> str:
    return server.url


class Dripping:
    """So many connections to a room, each sending the same again and again until the block ends."""

    def __init__(self, url: str, kind: str, count: int) -> None:
        first, self._more = (text.encode() for text in DRIPS[kind])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drip)
        parts = urlsplit(url)
        self.sockets = []
        for _ in range(count):
            opened = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)
            opened.sendall(first)
            self.sockets.append(opened)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for opened in self.sockets:
            opened.close()

    def _drip(self) -> None:
        while not self._over.wait(0.05):
            for opened in self.sockets:
                with contextlib.suppress(OSError):
                    opened.sendall(self._more)

    def answer(self) -> bytes:
        """Return the first line that the first connection gets."""
        try:
            return self.sockets[0].makefile("rb").readline()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("kind", "count"),
    [("head", 300), *((kind, 120) for kind in DRIPS if kind != "head")],
)
def test_many_slow_clients_keep_no_other_waiting(url: str, kind: str, count: int) -> None:
    """There are fewer threads than slow clients."""
    with Dripping(url, kind, count):
        answers = [requests.get(f"{url}/api/rooms", timeout=20) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("kind", ["head", "first line", "body", "chunks", "chunk size"])
def test_a_slow_request_ends_with_408(url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.3)

    with Dripping(url, kind, 1) as slow:
        answer = slow.answer()

    # What arrives after the end resets the connection, perhaps before its answer is read.
    assert answer in (b"HTTP/1.1 408 Request Timeout\r\n", b"")


def test_a_client_that_sends_nothing_has_no_thread(server: RoomServer) -> None:
    threads = server._server.requests
    until(lambda: threads.idle == threads.min)

    with Dripping(server.url, "nothing", 100):
        answer = requests.get(f"{server.url}/api/rooms", timeout=20)
        # They were accepted before that request was.
        until(lambda: threads.idle == threads.min, timeout=5)

    assert answer.status_code == 200


def test_the_size_of_a_chunk_is_not_read_without_end(url: str) -> None:
    parts = urlsplit(url)
    sent = 0
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as raw:
        raw.sendall(f"{JSON}Transfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            for _ in range(100):
                raw.sendall(b"1" * (1 << 19))
                sent += 1 << 19

    assert sent < 40 << 20


def test_a_tls_handshake_that_never_ends_keeps_no_other_waiting(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [
            *(tool("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    with OpenRoom(tmp_path, "--memory", f"--cert={cert}", f"--key={key}") as room:
        parts = urlsplit(room.url)
        address = (parts.hostname or "", parts.port or 0)
        with contextlib.ExitStack() as stack:
            for start in (b"", b"\x16\x03\x01"):
                for _ in range(120):
                    opened = stack.enter_context(socket.create_connection(address, timeout=20))
                    opened.sendall(start)
            url = room.url.replace("127.0.0.1", "localhost")
            with requests.Session() as session:
                session.verify = cert
                session.trust_env = False
                answers = [session.get(f"{url}/api/rooms", timeout=20) for _ in range(2)]
            plain = stack.enter_context(socket.create_connection(address, timeout=20))
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            refused = plain.recv(1000)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert refused.startswith(b"HTTP/1.1 400 ")


class _Noted:
    """A connection that only notes that it was cut."""

    def __init__(self) -> None:
        self.cuts: list[int] = []

    def cut(self, how: int) -> None:
        self.cuts.append(how)


def test_the_slowest_are_ended_first_and_only_as_many_as_wait() -> None:
    now, waiting = [100.0], [0]
    guard = Guard(lambda: waiting[0], lambda: now[0])
    slow = [_Noted() for _ in range(4)]

    def cuts() -> list[int]:
        guard.look()
        return [len(each.cuts) for each in slow]

    with contextlib.ExitStack() as stack:
        for each in slow:
            stack.enter_context(guard.limit(cast("Connection", each), 10, socket.SHUT_RD))
            now[0] += 0.1
        assert cuts() == [0, 0, 0, 0]
        waiting[0] = 2
        assert cuts() == [0, 0, 0, 0]
        now[0] = 100.55
        assert cuts() == [1, 0, 0, 0]
        now[0] = 101.0
        assert cuts() == [2, 1, 0, 0]
        waiting[0] = 0
        assert cuts() == [2, 1, 0, 0]
        now[0] = 110.15
        assert cuts() == [3, 2, 0, 0]
    now[0] = 200.0
    assert cuts() == [3, 2, 0, 0]


def test_a_stream_of_events_has_no_limit_of_its_own(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(patience, "ANSWER_SECONDS", 0.2)
    with requests.get(f"{url}/events", stream=True, timeout=20) as watched:
        lines = watched.iter_lines(decode_unicode=True)
        assert next(lines).startswith("retry")
        with Dripping(url, "head", 1) as slow:
            slow.answer()  # ended, and so is what began before it and had a limit

        _post(url)

        assert any(line.startswith("event: message") for line in lines)


def _post(url: str, **options: Any) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(
        f"{url}/v2/room/1/notification",
        json={"message": "made up"},
        headers=headers,
        timeout=20,
        **options,
    )
    assert answer.status_code == 204
