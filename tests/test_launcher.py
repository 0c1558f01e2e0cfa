"""The launcher: it finds its Python and its package wherever and however it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, unmeasured

if TYPE_CHECKING:
    from conftest import Site

CHECK = ["run", "--check", "x", "--", "sh", "-c", "echo out; echo err >&2; exit 1"]


def _call(site: Site, *command: str, **options: object) -> tuple[int, bytes, bytes]:
    environ = {**unmeasured(site.environ), "FLIPBELL_COURIER": "off"}
    options = {"env": environ, "capture_output": True, "timeout": 60, **options}
    done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


def test_through_links_with_spaces_absolute_and_relative(site: Site) -> None:
    (site.base / "a dir").mkdir()
    (site.base / "a dir" / "first").symlink_to(FLIPBELL)
    (site.base / "second link").symlink_to("a dir/first")

    assert _call(site, str(site.base / "second link"), *CHECK) == (1, b"out\n", b"err\n")
    assert _call(site, "./second link", *CHECK, cwd=site.base) == (1, b"out\n", b"err\n")


def test_through_a_link_to_the_environment(site: Site) -> None:
    (site.base / "opt link").symlink_to(Path(FLIPBELL).parent.parent)

    called = str(site.base / "opt link" / "bin" / "flipbell")
    assert _call(site, called, *CHECK) == (1, b"out\n", b"err\n")


@pytest.mark.parametrize("command", [["flipbell"], ["sh", FLIPBELL]])
def test_by_the_path_and_by_a_shell(site: Site, command: list[str]) -> None:
    site.environ["PATH"] = f"{Path(FLIPBELL).parent}:{site.environ['PATH']}"

    environ = {**unmeasured(site.environ), "FLIPBELL_COURIER": "off"}
    done = subprocess.run(
        ["sh", "-c", '"$@"', "sh", *command, *CHECK], env=environ, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"out\n", b"err\n")


def test_nothing_of_the_environment_changes_what_runs(site: Site) -> None:
    (site.base / "flipbell").mkdir()
    (site.base / "select.py").write_text("raise SystemExit('not this one')")
    site.environ.update(PYTHONPATH=str(site.base), PYTHONHOME="/nowhere", PYTHONSTARTUP="/x")

    assert _call(site, FLIPBELL, *CHECK, cwd=site.base) == (1, b"out\n", b"err\n")
    assert _call(site, FLIPBELL, "--version", cwd=site.base)[1].startswith(b"flipbell ")


@pytest.fixture
def of_user(site: Site) -> str:
    """The launcher of an installation for a user, which has no Python beside it."""
    import flipbell

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = site.base / "lib" / version / "site-packages"
    (site.base / "bin").mkdir()
    packages.mkdir(parents=True)
    shutil.copy(FLIPBELL, site.base / "bin" / "flipbell")
    (packages / "flipbell").symlink_to(Path(flipbell.__file__).parent)
    site.environ["PATH"] = f"{Path(sys.executable).parent}:{site.environ['PATH']}"
    return str(site.base / "bin" / "flipbell")


@pytest.fixture(params=["installed", "of a user"])
def launcher(request: pytest.FixtureRequest, of_user: str) -> str:
    """The launcher as it is installed here, and where `site` does not find the package."""
    return FLIPBELL if request.param == "installed" else of_user


def test_an_installation_for_a_user_has_no_python_beside_it(site: Site, of_user: str) -> None:
    assert _call(site, of_user, *CHECK) == (1, b"out\n", b"err\n")


ODD = ["home", "run", "self", "version", "python", "bin", "package", "other", "link", "report"]


@pytest.mark.skipif(Path("/bin/sh").resolve().name != "dash", reason="other shells add more")
@pytest.mark.parametrize("more", [{}, {"PWD": "there"}, {"OLDPWD": "/usr", "PWD": "there"}])
def test_the_check_has_the_environment_that_the_agent_gave(
    site: Site, launcher: str, more: dict[str, str]
) -> None:
    names = ["FLIPBELL_STATE", "FLIPBELL_CONFIG", "PATH"]
    environ = {"FLIPBELL_COURIER": "off", **{name: site.environ[name] for name in names}}
    environ |= {name: f"the check's {name}" for name in ODD}
    environ |= {name: value.replace("there", str(site.base)) for name, value in more.items()}

    command = [launcher, "run", "--check", "x", "--", "/usr/bin/env", "-0"]
    done = subprocess.run(command, env=environ, cwd=site.base, check=True, capture_output=True)

    variables = done.stdout.decode().split("\0")[:-1]
    assert dict(variable.split("=", 1) for variable in variables) == environ


def test_a_shell_that_changed_more_than_that_keeps_what_it_added(site: Site, of_user: str) -> None:
    environ = {**unmeasured(site.environ), "FLIPBELL_COURIER": "off", "no.name": "for a shell"}
    environ.pop("PWD", None)

    command = [of_user, "run", "--check", "x", "--", "/usr/bin/env"]
    done = subprocess.run(command, env=environ, cwd=site.base, check=True, capture_output=True)

    assert f"PWD={site.base}\n".encode() in done.stdout


def test_a_report_that_is_not_plain_has_the_whole_command_line(site: Site, launcher: str) -> None:
    result = b'{"host": "h", "check": "c", "status": 2}'

    assert _call(site, launcher, "report", input=result) == (0, b"", b"")
    assert b"\t2\th\tc\t" in (site.state / "spool").read_bytes()
    echo = ["report", "--echo", "--check=c", "--host=h", "--status=1", "--output=o"]
    assert _call(site, launcher, *echo) == (1, b"o\n", b"")
    status, out, err = _call(site, launcher, "report", "--from", "nagois")
    assert (status, out) == (2, b"")
    assert b"--from nagois: expected one of " in err
    assert _call(site, launcher, "report", "--help")[1].startswith(b"usage: flipbell report")


def test_without_its_package_it_is_a_check_that_could_not_check(site: Site) -> None:
    shutil.copy(FLIPBELL, site.base / "flipbell")
    bare = Path(sys.base_prefix) / "bin"
    site.environ["PATH"] = f"{bare}:{os.defpath}"

    status, out, err = _call(site, str(site.base / "flipbell"), *CHECK)

    assert (status, err) == (3, b"")
    assert out.startswith(b"UNKNOWN - flipbell: not installed for ")


def test_without_a_python_it_is_a_check_that_could_not_check(site: Site) -> None:
    shutil.copy(FLIPBELL, site.base / "flipbell")
    site.environ["PATH"] = str(site.base)

    status, out, err = _call(site, "/bin/sh", str(site.base / "flipbell"), *CHECK)

    assert (status, err) == (3, b"")
    assert out.startswith(b"UNKNOWN - flipbell: no Python for ")


def test_hooks_name_the_launcher_as_it_was_called(site: Site) -> None:
    link = site.base / "flipbell"
    link.symlink_to(FLIPBELL)

    _, out, _ = _call(site, str(link), "hooks", "systemd")

    assert str(link).encode() in out
