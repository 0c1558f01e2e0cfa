"""`flipbell status`: the worst first, nothing called fine that is not, nothing claimed unknown."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, Process, as_nobody
from flipbell import look, places
from flipbell.cli.metrics import as_prometheus
from flipbell.cli.status import as_plugin
from flipbell.cli.tables import fitted, table, time_of_day, width
from flipbell.ledger import Ledger
from flipbell.look import survey
from flipbell.model import Status
from hipchat_room import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def quiet(site: Site, hipchat_room: HipChatRoom) -> Site:
    """A site with a channel, whose fronts start no courier."""
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    return site


def _survey(site: Site) -> look.Survey:
    return survey(str(site.state), str(site.config))


def _failing(site: Site, *options: str) -> list[str]:
    """Return the names of the checks that `status` lists, in its order."""
    printed = json.loads(site.flipbell("status", "--json", *options).stdout)
    return [f"{each['status']} {each['check']} on {each['host']}" for each in printed["failing"]]


# Results that wait for a courier


WAITS = [
    (1, Status.OK),
    (11, Status.WARNING),
    (301, Status.CRITICAL),
    (3 * 3600, Status.CRITICAL),
]


def test_the_plugin_and_the_metrics_notice_results_without_a_courier(quiet: Site) -> None:
    quiet.run("disk", 2)
    seen, now = _survey(quiet), time.time()
    assert seen.untaken_since is not None

    for waited, status in WAITS:
        found, text = as_plugin(seen, 900, seen.untaken_since + waited)
        metrics = as_prometheus(seen, seen.untaken_since + waited)

        assert found is status, waited
        assert ("recorded results wait for a courier" in text) is (status is not Status.OK)
        assert abs(int(text.rpartition("spool=")[2].removesuffix("s")) - waited) <= 1
        (sample,) = re.findall(r"^flipbell_spool_waiting_seconds (.*)", metrics, re.MULTILINE)
        assert float(sample) == pytest.approx(waited, abs=1)
        assert "flipbell_courier_up 0\n" in metrics
    assert now - 60 < seen.untaken_since <= now


def test_a_short_limit_makes_results_without_a_courier_critical_sooner(quiet: Site) -> None:
    quiet.run("disk", 2)

    assert as_plugin(_survey(quiet), 5, time.time() + 6)[0] is Status.CRITICAL


def test_a_courier_at_work_has_longer_than_none() -> None:
    seen = look.Survey("s", "c", (), has_channels=True, untaken_since=1000.0)
    with_courier = replace(seen, is_courier_alive=True)

    assert as_plugin(with_courier, 900, 1030)[0] is Status.OK
    assert as_plugin(with_courier, 900, 1061)[0] is Status.WARNING
    assert as_plugin(seen, 900, 1030)[0] is Status.WARNING


def test_an_old_time_that_an_agent_gave_is_no_long_wait(quiet: Site) -> None:
    result = {"check": "disk", "status": 2, "occurred_at": time.time() - 7200}
    quiet.flipbell("report", "--host", "web-01", stdin=json.dumps(result))

    assert as_plugin(_survey(quiet), 900, time.time())[0] is Status.OK


def test_the_first_of_several_waiting_results_counts(quiet: Site) -> None:
    for age in (7200, 0):
        result = {"check": f"c{age}", "status": 2, "occurred_at": time.time() - age}
        quiet.flipbell("report", "--host", "web-01", stdin=json.dumps(result))

    assert as_plugin(_survey(quiet), 900, time.time())[0] is Status.CRITICAL


def test_a_clock_that_was_put_back_does_not_hide_what_waits() -> None:
    seen = look.Survey("s", "c", (), has_channels=True, untaken_since=time.time() + 86400)

    assert as_plugin(seen, 900, time.time())[0] is Status.CRITICAL


def test_the_plugin_is_not_content_without_a_channel(quiet: Site) -> None:
    (quiet.config / "ops.yaml").unlink()
    quiet.run("disk", 0)
    quiet.flipbell("flush")

    done = quiet.flipbell("status", "--plugin")

    assert done.returncode == 1
    assert done.stdout.startswith(b"FLIPBELL WARNING - no usable channel")


# What fails


def test_the_worst_comes_first_with_what_the_check_reported(quiet: Site) -> None:
    for check, code in (("a", 1), ("b", 3), ("c", 2), ("d", 0), ("e", 2)):
        quiet.run(check, code, f"{check} is {code} - |x=1\nmore")
    quiet.deliver()

    assert _failing(quiet) == [
        "CRITICAL c on web-01",
        "CRITICAL e on web-01",
        "UNKNOWN b on web-01",
        "WARNING a on web-01",
    ]
    lines = quiet.flipbell("status").stdout.decode().splitlines()
    assert [line.rpartition("  ")[2][:6] for line in lines[4:8]] == [
        "c is 2",
        "e is 2",
        "b is 3",
        "a is 1",
    ]
    assert not any("more" in line for line in lines)


def test_what_a_check_reported_is_that_of_its_last_change(quiet: Site) -> None:
    quiet.run("before", 1, "for long")
    for code, output in ((2, "first"), (0, "fine"), (1, "second"), (1, "not a change")):
        quiet.run("disk", code, output)
    quiet.deliver()

    outputs = {each.check: each.output for each in _survey(quiet).failing}

    assert outputs == {"before": "for long", "disk": "second"}


def test_what_a_check_reported_is_found_by_an_index(quiet: Site) -> None:
    quiet.run("disk", 2)
    quiet.deliver()
    statements: list[str] = []
    ledger = Ledger.view(str(quiet.state))
    assert ledger is not None
    ledger._db.set_trace_callback(statements.append)
    ledger.output_at("web-01", "disk", 1.0)
    ledger._db.set_trace_callback(None)

    plan = ledger._db.execute(f"EXPLAIN QUERY PLAN {statements[0]}").fetchall()
    ledger.close()

    assert "USING INDEX transitions_by_time (occurred_at=?)" in str(plan)


FILTERS = [
    ([], ["CRITICAL cpu on db-1", "CRITICAL disk on web-1", "WARNING disk on db-1"]),
    (["--host", "db-*"], ["CRITICAL cpu on db-1", "WARNING disk on db-1"]),
    (["--check", "disk"], ["CRITICAL disk on web-1", "WARNING disk on db-1"]),
    (["--status", "warning"], ["WARNING disk on db-1"]),
    (["--status", "1", "--status", "UNKNOWN"], ["WARNING disk on db-1"]),
    (["--status", "critical", "--host", "web-1"], ["CRITICAL disk on web-1"]),
    (["--host", "nosuch"], []),
]


def test_what_fails_is_filtered(quiet: Site) -> None:
    for host, check, code in (("web-1", "disk", 2), ("db-1", "disk", 1), ("db-1", "cpu", 2)):
        quiet.run(check, code, host=host)
    quiet.deliver()

    for options, names in FILTERS:
        assert _failing(quiet, *options) == names, options
    shown = quiet.flipbell("status", "--host", "web-1").stdout.decode()
    assert "checks   3 seen, 3 not OK\n" in shown
    assert "db-1" not in shown


@pytest.mark.parametrize("word", ["ok", "0", "nonsense"])
def test_only_problems_can_be_filtered_for(site: Site, word: str) -> None:
    done = site.flipbell("status", "--status", word)

    assert done.returncode == 2
    assert b"--status: expected WARNING, CRITICAL or UNKNOWN" in done.stderr


def test_wide_characters_are_aligned() -> None:
    rows = [("監視", "x"), ("abc", "y"), ("e\u0301", "z")]

    assert table(rows) == "監視  x\nabc   y\ne\u0301     z"
    assert [width(text) for text in ("監視", "abc", "e\u0301", "ｶﾞ")] == [4, 3, 1, 2]


@pytest.mark.parametrize(
    ("text", "cut"),
    [("abcd", "abcd"), ("abcde", "abc…"), ("監視", "監視"), ("監視の", "監…"), ("a\nb", "a\\nb")],
)
def test_a_long_text_is_cut_to_its_columns(text: str, cut: str) -> None:
    assert fitted(text, 4) == cut


def test_long_names_are_cut_and_the_lines_fit_the_terminal(quiet: Site) -> None:
    quiet.run("c" * 200, 2, "監視の" * 50, host="h" * 200)
    quiet.run("disk", 1, "x" * 500)
    quiet.deliver()
    controller, terminal = pty.openpty()
    environ = {**quiet.environ, "COLUMNS": "180", "NO_COLOR": "1"}

    subprocess.run([FLIPBELL, "status"], env=environ, stdout=terminal, check=False)
    os.close(terminal)
    lines = os.read(controller, 65536).decode().replace("\r", "").splitlines()
    os.close(controller)

    long, short = lines[4:6]
    assert f"{'c' * 39}… on {'h' * 39}…  since 20" in long
    assert 179 <= width(long) <= 180
    assert width(short) == 180
    assert short.endswith("xxx…")


@pytest.mark.parametrize(("zone", "offset"), [("Asia/Tokyo", "+09:00"), ("UTC0", "+00:00")])
def test_times_are_local_with_their_offset(quiet: Site, zone: str, offset: str) -> None:
    quiet.environ["TZ"] = zone
    result = {"check": "disk", "status": 2, "occurred_at": "2026-11-23T02:00:00Z"}
    quiet.flipbell("report", "--host", "web-01", stdin=json.dumps(result))
    quiet.deliver()

    local = {"+09:00": "2026-11-23 11:00:00", "+00:00": "2026-11-23 02:00:00"}[offset]
    assert f"since {local}{offset}, for " in quiet.flipbell("status").stdout.decode()
    assert quiet.flipbell("history").stdout.decode().startswith(f"{local}{offset}  CRITICAL")


# What keeps it from knowing


def test_another_configuration_is_named_with_the_way_out(quiet: Site, tmp_path: Path) -> None:
    quiet.run("disk", 0)
    quiet.deliver()
    other = tmp_path / "other.d"
    other.mkdir()
    (other / "ops.yaml").write_text((quiet.config / "ops.yaml").read_text())
    assert quiet.flipbell("status").returncode == 0

    done = quiet.flipbell("status", "--config", str(other))
    plugin = quiet.flipbell("status", "--plugin", "--config", str(other))

    assert (done.returncode, plugin.returncode) == (1, 2)
    for printed in (done.stdout.decode(), plugin.stdout.decode()):
        assert f"belongs to the configuration {quiet.config}, and this is {other}; " in printed
        assert f"use --config {quiet.config}, or give each configuration its own --state" in printed


def test_flush_does_not_wait_for_the_courier_of_another_configuration(
    site: Site, hipchat_room: HipChatRoom, tmp_path: Path
) -> None:
    site.channel(hipchat_room.url)
    other = tmp_path / "other.d"
    other.mkdir()
    with Process([FLIPBELL, "courier"], env=site.environ):
        site.run("disk", 2)
        hipchat_room.wait_for(1)

        done = site.flipbell("flush", "--config", str(other))

    assert done.returncode == 2
    assert f"belongs to the configuration {site.config}" in done.stderr.decode()


@AS_ROOT
def test_a_foreign_user_is_told_that_it_cannot_know(quiet: Site) -> None:
    quiet.run("disk", 2)
    quiet.deliver()

    done = as_nobody(quiet, "status")
    plugin = as_nobody(quiet, "status", "--plugin")
    metrics = as_nobody(quiet, "status", "--format", "prometheus")

    printed = done.stdout.decode()
    assert done.returncode == 1
    assert "checks   not known\n" in printed
    assert "courier  not known\n" in printed
    assert f"broken: state directory {quiet.state}: belongs to user root" in printed
    assert plugin.returncode == 3
    assert plugin.stdout.startswith(b"FLIPBELL UNKNOWN - state directory")
    assert b"waiting=" not in plugin.stdout
    assert b"flipbell_up 0\n" in metrics.stdout
    assert b"flipbell_checks" not in metrics.stdout


def test_a_user_without_a_state_is_told_whose_the_hosts_state_is(
    quiet: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    os.chown(system, 65534, 65534) if os.geteuid() == 0 else pytest.skip("only root can chown")
    monkeypatch.setattr(places, "SYSTEM_STATE", str(system))
    monkeypatch.setattr(places, "find_state", lambda *_: str(tmp_path / "home" / "flipbell"))
    monkeypatch.delenv("FLIPBELL_STATE", raising=False)

    nothing = survey(None, str(quiet.config))

    assert not nothing.is_known
    assert not nothing.is_fine
    (fault,) = nothing.faults
    assert f"state directory {system}: belongs to user nobody, and this is user root" in fault
    assert "run this as user nobody or as root to see it" in fault
    assert as_plugin(nothing, 900, time.time())[0] is Status.UNKNOWN

    (tmp_path / "home" / "flipbell").mkdir(parents=True, mode=0o700)
    own = survey(None, str(quiet.config))
    assert own.is_known
    assert own.faults == ()
    assert fault in own.notes
    assert survey(str(tmp_path / "nosuch"), str(quiet.config)).is_known


# What the operator has to decide, and what a channel waits for


def test_a_removed_channel_with_an_open_incident_is_a_warning(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.channel(hipchat_room.url, "other", room="4343")
    site.run("disk", 2)
    site.deliver()
    assert site.flipbell("status").returncode == 0
    (site.config / "ops.yaml").unlink()
    site.deliver()

    done = site.flipbell("status")
    plugin = site.flipbell("status", "--plugin")

    assert (done.returncode, plugin.returncode) == (1, 1)
    assert b"\nwarning: channel ops is not configured any more, and no channel will" in done.stdout
    assert plugin.stdout.startswith(b"FLIPBELL WARNING - channel ops is not configured any more")
    said = site.status()
    assert not said["fine"]
    assert "flipbell channels drop ops" in said["warnings"][0]


def test_a_renaming_to_come_is_no_warning(quiet: Site) -> None:
    quiet.run("disk", 2)
    quiet.deliver()
    content = (quiet.config / "ops.yaml").read_text()
    (quiet.config / "ops.yaml").write_text(content.replace('"ops"', '"oncall"'))

    done = quiet.flipbell("status")

    assert done.returncode == 0
    assert b"note: channel oncall takes over from ops" in done.stdout


@pytest.mark.parametrize("is_recorded", [False, True])
def test_a_channel_that_was_never_used_is_shown_and_counted(quiet: Site, is_recorded: bool) -> None:
    if is_recorded:
        quiet.run("disk", 2)

    assert b"channel  ops  nothing sent yet" in quiet.flipbell("status").stdout
    assert b" - 1 channel | " in quiet.flipbell("status", "--plugin").stdout
    (channel,) = quiet.status()["channels"]
    assert (channel["name"], channel["waiting"], channel["last_success_at"]) == ("ops", 0, None)


def test_the_time_until_which_a_room_wants_to_be_left_alone_is_shown(
    quiet: Site, hipchat_room: HipChatRoom
) -> None:
    hipchat_room.otherwise = Answer(429, headers={"Retry-After": "1800"})
    quiet.run("disk", 2)
    before = time.time()
    quiet.flipbell("flush", "--timeout", "5")

    (channel,) = quiet.status()["channels"]
    until = channel["closed_until"]

    assert before + 1790 < until < time.time() + 1801
    shown = quiet.flipbell("status").stdout.decode()
    assert f"; waits until {time_of_day(until)} (the room asked)" in shown


def test_the_next_try_is_shown(quiet: Site, hipchat_room: HipChatRoom) -> None:
    hipchat_room.otherwise = Answer(401)
    quiet.run("disk", 2)
    quiet.flipbell("flush", "--timeout", "5")

    (channel,) = quiet.status()["channels"]

    assert channel["closed_until"] is None
    shown = quiet.flipbell("status").stdout.decode()
    assert f"; next try at {time_of_day(channel['next_try'])}" in shown


def test_a_full_disk_hides_nothing_else(quiet: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet.run("disk", 2)
    quiet.deliver()
    monkeypatch.setattr("flipbell.look._LOW_DISK", 1 << 62)

    seen = _survey(quiet)

    assert seen.is_known
    assert [each.check for each in seen.failing] == ["disk"]
    assert seen.faults == (f"state directory {quiet.state}: its disk is full",)
