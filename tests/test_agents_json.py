"""Agent formats in JSON: events, lists of checks, and the bodies of webhooks."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from flipbell.agents import (
    FormatError,
    Given,
    alertmanager,
    consul,
    mackerel_webhook,
    sensu,
)
from flipbell.model import Status

NOW = 1_795_400_000.0
OK, WARNING, CRITICAL, UNKNOWN = Status


def _given(**values: Any) -> Given:
    return Given(**{"this_host": "here", "now": NOW, **values})


def _sensu_event(**values: Any) -> dict[str, Any]:
    check = {"name": "c", "status": 2, "output": "o", "executed": 5, "duration": 0.5}
    return {"client": {"name": "h"}, "check": check, "action": "create", **values}


def _sensu_go_event(**values: Any) -> dict[str, Any]:
    check = {"metadata": {"name": "c"}, "status": 1, "output": "o", "state": "failing"}
    return {"entity": {"metadata": {"name": "h"}}, "check": {**check, **values}}


@pytest.mark.parametrize(
    ("event", "statuses"),
    [
        (_sensu_event(), [CRITICAL]),
        (_sensu_event(occurrences=7), [CRITICAL]),
        (_sensu_event(silenced=True), []),
        (_sensu_event(action="flapping"), []),
        (_sensu_go_event(), [WARNING]),
        (_sensu_go_event(status=0, state="passing"), [OK]),
        (_sensu_go_event(status=-1), [UNKNOWN]),
        (_sensu_go_event(state="flapping"), []),
        (_sensu_go_event(is_silenced=True), []),
        (_sensu_go_event(is_silenced=True, status=0), [OK]),
        ({"entity": {}, "metrics": {}}, []),
    ],
)
def test_events_of_sensu(event: dict[str, Any], statuses: list[Status]) -> None:
    found = sensu.read(_given(read_stdin=json.dumps(event).encode))

    assert [result.status for result in found] == statuses
    assert {(result.host, result.check) for result in found} <= {("h", "c")}


def test_a_sensu_result_is_as_old_as_the_end_of_its_check() -> None:
    found = sensu.read(_given(read_stdin=json.dumps(_sensu_event()).encode))

    assert found[0].occurred_at == 5.5


def test_checks_of_consul() -> None:
    def check(name: str, status: str) -> dict[str, str]:
        return {"Node": "n", "CheckID": name, "Name": "Disk", "Status": status, "Output": "o"}

    checks = [check("service:web", "critical"), check("disk", "passing"), check("x", "warning")]
    checks += [check("_node_maintenance", "critical"), check("y", "maintenance")]

    found = consul.read(_given(read_stdin=json.dumps(checks).encode))

    assert [(result.host, result.check, result.status) for result in found] == [
        ("n", "service:web", CRITICAL),
        ("n", "disk", OK),
        ("n", "x", WARNING),
    ]
    assert consul.read(_given(read_stdin=lambda: b"null")) == []


def _alert(status: str = "firing", **labels: str) -> dict[str, Any]:
    return {"status": status, "labels": {"alertname": "Full", **labels}, "annotations": {}}


@pytest.mark.parametrize(
    ("alert", "expected"),
    [
        (_alert(), ("here", "Full", CRITICAL)),
        (_alert(instance="web:9100"), ("web:9100", "Full", CRITICAL)),
        (_alert(host="h", node="n"), ("h", "Full{node=n}", CRITICAL)),
        (_alert(severity="warning"), ("here", "Full{severity=warning}", WARNING)),
        (_alert(severity="page", job="a"), ("here", "Full{job=a,severity=page}", CRITICAL)),
        (_alert("resolved", severity="page"), ("here", "Full{severity=page}", OK)),
    ],
)
def test_alerts_of_alertmanager(alert: dict[str, Any], expected: tuple[str, str, Status]) -> None:
    body = {"version": "4", "alerts": [alert, _alert("resolved", device="sda")]}

    first, second = alertmanager.read(_given(read_stdin=json.dumps(body).encode))

    assert (first.host, first.check, first.status) == expected
    assert (second.check, second.status) == ("Full{device=sda}", OK)


def _mackerel(status: str, **values: Any) -> dict[str, Any]:
    alert = {"monitorName": "loadavg5", "status": status, "isOpen": True, "url": "http://a"}
    return {"event": "alert", "orgName": "org", "alert": alert, "message": "m", **values}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (_mackerel("critical", host={"name": "app01"}), [("app01", CRITICAL)]),
        (_mackerel("warning", service={"name": "shop"}), [("shop", WARNING)]),
        (_mackerel("unknown"), [("org", UNKNOWN)]),
        (_mackerel("ok"), [("org", OK)]),
        (
            _mackerel("x", alert={"monitorName": "m", "isOpen": False, "status": "critical"}),
            [("org", OK)],
        ),
        ({"event": "sample", "message": "hello"}, []),
        ({"event": "hostRetire", "host": {}}, []),
    ],
)
def test_webhooks_of_mackerel(body: dict[str, Any], expected: list[tuple[str, Status]]) -> None:
    found = mackerel_webhook.read(_given(read_stdin=json.dumps(body).encode))

    assert [(result.host, result.status) for result in found] == expected


def _stdin(value: object) -> dict[str, Any]:
    return {"read_stdin": json.dumps(value).encode}


@pytest.mark.parametrize(
    ("read", "options", "said"),
    [
        (sensu.read, _stdin([]), "an event of Sensu"),
        (sensu.read, _stdin({"check": {"status": True}}), "check: expected an object"),
        (sensu.read, _stdin({"check": {"status": 1}}), "the names of a client or an entity"),
        (consul.read, _stdin({}), "expected the list of checks"),
        (consul.read, _stdin([5]), "expected an object for each check"),
        (consul.read, _stdin([{"Node": "n"}]), "expected Node and CheckID"),
        (consul.read, _stdin([{"Node": "n", "CheckID": "c", "Status": "x"}]), "Status of c"),
        (alertmanager.read, _stdin([]), "an Alertmanager webhook"),
        (alertmanager.read, _stdin({"alerts": [5]}), "labels: expected an object"),
        (alertmanager.read, _stdin({"alerts": [{"labels": {}}]}), "firing or resolved"),
        (mackerel_webhook.read, _stdin([]), "a Mackerel webhook"),
        (mackerel_webhook.read, _stdin({"event": "alert"}), "alert: expected an object"),
        (mackerel_webhook.read, _stdin({"event": "alert", "alert": {}}), "alert.monitorName"),
        (mackerel_webhook.read, _stdin(_mackerel("x")), "alert.status: expected OK"),
    ],
)
def test_every_agents_json_says_what_is_missing(
    read: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(FormatError, match=re.escape(said)):
        read(_given(**options))
