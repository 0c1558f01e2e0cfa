"""What comes from outside: names, output, servers and streams that mean no good."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, Process
from flipbell.channels.hipchat import judge
from flipbell.model import Verdict
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom, HipChatServer

HOSTILE = [
    "../../etc/passwd",
    "a/b?c#d%2e",
    "a\r\nAuthorization: Bearer x",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "@all @here",
    "x" * 1000,
    "\ud800",
    "' OR 1=1 --",
    "${output}$status",
    "-- --help",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_reach_the_room_as_text_and_nothing_else(
    site: Site, hipchat_room: HipChatRoom, name: str
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    result = {"host": name, "check": name, "status": 2, "output": name}

    assert site.flipbell("report", stdin=json.dumps(result)).returncode == 0
    site.deliver()

    (heard,) = hipchat_room.heard
    text = str(heard.body["message"]).replace("<b>", "").replace("</b>", "").replace("<br>", "")
    assert "<" not in text
    assert text.isprintable()
    assert "\u202e" not in text
    assert site.flipbell("history").stdout.decode().count("\n") == 1


def test_no_redirect_carries_the_token_elsewhere(
    site: Site, hipchat_server: HipChatServer, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    elsewhere = hipchat_server.room()
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    for status in (301, 302, 303, 307, 308):
        location = f"{elsewhere.url}/v2/room/4242/notification"
        hipchat_room.otherwise = Answer(status, headers={"Location": location})
        assert site.flipbell("flush").returncode == 1

    assert len(hipchat_room.requests) == 5
    assert elsewhere.requests == []
    assert "redirects are not followed" in site.status()["channels"][0]["last_error"]


@pytest.mark.parametrize("status", range(200, 600))
def test_every_answer_has_its_verdict(status: int) -> None:
    verdict = judge(status, {}, b"", 0.0).verdict

    if status == 204:
        assert verdict is Verdict.DELIVERED
    elif status in (429, 503):
        assert verdict is Verdict.RETRY
    elif status in (500, 502, 504):
        assert verdict is Verdict.UNKNOWN
    elif status in (400, 413, 422):
        assert verdict is Verdict.REFUSED
    else:
        assert verdict is Verdict.PAUSE


def test_a_hundred_megabytes_of_output_pass_and_cost_four_kilobytes(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    size = 100_000_000
    check = ["sh", "-c", f"head -c {size} /dev/zero; exit 2"]
    command = [FLIPBELL, "run", "--check", "big", "--", *check]

    with Process(command, env=site.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        passed = 0
        while block := process.stdout.read(1 << 20):
            passed += len(block)
            assert not block.strip(b"\0")
        assert process.wait(60) == 2

    assert passed == size
    assert (site.state / "spool").stat().st_size < 10_000


def test_stdin_without_end_is_read_no_further_than_needed(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    command = [FLIPBELL, "report", "--check", "c", "--host", "h", "--status", "2"]

    with (
        Process(["yes", "output"], stdout=subprocess.PIPE) as endless,
        Process(command, env=site.environ, stdin=endless.stdout) as process,
    ):
        assert process.wait(60) == 0
    site.deliver()

    assert "output" in str(hipchat_room.heard[0].body["message"])


def test_a_token_that_is_changed_is_used_at_once(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    good = site.token.read_text()
    site.token.write_text("")
    site.run("disk", 2)
    assert site.flipbell("flush").returncode == 1
    assert "empty" in site.status()["channels"][0]["last_error"]

    site.token.write_text(good)
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]
