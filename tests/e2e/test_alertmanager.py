"""Alertmanager with lighttpd and with nginx, set up by the shipped drop-in and Debian's modules."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import Process, until
from e2e.agents import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Site
    from hipchat_room import HipChatRoom

_CGI_MODULE = Path("/etc/lighttpd/conf-available/10-cgi.conf")
_LIGHTTPD = """\
server.document-root = "{base}/html"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{base}/lighttpd.log"
server.modules = ( "mod_alias" )
"""
_NGINX = """\
daemon off;
master_process off;
pid "{base}/nginx.pid";
error_log "{base}/nginx.log";
events {{}}
http {{
    access_log off;
    client_body_temp_path "{base}/body";
    fastcgi_temp_path "{base}/fastcgi";
    proxy_temp_path "{base}/proxy";
    scgi_temp_path "{base}/scgi";
    uwsgi_temp_path "{base}/uwsgi";
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""
# An operator's own; the defaults are half a minute and more.
_INTERVALS = "  group_wait: 500ms\n  group_interval: 500ms\n  repeat_interval: 500ms\n"


class Alertmanager:
    """An Alertmanager whose webhook is the script in a web server."""

    programs = ("prometheus-alertmanager", "lighttpd", "nginx", "fcgiwrap")

    def __init__(self, site: Site) -> None:
        self._site = site
        self._base = site.base
        self._port, self._web_port = free_port(), free_port()
        self._write_script()
        self._write_lighttpd()
        self._write_nginx()
        self._write_receiver()

    def _printed(self, file: str) -> str:
        done = self._site.flipbell("hooks", "alertmanager", file)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def _write_script(self) -> None:
        """Install the script; CGI has an environment of its own."""
        (self._base / "cgi-bin").mkdir()
        installed = self._site.flipbell(
            "hooks",
            "alertmanager",
            "flipbell-alertmanager.cgi",
            "--install",
            str(self._base / "cgi-bin"),
        )
        assert installed.returncode == 0
        script = self._base / "cgi-bin" / "flipbell-alertmanager.cgi"
        places = f"--state '{self._site.state}' --config '{self._site.config}'"
        script.write_text(script.read_text().replace(" report ", f" report {places} "))

    def _write_lighttpd(self) -> None:
        """Write what a lighttpd has, with the CGI module as Debian enables it."""
        (self._base / "html").mkdir()
        module = _CGI_MODULE.read_text().replace("/usr/lib/cgi-bin", f"{self._base}/cgi-bin")
        own = _LIGHTTPD.format(base=self._base, port=self._web_port)
        (self._base / "lighttpd.conf").write_text(own + module)

    def _write_nginx(self) -> None:
        location = self._printed("nginx.conf")
        for there, here in (
            ("fastcgi_params", "/etc/nginx/fastcgi_params"),
            (
                "/usr/lib/cgi-bin/flipbell-alertmanager.cgi",
                f'"{self._base}/cgi-bin/flipbell-alertmanager.cgi"',
            ),
            ("unix:/run/fcgiwrap.socket", f'"unix:{self._base}/fcgi"'),
        ):
            assert there in location
            location = location.replace(there, here)
        text = _NGINX.format(base=self._base, port=self._web_port, location=location)
        (self._base / "nginx.conf").write_text(text)

    def _write_receiver(self) -> None:
        text = self._printed("alertmanager.yml")
        text = text.replace("http://127.0.0.1/", f"http://127.0.0.1:{self._web_port}/")
        text = text.replace("  receiver: flipbell\n", f"  receiver: flipbell\n{_INTERVALS}", 1)
        (self._base / "alertmanager.yml").write_text(text)

    def commands(self, web_server: str) -> list[list[str]]:
        """Return what starts Alertmanager and a web server in the foreground."""
        alertmanager = [
            "prometheus-alertmanager",
            f"--config.file={self._base}/alertmanager.yml",
            f"--storage.path={self._base}/alertmanager",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--cluster.listen-address=",
        ]
        if web_server == "lighttpd":
            return [alertmanager, ["lighttpd", "-D", "-f", str(self._base / "lighttpd.conf")]]
        nginx = ["nginx", "-c", str(self._base / "nginx.conf")]
        return [alertmanager, ["fcgiwrap", "-s", f"unix:{self._base}/fcgi"], nginx]

    def is_ready(self) -> bool:
        """Return whether it takes alerts, and the web server takes its calls."""
        try:
            self._open("/-/ready")
            socket.create_connection(("127.0.0.1", self._web_port), timeout=10).close()
        except OSError:
            return False
        return True

    def post(self, *checks: str, ended: bool = False, summary: str = "97% full") -> None:
        """Send alerts as Prometheus does, those that have ended with their time."""
        alert: dict[str, Any] = {"annotations": {"summary": summary}}
        if ended:
            alert["endsAt"] = datetime.now(timezone.utc).isoformat()
        labels = [{"alertname": check, "instance": "web-01"} for check in checks]
        self._open("/api/v2/alerts", json.dumps([{**alert, "labels": each} for each in labels]))

    def count(self, metric: str) -> int:
        """Return one of Alertmanager's counters for its webhooks."""
        text = self._open("/metrics")
        value = re.search(rf'^{metric}{{integration="webhook"}} (\d+)$', text, re.MULTILINE)
        assert value is not None
        return int(value[1])

    def _open(self, path: str, content: str | None = None) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            None if content is None else content.encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture(params=["lighttpd", "nginx"])
def alertmanager(
    request: pytest.FixtureRequest,
    site: Site,
    hipchat_room: HipChatRoom,
    tool: Callable[[str], str],
) -> Iterator[Alertmanager]:
    """An Alertmanager at work, whose alerts a room hears."""
    for program in Alertmanager.programs:
        tool(program)
    site.channel(hipchat_room.url)
    manager = Alertmanager(site)
    with contextlib.ExitStack() as processes:
        log = processes.enter_context((site.base / "log").open("wb"))
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        for command in manager.commands(request.param):
            processes.enter_context(Process(command, **quiet))
        until(manager.is_ready)
        yield manager


def test_a_problem_and_its_recovery_are_told_once(
    alertmanager: Alertmanager, hipchat_room: HipChatRoom
) -> None:
    alertmanager.post("disk", "load")
    hipchat_room.wait_for(2)
    alertmanager.post("disk", ended=True)
    hipchat_room.wait_for(3)
    posts = alertmanager.count("alertmanager_notifications_total")
    until(lambda: alertmanager.count("alertmanager_notifications_total") >= posts + 2)

    assert hipchat_room.statuses == ["CRITICAL", "CRITICAL", "OK"]
    assert "disk" in str(hipchat_room.heard[2].body["message"])
    assert alertmanager.count("alertmanager_notifications_failed_total") == 0


def test_what_could_not_be_recorded_is_sent_again(
    alertmanager: Alertmanager, site: Site, hipchat_room: HipChatRoom
) -> None:
    site.state.write_text("in the way")
    alertmanager.post("disk")
    until(lambda: alertmanager.count("alertmanager_notification_requests_failed_total") >= 1)
    assert hipchat_room.statuses == []

    site.state.unlink()
    hipchat_room.wait_for(1)

    assert hipchat_room.statuses == ["CRITICAL"]


def test_a_group_of_more_than_a_mebibyte_is_told_whole(
    alertmanager: Alertmanager, site: Site, hipchat_room: HipChatRoom
) -> None:
    checks = [f"check-{number}" for number in range(1200)]
    alertmanager.post(*checks, summary="x" * 1000)
    until(lambda: len(site.status()["failing"]) == len(checks), timeout=60)
    hipchat_room.wait_for(1)

    assert {check["check"] for check in site.status()["failing"]} == set(checks)
    assert alertmanager.count("alertmanager_notifications_failed_total") == 0
