"""What a room reads: escaped, cut, in UTF-8, and never pinging anybody by accident."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipbell.message import LATE, LIMIT, REPEAT, duration, length, notification, render
from flipbell.model import Channel, Status, Transition

NOW = 1_795_400_000.0
CHANNEL = Channel(
    name="ops",
    type="hipchat",
    send=frozenset(Status),
    notify=frozenset(Status),
    color=dict.fromkeys(Status, "red"),
    mention={},
)
TEXT = replace(CHANNEL, format="text", mention={Status.CRITICAL: "@here"})
DISK = Transition(
    1, "web-01", "disk", Status.WARNING, Status.CRITICAL, "DISK <full>\n日本語 🔥", NOW, NOW - 3700
)


def test_names_status_check_host_history_and_output() -> None:
    assert render(DISK, CHANNEL, now=NOW) == (
        "<b>CRITICAL</b>: disk on web-01 (was WARNING for 1 h 1 min)"
        "<br>DISK &lt;full&gt;<br>日本語 🔥"
    )


def test_plain_text() -> None:
    assert render(DISK, TEXT, now=NOW) == (
        "@here CRITICAL: disk on web-01 (was WARNING for 1 h 1 min)\nDISK <full>\n日本語 🔥"
    )


def test_first_sight_has_no_history() -> None:
    first = replace(DISK, previous=None, previous_since=None, output="")

    assert render(first, CHANNEL, now=NOW) == "<b>CRITICAL</b>: disk on web-01"


def test_says_when_it_was_where_that_is_a_while_ago() -> None:
    assert "at 2026-11-23 02:13:20 UTC" in render(DISK, CHANNEL, now=NOW + LATE + 1)
    assert "UTC" not in render(DISK, CHANNEL, now=NOW + LATE)


def test_says_that_it_is_a_repeat() -> None:
    said = notification(DISK, CHANNEL, notify=True, now=NOW, mark=REPEAT)

    assert said.message.startswith("(repeat: an earlier try may have arrived) <b>CRITICAL</b>")


def test_output_pings_nobody() -> None:
    said = render(replace(DISK, output="@all @here"), TEXT, now=NOW)

    assert "@all" not in said
    assert said.startswith("@here CRITICAL")  # the one that was configured
    assert said.count("@here") == 1


def test_a_template_of_ones_own() -> None:
    channel = replace(CHANNEL, message="$status|$previous|$duration|$host|$check|$channel|$output")

    said = render(replace(DISK, output="<"), channel, now=NOW)

    assert said == "CRITICAL|WARNING|1 h 1 min|web-01|disk|ops|&lt;"


@pytest.mark.parametrize("form", ["html", "text"])
def test_a_template_has_the_history_with_its_brackets_and_nothing_on_first_sight(
    form: str,
) -> None:
    channel = replace(CHANNEL, format=form, message="$status: $check$history: $output")
    first = replace(DISK, previous=None, previous_since=None, output="o")

    assert render(replace(DISK, output="o"), channel, now=NOW) == (
        "CRITICAL: disk (was WARNING for 1 h 1 min): o"
    )
    assert render(first, channel, now=NOW) == "CRITICAL: disk: o"
    late = render(first, channel, now=NOW + LATE + 1)
    assert late == "CRITICAL: disk (at 2026-11-23 02:13:20 UTC): o"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (90061, "1 d 1 h"), (-5, "0 s")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_control_characters_and_direction_marks_are_gone() -> None:
    said = render(
        replace(DISK, host="a\u202eb\x1b[31mc\u3000d", output="e\tf\r\0g"), CHANNEL, now=NOW
    )

    assert "ab[31mc d" in said
    assert said.endswith("<br>e f<br>g")


ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=300)
LONG = st.builds(lambda text, times: text * times, ANY_TEXT, st.integers(1, 200))
TEMPLATES = st.sampled_from(
    [None, "$output $output $output $output $output $output $host $check", "$perfdata " * 9]
)


@given(LONG, LONG, LONG, TEMPLATES, st.sampled_from(["html", "text"]))
def test_any_output_fits_and_is_whole(
    host: str, check: str, output: str, template: str | None, form: str
) -> None:
    channel = replace(CHANNEL, message=template, format=form)
    transition = replace(DISK, host=host, check=check, output=f"{output}|a=1{output}")

    said = render(transition, channel, now=NOW)

    assert 1 <= length(said) <= LIMIT
    said.encode()  # no lone surrogates
    if form == "html":
        without_tags = re.sub(r"</?b>|<br>", "", said)
        assert not re.search(r"[<>\"']", without_tags)
        assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt|quot|#x27);)*", without_tags)
        assert html.unescape(without_tags)


def test_the_longest_message_is_cut_to_the_limit() -> None:
    channel = replace(CHANNEL, message="$check" * 600)

    assert length(render(replace(DISK, check='"' * 3000), channel, now=NOW)) <= LIMIT


@pytest.mark.parametrize("template", ["$output", "$previous", "  "])
def test_a_message_is_never_empty(template: str) -> None:
    first = replace(DISK, output="", previous=None)

    assert "disk on web-01" in render(first, replace(CHANNEL, message=template), now=NOW)


def test_astral_characters_count_twice() -> None:
    assert length("a🔥") == 3
