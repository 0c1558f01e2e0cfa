"""`flipbell hooks`, and every drop-in as an agent would take it."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from conftest import FLIPBELL, shipped, until

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom

FOLDERS = sorted(folder for folder in shipped("hooks").iterdir() if folder.is_dir())
FILES = [file for folder in FOLDERS for file in sorted(folder.iterdir()) if file.is_file()]
DROP_INS = [file for file in FILES if file.name != "README.md" and file.suffix != ".pyc"]
SCRIPTS = [file for file in DROP_INS if file.read_text().startswith("#!")]


def _id(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


@pytest.fixture(autouse=True)
def _no_courier(site: Site) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"


_known: dict[tuple[str, ...], str] = {}


def _printed(site: Site, *arguments: str) -> str:
    """Return what `flipbell hooks` prints, which is the same for every site."""
    if arguments not in _known:
        done = site.flipbell("hooks", *arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        _known[arguments] = done.stdout.decode()
    return _known[arguments]


def _results(site: Site) -> list[str]:
    if not (site.state / "spool").exists():
        return []
    lines = (site.state / "spool").read_text().splitlines()[1:]
    return [line.split("\t", 1)[1] for line in lines]


def test_lists_every_folder(site: Site) -> None:
    listed = [line.split()[0] for line in _printed(site).splitlines()]

    assert listed == [folder.name for folder in FOLDERS]


@pytest.mark.parametrize("file", DROP_INS, ids=_id)
def test_prints_this_installations_own_path(site: Site, file: Path) -> None:
    said = _printed(site, file.parent.name, file.name)

    assert "/usr/local/bin/flipbell" not in said
    assert "/usr/local/share" not in said
    if "/usr/local/bin/flipbell" in file.read_text():
        assert FLIPBELL in said


def test_a_path_with_a_space_is_quoted_as_each_place_needs_it(site: Site) -> None:
    link = site.base / "flipbell"  # in "a site"
    link.symlink_to(FLIPBELL)

    def printed(*arguments: str) -> str:
        done = subprocess.run(
            [str(link), "hooks", *arguments], env=site.environ, check=True, capture_output=True
        )
        return done.stdout.decode()

    nrpe = printed("nrpe").splitlines()[-1].partition("=")[2]
    mackerel = [line for line in printed("mackerel-agent").splitlines() if "command = [" in line]
    sensu = json.loads(printed("sensu-core"))["handlers"]["flipbell"]["command"]

    assert shlex.split(nrpe)[0] == str(link)
    assert f'["{link}", "run"' in mackerel[0]
    assert shlex.split(sensu) == [str(link), "report", "--from", "sensu"]
    assert f'[ "{link}", "report"' in printed("icinga2")
    assert f'"nobody" "{link}" "report"' in printed("collectd", "flipbell.conf")


def test_installs_and_never_overwrites(site: Site) -> None:
    done = site.flipbell("hooks", "checkmk", "--install", str(site.base), umask=0o077)

    assert done.returncode == 0
    assert (site.base / "mrpe.cfg").read_text() == _printed(site, "checkmk", "mrpe.cfg")
    assert os.access(site.base / "flipbell", os.X_OK)
    assert (site.base / "flipbell").stat().st_mode & 0o777 == 0o755
    again = site.flipbell("hooks", "checkmk", "--install", str(site.base))
    assert again.returncode == 2
    assert b"exists; nothing was written" in again.stderr


def test_installs_one_file(site: Site) -> None:
    done = site.flipbell("hooks", "zabbix", "message.txt", "--install", str(site.base))

    assert done.returncode == 0
    assert (site.base / "message.txt").exists()
    assert not (site.base / "flipbell").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nagois"], "no hook for nagois; there are: alertmanager"),
        (["nagios", "x.cfg"], "nagios has no x.cfg; there are: flipbell.cfg"),
        (["nagios", "--install", "/nonexistent"], "no such directory; make it first"),
        (["--install", "/tmp"], "expected an agent"),
    ],
)
def test_a_wrong_call(site: Site, arguments: list[str], said: str) -> None:
    done = site.flipbell("hooks", *arguments)

    assert done.returncode == 2
    assert said in done.stderr.decode()


@pytest.mark.parametrize(
    "file", [*SCRIPTS, shipped("hooks/collectd/check-to-notification")], ids=_id
)
def test_a_script_is_one_for_any_shell(site: Site, file: Path) -> None:
    subprocess.run(
        ["sh", "-n"], input=_printed(site, file.parent.name, file.name).encode(), check=True
    )

    assert os.access(file, os.X_OK)


@pytest.mark.parametrize("file", DROP_INS, ids=_id)
def test_a_drop_in_is_written_in_its_language(site: Site, file: Path) -> None:
    text = _printed(site, file.parent.name, file.name)

    if file.suffix == ".json":
        json.loads(text)
    elif file.suffix in (".yml", ".yaml"):
        assert yaml.safe_load(text)
    elif file.suffix == ".py":
        ast.parse(text)
    elif file.suffix == ".ini":
        parser = configparser.RawConfigParser()
        parser.read_string(text)
        assert parser.sections() == ["reporting", "flipbell"]
        assert parser["reporting"]["alerters"] == "flipbell"
    elif file.parent.name in ("telegraf", "mackerel-agent"):
        tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
        assert tomllib.loads(text)
    else:
        assert text.isprintable() or "\n" in text


def test_no_two_agents_install_the_same_web_script() -> None:
    names = [file.name for file in DROP_INS if file.suffix == ".cgi"]

    assert len(names) == len(set(names)) == 2


def _page(agent: str) -> str:
    return (shipped("hooks") / agent / "README.md").read_text()


AGENTS = [folder.name for folder in FOLDERS if folder.name not in ("pluggy", "systemd")]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_page_shows_init_with_all_that_it_requires(agent: str) -> None:
    shown = re.findall(r"`flipbell init([^`…]*)`", _page(agent))

    assert shown
    assert all("--url https://hipchat.example.com --room 4242" in options for options in shown)


_RUN = ("The tests run ", "with calls that ", "recorded", "with a stub", "without", "not tried")


@pytest.mark.parametrize("agent", AGENTS)
def test_a_page_tells_what_was_run_on_the_real_program(agent: str) -> None:
    last = _page(agent).partition("```")[0].rpartition("\n- ")[2]

    assert any(words in last for words in _RUN), last


def _script(site: Site, agent: str, name: str) -> Path:
    path = site.base / "script"
    path.write_text(_printed(site, agent, name))
    path.chmod(0o755)
    return path


def _call(site: Site, script: Path, *arguments: str, **options: Any) -> Any:
    environ = {**site.environ, **options.pop("environ", {})}
    return subprocess.run(
        [str(script), *arguments], env=environ, check=False, capture_output=True, **options
    )


@pytest.mark.parametrize(
    ("agent", "file", "body", "expected"),
    [
        (
            "alertmanager",
            "flipbell-alertmanager.cgi",
            {"alerts": [{"status": "firing", "labels": {"alertname": "A", "instance": "h"}}]},
            "2\th\tA\t",
        ),
        (
            "mackerel-webhook",
            "flipbell-mackerel.cgi",
            {"event": "alert", "orgName": "o", "alert": {"monitorName": "m", "status": "warning"}},
            "1\to\tm\t",
        ),
    ],
)
def test_a_webhooks_body_is_recorded_before_it_is_answered(
    site: Site, agent: str, file: str, body: object, expected: str
) -> None:
    script = _script(site, agent, file)
    content = json.dumps(body).encode()
    environ = {"CONTENT_LENGTH": str(len(content))}

    answer = _call(site, script, input=content + b"more than the body", environ=environ)
    assert answer.stdout == b"Status: 204 No Content\r\n\r\n"
    assert _results(site) == [expected]

    answer = _call(site, script, input=b"nonsense", environ=environ)
    assert answer.stdout.startswith(b"Status: 500 ")


def test_a_webhook_that_cannot_be_recorded_is_to_be_sent_again(site: Site) -> None:
    script = _script(site, "alertmanager", "flipbell-alertmanager.cgi")
    site.state.write_text("in the way")
    content = b'{"alerts": []}'
    labels = b'{"alerts": [{"status": "firing", "labels": {"alertname": "A"}}]}'

    def status(body: bytes) -> bytes:
        answer = _call(site, script, input=body, environ={"CONTENT_LENGTH": str(len(body))})
        return bytes(answer.stdout.split()[1])

    assert status(content) == b"204"  # nothing to record
    assert status(labels) == b"500"


def test_netdatas_positional_arguments(site: Site) -> None:
    script = _script(site, "netdata", "flipbell-notify")
    words = ["root", "web-01", "1", "2", "3", "1795400000", "full", "disk._", "disk", "CRITICAL"]
    words += ["CLEAR", "97", "80", "4@a.conf", "10", "0", "%", "disk space usage"]
    words += [""] * (29 - len(words))

    done = _call(site, script, *words)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert _results(site) == ["2\tweb-01\tdisk._.full\tdisk space usage: 97 %"]
    assert (site.state / "spool").read_text().splitlines()[1].startswith("+1795400000")


def _zabbix_message(site: Site, **values: str) -> str:
    """Return the message that Zabbix makes of the template; unknown macros stay as they are."""
    message = _printed(site, "zabbix", "message.txt")
    for macro, value in values.items():
        message = message.replace(f"{{{macro.replace('_', '.')}}}", value)
    return message


def _zabbix_event(
    value: str, began: float, ended: float | None = None, **values: str
) -> dict[str, str]:
    """Return the macros of an event; the times are in a zone that is not this machine's."""

    def moment(prefix: str, seconds: float) -> dict[str, str]:
        date, clock = time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime(seconds + 20700)).split()
        return {f"{prefix}DATE": date, f"{prefix}TIME": clock}

    macros = {"HOST_HOST": "h", "EVENT_NAME": "/: 97% full", "EVENT_ID": "4711", "TRIGGER_ID": "17"}
    macros |= {"EVENT_VALUE": value, "EVENT_NSEVERITY": "4", "EVENT_UPDATE_STATUS": "0"}
    macros |= moment("", time.time()) | moment("EVENT_", began)
    return macros | (moment("EVENT_RECOVERY_", ended) if ended else {}) | values


def test_zabbix_message_template(site: Site) -> None:
    began = int(time.time()) - 60
    script = _script(site, "zabbix", "flipbell")

    for macros in (
        _zabbix_event("1", began, EVENT_OPDATA="-3% left"),
        _zabbix_event("0", began, began + 1, EVENT_OPDATA="-3% left"),
    ):
        done = _call(site, script, _zabbix_message(site, **macros))
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    text = "-3% left\\nZabbix event 4711\\n"
    assert _results(site) == [f"{code}\th\t/: 97% full #17\t{text}" for code in "20"]
    lines = (site.state / "spool").read_text().splitlines()[1:]
    assert [int(line.split("\t")[0]) // 1_000_000 for line in lines] == [began, began + 1]


def test_alerts_of_zabbix_that_overtake_each_other(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    script = _script(site, "zabbix", "flipbell")
    now = int(time.time())

    def at_once(*events: dict[str, str]) -> None:
        """Run the script for each event, as Zabbix' alerters do, and deliver."""
        words = [[str(script), _zabbix_message(site, **macros)] for macros in events]
        processes = [subprocess.Popen(each, env=site.environ) for each in words]
        assert [process.wait(20) for process in processes] == [0] * len(events)
        site.deliver()

    at_once(*(_zabbix_event("1", now - 60, TRIGGER_ID=each) for each in "123"))
    at_once(_zabbix_event("0", now - 60, now - 30, TRIGGER_ID="1"))
    late = _zabbix_event("1", now - 40, TRIGGER_ID="1")
    at_once(late)

    assert hipchat_room.statuses == ["CRITICAL"] * 3 + ["OK"]
    failing = {check["check"] for check in site.status()["failing"]}
    assert failing == {"/: 97% full #2", "/: 97% full #3"}


def test_mons_alert_leaves_stdin_alone(site: Site) -> None:
    reading, writing = os.pipe()  # which never ends
    environ = {"MON_GROUP": "g", "MON_SERVICE": "s", "MON_ALERTTYPE": "failure"}

    done = _call(
        site, _script(site, "mon", "flipbell.alert"), "-s", "s", stdin=reading, environ=environ
    )
    os.close(reading)
    os.close(writing)

    assert (done.returncode, done.stderr) == (0, b"")
    assert _results(site) == ["2\tg\ts\t"]


def test_checkmk_tries_again_only_what_could_not_be_recorded(site: Site) -> None:
    script = _script(site, "checkmk", "flipbell")
    environ = {"NOTIFY_WHAT": "HOST", "NOTIFY_HOSTNAME": "h", "NOTIFY_HOSTSTATE": "DOWN"}

    assert _call(site, script, environ=environ).returncode == 0
    assert _results(site) == ["2\th\thost\t"]
    (site.state / "spool").unlink()
    site.state.rename(site.base / "away")
    site.state.write_text("in the way")
    assert _call(site, script, environ=environ).returncode == 1


def test_a_local_check_of_checkmk(site: Site) -> None:
    text = _printed(site, "checkmk", "flipbell_disk")
    plugin = "/usr/lib/nagios/plugins/check_disk -w 20% -c 10% -p /"
    assert plugin in text
    script = site.base / "script"
    script.write_text(text.replace(plugin, "sh -c 'echo \"DISK ODD|a=1\"; echo more; exit 42'"))
    script.chmod(0o755)

    done = _call(site, script)

    assert (done.returncode, done.stdout, done.stderr) == (0, b'3 "disk" - DISK ODD\n', b"")


def test_simplemonitors_command_is_split_as_it_means(site: Site) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(_printed(site, "simplemonitor"))
    for key, status in (("fail_command", "2"), ("success_command", "0")):
        words = shlex.split(parser["flipbell"][key].format(hostname="h", name="a disk", info="'"))
        subprocess.run(words, env=site.environ, check=True)
        assert _results(site)[-1] == f"{status}\th\ta disk\t"


class _AgentCheck:
    """What monasca-agent and the Datadog Agent give their checks, as far as the drop-ins use it."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.agent_config = {"hostname": "h"}

    def gauge(self, name: str, value: float, dimensions: object) -> None:
        """Take a metric."""
        self.said.append((name, value, dimensions))

    def service_check(self, name: str, status: int, **more: Any) -> None:
        """Take a service check."""
        self.said.append((name, status, more))


_PYTHON_AGENTS = {
    "monasca-agent": ("flipbell_check.py", "FlipbellCheck", "flipbell_check.yaml"),
    "datadog-agent": ("flipbell_plugins.py", "FlipbellPlugins", "conf.yaml"),
}
_AGENT_CHECKS = {
    "monasca-agent": "monasca_agent.collector.checks",
    "datadog-agent": "datadog_checks.base",
}


@pytest.mark.parametrize("agent", _PYTHON_AGENTS)
def test_check_plugins_in_a_python_agent(
    site: Site, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    file, name, configuration = _PYTHON_AGENTS[agent]
    for variable in ("FLIPBELL_STATE", "FLIPBELL_CONFIG", "FLIPBELL_COURIER"):
        monkeypatch.setenv(variable, site.environ[variable])
    parts = _AGENT_CHECKS[agent].split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(
            sys.modules,
            ".".join(parts[:end]),
            SimpleNamespace(AgentCheck=_AgentCheck),
        )
    from flipbell.agents import agent_check

    monkeypatch.setattr(agent_check, "_bells", [])
    scope: dict[str, Any] = {}
    exec(_printed(site, agent, file), scope)
    check = scope[name]()
    configured = yaml.safe_load(_printed(site, agent, configuration))
    assert {"name", "command", "timeout"} == configured["instances"][0].keys()

    check.check({"name": "odd", "command": ["sh", "-c", "printf 'a\\377'; exit 42"]})
    check.check({"name": "slow", "command": ["sh", "-c", "sleep 600 & wait"], "timeout": 0.2})
    check.check({"name": "gone", "command": ["/nonexistent"]})
    check.check({"name": "fine", "command": ["echo", "DISK OK"]})
    until(lambda: len(_results(site)) == 4)
    agent_check._bells[0].stop(0.0)

    assert [said[1] for said in check.said] == [3, 3, 3, 0]
    if agent == "datadog-agent":
        messages = [said[2]["message"] for said in check.said]
        assert [bool(message) for message in messages] == [True, True, True, False]
    assert sorted(line.split("\t")[:3] for line in _results(site)) == [
        ["0", "h", "fine"],
        ["3", "h", "gone"],
        ["3", "h", "odd"],
        ["3", "h", "slow"],
    ]


def test_what_a_datadog_check_says_itself_is_told_and_passed_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FLIPBELL_STATE", "FLIPBELL_CONFIG", "FLIPBELL_COURIER"):
        monkeypatch.setenv(name, site.environ[name])
    from flipbell.agents import agent_check

    monkeypatch.setattr(agent_check, "_bells", [])

    class Disk(agent_check.FlipbellMixin, _AgentCheck):
        pass

    check = Disk()
    odd = SimpleNamespace(value=2)
    check.service_check("disk.full", odd, tags=["b:2", "a:1"], message="3% free")
    check.service_check("disk.full", "nonsense", hostname="other", message=None)
    until(lambda: len(_results(site)) == 2)
    agent_check._bells[0].stop(0.0)

    assert [said[:2] for said in check.said] == [("disk.full", odd), ("disk.full", "nonsense")]
    assert _results(site) == [
        "2\th\tdisk.full{a:1,b:2}\t3% free",
        "3\tother\tdisk.full\t",
    ]
