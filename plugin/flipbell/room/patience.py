"""A cheroot server in which no client holds a thread for longer than its request may take.

By itself, cheroot limits the time of each read: a client that sends one byte a second holds its
thread for hours. Here a whole request, from the first byte of its head (or of the TLS handshake)
to the last one of its body, has a limit, and so has a whole answer. If other connections wait for
a thread, the slowest ones are ended long before that. A connection that sends nothing has no
thread at all.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from cheroot import errors, wsgi
from cheroot.server import (
    ChunkedRFile,
    HTTPConnection,
    HTTPRequest,
    KnownLengthRFile,
    SizeCheckWrapper,
)
from cheroot.ssl.builtin import BuiltinSSLAdapter

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from _typeshed.wsgi import WSGIApplication

REQUEST_SECONDS = 10.0  # for a whole request, handshake, head and body
ANSWER_SECONDS = 60.0  # for the client to take a whole answer, or an event of a stream
HURRY_SECONDS = 0.5  # for either, if other connections wait for a thread
_IDLE_SECONDS = 10  # for a client to send something at all
_LAST_WORDS = 3  # seconds for what is under way, when the server stops
_LOOK = 0.1  # seconds between two looks at what is under way
_BACKLOG = 128  # connections that the kernel keeps until they are accepted
_IDLE = 256  # connections that send nothing, kept for their next request
_QUEUE = 256  # connections that wait for a thread; further ones get 503
_LONGEST_HEAD = 64 << 10  # bytes
_LONGEST_BODY = 8 << 20  # bytes; longer ones are not read to be judged
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nThis port speaks https only.\n"
_PIECE = 1 << 16  # bytes of a body that is too long, dropped at a time


@dataclass(slots=True)
class _Exchange:
    connection: Connection
    begun: float
    ends: float
    how: int


class Guard:
    """Ends what clients do too slowly; *waiting* returns how many wait for a thread."""

    def __init__(
        self, waiting: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._waiting = waiting
        self._clock = clock
        self._under_way: dict[int, _Exchange] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Look at what is under way, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, if it was started."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def limit(self, connection: Connection, seconds: float, how: int) -> Iterator[None]:
        """Shut the socket down, *how* as in socket.shutdown, unless the block ends in time."""
        now = self._clock()
        exchange = _Exchange(connection, now, now + seconds, how)
        with self._lock:
            self._under_way[id(exchange)] = exchange
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[id(exchange)]

    def look(self) -> None:
        """End what is over its time, and the slowest ones if others wait for their threads."""
        now = self._clock()
        with self._lock:
            slow = [each for each in self._under_way.values() if now - each.begun >= HURRY_SECONDS]
            slow.sort(key=lambda each: each.begun)
            hurried = slow[: self._waiting()]
            for exchange in slow:
                if exchange in hurried or now >= exchange.ends:
                    exchange.connection.cut(exchange.how)

    def _run(self) -> None:
        while not self._over.wait(_LOOK):
            self.look()


class Request(HTTPRequest):
    """A request whose body is read whole before it is answered."""

    def parse_request(self) -> None:
        """Read the head; what is no HTTP gets 400."""
        try:
            super().parse_request()
        except (ValueError, UnboundLocalError):
            # cheroot fails so at the URL `//[` and at a first header line that begins with a space.
            self.simple_response("400 Bad Request", "Malformed request")

    def respond(self) -> None:
        """Read the body, as far as it may be read, and answer."""
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        self.conn.end_reading()
        self.rfile = BytesIO(body)
        self.server.gateway(self).respond()
        if self.ready:
            self.ensure_headers_sent()
        if self.chunked_write:
            self.write_end()

    def _body(self) -> bytes | None:
        """Return the body; None if it could not be read, which has been answered then."""
        length = int(self.inheaders.get(b"Content-Length", 0))
        most = self.server.max_request_body_size
        if length < 0:
            self.simple_response("400 Bad Request", "Malformed Content-Length Header.")
            return None
        source: Any = KnownLengthRFile(self.conn.rfile, length)
        if self.chunked_read:
            # ChunkedRFile has no limit for the line that gives a chunk's size.
            source = ChunkedRFile(SizeCheckWrapper(self.conn.rfile, most), most)
        try:
            body: bytes = source.read(self.server.kept_body_size)
            while source.read(_PIECE):
                pass
        except ValueError as error:
            self.simple_response("400 Bad Request", str(error))
        except TimeoutError:
            self.simple_response("408 Request Timeout")
        except (errors.MaxSizeExceeded, OSError):
            self.simple_response("413 Request Entity Too Large")
        else:
            if getattr(source, "remaining", 0) == 0:
                return body
            self.simple_response("400 Bad Request", "The body ended early.")
        return None

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer without the application; what came too late is told so."""
        if self.conn.is_cut:
            status, msg = "408 Request Timeout", "The request took too long."
        super().simple_response(status, msg)

    def write(self, chunk: bytes) -> None:
        """Send a part of the answer."""
        with self.server.guard.limit(self.conn, ANSWER_SECONDS, socket.SHUT_RDWR):
            super().write(chunk)

    def write_end(self) -> None:
        """Send the mark that ends an answer in chunks."""
        with self.server.guard.limit(self.conn, ANSWER_SECONDS, socket.SHUT_RDWR):
            self.conn.wfile.write(b"0\r\n\r\n")


class Connection(HTTPConnection):
    """A connection that has no thread before its first byte, and a limited time from there on."""

    RequestHandlerClass = Request
    is_new = True
    is_cut = False
    _is_greeted = False
    _reading: Any = None

    def communicate(self) -> bool:
        """Answer a request; return whether the connection stays open."""
        self._reading = self.server.guard.limit(self, REQUEST_SECONDS, socket.SHUT_RD)
        self._reading.__enter__()
        try:
            return self._shake_hands() and bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            self.end_reading()

    def end_reading(self) -> None:
        """Stop the limit of the request, which has been read."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.__exit__(None, None, None)

    def cut(self, how: int) -> None:
        """End the connection from another thread, which makes a blocked read or write return."""
        self.is_cut = True
        with suppress(OSError):
            # Not the method of a TLS socket, which would then write in the clear.
            socket.socket.shutdown(self.socket, how)

    def _shake_hands(self) -> bool:
        """Do a new connection's TLS handshake, if it has one; return whether that worked."""
        if self.server.ssl_adapter is None or self._is_greeted:
            return True
        try:
            self.socket.do_handshake()
        except OSError as error:
            if getattr(error, "reason", "") == "HTTP_REQUEST":
                with suppress(OSError):
                    socket.socket.sendall(self.socket, _NO_TLS)
            return False
        self._is_greeted = True
        return True


class TlsAdapter(BuiltinSSLAdapter):
    """TLS whose handshake is done in the connection's thread, not in the one that accepts."""

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        """Return the wrapped socket, and what it adds to the environment of each request."""
        wrapped = self.context.wrap_socket(sock, do_handshake_on_connect=False, server_side=True)
        return wrapped, {"wsgi.url_scheme": "https", "HTTPS": "on"}


class PatientServer(wsgi.Server):
    """cheroot's server with the limits of this module; of a body it keeps *kept_body_size*."""

    ConnectionClass = Connection
    keep_alive_conn_limit = _IDLE

    def __init__(
        self,
        address: tuple[str, int],
        app: WSGIApplication,
        *,
        kept_body_size: int,
        name: str,
        threads: int,
    ) -> None:
        super().__init__(
            address,
            app,
            numthreads=threads,
            server_name=name,
            request_queue_size=_BACKLOG,
            accepted_queue_size=_QUEUE,
            accepted_queue_timeout=0,
            timeout=_IDLE_SECONDS,
            shutdown_timeout=_LAST_WORDS,
        )
        self.expiration_interval = _LOOK
        self.max_request_header_size = _LONGEST_HEAD
        self.max_request_body_size = _LONGEST_BODY
        self.kept_body_size = kept_body_size
        self.guard = Guard(lambda: int(self.requests.qsize))

    def process_conn(self, conn: Connection) -> None:
        """Give a connection a thread; a new one only once it sends something."""
        is_new, conn.is_new = conn.is_new, False
        if is_new and self.can_add_keepalive_connection:
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def serve(self) -> None:
        """Answer until stopped."""
        self.guard.start()
        super().serve()

    def stop(self) -> None:
        """Finish what is under way, and close."""
        super().stop()
        self.guard.stop()
