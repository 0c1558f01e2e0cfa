"""HipChat as it may be found: up, slow, refusing, or a black hole; all on loopback."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_httpserver import HTTPServer
from werkzeug import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from werkzeug import Request

SLOW = 2.0  # seconds


class Server:
    """Accepts everything, after a while, and counts it."""

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._changed = threading.Condition()
        self.accepted = 0

    def answer(self, _: Request) -> Response:
        """Accept a notification."""
        time.sleep(self._delay)
        with self._changed:
            self.accepted += 1
            self._changed.notify_all()
        return Response(status=204)

    def wait_for(self, count: int, timeout: float = 120.0) -> None:
        """Wait until so many were accepted."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.accepted >= count, timeout):
                raise TimeoutError(f"{self.accepted} of {count} were accepted")


@contextmanager
def serving(server: Server) -> Iterator[str]:
    """Run a server; give its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or each request would be a line
    http = HTTPServer(threaded=True)
    http.expect_request(re.compile(".*")).respond_with_handler(server.answer)
    http.start()
    try:
        yield http.url_for("").rstrip("/")
    finally:
        http.stop()


@contextmanager
def every_kind() -> Iterator[dict[str, str]]:
    """Give the URL of a HipChat in each condition."""
    with ExitStack() as stack:
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        refusing = socket.create_server(("127.0.0.1", 0))
        closed = refusing.getsockname()[1]
        refusing.close()
        yield {
            "up": stack.enter_context(serving(Server())),
            "2 s slow": stack.enter_context(serving(Server(SLOW))),
            "refusing": f"http://127.0.0.1:{closed}",
            "black hole": f"http://127.0.0.1:{hole.getsockname()[1]}",
        }
