"""The README, held to its word: every block is run, written or compared; none is skipped."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, Site, unmeasured
from flipbell import config
from flipbell.channels.hipchat import HipChat

if TYPE_CHECKING:
    from collections.abc import Iterator

README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "\x01"


def blocks(file: Path) -> list[tuple[str, str]]:
    """Return each block's language and content."""
    text = file.read_text(encoding="utf-8")
    found = BLOCK.findall(text)
    assert text.count("```") == 2 * len(found), f"a block of {file} has no language, or no end"
    return found


def commands(block: str) -> list[tuple[str, str]]:
    """Return each command of a console block with the output that it shows."""
    _, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def assert_shown(shown: str, got: str) -> None:
    """See that the output is as shown, where `...` stands for anything."""
    pattern = re.escape(shown).replace(re.escape("..."), "(?:.|\n)*?")
    assert re.fullmatch(pattern, got), f"shown:\n{shown}\ngot:\n{got}"


class Session:
    """A shell in a directory of its own, in which the blocks follow one another."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            ["bash"],
            cwd=directory,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def close(self) -> None:
        """End the shell."""
        self._process.communicate(timeout=60)

    def run(self, command: str) -> str:
        """Return what a command prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nlast=$?; printf '{MARK}'; (exit $last)\n")
        self._process.stdin.flush()
        output = ""
        while not output.endswith(MARK):
            char = self._process.stdout.read(1)
            assert char, f"the shell ended in {command!r}: {output}"
            output += char
        return output[:-1]

    def take(self, language: str, content: str) -> None:
        """Run a console block, or write a file that names itself in its first line."""
        if language == "console":
            for command, shown in commands(content):
                assert_shown(shown, self.run(command))
            return
        name = re.match(r"# (\S+)\n", content)
        assert name, f"a {language} block does not say which file it is"
        file = Path(self.run("pwd").strip()) / name[1]
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")


@pytest.fixture
def session(site: Site) -> Iterator[Session]:
    """A session of a new user, with flipbell on the path and nothing configured."""
    environ = {key: value for key, value in site.environ.items() if not key.startswith("FLIPBELL_")}
    scripts = sysconfig.get_path("scripts")
    environ.update(HOME=str(site.base), PATH=f"{scripts}:{environ['PATH']}")
    checkout = site.base / "checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    site.state = site.base / "flipbell" / "state"  # so that its courier is ended with the test
    opened = Session(checkout, environ)
    yield opened
    opened.close()


def _is_install(content: str) -> bool:
    return "python3 -m venv" in content


def test_the_story_of_the_readme(session: Session) -> None:
    for language, content in blocks(README):
        if not _is_install(content):
            session.take(language, content)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout, in a directory with a space in its name."""
    copy = tmp_path_factory.mktemp("a clean checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("this is no checkout")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.parametrize("number", [0, 1])
def test_the_commands_that_install(checkout: Path, number: int) -> None:
    """Both as printed; of all tests that the second runs, an option picks a few here."""
    installs = [content for _, content in blocks(README) if _is_install(content)]
    assert len(installs) == 2
    ((command, shown),) = commands(installs[number])
    environ = unmeasured(os.environ)
    environ.update(PYTEST_ADDOPTS="-k test_model", PATH=f"{_plain_python()}:{environ['PATH']}")

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=checkout,
        env=environ,
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert_shown(shown, done.stdout)


def _plain_python() -> str:
    """Return the directory of a python3 that is in no virtual environment."""
    return str(Path(sys.base_prefix) / "bin")


@pytest.mark.parametrize("agent", ["mackerel-agent", "pluggy", "systemd"])
def test_the_blocks_of_the_hooks(session: Session, agent: str) -> None:
    session.run("export FLIPBELL_STATE=$PWD/state FLIPBELL_CONFIG=$PWD/conf.d")
    for language, content in blocks(ROOT / "hooks" / agent / "README.md"):
        if language == "console":
            session.take(language, content)
        else:
            assert language == "python"
            (session.directory / "block.py").write_text(content)
            assert session.run("python block.py") == ""


def test_the_example_configuration_is_without_problem() -> None:
    loaded = config.load(str(ROOT / "conf.d"), {"hipchat": HipChat()})

    assert loaded.problems == ()
    assert sorted(loaded.channels) == ["developers", "ops"]


def test_every_key_is_in_the_reference_and_in_the_example() -> None:
    source = (ROOT / "plugin" / "flipbell" / "_channel.py").read_text()
    source += (ROOT / "plugin" / "flipbell" / "channels" / "hipchat.py").read_text()
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    readers = ("text", "integer", "number", "one_of", "_statuses", "_texts", "_patterns")
    keys = {
        str(argument.value)
        for call in calls
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in readers
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and str(argument.value).isidentifier()
    } - {"host", "check"}
    reference = README.read_text().split("## Configuration")[1].split("\n## ")[0]

    assert {"url", "room", "send", "notify", "mention", "proxy"} <= keys
    assert [key for key in sorted(keys) if f"`{key}`" not in reference] == []


def test_nothing_in_the_project_names_the_machine_it_was_made_on() -> None:
    for file in [README, *ROOT.glob("hooks/**/*.*"), *ROOT.glob("conf.d/*")]:
        assert not re.search(r"(^|[^\w.])/(work|root)/", file.read_text(encoding="utf-8"))
