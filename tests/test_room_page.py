"""The room's page in a real Chromium: what comes, what rings, what cannot hurt, who can use it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from browser import Browser, Keys
from flipbell.model import Status
from hostile import CORPUS, ELSEWHERE
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Site


@pytest.fixture(scope="module")
def shared_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRoom]:
    with OpenRoom(tmp_path_factory.mktemp("room"), "--no-limits") as opened:
        yield opened


@pytest.fixture
def room(shared_room: OpenRoom, browser: Browser) -> Iterator[OpenRoom]:
    """A room whose page asked nobody else for anything, ran nothing and broke no rule."""
    browser.size(1200, 800)
    browser.scheme("light")
    browser.requests()  # of the browser's own first page
    yield shared_room
    browser.js("localStorage.clear()")
    assert browser.js("return [window.pwned, window.violations]") == [[], []]
    assert [url for url in browser.requests() if _is_elsewhere(url)] == []


def _is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("about", "data") and parts.hostname != "127.0.0.1"


def test_a_message_appears_by_itself(room: OpenRoom, browser: Browser, figures: list[str]) -> None:
    browser.open(room.url)
    browser.js("window.isTheSamePage = true")
    begun = time.monotonic()

    room.take(message="<b>CRITICAL</b>: ディスク on web-01<br>3% 🔔 &amp; less", **{"from": "監視"})
    browser.wait_for_text("CRITICAL: ディスク on web-013% 🔔 & less")

    figures.append(f"room: a message was seen {time.monotonic() - begun:.2f} s after it was posted")
    assert browser.js("return window.isTheSamePage")
    assert browser.one("li:last-child .sender").text == "監視"
    assert browser.one("li:last-child .body b").text == "CRITICAL"
    assert "CRITICAL: ディスク" in browser.js("return document.getElementById('said').textContent")


def test_only_what_rings_rings(room: OpenRoom, browser: Browser) -> None:
    browser.open(room.url)
    before_sound = _tones(browser)
    room.take(message="rings unheard", notify=True)
    browser.wait_for_text("rings unheard")
    assert _tones(browser) == before_sound == 0  # nobody has turned the sound on
    assert browser.driver.title.startswith("(1) 🔔 ")

    browser.one("#sound").click()
    browser.until(lambda: browser.one("#sound").get_attribute("aria-pressed") == "true")
    browser.one("#rang").click()
    turned_on = _tones(browser)
    room.take(message="silent", notify=False)
    browser.wait_for_text("silent")
    assert _tones(browser) == turned_on > 0
    assert "🔔" not in browser.driver.title
    assert browser.all("li:last-child .mark") == []
    assert not browser.one("#rang").is_displayed()

    room.take(message="loud", notify=True)
    browser.wait_for_text("loud")
    assert _tones(browser) > turned_on
    assert browser.driver.title.startswith("(1) 🔔 ")
    assert browser.one("li:last-child .mark").text == "rings"
    assert "loud" in browser.js("return document.getElementById('rung').textContent")

    browser.one("#rang").click()
    assert "🔔" not in browser.driver.title


def _tones(browser: Browser) -> int:
    return int(browser.js("return window.tones"))


def test_a_check_rings_for_the_statuses_that_its_channel_names(
    room: OpenRoom, browser: Browser, site: Site
) -> None:
    site.channel(room.url, room="ops", notify={"warning": False})
    site.environ["FLIPBELL_COURIER"] = "off"
    browser.open(f"{room.url}/#room-1")
    browser.one("#sound").click()
    browser.until(lambda: _tones(browser) > 0)
    rang = {}

    for status in (Status.WARNING, Status.CRITICAL, Status.UNKNOWN, Status.OK):
        before, count = _tones(browser), len(browser.texts())
        site.run("disk", status.value, "as the check says")
        site.deliver()
        browser.until(lambda: len(browser.texts()) > count)  # noqa: B023  it is called at once
        assert browser.texts()[-1].startswith(f"{status.name}: disk on web-01")
        rang[status.name] = _tones(browser) > before

    assert rang == {"WARNING": False, "CRITICAL": True, "UNKNOWN": True, "OK": False}


def test_another_room_shows_that_something_came_and_rang(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-1")

    room.take(room="web team", message="over there", notify=True)

    badge = browser.until(lambda: browser.all(".badge.rings"))[0]
    assert badge.text.startswith("1")
    assert "over there" not in browser.texts()
    browser.one("a[href='#room-2']").click()
    browser.wait_for_text("over there")
    assert browser.all(".badge") == []
    assert browser.one(".room[aria-current] .room-name").text == "web team"


def test_a_page_survives_a_restart_and_shows_what_it_missed(
    room: OpenRoom, browser: Browser
) -> None:
    browser.open(f"{room.url}/#room-1")
    room.take(message="before")
    browser.wait_for_text("before")
    browser.js("window.isTheSamePage = true")

    room.kill()
    browser.wait_for_link("Connection lost, trying again…")
    room.open()
    for text in ("missed 1", "missed 2", "missed 3"):
        room.take(message=text)
    browser.wait_for_text("missed 3")
    browser.wait_for_link("Live")

    assert browser.texts()[-4:] == ["before", "missed 1", "missed 2", "missed 3"]
    assert browser.js("return window.isTheSamePage")
    room.take(message="after")
    browser.wait_for_text("after")


def test_what_comes_before_the_page_is_connected_is_shown_then(
    room: OpenRoom, browser: Browser
) -> None:
    room.take(message="first")
    browser.tell("Network.enable")
    browser.tell("Network.setBlockedURLs", urls=["*/events*"])
    browser.driver.get("about:blank")
    browser.driver.get(f"{room.url}/#room-1")
    browser.wait_for_link("Connection lost, trying again…")
    browser.wait_for_text("first")

    room.take(message="meanwhile")
    browser.tell("Network.setBlockedURLs", urls=[])

    browser.wait_for_text("meanwhile")
    browser.wait_for_link("Live")


def test_a_page_notices_that_all_messages_are_new(browser: Browser, tmp_path: Path) -> None:
    with OpenRoom(tmp_path, "--memory") as room:
        room.take(message="of the first store")
        browser.open(room.url)
        browser.wait_for_text("of the first store")
        room.stop()
        room.open()
        room.take(message="of the second store")

        browser.until(lambda: browser.texts() == ["of the second store"])


def test_no_hostile_message_does_anything(room: OpenRoom, browser: Browser) -> None:
    assert len(CORPUS) >= 50
    browser.open(f"{room.url}/#room-1")
    for message in CORPUS:
        room.take(**message)
    room.take(message="the last of them")
    browser.wait_for_text("the last of them")
    browser.complaints()

    for _ in range(2):  # as they came, and as a page finds them that is opened later
        found = browser.js(LOOK)
        assert found["tags"] == []
        assert found["attributes"] == []
        assert found["links"] == []
        assert found["out of place"] == []
        assert browser.js("return window.pwned") == []
        assert browser.js("return document.querySelectorAll('main > *').length") == 4
        shown = browser.texts()
        assert "over" in shown
        assert any("[picture: a pixel]" in text for text in shown)
        assert browser.complaints() == []
        browser.open(f"{room.url}/#room-1")
        browser.wait_for_text("the last of them")
        _load_all(browser)
    asked = browser.requests()
    assert not [url for url in asked if ELSEWHERE in url]


def _load_all(browser: Browser) -> None:
    while browser.one("#older").is_displayed():
        count = len(browser.texts())
        browser.js("document.getElementById('older').click()")
        browser.until(lambda: len(browser.texts()) > count)  # noqa: B023  it is called at once


# Touches everything in every message, so that whatever handler is left would run.
LOOK = """
const found = {tags: [], attributes: [], links: [], "out of place": []};
const tags = new Set(
  "A B I STRONG EM BR PRE CODE SPAN UL OL LI TABLE THEAD TBODY TR TD TH".split(" "));
const attributes = new Set("href target rel colspan rowspan style data-style".split(" "));
const protocols = new Set(["http:", "https:", "mailto:"]);
for (const article of document.querySelectorAll("article")) {
  const place = article.getBoundingClientRect();
  for (const element of article.querySelectorAll(".body *, .card-text *")) {
    if (!tags.has(element.tagName)) found.tags.push(element.outerHTML);
    for (const { name } of element.attributes)
      if (!attributes.has(name)) found.attributes.push(element.outerHTML);
    const style = getComputedStyle(element);
    if (style.position !== "static" || style.backgroundImage !== "none")
      found["out of place"].push(element.outerHTML);
    for (const kind of ["click", "mouseover", "mouseenter", "focus", "error", "load", "toggle"])
      element.dispatchEvent(new Event(kind, { bubbles: true, cancelable: true }));
  }
  for (const link of article.querySelectorAll("a[href]"))
    if (!protocols.has(link.protocol)) found.links.push(link.outerHTML);
  const box = article.getBoundingClientRect();
  if (box.right > innerWidth || box.width < 100) found["out of place"].push(article.outerHTML);
}
return found;
"""


def test_old_messages_load_when_they_are_asked_for(
    browser: Browser, tmp_path: Path, figures: list[str]
) -> None:
    with OpenRoom(tmp_path, "--no-limits") as room:
        room.stop()
        path = tmp_path / "room" / "messages.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as store, store:
            for number, count in ((1, 100), (2, 10_000)):
                rows = [
                    (f"{number}-{n}", number, time.time() - count + n, f"text {n}")
                    for n in range(count)
                ]
                store.executemany(
                    "INSERT INTO messages (uuid, room, at, sender, color, notify, format, message)"
                    " VALUES (?, ?, ?, '', 'red', 0, 'text', ?)",
                    rows,
                )
        room.open()
        for number, count in ((1, 100), (2, 10_000)):
            begun = time.monotonic()
            browser.open(f"{room.url}/#room-{number}")
            browser.wait_for_text(f"text {count - 1}")
            figures.append(f"room: {count} messages open in {time.monotonic() - begun:.2f} s")
            assert browser.texts() == [f"text {n}" for n in range(count - 50, count)]

        browser.js("document.getElementById('feed').scrollTop = 1")
        oldest = "document.querySelector('li[data-id=\"%d\"]').getBoundingClientRect().top"
        before = browser.js(f"return {oldest}" % (100 + 9951))
        browser.until(lambda: len(browser.texts()) == 100)
        assert abs(browser.js(f"return {oldest}" % (100 + 9951)) - before) < 3  # nothing jumped
        browser.js("document.getElementById('older').focus()")
        browser.press(Keys.ENTER)
        browser.until(lambda: len(browser.texts()) >= 150)
        shown = browser.texts()
        assert shown == [f"text {n}" for n in range(10_000 - len(shown), 10_000)]


def test_everything_is_reached_by_keyboard(room: OpenRoom, browser: Browser) -> None:
    browser.open(f"{room.url}/#room-1")

    reached = []
    for _ in range(9):
        browser.press(Keys.TAB)
        reached.append(browser.focused())
    assert [text.partition(",")[0] for text in reached[:3]] == [
        "Skip to the messages",
        "ops",
        "web team",
    ]
    assert "Sound off" in reached

    browser.press(Keys.ALT, Keys.ARROW_DOWN)
    browser.until(lambda: browser.one("h1").text == "web team")
    browser.press(Keys.ALT, Keys.ARROW_UP)
    browser.until(lambda: browser.one("h1").text == "ops")
