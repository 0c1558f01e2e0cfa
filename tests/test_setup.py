"""From nothing to trusted: set up, check, try, explain, look after."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sqlite3
import stat
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import FLIPBELL, Process, as_nobody, open_to_all, require_other_users, until
from flipbell import state
from flipbell.channels.hipchat import HipChatSettings
from flipbell.cli.status import as_plugin
from flipbell.config import load
from flipbell.explain import explain
from flipbell.extensions import Extensions
from flipbell.ledger import Ledger
from flipbell.look import Lookout, survey
from flipbell.model import Channel, Outcome, Pattern, Status, Verdict
from flipbell.settling import Settling
from flipbell.turns import Turns
from hipchat_room import TOKEN, Answer
from test_routing import CHANNEL

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom


def _init(site: Site, url: str, *more: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    arguments = ["--url", url, "--room", "Ops Room", "--token-from", str(site.token), *more]
    return site.flipbell("init", *arguments, **options)


def test_init_makes_what_a_first_notification_needs(site: Site, hipchat_room: HipChatRoom) -> None:
    site.config.rmdir()

    done = _init(site, hipchat_room.url)

    assert done.returncode == 0, done.stderr
    assert TOKEN.encode() not in done.stdout + done.stderr
    modes = {
        path: stat.S_IMODE((site.base / path).stat().st_mode)
        for path in ("conf.d", "conf.d/ops.yaml", "ops.token", "state")
    }
    assert modes == {"conf.d": 0o755, "conf.d/ops.yaml": 0o644, "ops.token": 0o600, "state": 0o700}
    assert site.flipbell("check-config", "--online").returncode == 0
    site.run("disk", 2)
    site.deliver()
    assert hipchat_room.statuses == ["CRITICAL"]


def test_init_never_overwrites(site: Site) -> None:
    (site.config / "ops.yaml").write_text("# mine\n")

    done = _init(site, "http://127.0.0.1:1")

    assert done.returncode == 2
    assert (
        b"ops.yaml exists; nothing was written; for a further channel, give --channel NAME"
        in done.stderr
    )
    assert (site.config / "ops.yaml").read_text() == "# mine\n"
    assert not (site.base / "ops.token").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "the token: empty"), ("two words", "without spaces"), (None, "no such")],
)
def test_init_refuses_what_is_no_token(site: Site, content: str | None, said: str) -> None:
    site.token.unlink()
    if content is not None:
        site.token.write_text(content)

    done = _init(site, "http://127.0.0.1:1")

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert list(site.config.iterdir()) == []


@pytest.mark.parametrize(
    "room", ["4242", "0123", "NO", "null", "Web: #1", 'say "hi"', "a\\b", "監視", "12:30"]
)
def test_init_writes_any_room_so_that_it_is_read_as_it_is(site: Site, room: str) -> None:
    token = str(site.token)
    site.flipbell("init", "--url", "https://h", "--room", room, "--token-from", token)

    loaded = load(str(site.config), Extensions().channel_types())

    assert loaded.problems == ()
    settings = loaded.channels["ops"].settings
    assert isinstance(settings, HipChatSettings)
    assert settings.room == room


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--url", "hipchat.example.com", "ops.yaml:5:10: channels.ops.url: expected http:// or"),
        ("--room", "..", "channels.ops.room: expected a Room API ID"),
        ("--channel", "x/../../ops", "channels.x/../../ops: expected a name of letters"),
        ("--channel", ".ops", "begins with no dot"),
    ],
)
def test_init_writes_nothing_that_would_be_wrong(
    site: Site, option: str, value: str, said: str
) -> None:
    done = _init(site, "https://h", option, value)

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert [*site.config.iterdir()] == []
    assert not site.state.exists()


def test_init_makes_nothing_below_a_file(site: Site) -> None:
    (site.base / "file").touch()

    done = _init(site, "http://127.0.0.1:1", "--state", str(site.base / "file" / "state"))

    assert done.returncode == 2
    assert f"{site.base}/file: not a directory; name another place" in done.stderr.decode()
    assert [*site.config.iterdir()] == []


def test_init_for_nobody_there_is(site: Site) -> None:
    assert b"no such user" in _init(site, "http://h", "--user", "no such user").stderr


def test_init_without_a_terminal_says_what_to_do(site: Site) -> None:
    arguments = ["--url", "https://h", "--room", "1"]

    done = site.flipbell("init", *arguments, start_new_session=True)

    assert done.returncode == 2
    assert done.stderr == b"flipbell: no terminal to ask for the token; use --token-from FILE\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set up for another user")
@pytest.mark.parametrize("umask", [0o077, 0o022, 0])
def test_init_makes_what_the_agents_user_can_reach(site: Site, umask: int) -> None:
    open_to_all(site)
    site.environ["FLIPBELL_CONFIG"] = str(site.base / "etc" / "flipbell" / "conf.d")
    site.environ["FLIPBELL_STATE"] = str(site.base / "var" / "lib" / "flipbell")

    assert _init(site, "http://127.0.0.1:1", "--user", "nobody", umask=umask).returncode == 0

    assert as_nobody(site, "check-config").returncode == 0
    assert as_nobody(site, "status").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set up for another user")
@pytest.mark.parametrize(("place", "said"), [("conf.d", "cannot enter it"), ("state", "chown -R")])
def test_init_refuses_before_it_writes(site: Site, place: str, said: str) -> None:
    open_to_all(site)
    (site.base / place).mkdir(exist_ok=True)
    (site.base / place).chmod(0o700)

    done = _init(site, "http://127.0.0.1:1", "--user", "nobody")

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert [*site.config.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set up for another user")
def test_init_for_a_second_user_leaves_the_first_ones_state_alone(site: Site) -> None:
    open_to_all(site)
    site.state.mkdir(mode=0o700)
    os.chown(site.state, pwd.getpwnam("nobody").pw_uid, -1)

    done = _init(site, "http://127.0.0.1:1", "--user", "daemon")

    said = done.stderr.decode()
    assert done.returncode == 2
    assert f"state directory {site.state}: belongs to user nobody; for a second user" in said
    assert "give --state DIR and --config DIR" in said
    assert "chown" not in said
    assert [*site.config.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set up for another user")
def test_init_for_the_agents_user(site: Site, hipchat_room: HipChatRoom) -> None:
    site.config.rmdir()
    require_other_users(site)

    assert _init(site, hipchat_room.url, "--user", "nobody").returncode == 0

    nobody = pwd.getpwnam("nobody")
    for name in ("conf.d", "conf.d/ops.yaml", "ops.token", "state"):
        assert (site.base / name).stat().st_uid == nobody.pw_uid
    site.run("disk", 2)  # as root, who looks after the owner's state
    site.deliver()
    assert {entry.stat().st_uid for entry in os.scandir(site.state)} == {nobody.pw_uid}


def test_hooks_are_written_and_never_overwrite(site: Site) -> None:
    first = site.flipbell("hooks", "systemd", "--install", str(site.base))
    second = site.flipbell("hooks", "systemd", "--install", str(site.base))

    assert first.returncode == 0
    assert f"ExecStart={FLIPBELL} courier" in (site.base / "flipbell.service").read_text()
    assert second.returncode == 2
    assert b"exists; nothing was written" in second.stderr


def test_check_config_asks_each_room(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    fine = site.flipbell("check-config", "--online")
    hipchat_room.otherwise = Answer(401)
    refused = site.flipbell("check-config", "--online", "--json")

    assert (fine.returncode, refused.returncode) == (0, 1)
    assert b"  online: the room takes notifications\n" in fine.stdout
    said = json.loads(refused.stdout)
    assert "use a Room Notification Token" in said["channels"]["ops"]["online"]
    assert said["channels"]["ops"]["notify"] == ["CRITICAL", "UNKNOWN", "WARNING"]
    assert hipchat_room.heard == []


def test_check_config_as_json_has_each_problem(site: Site) -> None:
    (site.config / "ops.yaml").write_text("channels:\n  ops: {rom: 1}\n")

    said = json.loads(site.flipbell("check-config", "--json").stdout)

    assert {problem["key"] for problem in said["problems"]} >= {"channels.ops.rom"}
    assert {problem["line"] for problem in said["problems"]} == {2}


def test_a_test_is_marked_as_one(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)

    done = site.flipbell("test", "ops", "--status", "ok")

    assert done.returncode == 0
    assert done.stdout == b"channel ops accepted the test message, and does not ring\n"
    (heard,) = hipchat_room.heard
    assert str(heard.body["message"]).startswith("(test) <b>OK</b>: flipbell test on ")
    assert site.flipbell("history").stdout == b""


def test_a_test_that_fails_says_why(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(404)

    assert b"no such room" in site.flipbell("test", "ops").stdout
    done = site.flipbell("test", "other")
    assert done.returncode == 2
    assert b"no usable channel 'other' in" in done.stderr


def test_explain(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    site.channel(hipchat_room.url, "quiet", send=["ok", "critical"])
    site.run("disk", 1)
    site.deliver()

    done = site.flipbell("explain", "web-01", "disk", "OK")
    assert done.returncode == 0
    assert done.stdout.decode() == (
        "ops    told, silently  all is well again\n"
        "quiet  not told        the room has not been told of a problem\n"
    )
    same = site.flipbell("explain", "web-01", "disk", "WARNING", "--json")
    assert same.returncode == 1
    assert {each["reason"] for each in json.loads(same.stdout)} == {"status unchanged"}
    assert site.flipbell("explain", "web-01", "disk", "bad").returncode == 2


STATUSES = st.sampled_from(list(Status))
CHANNELS = st.builds(
    lambda send, notify, host, check: replace(
        CHANNEL,
        send=frozenset(send),
        notify=frozenset(notify),
        match=(Pattern(host, check),),
        color=dict.fromkeys(Status, "red"),
    ),
    st.sets(STATUSES),
    st.sets(STATUSES),
    st.sampled_from(["*", "web-*", "db-1"]),
    st.sampled_from(["*", "disk", "cpu"]),
)
RESULTS = st.tuples(st.sampled_from(["web-1", "db-1"]), st.sampled_from(["disk", "cpu"]), STATUSES)


class _Sender:
    def send(self, _: object) -> Outcome:
        return Outcome(Verdict.DELIVERED)


class _Rooms:
    """Rooms that take everything."""

    def __init__(self, channels: list[Channel]) -> None:
        self.channels = {channel.name: channel for channel in channels}

    def room(self, channel: Channel) -> str:
        return channel.name

    def sender(self, _: Channel) -> _Sender:
        return _Sender()


@given(st.lists(CHANNELS, min_size=1, max_size=3), st.lists(RESULTS, max_size=8), RESULTS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_explain_agrees_with_what_is_then_told(
    tmp_path_factory: pytest.TempPathFactory,
    channels: list[Channel],
    history: list[tuple[str, str, Status]],
    result: tuple[str, str, Status],
) -> None:
    directory = str(tmp_path_factory.mktemp("state"))
    state.prepare(directory)
    channels = [replace(channel, name=str(n), per_minute=0) for n, channel in enumerate(channels)]
    ledger = Ledger.open(directory)
    rooms: Any = _Rooms(channels)
    turns, settling = Turns(ledger, rooms, Extensions()), Settling(ledger, rooms)
    for channel in channels:
        ledger.enroll(channel.name, 0)

    def take(number: int, host: str, check: str, status: Status) -> None:
        line = (float(number), status.value, host, check, "", False)
        ledger.take([line], ("s", number), 1e9)

    def deliver() -> dict[str, bool]:
        told = {}
        while jobs := turns.next_jobs((), 1e9):
            for job in jobs:
                assert job.notification is not None, "nothing is in doubt"
                told[job.channel] = job.notification.notify
                settling.settle(job.channel, job.transition, Outcome(Verdict.DELIVERED), 1e9)
        return told

    with ledger.transaction():
        for number, item in enumerate(history):
            take(number, *item)
            if number % 3:
                deliver()
        explained = explain(channels, ledger, Extensions(), result, 1e9)
        deliver()
        take(len(history), *result)
        told = deliver()
    ledger.close()

    assert {each.channel: each.notify for each in explained if each.send} == told


def test_a_ledger_that_was_left_half_made_is_not_taken_for_all_delivered(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.run("disk", 2)
    sqlite3.connect(site.state / "ledger").execute("CREATE TABLE half (made)").connection.close()

    lookout = Lookout(str(site.state), str(site.config), Extensions())

    assert not lookout.is_all_delivered()


def test_forget_makes_the_next_result_a_first_one(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    site.run("load", 2)
    site.deliver()

    assert site.flipbell("forget", "web-01", "disk").returncode == 0
    site.deliver()
    assert site.status()["checks"] == 1
    site.run("disk", 0)  # a first OK: silent
    site.run("load", 0)
    site.deliver()

    messages = [str(heard.body["message"]) for heard in hipchat_room.heard]
    assert [message.split(":")[0] for message in messages] == [
        "<b>CRITICAL</b>",
        "<b>CRITICAL</b>",
        "(forgotten) disk on web-01 (was CRITICAL)",
        "<b>OK</b>",
    ]
    assert not hipchat_room.heard[2].body["notify"]
    assert hipchat_room.heard[2].body["color"] == "gray"


def test_a_problem_after_forget_is_told_whatever_was_under_way(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    gate = threading.Event()
    hipchat_room.answers = [Answer(gate=gate)]
    site.run("disk", 2)
    hipchat_room.wait_for_requests(1)

    site.flipbell("forget", "web-01", "disk")
    site.run("disk", 2)
    until(lambda: not site.status()["untaken"])
    gate.set()
    site.deliver()

    assert len(hipchat_room.heard) == 3
    assert hipchat_room.statuses[::2] == ["CRITICAL", "CRITICAL"]
    assert str(hipchat_room.heard[1].body["message"]).startswith("(forgotten) ")


def test_a_room_that_was_told_of_nothing_hears_of_no_forgotten_check(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url, send=["critical"])
    for check, code in (("disk", 1), ("load", 2), ("load", 0)):
        site.run(check, code)
        site.deliver()

    for check in ("disk", "load"):
        site.flipbell("forget", "web-01", check)
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]


def test_a_plugin_that_watches_flipbell(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 0)
    site.deliver()
    fine = site.flipbell("status", "--plugin")
    hipchat_room.otherwise = Answer(401)
    site.run("disk", 2)
    site.flipbell("flush")
    paused = site.flipbell("status", "--plugin")
    hipchat_room.otherwise = Answer()
    site.deliver()
    again = site.flipbell("status", "--plugin")

    assert (fine.returncode, paused.returncode, again.returncode) == (0, 2, 0)
    assert fine.stdout == b"FLIPBELL OK - 1 channel | waiting=0 oldest=0s dead=0 spool=0s\n"
    assert paused.stdout.startswith(b"FLIPBELL CRITICAL - channel ops is paused: HTTP 401")
    assert b"| waiting=1 oldest=" in paused.stdout


def test_the_plugin_knows_how_long_a_change_may_wait(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    site.run("disk", 2)
    site.flipbell("flush")
    seen = survey(str(site.state), str(site.config))

    in_time, _ = as_plugin(seen, 900, time.time())
    too_late, said = as_plugin(seen, 900, time.time() + 901)

    assert (in_time, too_late) == (Status.OK, Status.CRITICAL)
    assert "channel ops: a change waits for too long" in said


def test_a_courier_that_is_stopped_is_noticed(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"  # so that the service is the only one
    site.channel(hipchat_room.url)
    with Process([FLIPBELL, "courier"], env=site.environ) as courier:
        site.run("load", 2)
        hipchat_room.wait_for(1)
        courier.send_signal(signal.SIGSTOP)
        site.run("disk", 2)  # its answer is its own, and at once

        seen = survey(str(site.state), str(site.config))
        fine, _ = as_plugin(seen, 900, time.time())
        critical, said = as_plugin(seen, 900, time.time() + 901)
        courier.send_signal(signal.SIGCONT)
        hipchat_room.wait_for(2)

    assert (fine, critical) == (Status.OK, Status.CRITICAL)
    assert "recorded results wait for a courier for too long" in said


def test_history_is_filtered(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url, send=["critical"])
    for host, check, code in (("web-1", "disk", 2), ("db-1", "disk", 1), ("web-2", "cpu", 2)):
        site.run(check, code, host=host)
    site.deliver()

    def shown(*arguments: str) -> list[str]:
        lines = site.flipbell("history", "--json", *arguments).stdout.splitlines()
        return [json.loads(line)["host"] for line in lines]

    assert shown() == ["web-1", "db-1", "web-2"]
    assert shown("--host", "web-*") == ["web-1", "web-2"]
    assert shown("--check", "disk") == ["web-1", "db-1"]
    assert shown("--channel", "ops") == ["web-1", "web-2"]
    assert shown("--limit", "1") == ["web-2"]
    assert shown("--since", "1h") == shown("--since", "2020-01-01T00:00:00Z") == shown()
    assert shown("--since", "2100-01-01") == []
    assert site.flipbell("history", "--since", "soon").returncode == 2


def test_history_follows(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    site.deliver()
    command = [FLIPBELL, "history", "--follow"]
    with Process(command, env=site.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"CRITICAL" in process.stdout.readline()
        site.run("disk", 0)
        assert b"OK" in process.stdout.readline()
        process.terminate()
