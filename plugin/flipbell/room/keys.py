"""Which token opens which room: held in memory only, compared in constant time."""

from __future__ import annotations

import hmac
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flipbell.room.store import RoomRecord


class Keys:
    """The rooms that can be posted to, each with its token: the contract's doors."""

    def __init__(self) -> None:
        self._rooms: list[tuple[bytes, RoomRecord]] = []
        self._lock = threading.Lock()

    def give(self, room: RoomRecord, token: str) -> None:
        """Let a token open a room."""
        with self._lock:
            self._rooms = [*self._rooms, (token.encode(), room)]

    @property
    def rooms(self) -> list[RoomRecord]:
        """All rooms."""
        return list(dict.fromkeys(room for _, room in self._rooms))

    def knows(self, token: str) -> bool:
        """Return whether a token is that of any room."""
        return bool(self._opened(token))

    def find(self, id_or_name: str) -> RoomRecord | None:
        """Return a room, by its id or its name."""
        for _, room in self._rooms:
            if id_or_name == str(room.id):
                return room
        return next((room for _, room in self._rooms if room.name == id_or_name), None)

    def opens(self, token: str, id_or_name: str) -> bool:
        """Return whether a token is this room's."""
        return self.find(id_or_name) in self._opened(token)

    def _opened(self, token: str) -> list[RoomRecord]:
        asked = token.encode("utf-8", "replace")
        return [room for known, room in self._rooms if hmac.compare_digest(known, asked)]
