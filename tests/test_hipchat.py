"""The HipChat channel over a real socket: the request to the letter, and what each answer means."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from flipbell.channels.hipchat import HipChatSender, HipChatSettings, retry_after
from flipbell.channels.token import Token
from flipbell.model import Notification, Outcome, Verdict
from hipchat_room import TOKEN, Answer, HipChatServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hipchat_room import HipChatRoom

NOTE = Notification("<b>CRITICAL</b>: disk 日本 🔥", "html", "red", notify=True, sender="flipbell")


def _sender(url: str, room: str = "4242", **settings: Any) -> HipChatSender:
    settings = {"timeout": 5.0, "token": Token(inline=TOKEN), **settings}
    return HipChatSender(HipChatSettings(url, room, **settings))


def test_sends_what_the_api_asks_for(hipchat_room: HipChatRoom) -> None:
    assert _sender(hipchat_room.url).send(NOTE) == Outcome(Verdict.DELIVERED)

    assert hipchat_room.heard[0].body == {
        "message": "<b>CRITICAL</b>: disk 日本 🔥",
        "message_format": "html",
        "color": "red",
        "notify": True,
        "from": "flipbell",
    }


@pytest.mark.parametrize(
    ("room", "segment"),
    [
        ("4242", "4242"),
        ("Ops & Dev", "Ops%20%26%20Dev"),
        ("a/b#c?d", "a%2Fb%23c%3Fd"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
        ("a%2Fb", "a%252Fb"),
        ("a\r\nb/../x", "a%0D%0Ab%2F..%2Fx"),
    ],
)
def test_a_room_is_one_segment_of_the_path(
    hipchat_room: HipChatRoom, room: str, segment: str
) -> None:
    _sender(hipchat_room.url, room).send(NOTE)

    assert [heard.room for heard in hipchat_room.heard] == [segment]


def test_asks_without_sending(hipchat_room: HipChatRoom) -> None:
    assert _sender(hipchat_room.url).ask() == Outcome(Verdict.DELIVERED)

    assert hipchat_room.heard == []


RETRY, UNKNOWN, REFUSED, PAUSE = (
    Verdict.RETRY,
    Verdict.UNKNOWN,
    Verdict.REFUSED,
    Verdict.PAUSE,
)


@pytest.mark.parametrize(
    ("status", "verdict", "said"),
    [
        (200, PAUSE, "not HipChat's answer"),
        (202, PAUSE, "not HipChat's answer"),
        (301, PAUSE, "redirects are not followed"),
        (302, PAUSE, "redirects are not followed"),
        (307, PAUSE, "redirects are not followed"),
        (400, REFUSED, "HTTP 400"),
        (401, PAUSE, "use a Room Notification Token"),
        (403, PAUSE, "scope send_notification"),
        (404, PAUSE, "no such room"),
        (405, PAUSE, "shut down"),
        (410, PAUSE, "HTTP 410"),
        (413, REFUSED, "HTTP 413"),
        (429, RETRY, "HTTP 429"),
        (500, UNKNOWN, "HTTP 500"),
        (502, UNKNOWN, "HTTP 502"),
        (503, RETRY, "HTTP 503"),
        (504, UNKNOWN, "HTTP 504"),
    ],
)
def test_only_204_is_delivered(
    hipchat_room: HipChatRoom, status: int, verdict: Verdict, said: str
) -> None:
    hipchat_room.otherwise = Answer(status, headers={"Location": hipchat_room.url})

    outcome = _sender(hipchat_room.url).send(NOTE)

    assert outcome.verdict is verdict
    assert said in outcome.reason
    assert len(hipchat_room.requests) == 1  # no redirect was followed


def test_says_what_the_server_said(hipchat_room: HipChatRoom) -> None:
    body = json.dumps({"error": {"code": 404, "message": "Room not found", "type": "Not Found"}})
    hipchat_room.otherwise = Answer(404, body)

    assert "HTTP 404 (Room not found): no such room" in _sender(hipchat_room.url).send(NOTE).reason


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"error": 5}', '{"error": {}}', "[" * 9999])
def test_any_error_body_will_do(hipchat_room: HipChatRoom, body: str) -> None:
    hipchat_room.otherwise = Answer(400, body)

    assert _sender(hipchat_room.url).send(NOTE) == Outcome(REFUSED, "HTTP 400")


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        outcome = _sender(f"http://127.0.0.1:{taken.getsockname()[1]}").send(NOTE)

    assert outcome.verdict is RETRY


def test_a_name_that_is_not_found() -> None:
    assert _sender("http://hipchat.invalid").send(NOTE).verdict is RETRY


def test_no_answer_in_time(hipchat_room: HipChatRoom) -> None:
    gate = threading.Event()
    hipchat_room.otherwise = Answer(gate=gate)

    outcome = _sender(hipchat_room.url, timeout=0.1).send(NOTE)
    gate.set()

    address = urlsplit(hipchat_room.url).netloc
    assert outcome == Outcome(UNKNOWN, f"{address}: no answer within 0.1 s")


@pytest.fixture
def rude() -> Iterator[Callable[[bytes], str]]:
    """A server that reads a request, sends some bytes, and hangs up."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def serve(answer: bytes) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        threads = []

        def start(answer: bytes) -> str:
            threads.append(threading.Thread(target=serve, args=(answer,), daemon=True))
            threads[-1].start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start
        for thread in threads:
            thread.join(5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\nhalf",
        b"nonsense\r\n\r\n",
    ],
)
def test_half_an_answer_leaves_the_outcome_unknown(
    rude: Callable[[bytes], str], answer: bytes
) -> None:
    assert _sender(rude(answer)).send(NOTE).verdict is UNKNOWN


@pytest.mark.parametrize("has_read", [False, True])
def test_a_connection_that_is_reset(*, has_read: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def reset() -> None:
            connection, _ = server.accept()
            if has_read:
                connection.recv(65536)
            linger = struct.pack("ii", 1, 0)  # close() sends RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        outcome = _sender(f"http://127.0.0.1:{server.getsockname()[1]}").send(NOTE)
        thread.join(5)

    # Before the request was read, it may not even have been sent.
    assert outcome.verdict is UNKNOWN or (outcome.verdict is RETRY and not has_read)


def test_no_connection_in_time() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):  # the backlog is full: further ones are not answered
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(server.getsockname())

        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        outcome = _sender(url, timeout=0.2).send(NOTE)
        for each in waiting:
            each.close()

    address = urlsplit(url).netloc
    assert outcome == Outcome(RETRY, f"{address}: no connection within 0.2 s")


def test_204_is_delivered_whatever_else_the_server_says(rude: Callable[[bytes], str]) -> None:
    answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody"

    assert _sender(rude(answer)).send(NOTE).verdict is Verdict.DELIVERED


def test_an_answer_without_end_is_read_no_further_than_needed(
    rude: Callable[[bytes], str],
) -> None:
    endless = b"HTTP/1.1 400 Bad\r\n\r\n" + b"x" * 200_000

    assert _sender(rude(endless)).send(NOTE).verdict is REFUSED


def test_tls_that_fails_pauses_the_channel(rude: Callable[[bytes], str]) -> None:
    outcome = _sender(rude(b"no TLS").replace("http", "https")).send(NOTE)

    assert outcome.verdict is PAUSE
    assert "TLS failed" in outcome.reason


def test_a_missing_ca_file_is_named(hipchat_room: HipChatRoom, tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")

    outcome = _sender(hipchat_room.url.replace("http", "https"), verify=missing).send(NOTE)

    assert outcome.verdict is PAUSE
    assert missing in outcome.reason


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_checked_against_the_ca_file(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "ca.pem")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run([*command, *files, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    with HipChatServer(context) as server:
        room = server.room()
        refused = _sender(room.url).send(NOTE)
        trusted = _sender(room.url, verify=certificate).send(NOTE)

    address = urlsplit(room.url).netloc
    assert refused.reason.startswith(
        f"{address}: TLS failed: self-signed certificate; set `verify`"
    )
    assert trusted == Outcome(Verdict.DELIVERED)


def test_a_proxy_is_used_only_where_it_is_configured(
    hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert _sender(hipchat_room.url).send(NOTE).verdict is Verdict.DELIVERED

    outcome = _sender("http://hipchat.invalid", proxy="http://127.0.0.1:1").send(NOTE)

    assert outcome == Outcome(RETRY, "proxy 127.0.0.1:1: connection refused")


def test_netrc_is_not_read(
    hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password made-up\n")
    monkeypatch.setenv("NETRC", str(netrc))

    assert _sender(hipchat_room.url).send(NOTE).verdict is Verdict.DELIVERED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "17"}, 17),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1_445_412_480 - 1000),
        ({"Retry-After": "-5"}, 0),
        ({"X-FloodControl-Remaining": "0", "X-FloodControl-Reset": "1030"}, 30),
        ({"X-FloodControl-Remaining": "1", "X-FloodControl-Reset": "1030"}, 0),
        (
            {
                "X-Ratelimit-Remaining": "0",
                "X-Ratelimit-Reset": "1100",
                "X-FloodControl-Remaining": "0",
                "X-FloodControl-Reset": "1030",
            },
            100,
        ),
        ({"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "900"}, 0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:10 GMT"}, 30),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
    ],
)
def test_how_long_the_server_wants_to_be_left_alone(
    headers: dict[str, str], seconds: float
) -> None:
    assert retry_after(headers, 1000.0) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-FloodControl-Reset": "1030"}, 30),
        ({"X-Ratelimit-Reset": "1200", "X-FloodControl-Reset": "1030"}, 200),
        ({"X-FloodControl-Reset": "1030", "X-FloodControl-Remaining": "3"}, 30),
        (
            {
                "X-Ratelimit-Reset": "1200",
                "X-Ratelimit-Remaining": "480",
                "X-FloodControl-Reset": "1030",
                "X-FloodControl-Remaining": "0",
            },
            30,
        ),
        ({"X-FloodControl-Reset": "900"}, 0),
        ({}, 0),
    ],
)
def test_a_429_means_that_the_limit_is_used_up(
    hipchat_room: HipChatRoom, headers: dict[str, str], seconds: float
) -> None:
    assert retry_after(headers, 1000.0, is_refused=True) == seconds
    reset = {"X-FloodControl-Reset": str(int(time.time()) + 100)}
    hipchat_room.otherwise = Answer(429, headers=reset)

    assert 90 < _sender(hipchat_room.url).send(NOTE).retry_after <= 100
    hipchat_room.otherwise = Answer(204, headers=reset)
    assert _sender(hipchat_room.url).send(NOTE).retry_after == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("", "empty"),
        ("\n", "empty"),
        ("two words\n", "without spaces"),
        ("a\x1bb", "without spaces, control"),
        ("é", "non-ASCII"),
    ],
)
def test_a_token_that_cannot_be_had_pauses_the_channel(
    hipchat_room: HipChatRoom, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    outcome = _sender(hipchat_room.url, token=Token(file=str(file))).send(NOTE)

    assert outcome.verdict is PAUSE
    assert said in outcome.reason
    assert str(file) in outcome.reason


def test_a_token_is_read_at_each_use(hipchat_room: HipChatRoom, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("")
    sender = _sender(hipchat_room.url, token=Token(file=str(file)))
    assert sender.send(NOTE).verdict is PAUSE

    file.write_text(TOKEN + "\n")

    assert sender.send(NOTE).verdict is Verdict.DELIVERED


def test_a_token_from_the_environment(
    hipchat_room: HipChatRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = _sender(hipchat_room.url, token=Token(variable="ROOM_TOKEN"))
    assert "ROOM_TOKEN: not set" in sender.send(NOTE).reason

    monkeypatch.setenv("ROOM_TOKEN", TOKEN)

    assert sender.send(NOTE).verdict is Verdict.DELIVERED


def test_no_token_in_any_representation() -> None:
    settings = HipChatSettings("http://h", "r", Token(inline=TOKEN))

    assert TOKEN not in repr(settings) + settings.endpoint


def test_a_token_that_was_given_as_a_variables_name_is_not_shown(hipchat_room: HipChatRoom) -> None:
    outcome = _sender(hipchat_room.url, token=Token(variable="aBcDeF0123s3c7e7")).send(NOTE)

    assert "s3c7e7" not in outcome.reason
    assert "the variable that token_env names: not set" in outcome.reason
