"""HipChat's two limits: 30 messages a minute in a room, 500 requests in five minutes for a token.

Both are told in headers with every answer: X-FloodControl-* and X-Ratelimit-*, each with Limit,
Remaining and Reset, a time in seconds since the epoch. A window begins with the first request in
it. (developer.atlassian.com/server/hipchat/hipchat-rest-api-rate-limits)
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell.room.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable

_REMEMBERED = 10_000  # windows; more than there are rooms and tokens


@dataclass(slots=True)
class _Window:
    begins: float
    used: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit; *reset* in seconds since the epoch."""

    family: str
    limit: int
    remaining: int
    reset: float
    is_over: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell it."""
        told = {"Limit": self.limit, "Remaining": self.remaining, "Reset": math.ceil(self.reset)}
        return {f"{self.family}-{name}": str(number) for name, number in told.items()}


class Limit:
    """So many in so many seconds, for each key by itself."""

    def __init__(
        self, family: str, most: int, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.family = family
        self.most = most
        self._seconds = seconds
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def count(self, key: str) -> Standing:
        """Count one, unless there are as many as there may be."""
        with self._lock:
            window = self._window(key)
            is_over = window.used >= self.most
            window.used += not is_over
            return self._standing(window, is_over=is_over)

    def standing(self, key: str) -> Standing:
        """Return what is left, without counting."""
        with self._lock:
            return self._standing(self._window(key), is_over=False)

    def _window(self, key: str) -> _Window:
        now = self._clock()
        window = self._windows.get(key)
        # A clock that was set back must not close a room for longer than the window is.
        if window is None or not window.begins <= now < window.begins + self._seconds:
            if len(self._windows) >= _REMEMBERED:
                self._windows.clear()
            window = self._windows[key] = _Window(now)
        return window

    def _standing(self, window: _Window, *, is_over: bool) -> Standing:
        left = self.most - window.used
        return Standing(self.family, self.most, left, window.begins + self._seconds, is_over)


class Limits:
    """Both limits of the room API; where they are off, they are told and never reached."""

    def __init__(self, clock: Callable[[], float] = time.time, *, is_off: bool = False) -> None:
        self._is_off = is_off
        self._rate = Limit("X-Ratelimit", 500, 300.0, clock)
        self._flood = Limit("X-FloodControl", 30, 60.0, clock)

    def ask(self, token: str, room: str) -> dict[str, str]:
        """Count a request; return the headers that tell both limits. Raises RefusalError: 429."""
        rate = self._rate.standing(token) if self._is_off else self._rate.count(token)
        headers = {**rate.headers, **self._flood.standing(room).headers}
        if rate.is_over:
            raise _too_many("requests", rate, headers)
        return headers

    def post(self, token: str, room: str) -> dict[str, str]:
        """Count a message in a room; return the headers. Raises RefusalError: 429."""
        flood = self._flood.standing(room) if self._is_off else self._flood.count(room)
        headers = {**self._rate.standing(token).headers, **flood.headers}
        if flood.is_over:
            raise _too_many("messages to this room", flood, headers)
        return headers


def _too_many(what: str, standing: Standing, headers: dict[str, str]) -> RefusalError:
    message = f"You have exceeded the rate limit of {standing.limit} {what}. Try again later."
    return RefusalError(429, message, headers=headers)
