"""Agent formats: what each takes for a result, and what it says of a call that tells none."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from flipbell.agents import (
    BUILT_IN,
    FormatError,
    Given,
    built_in,
    checkmk,
    collectd,
    icinga2,
    json_result,
    mackerel_agent,
    mon,
    monit,
    nagios,
    netdata,
    plain,
    zabbix,
)
from flipbell.model import CheckResult, Status

NOW = 1_795_400_000.0
OK, WARNING, CRITICAL, UNKNOWN = Status


def _given(**values: Any) -> Given:
    return Given(**{"this_host": "here", "now": NOW, **values})


@pytest.mark.parametrize(
    ("state", "status"), [("UP", OK), ("DOWN", CRITICAL), ("UNREACHABLE", UNKNOWN)]
)
def test_a_nagios_host_is_a_check_named_host(state: str, status: Status) -> None:
    environ = {"NAGIOS_HOSTNAME": "web-01", "NAGIOS_HOSTSTATE": state, "NAGIOS_HOSTOUTPUT": "ping"}

    found = nagios.read(_given(environ=environ))

    assert found == [CheckResult("web-01", "host", status, "ping", NOW)]


@pytest.mark.parametrize("event", ["ACKNOWLEDGEMENT", "DOWNTIMESTART", "FLAPPINGSTART", "CUSTOM"])
def test_what_is_no_result_for_nagios(event: str) -> None:
    assert nagios.read(_given(event=event, host="h", check="c", status="CRITICAL")) == []
    assert nagios.read(_given(environ={"NAGIOS_NOTIFICATIONTYPE": event})) == []


@pytest.mark.parametrize(
    ("read", "event"),
    [
        *((nagios.read, f"FLAPPING{end}") for end in ("STOP", "DISABLED")),
        *((nagios.read, f"DOWNTIME{end}") for end in ("END", "CANCELLED")),
        *((icinga2.read, event) for event in ("FlappingEnd", "DowntimeEnd", "DowntimeRemoved")),
    ],
)
@pytest.mark.parametrize("status", [OK, CRITICAL])
def test_the_end_of_flapping_and_of_downtime_brings_the_true_state(
    read: Any, event: str, status: Status
) -> None:
    end = _given(event=event, host="h", check="c", status=status.name, state_type="HARD")
    soft = _given(event=event, host="h", check="c", status=status.name, state_type="SOFT")

    assert [result.status for result in read(end)] == [status]
    assert read(soft) == []


@pytest.mark.parametrize(
    ("stamps", "time"),
    [
        ({"LASTSERVICECHECK": "1795400010", "TIMET": "1795400012"}, 1_795_400_010.0),
        ({"LASTSERVICECHECK": "1795400010.25"}, 1_795_400_010.25),
        ({"LASTSERVICECHECK": "0", "TIMET": "1795400012"}, 1_795_400_012.0),
        ({"LASTSERVICECHECK": "$LASTSERVICECHECK$"}, NOW),
        ({}, NOW),
    ],
)
def test_a_result_of_nagios_is_as_old_as_its_check(stamps: dict[str, str], time: float) -> None:
    environ = {f"NAGIOS_{name}": value for name, value in stamps.items()}

    found = nagios.read(_given(environ=environ, host="h", check="c", status="OK"))

    assert found[0].occurred_at == time


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
        (nagios.read, {"host": "h", "check": "c", "status": "x"}, "expected a state"),
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
    assert all(callable(built_in(name)) for name in BUILT_IN)
    assert built_in("nagois") is None


# A call of each format, whose own time is not 5: stdin, options, environment.
MACKEREL = {"event": "alert", "alert": {"monitorName": "c", "status": "critical", "openedAt": 7}}
CALLS: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "alertmanager": (
        {"alerts": [{"status": "firing", "labels": {"alertname": "c"}, "startsAt": "2026-01-01"}]},
        {},
        {},
    ),
    "checkmk": (
        None,
        {"host": "h", "check": "c"},
        {"NOTIFY_WHAT": "SERVICE", "NOTIFY_SERVICESTATE": "OK", "NOTIFY_SHORTDATETIME": "7"},
    ),
    "collectd": ("Severity: OKAY\nTime: 7.5\nHost: h\nPlugin: c\n\nm", {}, {}),
    "consul": ([{"Node": "n", "CheckID": "c", "Status": "passing"}], {}, {}),
    "icinga2": (
        None,
        {"host": "h", "check": "c", "status": "OK"},
        {"ICINGA_LASTSERVICECHECK": "7"},
    ),
    "json": ({"check": "c", "status": "OK", "occurred_at": 7}, {}, {}),
    "mackerel-agent": (None, {"check": "c"}, {"MACKEREL_STATUS": "OK"}),
    "mackerel-webhook": (MACKEREL, {}, {}),
    "mon": (None, {"host": "h", "check": "c", "event": "up"}, {"MON_LAST_FAILURE": "7"}),
    "monit": (None, {"event": "Status failed"}, {"MONIT_SERVICE": "c", "MONIT_DATE": "7"}),
    "nagios": (None, {"host": "h", "check": "c", "status": "OK"}, {"NAGIOS_TIMET": "7"}),
    "netdata": (None, {"host": "h", "check": "c", "status": "CLEAR"}, {}),
    "plain": (None, {"check": "c", "status": "OK", "output": "o"}, {}),
    "sensu": (
        {"client": {"name": "h"}, "check": {"name": "c", "status": 0, "executed": 7}},
        {},
        {},
    ),
    "zabbix": (None, {"output": "host: h\ncheck: c\nvalue: 0\n\ntext"}, {}),
}


@pytest.mark.parametrize("format_", BUILT_IN)
def test_an_explicit_time_wins_over_what_the_agent_gives(format_: str) -> None:
    content, options, environ = CALLS[format_]
    stdin = content if isinstance(content, str) else json.dumps(content)
    given = _given(read_stdin=stdin.encode, environ=environ, occurred_at=5.0, **options)
    read = built_in(format_)
    assert read is not None

    assert [result.occurred_at for result in read(given)] == [5.0]


def test_soft_states_are_no_results() -> None:
    soft = _given(host="h", check="c", status="CRITICAL", state_type="SOFT")

    assert nagios.read(soft) == []
    assert icinga2.read(soft) == []


def test_the_newlines_of_nagios_long_output() -> None:
    found = nagios.read(_given(host="h", check="c", status="OK", output="one\\ntwo"))

    assert found[0].output == "one\ntwo"


def test_a_backslash_in_icingas_output_is_one() -> None:
    found = icinga2.read(_given(host="h", check="c", status="OK", output="C:\\new\ntwo"))

    assert found[0].output == "C:\\new\ntwo"


@pytest.mark.parametrize(
    ("event", "code", "expected"),
    [
        ("Status failed", "1", ("disk", WARNING)),
        ("Status changed", "3", ("disk", UNKNOWN)),
        ("Status succeeded", "0", ("disk", OK)),
        ("Status failed", "42", ("disk", UNKNOWN)),
        ("Connection failed", "", ("disk connection", CRITICAL)),
        ("Connection succeeded", "", ("disk connection", OK)),
        ("Does not exist", "", ("disk existence", CRITICAL)),
        ("Exists", "", ("disk existence", OK)),
        ("Resource limit matched", "", ("disk resource limit", CRITICAL)),
        ("Resource limit succeeded", "", ("disk resource limit", OK)),
        ("Content match", "", ("disk content", CRITICAL)),
        ("Content doesn't match", "", ("disk content", OK)),
        ("Link down", "", ("disk link", CRITICAL)),
        ("Timeout", "", ("disk timeout", CRITICAL)),
        ("Timeout recovery", "", ("disk timeout", OK)),
        ("Checksum changed", "", None),
        ("PID not changed", "", None),
        ("Monit instance changed", "", None),
        ("Action done", "", None),
    ],
)
def test_events_of_monit(event: str, code: str, expected: tuple[str, Status] | None) -> None:
    environ = {"MONIT_SERVICE": "disk", "MONIT_HOST": "h", "MONIT_EVENT": event}
    environ["MONIT_PROGRAM_STATUS"] = code

    found = monit.read(_given(environ=environ))

    assert [(result.check, result.status) for result in found] == ([expected] if expected else [])


def test_a_notification_of_collectd_without_time_or_instance() -> None:
    content = b"Severity: WARNING\nHost: h\nPlugin: df\nPluginInstance: root\n\nhalf full\n"

    found = collectd.read(_given(read_stdin=lambda: content))

    assert found == [CheckResult("h", "df-root", WARNING, "half full\n", NOW)]


_ZABBIX = "host: h\ncheck: Free disk space\nvalue: {}\nseverity: {}\nupdate: {}\n\n3% free"


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ((1, 5, 0), [CRITICAL]),
        ((1, 3, 0), [CRITICAL]),
        ((1, 2, 0), [WARNING]),
        ((1, 0, 0), [UNKNOWN]),
        ((0, 5, 0), [OK]),
        ((1, 5, 1), []),
    ],
)
def test_messages_of_zabbix(values: tuple[int, ...], statuses: list[Status]) -> None:
    message = _ZABBIX.format(*values).replace("\n", "\r\n")

    found = zabbix.read(_given(output=message))

    expected = [CheckResult("h", "Free disk space", status, "3% free", NOW) for status in statuses]
    assert found == expected


def _zabbix(value: int, severity: int, **lines: str) -> CheckResult:
    """Return the result of a message that has further lines in its head."""
    head = "".join(f"{name}: {text}\n" for name, text in lines.items())
    (result,) = zabbix.read(_given(output=head + _ZABBIX.format(value, severity, 0)))
    return result


def test_two_triggers_of_one_name_are_two_checks() -> None:
    first = _zabbix(1, 2, trigger="17")
    second = _zabbix(1, 4, trigger="18")

    assert (first.check, first.status) == ("Free disk space #17", WARNING)
    assert (second.check, second.status) == ("Free disk space #18", CRITICAL)
    assert _zabbix(0, 2, trigger="17").check == first.check
    assert _zabbix(1, 2, trigger="{TRIGGER.ID}").check == "Free disk space"
    assert _zabbix(1, 2, trigger="*UNKNOWN*").check == "Free disk space"


def _clock(seconds: float) -> str:
    return time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime(seconds))


@pytest.mark.parametrize("zone", [0, 3600, -5 * 3600, 20700])
def test_an_alert_of_zabbix_is_as_old_as_its_event(zone: int) -> None:
    times = {"now": _clock(NOW + zone - 9), "started": _clock(NOW + zone - 60)}
    unexpanded = "{EVENT.RECOVERY.DATE} {EVENT.RECOVERY.TIME}"

    problem = _zabbix(1, 4, **times, ended=unexpanded)
    recovery = _zabbix(0, 4, **times, ended=_clock(NOW + zone - 30))

    assert (problem.occurred_at, recovery.occurred_at) == (NOW - 60, NOW - 30)
    assert _zabbix(0, 4, **times, ended=unexpanded).occurred_at == NOW
    assert _zabbix(1, 4, now=times["now"], started="2026.13.40 25:00:00").occurred_at == NOW


@pytest.mark.parametrize(
    ("word", "statuses"),
    [
        ("CLEAR", [OK]),
        ("WARNING", [WARNING]),
        ("CRITICAL", [CRITICAL]),
        ("UNDEFINED", [UNKNOWN]),
        ("UNINITIALIZED", []),
    ],
)
def test_statuses_of_netdata(word: str, statuses: list[Status]) -> None:
    found = netdata.read(_given(host="h", check="disk.full", status=word, output="o"))

    assert found == [CheckResult("h", "disk.full", status, "o", NOW) for status in statuses]


def test_an_alarm_that_netdata_removes_is_no_longer_checked() -> None:
    found = netdata.read(_given(host="h", check="disk.full", status="REMOVED", output="97 %"))

    assert found == [CheckResult("h", "disk.full", OK, "no longer checked", NOW)]


def test_alerts_of_mon() -> None:
    environ = {"MON_GROUP": "g", "MON_SERVICE": "ping", "MON_LAST_SUMMARY": "down: a"}

    def told(kind: str) -> list[CheckResult]:
        return mon.read(_given(environ={**environ, "MON_ALERTTYPE": kind}))

    assert told("failure") == [CheckResult("g", "ping", CRITICAL, "down: a", NOW)]
    assert told("up") == [CheckResult("g", "ping", OK, "", NOW)]
    assert told("startup") == told("ack") == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"WHAT": "SERVICE", "SERVICESTATE": "WARNING"}, [("disk", WARNING)]),
        ({"WHAT": "HOST", "HOSTSTATE": "DOWN"}, [("host", CRITICAL)]),
        ({"WHAT": "HOST", "HOSTSTATE": "UNREACH"}, [("host", UNKNOWN)]),
        ({"WHAT": "SERVICE", "NOTIFICATIONTYPE": "FLAPPINGSTART"}, []),
        (
            {"WHAT": "SERVICE", "SERVICESTATE": "OK", "NOTIFICATIONTYPE": "FLAPPINGSTOP"},
            [("disk", OK)],
        ),
        (
            {"WHAT": "HOST", "HOSTSTATE": "UP", "NOTIFICATIONTYPE": "DOWNTIMECANCELLED"},
            [("host", OK)],
        ),
        ({"WHAT": "SERVICE", "NOTIFICATIONTYPE": "ALERTHANDLER (OK)"}, []),
    ],
)
def test_notifications_of_checkmk(
    values: dict[str, str], expected: list[tuple[str, Status]]
) -> None:
    call = {"HOSTNAME": "h", "SERVICEDESC": "disk", "NOTIFICATIONTYPE": "PROBLEM", **values}
    call |= {"SERVICEOUTPUT": "o", "LONGSERVICEOUTPUT": "l\\nm", "LASTSERVICESTATE": "OK"}

    found = checkmk.read(_given(environ={f"NOTIFY_{name}": text for name, text in call.items()}))

    assert [(result.check, result.status) for result in found] == expected
    assert all(result.output == "o\nl\nm" for result in found if result.check == "disk")


@pytest.mark.parametrize(
    ("read", "options", "said"),
    [
        (checkmk.read, {}, "NOTIFY_WHAT"),
        (checkmk.read, {"environ": {"NOTIFY_WHAT": "HOST"}}, "NOTIFY_HOSTNAME"),
        (icinga2.read, {"host": "h", "check": "c", "status": "x"}, "expected a state, got 'X'"),
        (monit.read, {}, "MONIT_SERVICE"),
        (monit.read, {"environ": {"MONIT_SERVICE": "s"}}, "MONIT_EVENT"),
        (collectd.read, {}, "a notification of collectd on stdin"),
        (collectd.read, {"read_stdin": lambda: b"Severity: X\n\n"}, "Severity: expected OKAY"),
        (collectd.read, {"read_stdin": lambda: b"Severity: OKAY\n\n"}, "--check, or a Plugin"),
        (zabbix.read, {}, "expected --output MESSAGE"),
        (zabbix.read, {"output": "value: 1"}, "a line `host: {HOST.HOST}`"),
        (zabbix.read, {"output": "host: {HOST.HOST}\ncheck: c"}, "a line `host: {HOST.HOST}`"),
        (zabbix.read, {"output": _ZABBIX.format("", "", "")}, "{EVENT.VALUE}"),
        (zabbix.read, {"output": _ZABBIX.format(1, 9, 0)}, "{EVENT.NSEVERITY}"),
        (netdata.read, {}, "--status"),
        (netdata.read, {"status": "x"}, "expected CLEAR"),
        (netdata.read, {"status": "CLEAR", "host": "h"}, "--check"),
        (mon.read, {}, "MON_ALERTTYPE"),
        (mon.read, {"event": "up", "host": "g"}, "MON_SERVICE"),
    ],
)
def test_every_agents_call_says_what_is_missing(
    read: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(FormatError, match=re.escape(said)):
        read(_given(**options))
