"""What the page asks for: rooms, messages, and a stream of new ones; to read only."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

from werkzeug import Response
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound, ServiceUnavailable
from werkzeug.routing import Map, Rule

from flipbell.room import sanitise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from werkzeug import Request

    from flipbell.room.keys import Keys
    from flipbell.room.store import Message, Store

PAGE = 50  # messages that a page asks for at a time
_HALF = PAGE // 2
STREAMS = 64  # pages that may watch at once
_BATCH = 100  # messages read at a time for a stream
_MISSED = 500  # messages that a page is told one by one after a break
_QUIET = 15.0  # seconds after which a stream says that it is still there
_RETRY = 1000  # milliseconds after which a browser tries again
ROUTES = Map(
    [
        Rule("/api/rooms", endpoint="rooms"),
        Rule("/api/rooms/<room>/messages", endpoint="messages"),
        Rule("/events", endpoint="events"),
    ]
)


class Watch:
    """What stands behind /api/ and /events."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._places = threading.BoundedSemaphore(STREAMS)

    def answer(self, request: Request, endpoint: str, values: Mapping[str, Any]) -> Response:
        """Answer one of the routes."""
        if endpoint == "events":
            return self._events(request)
        if endpoint == "rooms":
            return _json(self._rooms())
        for room in self._keys.rooms:
            if values["room"] == str(room.id):
                return _json(self._messages(room.id, request))
        raise NotFound

    def _rooms(self) -> dict[str, Any]:
        newest = self._store.newest  # before what is read below, so that nothing is missed
        rooms = [{"id": room.id, "name": room.name} for room in self._keys.rooms]
        return {"store": self._store.name, "newest": newest, "rooms": rooms}

    def _messages(self, room: int, request: Request) -> dict[str, Any]:
        query = request.args
        if "around" in query:
            number = self._number_of(room, query["around"])
            older = self._store.before(room, number + 1, _HALF + 1)
            newer = self._store.following(room, number, _HALF + 1)
            page = [*older[-_HALF:], *newer[:_HALF]]
            return _piece(page, has_older=len(older) > _HALF, has_newer=len(newer) > _HALF)
        if "after" in query:
            newer = self._store.following(room, _number(query["after"]), PAGE + 1)
            return _piece(newer[:PAGE], has_older=True, has_newer=len(newer) > PAGE)
        before = _number(query["before"]) if "before" in query else None
        older = self._store.before(room, before, PAGE + 1)
        return _piece(older[-PAGE:], has_older=len(older) > PAGE, has_newer=before is not None)

    def _number_of(self, room: int, uuid: str) -> int:
        """Return the number of a room's message. Raises NotFound."""
        number = self._store.number_of(uuid)
        if number is not None:
            last = self._store.before(room, number + 1, 1)
            if last and last[0].uuid == uuid:
                return number
        raise NotFound

    def _events(self, request: Request) -> Response:
        if request.method != "GET":  # or a place would be taken for what is never read
            raise MethodNotAllowed(["GET"])
        if not self._places.acquire(blocking=False):
            raise ServiceUnavailable(f"{STREAMS} pages watch already", retry_after=10)
        last = request.headers.get("Last-Event-ID") or request.args.get("after", "")
        response = Response(_Stream(self._stream(last), self._places), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"  # a proxy must pass each event on
        return response

    def _stream(self, last: str) -> Iterator[bytes]:
        """Yield what came after an event's id, then what comes."""
        yield f"retry: {_RETRY}\n\n".encode()
        store = self._store
        name, _, number = last.partition(":")
        is_known = name == store.name and re.fullmatch(r"[0-9]{1,18}", number) is not None
        after = int(number) if is_known else store.newest
        if (last and not is_known) or store.newest - after > _MISSED or after > store.newest:
            after = store.newest
            yield _event("reset", f"{store.name}:{after}", {})
        else:
            yield _event("ready", f"{store.name}:{after}", {})
        while not store.is_closed:
            messages = store.after(after, _BATCH)
            for message in messages:
                after = message.id
                yield _event("message", f"{store.name}:{after}", shown(message))
            if not messages:
                store.wait(after, _QUIET)
                yield b": still here\n\n"


class _Stream:
    """A stream that frees its place when it is closed, even where it never began."""

    def __init__(self, events: Iterator[bytes], places: threading.BoundedSemaphore) -> None:
        self._events = events
        self._places: threading.BoundedSemaphore | None = places

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Free the place, once."""
        places, self._places = self._places, None
        if places is not None:
            places.release()


def _number(text: str) -> int:
    """Return the number of a message in a query. Raises BadRequest."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequest("before and after take the number of a message")
    return int(text)


def _piece(messages: Sequence[Message], *, has_older: bool, has_newer: bool) -> dict[str, Any]:
    """Return a piece of a room's messages, and whether there are more at either end."""
    return {"messages": [*map(shown, messages)], "older": has_older, "newer": has_newer}


def _event(kind: str, number: str, content: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(content)}\n\n".encode()


def _json(content: Mapping[str, Any]) -> Response:
    return Response(json.dumps(content), mimetype="application/json")


def shown(message: Message) -> dict[str, Any]:
    """Return a message as the page shows it: nothing in it can hurt."""
    is_html = message.format == "html"
    plain = sanitise.text(message.message) if is_html else message.message
    return {
        "id": message.id,
        "room": message.room,
        "uuid": message.uuid,
        "at": message.at,
        "sender": message.sender,
        "color": message.color,
        "notify": message.notify,
        "html": sanitise.message(message.message) if is_html else None,
        "text": plain,
        "card": _card(message.card) if message.card else None,
        "attach_to": message.attach_to,
    }


def _card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a card: its texts and links, no pictures from elsewhere."""
    description = card.get("description", "")
    if not isinstance(description, str):
        is_html = description["format"] == "html"
        description = description["value"]
    else:
        is_html = False
    activity = card.get("activity")
    return {
        "title": card["title"],
        "url": sanitise.link(str(card.get("url", ""))),
        "style": card["style"],
        "description": None if is_html else description,
        "description_html": sanitise.card(description) if is_html else None,
        "activity_html": sanitise.card(activity["html"]) if activity else None,
        "attributes": [_attribute(attribute) for attribute in card.get("attributes", [])],
    }


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    value = attribute["value"]
    return {
        "label": attribute.get("label", ""),
        "value": value["label"],
        "url": sanitise.link(str(value.get("url", ""))),
        "style": value.get("style", ""),
    }
