"""`flipbell room` as a program: what it keeps, what it withstands, and who can read it."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from flipbell.room.limits import Limits
from flipbell.room.refusal import RefusalError
from flipbell.room.store import Store
from hipchat_room import TOKEN
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def room(tmp_path: Path) -> Iterator[OpenRoom]:
    with OpenRoom(tmp_path, "--no-limits") as opened:
        yield opened


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_messages_survive_whatever_ends_the_room(room: OpenRoom, number: int) -> None:
    room.take(message="kept 監視 🔔", color="red", notify=True)

    status = room.stop(number)
    room.open()
    (kept,) = room.history()

    assert status == (-9 if number == signal.SIGKILL else 0)
    assert (kept["message"], kept["color"], kept["notify"]) == ("kept 監視 🔔", "red", True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_acknowledged_message_is_lost_when_the_room_stops(room: OpenRoom, number: int) -> None:
    acknowledged: list[list[str]] = [[] for _ in range(8)]
    enough = threading.Event()

    def client(mine: list[str], name: int) -> None:
        with requests.Session() as session, contextlib.suppress(requests.RequestException):
            for count in range(10_000):
                text = f"{name}-{count}"
                answer = session.post(
                    f"{room.url}/v2/room/ops/notification",
                    json={"message": text},
                    headers={"Authorization": f"Bearer {TOKEN}"},
                    timeout=10,
                )
                if answer.status_code != 204:
                    return
                mine.append(text)
                if sum(map(len, acknowledged)) >= 150:
                    enough.set()

    clients = [
        threading.Thread(target=client, args=(mine, name)) for name, mine in enumerate(acknowledged)
    ]
    for thread in clients:
        thread.start()
    assert enough.wait(20)
    room.stop(number)
    for thread in clients:
        thread.join()
    room.open()
    kept = {message["message"] for message in room.history()}

    told = {text for mine in acknowledged for text in mine}
    assert len(told) >= 150
    assert told - kept == set()
    assert len(kept - told) <= len(clients)  # taken, and the answer was on its way


def test_a_thousand_notifications_from_twenty_clients(room: OpenRoom, figures: list[str]) -> None:
    def client(name: int) -> None:
        with requests.Session() as session:
            for count in range(50):
                answer = session.post(
                    f"{room.url}/v2/room/ops/notification",
                    json={"message": f"{count}", "from": f"client {name}"},
                    headers={"Authorization": f"Bearer {TOKEN}"},
                    timeout=20,
                )
                assert answer.status_code == 204

    with ThreadPoolExecutor(20) as pool:
        clients = [pool.submit(client, name) for name in range(20)]
        pages = 0
        while not all(one.done() for one in clients):
            assert room.get("/api/rooms/1/messages")["messages"] is not None
            pages += 1
        for one in clients:
            one.result()
    kept = room.history(**{"max-results": "1000"})

    assert len(kept) == 1000
    for name in range(20):
        mine = [int(each["message"]) for each in kept if each["from"] == f"client {name}"]
        assert mine == list(range(50))
    assert pages >= 10  # the page was served all the while
    figures.append(f"room: 1000 notifications of 20 clients, a page served {pages} times meanwhile")


def test_a_long_room_costs_no_more_to_open_than_a_short_one() -> None:
    """Counted in SQLite's own steps, which do not depend on the machine."""
    store = Store()
    steps = [0]

    def cost(ask: Callable[[int], Any], room: int) -> int:
        steps[0] = 0
        ask(room)
        return steps[0]

    def count() -> None:
        steps[0] += 1

    for name, messages in (("short", 100), ("long", 10_000)):
        room = store.room(name).id
        rows = [(f"{name}-{n}", room, n) for n in range(messages)]
        store._db.executemany(
            "INSERT INTO messages (uuid, room, at, sender, color, notify, format, message)"
            " VALUES (?, ?, ?, '', 'red', 0, 'text', 'made up')",
            rows,
        )
    store._db.set_progress_handler(count, 1)
    first, last, older, newer = (
        cost(lambda room: store.before(room, None, 51), 1),
        cost(lambda room: store.before(room, None, 51), 2),
        cost(lambda room: store.before(room, 9000, 51), 2),
        cost(lambda room: store.following(room, 900, 51), 2),
    )
    store.close()

    assert first > 51
    assert max(last, older, newer) <= first + 10


def test_limits_are_hipchats_and_told_in_both_families(tmp_path: Path) -> None:
    with OpenRoom(tmp_path, "--memory") as room:
        answers = [room.post(message=f"{number}") for number in range(31)]
        elsewhere = room.post(room="web team")
        kept = room.history()

    assert [answer.status_code for answer in answers] == [204] * 30 + [429]
    assert [answer.headers["X-FloodControl-Remaining"] for answer in answers] == [
        *map(str, range(29, -1, -1)),
        "0",
    ]
    assert {answer.headers["X-FloodControl-Limit"] for answer in answers} == {"30"}
    assert {answer.headers["X-Ratelimit-Limit"] for answer in answers} == {"500"}
    assert answers[-1].headers["X-Ratelimit-Remaining"] == "469"
    error = answers[-1].json()["error"]
    assert (error["code"], error["type"]) == (429, "Too Many Requests")
    assert elsewhere.status_code == 204
    assert len(kept) == 30


def test_limits_end_when_they_said() -> None:
    now = [1000.5]
    limits = Limits(lambda: now[0])
    for _ in range(30):
        headers = limits.post("token", "1")
    with pytest.raises(RefusalError) as refused:
        limits.post("token", "1")
    assert headers["X-FloodControl-Reset"] == "1061"
    assert refused.value.headers["X-FloodControl-Remaining"] == "0"

    now[0] = 1060.5
    assert limits.post("token", "1")["X-FloodControl-Remaining"] == "29"
    now[0] = 10.0  # somebody has set the clock back
    assert limits.post("token", "1")["X-FloodControl-Remaining"] == "29"


def test_five_hundred_requests_in_five_minutes_for_a_token() -> None:
    now = [1000.0]
    limits = Limits(lambda: now[0])
    for _ in range(500):
        limits.ask("token", "1")
    with pytest.raises(RefusalError) as refused:
        limits.ask("token", "1")

    assert refused.value.status == 429
    assert refused.value.headers["X-Ratelimit-Reset"] == "1300"
    assert limits.ask("another", "1")["X-Ratelimit-Remaining"] == "499"
    now[0] = 1300.0
    assert limits.ask("token", "1")["X-Ratelimit-Remaining"] == "499"


def test_a_page_is_told_what_it_missed_and_starts_anew_with_another_store(room: OpenRoom) -> None:
    store = room.get("/api/rooms")["store"]
    for text in ("first", "second"):
        room.take(message=text)

    missed = _events(room, f"{store}:0", 3)
    restarted = _events(room, "another:5", 1)
    ahead = _events(room, f"{store}:99", 1)

    assert [kind for kind, _, _ in missed] == ["ready", "message", "message"]
    assert [number for _, number, _ in missed] == [f"{store}:{number}" for number in (0, 1, 2)]
    assert [kind for kind, _, _ in restarted + ahead] == ["reset", "reset"]


def _events(room: OpenRoom, last: str, count: int) -> list[tuple[str, str, str]]:
    """Return the first events of a stream: kind, id, content."""
    found: list[tuple[str, str, str]] = []
    event: dict[str, str] = {}
    with requests.get(
        f"{room.url}/events", headers={"Last-Event-ID": last}, stream=True, timeout=20
    ) as answer:
        for line in answer.iter_lines(decode_unicode=True):
            assert line != ": still here", "nothing came for a while"
            name, _, value = line.partition(": ")
            event[name] = value
            if not line:
                if "event" in event:
                    found.append((event["event"], event["id"], event["data"]))
                event = {}
            if len(found) == count:
                return found
    raise AssertionError(found)


def test_more_pages_than_the_room_can_serve_are_refused_and_posts_go_on(room: OpenRoom) -> None:
    with contextlib.ExitStack() as stack:
        answers = [
            stack.enter_context(requests.get(f"{room.url}/events", stream=True, timeout=20))
            for _ in range(65)
        ]
        statuses = [answer.status_code for answer in answers]
        room.take()
        looks = [room.session.head(f"{room.url}/events", timeout=20) for _ in range(2)]

    assert statuses == [200] * 64 + [503]
    assert [answer.status_code for answer in looks] == [405, 405]
    assert answers[-1].headers["Retry-After"] == "10"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost", 200), ("[::1]:80", 200), ("127.0.0.1", 200), ("board", 200)),
        *(("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421)),
    ],
)
def test_a_foreign_name_that_leads_to_loopback_is_not_answered(
    named: OpenRoom, host: str, status: int
) -> None:
    for path in ("/", "/api/rooms", "/v2/room/1"):
        answer = named.session.get(f"{named.url}{path}", headers={"Host": host}, timeout=20)
        assert (answer.status_code == 421) is (status == 421)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRoom]:
    base = tmp_path_factory.mktemp("named")
    with OpenRoom(base, "--memory", "--no-limits", "--name=board", "--label=Ops Bot") as room:
        yield room


def test_the_label_stands_before_the_sender(named: OpenRoom) -> None:
    named.take(**{"from": "flipbell"})
    named.take()

    assert [message["from"] for message in named.history()] == ["Ops Bot - flipbell", "Ops Bot"]


def test_a_page_can_write_nothing(named: OpenRoom) -> None:
    for path in ("/", "/api/rooms", "/events"):
        assert named.session.put(f"{named.url}{path}", timeout=20).status_code == 405
        assert named.session.post(f"{named.url}{path}", timeout=20).status_code == 405
    assert named.session.get(f"{named.url}/api/rooms/99/messages", timeout=20).status_code == 404
    assert named.session.get(f"{named.url}/../token", timeout=20).status_code == 404


def test_old_messages_are_let_go(room: OpenRoom) -> None:
    room.take(message="old")
    room.take(message="new")
    room.stop()
    path = room.base / "room" / "messages.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE messages SET at = at - 91 * 86400 WHERE message = 'old'")
    room.open()

    assert [message["message"] for message in room.history()] == ["new"]


def test_a_message_that_cannot_be_kept_is_not_acknowledged(room: OpenRoom) -> None:
    room.take(message="kept")
    path = room.base / "room" / "messages.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("BEGIN EXCLUSIVE")  # as a disk that does not let anybody write

        answer = room.post(message="not kept")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert [message["message"] for message in room.history()] == ["kept"]


def test_a_store_of_the_first_version_is_read_and_written_on(tmp_path: Path) -> None:
    path = str(tmp_path / "messages.sqlite")
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("ALTER TABLE messages ADD COLUMN subject TEXT")
        old.execute("ALTER TABLE messages ADD COLUMN status TEXT")
        old.execute("INSERT INTO rooms (name) VALUES ('ops')")
        old.execute(
            "INSERT INTO messages (uuid, room, at, sender, color, notify, format, message,"
            " subject, status) VALUES ('u', 1, 2, '', 'red', 0, 'text', 'old', 'disk', 'CRITICAL')"
        )
        old.execute("PRAGMA user_version=1")

    store = Store(path)
    body = {"color": "red", "notify": False, "message_format": "text", "message": "new"}
    store.add(1, body, sender="", at=3.0)
    texts = [message.message for message in store.after(0, 9)]
    store.close()

    assert texts == ["old", "new"]
    with contextlib.closing(sqlite3.connect(path)) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_page_asks_for_what_is_before_after_or_around_a_message(room: OpenRoom) -> None:
    for number in range(1, 121):
        room.take(message=str(number))
    room.take(room="web team", message="elsewhere")
    path = "/api/rooms/1/messages"
    uuid = room.get(f"{path}?before=61")["messages"][-1]["uuid"]
    elsewhere = room.get("/api/rooms/2/messages")["messages"][0]["uuid"]

    def asked(query: str) -> tuple[list[int], bool, bool]:
        page = room.get(f"{path}{query}")
        return [message["id"] for message in page["messages"]], page["older"], page["newer"]

    assert asked("") == ([*range(71, 121)], True, False)
    assert asked("?before=30") == ([*range(1, 30)], False, True)
    assert asked("?after=60") == ([*range(61, 111)], True, True)
    assert asked("?after=110") == ([*range(111, 121)], True, False)
    assert asked(f"?around={uuid}") == ([*range(36, 86)], True, True)
    for query, status in (
        *((f"around={elsewhere}", 404), ("around=", 404), ("around=x", 404)),
        *(("before=x", 400), ("after=-1", 400), (f"before={'9' * 19}", 400)),
    ):
        answer = room.session.get(f"{room.url}{path}?{query}", timeout=20)
        assert (query, answer.status_code) == (query, status)
