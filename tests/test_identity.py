"""Root acts as the owner of a state directory, so that its owner's links borrow no rights."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import NOBODY, Process, as_nobody, require_other_users, run_python, until
from flipbell import config, places, quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def _several_users(site: Site) -> None:
    require_other_users(site)


def _give(path: Path) -> None:
    shutil.chown(path, NOBODY, NOBODY)


@pytest.fixture
def nobodys(site: Site, hipchat_room: HipChatRoom) -> Site:
    """A site of the user nobody that root works with; its fronts start no courier."""
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.state.mkdir(mode=0o700)
    for path in (site.state, site.config, site.config / "ops.yaml", site.token):
        _give(path)
    return site


def _record(site: Site) -> None:
    """Record a problem, and wait for it: a busy machine leaves recording to a child."""
    site.run("disk", 2)
    until(
        lambda: (site.state / "spool").exists() and b"disk" in (site.state / "spool").read_bytes()
    )


class Outside:
    """Files that only root may use, which no link of another user may change."""

    def __init__(self, base: Path) -> None:
        self.path = base
        base.mkdir(mode=0o700)
        (base / "secret").write_text("the-root-only-token\n")
        (base / "spool").write_text("kept")
        (base / "idle").write_text("kept")
        (base / "web-01,disk").symlink_to("2")
        (base / "quiet").mkdir()
        (base / "quiet" / "idle").write_text("kept")
        self._before = self._look()

    def _look(self) -> dict[str, tuple[Any, ...]]:
        found = {}
        for path in (self.path, *self.path.rglob("*")):
            stat = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_ctime_ns, content)
        return found

    def check(self) -> None:
        """Fail if anything was made, changed or removed."""
        assert self._look() == self._before


@pytest.fixture
def outside(site: Site) -> Outside:
    return Outside(site.base / "outside")


def _use(site: Site) -> None:
    """Have root do with a state directory all that flipbell can do with one."""
    for code in (2, 0, 2):
        site.run("disk", code)
        site.flipbell("flush", "--timeout", "2")
    for words in (["status"], ["history"], ["dead", "list"], ["forget", "web-01", "disk"]):
        site.flipbell(*words)
    site.flipbell("report", "--host", "web-01", "--check", "disk", "--status", "1", "--output", "x")
    site.flipbell("stream", stdin='{"check": "disk", "status": "OK"}\n')


def test_everything_in_the_state_belongs_to_its_owner(
    nobodys: Site, hipchat_room: HipChatRoom
) -> None:
    # A configuration that was just written may be half there, so nothing is idle yet.
    until(lambda: config.age(config.signature(str(nobodys.config))) > 0.5)
    _record(nobodys)
    nobodys.deliver()

    owners = {path.name: path.lstat().st_uid for path in nobodys.state.rglob("*")}
    assert {"spool", "ledger", "courier.lock", "wake", "idle", "web-01,disk"} <= owners.keys()
    assert set(owners.values()) == {NOBODY}
    assert as_nobody(nobodys, "run", "--host=web-01", "--check=disk", "--", "true").returncode == 0
    nobodys.deliver()
    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_the_wrapped_check_keeps_roots_identity(nobodys: Site) -> None:
    script = "id -u; id -ru; id -g; id -G"

    done = nobodys.flipbell("run", "--check", "id", "--", "sh", "-c", script)

    plain = subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert done.stdout == plain.stdout
    spool = nobodys.state / "spool"
    until(lambda: spool.exists() and spool.stat().st_uid == NOBODY)


def test_a_courier_has_nothing_of_root(nobodys: Site) -> None:
    nobodys.channel("http://127.0.0.1:1")
    del nobodys.environ["FLIPBELL_COURIER"]
    nobodys.environ["PASSWORD_OF_ROOT"] = "password-of-root"

    nobodys.run("disk", 2)

    (courier,) = until(nobodys.couriers)
    assert b"password-of-root" not in Path(f"/proc/{courier}/environ").read_bytes()
    status = Path(f"/proc/{courier}/status").read_text()
    assert re.search(rf"^Uid:(\t{NOBODY}){{4}}$", status, re.MULTILINE)
    assert "0" not in re.findall(r"^(?:Gid|Groups):(.*)$", status, re.MULTILINE)[0].split()
    assert re.search(r"^CapPrm:\t0+$", status, re.MULTILINE)


NAMES = ["spool", "spool.new", "ledger", "ledger-journal", "append.lock", "courier.lock", "wake"]
NAMES += ["unfit", "quiet", "quiet/idle", "quiet/web-01,disk", "quiet.old"]


def _path(site: Site, name: str) -> Path:
    """Return the path of a name in the state, "quiet" standing for the directory of this boot."""
    home = quiet.home(str(site.state))
    first, slash, rest = name.partition("/")
    return Path(f"{home}{slash}{rest}") if first == "quiet" else site.state / name


def _plant(path: Path, target: Path) -> None:
    """Have nobody put a link in the place of what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700)
        _give(path.parent)
    path.symlink_to(target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_in_the_state_leads_root_nowhere(
    nobodys: Site, outside: Outside, name: str, is_long: bool
) -> None:
    targets = (
        ["", "secret", "missing", "quiet"] if is_long else ["quiet" if "qu" in name else "secret"]
    )
    for target in targets:
        _plant(_path(nobodys, name), outside.path / target)

        if is_long:
            _use(nobodys)
        nobodys.run("disk", 2)
        nobodys.flipbell("flush", "--timeout", "1")

        outside.check()


@pytest.mark.parametrize("name", ["spool", "ledger", "append.lock", "courier.lock", "unfit"])
def test_a_fifo_in_the_state_stops_no_check(nobodys: Site, name: str) -> None:
    os.mkfifo(nobodys.state / name)
    _give(nobodys.state / name)

    nobodys.run("disk", 2)
    done = nobodys.flipbell("status", timeout=10)

    assert done.returncode in (0, 1)


_SWAP = """
import itertools, os, signal, sys
signal.alarm(120)
state, outside, home = sys.argv[1:]
names = ["spool", "ledger", "append.lock", "courier.lock", "wake", home, f"{home}/idle"]
for name in itertools.cycle(names):
    path = f"{state}/{name}"
    for target in (outside, f"{outside}/secret"):
        try:
            os.rename(path, f"{state}/aside")
            os.symlink(target, path)
            os.unlink(path)
            os.rename(f"{state}/aside", path)
        except OSError:
            pass
"""


def test_what_is_swapped_while_root_works_leads_nowhere(
    nobodys: Site, outside: Outside, is_long: bool
) -> None:
    home = os.path.basename(quiet.home(str(nobodys.state)))
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    words = [sys.executable, "-c", _SWAP, str(nobodys.state), str(outside.path), home]

    with Process(words, **user):
        for _ in range(10 if is_long else 1):
            _use(nobodys)

    outside.check()


def test_a_state_directory_that_is_a_link_of_another_user(nobodys: Site, outside: Outside) -> None:
    home = nobodys.base / "home"
    home.mkdir()
    _give(home)
    (home / "state").symlink_to(outside.path)
    nobodys.environ["FLIPBELL_STATE"] = str(home / "state")

    _use(nobodys)

    outside.check()
    said = nobodys.flipbell("status").stderr.decode()
    assert f"belongs to root, but user {NOBODY} owns something above it" in said
    said = nobodys.flipbell("status").stderr.decode()
    assert f"belongs to root, but user {NOBODY} owns something above it" in said


@pytest.mark.parametrize("command", ["run", "report", "status", "check-config", "flush"])
def test_root_opens_nothing_of_another_users_state(
    nobodys: Site, tool: Callable[[str], str], command: str
) -> None:
    """Before a process has become the owner, it looks at names alone."""
    _record(nobodys)
    trace = nobodys.base / "trace"
    options = ["-f", "-qq", "-o", str(trace), "-e", "trace=%file,setuid,setresuid"]
    of_check = ["--host=web-01", "--check=disk"]
    rest = {"run": [*of_check, "--", "false"], "report": [*of_check, "--status=1", "--output=x"]}
    words = [*nobodys.command, command, *rest.get(command, [])]

    subprocess.run(
        [tool("strace"), *options, *words], env=nobodys.environ, check=False, capture_output=True
    )

    become: set[str] = set()
    known: set[str] = set()
    touched = []
    for line in trace.read_text().splitlines():
        process, _, call = line.partition(" ")
        if become and process not in known:  # a thread of one that has become the owner
            become.add(process)
        known.add(process)
        changed = re.match(r" *set(?:res)?uid\((?:-1, )?(\d+)", call)
        if changed:
            (become.add if int(changed[1]) else become.discard)(process)
        if f"{nobodys.base}/" in call and process not in become:
            touched.append(call.strip().partition("(")[0])
    assert become
    assert set(touched) <= {"readlink", "newfstatat", "lstat"}


def test_root_sends_no_file_that_only_root_can_read(
    nobodys: Site, outside: Outside, hipchat_room: HipChatRoom
) -> None:
    nobodys.token = outside.path / "secret"
    nobodys.channel(hipchat_room.url)

    _record(nobodys)
    done = nobodys.flipbell("flush")

    assert done.returncode == 1
    assert hipchat_room.requests == []
    assert "user nobody cannot read it" in nobodys.status()["channels"][0]["last_error"]
    assert nobodys.flipbell("check-config", "--online").returncode == 1
    assert hipchat_room.requests == []


def test_no_variable_of_roots_environment_is_sent(nobodys: Site, hipchat_room: HipChatRoom) -> None:
    nobodys.channel(hipchat_room.url, token_env="PASSWORD_OF_ROOT")
    nobodys.environ["PASSWORD_OF_ROOT"] = "password-of-root"

    _record(nobodys)
    done = nobodys.flipbell("flush")

    assert done.returncode == 1
    assert hipchat_room.requests == []


def test_roots_own_state_takes_no_configuration_of_another_user(
    nobodys: Site, outside: Outside, hipchat_room: HipChatRoom
) -> None:
    shutil.chown(nobodys.state, 0, 0)
    nobodys.token = outside.path / "secret"
    nobodys.channel(hipchat_room.url)

    _record(nobodys)
    nobodys.flipbell("flush")
    said = nobodys.flipbell("status").stdout.decode()
    shutil.chown(nobodys.config, 0, 0)
    also_said = nobodys.flipbell("status").stdout.decode()

    assert f"belongs to user {NOBODY}, who could have root send any file" in said
    assert f"ops.yaml: belongs to user {NOBODY}" in also_said
    assert hipchat_room.requests == []


def test_a_token_file_in_another_users_place_is_that_users_own(
    site: Site, outside: Outside, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    home = site.base / "home"
    home.mkdir()
    _give(home)
    (home / "token").symlink_to(outside.path / "secret")
    site.token = home / "token"
    site.channel(hipchat_room.url)
    _record(site)

    site.flipbell("flush")

    assert hipchat_room.requests == []
    assert "decides what this path leads to" in site.status()["channels"][0]["last_error"]


def test_a_state_that_is_not_there_yet_is_made_as_the_user_above_it(nobodys: Site) -> None:
    home = nobodys.base / "home"
    home.mkdir()
    _give(home)
    nobodys.environ["FLIPBELL_STATE"] = str(home / "deep" / "state")

    nobodys.run("disk", 2)

    until((home / "deep" / "state" / "spool").exists)
    assert {path.stat().st_uid for path in home.rglob("*")} == {NOBODY}


def test_init_makes_nothing_where_a_link_of_another_user_leads(
    nobodys: Site, outside: Outside
) -> None:
    home = nobodys.base / "home"
    home.mkdir()
    _give(home)
    (home / "link").symlink_to(outside.path)
    where = ["--config", str(home / "link" / "conf.d"), "--state", str(home / "link" / "state")]
    words = ["--user", "nobody", "--url", "https://h", "--room", "1"]

    done = nobodys.flipbell("init", *words, *where, "--token-from", str(nobodys.token))

    assert done.returncode == 2
    outside.check()


def test_init_makes_nothing_in_a_third_users_place(nobodys: Site) -> None:
    home = nobodys.base / "home"
    home.mkdir()
    shutil.chown(home, 1234)
    words = ["--user", "nobody", "--url", "https://h", "--room", "1"]

    done = nobodys.flipbell(
        "init", *words, "--state", str(home / "state"), "--config", str(home / "conf.d"),
        "--token-from", str(nobodys.token),
    )  # fmt: skip

    assert done.returncode == 2
    assert b"user 1234 owns" in done.stderr
    assert [*home.iterdir()] == []


def test_an_agent_with_threads_refuses_another_users_state(nobodys: Site, syslog: Syslog) -> None:
    before = sorted(nobodys.state.iterdir())
    code = """
from flipbell import CheckResult, Status, start
with start("agent") as flipbell:
    flipbell.report(CheckResult("web-01", "disk", Status.CRITICAL, "full"))
print("the agent goes on")
"""

    done = run_python(nobodys, code)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"the agent goes on\n", b"")
    syslog.wait_for("belongs to user nobody, and this is user root")
    assert sorted(nobodys.state.iterdir()) == before


def test_who_decides_what_a_path_leads_to(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    _give(tmp_path / "home")
    (tmp_path / "theirs").symlink_to("home/x")
    (tmp_path / "chain").symlink_to(f"{tmp_path}/../{tmp_path.name}/theirs")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "ours").mkdir()

    keepers = {
        name: places.keeper(f"{tmp_path}/{name}")
        for name in ("home", "home/x", "theirs", "chain", "circle", "ours", "ours/../home", "none")
    }

    assert [name for name, user in keepers.items() if user == NOBODY] == [
        "home",
        "home/x",
        "theirs",
        "chain",
        "ours/../home",
    ]
    assert {user for user in keepers.values() if user != NOBODY} == {0}


def test_a_user_whom_this_user_namespace_does_not_know_is_no_other_user(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tmp_path.chmod(0o755)
    shutil.chown(tmp_path, 1234)
    isolated = [tool("unshare"), "--user", "--map-root-user"]
    if subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    code = f"from flipbell import places; print(places.keeper({str(tmp_path)!r}))"

    done = subprocess.run([*isolated, sys.executable, "-c", code], check=True, capture_output=True)

    assert done.stdout == b"0\n"
    assert places.keeper(str(tmp_path)) == 1234


def test_a_command_whose_user_cannot_read_flipbell_says_so(nobodys: Site) -> None:
    private = nobodys.base / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(os.path.dirname(places.__file__), private / "flipbell")
    code = "from flipbell.__main__ import main; main()"
    environ = {**nobodys.environ, "PYTHONPATH": str(private)}

    done = subprocess.run(
        [sys.executable, "-c", code, "status"], env=environ, check=False, capture_output=True
    )

    assert done.returncode == 2
    assert b"install flipbell where that user can use it" in done.stderr
