"""What cannot go to the agent's stdout or stderr: syslog has it, once and unforged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conftest import run_python
from flipbell.log import escaped

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("disk 日本 🔥", "disk 日本 🔥"),
        ("a\nb\r\t\0", r"a\nb\r\t\x00"),
        ("\x1b[31m\x9b", r"\x1b[31m\x9b"),
        ("a\u2028b\u202ec", r"a\u2028b\u202ec"),
        ("\udc80", r"\udc80"),
    ],
)
def test_nothing_can_forge_a_line(text: str, said: str) -> None:
    assert escaped(text) == said


def test_a_result_that_could_not_be_recorded(site: Site, syslog: Syslog) -> None:
    site.state.write_text("in the way")

    site.run("disk", 2)

    line = syslog.wait_for("not recorded")
    assert "flipbell[" in line
    assert f"disk on web-01: state directory {site.state}: not a directory" in line


def test_a_directory_of_somebody_else(site: Site, syslog: Syslog) -> None:
    site.state.mkdir()
    site.state.chmod(0o777)

    site.run("disk", 2)

    assert "others can write to it; chmod 700 it" in syslog.wait_for("not recorded")


def test_a_broken_configuration(site: Site, syslog: Syslog) -> None:
    (site.config / "ops.yaml").write_text("channels:\n  ops: {url: [")

    site.run("disk", 2)

    assert f"{site.config}/ops.yaml:3:1:" in syslog.wait_for("not valid YAML")


def test_a_room_that_refuses(site: Site, hipchat_room: HipChatRoom, syslog: Syslog) -> None:
    from hipchat_room import Answer

    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(404)

    site.run("disk", 2)

    assert "channel ops: waiting: HTTP 404: no such room" in syslog.wait_for("channel ops")


def test_names_cannot_forge_a_line(site: Site, syslog: Syslog) -> None:
    site.state.write_text("in the way")

    site.flipbell("run", "--check", "x\nflipbell[1]: all is well", "--", "true")

    assert r"x\nflipbell[1]: all is well on" in syslog.wait_for("not recorded")


def test_debugging_prints_for_people(site: Site) -> None:
    site.environ.update(FLIPBELL_LOG="debug", FLIPBELL_STATE="/dev/null/nowhere")

    done = run_python(site, "from flipbell import log; log.warning('seen'); log.error('too')")

    assert done.stderr == b"seen\ntoo\n"


def test_a_child_that_was_forked_begins_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import flipbell

    monkeypatch.setenv("FLIPBELL_STATE", str(site.state))
    running = flipbell.start("agent")
    running._memory.learn(flipbell.CheckResult("h", "c", flipbell.Status.OK))

    running.begin_in_child()

    assert running._memory.statuses == {}
    assert running._writer is None
