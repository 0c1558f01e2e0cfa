"""A small Debian with systemd as its process 1, booted in a container without a network."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")

SUITE, PYTHON = "bookworm", "3.11"
TOOLS = ("debootstrap", "systemd-nspawn", "setpriv", "nsenter")
FLIPBELL = "/opt/flipbell/bin/flipbell"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flipbell-tests"
_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def cached_system() -> Iterator[Path]:
    """Give a Debian's root file system, made once and kept; other test runs wait meanwhile.

    Containers of one machine would share a control group if they ran at the same time.
    """
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = _CACHE / SUITE
        if not root.exists():
            unfinished = _CACHE / f"{SUITE}.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            packages = "--include=systemd,systemd-sysv,python3"
            command = ["debootstrap", "--variant=minbase", packages, SUITE, str(unfinished)]
            subprocess.run([*command, *_mirror()], check=True, capture_output=True)
            unfinished.rename(root)
        yield root


def _mirror() -> list[str]:
    """Return the mirror that this machine's apt uses for the suite; none, to leave the choice."""
    wanted = ["Created-By: Packages", "Origin: Debian", f"Codename: {SUITE}"]
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    return done.stdout.split()[:1]


def install_flipbell(wheel: Path, home: Path) -> None:
    """Install the wheel into a virtual environment of the container's Python."""
    packages = home / "lib" / f"python{PYTHON}" / "site-packages"
    kind = ["--python-version", PYTHON, "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", *kind]
    subprocess.run([*command, "--target", str(packages), str(wheel)], check=True)
    (home / "bin").mkdir()
    (home / "bin" / f"python{PYTHON}").symlink_to(f"/usr/bin/python{PYTHON}")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\n")
    shutil.copy2(packages / "bin" / "flipbell", home / "bin" / "flipbell")
    shutil.copytree(packages / "share", home / "share")


class Container:
    """A booted system, with flipbell in /opt/flipbell; everything that is written there is lost."""

    def __init__(self, root: Path, flipbell: Path) -> None:
        words = "--quiet --register=no --keep-unit --private-network --console=pipe"
        command = ["setpriv", "--pdeathsig=KILL", "systemd-nspawn", *words.split()]
        command += [f"--directory={root}", "--volatile=overlay"]
        environ = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", **os.environ}
        self._console = tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        self._nspawn = subprocess.Popen(
            [*command, f"--bind-ro={flipbell}:/opt/flipbell", "--boot"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
        )
        try:
            until(self._is_booted, 60)
        except BaseException:
            self.stop()
            raise

    def _printed(self) -> str:
        self._console.seek(0)
        return self._console.read().decode("utf-8", "replace")

    def _is_booted(self) -> bool:
        """Return whether it is; until then, systemd-nspawn has other children."""
        assert self._nspawn.poll() is None, self._printed()
        number = self._nspawn.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        self._leader = children[-1] if children else "0"
        done = self.do("systemctl", "is-system-running", check=False)
        return done.stdout.strip() in (b"running", b"degraded")

    def do(
        self, *command: str, check: bool = True, stdin: str = "", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the container, to its end."""
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        given = [path, "HOME=/root", *(f"{name}={value}" for name, value in environ.items())]
        enter = ["nsenter", "--target", self._leader, "--all", "env", "--chdir=/", "-i", *given]
        done = subprocess.run(
            [*enter, *command], input=stdin.encode(), check=False, capture_output=True, timeout=60
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def write(self, path: str, content: str, mode: str = "644") -> None:
        """Write a file."""
        self.do("sh", "-ec", 'mkdir -p "${1%/*}"; cat >"$1"', "sh", path, stdin=content)
        self.do("chmod", mode, path)

    def systemctl(self, *words: str) -> str:
        """Run systemctl; return what it prints."""
        return self.do("systemctl", *words).stdout.decode().strip()

    def in_network(self, action: Callable[[], Result]) -> Result:
        """Carry out an action whose sockets, and those of its threads, are the container's."""

        def enter_and_act() -> Result:
            with open(f"/proc/{self._leader}/ns/net") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            return action()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter_and_act).result()

    def stop(self) -> None:
        """End everything in the container."""
        if self._nspawn.poll() is None:
            self._nspawn.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(20)
        self._nspawn.kill()
        self._nspawn.wait()
        self._console.close()
