"""Where everything is measured: flipbell and its peers, installed into scratch environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CHECK = ["/usr/lib/nagios/plugins/check_dummy", "0", "hello"]


class Scratch:
    """A directory with an environment for flipbell, one for its peers, and sites."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.python = self._environment("ours", str(ROOT))
        self.flipbell = str(Path(self.python).parent / "flipbell")
        self.environ = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}

    def _environment(self, name: str, *packages: str) -> str:
        home = self.base / name
        interpreter = Path(sys.base_prefix) / "bin" / "python3"
        subprocess.run([str(interpreter), "-m", "venv", str(home)], check=True)
        python = str(home / "bin" / "python")
        options = ["-q", "--disable-pip-version-check", "--no-warn-script-location"]
        command = [python, "-m", "pip", "install", *options, *packages]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return python

    def peer(self, name: str, *packages: str) -> str | None:
        """Return the Python of an environment with peers; None where they cannot be had."""
        try:
            return self._environment(name, *packages)
        except subprocess.CalledProcessError:
            return None

    def site(self, name: str, url: str, **keys: Any) -> dict[str, str]:
        """Return the environment of a host with a channel and a state of its own."""
        home = self.base / f"site {name}"
        shutil.rmtree(home, ignore_errors=True)
        (home / "conf.d").mkdir(parents=True)
        channel = {"url": url, "room": "4242", "token": "made-up-token", "timeout": 5, **keys}
        channel.setdefault("per_minute", 0)
        (home / "conf.d" / "ops.yaml").write_text(json.dumps({"channels": {"ops": channel}}))
        return {
            **self.environ,
            "FLIPBELL_CONFIG": str(home / "conf.d"),
            "FLIPBELL_STATE": str(home / "state"),
        }

    def wrapped(self, status: int = 0) -> list[str]:
        """Return a wrapped check that ends with a status."""
        check = [CHECK[0], str(status), CHECK[2]]
        return [self.flipbell, "run", "--host", "web-01", "--check", "dummy", "--", *check]


def surroundings(scratch: Scratch) -> Iterator[str]:
    """Yield what would make the figures worse than they are, or not comparable."""
    with Path(scratch.python).resolve().open("rb") as file:
        if file.read(2) == b"#!":
            yield f"{scratch.python} is a script (a shim), not an interpreter"
    code = "import site, sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([scratch.python, "-I", "-c", code], check=True, capture_output=True)
    packages = Path(found.stdout.decode().strip())
    if not list((packages / "flipbell" / "__pycache__").glob("run.*.pyc")):
        yield "flipbell has no bytecode: each start compiles it"
    hooks = [
        file.name for file in packages.glob("*.pth") if file.name != "distutils-precedence.pth"
    ]
    if hooks:
        yield f"site-packages has {', '.join(hooks)}, which every `python -I` runs"
    shell = Path("/bin/sh").resolve().name
    if shell != "dash":
        yield f"/bin/sh is {shell}: the launcher was measured with dash"
    load = os.getloadavg()[0]
    if load > 0.5:
        yield f"the machine has other work (load {load:.1f}): figures spread"
