"""A canary for the token: it goes into one header, and nowhere else."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hipchat_room import TOKEN, Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog


def _contents(directory: Path) -> bytes:
    """Return every byte that the files of a directory hold, free pages and journal too."""
    files = (file for file in directory.rglob("*") if file.is_file())
    return b"".join(file.read_bytes() for file in files)


def _command_lines() -> bytes:
    found = b""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            found += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    return found


@pytest.mark.parametrize("way", ["token_file", "token_env", "token"])
@pytest.mark.parametrize("status", [204, 302, 400, 401, 429, 500])
def test_no_token_anywhere(
    site: Site, hipchat_room: HipChatRoom, syslog: Syslog, way: str, status: int
) -> None:
    if way == "token_env":
        site.environ["OPS_TOKEN"] = TOKEN
    keys = {"token_env": "OPS_TOKEN", "token": TOKEN}
    site.channel(hipchat_room.url, **{way: keys[way]} if way in keys else {})
    gate = threading.Event()
    redirect = {"Location": f"{hipchat_room.url}/v2/elsewhere"}
    hipchat_room.otherwise = Answer(status, gate=gate, headers=redirect)

    site.run("disk", 2)
    wrapped = site.flipbell("run", "--check", "env", "--", "env")
    hipchat_room.wait_for_requests(1)
    command_lines = _command_lines()
    gate.set()
    said = [wrapped] + [
        site.flipbell(*command)
        for command in (
            ["flush", "--timeout", "3"],
            ["status"],
            ["status", "--json"],
            ["history"],
            ["history", "--json"],
            ["check-config"],
        )
    ]

    printed = b"".join(done.stdout + done.stderr for done in said)
    seen = printed + command_lines + _contents(site.state) + syslog.text().encode()
    assert TOKEN.encode() not in seen
    assert not any("token" in request.lower() for request in hipchat_room.requests)
