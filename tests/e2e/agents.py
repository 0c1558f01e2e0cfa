"""Real agents, headless on loopback, each configured by the shipped drop-in and nothing of its own.

What is written here is what an admin has already: hosts, services, intervals. The check is a script
whose status a test writes into a file.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from conftest import FLIPBELL, NOBODY, Site, until

if TYPE_CHECKING:
    from hipchat_room import HipChatRoom

HOST = "web-01"
# In the place of the drop-ins' examples, an admin writes checks of their own.
EXAMPLES = (
    "/usr/lib/nagios/plugins/check_disk -w 20% -c 10% -p /",
    '"/usr/lib/nagios/plugins/check_disk" "-w" "20%" "-c" "10%" "-p" "/"',
)
OTHER_EXAMPLE = "/usr/lib/nagios/plugins/check_load -w 5 -c 10"
_CHECK = """\
#!/bin/sh
read -r status < "{home}/status"
echo "$status" >> "{home}/runs.$1"
case $status in
    hang) exec sleep 600 ;;
    slow) sleep 2; status=2 ;;
esac
echo "FLIP is $status"
exit "$status"
"""


# Binds what another user may not reach (a Python in root's home) into directories that all may
# enter, in a name space of its own. Arguments: a place to keep things in meanwhile, and pairs of a
# closed directory and what is needed in it.
_REACHABLE = """\
kept=$1
shift
mkdir -p "$kept"
mount -t tmpfs none "$kept"
number=0
for word; do
    shift
    [ "$word" = -- ] && break
    number=$((number + 1))
    [ $((number % 2)) = 1 ] && closed=$word && continue
    mkdir "$kept/$number"
    mount --rbind "$word" "$kept/$number"
    eval "closed_$number=\\$closed needed_$number=\\$word"
done
while [ "$number" -gt 0 ]; do
    eval "closed=\\$closed_$number needed=\\$needed_$number"
    [ -e "$closed/.opened" ] || mount -t tmpfs -o mode=0755 none "$closed"
    : >"$closed/.opened"
    mkdir -p "$needed"
    mount --rbind "$kept/$number" "$needed"
    number=$((number - 2))
done
exec "$@"
"""


def reachable(kept: Path) -> list[str]:
    """Return the start of a command that lets any user run the flipbell that is tested."""
    pairs = []
    for needed in (sys.base_prefix, sys.prefix):
        for directory in reversed(Path(needed).parents):
            if not directory.stat().st_mode & 0o001:
                pairs += [str(directory), needed]
                break
    if not pairs:
        return []
    return ["unshare", "--mount", "sh", "-ec", _REACHABLE, "sh", str(kept), *pairs, "--"]


class Agent:
    """An agent with a site of flipbell, a room that hears it, and checks to flip."""

    name = ""  # its folder in hooks/
    programs: tuple[str, ...] = ()
    wrapped = False  # whether it has a check that `flipbell run` wraps, named "wrapped"
    told: tuple[str, ...] = ("told",)  # checks of which it tells flipbell itself
    hung = "UNKNOWN"  # what the agent says of a check that it had to kill
    is_root_allowed = True

    def __init__(self, home: Path, room: HipChatRoom) -> None:
        self.home = home
        self.room = room
        base = home / "a site"
        base.mkdir(parents=True)
        self.site = Site(base)
        self.site.channel(room.url, format="text", message="$status: $check on $host")
        self.check = home / "check"
        self.check.write_text(_CHECK.format(home=home))
        self.check.chmod(0o755)
        for name in self.checks:
            (home / f"runs.{name}").touch()
            (home / f"runs.{name}").chmod(0o666)
        self.flip("0")
        self._process: subprocess.Popen[bytes] | None = None
        if self.is_another_user:
            self._give_to_nobody()
        self.configure()

    def _give_to_nobody(self) -> None:
        self.home.chmod(0o777)
        for path in (self.site.base, *self.site.base.rglob("*")):
            os.chown(path, NOBODY, -1)
        as_nobody = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"]
        subprocess.run(
            [*reachable(self.home / "kept"), *as_nobody, FLIPBELL, "--version"],
            check=True,
            env=self.environ(),
            capture_output=True,
        )

    @property
    def checks(self) -> list[str]:
        """The names of its checks."""
        return ["wrapped"] * self.wrapped + list(self.told)

    @property
    def user(self) -> str:
        """Whom it runs checks as."""
        return "nobody" if self.is_another_user else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def is_another_user(self) -> bool:
        """Whether that is another user than the test's."""
        return os.geteuid() == 0 and not self.is_root_allowed

    def configure(self) -> None:
        """Write its configuration."""

    def command(self) -> list[str]:
        """Return what starts it in the foreground."""
        raise NotImplementedError

    def drop_in(self, *file: str) -> str:
        """Return what `flipbell hooks` prints, with the checks of this test."""
        done = self.site.flipbell("hooks", self.name, *file)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode()
        assert FLIPBELL in text or "flipbell" in file[0]
        text = text.replace(EXAMPLES[0], f"{self.check} wrapped")
        text = text.replace(EXAMPLES[1], f'"{self.check}" "told"')
        return text.replace(OTHER_EXAMPLE, f"{self.check} told")

    def write(self, name: str, content: str, mode: int = 0o644) -> Path:
        """Write a file of its configuration."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def environ(self) -> dict[str, str]:
        """Return the little that a service manager gives to an agent."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "FLIPBELL_STATE": str(self.site.state),
            "FLIPBELL_CONFIG": str(self.site.config),
            "LEAVES_NOTHING_IN": str(self.home),
        }

    def start(self) -> None:
        """Start it."""
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*(reachable(self.home / "kept") if self.is_another_user else []), *self.command()],
                cwd="/",
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, number: int) -> None:
        """End it by a signal, SIGKILL with all of its process group, as a crash does."""
        assert self._process is not None
        if number == signal.SIGKILL:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)
        self._process.wait(20)

    def clear(self) -> None:
        """End what a failed test leaves."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def flip(self, status: str) -> None:
        """Have the checks give another status from their next run on."""
        new = self.home / "status.new"
        new.write_text(f"{status}\n")
        new.replace(self.home / "status")

    def runs(self, check: str) -> list[str]:
        """Return what a check was to say in each of its runs; the last may still be under way."""
        return (self.home / f"runs.{check}").read_text().split()

    def wait_for_runs(self, count: int) -> None:
        """Wait until each check has begun anew that often."""
        before = {check: len(self.runs(check)) for check in self.checks}
        self.wait(
            lambda: all(len(self.runs(check)) >= before[check] + count for check in self.checks)
        )

    def wait_for_runs_as(self, status: str, count: int) -> None:
        """Wait until each check has begun that often to say a status."""
        self.wait(lambda: all(self.runs(check).count(status) >= count for check in self.checks))

    def wait(self, condition: object, timeout: float = 60.0) -> None:
        """Wait until a condition is true; show the agent's log where it never is."""
        assert callable(condition)
        try:
            until(condition, timeout)
        except AssertionError as error:
            log = (self.home / "log").read_text(errors="replace")[-3000:]
            raise AssertionError(f"{error}; heard {self.heard()}; the log ends:\n{log}") from None

    def heard(self) -> dict[str, list[str]]:
        """Return what the room heard of each check."""
        found: dict[str, list[str]] = {check: [] for check in self.checks}
        for heard in list(self.room.heard):
            what = str(heard.body["message"]).partition(": ")[2].partition(" on ")[0]
            found.setdefault(self.known_as(what), []).append(heard.status)
        return found

    def known_as(self, check: str) -> str:
        """Return the check's own name for the name by which the room heard of it."""
        return check

    def wait_to_hear(self, status: str) -> None:
        """Wait until the last that the room heard of each check is a status."""
        self.wait(lambda: all(told[-1:] == [status] for told in self.heard().values()))

    def processes(self) -> list[int]:
        """Return what is left of it, couriers aside."""
        couriers = self.site.couriers()
        mark = os.fsencode(self.home)
        found = []
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            try:
                traces = Path(f"/proc/{pid}/environ").read_bytes()
                traces += Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if mark in traces and pid not in couriers:
                found.append(pid)
        return found


_TIMES = "".join(
    f"  {day} 00:00-24:00\n"
    for day in ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
)


class Nagios(Agent):
    """Nagios Core: a service for each of the drop-in's ways."""

    name = "nagios"
    programs = ("nagios4",)
    wrapped = True
    told = ("told", "obsessed", "handled")

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
            "check_external_commands=0",
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


class Nrpe(Agent):
    """NRPE with a wrapped check, which check_nrpe asks for as Nagios would."""

    name = "nrpe"
    programs = ("nrpe", "/usr/lib/nagios/plugins/check_nrpe", "unshare")
    wrapped = True
    told = ()
    is_root_allowed = False

    def configure(self) -> None:
        """Write nrpe.cfg; NRPE gives its checks an environment of its own."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
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


AGENTS: tuple[type[Agent], ...] = (Nagios, Nrpe, Icinga, Monit, Collectd, Sauna)
