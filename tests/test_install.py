"""The wheel, installed by the tools that people use, into an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Site


def _do(*command: str, **environ: str) -> None:
    subprocess.run(command, env={**unmeasured(os.environ), **environ}, check=True)


def _with_pip(wheel: str, home: Path, _: Callable[[str], str]) -> Path:
    _do(sys.executable, "-m", "venv", str(home))
    _do(str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", wheel)
    return home / "bin" / "flipbell"


def _with_uv(wheel: str, home: Path, tool: Callable[[str], str]) -> Path:
    uv, python = tool("uv"), str(home / "bin" / "python")
    _do(uv, "venv", "-q", "--python", sys.executable, str(home))
    _do(uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, wheel)
    return home / "bin" / "flipbell"


def _with_pipx(wheel: str, home: Path, tool: Callable[[str], str]) -> Path:
    places = {"PIPX_HOME": str(home), "PIPX_BIN_DIR": str(home / "links")}
    _do(tool("pipx"), "install", "-q", "--python", sys.executable, wheel, **places)
    return home / "links" / "flipbell"


@pytest.mark.parametrize("install", [_with_pip, _with_uv, _with_pipx])
def test_an_installation_has_all_that_it_needs(
    site: Site,
    built: Path,
    tmp_path: Path,
    tool: Callable[[str], str],
    install: Callable[[str, Path, Callable[[str], str]], Path],
) -> None:
    (wheel,) = built.glob("*.whl")
    flipbell = str(install(str(wheel), tmp_path / "home", tool))
    environ = unmeasured(site.environ)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [flipbell, *arguments], env=environ, check=False, capture_output=True, encoding="utf-8"
        )

    wrapped = call("run", "--check", "disk", "--", "sh", "-c", "echo DISK OK; exit 1")
    hook, status = call("hooks", "systemd"), call("status")
    begun = call("init", "--url", "https://h", "--room", "1", "--token-from", str(site.token))

    assert (wrapped.returncode, wrapped.stdout, wrapped.stderr) == (1, "DISK OK\n", "")
    assert f"ExecStart={flipbell} courier --until-idle" in hook.stdout
    assert "no bytecode" not in status.stdout
    assert begun.returncode == 0, begun.stderr
    schema = (site.config / "ops.yaml").read_text().partition("$schema=")[2].partition("\n")[0]
    assert os.path.isfile(schema)
