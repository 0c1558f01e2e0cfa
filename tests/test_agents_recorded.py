"""Every call that was recorded from a real agent, replayed, with the results it must yield."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import recorded
from conftest import FLIPBELL, Process, shipped, unmeasured
from flipbell.agents import Given, agent_check, built_in, sauna
from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Site

NOW = 1_795_500_000.0
OK, WARNING, CRITICAL, UNKNOWN = Status
FLIP = ("web 1", "Flip Müller [prod]")
SLOW = ("web 1", "slow")


def _by_options(format_: str, *positions: str) -> Callable[[dict[str, Any]], list[CheckResult]]:
    """Read what a drop-in gives as options: the recorder's arguments, by their position."""

    def read(call: dict[str, Any]) -> list[CheckResult]:
        options = {"host": "web 1", **dict(zip(positions, call["argv"][1:], strict=False))}
        options.pop("-", None)
        return _read(format_, call, environ={}, **options)

    return read


def _by_environment(format_: str, **options: Any) -> Callable[[dict[str, Any]], list[CheckResult]]:
    return lambda call: _read(format_, call, environ=call.get("env", {}), **options)


def _read(format_: str, call: dict[str, Any], **options: Any) -> list[CheckResult]:
    stdin = str(call.get("body") or call.get("stdin") or "").encode()
    read = built_in(format_)
    assert read is not None
    given = Given(this_host="here", now=NOW, read_stdin=lambda: stdin, **options)
    return read(given)


def _icinga_notification(call: dict[str, Any]) -> list[CheckResult]:
    """Read the variables under the names that the drop-in gives them."""
    options = dict(zip(call["argv"][1::2], call["argv"][2::2], strict=True))
    values = {**call["env"], "HOSTNAME": options["--host"]}
    values["SERVICESTATETYPE"] = options["--state-type"]
    environ = {f"ICINGA_{name}": value for name, value in values.items()}
    return _read("icinga2", call, environ=environ)


def _sauna(call: dict[str, Any]) -> list[CheckResult]:
    return [sauna.result(SimpleNamespace(**call))]


def _monasca(call: dict[str, Any]) -> list[CheckResult]:
    told: list[CheckResult] = []

    class Check(agent_check.FlipbellMixin):
        hostname = "here"

        def tell(self, check: str, status: Any, output: str = "", hostname: Any = None) -> None:
            told.append(CheckResult(hostname or self.hostname, check, status, output))

    Check().tell(call["instance"]["name"], call["status"], call["out"])
    return told


_EVENT_HANDLER = _by_options("nagios", "host", "check", "status", "state_type", "-", "-", "output")
_ICINGA_EVENT = _by_options("icinga2", "check", "status", "state_type", "-", "-", "output")
# Which module reads a recording, and the host, check and status of each result.
REPLAYS: dict[str, tuple[Callable[[dict[str, Any]], list[CheckResult]], list[Any]]] = {
    "alertmanager--am-hook": (
        _by_environment("alertmanager"),
        [("web 1", "Flip Müller{severity=critical}", status) for status in [CRITICAL] * 3 + [OK]],
    ),
    "collectd--collectd-notif": (
        _by_environment("collectd"),
        [
            *(("e2e", "flip/gauge-val", status) for status in (OK, CRITICAL, OK)),
            ("e2e", "flip/gauge", WARNING),
            *(("e2e", "flip/gauge-val", status) for status in (CRITICAL, OK)),
            ("e2e", "flip/gauge", WARNING),
        ],
    ),
    "icinga2--icinga-edge": (
        _by_options("icinga2", "check", "status", "output"),
        [
            ("web 1", "term", UNKNOWN),
            ("web 1", "bgclosed", WARNING),
            ("web 1", "onlyerr", CRITICAL),
            ("web 1", "sig", UNKNOWN),
            ("web 1", "stdin", OK),
            ("web 1", "stderr", WARNING),
            ("web 1", "crlf", WARNING),
            ("web 1", "bg", UNKNOWN),
        ],
    ),
    "icinga2--icinga-eh": (
        _ICINGA_EVENT,
        [
            (*FLIP, OK),
            (*SLOW, UNKNOWN),
            *((*FLIP, status) for status in (CRITICAL, OK, UNKNOWN, OK)),
        ],
    ),
    "icinga2--icinga-notify": (
        _icinga_notification,
        [(*SLOW, UNKNOWN)]
        + [(*FLIP, status) for status in (CRITICAL, OK, UNKNOWN, OK, CRITICAL, OK, UNKNOWN, OK)],
    ),
    "mackerel-agent--mackerel-action": (
        _by_environment("mackerel-agent", check="flip"),
        [("here", "flip", status) for status in (OK, CRITICAL, CRITICAL, OK, OK)],
    ),
    "mackerel-agent--mackerel-action-code42": (
        _by_environment("mackerel-agent", check="flip"),
        [("here", "flip", UNKNOWN)] * 2,
    ),
    "mackerel-agent--mackerel-action-empty": (
        _by_environment("mackerel-agent", check="flip"),
        [("here", "flip", CRITICAL)] * 2,
    ),
    "mackerel-agent--mackerel-action-nonutf": (
        _by_environment("mackerel-agent", check="flip"),
        [("here", "flip", WARNING)] * 2,
    ),
    "monasca--monasca-hook": (
        _monasca,
        [("here", "Flip Müller", OK), ("here", "second", WARNING)] * 2,
    ),
    "monit--monit-changed": (
        _by_environment("monit"),
        [
            ("vm", "flip2", status)
            for status in (CRITICAL, OK, WARNING, UNKNOWN, OK, CRITICAL, OK, WARNING)
        ],
    ),
    "monit--monit-exec": (
        _by_environment("monit"),
        [("vm", "flip", status) for status in (CRITICAL, OK, WARNING, OK, CRITICAL)],
    ),
    "nagios4--nagios-edge": (
        _by_environment("nagios"),
        [
            ("h", "code42", CRITICAL),  # Nagios' own verdict
            ("h", "blank", WARNING),
            ("h", "pipes", WARNING),
            ("h", "nonl", WARNING),
            ("h", "crlf", WARNING),
            ("h", "bgclosed", WARNING),
            ("h", "term", UNKNOWN),
            ("h", "empty", CRITICAL),
        ],
    ),
    "nagios4--nagios-eh": (
        _EVENT_HANDLER,
        [(*FLIP, CRITICAL), (*FLIP, OK), (*SLOW, UNKNOWN)],
    ),
    "nagios4--nagios-notify": (
        _by_options("nagios", "event", "host", "check", "status", "state_type", "-", "-", "output"),
        [(*FLIP, CRITICAL), (*FLIP, OK), (*SLOW, UNKNOWN), (*FLIP, UNKNOWN)],
    ),
    "nagios4--nagios-notify-stdin": (
        _by_environment("nagios"),
        [(*FLIP, CRITICAL), (*FLIP, OK)],
    ),
    "nagios4--nagios-ocsp": (
        _by_options("nagios", "host", "check", "status", "state_type", "-", "-", "output"),
        [(*FLIP, OK), ("web 1", "shell", OK), (*FLIP, OK), ("web 1", "shell", OK)],
    ),
    "sauna--sauna-hook": (
        _sauna,
        [
            ("e2e", "code42", UNKNOWN),
            ("e2e", "sig", UNKNOWN),
            ("e2e", "missing", UNKNOWN),
            ("e2e", "binary", UNKNOWN),
            ("e2e", "stderr", WARNING),
            ("e2e", "flip müller", OK),
            ("e2e", "sig", UNKNOWN),
            ("e2e", "missing", UNKNOWN),
        ],
    ),
    "sensu-core--sensu-handler": (
        _by_environment("sensu"),
        [
            ("web1", "flipmetric", OK),
            ("web1", "code42", UNKNOWN),
            ("web1", "standalone", WARNING),
            ("web1", "flip", CRITICAL),
            ("web1", "flip", CRITICAL),
            ("web1", "flip", OK),
            ("web1", "code42", UNKNOWN),
            ("web1", "flip", WARNING),
        ],
    ),
}
# Checks, which `flipbell run` wraps in the surroundings that the agent gave them.
WRAPPED = [
    "icinga2--icinga-check",
    "mackerel-agent--mackerel-check",
    "monasca--monasca-check",
    "monit--monit-check",
    "nagios4--nagios-check",
    "nrpe--nrpe-check",
    "sauna--sauna-check",
    "zabbix--zabbix-check",
    "zabbix--zabbix-check-arg",
]
LONG_RUNNING = "collectd--collectd-exec"


def test_every_recording_is_replayed() -> None:
    assert sorted([*REPLAYS, *WRAPPED, LONG_RUNNING]) == recorded.names()


@pytest.mark.parametrize("name", sorted(REPLAYS))
def test_a_recording_yields_its_results(name: str) -> None:
    read, expected = REPLAYS[name]

    found = [result for call in recorded.calls(name) for result in read(call)]

    assert [(result.host, result.check, result.status) for result in found] == expected


def test_what_was_said_comes_whole() -> None:
    read, _ = REPLAYS["mackerel-agent--mackerel-action"]
    (mackerel,) = read(recorded.calls("mackerel-agent--mackerel-action")[0])
    (nagios,) = _by_environment("nagios")(recorded.calls("nagios4--nagios-notify")[0])
    (monit,) = _by_environment("monit")(recorded.calls("monit--monit-exec")[0])

    assert mackerel.output.startswith("FLIP OK - run 0 näöü \"q\" 's' <b>&amp; $HOME `id` ;x|val=0")
    assert nagios.output.splitlines()[1:] == ["long line 1 CRITICAL", "long line 2"]
    assert nagios.occurred_at == 1_795_399_742
    assert monit.output.startswith("FLIP CRITICAL - run 2 näöü")
    (collectd,) = _by_environment("collectd")(recorded.calls("collectd--collectd-notif")[1])
    assert collectd.occurred_at == 1_795_400_168.952
    assert collectd.output.endswith("above the failure threshold of 2.000000.\n")


def test_nagios_tells_the_same_by_arguments_and_by_environment() -> None:
    by_arguments, _ = REPLAYS["nagios4--nagios-ocsp"]
    for call in recorded.calls("nagios4--nagios-ocsp"):
        told = [
            (result.host, result.check, result.status) for result in _by_environment("nagios")(call)
        ]
        assert told == [(result.host, result.check, result.status) for result in by_arguments(call)]


@pytest.mark.parametrize("name", WRAPPED)
def test_a_check_in_the_surroundings_that_were_recorded(site: Site, name: str) -> None:
    call = recorded.calls(name)[-1]
    reading, writing = os.pipe()  # a stdin that never ends, as Monit's
    options = ["--state", str(site.state), "--config", str(site.config)]
    words = [FLIPBELL, "run", *options, "--host", "h", "--check", call["argv"][0]]
    script = 'printf "%s|" "$@"; cat; exit 1'
    environ = {**unmeasured(call["env"]), "FLIPBELL_COURIER": "off"}

    with Process(
        [*words, "--", "sh", "-c", script, *call["argv"]],
        env=environ,
        cwd=call["cwd"],
        umask=int(call["umask"], 8),
        stdin=reading if call["stdin_kind"].startswith("pipe") else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read().decode()
        assert process.wait(20) == 1
    os.close(reading)
    os.close(writing)

    expected = "".join(f"{word}|" for word in call["argv"][1:]) or "|"
    assert said == expected
    assert f"\t1\th\t{call['argv'][0]}\t" in (site.state / "spool").read_text()
    assert (site.state / "spool").stat().st_mode & 0o077 == 0


def test_the_putnotif_loop_where_collectd_starts_it() -> None:
    (call,) = recorded.calls(LONG_RUNNING)
    script = shipped("hooks/collectd/check-to-notification")
    words = ["sh", str(script), "disk", "sh", "-c", 'echo "DISK \\"CRITICAL\\""; exit 2']

    with Process(
        words, env=call["env"], cwd=call["cwd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        process.terminate()
        assert process.wait(10) == 0

    assert line.startswith('PUTNOTIF host="e2e" severity=failure time=')
    assert line.endswith(' plugin="disk" type=check message="DISK \\"CRITICAL\\""\n')
