"""The room's web application: HipChat's API under /v2, the page and what it asks for."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from importlib import resources
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from flipbell.room.api import Api
from flipbell.room.contract import BODY_LIMIT, Call
from flipbell.room.limits import Limits
from flipbell.room.watch import ROUTES, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from flipbell.room.keys import Keys
    from flipbell.room.store import Store

_FILES = {
    "/": ("index.html", "text/html"),
    "/room.css": ("room.css", "text/css"),
    "/room.js": ("room.js", "text/javascript"),
    "/feed.js": ("feed.js", "text/javascript"),
    "/message.js": ("message.js", "text/javascript"),
    "/ring.js": ("ring.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HOST = re.compile(r"(?:[\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII)
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class App:
    """The WSGI application; *names* are the host names that it answers to, none for all."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        limits: Limits | None = None,
        *,
        label: str = "",
        names: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = Api(store, keys, limits or Limits(clock), label=label, clock=clock)
        self._watch = Watch(store, keys)
        self._names = {name.lower() for name in names}
        self._files = {path: _read(name) for path, (name, _) in _FILES.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = Response(f"{error.code} {error.name}\n", error.code, error.get_headers())
            response.mimetype = "text/plain"
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        name = _host_name(request)
        if self._names and name not in self._names and not is_loopback(name):
            # A page under a foreign name, which leads here, may have sent this.
            return Response(
                "421 this room does not answer to that name; start it with --name\n",
                status=421,
                mimetype="text/plain",
            )
        if request.path.startswith(("/v1/", "/v2/")):
            return self._api.answer(_call(request), request.host_url.rstrip("/"))
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        if request.path in self._files:
            return self._file(request)
        endpoint, values = ROUTES.bind_to_environ(request.environ).match()
        return self._watch.answer(request, endpoint, values)

    def _file(self, request: Request) -> Response:
        content, tag = self._files[request.path]
        response = Response(content, mimetype=_FILES[request.path][1])
        response.set_etag(tag)
        response.headers["Cache-Control"] = "no-cache"
        return response.make_conditional(request)


def _host_name(request: Request) -> str:
    """Return the host's name or address from the Host header, "" without one. Raises BadRequest."""
    host = request.environ.get("HTTP_HOST", "")
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        is_whole = parts.netloc == host and (parts.port is None or name != "")
    except ValueError:
        is_whole = False
    if not is_whole or not _HOST.fullmatch(host):
        raise BadRequest("malformed Host header")
    return name


def is_loopback(name: str) -> bool:
    """Return whether a host's name or address is this machine's own."""
    if name.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _read(name: str) -> tuple[bytes, str]:
    content = resources.files(__package__ or "").joinpath("page").joinpath(name).read_bytes()
    return content, sha256(content).hexdigest()[:16]


def _call(request: Request) -> Call:
    """Return an API request as it was sent; of a body, no more than is judged."""
    content = request.stream.read(BODY_LIMIT + 1)
    return Call(
        request.method,
        str(request.environ.get("REQUEST_URI") or request.environ["PATH_INFO"]),
        request.headers.get("Authorization"),
        request.headers.get("Content-Type"),
        content,
    )
