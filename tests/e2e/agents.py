"""Real agents, headless on loopback, each configured by the shipped drop-in and nothing of its own.

What is written here is what an admin has already: hosts, services, intervals. The check is a script
whose status a test writes into a file.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from e2e.agent import HOST, Agent

_TIMES = "".join(
    f"  {day} 00:00-24:00\n"
    for day in ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
)


def free_port() -> int:
    """Return a free port; Zabbix' agent takes none above 32767, where the kernel's begin."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port


def _order(pipe: Path, command: str) -> None:
    """Write an external command, which Nagios and Icinga read alike, to a pipe."""
    with pipe.open("wb", buffering=0) as file:
        file.write(f"[{time.time():.0f}] {command}\n".encode())


class Nagios(Agent):
    """Nagios Core: a service for each of the drop-in's ways."""

    name = "nagios"
    programs = ("nagios4",)
    wrapped = True
    told = ("told", "obsessed", "handled")
    downtime_begun = "SERVICE DOWNTIME ALERT: web-01;told;STARTED"
    flapping_begun = "SERVICE FLAPPING ALERT: web-01;told;STARTED"

    def configure(self) -> None:
        """Write nagios.cfg and the objects that an admin has."""
        files = ["log_file", "object_cache_file", "precached_object_file", "status_file"]
        files += ["lock_file", "temp_file", "state_retention_file", "query_socket", "command_file"]
        lines = [f"{key}={self.home}/nagios.{key}" for key in files]
        (self.home / "spool").mkdir()
        lines += [
            f"cfg_file={self.write('flipbell.cfg', self.drop_in('flipbell.cfg'))}",
            f"cfg_file={self.write('objects.cfg', self._objects())}",
            f"check_result_path={self.home}/spool",
            f"nagios_user={self.user}",
            f"nagios_group={os.getegid()}",
            "interval_length=1",
            "check_result_reaper_frequency=1",
            "service_check_timeout=4",
            "service_check_timeout_state=u",
            "illegal_macro_output_chars=`~$&|'\"<>",
            "illegal_object_name_chars=`~!$%^&*|'\"<>?,()=",
            "check_external_commands=1",
            "enable_flap_detection=1",
            "obsess_over_services=1",
            "ocsp_command=flipbell-service",
        ]
        self.write("nagios.cfg", "\n".join(lines) + "\n")

    def _objects(self) -> str:
        return f"""
define timeperiod {{
  timeperiod_name 24x7
  alias always
{_TIMES}}}
define command {{
  command_name flip
  command_line {self.check} $ARG1$
}}
define host {{
  host_name {HOST}
  address 127.0.0.1
  max_check_attempts 1
  contacts flipbell
}}
define service {{
  name every-second
  register 0
  host_name {HOST}
  contacts flipbell
  notification_period 24x7
  check_period 24x7
  check_interval 1
  retry_interval 1
  max_check_attempts 1
  notification_interval 0
  notifications_enabled 0
  obsess 0
  flap_detection_enabled 0
  low_flap_threshold 44
  high_flap_threshold 45
}}
define service {{
  use every-second
  service_description wrapped
  check_command flipbell-check!{self.check} wrapped
}}
define service {{
  use every-second
  service_description told
  check_command flip!told
  notifications_enabled 1
  flap_detection_enabled 1
}}
define service {{
  use every-second
  service_description obsessed
  check_command flip!obsessed
  obsess 1
}}
define service {{
  use every-second
  service_description handled
  check_command flip!handled
  event_handler flipbell-service
}}
"""

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["nagios4", str(self.home / "nagios.cfg")]

    def order(self, command: str) -> None:
        """Write to its command file."""
        _order(self.home / "nagios.command_file", command)

    def logged(self) -> str:
        """Return its log file."""
        return (self.home / "nagios.log_file").read_text(errors="replace")


class Nrpe(Agent):
    """NRPE with a wrapped check, which check_nrpe asks for as Nagios would."""

    name = "nrpe"
    programs = ("nrpe", "/usr/lib/nagios/plugins/check_nrpe", "unshare")
    wrapped = True
    told = ()
    is_root_allowed = False

    def configure(self) -> None:
        """Write nrpe.cfg; NRPE gives its checks an environment of its own."""
        self._port = free_port()
        places = f"--state '{self.site.state}' --config '{self.site.config}'"
        self._ended = threading.Event()
        drop_in = self.drop_in("flipbell.cfg").replace(
            "run --check disk", f"run {places} --host {HOST} --check wrapped"
        )
        self.write(
            "nrpe.cfg",
            f"server_address=127.0.0.1\nserver_port={self._port}\nallowed_hosts=127.0.0.1\n"
            f"nrpe_user={self.user}\nnrpe_group={pwd.getpwnam(self.user).pw_gid}\n"
            f"command_timeout=4\npid_file={self.home}/nrpe.pid\n{drop_in}",
        )

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["nrpe", "-c", str(self.home / "nrpe.cfg"), "-f"]

    def start(self) -> None:
        """Start it, and ask for the check all the time."""
        super().start()
        self._ended = threading.Event()
        threading.Thread(target=self._ask, args=(self._ended,), daemon=True).start()

    def end(self, number: int) -> None:
        """End it, and ask no more."""
        self._ended.set()
        super().end(number)

    def clear(self) -> None:
        """End what a failed test leaves, its questions too."""
        self._ended.set()
        super().clear()

    def _ask(self, ended: threading.Event) -> None:
        plugin, port = self.programs[1], str(self._port)
        while not ended.wait(0.7):
            command = [plugin, "-H", "127.0.0.1", "-p", port, "-c", "check_disk", "-t", "10"]
            subprocess.run(command, check=False, capture_output=True)


class Icinga(Agent):
    """Icinga 2: a service for each of the drop-in's ways."""

    name = "icinga2"
    programs = ("icinga2",)
    wrapped = True
    told = ("told", "handled")
    downtime_begun = "Executing external command"
    flapping_begun = "Checking filters for type 'FlappingStart'"

    def configure(self) -> None:
        """Write icinga2.conf and the objects that an admin has."""
        (self.home / "run" / "icinga2").mkdir(parents=True)
        every = "check_interval = 1s\n  retry_interval = 1s\n  max_check_attempts = 1"
        service = f'host_name = "{HOST}"\n  {every}\n  check_timeout = 5s\n  volatile = false'
        plugin = f'vars.flipbell_plugin = [ "{self.check}", "wrapped" ]'
        self.write("flipbell.conf", self.drop_in("flipbell.conf"))
        self.write(
            "icinga2.conf",
            f"""
include <itl>
object CheckerComponent "checker" {{}}
object NotificationComponent "notification" {{}}
object ExternalCommandListener "command" {{
  command_path = "{self.home}/icinga.command"
}}
include "{self.home}/flipbell.conf"
object CheckCommand "flip" {{
  command = [ "{self.check}", "$service.name$" ]
}}
object Host "{HOST}" {{
  check_command = "dummy"
}}
object Service "wrapped" {{
  check_command = "flipbell-check"
  {plugin}
  {service}
}}
object Service "told" {{
  check_command = "flip"
  vars.flipbell = true
  enable_flapping = true
  flapping_threshold_low = 44
  flapping_threshold_high = 45
  {service}
}}
object Service "handled" {{
  check_command = "flip"
  event_command = "flipbell-event"
  {service}
}}
""",
        )

    def command(self) -> list[str]:
        """Return what starts it."""
        places = {"DataDir": "data", "LogDir": "log.d", "InitRunDir": "run", "CacheDir": "cache"}
        places["SpoolDir"] = "spool"
        for place in places.values():
            (self.home / place).mkdir(exist_ok=True)
        words = [f"-D{key}={self.home}/{place}" for key, place in places.items()]
        group = subprocess.check_output(["id", "-gn"], encoding="ascii").strip()
        words += [f"-DConfiguration.RunAsUser={self.user}", f"-DConfiguration.RunAsGroup={group}"]
        return ["icinga2", "daemon", "-c", str(self.home / "icinga2.conf"), *words]

    def order(self, command: str) -> None:
        """Write to its command pipe."""
        _order(self.home / "icinga.command", command)


class Monit(Agent):
    """Monit: one program wrapped, one whose actions are flipbell's."""

    name = "monit"
    programs = ("monit",)
    wrapped = True

    def configure(self) -> None:
        """Write monitrc."""
        drop_in = self.drop_in("flipbell").replace("timeout 30 seconds", "timeout 4 seconds")
        drop_in = drop_in.replace("program disk", "program wrapped")
        drop_in = drop_in.replace("--check disk", f"--host {HOST} --check wrapped")
        drop_in = drop_in.replace("program load", "program told")
        own = "".join(
            f"set {key} {self.home}/monit.{key}\n" for key in ("statefile", "idfile", "pidfile")
        )
        self.write("monitrc", f"set daemon 1\n{own}{drop_in}", 0o600)

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["monit", "-I", "-c", str(self.home / "monitrc")]


class Collectd(Agent):
    """collectd: a check plugin becomes notifications, which flipbell hears."""

    name = "collectd"
    programs = ("collectd", "unshare")
    hung = "CRITICAL"  # collectd knows no UNKNOWN
    is_root_allowed = False

    def configure(self) -> None:
        """Write collectd.conf."""
        drop_in = self.drop_in("flipbell.conf").replace('"nobody"', f'"{self.user}"')
        self.write(
            "collectd.conf",
            f'Hostname "{HOST}"\nBaseDir "{self.home}"\nPIDFile "{self.home}/collectd.pid"\n'
            f"Interval 1\n{drop_in}",
        )

    def environ(self) -> dict[str, str]:
        """Return its environment; a check has less time than usual."""
        return {**super().environ(), "CHECK_TIMEOUT": "4"}

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["collectd", "-f", "-C", str(self.home / "collectd.conf")]

    def known_as(self, check: str) -> str:
        """Return the check's own name."""
        return "told" if check == "disk/check" else check


class Sauna(Agent):
    """sauna, in whose process flipbell is."""

    name = "sauna"
    programs = (str(Path(sys.executable).parent / "sauna"),)

    def configure(self) -> None:
        """Write sauna.yml; sauna itself lets a check hang for ever."""
        self.write("conf.d/flipbell.yml", self.drop_in("flipbell.yml"))
        self.write(
            "sauna.yml",
            f"""
hostname: {HOST}
periodicity: 1
include: {self.home}/conf.d/*.yml
plugins:
  - type: Command
    checks:
      - type: command
        name: told
        command: timeout 4 {self.check} told
""",
        )

    def command(self) -> list[str]:
        """Return what starts it."""
        return [self.programs[0], "--config", str(self.home / "sauna.yml")]

    def known_as(self, check: str) -> str:
        """Return the check's own name, before which sauna puts its plugin's."""
        return check.removeprefix("command_")


class Zabbix(Agent):
    """Zabbix' agent with a wrapped UserParameter, which a server would ask for."""

    name = "zabbix"
    programs = ("zabbix_agentd", "unshare")
    wrapped = True
    told = ()
    is_root_allowed = False

    def configure(self) -> None:
        """Write zabbix_agentd.conf; a check has less time than usual."""
        self._port = free_port()
        self._ended = threading.Event()
        drop_in = self.drop_in("flipbell.conf")
        drop_in = drop_in.replace("--check disk", f"--host {HOST} --check wrapped")
        self.write("zabbix_agentd.conf.d/flipbell.conf", drop_in)
        self.write(
            "zabbix_agentd.conf",
            f"Server=127.0.0.1\nListenIP=127.0.0.1\nListenPort={self._port}\n"
            f"LogType=console\nPidFile={self.home}/zabbix_agentd.pid\nUser={self.user}\n"
            f"Timeout=4\nInclude={self.home}/zabbix_agentd.conf.d/*.conf\n",
        )

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["zabbix_agentd", "-f", "-c", str(self.home / "zabbix_agentd.conf")]

    def start(self) -> None:
        """Start it, and ask for the item all the time."""
        super().start()
        self._ended = threading.Event()
        threading.Thread(target=self._ask, args=(self._ended,), daemon=True).start()

    def end(self, number: int) -> None:
        """End it, and ask no more."""
        self._ended.set()
        super().end(number)

    def clear(self) -> None:
        """End what a failed test leaves, its questions too."""
        self._ended.set()
        super().clear()

    def _ask(self, ended: threading.Event) -> None:
        while not ended.wait(0.7):
            try:
                value = zabbix_value(self._port, "flipbell.disk")
            except OSError:
                # The agent is about to start, or was killed.
                continue
            with (self.home / "values").open("a") as file:
                file.write(f"{value}\n")


def zabbix_value(port: int, key: str) -> str:
    """Return an item's value, as a server of Zabbix asks an agent for it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"ZBXD\x01" + len(key).to_bytes(8, "little") + key.encode())
        answer = b""
        while block := connection.recv(65536):
            answer += block
    return answer[13:].decode()


class SimpleMonitor(Agent):
    """SimpleMonitor, whose command monitor fails and recovers."""

    name = "simplemonitor"
    programs = ("simplemonitor",)
    hung = "CRITICAL"
    is_binary = True

    def configure(self) -> None:
        """Write monitor.ini and monitors.ini; SimpleMonitor itself lets a check hang for ever."""
        drop_in = self.drop_in("flipbell.ini").replace("{hostname}", HOST)
        self.write(
            "monitor.ini", f"[monitor]\ninterval=1\nmonitors={self.home}/monitors.ini\n{drop_in}"
        )
        self.write("monitors.ini", f"[told]\ntype=command\ncommand=timeout 4 {self.check} told\n")

    def command(self) -> list[str]:
        """Return what starts it."""
        path = shutil.which(self.programs[0])
        assert path is not None
        return [path, "-H", "-f", str(self.home / "monitor.ini")]


AGENTS: tuple[type[Agent], ...] = (
    *(Nagios, Nrpe, Icinga, Monit, Collectd, Sauna),
    *(Zabbix, SimpleMonitor),
)
