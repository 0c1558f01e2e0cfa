"""Performance data is for graphs: rooms read the text, and templates may ask for the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipbell.digest import Digest
from flipbell.message import first_lines, render
from flipbell.perfdata import split
from flipbell.routing import Decision, Reason
from test_message import CHANNEL, DISK, NOW


@pytest.mark.parametrize(
    ("output", "text", "data"),
    [
        ("DISK OK", "DISK OK", ""),
        ("DISK OK - 40% free | /=3MB;10;20;0;30", "DISK OK - 40% free", "/=3MB;10;20;0;30"),
        ("DISK OK|/=3MB", "DISK OK", "/=3MB"),
        ("OK | 'a b'=1 'it''s'=2%", "OK", "'a b'=1 'it''s'=2%"),
        ("OK | time=0,5s load=.5 t=-1 none=U", "OK", "time=0,5s load=.5 t=-1 none=U"),
        ("| a=1", "", "a=1"),
        # The plugin API's own example: on the first line, and after a second bar to the end.
        (
            "DISK OK | /=2643MB\n/ 15272 MB (77%);\n/boot 68 MB | /boot=68MB\n/home=69357MB\n",
            "DISK OK\n/ 15272 MB (77%);\n/boot 68 MB",
            "/=2643MB /boot=68MB /home=69357MB",
        ),
        ("OK\nlong |\n a=1\nb=2", "OK\nlong", "a=1 b=2"),
        ("OK\nlong | a=1", "OK\nlong", "a=1"),
        # Text that only looks so.
        ("ps | grep nginx failed", "ps | grep nginx failed", ""),
        ("ps | grep failed | time=0.1s", "ps | grep failed", "time=0.1s"),
        ("| mount | free |\n| /var | 3% |", "| mount | free |\n| /var | 3% |", ""),
        ("a | b=c", "a | b=c", ""),
        ("a || x == 5", "a || x == 5", ""),
        ("a |", "a |", ""),
        ("", "", ""),
    ],
)
def test_text_and_performance_data_are_told_apart(output: str, text: str, data: str) -> None:
    assert split(output) == (text, data)


@given(st.text("|='a1 \nU.;", max_size=60))
def test_nothing_of_an_output_is_lost(output: str) -> None:
    text, data = split(output)

    def letters(text: str) -> str:
        return "".join(text.replace("|", " ").split())

    assert sorted(letters(text + data)) == sorted(letters(output))
    assert "\n" not in data


def test_a_message_and_a_digest_leave_it_out() -> None:
    disk = replace(DISK, output="DISK CRITICAL - 3% | /=3%;20;10\nin /var | inodes=5\nx=6")
    digest = Digest(CHANNEL)
    digest.add(disk, Decision(send=True, notify=False, reason=Reason.CHANGED))

    assert render(disk, CHANNEL, now=NOW).endswith("<br>DISK CRITICAL - 3%<br>in /var")
    assert digest.notification("").message.endswith("  CRITICAL  DISK CRITICAL - 3%")
    assert first_lines(disk.output) == "DISK CRITICAL - 3%\nin /var"


def test_a_template_can_ask_for_it() -> None:
    channel = replace(CHANNEL, message="$output [$perfdata]")
    disk = replace(DISK, output="3% | /=3%;<20> \n| x=1")

    assert render(disk, channel, now=NOW) == "3% [/=3%;&lt;20&gt; x=1]"
    assert render(replace(DISK, output="3%"), channel, now=NOW) == "3% []"


def test_an_output_of_performance_data_alone_leaves_a_message() -> None:
    assert render(replace(DISK, output="|a=1"), CHANNEL, now=NOW).endswith("1 min)")
