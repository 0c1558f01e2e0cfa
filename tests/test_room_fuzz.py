"""Requests that no client of good will sends: each gets an answer, and none of them is a 500."""

from __future__ import annotations

import itertools
import json
import random
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest

from flipbell.room.app import App
from flipbell.room.keys import Keys
from flipbell.room.limits import Limits
from flipbell.room.server import RoomServer
from flipbell.room.store import Store
from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HUGE = "9" * 400
TEXTS = (
    *("", " ", "0", "-1", "+1", "1.5", "1e9", "1_0", "inf", "nan", "true", "null", "x" * 3000),
    *("9223372036854775807", "9223372036854775808", "9" * 18, "9" * 19, HUGE, "9" * 6000, "0x10"),
    *(
        "²",
        "٣",
        "\uff11",
        "\0",
        "\n1",
        "1\n",
        "\ud800",
        "🔔",
        "%",
        "%zz",
        "[",
        "]",
        "//",
        "..",
        "a:b",
    ),
    *(
        "2000-01-01",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59-23:59",
        "2000-01-01T00:00:00+99:99",
    ),
    *(
        "recent",
        "' OR 1=1 --",
        "<b>",
        "$",
        "\\",
        '"',
        "Bearer",
        "Bearer ",
        "=?utf-8?b?AA?=",
        "@all",
    ),
)
QUERIES = {
    "/api/rooms/1/messages": ("before", "after", "around", "unknown"),
    "/v2/room/1/history": (
        "date",
        "start-index",
        "max-results",
        "reverse",
        "auth_test",
        "timezone",
    ),
    "/v2/room/1/history/latest": ("not-before", "max-results", "reverse"),
    "/v2/room/1": ("auth_token", "auth_test"),
}
PATHS = ("/%s", "/api/rooms/%s/messages", "/api/rooms/1/%s", "/v2/room/%s", "/v2/room/%s/history")
HEADERS = (
    *("Host", "Authorization", "Content-Type", "Content-Length", "Transfer-Encoding", "Expect"),
    *("Range", "If-None-Match", "If-Modified-Since", "Connection", "X-Forwarded-Host", "Cookie"),
    *("Last-Event-ID", "Accept", "Forwarded", "User-Agent", "Upgrade"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**400, float("1e308"), "", "x", "\0", "\ud800", "<b>x", "y" * 9000),
    *([], [[]], [None], {}, {"a": {}}, {"value": None}, {"value": "x", "format": "html"}),
    *({"html": "<i>x"}, {"url": "http://["}, {"url": 1}, [{"value": {"label": "x"}}], [{}]),
)
FIELDS = ("message", "message_format", "color", "notify", "from", "card", "attach_to", "made up")
CARD_FIELDS = (
    *("style", "title", "id", "url", "description", "activity", "attributes", "icon", "thumbnail"),
    *("format", "date", "validation", "made up"),
)
CARD = {"style": "link", "title": "t", "id": "1"}
RAW_BODIES = (
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"message": "\xff"}',
        b"\0" * 99,
    ),
    *(b"[" * 100_000, b'{"a":' * 100_000, b'{"message": NaN}', b'{"message": 1e999}', b"9" * 9000),
    b'{"message": "x", "color": 1e999}',
    b'{"message": "x", "card": {"style": -1e999}}',
    b'{"message": "\\ud800", "from": "\\udfff"}',
    *(
        b'{"message": "x", "a": ' + b"[" * deep + b"]" * deep + b"}"
        for deep in (200, 400, 900, 990)
    ),
)
CHUNKS = (
    *(b"", b"\r\n", b"x\r\n", b"-1\r\n\r\n", b"0", b"0\r\n", b"5\r\nab\r\n0\r\n\r\n", b"2\r\nabXX"),
    *(
        b"ffffffffffffffff\r\n",
        b"7fffffff\r\nx",
        b"f" * 9000 + b"\r\n",
        b"f" * 100_000,
        b"1;" * 9000,
    ),
    *(b"800001\r\n", b"0\r\nX: y\r\n\r\n", b"1\r\na\r\n1\r\n", b"0x2\r\n{}\r\n0\r\n\r\n"),
)
LINES = (
    *(b"GET", b"GET /", b"GET / HTTP", b"GET / HTTP/9.9", b"GET / HTTP/1.x", b"get / HTTP/1.1"),
    *(b"GET // HTTP/1.1", b"GET //[ HTTP/1.1", b"GET http://[/ HTTP/1.1", b"GET /\xff HTTP/1.1"),
    *(
        b"GET * HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT a:b HTTP/1.1",
        b"CONNECT a:99999 HTTP/1.1",
    ),
    *(
        b"PUT / HTTP/1.1",
        b"POST /v2 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\0\xa5\x01\0\0\xa1",
    ),
    *(
        b"GET /#x HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /?" + b"a" * 70_000 + b" HTTP/1.1",
        b"\r\n\r\n",
    ),
    *(
        b"GET /v2/room/1?" + b"a=b&" * 9000 + b" HTTP/1.1",
        b"GET /%2f%00 HTTP/1.1",
        b"GET  / HTTP/1.1",
    ),
)


class Target:
    """A room that listens, and what it answered."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self.statuses: set[int] = set()

    def send(self, request: bytes) -> int:
        """Send bytes and no more; return the status of the answer, 0 if there was none."""
        with socket.create_connection(self._address, timeout=20) as raw:
            try:
                raw.sendall(request)
                raw.shutdown(socket.SHUT_WR)
                start = raw.makefile("rb").readline()
            except ConnectionError:
                start = b""
        status = int(start.split(b" ")[1]) if start else 0
        assert status < 500 or status in (501, 505), (request[:300], start)
        self.statuses.add(status)
        return status

    def ask(
        self,
        target: str,
        method: str = "GET",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Send a request with some of its headers replaced; *body* has its length, if any."""
        usual = {"Host": "localhost", "Authorization": f"Bearer {TOKEN}", "Connection": "close"}
        if method == "POST":
            usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in {**usual, **(headers or {})}.items()]
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
        return self.send(head.encode("utf-8", "surrogatepass") + body)

    def post(self, body: object, room: str = "1") -> int:
        """Post a notification."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask(f"/v2/room/{room}/notification", "POST", content)


@pytest.fixture(scope="module")
def opened() -> Iterator[Target]:
    store, keys = Store(), Keys()
    keys.give(store.room("ops"), TOKEN)
    app = App(store, keys, Limits(is_off=True), names=["localhost"])
    server = RoomServer(app, store, ("127.0.0.1", 0))
    server.start()
    yield Target(server.url)
    server.stop()


@pytest.fixture
def target(opened: Target, capfd: pytest.CaptureFixture[str]) -> Iterator[Target]:
    """A room, which still shows its messages afterwards, and has printed nothing."""
    opened.statuses.clear()
    yield opened
    assert opened.post({"message": "still at work"}) == 204
    for path in ("/api/rooms", "/api/rooms/1/messages", "/v2/room/1/history"):
        assert opened.ask(path) == 200
    assert "Traceback" not in capfd.readouterr().err


def nested(deep: int) -> list[Any]:
    """Return a list in a list, so many levels deep."""
    value: list[Any] = []
    for _ in range(deep):
        value = [value]
    return value


def encoded(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def test_no_value_in_a_query_is_a_500(target: Target) -> None:
    for path, names in QUERIES.items():
        for name, text in itertools.product(names, TEXTS):
            target.ask(f"{path}?{name}={encoded(text)}")
            target.ask(f"{path}?{name}={encoded(text)}&{name}={encoded(text)}")

    assert target.statuses == {200, 202, 400, 404}


def test_no_value_in_a_path_is_a_500(target: Target) -> None:
    for path, text in itertools.product(PATHS, TEXTS):
        target.ask(path % encoded(text))
        target.ask(path % text.replace(" ", "").replace("\n", "").replace("\0", ""))
        target.ask(path % encoded(text), "POST", b"{}")

    assert {200, 400, 404, 405} <= target.statuses


def test_no_value_in_a_header_is_a_500(target: Target) -> None:
    values = [text.replace("\n", " ") for text in TEXTS]
    for name, value in itertools.product(HEADERS, values):
        for path in ("/", "/api/rooms", "/v2/room/1"):
            target.ask(path, headers={name: value})
        target.ask("/v2/room/1/notification", "POST", b'{"message": "x"}', {name: value})

    assert {200, 204, 400, 401, 413, 421} <= target.statuses


def test_no_value_in_a_body_is_a_500(target: Target) -> None:
    whole = {"message": "x", "color": "red", "from": "me"}
    for name, value in itertools.product(FIELDS, VALUES):
        target.post({**whole, name: value})
    for name, value in itertools.product(CARD_FIELDS, VALUES):
        target.post({**whole, "card": {**CARD, name: value}})
    for deep in (49, 60, 300, 480, 900):
        target.post({**whole, "card": {**CARD, "made up": nested(deep)}})
    for body in (*RAW_BODIES, *VALUES):
        target.post(body)

    assert target.statuses == {204, 400}


def test_no_framing_of_a_body_is_a_500(target: Target) -> None:
    for chunks, path in itertools.product(CHUNKS, ("/v2/room/1/notification", "/api/rooms", "/")):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        target.send(head.encode() + chunks)
    for length in ("-1", "1", "99", "9" * 20, "9" * 5000, "8388608", "8388609", "0", "x", "1, 1"):
        target.ask("/v2/room/1/notification", "POST", b"{}", {"Content-Length": length})

    assert target.statuses == {400, 405, 413}


def test_no_first_line_is_a_500(target: Target) -> None:
    for line in LINES:
        target.send(line + b"\r\nHost: localhost\r\n\r\n")
        target.send(line)

    assert {200, 400, 404, 405, 414} <= target.statuses


def test_no_mutation_of_a_good_request_is_a_500(target: Target, is_long: bool) -> None:
    chance = random.Random(12)
    good = (
        f"POST /v2/room/1/notification?auth_test=true HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        'Content-Length: 16\r\n\r\n{"message": "x"}'
    ).encode()
    for _ in range(20_000 if is_long else 400):
        request = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(request))
            piece = bytes(
                chance.choice(b'\r\n\0 :/?%\xff0aZ{["') for _ in range(chance.randint(0, 3))
            )
            request[at : at + chance.randint(0, 3)] = piece
        target.send(bytes(request))

    assert {202, 400, 401} <= target.statuses
