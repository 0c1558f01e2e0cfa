"""A HipChat room for tests: a real server that judges each request by the API's contract.

For whoever tests a HipChat client, flipbell's or another:

    import requests

    with HipChatServer() as server:
        room = server.room()
        requests.post(  # what your client would do
            f"{room.url}/v2/room/4242/notification",
            json={"message": "disk full", "notify": True},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=10,
        )
        heard = room.wait_for(1)[0]
        assert heard.room == "4242"
        assert heard.body["notify"] is True
        assert room.faults == []

`room.url` is the server to post to, and TOKEN opens every room. `heard` is what was accepted, and
`faults` what was wrong with the rest, which got HipChat's own error body: the contract that judges
is that of `flipbell room` (flipbell/room/contract.py). Fields that HipChat would have ignored are
faults as well, for they are mostly misspelt. A list of `answers`, and `otherwise` for all that
follow, let the room answer as a server in trouble does.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_httpserver import HTTPServer
from werkzeug import Response

from flipbell.room import contract
from flipbell.room.refusal import RefusalError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from typing_extensions import Self
    from werkzeug import Request

Room = TypeVar("Room", bound="HipChatRoom")
TOKEN = "made-up-token-for-tests"


@dataclass
class Heard:
    """One accepted notification, and the time at which it came."""

    room: str
    body: Mapping[str, Any]

    @property
    def status(self) -> str:
        """The status that the default message starts with."""
        text = str(self.body["message"]).removeprefix("(repeat: an earlier try may have arrived) ")
        return text.removeprefix("<b>").split("<", 1)[0].split(":", 1)[0]

    @property
    def is_repeat(self) -> bool:
        """Whether the message says that it is one."""
        return str(self.body["message"]).startswith("(repeat")


@dataclass
class Answer:
    """What the room does with one request instead of accepting it."""

    status: int = 204
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    accept: bool = False  # hear the message all the same
    gate: threading.Event | None = None  # answer only when it is set


class HipChatServer:
    """The server behind the rooms of all tests, each room under a path of its own."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        host = "localhost" if ssl_context else "127.0.0.1"
        self._server = HTTPServer(host=host, port=0, threaded=True, ssl_context=ssl_context)
        self._server.expect_request(re.compile(".*")).respond_with_handler(self._answer)
        self._rooms: dict[str, HipChatRoom] = {}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    @property
    def rooms(self) -> list[HipChatRoom]:
        """All rooms that were made."""
        return list(self._rooms.values())

    def room(self) -> HipChatRoom:
        """Return a fresh room; what a test before left under way does not reach it."""
        return self.add(HipChatRoom)

    def add(self, kind: type[Room]) -> Room:
        """Return a fresh room of a kind of one's own."""
        base = f"/hipchat-{len(self._rooms)}"
        room = kind(self._server.url_for(base))
        self._rooms[base] = room
        return room

    def _answer(self, request: Request) -> Response:
        uri = str(request.environ["REQUEST_URI"])
        base = "/" + uri.split("/")[1]
        return self._rooms[base].answer(request, uri.removeprefix(base))


class HipChatRoom:
    """Hears notifications; `faults` lists what is wrong with those that break the contract."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._changed = threading.Condition()
        self.heard: list[Heard] = []
        self.requests: list[str] = []  # the room of each request, accepted or not
        self.faults: list[str] = []
        self.answers: list[Answer] = []  # for the next requests, in order
        self.otherwise = Answer()  # for all that follow

    @property
    def statuses(self) -> list[str]:
        """The status of each message, in order."""
        return [heard.status for heard in self.heard]

    def wait_for(self, count: int, timeout: float = 15.0) -> list[Heard]:
        """Return what was heard once it is at least *count* messages."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.heard) >= count, timeout):
                raise AssertionError(f"heard {self.statuses}, expected {count}; {self.faults}")
            return list(self.heard)

    def wait_for_requests(self, count: int, timeout: float = 15.0) -> None:
        """Wait until at least *count* requests came, whatever became of them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} requests, expected {count}")

    def knows(self, token: str) -> bool:
        """Return whether a token opens the rooms here."""
        return token == TOKEN

    def find(self, id_or_name: str) -> str:
        """Return a room: every id and every name has one."""
        return id_or_name

    def opens(self, token: str, _: str) -> bool:
        """Return whether a token opens a room."""
        return self.knows(token)

    def answer(self, request: Request, uri: str) -> Response:
        """Judge a request, and answer it as told."""
        room = uri.partition("/v2/room/")[2].partition("?")[0].removesuffix("/notification")
        with self._changed:
            self.requests.append(room)
            answer = self.answers.pop(0) if self.answers else self.otherwise
            self._changed.notify_all()
        try:
            body, is_trial = self._judge(request, uri)
        except RefusalError as refusal:
            self.faults.append(f"{request.method} {uri.partition('?')[0]}: {refusal}")
            return _json(refusal.body, refusal.status)
        if is_trial:
            return _json(contract.ACCEPTED, 202 if answer.status == 204 else answer.status)
        if answer.gate is not None:
            answer.gate.wait(20)
        if answer.status == 204 or answer.accept:
            with self._changed:
                self.heard.append(Heard(room, body))
                self._changed.notify_all()
        return Response(answer.body, status=answer.status, headers=dict(answer.headers))

    def _judge(self, request: Request, uri: str) -> tuple[Mapping[str, Any], bool]:
        """Return a request's body, and whether it is only a trial. Raises RefusalError."""
        call = contract.Call(
            request.method,
            uri,
            request.headers.get("Authorization"),
            request.headers.get("Content-Type"),
            request.get_data(),
        )
        order = contract.admit(call, self)
        if order.action != "notification":
            raise RefusalError(405, "this room only takes notifications")
        contract.notification(call)
        body: dict[str, Any] = json.loads(call.body)  # as sent, without defaults
        unknown = contract.unknown_fields(body)
        if unknown:
            raise RefusalError(400, f"HipChat knows no field {', '.join(unknown)}")
        return body, order.is_trial


def _json(content: Mapping[str, Any], status: int) -> Response:
    return Response(json.dumps(content), status=status, mimetype="application/json")
