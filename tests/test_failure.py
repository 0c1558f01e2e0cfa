"""A failed request is reported with host, port and cause, in words and without the token."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3

from flipbell.channels import failure
from flipbell.channels.hipchat import HipChatSender, HipChatSettings
from flipbell.channels.token import Token
from flipbell.model import Notification, Outcome, Verdict
from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOTE = Notification("m", "html", "red", notify=True, sender="flipbell")
ROUTE = failure.Route.to("https://hipchat.example.com", None, 10.0)


def _send(url: str, **settings: Any) -> Outcome:
    settings = {"timeout": 5.0, "token": Token(inline=TOKEN), **settings}
    return HipChatSender(HipChatSettings(url, "4242", **settings)).send(NOTE)


@pytest.mark.parametrize(
    ("url", "proxy", "server", "first"),
    [
        ("https://h", None, "h:443", "h:443"),
        ("http://h/base", None, "h:80", "h:80"),
        ("https://h:8443", "http://p:3128", "h:8443", "proxy p:3128"),
        ("https://[::1]:1", "http://user:word@p", "[::1]:1", "proxy p:80"),
    ],
)
def test_a_route_names_host_and_port_and_no_password(
    url: str, proxy: str | None, server: str, first: str
) -> None:
    route = failure.Route.to(url, proxy, 1.0)

    assert (route.server, route.first) == (server, first)


def test_a_port_at_which_nothing_listens() -> None:
    with socket.socket() as taken:
        # Bound but not listening.
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        assert _send(f"http://{address}") == Outcome(
            Verdict.RETRY, f"{address}: connection refused"
        )


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (socket.EAI_NONAME, "the server's name was not found"),
        (socket.EAI_AGAIN, "the server's name was not found, as no name server answers"),
    ],
)
def test_a_name_that_is_not_found(monkeypatch: pytest.MonkeyPatch, number: int, cause: str) -> None:
    def lookup(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "as the resolver says")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    outcome = _send("http://hipchat.example.com")

    assert outcome == Outcome(Verdict.RETRY, f"hipchat.example.com:80: {cause}")


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.EHOSTUNREACH, "no route to the host"),
        (errno.ENETUNREACH, "the network cannot be reached"),
        (errno.EMFILE, "too many open files"),
    ],
)
def test_a_connection_that_the_system_cannot_make(
    monkeypatch: pytest.MonkeyPatch, number: int, cause: str
) -> None:
    def connect(*_: object, **__: object) -> None:
        raise OSError(number, "as the system says")

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)

    assert _send("http://hipchat.example.com").reason == f"hipchat.example.com:80: {cause}"


def _read_request(connection: socket.socket) -> None:
    """Read a request to its end, for a socket that is closed before is reset."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
        if received.startswith((b"CONNECT", b"\x16")) or received.endswith(b"}"):
            return


@pytest.fixture
def server() -> Iterator[Callable[[bytes], str]]:
    """A server that reads a request, sends some bytes, and hangs up; returns its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads: list[threading.Thread] = []

        def serve(answer: bytes) -> None:
            connection, _ = listening.accept()
            with connection:
                _read_request(connection)
                connection.sendall(answer)

        def start(answer: bytes) -> str:
            threads.append(threading.Thread(target=serve, args=(answer,), daemon=True))
            threads[-1].start()
            return f"127.0.0.1:{listening.getsockname()[1]}"

        yield start
        for thread in threads:
            thread.join(5)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"", "the server closed the connection without an answer"),
        (b"nonsense\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\nhalf", "the answer broke off"),
    ],
)
def test_half_an_answer(server: Callable[[bytes], str], answer: bytes, cause: str) -> None:
    address = server(answer)

    assert _send(f"http://{address}") == Outcome(Verdict.UNKNOWN, f"{address}: {cause}")


def test_an_answer_that_stops_in_the_middle() -> None:
    gate = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                _read_request(connection)
                connection.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\nhalf")
                gate.wait(5)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        outcome = _send(f"http://{address}", timeout=0.2)
        gate.set()
        thread.join(5)

    assert outcome == Outcome(Verdict.UNKNOWN, f"{address}: no end of the answer within 0.2 s")


def test_a_proxy_that_refuses_the_server(server: Callable[[bytes], str]) -> None:
    proxy = server(b"HTTP/1.1 407 who are you\r\nContent-Length: 0\r\n\r\n")

    outcome = _send("https://hipchat.example.com", proxy=f"http://user:word@{proxy}")

    cause = "it refuses the connection with HTTP 407"
    assert outcome == Outcome(Verdict.RETRY, f"proxy {proxy}: {cause}")


def test_a_server_without_tls(server: Callable[[bytes], str]) -> None:
    address = server(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    outcome = _send(f"https://{address}")

    assert outcome.verdict is Verdict.PAUSE
    assert outcome.reason.startswith(
        f"{address}: TLS failed: the server does not speak TLS on this port; check `url`"
    )


def _certificate(directory: Path, name: str, *, is_expired: bool) -> tuple[str, str]:
    key, certificate = str(directory / "key.pem"), str(directory / "certificate.pem")
    request = str(directory / "request.pem")
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={name}\n")
    make = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h"]
    # One that was to end before it begins has expired at once.
    days = ["-days", "-1" if is_expired else "2"]
    sign = ["openssl", "x509", "-req", "-in", request, "-signkey", key, "-out", certificate, *days]
    for command in ([*make, "-keyout", key, "-out", request], [*sign, "-extfile", str(extensions)]):
        subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("name", "is_expired", "is_trusted", "cause"),
    [
        ("IP:127.0.0.1", True, True, "certificate has expired; have it renewed on the server"),
        ("IP:127.0.0.1", False, False, "self-signed certificate; set `verify` to a file with"),
        ("IP:127.0.0.9", False, True, "IP address mismatch, certificate is not valid for '127."),
    ],
)
def test_a_certificate_that_is_not_accepted(
    tmp_path: Path, name: str, is_expired: bool, is_trusted: bool, cause: str
) -> None:
    key, certificate = _certificate(tmp_path, name, is_expired=is_expired)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        outcome = _send(f"https://{address}", verify=certificate if is_trusted else True)
        thread.join(5)

    assert ("iP address" in outcome.reason, outcome.verdict) == (False, Verdict.PAUSE)
    assert (
        outcome.reason.lower()
        .replace("self signed", "self-signed")
        .startswith(f"{address}: TLS failed: {cause}".lower())
    )


def test_a_missing_ca_file(tmp_path: Path) -> None:
    outcome = _send("https://hipchat.example.com", verify=str(tmp_path / "ca.pem"))

    cause = f"no CA file {tmp_path / 'ca.pem'}; check `verify`"
    assert outcome == Outcome(
        Verdict.PAUSE, f"hipchat.example.com:443: the request could not be made: {cause}"
    )


def test_a_ca_file_that_holds_none(server: Callable[[bytes], str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")

    outcome = _send(f"https://{server(b'')}", verify=str(tmp_path / "ca.pem"))

    assert outcome.verdict is Verdict.PAUSE
    assert "the CA file holds no certificate; check `url` and `verify`" in outcome.reason


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidHeader(f"Invalid header value: 'Bearer {TOKEN}'"),
        requests.exceptions.InvalidURL(f"https://{TOKEN}@h"),
        requests.exceptions.ConnectionError(f"with {TOKEN}"),
        requests.exceptions.SSLError(f"with {TOKEN}"),
        requests.exceptions.ProxyError(OSError(f"http://user:{TOKEN}@proxy")),
        ValueError(TOKEN),
        OSError(TOKEN),
        OSError(errno.EIO, TOKEN),
    ],
)
def test_an_exceptions_text_is_not_shown(error: Exception) -> None:
    outcome = failure.judge(error, ROUTE)

    assert TOKEN not in outcome.reason
    assert outcome.reason.startswith("hipchat.example.com:443: ")
