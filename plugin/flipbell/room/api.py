"""HipChat's v2 API of a room: take notifications, and give them back as history."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from werkzeug import Response

from flipbell.room import contract
from flipbell.room.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flipbell.room.contract import Call, Order
    from flipbell.room.keys import Keys
    from flipbell.room.limits import Limits
    from flipbell.room.store import Message, RoomRecord, Store

_MOST = 1000  # messages of one answer
_USUAL = {"history": 100, "history/latest": 75}
_RECENT = 75  # what `date=recent` holds


class Api:
    """What stands behind /v2/."""

    def __init__(
        self, store: Store, keys: Keys, limits: Limits, *, label: str, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._keys = keys
        self._limits = limits
        self._label = label
        self._clock = clock

    def answer(self, call: Call, base: str) -> Response:
        """Carry a request out, or say why not; *base* is the URL that the client has used."""
        headers: dict[str, str] = {}
        try:
            order = contract.admit(call, self._keys)
            headers = self._limits.ask(order.token, str(order.room.id))
            return self._carry_out(call, order, base, headers)
        except RefusalError as refusal:
            return _json(refusal.body, refusal.status, {**headers, **refusal.headers})

    def _carry_out(
        self, call: Call, order: Order[RoomRecord], base: str, headers: dict[str, str]
    ) -> Response:
        if order.is_trial:
            return _json(contract.ACCEPTED, 202, headers)
        if order.action == "notification":
            body = contract.notification(call)
            headers = self._limits.post(order.token, str(order.room.id))
            self._take(order.room, body)
            taken = Response(status=204, headers=headers)
            del taken.headers["Content-Type"]  # of nothing
            return taken
        if order.action == "":
            return _json(_room(order.room, base), 200, headers)
        return _json(self._history(order, base), 200, headers)

    def _take(self, room: RoomRecord, body: dict[str, Any]) -> None:
        """Keep a notification. Raises RefusalError where it cannot be: then it was not taken."""
        if body["color"] == "random":
            body["color"] = secrets.choice(contract.COLORS[:-1])
        sender = " - ".join(filter(None, [self._label, body["from"]]))
        try:
            self._store.add(room.id, body, sender=sender, at=self._clock())
        except sqlite3.Error as error:
            message = f"The message could not be kept: {error}"
            raise RefusalError(503, message, headers={"Retry-After": "5"}) from None

    def _history(self, order: Order[RoomRecord], base: str) -> dict[str, Any]:
        query = order.query
        most = _number(query, "max-results", _USUAL[order.action], _MOST)
        begin = _number(query, "start-index", 0, 1 << 31)
        if order.action == "history/latest":
            found = self._latest(order, most)
        else:
            found = self._page(order, begin, most)
        if query.get("reverse", "true").lower() != "false":
            found = found[::-1]  # HipChat's `reverse` puts the oldest first
        here = f"{base}/v2/room/{order.room.id}/{order.action}"
        links = {"self": here}
        if order.action == "history" and len(found) == most > 0:
            further = {**query, "start-index": str(begin + most), "max-results": str(most)}
            further.pop("auth_token", None)
            links["next"] = f"{here}?{urlencode(further)}"
        items = [_item(message) for message in found]
        return {"items": items, "startIndex": begin, "maxResults": most, "links": links}

    def _page(self, order: Order[RoomRecord], begin: int, most: int) -> list[Message]:
        """Return so many messages up to the date asked for, the newest first."""
        date = order.query.get("date", "recent")
        if date == "recent":
            most = max(0, min(most, _RECENT - begin))
        until = float("inf") if date == "recent" else _time(date)
        return self._store.until(order.room.id, until, begin, most)

    def _latest(self, order: Order[RoomRecord], most: int) -> list[Message]:
        found = self._store.until(order.room.id, float("inf"), 0, most)
        first = order.query.get("not-before")
        if first is None:
            return found
        number = self._store.number_of(first)
        if number is None:
            raise RefusalError(400, f"Message {first[:50]!r} not found", {"field": "not-before"})
        return [message for message in found if message.id >= number]


def _json(content: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    text = json.dumps(content)
    return Response(text, status=status, headers=dict(headers), mimetype="application/json")


def _number(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    text = query.get(name, str(usual))
    if not (re.fullmatch(r"[0-9]{1,11}", text) and int(text) <= most):
        message = f"Value {text[:50]!r} for parameter '{name}' is not a number from 0 to {most}"
        raise RefusalError(400, message, {"field": name})
    return int(text)


def _time(text: str) -> float:
    """Return a time that is given in ISO 8601 or in seconds since the epoch."""
    try:
        if text.isdecimal():
            return float(text)
        # A `+` that was not percent-encoded has become a space.
        spelt = text.replace(" ", "+").replace("Z", "+00:00")
        found = dt.datetime.fromisoformat(spelt)
        return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        message = f"Value {text[:50]!r} for parameter 'date' is not a time, nor 'recent'"
        raise RefusalError(400, message, {"field": "date"}) from None


def _room(room: RoomRecord, base: str) -> dict[str, Any]:
    here = f"{base}/v2/room/{room.id}"
    return {
        "id": room.id,
        "name": room.name,
        "topic": "",
        "privacy": "public",
        "is_archived": False,
        "is_guest_accessible": False,
        "links": {"self": here},
    }


def _item(message: Message) -> dict[str, Any]:
    moment = dt.datetime.fromtimestamp(message.at, dt.timezone.utc)
    item: dict[str, Any] = {
        "id": message.uuid,
        "type": "notification",
        "date": moment.isoformat(),
        "from": message.sender,
        "message": message.message,
        "message_format": message.format,
        "color": message.color,
        "notify": message.notify,
        "mentions": [],
    }
    if message.card is not None:
        item["card"] = message.card
    if message.attach_to is not None:
        item["attach_to"] = message.attach_to
    return item
