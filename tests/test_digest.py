"""Digests: what does not fit a room's limit is folded, and nothing of it is left out."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipbell import message
from flipbell.digest import Digest, wanted
from flipbell.model import Status, Transition
from flipbell.routing import Decision, Reason
from hipchat_room import Answer
from test_routing import CHANNEL

if TYPE_CHECKING:
    from conftest import Site
    from flipbell.model import Channel
    from hipchat_room import HipChatRoom

OK, WARNING, CRITICAL, UNKNOWN = Status
TOLD = Decision(send=True, notify=False, reason=Reason.CHANGED)
LOUD = replace(TOLD, notify=True)
COLORS = {OK: "green", WARNING: "yellow", CRITICAL: "red", UNKNOWN: "gray"}
PLAIN = replace(CHANNEL, color=COLORS)


def _change(number: int, check: str, status: Status, output: str = "") -> Transition:
    return Transition(number, "web-1", check, None, status, output, 1e9 + number)


def _digest(channel: Channel, *changes: tuple[str, Status, str]) -> Digest:
    digest = Digest(channel)
    for number, (check, status, output) in enumerate(changes):
        assert digest.add(_change(number, check, status, output), TOLD)
    return digest


def test_lists_every_change_with_its_time_grouped_by_check() -> None:
    digest = _digest(PLAIN, ("disk", CRITICAL, "3% <free>"), ("load", OK, ""), ("disk", OK, "a\nb"))

    assert digest.notification("").message.split("<br>") == [
        "3 changes, told together:",
        "<b>disk on web-1</b>",
        "2001-09-09 01:46:40 UTC  CRITICAL  3% &lt;free&gt;",
        "2001-09-09 01:46:42 UTC  OK  a",
        "<b>load on web-1</b>",
        "2001-09-09 01:46:41 UTC  OK",
    ]


def test_its_times_are_in_the_channels_time_zone() -> None:
    digest = _digest(replace(PLAIN, timezone="Asia/Tokyo"), ("disk", CRITICAL, ""))

    assert "2001-09-09 10:46:40 UTC+09:00  CRITICAL" in digest.notification("").message


def test_a_repeat_says_so_and_a_mention_pings_once() -> None:
    channel = replace(PLAIN, format="text", mention={CRITICAL: "@here"})

    digest = _digest(channel, ("@all", CRITICAL, ""), ("b", CRITICAL, ""))

    first, heading, *_ = digest.notification(message.REPEAT).message.split("\n")
    assert first == f"@here {message.REPEAT}2 changes, told together:"
    assert heading == "@\u200ball on web-1"


@pytest.mark.parametrize(
    ("statuses", "color"),
    [([CRITICAL, OK], "green"), ([WARNING, UNKNOWN], "gray"), ([OK, WARNING], "yellow")],
)
def test_its_colour_is_that_of_the_worst_that_is_still_so(
    statuses: list[Status], color: str
) -> None:
    digest = _digest(PLAIN, *[("disk", status, "") for status in statuses])

    assert digest.notification("").color == color


def test_it_rings_if_any_of_its_changes_would_have() -> None:
    digest = _digest(PLAIN, ("disk", OK, ""))
    assert not digest.notification("").notify

    digest.add(_change(2, "load", CRITICAL), LOUD)

    assert digest.notification("").notify


TEXT = st.text(max_size=300)


@given(st.lists(st.tuples(TEXT, st.sampled_from(Status), TEXT), min_size=1, max_size=300))
def test_it_never_exceeds_the_limit_and_leaves_nothing_out(
    changes: list[tuple[str, Status, str]],
) -> None:
    left = [_change(number, *change) for number, change in enumerate(changes)]
    told = 0
    while left:
        digest = Digest(PLAIN)
        while left and digest.add(left[0], TOLD):
            left.pop(0)
        notification = digest.notification(message.REPEAT)
        assert message.length(notification.message) <= message.LIMIT
        told += len(re.findall(r"2001-09-09 [\d:]{8} UTC", notification.message))
        assert digest.parts

    assert told >= len(changes)  # an output may look like a line of its own


def test_what_is_wanted_follows_from_what_will_have_been_told() -> None:
    queue = [_change(n, "disk", status) for n, status in enumerate([OK, CRITICAL, CRITICAL, OK])]

    found = wanted(queue, PLAIN, lambda _: WARNING)

    assert [(each.id, decision.reason) for each, decision in found] == [
        (0, Reason.RECOVERED),
        (1, Reason.PROBLEM),
        (3, Reason.RECOVERED),
    ]


# With the real courier


def _quiet(site: Site, room: HipChatRoom, **keys: Any) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(room.url, **keys)


def _lines(room: HipChatRoom) -> list[str]:
    """Return every change that the room was told, as `check status`."""
    found = []
    for heard in room.heard:
        text = str(heard.body["message"])
        heading = ""
        for line in text.split("<br>"):
            change = re.match(r"\d{4}-\d\d-\d\d [\d:]{8} UTC  (\w+)", line)
            single = re.match(r"(?:\(.*?\) )?<b>(\w+)</b>: (\S+) on", line)
            if single:
                found.append(f"{single[2]} {single[1]}")
            elif change:
                found.append(f"{heading} {change[1]}")
            else:
                heading = html.unescape(re.sub("<.*?>", "", line)).partition(" on ")[0]
    return found


def test_what_does_not_fit_is_folded(site: Site, hipchat_room: HipChatRoom) -> None:
    _quiet(site, hipchat_room, per_minute=4)
    for number in range(9):
        site.run(f"check-{number}", 1 + number % 2)

    site.deliver()

    assert len(hipchat_room.heard) == 4
    assert str(hipchat_room.heard[0].body["message"]).startswith("6 changes, told together:")
    assert hipchat_room.heard[0].body["notify"] is True
    names = ["WARNING", "CRITICAL"]
    assert _lines(hipchat_room) == [f"check-{n} {names[n % 2]}" for n in range(9)]


def test_a_refused_digest_is_told_change_by_change(site: Site, hipchat_room: HipChatRoom) -> None:
    _quiet(site, hipchat_room, per_minute=1)
    for code in (2, 1, 0):
        site.run("disk", code)
    # The digest, then what the server cannot take of it.
    hipchat_room.answers = [Answer(400), Answer(400)]
    site.flipbell("flush", "--timeout", "1")
    site.channel(hipchat_room.url, per_minute=0)

    site.deliver()

    assert hipchat_room.statuses == ["WARNING", "OK"]
    assert site.status()["channels"][0]["dead"] == 1


def test_a_digest_of_unknown_outcome_is_repeated_as_it_was(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    _quiet(site, hipchat_room, per_minute=1)
    for code in (2, 1):
        site.run("disk", code)
    hipchat_room.answers = [Answer(500, accept=True)]
    site.flipbell("flush", "--timeout", "1")
    site.run("load", 2)
    site.channel(hipchat_room.url, per_minute=0)

    site.deliver()

    first, second, third = [str(heard.body["message"]) for heard in hipchat_room.heard]
    assert second == message.REPEAT + first
    assert third.startswith("<b>CRITICAL</b>: load")


def test_what_is_no_longer_wanted_drops_out_of_a_digest(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    _quiet(site, hipchat_room, per_minute=1)
    for check, code in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        site.run(check, code)
    hipchat_room.answers = [Answer(503)]
    site.flipbell("flush", "--timeout", "1")
    site.channel(hipchat_room.url, per_minute=0, send=["critical"])

    site.deliver()

    assert _lines(hipchat_room) == ["b CRITICAL", "d CRITICAL"]
    assert site.status()["channels"][0]["waiting"] == 0


def test_history_shows_each_change_of_a_digest(site: Site, hipchat_room: HipChatRoom) -> None:
    _quiet(site, hipchat_room, per_minute=1)
    for code in (2, 1):
        site.run("disk", code)

    site.deliver()

    shown = site.flipbell("history").stdout.decode().splitlines()
    assert [line.rpartition("  ")[2] for line in shown] == ["ops: delivered"] * 2
