"""`flipbell history`: what the check said, within the terminal's width, and what happens next."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import unicodedata
from typing import TYPE_CHECKING

import pytest

from conftest import Process

if TYPE_CHECKING:
    from conftest import Site


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
