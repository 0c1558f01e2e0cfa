"""`flipbell report` and `flipbell stream`: silent when all is well, clear when it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from conftest import AS_MODULE, FLIPBELL, Process, until
from hipchat_room import Answer

if TYPE_CHECKING:
    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog


@pytest.fixture(autouse=True)
def _no_courier(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"


def _lines(site: Site) -> list[str]:
    return [line.split("\t", 1)[1] for line in (site.state / "spool").read_text().splitlines()[1:]]


def test_prints_nothing_once_it_is_recorded(site: Site) -> None:
    arguments = ["--check", "disk", "--host", "h", "--status", "CRITICAL"]

    done = site.flipbell("report", *arguments, stdin="DISK CRITICAL\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert _lines(site) == ["2\th\tdisk\tDISK CRITICAL\\n"]


def test_output_as_an_argument_leaves_stdin_alone(site: Site) -> None:
    reading, writing = os.pipe()  # a stdin that never ends
    arguments = ["--check", "c", "--host", "h", "--status", "1", "--output", "o", "--time", "5"]

    with Process([FLIPBELL, "report", *arguments], env=site.environ, stdin=reading) as process:
        assert process.wait(9) == 0
    os.close(reading)
    os.close(writing)

    assert _lines(site) == ["1\th\tc\to"]


@pytest.mark.parametrize(("status", "code"), [("CRITICAL", 2), ("0", 0), ("42", 42), ("255", 255)])
def test_echo_is_a_check_plugin_at_the_end_of_a_pipe(site: Site, status: str, code: int) -> None:
    arguments = ["--echo", "--check", "c", "--status", status]

    done = site.flipbell("report", *arguments, stdin=b"raw \xff bytes\n")

    assert (done.returncode, done.stdout, done.stderr) == (code, b"raw \xff bytes\n", b"")


def test_echo_with_nothing_to_echo_could_not_check(site: Site) -> None:
    done = site.flipbell("report", "--echo", "--status", "0")

    assert (done.returncode, done.stderr) == (3, b"")
    assert done.stdout == b"UNKNOWN - flipbell: expected --check NAME\n"


def test_echo_answers_although_nothing_can_be_recorded(site: Site) -> None:
    site.state.write_text("in the way")

    done = site.flipbell("report", "--echo", "--check", "c", "--status", "1", stdin="o\n")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"o\n", b"")


def test_says_why_it_could_not_be_recorded(site: Site) -> None:
    site.state.write_text("in the way")

    done = site.flipbell("report", "--check", "c", "--status", "1")

    assert done.returncode == 2
    assert f"state directory {site.state}: not a directory" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "nagois"], "--from nagois: expected one of alertmanager, checkmk, collectd"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        ([], "expected JSON, or --status: got none"),
    ],
)
def test_a_wrong_call(site: Site, arguments: list[str], said: str) -> None:
    done = site.flipbell("report", *arguments)

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stdout == b""


def test_mackerel_agents_environment(site: Site) -> None:
    site.environ.update(MACKEREL_STATUS="WARNING", MACKEREL_CHECK_MESSAGE="msg\n")

    done = site.flipbell("report", "--from", "mackerel-agent", "--check", "c", "--host", "h")

    assert (done.returncode, done.stderr) == (0, b"")
    assert _lines(site) == ["1\th\tc\tmsg\\n"]


def test_what_is_no_result_is_recorded_nowhere(site: Site) -> None:
    done = site.flipbell("report", "--from", "nagios", "--type", "ACKNOWLEDGEMENT")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not site.state.exists()


def test_a_long_list_on_stdin_is_read_whole(site: Site) -> None:
    checks = [
        {"Node": "n", "CheckID": f"check-{number}", "Status": "critical", "Output": "x" * 4000}
        for number in range(500)  # 2 MB, as a watch of Consul may give
    ]

    done = site.flipbell("report", "--from", "consul", stdin=json.dumps(checks))

    assert (done.returncode, done.stderr) == (0, b"")
    assert len(_lines(site)) == 500


def _consul(site: Site, *checks: tuple[str, str], **options: Any) -> None:
    """Give a watch's list of checks, each with its status."""
    items = [{"Node": "n", "CheckID": name, "Status": status} for name, status in checks]
    done = site.flipbell(
        "report", "--from", "consul", "--complete", stdin=json.dumps(items), **options
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_missing_from_a_complete_list_is_no_longer_checked(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    _consul(site, ("gone", "critical"), ("kept", "warning"), ("fine", "passing"))
    site.deliver()

    _consul(site, ("kept", "warning"))
    _consul(site, ("kept", "warning"))
    site.deliver()

    assert [str(heard.body["message"]).split("<br>")[-1] for heard in hipchat_room.heard[2:]] == [
        "no longer checked"
    ]
    assert sorted(hipchat_room.statuses) == ["CRITICAL", "OK", "WARNING"]
    assert [check["check"] for check in site.status()["failing"]] == ["kept"]


def test_what_is_missing_before_a_courier_took_it_is_no_longer_checked(site: Site) -> None:
    _consul(site, ("gone", "critical"), ("other", "critical"))
    _consul(site, ("other", "passing"))
    _consul(site, ("other", "passing"))

    assert _lines(site) == [
        "2\tn\tgone\t",
        "2\tn\tother\t",
        "0\tn\tother\t",
        "0\tn\tgone\tno longer checked",
        "0\tn\tother\t",  # no courier has made a stamp of it
    ]


def test_an_empty_list_ends_no_incident(site: Site) -> None:
    _consul(site, ("a", "critical"))
    before = _lines(site)

    _consul(site)

    assert _lines(site) == before


def test_a_state_that_cannot_be_read_is_no_empty_one(site: Site, syslog: Syslog) -> None:
    _consul(site, ("a", "critical"))
    (site.state / "ledger").write_bytes(b"no database" * 400)
    checks = [{"Node": "n", "CheckID": "b", "Status": "passing"}]

    done = site.flipbell("report", "--from", "consul", "--complete", stdin=json.dumps(checks))

    assert done.returncode == 2
    assert b"--complete: " in done.stderr
    syslog.wait_for("report --complete: ")
    assert _lines(site)[-1] == "0\tn\tb\t"


def test_why_a_notifier_could_not_report_is_logged(site: Site, syslog: Syslog) -> None:
    done = site.flipbell("report", "--from", "collectd")

    assert done.returncode == 2
    syslog.wait_for("report: expected a notification of collectd on stdin")


def test_stdin_closed(site: Site) -> None:
    script = f"'{FLIPBELL}' report --check c --host h --status 2 <&-"

    done = subprocess.run(
        ["sh", "-c", script], env=site.environ, check=False, capture_output=True, timeout=20
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert _lines(site) == ["2\th\tc\t"]


def _stream(site: Site, *items: Any) -> list[dict[str, Any]]:
    stdin = b"\n".join(
        item if isinstance(item, bytes) else json.dumps(item).encode() for item in items
    )
    done = site.flipbell("stream", stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_stream_answers_each_line_in_order(site: Site) -> None:
    answers = _stream(
        site,
        {"id": 1, "check": "c", "host": "h", "status": 2},
        b"nonsense",
        b"",
        {"id": {"any": "thing"}, "check": "c", "host": "h", "status": 2},
        {"id": 3, "check": "c"},
        {"check": "c", "host": "h", "status": "OK"},
    )

    assert answers[0] == {"id": 1, "result": "recorded"}
    assert answers[1]["error"].startswith("expected JSON")
    assert answers[2] == {"id": {"any": "thing"}, "result": "unchanged"}
    assert answers[3]["id"] == 3
    assert answers[3]["error"].startswith("status: expected")
    assert answers[4] == {"result": "recorded"}
    assert len(_lines(site)) == 2


def test_stream_answers_while_stdin_is_open(site: Site) -> None:
    with Process(
        [FLIPBELL, "stream"], env=site.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for status, answer in ((0, b"recorded"), (0, b"unchanged"), (1, b"recorded")):
            process.stdin.write(b'{"check": "c", "status": %d}\n' % status)
            process.stdin.flush()
            assert process.stdout.readline() == b'{"result": "%b"}\n' % answer
        process.stdin.close()
        assert process.wait(20) == 0


def test_stream_says_what_could_not_be_recorded_and_goes_on(site: Site) -> None:
    site.state.write_text("in the way")
    good = {"id": 1, "check": "c", "status": 2}

    answers = _stream(site, good, {"id": 2}, good)

    assert [answer["id"] for answer in answers] == [1, 2, 1]
    assert "not recorded: " in answers[0]["error"]


@pytest.mark.parametrize("number", ["1e305", "1" + "0" * 400, "NaN", "-1e20"])
def test_stream_survives_any_time(site: Site, number: str) -> None:
    line = f'{{"id": 1, "check": "c", "status": 2, "occurred_at": {number}}}'.encode()

    answers = _stream(site, line, {"id": 2, "check": "d", "status": 2})

    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"] == "recorded"


@pytest.mark.parametrize("number", ["nan", "inf", "-1e18"])
def test_report_survives_any_time(site: Site, number: str) -> None:
    arguments = ["--echo", "--check", "c", "--status", "1", "--output", "o", f"--time={number}"]

    done = site.flipbell("report", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (1, b"o\n", b"")
    assert len(_lines(site)) == 1


def test_stream_starts_a_courier_again_that_was_killed(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    del site.environ["FLIPBELL_COURIER"]
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    with Process(
        [FLIPBELL, "stream"], env=site.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def send() -> None:
            stdin.write(b'{"check": "c", "status": 2}\n')
            stdin.flush()
            stdout.readline()

        send()
        hipchat_room.wait_for_requests(1)
        for courier in site.couriers():
            os.kill(courier, signal.SIGKILL)
        hipchat_room.otherwise = Answer()

        def is_told() -> bool:  # by unchanged results, and the look that comes each second
            send()
            return bool(hipchat_room.heard)

        until(is_told)
        stdin.close()
        process.wait(10)


def test_stream_goes_on_where_the_death_of_children_is_ignored(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    del site.environ["FLIPBELL_COURIER"]
    command = [*AS_MODULE, "stream"]
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    options["preexec_fn"] = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Process(command, env=site.environ, **options) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, status in enumerate((2, 1)):
            process.stdin.write(json.dumps({"check": "c", "status": status}).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b'{"result": "recorded"}\n'
            hipchat_room.wait_for(number + 1)
            until(lambda: not site.couriers())


def test_stream_refuses_a_line_without_end(site: Site) -> None:
    answers = _stream(site, b"x" * 3_000_000, {"id": 1, "check": "c", "status": 2})

    assert all("error" in answer for answer in answers[:-1])


def test_a_stream_that_starts_delivers_what_was_left(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer()
    site.run("disk", 2)
    assert hipchat_room.heard == []
    del site.environ["FLIPBELL_COURIER"]

    assert _stream(site) == []

    hipchat_room.wait_for(1)
