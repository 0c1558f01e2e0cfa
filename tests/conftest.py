"""Fixtures: a HipChat room that judges requests, and a site with configuration and state."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hipchat_room import TOKEN, HipChatRoom, HipChatServer
from syslog_socket import Syslog, open_syslog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from browser import Browser

FLIPBELL = str(Path(sysconfig.get_path("scripts")) / "flipbell")
# Without the launcher: PYTHON* in the environment counts, and coverage sees `run`, which has to end
# by the `_exit` that coverage has patched.
_DIRECTLY = """
import os, posix
posix._exit = os._exit
from flipbell.__main__ import main
main()
"""
AS_MODULE = [sys.executable, "-c", _DIRECTLY]
ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI insist on what a developer's machine may lack."""
    parser.addoption("--require-tools", action="store_true", help="fail where a tool is missing")
    parser.addoption("--agents", action="store_true", help="let real agents fail, too")
    parser.addoption("--long", action="store_true", help="let attacks go on for minutes")
    parser.addoption("--screenshots", action="store_true", help="put the README's pictures anew")


_FIGURES = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what the attacks have counted."""
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[str]:
    """What an attack has counted, shown when all tests have ended."""
    return request.config.stash.setdefault(_FIGURES, [])


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether an attack may take its time."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def tool(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Find a program; skip the test where there is none, unless all are required."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and request.config.getoption("--require-tools"):
            pytest.fail(f"{name} is not installed, and --require-tools was given")
        return path or pytest.skip(f"{name} is not installed")

    return find


@pytest.fixture(scope="session")
def browser(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A Chromium without a window."""
    chromium, chromedriver = tool("chromium"), tool("chromedriver")
    from browser import Browser

    opened = Browser(chromium, chromedriver, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the sdist, built without asking an index."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("this is no checkout")
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture(scope="session")
def hipchat_server() -> Iterator[HipChatServer]:
    """A HipChat server on loopback."""
    with HipChatServer() as server:
        yield server


@pytest.fixture
def hipchat_room(hipchat_server: HipChatServer) -> Iterator[HipChatRoom]:
    """A room of one's own; a request that breaks HipChat's contract fails the test."""
    room = hipchat_server.room()
    yield room
    assert room.faults == []


def until(condition: Callable[[], Any], timeout: float = 15.0) -> Any:
    """Return what a condition returns once it is true; fail where it never is."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        select.select([], [], [], 0.01)
    return value


class Process(subprocess.Popen[bytes]):
    """A process that ends with its `with` block, also where the test in it fails."""

    def __exit__(self, *details: object) -> None:
        self.kill()
        super().__exit__(*details)  # type: ignore[arg-type]


def unmeasured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which coverage, which loads and opens things, does not measure."""
    return {name: value for name, value in environ.items() if not name.startswith("COV")}


class Site:
    """A host with flipbell on it: its configuration, its state, and its environment."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.command = [FLIPBELL]
        self.config = base / "conf.d"
        self.state = base / "state"
        self.token = base / "token"
        self.config.mkdir()
        self.token.write_text(f"{TOKEN}\n")
        self.token.chmod(0o600)
        self.environ = {
            **os.environ,
            "FLIPBELL_CONFIG": str(self.config),
            "FLIPBELL_STATE": str(self.state),
        }

    def channel(self, url: str, name: str = "ops", **keys: Any) -> None:
        """Write a channel's file."""
        if not {"token", "token_env"} & keys.keys():
            keys["token_file"] = str(self.token)
        channel = {"url": url, "room": "4242", **keys}
        content = json.dumps({"channels": {name: channel}})  # JSON is YAML
        (self.config / f"{name}.yaml").write_text(content)

    def flipbell(
        self, *arguments: str, stdin: str | bytes = b"", **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run flipbell to its end."""
        options = {"env": self.environ, "timeout": 60, "capture_output": True, **options}
        content = stdin.encode() if isinstance(stdin, str) else stdin
        return subprocess.run([*self.command, *arguments], input=content, check=False, **options)

    def run(self, check: str, code: int, output: str = "", host: str = "web-01") -> None:
        """Wrap a check that ends with a status, and see that its answer is its own."""
        script = f"printf %s '{output}'; exit {code}"
        done = self.flipbell("run", "--host", host, "--check", check, "--", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (code, output.encode(), b"")

    def deliver(self) -> None:
        """Have everything delivered."""
        done = self.flipbell("flush")
        assert (done.returncode, done.stderr) == (0, b""), self.flipbell("status").stdout

    def status(self) -> dict[str, Any]:
        """Return what `flipbell status` says."""
        said: dict[str, Any] = json.loads(self.flipbell("status", "--json").stdout)
        return said

    def couriers(self) -> list[int]:
        """Return the processes that are couriers for this state."""
        return [
            pid
            for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
            if self._is_courier(pid)
        ]

    def _is_courier(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return False
        base = os.fsencode(self.base)
        is_ours = any(word.startswith(base) for word in words)
        return b"courier" in words and is_ours and "python" in name


NOBODY = 65534


def open_to_all(site: Site) -> None:
    """Let other users reach a site, which pytest keeps to its own user."""
    for directory in (site.base, *site.base.parents):
        is_pytests = any(name.startswith("pytest-") for name in directory.parts)
        if is_pytests and directory.stat().st_uid == os.geteuid():
            directory.chmod(0o755)


_AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def require_other_users(site: Site) -> None:
    """Skip a test of several users if others cannot run this Python, which may be in root's home.

    From then on, coverage does not measure: another user could not write down what it counts.
    """
    open_to_all(site)
    site.environ = unmeasured(site.environ)
    code = [sys.executable, "-I", "-c", "import flipbell.cli, requests"]
    try:
        done = subprocess.run(code, **_AS_NOBODY, check=False, capture_output=True)
        can_run = done.returncode == 0
    except PermissionError:
        can_run = False
    if not can_run:
        pytest.skip("other users cannot run the flipbell that is tested")


def as_nobody(site: Site, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run flipbell on a site as another user; only root can."""
    require_other_users(site)
    return site.flipbell(*arguments, **{**_AS_NOBODY, "env": site.environ, **options})


def run_python(site: Site, code: str) -> subprocess.CompletedProcess[bytes]:
    """Run an agent written in Python on a site."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=site.environ,
        check=False,
        timeout=60,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def shipped(name: str) -> Path:
    """Return a file of hooks/ or conf.d/: of the checkout, or as the wheel has installed it."""
    here = ROOT / name
    return here if here.exists() else Path(sys.prefix) / "share" / "flipbell" / name


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of its own, in a directory with a space in its name; its couriers end with it."""
    base = tmp_path / "a site"
    base.mkdir()
    site = Site(base)
    yield site
    for pid in site.couriers():
        os.kill(pid, signal.SIGTERM)


@pytest.fixture
def syslog() -> Iterator[Syslog]:
    """What is logged to the system's syslog."""
    log = open_syslog()
    yield log
    os.unlink("/dev/log")
