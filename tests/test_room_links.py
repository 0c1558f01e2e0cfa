"""The room's page: links to messages, what it remembers, and that it claims only what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from browser import Browser, Keys
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 200


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRoom]:
    """A room with many messages; the last but one is attached to the third."""
    with OpenRoom(tmp_path_factory.mktemp("links"), "--memory", "--no-limits") as opened:
        for number in range(COUNT - 1):
            opened.take(message=f"text {number}")
        opened.take(message="attached", attach_to=uuid_of(opened, 2))
        yield opened


@pytest.fixture(autouse=True)
def _usual(browser: Browser) -> None:
    browser.size(1200, 800)
    browser.scheme("light")


def uuid_of(room: OpenRoom, number: int) -> str:
    """Return the UUID of the message `text NUMBER` of the room ops."""
    (message,) = room.get(f"/api/rooms/1/messages?before={number + 2}")["messages"][-1:]
    assert message["text"] == f"text {number}"
    return str(message["uuid"])


def marked(browser: Browser) -> list[str]:
    """Return the texts of the messages that are marked and wholly in view."""
    found: list[str] = browser.js(
        "const view = document.getElementById('feed').getBoundingClientRect();"
        "return [...document.querySelectorAll('.linked')].filter((article) => {"
        "  const place = article.getBoundingClientRect();"
        "  return place.top >= view.top && place.bottom <= view.bottom;"
        "}).map((article) => article.querySelector('.body').textContent)"
    )
    return found


def test_a_link_leads_to_its_message_however_old_it_is(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-1/{uuid_of(room, 60)}")
    browser.until(lambda: marked(browser) == ["text 60"])
    assert browser.texts() == [f"text {number}" for number in range(36, 86)]
    assert browser.js("return document.documentElement.scrollTop") == 0
    assert browser.focused().startswith("yellow, from ")

    room.take(message="meanwhile")
    browser.until(lambda: browser.one("#newer").text == "1 new ↓")
    assert browser.texts()[-1] == "text 85"

    browser.js("document.getElementById('later').click()")
    browser.until(lambda: "text 135" in browser.texts())
    browser.one("#newer").click()
    browser.wait_for_text("meanwhile")
    assert browser.js("return location.hash") == "#room-1"
    room.take(message="and more")
    browser.wait_for_text("and more")


def test_messages_after_a_linked_one_load_to_the_newest(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-1/{uuid_of(room, 100)}")
    browser.until(lambda: marked(browser) == ["text 100"])
    newest = room.history()[-1]["message"]

    while browser.one("#later").is_displayed():
        count = len(browser.texts())
        browser.js("document.getElementById('later').click()")
        browser.until(lambda: len(browser.texts()) > count)  # noqa: B023  it is called at once

    assert browser.texts()[-1] == newest
    assert browser.texts() == list(dict.fromkeys(browser.texts()))
    room.take(message=f"after {newest}")
    browser.wait_for_text(f"after {newest}")


def test_each_message_has_a_link_to_itself(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-1")
    link = browser.until(lambda: browser.all("article .permalink"))[-5]
    text = browser.texts()[-5]
    address = link.get_attribute("href")
    link.click()
    browser.until(lambda: marked(browser) == [text])
    assert browser.driver.current_url == address

    browser.open(f"{room.url}/#room-2")
    browser.open(str(address))
    browser.until(lambda: marked(browser) == [text])


def test_what_is_attached_leads_to_the_message_that_it_is_attached_to(
    room: OpenRoom, browser: Browser
) -> None:
    browser.open(f"{room.url}/#room-1")
    link = browser.until(lambda: browser.all(".attached"))[-1]
    link.click()
    browser.until(lambda: marked(browser) == ["text 2"])


def test_a_link_to_a_message_that_is_gone_says_so(room: OpenRoom, browser: Browser) -> None:
    for gone in ("nothing", "%", "%3Cimg%20src%3Dx%3E"):
        browser.open(f"{room.url}/#room-1/{gone}")
        browser.until(lambda: browser.one("#notice").is_displayed())
        notice = browser.one("#notice").text
        assert notice == "The linked message is not in this room, or is no longer kept."
        assert browser.texts()[-1] == room.history()[-1]["message"]


def test_the_skip_link_keeps_the_rooms_address(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-2")
    browser.press(Keys.TAB)
    browser.press(Keys.ENTER)

    assert browser.js("return [location.hash, document.activeElement.id]") == ["#room-2", "feed"]


def test_a_page_that_is_left_holds_no_connection_and_goes_on_when_it_is_back(
    room: OpenRoom, browser: Browser
) -> None:
    browser.open(f"{room.url}/#room-1")
    room.take(message="before it is left")
    browser.wait_for_text("before it is left")
    browser.js("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert browser.js("return window.streams.map((stream) => stream.readyState)") == [2]
    room.take(message="while it was away")

    browser.js("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    browser.wait_for_text("while it was away")


def test_one_message_is_one_message(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-2")
    browser.until(lambda: browser.one("#empty").is_displayed())
    assert browser.one("#empty").text.endswith("New messages appear here automatically.")
    for shown in ("1 message", "2 messages"):
        room.take(room="web team", message="x")
        browser.until(lambda: browser.one("#summary").text == shown)  # noqa: B023  called at once


def test_the_choice_of_sound_is_remembered(room: OpenRoom, browser: Browser) -> None:
    def ring(text: str) -> int:
        room.take(message=text, notify=True)
        browser.wait_for_text(text)
        return int(browser.js("return window.tones"))

    browser.open(f"{room.url}/#room-1")
    assert browser.one("#sound").text == "Sound off"
    browser.one("#sound").click()
    browser.until(lambda: browser.one("#sound").text == "Sound on")

    browser.open(f"{room.url}/#room-1")
    browser.until(browser.texts)
    assert browser.one("#sound").get_attribute("aria-pressed") == "true"
    browser.one("h1").click()  # a browser may play nothing before
    browser.until(lambda: browser.one("#sound").text == "Sound on")
    assert ring("heard after a reload") > 0

    browser.one("#sound").click()
    browser.open(f"{room.url}/#room-1")
    browser.until(browser.texts)
    assert browser.one("#sound").text == "Sound off"
    browser.one("h1").click()
    assert ring("not heard") == 0


def test_the_page_claims_no_status(room: OpenRoom, browser: Browser) -> None:
    """Texts say what a client wrote; of a check's status, the room knows nothing."""
    digest = "<b>3 changes</b>, told together<br>OK: disk on web-01<br>CRITICAL: load on web-02"
    for color, message in (("green", digest), ("green", "@all <b>OK</b>: disk"), ("red", "x")):
        room.take(message=message, color=color)
    browser.open(f"{room.url}/#room-1")
    browser.until(lambda: browser.texts()[-1:] == ["x"])

    assert browser.all(".room svg") == []
    names = browser.js("return [...document.querySelectorAll('use')].map((e) => e.href.baseVal)")
    assert set(names) <= {"#i-green", "#i-red", "#i-yellow", "#i-bell"}
    assert browser.all("symbol .cut") == []  # no tick, no exclamation mark
    assert room.session.get(f"{room.url}/api/rooms/1/timeline", timeout=20).status_code == 404
    (message,) = room.get("/api/rooms/1/messages")["messages"][-1:]
    assert message.keys() == {
        *("id", "room", "uuid", "at", "sender", "color", "notify", "html", "text", "card"),
        "attach_to",
    }
