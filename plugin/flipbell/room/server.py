"""The server under the room: cheroot's threads, one for each request and each page that watches."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cheroot import wsgi

from flipbell.room.watch import STREAMS

if TYPE_CHECKING:
    from flipbell.room.app import App
    from flipbell.room.store import Store

_WORKERS = 32  # beside those that are busy with a stream
_BACKLOG = 128
_PATIENCE = 10  # seconds for a client to send or take something
_LOOK = 0.1  # seconds until it notices that it is to end
_LAST_WORDS = 3  # seconds for what is under way, when the room closes
_LONGEST_BODY = 8 << 20  # bytes; longer ones are not read to be judged
_LONGEST_HEAD = 64 << 10


class RoomServer:
    """A room that listens; *app* answers, and *store* is told when it is over."""

    def __init__(
        self,
        app: App,
        store: Store,
        address: tuple[str, int],
        tls: tuple[str, str] | None = None,
    ) -> None:
        """Listen at *address*. Raises OSError where that cannot be."""
        self._store = store
        self._server = wsgi.Server(
            address,
            app,
            numthreads=_WORKERS + STREAMS,
            server_name="flipbell-room",
            request_queue_size=_BACKLOG,
            timeout=_PATIENCE,
            shutdown_timeout=_LAST_WORDS,
        )
        self._server.expiration_interval = _LOOK
        self._server.max_request_body_size = _LONGEST_BODY
        self._server.max_request_header_size = _LONGEST_HEAD
        if tls is not None:
            from cheroot.ssl.builtin import BuiltinSSLAdapter

            self._server.ssl_adapter = BuiltinSSLAdapter(*tls)
        self._is_tls = tls is not None
        self._server.prepare()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the room is."""
        host, port = self._server.bind_addr[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._is_tls else 'http'}://{shown}:{port}"

    def start(self) -> None:
        """Answer in the background."""
        self._thread = threading.Thread(target=self._server.serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, and close."""
        self._store.stop_waiting()
        self._server.stop()
        if self._thread is not None:
            self._thread.join()
        self._store.close()
