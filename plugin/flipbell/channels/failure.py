"""Why a request to a room failed, in words, and whether the room may have got it.

An exception's own text is not shown: it may hold a header, and with it the token.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flipbell.model import Outcome, Verdict
from flipbell.wording import lowered

if TYPE_CHECKING:
    from collections.abc import Iterator

_PORTS = {"http": 80, "https": 443}
_NOT_FOUND = "the server's name was not found"
_BROKE_OFF = "the answer broke off"
_NO_HTTP = "the answer is not HTTP"
_CAUSES = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ETIMEDOUT: "no connection in time",
}
# By OpenSSL's number for what is wrong with a certificate.
_REMEDIES = {
    9: "check this host's clock",
    10: "have it renewed on the server",
    18: "set `verify` to a file with that certificate",
    19: "set `verify` to the file of the CA that signed it",
    20: "set `verify` to the file of the CA that signed it",
    21: "set `verify` to the file of the CA that signed it",
    62: "check `url`",
    64: "check `url`",
}
# By OpenSSL's word for what is wrong with a connection.
_TLS_CAUSES = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port",
    "PACKET_LENGTH_TOO_LONG": "the server does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS on this port",
    "HTTP_REQUEST": "the server does not speak TLS on this port",
    "NO_CERTIFICATE_OR_CRL_FOUND": "the CA file holds no certificate",
    "UNEXPECTED_EOF_WHILE_READING": "the server closed the connection",
}


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a server: the first peer on it (a proxy, if any), and how long it may take (s)."""

    server: str
    first: str
    timeout: float

    @classmethod
    def to(cls, url: str, proxy: str | None, timeout: float) -> Route:
        """Return the route to a URL's server; neither a user nor a password is kept of it."""
        server = _address(url)
        return cls(server, server if proxy is None else f"proxy {_address(proxy)}", timeout)


def _address(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{parts.port or _PORTS.get(parts.scheme, 80)}"


def judge(error: Exception, route: Route) -> Outcome:
    """Return what a request's failure means: whether the room may have it is what matters."""
    import requests

    root = _root(error)
    if isinstance(error, requests.exceptions.SSLError):
        return Outcome(Verdict.PAUSE, f"{route.server}: TLS failed: {_tls_cause(root)}")
    if isinstance(error, requests.ConnectTimeout):
        reason = f"{route.first}: no connection within {route.timeout:g} s"
        return Outcome(Verdict.RETRY, reason)
    if isinstance(error, requests.exceptions.ProxyError) or _is_unconnected(root):
        return Outcome(Verdict.RETRY, f"{route.first}: {_connection_cause(root)}")
    if isinstance(error, requests.ReadTimeout):
        reason = f"{route.server}: no answer within {route.timeout:g} s"
        return Outcome(Verdict.UNKNOWN, reason)
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return Outcome(Verdict.UNKNOWN, f"{route.server}: {_break_cause(root)}")
    return Outcome(Verdict.PAUSE, f"{route.server}: the request could not be made: {_local(error)}")


def judge_reading(error: Exception, route: Route) -> Outcome:
    """Return what it means that an answer had begun and could not be read to its end."""
    import urllib3

    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        reason = f"{route.server}: no end of the answer within {route.timeout:g} s"
        return Outcome(Verdict.UNKNOWN, reason)
    return Outcome(Verdict.UNKNOWN, f"{route.server}: {_BROKE_OFF}")


def _root(error: BaseException) -> BaseException:
    """Return what lies behind an error that wraps others."""
    inner: Any = error.args[0] if error.args else None
    while isinstance(inner, BaseException):
        error = inner
        inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
    return error


def _is_unconnected(root: BaseException) -> bool:
    import urllib3

    return isinstance(root, urllib3.exceptions.NewConnectionError)


def _with_causes(root: BaseException) -> Iterator[BaseException]:
    error: BaseException | None = root
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _connection_cause(root: BaseException) -> str:
    """Return why no connection was made."""
    for error in _with_causes(root):
        if isinstance(error, socket.gaierror):
            return _lookup_cause(error)
        if isinstance(error, OSError):
            return _system_cause(error)
    return "no connection"


def _lookup_cause(error: socket.gaierror) -> str:
    if error.errno == socket.EAI_AGAIN:
        return f"{_NOT_FOUND}, as no name server answers"
    return _NOT_FOUND


def _system_cause(error: OSError) -> str:
    if error.errno is not None:
        return _CAUSES.get(error.errno) or lowered(os.strerror(error.errno))
    status = re.search(r"Tunnel connection failed: (\d{3})", str(error))
    return f"it refuses the connection with HTTP {status[1]}" if status else "no connection"


def _tls_cause(root: BaseException) -> str:
    remedy = "check `url` and `verify`"
    if isinstance(root, ssl.SSLCertVerificationError):
        remedy = _REMEDIES.get(root.verify_code, remedy)
        return f"{lowered(root.verify_message.rstrip('.'))}; {remedy}"
    word = str(getattr(root, "reason", None) or "")
    if not re.fullmatch(r"[A-Z0-9_]+", word):
        return f"no secure connection; {remedy}"
    return f"{_TLS_CAUSES.get(word) or word.replace('_', ' ').lower()}; {remedy}"


def _break_cause(root: BaseException) -> str:
    """Return how a connection broke after the request may have been sent."""
    if isinstance(root, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(root, ConnectionResetError):
        return "the server reset the connection"
    if isinstance(root, BrokenPipeError):
        return "the server closed the connection while the request was sent"
    if isinstance(root, http.client.IncompleteRead):
        return _BROKE_OFF
    if isinstance(root, http.client.HTTPException):
        return _NO_HTTP
    if isinstance(root, OSError) and root.errno is not None:
        return lowered(os.strerror(root.errno))
    return "the connection broke"


def _local(error: Exception) -> str:
    """Return what on this side keeps a request from being made."""
    import requests

    path = re.search(r"TLS CA certificate bundle, invalid path: (.*)", str(error))
    if path:
        return f"no CA file {path[1]}; check `verify`"
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return "check `proxy`"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "check `url`"
    if isinstance(error, OSError) and error.errno is not None:
        return lowered(os.strerror(error.errno))
    return f"{type(error).__name__}; check the channel"
