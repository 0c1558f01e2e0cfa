"""What real agents do to a check, a notifier or a hook, and which test holds flipbell to cope.

The numbers are those of the pitfalls in PITFALLS; the tests here are the ones that no other file
has, against the real command.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import FLIPBELL, Process, run_python, until
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom, HipChatServer

HERE = Path(__file__).parent
E2E = "e2e/test_real_agents.py::"
PITFALLS: dict[str, list[str]] = {
    "1 the status that the agent calls the previous one": [
        "test_pitfalls.py::test_the_agents_previous_status_is_not_believed",
        E2E + "test_the_room_hears_the_truth_once",
    ],
    "2 unchanged results all the time": [
        "test_pitfalls.py::test_the_agents_previous_status_is_not_believed",
        E2E + "test_the_room_hears_exactly_the_changes",
    ],
    "3 calls at once and in the wrong order": [
        "test_pitfalls.py::test_the_newest_result_counts_in_whatever_order_they_come",
        "test_ledger.py::test_a_result_older_than_the_last_change_is_ignored_and_counted",
        "test_attack_load.py::test_many_processes_and_three_rooms",
    ],
    "4 a stdin that never ends, or is somebody else's": [
        "test_pitfalls.py::test_stdin_that_belongs_to_somebody_else_is_left_alone",
        "test_pitfalls.py::test_a_stdin_that_never_ends_is_waited_for_no_longer_than_its_time",
        "test_security.py::test_stdin_without_end_is_read_no_further_than_needed",
        "test_report.py::test_stdin_closed",
        "test_run.py::test_a_check_reads_nothing_of_the_agents_stdin",
        "test_agents_recorded.py::test_a_check_in_the_surroundings_that_were_recorded",
    ],
    "5 the check's bytes and exit status": [
        "test_run.py::test_passes_every_exit_status",
        "test_run.py::test_passes_output_byte_for_byte",
        "test_run.py::test_keeps_the_order_of_merged_stdout_and_stderr",
    ],
    "6 signals, kills and orphans": [
        "test_run.py::test_passes_sigterm_on_and_ends_as_the_check_ends",
        "test_run.py::test_dies_of_sigterm_where_the_check_does",
        "test_run.py::test_the_check_does_not_outlive_a_wrapper_that_is_killed",
        "test_run.py::test_stays_in_the_agents_process_group",
        "test_attack_kill.py::test_nothing_is_lost_and_every_repeat_says_so",
    ],
    "7 a check that dies of a signal": [
        "test_run.py::test_dies_of_the_signal_that_its_check_died_of",
    ],
    "8 the agent's time and what it waits for": [
        "test_pitfalls.py::test_a_notifier_does_not_wait_for_hipchat",
        "test_run.py::test_a_stuck_lock_delays_the_answer_by_its_limit_only",
        "test_run.py::test_a_courier_holds_no_descriptor_of_the_agent",
        "test_run.py::test_what_a_check_left_running_delays_nothing_and_still_reaches_the_agent",
    ],
    "9 names": [
        "test_agents.py::test_says_what_is_missing",
        "test_security.py::test_names_reach_the_room_as_text_and_nothing_else",
    ],
    "10 no home, no locale, any directory, any umask": [
        "test_pitfalls.py::test_records_in_any_surroundings",
        "test_places.py::test_a_users_own_place",
        "test_agents_recorded.py::test_a_check_in_the_surroundings_that_were_recorded",
    ],
    "11 odd bytes": [
        "test_pitfalls.py::test_odd_bytes_reach_the_room_as_text",
        "test_message.py::test_control_characters_and_direction_marks_are_gone",
        "test_message.py::test_any_output_fits_and_is_whole",
        "test_agents.py::test_the_newlines_of_nagios_long_output",
    ],
    "12 a call that the kernel refuses": [
        "test_pitfalls.py::test_a_call_that_was_too_long_is_healed_by_the_next",
    ],
    "13 nobody reads what is printed": [
        "test_pitfalls.py::test_nobody_reads_stdout_or_stderr",
        "test_run.py::test_runs_with_its_standard_descriptors_closed",
    ],
    "14 every agent's words for a status": [
        "test_agents_recorded.py::test_a_recording_yields_its_results",
        "test_agents.py::test_events_of_monit",
        "test_agents.py::test_statuses_of_netdata",
        "test_ledger.py::test_a_first_ok_is_no_transition",
    ],
    "15 soft states": [
        "test_agents.py::test_soft_states_are_no_results",
        "test_agents_recorded.py::test_a_recording_yields_its_results",
    ],
    "16 other files beside the configuration": [
        "test_config.py::test_other_files_are_left_alone",
        "test_live_edit.py::test_no_transition_is_lost_or_misrouted",
    ],
    "17 hooks in the agent's process": [
        "test_plugin.py::test_an_agents_own_mistake_does_it_no_harm",
        "test_plugin.py::test_eight_threads_at_once",
        "test_plugin.py::test_an_agent_that_gives_what_cannot_be_shown",
        "test_hooks.py::test_what_a_datadog_check_says_itself_is_told_and_passed_on",
    ],
    "18 an old run that outlives its agent": [
        "test_pitfalls.py::test_two_generations_of_a_check_tell_once",
        E2E + "test_the_room_hears_the_truth_once",
    ],
    "19 exit statuses that have an agent call again": [
        "test_pitfalls.py::test_a_call_again_posts_nothing_twice",
        "test_hooks.py::test_checkmk_tries_again_only_what_could_not_be_recorded",
        "test_hooks.py::test_a_webhook_that_cannot_be_recorded_is_to_be_sent_again",
    ],
}


def _tests(file: str) -> set[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_pitfall_has_its_tests() -> None:
    assert [int(name.split()[0]) for name in PITFALLS] == list(range(1, 20))
    for held_by in PITFALLS.values():
        for file, test in (name.split("::") for name in held_by):
            assert test in _tests(file), f"{file}::{test}"


def _report(site: Site, environ: dict[str, str], *arguments: str, **options: Any) -> None:
    done = site.flipbell("report", *arguments, env={**site.environ, **environ}, **options)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def _nagios(state: str, last: str, time: int = 0) -> dict[str, str]:
    environ = {"NAGIOS_HOSTNAME": "h", "NAGIOS_SERVICEDESC": "c", "NAGIOS_SERVICESTATE": state}
    environ |= {"NAGIOS_LASTSERVICESTATE": last, "NAGIOS_SERVICESTATETYPE": "HARD"}
    return environ | ({"NAGIOS_TIMET": str(time)} if time else {})


def _mackerel(status: str, previous: str) -> dict[str, str]:
    return {"MACKEREL_STATUS": status, "MACKEREL_PREVIOUS_STATUS": previous}


def test_the_agents_previous_status_is_not_believed(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    for status, previous in (
        ("CRITICAL", ""),  # the agent has just started
        ("CRITICAL", ""),
        ("CRITICAL", "OK"),
        ("OK", "OK"),
        ("OK", "CRITICAL"),
    ):
        options = ["--from", "mackerel-agent", "--check", "m", "--host", "h"]
        _report(site, _mackerel(status, previous), *options)
        _report(site, _nagios(status, previous), "--from", "nagios")
    site.deliver()

    assert sorted(hipchat_room.statuses) == ["CRITICAL", "CRITICAL", "OK", "OK"]


def test_the_newest_result_counts_in_whatever_order_they_come(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    _report(site, _nagios("CRITICAL", "", 1_795_000_000), "--from", "nagios")
    results = [("WARNING", 20), ("OK", 30), ("CRITICAL", 10), ("UNKNOWN", 25)]

    processes = [
        subprocess.Popen(
            [FLIPBELL, "report", "--from", "nagios"],
            env={**site.environ, **_nagios(state, "", 1_795_000_000 + seconds)},
        )
        for state, seconds in results
    ]
    assert [process.wait(30) for process in processes] == [0] * len(results)
    site.deliver()

    assert site.status()["failing"] == []
    assert hipchat_room.statuses[-1] == "OK"


_ENVIRONMENTS: dict[str, dict[str, str]] = {
    "checkmk": {"NOTIFY_WHAT": "HOST", "NOTIFY_HOSTNAME": "h", "NOTIFY_HOSTSTATE": "DOWN"},
    "icinga2": {"ICINGA_HOSTNAME": "h", "ICINGA_HOSTSTATE": "DOWN"},
    "mackerel-agent": _mackerel("CRITICAL", ""),
    "mon": {"MON_GROUP": "h", "MON_SERVICE": "c", "MON_ALERTTYPE": "failure"},
    "monit": {"MONIT_SERVICE": "c", "MONIT_HOST": "h", "MONIT_EVENT": "Connection failed"},
    "nagios": _nagios("CRITICAL", ""),
}
_OPTIONS = {
    "mackerel-agent": ["--check", "c", "--host", "h"],
    "netdata": ["--host=h", "--check=c", "--status=CRITICAL", "--output=-o"],
    "plain": ["--host=h", "--check=c", "--status=CRITICAL", "--output=-o"],
    "zabbix": ["--output=host: h\ncheck: c\nvalue: 1\nseverity: 5\n\n"],
}


@pytest.mark.parametrize("name", sorted({*_ENVIRONMENTS, *_OPTIONS}))
def test_stdin_that_belongs_to_somebody_else_is_left_alone(site: Site, name: str) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    others = site.base / "mrpe.cfg"
    others.write_text("disk /usr/lib/nagios/plugins/check_disk\n")
    command = [FLIPBELL, "report", "--from", name, *_OPTIONS.get(name, [])]
    environ = {**site.environ, **_ENVIRONMENTS.get(name, {})}

    with others.open("rb", buffering=0) as stdin:
        done = subprocess.run(command, env=environ, stdin=stdin, check=False, capture_output=True)
        left = stdin.read()

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert left == others.read_bytes()
    assert (site.state / "spool").read_text().count("\th\t") == 1


def test_a_stdin_that_never_ends_is_waited_for_no_longer_than_its_time(site: Site) -> None:
    code = """
import os
from flipbell.cli import report
reading, writing = os.pipe()
os.dup2(reading, 0)
os.write(writing, b"so far")
report.STDIN_TIME = 0.1
print(report.read_stdin())
"""
    done = run_python(site, code)

    assert (done.stdout, done.stderr) == (b"b'so far'\n", b"")


def test_a_notifier_does_not_wait_for_hipchat(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    answer = threading.Event()
    hipchat_room.otherwise = Answer(gate=answer)

    _report(site, _nagios("CRITICAL", ""), "--from", "nagios")
    hipchat_room.wait_for_requests(1)
    _report(site, _nagios("OK", ""), "--from", "nagios")

    assert hipchat_room.heard == []
    answer.set()
    hipchat_room.wait_for(2)
    assert hipchat_room.statuses == ["CRITICAL", "OK"]


@pytest.mark.parametrize("umask", [0, 0o002, 0o077, 0o777])
def test_records_in_any_surroundings(site: Site, umask: int) -> None:
    places = ["--state", str(site.state), "--config", str(site.config)]
    gone = site.base / "gone"
    gone.mkdir()
    script = f"cd '{gone}' && rmdir '{gone}' && exec \"$0\" \"$@\""
    # In a directory that is gone, the launcher's sh itself would complain.
    direct = [sys.executable, "-I", "-m", "flipbell"]
    words = [*direct, "report", *places, "--host=h", "--check=c", "--status=2", "--output=ä"]

    done = subprocess.run(
        ["sh", "-c", script, *words],
        env={"FLIPBELL_COURIER": "off"},
        umask=umask,
        check=False,
        capture_output=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (site.state / "spool").stat().st_mode & 0o777 == 0o600
    assert site.state.stat().st_mode & 0o777 == 0o700
    assert (site.state / "spool").read_text().endswith("\t2\th\tc\tä\n")


def test_odd_bytes_reach_the_room_as_text(site: Site, hipchat_room: HipChatRoom) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    environ = {os.fsencode(name): os.fsencode(value) for name, value in site.environ.items()}
    for name, value in _nagios("CRITICAL", "").items():
        environ[name.encode()] = value.encode()
    environ[b"NAGIOS_SERVICEOUTPUT"] = b"\xff\x1b[31mred <b>\xc3\xa4</b>"
    environ[b"NAGIOS_LONGSERVICEOUTPUT"] = rb"two\nthree" + b"x" * 48_000

    done = site.flipbell("report", "--from", "nagios", env=environ)
    assert (done.returncode, done.stderr) == (0, b"")
    site.deliver()

    message = str(hipchat_room.heard[0].body["message"])
    assert "red &lt;b&gt;ä&lt;/b&gt;" in message
    assert "\x1b" not in message
    assert len(message) <= 10_000


def test_a_call_that_was_too_long_is_healed_by_the_next(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    limit = 131_072  # bytes of one string, its end included: Linux' MAX_ARG_STRLEN
    longest = limit - len("NAGIOS_SERVICEOUTPUT=") - 1

    def report(length: int) -> None:
        environ = {**_nagios("CRITICAL", ""), "NAGIOS_SERVICEOUTPUT": "x" * length}
        _report(site, environ, "--from", "nagios")

    with pytest.raises(OSError, match="Argument list too long"):  # what the agent sees
        report(longest + 1)
    report(longest)
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]
    assert (site.state / "spool").stat().st_size < 10_000


def _without_readers(site: Site, *arguments: str, stdin: bytes = b"") -> int:
    """Return the exit status of a command whose stdout and stderr nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [FLIPBELL, *arguments]
    with Process(
        command, env=site.environ, stdin=subprocess.PIPE, stdout=writing, stderr=writing
    ) as process:
        os.close(writing)
        process.communicate(stdin)
        return process.wait(30)


def test_nobody_reads_stdout_or_stderr(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    notification = b"Severity: FAILURE\nHost: h\nPlugin: c\n\nfull\n"
    echo = ["--echo", "--check=c", "--status=1", "--output=o"]

    assert _without_readers(site, "report", "--from", "collectd", stdin=notification) == 0
    assert (site.state / "spool").read_text().endswith("\t2\th\tc\tfull\\n\n")
    assert _without_readers(site, "report", "--from", "collectd") == 2
    assert _without_readers(site, "report", "--nonsense") == 2
    assert _without_readers(site, "report", *echo) == 1
    site.state.rename(site.base / "away")
    site.state.write_text("in the way")
    assert _without_readers(site, "report", "--from", "collectd", stdin=notification) == 2


def test_two_generations_of_a_check_tell_once(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    go = site.base / "go"
    os.mkfifo(go)
    script = f"read -r _ < '{go}'; echo old; exit 2"
    command = [FLIPBELL, "run", "--host", "h", "--check", "c", "--", "sh", "-c", script]

    with Process(command, env=site.environ, stdout=subprocess.PIPE) as old:
        site.run("c", 2, host="h")  # by the agent that was started anew
        go.write_text("\n")
        assert old.wait(20) == 2
    site.run("c", 0, host="h")
    hipchat_room.wait_for(2)
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_call_again_posts_nothing_twice(site: Site, hipchat_server: HipChatServer) -> None:
    well, ill = hipchat_server.room(), hipchat_server.room()
    site.channel(well.url, name="well")
    site.channel(ill.url, name="ill")
    ill.otherwise = Answer(503)
    _report(site, _nagios("CRITICAL", ""), "--from", "nagios")
    well.wait_for(1)
    ill.wait_for_requests(1)

    for _ in range(3):  # as Zabbix and Checkmk do, or a webhook that got no answer
        _report(site, _nagios("CRITICAL", ""), "--from", "nagios")
    ill.otherwise = Answer()
    site.deliver()
    until(lambda: not site.couriers())

    assert (well.statuses, ill.statuses) == (["CRITICAL"], ["CRITICAL"])
    assert (well.faults, ill.faults) == ([], [])
