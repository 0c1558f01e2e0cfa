"""Every row of HipChat's v2 contract, valid and not, put to the room and to the tests' fixture."""

from __future__ import annotations

import http.client
import json
import socket
import textwrap
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

import hipchat_room
from contract_table import INVALID, NAMES, OF_THE_ROOM_ONLY, OTHER, VALID, Asked, body
from flipbell.room.app import App
from flipbell.room.keys import Keys
from flipbell.room.limits import Limits
from flipbell.room.server import RoomServer
from flipbell.room.store import Store
from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hipchat_room import HipChatServer


@pytest.fixture(scope="module")
def room() -> Iterator[str]:
    """A room's server in this process, without limits."""
    store, keys = Store(), Keys()
    for number, name in enumerate(NAMES):
        keys.give(store.room(name), OTHER if number == 1 else TOKEN)
    server = RoomServer(App(store, keys, Limits(is_off=True)), store, ("127.0.0.1", 0))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def five() -> Iterator[str]:
    """A room with five messages, 5 to 9."""
    store, keys = Store(), Keys()
    keys.give(store.room("ops"), TOKEN)
    server = RoomServer(App(store, keys, Limits(is_off=True)), store, ("127.0.0.1", 0))
    server.start()
    for number in range(5, 10):
        ask(server.url, Asked({"message": str(number)}))
    yield server.url
    server.stop()


@pytest.fixture(params=["room", "fixture"])
def url(request: pytest.FixtureRequest, room: str, hipchat_server: HipChatServer) -> str:
    """Where to post: to the room, or to the tests' own."""
    return room if request.param == "room" else hipchat_server.room().url


def ask(url: str, asked: Asked) -> tuple[int, Any, Mapping[str, str]]:
    """Send a request just as it is; return status, JSON and headers."""
    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    wanted = {**headers, **asked.headers}
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    try:
        connection.request(
            asked.method,
            parts.path + asked.path,
            json.dumps(asked.body).encode() if asked.raw is None else asked.raw,
            {name: value for name, value in wanted.items() if value is not None},
        )
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(content) if content else None, dict(answer.headers)


@pytest.mark.parametrize("row", VALID)
def test_what_is_valid_is_taken_with_204_and_nothing_else(url: str, row: str) -> None:
    status, said, headers = ask(url, VALID[row])

    assert (status, said) == (204, None)
    assert headers.get("Content-Length", "0") == "0"


@pytest.mark.parametrize("row", INVALID)
def test_what_is_not_valid_gets_hipchats_error(url: str, row: str) -> None:
    asked, expected = INVALID[row]

    status, said, _ = ask(url, asked)

    _assert_error(status, said, expected)


@pytest.mark.parametrize("row", OF_THE_ROOM_ONLY)
def test_a_room_that_is_not_open_to_the_token(room: str, row: str) -> None:
    asked, expected = OF_THE_ROOM_ONLY[row]

    status, said, _ = ask(room, asked)

    _assert_error(status, said, expected)


def _assert_error(status: int, said: Any, expected: dict[str, Any]) -> None:
    error = said["error"]
    assert status == expected["code"]
    assert {"code", "type", "message"} <= error.keys()
    message = error.pop("message")
    assert message.startswith(expected.get("message", ""))
    assert {name: error[name] for name in expected if name != "message"} == {
        name: value for name, value in expected.items() if name != "message"
    }
    assert len(json.dumps(said)) < 2000  # a client logs it


@pytest.mark.parametrize("name", NAMES)
def test_a_room_is_found_by_its_name_percent_encoded(room: str, name: str) -> None:
    encoded = "".join(f"%{byte:02x}" for byte in name.encode())
    token = OTHER if name == "web team" else TOKEN
    headers = {"Authorization": f"Bearer {token}"}

    status, _, _ = ask(room, Asked(path=f"/v2/room/{encoded}/notification", headers=headers))
    _, found, _ = ask(room, Asked(path=f"/v2/room/{encoded}", method="GET", headers=headers))

    assert status == 204
    assert found["name"] == name
    assert found["id"] == NAMES.index(name) + 1


def test_a_405_says_what_is_allowed(room: str) -> None:
    assert ask(room, Asked(method="PUT"))[2]["Allow"] == "POST"
    assert ask(room, Asked(path="/v2/room/1"))[2]["Allow"] == "GET"


def test_a_body_in_chunks_is_taken(room: str) -> None:
    parts = urlsplit(room)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    pieces = (b'{"message": ', b'"in pieces"}')

    connection.request("POST", "/v2/room/1/notification", iter(pieces), headers)

    assert connection.getresponse().status == 204
    connection.close()


def test_a_raw_space_is_no_request(room: str) -> None:
    parts = urlsplit(room)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as raw:
        raw.sendall(b"POST /v2/room/web team/notification HTTP/1.1\r\nHost: x\r\n\r\n")

        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_auth_test_answers_202_and_posts_nothing(url: str, hipchat_server: HipChatServer) -> None:
    trial = "/v2/room/1/notification?auth_test=true"
    expected = "This auth_token has access to use this method."

    status, said, _ = ask(url, Asked({"message": "never to be seen"}, path=trial))
    refused, _, _ = ask(url, Asked(path=trial, headers={"Authorization": "Bearer wrong"}))

    assert (status, refused) == (202, 401)
    assert said == {"success": {"code": 202, "message": expected, "type": "Accepted"}}
    assert not any(room.heard for room in hipchat_server.rooms if room.url == url)
    if "hipchat-" not in url:
        _, history, _ = ask(url, Asked(path="/v2/room/1/history", method="GET"))
        assert "never to be seen" not in json.dumps(history)


def test_defaults_are_hipchats(room: str) -> None:
    ask(room, Asked({"message": "only this"}))

    (last,) = ask(room, Asked(path="/v2/room/1/history/latest?max-results=1", method="GET"))[1][
        "items"
    ]

    assert (last["color"], last["notify"], last["message_format"]) == ("yellow", False, "html")
    assert (last["from"], last["type"], last["mentions"]) == ("", "notification", [])


def test_a_random_colour_is_chosen_when_it_comes(room: str) -> None:
    ask(room, body(color="random"))

    history = ask(room, Asked(path="/v2/room/1/history/latest?max-results=1", method="GET"))[1]

    assert history["items"][0]["color"] in {"yellow", "green", "red", "purple", "gray"}


def test_the_fixtures_own_example() -> None:
    """What its first lines show to whoever tests a client of their own."""
    text = (hipchat_room.__doc__ or "").split("another:\n\n")[1].split("\n\n`room.url`")[0]

    exec(textwrap.dedent(text), {"HipChatServer": hipchat_room.HipChatServer, "TOKEN": TOKEN})


def test_the_fixture_notices_a_misspelt_field(hipchat_server: HipChatServer) -> None:
    room = hipchat_server.room()

    status, _, _ = ask(room.url, body(colour="red"))

    assert status == 400
    assert room.faults == ["POST /v2/room/1/notification: HipChat knows no field colour"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [5, 6, 7, 8, 9]),
        ("?max-results=2", [8, 9]),
        ("?max-results=2&reverse=false", [9, 8]),
        ("?max-results=2&start-index=2", [6, 7]),
        ("?max-results=0", []),
        ("?date=2000-01-01T00:00:00Z", []),
        ("?date=2999-01-01T00:00:00%2B09:00&max-results=1", [9]),
        ("?date=99999999999&max-results=1", [9]),
    ],
)
def test_history_is_paged_from_its_end(five: str, query: str, expected: list[int]) -> None:
    status, said, _ = ask(five, Asked(path=f"/v2/room/1/history{query}", method="GET"))

    assert status == 200
    assert [int(item["message"]) for item in said["items"]] == expected


@pytest.mark.parametrize(
    "query", ["max-results=1001", "max-results=-1", "start-index=x", "date=yesterday"]
)
def test_a_wrong_question_about_history_is_400(room: str, query: str) -> None:
    status, said, _ = ask(room, Asked(path=f"/v2/room/1/history?{query}", method="GET"))

    assert status == 400
    assert said["error"]["field"] == query.partition("=")[0]


def test_latest_begins_with_a_message(room: str) -> None:
    for text in ("before", "first", "second"):
        ask(room, Asked({"message": text}))
    latest = "/v2/room/1/history/latest"
    items = ask(room, Asked(path=f"{latest}?max-results=2", method="GET"))[1]["items"]

    since = ask(room, Asked(path=f"{latest}?not-before={items[0]['id']}", method="GET"))[1]
    unknown, _, _ = ask(room, Asked(path=f"{latest}?not-before=nothing", method="GET"))

    assert [item["message"] for item in since["items"]] == ["first", "second"]
    assert unknown == 400
