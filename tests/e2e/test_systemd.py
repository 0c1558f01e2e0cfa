"""A real systemd: what the shipped units deliver, when a unit ends at once, and without them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from conftest import until
from e2e.container import FLIPBELL, TOOLS, Container, cached_system, install_flipbell
from hipchat_room import TOKEN, Answer, HipChatServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from hipchat_room import HipChatRoom

CHECK = """\
#!/bin/sh
read -r status </run/status
echo run >>/run/runs
echo "FLIP is $status"
exit "$status"
"""
# As Checkmk ships them.
CHECKMK_SOCKET = """\
[Socket]
ListenStream=6556
Accept=true
MaxConnectionsPerSource=3
"""
CHECKMK_SERVICE = """\
[Service]
ExecStart=-/usr/bin/check_mk_agent
Environment='MK_RUN_ASYNC_PARTS=false'
Environment='MK_READ_REMOTE=true'
Type=simple
User=root
StandardInput=socket
"""
CHECKMK_AGENT = f"""\
#!/bin/sh
echo '<<<mrpe>>>'
{FLIPBELL} run --host web-01 --check flip -- /opt/check
"""
POLL = """
import socket
print(socket.create_connection(("127.0.0.1", 6556)).makefile().read())
"""
WRAPPED_SERVICE = f"""\
[Service]
Type=oneshot
User=nagios
SuccessExitStatus=0 1 2 3
ExecStart={FLIPBELL} run --host web-01 --check flip -- /opt/check
"""
WRAPPED_TIMER = """\
[Timer]
OnActiveSec=0
AccuracySec=1ms
"""
JOB_SERVICE = """\
[Unit]
OnFailure=failed@flip.service
OnSuccess=succeeded@flip.service
[Service]
Type=oneshot
ExecStart=/opt/check
"""
NOTIFIER = f"""\
[Service]
Type=oneshot
User=nagios
ExecStart={FLIPBELL} report --host web-01 --check=%i --status=STATUS
StandardInput=null
"""


class System:
    """A booted host with flipbell set up, a room, and a check to flip in units of its own."""

    def __init__(self, container: Container, room: HipChatRoom) -> None:
        self.container = container
        self.room = room
        container.write("/opt/check", CHECK, "755")
        container.write("/root/token", TOKEN, "600")
        container.do("useradd", "--system", "nagios")
        container.write("/run/runs", "", "666")
        self.flip(0)

    def set_up(self, *arguments: str) -> str:
        """Run `flipbell init`; return what it prints."""
        words = ["--url", self.room.url, "--room", "4242", "--token-from", "/root/token"]
        return self.container.do(FLIPBELL, "init", *words, *arguments).stdout.decode()

    def flip(self, status: int) -> None:
        """Have the check end with another status."""
        self.container.write("/run/status", f"{status}\n")

    def runs(self) -> int:
        """Return how often the check has run."""
        return self.container.do("cat", "/run/runs").stdout.count(b"run")

    def add(self, units: Mapping[str, str]) -> None:
        """Write units, by name."""
        for name, content in units.items():
            self.container.write(f"/etc/systemd/system/{name}", content)
        self.container.systemctl("daemon-reload")

    def status(self) -> str:
        """Return what `flipbell status` prints."""
        return self.container.do(FLIPBELL, "status", check=False).stdout.decode()

    def wait_for_units(self) -> None:
        """Wait until no unit that reports results runs, or is about to."""

        def are_at_rest() -> bool:
            jobs = self.container.systemctl("list-jobs", "--no-legend")
            states = "--state=activating,active,deactivating"
            units = ["wrapped.service", "failed@*", "succeeded@*", "check-mk-agent@*"]
            return not jobs and not self.container.systemctl(
                "list-units", "--no-legend", states, *units
            )

        until(are_at_rest)

    def couriers(self) -> bool:
        """Return whether any courier lives."""
        command = "grep -lsz [c]ourier /proc/[0-9]*/cmdline"
        return bool(self.container.do("sh", "-c", command, check=False).stdout)

    def hears(self, *statuses: str) -> None:
        """Wait until the room has heard of statuses, and see that it has heard nothing else."""
        self.room.wait_for(len(statuses))
        until(lambda: not self.couriers())
        assert self.room.statuses == list(statuses)


@pytest.fixture(scope="module")
def root(
    tool: Callable[[str], str],
    built: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Path, Path]]:
    if not request.config.getoption("--agents"):
        pytest.skip("a system is booted only with --agents")
    if os.geteuid() != 0:
        pytest.skip("only root can boot a system")
    for name in TOOLS:
        tool(name)
    flipbell = tmp_path_factory.mktemp("flipbell") / "opt"
    flipbell.mkdir(mode=0o755)
    (wheel,) = built.glob("*.whl")
    install_flipbell(wheel, flipbell)
    with cached_system() as system:
        yield system, flipbell


@pytest.fixture
def system(root: tuple[Path, Path]) -> Iterator[System]:
    container = Container(*root)
    server = HipChatServer()
    try:
        container.in_network(server.__enter__)
        room = server.room()
        yield System(container, room)
        assert room.faults == []
    finally:
        server.__exit__()
        container.stop()


def checkmk(system: System) -> None:
    """Checkmk's agent behind its socket; each connection is a unit that ends with it."""
    system.container.write("/usr/bin/check_mk_agent", CHECKMK_AGENT, "755")
    system.add(
        {"check-mk-agent.socket": CHECKMK_SOCKET, "check-mk-agent@.service": CHECKMK_SERVICE}
    )
    system.container.systemctl("start", "check-mk-agent.socket")


def poll(system: System) -> None:
    """Ask the agent, as Checkmk's server does."""
    status = system.container.do("cat", "/run/status").stdout.decode()
    answer = system.container.do("python3", "-c", POLL).stdout.decode()
    assert f"FLIP is {status}" in answer


def timer(system: System) -> None:
    """A wrapped check in a oneshot unit, which a timer starts."""
    system.add({"wrapped.service": WRAPPED_SERVICE, "wrapped.timer": WRAPPED_TIMER})


def tick(system: System) -> None:
    """Let the timer elapse once."""
    runs = system.runs()
    system.container.systemctl("restart", "wrapped.timer")
    until(lambda: system.runs() > runs)
    system.wait_for_units()


def job(system: System) -> None:
    """A job whose failure and success start units that report it."""
    failed, succeeded = (NOTIFIER.replace("STATUS", status) for status in ("CRITICAL", "OK"))
    units = {"failed@.service": failed, "succeeded@.service": succeeded}
    system.add({"job.service": JOB_SERVICE, **units})


def work(system: System) -> None:
    """Run the job, and wait for the unit that reports how it ended."""
    system.container.do("systemctl", "start", "job.service", check=False)
    system.wait_for_units()


WAYS = {"checkmk": (checkmk, poll), "timer": (timer, tick), "job": (job, work)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["--service", "--no-service"])
def test_a_change_is_told_once_though_its_unit_ends_at_once(
    system: System, way: str, service: str
) -> None:
    install, act = WAYS[way]
    system.set_up("--user", "root" if way == "checkmk" else "nagios", service)
    install(system)

    for status in (0, 2, 2, 0):
        system.flip(status)
        act(system)

    system.hears("CRITICAL", "OK")


@pytest.mark.parametrize("way", ["timer", "job"])
def test_the_service_delivers_when_the_room_is_back_though_no_result_comes(
    system: System, way: str
) -> None:
    install, act = WAYS[way]
    system.set_up("--user", "nagios", "--service")
    install(system)
    system.room.otherwise = Answer(503)
    system.flip(2)

    act(system)
    system.room.wait_for_requests(1)
    system.room.otherwise = Answer()

    system.hears("CRITICAL")
    assert "ended before they had delivered" not in system.status()


@pytest.mark.parametrize("service", ["--service", "--no-service"])
def test_a_unit_that_is_killed_without_a_warning(system: System, service: str) -> None:
    system.set_up("--user", "nagios", service)
    timer(system)
    system.container.write(
        "/etc/systemd/system/wrapped.service.d/kill.conf", "[Service]\nKillSignal=SIGKILL\n"
    )
    system.container.systemctl("daemon-reload")

    for status in (0, 2, 1):
        system.flip(status)
        tick(system)

    if service == "--service":
        system.hears("CRITICAL", "WARNING")
    else:
        until(lambda: not system.couriers())
        assert system.room.heard == []
        assert "couriers ended before they had delivered everything" in system.status()


@pytest.mark.parametrize("way", ["timer", "job"])
def test_without_the_service_status_names_the_unit_that_couriers_died_in(
    system: System, way: str
) -> None:
    install, act = WAYS[way]
    system.set_up("--user", "nagios", "--no-service")
    install(system)
    system.room.otherwise = Answer(503)

    for status in (2, 0, 2):
        system.flip(status)
        act(system)
        until(lambda: not system.couriers())

    unit = "wrapped.service" if way == "timer" else "failed@flip.service"
    assert (
        f"the last 3 couriers ended before they had delivered everything, the last one in {unit}: "
        in system.status()
    )
    system.room.otherwise = Answer()
    system.container.do(FLIPBELL, "flush")
    system.hears("CRITICAL", "OK", "CRITICAL")
    assert "ended before they had delivered" not in system.status()


def test_roots_courier_leaves_the_unit_that_started_it(system: System) -> None:
    system.set_up("--no-service")
    checkmk(system)
    system.room.otherwise = Answer(503)
    system.flip(2)

    poll(system)
    system.room.wait_for_requests(1)
    system.wait_for_units()
    assert system.couriers()
    system.room.otherwise = Answer()

    system.hears("CRITICAL")


@pytest.mark.parametrize("systemd_run", ["exit 1", "exec sleep 600"])
def test_a_systemd_run_that_does_not_work_costs_no_message(
    system: System, systemd_run: str
) -> None:
    system.container.write("/usr/local/bin/systemd-run", f"#!/bin/sh\n{systemd_run}\n", "755")
    system.set_up("--no-service")
    checkmk(system)
    system.flip(2)

    poll(system)

    system.hears("CRITICAL")


def as_nagios(system: System, *command: str, stdin: str = "") -> None:
    """Run flipbell as the agent's user, which leaves all delivery to the service."""
    user = ["setpriv", "--reuid=nagios", "--regid=nagios", "--clear-groups", FLIPBELL]
    system.container.do(*user, *command, stdin=stdin, FLIPBELL_COURIER="off")


def test_systemd_finds_nothing_wrong_with_the_units(system: System) -> None:
    system.set_up("--user", "nagios", "--service")

    names = [f"/etc/systemd/system/flipbell.{kind}" for kind in ("path", "timer", "service")]
    done = system.container.do("systemd-analyze", "verify", *names)

    assert (done.stdout, done.stderr) == (b"", b"")
    assert system.container.systemctl("is-enabled", "flipbell.path") == "enabled"
    assert system.container.systemctl("is-enabled", "flipbell.timer") == "enabled"


def test_no_number_of_changes_trips_a_start_limit(system: System) -> None:
    system.set_up("--user", "nagios", "--service")
    system.container.do("sh", "-c", "echo '    per_minute: 0' >>/etc/flipbell/conf.d/ops.yaml")

    for number in range(1, 13):  # each change needs a courier of its own
        as_nagios(system, "report", "--check", f"check-{number}", "--status", "CRITICAL")
        system.hears(*["CRITICAL"] * number)
    burst = [{"check": f"burst-{number}", "status": 1, "output": ""} for number in range(200)]
    as_nagios(system, "stream", stdin="".join(f"{json.dumps(result)}\n" for result in burst))

    system.hears(*["CRITICAL"] * 12, *["WARNING"] * 200)
    assert system.container.systemctl("is-active", "flipbell.path") == "active"


def test_a_service_that_cannot_start_is_tried_again_without_haste(system: System) -> None:
    system.set_up("--user", "nagios", "--service")
    broken = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo start >>/tmp/starts; exit 1'\n"
    drop_in = "/etc/systemd/system/flipbell.service.d/broken.conf"
    system.container.write(drop_in, f"{broken}PrivateTmp=no\nReadWritePaths=/tmp\n")
    system.container.systemctl("daemon-reload")

    as_nagios(system, "report", "--check", "disk", "--status", "CRITICAL")
    show = ["show", "--value", "--property=SubState", "flipbell.service"]
    until(lambda: system.container.systemctl(*show) == "auto-restart")
    assert system.container.do("cat", "/tmp/starts").stdout == b"start\n"
    system.container.do("rm", drop_in)
    system.container.systemctl("daemon-reload")
    system.container.systemctl("restart", "flipbell.service")

    system.hears("CRITICAL")


def test_the_timer_delivers_what_no_path_unit_has_noticed(system: System) -> None:
    system.set_up("--user", "nagios", "--service")
    system.container.systemctl("stop", "flipbell.path")
    as_nagios(system, "report", "--check", "disk", "--status", "CRITICAL")
    assert not system.couriers()

    at_once = "[Timer]\nOnCalendar=\nOnBootSec=\nOnActiveSec=0\nRandomizedDelaySec=0\n"
    system.container.write("/etc/systemd/system/flipbell.timer.d/now.conf", at_once)
    system.container.systemctl("daemon-reload")
    system.container.systemctl("restart", "flipbell.timer")

    system.hears("CRITICAL")
