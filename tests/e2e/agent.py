"""A real agent, headless on loopback, with a site of flipbell, a room and checks to flip."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
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
    is_binary = False  # whether every problem is CRITICAL for it
    downtime_begun = ""  # what it logs then; "" if it knows no downtime
    flapping_begun = ""
    is_root_allowed = True

    def __init__(self, home: Path, room: HipChatRoom) -> None:
        self.home = home
        self.room = room
        base = home / "a site"
        base.mkdir(parents=True)
        self.site = Site(base)
        self.site.channel(room.url, format="text", message="$status: $check on $host", per_minute=0)
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
        for pid in [*self.processes(), *self.site.couriers()]:
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

    def order(self, command: str) -> None:
        """Give it an external command, as its operator does."""
        raise NotImplementedError

    def logged(self) -> str:
        """Return what it has logged."""
        return (self.home / "log").read_text(errors="replace")

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
