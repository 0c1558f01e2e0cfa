"""Whose time a result has: only one that the agent gave can make it late."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from conftest import run_python
from flipbell import spool

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom

AGENT = """
import time
right = time.time
time.time = lambda: right() + {ahead}
import flipbell
bell = flipbell.start("agent")
bell.report(flipbell.CheckResult("h", "c", flipbell.Status.{status}{occurred_at}))
bell.stop(0.3)
"""


def _report(site: Site, status: str, ahead: float = 0.0, occurred_at: str = "") -> None:
    code = AGENT.format(status=status, ahead=ahead, occurred_at=occurred_at)
    assert run_python(site, code).returncode == 0


@pytest.mark.parametrize("ahead", [1, 60, 2 * 86400])
def test_a_clock_that_is_put_right_while_no_courier_runs_makes_nothing_late(
    site: Site, hipchat_room: HipChatRoom, ahead: int
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)

    _report(site, "CRITICAL", ahead)
    _report(site, "OK")
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert site.status()["late"] == 0


@pytest.mark.parametrize("ahead", [3, 3600])
def test_a_time_in_the_future_counts_as_the_moment_of_recording(
    site: Site, hipchat_room: HipChatRoom, ahead: int
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    words = ["report", "--host", "h", "--check", "c", "--output", ""]

    site.flipbell(*words, "--status", "CRITICAL", "--time", str(int(time.time()) + ahead))
    # In whole seconds, as most agents give it.
    site.flipbell(*words, "--status", "OK", "--time", str(int(time.time())))
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_time_that_the_agent_gave_can_be_late(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)

    _report(site, "CRITICAL", occurred_at=f", occurred_at={time.time()}")
    _report(site, "OK", occurred_at=f", occurred_at={time.time() - 60}")
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]
    assert site.status()["late"] == 1


def test_every_front_tells_its_own_time_from_the_agents(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    at = time.time()
    given = json.dumps({"host": "h", "check": "stream-given", "status": 2, "occurred_at": at})
    own = json.dumps({"host": "h", "check": "stream-own", "status": 2})

    site.run("run-own", 2)
    site.flipbell("report", "--check", "report-own", "--status", "2", "--output", "")
    site.flipbell(
        "report", "--check", "report-given", "--status", "2", "--output", "", "--time", str(at)
    )
    site.flipbell("stream", stdin=f"{given}\n{own}\n")
    _report(site, "CRITICAL")
    _report(site, "WARNING", occurred_at=f", occurred_at={at}")

    lines = [spool.decode(line) for line in spool.Reader(str(site.state)).lines()]
    assert [(line[3], line[5]) for line in lines if line is not None] == [
        ("run-own", False),
        ("report-own", False),
        ("report-given", True),
        ("stream-given", True),
        ("stream-own", False),
        ("c", False),
        ("c", True),
    ]
