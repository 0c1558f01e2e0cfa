"""What a room's server has been asked for lately, and how long it wants to be left alone."""

from __future__ import annotations

from flipbell import stored
from flipbell._database import Database

# Seconds; one more than the minute that a room counts in, as its clock is not ours.
_RATE_WINDOW = 61.0
# A request under way may reach the room at any moment from now on.
_COUNTS = "room = ? AND (at > ? AND at <= ? OR channel IS NOT NULL)"


class Rates(Database):
    """The requests to each room, whatever channel made them; times are epoch seconds."""

    def close_room(self, room: str, until: float) -> None:
        """Write down that a server asked to be left alone, whatever channel it asked."""
        self._db.execute("INSERT OR REPLACE INTO rooms VALUES (?, ?)", (room, until))

    def room_closed_until(self, room: str) -> float:
        """Return until when a room's server asked to be left alone; 0 if it did not."""
        row = self._one("SELECT closed_until FROM rooms WHERE name = ?", [room])
        return 0.0 if row is None else stored.number(row[0])

    def begin_request(self, channel: str, room: str, now: float) -> None:
        """Write down that a channel is about to ask its room for something."""
        self._db.execute(
            "DELETE FROM requests WHERE at < ? AND channel IS NULL", (now - _RATE_WINDOW,)
        )
        self._db.execute(
            "INSERT INTO requests (room, at, channel) VALUES (?, ?, ?)", (room, now, channel)
        )

    def end_request(self, channel: str, now: float) -> None:
        """Write down that a channel's request has reached its room by now, if ever.

        A room counts a request when it arrives: at any moment between its beginning and its end.
        """
        self._db.execute(
            "UPDATE requests SET at = max(at, ?), channel = NULL WHERE channel = ?", (now, channel)
        )

    def under_way(self) -> list[str]:
        """Return the channels that have a request under way, or had one when a courier died."""
        rows = self._db.execute(
            "SELECT channel FROM requests WHERE channel IS NOT NULL ORDER BY channel"
        )
        return [name for (name,) in rows]

    def free_slots(self, room: str, per_minute: int, now: float) -> int:
        """Return how many requests a room may get now without getting more than its share."""
        (sent,) = self._one(
            f"SELECT count(*) FROM requests WHERE {_COUNTS}",  # noqa: S608
            (room, now - _RATE_WINDOW, now),
        )
        return max(0, per_minute - int(sent))

    def room_free_at(self, room: str, per_minute: int, now: float) -> float:
        """Return when a room may be told next, so that it never gets more than its share."""
        if per_minute == 0:
            return now
        rows = self._db.execute(
            f"SELECT at, channel FROM requests WHERE {_COUNTS}",  # noqa: S608
            (room, now - _RATE_WINDOW, now),
        )
        times = sorted(now if channel is not None else stored.number(at) for at, channel in rows)
        return now if len(times) < per_minute else times[-per_minute] + _RATE_WINDOW
