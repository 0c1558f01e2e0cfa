"""The short cut of `report` reads a call as the whole command line does, or leaves it alone."""

from __future__ import annotations

import random

import pytest

from flipbell import report
from flipbell.agents import FormatError, Given, built_in, glance
from flipbell.cli import _parser

STATUSES = ["OK", "CRITICAL", "ok", "2", "42", "-1", "UP", "DOWN", "UNREACH", ""]
OCCASIONS = ["", "PROBLEM", "RECOVERY", "ACKNOWLEDGEMENT", "FLAPPINGSTOP", "problem"]
STATE_TYPES = ["", "HARD", "SOFT", "soft"]
EVENTS = ["Status failed", "Status changed", "Status not changed", "Timeout", "Exists", ""]
OPTIONS = {
    "host": ["h", ""],
    "check": ["disk", "host", ""],
    "status": STATUSES,
    "output": ["o", ""],
    "type": [*OCCASIONS, *EVENTS],
    "state-type": STATE_TYPES,
}
OF_STATES = {
    "HOSTNAME": ["web", ""],
    "SERVICEDESC": ["load", "host", ""],
    "NOTIFICATIONTYPE": OCCASIONS,
    "SERVICESTATE": STATUSES,
    "HOSTSTATE": STATUSES,
    "SERVICESTATETYPE": STATE_TYPES,
    "HOSTSTATETYPE": STATE_TYPES,
}
VARIABLES = {
    "nagios": {f"NAGIOS_{name}": values for name, values in OF_STATES.items()},
    "icinga2": {f"ICINGA_{name}": values for name, values in OF_STATES.items()},
    "mackerel-agent": {"MACKEREL_STATUS": STATUSES, "MACKEREL_CHECK_MESSAGE": ["m"]},
    "monit": {
        "MONIT_SERVICE": ["s", ""],
        "MONIT_EVENT": EVENTS,
        "MONIT_PROGRAM_STATUS": ["2", "0", *STATUSES],
        "MONIT_HOST": ["web", ""],
    },
    "plain": {},
}


ROUNDS = 4000


def _some(chance: random.Random, values: dict[str, list[str]]) -> dict[str, str]:
    """Return most of the names, each with one of its values, the plain one most often."""
    names = [name for name in values if chance.random() < 0.7]
    return {name: chance.choice([values[name][0], *values[name]]) for name in names}


def _given(options: dict[str, str], environ: dict[str, str]) -> Given:
    return Given(
        host=options.get("host"),
        check=options.get("check"),
        status=options.get("status"),
        output=options.get("output"),
        event=options.get("type"),
        state_type=options.get("state-type"),
        environ=environ,
        this_host="here",
        now=1.0,
    )


@pytest.mark.parametrize("format_", VARIABLES)
def test_a_glance_says_what_the_format_says(format_: str) -> None:
    chance = random.Random(format_)
    read = built_in(format_)
    assert read is not None
    plain = 0
    for _ in range(ROUNDS):
        options, environ = _some(chance, OPTIONS), _some(chance, VARIABLES[format_])

        seen = glance.glance(format_, options, environ)

        if seen is not None:
            plain += 1
            (result,) = read(_given(options, environ))
            host, check, status = seen
            expected = (result.host, result.check, result.status.value)
            assert (host or "here", check, status) == expected, (options, environ)
    assert plain > ROUNDS / 100


@pytest.mark.parametrize("format_", VARIABLES)
@pytest.mark.parametrize("status", ["OK", "WARNING", "CRITICAL", "UNKNOWN"])
def test_a_plain_call_is_seen_at_a_glance(format_: str, status: str) -> None:
    options = {"host": "h", "check": "c", "status": status, "output": "o"}
    number = str(glance._STATUSES[status])
    environ = {"MACKEREL_STATUS": status, "MONIT_SERVICE": "s", "MONIT_EVENT": "Status failed"}

    seen = glance.glance(format_, options, {**environ, "MONIT_PROGRAM_STATUS": number})

    assert seen == ("h", "c", int(number))


def test_what_reads_stdin_is_not_seen_at_a_glance() -> None:
    for name in ("json", "sensu", "collectd", "consul", "no-such-format"):
        assert glance.glance(name, {"check": "c", "status": "OK"}, {}) is None
    assert glance.glance("plain", {"check": "c", "status": "OK"}, {}) is None


NAMES = ["host", "check", "time", "output", "state-type", "from", "config", "echo"]
VALUES = ["", "a", "5", "1.5", "-1", "-x", "- x", "--host", "nan", "a=b"]
ODD = ["--", "-h", "-x", "word", "--stat=1", "--host", "-1"]


def _words(chance: random.Random) -> list[str]:
    name, value = chance.choice(NAMES), chance.choice(VALUES)
    forms = [[f"--{name}={value}"], [f"--{name}", value], [chance.choice(ODD)]]
    return chance.choices(forms, weights=[3, 3, 1])[0]


def test_options_are_read_as_argparse_reads_them() -> None:
    chance = random.Random("options")
    whole = _parser(["report"])
    read = 0
    for _ in range(ROUNDS):
        arguments = [word for _ in range(chance.randrange(4)) for word in _words(chance)]

        options = report.parse(arguments)

        if options is not None:
            read += 1
            expected = vars(whole.parse_args(["report", *arguments]))  # exits, if it refuses them
            assert not expected["echo"]
            expected |= {"from": expected["format"], "state-type": expected["state_type"]}
            for name in report._OPTIONS - {"time"}:
                assert options.get(name) == expected[name], arguments
            time = float(options["time"]) if "time" in options else None
            assert str(expected["time"]) == str(time)
    assert read > ROUNDS / 100


def test_a_format_error_is_none_at_a_glance() -> None:
    read = built_in("nagios")
    assert read is not None

    with pytest.raises(FormatError):
        read(_given({"host": "h", "check": "c", "status": "ok?"}, {}))
    assert glance.glance("nagios", {"host": "h", "check": "c", "status": "ok?"}, {}) is None
