"""A ledger that is broken: set aside, said once to each room, and what was recorded is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom, HipChatServer

REPEAT = "(repeat: an earlier try may have arrived) "


def _garbage(ledger: Path) -> None:
    ledger.write_bytes(os.urandom(45056))


def _torn(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:5000])


def _page(ledger: Path) -> None:
    content = bytearray(ledger.read_bytes())
    for offset in range(4096, len(content) - 8192, 4096):
        content[offset : offset + 64] = os.urandom(64)
    ledger.write_bytes(content)


@pytest.mark.parametrize("damage", [_garbage, _torn, _page])
def test_each_room_is_told_once_and_nothing_recorded_is_lost(
    site: Site,
    hipchat_server: HipChatServer,
    hipchat_room: HipChatRoom,
    damage: Callable[[Path], None],
) -> None:
    other = hipchat_server.room()
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.channel(other.url, "other", send=["critical"])
    site.run("disk", 2)
    site.deliver()
    damage(site.state / "ledger")
    site.run("load", 2)

    site.deliver()
    site.run("net", 2)
    site.deliver()

    for room in (hipchat_room, other):
        first, notice, *rest = [str(heard.body["message"]) for heard in room.heard]
        assert first.startswith("<b>CRITICAL</b>: disk")
        assert "flipbell on " in notice
        assert "has been reset" in notice
        assert [message.partition(" on ")[0] for message in rest] == [
            f"{REPEAT}<b>CRITICAL</b>: disk",
            f"{REPEAT}<b>CRITICAL</b>: load",  # was it told before? nobody knows
            "<b>CRITICAL</b>: net",
        ]
    assert [name for name in os.listdir(site.state) if name.startswith("ledger.broken-")]
    assert site.status()["fine"]


def test_a_ledger_that_is_only_locked_or_newer_is_not_set_aside(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    (site.state / "ledger").mkdir()

    site.flipbell("flush")

    assert not [name for name in os.listdir(site.state) if "broken" in name]
