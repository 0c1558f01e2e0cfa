"""Opening a room: what it says and makes, what it exposes, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import FLIPBELL, Process
from hipchat_room import TOKEN
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Site


@pytest.fixture
def room(tmp_path: Path) -> Iterator[OpenRoom]:
    with OpenRoom(tmp_path, "--no-limits") as opened:
        yield opened


def test_a_first_room_makes_its_token_and_says_how_to_use_it(tmp_path: Path, site: Site) -> None:
    state = tmp_path / "room"
    with Process(
        [FLIPBELL, "room", "--port=0", f"--state={state}"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(6)]
        file = state / "room-1.token"
        told = lines[2].split("flipbell ", 1)[1].split()
        site.config.rmdir()
        made = site.flipbell(*told)
        checked = site.flipbell("check-config", "--online")

    token = file.read_text().strip()
    assert len(token) == 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert made.returncode == 0, made.stderr
    assert b"online: the room takes notifications" in checked.stdout
    assert token not in "".join(lines)
    assert token.encode() not in (state / "messages.sqlite").read_bytes()
    assert "Every user of this machine can read it" in lines[3]
    assert str(state) in lines[5]


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "http://127.0.0.1:"), ("::", "http://[::1]:")]
)
def test_beyond_this_machine_it_says_what_it_exposes(tmp_path: Path, host: str, shown: str) -> None:
    with OpenRoom(tmp_path, "--memory", f"--host={host}") as room:
        assert room._process is not None
        assert room._process.stdout is not None
        lines = [room._process.stdout.readline().decode() for _ in range(7)]
        room.take(message="taken at the URL that it has printed")

    assert room.url.startswith(shown)
    assert lines[0] == (
        "It listens on all addresses: elsewhere, use this machine's name in that URL.\n"
    )
    assert lines[5] == "ANYONE who can reach this machine can read it on the page.\n"
    assert lines[6] == "Without --cert, tokens and messages can be read on their way.\n"
    assert f"/{host}:" not in f"{room.url} {lines}"


def test_one_state_has_one_room(room: OpenRoom) -> None:
    done = _call("room", "--port=0", f"--state={room.base / 'room'}")

    assert done.returncode == 2
    assert b"another room is open there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--memory", "--memory keeps no token: name a room, --room ops=TOKEN_FILE"),
        ("--memory --room ops", "--memory keeps no token: write --room ops=TOKEN_FILE"),
        ("--memory --room ops=/nowhere", "/nowhere"),
        ("--memory --room =x", "--room: expected NAME or NAME=TOKEN_FILE, got '=x'"),
        ("--memory --room ops=OPEN", "every user of this host can read it; chmod 600 it"),
        ("--memory --room ops=TOKEN --cert x", "--cert and --key: give both, or neither"),
        ("--memory --room ops=TOKEN --cert x --key x", "--cert x and --key x: No such file"),
        ("--memory --room ops=TOKEN --port BUSY", "name another --port, or 0 for a free one"),
        ("--port 65536", "--port: expected a whole number"),
        ("--memory --state x", "not allowed with argument"),
        ("--state NEWER", "a newer flipbell wrote version 99 of it; upgrade flipbell"),
        ("--state BROKEN", "move it aside, or name another place"),
    ],
)
def test_what_cannot_be_opened_is_explained_in_a_line(
    tmp_path: Path, arguments: str, said: str
) -> None:
    for name, mode in (("TOKEN", 0o600), ("OPEN", 0o644)):
        (tmp_path / name).write_text(TOKEN)
        (tmp_path / name).chmod(mode)
    for name in ("NEWER", "BROKEN"):
        (tmp_path / name).mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(tmp_path / "NEWER" / "messages.sqlite")) as store:
        store.execute("PRAGMA user_version=99")
    (tmp_path / "BROKEN" / "messages.sqlite").write_bytes(b"no database at all, not a bit of one")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = arguments.replace("BUSY", str(taken.getsockname()[1])).split()

        done = _call("room", *words, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("command", ["room", "demo"])
def test_a_missing_extra_is_named_in_a_line(command: str) -> None:
    code = (
        "import sys; sys.modules['nh3'] = None; from flipbell.cli import main; "
        f"sys.exit(main(['{command}']))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert done.returncode == 2
    # Not by the name of a package that no index has, and into the environment that lacks it.
    assert done.stderr.decode() == (
        "flipbell: the room needs nh3, which is not installed; in a checkout of flipbell: "
        f"{shlex.quote(sys.executable)} -m pip install '.[room]'\n"
    )


def test_a_token_is_nowhere_to_be_read(tmp_path: Path) -> None:
    with OpenRoom(tmp_path, "--no-limits") as room:
        assert room._process is not None
        assert room._process.stdout is not None
        url = f"{room.url}/v2/room/ops/notification?auth_token={TOKEN}"
        taken = room.session.post(url, json={"message": "by the old way"}, timeout=20)
        refused = room.session.post(url, json={"message": ""}, timeout=20)
        page = room.get("/api/rooms/1/messages")
        command_line = Path(f"/proc/{room.pid}/cmdline").read_bytes()
        os.kill(room.pid, signal.SIGTERM)
        said = room._process.stdout.read()
        kept = b"".join(file.read_bytes() for file in (tmp_path / "room").iterdir())

    assert (taken.status_code, refused.status_code) == (204, 400)
    seen = [said, command_line, kept, refused.content, repr(page).encode()]
    assert [TOKEN.encode() in text for text in seen] == [False] * len(seen)
    assert b"by the old way" in kept


def _call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [FLIPBELL, *arguments],
        check=False,
        capture_output=True,
        timeout=30,
        env=dict(os.environ),
        **options,
    )
