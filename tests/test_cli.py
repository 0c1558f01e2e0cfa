"""The commands for people: short, aligned, with exit statuses that mean something."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

import flipbell
from conftest import FLIPBELL, Process
from flipbell.cli.tables import table
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom

COMMANDS = ["report", "stream", "check-config", "status", "history", "courier", "flush", "demo"]


def test_version(site: Site) -> None:
    assert site.flipbell("--version").stdout.decode() == f"flipbell {flipbell.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(site: Site, command: str) -> None:
    done = site.flipbell(command, "--help")

    assert done.returncode == 0
    assert b"example: " in done.stdout


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["status", "--nonsense"]])
def test_a_wrong_call_is_2(site: Site, arguments: list[str]) -> None:
    done = site.flipbell(*arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"flipbell")


def test_status_before_anything_happened(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)

    done = site.flipbell("status")

    assert done.returncode == 0
    assert done.stdout.decode() == (
        f"state    {site.state}\nconfig   {site.config}\n"
        "courier  not needed now\nchecks   0 seen, 0 not OK\n"
    )
    assert not site.state.exists()


def test_status_shows_what_fails_and_what_waits(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(401)
    site.run("disk", 2)
    site.run("load", 0)

    assert "recorded results wait for a courier" in site.flipbell("status").stdout.decode()
    assert site.flipbell("flush").returncode == 1
    done = site.flipbell("status")

    assert done.returncode == 1
    said = done.stdout.decode().splitlines()
    assert "checks   2 seen, 1 not OK" in said
    assert any(line.startswith("CRITICAL  disk on web-01  for ") for line in said)
    assert said[-1].startswith("channel  ops  1 waiting; paused; HTTP 401: the token is not")


def test_status_shows_a_broken_configuration(site: Site) -> None:
    (site.config / "ops.yaml").write_text("channels: {ops: {}}")

    done = site.flipbell("status")

    assert done.returncode == 1
    assert b"channels.ops.room: required" in done.stdout


def test_history_shows_what_was_sent(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url, send=["critical"])
    for code in (2, 1):
        site.run("disk", code)
    site.deliver()

    lines = site.flipbell("history").stdout.decode().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "CRITICAL  disk on web-01  first seen    ops: delivered",
        "WARNING   disk on web-01  was CRITICAL  told nobody",
    ]
    done = site.flipbell("history", "--json", "--limit", "1")
    entry = json.loads(done.stdout)
    assert (entry["status"], entry["previous"], entry["deliveries"]) == ("WARNING", "CRITICAL", [])


def test_history_of_nothing(site: Site) -> None:
    done = site.flipbell("history")

    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize(
    "command",
    ["history", "status", "check-config", "hooks", "hooks systemd", "--help", "--version"],
)
def test_a_closed_pipe_is_quiet(site: Site, command: str) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel("http://127.0.0.1:1")
    site.run("disk", 2)
    site.flipbell("flush")
    reading, writing = os.pipe()
    os.close(reading)

    with Process(
        [FLIPBELL, *command.split()], env=site.environ, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        assert process.communicate(timeout=20)[1] == b""
        assert process.returncode == 0


@pytest.mark.parametrize(
    "command", ["demo --state /tmp", "hooks --config /tmp", "history --config /"]
)
def test_an_option_that_would_mean_nothing_is_refused(site: Site, command: str) -> None:
    done = site.flipbell(*command.split())

    assert done.returncode == 2
    assert b"unrecognized arguments" in done.stderr


def test_flush_tells_a_terminal_what_is_left(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    site.run("disk", 2)
    master, slave = pty.openpty()
    with Process([FLIPBELL, "flush"], env=site.environ, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while b"waiting: 1 for ops" not in shown:
            shown += os.read(master, 1000)
        gate.set()
        assert process.wait(20) == 0
    shown += os.read(master, 1000)
    os.close(master)

    assert shown.endswith(b"\r\033[K")  # nothing of it stays


def test_an_interrupt_is_quiet(site: Site) -> None:
    with Process(
        [FLIPBELL, "stream"],
        env=site.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"check": "c", "status": 0}\n')
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize(("no_color", "expected"), [("", True), ("1", False)])
def test_colours_only_on_a_terminal_that_wants_them(
    site: Site, no_color: str, *, expected: bool
) -> None:
    site.environ.update(FLIPBELL_COURIER="off", NO_COLOR=no_color)
    site.run("disk", 2)
    site.flipbell("flush")
    master, slave = pty.openpty()

    site.flipbell("history", capture_output=False, stdout=slave)
    os.close(slave)
    shown = os.read(master, 10_000)
    os.close(master)

    assert b"CRITICAL" in shown
    assert (b"\033[" in shown) is expected
    assert b"\033[" not in site.flipbell("history").stdout


def test_check_config_without_channels(site: Site) -> None:
    done = site.flipbell("check-config")

    assert done.returncode == 1
    assert b"no channels" in done.stdout


def test_check_config_shows_warnings_and_is_content(site: Site) -> None:
    site.channel("http://127.0.0.1:1", verify=False)

    done = site.flipbell("check-config")

    assert done.returncode == 0
    assert b"warning: channels.ops.verify: certificates are not checked" in done.stdout


def test_demo(site: Site) -> None:
    done = site.flipbell("demo")

    assert done.returncode == 0
    assert done.stdout.decode().endswith("one for each change, none between.\n")


def test_a_table_is_aligned_and_cannot_be_forged() -> None:
    assert table([("a", "bb"), ("ccc", "d\n")]) == "a    bb\nccc  d\\n"


def test_flush_of_nothing(site: Site) -> None:
    assert site.flipbell("flush").returncode == 0
    assert not site.state.exists()
