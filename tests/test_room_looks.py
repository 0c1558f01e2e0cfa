"""The room's page as people see it: its pictures, and what axe says of it, light and dark."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Browser

SERIOUS = {"serious", "critical"}
SHOTS = ("docs/room-light.png", "docs/room-dark.png")
SHOT = (1000, 500)
LARGEST = 100_000  # bytes of a picture in the README


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenRoom]:
    """A room as a team's looks after an hour."""
    base = tmp_path_factory.mktemp("story")
    with OpenRoom(base, "--no-limits") as room:
        _tell_a_story(room)
        room.stop()
        _age(base / "room" / "messages.sqlite")
        room.open()
        yield room


def _show(browser: Browser, story: OpenRoom, scheme: str, width: int, height: int) -> None:
    browser.scheme(scheme)
    browser.size(width, height)
    browser.open(f"{story.url}/#room-1")
    browser.until(lambda: len(browser.texts()) == 7)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (844, 390)])
def test_axe_finds_nothing_serious(
    story: OpenRoom, browser: Browser, scheme: str, width: int, height: int
) -> None:
    _show(browser, story, scheme, width, height)
    browser.all("article .permalink")[-1].click()
    browser.until(lambda: browser.all(".linked"))
    story.take(room="web team", message="<b>CRITICAL</b>: cert on www", color="red", notify=True)
    browser.until(lambda: browser.all(".badge.rings"))
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    browser.js((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8"))

    result = browser.driver.execute_async_script(
        "const done = arguments[0]; axe.run().then(done, (error) => done(String(error)))"
    )

    found = [
        (rule["id"], rule["nodes"][0]["html"], rule["nodes"][0]["failureSummary"])
        for rule in result["violations"]
        if rule["impact"] in SERIOUS
    ]
    assert found == []
    # A rule that breaks down counts as incomplete, and would never find anything.
    assert [rule["id"] for rule in result["incomplete"] if rule.get("error")] == []
    assert "color-contrast" in {rule["id"] for rule in result["passes"]}
    assert browser.js("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("width", "height", "least"), [(1280, 800, 12), (390, 844, 7), (844, 390, 6)]
)
def test_a_screen_holds_many_messages(
    browser: Browser, tmp_path: Path, width: int, height: int, least: int
) -> None:
    with OpenRoom(tmp_path, "--memory", "--no-limits") as room:
        for _ in range(3):
            _tell_a_story(room)
        browser.size(width, height)
        browser.open(f"{room.url}/#room-1")
        browser.until(lambda: len(browser.texts()) == 21)

        shown = browser.js(
            "const view = document.getElementById('feed').getBoundingClientRect();"
            "return [...document.querySelectorAll('article')].filter((article) => {"
            "  const place = article.getBoundingClientRect();"
            "  return place.top >= view.top && place.bottom <= view.bottom;"
            "}).length"
        )

        assert shown >= least
        assert browser.js("return document.documentElement.scrollWidth") == width
        assert browser.js("return document.documentElement.scrollHeight") == height


def _tell_a_story(room: OpenRoom) -> None:
    """Post what a team's room looks like."""
    _tell(room, "WARNING", "disk on web-01", "OK for 2 h 3 min", "15% free")
    _tell(room, "CRITICAL", "load on web-02", "OK for 40 min", "31.2, 24.0, 12.9")
    _tell(room, "UNKNOWN", "backup on db-01", "OK for 3 d", "no answer")
    attributes = [
        {"label": "branch", "value": {"label": "main"}},
        {"label": "state", "value": {"label": "FAILED", "style": "lozenge-error"}},
    ]
    card = {"style": "application", "title": "Build 43", "id": "43", "attributes": attributes}
    room.take(
        message="Build <a href='https://example.com/43'>#43</a> of <code>main</code> failed",
        card={**card, "url": "https://example.com/43", "description": "3 of 812 tests failed"},
        **{"from": "Jenkins"},
    )
    _tell(room, "OK", "load on web-02", "CRITICAL for 28 min", "0.5")
    room.take(
        message="デプロイが完了しました 🎉 https://example.com/build/44",
        message_format="text",
        color="purple",
        **{"from": "Jenkins"},
    )
    _tell(room, "CRITICAL", "disk on web-01", "WARNING for 53 min", "3% free")


def _tell(room: OpenRoom, status: str, check: str, was: str, output: str) -> None:
    color = {"OK": "green", "WARNING": "yellow", "CRITICAL": "red", "UNKNOWN": "gray"}[status]
    name = check.partition(" ")[0].upper()
    text = f"<b>{status}</b>: {check} (was {was})<br>{name} {status} - {output}"
    rings = status in ("CRITICAL", "UNKNOWN")
    room.take(message=text, color=color, notify=rings, **{"from": "flipbell"})


@pytest.mark.parametrize("name", SHOTS)
def test_the_readmes_pictures(
    story: OpenRoom, browser: Browser, pytestconfig: pytest.Config, name: str
) -> None:
    """Takes them anew, and with --screenshots puts them where the README shows them."""
    _show(browser, story, "dark" if "dark" in name else "light", *SHOT)

    picture = browser.driver.get_screenshot_as_png()

    assert struct.unpack(">II", picture[16:24]) == SHOT
    ground = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 200) is ("dark" in name)
    if pytestconfig.getoption("--screenshots"):
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_bytes(picture)


def _age(path: Path) -> None:
    """Let the story have taken an hour."""
    ages = (3500, 2700, 2200, 1500, 1000, 600, 300)
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        for number, age in enumerate(ages, start=1):
            store.execute("UPDATE messages SET at = at - ? WHERE id = ?", (age, number))


@pytest.mark.parametrize("name", SHOTS)
def test_the_readme_shows_its_pictures(name: str) -> None:
    picture = (ROOT / name).read_bytes()

    assert picture.startswith(b"\x89PNG")
    assert len(picture) < LARGEST
    assert f"]({name})" in (ROOT / "README.md").read_text(encoding="utf-8")
