"""Agent formats, judged by calls recorded from the real agents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flipbell.agents import FormatError, Given, built_in, json_result, mackerel_agent, nagios, plain
from flipbell.model import CheckResult, Status

NOW = 1_795_400_000.0
DATA = Path(__file__).parent / "data"
OK, WARNING, CRITICAL, UNKNOWN = Status


def _given(**values: Any) -> Given:
    return Given(**{"this_host": "here", "now": NOW, **values})


def _environments(name: str) -> list[dict[str, str]]:
    """Return the environment of each recorded call, bytes that are no UTF-8 as Python has them."""
    found = []
    for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        raw = call["raw_env_nonutf8"].items()
        odd = {key: text.encode("latin-1").decode("utf-8", "surrogateescape") for key, text in raw}
        found.append({**call["env"], **odd})
    return found


def _replay(read: Any, name: str, **options: Any) -> list[CheckResult]:
    calls = _environments(name)
    return [found for env in calls for found in read(_given(environ=env, **options))]


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("mackerel-action", [OK, CRITICAL, CRITICAL, OK, OK]),
        ("mackerel-action-code42", [UNKNOWN, UNKNOWN]),
        ("mackerel-action-empty", [CRITICAL, CRITICAL]),
        ("mackerel-action-nonutf", [WARNING, WARNING]),
    ],
)
def test_mackerel_agents_recorded_actions(name: str, statuses: list[Status]) -> None:
    found = _replay(mackerel_agent.read, f"mackerel-agent--{name}", check="flip")

    assert [result.status for result in found] == statuses
    assert {(result.host, result.check) for result in found} == {("here", "flip")}


def test_a_mackerel_message_comes_whole() -> None:
    found = _replay(mackerel_agent.read, "mackerel-agent--mackerel-action", check="flip")

    assert found[0].output.startswith("FLIP OK - run 0 näöü \"q\" 's' <b>&amp; $HOME `id` ;x|val=0")


def test_nagios_recorded_notifications() -> None:
    found = _replay(nagios.read, "nagios4--nagios-notify")

    assert [result.status for result in found] == [CRITICAL, OK, UNKNOWN, UNKNOWN]
    assert (found[0].host, found[0].check) == ("web 1", "Flip Müller [prod]")
    assert found[0].occurred_at == 1_795_399_742
    assert found[0].output.splitlines()[1:] == ["long line 1 CRITICAL", "long line 2"]


def test_nagios_recorded_event_handlers_yield_hard_states_only() -> None:
    calls = _environments("nagios4--nagios-eh")
    hard = [
        call["NAGIOS_SERVICESTATE"] for call in calls if call["NAGIOS_SERVICESTATETYPE"] == "HARD"
    ]

    found = _replay(nagios.read, "nagios4--nagios-eh")

    assert 0 < len(hard) < len(calls)
    assert [result.status.name for result in found] == hard


def test_nagios_recorded_results_of_every_check() -> None:
    found = _replay(nagios.read, "nagios4--nagios-ocsp")

    assert [result.status for result in found][:4] == [OK, OK, OK, OK]


@pytest.mark.parametrize(
    ("state", "status"), [("UP", OK), ("DOWN", CRITICAL), ("UNREACHABLE", UNKNOWN)]
)
def test_a_nagios_host_is_a_check_named_host(state: str, status: Status) -> None:
    environ = {"NAGIOS_HOSTNAME": "web-01", "NAGIOS_HOSTSTATE": state, "NAGIOS_HOSTOUTPUT": "ping"}

    found = nagios.read(_given(environ=environ))

    assert found == [CheckResult("web-01", "host", status, "ping", NOW)]


@pytest.mark.parametrize(
    "event", ["ACKNOWLEDGEMENT", "DOWNTIMESTART", "FLAPPINGSTOP", "CUSTOM", "FLAPPINGDISABLED"]
)
def test_what_is_no_result_for_nagios(event: str) -> None:
    assert nagios.read(_given(event=event, host="h", check="c", status="CRITICAL")) == []
    assert nagios.read(_given(environ={"NAGIOS_NOTIFICATIONTYPE": event})) == []


def test_nagios_by_arguments() -> None:
    found = nagios.read(
        _given(event="PROBLEM", host="h", check="c", status="WARNING", output="o", occurred_at=5.0)
    )

    assert found == [CheckResult("h", "c", WARNING, "o", 5.0)]


def test_plain_text() -> None:
    given = _given(check="c", status="2", read_stdin=lambda: b"out\xff")

    assert plain.read(given) == [CheckResult("here", "c", CRITICAL, "out\udcff", NOW)]


def test_json_results() -> None:
    items = [
        {"host": "h", "check": "c", "status": "critical", "occurred_at": "2026-11-23T02:00:00Z"},
        {"check": "d", "status": 42, "output": "o", "occurred_at": 5, "id": "x"},
    ]

    found = json_result.read(_given(read_stdin=json.dumps(items).encode))

    assert found == [
        CheckResult("h", "c", CRITICAL, "", 1_795_399_200.0),
        CheckResult("here", "d", UNKNOWN, "o", 5.0),
    ]


@pytest.mark.parametrize(
    ("read", "options", "said"),
    [
        (plain.read, {"status": "OK"}, "expected --check NAME"),
        (plain.read, {"check": "c"}, "expected --status"),
        (plain.read, {"check": "c", "status": "BAD"}, "--status: expected OK, WARNING"),
        (mackerel_agent.read, {}, "mackerel-agent does not tell it"),
        (mackerel_agent.read, {"check": "c"}, "expected MACKEREL_STATUS"),
        (
            mackerel_agent.read,
            {"check": "c", "environ": {"MACKEREL_STATUS": "x"}},
            "MACKEREL_STATUS",
        ),
        (nagios.read, {}, "expected --host or NAGIOS_HOSTNAME"),
        (nagios.read, {"host": "h", "check": "c"}, "--status or NAGIOS_SERVICESTATE"),
        (nagios.read, {"host": "h", "check": "c", "status": "x"}, "expected a state of Nagios"),
    ],
)
def test_says_what_is_missing(read: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        read(_given(**options))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "got none .Expecting value at line 1 column 1"),
        ("[" * 100_000, "nested too deep|expected JSON"),
        ("5", "expected an object"),
        ("{}", "check: expected a name"),
        ('{"check": "c"}', "status: expected OK"),
        ('{"check": "c", "status": "x"}', "status: expected OK"),
        ('{"check": 5, "status": 0}', "check: expected text, got 5"),
        ('{"check": "c", "status": 0, "stauts": 1}', "unknown key 'stauts'"),
        ('{"check": "c", "status": 0, "occurred_at": "soon"}', "occurred_at: expected 2026"),
        ('{"check": "c", "status": 0, "occurred_at": NaN}', "occurred_at: expected seconds"),
    ],
)
def test_json_that_says_nothing(content: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        json_result.read(_given(read_stdin=content.encode))


def test_every_format_has_a_name() -> None:
    assert sorted(built_in()) == ["json", "mackerel-agent", "nagios", "plain"]
