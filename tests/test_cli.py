"""The commands for people: short, aligned, with exit statuses that mean something."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import flipbell
from conftest import AS_MODULE, FLIPBELL, Process, as_nobody
from flipbell import message
from flipbell.cli.tables import table
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom

COMMANDS = ["report", "stream", "check-config", "status", "history", "courier", "flush"]
COMMANDS += ["room", "demo"]


def test_version(site: Site) -> None:
    assert site.flipbell("--version").stdout.decode() == f"flipbell {flipbell.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(site: Site, command: str) -> None:
    done = site.flipbell(command, "--help")

    assert done.returncode == 0
    assert b"example: " in done.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["status", "--nonsense"], ["--nonsense"]])
def test_a_wrong_call_is_2(site: Site, arguments: list[str]) -> None:
    done = site.flipbell(*arguments)

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"flipbell")


def test_status_before_anything_happened(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)

    done = site.flipbell("status")

    assert done.returncode == 0
    assert done.stdout.decode() == (
        f"state    {site.state}\nconfig   {site.config} (named by FLIPBELL_CONFIG)\n"
        "courier  not needed now\nchecks   0 seen, 0 not OK\n"
        "channel  ops  nothing sent yet\n"
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
    assert any(line.startswith("CRITICAL  disk on web-01  since ") for line in said)
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
        "WARNING   disk on web-01  was CRITICAL  not told",
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
        assert process.returncode in (0, 1)


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

    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode()
    assert said.endswith("one for each change, none between.\n2 of them rang.\n")
    assert said.count("the room hears nothing") == 2
    assert "why: status unchanged" in said


@pytest.mark.parametrize("when", ["while it goes on", "once it has shown all"])
def test_ctrl_c_ends_the_demo(site: Site, when: str) -> None:
    controller, terminal = pty.openpty()
    pause = "0" if when == "once it has shown all" else "60"
    last = b"Ctrl-C ends it" if when == "once it has shown all" else b"why: "
    with Process([FLIPBELL, "demo", "--pause", pause], env=site.environ, stdout=terminal) as demo:
        os.close(terminal)
        said = b""
        while last not in said:
            said += os.read(controller, 4096)
        os.kill(demo.pid, signal.SIGINT)

        assert demo.wait(timeout=20) == (0 if when == "once it has shown all" else 130)
    os.close(controller)
    page = re.search(rb"127.0.0.1:(\d+)", said)
    assert page
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(page[1])), timeout=5)


def test_a_table_is_aligned_and_cannot_be_forged() -> None:
    assert table([("a", "bb"), ("ccc", "d\n")]) == "a    bb\nccc  d\\n"


def test_flush_of_nothing(site: Site) -> None:
    assert site.flipbell("flush").returncode == 0
    assert not site.state.exists()


@pytest.mark.parametrize("way", ["option", "environment", "service"])
def test_a_relative_configuration_is_found_wherever_the_courier_works(
    site: Site, hipchat_room: HipChatRoom, way: str
) -> None:
    site.channel(hipchat_room.url)
    site.environ["FLIPBELL_CONFIG"] = "conf.d"
    options = []
    if way == "option":
        del site.environ["FLIPBELL_CONFIG"]
        options = ["--config", "conf.d"]
    if way == "service":
        site.environ["FLIPBELL_COURIER"] = "off"
    result = ["--host", "h", "--check", "c", "--status", "2", "--output", "o"]

    site.flipbell("report", *options, *result, cwd=site.base)

    if way == "service":
        with Process([FLIPBELL, "courier"], env=site.environ, cwd=site.base):
            hipchat_room.wait_for(1)
    assert [heard.status for heard in hipchat_room.wait_for(1)] == ["CRITICAL"]


@pytest.mark.parametrize(
    "command",
    [
        "flush --timeout inf",
        "flush --timeout -1",
        "flush --timeout nan",
        "status --plugin --limit nan",
        "history --limit 0",
        "hooks --install /tmp",
        "hooks systemd --install /nonexistent",
        "forget nosuch check",
        "dead retry",
        "dead retry 7",
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(site: Site, command: str) -> None:
    done = site.flipbell(*command.split())

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"Errno" not in done.stderr


def test_any_text_is_shown_in_any_locale(site: Site) -> None:
    (site.config / "a.yaml").write_text("channels: {é: {url: 1, match: [3]}}", encoding="utf-8")
    site.environ["PYTHONIOENCODING"] = "ascii"
    site.command = AS_MODULE

    done = site.flipbell("check-config")

    assert (done.returncode, done.stderr) == (1, b"")
    assert b"channels.\\xe9.match[0]: expected {host: \\u2026" in done.stdout


@pytest.mark.parametrize("command", ["status", "--version", "check-config"])
def test_a_closed_stdout_is_quiet(site: Site, command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {FLIPBELL} {command} >&-"],
        env=site.environ,
        check=False,
        capture_output=True,
    )

    assert done.stderr == b""


def test_a_closed_pipe_does_not_make_a_broken_configuration_a_good_one(site: Site) -> None:
    (site.config / "a.yaml").write_text("[")
    reading, writing = os.pipe()
    os.close(reading)

    with Process([FLIPBELL, "check-config"], env=site.environ, stdout=writing) as process:
        os.close(writing)
        assert process.wait(20) == 1


def test_another_user_is_refused_instead_of_told_that_there_is_nothing(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    site.flipbell("flush")

    for command in (["history"], ["explain", "web-01", "disk", "OK"], ["dead", "list"]):
        done = as_nobody(site, *command)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"belongs to user root, and this is user nobody" in done.stderr


AS_IF_THE_SYSTEMS_STATE_WERE = """
import sys
from flipbell import places
places.SYSTEM_STATE = sys.argv.pop(1)
from flipbell.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        "history",
        "dead list",
        "dead retry --all",
        "flush",
        "channels",
        "channels drop ops",
        "explain web-01 disk OK",
        "forget web-01 disk",
    ],
)
def test_a_user_without_a_state_is_told_that_it_cannot_know(site: Site, command: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    system, home = site.base / "system", site.base / "home"
    system.mkdir(mode=0o700)
    home.mkdir(mode=0o777)
    del site.environ["FLIPBELL_STATE"]
    site.environ["HOME"] = str(home)
    site.command = [sys.executable, "-c", AS_IF_THE_SYSTEMS_STATE_WERE, str(system)]

    done = as_nobody(site, *command.split())
    named = as_nobody(site, *command.split(), "--state", str(home / "own"))

    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{system}: belongs to user root, and this is user nobody, who" in done.stderr.decode()
    assert b"run this as root to see it" in done.stderr
    assert b"belongs to" not in named.stderr


def test_flush_says_at_once_that_it_cannot_use_the_state(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    (site.state / "ledger").mkdir()

    done = site.flipbell("flush")

    assert done.returncode == 2
    assert b"mend it, or move the directory aside" in done.stderr


def test_dead_letters_are_listed_and_sent_once_more(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    hipchat_room.answers = [Answer(400), Answer(400)]
    for check in ("disk", "load"):
        site.run(check, 2)
    site.run("disk", 0)  # nobody was told of the problem
    site.deliver()

    shown = site.flipbell("dead", "list")
    assert shown.returncode == 1
    assert [line.split("  ")[0] for line in shown.stdout.decode().splitlines()] == ["1", "2"]
    assert json.loads(site.flipbell("dead", "list", "--json").stdout.splitlines()[0])["id"] == 1
    assert site.flipbell("dead", "retry", "2").returncode == 0
    site.deliver()

    (heard,) = hipchat_room.heard
    assert str(heard.body["message"]).startswith(message.LATE_LETTER)
    assert site.status()["channels"][0]["dead"] == 1
    site.run("load", 0)  # what is sent once more moves nothing
    assert site.flipbell("dead", "retry", "--all").stderr.startswith(b"one message will be sent")
    site.deliver()
    assert len(hipchat_room.heard) == 2
    assert site.flipbell("dead", "list").returncode == 0


def test_metrics_are_in_the_format_of_prometheus(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.channel(hipchat_room.url, "b c", match=[{"host": "none"}])
    hipchat_room.answers = [Answer(204), Answer(400), Answer(503)]
    for check in ("disk", "load", "net"):
        site.run(check, 2)
    site.flipbell("flush")

    done = site.flipbell("status", "--format", "prometheus")

    lines = done.stdout.decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert samples['flipbell_notifications_total{channel="ops",outcome="delivered"}'] == "1"
    assert samples['flipbell_notifications_total{channel="ops",outcome="dead"}'] == "1"
    assert samples['flipbell_notification_requests_total{channel="ops"}'] == "3"
    failed = 'flipbell_notification_requests_failed_total{channel="ops",reason="retry"}'
    assert samples[failed] == "1"
    assert samples['flipbell_changes_waiting{channel="ops"}'] == "1"
    assert samples['flipbell_changes_waiting{channel="b c"}'] == "0"
    assert samples["flipbell_checks_failing"] == "3"
    assert float(samples['flipbell_last_success_timestamp_seconds{channel="ops"}']) > 1e9
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert {name.partition("{")[0] for name in samples} <= set(names)


def test_a_room_on_a_port_in_use_says_so(site: Site) -> None:
    pytest.importorskip("cheroot")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        rooms = ["--memory", "--room", f"ops={site.token}"]
        done = site.flipbell("room", *rooms, "--port", str(port))

    assert done.returncode == 2
    assert done.stderr.decode() == (
        f"flipbell: cannot listen on 127.0.0.1:{port}: address already in use; "
        "name another --port, or 0 for a free one\n"
    )


@pytest.mark.parametrize("command", ["status", "history", "flush", "channels", "forget a b"])
def test_a_state_below_a_file_is_refused_in_words(site: Site, command: str) -> None:
    (site.base / "file").touch()
    site.environ["FLIPBELL_STATE"] = str(site.base / "file" / "x")

    done = site.flipbell(*command.split())

    said = (done.stdout + done.stderr).decode()
    assert done.returncode == (1 if command == "status" else 2)
    assert f"{site.base}/file/x: a part of this path is not a directory; name another" in said
    assert "Errno" not in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_room_whose_certificate_is_not_checked_is_asked_without_a_warning_of_urllib3(
    site: Site,
) -> None:
    pytest.importorskip("cheroot")
    key, certificate = site.base / "key", site.base / "certificate"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *files], check=True, capture_output=True)
    room = ["room", "--memory", "--room", f"ops={site.token}", "--port", "0"]
    command = [*site.command, *room, "--cert", str(certificate), "--key", str(key)]
    with Process(command, env=site.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().split()[-1].rstrip("/")
        site.channel(url, room="ops", verify=False)

        asked = site.flipbell("check-config", "--online")
        tested = site.flipbell("test", "ops")

    assert (asked.returncode, asked.stderr) == (0, b"")
    assert (tested.returncode, tested.stderr) == (0, b"")
