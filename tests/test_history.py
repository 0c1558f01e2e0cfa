"""`flipbell history`: what the check said, within the terminal's width, and what happens next."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import unicodedata
from typing import TYPE_CHECKING

import pytest

from conftest import Process
from flipbell.cli.tables import width
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom


def _on_terminal(site: Site, *arguments: str) -> str:
    master, slave = pty.openpty()
    site.flipbell(*arguments, capture_output=False, stdout=slave)
    os.close(slave)
    shown = os.read(master, 10_000).decode()
    os.close(master)
    return shown


def test_history_shows_the_first_line_of_what_the_check_said(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2, "\nDISK CRITICAL - \033[1m3% free  \nmore")
    site.deliver()

    (line,) = site.flipbell("history").stdout.decode().splitlines()

    assert line.endswith("first seen  not told  DISK CRITICAL - \\x1b[1m3% free")


@pytest.mark.parametrize(
    ("output", "columns", "shown"),
    [
        ("DISK OK", 200, "DISK OK"),
        ("D" * 300, 120, None),
        ("ディスク残り三パーセント" * 20, 120, None),
        ("D" * 300, 20, "D" * 19 + "…"),
    ],
)
def test_history_cuts_what_the_check_said_to_the_width_of_the_terminal(
    site: Site, output: str, columns: int, shown: str | None
) -> None:
    site.environ |= {"FLIPBELL_COURIER": "off", "COLUMNS": str(columns), "NO_COLOR": "1"}
    site.run("disk", 2, output)
    site.deliver()

    line = _on_terminal(site, "history").rstrip()

    _, _, seen = line.partition("not told  ")
    assert shown is None or seen == shown
    if shown is None:
        wide = sum(unicodedata.east_asian_width(char) == "W" for char in line)
        assert seen.endswith("…")
        assert columns - 2 < len(line) + wide <= columns


def test_history_follows_what_happens_next(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("before", 2)
    site.run("not asked for", 2)
    site.deliver()
    command = [*site.command, "history", "--follow", "--json", "--check", "[bn]e*"]
    with Process(command, env=site.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["check"] == "before"
        site.run("not asked for", 0)
        site.run("next", 2)
        site.deliver()
        assert json.loads(process.stdout.readline())["check"] == "next"
        process.send_signal(signal.SIGINT)
        assert process.wait(9) == 130  # as a shell says it of a Ctrl-C


def test_history_follows_a_ledger_that_was_reset(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    for code in (2, 0, 2):
        site.run("before", code)
    site.deliver()
    command = [*site.command, "history", "--follow", "--json", "--limit", "1"]
    with Process(command, env=site.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        shutil.rmtree(site.state)
        site.run("after", 2)
        site.deliver()
        assert json.loads(process.stdout.readline())["check"] == "after"
        process.send_signal(signal.SIGINT)
        assert process.wait(9) == 130  # as a shell says it of a Ctrl-C


def test_a_change_that_waits_for_a_channel_is_not_called_untold(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.channel(hipchat_room.url, "other", room="4343", send=["ok"])
    hipchat_room.otherwise = Answer(503)
    for check in ("disk", "load"):
        site.run(check, 2)
    site.flipbell("flush", "--timeout", "5")

    lines = site.flipbell("history").stdout.decode().splitlines()
    entries = [
        json.loads(line)
        for line in site.flipbell("history", "--json", "--channel", "ops").stdout.splitlines()
    ]

    assert [line.split("  ")[4] for line in lines] == ["ops: waiting", "ops: waiting"]
    assert [each["check"] for each in entries] == ["disk", "load"]
    (last,) = entries[-1]["deliveries"]
    assert last == {"channel": "ops", "state": "waiting", "error": None}


def test_a_channel_that_left_is_not_waited_for(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    site.deliver()
    (site.config / "ops.yaml").unlink()
    site.run("load", 2)
    site.deliver()

    lines = site.flipbell("history").stdout.decode().splitlines()

    assert [line.split("  ")[4] for line in lines] == ["ops: delivered", "not told"]


def test_a_renaming_is_shown_among_the_changes_that_were_asked_for(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    site.deliver()
    content = (site.config / "ops.yaml").read_text()
    (site.config / "ops.yaml").write_text(content.replace('"ops"', '"oncall"'))
    site.run("load", 2)
    site.deliver()
    site.run("swap", 2)
    site.deliver()

    def has_renaming(*options: str) -> bool:
        return b"oncall took over from ops" in site.flipbell("history", *options).stdout

    assert has_renaming()
    assert has_renaming("--since", "1h")
    assert has_renaming("--channel", "ops")
    assert has_renaming("--limit", "3")
    assert not has_renaming("--limit", "1")
    assert not has_renaming("--since", "2999-01-01T00:00:00Z")
    assert not has_renaming("--host", "web-*")
    assert not has_renaming("--check", "disk")
    assert not has_renaming("--channel", "none")


@pytest.mark.parametrize("command", ["history", "status"])
@pytest.mark.parametrize("columns", [60, 80, 132, 180])
def test_no_line_is_wider_than_the_terminal(site: Site, command: str, columns: int) -> None:
    site.environ |= {"FLIPBELL_COURIER": "off", "COLUMNS": str(columns), "NO_COLOR": "1"}
    site.run("c" * 70, 2, "監視の" * 50, host="h" * 70)
    site.run("disk", 1, "x" * 200)
    site.deliver()

    lines = _on_terminal(site, command).replace("\r", "").splitlines()
    lines = [line for line in lines if " on " in line]

    assert len(lines) == 2
    assert all(width(line) <= columns for line in lines)
    assert any("disk on web-01" in line for line in lines)
    assert any("ccc… on hhh" in line for line in lines)
    assert command == "status" or columns < 80 or all("not told" in line for line in lines)
