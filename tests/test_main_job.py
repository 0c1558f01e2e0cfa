"""The main job, for real: a check flips, and a room hears of it once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom

FLIPS = [0, 1, 2, 2, 3, 0]
NAMES = ["OK", "WARNING", "CRITICAL", "UNKNOWN"]
HEARD = [
    ("WARNING", False, "yellow"),
    ("CRITICAL", True, "red"),
    ("UNKNOWN", True, "purple"),
    ("OK", False, "green"),
]
REAL_PLUGINS = Path("/usr/lib/nagios/plugins")


def _configure(site: Site, room: HipChatRoom) -> None:
    site.channel(
        room.url, notify={"warning": False}, color={"unknown": "purple"}, room="Ops Room/日本 #1"
    )


def _assert_heard(site: Site, room: HipChatRoom) -> None:
    site.deliver()
    heard = [(h.status, h.body["notify"], h.body["color"]) for h in room.heard]
    assert heard == HEARD
    assert {h.room for h in room.heard} == {"Ops%20Room%2F%E6%97%A5%E6%9C%AC%20%231"}


def test_through_run(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)

    for code in FLIPS:
        site.run("disk", code, f"DISK {NAMES[code]}")

    _assert_heard(site, hipchat_room)


def test_through_report(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)

    for code in FLIPS:
        options = ["--check", "disk", "--host", "web-01", "--status", NAMES[code]]
        done = site.flipbell("report", *options, stdin="output")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    _assert_heard(site, hipchat_room)


def test_through_stream(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)
    lines = [
        json.dumps({"id": number, "host": "web-01", "check": "disk", "status": code})
        for number, code in enumerate(FLIPS)
    ]

    done = site.flipbell("stream", stdin="\n".join(lines))

    answers = [json.loads(line) for line in done.stdout.splitlines()]
    expected = ["recorded", "recorded", "recorded", "unchanged", "recorded", "recorded"]
    assert [(answer["id"], answer["result"]) for answer in answers] == list(enumerate(expected))
    _assert_heard(site, hipchat_room)


AGENT = """
import sys
import flipbell
import pluggy

host = pluggy.PluginManager("someagent")
flipbell.attach(host)
host.hook.flipbell_agent_started(agent="someagent")
for code in map(int, sys.argv[1:]):
    result = flipbell.CheckResult("web-01", "disk", flipbell.Status(code), "output")
    host.hook.flipbell_check_result(result=result)
host.hook.flipbell_agent_stopping(timeout=10.0)
"""


def _agent(site: Site, codes: list[int]) -> None:
    command = [sys.executable, "-c", AGENT, *map(str, codes)]
    done = subprocess.run(command, env=site.environ, check=True, timeout=60, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_through_the_hook(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)

    _agent(site, FLIPS)

    assert len(hipchat_room.heard) == 4  # delivered before the agent had stopped
    _assert_heard(site, hipchat_room)


def test_mixed_from_different_processes(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)
    line = json.dumps({"host": "web-01", "check": "disk", "status": 2})

    site.run("disk", 0)
    site.flipbell("report", "--check", "disk", "--host", "web-01", "--status", "1")
    site.flipbell("stream", stdin=line)
    _agent(site, [2, 3])
    site.run("disk", 3)
    site.flipbell("report", stdin=line.replace("2", "0"))

    _assert_heard(site, hipchat_room)


@pytest.mark.skipif(not REAL_PLUGINS.is_dir(), reason="monitoring-plugins-basic is not installed")
def test_a_real_monitoring_plugin(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)
    plugin = str(REAL_PLUGINS / "check_disk")
    for limit in ("1%", "100%"):
        command = [plugin, "-w", limit, "-c", limit, "-p", "/"]
        alone = subprocess.run(command, check=False, capture_output=True)
        wrapped = site.flipbell("run", "--check", "disk", "--", *command)
        assert wrapped.returncode == alone.returncode
        assert wrapped.stdout.split()[:2] == alone.stdout.split()[:2]

    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]
    assert "DISK CRITICAL" in hipchat_room.heard[0].body["message"]


def _has_lock(site: Site, pid: int) -> bool:
    """Return whether a courier has its lock; one that is about to end has freed it."""
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return str(site.state / "courier.lock") in links


def test_two_hundred_checks_from_sixteen_processes(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url, per_minute=0)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: site.run(f"check-{number}", 2), range(200)))
        at_work = [pid for pid in site.couriers() if _has_lock(site, pid)]
    heard = hipchat_room.wait_for(200, timeout=60)
    site.deliver()

    assert len(at_work) <= 1
    assert len(heard) == len(hipchat_room.heard) == 200
    assert len({heard.body["message"] for heard in hipchat_room.heard}) == 200
    assert site.status()["fine"]


def test_nothing_waits_for_a_room_that_is_down(site: Site, hipchat_room: HipChatRoom) -> None:
    _configure(site, hipchat_room)
    hipchat_room.otherwise = Answer(503)

    for code in FLIPS:
        site.run("disk", code)
    hipchat_room.wait_for_requests(1)
    assert hipchat_room.heard == []
    hipchat_room.otherwise = Answer()

    _assert_heard(site, hipchat_room)


def test_changes_recorded_while_the_configuration_is_broken_are_told(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    (site.config / "ops.yaml").write_text("channels: {ops: {url: [")

    for code in FLIPS:
        site.run("disk", code)
    said = site.status()
    assert any("not valid YAML" in problem for problem in said["problems"])
    _configure(site, hipchat_room)

    hipchat_room.wait_for(4)
    _assert_heard(site, hipchat_room)


@pytest.mark.parametrize("trouble", ["a file", "not ours", "full"])
def test_the_answer_is_the_checks_own_whatever_the_state(site: Site, trouble: str) -> None:
    if trouble == "a file":
        site.state.write_text("in the way")
    elif trouble == "not ours":
        site.state.mkdir(mode=0o777)
        site.state.chmod(0o777)
    else:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        site.state.mkdir(mode=0o700)
        (site.state / "append.lock").symlink_to("/dev/full")
    environ = {key: value for key, value in site.environ.items() if key != "HOME"}

    script = "printf 'a\\0b'; echo err >&2; exit 42"
    done = site.flipbell("run", "--check", "x", "--", "sh", "-c", script, env=environ)

    assert (done.returncode, done.stdout, done.stderr) == (42, b"a\0b", b"err\n")
    if trouble != "full":
        assert site.status()["faults"]


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_full_disk_changes_no_answer_and_the_next_result_heals_it(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(site.state)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a tmpfs")
    _configure(site, hipchat_room)
    try:
        site.run("disk", 0)
        site.deliver()
        ballast = site.state / "ballast"
        with pytest.raises(OSError, match="No space"):
            _fill(ballast)
        site.run("disk", 2)
        assert any("full" in fault for fault in site.status()["faults"])

        ballast.unlink()
        site.run("disk", 2)

        hipchat_room.wait_for(1)
        site.deliver()
        assert hipchat_room.statuses == ["CRITICAL"]
    finally:
        subprocess.run(["umount", "--lazy", str(site.state)], check=True)
