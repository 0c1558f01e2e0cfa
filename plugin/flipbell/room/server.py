"""The server under the room: cheroot's threads, one for each request and each page that watches."""

from __future__ import annotations

import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

from flipbell.room.contract import BODY_LIMIT
from flipbell.room.patience import PatientServer, TlsAdapter
from flipbell.room.watch import STREAMS

if TYPE_CHECKING:
    from flipbell.room.app import App
    from flipbell.room.store import Store

_WORKERS = 32  # threads, beside those that are busy with a stream


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
        self._server = PatientServer(
            address,
            app,
            kept_body_size=BODY_LIMIT + 1,
            name="flipbell-room",
            threads=_WORKERS + STREAMS,
        )
        if tls is not None:
            self._server.ssl_adapter = TlsAdapter(*tls)
        self._is_tls = tls is not None
        self._server.prepare()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """A URL of the room that works on this machine."""
        host, port = self._server.bind_addr[:2]
        if self.is_everywhere:
            host = "::1" if ":" in host else "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._is_tls else 'http'}://{shown}:{port}"

    @property
    def is_everywhere(self) -> bool:
        """Whether it listens on all addresses of this machine, as with 0.0.0.0 or ::."""
        return ip_address(self._server.bind_addr[0].partition("%")[0]).is_unspecified

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
