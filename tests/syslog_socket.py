"""A syslog for tests: the system's own socket, where the system has none."""

from __future__ import annotations

import os
import socket
import threading

import pytest

PATH = "/dev/log"


class Syslog:
    """Collects what is logged."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._lines: list[str] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while True:
            try:
                line = self._server.recv(65536).decode("utf-8", "replace")
            except OSError:
                return
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()

    def text(self) -> str:
        """Return everything that was logged."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, part: str, timeout: float = 15.0) -> str:
        """Return the first line that has a part, once there is one."""

        def found() -> str | None:
            return next((line for line in self._lines if part in line), None)

        with self._changed:
            line = self._changed.wait_for(found, timeout)
            assert line is not None, f"{part!r} was not logged, but {self._lines}"
            return line


def open_syslog() -> Syslog:
    """Stand in for the system's syslog; skip the test where there is one, or we may not."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        server.bind(PATH)
    except OSError as error:
        server.close()
        pytest.skip(f"{PATH}: {error.strerror}")
    os.chmod(PATH, 0o666)
    return Syslog(server)
